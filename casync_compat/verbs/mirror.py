"""Keeping a place equal to another: indexes with the chunks that they need, and plain archives.

    >>> mirror(source, target, chunks, store, ["*.caidx"]).copied
    2

Chunks that are there are not fetched; others are checked on the way. When all of an index are durable, the index
appears, whole: a run that breaks off leaves no index that lies, and the next one goes on where it was. Nothing is
known here of locations (`locations`), nor are chunks removed (`verbs.gc`).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from casync_compat.errors import CasyncError, FileError, FormatError, NotFound, StoreError, UsageError
from casync_compat.fs.glob import translate
from casync_compat.ids import ChunkId
from casync_compat.index import MAX_INDEX_SIZE, Index, IndexChunk
from casync_compat.kinds import Kind
from casync_compat.progress import ProgressCallback, Reporter
from casync_compat.spool import Appender, Spool
from casync_compat.store.base import BatchSink, ChunkSource, Keeping, Leased, Put
from casync_compat.store.files import ONLY_HERE, Can, FileChanged, FileDamaged, Files, FileStatus
from casync_compat.streams.assemble import ChunkFetcher, place_chunks
from casync_compat.streams.leasing import Lease
from casync_compat.streams.transfer import OrderedPool, default_jobs

__all__ = ["INDEXES", "MirrorResult", "copy_one", "mirror"]

INDEXES = ("*.caidx", "*.caibx")
"""What is mirrored where nobody says what."""
_ASKED = 64
"""Chunks that a thread asks the store for before it says what it found."""
_WILD = frozenset("*?[\\")


class _Absent(NotFound):
    """The source has no such file."""


_OF_ONE = (StoreError, FormatError, FileDamaged, FileChanged, _Absent)
"""What is wrong with one file, and need not keep others from being mirrored."""


@dataclass(slots=True)
class MirrorResult:
    """What a run did, or would do.

    :ivar files: that were chosen
    :ivar copied: those of them that were not there, or not as they are now
    :ivar deleted: files that went, since the source has none of that name
    :ivar failed: files that could not be copied, and are as they were
    :ivar chunks: different chunks that the indexes need
    :ivar fetched: those of them that were not there
    :ivar fetched_bytes: what they have, uncompressed
    :ivar stored_bytes: what they take in the store
    """

    files: int = 0
    copied: int = 0
    deleted: int = 0
    failed: int = 0
    chunks: int = 0
    fetched: int = 0
    fetched_bytes: int = 0
    stored_bytes: int = 0


def mirror(
    source: Files,
    target: Files,
    chunks: ChunkSource,
    store: Keeping,
    patterns: Sequence[str] = INDEXES,
    *,
    delete: bool = False,
    keep: Sequence[str] = (),
    dry: bool = False,
    jobs: int | None = None,
    lease: Lease | None = None,
    on_file: Callable[[str, bytes], None] | None = None,
    on_failure: Callable[[bytes, CasyncError], None] | None = None,
    progress: ProgressCallback | None = None,
) -> MirrorResult:
    """Copy what is chosen and not there.

    :param source: where indexes and archives are
    :param target: where they go
    :param chunks: where chunks of the indexes are
    :param store: where they go
    :param patterns: names, or shell patterns of names, of what is to be copied
    :param delete: remove from the target what matches a pattern and is not in the source
    :param keep: patterns of what is not removed
    :param lease: of `store` (`streams.leasing.writing`), until this is done
    :param dry: write nothing, and tell what would be done
    :param on_file: told what becomes of a file, "copy" or "delete", before it does
    :param on_failure: told of a file that could not be copied, while others can; nothing is removed then
    :raises UsageError: the source cannot be listed, and that is needed
    :raises NotFound: nothing in the source was chosen
    :raises CasyncError: a place cannot be read or written; what was copied until then stays
    """
    chosen = _chosen(source, patterns, delete)
    if delete and Can.LIST not in target.can:
        raise UsageError(f"{target.name} cannot be listed, so that nothing can be removed there")
    work = _Work(chunks, store, dry, jobs, lease, Reporter(progress), on_file)
    for name in chosen:
        work.result.files += 1
        try:
            work.copy(source, name, target, name)
        except (*_OF_ONE, FileError) as error:
            of_one = isinstance(error, _OF_ONE) or error.errno == errno.EISDIR  # a directory is in its way
            if on_failure is None or not of_one:
                raise
            work.result.failed += 1
            on_failure(name, error)
    if delete and not work.result.failed:
        there = frozenset(chosen)
        kept = [translate(os.fsencode(one)) for one in keep]
        for name in _matching(target, patterns):
            if name not in there and not any(one.match(name) for one in kept):
                work.delete(target, name)
        work.finish_deleting(target)
    return work.result


def copy_one(
    source: tuple[Files, bytes],
    target: tuple[Files, bytes],
    chunks: ChunkSource,
    store: Keeping,
    *,
    dry: bool = False,
    jobs: int | None = None,
    lease: Lease | None = None,
    on_file: Callable[[str, bytes], None] | None = None,
    progress: ProgressCallback | None = None,
) -> MirrorResult:
    """Copy one index with its chunks, or one archive. Parameters and errors as of `mirror`.

    :param source: a place, and the name in it; so is `target`
    """
    work = _Work(chunks, store, dry, jobs, lease, Reporter(progress), on_file)
    work.result.files = 1
    work.copy(*source, *target)
    return work.result


def _chosen(source: Files, patterns: Sequence[str], delete: bool) -> list[bytes]:
    """The names in the source, in ascending order."""
    for pattern in patterns:
        if "/" in pattern or pattern in ("", ".", ".."):
            raise UsageError(f"{pattern!r} is no name in a place, and no pattern of names")
    wild = [one for one in patterns if not _WILD.isdisjoint(one)]
    if (wild or delete) and Can.LIST not in source.can:
        need = f"{wild[0]!r} chooses nothing there" if wild else "it is not known what to remove"
        raise UsageError(f"{source.name} cannot be listed, so that {need}; name the files that are wanted")
    names = {os.fsencode(one) for one in patterns if _WILD.isdisjoint(one)}
    if wild:
        names.update(_matching(source, wild))
    if not names:
        raise _not_found(source, os.fsencode(wild[0]))
    return sorted(names)


def _matching(files: Files, patterns: Iterable[str]) -> list[bytes]:
    """The names of files in no directory that match a pattern."""
    globs = [translate(os.fsencode(one)) for one in patterns]
    found = [file.name for file in files.list(under=ONLY_HERE, details=False)]
    return [name for name in found if b"/" not in name and any(glob.match(name) for glob in globs)]


def _not_found(files: Files, name: bytes) -> _Absent:
    return _Absent.at(os.fsencode(files.name) + b"/" + name)


class _Work:
    """A run. Parameters as of `mirror`."""

    def __init__(
        self,
        chunks: ChunkSource,
        store: Keeping,
        dry: bool,
        jobs: int | None,
        lease: Lease | None,
        reporter: Reporter,
        on_file: Callable[[str, bytes], None] | None,
    ) -> None:
        self.result = MirrorResult()
        self._chunks = chunks
        self._store = store
        self._dry = dry
        self._jobs = jobs
        self._lease = lease
        self._reporter = reporter
        self._on_file = on_file
        self._there: set[bytes] = set()
        reporter.state.total = 0

    def copy(self, source: Files, name: bytes, target: Files, new_name: bytes) -> None:
        """Copy an index with its chunks, or an archive."""
        self._reporter.state.path = name
        kind, new_kind = Kind.of_suffix(name), Kind.of_suffix(new_name)
        if kind is not new_kind and any(one is not None and one.is_index for one in (kind, new_kind)):
            raise UsageError(
                f"{os.fsdecode(new_name)}: {os.fsdecode(name)} is of another kind; name the copy alike"
            )
        if kind is not None and kind.is_index:
            self._copy_index(source, name, target, new_name)
        else:
            self._copy_archive(source, name, target, new_name)

    def delete(self, target: Files, name: bytes) -> None:
        """Remove a file."""
        self._tell("delete", name)
        self.result.deleted += 1
        if not self._dry:
            target.remove(name)

    def finish_deleting(self, target: Files) -> None:
        """Make durable that files have gone."""
        if self.result.deleted and not self._dry:
            target.sync()

    def _tell(self, what: str, name: bytes) -> None:
        if self._on_file is not None:
            self._on_file(what, name)

    # ---- indexes

    def _copy_index(self, source: Files, name: bytes, target: Files, new_name: bytes) -> None:
        content = source.read(name, MAX_INDEX_SIZE)
        if content is None:
            raise _not_found(source, name)
        path = os.fsencode(source.name) + b"/" + name
        index = Index.parse(content, path)
        try:
            same = target.read(new_name, MAX_INDEX_SIZE) == content
        except FileDamaged:  # larger than any index
            same = False
        if same and not isinstance(self._store, Leased):
            return  # casync, which cannot be asked for single chunks, has an index only with them
        if not same:
            self._tell("copy", name)
        if not self._dry:
            target.expect(new_name)
        missing = self._missing(index)
        if self._dry:
            self.result.fetched += len(missing)
            self.result.fetched_bytes += sum(chunk.size for chunk in missing)
            self.result.copied += not same
            return
        self._fetch(ChunkFetcher(index, self._chunks, path), missing)
        self._store.sync()
        if self._lease is not None:
            self._lease.keep(index)
        if not same:
            target.write(new_name, content)
            target.sync()
            self.result.copied += 1

    def _missing(self, index: Index) -> list[IndexChunk]:
        """The chunks that the store does not have, each once, in their order."""
        new: dict[ChunkId, IndexChunk] = {}
        for chunk in index:
            if chunk.id not in self._there:
                new.setdefault(chunk.id, chunk)
        self.result.chunks += len(new)
        missing: list[IndexChunk] = []
        for some in self._asked(list(new.values())):
            missing += some
        if self._dry:
            self._there.update(new)
        else:  # what is missing counts once it has come: another index may fetch it if this one cannot
            self._there.update(new.keys() - {chunk.id for chunk in missing})
        return missing

    def _asked(self, chunks: Sequence[IndexChunk]) -> Iterator[list[IndexChunk]]:
        def missing(some: Sequence[IndexChunk]) -> list[IndexChunk]:
            """Runs on a worker."""
            return [chunk for chunk in some if not self._store.keep(chunk.id)]

        jobs = self._jobs or default_jobs()
        with OrderedPool[list[IndexChunk]](jobs, 2 * jobs) as pool:
            for at in range(0, len(chunks), _ASKED):
                yield from pool.submit(missing, chunks[at : at + _ASKED])
            yield from pool.drain()

    def _fetch(self, fetcher: ChunkFetcher, missing: Sequence[IndexChunk]) -> None:
        index, store, result, state = fetcher.index, self._store, self.result, self._reporter.state
        many = store if isinstance(store, BatchSink) else None
        done: dict[ChunkId, Put] = {}

        def put(offset: int, found: list[bytes]) -> None:
            """Runs on a worker."""
            first = index.at(offset)
            pairs = [(index[first + number].id, raw) for number, raw in enumerate(found)]
            puts = [store.put(*pair) for pair in pairs] if many is None else many.put_many(pairs)
            done.update((id, one) for (id, _), one in zip(pairs, puts, strict=True))

        state.total = (state.total or 0) + sum(chunk.size for chunk in missing)
        for chunk in place_chunks(fetcher, put, chunks=missing, jobs=self._jobs) if missing else ():
            self._there.add(chunk.id)
            result.fetched += 1
            result.fetched_bytes += chunk.size
            result.stored_bytes += done.pop(chunk.id).stored
            state.done += chunk.size
            state.chunks += 1
            state.new_chunks += 1
            if self._reporter.due:
                self._reporter.report()

    # ---- archives

    def _copy_archive(self, source: Files, name: bytes, target: Files, new_name: bytes) -> None:
        before, there = _status(source, name), _status(target, new_name)
        if before is not None and there is not None and _is_current(before, there):
            return
        pieces = source.pieces(name)
        if pieces is None:
            raise _not_found(source, name)
        self._tell("copy", name)
        if self._dry:
            self.result.copied += 1
            return
        state = self._reporter.state
        state.total = None if before is None or state.total is None else state.total + before.size
        with Spool("an archive to be copied") as spool:
            out = Appender(spool)
            for piece in pieces:
                out.append(piece)
                state.done += len(piece)
                if self._reporter.due:
                    self._reporter.report()
            out.flush()
            after = _status(source, name)
            if before is not None and (after is None or not after.is_of_same(before)):
                raise FileChanged(name, source.name)
            target.write(new_name, spool.mapped())
        target.sync()
        self.result.copied += 1


def _status(files: Files, name: bytes) -> FileStatus | None:
    """What is known of a file; None also where nobody can tell."""
    try:
        return files.stat(name)
    except UsageError:  # through casync's protocol
        return None


def _is_current(source: FileStatus, copy: FileStatus) -> bool:
    """Whether a copy was written after its source, and has its size."""
    dates = source.modified, copy.modified
    return source.size == copy.size and None not in dates and dates[1] >= dates[0]  # type: ignore[operator]
