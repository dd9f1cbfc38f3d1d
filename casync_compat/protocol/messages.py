"""Messages of casync's protocol as values, to bytes and back.

    >>> reader = MessageReader()
    >>> reader.receive(encode(Hello(Terms.PULL_INDEX)))
    >>> reader.next_message()
    Hello(terms=<Terms.PULL_INDEX: 128>)

Sizes, types and limits are those of the rows of `casync_compat.schema`. What may be said when is not known here
(`protocol.connection`), and neither is what the bytes of an index, an archive or a chunk mean.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from casync_compat import _layouts
from casync_compat.errors import FormatError, show_path
from casync_compat.ids import CHUNK_ID_SIZE, ChunkId
from catar.inbox import Inbox
from catar.layouts import HEADER
from catar.structs import Layout, Tail

__all__ = [
    "Abort",
    "ArchiveEnd",
    "ArchivePart",
    "ChunkAbsent",
    "ChunkReply",
    "ChunkRequest",
    "Farewell",
    "Hello",
    "IndexEnd",
    "IndexPart",
    "Message",
    "MessageReader",
    "Terms",
    "encode",
]


class Terms(enum.IntFlag):
    """What one side offers, and what it wants to do (`CA_PROTOCOL_READABLE_STORE` and so on)."""

    READABLE_STORE = _layouts.HELLO_READABLE_STORE
    WRITABLE_STORE = _layouts.HELLO_WRITABLE_STORE
    READABLE_INDEX = _layouts.HELLO_READABLE_INDEX
    WRITABLE_INDEX = _layouts.HELLO_WRITABLE_INDEX
    READABLE_ARCHIVE = _layouts.HELLO_READABLE_ARCHIVE
    WRITABLE_ARCHIVE = _layouts.HELLO_WRITABLE_ARCHIVE
    PULL_CHUNKS = _layouts.HELLO_PULL_CHUNKS
    PULL_INDEX = _layouts.HELLO_PULL_INDEX
    PULL_ARCHIVE = _layouts.HELLO_PULL_ARCHIVE
    PUSH_CHUNKS = _layouts.HELLO_PUSH_CHUNKS
    PUSH_INDEX = _layouts.HELLO_PUSH_INDEX
    PUSH_INDEX_CHUNKS = _layouts.HELLO_PUSH_INDEX_CHUNKS
    PUSH_ARCHIVE = _layouts.HELLO_PUSH_ARCHIVE


_ALL_TERMS = sum(Terms)


@dataclass(frozen=True, slots=True)
class Hello:
    """The first that each side says."""

    terms: Terms


@dataclass(frozen=True, slots=True)
class IndexPart:
    """The next bytes of the index file."""

    data: bytes


@dataclass(frozen=True, slots=True)
class IndexEnd:
    """The index file was sent whole."""


@dataclass(frozen=True, slots=True)
class ArchivePart:
    """The next bytes of the archive."""

    data: bytes


@dataclass(frozen=True, slots=True)
class ArchiveEnd:
    """The archive was sent whole."""


@dataclass(frozen=True, slots=True)
class ChunkRequest:
    """Chunks that the other side is to send.

    :ivar urgent: whether they are needed now, before all that was asked for without
    """

    ids: tuple[ChunkId, ...]
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class ChunkReply:
    """A chunk that was asked for.

    :ivar compressed: whether `data` is compressed, with whatever its first bytes say
    """

    id: ChunkId
    data: bytes
    compressed: bool


@dataclass(frozen=True, slots=True)
class ChunkAbsent:
    """A chunk that was asked for, and is not there."""

    id: ChunkId


@dataclass(frozen=True, slots=True)
class Farewell:
    """All is done: the sender has what it wanted (GOODBYE)."""


@dataclass(frozen=True, slots=True)
class Abort:
    """The sender gives up.

    :ivar error: an error number of its system, 0 for none
    :ivar reason: for people; without control characters
    """

    error: int
    reason: bytes


Message: TypeAlias = (
    Hello
    | IndexPart
    | IndexEnd
    | ArchivePart
    | ArchiveEnd
    | ChunkRequest
    | ChunkReply
    | ChunkAbsent
    | Farewell
    | Abort
)

_ROWS = {
    name: Layout(name, type_, smallest, largest, fields, Tail[tail])
    for name, type_, smallest, largest, fields, tail in _layouts.RECORDS
}
_HELLO, _REQUEST, _CHUNK, _MISSING, _ABORT = (
    _ROWS[name] for name in ("HELLO", "REQUEST", "CHUNK", "MISSING", "ABORT")
)
_PLAIN: Mapping[type[Message], Layout] = {
    IndexPart: _ROWS["INDEX"],
    IndexEnd: _ROWS["INDEX_EOF"],
    ArchivePart: _ROWS["ARCHIVE"],
    ArchiveEnd: _ROWS["ARCHIVE_EOF"],
    Farewell: _ROWS["GOODBYE"],
}
"""Those that have at most bytes in them."""


def encode(message: Message) -> bytes:
    """A message as bytes.

    :raises ValueError: it is larger or smaller than it may be
    """
    layout, data = _packed(message)
    if not layout.accepts(len(data)):
        raise ValueError(f"{layout.name} of {len(data)} bytes")
    return data


def _packed(message: Message) -> tuple[Layout, bytes]:
    match message:
        case Hello(terms):
            return _HELLO, _HELLO.pack(int(terms))
        case ChunkRequest(ids, urgent):
            flags = _layouts.REQUEST_URGENT if urgent else 0
            return _REQUEST, _REQUEST.pack(flags, tail=b"".join(ids))
        case ChunkReply(id, data, compressed):
            return _CHUNK, _CHUNK.pack(_layouts.CHUNK_COMPRESSED if compressed else 0, id, tail=data)
        case ChunkAbsent(id):
            return _MISSING, _MISSING.pack(id)
        case Abort(error, reason):
            return _ABORT, _ABORT.pack(error, tail=reason + b"\0")
        case IndexPart(data) | ArchivePart(data):
            layout = _PLAIN[type(message)]
            return layout, layout.pack(tail=data)
    layout = _PLAIN[type(message)]
    return layout, layout.pack()


# ---- and back


def _hello(record: bytes) -> Message:
    flags = _HELLO.head.unpack(record)[2]
    if not flags or flags & ~_ALL_TERMS:
        raise FormatError(f"it greets with unknown flags, {flags:#x}")
    return Hello(Terms(flags))


def _request(record: bytes) -> Message:
    flags = _REQUEST.head.unpack_from(record)[2]
    size = _REQUEST.head.size
    if flags & ~_layouts.REQUEST_URGENT or (len(record) - size) % CHUNK_ID_SIZE:
        raise FormatError("a request for chunks is malformed")
    ids = (ChunkId(record[at : at + CHUNK_ID_SIZE]) for at in range(size, len(record), CHUNK_ID_SIZE))
    return ChunkRequest(tuple(ids), bool(flags))


def _chunk(record: bytes) -> Message:
    _, _, flags, id = _CHUNK.head.unpack_from(record)
    if flags & ~_layouts.CHUNK_COMPRESSED:
        raise FormatError("a chunk has unknown flags")
    return ChunkReply(ChunkId(id), record[_CHUNK.head.size :], bool(flags))


def _missing(record: bytes) -> Message:
    return ChunkAbsent(ChunkId(_MISSING.head.unpack(record)[2]))


def _abort(record: bytes) -> Message:
    error = _ABORT.head.unpack_from(record)[2]
    reason, nul, rest = record[_ABORT.head.size :].partition(b"\0")
    if error > _layouts.ABORT_ERROR_MAX or not nul or rest:
        raise FormatError("an abort is malformed")
    return Abort(error, reason)


_READERS: Mapping[int, tuple[Layout, Callable[[bytes], Message]]] = {
    layout.type: (layout, read)
    for layout, read in (
        (_HELLO, _hello),
        (_ROWS["INDEX"], lambda record: IndexPart(record[HEADER.size :])),
        (_ROWS["INDEX_EOF"], lambda record: IndexEnd()),
        (_ROWS["ARCHIVE"], lambda record: ArchivePart(record[HEADER.size :])),
        (_ROWS["ARCHIVE_EOF"], lambda record: ArchiveEnd()),
        (_REQUEST, _request),
        (_CHUNK, _chunk),
        (_MISSING, _missing),
        (_ROWS["GOODBYE"], lambda record: Farewell()),
        (_ABORT, _abort),
    )
}
_SHOWN = 60


class MessageReader:
    """Makes messages of bytes that come in any pieces. Holds no more than one message and a piece."""

    def __init__(self) -> None:
        self._inbox = Inbox(0)

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._inbox.ended

    def receive(self, data: bytes) -> None:
        """Add bytes; none says that there are no more."""
        self._inbox.receive(data)

    def next_message(self) -> Message | None:
        """The next message; None when it is not there whole yet, or there is none after the end.

        :raises FormatError: there is something else, or the bytes end within a message
        """
        inbox = self._inbox
        if not inbox.has(HEADER.size):
            self._check_end()
            return None
        size, type_ = HEADER.unpack_from(inbox.data, inbox.pos)
        layout, read = _READERS.get(type_, (None, None))
        if layout is None or read is None or not layout.accepts(size):
            raise self._foreign(layout, size)
        if not inbox.has(size):
            self._check_end()
            return None
        at = inbox.offset
        record = inbox.data[inbox.pos : inbox.pos + size]
        inbox.pos += size
        try:
            return read(record)
        except FormatError as error:
            raise FormatError(error.reason, None, at) from None

    def _check_end(self) -> None:
        """What is not whole when no more will come is an error."""
        if self._inbox.ended and self._inbox.end > self._inbox.offset:
            rest = self._inbox.rest()
            if len(rest) < HEADER.size:
                raise self._foreign(None, 0)
            raise FormatError("it ends within a message", None, self._inbox.end)

    def _foreign(self, layout: Layout | None, size: int) -> FormatError:
        at = self._inbox.offset
        if layout is not None:
            return FormatError(f"{layout.name} of {size} bytes, which it cannot have", None, at)
        begin = show_path(self._inbox.rest()[:_SHOWN])
        return FormatError(f"this is no message of casync's protocol: {begin}", None, at)
