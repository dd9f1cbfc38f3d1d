"""A directory as a seed: it is archived and cut as the index was, and only where its files and chunks lie is kept.

Archive headers, and the names of files, are kept in temporary files. Memory is some hundred bytes a chunk and
thirty-two a file, whatever the size of the data.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from functools import reduce
from operator import or_

from casync_compat.closing import Closing
from casync_compat.fs.owners import IdShift
from casync_compat.fs.scan.scanner import Scanner
from casync_compat.ids import Digest, Hasher
from casync_compat.index import Index
from casync_compat.spool import Appender, Spool, SpoolError
from casync_compat.streams.archive import ArchiveOutput, Archiver
from casync_compat.streams.chunking import ChunkingSink
from casync_compat.streams.seedparts import ChunkPlaces, FilePart, Nowhere, read_file, same_stretches
from catar.grammar import NODE_FEATURES
from catar.records import Node
from catar.walker import Known

__all__ = ["TreeSeed"]

_ALL_KINDS = reduce(or_, NODE_FEATURES.values())
"""Flags without which some types of nodes are not recorded."""


_WORTH_PASSING = 1 << 16
"""Bytes that a directory has in an archive, at least, to be passed over as a whole."""


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

    def write_zeros(self, count: int, /) -> None:
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
        self.directories: list[Known] = []
        self._under_way: list[tuple[int, bytes, int]] = []
        self._scanner = scanner
        self._digest = links
        self._hasher: Hasher | None = None
        self._skeleton = Appender(skeleton)
        self._names = Appender(names)

    def on_records(self, node: Node | None, records: bytes) -> None:
        self._skeleton.append(records)
        if node is None:
            start, path, before = self._under_way.pop()
            if path and self.encoder.offset - start >= _WORTH_PASSING:
                self.directories.append(Known(start, self.encoder.offset, path, self.entries - before))
            return
        if node.is_dir:
            self._under_way.append((node.start, self._scanner.path, self.entries - 1))
        if not node.is_regular:
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


class _Skimming(_Noting):
    """Notes where files would lie, and reads none."""

    def take_payload(self, node: Node) -> None:
        self.encoder.advance(node.size)


class TreeSeed(Closing):
    """A directory as a seed for archives.

    :param path: the directory
    :param index: the index that is going to be extracted: says what to record and how to cut; None collects only
        hard link digests
    :param feature_flags: what to record
    :param links: whether to remember the digest of every file, for `link_target`
    :param unread: where the archive of the directory would be as large as that of the index, take it that each chunk
        lies where it does there, and read no file before it is asked for
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
        unread: bool = False,
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
        self._places: ChunkPlaces | None = None
        self._cut: Index | None = None
        self._directories: list[Known] = []
        self.entries = 0
        """Nodes that it has."""
        try:
            if unread and index is not None and self._skim(index, feature_flags, shift):
                self._places = ChunkPlaces(index)
                return
            with Scanner(path, feature_flags, shift=shift) as scanner:
                if index is None:
                    self._record(scanner, _Scratch(), links)
                else:
                    with ChunkingSink(
                        Nowhere(), index.sizes, feature_flags, stream_digest=False, jobs=jobs
                    ) as sink:
                        self._record(scanner, sink, links)
                        sink.finish()
                        self._cut = sink.index
                        self._places = ChunkPlaces(self._cut)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the temporary files."""
        self._skeleton.close()
        self._names.close()

    def _skim(self, index: Index, feature_flags: int, shift: IdShift | None) -> bool:
        """Note where files lie. :returns: whether an archive of the directory would be as large as the index's"""
        with Scanner(self.path, feature_flags, shift=shift, contents=False) as scanner:
            archiver = _Skimming(scanner, _Scratch(), None, self._skeleton, self._names)
            archiver.run()
            self._take(archiver)
        same = archiver.encoder.offset == index.size
        if not same:
            self._skeleton.close()
            self._names.close()
            self._skeleton, self._names = Spool("a seed"), Spool("a seed")
        return same

    def _record(self, scanner: Scanner, output: ArchiveOutput, links: Digest | None) -> None:
        archiver = _Noting(scanner, output, links, self._skeleton, self._names)
        archiver.run()
        self._take(archiver)

    def _take(self, archiver: _Noting) -> None:
        archiver.flush()
        self._starts, self._sizes, self._before = archiver.starts, archiver.sizes, archiver.before
        self._paths, self._links = archiver.paths, archiver.links
        self.entries = archiver.entries
        self._directories = sorted(archiver.directories, key=lambda each: (each.start, -each.end))

    def is_all_of(self, index: Index) -> bool:
        """Whether the directory has what an index describes, metadata as far as it is recorded, and nothing else.

        But for what rules and flags of its own keep out of archives.
        """
        complete = index.feature_flags & _ALL_KINDS == _ALL_KINDS
        return complete and self._cut is not None and self._cut.table == index.table

    def known_in(self, index: Index) -> list[Known]:
        """Directories of which an index describes what is there, and nothing else, where they lie in its stream.

        Large ones only, and none within another.
        """
        if self._cut is None or index.feature_flags & _ALL_KINDS != _ALL_KINDS:
            return []
        stretches = same_stretches(self._cut, index)
        starts = [stretch.start for stretch in stretches]
        found = []
        end = 0
        for each in self._directories:
            number = bisect_right(starts, each.start) - 1
            if each.start < end or number < 0 or each.end > stretches[number].end:
                continue
            end = each.end
            off = stretches[number].there - stretches[number].start
            found.append(Known(each.start + off, each.end + off, each.path, each.entries))
        return sorted(found, key=lambda each: each.start)

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

    def has(self, id_: bytes) -> bool:
        """Whether the seed had the chunk when it was read."""
        return self._places is not None and self._places.find(id_) is not None

    def read(self, id_: bytes) -> bytes | None:
        """What stands where the chunk was, None when the seed does not have it."""
        place = self._places.find(id_) if self._places is not None else None
        if place is None:
            return None
        out = []
        for row, there, _, size in self._runs(*place):
            if row >= 0:
                out.append(read_file(self._path(row), there, size))
            else:
                try:
                    out.append(self._skeleton.read_at(there, size))
                except SpoolError:
                    return None
        return b"".join(out)
