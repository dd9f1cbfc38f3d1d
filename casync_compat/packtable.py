"""The table at the end of a pack: which chunks it has, in their order, and how large each is.

    pack   chunk files one after another, then one zstd skippable frame with a table:
           frame magic (u32) frame size (u32); chunks times: id (32) stored size (u32) raw size (u32);
           chunks (u32) version (u32) magic (8)

All numbers are little-endian. Images have such packs (`oci.spec.packindex` finds chunks in many of them), and update
files have one. What a table says is checked when it is parsed, and what lies there when it is read: a chunk is what has
its id. No IO.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from casync_compat import _layouts
from casync_compat.errors import FormatError
from casync_compat.ids import ChunkId
from catar.structs import Fields

__all__ = ["FOOTER_SIZE", "PackRow", "pack_table", "parse_pack_table", "table_size", "table_size_of"]

_FRAME = Fields(*_layouts.PACK_TABLE_FRAME)
_ROW = Fields(*_layouts.PACK_TABLE_ROW)
_FOOTER = Fields(*_layouts.PACK_TABLE_FOOTER)

_pack_frame = _FRAME.writer("frame_size")
_pack_row = _ROW.writer("id", "stored_size", "raw_size")
_pack_footer = _FOOTER.writer("chunks")
_read_frame = _FRAME.reader("frame_size")
_read_footer = _FOOTER.reader("chunks")
_table_rows = _ROW.row_reader("id", "stored_size", "raw_size")

FOOTER_SIZE = _FOOTER.size
"""Bytes at a pack's end that tell how large its table is."""


@dataclass(frozen=True, slots=True)
class PackRow:
    """A row of a pack's own table; a chunk begins where the one before ends.

    :ivar stored: bytes it takes in the pack
    :ivar raw: bytes of the chunk itself
    """

    id: ChunkId
    stored: int
    raw: int


def table_size(chunks: int) -> int:
    """Bytes of the table at the end of a pack of so many chunks."""
    return _FRAME.size + chunks * _ROW.size + _FOOTER.size


def pack_table(rows: Sequence[PackRow]) -> bytes:
    """The table that ends a pack: a zstd frame that decoders skip."""
    body = b"".join(_pack_row(row.id, row.stored, row.raw) for row in rows)
    footer = _pack_footer(len(rows))
    return _pack_frame(len(body) + len(footer)) + body + footer


def table_size_of(tail: bytes) -> int:
    """Bytes of the table of a pack, from the last `FOOTER_SIZE` bytes of it, or more of them.

    :raises FormatError: it ends in none
    """
    if len(tail) < _FOOTER.size:
        raise FormatError("the pack is cut short")
    end = len(tail) - _FOOTER.size
    if not _FOOTER.has_constants(tail, end):
        raise FormatError("the pack does not end in a table of its chunks")
    return table_size(_read_footer(tail, end)[0])


def parse_pack_table(tail: bytes, pack_size: int) -> list[PackRow]:
    """The table of a pack.

    :param tail: the last bytes of the pack; any number, as long as the table is in it
    :param pack_size: bytes of the whole pack
    :raises FormatError: it has none, or one that does not fill the pack
    """
    size = table_size_of(tail)
    if size > len(tail):
        count = (size - table_size(0)) // _ROW.size
        raise FormatError(f"the table of the pack's {count} chunks is larger than it can be")
    start, end = len(tail) - size, len(tail) - _FOOTER.size
    (frame_size,) = _read_frame(tail, start)
    if not _FRAME.has_constants(tail, start) or frame_size != size - _FRAME.size:
        raise FormatError("the table of the pack is not framed as it should be")
    body = memoryview(tail)[start + _FRAME.size : end]
    rows = [PackRow(ChunkId(id_), stored, raw) for id_, stored, raw in _table_rows(body)]
    if sum(row.stored for row in rows) != pack_size - size:
        raise FormatError("the chunks in the pack's table do not fill the pack")
    return rows
