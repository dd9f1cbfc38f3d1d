"""casync in Python: make, extract and read its archives, indexes and chunk stores.

    >>> import casync_compat as casync
    >>> made = casync.make("etc.caidx", "etc")
    >>> made.entries, made.index is not None
    (4, True)
    >>> with casync.open_archive("etc.caidx") as tree:
    ...     "hostname" in tree, tree["hostname"].size
    (True, 8)

casync's verbs are functions - `make`, `extract`, `list`, `stat`, `digest`, `mtree`, `info`, `gc`, `convert_index`,
`delta`, `apply`, `cat` - and `open_archive` and `open_blob` read at leisure; `help(casync_compat.api)` says what paths,
stores and indexes may be. All errors are `CasyncError`. Names load when they are first used, so that importing this
package costs nothing. The format itself is the package `catar`.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = (
    False  # checkers know the name; importing `typing` is most of the time that importing this takes
)
if TYPE_CHECKING:
    import builtins
    from typing import Any

    from casync_compat.api import (
        apply,
        cat,
        convert_index,
        delta,
        digest,
        extract,
        gc,
        info,
        list,
        make,
        mtree,
        open_archive,
        open_blob,
        open_store,
        stat,
    )
    from casync_compat.api.opened import ArchiveTree, BlobFile
    from casync_compat.chunker import Chunker, ChunkSizes
    from casync_compat.compression import Compression
    from casync_compat.errors import (
        AccessDenied,
        CasyncError,
        ChunkCorrupt,
        ChunkMissing,
        ClosedError,
        FileError,
        FormatError,
        NotFound,
        RemoteError,
        StoreError,
        UsageError,
    )
    from casync_compat.fs.apply.restore import ApplyOptions
    from casync_compat.fs.owners import IdShift
    from casync_compat.ids import ChunkId, Digest
    from casync_compat.index import Index, IndexChunk
    from casync_compat.kinds import Kind
    from casync_compat.progress import Progress
    from casync_compat.store.base import ChunkSink, ChunkSource, Prunable, Put, Store
    from casync_compat.store.layered import Layered
    from casync_compat.store.local import LocalStore
    from casync_compat.store.memory import MemoryStore
    from casync_compat.streams.archive import MakeResult
    from casync_compat.streams.extraction import ExtractOptions, ExtractResult
    from casync_compat.verbs.apply import ApplyResult
    from casync_compat.verbs.delta import DeltaResult
    from casync_compat.verbs.gc import GcResult
    from casync_compat.verbs.info import IndexInfo
    from casync_compat.verbs.make import MakeOptions
    from casync_compat.verbs.stat import NodeStat

__all__ = [
    "AccessDenied",
    "ApplyOptions",
    "ApplyResult",
    "ArchiveTree",
    "BlobFile",
    "CasyncError",
    "ChunkCorrupt",
    "ChunkId",
    "ChunkMissing",
    "ChunkSink",
    "ChunkSizes",
    "ChunkSource",
    "Chunker",
    "ClosedError",
    "Compression",
    "DeltaResult",
    "Digest",
    "ExtractOptions",
    "ExtractResult",
    "FileError",
    "FormatError",
    "GcResult",
    "IdShift",
    "Index",
    "IndexChunk",
    "IndexInfo",
    "Kind",
    "Layered",
    "LocalStore",
    "MakeOptions",
    "MakeResult",
    "MemoryStore",
    "NodeStat",
    "NotFound",
    "Progress",
    "Prunable",
    "Put",
    "RemoteError",
    "Store",
    "StoreError",
    "UsageError",
    "apply",
    "cat",
    "convert_index",
    "delta",
    "digest",
    "extract",
    "gc",
    "info",
    "list",
    "make",
    "mtree",
    "open_archive",
    "open_blob",
    "open_store",
    "stat",
]

__version__ = "0.1.0"

_HOMES = {
    "api": "apply cat convert_index delta digest extract gc info list make mtree open_archive open_blob open_store "
    "stat",
    "api.opened": "ArchiveTree BlobFile",
    "chunker": "Chunker ChunkSizes",
    "compression": "Compression",
    "errors": "AccessDenied CasyncError ChunkCorrupt ChunkMissing ClosedError "
    "FileError FormatError NotFound RemoteError StoreError UsageError",
    "fs.apply.restore": "ApplyOptions",
    "fs.owners": "IdShift",
    "ids": "ChunkId Digest",
    "index": "Index IndexChunk",
    "kinds": "Kind",
    "progress": "Progress",
    "store.base": "ChunkSink ChunkSource Prunable Put Store",
    "store.layered": "Layered",
    "store.local": "LocalStore",
    "store.memory": "MemoryStore",
    "streams.archive": "MakeResult",
    "streams.extraction": "ExtractOptions ExtractResult",
    "verbs.apply": "ApplyResult",
    "verbs.delta": "DeltaResult",
    "verbs.gc": "GcResult",
    "verbs.info": "IndexInfo",
    "verbs.make": "MakeOptions",
    "verbs.stat": "NodeStat",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> builtins.list[str]:
    return sorted([*__all__, "__version__"])
