"""A request as a value, and its body, read with limits. Knows ASGI's messages and nothing of what is served."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
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


async def _nothing() -> MutableMapping[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


class WebRequest:
    """One request.

    :ivar method: in upper case
    :ivar path: as it was sent, still percent-encoded, without the query
    :ivar fields: header fields by lower-case name; of repeated ones the last
    :ivar client: the address of whoever asks; empty where there is none
    :ivar query: what follows the question mark
    :ivar version: of HTTP
    :param receive: gives ASGI's messages; without it there is no body
    """

    __slots__ = ("_receive", "client", "fields", "method", "path", "query", "version")

    def __init__(
        self,
        method: str,
        path: bytes,
        fields: Mapping[bytes, bytes],
        client: str = "",
        query: bytes = b"",
        version: str = "1.1",
        receive: Receive = _nothing,
    ) -> None:
        self.method = method
        self.path = path
        self.fields = fields
        self.client = client
        self.query = query
        self.version = version
        self._receive = receive

    @classmethod
    def of(cls, scope: Scope, receive: Receive) -> WebRequest:
        """One that an ASGI server tells of."""
        raw = scope.get("raw_path")
        client = scope.get("client")
        return cls(
            scope["method"],
            raw.partition(b"?")[0] if raw else scope["path"].encode(),
            dict(scope["headers"]),
            str(client[0]) if client else "",
            scope.get("query_string") or b"",
            str(scope.get("http_version", "1.1")),
            receive,
        )

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
