"""Asking an ASGI application without a server: one request in, one answer out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Heard", "Message", "ask", "asked", "scope_of"]

Message = MutableMapping[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]


@dataclass
class Heard:
    """An answer.

    :ivar fields: by lower-case name
    """

    status: int = 0
    fields: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = False

    @property
    def text(self) -> str:
        return self.body.decode()


def scope_of(method: str, path: str, fields: dict[str, str], client: str) -> Message:
    raw, _, query = path.partition("?")
    return {
        "type": "http",
        "method": method,
        "path": raw,
        "raw_path": raw.encode("latin-1"),
        "query_string": query.encode(),
        "http_version": "1.1",
        "headers": [(name.lower().encode(), value.encode()) for name, value in fields.items()],
        "client": (client, 1),
    }


async def asked(
    application: Application,
    method: str,
    path: str,
    fields: dict[str, str] | None = None,
    body: Sequence[bytes] = (),
    client: str = "192.0.2.1",
    *,
    lost: bool = False,
) -> Heard:
    """One request, within a loop.

    :param body: in the pieces that arrive
    :param lost: whether the client goes away after them
    """
    fields = dict(fields or {})
    if body and not lost:
        fields.setdefault("content-length", str(sum(map(len, body))))
    messages: list[Message] = [
        {"type": "http.request", "body": piece, "more_body": lost or at + 1 < len(body)}
        for at, piece in enumerate(body)
    ] or [{"type": "http.request", "body": b"", "more_body": False}]
    heard = Heard()
    ended = asyncio.Event()

    async def receive() -> Message:
        if messages:
            return messages.pop(0)
        if not lost:
            await ended.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            assert not heard.status
            heard.status = message["status"]
            heard.fields = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            heard.body += message.get("body", b"")
            heard.whole = not message.get("more_body", False)
            if heard.whole:
                ended.set()

    await application(scope_of(method, path, fields, client), receive, send)
    assert heard.whole
    if method != "HEAD" and heard.status != 304:
        assert heard.fields["content-length"] == str(len(heard.body))
    return heard


def ask(application: Application, method: str, path: str, *rest: Any, **options: Any) -> Heard:
    """One request, and the loop around it."""
    return asyncio.run(asked(application, method, path, *rest, **options))
