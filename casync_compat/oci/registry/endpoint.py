"""A registry's address, and requests about one repository in it.

Whether a registry speaks TLS is found out at the first request where that is left open: TLS is tried first, and plain
HTTP only when the other side does not speak it (or nobody listens). It is left open for loopback addresses, as docker
does it, and for every address when the user said `--insecure`. A certificate that is not trusted never leads to plain
HTTP.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from urllib.parse import urljoin, urlsplit

from casync_compat.errors import RemoteError
from casync_compat.net.authorizer import Challenge, parse_challenges
from casync_compat.net.exchange import Exchange
from casync_compat.net.http import Body, Request, TransportError, origin, read_all
from casync_compat.net.traffic import Answer
from casync_compat.oci.registry.auth import RegistryAuthorizer, scope
from casync_compat.oci.registry.credentials import DOCKER_HUB
from casync_compat.oci.spec.descriptor import parse_json
from casync_compat.oci.spec.errors import ImageError

__all__ = ["Access", "Endpoint"]

_HUB_HOST = "registry-1.docker.io"
_ERROR_LIMIT = 1 << 16
_ERROR_TEXT = 300


class Endpoint:
    """Where a registry is.

    :param host: with its port, as in image names
    :param scheme: `https`, `http`, or None to find out
    """

    def __init__(self, host: str, exchange: Exchange, scheme: str | None) -> None:
        self.host = host
        self.exchange = exchange
        self._address = _HUB_HOST if host == DOCKER_HUB else host
        self._scheme = scheme
        self._lock = threading.Lock()
        self.challenges: list[Challenge] = []

    @property
    def base(self) -> str:
        """`https://HOST`.

        :raises RemoteError: it does not answer
        """
        if self._scheme is None:
            with self._lock:
                if self._scheme is None:
                    self._scheme = self._probe()
        return f"{self._scheme}://{self._address}"

    def _probe(self) -> str:
        for scheme in ("https", "http"):
            try:
                answer = self.exchange.once(Request("GET", f"{scheme}://{self._address}/v2/"), None)
            except TransportError as error:
                if scheme == "https" and error.absent:
                    continue
                raise RemoteError(self.host, "reach this registry", error.why) from error
            if answer.status == 401 and answer.at_home:
                self.challenges = parse_challenges(answer.headers.all("WWW-Authenticate"))
            answer.drain()
            return scheme
        raise AssertionError("the second scheme returns or raises")


class Access:
    """Requests about one repository, authorized.

    :ivar name: `docker://HOST/REPOSITORY`
    """

    def __init__(self, endpoint: Endpoint, repository: str, authorizer: RegistryAuthorizer) -> None:
        self.endpoint = endpoint
        self.repository = repository
        self.name = f"docker://{endpoint.host}/{repository}"
        self._authorizer = authorizer
        self._introduced = False

    @property
    def exchange(self) -> Exchange:
        return self.endpoint.exchange

    def call(
        self,
        method: str,
        target: str,
        *,
        op: str,
        rights: str = "pull",
        also: frozenset[str] = frozenset(),
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        slow: bool = False,
        repeat: bool = True,
    ) -> Answer:
        """The answer to a request, whatever its status.

        :param target: a path beneath `/v2/REPOSITORY/`, or a whole URL that the registry gave
        :param rights: the actions that the request needs, with commas between them
        :param also: further scopes that it needs
        :raises RemoteError: there is no answer
        :raises AccessDenied: no token could be had
        """
        base = self.endpoint.base
        if not self._introduced:
            self._introduced = True
            self._authorizer.learn(self.endpoint.challenges, frozenset(), None)
        url = target if "://" in target else f"{base}/v2/{self.repository}/{target}"
        request = Request(method, url, headers or {}, body, slow)
        try:
            # Upload locations and pages may be elsewhere, say at a store of objects: no credentials for those.
            ours = origin(url) == origin(base)
        except ValueError as error:
            raise RemoteError(self.name, op, f"it gave a bad address: {error}") from error
        scopes = frozenset({scope(self.repository, *rights.split(",")), *also})
        return self.exchange.send(
            request, self._authorizer if ours else None, scopes, op=op, where=self.name, repeat=repeat
        )

    def location(self, answer: Answer, op: str) -> str:
        """Where an answer says to go on, as a whole URL, its query untouched.

        :raises RemoteError: it does not say, or it leads out of TLS
        """
        text = answer.headers.get("Location")
        if not text:
            raise RemoteError(self.name, op, "its answer has no Location", answer.status)
        try:
            url = urljoin(answer.url, text)
        except ValueError as error:
            raise RemoteError(self.name, op, f"it gave a bad address: {error}") from error
        if (
            urlsplit(answer.url).scheme == "https"
            and urlsplit(url).scheme != "https"
            and not self.exchange.insecure
        ):
            raise RemoteError(self.name, op, "it leads from https to http; set it up to give https addresses")
        return url

    def failed(self, answer: Answer, op: str) -> RemoteError:
        """The error that an answer amounts to; the answer is closed."""
        try:
            why = _explanation(read_all(answer, _ERROR_LIMIT) or b"")
        except TransportError:
            why = ""
        if answer.status in (401, 403) and answer.at_home:
            return self._authorizer.denied(op, answer.status, why or "access is denied")
        return RemoteError(self.name, op, why or _STATUS.get(answer.status, "it refused"), answer.status)


_STATUS = {
    404: "there is no such thing",
    405: "it does not allow that",
    413: "it is too large for this registry",
    429: "too many requests; try later",
    500: "the registry failed",
    502: "the registry failed",
    503: "it is not available",
    504: "the registry failed",
}


def _explanation(body: bytes) -> str:
    """What a registry says went wrong (distribution-spec, "Error Codes"), as printable text of bounded length."""
    try:
        errors = parse_json(body, "error").get("errors")
    except ImageError:
        return ""
    texts = []
    for error in errors if isinstance(errors, list) else []:
        if isinstance(error, dict):
            parts = (error[key] for key in ("code", "message", "detail") if isinstance(error.get(key), str))
            texts.append(": ".join(part for part in parts if part))
    text = "; ".join(texts)
    return "".join(c if c.isprintable() else " " for c in text)[:_ERROR_TEXT]
