"""Removing chunks that no index refers to.

Only the given indexes count: a chunk that another index needs is removed like any other, so name them all. Temporary
files that a crashed run left behind go too, once they are a day old and surely nobody's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from casync_compat.ids import ChunkId
from casync_compat.index import Index
from casync_compat.store.base import Prunable

__all__ = ["GcResult", "collect_garbage"]

_STALE = 24 * 3600 * 1_000_000_000
"""Nanoseconds after which a temporary file is surely nobody's."""


@dataclass(frozen=True, slots=True)
class GcResult:
    """What a run removed, or would remove.

    :ivar references: rows of the indexes
    :ivar needed: different chunks that they name
    :ivar chunks: chunks in the store before
    :ivar removed: of these, those that no index names
    :ivar directories: sub directories that became empty and are gone
    :ivar freed: bytes on disk; 0 in a dry run
    """

    references: int
    needed: int
    chunks: int
    removed: int
    directories: int
    freed: int

    @property
    def remaining(self) -> int:
        return self.chunks - self.removed


def collect_garbage(
    store: Prunable,
    indexes: Iterable[Index],
    *,
    dry_run: bool = False,
    on_chunk: Callable[[ChunkId], None] | None = None,
) -> GcResult:
    """Remove from a store every chunk that is in none of the indexes.

    :param on_chunk: called with each chunk before it is removed, also in a dry run
    :raises FileError: when the store cannot be read or changed; what was removed until then stays removed
    """
    needed: set[bytes] = set()
    references = 0
    for index in indexes:
        references += len(index)
        needed.update(index.ids())
    chunks = removed = freed = 0
    directories = 0 if dry_run else store.directories()
    for id_ in store.ids():
        chunks += 1
        if id_ in needed:
            continue
        removed += 1
        if on_chunk is not None:
            on_chunk(id_)
        if not dry_run:
            freed += store.remove(id_)
    if not dry_run:
        store.clean(time.time_ns() - _STALE)
        directories -= store.directories()
    return GcResult(references, len(needed), chunks, removed, directories, freed)
