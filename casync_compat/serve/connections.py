"""Connections of HTTP/1.1 clients, in the loop's own thread: from one client, a request at a time.

What the application can answer at once is written at once. For all else it is an ASGI server to it. What a client
sends before its turn waits, in the system's buffers when it is much; so does a client's next request while it does not
read the last answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import cast

from casync_compat.serve.application import Application
from casync_compat.serve.cycle import AHEAD, NO_BODY, RequestCycle
from casync_compat.serve.http1 import END, MOST_HEAD, BadRequest, Heads
from casync_compat.serve.replies import Field, Reply, http_date
from casync_compat.serve.requests import WebRequest

__all__ = ["Connections"]

_IN_A_ROW = 16
"""Requests of one client that are answered before others have their turn."""
_LINGER = 5.0
"""Seconds in which a client may read why its body is not wanted, while it still sends it."""
_LOOK_EVERY = 1.0
_STATUS = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus
}
_TEXT = (b"content-type", b"text/plain; charset=utf-8")


class Connections:
    """All clients of a server.

    :param most: that may be there at once; more are sent away
    :param quiet: seconds in which the whole head of a request has to come
    :ivar stalled: seconds in which a client has to take something of its answer
    """

    def __init__(self, application: Application, most: int, quiet: float = 30.0) -> None:
        self.application = application
        self.heads = Heads()
        self.stalled = application.limits.receive
        self.ending = False
        self._most = most
        self._quiet = quiet
        self._all: set[_Connection] = set()
        self._none = asyncio.Event()
        self._none.set()
        self._date = 0, b""
        self._looking: asyncio.TimerHandle | None = None

    def __call__(self) -> asyncio.Protocol:
        """A protocol for a new client."""
        return _Connection(self)

    def add(self, one: _Connection) -> bool:
        """Take one in. Returns whether there is room."""
        if len(self._all) >= self._most or self.ending:
            return False
        self._all.add(one)
        self._none.clear()
        if self._looking is None:
            self._looking = one.loop.call_later(_LOOK_EVERY, self._look)
        return True

    def discard(self, one: _Connection) -> None:
        """It has gone."""
        self._all.discard(one)
        if not self._all:
            self._none.set()

    def date(self) -> bytes:
        """The field that says what time it is."""
        now = int(time.time())
        if self._date[0] != now:
            self._date = now, b"date: %s\r\n" % http_date(now * 10**9)
        return self._date[1]

    def _look(self) -> None:
        """Send those away that do nothing."""
        self._looking = None
        now = time.monotonic()
        for one in list(self._all):
            one.look(now, self._quiet, self.stalled)
        if self._all:
            self._looking = asyncio.get_running_loop().call_later(_LOOK_EVERY, self._look)

    def end(self) -> None:
        """Take nothing new: who waits for nothing is sent away."""
        self.ending = True
        for one in list(self._all):
            one.end()

    async def ended(self) -> None:
        """Return when nobody is there any more."""
        await self._none.wait()

    def abort(self) -> None:
        """Send all away, now."""
        for one in list(self._all):
            one.abort()


class _Connection(asyncio.Protocol):
    """One client."""

    __slots__ = (
        "_all",
        "_client",
        "_eof",
        "_exchange",
        "_in",
        "_leaving",
        "_left",
        "_since",
        "_stopped",
        "_transport",
        "loop",
        "paused",
    )

    def __init__(self, connections: Connections) -> None:
        self._all = connections
        self.loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._in = b""
        self._exchange: RequestCycle | None = None
        self._client: str | None = None
        self._since: float | None = None
        self._left = 0
        self._eof = False
        self._leaving = False
        self._stopped = False
        self.paused: asyncio.Future[None] | None = None

    # ---- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._all.add(self):
            self._leaving = True
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._leaving:
            return
        self._in = self._in + data if self._in else data
        if self._exchange is not None:
            self._feed(self._exchange)
        elif self.paused is None:
            self._go_on()
        if not self._stopped and len(self._in) > AHEAD:
            self._stopped = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._eof = True
        if self._exchange is not None:
            self._exchange.no_more()
        elif self._leaving:
            return False
        elif self.paused is None:
            self.loop.call_soon(self._later)  # what has come may have whole requests in it
        return True

    def pause_writing(self) -> None:
        self.paused = self.loop.create_future()

    def resume_writing(self) -> None:
        self._release()
        if self._exchange is None and not self._leaving:
            self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leaving = True
        self._in = b""
        self._all.discard(self)
        self._release()
        if self._exchange is not None:
            self._exchange.lost()

    def _release(self) -> None:
        paused, self.paused = self.paused, None
        if paused is not None and not paused.done():
            paused.set_result(None)

    # ---- requests

    @property
    def ending(self) -> bool:
        """Whether the server is."""
        return self._all.ending

    @property
    def client(self) -> str:
        """Its address; empty where it has none."""
        if self._client is None:
            name = self._transport.get_extra_info("peername")
            self._client = str(name[0]) if isinstance(name, tuple) else ""
        return self._client

    def _go_on(self) -> None:
        """Answer what has come, as far as that is possible now."""
        try:
            for _ in range(_IN_A_ROW):
                if not self._next():
                    return
        except BadRequest as error:
            self._refuse(error)
            return
        self.loop.call_soon(self._later)

    def _later(self) -> None:
        if self._exchange is None and self.paused is None and not self._leaving:
            self._go_on()

    def _next(self) -> bool:
        """Take a request. Returns whether there may be another one right behind it."""
        data = self._in
        end = data.find(END)
        if end <= 0:
            data = self._in = data.lstrip(b"\r\n")  # some send an empty line after a body
            end = data.find(END)
        if end > MOST_HEAD or (end < 0 and len(data) > MOST_HEAD):
            raise BadRequest(431, "the head of the request is too long")
        if end < 0:
            if self._eof:
                self._leave()
            return False
        head = self._all.heads.read(data[: end + 2])
        self._in = data[end + 4 :]
        self._since = None
        path, _, query = head.target.partition(b"?")
        framing = head.framing
        if framing.length == 0 and head.method == "GET" and not query:
            began = time.perf_counter()
            request = WebRequest(head.method, path, framing.fields, self.client)
            answer = self._all.application.at_once(request)
            if answer is not None:
                keep = framing.keep and not self._all.ending
                size = len(answer.body)
                told = None if answer.status in NO_BODY else size
                self._transport.write(self.head(answer.status, answer.fields, told, keep=keep) + answer.body)
                self._all.application.done(request, answer, size, time.perf_counter() - began)
                if not keep:
                    self._leave()
                self._resume()
                return keep and self.paused is None and bool(self._in)
        self._exchange = exchange = RequestCycle(self, head, path, query)
        exchange.begin(self._all.application)
        self._feed(exchange)
        return False

    def head(self, status: int, fields: Sequence[Field], size: int | None, *, keep: bool) -> bytes:
        """The head of an answer.

        :param size: bytes of the body; None where that is said in a field, or not known
        """
        lines = [name + b": " + value for name, value in fields]
        lines.append(b"")
        block = b"\r\n".join(lines)
        if block.count(b"\n") != len(fields) or b"\0" in block:
            raise ValueError("a field of an answer has more than a line")
        if size is not None:
            block += b"content-length: %d\r\n" % size
        if not keep:
            block += b"connection: close\r\n"
        return _STATUS[status] + block + self._all.date() + b"\r\n"

    def _feed(self, exchange: RequestCycle) -> None:
        """Give to a request what has come of its body."""
        try:
            self._in = exchange.take(self._in)
        except BadRequest:
            self._in = b""
            exchange.broken()
            return
        if not exchange.full:
            self._resume()

    def _resume(self) -> None:
        if self._stopped and len(self._in) <= AHEAD and not self._leaving:
            self._stopped = False
            self._transport.resume_reading()

    def wanted(self) -> None:
        """The application has taken what there was of the body."""
        self._resume()

    def hold(self) -> None:
        """The application has not taken yet what there is of the body."""
        if not self._stopped and not self._leaving:
            self._stopped = True
            self._transport.pause_reading()

    def finished(self, *, keep: bool, whole: bool) -> None:
        """A request was answered.

        :param keep: whether another one may follow
        :param whole: whether its body has come
        """
        self._exchange = None
        self._since = None
        if self._leaving:
            return
        if not keep:
            self._leave(lingering=not whole)
        elif self.paused is None:
            self._resume()
            self._go_on()

    def _refuse(self, error: BadRequest) -> None:
        body = f"{error}\n".encode()
        self.write(self.head(error.status, [_TEXT], len(body), keep=False) + body)
        self._all.application.metrics.count("-", Reply(error.status), len(body), 0, 0.0)
        self._leave(lingering=True)

    # ---- the end

    def _leave(self, *, lingering: bool = False) -> None:
        """Send what is written, and close: at once, or, when it still sends, after it has had time to read."""
        self._leaving = True
        self._in = b""
        self._since = None
        if lingering and not self._eof:
            if self._stopped:
                self._stopped = False
                self._transport.resume_reading()
            self._transport.write_eof()
        else:
            self._transport.close()

    def write(self, data: bytes) -> None:
        """To the client."""
        self._transport.write(data)

    def abort(self) -> None:
        """Close now, whatever is not sent."""
        self._leaving = True
        self._transport.abort()

    def end(self) -> None:
        """Take no new request."""
        if self._exchange is None and not self._leaving:
            self._leave()

    def look(self, now: float, quiet: float, stalled: float) -> None:
        """Go, if nothing has happened for too long."""
        left = self._transport.get_write_buffer_size()
        if left and left != self._left:
            self._since = None  # it reads
        self._left = left
        if self._since is None:
            self._since = now
            return
        if left:
            limit = stalled
        elif self._leaving:
            limit = _LINGER
        elif self._exchange is not None:
            return  # the application has its own limits
        else:
            limit = quiet
        if now - self._since > limit:
            self._transport.abort()
