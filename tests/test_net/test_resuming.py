"""Files that are read on where a connection broke off, over a server that keeps to a script."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

import pytest

from casync_compat.errors import RemoteError
from casync_compat.net.exchange import Clock, Exchange
from casync_compat.net.http import Headers, Request, TransportError
from casync_compat.net.resuming import ChangedMeanwhile, Download
from casync_compat.store.http import HttpFiles
from casync_compat.store.options import StoreOptions

DATA = Random(5).randbytes(1 << 20)
URL = "http://h.test/x"
Fields = dict[str, str]


class Answer:
    """A response of which only the beginning may come."""

    def __init__(self, status: int, fields: Fields, body: bytes, broken: bool) -> None:
        self.status = status
        self.headers = Headers(fields.items())
        self._body = body
        self._broken = broken

    def read(self, size: int, /) -> bytes:
        data, self._body = self._body[:size], self._body[size:]
        if not data and self._broken:
            raise TransportError("the answer broke off before its end")
        return data

    def close(self) -> None:
        """Nothing is open."""


class Server:
    """One file. Connections break after so many bytes of a body as `breaks` says, in turn; then they hold.

    :ivar asked: the Range and If-Range of each request
    :ivar sent: bytes of bodies
    """

    def __init__(self, *breaks: int, ranges: bool = True, tag: str | None = '"1"') -> None:
        self.breaks = list(breaks)
        self.ranges = ranges
        self.tag = tag
        self.data = DATA
        self.date = "Sun, 29 Nov 2026 00:00:00 GMT"
        self.sizes = True
        self.asked: list[tuple[str | None, str | None]] = []
        self.sent = 0
        self.before: Callable[[int], None] = lambda number: None
        self.waits: list[float] = []
        clock = Clock(lambda: 0.0, lambda: 0.0, self.waits.append, lambda: 1.0)
        self.exchange = Exchange(self, clock, options=StoreOptions(retries=3))
        self.files = HttpFiles("http://h.test", self.exchange)

    def send(self, request: Request, *, verify: bool) -> Answer:
        self.before(len(self.asked))
        asked, condition = request.headers.get("Range"), request.headers.get("If-Range")
        self.asked.append((asked, condition))
        fields = {"Last-Modified": self.date}
        if self.tag is not None:
            fields["ETag"] = self.tag
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", asked or "")
        status, body = 200, self.data
        if match and self.ranges and condition in (None, self.tag):
            start, end = int(match[1]), min(int(match[2] or len(self.data)) + 1, len(self.data))
            if start >= len(self.data):
                return Answer(416, fields, b"", False)
            status, body = 206, self.data[start:end]
            total = str(len(self.data)) if self.sizes else "*"
            fields["Content-Range"] = f"bytes {start}-{end - 1}/{total}"
        elif self.sizes:
            fields["Content-Length"] = str(len(body))
        broken = bool(self.breaks)
        body = body[: self.breaks.pop(0)] if broken else body
        self.sent += len(body)
        return Answer(status, fields, body, broken)

    def close(self) -> None:
        """Nothing is open."""


def download(server: Server, start: int = 0, end: int | None = None) -> Download:
    return Download(server.exchange, URL, None, where="http://h.test", op="read x", start=start, end=end)


def whole(one: Download) -> bytes:
    return b"".join(iter(lambda: one.read(10_000), b""))


def test_it_goes_on_where_it_broke_off() -> None:
    """What came is not asked for again, and the condition is that the file is the same."""
    server = Server(100_000, 200_000, 0)
    assert whole(download(server)) == DATA
    assert server.asked == [(None, None), *[(f"bytes={at}-", '"1"') for at in (100_000, 300_000, 300_000)]]
    assert server.sent == len(DATA)


def test_parts() -> None:
    """A range goes on within itself, and ends where the file does."""
    server = Server(1000, 70_000)
    assert whole(download(server, 500, 200_500)) == DATA[500:200_500]
    assert server.asked == [(f"bytes={at}-200499", '"1"' if at > 500 else None) for at in (500, 1500, 71_500)]
    assert server.files.read_range(b"x", len(DATA) - 5, 100) == DATA[-5:]
    assert server.files.read_range(b"x", len(DATA), 100) == b""


def test_without_ranges() -> None:
    """The beginning is read again, and dropped."""
    server = Server(100_000, 50_000, 300_000, ranges=False)
    assert whole(download(server)) == DATA
    server = Server(ranges=False)
    assert whole(download(server, 5, 10)) == DATA[5:10]


@pytest.mark.parametrize("tag", [None, 'W/"1"'])
def test_without_a_strong_tag(tag: str | None) -> None:
    """Nothing is made a condition that is none; date, size and weak tags are compared."""
    server = Server(100_000, tag=tag)
    assert whole(download(server)) == DATA
    assert server.asked[1] == ("bytes=100000-", None)


@pytest.mark.parametrize("what", ["tag", "weak", "date", "size", "shorter", "no ranges"])
def test_a_file_that_is_replaced(what: str) -> None:
    """Two files are never taken for one: whoever has its beginning gets an error, whoever has not gets the new one."""
    tag = None if what == "date" else 'W/"1"' if what == "weak" else '"1"'
    server = Server(100_000, tag=tag)
    new = DATA[::-1]

    def replaced(number: int) -> None:
        if number != 1:
            return
        server.data = new
        if what in ("tag", "no ranges", "weak"):
            server.tag = 'W/"2"' if what == "weak" else '"2"'
        elif what == "date":
            server.date = "Sun, 29 Nov 2026 00:00:01 GMT"
        else:
            server.data = new[: 200_000 if what == "size" else 5]
        server.ranges = what != "no ranges"

    server.before = replaced
    with pytest.raises(ChangedMeanwhile, match=r"http://h\.test: cannot read x: it was replaced"):
        whole(download(server))
    server = Server(100_000, tag=tag)
    server.before = replaced
    assert server.files.read(b"x", 1 << 30) == server.data != DATA


def test_no_patience_without_progress() -> None:
    """It is given up when nothing comes any more, after pauses that grow, but not while there is something."""
    server = Server(*[70_000] * 10)
    assert whole(download(server)) == DATA
    server = Server(*[100] * 10)
    with pytest.raises(RemoteError, match="read x: the answer broke off"):
        whole(download(server))
    assert len(server.asked) == 4
    assert server.waits == [0.5, 1.0, 2.0]


def test_an_answer_that_is_too_short() -> None:
    """Less than a range that was asked for, from a server that gives so much at once, is not the end of the file."""
    server = Server()
    real = server.send

    def stingy(request: Request, *, verify: bool) -> Answer:
        start, end = re.findall(r"\d+", request.headers["Range"])
        less = min(int(end), int(start) + 999)
        return real(Request("GET", request.url, {"Range": f"bytes={start}-{less}"}), verify=verify)

    server.send = stingy  # type: ignore[method-assign]
    with pytest.raises(RemoteError, match="broke off"):
        whole(download(server, 0, 5000))
    server.exchange.attempts = 10
    assert whole(download(server, 0, 5000)) == DATA[:5000]


@pytest.mark.parametrize("where", ["bytes 1-5/10", "bytes 0-5", "", "bytes 7-4/10"])
def test_wrong_ranges(where: str) -> None:
    """Another range than was asked for is an error, and is not taken for the one."""
    server = Server()
    server.send = lambda request, verify: Answer(206, {"Content-Range": where}, b"12345", False)  # type: ignore[method-assign, assignment, misc]
    with pytest.raises(RemoteError, match="another range"):
        server.files.read_range(b"x", 5, 5)


def test_statuses_in_the_middle() -> None:
    """What a server says instead of the rest is told; a storm passes."""
    for statuses, says in (([403], "403"), ([404], "404"), ([503, 503], None)):
        server = Server(100_000)
        real, left = server.send, list(statuses)

        def then(request: Request, *, verify: bool, real: object = real, left: list[int] = left) -> Answer:
            if "Range" in request.headers and left:
                return Answer(left.pop(0), {}, b"", False)
            assert callable(real)
            answer = real(request, verify=verify)
            assert isinstance(answer, Answer)
            return answer

        server.send = then  # type: ignore[method-assign]
        if says is None:
            assert whole(download(server)) == DATA
        else:
            with pytest.raises(RemoteError, match=says):
                whole(download(server))
