"""What to answer a registry that wants to know who asks: HTTP Basic, or a token from its token server.

The flow is that of distribution's `docs/spec/auth` (token, oauth): a 401 names a scheme in `WWW-Authenticate`; for
Bearer a token is fetched from the realm for the scopes needed, kept until shortly before it expires, and used for every
request it covers. Secrets go to the registry itself and to the realm it names, the latter only by TLS (or on loopback,
or when the user asked for insecure connections).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

from casync_compat.errors import AccessDenied, RemoteError
from casync_compat.net.authorizer import Challenge
from casync_compat.net.http import BytesBody, Request, Response, TransportError, is_loopback, read_all
from casync_compat.oci.registry.credentials import Credential
from casync_compat.oci.spec.descriptor import parse_json
from casync_compat.oci.spec.errors import ImageError

__all__ = ["RegistryAuthorizer", "scope"]

_DEFAULT_SECONDS = 60
"""How long a token without `expires_in` is good (distribution, docs/spec/auth/token)."""

_MARGIN = 5.0
_TOKEN_LIMIT = 1 << 20
_CLIENT_ID = "pycasync"


def scope(repository: str, *actions: str) -> str:
    """A scope of the token specification: `repository:a/b:pull,push`."""
    return f"repository:{repository}:{','.join(actions)}"


def _rights(scopes: Iterable[str]) -> set[tuple[str, str]]:
    rights = set()
    for text in scopes:
        resource, _, actions = text.rpartition(":")
        rights |= {(resource, action) for action in actions.split(",")}
    return rights


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    rights: set[tuple[str, str]]
    expires: float


class RegistryAuthorizer:
    """Gives the Authorization field for requests to one registry. May be used from several threads at once.

    :param host: the registry, for messages and for knowing loopback
    :param find: looks the credentials up; called at most once, when they are wanted
    :param fetch: sends a request to a token server, without credentials of its own
    :param clock: monotonic seconds
    :param insecure: whether secrets may go to a token server without TLS
    """

    def __init__(
        self,
        host: str,
        find: Callable[[], Credential | None],
        fetch: Callable[[Request], Response],
        clock: Callable[[], float],
        *,
        insecure: bool = False,
    ) -> None:
        self._host = host
        self._find = find
        self._fetch = fetch
        self._clock = clock
        self._insecure = insecure
        self._lock = threading.RLock()
        self._looked_up = False
        self._credential: Credential | None = None
        self._identity_token = ""
        self._basic = False
        self._bearer: dict[str, str] | None = None
        self._tokens: list[_Token] = []

    @property
    def credential(self) -> Credential | None:
        """What is used at this registry."""
        with self._lock:
            if not self._looked_up:
                self._credential = self._find()
                self._identity_token = self._credential.identity_token if self._credential else ""
                self._looked_up = True
            return self._credential

    def header(self, scopes: frozenset[str]) -> str | None:
        """The field for a request that needs `scopes`; None while the registry has not asked for any.

        :raises AccessDenied: the token server refused
        """
        with self._lock:
            if self._basic and self.credential is not None:
                return self.credential.basic
            held = self._held(scopes)
            if held is None and self._bearer is not None:
                held = self._new_token(self._bearer, scopes)
            return f"Bearer {held}" if held is not None else None

    def _held(self, scopes: frozenset[str]) -> str | None:
        now = self._clock()
        self._tokens = [token for token in self._tokens if token.expires > now]
        wanted = _rights(scopes)
        return next((token.value for token in self._tokens if wanted <= token.rights), None)

    def learn(self, challenges: list[Challenge], scopes: frozenset[str], used: str | None) -> bool:
        """Take in what a 401 asked for. Returns whether it is worth trying again.

        :param used: the Authorization field that was refused
        :raises AccessDenied: the token server refused
        """
        with self._lock:
            current = self.header(scopes) if used is not None else None
            if current is not None and current != used:
                return True  # another thread has renewed it meanwhile
            bearer = next(
                (c.parameters for c in challenges if c.scheme == "bearer" and "realm" in c.parameters), None
            )
            if bearer is not None:
                self._bearer = {key: bearer[key] for key in ("realm", "service") if key in bearer}
                wanted = scopes | frozenset(bearer.get("scope", "").split()) if scopes else scopes
                self._tokens = [token for token in self._tokens if f"Bearer {token.value}" != used]
                if wanted:
                    self._new_token(self._bearer, wanted)
                return True
            if (
                any(c.scheme == "basic" for c in challenges)
                and not self._basic
                and self.credential is not None
            ):
                self._basic = True
                return True
            return False

    def denied(self, op: str, status: int, why: str) -> AccessDenied:
        """The error for a final refusal, with what to do about it."""
        if status == 401 and self.credential is None:
            why = f"it wants credentials; log in with `pycasync oci login {self._host}` or `skopeo login`"
        elif self._looked_up and self._credential is not None:
            why = f"the credentials from {self._credential.source} do not allow it: {why}"
        return self._error(op, why, status)

    # ---- the token server

    def _new_token(self, bearer: dict[str, str], scopes: frozenset[str]) -> str:
        credential = self.credential
        if credential is not None and credential.registry_token:
            return credential.registry_token
        answer = self._ask(bearer, sorted(scopes), credential)
        value = answer.get("token") or answer.get("access_token")
        if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable():
            raise self._refused("it gave no token", 0)
        if isinstance(answer.get("refresh_token"), str) and self._identity_token:
            self._identity_token = answer["refresh_token"]
        seconds = answer.get("expires_in")
        if not isinstance(seconds, int | float) or not 0 < seconds < 1e9:
            seconds = _DEFAULT_SECONDS
        margin = min(_MARGIN, seconds / 10)
        self._tokens.append(_Token(value, _rights(scopes), self._clock() + seconds - margin))
        return value

    def _ask(
        self, bearer: dict[str, str], scopes: list[str], credential: Credential | None
    ) -> dict[str, Any]:
        realm = bearer["realm"]
        if credential is not None:
            self._check_realm(realm)
        service = [("service", bearer["service"])] if "service" in bearer else []
        headers = {"Accept": "application/json"}
        if self._identity_token:
            form = [("grant_type", "refresh_token"), *service, ("client_id", _CLIENT_ID)]
            form += [("scope", " ".join(scopes)), ("refresh_token", self._identity_token)]
            headers_ = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
            status, answer = self._exchange(
                Request("POST", realm, headers_, BytesBody(urlencode(form).encode()), secret=True)
            )
            if status not in (404, 405):
                return self._accepted(status, answer)
        if credential is not None:
            headers["Authorization"] = credential.basic
        query = urlencode([*service, *(("scope", text) for text in scopes)])
        joint = "&" if urlsplit(realm).query else "?"
        return self._accepted(
            *self._exchange(Request("GET", f"{realm}{joint}{query}" if query else realm, headers))
        )

    def _check_realm(self, realm: str) -> None:
        parts = urlsplit(realm)
        if parts.scheme == "https" or self._insecure:
            return
        if parts.scheme == "http" and is_loopback(parts.netloc) and is_loopback(self._host):
            return
        raise self._refused("its address is not https, and credentials are not sent in the clear", 0)

    def _exchange(self, request: Request) -> tuple[int, bytes]:
        try:
            response = self._fetch(request)
            return response.status, read_all(response, _TOKEN_LIMIT) or b""
        except TransportError as error:
            raise RemoteError(self._host, "get a token", f"its token server: {error.why}") from error

    def _accepted(self, status: int, answer: bytes) -> dict[str, Any]:
        if status in (400, 401, 403):
            source = self._credential.source if self._credential is not None else None
            raise self._refused(
                f"it refused the credentials from {source}; log in again with `pycasync oci login`"
                if source
                else "it gives nothing without credentials",
                status,
            )
        if status != 200:
            raise RemoteError(self._host, "get a token", "its token server failed", status)
        try:
            return parse_json(answer, f"{self._host}: answer of the token server")
        except ImageError:
            # Without the cause, which may quote a secret.
            raise RemoteError(
                self._host, "get a token", "the answer of its token server is not JSON"
            ) from None

    def _refused(self, why: str, status: int) -> AccessDenied:
        return self._error("get a token", f"token server: {why}", status)

    def _error(self, op: str, why: str, status: int) -> AccessDenied:
        error = AccessDenied(self._host, op, why, status)
        error.registry = True
        error.anonymous = self._looked_up and self._credential is None
        return error
