"""Requests, responses, and the seam between them: what a registry client needs of HTTP, and nothing else.

    >>> response = transport.send(Request("GET", "https://example.org/v2/"), verify=True)
    >>> response.status, response.headers.get("content-type")
    (200, 'application/json')

A `Transport` makes one attempt at one request. It follows no redirects, tries nothing again and adds no credentials:
that is `exchange`. `transport` has the one that opens connections; tests bring one that does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable
from urllib.parse import urlsplit

__all__ = [
    "CONTENT_RANGE",
    "Body",
    "BytesBody",
    "Fetched",
    "Fetching",
    "Headers",
    "Origin",
    "Request",
    "Response",
    "Transport",
    "TransportError",
    "UntrustedCertificate",
    "Wanted",
    "is_loopback",
    "origin",
    "read_all",
]

_PIECE = 1 << 18

CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
"""The field's value: first byte, last byte, size of the whole."""

Origin: TypeAlias = tuple[str, str, int]
"""Scheme, host and port: what credentials are bound to (RFC 6454)."""


class TransportError(Exception):
    """There was no answer, or it broke off.

    :ivar absent: nobody listens there, or not in this language (TLS or none)
    :ivar final: trying again is no use, say because its certificate is not trusted
    """

    def __init__(self, why: str, *, absent: bool = False, final: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.absent = absent
        self.final = final


class UntrustedCertificate(TransportError):
    """Nobody that is trusted here says that the server is who it claims to be."""


class Headers:
    """Header fields of a response: names in any case, several values kept apart."""

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name.lower(), []).append(value)

    def get(self, name: str) -> str | None:
        """The first value, or None."""
        values = self._values.get(name.lower())
        return values[0].strip() if values else None

    def all(self, name: str) -> list[str]:
        """Every value."""
        return list(self._values.get(name.lower(), ()))

    def number(self, name: str) -> int | None:
        """The value as a number of at most 18 digits, None if it is no such number."""
        text = self.get(name)
        return (
            int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 19 else None
        )


class Body(Protocol):
    """What a request sends. It can be sent again."""

    @property
    def size(self) -> int:
        """Bytes."""

    def pieces(self) -> Iterator[bytes | memoryview]:
        """All of it, from the beginning, whenever called."""


class BytesBody:
    """A body in memory."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data).cast("B")

    @property
    def size(self) -> int:
        return self._data.nbytes

    def pieces(self) -> Iterator[memoryview]:
        for start in range(0, self._data.nbytes, _PIECE):
            yield self._data[start : start + _PIECE]


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    :ivar headers: never shown: they may carry credentials
    :ivar slow: whether the answer may take minutes, as that to the last request of an upload
    :ivar secret: whether its body is for nobody but the host it is addressed to
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: Body | None = field(default=None, repr=False)
    slow: bool = False
    secret: bool = False


class Response(Protocol):
    """An answer, of which status and headers have arrived."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Headers: ...

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes of the body as sent, without undoing content codings; empty at the end.

        :raises TransportError: the connection broke, or the body is shorter than announced
        """

    def close(self) -> None:
        """Let go of it; a connection whose response was read to the end is used again."""


class Transport(Protocol):
    """Makes requests. May be called from several threads at once."""

    def send(self, request: Request, *, verify: bool) -> Response:
        """One attempt, whatever the status.

        :param verify: whether the server's certificate must be trusted
        :raises TransportError: no answer
        """

    def close(self) -> None:
        """Close what is open."""


class Wanted(NamedTuple):
    """A small file to fetch, or a part of one.

    :ivar limit: the most bytes it may have
    :ivar offset: of the part, which has `limit` bytes or less at the file's end; None for the whole file
    """

    url: str
    limit: int
    offset: int | None = None


class Fetched(NamedTuple):
    """What came.

    :ivar status: HTTP's; 0 when there was no whole answer, or it was too large
    :ivar content: of a file, or with status 206 of a part; empty for any other status than 200
    :ivar error: why there was no whole answer; None when there was, or it was too large
    :ivar wait: seconds that the server asks to wait before the next attempt; 0 when it does not
    """

    status: int
    content: bytes
    error: TransportError | None = None
    wait: float = 0


@runtime_checkable
class Fetching(Protocol):
    """A transport that has a faster way for many small files. May be used from several threads at once."""

    def begin(
        self, wanted: Sequence[Wanted], headers: Mapping[str, str], *, verify: bool
    ) -> Callable[[], list[Fetched]]:
        """One attempt at a GET of each; they have one origin, and redirects are not followed.

        :returns: at once; what it returns waits for the answers, in order

        :raises TransportError: the URL has no origin
        """


def read_all(response: Response, limit: int) -> bytes | None:
    """The whole body, or None if it has more than `limit` bytes. The response is closed.

    :raises TransportError: it broke off
    """
    pieces, size = [], 0
    try:
        while piece := response.read(min(_PIECE, limit + 1 - size)):
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                return None
    finally:
        response.close()
    return b"".join(pieces)


def origin(url: str) -> Origin:
    """Scheme, host and port of an URL.

    :raises ValueError: the URL has none
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it is not an http or https URL")
    return parts.scheme, parts.hostname.lower(), parts.port or (443 if parts.scheme == "https" else 80)


def is_loopback(host: str) -> bool:
    """Whether `host` (with a port or without) is this machine by its name alone."""
    name = urlsplit(f"//{host}").hostname or ""
    return name in ("localhost", "::1") or (
        name.startswith("127.") and name.replace(".", "").isdigit() and name.count(".") == 3
    )
