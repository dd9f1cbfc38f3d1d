"""Seeds: files and trees that are already here, as sources of chunks.

A seed is read once, cut exactly as the index that is being extracted was, and remembered as chunk id -> place. A chunk
that is asked for is put together again from the files (and from a directory's archive headers, see `treeseed`), and
checked against its id: a seed that changed meanwhile gives nothing, never something wrong.
"""

from __future__ import annotations

import os
import stat
import threading

from casync_compat.closing import Closing
from casync_compat.errors import ChunkMissing, FileError
from casync_compat.fs.blob import BlobInput
from casync_compat.ids import ChunkId, Digest
from casync_compat.index import Index
from casync_compat.streams.chunking import ChunkingSink
from casync_compat.streams.seedparts import ChunkPlaces, FilePart, Nowhere, read_file
from casync_compat.streams.treeseed import TreeSeed

__all__ = ["BlobSeed", "SeedSource"]


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
    :raises FileError: when it cannot be read, or is a stream, which cannot be read again
    """

    def __init__(self, path: bytes, index: Index, *, jobs: int | None = None) -> None:
        _check_rereadable(path)
        self.path = os.path.realpath(path)  # reading back does not follow symlinks
        with (
            BlobInput(path) as blob,
            ChunkingSink(Nowhere(), index.sizes, index.feature_flags, stream_digest=False, jobs=jobs) as sink,
        ):
            while count := blob.read_into(sink.room()):
                sink.advance(count)
            sink.finish()
            self._places = ChunkPlaces(sink.index)

    def parts(self, id_: bytes, first: int = 0, last: int | None = None) -> list[FilePart] | None:
        """The file parts of a chunk between two offsets in it, None when the seed does not have it."""
        place = self._places.find(id_)
        if place is None:
            return None
        offset, size = place
        return [FilePart(self.path, offset + first, first, (size if last is None else last) - first)]

    def read(self, id_: bytes) -> bytes | None:
        """What stands where the chunk was, None when the seed does not have it."""
        place = self._places.find(id_)
        return None if place is None else read_file(self.path, *place)

    def link_target(self, digest: bytes) -> None:
        """Nothing: what is in a blob is no file."""

    def close(self) -> None:
        """Nothing is held."""


class SeedSource(Closing):
    """Several seeds as one `ChunkSource`.

    :ivar used: chunks that came from seeds
    :ivar used_bytes: their size
    """

    name = "the seeds"

    def __init__(self) -> None:
        self.seeds: list[BlobSeed | TreeSeed] = []
        self._lock = threading.Lock()
        self.used = 0
        self.used_bytes = 0

    def close(self) -> None:
        """Let go of the seeds."""
        for seed in self.seeds:
            seed.close()

    def add(self, seed: BlobSeed | TreeSeed) -> None:
        """Take another seed; earlier ones are asked first."""
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
        return any(seed.parts(id) is not None for seed in self.seeds)

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
