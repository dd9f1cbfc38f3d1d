"""A chunk store in a dictionary, for tests and for programs that need no files.

>>> store = MemoryStore()
>>> id = Digest.SHA512_256.of(b"hello")
>>> store.put(id, b"hello")
Put(new=True, stored=5)
>>> store.get(id, Digest.SHA512_256, limit=1024)
b'hello'
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from casync_compat.errors import ChunkCorrupt, ChunkMissing, UsageError
from casync_compat.ids import ChunkId, Digest
from casync_compat.store.base import Put, checked

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["MemoryStore"]


class MemoryStore:
    """A ChunkSource, ChunkSink and Prunable that forgets everything with the process.

    :ivar name: what messages call it
    :ivar chunks: the raw chunks by id; changing it changes the store
    """

    def __init__(self, name: str = "memory") -> None:
        self.name = name
        self.chunks: dict[ChunkId, bytes] = {}
        self._lock = threading.Lock()

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        raw = self.chunks.get(id)
        if raw is None:
            raise ChunkMissing(id, self.name)
        if len(raw) > limit:
            raise ChunkCorrupt(id, self.name, f"it has {len(raw)} bytes, the limit is {limit}")
        return checked(id, digest, raw, self.name)

    def has(self, id: ChunkId) -> bool:
        return id in self.chunks

    def keep(self, id: ChunkId, durable_before: int = 0) -> bool:
        """As `has`; nothing here is durable."""
        return self.has(id)

    def put(self, id: ChunkId, data: ReadableBuffer) -> Put:
        raw = bytes(data)
        if not raw:
            raise UsageError("a chunk has at least one byte")
        with self._lock:
            if id in self.chunks:
                return Put(False, 0)
            self.chunks[id] = raw
        return Put(True, len(raw))

    def sync(self) -> None:
        """Does nothing: memory is as durable as it gets."""

    def ids(self) -> Iterator[ChunkId]:
        return iter(sorted(self.chunks))

    def remove(self, id: ChunkId) -> int:
        return len(self.chunks.pop(id, b""))
