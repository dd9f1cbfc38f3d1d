"""Removing chunks that no index refers to.

Name all indexes that are to live. Those beside the store that nobody named are looked at as well: before chunks go that
one of them needs, the run refuses, unless it is told to go on. Indexes anywhere else are not known of here. Temporary
files that a crashed run left behind go too, once they are a day old and surely nobody's.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from casync_compat.errors import CasyncError, FileError, show_path
from casync_compat.ids import ChunkId
from casync_compat.index import Index
from casync_compat.store.base import OnDisk, Prunable

__all__ = ["GcResult", "UnnamedIndexes", "collect_garbage", "unnamed_message"]

_INDEXES = (b".caidx", b".caibx")

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
    :ivar unnamed: paths of indexes beside the store that lose chunks by it, since nobody named them; also of those that
        cannot be read, when anything goes
    """

    references: int
    needed: int
    chunks: int
    removed: int
    directories: int
    freed: int
    unnamed: tuple[bytes, ...] = ()

    @property
    def remaining(self) -> int:
        return self.chunks - self.removed


class UnnamedIndexes(CasyncError):
    """Chunks that would go are needed by indexes beside the store that were not named. Nothing was removed.

    :ivar paths: of those indexes
    """

    def __init__(self, paths: tuple[bytes, ...]) -> None:
        super().__init__(paths)
        self.paths = paths

    def __str__(self) -> str:
        return f"nothing is removed: {unnamed_message(self.paths)}"


def unnamed_message(paths: tuple[bytes, ...]) -> str:
    """What is to be said of indexes that nobody named: all of them by name, on one line."""
    one = len(paths) == 1
    return (
        f"chunks would be lost that {'an index' if one else f'{len(paths)} indexes'} beside the store may need, "
        f"which {'was' if one else 'were'} not named: {', '.join(map(show_path, paths))}"
    )


def collect_garbage(
    store: Prunable,
    indexes: Iterable[Index],
    *,
    dry_run: bool = False,
    ignore_unnamed: bool = False,
    on_chunk: Callable[[ChunkId], None] | None = None,
) -> GcResult:
    """Remove from a store every chunk that is in none of the indexes.

    :param ignore_unnamed: whether indexes beside the store that are not among `indexes` may lose chunks
    :param on_chunk: called with each chunk before it is removed, also in a dry run
    :raises UnnamedIndexes: they would; a dry run only tells
    :raises FileError: when the store cannot be read or changed; what was removed until then stays removed
    """
    needed: set[bytes] = set()
    references = 0
    for index in indexes:
        references += len(index)
        needed.update(index.ids())
    chunks = freed = 0
    directories = 0 if dry_run else store.directories()
    garbage: list[ChunkId] = []
    for id_ in store.ids():
        chunks += 1
        if id_ not in needed:
            garbage.append(id_)
    unnamed = _losing(store, garbage)
    if unnamed and not (dry_run or ignore_unnamed):
        raise UnnamedIndexes(unnamed)
    for id_ in garbage:
        if on_chunk is not None:
            on_chunk(id_)
        if not dry_run:
            freed += store.remove(id_)
    if not dry_run:
        store.clean(time.time_ns() - _STALE)
        directories -= store.directories()
    return GcResult(references, len(needed), chunks, len(garbage), directories, freed, unnamed)


def _losing(store: Prunable, garbage: Iterable[ChunkId]) -> tuple[bytes, ...]:
    """The indexes beside a store that need what is to go, or cannot be read. Those that were named need none of it."""
    going: frozenset[bytes] = frozenset(garbage)
    if not going or not isinstance(store, OnDisk):
        return ()
    return tuple(path for path in _beside(store.own_paths) if _needs(path, going))


def _needs(path: bytes, going: frozenset[bytes]) -> bool:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a FIFO must not hang
            return True
        return not going.isdisjoint(Index.load(path).ids())
    except (CasyncError, OSError):
        return True  # nobody knows what it needs


def _beside(stores: Iterable[bytes]) -> Iterator[bytes]:
    """Paths of all that is named as indexes are, in the directories that hold these; also where a link leads to."""
    holders = {os.path.dirname(path): None for store in stores for path in _places(store)}
    for holder in holders:
        try:
            names = sorted(os.listdir(holder))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise FileError(holder, "look for indexes in", error) from error
        for name in names:
            if name.endswith(_INDEXES):
                yield os.path.join(holder, name)


def _places(store: bytes) -> tuple[bytes, bytes]:
    return os.path.abspath(store), os.path.realpath(store)
