"""Seeds: files and trees that are already here, as sources of chunks.

A seed is read once, cut exactly as the index that is being extracted was, and remembered as chunk id -> place. A chunk
that is asked for is put together again from the files (and from the seed's archive headers, which are kept in an
temporary file), and checked against its id: a seed that changed meanwhile gives nothing, never something wrong.
Memory is some hundred bytes a chunk and thirty-two a file, whatever the size of the data.
"""

from __future__ import annotations

import os
import stat
import threading
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from casync_compat.errors import ChunkMissing, FileError
from casync_compat.fs.blob import BlobInput
from casync_compat.fs.owners import IdShift
from casync_compat.fs.scan.scanner import Scanner
from casync_compat.ids import ChunkId, Digest, Hasher
from casync_compat.index import Index
from casync_compat.spool import Appender, Spool, SpoolError
from casync_compat.store.base import Put
from casync_compat.streams.archive import ArchiveOutput, Archiver
from casync_compat.streams.chunking import ChunkingSink
from catar.records import Node

__all__ = ["BlobSeed", "FilePart", "SeedSource", "TreeSeed"]

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class FilePart:
    """Where a part of a chunk lies in a seed's file.

    :ivar path: of the file
    :ivar offset: in the file, in bytes
    :ivar at: where in the chunk the part begins
    :ivar size: in bytes
    """

    path: bytes
    offset: int
    at: int
    size: int


class _Nowhere:
    """A chunk sink that keeps nothing: a seed's chunks are only cut and named."""

    def put(self, id: ChunkId, data: object) -> Put:
        return Put(False, 0)

    def sync(self) -> None:
        return None


class _Places:
    """Chunk id to place in a seed's stream. Eight bytes of the id are enough, since chunks are verified when read."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._numbers = {int.from_bytes(id_[:8], "big"): number for number, id_ in enumerate(index.ids())}

    def find(self, id_: bytes) -> tuple[int, int] | None:
        """`(offset, size)` in the seed's stream, None when the chunk is not in it."""
        number = self._numbers.get(int.from_bytes(id_[:8], "big"))
        if number is None:
            return None
        chunk = self._index[number]
        return (chunk.start, chunk.size) if chunk.id == id_ else None


def _read_file(path: bytes, offset: int, size: int) -> bytes:
    """Part of a regular file; fewer bytes, or none, when it is not there any more."""
    try:
        fd = os.open(path, _OPEN)
    except OSError:
        return b""
    try:
        st = os.fstat(fd)
        if not (stat.S_ISREG(st.st_mode) or stat.S_ISBLK(st.st_mode)):
            return b""
        return os.pread(fd, size, offset)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _check_rereadable(path: bytes) -> None:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise FileError(path, "use as a seed", error) from error
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise FileError(path, "use as a seed", "it is neither a regular file nor a block device")


class BlobSeed:
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
            ChunkingSink(
                _Nowhere(), index.sizes, index.feature_flags, stream_digest=False, jobs=jobs
            ) as sink,
        ):
            while count := blob.read_into(sink.room()):
                sink.advance(count)
            sink.finish()
            self._places = _Places(sink.index)

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
        return None if place is None else _read_file(self.path, *place)

    def close(self) -> None:
        """Nothing is held."""


class _Scratch:
    """An archive's bytes that nobody wants: only files are looked at."""

    written = 0

    def __init__(self) -> None:
        self._room = memoryview(bytearray(1 << 16))

    def write(self, data: bytes | memoryview, /) -> None:
        pass

    def room(self) -> memoryview:
        return self._room

    def advance(self, count: int, /) -> None:
        pass


class _Noting(Archiver):
    """Archives a seed and notes where its files lie.

    There is a row for each regular file: where its payload starts in the stream, its size, how many skeleton bytes (all
    that is no payload) precede it, and where its path ends among the names.

    :ivar links: row of each file by its hard link digest
    """

    def __init__(
        self, scanner: Scanner, output: ArchiveOutput, links: Digest | None, skeleton: Spool, names: Spool
    ) -> None:
        super().__init__(scanner, output, scanner.feature_flags)
        self.starts = array("Q")
        self.sizes = array("Q")
        self.before = array("Q")
        self.paths = array("Q", (0,))
        self.links: dict[bytes, int] = {}
        self._scanner = scanner
        self._digest = links
        self._hasher: Hasher | None = None
        self._skeleton = Appender(skeleton)
        self._names = Appender(names)

    def on_records(self, node: Node | None, records: bytes) -> None:
        self._skeleton.append(records)
        if node is None or not node.is_regular:
            return
        self.starts.append(node.payload_offset)
        self.sizes.append(node.size)
        self.before.append(self._skeleton.size)
        self._names.append(self._scanner.path)
        self.paths.append(self._names.size)
        if self._digest is not None:
            self._hasher = self._digest.new()
            self._hasher.update(records[node.offset - node.start :])

    def on_payload(self, data: memoryview) -> None:
        if self._hasher is not None:
            self._hasher.update(data)

    def on_payload_end(self) -> None:
        if self._hasher is not None:
            self.links[self._hasher.digest()] = len(self.starts) - 1

    def flush(self) -> None:
        """Have everything in the spools."""
        self._skeleton.flush()
        self._names.flush()


class TreeSeed:
    """A directory as a seed for archives.

    :param path: the directory
    :param index: the index that is going to be extracted: says what to record and how to cut; None collects only
        hard link digests
    :param feature_flags: what to record
    :param links: whether to remember the digest of every file, for `link_target`
    :raises FileError: when it cannot be read
    """

    def __init__(
        self,
        path: bytes,
        index: Index | None,
        feature_flags: int,
        *,
        shift: IdShift | None = None,
        links: Digest | None = None,
        jobs: int | None = None,
    ) -> None:
        self.path = path
        self._skeleton = Spool("a seed")
        self._names = Spool("a seed")
        # See `_Noting`.
        self._starts = array("Q")
        self._sizes = array("Q")
        self._before = array("Q")
        self._paths = array("Q", (0,))
        self._links: dict[bytes, int] = {}
        self._places: _Places | None = None
        try:
            with Scanner(path, feature_flags, shift=shift) as scanner:
                if index is None:
                    self._record(scanner, _Scratch(), links)
                else:
                    with ChunkingSink(
                        _Nowhere(), index.sizes, feature_flags, stream_digest=False, jobs=jobs
                    ) as sink:
                        self._record(scanner, sink, links)
                        sink.finish()
                        self._places = _Places(sink.index)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the temporary files."""
        self._skeleton.close()
        self._names.close()

    def _record(self, scanner: Scanner, output: ArchiveOutput, links: Digest | None) -> None:
        archiver = _Noting(scanner, output, links, self._skeleton, self._names)
        archiver.run()
        archiver.flush()
        self._starts, self._sizes, self._before = archiver.starts, archiver.sizes, archiver.before
        self._paths, self._links = archiver.paths, archiver.links

    def _path(self, row: int) -> bytes:
        begin, end = self._paths[row], self._paths[row + 1]
        return os.path.join(self.path, self._names.read_at(begin, end - begin))

    def link_target(self, digest: bytes) -> bytes | None:
        """Path of a file in the seed whose hard link digest is this."""
        row = self._links.get(digest)
        return None if row is None else self._path(row)

    def _runs(self, offset: int, size: int) -> Iterator[tuple[int, int, int, int]]:
        """Cut a stretch of the stream into `(row, offset there, offset in the stretch, size)`; row -1: skeleton."""
        at, end = offset, offset + size
        while at < end:
            row = bisect_right(self._starts, at) - 1
            behind = at  # bytes since the last payload's end, or since the beginning
            if row >= 0:
                behind = at - self._starts[row] - self._sizes[row]
                if behind < 0:
                    count = min(end - at, -behind)
                    yield row, at - self._starts[row], at - offset, count
                    at += count
                    continue
                behind += self._before[row]
            following = self._starts[row + 1] if row + 1 < len(self._starts) else end
            count = min(end, following) - at
            yield -1, behind, at - offset, count
            at += count

    def parts(self, id_: bytes, first: int = 0, last: int | None = None) -> list[FilePart] | None:
        """The file parts of a chunk between two offsets in it, None when the seed does not have it."""
        place = self._places.find(id_) if self._places is not None else None
        if place is None:
            return None
        offset, size = place
        runs = self._runs(offset + first, (size if last is None else last) - first)
        return [
            FilePart(self._path(row), there, first + at, count) for row, there, at, count in runs if row >= 0
        ]

    def read(self, id_: bytes) -> bytes | None:
        """What stands where the chunk was, None when the seed does not have it."""
        place = self._places.find(id_) if self._places is not None else None
        if place is None:
            return None
        out = []
        for row, there, _, size in self._runs(*place):
            if row >= 0:
                out.append(_read_file(self._path(row), there, size))
            else:
                try:
                    out.append(self._skeleton.read_at(there, size))
                except SpoolError:
                    return None
        return b"".join(out)


class SeedSource:
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
            if isinstance(seed, TreeSeed):
                target = seed.link_target(digest)
                if target is not None:
                    return target
        return None
