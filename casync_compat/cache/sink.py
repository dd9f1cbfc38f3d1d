"""Takes a stream of which some chunks are known: bytes are cut, hashed and stored, known chunks only counted.

Unlike `sinks.ChunkingSink` it cuts at once, so that whoever feeds it knows where the last chunk ended; and it hashes no
whole stream, since it does not see all of it.
"""

from __future__ import annotations

from collections import deque

from casync_compat.chunker import Chunker, ChunkSizes
from casync_compat.closing import Closing
from casync_compat.ids import ChunkId
from casync_compat.index import Index, IndexBuilder
from casync_compat.store.base import ChunkSink
from casync_compat.streams.sinks import ChunkCounts, StoredChunks, store_chunks
from casync_compat.streams.slabs import Slab
from casync_compat.streams.transfer import OrderedPool, default_jobs

__all__ = ["SkippingSink"]

_SLAB = 2 << 20
_BATCH = 1 << 20
_LONGEST_BATCH = 512


class SkippingSink(Closing):
    """Cuts what it is given into chunks, puts them into a store, and builds the index of the whole.

    :param store: where new chunks go
    :param jobs: threads that hash and compress; None for one a processor
    :ivar boundary: offset in the stream of the end of the last chunk, as of the last `cut` or `skip`
    """

    def __init__(self, store: ChunkSink, sizes: ChunkSizes, feature_flags: int, jobs: int | None) -> None:
        self.boundary = 0
        self.counts = ChunkCounts()
        self._builder = IndexBuilder(feature_flags, sizes)
        self._digest = Index(feature_flags, sizes, b"").digest
        self._store = store
        self._chunker = Chunker(sizes)
        jobs = jobs or default_jobs()
        self._size = max(_SLAB, 2 * sizes.max)
        self._slabs_left = jobs + 2 if self._size == _SLAB else 2
        self._pool: OrderedPool[StoredChunks] = OrderedPool(jobs, 4 * jobs + 4)
        self._used: deque[Slab] = deque()
        self._slab = Slab(self._size)
        self._begin = self._scanned = self._at = (
            0  # in the slab: the unfinished chunk, how far it was looked at
        )
        self._batch: list[tuple[int, int]] = []
        self._batch_size = 0
        self._known: list[tuple[ChunkId, int, bool, int]] = []

    def close(self) -> None:
        """Stop the threads and let go of the buffers."""
        self._pool.close()
        self._used.clear()
        self._slab = Slab(0)

    @property
    def written(self) -> int:
        """Bytes of the stream so far, known chunks included."""
        return self.boundary + self._at - self._begin

    def room(self) -> memoryview:
        """Free room of at least one byte; fill it from its start, then call `advance`."""
        if self._at == self._size:
            self._turn()
        return self._slab.view[self._at :]

    def advance(self, count: int) -> None:
        """Tell that `count` bytes of the last `room` were filled."""
        self._at += count

    def write(self, data: bytes | memoryview) -> None:
        """Append `data`."""
        view = memoryview(data)
        while view:
            room = self.room()
            part = view[: len(room)]
            room[: len(part)] = part
            self._at += len(part)
            view = view[len(part) :]

    def cut(self) -> None:
        """Cut what was given, so that `boundary` is known."""
        if self._scanned < self._at:
            ends = self._chunker.cuts(self._slab.view, self._begin, self._at, self._scanned)
            self._scanned = self._at
            for end in ends:
                self.boundary += end - self._begin
                self._add(end)

    def skip(self, id_: ChunkId, size: int) -> None:
        """Count a known chunk, which begins at `boundary`; the bytes of it that were given already are dropped."""
        self._submit()
        self._known.append((id_, size, False, 0))
        if len(self._known) >= _LONGEST_BATCH:
            self._submit_known()
        self._begin += min(size, self._at - self._begin)
        self._scanned = self._begin
        self.boundary += size

    def finish(self) -> None:
        """Store what is left; after it, `index` is complete and every chunk is durable."""
        self.cut()
        if self._at > self._begin:
            self.boundary += self._at - self._begin
            self._add(self._at)
        self._submit()
        self._submit_known()
        for done in self._pool.drain():
            self._collect(done)
        self._store.sync()

    @property
    def index(self) -> Index:
        """The index of the whole stream, after `finish`."""
        return self._builder.build()

    def _add(self, end: int) -> None:
        self._submit_known()
        self._batch.append((self._begin, end))
        self._batch_size += end - self._begin
        self._begin = end
        if self._batch_size >= _BATCH:
            self._submit()

    def _submit(self) -> None:
        if self._batch:
            for done in self._pool.submit(
                store_chunks, self._store, self._digest, self._slab.view, self._batch
            ):
                self._collect(done)
            self._slab.users.append(self._pool.newest)
            self._batch = []
            self._batch_size = 0

    def _submit_known(self) -> None:
        if self._known:
            for done in self._pool.submit(list, self._known):
                self._collect(done)
            self._known = []

    def _collect(self, done: StoredChunks) -> None:
        counts = self.counts
        for id_, size, new, stored in done:
            self._builder.append(id_, size)
            counts.add(size, new, stored)

    def _turn(self) -> None:
        """Go on in another slab, with the unfinished chunk at its beginning."""
        self.cut()
        self._submit()
        rest = self._slab.view[self._begin : self._at]
        if self._slabs_left:
            self._slabs_left -= 1
            fresh = Slab(self._size)
        else:
            fresh = self._used.popleft()
            fresh.wait()
        fresh.view[: len(rest)] = rest
        self._used.append(self._slab)
        self._slab = fresh
        self._scanned -= self._begin
        self._at = len(rest)
        self._begin = 0
