"""Chunk stores: what one is (`base`), and the ones that are there. Only re-exports."""

from __future__ import annotations

from casync_compat.store.base import ChunkSink, ChunkSource, Prunable, Put, Store, checked
from casync_compat.store.chunks import ChunkStore
from casync_compat.store.files import Files
from casync_compat.store.layered import Layered
from casync_compat.store.local import LocalFiles, LocalStore
from casync_compat.store.memory import MemoryFiles, MemoryStore

__all__ = [
    "ChunkSink",
    "ChunkSource",
    "ChunkStore",
    "Files",
    "Layered",
    "LocalFiles",
    "LocalStore",
    "MemoryFiles",
    "MemoryStore",
    "Prunable",
    "Put",
    "Store",
    "checked",
]
