"""The stream of an index as several readers use it at once: at any offset, with chunks kept, and read ahead.

    >>> with SharedReader(ChunkFetcher(index, store)) as reader:
    ...     reader.read_parts(1 << 30, 4096)

Whoever goes on where a read has ended is read ahead for, as far again as he has come; that holds for a file that is
read to its end as for a tree that is copied, whose files follow one another. Each chunk is fetched once, however many
wait for it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

from casync_compat.closing import Closing
from casync_compat.errors import ClosedError
from casync_compat.ids import ChunkId
from casync_compat.index import IndexChunk
from casync_compat.streams.assemble import ChunkFetcher
from casync_compat.streams.transfer import FreePool

__all__ = ["KEPT", "SharedReader"]

KEPT = 128 << 20
"""Bytes of chunks to keep where nobody says."""
_TRAILS = 16
"""Readers that go straight on to be told apart."""
_NEAR = 256 << 10
"""Bytes from the end of a read within which another goes straight on: a kernel's reads overtake one another."""
_FIRST, _MOST = 256 << 10, 8 << 20
"""Bytes to read ahead: at least, and at most."""
_TOGETHER = 256 << 10
"""Bytes of chunks to fetch with one call."""

_Fetched = Future[bytes]
_Key = tuple[ChunkId, int]
"""What a chunk is kept by, wherever it stands: its id, and the size that the index says."""


@dataclass(slots=True)
class _Trail:
    """A reader who goes straight on.

    :ivar start: offset where he began
    :ivar begun: the chunk before which all has been begun
    """

    start: int
    begun: int = 0


class SharedReader(Closing):
    """The stream of an index at any offset (a `catar.archive.Expecting`). May be used from several threads.

    :param kept: bytes of chunks to keep
    """

    def __init__(self, fetcher: ChunkFetcher, kept: int = KEPT) -> None:
        self._fetcher = fetcher
        self._index = fetcher.index
        self._most = kept
        self._pool = FreePool(fetcher.threads)
        self._lock = threading.Lock()  # of all that follows
        self._kept: OrderedDict[_Key, bytes] = OrderedDict()
        self._size = 0
        self._closed = False
        self._coming: dict[_Key, _Fetched] = {}
        self._under_way = 0
        self._trails: OrderedDict[int, _Trail] = OrderedDict()  # by where a read ended

    def close(self) -> None:
        """Read no more ahead, and forget what is kept."""
        self._closed = True
        self._pool.close()
        self.rest()

    def rest(self) -> None:
        """Forget what is kept, for it is not read from for a while."""
        with self._lock:
            self._kept.clear()
            self._size = 0

    @property
    def size(self) -> int:
        """Size of the stream, in bytes."""
        return self._index.size

    def read_at(self, offset: int, size: int) -> bytes:
        """The bytes from `offset` on, as many as there are. :raises StoreError: when a chunk cannot be had"""
        parts = self.read_parts(offset, size)
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)

    def read_parts(self, offset: int, size: int) -> list[memoryview]:
        """The same in pieces, without a copy."""
        end = min(offset + size, self.size)
        if offset >= end:
            return []
        number = self._index.at(offset)
        chunk = self._index[number]
        chunks = [chunk]
        while chunk.end < end:
            chunk = self._index[number + len(chunks)]
            chunks.append(chunk)
        data = self._get(chunks)
        self._follow(offset, end, number + len(chunks))
        return [
            memoryview(found)[max(offset - chunk.start, 0) : end - chunk.start]
            for chunk, found in zip(chunks, data, strict=True)
        ]

    def next_zeros(self, offset: int) -> int:
        """Where the next zeros are, from `offset` on, that have a chunk of their own; the size if none are."""
        index = self._index
        number = index.at(offset)
        if number < len(index) and self._is_zeros(index[number]):
            return offset
        found = index.find(self._zeros_id, number + 1)
        while found < len(index) and not self._is_zeros(index[found]):
            found = index.find(self._zeros_id, found + 1)
        return index[found].start if found < len(index) else self.size

    def next_data(self, offset: int) -> int:
        """Where the next bytes are, from `offset` on, of which that is not known; the size if there are none."""
        for number in range(self._index.at(offset), len(self._index)):
            chunk = self._index[number]
            if not self._is_zeros(chunk):
                return max(offset, chunk.start)
        return self.size

    def _is_zeros(self, chunk: IndexChunk) -> bool:
        return chunk.size == self._index.sizes.max and chunk.id == self._zeros_id

    @cached_property
    def _zeros_id(self) -> ChunkId:
        """Of as many zeros as a chunk may have: they are cut nowhere else."""
        return self._index.digest.of(bytes(self._index.sizes.max))

    def expect(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Begin to fetch what will be read, an offset and a size each."""
        wanted: dict[int, None] = {}
        for offset, size in ranges:
            end = min(offset + size, self.size)
            while offset < end:
                number = self._index.at(offset)
                wanted[number] = None
                offset = self._index[number].end
        if len(wanted) > 1:  # one alone is as well fetched by whoever reads it
            self._begin(list(wanted))

    def _get(self, chunks: list[IndexChunk]) -> list[bytes]:
        """The bytes of chunks: kept, coming, or fetched here."""
        found: dict[_Key, bytes] = {}
        coming: dict[_Key, _Fetched] = {}
        mine: dict[_Key, IndexChunk] = {}
        keys = [(chunk.id, chunk.size) for chunk in chunks]
        with self._lock:
            for key, chunk in zip(keys, chunks, strict=True):
                data = self._kept.get(key)
                if data is not None:
                    self._kept.move_to_end(key)
                    found[key] = data
                elif key in self._coming:
                    coming[key] = self._coming[key]
                else:
                    mine[key] = chunk
                    coming[key] = self._coming[key] = Future()
        if mine:
            self._fetch(mine)
        for key, future in coming.items():
            found[key] = future.result()
        return [found[key] for key in keys]

    def _fetch(self, wanted: dict[_Key, IndexChunk]) -> None:
        """Fetch chunks, and tell whoever waits for them."""
        try:
            if self._closed:
                raise ClosedError("the archive was closed")
            data = self._fetcher.fetch_all(list(wanted.values()))
        except BaseException as error:
            with self._lock:
                futures = [self._coming.pop(key) for key in wanted]
            for future in futures:
                future.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        with self._lock:
            futures = [self._coming.pop(key) for key in wanted]
            for key, piece in zip(wanted, data, strict=True):
                self._kept[key] = piece
                self._size += len(piece)
            while self._size > self._most and len(self._kept) > len(wanted):
                self._size -= len(self._kept.popitem(last=False)[1])
        for future, piece in zip(futures, data, strict=True):
            future.set_result(piece)

    def _follow(self, offset: int, end: int, number: int) -> None:
        """Note that a read ended before chunk `number`, and read ahead if another had ended where it began."""
        until = 0
        with self._lock:
            trail = _Trail(offset)
            for at in reversed(self._trails):
                if at - _NEAR <= offset <= at + _NEAR // 4:
                    trail = self._trails.pop(at)
                    if at >= end:  # read before, or overtaken by what came later
                        self._trails[at] = trail
                        return
                    until = min(end + min(max(end - trail.start, _FIRST), _MOST), self.size)
                    break
            self._trails[end] = trail
            while len(self._trails) > _TRAILS:
                self._trails.popitem(last=False)
            first = last = max(number, trail.begun)
            while last < len(self._index) and self._index[last].start < until:
                last += 1
        if first < last:
            trail.begun = self._begin(range(first, last))

    def _begin(self, numbers: Sequence[int]) -> int:
        """Begin to fetch what is neither there nor coming. Returns the chunk before which all has been begun."""
        batches: list[dict[_Key, IndexChunk]] = []
        size = _TOGETHER
        begun = numbers[-1] + 1
        with self._lock:
            for number in numbers:
                chunk = self._index[number]
                key = chunk.id, chunk.size
                if key in self._kept or key in self._coming:
                    continue
                if self._closed or self._under_way > self._most // 2:
                    begun = number
                    break
                if size >= _TOGETHER:
                    batches.append({})
                    size = 0
                size += chunk.size
                self._under_way += chunk.size
                batches[-1][key] = chunk
                self._coming[key] = Future()
        for batch in batches:
            self._pool.submit(self._fetch_ahead, batch)
        return begun

    def _fetch_ahead(self, batch: dict[_Key, IndexChunk]) -> None:
        with suppress(Exception):
            self._fetch(batch)
        with self._lock:
            self._under_way -= sum(size for _, size in batch)
