"""Extracting an archive to a directory.

    >>> extract_archive(Kind.ARCHIVE_INDEX, b"etc.caidx", b"/tmp/etc", LocalStore(b"default.castr"))

Chunks come from seeds first, then from the stores; every one is checked against its id before a byte of it is written.
Blobs are the business of `casync_compat.verbs.extract_blob`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from casync_compat.errors import CasyncError, FileError, RemoteError, StoreError, UsageError, show_path
from casync_compat.fs.apply.preview import PreviewWriter
from casync_compat.fs.apply.sparing import deleted_text, names_below
from casync_compat.fs.apply.tree import Follower, TreeStep, TreeWriter, apply_tree
from casync_compat.fs.losses import LACKING
from casync_compat.index import Index, digest_of_flags
from casync_compat.kinds import Kind
from casync_compat.progress import ProgressCallback, Warn, no_warning
from casync_compat.spool import SpoolError
from casync_compat.store.base import ChunkSource, OnDisk
from casync_compat.store.files import StoredFile
from casync_compat.streams.extraction import (
    ExtractCounter,
    ExtractOptions,
    ExtractResult,
    UnusedSeeds,
)
from casync_compat.streams.inputs import Input, load_index
from casync_compat.streams.seedfiles import SeedCache, file_seeds, is_file_seed, seed_paths
from casync_compat.streams.seeds import Seeded, SeedSource, SourceSeed
from casync_compat.streams.sharing import BlockSharing, HardLinks
from casync_compat.streams.transfer import OrderedPool, default_jobs
from casync_compat.streams.trees import Tree
from casync_compat.streams.treeseed import TreeSeed
from catar.errors import NotFound
from catar.flags import time_granularity
from catar.records import Node
from catar.runs import Run, count_nodes, run_paths
from catar.walker import Known, Walker

__all__ = ["extract_archive"]

_PIECE = 1 << 20
"""Bytes to read of an archive file at a time; smaller archives are extracted without threads."""
_STANDARD_INPUT = b"/proc/self/fd/0"
_WAITING = 2
"""Runs of files that wait to be written, beside those that threads are writing."""


_TEMPORARY = LACKING | {errno.ENOSPC, errno.EDQUOT, errno.EIO}


def _can_go_on(error: BaseException) -> bool:
    """Whether what stopped a run may be gone when it is run again."""
    if isinstance(error, FileError):
        return error.errno in _TEMPORARY
    return isinstance(error, (StoreError, RemoteError)) or not isinstance(error, Exception)


def _is_worth_keeping(error: BaseException) -> bool:
    """Whether what was written of a large file helps the next run, and is not in its way either."""
    return not isinstance(error, FileError) and _can_go_on(error)


def _tree_seeds(
    index: Index | None,
    features: int,
    output: bytes,
    options: ExtractOptions,
    seeds: SeedSource,
    unused: UnusedSeeds,
    warn: Warn,
) -> TreeSeed | None:
    """Read the seeds of a tree. :returns: the one that is the output as it was"""
    links = digest_of_flags(features) if options.hardlink else None
    if index is None and links is None:
        return None

    def read(path: bytes, unread: bool = False) -> TreeSeed | None:
        try:
            seed = TreeSeed(
                path,
                index,
                features,
                shift=options.apply.shift,
                links=links,
                jobs=options.jobs,
                unread=unread,
            )
        except SpoolError as error:  # it saves work; that there is no room to note it down costs only that
            warn(f"{show_path(path)} is not used as a seed: {error}")
            return None
        seeds.add(seed)
        return seed

    cache = SeedCache(options.seed_cache, look=options.on_change is not None)
    for path in options.seeds:
        try:
            if index is not None and is_file_seed(path) and not os.path.isdir(path):
                for each in file_seeds(path, index, jobs=options.jobs, cache=cache):
                    seeds.add(each)
                continue
            if not os.path.isdir(path):
                raise FileError(path, "use as a seed", "it is not a directory, and archives need one")
            read(path)
        except CasyncError as error:
            unused.add(path, error)
    if index is not None:
        for source in options.seed_sources:
            seeds.add(SourceSeed(source, index))
    if options.seed_output and index is not None and _has_entries(output):
        try:
            return read(output, unread=options.apply.compare == "metadata" and links is None)
        except CasyncError as error:
            warn(f"{show_path(output)} is not used as a seed: {error}")
    return None


def _may_stay(index: Index, options: ExtractOptions) -> bool:
    """Whether what the archive of the output has in common with the index need not be looked at again."""
    exact = time_granularity(index.feature_flags) == 1 and not options.hardlink
    return exact and options.on_change is None


def _nothing_done(index: Index, entries: int) -> ExtractResult:
    size, chunks = index.size, len(index)
    return ExtractResult(entries, size, chunks, chunks, size, unchanged=entries)


def _has_entries(path: bytes) -> bool:
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is not None
    except OSError:
        return False


class _Follower(Follower):
    """Tells whoever wants to know which nodes are written, and the progress of an archive that has no chunks."""

    def __init__(
        self, counter: ExtractCounter, index: Index | None, on_node: Callable[[bytes], None] | None
    ) -> None:
        self.entries = 0
        self._counter = counter
        self._index = index
        self._passed_from = self._passed_to = -1  # what was passed over without a break
        self._counted = (0, 0)  # chunks that lie wholly in it, and their bytes
        self._reporter = counter.reporter
        self._in_chunks = index is not None
        self._on_node = on_node

    def begins(self, step: TreeStep, path: bytes) -> None:
        if self._on_node is not None:
            for each in _paths(step, path):
                self._on_node(each)

    def wrote(self, step: TreeStep) -> None:
        if not self._in_chunks and self._reporter.due:
            if isinstance(step, Node):
                self._reporter.state.done = step.payload_offset
            elif isinstance(step, Run):
                self._reporter.state.done = step.base
            self._reporter.report()

    def passed(self, known: Known) -> bool:
        """Count a directory that was left as it is, with all that is in it."""
        assert self._index is not None, "archives without chunks have nothing to be known by"
        if known.start != self._passed_to:
            self._passed_from, self._counted = known.start, (0, 0)
        self._passed_to = known.end
        first, last = self._index.at(self._passed_from), self._index.at(known.end)
        first += self._index[first].start < self._passed_from
        if first < last:
            chunks, size = last - first, self._index[last].start - self._index[first].start
            self._counter.passed(chunks - self._counted[0], size - self._counted[1])
            self._counted = chunks, size
        self.entries += known.entries
        self._reporter.state.entries, self._reporter.state.path = self.entries, known.path
        return True

    def ended(self, step: TreeStep, path: bytes) -> None:
        self.entries += count_nodes(step) if isinstance(step, Run) else isinstance(step, Node)
        self._reporter.state.entries = self.entries
        self._reporter.state.path = path
        if isinstance(step, Run):
            self.wrote(step)


def _paths(step: TreeStep, path: bytes) -> Iterator[bytes]:
    """The paths of the nodes that begin with a step."""
    if isinstance(step, Run):
        yield from run_paths(step, path)
    elif isinstance(step, Node):
        yield path


def _in_use(
    source: Input | None, output: bytes, store: ChunkSource | None, options: ExtractOptions
) -> list[bytes]:
    """What is read while a tree is written. A seed that has the target in it is there to be updated."""
    used = [] if isinstance(source, StoredFile) else [_STANDARD_INPUT if source is None else source]
    used += store.own_paths if isinstance(store, OnDisk) else ()
    top = os.path.join(os.path.realpath(output), b"")
    named = (path for seed in options.seeds for path in seed_paths(seed))
    seeds = (seed for seed in named if not top.startswith(os.path.join(os.path.realpath(seed), b"")))
    return [*used, *seeds, *options.apply.in_use]


def _input_is_file() -> bool:
    """Whether standard input is a file that is read from its begin, so that it can be looked into beforehand."""
    try:
        return stat.S_ISREG(os.fstat(0).st_mode) and os.lseek(0, 0, os.SEEK_CUR) == 0
    except OSError:
        return False


def _refuse_to_replace(
    tree: Tree, inside: bytes, output: bytes, name: bytes | None, in_use: list[bytes]
) -> None:
    """Stop before the first change when the archive has an entry of the name of something in use.

    Of a stream that cannot be known beforehand; then the entry is left out when it comes, and the run fails in the end.
    """
    if tree.size is None:
        if tree.path is None and _input_is_file():
            with Tree(tree.kind, _STANDARD_INPUT) as again:
                _refuse_to_replace(again, inside, output, name, in_use)
        return
    for path in names_below(output, in_use):
        parts = path.split(b"/")
        if name is not None:
            if parts[0] != name:
                continue
            parts[0] = inside
        for count in range(1, len(parts) + 1):
            try:
                node = tree.archive().node(b"/".join(parts[:count]))
            except NotFound:
                break
            if count == len(parts) or not node.is_dir:
                where = os.path.join(output, path)
                raise FileError(
                    where, "extract over", "it is in use, and the archive has an entry of that name"
                )


def extract_archive(
    kind: Kind,
    source: Input | None,
    output: bytes,
    store: ChunkSource | None = None,
    *,
    inside: bytes = b"",
    options: ExtractOptions | None = None,
    warn: Warn = no_warning,
    on_node: Callable[[bytes], None] | None = None,
    progress: ProgressCallback | None = None,
) -> ExtractResult:
    """Restore an archive, or one node of it, to a directory.

    :param kind: `ARCHIVE` or `ARCHIVE_INDEX`
    :param source: the archive or index file; None for standard input
    :param output: the directory; made when it is missing, updated in place when it is there
    :param store: where an index's chunks are
    :param inside: path in the archive: that node alone is restored, as `output`/NAME
    :param warn: called with each warning, one line
    :param on_node: called with the path of each node when it begins
    :raises CasyncError: or `catar.CatarError`; what was complete until then stays, nothing half-written does but
        for what `ExtractOptions.resume` keeps, hidden
    """
    options = options or ExtractOptions()
    index = load_index(source, store) if kind is Kind.ARCHIVE_INDEX else None
    unused = UnusedSeeds(warn)
    with unused.told(), ExitStack() as stack:
        seeds = stack.enter_context(SeedSource())
        was: TreeSeed | None = None
        if index is not None:
            # Also where nothing is written: what only a seed has is not missing.
            was = _tree_seeds(index, index.feature_flags, output, options, seeds, unused, warn)
            if store is None:
                raise UsageError("an index needs a chunk store")
            store = Seeded(seeds, store) if seeds.seeds else store
        tree = stack.enter_context(Tree(kind, source, store, index=index, jobs=options.jobs))
        if inside.strip(b"/"):
            tree.archive()  # which opens what is far away once, and not to be read from front to back
        counter = ExtractCounter(progress, tree.size, seeds)
        follower = _Follower(counter, index, on_node)
        sharing = (
            BlockSharing(index, seeds) if index is not None and options.reflink and seeds.seeds else None
        )
        pool: OrderedPool[Any] | None = None
        if tree.size is None or tree.size > _PIECE:  # no threads for small archives
            pool = stack.enter_context(OrderedPool(options.jobs or default_jobs(), depth=1))

        def seeds_of_archive(features: int) -> None:
            if index is None:
                _tree_seeds(None, features, output, options, seeds, unused, warn)

        name = inside.strip(b"/").rpartition(b"/")[2] or None
        in_use = _in_use(source, output, store, options)
        continues = options.resume and options.seed_output and index is not None
        how = replace(
            options.apply, in_use=tuple(in_use), keeps=_is_worth_keeping if continues else options.apply.keeps
        )
        _refuse_to_replace(tree, inside.strip(b"/"), output, name, in_use)
        whole = name is None and on_node is None
        known: list[Known] = []
        if index is not None and was is not None and whole and _may_stay(index, options):
            if was.is_all_of(index):
                return _nothing_done(index, was.entries)
            known = was.known_in(index)
        gaps = [(each.start, each.end) for each in known]
        stream = tree.stream(inside, on_chunk=counter.on_chunk, piece=_PIECE, gaps=gaps)
        if options.on_change is not None:
            preview = PreviewWriter(output, how, warn=warn, on_change=options.on_change, name=name)
            apply_tree(stream, preview, follower)
            return replace(
                counter.result(tree.size or 0, entries=follower.entries),
                created=preview.created,
                updated=preview.tally.updated,
                unchanged=preview.tally.unchanged,
                deleted=preview.deleted.count,
                deleted_first=tuple(preview.deleted.first),
            )
        writer = TreeWriter(
            output,
            None,
            how,
            warn=warn,
            name=name,
            on_payload=sharing.on_payload if sharing is not None else None,
            links=HardLinks(seeds, seeds_of_archive) if options.hardlink else None,
            pool=pool,
            depth=_WAITING + (options.jobs or default_jobs()),
        )
        if known and isinstance(stream, Walker):
            stream.pass_over(known, lambda each: writer.leave(each) and follower.passed(each))
        try:
            apply_tree(stream, writer, follower)
        except BaseException as error:
            if writer.deleted.count and isinstance(
                error, Exception
            ):  # what is gone is told also where it failed
                warn(deleted_text(writer.deleted.count, writer.deleted.first))
            if follower.entries and _can_go_on(error):
                error.add_note(f"{show_path(output)} is not complete; the same command again continues")
            raise
        shared = sharing.shared if sharing is not None else 0
        result = counter.result(tree.size or 0, entries=follower.entries, shared=shared)
        deleted, tally = writer.deleted, writer.tally
        stood = tally.unchanged + tally.updated
        return replace(
            result,
            created=max(follower.entries - stood - tally.skipped, 0),
            updated=tally.updated,
            unchanged=tally.unchanged,
            deleted=deleted.count,
            deleted_first=tuple(deleted.first),
            left_out=writer.left_out,
        )
