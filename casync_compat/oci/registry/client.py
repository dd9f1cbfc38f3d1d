"""Registries reached over HTTP, as they are told apart and opened.

    >>> with RegistryClient(environ=os.environ) as client:
    ...     source = client.repository(parse_reference("docker://docker.io/library/debian:12"))
    ...     target = client.repository(parse_reference("docker://localhost:5000/debian"))

One client shares connections, counters and warnings between all repositories of a run. Nothing is sent before something
is asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from casync_compat.closing import Closing
from casync_compat.errors import AccessDenied, RemoteError, UsageError
from casync_compat.net.authorizer import parse_challenges
from casync_compat.net.exchange import Clock, Exchange
from casync_compat.net.http import Request, Response, Transport, is_loopback
from casync_compat.net.limiter import Limiter
from casync_compat.net.traffic import Traffic
from casync_compat.oci.registry.auth import RegistryAuthorizer
from casync_compat.oci.registry.credentials import Credential, Credentials
from casync_compat.oci.registry.endpoint import Access, Endpoint
from casync_compat.oci.registry.repository import Repository
from casync_compat.oci.spec.reference import Reference

__all__ = ["Clock", "RegistryClient", "Repository", "Traffic", "open_repository"]

_AGENT = "pycasync"


class RegistryClient(Closing):
    """Opens repositories. May be used from several threads at once.

    :param environ: variables for credentials, certificates and proxies (see `credentials` and `transport`)
    :param insecure: accept plain HTTP and certificates that are not trusted
    :param warn: told the registries' own warnings, each once
    :param on_bytes: told of the bytes of bodies as they move up or down, from whichever thread moves them
    :param transport: in place of connections
    :param limiter: of bytes a second; None for no limit
    :raises UsageError: pycurl is not installed
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str],
        insecure: bool = False,
        warn: Callable[[str], None] | None = None,
        on_bytes: Callable[[int], None] | None = None,
        transport: Transport | None = None,
        clock: Clock | None = None,
        limiter: Limiter | None = None,
    ) -> None:
        if transport is None:
            from casync_compat.net.transport import CurlTransport  # lazily: ssl costs 20 ms

            transport = CurlTransport(environ, _AGENT, limiter=limiter)
        self._transport = transport
        self._clock = clock or Clock()
        self._insecure = insecure
        self._credentials = Credentials(environ)
        self._exchange = Exchange(transport, self._clock, insecure=insecure, warn=warn, on_bytes=on_bytes)
        self._lock = threading.Lock()
        self._endpoints: dict[tuple[str, str | None], Endpoint] = {}

    def close(self) -> None:
        self._transport.close()

    @property
    def traffic(self) -> Traffic:
        """What has moved so far."""
        return self._exchange.traffic

    def repository(
        self,
        reference: Reference,
        *,
        username: str | None = None,
        password: str | None = None,
        scheme: str | None = None,
        on_close: Callable[[], None] | None = None,
    ) -> Repository:
        """The repository that a `docker://` reference names; its tag and digest do not matter here.

        :param username: with `password`, used instead of what the files say
        :param scheme: `https` or `http` for exactly that; None: TLS, and plain HTTP where that is acceptable
        :raises UsageError: the reference is of another transport, or only one of name and password was given
        """
        if reference.transport != "docker":
            raise UsageError(f"{reference}: this is not in a registry")
        if (username is None) != (password is None):
            raise UsageError("a user name and a password for a registry must be given together")
        host = reference.place
        if scheme is None and not (self._insecure or is_loopback(host)):
            scheme = "https"
        endpoint = self._endpoint(host, scheme)

        def find() -> Credential | None:
            if username is not None and password is not None:
                return Credential("the command line or environment", username, password)
            return self._credentials.find(host, reference.repository)

        authorizer = RegistryAuthorizer(
            host, find, self._ask_token_server, self._clock.monotonic, insecure=self._insecure
        )
        return Repository(Access(endpoint, reference.repository, authorizer), on_close)

    def check_login(self, host: str, username: str, password: str) -> bool:
        """Ask a registry whether a login is right.

        :param host: with its port, as in image names
        :returns: whether it was checked: a registry may answer everybody
        :raises AccessDenied: it is not
        :raises RemoteError: the registry does not answer, or is none
        """
        endpoint = self._endpoint(host, None)
        credential = Credential("this login", username, password)
        authorizer = RegistryAuthorizer(
            host, lambda: credential, self._ask_token_server, self._clock.monotonic, insecure=self._insecure
        )
        op, nothing = "log in", frozenset[str]()
        request = Request("GET", f"{endpoint.base}/v2/")
        try:
            # What the first question is answered with tells whether anybody is asked who they are.
            answer = self._exchange.send(request, None, nothing, op=op, where=host)
            challenges = parse_challenges(answer.headers.all("WWW-Authenticate"))
            asked = answer.status == 401 and answer.at_home
            if asked:
                answer.drain()
                authorizer.learn(challenges, nothing, None)
                answer = self._exchange.send(request, authorizer, nothing, op=op, where=host)
            status = answer.status
            answer.drain()
        except AccessDenied as error:
            if error.status not in (400, 401, 403):
                raise
            status, asked = error.status, True
        if status in (400, 401, 403):
            raise AccessDenied(host, op, f"it does not take this user name and password (HTTP {status})")
        if status != 200:
            raise RemoteError(host, op, "what answers there is no registry", status)
        return asked

    def _endpoint(self, host: str, scheme: str | None) -> Endpoint:
        if scheme is None and not (self._insecure or is_loopback(host)):
            scheme = "https"
        with self._lock:
            endpoint = self._endpoints.get((host, scheme))
            if endpoint is None:
                endpoint = self._endpoints[host, scheme] = Endpoint(host, self._exchange, scheme)
            return endpoint

    def _ask_token_server(self, request: Request) -> Response:
        where = urlsplit(request.url).netloc
        return self._exchange.send(request, None, frozenset(), op="get a token", where=where)


def open_repository(
    reference: Reference,
    *,
    environ: Mapping[str, str],
    insecure: bool = False,
    username: str | None = None,
    password: str | None = None,
    scheme: str | None = None,
    warn: Callable[[str], None] | None = None,
    on_bytes: Callable[[int], None] | None = None,
    transport: Transport | None = None,
    clock: Clock | None = None,
) -> Repository:
    """A repository with a client of its own, which is closed with it. For the parameters see `RegistryClient`."""
    client = RegistryClient(
        environ=environ, insecure=insecure, warn=warn, on_bytes=on_bytes, transport=transport, clock=clock
    )
    return client.repository(
        reference, username=username, password=password, scheme=scheme, on_close=client.close
    )
