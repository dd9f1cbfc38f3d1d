"""What needs no connection: proxies, certificates, what errors are called, the values of HTTP."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import pycurl
import pytest

from casync_compat.errors import UsageError
from casync_compat.net.handles import Handles, proxy_for, transport_error
from casync_compat.net.http import BytesBody, Headers, Request, origin, read_all
from casync_compat.net.transport import CurlTransport


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
    assert proxy_for(scheme, host, environ) == expected


def test_certificates_that_are_not_there(tmp_path: Path) -> None:
    """A variable that names no certificates is the user's mistake."""
    for name, value in [("SSL_CERT_FILE", "none.pem"), ("SSL_CERT_DIR", "none")]:
        with pytest.raises(UsageError, match=name):
            Handles({name: str(tmp_path / value)}, "x").make("https://h.test/", verify=True)
    (tmp_path / "bad.pem").write_text("no certificate")
    with pytest.raises(UsageError, match="SSL_CERT_FILE"):
        Handles({"SSL_CERT_FILE": str(tmp_path / "bad.pem")}, "x").make("https://h.test/", verify=True)


def test_without_pycurl(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who lacks the library is told how to get it."""
    monkeypatch.setitem(sys.modules, "pycurl", None)
    with pytest.raises(UsageError, match=r"install pycasync\[remote\]"):
        CurlTransport({}, "x")


@pytest.mark.parametrize(
    ("code", "text", "number", "says", "absent", "final"),
    [
        (pycurl.E_COULDNT_CONNECT, "Failed to connect", errno.ECONNREFUSED, "nobody listens", True, False),
        (pycurl.E_COULDNT_CONNECT, "Failed to connect", errno.EHOSTUNREACH, "No route to host", False, False),
        (pycurl.E_OPERATION_TIMEDOUT, "Operation too slow", 0, "timed out", False, False),
        (pycurl.E_RECV_ERROR, "Recv failure", errno.ECONNRESET, "reset by peer", False, False),
        (pycurl.E_COULDNT_RESOLVE_HOST, "Could not resolve: h", 0, "cannot be resolved", True, False),
        (pycurl.E_COULDNT_RESOLVE_HOST, "Resolving timeout", 0, "cannot be resolved", False, False),
        (pycurl.E_SSL_CONNECT_ERROR, "wrong version number", 0, "TLS failed", True, False),
        (pycurl.E_SSL_CONNECT_ERROR, "alert internal error", 0, "TLS failed", False, False),
        (pycurl.E_PEER_FAILED_VERIFICATION, "self-signed certificate", 0, "not trusted", False, True),
        (pycurl.E_PARTIAL_FILE, "transfer closed", 0, "broke off", False, False),
        (pycurl.E_GOT_NOTHING, "Empty reply", 0, "without an answer", False, False),
        (9999, "", 0, "9999", False, False),
    ],
)
def test_errors(code: int, text: str, number: int, says: str, absent: bool, final: bool) -> None:
    """What went wrong is told without the library's words, and what follows from it is right."""
    found = transport_error(code, text, number)
    assert says in found.why
    assert (found.absent, found.final) == (absent, final)


def test_transport_error_is_small() -> None:
    """Text of unknown errors is bounded."""
    assert len(transport_error(9999, "x" * 10_000).why) <= 200


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
