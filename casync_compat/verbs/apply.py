"""Using an update file: its chunks go into the store that has the rest, and then the index appears.

    >>> apply_delta(b"b.patch", b"b.caidx", LocalStore(b"default.castr")).new
    12

Before anything is written, every chunk of the file is checked, and the store asked for all others that the index needs.
Doing it again changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from casync_compat.errors import StoreError, UsageError, show_path
from casync_compat.fs.atomic import AtomicFile
from casync_compat.ids import ChunkId
from casync_compat.kinds import Kind
from casync_compat.packtable import PackRow
from casync_compat.progress import ProgressCallback, Reporter
from casync_compat.store.base import ChunkSink, Keeping
from casync_compat.store.dry import DryStore
from casync_compat.streams.leasing import Lease
from casync_compat.streams.patch import PatchFile
from casync_compat.streams.transfer import OrderedPool, default_jobs

__all__ = ["ApplyResult", "BaseMissing", "apply_delta"]

_ASKED = 64


class BaseMissing(StoreError):
    """A store lacks chunks that an update builds upon.

    :ivar id: the first of them
    :ivar count: how many
    """

    def __init__(self, id: bytes, where: str, count: int, patch: str, bases: Sequence[str]) -> None:
        super().__init__(id, where)
        self.args = (id, where, count, patch, bases)
        self.count = count
        self.patch = patch
        self.bases = bases

    def __str__(self) -> str:
        chunks = "a chunk" if self.count == 1 else f"{self.count} chunks"
        upon = f"it builds upon {', '.join(self.bases)}" if self.bases else "it builds upon nothing"
        return (
            f"{self.patch}: {chunks} that it needs {'is' if self.count == 1 else 'are'} missing from {self.where}, the "
            f"first is {self.id.hex()}; {upon}"
        )


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """What a run did.

    :ivar chunks: in the update file
    :ivar new: those of them that the store did not have
    :ivar new_bytes: what they take in it
    :ivar needed: chunks that the index needs beside, and the store has
    """

    chunks: int
    new: int
    new_bytes: int
    needed: int


def apply_delta(
    patch: bytes,
    output: bytes,
    store: Keeping,
    *,
    lease: Lease | None = None,
    dry: bool = False,
    jobs: int | None = None,
    progress: ProgressCallback | None = None,
) -> ApplyResult:
    """Put the chunks of an update file into a store, and write its index.

    :param patch: the update file
    :param output: the index to make; it appears when all its chunks are durable
    :param lease: of `store` (`streams.leasing.writing`), until the index is in place
    :param dry: write nothing, and tell what would be done
    :raises BaseMissing: the store lacks chunks that the index needs beside; nothing is written then
    :raises FormatError: the file is damaged; nothing is written then
    :raises CasyncError: nothing appears at `output` then
    """
    jobs = jobs or default_jobs()
    with PatchFile(patch) as file:
        named = Kind.of_suffix(output)
        if named is not file.head.kind:
            suffix = ".caidx" if file.head.kind is Kind.ARCHIVE_INDEX else ".caibx"
            raise UsageError(
                f"{show_path(output)}: {show_path(patch)} leads to a {suffix} file; name one like that"
            )
        reporter = Reporter(progress)
        reporter.state.total = 2 * sum(row.raw for row in file.rows)
        needed = file.needed()
        _check_base(file, needed, store, jobs)
        _put_all(file, jobs, reporter, None)
        if dry:
            new, _ = _put_all(file, jobs, reporter, DryStore(store))
            return ApplyResult(len(file.rows), new, 0, len(needed))
        with AtomicFile(output, 0o666) as out:
            new, new_bytes = _put_all(file, jobs, reporter, store)
            store.sync()
            if lease is not None:
                lease.keep(file.index)
            out.write(file.index.to_bytes())
        return ApplyResult(len(file.rows), new, new_bytes, len(needed))


def _check_base(file: PatchFile, needed: Sequence[ChunkId], store: Keeping, jobs: int) -> None:
    """:raises BaseMissing: the store has not all of them"""

    def missing(ids: Sequence[ChunkId]) -> list[ChunkId]:
        """Runs on a worker."""
        return [id_ for id_ in ids if not store.keep(id_)]

    found: list[ChunkId] = []
    with OrderedPool[list[ChunkId]](jobs, 2 * jobs) as pool:
        for at in range(0, len(needed), _ASKED):
            for some in pool.submit(missing, needed[at : at + _ASKED]):
                found += some
        for some in pool.drain():
            found += some
    if found:
        bases = [show_path(base.name) for base in file.head.bases]
        raise BaseMissing(found[0], store.name, len(found), show_path(file.path), bases)


def _put_all(file: PatchFile, jobs: int, reporter: Reporter, store: ChunkSink | None) -> tuple[int, int]:
    """Read and check all chunks, and put them into a store if there is one.

    :returns: how many were new, and the bytes that they take
    """

    def work(start: int, batch: list[PackRow]) -> tuple[int, int, int]:
        """Runs on a worker."""
        found = file.read(start, batch)
        puts = (
            [] if store is None else [store.put(row.id, raw) for row, raw in zip(batch, found, strict=True)]
        )
        return sum(put.new for put in puts), sum(put.stored for put in puts), sum(map(len, found))

    new = new_bytes = 0

    def take(done: tuple[int, int, int]) -> None:
        nonlocal new, new_bytes
        new += done[0]
        new_bytes += done[1]
        reporter.state.done += done[2]
        if reporter.due:
            reporter.report()

    with OrderedPool[tuple[int, int, int]](jobs, 2 * jobs) as pool:
        for start, batch in file.batches():
            for done in pool.submit(work, start, batch):
                take(done)
        for done in pool.drain():
            take(done)
    return new, new_bytes
