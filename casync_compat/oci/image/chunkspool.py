"""Chunks of an image that is being converted, kept in a spool until they go into packs.

`ChunkingSink` hands over chunks from several threads in any order, while packs hold them in the order in which layers
use them. So they are compressed as they come, into a spool; the finished indexes then say the order. The spool also
serves conversion to check itself: the tar is made again of what lies here, before anything is published.

Chunks that the base image has are kept as they are, without the work of compressing them: they only serve that check.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from casync_compat.closing import Closing
from casync_compat.compression import Compression, compress, decompress
from casync_compat.errors import ChunkMissing
from casync_compat.ids import ChunkId, Digest
from casync_compat.spool import Spool
from casync_compat.store.base import ChunkSink, Put

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["ChunkSpool"]

_CLAIMED = (0, 0, 0, False)


class ChunkSpool(Closing):
    """A ChunkSink over a temporary file, and a ChunkSource that does not hash again what it hashed itself.

    :param compression: of the chunks
    :param known: whether the base image has a chunk
    :param also: a store that gets every chunk as well
    """

    name = "temporary file"

    def __init__(
        self, compression: Compression, known: Callable[[ChunkId], bool], also: ChunkSink | None = None
    ) -> None:
        self._compression = compression
        self._known = known
        self._also = also
        self._lock = threading.Lock()
        self._places: dict[bytes, tuple[int, int, int, bool]] = {}  # offset, size there, raw size, compressed
        self._spool = Spool("chunks")

    def close(self) -> None:
        """Take the file away."""
        self._spool.close()

    def put(self, id: ChunkId, data: ReadableBuffer) -> Put:
        with self._lock:
            if id in self._places:
                return Put(False, 0)
            self._places[bytes(id)] = _CLAIMED
        if self._also is not None:
            self._also.put(id, data)
        raw = memoryview(data).nbytes
        new = not self._known(id)
        stored = memoryview(compress(self._compression, data) if new else data).cast("B")
        offset = self._spool.append(stored)
        self._places[bytes(id)] = (offset, stored.nbytes, raw, new)
        return Put(new, stored.nbytes if new else 0)

    def sync(self) -> None:
        """Nothing to be done for a temporary file; the other store is made durable."""
        if self._also is not None:
            self._also.sync()

    def has(self, id: ChunkId) -> bool:
        return id in self._places

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        data, compressed = self._read(id)
        return decompress(data, limit) if compressed else data

    def _read(self, id: ChunkId) -> tuple[bytes, bool]:
        found = self._places.get(id)
        if found is None:
            raise ChunkMissing(id, self.name)
        offset, size, _, compressed = found
        data = self._spool.read_at(offset, size)
        assert len(data) == size, "a file without a name has become shorter"
        return data, compressed

    def sizes(self, id: ChunkId) -> tuple[int, int] | None:
        """Bytes of a new chunk as stored, and before compression; None when it is not a new one."""
        found = self._places.get(id)
        return (found[1], found[2]) if found is not None and found[3] else None

    def frame(self, id: ChunkId) -> bytes:
        """A new chunk as it goes into a pack."""
        return self._read(id)[0]
