"""A directory archived as an index with the help of a cache: the verb `make`, where it was told to use one.

First: nothing changed, and the store has every chunk - then the old index is the new one. Else the tree is scanned;
what is the same is passed over, and the new stream is put together of old parts and fresh bytes.

Why the cache may be believed is told in `fs.identity`. It is not used at all where the users' names are others now,
where something is to be left out that was archived before, or where a chunk is missing from the store. With
``--exclude-submounts`` it never is: mount points have no identity.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from casync_compat.cache.file import CacheFile, CacheKey, CacheWriter, Description
from casync_compat.cache.snapshot import Snapshot, names_now
from casync_compat.cache.splicer import Splicer
from casync_compat.cache.stream import SplicedStream
from casync_compat.chunker import ChunkSizes
from casync_compat.errors import FormatError, StoreError
from casync_compat.fs.losses import Losses
from casync_compat.fs.owners import IdShift
from casync_compat.fs.scan.directory import KeptOut
from casync_compat.fs.scan.reusing import ReusingScanner
from casync_compat.ids import ChunkId
from casync_compat.index import Index
from casync_compat.progress import Reporter
from casync_compat.store.base import Keeping
from casync_compat.streams.chunking import ChunkCounts, ChunkingSink
from casync_compat.streams.transfer import OrderedPool, default_jobs

__all__ = ["CachedRun", "Job", "archive_with_cache"]

_MARGIN = 1_000_000_000
"""Nanoseconds by which a chunk must be older than a sync that is to have covered it."""
_IDS = 500
"""Chunks that a worker looks up in one go."""


@dataclass(frozen=True, slots=True)
class CachedRun:
    """What a run made.

    :ivar entries: nodes archived
    :ivar hits: chunks that nobody had to look at
    :ivar excluded: how many entries were kept out on purpose; where all is the same, there were none
    """

    index: Index
    counts: ChunkCounts
    entries: int
    hits: int
    excluded: KeptOut = field(default_factory=KeptOut)


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be archived, and how.

    :ivar skip: `(device, inode)` of what is not
    :ivar jobs: threads, None for one a processor
    :ivar certain: whether only what cannot have changed unseen counts as the same
    :ivar losses: told of what is not read as it was; None fails at the first
    """

    source: bytes
    store: Keeping
    feature_flags: int
    sizes: ChunkSizes
    shift: IdShift
    skip: Collection[tuple[int, int]]
    jobs: int | None
    losses: Losses | None = None
    certain: bool = False


def archive_with_cache(
    directory: bytes, job: Job, reporter: Reporter, warn: Callable[[str], None]
) -> CachedRun:
    """Archive a directory; after it every chunk is durable, and the cache is that of this run.

    :param directory: where caches are
    :param warn: called with one line when a cache or a chunk is of no use because it is damaged
    :raises FileError: when the tree or the cache cannot be read, or the store or the cache be written
    """
    key = CacheKey.of(job.source, job.feature_flags, job.sizes, job.shift, job.certain)
    path = key.path_in(directory)
    try:
        old = CacheFile.load(path, key)
    except FormatError as error:
        warn(f"{error}; the cache is made anew")
        old = None
    if old is None or names_now(old.description.names) != old.description.names:
        return _archive(path, key, None, job, reporter)
    snapshot = Snapshot.of(old, job.source, job.jobs or default_jobs())
    index = Index(job.feature_flags, job.sizes, bytes(old.table))
    if snapshot.mentions(job.skip) or not _all_kept(index, job, old.synced - _MARGIN):
        return _archive(path, key, None, job, reporter)
    if snapshot.all_same:
        now = time.time_ns()
        job.store.sync()
        old.mark_synced(now)
        return CachedRun(index, ChunkCounts(total=len(index)), snapshot.entries, len(index))
    try:
        return _archive(path, key, (snapshot, index), job, reporter)
    except StoreError as error:
        warn(f"{error}; everything is read again")
        if job.losses is not None:
            job.losses.forget()
        return _archive(path, key, None, job, reporter)


def _all_kept(index: Index, job: Job, durable_before: int) -> bool:
    """Whether the store has every chunk. What an earlier run had synced need not be again."""
    ids = list(set(index.ids()))
    jobs = job.jobs or default_jobs()
    with OrderedPool[bool](jobs, 4 * jobs) as pool:
        for at in range(0, len(ids), _IDS):
            if not all(pool.submit(_keeps, job.store, ids[at : at + _IDS], durable_before)):
                return False
        return all(pool.drain())


def _keeps(store: Keeping, ids: list[ChunkId], durable_before: int) -> bool:
    """Runs on a worker."""
    return all(store.keep(id_, durable_before) for id_ in ids)


def _archive(
    path: bytes, key: CacheKey, old: tuple[Snapshot, Index] | None, job: Job, reporter: Reporter
) -> CachedRun:
    flags = job.feature_flags
    snapshot, index = old or (None, Index(flags, job.sizes, b""))
    with (
        CacheWriter(path, key) as writer,
        ChunkingSink(job.store, job.sizes, flags, stream_digest=False, jobs=job.jobs) as sink,
        ReusingScanner(
            job.source,
            flags,
            shift=job.shift,
            skip=job.skip,
            before=snapshot,
            losses=job.losses,
            certain=job.certain,
        ) as scanner,
    ):
        stream = SplicedStream(sink, index, job.store)
        splicer = Splicer(scanner, stream, writer, snapshot, reporter, sink.counts)
        splicer.run()
        now = time.time_ns()
        sink.finish()
        index = sink.index
        writer.finish(Description(scanner.root_identity, splicer.names), index, synced=now)
    return CachedRun(index, sink.counts, splicer.entries, stream.hits, scanner.excluded)
