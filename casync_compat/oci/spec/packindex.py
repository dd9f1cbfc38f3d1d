"""The pack index: where, in which pack, each chunk of an image lies.

    pack index   magic (8) version (u32) packs (u32) chunks (u32) zero (u32)
                 packs  times: sha256 (32) size (u64)
                 chunks times: id (32) pack (u16) stored size (u32) raw size (u32) offset (u40); ascending by id

All numbers are little-endian; what a pack is says `casync_compat.packtable`. The index stays one buffer that is
searched in place; what it says is checked when it is parsed, and what lies there when it is read: a chunk is what
has its id. No IO.

    >>> index = PackIndex.parse(data, "oci:dir:tag")
    >>> index.find(chunk_id)
    ChunkPlace(pack=3, offset=81729, stored=27110, raw=65536)
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from casync_compat import _layouts, packtable
from casync_compat.errors import FormatError
from casync_compat.ids import ChunkId
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor
from casync_compat.oci.spec.errors import ImageError
from casync_compat.packtable import PackRow, pack_table, table_size
from catar.structs import Fields

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

_HEADER = Fields(*_layouts.PACK_INDEX_HEADER)
_PACK = Fields(*_layouts.PACK_INDEX_PACK)
_CHUNK = Fields(*_layouts.PACK_INDEX_CHUNK)
_ID = _CHUNK.at("id")
_PLACE = ("id", "pack", "stored_size", "raw_size", "offset_low", "offset_high")

_pack_header = _HEADER.writer("packs", "chunks")
_pack_pack = _PACK.writer("sha256", "size")
_pack_chunk = _CHUNK.writer(*_PLACE)
_read_header = _HEADER.reader("version", "packs", "chunks")
_read_chunk = _CHUNK.reader(*_PLACE)
_packs = _PACK.row_reader("sha256", "size")
_chunks = _CHUNK.row_reader(*_PLACE)

MAX_PACKS = _layouts.MAX_PACKS
MAX_CHUNKS = _layouts.MAX_PACK_CHUNKS
PACK_INDEX_LIMIT = _HEADER.size + MAX_PACKS * _PACK.size + MAX_CHUNKS * _CHUNK.size
"""Bytes of the largest pack index."""


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
            _pack_chunk(id_, at.pack, at.stored, at.raw, at.offset & 0xFFFFFFFF, at.offset >> 32)
            for id_, at in chunks
        )
        parts = [_pack_header(len(packs), len(rows))]
        parts += [_pack_pack(bytes.fromhex(digest.hex), size) for digest, size in packs]
        return cls(b"".join(parts + rows), tuple(packs))

    @classmethod
    def parse(cls, data: bytes, where: str) -> PackIndex:
        """:raises ImageError: it is malformed, or names places outside the packs"""
        if len(data) < _HEADER.size:
            raise ImageError(where, "the pack index is cut short")
        if not _HEADER.has_constants(data, 0, "magic"):
            raise ImageError(where, "this is no pack index")
        version, packs, chunks = _read_header(data, 0)
        if not _HEADER.has_constants(data, 0):
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
            for digest, size in _packs(memoryview(data)[_HEADER.size : first])
        )
        index = cls(data, found)
        index._check(where)
        return index

    def _check(self, where: str) -> None:
        ends = [size - table_size(0) for _, size in self.packs]
        last = b""
        for n, (id_, pack, stored, raw, low, high) in enumerate(_chunks(self._rows)):
            if id_ <= last:
                raise ImageError(where, f"chunk {n} of the pack index is out of order, or there twice")
            last = id_
            if pack >= len(ends) or (high << 32 | low) + stored > ends[pack]:
                raise ImageError(where, f"chunk {id_.hex()} lies outside the packs, says the pack index")
            if not 0 < raw <= _layouts.MAX_CHUNK_SIZE or not 0 < stored <= _layouts.MAX_STORED_SIZE:
                raise ImageError(where, f"chunk {id_.hex()} has an impossible size, says the pack index")

    def check_packs(self, packs: Sequence[Descriptor], where: str) -> None:
        """:raises ImageError: the packs of the manifest are not those of the index, in its order"""
        if [(pack.digest, pack.size) for pack in packs] != list(self.packs):
            raise ImageError(where, "the pack index is about other packs than the manifest")

    def __len__(self) -> int:
        return len(self._rows) // _CHUNK.size

    def _id(self, number: int) -> bytes:
        at = number * _CHUNK.size + _ID
        return self._rows[at : at + _layouts.CHUNK_ID_SIZE].tobytes()

    def find(self, id: ChunkId) -> ChunkPlace | None:
        """Where a chunk is; None when the image does not have it."""
        number = bisect_left(range(len(self)), bytes(id), key=self._id)
        if number == len(self):
            return None
        found, pack, stored, raw, low, high = _read_chunk(self._rows, number * _CHUNK.size)
        return ChunkPlace(pack, high << 32 | low, stored, raw) if found == id else None

    def __iter__(self) -> Iterator[tuple[ChunkId, ChunkPlace]]:
        for id_, pack, stored, raw, low, high in _chunks(self._rows):
            yield ChunkId(id_), ChunkPlace(pack, high << 32 | low, stored, raw)


def parse_pack_table(tail: bytes, pack_size: int, where: str) -> list[PackRow]:
    """The table of an image's pack, as `casync_compat.packtable` reads it.

    :raises ImageError: it has none, or one that does not fill the pack
    """
    try:
        return packtable.parse_pack_table(tail, pack_size)
    except FormatError as error:
        raise ImageError(where, error.reason) from error
