"""The pack index: where, in which pack, each chunk of an image lies; and the table that each pack carries itself.

    pack index   magic (8) version (u32) packs (u32) chunks (u32) zero (u32)
                 packs  times: sha256 (32) size (u64)
                 chunks times: id (32) pack (u16) stored size (u32) raw size (u32) offset (u40); ascending by id
    pack         chunk files one after another, then one zstd skippable frame with a table:
                 frame magic (u32) frame size (u32); chunks times: id (32) stored size (u32) raw size (u32);
                 chunks (u32) version (u32) magic (8)

All numbers are little-endian. The index stays one buffer that is searched in place; what it says is checked when it is
parsed, and what lies there when it is read: a chunk is what has its id. No IO.

    >>> index = PackIndex.parse(data, "oci:dir:tag")
    >>> index.find(chunk_id)
    ChunkPlace(pack=3, offset=81729, stored=27110, raw=65536)
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from casync_compat.chunker.params import MAX_CHUNK_SIZE
from casync_compat.ids import ChunkId
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor
from casync_compat.oci.spec.errors import ImageError

__all__ = [
    "MAX_CHUNKS",
    "MAX_PACKS",
    "PACK_INDEX_LIMIT",
    "ChunkPlace",
    "PackIndex",
    "PackRow",
    "pack_table",
    "parse_pack_table",
    "table_size",
]

_MAGIC = b"\x89PCIDX\r\n"  # as PNG's: shows when it went through something that changes line ends
_TABLE_MAGIC = b"\x89PCPAK\r\n"
_VERSION = 1
_HEADER = struct.Struct("<8sIIII")
_PACK = struct.Struct("<32sQ")
_CHUNK = struct.Struct("<32sHIIIB")  # the offset's low 32 bits, then its high 8
_SKIPPABLE = struct.Struct("<II")
_SKIPPABLE_MAGIC = 0x184D2A5A
"""One of the sixteen of RFC 8878 section 3.1.2; not one that seekable zstd (…5E) or zstd:chunked (…50) use."""
_ROW = struct.Struct("<32sII")
_FOOTER = struct.Struct("<II8s")

MAX_PACKS = 1000
"""Packs of an image. Every one is a descriptor of its manifest, and tools are slow beyond a few hundred."""
MAX_CHUNKS = 1 << 23
"""Chunks of an image: half a terabyte of them at the default size, in an index of 376 MiB."""
PACK_INDEX_LIMIT = _HEADER.size + MAX_PACKS * _PACK.size + MAX_CHUNKS * _CHUNK.size
"""Bytes of the largest pack index."""
_MAX_STORED = MAX_CHUNK_SIZE + MAX_CHUNK_SIZE // 8 + (64 << 10)


@dataclass(frozen=True, slots=True)
class ChunkPlace:
    """Where a chunk is.

    :ivar pack: number of the pack in the index
    :ivar offset: of its first byte in the pack
    :ivar stored: bytes it takes there
    :ivar raw: bytes of the chunk itself
    """

    pack: int
    offset: int
    stored: int
    raw: int


class PackIndex:
    """A parsed pack index.

    :ivar raw: its bytes
    :ivar packs: digest and size in bytes of each pack
    """

    __slots__ = ("_first", "_rows", "packs", "raw")

    def __init__(self, raw: bytes, packs: tuple[tuple[BlobDigest, int], ...]) -> None:
        self.raw = raw
        self.packs = packs
        self._first = _HEADER.size + len(packs) * _PACK.size
        self._rows = memoryview(raw)[self._first :]

    @classmethod
    def build(
        cls, packs: Sequence[tuple[BlobDigest, int]], chunks: Iterable[tuple[ChunkId, ChunkPlace]]
    ) -> PackIndex:
        """:param chunks: in any order, each id once"""
        rows = sorted(
            _CHUNK.pack(id_, at.pack, at.stored, at.raw, at.offset & 0xFFFFFFFF, at.offset >> 32)
            for id_, at in chunks
        )
        parts = [_HEADER.pack(_MAGIC, _VERSION, len(packs), len(rows), 0)]
        parts += [_PACK.pack(bytes.fromhex(digest.hex), size) for digest, size in packs]
        return cls(b"".join(parts + rows), tuple(packs))

    @classmethod
    def parse(cls, data: bytes, where: str) -> PackIndex:
        """:raises ImageError: it is malformed, or names places outside the packs"""
        if len(data) < _HEADER.size:
            raise ImageError(where, "the pack index is cut short")
        magic, version, packs, chunks, zero = _HEADER.unpack_from(data)
        if magic != _MAGIC:
            raise ImageError(where, "this is no pack index")
        if version != _VERSION or zero:
            raise ImageError(where, f"a pack index of version {version} is later than this program's")
        if packs > MAX_PACKS or chunks > MAX_CHUNKS:
            raise ImageError(where, f"a pack index of {packs} packs and {chunks} chunks is over the limit")
        if len(data) != _HEADER.size + packs * _PACK.size + chunks * _CHUNK.size:
            raise ImageError(
                where, f"the pack index has {len(data)} bytes, which is not what its header says"
            )
        first = _HEADER.size + packs * _PACK.size
        found = tuple(
            (BlobDigest("sha256", digest.hex()), size)
            for digest, size in _PACK.iter_unpack(memoryview(data)[_HEADER.size : first])
        )
        index = cls(data, found)
        index._check(where)
        return index

    def _check(self, where: str) -> None:
        ends = [size - table_size(0) for _, size in self.packs]
        last = b""
        for n, (id_, pack, stored, raw, low, high) in enumerate(_CHUNK.iter_unpack(self._rows)):
            if id_ <= last:
                raise ImageError(where, f"chunk {n} of the pack index is out of order, or there twice")
            last = id_
            if pack >= len(ends) or (high << 32 | low) + stored > ends[pack]:
                raise ImageError(where, f"chunk {id_.hex()} lies outside the packs, says the pack index")
            if not 0 < raw <= MAX_CHUNK_SIZE or not 0 < stored <= _MAX_STORED:
                raise ImageError(where, f"chunk {id_.hex()} has an impossible size, says the pack index")

    def check_packs(self, packs: Sequence[Descriptor], where: str) -> None:
        """:raises ImageError: the packs of the manifest are not those of the index, in its order"""
        if [(pack.digest, pack.size) for pack in packs] != list(self.packs):
            raise ImageError(where, "the pack index is about other packs than the manifest")

    def __len__(self) -> int:
        return len(self._rows) // _CHUNK.size

    def _id(self, number: int) -> bytes:
        at = number * _CHUNK.size
        return self._rows[at : at + 32].tobytes()

    def find(self, id: ChunkId) -> ChunkPlace | None:
        """Where a chunk is; None when the image does not have it."""
        number = bisect_left(range(len(self)), bytes(id), key=self._id)
        if number == len(self):
            return None
        found, pack, stored, raw, low, high = _CHUNK.unpack_from(self._rows, number * _CHUNK.size)
        return ChunkPlace(pack, high << 32 | low, stored, raw) if found == id else None

    def __iter__(self) -> Iterator[tuple[ChunkId, ChunkPlace]]:
        for id_, pack, stored, raw, low, high in _CHUNK.iter_unpack(self._rows):
            yield ChunkId(id_), ChunkPlace(pack, high << 32 | low, stored, raw)


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
    return _SKIPPABLE.size + chunks * _ROW.size + _FOOTER.size


def pack_table(rows: Sequence[PackRow]) -> bytes:
    """The table that ends a pack: a zstd frame that decoders skip."""
    body = b"".join(_ROW.pack(row.id, row.stored, row.raw) for row in rows)
    footer = _FOOTER.pack(len(rows), _VERSION, _TABLE_MAGIC)
    return _SKIPPABLE.pack(_SKIPPABLE_MAGIC, len(body) + len(footer)) + body + footer


def parse_pack_table(tail: bytes, pack_size: int, where: str) -> list[PackRow]:
    """The table of a pack.

    :param tail: the last bytes of the pack; any number, as long as the table is in it
    :param pack_size: bytes of the whole pack
    :raises ImageError: it has none, or one that does not fill the pack
    """
    if len(tail) < _FOOTER.size:
        raise ImageError(where, "the pack is cut short")
    count, version, magic = _FOOTER.unpack_from(tail, len(tail) - _FOOTER.size)
    if magic != _TABLE_MAGIC or version != _VERSION:
        raise ImageError(where, "the pack does not end in a table of its chunks")
    size = table_size(count)
    if size > len(tail):
        raise ImageError(where, f"the table of the pack's {count} chunks is larger than it can be")
    start = len(tail) - size
    frame_magic, frame_size = _SKIPPABLE.unpack_from(tail, start)
    if frame_magic != _SKIPPABLE_MAGIC or frame_size != size - _SKIPPABLE.size:
        raise ImageError(where, "the table of the pack is not framed as it should be")
    body = memoryview(tail)[start + _SKIPPABLE.size : len(tail) - _FOOTER.size]
    rows = [PackRow(ChunkId(id_), stored, raw) for id_, stored, raw in _ROW.iter_unpack(body)]
    if sum(row.stored for row in rows) != pack_size - size:
        raise ImageError(where, "the chunks in the pack's table do not fill the pack")
    return rows
