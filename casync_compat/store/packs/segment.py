"""A segment: a part of the index of a packed store, which says where in which pack each chunk is.

    magic (8) version (u32) packs (u32) chunks (u32) zero (u32) generation (u64)
    packs  times: sha256 (32) size (u64)
    chunks times: id (32) pack (u16) stored size (u32) raw size (u32) offset (u40); ascending by id

Numbers are little-endian, and rows those of an image's pack index. A segment stays one buffer that is searched in
place. What it says of a chunk is checked when that is asked for, so that opening a store of a million chunks costs one
read: rows out of order are not found, places outside a pack are refused. No IO.

    >>> segment = Segment.parse(data)
    >>> segment.find(chunk_id)
    PackedPlace(pack=b'...', offset=81729, stored=27110, raw=65536)
"""

from __future__ import annotations

import heapq
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from casync_compat import _layouts
from casync_compat.errors import FormatError
from casync_compat.ids import ChunkId
from casync_compat.packtable import table_size
from catar.structs import Fields

__all__ = [
    "MAX_CHUNKS",
    "MAX_PACKS",
    "Pack",
    "PackedPlace",
    "PackedRow",
    "Segment",
    "merged",
    "segment_limit",
]

_HEADER = Fields(*_layouts.SEGMENT_HEADER)
_PACK = Fields(*_layouts.PACK_INDEX_PACK)
_CHUNK = Fields(*_layouts.PACK_INDEX_CHUNK)
_ROW = ("id", "pack", "stored_size", "raw_size", "offset_low", "offset_high")

_write_header = _HEADER.writer("packs", "chunks", "generation")
_write_pack = _PACK.writer("sha256", "size")
_write_row = _CHUNK.writer(*_ROW)
_read_header = _HEADER.reader("version", "packs", "chunks", "generation")
_read_row = _CHUNK.reader(*_ROW)
_packs = _PACK.row_reader("sha256", "size")
_rows = _CHUNK.row_reader(*_ROW)
_ID = _CHUNK.at("id")

MAX_PACKS = _layouts.MAX_PACKS
MAX_CHUNKS = _layouts.MAX_SEGMENT_CHUNKS


class Pack(NamedTuple):
    """A pack.

    :ivar sha256: of its content, and so its name
    :ivar size: in bytes
    """

    sha256: bytes
    size: int


class PackedPlace(NamedTuple):
    """Where a chunk is.

    :ivar pack: the pack's sha256
    :ivar offset: of its first byte in the pack
    :ivar stored: bytes it takes there
    :ivar raw: bytes of the chunk itself
    """

    pack: bytes
    offset: int
    stored: int
    raw: int


class PackedRow(NamedTuple):
    """A chunk, and where it is."""

    id: ChunkId
    place: PackedPlace


def segment_limit(packs: int, chunks: int) -> int:
    """Bytes of a segment of so many packs and chunks."""
    return _HEADER.size + packs * _PACK.size + chunks * _CHUNK.size


class Segment:
    """A parsed segment.

    :ivar raw: its bytes
    :ivar packs: those that its chunks are in
    :ivar generation: of the head that it was written for
    """

    __slots__ = ("_rows", "generation", "packs", "raw")

    def __init__(self, raw: bytes, packs: tuple[Pack, ...], generation: int) -> None:
        self.raw = raw
        self.packs = packs
        self.generation = generation
        self._rows = memoryview(raw)[segment_limit(len(packs), 0) :]

    @classmethod
    def build(cls, packs: Sequence[Pack], rows: Iterable[PackedRow], generation: int) -> Segment:
        """:param rows: ascending by id, each id once; their packs are among `packs`"""
        number = {pack.sha256: n for n, pack in enumerate(packs)}
        body = bytearray()
        for id_, at in rows:
            body += _write_row(
                id_, number[at.pack], at.stored, at.raw, at.offset & 0xFFFFFFFF, at.offset >> 32
            )
        head = _write_header(len(packs), len(body) // _CHUNK.size, generation)
        return cls(b"".join([head, *(_write_pack(*pack) for pack in packs), body]), tuple(packs), generation)

    @classmethod
    def parse(cls, data: bytes) -> Segment:
        """:raises FormatError: it is malformed, or over a limit"""
        if len(data) < _HEADER.size or not _HEADER.has_constants(data, 0, "magic"):
            raise FormatError("this is no segment of a packed store's index")
        version, packs, chunks, generation = _read_header(data, 0)
        if not _HEADER.has_constants(data, 0):
            raise FormatError(f"a segment of version {version} is later than this program's")
        if packs > MAX_PACKS or chunks > MAX_CHUNKS:
            raise FormatError(f"a segment of {packs} packs and {chunks} chunks is over the limit")
        if len(data) != segment_limit(packs, chunks):
            raise FormatError(f"the segment has {len(data)} bytes, which is not what its header says")
        table = memoryview(data)[_HEADER.size : segment_limit(packs, 0)]
        found = tuple(Pack(sha256, size) for sha256, size in _packs(table))
        for pack in found:
            if not table_size(0) < pack.size <= _layouts.MAX_STORE_PACK:
                raise FormatError(f"a pack of {pack.size} bytes cannot be")
        return cls(data, found, generation)

    def __len__(self) -> int:
        return len(self._rows) // _CHUNK.size

    def _id(self, number: int) -> bytes:
        at = number * _CHUNK.size + _ID
        return self._rows[at : at + _layouts.CHUNK_ID_SIZE].tobytes()

    def find(self, id: bytes) -> PackedPlace | None:
        """Where a chunk is; None when it is not here.

        :raises FormatError: it is said to be where it cannot be
        """
        number = bisect_left(range(len(self)), id, key=self._id)
        if number == len(self):
            return None
        found, *place = _read_row(self._rows, number * _CHUNK.size)
        return self._place(found, *place) if found == id else None

    def _place(self, id: bytes, pack: int, stored: int, raw: int, low: int, high: int) -> PackedPlace:
        offset = high << 32 | low
        if pack >= len(self.packs) or offset + stored > self.packs[pack].size - table_size(1):
            raise FormatError(f"chunk {id.hex()} lies outside the packs, says the index")
        if not 0 < raw <= _layouts.MAX_CHUNK_SIZE or not 0 < stored <= _layouts.MAX_STORED_SIZE:
            raise FormatError(f"chunk {id.hex()} has an impossible size, says the index")
        return PackedPlace(self.packs[pack].sha256, offset, stored, raw)

    def __iter__(self) -> Iterator[PackedRow]:
        """All rows. :raises FormatError: they are out of order, or say what cannot be"""
        last = b""
        for id_, *place in _rows(self._rows):
            if id_ <= last:
                raise FormatError(f"chunk {id_.hex()} of the index is out of order, or there twice")
            last = id_
            yield PackedRow(ChunkId(id_), self._place(id_, *place))

    def row(self, number: int) -> PackedRow:
        """One row. :raises FormatError: it says what cannot be"""
        id_, *place = _read_row(self._rows, number * _CHUNK.size)
        return PackedRow(ChunkId(id_), self._place(id_, *place))

    def by_pack(self) -> Iterator[array[int]]:
        """The numbers of the rows of each pack, as they lie in it."""
        numbers = [array("I") for _ in self.packs]
        offsets = [array("Q") for _ in self.packs]
        for number, (_, pack, _, _, low, high) in enumerate(_rows(self._rows)):
            if pack < len(numbers):
                numbers[pack].append(number)
                offsets[pack].append(high << 32 | low)
        for rows, at in zip(numbers, offsets, strict=True):
            yield array("I", (number for _, number in sorted(zip(at, rows, strict=True))))

    def ids(self) -> Iterator[ChunkId]:
        """The ids, as they stand there."""
        return (ChunkId(id_) for id_, *_ in _rows(self._rows))


def merged(
    segments: Sequence[Iterable[PackedRow]], wanted: Callable[[PackedRow], bool] = lambda row: True
) -> Iterator[PackedRow]:
    """The rows of several segments in order, each chunk once: where the first of them has it."""
    last = b""
    for row in heapq.merge(*segments, key=lambda row: row.id):
        if row.id != last and wanted(row):
            last = row.id
            yield row
