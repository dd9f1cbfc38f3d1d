"""A scanned tree as an archive, of which parts are taken from the old one; and what the next run is to know of it."""

from __future__ import annotations

from array import array

from casync_compat.cache.file import CacheWriter
from casync_compat.cache.snapshot import Snapshot
from casync_compat.cache.stream import SplicedStream
from casync_compat.fs.scan.reusing import Reused, ReusingScanner
from casync_compat.progress import Reporter
from casync_compat.streams.archive import Archiver
from casync_compat.streams.chunking import ChunkCounts
from catar.records import Node

__all__ = ["Splicer"]


class Splicer(Archiver):
    """Archives one tree, of which parts are as they were.

    :param counts: of the chunks that the stream makes
    :param before: what the scanner knows of the old archive; None for nothing
    """

    def __init__(
        self,
        scanner: ReusingScanner,
        stream: SplicedStream,
        writer: CacheWriter,
        before: Snapshot | None,
        reporter: Reporter,
        counts: ChunkCounts,
    ) -> None:
        super().__init__(scanner, stream, scanner.feature_flags, reporter, counts)
        self._scanner = scanner
        self._stream = stream
        self._writer = writer
        self._before = before
        self._begins: list[int] = []  # of the directories under way

    @property
    def names(self) -> dict[str, dict[str, str | None]]:
        """Names of users and groups that the archive depends on."""
        now = self._scanner.names
        if self._before is None:
            return now
        return {kind: {**known, **now[kind]} for kind, known in self._before.names.items()}

    def run(self) -> int:
        """Archive everything; after it the whole stream is in the sink. Returns the number of nodes."""
        self._scanner.runs_into(self._stream.room)
        entries = super().run()
        self._stream.settle()
        return entries

    def on_records(self, node: Node | None, records: bytes) -> None:
        if node is not None and node.is_dir:
            self._begins.append(node.start)

    def on_directory_end(self) -> None:
        encoder = self.encoder
        begin = self._begins.pop()
        starts = array("Q", (start - begin for start in encoder.child_starts))
        starts.append(encoder.offset - begin)
        self._writer.add_directory(self._scanner.leave(), starts)

    def on_other(self, node: Node) -> None:
        assert isinstance(node, Reused)
        self.encoder.splice(node.name, node.length)
        self._stream.splice(node.begin, node.length)
        self.entries += 1
        if node.directory is not None:
            assert self._before is not None
            self.entries += self._before.entries_in(node.directory)
            self._writer.copy(self._before.records_of(node.directory))
