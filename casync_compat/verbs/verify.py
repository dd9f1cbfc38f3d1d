"""Checking what is stored: a whole store, or an index against its store, a file, a device or a directory.

    >>> result = verify_store(store, on_defect=lambda defect: print(defect))
    >>> result.defects
    0

Every byte is read and hashed; names alone prove nothing. A store may hold chunks of all three digests: a chunk is good
if any of them gives its id, the likeliest tried first. What has no chunk's name is nobody's business here, but gc's.
"""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from casync_compat.chunker import MAX_CHUNK_SIZE
from casync_compat.compression import CompressionError
from casync_compat.errors import ChunkCorrupt, ChunkMissing, FileError, show_path
from casync_compat.fs.blob import BlobInput
from casync_compat.fs.losses import LACKING
from casync_compat.fs.owners import IdShift
from casync_compat.fs.scan.scanner import Scanner
from casync_compat.ids import ChunkId, Digest
from casync_compat.index import Index, IndexChunk, digest_of_flags
from casync_compat.progress import ProgressCallback, Reporter
from casync_compat.store.anydigest import AnyDigest
from casync_compat.store.base import ChunkSource
from casync_compat.store.chunkfiles import ChunkFile
from casync_compat.store.chunks import ChunkStore
from casync_compat.store.files import FileDamaged
from casync_compat.store.packs.checking import PackChecked, check_pack, packs_of
from casync_compat.store.packs.mixed import MixedStore
from casync_compat.store.packs.packed import PackedStore
from casync_compat.streams.archive import Archiver
from casync_compat.streams.comparing import ComparingSink
from casync_compat.streams.transfer import OrderedPool, default_jobs

__all__ = [
    "Defect",
    "Repair",
    "VerifyResult",
    "verify_against_directory",
    "verify_against_file",
    "verify_chunks",
    "verify_store",
]


@dataclass(frozen=True, slots=True)
class Defect:
    """Something that is not as it should be.

    :ivar kind: `missing`, `empty`, `corrupt`, `wrong-id`, `misplaced`, `too-large`, `unreadable` or `differs`
    :ivar where: the file, as a user would name it
    :ivar why: what is wrong with it
    :ivar id: of the chunk; None where it is about no single one
    :ivar mended: `repaired` or `removed`; empty while it is as it was
    """

    kind: str
    where: str
    why: str
    id: ChunkId | None = None
    mended: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.why}" + (f"; {self.mended}" if self.mended else "")


@dataclass(frozen=True, slots=True)
class Repair:
    """What to do with damaged chunks.

    :ivar source: good ones are taken from here
    :ivar remove: whether those that cannot be had from there are removed
    """

    source: ChunkSource | None = None
    remove: bool = False


@dataclass(slots=True)
class VerifyResult:
    """What a check found.

    :ivar chunks: chunk files, or chunks of an index, that were looked at
    :ivar size: bytes of their contents
    :ivar kinds: defects by their kind
    :ivar repaired: of these, those that are mended; `removed` are gone
    """

    chunks: int = 0
    size: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    repaired: int = 0
    removed: int = 0

    @property
    def defects(self) -> int:
        """Defects found, mended or not."""
        return self.kinds.total()


class _Checker:
    """Looks at chunk files, and mends them."""

    def __init__(self, store: ChunkStore, digests: Iterable[Digest], repair: Repair | None) -> None:
        self._store = store
        self._digests = list(digests)
        self._repair = repair or Repair()

    def look(self, file: ChunkFile, size: int | None = None) -> tuple[int, Defect | None] | None:
        """The size of what is inside, and what is wrong with it; None when there is no such file.

        :param size: that the chunk must have
        """
        limit, raw, defect = MAX_CHUNK_SIZE if size is None else size, b"", None
        was = self._store.files.stat(file.name) if self._repair.remove else None
        try:
            content = self._store.content(file, limit)
            if content is None:
                return None
            raw = content
            if not raw:
                defect = self._defect(file, "empty", "the file is empty")
            elif not self._is(raw, file.id):
                defect = self._defect(file, "wrong-id", "its content has another id")
            elif size is not None and len(raw) != size:
                defect = self._defect(file, "wrong-id", f"it has {len(raw)} bytes, the index says {size}")
            elif not file.placed:
                defect = self._defect(file, "misplaced", "it lies where nobody looks for this chunk")
        except CompressionError as error:
            defect = self._defect(file, "corrupt", str(error))
        except FileDamaged as error:
            defect = self._defect(file, error.kind, error.why)
        except FileError as error:
            if error.errno in LACKING:
                raise
            defect = self._defect(file, "unreadable", str(error.cause))
        return len(raw), None if defect is None else self._mend(file, defect, size, was)

    def _is(self, raw: bytes, id: ChunkId) -> bool:
        for place, digest in enumerate(self._digests):
            if digest.of(raw) == id:
                if place:  # a store is mostly of one kind
                    self._digests = [digest, *(other for other in self._digests if other is not digest)]
                return True
        return False

    def _defect(self, file: ChunkFile, kind: str, why: str) -> Defect:
        return Defect(kind, f"{self._store.name}/{file.name.decode()}", why, file.id)

    def _mend(self, file: ChunkFile, defect: Defect, size: int | None, was: object) -> Defect | None:
        mended, good = "", self.fetch(file.id, size)
        if good is not None:
            self._store.replace(file, good)
            mended = "repaired"
        elif self._repair.remove and defect.kind != "unreadable":
            if self._store.files.stat(file.name) != was:
                return None  # somebody has put another one there meanwhile
            self._store.files.remove(file.name)
            mended = "removed"
        return Defect(defect.kind, defect.where, defect.why, defect.id, mended)

    def fetch(self, id: ChunkId, size: int | None) -> bytes | None:
        """A good copy of a chunk, from where repairs are taken."""
        source = self._repair.source
        return None if source is None else self._from(source, id, size)

    def is_in(self, source: ChunkSource, id: ChunkId, size: int | None) -> bool:
        """Whether another store has a chunk whole."""
        return self._from(source, id, size) is not None

    def _from(self, source: ChunkSource, id: ChunkId, size: int | None) -> bytes | None:
        try:
            raw = AnyDigest(source, self._digests).get(id, size if size is not None else MAX_CHUNK_SIZE)
        except (ChunkMissing, ChunkCorrupt):
            return None
        return raw if size is None or len(raw) == size else None

    @property
    def mends(self) -> bool:
        """Whether anything is to be changed."""
        return self._repair.source is not None or self._repair.remove

    def mend_in(self, packs: PackedStore, id: ChunkId, size: int | None = None) -> str:
        """Do what is to be done about a chunk that is damaged in its pack, and say what that was."""
        good = self.fetch(id, size)
        if good is None and not self._repair.remove:
            return ""
        packs.remove(id)
        if good is None:
            return "removed"
        packs.put(id, good)
        return "repaired"

    def look_in(self, packs: PackedStore, id: ChunkId, size: int) -> list[Defect] | None:
        """What is wrong with a chunk in a pack; None when it is in none."""
        if not packs.has(id):
            return None
        why = ""
        try:
            found = len(packs.get(id, self._digests[0], size))
            if found != size:
                why = f"it has {found} bytes, the index says {size}"
        except ChunkCorrupt as error:
            why = error.why
        if not why:
            return []
        return [Defect("corrupt", f"{packs.name}: chunk {id}", why, id, self.mend_in(packs, id, size))]


class _Tally:
    """Counts, tells and reports."""

    def __init__(self, on_defect: Callable[[Defect], None], reporter: Reporter) -> None:
        self.result = VerifyResult()
        self._on_defect = on_defect
        self._reporter = reporter

    def add(self, size: int, defects: Iterable[Defect]) -> None:
        self.result.chunks += 1
        self.result.size += size
        for defect in defects:
            self.found(defect)
        self._reporter.state.entries += 1
        self._reporter.state.done += size
        if self._reporter.due:
            self._reporter.report()

    def found(self, defect: Defect) -> None:
        self.result.kinds[defect.kind] += 1
        self.result.repaired += defect.mended == "repaired"
        self.result.removed += defect.mended == "removed"
        self._on_defect(defect)


def _nobody(defect: Defect) -> None:
    """Tells nobody."""


def verify_store(
    store: ChunkStore,
    *,
    repair: Repair | None = None,
    on_defect: Callable[[Defect], None] = _nobody,
    jobs: int | None = None,
    progress: ProgressCallback | None = None,
) -> VerifyResult:
    """Check every chunk file of a store.

    :param repair: what to do with damaged ones; None leaves all as it is
    :param on_defect: told each defect, in the order of the names
    :param jobs: threads, None for one a processor
    :raises CasyncError: the store cannot be read, or not be changed
    """
    checker = _Checker(store, Digest, repair)
    tally = _Tally(on_defect, Reporter(progress))

    def collect(found: Iterable[tuple[int, Defect | None] | None]) -> None:
        for outcome in found:
            if outcome is not None:  # else it was removed meanwhile
                tally.add(outcome[0], [outcome[1]] if outcome[1] is not None else ())

    count = jobs or default_jobs()
    with OrderedPool[tuple[int, Defect | None] | None](count, 4 * count) as pool:
        for file in store.chunk_files():
            collect(pool.submit(checker.look, file))
        collect(pool.drain())
    if why := store.names.unread():
        tally.found(Defect("unreadable", store.name, why))
    packs = store.packs() if isinstance(store, MixedStore) else None
    if packs is not None:
        _verify_packs(packs, checker, tally, count)
    if tally.result.repaired or tally.result.removed:
        store.sync()
    return tally.result


def _verify_packs(packs: PackedStore, checker: _Checker, tally: _Tally, jobs: int) -> None:
    """Check every pack, and every chunk in it that the index knows."""
    unsound: set[bytes] = set()

    def collect(found: Iterable[PackChecked]) -> None:
        for one in found:
            for size in one.sizes:
                tally.add(size, ())
            for fault in one.faults:
                mended = ""
                if fault.id is not None:
                    mended = checker.mend_in(packs, fault.id)
                elif checker.mends:
                    unsound.add(one.pack.sha256)
                    mended = "repaired"
                tally.found(Defect(fault.kind, one.file, fault.why, fault.id, mended))

    with OrderedPool[PackChecked](jobs, jobs) as pool:  # a pack each, in memory
        for pack, rows in packs_of(packs):
            collect(pool.submit(check_pack, packs, pack, rows))
        collect(pool.drain())
    if checker.mends and tally.result.defects:
        packs.sync()
        packs.repack(force=unsound)


def verify_chunks(
    index: Index,
    store: ChunkStore,
    *,
    others: ChunkSource | None = None,
    repair: Repair | None = None,
    on_defect: Callable[[Defect], None] = _nobody,
    jobs: int | None = None,
    progress: ProgressCallback | None = None,
) -> VerifyResult:
    """Check that a store has every chunk of an index, whole. Parameters as for `verify_store`.

    :param others: further stores: what the first lacks, and one of these has whole, is not missing

    A damaged form of a chunk is a defect even where the other form is good: readers may meet it first.
    """
    checker = _Checker(store, [digest_of_flags(index.feature_flags)], repair)
    reporter = Reporter(progress)
    reporter.state.total = index.size
    tally = _Tally(on_defect, reporter)

    packs = store.packs() if isinstance(store, MixedStore) else None

    def look(id: ChunkId, size: int) -> tuple[int, list[Defect]]:
        found = [outcome for file in store.forms(id) if (outcome := checker.look(file, size)) is not None]
        defects = [defect for _, defect in found if defect is not None]
        packed = None if packs is None else checker.look_in(packs, id, size)
        defects += packed or ()
        elsewhere = others is not None and not found and packed is None and checker.is_in(others, id, size)
        if packed is None and not found and not elsewhere:
            mended = ""
            good = checker.fetch(id, size)
            if good is not None:
                store.put(id, good)
                mended = "repaired"
            defects.append(Defect("missing", f"{store.name}: chunk {id}", "it is missing", id, mended))
        return size, defects

    count = jobs or default_jobs()
    with OrderedPool[tuple[int, list[Defect]]](count, 4 * count) as pool:
        for id, size in _unique(index):
            for outcome in pool.submit(look, id, size):
                tally.add(*outcome)
        for outcome in pool.drain():
            tally.add(*outcome)
    if tally.result.repaired:
        store.sync()
    return tally.result


def _unique(index: Index) -> Iterator[tuple[ChunkId, int]]:
    seen: set[bytes] = set()
    for chunk in index:
        if chunk.id not in seen:
            seen.add(chunk.id)
            yield chunk.id, chunk.size


class _Comparison:
    """Tells what a stream has other than an index.

    :param where: what is compared, as a user would name it
    :param name: the file in it that is being read, where there are several
    """

    def __init__(self, index: Index, where: str, tally: _Tally, name: Callable[[], str]) -> None:
        self._size = index.size
        self._where = where
        self._tally = tally
        self._name = name
        self.sink = ComparingSink(index, self._chunk, name)

    def _chunk(self, chunk: IndexChunk, good: bool, first: str) -> None:
        self._tally.add(chunk.size, () if good else [self._differs(chunk, first)])

    def _differs(self, chunk: IndexChunk, first: str) -> Defect:
        last = self._name()
        at = f" ({first} to {last})" if last != first else f" ({last})" if last else ""
        why = f"bytes {chunk.start} to {chunk.end} are not those of the index{at}"
        return Defect("differs", self._where, why, chunk.id)

    def finish(self, *, longer: bool = False) -> None:
        """That was all.

        :param longer: whether there may be more than the index says
        """
        written = self.sink.written
        if written < self._size or (written > self._size and not longer):
            self._tally.found(
                Defect("differs", self._where, f"it has {written} bytes, the index {self._size}")
            )


def verify_against_file(
    index: Index,
    path: bytes,
    *,
    on_defect: Callable[[Defect], None] = _nobody,
    progress: ProgressCallback | None = None,
) -> VerifyResult:
    """Compare a file or block device with the stream that an index describes, without any store.

    :raises FileError: it cannot be read
    """
    with BlobInput(path) as blob:
        device = stat.S_ISBLK(blob.mode)
        reporter = Reporter(progress)
        reporter.state.total = index.size
        tally = _Tally(on_defect, reporter)
        comparison = _Comparison(index, show_path(path), tally, lambda: "")
        sink = comparison.sink
        # A device may be larger than the image that was written to it.
        while not (device and sink.written >= index.size):
            if hole := blob.take_hole():
                sink.write_zeros(hole)
            elif count := blob.read_into(sink.room()):
                sink.advance(count)
            else:
                break
        comparison.finish(longer=device)
    return tally.result


def verify_against_directory(
    index: Index,
    path: bytes,
    *,
    shift: IdShift | None = None,
    on_defect: Callable[[Defect], None] = _nobody,
    progress: ProgressCallback | None = None,
) -> VerifyResult:
    """Compare a directory with an archive's index, without any store: as if it were archived once more.

    :raises CasyncError: it cannot be read, or not be archived
    """
    reporter = Reporter(progress)
    reporter.state.total = index.size
    tally = _Tally(on_defect, reporter)
    with Scanner(path, index.feature_flags, shift=shift) as scanner:
        comparison = _Comparison(index, show_path(path), tally, lambda: show_path(scanner.path or b"."))
        Archiver(scanner, comparison.sink, index.feature_flags).run()
        comparison.finish()
    return tally.result
