"""Chunks back into the stream that an index describes: front to back with prefetch, or at any offset.

Every chunk was checked against its id by the store that gave it; here its length is checked against the index, so that
no byte lands at the wrong offset.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from time import monotonic
from typing import TypeAlias

from casync_compat.closing import Closing
from casync_compat.errors import FormatError
from casync_compat.ids import ChunkId
from casync_compat.index import Index, IndexChunk
from casync_compat.store.base import BatchSource, ChunkSource, far_source
from casync_compat.streams.gaps import Gaps
from casync_compat.streams.transfer import OrderedPool, default_jobs

__all__ = ["ChunkFetcher", "ChunkStream", "Fetch", "IndexReader", "place_chunks"]

_BATCH = 256 << 10
"""Bytes to fetch together at first."""
_LARGE = 2 << 20
"""The same once reading goes straight on: few pieces are handed on, and so many chunks are checked at once that their
different lengths leave few lanes of `_sha512` idle."""
_SMALL = 64 << 10
"""Where nothing need be handed on, the first batches are smaller, so that all threads have something to do at once."""
_WINDOW = 8 << 20
_MOST_AHEAD = 16 << 20
"""What all batches may have together: with many threads, batches are smaller."""
_CACHE = 8 << 20

_AHEAD = 32 << 20
"""Bytes of the stream to have asked an eager source for; how many requests that makes is its own affair."""
_FAR_AHEAD = 96 << 20
"""The same while nothing came quickly: 64 MiB of packs fill a gigabit at 200 ms for two thirds only."""
_QUICK = 0.05
"""Seconds from question to answer. Who waits longer asks for little together, so that no answer waits for others."""
_WAITING = 16
"""Threads for a source that is far away and keeps one waiting for each request."""

_Piece: TypeAlias = tuple[list[IndexChunk], bytes]
"""Chunks, and their bytes."""

Fetch: TypeAlias = Callable[[], list[bytes]]
"""Gets what was asked for."""


class ChunkFetcher:
    """Gets the chunks of one index from a source. May be used from several threads.

    :ivar source: where they are
    :param path: of the index file, for messages

    :raises StoreError: from `fetch`, when the chunk is missing or corrupt
    """

    def __init__(self, index: Index, source: ChunkSource, path: bytes | None = None) -> None:
        self.index = index
        self._path = path
        self.source = source
        self._batches = source if isinstance(source, BatchSource) else None
        far = far_source(source)
        self._eager = far if far is not None and far.eager else None
        self.threads = default_jobs() if far is None or far.eager else max(_WAITING, default_jobs())
        """How many threads to use when nobody says."""
        self._is_quick = False
        self._digest = index.digest
        # Runs of one chunk, zeros mostly, are fetched and checked once. One tuple, so that threads see it whole.
        self._last: tuple[ChunkId, bytes] | None = None
        # So is the chunk of zeros, wherever else it is.
        self._zeros: tuple[ChunkId, bytes] | None = None

    def is_zeros(self, data: bytes) -> bool:
        """Whether these are the bytes of the chunk of zeros, as `fetch` gave them: a look, not a comparison."""
        return self._zeros is not None and data is self._zeros[1]

    def fetch(self, chunk: IndexChunk) -> bytes:
        """The bytes of a chunk, of exactly the size that the index says."""
        for known in (self._last, self._zeros):
            if known is not None and known[0] == chunk.id and len(known[1]) == chunk.size:
                return known[1]
        return self._checked(chunk, self.source.get(chunk.id, self._digest, chunk.size))

    def _checked(self, chunk: IndexChunk, data: bytes) -> bytes:
        if len(data) != chunk.size:
            raise FormatError(
                f"chunk {chunk.id} has {len(data)} bytes, but the index says {chunk.size}",
                self._path,
                chunk.start,
            )
        self._last = (chunk.id, data)
        # Zeros are cut where nothing else is: at the most that a chunk may have.
        if (
            self._zeros is None
            and not data[0]
            and len(data) == self.index.sizes.max
            and data == bytes(len(data))
        ):
            self._zeros = self._last
        return data

    @property
    def eager(self) -> bool:
        """Whether chunks are worth asking for long before they are needed."""
        return self._eager is not None

    @property
    def pace(self) -> tuple[int, int]:
        """How many bytes to ask an eager source for together, and to have asked it for."""
        return (_LARGE, _AHEAD) if self._is_quick else (_BATCH, _FAR_AHEAD)

    def begin(self, chunks: list[IndexChunk]) -> Fetch:
        """Ask for the bytes of several chunks, at once if the source is eager; what is returned gets them."""
        if self._eager is None:
            return lambda: self.fetch_all(chunks)
        known = dict(filter(None, (self._last, self._zeros)))
        wanted = {chunk.id: chunk.size for chunk in chunks if chunk.id not in known}
        begun = monotonic()
        found = self._eager.begin(list(wanted.items()), self._digest) if wanted else list

        def collect() -> list[bytes]:
            data = {**known, **dict(zip(wanted, found(), strict=True))}
            if wanted and monotonic() - begun < _QUICK:
                self._is_quick = True
            return self._all_checked(chunks, [data[chunk.id] for chunk in chunks])

        return collect

    def fetch_all(self, chunks: list[IndexChunk]) -> list[bytes]:
        """The bytes of several chunks."""
        if self._batches is None or len(chunks) == 1 or self._repeats(chunks):
            return [self.fetch(chunk) for chunk in chunks]
        wanted = [(chunk.id, chunk.size) for chunk in chunks]
        return self._all_checked(chunks, self._batches.get_many(wanted, self._digest))

    def _all_checked(self, chunks: list[IndexChunk], found: list[bytes]) -> list[bytes]:
        return [self._checked(chunk, data) for chunk, data in zip(chunks, found, strict=True)]

    def _repeats(self, chunks: list[IndexChunk]) -> bool:
        if len({chunk.id for chunk in chunks}) < len(chunks):
            return True
        last, zeros = self._last, self._zeros
        return (last is not None and last[0] == chunks[0].id) or (
            zeros is not None and any(zeros[0] == chunk.id for chunk in chunks)
        )


def _pieces(chunks: list[IndexChunk], fetch: Fetch) -> list[_Piece]:
    """Several chunks, as a piece each."""
    return [([chunk], data) for chunk, data in zip(chunks, fetch(), strict=True)]


def _joined(chunks: list[IndexChunk], fetch: Fetch) -> list[_Piece]:
    """Several chunks that follow one another, as one piece."""
    data = fetch()
    return [(chunks, data[0] if len(data) == 1 else b"".join(data))]


_WANTED = 4
"""Gaps that are read after all, each of which costs what was fetched ahead, before none is believed any more."""


def _large_batch(jobs: int) -> int:
    return max(_BATCH, min(_LARGE, _MOST_AHEAD // (2 * jobs)))


class ChunkStream(Closing):
    """The stream of an index, front to back (a `catar.walker.ByteSource`), fetched ahead on several threads.

    :param start: offset to begin at, in bytes
    :param end: offset to end at; None for the end of the stream
    :param jobs: threads; None for one a processor
    :param on_chunk: called with each chunk as it is handed out, on the reader's thread
    :param joined: hand out several chunks at a time, in pieces of up to two megabytes or more; else one by one
    :param gaps: stretches that the reader will pass over, most likely, in their order: reading stops before each, and
        chunks that lie wholly in one are not fetched before they are read after all
    """

    def __init__(
        self,
        fetcher: ChunkFetcher,
        *,
        start: int = 0,
        end: int | None = None,
        jobs: int | None = None,
        on_chunk: Callable[[IndexChunk], None] | None = None,
        joined: bool = False,
        gaps: Iterable[tuple[int, int]] = (),
    ) -> None:
        self._gaps = Gaps(gaps)
        self._sparse = bool(self._gaps)
        self._wanted = 0  # gaps that were read after all
        self._told = 0
        self._fetcher = fetcher
        self._collect = _joined if joined else _pieces
        self._index = fetcher.index
        self._at = start
        self._end = self._index.size if end is None else min(end, self._index.size)
        self._jobs = jobs or fetcher.threads
        self._on_chunk = on_chunk
        self._pool: OrderedPool[list[_Piece]] | None = None
        self._ready: deque[_Piece] = deque()
        self._large = _large_batch(self._jobs)
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
        # Both grow while reading goes straight on: batches to have under way, and bytes in one.
        self._ahead = 1
        self._size = _BATCH
        self._gaps.begin()

    def _batch(self) -> list[IndexChunk]:
        """The next chunks to fetch together."""
        batch: list[IndexChunk] = []
        size = 0
        while size < self._size and self._scheduled < self._end:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            if self._gaps and self._gaps.has(chunk):
                self._scheduled = chunk.end
                if batch:
                    break  # what is handed out together has no gaps
                continue
            batch.append(chunk)
            size += chunk.size
            self._scheduled = chunk.end
        return batch

    def _drop(self) -> None:
        """Begin anew, with what stands where reading is."""
        self._ready.clear()
        if self._pool is not None:
            self._pool.discard()
        self._seek()

    def _fill(self) -> None:
        """Have the next batch in `_ready`, and more under way."""
        if self._pool is None:
            first = self._batch()
            if self._scheduled >= self._end:  # nothing to overlap with: no threads for small archives
                if first:
                    self._ready.extend(self._collect(first, self._fetcher.begin(first)))
                return
            self._pool = OrderedPool(self._jobs, depth=1)
            self._pool.start(self._collect, first, self._fetcher.begin(first))
        pool = self._pool
        large, window = self._fetcher.pace if self._fetcher.eager else (self._large, _WINDOW)
        most = max(2 * self._jobs, window // max(self._size, self._index.sizes.max))
        while len(pool) < min(self._ahead, most):
            batch = self._batch()
            if not batch:
                break
            pool.start(self._collect, batch, self._fetcher.begin(batch))
        if self._ahead < most:
            self._ahead *= 4 if self._fetcher.eager else 2
        else:
            self._size = min(2 * self._size, large)
        if len(pool):
            self._ready.extend(pool.take())
        if not len(pool) and self._scheduled >= self._end:
            self.close()  # a tree may be walked many times before it is closed: keep no idle threads

    def read(self) -> bytes:
        """The next piece; empty at the end. :raises StoreError: when a chunk cannot be had"""
        if self._at >= self._end:
            return b""
        last = self._end
        if self._gaps:
            wanted = self._gaps.starts_at(self._at)  # after all
            if wanted:
                self._wanted += 1
                if self._wanted == _WANTED:
                    self._gaps.clear()
                self._drop()
            stop = self._gaps.stop(self._at)
            last = last if stop is None else min(stop, last)
        while True:
            if not self._ready:
                self._fill()
            if self._sparse and (not self._ready or self._ready[0][0][0].start > self._at):
                self._sparse = False  # it is not gaps that are passed over
                self._gaps.clear()
                self._drop()
                continue
            if not self._ready:
                return b""
            chunks, data = self._ready.popleft()
            if chunks[-1].end > self._at:
                break
        if self._on_chunk is not None:
            for chunk in chunks:
                if chunk.end > self._at and chunk.start < last and chunk.end > self._told:
                    self._told = chunk.end
                    self._on_chunk(chunk)
        start, end = chunks[0].start, min(chunks[-1].end, last)
        if end < chunks[-1].end and end < self._end:
            self._ready.appendleft((chunks, data))
        begin, stop = self._at - start, end - start
        self._at = end
        return data if begin == 0 and stop == len(data) else data[begin:stop]

    def skip(self, count: int) -> None:
        """Pass over `count` bytes; chunks that lie wholly in them are not fetched."""
        self._at += count
        if self._at >= self._scheduled:
            self._drop()


def place_chunks(
    fetcher: ChunkFetcher,
    put: Callable[[int, list[bytes]], None],
    *,
    chunks: Iterable[IndexChunk] | None = None,
    jobs: int | None = None,
) -> Generator[IndexChunk, None, None]:
    """Fetch all chunks of an index and put each into its place, on several threads and in any order.

    :param put: called on those threads, with an offset and chunks that follow one another from there
    :param chunks: only these, in order; None for all
    :returns: the chunks in order, each when it and all before it are in their places; close it, to have the threads end
    :raises Exception: what `put` raises
    """

    def run(batch: list[IndexChunk], fetch: Fetch) -> list[IndexChunk]:
        found = fetch()
        begin = 0
        for at in range(1, len(batch) + 1):
            if at == len(batch) or batch[at].start != batch[at - 1].end:
                put(batch[begin].start, found[begin:at])
                begin = at
        return batch

    rest = iter(fetcher.index if chunks is None else chunks)
    batch = _next_batch(rest, _SMALL)
    if batch and batch[-1].end == fetcher.index.size:  # no threads for small blobs
        yield from run(batch, fetcher.begin(batch))
        return
    jobs = jobs or fetcher.threads
    large = _large_batch(jobs)
    started = 0
    with OrderedPool[list[IndexChunk]](jobs, depth=2 * jobs) as pool:
        while batch:
            if fetcher.eager:
                large, window = fetcher.pace
                pool.depth = max(2 * jobs, window // large)
            for done in pool.submit(run, batch, fetcher.begin(batch)):
                yield from done
            started += 1
            batch = _next_batch(rest, large if fetcher.eager else min(_SMALL << started // (2 * jobs), large))
        for done in pool.drain():
            yield from done


def _next_batch(chunks: Iterator[IndexChunk], least: int) -> list[IndexChunk]:
    """The next chunks, until they have so many bytes together."""
    batch: list[IndexChunk] = []
    size = 0
    while size < least and (chunk := next(chunks, None)) is not None:
        batch.append(chunk)
        size += chunk.size
    return batch


class IndexReader:
    """The stream of an index at any offset (a `catar.archive.Expecting`), with a small cache of chunks.

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

    def expect(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Fetch what will be read, an offset and a size each, all at once; what is too much is left for then."""
        wanted: dict[ChunkId, int] = {}
        size = 0
        for offset, count in ranges:
            number, end = self._index.at(offset), min(offset + count, self.size)
            while offset < end and size < _CACHE // 2:
                chunk = self._index[number]
                if number not in self._cache and chunk.id not in wanted:
                    wanted[chunk.id] = number
                    size += chunk.size
                offset = chunk.end
                number += 1
        numbers = list(wanted.values())
        found = self._fetcher.fetch_all([self._index[number] for number in numbers]) if numbers else []
        for number, data in zip(numbers, found, strict=True):
            self._keep(number, data)

    def _chunk(self, number: int, chunk: IndexChunk) -> bytes:
        with self._lock:
            data = self._cache.get(number)
            if data is not None:
                self._cache.move_to_end(number)
                return data
        data = self._fetcher.fetch(chunk)
        self._keep(number, data)
        return data

    def _keep(self, number: int, data: bytes) -> None:
        with self._lock:
            self.fetched += 1
            if number not in self._cache:
                self._cache[number] = data
                self._cached += len(data)
            while self._cached > _CACHE and len(self._cache) > 1:
                _, old = self._cache.popitem(last=False)
                self._cached -= len(old)
