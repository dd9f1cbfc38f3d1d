"""How libcurl is set up for a request: certificates, proxies, time limits; and what its errors mean.

libcurl reads `http_proxy` and its like itself, knows certificates of its own that are not the system's, and follows
what it likes unless told not to: everything that matters is said here for every handle. The rest of the rules come from
`exchange`, which alone repeats requests and follows redirects.
"""

from __future__ import annotations

import errno
import math
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from casync_compat.errors import UsageError
from casync_compat.net.certificates import identity, trusted
from casync_compat.net.http import Origin, TransportError, UntrustedCertificate, is_loopback, origin
from casync_compat.net.limiter import Limiter
from casync_compat.store.options import NOTHING_SAID, StoreOptions

if TYPE_CHECKING:
    import pycurl

__all__ = ["Handles", "proxy_for", "transport_error"]

_CONNECT_SECONDS = 15
_SILENT_SECONDS = 60
_SLOW_SILENT_SECONDS = 600
"""The last request of an upload is answered when the registry has hashed and stored it: minutes for gigabytes."""

_SLOWEST = 16
"""Bytes a second below which an answer counts as silence; less than a modem gives each of 256 at once."""

_SUPPRESS_CONNECT_HEADERS = 265
"""`CURLOPT_SUPPRESS_CONNECT_HEADERS` of curl.h, which pycurl has no name for: a proxy's answer is not the server's."""

_NOT_TLS = (
    "wrong version number",
    "unexpected eof",
    "http request",
    "packet length too long",
    "record layer failure",
)
"""OpenSSL's reasons when the other side answers a TLS greeting in plain text."""


class Handles:
    """Makes handles.

    :param environ: `SSL_CERT_FILE`, `SSL_CERT_DIR` (further certificates to trust), `https_proxy`, `http_proxy`,
        `all_proxy` and `no_proxy`, the latter in either case
    :param agent: for the User-Agent field
    :param options: how the store is reached: certificates, and how long it may be silent
    :param home: the origin of the store, which alone is shown the client's certificate
    :param limiter: of bytes a second; None for no limit
    :raises UsageError: pycurl is not installed
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        agent: str,
        options: StoreOptions = NOTHING_SAID,
        home: Origin | None = None,
        limiter: Limiter | None = None,
    ) -> None:
        try:
            import pycurl  # lazily: 24 ms, and an optional dependency
        except ImportError as error:
            raise UsageError(
                "what is on the network needs the package pycurl; install pycasync[remote] or pycasync[oci]"
            ) from error
        self._curl = pycurl
        self._environ = environ
        self._agent = agent
        self.options = options
        self._home = home
        self.limiter = limiter
        self._trust: tuple[bytes, str] | None = None
        self._identity: tuple[str, str] | None = None

    def prepare(self, secure: bool, verify: bool) -> None:
        """Read the files that a connection needs, once.

        :raises UsageError: one cannot be read
        """
        if not secure:
            return
        if verify and self._trust is None:
            self._trust = trusted(self._environ, self.options.ca_cert)
        if self._identity is None:
            self._identity = identity(self.options)

    def make(self, url: str, *, verify: bool, slow: bool = False, shared: bool = False) -> pycurl.Curl:
        """A handle for an URL.

        :param verify: whether the server's certificate must be trusted
        :param slow: whether the answer may take minutes
        :param shared: whether it may share a connection with others
        :raises TransportError: the URL cannot be sent
        :raises UsageError: certificates cannot be read
        """
        curl = self._curl
        handle: pycurl.Curl = curl.Curl()
        parts = urlsplit(url)
        self.aim(handle, url)
        for option, value in (
            (curl.PROTOCOLS, curl.PROTO_HTTP | curl.PROTO_HTTPS),
            (curl.HTTP_VERSION, curl.CURL_HTTP_VERSION_2TLS if shared else curl.CURL_HTTP_VERSION_1_1),
            (curl.PIPEWAIT, 0),
            (curl.NOSIGNAL, 1),
            (curl.FOLLOWLOCATION, 0),
            (curl.PATH_AS_IS, 1),
            (curl.HTTP_CONTENT_DECODING, 0),
            (curl.USERAGENT, self._agent),
            (curl.PROXY, proxy_for(parts.scheme, parts.hostname or "", self._environ)),
            (curl.NOPROXY, ""),
            (_SUPPRESS_CONNECT_HEADERS, 1),
            (curl.CONNECTTIMEOUT, min(_CONNECT_SECONDS, self._silence(False) or _CONNECT_SECONDS)),
            (curl.LOW_SPEED_LIMIT, 1 if slow or self.limiter is not None else _SLOWEST),
            (curl.LOW_SPEED_TIME, self._silence(slow)),
        ):
            handle.setopt(option, value)
        if self.limiter is not None:
            handle.setopt(curl.BUFFERSIZE, self.limiter.piece)
        if parts.scheme == "https":
            self._secure(handle, verify, origin(url) == self._home)
        return handle

    def _silence(self, slow: bool) -> int:
        """How many seconds without a byte are too many; 0 for any number."""
        said = self.options.timeout
        seconds = _SILENT_SECONDS if said is None else math.ceil(min(max(said, 0), 1 << 20))
        return max(seconds, _SLOW_SILENT_SECONDS) if slow and seconds else seconds

    def aim(self, handle: pycurl.Curl, url: str) -> None:
        """Point a handle at another URL of the same origin. :raises TransportError: the URL cannot be sent"""
        try:
            handle.setopt(self._curl.URL, _plain(url))
        except (UnicodeError, self._curl.error) as error:
            raise TransportError(f"{url!r} cannot be sent: {error}", final=True) from error

    def _secure(self, handle: pycurl.Curl, verify: bool, at_home: bool) -> None:
        curl = self._curl
        self.prepare(True, verify)
        handle.setopt(curl.SSL_VERIFYPEER, int(verify))
        handle.setopt(curl.SSL_VERIFYHOST, 2 if verify else 0)
        if at_home and self._identity and self._identity[0]:
            handle.setopt(curl.SSLCERT, self._identity[0])
            handle.setopt(curl.SSLKEY, self._identity[1])
        if verify and self._trust is not None:
            certificates, directories = self._trust
            if certificates:
                handle.setopt(curl.CAINFO_BLOB, certificates)
            if directories:
                handle.setopt(curl.CAPATH, directories)


_IS_PLAIN = re.compile(r"[A-Za-z0-9%/:=&?~#+!$,;'()*\[\]._-]+")
"""What needs no second look: most URLs, and those of all chunks."""


def _plain(url: str) -> str:
    """The URL as it may stand in a request: ASCII, without spaces or a login, which libcurl would send."""
    if _IS_PLAIN.fullmatch(url):
        return url
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    text = parts._replace(netloc=host).geturl()
    return quote(text, safe="%/:=&?~#+!$,;'@()*[]")


def proxy_for(scheme: str, host: str, environ: Mapping[str, str]) -> str:
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


def transport_error(code: int, text: str, number: int = 0) -> TransportError:
    """What one of libcurl's errors means, without its words.

    :param text: libcurl's own
    :param number: errno of the connection, 0 when unknown
    """
    import pycurl as curl

    if code in (curl.E_PEER_FAILED_VERIFICATION, curl.E_SSL_CACERT_BADFILE):
        why = text.removeprefix("SSL certificate problem: ").removeprefix("SSL: ") or "unknown authority"
        return UntrustedCertificate(
            f"its certificate is not trusted ({why}); set SSL_CERT_FILE to a file that has its authority",
            final=True,
        )
    if code == curl.E_UNSUPPORTED_PROTOCOL and "HTTP/0.9" in text:
        return TransportError("what answers there does not speak HTTP; it may be https://", absent=True)
    if code == curl.E_SSL_CONNECT_ERROR:
        plain = any(word in text.lower() for word in _NOT_TLS) or number in (errno.EPIPE, errno.ECONNRESET)
        return TransportError(f"TLS failed ({text[:150]})", absent=plain)
    if code == curl.E_COULDNT_CONNECT:
        if number == errno.ECONNREFUSED or not number:
            return TransportError("nobody listens there (connection refused)", absent=True)
        return TransportError(os.strerror(number))
    if code in (curl.E_COULDNT_RESOLVE_HOST, curl.E_COULDNT_RESOLVE_PROXY):
        return TransportError(
            f"its name cannot be resolved ({text[:150]})", absent="timeout" not in text.lower()
        )
    if code == curl.E_OPERATION_TIMEDOUT:
        return TransportError("it does not answer (timed out)")
    if code == curl.E_ABORTED_BY_CALLBACK:
        return TransportError("connections were closed", final=True)
    if code == curl.E_PARTIAL_FILE:
        return TransportError("the answer broke off before its end")
    if code == curl.E_GOT_NOTHING:
        return TransportError("it closed the connection without an answer")
    if number:
        return TransportError(os.strerror(number))
    return TransportError(text[:200] or f"libcurl's error {code}")
