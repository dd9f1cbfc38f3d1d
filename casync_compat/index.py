"""Index files (.caidx over an archive, .caibx over a blob): which chunks, in which order, make up a stream.

Bytes in, `Index` out, and back; only `Index.load` opens a file, the one that it is given. The chunk table is kept as
one buffer, forty bytes a chunk, and never unpacked into a list of objects; `IndexBuilder` grows the same buffer. The
declarations are in `casync_compat.schema`.

    >>> index = Index.load("disk.caibx")
    >>> for chunk in index: print(chunk.id, chunk.size)
"""

from __future__ import annotations

import io
import os
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, compress
from operator import sub
from typing import BinaryIO, NamedTuple

from casync_compat import _layouts
from casync_compat.chunker.params import ChunkSizes
from casync_compat.errors import FileError, FormatError, UsageError
from casync_compat.ids import ChunkId, Digest
from catar.flags import FeatureFlags, is_normalised
from catar.structs import Fields

__all__ = [
    "MAX_INDEX_SIZE",
    "Index",
    "IndexBuilder",
    "IndexChunk",
    "IndexInbox",
    "digest_bits",
    "digest_of_flags",
    "file_size",
]

MAX_INDEX_SIZE = 1 << 30
"""Largest index file that is read, in bytes: 26 million chunks."""

_PIECE = 1 << 20
_TOGETHER = 1 << 20
"""Chunks that are told apart at a time; 200 MB."""

_HEADER = Fields(*_layouts.INDEX_HEADER)
_ITEM = Fields(*_layouts.INDEX_ITEM)
_END, _ID_AT, _ID_SIZE = _ITEM.at("end") // 8, _ITEM.at("id"), 32
_TAIL = Fields(*_layouts.INDEX_TAIL)
_TABLE = _HEADER.at("table_size")  # where the TABLE record begins
_SIZES = ("chunk_size_min", "chunk_size_avg", "chunk_size_max")

_pack_header = _HEADER.writer("feature_flags", *_SIZES)
_pack_item = _ITEM.writer("end", "id")
_pack_tail = _TAIL.writer("table_size")
_read_settings = _HEADER.reader("feature_flags", *_SIZES)
_read_item = _ITEM.reader("end", "id")
_read_table_size = _TAIL.reader("table_size")
_items = _ITEM.row_reader("end", "id")


def file_size(count: int) -> int:
    """Bytes of the index of a stream of `count` chunks."""
    return _HEADER.size + count * _ITEM.size + _TAIL.size


def digest_of_flags(feature_flags: int) -> Digest:
    """The digest that a flag word says chunk ids and archive digests are made with."""
    if feature_flags & FeatureFlags.BLAKE3:
        return Digest.BLAKE3
    return Digest.SHA512_256 if feature_flags & FeatureFlags.SHA512_256 else Digest.SHA256


def digest_bits(digest: Digest) -> int:
    """The bits of the feature flag word that stand for a digest."""
    bits = {Digest.SHA512_256: FeatureFlags.SHA512_256, Digest.BLAKE3: FeatureFlags.BLAKE3}
    return int(bits.get(digest, FeatureFlags(0)))


class IndexChunk(NamedTuple):
    """One row of an index.

    :ivar start: offset in the stream of the chunk's first byte
    :ivar size: in bytes
    """

    id: ChunkId
    start: int
    size: int

    @property
    def end(self) -> int:
        return self.start + self.size


@dataclass(frozen=True, slots=True)
class Index:
    """A parsed index. Its length is the number of its chunks; `index[i]` is one of them, and iterating gives all.

    :ivar feature_flags: the flag word of the header
    :ivar sizes: the chunk sizes that the stream was cut with
    :ivar table: the items, forty bytes a chunk, as they stand in the file
    """

    feature_flags: int
    sizes: ChunkSizes
    table: bytes

    def __repr__(self) -> str:
        return (
            f"<Index: {len(self)} chunks of {self.size} bytes, {self.sizes}, "
            f"feature flags {self.feature_flags:#x}>"
        )

    @classmethod
    def load(
        cls,
        file: BinaryIO | str | bytes | os.PathLike[str] | os.PathLike[bytes],
        name: bytes | None = None,
    ) -> Index:
        """Read an index file. What is no index is not read further than to where that shows.

        :param file: its path; or a binary file, of which the rest is read
        :param name: what messages call a binary file
        :raises NotFound: there is none
        :raises FileError: it cannot be read
        :raises FormatError: it is no index, or has more than `MAX_INDEX_SIZE` bytes
        """
        path = name if not isinstance(file, (str, bytes, os.PathLike)) else os.fsencode(file)
        try:
            if not isinstance(file, (str, bytes, os.PathLike)):
                return cls._read(file, path)
            with open(file, "rb") as opened:
                return cls._read(opened, path)
        except OSError as error:
            raise FileError(path or b"index", "read", error) from error

    @classmethod
    def parse(cls, data: bytes, path: bytes | None = None) -> Index:
        """Read an index file's contents.

        :param path: the file, for messages
        :raises FormatError: with the offset of the first thing that is wrong
        """
        return cls._read(io.BytesIO(data), path)

    @classmethod
    def _read(cls, file: BinaryIO, path: bytes | None) -> Index:
        """Piece by piece, each checked before the next is read."""
        reader = IndexInbox(path)
        reader.receive(_read_up_to(file, _HEADER.size))
        reader.check_begun()
        while piece := _read_up_to(file, _PIECE):
            reader.receive(piece)
        return reader.finish()

    def to_bytes(self) -> bytes:
        """The index file's contents, as casync writes it."""
        sizes = self.sizes
        header = _pack_header(self.feature_flags, sizes.min, sizes.avg, sizes.max)
        tail = _pack_tail(_HEADER.size - _TABLE + len(self.table) + _TAIL.size)
        return b"".join((header, self.table, tail))

    @property
    def digest(self) -> Digest:
        """What chunk ids, and the digest of the stream, are made with."""
        return digest_of_flags(self.feature_flags)

    @property
    def ends(self) -> memoryview | array[int]:
        """The end offset of every chunk, without copying the table where the machine is little-endian."""
        return _ends(self.table)

    @property
    def size(self) -> int:
        """Size in bytes of the stream that the index describes."""
        return int(_read_item(self.table, len(self.table) - _ITEM.size)[0]) if self.table else 0

    def __len__(self) -> int:
        return len(self.table) // _ITEM.size

    def __contains__(self, item: object) -> bool:
        """Whether a chunk is among them, given as a row or by its id."""
        if isinstance(item, bytes):
            return any(item == id_ for id_ in self.ids())
        return isinstance(item, IndexChunk) and item in self.chunks()

    def __getitem__(self, i: int) -> IndexChunk:
        if not 0 <= i < len(self):
            raise IndexError(f"the index has {len(self)} chunks, and none of number {i}")
        end, id_ = _read_item(self.table, i * _ITEM.size)
        start = _read_item(self.table, (i - 1) * _ITEM.size)[0] if i else 0
        return IndexChunk(ChunkId(id_), start, end - start)

    def __iter__(self) -> Iterator[IndexChunk]:
        return self.chunks()

    def chunks(self, first: int = 0) -> Iterator[IndexChunk]:
        """The chunks in order, from number `first` on."""
        start = self[first - 1].end if first else 0
        for end, id_ in _items(memoryview(self.table)[first * _ITEM.size :]):
            yield IndexChunk(ChunkId(id_), start, end - start)
            start = end

    def ids(self) -> Iterator[ChunkId]:
        """The chunk ids in order, repeated ones included."""
        for _, id_ in _items(self.table):
            yield ChunkId(id_)

    def distinct(self) -> Iterator[tuple[bytes, int]]:
        """Id and size of each chunk, once, in no order; of many chunks, some are looked at after the others."""
        step, ends = _ITEM.size, self.ends
        firsts = bytes(self.table[_ID_AT::step])
        parts = min(1 + len(self) // _TOGETHER, 256)
        for part in range(parts):
            belongs = bytes(first * parts >> 8 == part for first in range(256))
            last: dict[bytes, int] = {}
            for number in compress(range(len(self)), firsts.translate(belongs)):
                last[self.table[(at := number * step + _ID_AT) : at + _ID_SIZE]] = number
            for id, number in last.items():
                yield id, ends[number] - (ends[number - 1] if number else 0)

    def find(self, id: ChunkId, first: int = 0) -> int:
        """Number of the next chunk of an id, from number `first` on; `len(index)` where there is none."""
        place = _ITEM.at("id")
        at = first * _ITEM.size
        while (found := self.table.find(id, at)) >= 0:
            number, rest = divmod(found - place, _ITEM.size)
            if not rest:
                return number
            at = found + 1
        return len(self)

    def spans(self, start: int, end: int) -> list[tuple[bytes, int, int]]:
        """The chunks that bytes `start` to `end` are in: of each its id, and where these are in it, from and to."""
        ends, table = self.ends, self.table
        number = bisect_right(ends, start)
        found = []
        while start < end and number < len(ends):
            first, last = ends[number - 1] if number else 0, ends[number]
            at = number * _ITEM.size + _ID_AT
            found.append((table[at : at + _ID_SIZE], start - first, min(end, last) - first))
            start = last
            number += 1
        return found

    def at(self, offset: int) -> int:
        """Number of the chunk that holds the byte at `offset`; `len(index)` past the end."""
        return bisect_right(self.ends, offset)


class IndexInbox:
    """An index that comes piece by piece, each checked before the next.

    >>> reader = IndexInbox()
    >>> for piece in pieces:
    ...     reader.receive(piece)
    ...     for id, size in reader.rows(known): ...
    >>> reader.finish()

    :param path: the file, for messages
    """

    def __init__(self, path: bytes | None = None) -> None:
        self._path = path
        self._settings: tuple[int, ChunkSizes] | None = None
        self._table = io.BytesIO()  # which gives its buffer away without a copy
        self._end = 0
        self._held = b""  # the last of what came: items and the tail are of one size

    @property
    def digest(self) -> Digest | None:
        """What chunk ids are made with; None until the header is there."""
        return None if self._settings is None else digest_of_flags(self._settings[0])

    @property
    def count(self) -> int:
        """How many chunks it has told of yet."""
        return self._table.tell() // _ITEM.size

    def rows(self, first: int, count: int) -> list[tuple[ChunkId, int]]:
        """Some of these chunks: their ids and sizes."""
        before = max(first - 1, 0)
        with self._table.getbuffer() as table:
            items = list(_items(table[before * _ITEM.size : (first + count) * _ITEM.size]))
        start = items.pop(0)[0] if first and items else 0
        ends = [end for end, _ in items]
        return [
            (ChunkId(id), size) for (_, id), size in zip(items, map(sub, ends, [start, *ends]), strict=True)
        ]

    def receive(self, data: bytes) -> None:
        """Add bytes.

        :raises FormatError: with the offset of the first thing that is wrong
        """
        held = self._held + data
        if self._settings is None:
            if len(held) < _HEADER.size:
                self._held = held
                return
            self._settings = _check_header(held[: _HEADER.size], self._path)
            held = held[_HEADER.size :]
        count = max(len(held) // _ITEM.size - 1, 0) * _ITEM.size
        items, self._held = held[:count], held[count:]
        table = self._table
        if _HEADER.size + table.tell() + len(held) > MAX_INDEX_SIZE:
            raise FormatError(
                f"larger than {MAX_INDEX_SIZE} bytes, the most this kind of file may have", self._path
            )
        self._end = _check_items(items, table.tell(), self._end, self._settings[1].max, self._path)
        table.write(items)

    def check_begun(self) -> None:
        """Be sure that the header came whole. :raises FormatError: it did not"""
        if self._settings is None:
            _check_header(self._held, self._path)

    def finish(self) -> Index:
        """The index, when all has come.

        :raises FormatError: it is not whole, or goes on behind its end
        """
        self.check_begun()
        assert self._settings is not None
        _check_tail(self._held, self._table.tell(), self._path)
        return Index(*self._settings, self._table.getvalue())


def _read_up_to(file: BinaryIO, size: int) -> bytes:
    """So many bytes, or all there are."""
    data = file.read(size)
    while len(data) < size and (more := file.read(size - len(data))):
        data += more
    return data


def _check_header(data: bytes, path: bytes | None) -> tuple[int, ChunkSizes]:
    """The settings of an index that begins so."""
    known = min(len(data), _HEADER.at("feature_flags"))
    if data[:known] != _pack_header(0, 0, 0, 0)[:known]:
        raise FormatError("not an index file", path, 0)
    if len(data) < _HEADER.size:
        raise FormatError("index is truncated", path, len(data))
    flags, *limits = _read_settings(data, 0)
    if not is_normalised(flags):
        at = _HEADER.at("feature_flags")
        raise FormatError(f"feature flags {flags:#x} are unknown or contradict one another", path, at)
    try:
        sizes = ChunkSizes(*limits)
    except UsageError as error:
        raise FormatError(f"chunk sizes are not valid: {error}", path, _HEADER.at(_SIZES[0])) from error
    if not _HEADER.has_constants(data, 0, "table_size", "table_type"):
        raise FormatError("no chunk table follows the index header", path, _TABLE)
    return flags, sizes


def _ends(table: bytes) -> memoryview | array[int]:
    if sys.byteorder == "little":
        return memoryview(table).cast("Q")[_END :: _ITEM.size // 8]
    return array("Q", (end for end, _ in _items(table)))


def _check_items(items: bytes, offset: int, start: int, largest: int, path: bytes | None) -> int:
    """Check some items; returns where the last of their chunks ends.

    :param offset: of these in the table
    :param start: where the chunk before them ends
    :param largest: bytes that a chunk may have
    """
    ends = _ends(items)
    if not len(ends):
        return start
    sizes: array[int] | None = None
    with suppress(OverflowError):  # the loop below finds which one falls or is too large
        sizes = array("q", map(sub, ends, chain((start,), ends)))
    if sizes is not None and min(sizes) > 0 and max(sizes) <= largest:
        return int(ends[-1])
    for number, end in enumerate(ends):
        place = offset + number * _ITEM.size
        i, at = place // _ITEM.size, _HEADER.size + place
        if _TAIL.has_constants(items, number * _ITEM.size):
            raise FormatError("index has bytes after its end", path, at + _TAIL.size)
        if end <= start:
            raise FormatError(f"end of chunk {i} does not lie after its start", path, at)
        if end - start > largest:
            raise FormatError(f"chunk {i} is larger than the index allows", path, at)
        start = end
    raise AssertionError("one of them is wrong")


def _check_tail(data: bytes, table: int, path: bytes | None) -> None:
    """Check that what follows the items is the one tail, and nothing after it.

    :param table: bytes of the items
    """
    at = _HEADER.size + table
    if len(data) != _TAIL.size:
        raise FormatError("index is truncated, or has bytes after its end", path, at + len(data))
    if not _TAIL.has_constants(data, 0):
        raise FormatError("index is truncated: its tail is missing", path, at)
    (table_size,) = _read_table_size(data, 0)
    if table_size != at + _TAIL.size - _TABLE:
        raise FormatError("size in the index tail does not match the file", path, at + _TAIL.at("table_size"))


class IndexBuilder:
    """Collects the chunks of a stream, in order.

    :param feature_flags: normalised
    :param sizes: chunk sizes for the header
    :raises UsageError: for flags that no reader would take
    """

    def __init__(self, feature_flags: int, sizes: ChunkSizes) -> None:
        if not is_normalised(feature_flags):
            raise UsageError(f"feature flags {feature_flags:#x} are unknown or contradict one another")
        self.feature_flags = int(feature_flags)
        self.sizes = sizes
        self.size = 0
        self._table = bytearray()

    def __len__(self) -> int:
        return len(self._table) // _ITEM.size

    def append(self, id: ChunkId, size: int) -> None:
        """Add the next chunk.

        :param size: in bytes
        :raises UsageError: when no index with these chunk sizes can hold it
        """
        if not 0 < size <= self.sizes.max:
            raise UsageError(f"a chunk of {size} bytes does not fit an index of at most {self.sizes.max}")
        self.size += size
        self._table += _pack_item(self.size, id)

    def build(self) -> Index:
        """The index of what was added so far."""
        return Index(self.feature_flags, self.sizes, bytes(self._table))
