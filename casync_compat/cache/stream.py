"""The new archive's stream, put together of fresh bytes and of parts of the old one that are known to be the same.

Where a chunk ends depends on the bytes from its beginning on. So when a chunk of the new stream begins in an unchanged
part, at the very byte where a chunk of the old one began, the two are the same chunk, if it does not reach beyond that
part; it need not be looked at. Elsewhere the old bytes are fetched from the store, which checks them, until a chunk
ends where one ended before: usually the first or the second does.
"""

from __future__ import annotations

from casync_compat.index import Index
from casync_compat.store.base import ChunkSource
from casync_compat.streams.assemble import ChunkFetcher
from casync_compat.streams.chunking import ChunkingSink

__all__ = ["SplicedStream"]


class SplicedStream:
    """Fills a sink, as one that knows the old stream (a `streams.archive.ArchiveOutput`).

    :param old: index of the old stream
    :param store: has its chunks
    :ivar hits: chunks that were not looked at
    """

    def __init__(self, sink: ChunkingSink, old: Index, store: ChunkSource) -> None:
        self._sink = sink
        self._old = old
        self._ends = old.ends
        self._fetcher = ChunkFetcher(old, store)
        self._pending: tuple[int, int] | None = None
        self.hits = 0
        self.advance = sink.advance

    @property
    def written(self) -> int:
        """Bytes of the stream so far."""
        begin, end = self._pending or (0, 0)
        return self._sink.written + end - begin

    def room(self) -> memoryview:
        """Room for fresh bytes."""
        self.settle()
        return self._sink.room()

    def write(self, data: bytes | memoryview) -> None:
        """Append fresh bytes."""
        self.settle()
        self._sink.write(data)

    def write_zeros(self, count: int) -> None:
        """Append fresh zeros."""
        self.settle()
        self._sink.write_zeros(count)

    def splice(self, begin: int, size: int) -> None:
        """Append the old stream's bytes from `begin` on."""
        if self._pending is not None and self._pending[1] == begin:
            self._pending = (self._pending[0], begin + size)
            return
        self.settle()
        self._pending = (begin, begin + size)

    def settle(self) -> None:
        """Have everything appended so far in the sink."""
        if self._pending is None:
            return
        begin, end = self._pending
        self._pending = None
        sink = self._sink
        at = begin
        while at < end:
            sink.cut()
            chunk_begin = at - (sink.written - sink.boundary)  # in the old stream, if it begins in this part
            if chunk_begin >= begin:
                skipped = self._skip(chunk_begin, end)
                if skipped > chunk_begin:
                    at = max(at, skipped)
                    continue
            at = self._read(at, end)

    def _skip(self, at: int, end: int) -> int:
        """Take over chunks that begin at `at` and lie before `end`. :returns: where the next one begins"""
        old, ends, sink = self._old, self._ends, self._sink
        number = old.at(at)
        if at and (number == 0 or ends[number - 1] != at):
            return at
        while number < len(old) - 1 and ends[number] <= end:  # the last one ends with the stream, at no cut
            chunk = old[number]
            sink.skip(chunk.id, chunk.size)
            self.hits += 1
            at = chunk.end
            number += 1
        return at

    def _read(self, at: int, end: int) -> int:
        """Give old bytes to the sink, to the end of their chunk. :returns: where they end"""
        chunk = self._old[self._old.at(at)]
        stop = min(chunk.end, end)
        data = memoryview(self._fetcher.fetch(chunk))
        self._sink.write(data[at - chunk.start : stop - chunk.start])
        return stop
