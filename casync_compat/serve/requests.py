"""A request as a value, and its body, read with limits. Knows ASGI's messages and nothing of what is served."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from casync_compat.serve.settings import Limits

__all__ = ["BodyLost", "BodyTooLarge", "BodyTooSlow", "Receive", "Scope", "Send", "WebRequest"]

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class BodyTooLarge(Exception):
    """A body has more bytes than it may have."""


class BodyTooSlow(Exception):
    """A body does not come, or only in drops."""


class BodyLost(Exception):
    """The client went away in the middle of its body."""


class WebRequest:
    """One request.

    :ivar method: in upper case
    :ivar path: as it was sent, still percent-encoded, without the query
    :ivar fields: header fields by lower-case name; of repeated ones the last
    """

    __slots__ = ("_receive", "_scope", "fields", "method", "path")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._scope = scope
        self._receive = receive
        self.method: str = scope["method"]
        raw = scope.get("raw_path")
        self.path: bytes = raw.partition(b"?")[0] if raw else scope["path"].encode()
        self.fields: dict[bytes, bytes] = dict(scope["headers"])

    @property
    def query(self) -> bytes:
        """What follows the question mark."""
        query: bytes = self._scope.get("query_string") or b""
        return query

    @property
    def client(self) -> str:
        """The address of whoever asks; empty where there is none."""
        client = self._scope.get("client")
        return str(client[0]) if client else ""

    @property
    def version(self) -> str:
        """Of HTTP."""
        return str(self._scope.get("http_version", "1.1"))

    @property
    def wants_page(self) -> bool:
        """Whether whoever asks is a browser, or says that it takes pages."""
        return b"text/html" in self.fields.get(b"accept", b"")

    def length(self) -> int | None:
        """Bytes of the body, as far as the client says; None where it does not."""
        text = self.fields.get(b"content-length")
        return int(text) if text is not None and text.isdigit() and len(text) < 20 else None

    async def gone(self) -> None:
        """Return when the client has gone away. What it may still send is passed over."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def body(self, limit: int, limits: Limits) -> bytes:
        """The whole body.

        :param limit: the most bytes that it may have
        :raises BodyTooLarge: it has more; nothing more of it is read
        :raises BodyTooSlow: see `Limits`
        :raises BodyLost: it ended before its end
        """
        length = self.length()
        if length is not None and length > limit:
            raise BodyTooLarge
        clock = asyncio.get_running_loop().time
        began = clock()
        parts: list[bytes] = []
        size = 0
        while True:
            left = began + limits.receive + size / limits.slowest - clock()
            try:
                async with asyncio.timeout(min(limits.receive, max(left, 0))):
                    message = await self._receive()
            except TimeoutError as error:
                raise BodyTooSlow from error
            if message["type"] == "http.disconnect":
                raise BodyLost
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > limit:
                raise BodyTooLarge
            parts.append(part)
            if not message.get("more_body", False):
                break
        if length is not None and size != length:
            raise BodyLost
        return parts[0] if len(parts) == 1 else b"".join(parts)
