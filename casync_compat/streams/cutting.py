"""Cut points of a stream that is collected in slabs, found by several threads; where to cut is for `chunker` to say."""

from __future__ import annotations

from casync_compat.chunker import Chunker, ChunkSizes
from casync_compat.chunker.spans import join, spans
from casync_compat.closing import Closing
from casync_compat.streams.transfer import OrderedPool

__all__ = ["CutFinder"]

_WORKERS_A_THREAD = 4
_MOST_THREADS = 8
_SHORTEST_SPAN = 256 << 10
"""Bytes: below it, handing a span to a thread takes longer than looking at it."""


class CutFinder(Closing):
    """Finds cuts as a `Chunker` does, on several threads where one could not keep up.

    One thread finds cuts faster than a few workers hash and compress what lies between them; with many it would be what
    all wait for. So for each four workers one more thread looks at a span of its own, and the results are joined to
    exactly what one thread finds (`casync_compat.chunker.spans`).

    :param jobs: workers that wait for what is found
    """

    def __init__(self, sizes: ChunkSizes, jobs: int) -> None:
        self.chunker = Chunker(sizes)
        self._threads = 1 if sizes.fixed else min(1 + jobs // _WORKERS_A_THREAD, _MOST_THREADS)
        self._pool: OrderedPool[list[int]] | None = None

    def cuts(self, view: memoryview, begin: int, seen: int, end: int) -> list[int]:
        """The ends of all chunks that are complete in ``view[begin:end]``, of which a chunk begins at `begin`.

        :param seen: offset up to which an earlier call found no end for that chunk
        """
        count = min(self._threads, (end - seen) // _SHORTEST_SPAN)
        if count < 2:
            return self.chunker.cuts(view, begin, end, seen)
        if self._pool is None:
            self._pool = OrderedPool(self._threads - 1, self._threads)
        first, *others = spans(seen, end, count)
        for start, stop in others:
            self._pool.start(self.chunker.cuts, view, start, stop)
        cuts = self.chunker.cuts(view, begin, first[1], seen)
        guesses = [self._pool.take() for _ in others]
        begin = cuts[-1] if cuts else begin
        return cuts + join(self.chunker, view, begin, end, first[1], others, guesses)

    def close(self) -> None:
        """Stop the threads."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None
