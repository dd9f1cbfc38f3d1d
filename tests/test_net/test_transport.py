"""The transport over a real connection: whole answers, none that are cut, bodies in both directions, bounded queues."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from random import Random

import pytest
from webserver import Reply, WebServer, web_server

from casync_compat.net.http import BytesBody, Request, TransportError, Wanted, read_all
from casync_compat.net.transport import CurlTransport

LARGE = Random(1).randbytes(3 << 20)


@pytest.fixture
def server() -> Iterator[WebServer]:
    with web_server() as running:
        yield running


@pytest.fixture
def transport() -> Iterator[CurlTransport]:
    made = CurlTransport({}, "pycasync")
    yield made
    made.close()


def get(transport: CurlTransport, url: str, **fields: str) -> tuple[int, bytes | None]:
    response = transport.send(Request("GET", url, fields), verify=True)
    return response.status, read_all(response, 1 << 30)


def test_answers(server: WebServer, transport: CurlTransport) -> None:
    """Status, fields in any case and with several values, and the body, large or none."""
    server.files = {"/large": LARGE, "/empty": b""}
    fields = [("X-Two", "1"), ("x-two", "2")]
    server.special = lambda method, path, *_: Reply(418, b"tea", fields) if path == "/tea" else None
    assert get(transport, server.url + "/large") == (200, LARGE)
    assert get(transport, server.url + "/empty") == (200, b"")
    assert get(transport, server.url + "/none")[0] == 404
    tea = transport.send(Request("GET", server.url + "/tea"), verify=True)
    assert (tea.status, [value.strip() for value in tea.headers.all("X-TWO")]) == (418, ["1", "2"])
    assert read_all(tea, 100) == b"tea"
    agent = server.asked[0][2]
    assert agent["user-agent"] == "pycasync"
    assert agent["accept-encoding"] == "identity"


def test_head_has_a_length_and_no_body(server: WebServer, transport: CurlTransport) -> None:
    """What a HEAD says of a file."""
    server.files = {"/large": LARGE}
    response = transport.send(Request("HEAD", server.url + "/large"), verify=True)
    assert response.headers.number("content-length") == len(LARGE)
    assert read_all(response, 10) == b""


def test_redirects_are_not_followed(server: WebServer, transport: CurlTransport) -> None:
    """That is for whoever knows where credentials may go."""
    server.special = lambda *_: Reply(302, fields=[("Location", "http://elsewhere.invalid/")])
    response = transport.send(Request("GET", server.url + "/x"), verify=True)
    assert response.status == 302
    response.close()


@pytest.mark.parametrize("size", [0, 1, 100_000, len(LARGE)])
@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH"])
def test_uploads(server: WebServer, transport: CurlTransport, method: str, size: int) -> None:
    """A body arrives as it is, also when it does not fit the queue."""
    got: list[bytes] = []

    def keep(method: str, path: str, fields: dict[str, str], body: bytes) -> Reply:
        got.append(body)
        return Reply(201)

    server.special = keep
    for _ in range(2):  # the second one over the same connection
        response = transport.send(
            Request(method, server.url + "/x", {}, BytesBody(LARGE[:size])), verify=True
        )
        assert response.status == 201
        assert read_all(response, 10) == b""
    assert got == [LARGE[:size]] * 2
    assert [fields["content-length"] for _, _, fields in server.asked] == [str(size)] * 2
    assert "expect" not in server.asked[0][2]


class Broken:
    """A body that cannot be read."""

    size = 2 << 20

    def pieces(self) -> Iterator[bytes]:
        yield bytes(1 << 20)
        raise RuntimeError("the disk is gone")


def test_an_upload_that_cannot_be_read(server: WebServer, transport: CurlTransport) -> None:
    """The source's own error is what is told, and the transport works on."""
    with pytest.raises(RuntimeError, match="the disk is gone"):
        transport.send(Request("PUT", server.url + "/x", {}, Broken()), verify=True)
    server.files = {"/y": b"1"}  # the server may still be at the half of the upload that it got
    assert get(transport, server.url + "/y") == (200, b"1")


@pytest.mark.parametrize("reset", [False, True])
def test_truncated(server: WebServer, transport: CurlTransport, reset: bool) -> None:
    """A body that is shorter than announced is no body."""
    server.special = lambda *_: Reply(200, LARGE[:100_000], length=len(LARGE), reset=reset)
    response = transport.send(Request("GET", server.url + "/x"), verify=True)
    with pytest.raises(TransportError, match=r"broke off|reset"):
        read_all(response, 1 << 30)


def test_nobody_there(transport: CurlTransport) -> None:
    """A port where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
        with pytest.raises(TransportError, match="nobody listens") as caught:
            transport.send(Request("GET", url), verify=True)
    assert caught.value.absent
    assert not caught.value.final


@pytest.mark.parametrize("url", ["http://127.0.0.1:1\n/", "http://[::1", "gopher://127.0.0.1/"])
def test_odd_urls(transport: CurlTransport, url: str) -> None:
    """What cannot be sent is an error of its own, not one of the library's."""
    with pytest.raises((TransportError, ValueError)):
        transport.send(Request("GET", url), verify=True)


def test_fields_cannot_be_smuggled(server: WebServer, transport: CurlTransport) -> None:
    """A line break in a field would begin another one."""
    with pytest.raises(TransportError, match="line break"):
        transport.send(Request("GET", server.url, {"A": "1\r\nB: 2"}), verify=True)


def test_plain_where_tls_was_wanted(server: WebServer, transport: CurlTransport) -> None:
    """The other side does not speak the language; a caller may try another."""
    with pytest.raises(TransportError, match="TLS failed") as caught:
        transport.send(Request("GET", server.url.replace("http:", "https:")), verify=True)
    assert caught.value.absent


def test_a_reader_that_is_slow(server: WebServer, transport: CurlTransport) -> None:
    """What is not taken waits at the server, not here; meanwhile others are served; stopped midway, all goes on."""
    server.files = {"/endless": bytes(64 << 20), "/x": b"1"}
    response = transport.send(Request("GET", server.url + "/endless"), verify=True)
    assert response.read(10) == bytes(10)
    held = response._waiting  # type: ignore[attr-defined]
    for _ in range(20):
        assert get(transport, server.url + "/x") == (200, b"1")
    assert response._waiting <= 2 << 20  # type: ignore[attr-defined]
    assert held <= 2 << 20
    response.close()
    assert get(transport, server.url + "/x") == (200, b"1")


def test_many_threads(server: WebServer, transport: CurlTransport) -> None:
    """Each gets its own answer."""
    server.files = {f"/{n}": b"%d" % n * 1000 for n in range(40)}
    wrong: list[int] = []

    def ask(n: int) -> None:
        if get(transport, f"{server.url}/{n}") != (200, b"%d" % n * 1000):
            wrong.append(n)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_closed_and_used_again(server: WebServer, transport: CurlTransport) -> None:
    """close() lets go of connections; the transport stays usable."""
    server.files = {"/x": b"1"}
    for _ in range(3):
        assert get(transport, server.url + "/x") == (200, b"1")
        transport.close()


def test_after_a_fork(server: WebServer, transport: CurlTransport) -> None:
    """A child that goes on with the same transport gets its answers, and so does its parent."""
    server.files = {"/x": b"1"}
    assert get(transport, server.url + "/x") == (200, b"1")
    child = os.fork()
    if child == 0:
        done = 1
        try:
            done = 0 if get(transport, server.url + "/x") == (200, b"1") else 2
        finally:
            os._exit(done)
    deadline = time.monotonic() + 60
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        assert time.monotonic() < deadline, "the child waits for ever"
        time.sleep(0.02)
    assert get(transport, server.url + "/x") == (200, b"1")


# ---- many small files


def test_fetch(server: WebServer, transport: CurlTransport) -> None:
    """Every file in its place, whatever came first; what is missing, larger than wanted or strange has its status."""
    server.files = {f"/{n}": b"%d;" % n * (n % 50) for n in range(700)}
    wanted = [Wanted(f"{server.url}/{n}", 1000) for n in range(700)]
    found = transport.begin(wanted, {"X-Mine": "1"}, verify=True)()
    assert [one.content for one in found] == [server.files[f"/{n}"] for n in range(700)]
    assert {one.status for one in found} == {200}
    assert all(fields["x-mine"] == "1" for _, _, fields in server.asked)
    wanted = [Wanted(server.url + path, limit) for path, limit in [("/none", 9), ("/49", 9), ("/49", 1000)]]
    odd = transport.begin(wanted, {}, verify=True)()
    assert [one.status for one in odd] == [404, 0, 200]
    assert odd[1].content == b""


def test_fetch_with_faults(server: WebServer, transport: CurlTransport) -> None:
    """A fault costs the file that it met, and no other."""
    server.files = {f"/{n}": b"x" * n for n in range(100)}

    def some(method: str, path: str, *_: object) -> Reply | None:
        number = int(path[1:])
        if number % 7 == 3:
            return Reply(200, b"x", length=number + 5, reset=number % 2 == 0)
        return Reply(503) if number % 7 == 5 else None

    server.special = some
    found = transport.begin([Wanted(f"{server.url}/{n}", 1000) for n in range(100)], {}, verify=True)()
    expected = [0 if n % 7 == 3 else 503 if n % 7 == 5 else 200 for n in range(100)]
    assert [one.status for one in found] == expected
    assert all(one.content == b"x" * n for n, one in enumerate(found) if one.status == 200)


def test_fetch_from_nobody(transport: CurlTransport) -> None:
    """Nobody there: no status, and no waiting for ever."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
        assert [one.status for one in transport.begin([Wanted(url, 10)] * 5, {}, verify=True)()] == [0] * 5
