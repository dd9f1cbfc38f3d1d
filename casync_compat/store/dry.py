"""A store that nothing is written to: what a run would store, for one that is only to say what it would do.

>>> store = DryStore(LocalStore(b"default.castr"))
>>> store.put(id_, chunk).new        # whether the chunk is missing there, and was not put before
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from casync_compat.errors import UsageError
from casync_compat.ids import ChunkId
from casync_compat.store.base import ChunkSink, Keeping, OnDisk, Put
from casync_compat.store.chunks import ChunkStore

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["DryStore"]


class DryStore:
    """A `store.base.ChunkSink` over a store that is only read.

    :param store: it need not be there; one that cannot tell what it has is taken for empty
    """

    def __init__(self, store: ChunkSink) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._put: set[bytes] = set()

    @property
    def own_paths(self) -> tuple[bytes, ...]:
        return self._store.own_paths if isinstance(self._store, OnDisk) else ()

    def put(self, id: ChunkId, data: ReadableBuffer) -> Put:
        """Whether the chunk would be written. :raises UsageError: `data` is empty"""
        if memoryview(data).nbytes == 0:
            raise UsageError("a chunk has at least one byte")
        with self._lock:
            if bytes(id) in self._put:
                return Put(False, 0)
            self._put.add(bytes(id))
        return Put(not self._is_there(id, data), 0)

    def _is_there(self, id: ChunkId, data: ReadableBuffer) -> bool:
        if isinstance(self._store, ChunkStore):
            return self._store.is_whole(id, data)
        return isinstance(self._store, Keeping) and self._store.has(id)

    def sync(self) -> None:
        """Nothing is there that could be lost."""
