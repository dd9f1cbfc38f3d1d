"""A store that nothing is written to: what a run would store, for one that is only to say what it would do.

>>> store = DryStore(LocalStore(b"default.castr"))
>>> store.put(id_, chunk).new        # whether the chunk is missing there, and was not put before
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from casync_compat.errors import UsageError
from casync_compat.ids import ChunkId
from casync_compat.store.base import Put, Store
from casync_compat.store.chunks import ChunkStore

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["DryStore"]


class DryStore:
    """A `store.base.ChunkSink` over a store that is only read.

    :param store: it need not be there
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._put: set[bytes] = set()

    @property
    def own_paths(self) -> tuple[bytes, ...]:
        return self._store.own_paths

    def put(self, id: ChunkId, data: ReadableBuffer) -> Put:
        """Whether the chunk would be written. :raises UsageError: `data` is empty"""
        if memoryview(data).nbytes == 0:
            raise UsageError("a chunk has at least one byte")
        with self._lock:
            if bytes(id) in self._put:
                return Put(False, 0)
            self._put.add(bytes(id))
        there = self._store.is_whole(id, data) if isinstance(self._store, ChunkStore) else self._store.has(id)
        return Put(not there, 0)

    def sync(self) -> None:
        """Nothing is there that could be lost."""
