"""uvicorn's HTTP/1.1, with an answer at once for what is in memory, and clients that do nothing sent away.

A request that `Application.at_once` has an answer for costs no task and no ASGI messages. All else is uvicorn's and
httptools': here they are only told where they would wait for ever, or answer what they could not read.
"""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from itertools import chain
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from casync_compat.serve.application import Application
from casync_compat.serve.replies import Reply
from casync_compat.serve.requests import WebRequest

__all__ = ["ClientConnection", "HttpConfig"]

_IN_A_ROW = 16
"""Requests of one client that are answered at once before others have their turn."""
_LINGER = 5.0
"""Seconds in which a client may read why it is refused, while it still sends."""
_MOST_HEAD = 64 << 10
"""Bytes of a head."""
_MOST_FIELDS = 100
_MOST_AHEAD = 1024
"""Requests of one client that wait for its earlier ones; each costs some 3 KB."""


class HttpConfig(Config):
    """What all clients of a server have in common.

    :param most: clients that may be there at once; more are sent away
    :param quiet: seconds in which the whole head of a request has to come
    :ivar stalled: seconds in which a client has to take something of its answer
    """

    def __init__(self, application: Application, most: int, quiet: float, backlog: int) -> None:
        super().__init__(
            application,
            http=ClientConnection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=backlog,
            timeout_keep_alive=max(1, int(quiet)),
        )
        self.application = application
        self.most = most
        self.quiet = quiet
        self.stalled = application.limits.receive


class _Flow(FlowControl):
    """Reads no more from a client that asks ahead of its answers, whatever the application waits for."""

    def __init__(self, transport: asyncio.Transport, pipeline: Any) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        if not self._pipeline:
            super().resume_reading()


class ClientConnection(HttpToolsProtocol):
    """One client."""

    def __init__(
        self,
        config: HttpConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._most, self._quiet, self._stalled = config.most, config.quiet, config.stalled
        self._application = config.application
        self._address = ""
        self._in_a_row = 0
        self._head: int | None = None  # bytes of one that is not whole
        self._refused: tuple[int, str] | None = None
        self._eof = False
        self._leaving = False
        self._since: float | None = None
        self._left = 0

    # ---- what asyncio calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        self._address = self.client[0] if self.client else ""
        if len(self.connections) > self._most:
            self._leaving = True
            transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._leaving:
            return
        self._in_a_row = 0
        super().data_received(data)
        if self._head is not None:
            self._head += len(data)
            if self._head > _MOST_HEAD and not self._leaving:
                self._refuse(431, "the head of the request is too long")

    def eof_received(self) -> bool:  # type: ignore[override]
        """Who has said all that it has to say still gets every answer."""
        self._eof = True
        if self._leaving or not self._busy:
            return False
        if self.cycle.more_body:
            self._refuse(400, "the body ended before its end")
        return True

    # ---- what httptools calls

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = 0

    def on_headers_complete(self) -> None:
        self._head = self._since = None
        fields = dict(self.headers)
        if len(fields) != len(self.headers) or b"host" not in fields or b"transfer-encoding" in fields:
            self._check([name for name, _ in self.headers], fields.get(b"transfer-encoding", b"chunked"))
        if (
            self._in_a_row < _IN_A_ROW
            and b"content-length" not in fields
            and b"transfer-encoding" not in fields
            and b"upgrade" not in fields
            and not self._busy
            and not self.flow.write_paused
            and self.parser.get_method() == b"GET"
            and self.parser.should_keep_alive()
            and self.parser.get_http_version() == "1.1"
        ):
            began = time.perf_counter()
            request = WebRequest("GET", self.url, fields, self._address)
            answer = self._application.at_once(request)
            if answer is not None:
                self._in_a_row += 1
                size = len(answer.body)
                if answer.status != HTTPStatus.NOT_MODIFIED:
                    answer.fields.append((b"content-length", b"%d" % size))
                self.transport.write(self._head_of(answer) + answer.body)
                self._application.done(request, answer, size, time.perf_counter() - began)
                return
        if sum(map(len, chain(*self.headers)), len(self.url)) > _MOST_HEAD:
            self._stop(431, "the head of the request is too long")
        if len(self.pipeline) >= _MOST_AHEAD:
            self._stop(429, "too many requests at once")
        super().on_headers_complete()
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False  # httptools takes nothing behind it for a request

    def on_message_complete(self) -> None:
        if self.cycle is not None:
            super().on_message_complete()

    def _check(self, names: list[bytes], coding: bytes) -> None:
        """Refuse what a proxy might read in another way, and what is too much."""
        if len(names) > _MOST_FIELDS:
            self._stop(431, f"more than {_MOST_FIELDS} fields")
        hosts = names.count(b"host")
        if hosts > 1 or (not hosts and self.parser.get_http_version() != "1.0"):
            self._stop(400, "a request names one host")
        if max(map(names.count, (b"content-length", b"transfer-encoding"))) > 1:
            self._stop(400, "the length of the body is said twice")
        if coding.lower() != b"chunked":
            self._stop(501, "of transfer codings only chunked is known")

    def _stop(self, status: int, why: str) -> None:
        """Read nothing more of this client: httptools has `send_400_response` called."""
        self._refused = status, why
        raise httptools.HttpParserError(why)

    # ---- answers

    @property
    def _busy(self) -> bool:
        """Whether the application is at work on a request of this client."""
        return self.cycle is not None and not self.cycle.response_complete

    def _head_of(self, answer: Reply) -> bytes:
        lines = [
            name + b": " + value for name, value in chain(answer.fields, self.server_state.default_headers)
        ]
        return STATUS_LINE[answer.status] + b"\r\n".join(lines) + b"\r\n\r\n"

    def send_400_response(self, msg: str) -> None:
        """Say what is wrong, when all that was asked before is answered."""
        self._refuse(*(self._refused or (400, "this is no request of HTTP/1.1")))

    def _refuse(self, status: int, why: str) -> None:
        self._leaving = True
        self._refused = status, why
        if not self._busy:
            self._say()
        elif self.cycle.more_body and not self.pipeline:
            self.cycle.disconnected = True  # its body will not come to its end
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self.transport.close()
            else:
                self._say()

    def _say(self) -> None:
        status, why = self._refused or (400, "")
        body = why.encode() + b"\n"
        fields = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        self.transport.write(self._head_of(Reply(status, fields)) + body)
        self._application.metrics.count("-", Reply(status), len(body), 0, 0.0)
        self._since = None
        if self._eof:
            self.transport.close()
        else:
            self.flow.resume_reading()
            self.transport.write_eof()  # and not closed: what still comes would have the system take the answer back

    def on_response_complete(self) -> None:
        """uvicorn's, and at the end of what was asked, the end of the connection where nothing can follow."""
        self._since = None
        super().on_response_complete()
        if not self._busy and not self.pipeline and not self.transport.is_closing():
            if self._refused is not None:
                self._unset_keepalive_if_required()
                self._say()
            elif self._eof:
                self.transport.close()

    # ---- the end

    def look(self, now: float) -> None:
        """Go, if nothing has happened for too long."""
        left = self.transport.get_write_buffer_size()
        if left and left != self._left:
            self._since = None  # it reads
        self._left = left
        if self._since is None:
            self._since = now
            return
        if left:
            limit = self._stalled
        elif self._busy:
            return  # the application has its own limits
        else:
            limit = _LINGER if self._leaving else self._quiet
        if now - self._since > limit:
            self.transport.abort()


def connections_of(state: ServerState) -> list[ClientConnection]:
    """All clients that are there."""
    return cast(list[ClientConnection], list(state.connections))
