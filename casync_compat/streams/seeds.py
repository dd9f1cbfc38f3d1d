"""Seeds: files and trees that are already here, as sources of chunks.

A seed is read once, cut exactly as the index that is being extracted was, and remembered as chunk id -> place. A chunk
that is asked for is put together again from the files (and from a directory's archive headers, see `treeseed`), and
checked against its id: a seed that changed meanwhile gives nothing, never something wrong.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from casync_compat.closing import Closing
from casync_compat.errors import CasyncError, ChunkLocked, ChunkMissing, FileError, show_path
from casync_compat.fs.blob import BlobInput
from casync_compat.ids import ChunkId, Digest
from casync_compat.index import Index
from casync_compat.logs import Log
from casync_compat.store.base import BatchSource, ChunkSource, FarSource, OnDisk, far_source
from casync_compat.streams.seedparts import ChunkPlaces, FilePart, Nowhere, read_file

if TYPE_CHECKING:
    from casync_compat.streams.treeseed import TreeSeed

__all__ = ["BlobSeed", "SeedSource", "Seeded", "SourceSeed"]

_LOG = Log(__name__)


def _check_rereadable(path: bytes) -> None:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise FileError(path, "use as a seed", error) from error
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise FileError(path, "use as a seed", "it is neither a regular file nor a block device")


class BlobSeed(Closing):
    """A file or block device as a seed.

    :param path: the file
    :param index: the index that is going to be extracted: says how to cut
    :param cut: what it was cut into, by those who know; None reads it
    :raises FileError: when it cannot be read, or is a stream, which cannot be read again
    """

    def __init__(
        self, path: bytes, index: Index, *, jobs: int | None = None, cut: Index | None = None
    ) -> None:
        _check_rereadable(path)
        self.path = os.path.realpath(path)  # reading back does not follow symlinks
        self.cut = self._read(path, index, jobs) if cut is None else cut
        """Its chunks."""
        self._places = ChunkPlaces(self.cut)

    @staticmethod
    def _read(path: bytes, index: Index, jobs: int | None) -> Index:
        from casync_compat.streams.chunking import ChunkingSink  # lazily: only where there are seeds

        with (
            BlobInput(path) as blob,
            ChunkingSink(Nowhere(), index.sizes, index.feature_flags, stream_digest=False, jobs=jobs) as sink,
        ):
            while count := blob.read_into(sink.room()):
                sink.advance(count)
            sink.finish()
            return sink.index

    def parts(self, id_: bytes, first: int = 0, last: int | None = None) -> list[FilePart] | None:
        """The file parts of a chunk between two offsets in it, None when the seed does not have it."""
        place = self._places.find(id_)
        if place is None:
            return None
        offset, size = place
        return [FilePart(self.path, offset + first, first, (size if last is None else last) - first)]

    def has(self, id_: bytes) -> bool:
        """Whether the seed had the chunk when it was read."""
        return self._places.find(id_) is not None

    def read(self, id_: bytes) -> bytes | None:
        """What stands where the chunk was, None when the seed does not have it."""
        place = self._places.find(id_)
        return None if place is None else read_file(self.path, *place)

    def link_target(self, digest: bytes) -> None:
        """Nothing: what is in a blob is no file."""

    def close(self) -> None:
        """Nothing is held."""


class SourceSeed(Closing):
    """A source of chunks that is near, as a seed.

    :param source: stays the caller's
    :param index: the index that is going to be extracted
    """

    def __init__(self, source: ChunkSource, index: Index) -> None:
        self._source = source
        self._digest = index.digest
        self._limit = index.sizes.max

    def has(self, id_: bytes) -> bool:
        """Whether the source has the chunk."""
        return self._source.has(ChunkId(id_))

    def parts(self, id_: bytes, first: int = 0, last: int | None = None) -> list[FilePart] | None:
        """No file has it as it is; None when the source does not have it either."""
        return [] if self.has(id_) else None

    def read(self, id_: bytes) -> bytes | None:
        """The chunk; None when the source does not have it, or has it damaged."""
        try:
            return self._source.get(ChunkId(id_), self._digest, self._limit)
        except CasyncError:
            return None

    def link_target(self, digest: bytes) -> None:
        """Nothing: no chunk is a file."""

    def close(self) -> None:
        """Nothing is held."""


class SeedSource(Closing):
    """Several seeds as one `ChunkSource`.

    :ivar used: chunks that came from seeds
    :ivar used_bytes: their size
    """

    name = "the seeds"

    def __init__(self) -> None:
        self.seeds: list[BlobSeed | TreeSeed | SourceSeed] = []
        self._lock = threading.Lock()
        self.used = 0
        self.used_bytes = 0

    def close(self) -> None:
        """Let go of the seeds."""
        for seed in self.seeds:
            seed.close()

    def add(self, seed: BlobSeed | TreeSeed | SourceSeed) -> None:
        """Take another seed; earlier ones are asked first."""
        what = "chunks of an image" if isinstance(seed, SourceSeed) else show_path(seed.path)
        _LOG.info("a seed: %s", what)
        self.seeds.append(seed)

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        """The raw chunk, verified. :raises ChunkMissing: when no seed has it, or has it still"""
        for seed in self.seeds:
            data = seed.read(id)
            if data is not None and len(data) <= limit and digest.of(data) == id:
                with self._lock:
                    self.used += 1
                    self.used_bytes += len(data)
                return data
        raise ChunkMissing(id, self.name)

    def has(self, id: ChunkId) -> bool:
        """Whether a seed had the chunk when it was read."""
        return any(seed.has(id) for seed in self.seeds)

    def parts(self, id: bytes, first: int = 0, last: int | None = None) -> list[FilePart]:
        """Where the files are that a chunk can be found in; empty when it is in none.

        :param first: only what lies behind this offset in the chunk, in bytes
        :param last: only what lies before this one; None for the chunk's end
        """
        for seed in self.seeds:
            parts = seed.parts(id, first, last)
            if parts is not None:
                return parts
        return []

    def link_target(self, digest: bytes) -> bytes | None:
        """Path of a file whose hard link digest is this, None when there is none."""
        for seed in self.seeds:
            target = seed.link_target(digest)
            if target is not None:
                return target
        return None


class Seeded:
    """Seeds, and a store for what they do not have: a `BatchSource`, and a `FarSource` as far as the store is one.

    A seed is near: of several chunks only those that no seed has are asked for in the store, together and ahead.
    """

    def __init__(self, seeds: SeedSource, store: ChunkSource) -> None:
        self.name = f"{seeds.name}, {store.name}"
        self._seeds = seeds
        self._store = store
        self._batches = store if isinstance(store, BatchSource) else None
        self._far = far_source(store)
        self.far = self._far is not None
        self.eager = self._far is not None and self._far.eager

    @property
    def own_paths(self) -> tuple[bytes, ...]:
        """Directories of this machine that the store lies in."""
        return self._store.own_paths if isinstance(self._store, OnDisk) else ()

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        """The raw chunk, verified, from a seed or else the store."""
        try:
            return self._seeds.get(id, digest, limit)
        except ChunkMissing:
            pass
        try:
            return self._store.get(id, digest, limit)
        except ChunkLocked:
            raise
        except ChunkMissing as error:
            raise ChunkMissing(id, f"{self._seeds.name}, {error.where}", error.why) from None

    def has(self, id: ChunkId) -> bool:
        """Whether a seed, or the store, has the chunk."""
        return self._seeds.has(id) or self._store.has(id)

    def get_many(self, wanted: Sequence[tuple[ChunkId, int]], digest: Digest) -> list[bytes]:
        """The raw chunks, verified."""
        return self._begin(wanted, digest, None)()

    def begin(self, wanted: Sequence[tuple[ChunkId, int]], digest: Digest) -> Callable[[], list[bytes]]:
        """Ask the store for what no seed has, and return at once."""
        return self._begin(wanted, digest, self._far)

    def _begin(
        self, wanted: Sequence[tuple[ChunkId, int]], digest: Digest, far: FarSource | None
    ) -> Callable[[], list[bytes]]:
        lacking = [one for one in wanted if not self._seeds.has(one[0])]
        asked = far.begin(lacking, digest) if far is not None and lacking else None

        def take() -> list[bytes]:
            if asked is not None:
                found = asked()
            elif self._batches is not None and len(lacking) > 1:
                found = self._batches.get_many(lacking, digest)
            else:
                found = [self.get(id, digest, limit) for id, limit in lacking]
            fetched = dict(zip((id for id, _ in lacking), found, strict=True))
            return [fetched[id] if id in fetched else self.get(id, digest, limit) for id, limit in wanted]

        return take
