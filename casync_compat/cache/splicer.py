"""A scanned tree as an archive, of which parts are taken from the old one; and what the next run is to know of it."""

from __future__ import annotations

from array import array
from collections.abc import Callable

from casync_compat.cache.file import CacheWriter
from casync_compat.cache.snapshot import Snapshot
from casync_compat.cache.stream import SplicedStream
from casync_compat.errors import FileError
from casync_compat.fs.scan.reusing import Reused, ReusingScanner
from casync_compat.fs.scan.runs import FileRun
from catar.encoder import Encoder
from catar.errors import CatarError
from catar.records import Node

__all__ = ["Splicer"]


class Splicer:
    """Archives one tree.

    :param before: what the scanner knows of the old archive; None for nothing
    :ivar entries: nodes archived so far
    """

    def __init__(
        self, scanner: ReusingScanner, stream: SplicedStream, writer: CacheWriter, before: Snapshot | None
    ) -> None:
        self.entries = 0
        self._scanner = scanner
        self._stream = stream
        self._writer = writer
        self._before = before
        self._encoder = Encoder(scanner.feature_flags)
        self._begins: list[int] = []  # of the directories under way

    @property
    def names(self) -> dict[str, dict[str, str | None]]:
        """Names of users and groups that the archive depends on."""
        now = self._scanner.names
        if self._before is None:
            return now
        return {kind: {**known, **now[kind]} for kind, known in self._before.names.items()}

    def run(self, on_step: Callable[[], None]) -> None:
        """Archive everything. :param on_step: called now and then"""
        scanner, stream, encoder = self._scanner, self._stream, self._encoder
        scanner.runs_into(stream.room)
        for step in scanner.steps():
            if type(step) is FileRun:
                stream.advance(self._fill(step))
                self.entries += len(step)
            elif type(step) is Reused:
                self._reuse(step)
            elif type(step) is Node:
                self._add(step)
            else:
                self._end_directory()
            on_step()
        assert encoder.complete
        stream.settle()

    def _fill(self, run: FileRun) -> int:
        try:
            return self._encoder.fill(run.room, 0, run.names, run.rows, run.owners)
        except CatarError as error:
            raise FileError(self._scanner.full_path, "archive", str(error)) from error

    def _reuse(self, step: Reused) -> None:
        self._encoder.splice(step.name, step.length)
        self._stream.splice(step.begin, step.length)
        self.entries += 1
        if step.directory is not None:
            assert self._before is not None
            self.entries += self._before.entries_in(step.directory)
            self._writer.copy(self._before.records_of(step.directory))

    def _add(self, node: Node) -> None:
        scanner, stream, encoder = self._scanner, self._stream, self._encoder
        try:
            records = encoder.begin(node)
        except CatarError as error:
            raise FileError(scanner.full_path, "archive", str(error)) from error
        stream.write_fresh(records)
        self.entries += 1
        if node.is_dir:
            self._begins.append(node.start)
        if node.size:
            ready = scanner.take_ready()
            if ready is not None:
                stream.write(ready)
                encoder.advance(len(ready))
                return
            while count := scanner.payload_into(stream.room()):
                stream.advance(count)
                encoder.advance(count)

    def _end_directory(self) -> None:
        encoder = self._encoder
        begin = self._begins.pop()
        starts = array("Q", (start - begin for start in encoder.child_starts))
        starts.append(encoder.offset - begin)
        self._stream.write_fresh(encoder.end_directory())
        self._writer.add_directory(self._scanner.leave(), starts)
