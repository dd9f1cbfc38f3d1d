"""Removing chunks that no index refers to.

Name all indexes that are to live. Those beside the store that nobody named are looked at as well: before chunks go that
one of them needs, the run refuses, unless it is told to go on. Indexes anywhere else are not known of here. Temporary
files that a crashed run left behind go too, once they are a day old and surely nobody's.

Whoever writes to the store is waited for (`store.leases`), and only then are the indexes read: those that it made or
replaced count as they are then. An index that appeared beside the store since the run began, or beside one that was
named, counts as named: whoever named the others could not know of it. The same goes for indexes beside a store in a
bucket.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from casync_compat.errors import CasyncError, FileError, UsageError, show_path
from casync_compat.ids import ChunkId
from casync_compat.index import MAX_INDEX_SIZE, Index
from casync_compat.progress import ProgressCallback, Reporter
from casync_compat.store.base import Leased, Neighboured, OnDisk, Prunable, PrunableTogether, Repacking
from casync_compat.store.files import ONLY_HERE, Files
from casync_compat.store.leases import boot_time
from casync_compat.streams.leasing import Collection, busy, collecting

__all__ = ["GcResult", "UnnamedIndexes", "collect_garbage", "unnamed_message"]

_INDEXES = (b".caidx", b".caibx")

_STALE = 24 * 3600 * 1_000_000_000
"""Nanoseconds after which a temporary file is surely nobody's."""

_CLOCKS = 20_000_000
"""Nanoseconds: how far the times of a process's start and of a file may be from the truth, a tick of either."""
_TICK = 10_000_000
"""Nanoseconds: how much older a file may say that it is than it is."""
_LOOSE = 5 * 1_000_000_000
"""Nanoseconds by which a run may have begun earlier than it knows, where dates are whole seconds."""


@dataclass(frozen=True, slots=True)
class GcResult:
    """What a run removed, or would remove.

    :ivar references: rows of the indexes
    :ivar needed: different chunks that they name
    :ivar chunks: chunks in the store before
    :ivar removed: of these, those that no index names
    :ivar directories: sub directories that became empty and are gone
    :ivar freed: bytes on disk; 0 in a dry run
    :ivar spared: chunks that no index names either, and that stay because they are young
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
    spared: int = 0

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
    grace: float = 0.0,
    wait: float | None = None,
    began: float | None = None,
    named: Iterable[bytes] = (),
    on_chunk: Callable[[ChunkId], None] | None = None,
    tell: Callable[[str], None] | None = None,
    progress: ProgressCallback | None = None,
) -> GcResult:
    """Remove from a store every chunk that is in none of the indexes.

    :param indexes: taken when nobody else writes to the store, so that they may be read then
    :param ignore_unnamed: whether indexes beside the store that are not among `indexes` may lose chunks
    :param grace: seconds; chunks that are younger stay
    :param wait: seconds to wait for others who write; None for a minute. A dry run waits for nobody
    :param began: when it was said what is to live, by `store.leases.boot_time`; None for just now
    :param named: paths of the indexes that are files here; others that have appeared beside them since then live, too
    :param on_chunk: called with each chunk before it is removed, also in a dry run
    :param tell: called with a line about what others do there
    :param progress: told now and then how many chunks were looked at, and then how many of those that go are gone
    :raises StoreBusy: others write, and do not end; nothing is removed
    :raises UnnamedIndexes: such indexes would lose chunks; a dry run only tells
    :raises UsageError: the store does not know how old chunks are
    :raises FileError: when the store cannot be read or changed; what was removed until then stays removed
    """
    if grace and not (isinstance(store, Leased) and store.leases() is not None):
        raise UsageError(
            "this store does not say how old its chunks are, so that none can be spared by its age"
        )
    if began is None:
        began = boot_time()
    since, jumped = began, _Jumps()

    def run(collection: Collection, *, empty: bool = False) -> _Run:
        return _Run(
            store,
            collection,
            ignore_unnamed,
            on_chunk,
            since,
            named,
            jumped,
            Reporter(progress),
            dry=dry_run,
            empty=empty,
        )

    if dry_run:
        if tell is not None and (others := busy(store)):
            tell(f"{' and '.join(others)} may be writing to the store; what that needs is not counted")
        return _collect(run(Collection()), indexes, grace)
    if next(store.ids(), None) is None and not isinstance(store, Repacking):
        # There is nothing that others could lose; what they put there meanwhile is not looked at.
        return _collect(run(Collection(), empty=True), indexes, 0.0)
    with collecting(store, wait=wait, tell=tell) as collection:
        return _collect(run(collection), indexes, grace)


class _Jumps:
    """How far the clock of this machine was set forward since this was made."""

    def __init__(self) -> None:
        self._was = time.time() - boot_time()

    def __int__(self) -> int:
        return max(int((time.time() - boot_time() - self._was) * 1e9), 0)


@dataclass(frozen=True, slots=True)
class _Run:
    """A run of `collect_garbage`; fields as its parameters.

    :ivar empty: whether the store was, so that nothing in it is looked at
    """

    store: Prunable
    collection: Collection
    ignore_unnamed: bool
    on_chunk: Callable[[ChunkId], None] | None
    began: float
    named: Iterable[bytes]
    jumped: _Jumps
    reporter: Reporter
    dry: bool = False
    empty: bool = False

    def tell(self, ids: Sequence[ChunkId]) -> None:
        """Say what goes, or would go."""
        if self.on_chunk is not None:
            for id_ in ids:
                self.on_chunk(id_)

    def before(self, ids: Sequence[ChunkId]) -> None:
        """Say what goes next. :raises LeaseLost: others may write"""
        self.tell(ids)
        self.reporter.state.done += len(ids)
        if self.reporter.due:
            self.reporter.report()
        self.collection.check()

    def since_it_began(self) -> Iterator[Index]:
        """The indexes that have appeared beside the store, and beside those that were named.

        One that is as old as the run, as far as clocks tell, counts only where unnamed ones do not: there its chunks
        would go, here it is told of.
        """
        moment = self.collection.now() - int((boot_time() - self.began) * 1e9) - int(self.jumped)
        moment += -_TICK if self.ignore_unnamed else _CLOCKS
        for files, name, modified in _far_beside(self.store):
            if modified is None or modified >= moment - _LOOSE:
                index = _read(files, name)
                if index is not None:
                    yield index
        own = self.store.own_paths if isinstance(self.store, OnDisk) else ()
        for path in _beside((*own, *filter(os.path.isfile, self.named))):
            with suppress(
                CasyncError, OSError
            ):  # one that cannot be read is looked at again, and not forgotten
                status = os.stat(path)
                if status.st_ctime_ns >= moment and stat.S_ISREG(status.st_mode):
                    yield Index.load(path)


def _collect(run: _Run, indexes: Iterable[Index], grace: float) -> GcResult:
    store = run.store
    needed: set[bytes] = set()
    references = 0
    for index in indexes:
        references += len(index)
        needed.update(index.ids())
    kept = set(run.collection.named)
    for index in run.since_it_began():
        kept.update(index.ids())
    directories = 0 if run.dry else store.directories()
    chunks = 0
    garbage: list[ChunkId] = []
    run.reporter.state.unit = "chunks"
    for id_ in () if run.empty else store.ids():
        chunks += 1
        if run.reporter.due:
            run.reporter.state.done = chunks
            run.reporter.report()
        if id_ not in needed and id_ not in kept:
            garbage.append(id_)
    found = len(garbage)
    if grace and isinstance(store, Leased):
        youngest = run.collection.now() - int(grace * 1e9)
        garbage = [id_ for id_ in garbage if not store.younger(id_, youngest)]
    unnamed = _losing(store, garbage)
    if unnamed and not (run.dry or run.ignore_unnamed):
        raise UnnamedIndexes(unnamed)
    freed = 0
    run.reporter.state.done, run.reporter.state.total = 0, len(garbage)
    if run.dry:
        run.tell(garbage)
    elif isinstance(store, PrunableTogether):
        freed = store.remove_many(garbage, run.before)
    else:
        for id_ in garbage:
            run.before([id_])
            freed += store.remove(id_)
    if not run.dry:
        if isinstance(store, Repacking) and not run.empty:
            freed += store.repack(run.collection.check)
        store.clean(time.time_ns() - _STALE)
        directories -= store.directories()
    return GcResult(
        references, len(needed), chunks, len(garbage), directories, freed, unnamed, found - len(garbage)
    )


def _losing(store: Prunable, garbage: Iterable[ChunkId]) -> tuple[bytes, ...]:
    """The indexes beside a store that need what is to go, or cannot be read. Those that were named need none of it."""
    going: frozenset[bytes] = frozenset(garbage)
    if not going:
        return ()
    paths = (
        [path for path in _beside(store.own_paths) if _needs(path, going)]
        if isinstance(store, OnDisk)
        else []
    )
    for files, name, _ in _far_beside(store):
        index = _read(files, name)
        if index is None or not going.isdisjoint(index.ids()):
            paths.append(os.fsencode(files.name) + b"/" + name)
    return tuple(paths)


def _far_beside(store: Prunable) -> Iterator[tuple[Files, bytes, int | None]]:
    """All that is named as indexes are beside a store that is far away: place, name, and when it was written."""
    files = store.beside() if isinstance(store, Neighboured) else None
    if files is not None:
        for file in files.list(under=ONLY_HERE):
            if file.name.endswith(_INDEXES):
                yield files, file.name, file.modified


def _read(files: Files, name: bytes) -> Index | None:
    """An index, None if it cannot be read."""
    with suppress(CasyncError):
        content = files.read(name, MAX_INDEX_SIZE)
        return Index.parse(content, name) if content is not None else None
    return None


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
