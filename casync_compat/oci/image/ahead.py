"""Chunks fetched before they are asked for, on several threads, by somebody who knows which ones will be.

    >>> with Ahead(source, Digest.SHA512_256) as ahead:
    ...     ahead.plan((id, size) for id, size in what_will_be_read)
    ...     reader = IndexReader(ChunkFetcher(index, ahead))     # reads as if nothing had happened, but faster

What is asked for in another order than planned, or was not planned, is fetched there and then. One reader at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from casync_compat.closing import Closing
from casync_compat.ids import ChunkId, Digest
from casync_compat.store.base import ChunkSource
from casync_compat.streams.transfer import OrderedPool, default_jobs

__all__ = ["Ahead"]

_BATCH = 256 << 10
_WINDOW = 8 << 20

_Wanted = tuple[ChunkId, int]
_Got = tuple[ChunkId, bytes]


class Ahead(Closing):
    """A ChunkSource over another that keeps some chunks of its plan under way.

    :param digest: of the chunk ids in the plan
    :param jobs: threads; None for one a processor
    """

    def __init__(self, source: ChunkSource, digest: Digest, jobs: int | None = None) -> None:
        self.name = source.name
        self._source = source
        self._digest = digest
        self._jobs = jobs or default_jobs()
        self._pool: OrderedPool[list[_Got]] | None = None
        self._plan: Iterator[_Wanted] = iter(())
        self._batches: deque[list[_Wanted]] = deque()
        self._ready: deque[_Got] = deque()
        self._coming: dict[ChunkId, int] = {}
        self._under_way = 0

    def plan(self, wanted: Iterable[_Wanted]) -> None:
        """Say what will be asked for, in order, each chunk with its size in bytes. Replaces the plan before."""
        self.close()
        self._plan = iter(wanted)

    def close(self) -> None:
        """Stop fetching, and forget the plan."""
        self._plan = iter(())
        self._batches.clear()
        self._ready.clear()
        self._coming.clear()
        self._under_way = 0
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def has(self, id: ChunkId) -> bool:
        return self._source.has(id)

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        self._fill()
        if digest is self._digest and id in self._coming:
            while True:
                if not self._ready:
                    self._take()
                found, data = self._ready.popleft()
                self._forget(found)
                if found == id:
                    return data
        return self._source.get(id, digest, limit)

    def _forget(self, id: ChunkId) -> None:
        left = self._coming[id] - 1
        if left:
            self._coming[id] = left
        else:
            del self._coming[id]

    def _take(self) -> None:
        assert self._pool is not None
        self._under_way -= sum(size for _, size in self._batches.popleft())
        try:
            self._ready.extend(self._pool.take())
        except BaseException:
            self.close()
            raise

    def _fill(self) -> None:
        """Start fetching as much as there is room for."""
        while self._under_way < _WINDOW:
            batch: list[_Wanted] = []
            size = 0
            for wanted in self._plan:
                batch.append(wanted)
                size += wanted[1]
                self._coming[wanted[0]] = self._coming.get(wanted[0], 0) + 1
                if size >= _BATCH:
                    break
            if not batch:
                return
            if self._pool is None:
                self._pool = OrderedPool(self._jobs, depth=1)
            self._pool.start(self._fetch, batch)
            self._batches.append(batch)
            self._under_way += size

    def _fetch(self, batch: list[_Wanted]) -> list[_Got]:
        """Runs on a worker."""
        return [(id_, self._source.get(id_, self._digest, size)) for id_, size in batch]
