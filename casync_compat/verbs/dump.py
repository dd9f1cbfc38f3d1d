"""A file of one of our formats, piece by piece: offset, type, every declared field and its value.

    >>> with open("etc.catar", "rb") as file:
    ...     for piece in pieces(file, b"etc.catar"):
    ...         print(text_line(piece))

The file is told by its first bytes, and by its suffix where those are damaged. It is read as a stream, once (a pack,
which is told by its end, must be seekable). Pieces come until the first that is wrong: then a `FormatError` says where
that begins and which rule it breaks. For looking at files by hand, and at what is wrong with them: whoever wants speed
reads them with `catar.Decoder` or `Index`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TypeAlias

from casync_compat.dumping.archive import ENTRY_MARK, archive_pieces
from casync_compat.dumping.cachefile import CACHE_MAGIC, cache_pieces
from casync_compat.dumping.images import (
    PACK_INDEX_MAGIC,
    PACK_TABLE_MAGIC,
    RECIPE_MAGIC,
    pack_index_pieces,
    pack_pieces,
    recipe_pieces,
)
from casync_compat.dumping.messages import HELLO_MARK, message_pieces
from casync_compat.dumping.packedstores import HEAD_MAGIC, SEGMENT_MAGIC, head_pieces, segment_pieces
from casync_compat.dumping.pieces import Piece, Source, Value
from casync_compat.dumping.tables import CHUNK_MARKS, INDEX_MARK, chunk_pieces, index_pieces
from casync_compat.errors import FormatError
from casync_compat.nodeview import put_bytes
from casync_compat.textform import escape

__all__ = ["Piece", "json_line", "pieces", "text_line"]

_Reader: TypeAlias = Callable[[Source], Iterator[Piece]]

_MARKS: dict[bytes, _Reader] = {
    ENTRY_MARK: archive_pieces,
    INDEX_MARK: index_pieces,
    RECIPE_MAGIC: recipe_pieces,
    HELLO_MARK: message_pieces,
}
"""What stands at offset 8, where records have their type."""
_BEGINNINGS: dict[bytes, _Reader] = {
    PACK_INDEX_MAGIC: pack_index_pieces,
    SEGMENT_MAGIC: segment_pieces,
    HEAD_MAGIC: head_pieces,
    CACHE_MAGIC: cache_pieces,
}
"""What a file begins with."""
_SUFFIXES: dict[bytes, _Reader] = {
    b".catar": archive_pieces,
    b".caidx": index_pieces,
    b".caibx": index_pieces,
}
_HEXADECIMAL = frozenset(
    {"feature_flags", "flags", "hash", "marker", "index_type", "table_type", "frame_magic"}
)
_LOOKED_AT = 16


def pieces(file: BinaryIO, name: bytes = b"") -> Iterator[Piece]:
    """The pieces of a file.

    :param file: binary; need not be seekable
    :param name: of the file, for its suffix; empty when it has none
    :raises FormatError: with the offset of the first piece that is wrong, once those before it were given
    """
    source = Source(file)
    return _reader(source.peek(_LOOKED_AT), source.last(len(PACK_TABLE_MAGIC))[0], name)(source)


def _reader(head: bytes, tail: bytes, name: bytes) -> _Reader:
    if head[8:] in _MARKS:
        return _MARKS[head[8:]]
    for magic, reader in _BEGINNINGS.items():
        if head.startswith(magic):
            return reader
    if tail == PACK_TABLE_MAGIC:
        return pack_pieces
    if any(head.startswith(mark) for mark in CHUNK_MARKS):
        return chunk_pieces
    for suffix, reader in _SUFFIXES.items():
        if name.endswith(suffix):
            return reader
    raise FormatError(
        "by its first bytes neither archive, index, compressed chunk, pack, pack index, recipe, cache, "
        "head or segment of a packed store nor what was said in casync's protocol",
        offset=0,
    )


def text_line(piece: Piece) -> bytes:
    """A piece as a line for people, with its newline. Names are escaped as in listings."""
    words = [b"%12d %-17b %8d" % (piece.offset, piece.type.encode(), piece.size)]
    words += [b"%b=%b" % (name.encode(), _text(name, value)) for name, value in piece.fields.items()]
    if piece.inside:
        words.append(f"inside={piece.inside}".encode())
    return b" ".join(words) + b"\n"


def _text(name: str, value: Value) -> bytes:
    shown = _shown(name, value)
    return escape(shown) if isinstance(shown, bytes) else b"-" if shown is None else str(shown).encode()


def _shown(name: str, value: Value) -> Value:
    if isinstance(value, int):
        if name == "mode":
            return f"{value:#o}"
        if name in _HEXADECIMAL:
            return f"{value:#x}"
    return value


def json_line(piece: Piece) -> bytes:
    """A piece as one JSON object in pure ASCII, with its newline: `offset`, `type`, `size`, `fields`.

    Flag words, hashes and markers are hexadecimal text and modes octal text, as many readers of JSON lose digits beyond
    2^53. Names are text where they are UTF-8, else base64 under `NAME_base64`. `inside` names the compressed piece in
    whose contents `offset` and `size` count; without it they count in the file.
    """
    fields: dict[str, Any] = {}
    for name, value in piece.fields.items():
        shown = _shown(name, value)
        if isinstance(shown, bytes):
            put_bytes(fields, name, shown)
        else:
            fields[name] = shown
    out: dict[str, Any] = {"offset": piece.offset, "type": piece.type, "size": piece.size, "fields": fields}
    if piece.inside:
        out["inside"] = piece.inside
    return json.dumps(out).encode("ascii") + b"\n"
