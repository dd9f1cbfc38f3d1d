"""What extracting a tree and extracting a blob have in common: options, what is told of a run, progress.

    >>> counter = ExtractCounter(progress, index.size, seeds)
    >>> counter.on_chunk(chunk)
    >>> return counter.result(index.size)

Nothing is extracted here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from casync_compat.errors import CasyncError, ChunkLocked, ChunkMissing, show_path
from casync_compat.fs.apply.changes import OnChange
from casync_compat.fs.apply.options import ApplyOptions
from casync_compat.fs.losses import LeftOutKind
from casync_compat.index import IndexChunk
from casync_compat.progress import ProgressCallback, Reporter, Warn
from casync_compat.store.base import ChunkSource
from casync_compat.streams.seeds import SeedSource

__all__ = ["ExtractCounter", "ExtractOptions", "ExtractResult", "UnusedSeeds"]


@dataclass(frozen=True, slots=True)
class ExtractOptions:
    """How extraction goes about it.

    :ivar apply: how the tree is written
    :ivar seeds: files (for blobs) or directories (for archives) to take unchanged data from, and what else
        `streams.seedfiles` knows; of one that cannot be used there is a warning
    :ivar seed_sources: further seeds: sources of chunks that are near
    :ivar seed_cache: directory to remember in what files were cut into; None for none
    :ivar seed_output: use the output as it was as a seed too
    :ivar reflink: share blocks with seeds where the file system can
    :ivar hardlink: hard-link files that are the same in a seed, metadata included
    :ivar jobs: threads that fetch and decompress, None for one a processor
    :ivar in_place: update a blob's file where it is, instead of replacing it when the new one is complete; devices are
        always written so
    :ivar resume: of a file that is not complete, a blob's or a large one of a tree, keep what was written, hidden, for
        the next run
    :ivar on_change: is told what would change, and nothing is written; the result counts what would have been done
    """

    apply: ApplyOptions = field(default_factory=ApplyOptions)
    seeds: tuple[bytes, ...] = ()
    seed_sources: tuple[ChunkSource, ...] = ()
    seed_cache: bytes | None = None
    seed_output: bool = True
    reflink: bool = True
    hardlink: bool = False
    jobs: int | None = None
    in_place: bool = False
    resume: bool = False
    on_change: OnChange | None = None


@dataclass(frozen=True, slots=True)
class ExtractResult:
    """What a run did.

    :ivar entries: nodes written; 0 for a blob
    :ivar size: bytes of the archive or blob that were read
    :ivar chunks: chunks used; those `from_seeds` and those `in_place` are among them
    :ivar shared: bytes that share blocks with a seed
    :ivar created: entries that were not there
    :ivar updated: entries that were there in another form, and were mended or replaced
    :ivar unchanged: entries that were there as recorded, and were left alone
    :ivar deleted: entries that the archive does not have and that were deleted, each with all below it
    :ivar deleted_first: the first three of them, from the target
    :ivar left_out: what the archive has and the target cannot hold, by kind; empty when the restore is complete
    :ivar in_place: chunks that were in their place already, in the file of a blob
    :ivar in_place_bytes: their size
    :ivar fetched_bytes: size of the chunks that came from stores
    """

    entries: int
    size: int
    chunks: int = 0
    from_seeds: int = 0
    seed_bytes: int = 0
    shared: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    deleted_first: tuple[bytes, ...] = ()
    left_out: tuple[LeftOutKind, ...] = ()
    in_place: int = 0
    in_place_bytes: int = 0
    fetched_bytes: int = 0

    @property
    def fetched(self) -> int:
        """Chunks that came from stores."""
        return self.chunks - self.from_seeds - self.in_place


class UnusedSeeds:
    """Seeds that were asked for and cannot be used: a warning each, and a word more when chunks turn out missing.

    :param warn: takes a line for each
    """

    def __init__(self, warn: Warn) -> None:
        self._warn = warn
        self._paths: list[bytes] = []

    def add(self, path: bytes, why: CasyncError) -> None:
        """Go on without a seed."""
        self._paths.append(path)
        self._warn(f"{show_path(path)} is not used as a seed: {why}")

    @contextmanager
    def told(self) -> Iterator[None]:
        """What is missing may have been in them, which the error then says."""
        try:
            yield
        except ChunkMissing as error:
            if not self._paths or isinstance(error, ChunkLocked):
                raise
            names = ", ".join(map(show_path, self._paths))
            where = f"{error.where}, and {names} could not be used as a seed"
            raise ChunkMissing(error.id, where, error.why) from error


class ExtractCounter:
    """Counts chunks, and keeps the progress of a run.

    :param total: bytes that will be read, None when that is not known
    :param chunks: how many there are; None where nothing comes in chunks, or not all of them will be used
    """

    def __init__(
        self,
        progress: ProgressCallback | None,
        total: int | None,
        seeds: SeedSource,
        chunks: int | None = None,
    ) -> None:
        self.reporter = Reporter(progress)
        self.reporter.state.total = total
        self.reporter.state.total_chunks = chunks
        self._seeds = seeds
        self._chunks = self._bytes = 0
        self._kept = self._kept_bytes = 0
        self._passed = self._passed_bytes = 0

    def keep(self, chunks: int, size: int) -> None:
        """Chunks of this size together were in their place."""
        self._kept += chunks
        self._kept_bytes += size
        self._chunks += chunks
        self._bytes += size

    def passed(self, chunks: int, size: int) -> None:
        """Chunks of this size together were not even asked for, since all that they make is there."""
        self._passed += chunks
        self._passed_bytes += size
        self._chunks += chunks
        self._bytes += size

    def on_chunk(self, chunk: IndexChunk) -> None:
        """A chunk was used."""
        self._chunks += 1
        self._bytes += chunk.size
        state = self.reporter.state
        state.done = self._bytes if self._kept else chunk.end
        if self.reporter.due:
            state.chunks = self._chunks
            # Seeds are asked ahead of what was handed out, so the difference is a lower bound, and may shrink.
            seeded = self._seeds.used + self._passed
            state.new_chunks = max(self._chunks - self._kept - seeded, state.new_chunks)
            state.seed_chunks = self._chunks - self._kept - state.new_chunks
            state.kept_chunks = self._kept
            self.reporter.report()

    def result(self, size: int, *, entries: int = 0, shared: int = 0) -> ExtractResult:
        """What the run did; see `ExtractResult` for what is still to be said."""
        return ExtractResult(
            entries,
            size,
            self._chunks,
            # What was fetched ahead in vain came from seeds twice.
            min(self._seeds.used + self._passed, self._chunks - self._kept),
            min(self._seeds.used_bytes + self._passed_bytes, self._bytes - self._kept_bytes),
            shared,
            in_place=self._kept,
            in_place_bytes=self._kept_bytes,
            fetched_bytes=max(
                self._bytes - self._kept_bytes - self._seeds.used_bytes - self._passed_bytes, 0
            ),
        )
