"""Chunks back into the stream that an index describes: front to back with prefetch, or at any offset.

Every chunk was checked against its id by the store that gave it; here its length is checked against the index, so that
no byte lands at the wrong offset.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable

from casync_compat.closing import Closing
from casync_compat.digest import ChunkId
from casync_compat.errors import FormatError
from casync_compat.index import Index, IndexChunk
from casync_compat.store.base import ChunkSource
from casync_compat.transfer import OrderedPool, default_jobs

__all__ = ["ChunkFetcher", "ChunkStream", "IndexReader"]

_BATCH = 256 << 10
_WINDOW = 8 << 20
_CACHE = 8 << 20


class ChunkFetcher:
    """Gets the chunks of one index from a source. May be used from several threads.

    :param path: of the index file, for messages

    :raises StoreError: from `fetch`, when the chunk is missing or corrupt
    """

    def __init__(self, index: Index, source: ChunkSource, path: bytes | None = None) -> None:
        self.index = index
        self._path = path
        self._source = source
        self._digest = index.digest
        # Runs of one chunk, zeros mostly, are fetched and checked once. One tuple, so that threads see it whole.
        self._last: tuple[ChunkId, bytes] | None = None

    def fetch(self, chunk: IndexChunk) -> bytes:
        """The bytes of a chunk, of exactly the size that the index says."""
        last = self._last
        if last is not None and last[0] == chunk.id and len(last[1]) == chunk.size:
            return last[1]
        data = self._source.get(chunk.id, self._digest, chunk.size)
        if len(data) != chunk.size:
            raise FormatError(
                f"chunk {chunk.id} has {len(data)} bytes, but the index says {chunk.size}",
                self._path,
                chunk.start,
            )
        self._last = (chunk.id, data)
        return data

    def fetch_all(self, chunks: list[IndexChunk]) -> list[tuple[IndexChunk, bytes]]:
        """Several chunks at once, each with its bytes."""
        return [(chunk, self.fetch(chunk)) for chunk in chunks]


class ChunkStream(Closing):
    """The stream of an index, front to back (a `catar.walker.ByteSource`), fetched ahead on several threads.

    :param start: offset to begin at, in bytes
    :param end: offset to end at; None for the end of the stream
    :param jobs: threads; None for one a processor
    :param on_chunk: called with each chunk as it is handed out, on the reader's thread
    """

    def __init__(
        self,
        fetcher: ChunkFetcher,
        *,
        start: int = 0,
        end: int | None = None,
        jobs: int | None = None,
        on_chunk: Callable[[IndexChunk], None] | None = None,
    ) -> None:
        self._fetcher = fetcher
        self._index = fetcher.index
        self._at = start
        self._end = self._index.size if end is None else min(end, self._index.size)
        self._jobs = jobs or default_jobs()
        self._on_chunk = on_chunk
        self._pool: OrderedPool[list[tuple[IndexChunk, bytes]]] | None = None
        self._ready: deque[tuple[IndexChunk, bytes]] = deque()
        self._ahead = 1  # batches to have under way; grows while reading goes straight on
        self._seek()

    def close(self) -> None:
        """Stop fetching."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _seek(self) -> None:
        self._next = self._index.at(self._at)
        self._scheduled = self._at
        self._chunks = self._index.chunks(self._next)

    def _batch(self) -> list[IndexChunk]:
        """The next chunks to fetch together."""
        batch: list[IndexChunk] = []
        size = 0
        while size < _BATCH and self._scheduled < self._end:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            batch.append(chunk)
            size += chunk.size
            self._scheduled = chunk.end
        return batch

    def _fill(self) -> None:
        """Have the next batch in `_ready`, and more under way."""
        if self._pool is None:
            first = self._batch()
            if self._scheduled >= self._end:  # nothing to overlap with: no threads for small archives
                self._ready.extend(self._fetcher.fetch_all(first))
                return
            self._pool = OrderedPool(self._jobs, depth=1)
            self._pool.start(self._fetcher.fetch_all, first)
        pool = self._pool
        most = max(2 * self._jobs, _WINDOW // max(_BATCH, self._index.sizes.max))
        while len(pool) < min(self._ahead, most):
            batch = self._batch()
            if not batch:
                break
            pool.start(self._fetcher.fetch_all, batch)
        self._ahead = min(self._ahead * 2, most)
        if len(pool):
            self._ready.extend(pool.take())
        if not len(pool) and self._scheduled >= self._end:
            self.close()  # a tree may be walked many times before it is closed: keep no idle threads

    def read(self) -> bytes:
        """The next piece; empty at the end. :raises StoreError: when a chunk cannot be had"""
        if self._at >= self._end:
            return b""
        while True:
            if not self._ready:
                self._fill()
            if not self._ready:
                return b""
            chunk, data = self._ready.popleft()
            if chunk.end > self._at:
                break
        if self._on_chunk is not None:
            self._on_chunk(chunk)
        begin, stop = self._at - chunk.start, min(chunk.end, self._end) - chunk.start
        self._at = chunk.start + stop
        return data if begin == 0 and stop == len(data) else data[begin:stop]

    def skip(self, count: int) -> None:
        """Pass over `count` bytes; chunks that lie wholly in them are not fetched."""
        self._at += count
        if self._at >= self._scheduled:
            self._ready.clear()
            if self._pool is not None:
                self._pool.discard()
            self._ahead = 1
            self._seek()


class IndexReader:
    """The stream of an index at any offset (a `catar.archive.RandomAccess`), with a small cache of chunks.

    May be used from several threads.
    """

    def __init__(self, fetcher: ChunkFetcher) -> None:
        self._fetcher = fetcher
        self._index = fetcher.index
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._cached = 0
        self._lock = threading.Lock()
        self.fetched = 0
        """Chunks fetched so far."""

    @property
    def size(self) -> int:
        """Size of the stream, in bytes."""
        return self._index.size

    def read_at(self, offset: int, size: int) -> bytes:
        """The bytes from `offset` on, as many as there are. :raises StoreError: when a chunk cannot be had"""
        parts = []
        end = min(offset + size, self.size)
        number = self._index.at(offset)
        while offset < end:
            chunk = self._index[number]
            data = self._chunk(number, chunk)
            part = data[offset - chunk.start : end - chunk.start]
            parts.append(part)
            offset += len(part)
            number += 1
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _chunk(self, number: int, chunk: IndexChunk) -> bytes:
        with self._lock:
            data = self._cache.get(number)
            if data is not None:
                self._cache.move_to_end(number)
                return data
        data = self._fetcher.fetch(chunk)
        with self._lock:
            self.fetched += 1
            if number not in self._cache:
                self._cache[number] = data
                self._cached += len(data)
            while self._cached > _CACHE and len(self._cache) > 1:
                _, old = self._cache.popitem(last=False)
                self._cached -= len(old)
        return data
