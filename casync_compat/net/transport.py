"""The transport that opens connections: libcurl's, one thread for all (`loop`).

A caller of `send` fills the queue of an upload itself, and takes the body of an answer out of a queue that holds a
megabyte at most; the loop's thread never waits for either. What is not taken stops its transfer, not the loop.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from casync_compat.net.fetching import Fetcher
from casync_compat.net.handles import Handles, transport_error
from casync_compat.net.http import Body, Fetched, Headers, Origin, Request, Response, TransportError, Wanted
from casync_compat.net.limiter import Limiter
from casync_compat.store.options import NOTHING_SAID, StoreOptions

if TYPE_CHECKING:
    import pycurl

    from casync_compat.net.loop import Loop

__all__ = ["CurlTransport"]

_QUEUE = 1 << 20
"""Bytes of a body that wait to be taken, or to be sent."""

_LONGEST_HEADERS = 1 << 20


class CurlTransport:
    """A `Transport` that keeps connections open.

    :param environ: see `Handles`
    :param agent: for the User-Agent field
    :param options: how the store is reached
    :param home: the origin of the store, see `Handles`
    :param loop: what moves the transfers of several transports; None for one of its own
    :param limiter: of bytes a second, the loop's if one is given; None for no limit
    :raises UsageError: pycurl is not installed
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        agent: str,
        options: StoreOptions = NOTHING_SAID,
        *,
        home: Origin | None = None,
        loop: Loop | None = None,
        limiter: Limiter | None = None,
    ) -> None:
        self._handles = Handles(environ, agent, options, home, limiter)
        from casync_compat.net.loop import Loop  # lazily: it imports pycurl, an optional dependency

        self.loop = Loop(limiter) if loop is None else loop
        self._fetcher = Fetcher(self.loop, self._handles)

    def close(self) -> None:
        self.loop.close()

    def send(self, request: Request, *, verify: bool) -> Response:
        handle = self._handles.make(request.url, verify=verify, slow=request.slow)
        transfer = _Transfer(self.loop, handle, request, partial(self._fetcher.met, request.url))
        self.loop.start(transfer)
        try:
            transfer.feed()
            transfer.wait_for_headers()
        except BaseException:
            transfer.close()
            raise
        return transfer

    def begin(
        self, wanted: Sequence[Wanted], headers: Mapping[str, str], *, verify: bool
    ) -> Callable[[], list[Fetched]]:
        """Ask for what a GET of each gives, whole; see `Fetcher`."""
        return self._fetcher.begin(wanted, {"Accept-Encoding": "identity", **headers}, verify=verify)


class _Transfer:
    """A request, and then its `Response`."""

    shared = False

    def __init__(
        self, loop: Loop, handle: pycurl.Curl, request: Request, met: Callable[[float], None]
    ) -> None:
        import pycurl

        self._curl = pycurl
        self._loop = loop
        self._limiter = loop.limiter
        self._met = met
        self.handle = handle
        self.status = 0
        self.headers = Headers()
        self._changed = threading.Condition()
        self._lines: list[tuple[str, str]] = []
        self._header_bytes = 0
        self._code = 0
        self._answered = False
        self._error: TransportError | None = None
        self._ended = False
        self._arrived: deque[bytes] = deque()
        self._waiting = 0  # bytes in `_arrived`
        self._stopped = False  # whether libcurl was told to pause receiving
        self._body = request.body
        self._outgoing: deque[memoryview] = deque()
        self._queued = 0
        self._all_queued = False
        self._hungry = False  # whether libcurl was told to pause sending
        self._round = 0  # how often the body was begun anew
        self._prepare(request)

    # ---- before it starts

    def _prepare(self, request: Request) -> None:
        curl, handle = self._curl, self.handle
        fields = {"Accept-Encoding": "identity", "Expect": "", **request.headers}
        if request.method == "HEAD":
            handle.setopt(curl.NOBODY, 1)
        elif request.body is not None and request.body.size:
            handle.setopt(curl.UPLOAD, 1)
            handle.setopt(curl.INFILESIZE_LARGE, request.body.size)
            handle.setopt(curl.READFUNCTION, self._give)
            handle.setopt(curl.SEEKFUNCTION, self._rewind)
        elif request.body is not None or request.method in ("POST", "PUT", "PATCH"):
            handle.setopt(curl.POST, 1)
            handle.setopt(curl.POSTFIELDSIZE_LARGE, 0)
            fields.setdefault("Content-Type", "")
        if request.method != "HEAD":
            handle.setopt(curl.CUSTOMREQUEST, request.method)
        lines = [f"{name}: {value}" if value else f"{name}:" for name, value in fields.items()]
        if any("\n" in line or "\r" in line or "\0" in line for line in lines):
            raise TransportError("a header field has a line break", final=True)
        handle.setopt(curl.HTTPHEADER, [line.encode("latin-1", "replace") for line in lines])
        handle.setopt(curl.HEADERFUNCTION, self._header)
        handle.setopt(curl.WRITEFUNCTION, self._take)

    # ---- on the loop's thread; an exception here would be printed and lost

    def _header(self, line: bytes) -> int:
        self._header_bytes += len(line)
        text = line.decode("latin-1").rstrip("\r\n")
        if self._header_bytes > _LONGEST_HEADERS:
            return 0
        if text.startswith("HTTP/"):
            self._lines = []  # of a proxy, or of an answer before the answer
            code = text.split(" ", 2)[1:2]
            self._code = int(code[0]) if code and code[0].isdecimal() else 0
        elif text:
            name, _, value = text.partition(":")
            self._lines.append((name, value))
        else:
            if self._code >= 200:
                self._answer(self._code)
        return len(line)

    def _answer(self, status: int) -> None:
        with self._changed:
            if not self._answered:
                self.status = status
                self.headers = Headers(self._lines)
                self._answered = True
                self._changed.notify_all()

    def _take(self, data: bytes) -> int:
        with self._changed:
            if self._waiting >= _QUEUE:
                self._stopped = True
                return self._curl.WRITEFUNC_PAUSE
            if data:
                self._arrived.append(data)
                self._waiting += len(data)
                self._changed.notify_all()
        if self._limiter is not None:
            self._limiter.spend(len(data))
        return len(data)

    def _give(self, size: int) -> bytes | int:
        if self._limiter is not None:
            size = min(size, self._limiter.piece)
        with self._changed:
            if self._error is not None:
                return self._curl.READFUNC_ABORT
            if not self._outgoing:
                if self._all_queued:
                    return b""
                self._hungry = True
                return self._curl.READFUNC_PAUSE
            piece = self._outgoing.popleft()
            if piece.nbytes > size:
                self._outgoing.appendleft(piece[size:])
                piece = piece[:size]
            self._queued -= piece.nbytes
            self._changed.notify_all()
        if self._limiter is not None:
            self._limiter.spend(piece.nbytes)
        return bytes(piece)

    def _rewind(self, offset: int, origin: int) -> int:
        """A kept connection was closed by the server: the body is wanted from its beginning."""
        if offset or origin:
            return self._curl.SEEKFUNC_FAIL
        with self._changed:
            self._round += 1
            self._outgoing.clear()
            self._queued = 0
            self._all_queued = False
            self._changed.notify_all()
        return self._curl.SEEKFUNC_OK

    def finished(self, code: int, text: str) -> None:
        number = 0 if not code else self.handle.getinfo(self._curl.OS_ERRNO)
        with self._changed:
            if code and self._error is None:
                self._error = transport_error(code, text, number)
            elif not self._answered and self._error is None:
                self._error = TransportError("it closed the connection without an answer")
            self._ended = True
            self._changed.notify_all()
        self._met(self.handle.getinfo(self._curl.CONNECT_TIME))
        self.handle.close()

    def _resume(self) -> None:
        if not self._ended:
            self.handle.pause(self._curl.PAUSE_CONT)

    # ---- on the caller's

    def feed(self) -> None:
        """Give the body to be sent, until it is wanted no more.

        :raises Exception: what reading the body raises
        """
        if self._body is None or not self._body.size:
            return
        while True:
            with self._changed:
                turn = self._round
            if not self._feed_once(self._body, turn):
                return
            with self._changed:
                # All of it waits to be sent, or is: a connection that breaks now asks for it anew.
                while turn == self._round and not (self._answered or self._ended):
                    self._changed.wait()
                if turn == self._round or self._ended:
                    return

    def _feed_once(self, body: Body, turn: int) -> bool:
        """One time the whole body; False when no more of it is wanted."""
        for piece in self._pieces(body):
            with self._changed:
                while (
                    self._queued >= _QUEUE and turn == self._round and not self._answered and not self._ended
                ):
                    self._changed.wait()
                if self._answered or self._ended:
                    return False
                if turn != self._round:
                    return True
                self._outgoing.append(piece)
                self._queued += piece.nbytes
                hungry, self._hungry = self._hungry, False
            if hungry:
                self._loop.call(self._resume)
        with self._changed:
            if turn == self._round:
                self._all_queued = True
                hungry, self._hungry = self._hungry, False
        if hungry:
            self._loop.call(self._resume)
        return True

    def _pieces(self, body: Body) -> Iterator[memoryview]:
        for piece in body.pieces():
            view = memoryview(piece).cast("B")
            if view.nbytes:
                yield view

    def wait_for_headers(self) -> None:
        """:raises TransportError: there is no answer"""
        with self._changed:
            while not self._answered and not self._ended:
                self._changed.wait()
            if not self._answered and self._error is not None:
                raise self._error

    def read(self, size: int, /) -> bytes:
        with self._changed:
            while not self._arrived and not self._ended:
                self._changed.wait()
            if not self._arrived:
                if self._error is not None:
                    raise self._error
                return b""
            data = self._arrived.popleft()
            if len(data) > size:
                self._arrived.appendleft(data[size:])
                data = data[:size]
            self._waiting -= len(data)
            resume = self._stopped and self._waiting < _QUEUE // 2
            if resume:
                self._stopped = False
        if resume:
            self._loop.call(self._resume)
        return data

    def close(self) -> None:
        with self._changed:
            ended = self._ended
            self._arrived.clear()
            self._waiting = 0
        if not ended:
            self._loop.stop(self)
