"""The seam to urllib3, as far as it needs no connection: proxies, certificates, what errors are called."""

from __future__ import annotations

import socket
import ssl
import sys
from pathlib import Path

import pytest

from casync_compat.errors import UsageError
from casync_compat.net.http import BytesBody, Headers, Request, TransportError, origin, read_all
from casync_compat.net.transport import PooledTransport, _proxy, _transport_error


@pytest.mark.parametrize(
    ("environ", "url", "expected"),
    [
        ({}, "https://h.test", ""),
        ({"https_proxy": "http://p:1"}, "https://h.test", "http://p:1"),
        ({"HTTPS_PROXY": "p:1"}, "https://h.test", "http://p:1"),
        ({"https_proxy": "http://p:1"}, "http://h.test", ""),
        ({"http_proxy": "http://p:1"}, "http://h.test", "http://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, "http://h.test", ""),
        ({"all_proxy": "http://p:1"}, "http://h.test", "http://p:1"),
        ({"https_proxy": "http://p:1", "no_proxy": "h.test"}, "https://h.test", ""),
        ({"https_proxy": "http://p:1", "no_proxy": "a, .test"}, "https://h.test", ""),
        ({"https_proxy": "http://p:1", "no_proxy": "*"}, "https://h.test", ""),
        ({"https_proxy": "http://p:1", "no_proxy": "t"}, "https://h.test", "http://p:1"),
        ({"https_proxy": "http://p:1"}, "https://localhost", ""),
        ({"https_proxy": "http://p:1"}, "https://[::1]", ""),
    ],
)
def test_proxies(environ: dict[str, str], url: str, expected: str) -> None:
    """The usual variables choose the proxy; loopback is reached without."""
    scheme, host, _ = origin(url)
    assert _proxy(scheme, host, environ) == expected


def test_proxy_password() -> None:
    """A proxy's password is sent to the proxy."""
    pool = PooledTransport({"https_proxy": "http://joe:p%40ss@p.test:1"}, "x")._pool("https://h.test/", True)
    assert pool.proxy_headers == {"proxy-authorization": "Basic am9lOnBAc3M="}  # type: ignore[attr-defined]


def test_certificates_that_are_not_there(tmp_path: Path) -> None:
    """A variable that names no certificates is the user's mistake."""
    with pytest.raises(UsageError, match="SSL_CERT_FILE"):
        PooledTransport({"SSL_CERT_FILE": str(tmp_path / "none.pem")}, "x")._pool("https://h.test/", True)


def test_contexts() -> None:
    """Certificates are checked unless the user said otherwise, and the two kinds of connection are never mixed."""
    transport = PooledTransport({}, "x")
    strict, loose = transport._pool("https://h.test/", True), transport._pool("https://h.test/", False)
    assert strict is not loose
    assert strict is transport._pool("https://other.test/", True)
    assert strict.connection_pool_kw["ssl_context"].verify_mode == ssl.CERT_REQUIRED
    assert strict.connection_pool_kw["ssl_context"].check_hostname
    assert loose.connection_pool_kw["ssl_context"].verify_mode == ssl.CERT_NONE


def test_without_urllib3(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who lacks the library is told how to get it."""
    monkeypatch.setitem(sys.modules, "urllib3", None)
    with pytest.raises(UsageError, match=r"install pycasync\[oci\]"):
        PooledTransport({}, "x")


def wrapped(cause: BaseException) -> Exception:
    error = Exception("urllib3 says: something long")
    error.__cause__ = cause
    return error


def tls(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, "x")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("cause", "says", "absent", "final"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "nobody listens", True, False),
        (TimeoutError("timed out"), "timed out", False, False),
        (ConnectionResetError(104, "Connection reset by peer"), "reset by peer", False, False),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "cannot be resolved", True, False),
        (socket.gaierror(socket.EAI_AGAIN, "Try again"), "cannot be resolved", False, False),
        (tls("WRONG_VERSION_NUMBER"), "TLS failed", True, False),
        (tls("TLSV1_ALERT_INTERNAL_ERROR"), "TLS failed", False, False),
        (ssl.SSLCertVerificationError(1, "x"), "not trusted", False, True),
    ],
)
def test_errors(cause: BaseException, says: str, absent: bool, final: bool) -> None:
    """What went wrong is told without the library's words, and what follows from it is right."""
    if isinstance(cause, ssl.SSLCertVerificationError):
        cause.verify_message = "self-signed"
    found = _transport_error(wrapped(cause))
    assert says in found.why
    assert (found.absent, found.final) == (absent, final)


def test_headers() -> None:
    """Names in any case; several values are kept apart; numbers are what they seem."""
    headers = Headers([("A", " 1 "), ("a", "2"), ("Length", "12"), ("Bad", "-1"), ("Long", "9" * 19)])
    assert headers.get("a") == "1"
    assert headers.all("A") == [" 1 ", "2"]
    assert headers.get("none") is None
    assert [headers.number(name) for name in ("length", "bad", "long", "none")] == [12, None, None, None]


def test_bodies() -> None:
    """A body gives all its bytes, each time."""
    data = bytes(range(256)) * 3000
    body = BytesBody(memoryview(data))
    for _ in range(2):
        assert b"".join(body.pieces()) == data
    assert body.size == len(data)
    assert "TOPSECRET" not in repr(Request("GET", "http://h", {"Authorization": "TOPSECRET"}, body))


class Endless:
    """A response that never ends."""

    status = 200
    headers = Headers()
    closed = False

    def read(self, size: int, /) -> bytes:
        return bytes(size)

    def close(self) -> None:
        self.closed = True


def test_bodies_are_bounded() -> None:
    """No answer is collected beyond what is wanted of it."""
    response = Endless()
    assert read_all(response, 1000) is None
    assert response.closed


@pytest.mark.parametrize("url", ["ftp://h", "//h", "https:///x", "x", "https://h:99999"])
def test_origins(url: str) -> None:
    """What is no origin says so."""
    with pytest.raises(ValueError, match=r"."):
        origin(url)
    assert origin("HTTPS://H.test") == origin("https://h.test:443/x") == ("https", "h.test", 443)


def test_transport_error_is_small() -> None:
    """Text of unknown errors is bounded."""
    assert len(_transport_error(Exception("x" * 10_000)).why) <= 200
    assert isinstance(_transport_error(Exception("")), TransportError)
