"""What one side of casync's protocol said, recorded, in pieces: every message, and the ids that it asks for.

    CASYNC_SSH_PATH=./ssh-that-tees pycasync extract host:/etc.caidx etc
    pycasync dump said-by-host

Data of chunks, indexes and archives is shown by its size. What a message may say is asked of
`protocol.messages.MessageReader`; which may follow which depends on what the other side said, and is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

from casync_compat import schema
from casync_compat.dumping.pieces import Piece, Source, Value, parse
from casync_compat.errors import FormatError
from casync_compat.protocol.messages import MessageReader

__all__ = ["HELLO_MARK", "message_pieces"]

_HEADER = 16
_ROWS = {row.type: row for row in schema.MESSAGES}
HELLO_MARK = next(row.type for row in schema.MESSAGES if row.name == "HELLO").to_bytes(8, "little")
"""What stands at offset 8 of what either side says."""


def message_pieces(source: Source) -> Iterator[Piece]:
    """The pieces of a stream of messages. :raises FormatError: from the first one that is wrong, with its offset"""
    while source.peek(1):
        start = source.offset
        header = source.take(_HEADER, "message")
        size, type_ = (int.from_bytes(header[at : at + 8], "little") for at in (0, 8))
        row = _ROWS.get(type_)
        if row is None:
            raise FormatError(f"{type_:#x} is no type of a message", offset=start)
        if not row.smallest <= size <= row.largest:
            raise FormatError(f"{row.name} of {size} bytes, which it cannot have", offset=start)
        body = source.take(size - _HEADER, row.name, start)
        _judge(header + body, start)
        fields = parse(row.body, body, row.name, start)
        if row.name == "REQUEST":
            yield from _request(start, fields["flags"], body)
            continue
        if isinstance(data := fields.pop("data", None), bytes):
            fields["data_size"] = len(data)
        yield Piece(start, row.name, size, fields)


def _judge(message: bytes, start: int) -> None:
    reader = MessageReader()
    reader.receive(message)
    try:
        reader.next_message()
    except FormatError as error:
        raise FormatError(error.reason, offset=start) from None


def _request(start: int, flags: Value, body: bytes) -> Iterator[Piece]:
    """The header with the flags, and the ids."""
    first = len(body) % schema.CHUNK_ID_SIZE
    at = start + _HEADER + first
    yield Piece(start, "REQUEST", _HEADER + first, {"flags": flags})
    for place in range(first, len(body), schema.CHUNK_ID_SIZE):
        id_ = body[place : place + schema.CHUNK_ID_SIZE]
        yield Piece(at, "REQUEST_ID", len(id_), {"id": id_.hex()})
        at += len(id_)
