"""The one place that knows urllib3: pooled connections, time limits, TLS and proxies.

urllib3 comes with `pip install pycasync[oci]` and is imported when the first connection is made.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from casync_compat.errors import UsageError
from casync_compat.net.http import (
    Headers,
    Request,
    Response,
    TransportError,
    UntrustedCertificate,
    is_loopback,
)

if TYPE_CHECKING:
    import urllib3

__all__ = ["PooledTransport"]

_CONNECT_SECONDS = 15
_READ_SECONDS = 60
_SLOW_READ_SECONDS = 600
"""The last request of an upload is answered when the registry has hashed and stored it: minutes for gigabytes."""

_CONNECTIONS = 16
_BLOCK = 1 << 18
_NOT_TLS = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"}
"""OpenSSL's reasons when the other side answers a TLS greeting in plain text."""


class PooledTransport:
    """A `Transport` that keeps connections open, to each host up to 16.

    :param environ: `SSL_CERT_FILE`, `SSL_CERT_DIR` (further certificates to trust), `https_proxy`, `http_proxy`,
        `all_proxy` and `no_proxy`, the latter in either case
    :param agent: for the User-Agent field
    :raises UsageError: urllib3 is not installed, or the certificates cannot be read
    """

    def __init__(self, environ: Mapping[str, str], agent: str) -> None:
        try:
            import urllib3  # lazily: 60 ms, and an optional dependency
        except ImportError as error:
            raise UsageError("registries need the package urllib3; install pycasync[oci]") from error
        self._urllib3 = urllib3
        self._environ = environ
        self._agent = agent
        self._pools: dict[tuple[bool, str], urllib3.PoolManager] = {}

    def close(self) -> None:
        for pool in list(self._pools.values()):
            pool.clear()
        self._pools.clear()

    def send(self, request: Request, *, verify: bool) -> Response:
        exceptions = self._urllib3.exceptions
        headers = {"User-Agent": self._agent, "Accept-Encoding": "identity", **request.headers}
        body: Iterator[bytes | memoryview] | None = None
        if request.body is not None:
            headers["Content-Length"] = str(request.body.size)
            body = request.body.pieces() if request.body.size else None
        elif request.method in ("POST", "PUT", "PATCH"):
            headers["Content-Length"] = "0"
        read = _SLOW_READ_SECONDS if request.slow else _READ_SECONDS
        try:
            raw = self._pool(request.url, verify).request(
                request.method,
                request.url,
                body=body,  # type: ignore[arg-type]  # the stubs forget memoryview
                headers=headers,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=self._urllib3.Timeout(connect=_CONNECT_SECONDS, read=read),
            )
        except (exceptions.HTTPError, OSError, ValueError) as error:
            raise _transport_error(error) from error
        return _Response(raw, self._urllib3)

    def _pool(self, url: str, verify: bool) -> urllib3.PoolManager:
        parts = urlsplit(url)
        proxy = _proxy(parts.scheme, parts.hostname or "", self._environ)
        pool = self._pools.get((verify, proxy))
        if pool is None:
            options: dict[str, Any] = {
                "num_pools": _CONNECTIONS,
                "maxsize": _CONNECTIONS,
                "blocksize": _BLOCK,
                "ssl_context": self._context(verify),
            }
            new = (
                self._urllib3.ProxyManager(proxy, proxy_headers=self._proxy_login(proxy), **options)
                if proxy
                else self._urllib3.PoolManager(**options)
            )
            # Two threads may come here at once; the second one's pool is dropped unused.
            pool = self._pools.setdefault((verify, proxy), new)
        return pool

    def _proxy_login(self, proxy: str) -> dict[str, str]:
        parts = urlsplit(proxy)
        if parts.username is None:
            return {}
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers: dict[str, str] = self._urllib3.make_headers(proxy_basic_auth=login)
        return headers

    def _context(self, verify: bool) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if not verify:
            # The user has asked for it; said for every request, it would only bury what matters.
            self._urllib3.disable_warnings(self._urllib3.exceptions.InsecureRequestWarning)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return context
        file, directory = self._environ.get("SSL_CERT_FILE"), self._environ.get("SSL_CERT_DIR")
        if file or directory:
            try:
                context.load_verify_locations(file or None, directory or None)
            except OSError as error:
                raise UsageError(
                    f"SSL_CERT_FILE or SSL_CERT_DIR: cannot read certificates from {file or directory}: {error}"
                ) from error
        return context


class _Response:
    """urllib3's response as ours."""

    def __init__(self, raw: urllib3.BaseHTTPResponse, library: Any) -> None:
        self._raw = raw
        self._exceptions = library.exceptions
        self.status = raw.status
        self.headers = Headers(raw.headers.iteritems())

    def read(self, size: int, /) -> bytes:
        try:
            return self._raw.read(size, decode_content=False)
        except (self._exceptions.HTTPError, OSError, ValueError) as error:
            raise _transport_error(error) from error

    def close(self) -> None:
        # Read to the end, the connection has gone back to the pool by itself; otherwise it cannot be used again.
        self._raw.close()
        self._raw.release_conn()


def _transport_error(error: Exception) -> TransportError:
    """What went wrong, without the library's class names."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return UntrustedCertificate(
                f"its certificate is not trusted ({cause.verify_message}); set SSL_CERT_FILE to a file that has its "
                "authority",
                final=True,
            )
        if isinstance(cause, ssl.SSLError):
            plain = cause.reason in _NOT_TLS or isinstance(cause, ssl.SSLEOFError)
            return TransportError(f"TLS failed ({cause.reason or cause})", absent=plain)
        if isinstance(cause, ConnectionRefusedError):
            return TransportError("nobody listens there (connection refused)", absent=True)
        if isinstance(cause, socket.gaierror):
            unknown = cause.errno != socket.EAI_AGAIN
            return TransportError(f"its name cannot be resolved ({cause.strerror})", absent=unknown)
        if isinstance(cause, TimeoutError):
            return TransportError("it does not answer (timed out)")
        if isinstance(cause, OSError) and cause.strerror:
            return TransportError(cause.strerror)
        inner = cause.args[1] if len(cause.args) > 1 and isinstance(cause.args[1], Exception) else None
        cause = cause.__cause__ or cause.__context__ or inner
    text = str(error).rpartition(": ")[2] or type(error).__name__
    return TransportError("it does not answer (timed out)" if "timed out" in text else text[:200])


def _proxy(scheme: str, host: str, environ: Mapping[str, str]) -> str:
    """The proxy for a host, empty for none; loopback is never reached through one."""

    def setting(name: str) -> str:
        return environ.get(name) or environ.get(name.upper()) or ""

    if is_loopback(f"[{host}]" if ":" in host else host):
        return ""
    for item in setting("no_proxy").split(","):
        name = item.strip().lstrip(".").lower()
        if name == "*" or (name and (host == name or host.endswith(f".{name}"))):
            return ""
    # HTTP_PROXY in capitals is ignored: a web server sets it from a request's header (CVE-2016-5385).
    chosen = setting("https_proxy") if scheme == "https" else environ.get("http_proxy", "")
    chosen = chosen or setting("all_proxy")
    return chosen if not chosen or "://" in chosen else f"http://{chosen}"
