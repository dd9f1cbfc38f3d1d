"""One request that the application takes its time for, and its answer, in ASGI's messages."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from casync_compat.serve.application import Application
from casync_compat.serve.http1 import RequestBody, RequestHead
from casync_compat.serve.replies import Field

__all__ = ["AHEAD", "NO_BODY", "ClientConnection", "RequestCycle"]

AHEAD = 256 << 10
"""Bytes of a client that are taken in before they are asked for."""
NO_BODY = frozenset({204, 304})
"""Answers that have none, whatever is asked."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class ClientConnection(Protocol):
    """What a request needs of its connection.

    :ivar paused: is done when the client has read enough of what was written; None where it has
    """

    loop: asyncio.AbstractEventLoop
    paused: asyncio.Future[None] | None

    @property
    def client(self) -> str:
        """Its address; empty where it has none."""

    @property
    def ending(self) -> bool:
        """Whether the server is."""

    def head(self, status: int, fields: Sequence[Field], size: int | None, *, keep: bool) -> bytes:
        """The head of an answer."""

    def write(self, data: bytes) -> None:
        """To the client."""

    def abort(self) -> None:
        """Close now, whatever is not sent."""

    def hold(self) -> None:
        """The application has not taken yet what there is of the body."""

    def wanted(self) -> None:
        """The application has taken what there was of the body."""

    def finished(self, *, keep: bool, whole: bool) -> None:
        """A request was answered.

        :param keep: whether another one may follow
        :param whole: whether its body has come
        """


class RequestCycle:
    """A request that the application takes its time for, and its answer, in ASGI's messages."""

    def __init__(self, connection: ClientConnection, head: RequestHead, path: bytes, query: bytes) -> None:
        self._connection = connection
        self._head = head
        self._body = RequestBody(head.framing.length)
        self._parts: list[bytes] = []
        self._size = 0
        self._told_end = False
        self._waits = head.framing.waits and not self._body.done
        self._arrived: asyncio.Future[None] | None = None
        self._gone = False
        self._cut = False
        self._keep = head.framing.keep
        self._start: MutableMapping[str, Any] | None = None
        self._left: int | None = None
        self._ended = False
        self._task: asyncio.Task[None]
        self.scope: MutableMapping[str, Any] = {
            "type": "http",
            "method": head.method,
            "path": "",
            "raw_path": path,
            "query_string": query,
            "headers": list(head.framing.fields.items()),
            "client": (connection.client, 0) if connection.client else None,
            "http_version": f"1.{head.minor}",
        }

    @property
    def full(self) -> bool:
        """Whether so much of the body is here that no more should come."""
        return self._size > AHEAD

    def begin(self, application: Application) -> None:
        """Let the application answer."""
        self._task = self._connection.loop.create_task(self._run(application))

    async def _run(self, application: Application) -> None:
        with suppress(Exception):  # the application has told, or the client has gone
            await application(self.scope, self._receive, self._send)
        if self._gone or not self._ended:
            self._connection.abort()  # so that the client takes no half answer for a whole one
        self._connection.finished(keep=self._keep, whole=self._body.done)

    # ---- what comes

    def take(self, data: bytes) -> bytes:
        """Take the body's part of what has come. Returns the rest.

        :raises BadRequest: it is not written as a body
        """
        if self._body.done or not data:
            return data
        part, rest = self._body.take(data)
        if part and not self._ended:
            self._parts.append(part)
            self._size += len(part)
            if self.full:
                self._connection.hold()
        if part or self._body.done:
            self._notify()
        return rest

    def no_more(self) -> None:
        """The client sends nothing any more: it has gone, unless it has said all that it had to."""
        if not self._body.done:
            self.broken()

    def broken(self) -> None:
        """The body will not come to its end."""
        self._cut = True
        self._notify()

    def lost(self) -> None:
        """The client has gone."""
        self._gone = True
        self._notify()

    def _notify(self) -> None:
        arrived, self._arrived = self._arrived, None
        if arrived is not None and not arrived.done():
            arrived.set_result(None)

    async def _receive(self) -> MutableMapping[str, Any]:
        while not (self._gone or self._cut):
            if self._parts or (self._body.done and not self._told_end):
                body = b"".join(self._parts)
                self._parts.clear()
                self._size = 0
                self._told_end = self._body.done
                self._connection.wanted()
                return {"type": "http.request", "body": body, "more_body": not self._body.done}
            if self._waits:
                self._waits = False
                self._connection.write(_CONTINUE)
            self._arrived = self._connection.loop.create_future()
            await self._arrived
        return {"type": "http.disconnect"}

    # ---- what goes

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        body: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        if self._gone:
            raise ConnectionResetError
        start, self._start = self._start, None
        if start is not None:
            body = self._head_of(start, body, more=more) + body
        elif self._left is not None:
            self._left -= len(body)
        self._connection.write(body)
        paused = self._connection.paused
        if more and paused is not None:
            await paused
            if self._gone:
                raise ConnectionResetError
        if not more:
            self._ended = not self._left  # a body that is too short is none

    def _head_of(self, start: MutableMapping[str, Any], body: bytes, *, more: bool) -> bytes:
        status: int = start["status"]
        fields = [field for field in start["headers"] if field[0] != b"connection"]
        length = next((int(value) for name, value in fields if name == b"content-length"), None)
        bare = self._head.method == "HEAD" or status in NO_BODY
        size = None if bare or length is not None or more else len(body)
        if not bare:
            self._left = length if size is None else size
        told = bare or self._left is not None
        closes = len(fields) != len(start["headers"])
        whole = self._body.done and not self._cut
        self._keep = self._keep and whole and told and not closes and not self._connection.ending
        if self._left is not None:
            self._left -= len(body)
        return self._connection.head(status, fields, size, keep=self._keep)
