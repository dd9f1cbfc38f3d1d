"""A stream cut into chunks, which are hashed, compressed and stored by several threads, while their index is built.

    >>> with ChunkingSink(store, ChunkSizes(), flags) as sink:
    ...     sink.write(b"...")
    ...     sink.finish()
    ...     sink.index

Chunks of the stream that are known beforehand can be passed over (`cut`, `boundary`, `skip`). Where to cut is said by
`casync_compat.chunker`, what a store does with a chunk by the store.
"""

from __future__ import annotations

from dataclasses import dataclass

from casync_compat.chunker import WINDOW_SIZE, ChunkSizes
from casync_compat.ids import ChunkId, Digest
from casync_compat.index import Index, IndexBuilder
from casync_compat.store.base import BatchSink, ChunkSink, Deferring
from casync_compat.streams.cutting import CutFinder
from casync_compat.streams.sinks import SlabSink
from casync_compat.streams.slabs import Slab
from casync_compat.streams.transfer import OrderedPool, Sequencer, default_jobs

__all__ = ["ChunkCounts", "ChunkingSink", "StoredChunks", "store_chunks"]

_SLAB = 2 << 20
_BATCH = 1 << 20
_LARGEST_ZERO_CHUNK = 4 << 20
_SHORTEST_HOLE = 1 << 20
"""Bytes: below it, going around a hole takes longer than hashing it."""
_SYNC_EVERY = 64 << 20
_LONGEST_BATCH = 512
"""Known chunks that are counted in one go."""


@dataclass(slots=True)
class ChunkCounts:
    """What became of the chunks of a stream.

    :ivar total: chunks in the stream
    :ivar new: those that the store did not have
    :ivar new_bytes: their size before compression
    :ivar stored_bytes: their size as stored
    """

    total: int = 0
    new: int = 0
    new_bytes: int = 0
    stored_bytes: int = 0

    @property
    def reused(self) -> int:
        return self.total - self.new

    def add(self, size: int, new: bool, stored: int) -> None:
        """Count a chunk of the stream."""
        self.total += 1
        if new:
            self.new += 1
            self.new_bytes += size
            self.stored_bytes += stored


StoredChunks = list[tuple[ChunkId, int, bool, int]]
"""Id, size, whether it was new, and bytes as stored, of chunks in the order of the stream."""


def store_chunks(
    store: ChunkSink, digest: Digest, view: memoryview, batch: list[tuple[int, int]]
) -> StoredChunks:
    """Hash, look up, compress and write the chunks that lie in `view`; this is what workers do.

    :param batch: where each chunk begins and ends
    """
    chunks = [view[begin:end] for begin, end in batch]
    ids = digest.of_many(chunks)
    if isinstance(store, BatchSink):
        puts = store.put_many(list(zip(ids, chunks, strict=True)))
    else:
        puts = [store.put(id_, chunk) for id_, chunk in zip(ids, chunks, strict=True)]
    return [(id_, len(chunk), put.new, put.stored) for id_, chunk, put in zip(ids, chunks, puts, strict=True)]


class ChunkingSink(SlabSink):
    """Cuts a stream into chunks, puts them into a store and builds their index.

    :param store: where chunks go
    :param sizes: where to cut
    :param feature_flags: for the index header; they also say what chunk ids are made with
    :param stream_digest: whether to hash the whole stream as well
    :param jobs: threads that hash and compress; None for one a processor
    """

    def __init__(
        self,
        store: ChunkSink,
        sizes: ChunkSizes,
        feature_flags: int,
        *,
        stream_digest: bool = True,
        jobs: int | None = None,
    ) -> None:
        self._builder = IndexBuilder(feature_flags, sizes)
        self._chunk_digest = Index(feature_flags, sizes, b"").digest
        jobs = jobs or default_jobs()
        slab = max(_SLAB, 2 * sizes.max)
        slabs = jobs + 3 if slab == _SLAB else 3
        super().__init__(self._chunk_digest if stream_digest else None, slab, slabs)
        self._store = store
        self._early = store.flush if isinstance(store, Deferring) else store.sync
        self._finder = CutFinder(sizes, jobs)
        self._chunker = self._finder.chunker
        # Deep enough to keep every worker busy; slabs bound the memory.
        self._pool: OrderedPool[StoredChunks] = OrderedPool(jobs, slabs * slab // _BATCH)
        self.counts = ChunkCounts()
        self._known: StoredChunks = []
        self._zero_length = 0
        self._zeros: ChunkId | None = None
        """Id of the chunk of zeros, once it is stored."""
        self._syncer = Sequencer()
        self._synced_bytes = 0

    def _consume(self, slab: Slab, begin: int, seen: int, end: int, last: bool) -> int:
        super()._consume(slab, begin, seen, end, last)
        cuts = self._finder.cuts(slab.view, begin, seen, end)
        if last and end > begin and (not cuts or cuts[-1] != end):
            cuts.append(end)
        batch_begin = begin
        batch: list[tuple[int, int]] = []
        for cut in cuts:
            batch.append((begin, cut))
            begin = cut
            if cut - batch_begin >= _BATCH:
                self._submit(slab, batch)
                batch = []
                batch_begin = cut
        if batch:
            self._submit(slab, batch)
        return begin

    def _submit(self, slab: Slab, batch: list[tuple[int, int]]) -> None:
        self._submit_known()
        for done in self._pool.submit(self._store_batch, slab.view, batch):
            self._collect(done)
        slab.users.append(self._pool.newest)

    def _store_batch(self, view: memoryview, batch: list[tuple[int, int]]) -> StoredChunks:
        """Runs on a worker."""
        return store_chunks(self._store, self._chunk_digest, view, batch)

    # Chunks that are known

    @property
    def boundary(self) -> int:
        """Offset in the stream of the end of the last chunk, as of the last `cut` or `skip`."""
        return self._slabs.written - self._slabs.pending

    def cut(self) -> None:
        """Cut what was given, so that `boundary` is known."""
        self._slabs.consume()

    def skip(self, id_: ChunkId, size: int) -> None:
        """Count a known chunk, which begins at `boundary`; the bytes of it that were given already are dropped.

        Not for a sink that hashes the stream: nobody sees those bytes.
        """
        assert self._hasher is None
        given = min(size, self._slabs.pending)
        self._slabs.take_back(given)
        self._slabs.written += size - given
        self._known.append((id_, size, False, 0))
        if len(self._known) >= _LONGEST_BATCH:
            self._submit_known()

    def _submit_known(self) -> None:
        if self._known:
            for done in self._pool.submit(list, self._known):
                self._collect(done)
            self._known = []

    # Zeros

    def write_zeros(self, count: int) -> None:
        """Append `count` zero bytes: a hole. Its chunks are cut, hashed and stored once, however many there are.

        Within zeros every chunk is like the one before, since the hash window begins anew at each. So once a cut lies
        in the hole, what follows is known without looking at it.
        """
        most = self._chunker.sizes.max
        if self._chunker.sizes.fixed:
            self._write_fixed_zeros(count, most)
            return
        if count < 4 * most or most > _LARGEST_ZERO_CHUNK or most < WINDOW_SIZE:
            super().write_zeros(count)
            return
        super().write_zeros(most)
        carried = self._slabs.flush()  # zeros only: no chunk that began before the hole is longer than `most`
        length = self._zero_chunk_length()
        number, rest = divmod(count - most + carried, length)
        self._slabs.take_back(carried)
        self._add_zeros(number * length - carried)
        for done in self._pool.submit(self._store_zeros, length, number):
            self._collect(done)
        super().write_zeros(rest)

    def _write_fixed_zeros(self, count: int, size: int) -> None:
        """A hole in a stream that is cut every `size` bytes: what lies between two cuts is never looked at."""
        head = -self.written % size
        number = (count - head) // size
        if number * size < _SHORTEST_HOLE:
            super().write_zeros(count)
            return
        super().write_zeros(head)
        self._slabs.flush()  # up to a cut: nothing is carried on
        self._add_zeros(number * size)
        for done in self._pool.submit(self._store_zeros, size, number):
            self._collect(done)
        super().write_zeros(count - head - number * size)

    def _zero_chunk_length(self) -> int:
        if not self._zero_length:
            cuts = self._chunker.cuts(bytes(self._chunker.sizes.max), 0, self._chunker.sizes.max)
            self._zero_length = cuts[0]
        return self._zero_length

    def _store_zeros(self, length: int, number: int) -> StoredChunks:
        """Runs on a worker: `number` chunks of `length` zeros."""
        known = self._zeros
        if known is None:
            first = self._store_batch(memoryview(bytes(length)), [(0, length)])
            known = self._zeros = first[0][0]
            return first + [(known, length, False, 0)] * (number - 1)
        return [(known, length, False, 0)] * number

    def _collect(self, done: StoredChunks) -> None:
        counts = self.counts
        for id_, size, new, stored in done:
            self._builder.append(id_, size)
            counts.add(size, new, stored)
        if counts.stored_bytes - self._synced_bytes >= _SYNC_EVERY:
            # So that the disk works meanwhile, and little is left to wait for at the end.
            self._synced_bytes = counts.stored_bytes
            self._syncer.submit(self._early)

    def finish(self) -> None:
        """Store what is left; after it, `index` is complete and every chunk is durable."""
        super().finish()
        self._submit_known()
        for done in self._pool.drain():
            self._collect(done)
        self._syncer.wait()
        self._store.sync()

    @property
    def index(self) -> Index:
        """The index of the whole stream, after `finish`."""
        return self._builder.build()

    def close(self) -> None:
        """Stop the threads."""
        self._finder.close()
        self._pool.close()
        self._syncer.close()
        super().close()
