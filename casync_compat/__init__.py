"""casync in Python: make, extract and read its archives, indexes and chunk stores.

    >>> from casync_compat import api as casync
    >>> casync.make("etc.caidx", "/etc")

The verbs are functions in `casync_compat.api`; the types they take and give are here. Names load when they are first
used, so that importing this package costs nothing. The format itself is the package `catar`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from casync_compat.api import ArchiveTree
    from casync_compat.chunker import Chunker, ChunkSizes
    from casync_compat.compression import Compression
    from casync_compat.errors import (
        CasyncError,
        ChunkCorrupt,
        ChunkMissing,
        FileError,
        FormatError,
        StoreError,
        UsageError,
    )
    from casync_compat.fs.apply.restore import ApplyOptions
    from casync_compat.ids import ChunkId, Digest
    from casync_compat.index import Index
    from casync_compat.kinds import Kind
    from casync_compat.progress import Progress
    from casync_compat.store.layered import Layered
    from casync_compat.store.local import LocalStore
    from casync_compat.store.memory import MemoryStore
    from casync_compat.streams.archive import MakeResult
    from casync_compat.streams.extraction import ExtractOptions, ExtractResult

__all__ = [
    "ApplyOptions",
    "ArchiveTree",
    "CasyncError",
    "ChunkCorrupt",
    "ChunkId",
    "ChunkMissing",
    "ChunkSizes",
    "Chunker",
    "Compression",
    "Digest",
    "ExtractOptions",
    "ExtractResult",
    "FileError",
    "FormatError",
    "Index",
    "Kind",
    "Layered",
    "LocalStore",
    "MakeResult",
    "MemoryStore",
    "Progress",
    "StoreError",
    "UsageError",
]

__version__ = "0.1.0"

_ERRORS = "CasyncError ChunkCorrupt ChunkMissing FileError FormatError StoreError UsageError"
_HOMES = {
    "api": "ArchiveTree",
    "chunker": "Chunker ChunkSizes",
    "compression": "Compression",
    "ids": "ChunkId Digest",
    "errors": _ERRORS,
    "streams.extraction": "ExtractOptions ExtractResult",
    "fs.apply.restore": "ApplyOptions",
    "index": "Index",
    "kinds": "Kind",
    "streams.archive": "MakeResult",
    "progress": "Progress",
    "store.layered": "Layered",
    "store.local": "LocalStore",
    "store.memory": "MemoryStore",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
