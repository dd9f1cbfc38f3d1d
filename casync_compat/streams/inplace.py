"""What of an index is in a file already, each chunk at its own place: kept when a file is updated, or taken up again.

    >>> found = chunks_in_place(fd, os.fstat(fd).st_size, index)
    >>> found.count(IN_PLACE)
    312

Chunks are read and compared with their ids; nothing is believed of what an earlier run left. Data elsewhere in the file
is the business of seeds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from casync_compat.ids import ChunkId
from casync_compat.index import Index, IndexChunk
from casync_compat.streams.transfer import OrderedPool, default_jobs

__all__ = ["HOLE", "IN_PLACE", "chunks_in_place"]

OTHER, IN_PLACE, HOLE = 0, 1, 2
"""For each chunk: something else is in its place; it is; there is a hole, which it is not."""

_BATCH = 1 << 20


def chunks_in_place(fd: int, size: int, index: Index, *, jobs: int | None = None) -> bytearray:
    """For each chunk of an index what is in its place in a file; a byte that is one of the constants of this module.

    What cannot be read is something else.

    :param fd: a regular file or block device, open for reading; stays the caller's
    :param size: in bytes
    """
    found = bytearray()
    look = _Look(fd, index)
    with OrderedPool[bytes](jobs or default_jobs(), 2 * (jobs or default_jobs())) as pool:
        for batch in _batches(index, size):
            for part in pool.submit(look, batch):
                found += part
        for part in pool.drain():
            found += part
    return found + bytes(len(index) - len(found))


def _batches(index: Index, size: int) -> Iterator[list[IndexChunk]]:
    """Chunks that follow one another and lie within the file, some at a time."""
    batch: list[IndexChunk] = []
    for chunk in index:
        if chunk.end > size:
            break
        batch.append(chunk)
        if chunk.end - batch[0].start >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


class _Look:
    """Looks at some chunks, on a worker."""

    def __init__(self, fd: int, index: Index) -> None:
        self._fd = fd
        self._digest = index.digest
        self._zeros: tuple[int, ChunkId] | None = None

    def __call__(self, batch: list[IndexChunk]) -> bytes:
        start, end = batch[0].start, batch[-1].end
        hole = self._is_hole(start, end)
        if hole:
            return bytes(IN_PLACE if self._zeros_id(chunk.size) == chunk.id else HOLE for chunk in batch)
        data = self._read(start, end - start)
        parts = [data[chunk.start - start : chunk.end - start] for chunk in batch]
        ids = self._digest.of_many(parts)
        return bytes(
            IN_PLACE if id_ == chunk.id and len(part) == chunk.size else OTHER
            for chunk, part, id_ in zip(batch, parts, ids, strict=True)
        )

    def _is_hole(self, start: int, end: int) -> bool:
        try:
            return os.lseek(self._fd, start, os.SEEK_DATA) >= end
        except OSError:  # no more data, or holes are not known here
            try:
                return os.lseek(self._fd, start, os.SEEK_HOLE) == start
            except OSError:
                return False

    def _zeros_id(self, size: int) -> ChunkId:
        known = self._zeros
        if known is None or known[0] != size:
            known = self._zeros = (size, self._digest.of(bytes(size)))
        return known[1]

    def _read(self, start: int, size: int) -> memoryview:
        parts = []
        try:
            while size and (data := os.pread(self._fd, size, start)):
                parts.append(data)
                start += len(data)
                size -= len(data)
        except OSError:
            pass  # it is written anew
        return memoryview(parts[0] if len(parts) == 1 else b"".join(parts))
