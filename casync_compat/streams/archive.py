"""THE loop from nodes to an archive: nodes go through an encoder, and its bytes and the payloads into a sink.

    >>> with Scanner(b"/etc", flags) as scanner, DigestSink(digest) as sink:
    ...     Archiver(scanner, sink, flags).run()
    ...     sink.finish()

Whoever has more to do on the way (remember where files lie, note what the next run can use) overrides the hooks. It
does not look for nodes, cut chunks or write files: sources and sinks do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from casync_compat.errors import FileError
from casync_compat.fs.losses import LeftOutKind
from casync_compat.fs.scan.directory import KeptOut
from casync_compat.fs.scan.runs import FileRun
from casync_compat.progress import Reporter
from casync_compat.streams.sinks import ZEROS
from catar.encoder import Encoder
from catar.errors import CatarError
from catar.records import DirectoryEnd, Node

if TYPE_CHECKING:
    from casync_compat.ids import ChunkId
    from casync_compat.index import Index
    from casync_compat.streams.chunking import ChunkCounts

__all__ = ["ArchiveNodes", "ArchiveOutput", "Archiver", "MakeResult", "report"]


@dataclass(frozen=True, slots=True)
class MakeResult:
    """What a run made.

    :ivar digest: of the archive's or blob's bytes; None when it was left out
    :ivar size: of the archive or blob, in bytes
    :ivar entries: nodes archived; 0 for a blob
    :ivar chunks: counts, None for a plain archive
    :ivar index: the index written, None for a plain archive
    :ivar cached: chunks known from a cache, which nobody looked at; None without a cache
    :ivar left_out: what is not in the archive or blob as it was on disk, by kind; empty when all is
    :ivar excluded: how many entries were kept out of it on purpose; None of a blob
    """

    digest: ChunkId | None
    size: int
    entries: int
    chunks: ChunkCounts | None = field(default=None, hash=False)
    index: Index | None = None
    cached: int | None = None
    left_out: tuple[LeftOutKind, ...] = ()
    excluded: KeptOut | None = field(default=None, hash=False)


class ArchiveNodes(Protocol):
    """Nodes with their payloads, in the order of an archive; a `Scanner` is one."""

    @property
    def path(self) -> bytes:
        """Path of the current node within the tree."""
        ...

    @property
    def full_path(self) -> bytes:
        """The same for messages."""
        ...

    def steps(self) -> Iterator[Node | DirectoryEnd | FileRun]:
        """The nodes, an end after each directory, and runs of files that lie in the output's room already."""
        ...

    def take_ready(self) -> memoryview | None:
        """The whole payload of the current file, when it is in memory already; None: ask `payload_into`."""
        ...

    def take_hole(self) -> int:
        """Pass over zeros that come next in the payload. Returns their number; 0 when `payload_into` is to be asked."""
        ...

    def payload_into(self, buffer: memoryview, /) -> int:
        """Fill a buffer, or its beginning, with the next bytes of the payload. Returns their number; 0 at the end."""
        ...


class ArchiveOutput(Protocol):
    """Where an archive's bytes go; a `streams.sinks.Sink` is one."""

    @property
    def written(self) -> int: ...
    def write(self, data: bytes | memoryview, /) -> None: ...
    def room(self) -> memoryview: ...
    def advance(self, count: int, /) -> None: ...
    def write_zeros(self, count: int, /) -> None: ...


class Archiver:
    """Archives one tree.

    :param feature_flags: of the archive
    :param reporter: is told how far it is; None tells nobody
    :param counts: of the chunks that the output makes, for the reporter
    :ivar entries: nodes archived so far
    """

    def __init__(
        self,
        nodes: ArchiveNodes,
        output: ArchiveOutput,
        feature_flags: int,
        reporter: Reporter | None = None,
        counts: ChunkCounts | None = None,
    ) -> None:
        self.entries = 0
        self.encoder = Encoder(feature_flags)
        self._nodes = nodes
        self._output = output
        self._reporter = reporter or Reporter(None)
        self._counts = counts

    def run(self) -> int:
        """Archive everything. Returns the number of nodes. :raises FileError: a node cannot be recorded"""
        reporter = self._reporter
        for step in self._nodes.steps():
            kind = type(step)
            if kind is FileRun:
                self._fill(step)  # type: ignore[arg-type]
            elif kind is Node:
                self._add(step)  # type: ignore[arg-type]
            elif kind is DirectoryEnd:
                self.on_directory_end()
                records = self.encoder.end_directory()
                self._output.write(records)
                self.on_records(None, records)
            else:
                self.on_other(step)  # type: ignore[arg-type]
            if reporter.due:
                self._report()
        assert self.encoder.complete
        return self.entries

    # Hooks

    def on_records(self, node: Node | None, records: bytes) -> None:
        """Records were written: a node's, whose offsets are known now, or (None) the end of a directory."""

    def on_payload(self, data: memoryview) -> None:
        """The next bytes of the payload were written."""

    def on_payload_end(self) -> None:
        """A regular file is complete."""

    def on_directory_end(self) -> None:
        """A directory is about to be ended."""

    def on_other(self, node: Node) -> None:
        """The source gave a kind of node of its own, to be archived here."""
        raise AssertionError(f"a node that nobody knows: {node!r}")

    # Steps

    def _fill(self, run: FileRun) -> None:
        """Complete a run of files that lie in the output's room."""
        try:
            size = self.encoder.fill(run.room, 0, run.names, run.rows, run.owners)
        except CatarError as error:
            raise FileError(self._nodes.full_path, "archive", str(error)) from error
        self._output.advance(size)
        self.entries += len(run)

    def _add(self, node: Node) -> None:
        nodes, output, encoder = self._nodes, self._output, self.encoder
        try:
            records = encoder.begin(node)
        except CatarError as error:
            raise FileError(nodes.full_path, "archive", str(error)) from error
        output.write(records)
        self.entries += 1
        self.on_records(node, records)
        if node.size:
            self.take_payload(node)
        if node.is_regular:
            self.on_payload_end()

    def take_payload(self, node: Node) -> None:
        """Write the payload of a file that has one."""
        nodes, output, encoder = self._nodes, self._output, self.encoder
        ready = nodes.take_ready()
        if ready is not None:
            output.write(ready)
            encoder.advance(len(ready))
            self.on_payload(ready)
            return
        while True:
            if hole := nodes.take_hole():
                for begin in range(0, hole, len(ZEROS)):
                    self.on_payload(ZEROS[: hole - begin])
                output.write_zeros(hole)
                encoder.advance(hole)
            elif count := nodes.payload_into(room := output.room()):
                self.on_payload(room[:count])
                output.advance(count)
                encoder.advance(count)
            else:
                break
            if self._reporter.due:
                self._report()

    def _report(self) -> None:
        report(self._reporter, self._output.written, self._nodes.path, self.entries, self._counts)


def report(
    reporter: Reporter, done: int, path: bytes, entries: int = 0, counts: ChunkCounts | None = None
) -> None:
    """Tell how far a stream of archive or blob bytes is.

    :param done: bytes
    """
    state = reporter.state
    state.done, state.entries, state.path = done, entries, path
    if counts is not None:
        state.chunks, state.new_chunks = counts.total, counts.new
    reporter.report()
