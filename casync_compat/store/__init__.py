"""Chunk stores: what one is (`base`), and the ones that are there. Only re-exports."""

from __future__ import annotations

from casync_compat.store.base import ChunkSink, ChunkSource, Prunable, Put, checked
from casync_compat.store.layered import Layered
from casync_compat.store.local import LocalStore
from casync_compat.store.memory import MemoryStore

__all__ = [
    "ChunkSink",
    "ChunkSource",
    "Layered",
    "LocalStore",
    "MemoryStore",
    "Prunable",
    "Put",
    "checked",
]
