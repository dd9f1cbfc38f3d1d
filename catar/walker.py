"""Drives a decoder over a source of bytes: nodes with their paths, payloads on demand.

    >>> walker = Walker(source)
    >>> for step in walker:
    ...     if isinstance(step, Node) and step.is_regular and wanted(walker.path):
    ...         for piece in walker.payload():
    ...             ...

A payload that is not asked for is skipped in the source, so that listing an archive file does not read its contents.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from catar.decoder import END, NEED_DATA, Decoder
from catar.grammar import DIR
from catar.records import Data, DirectoryEnd, Node
from catar.runs import Run

__all__ = ["ByteSource", "Known", "TreeStream", "Walker"]


class ByteSource(Protocol):
    """A stream that is read once, front to back."""

    def read(self) -> bytes:
        """The next piece, of whatever size suits the source; empty at the end."""
        ...

    def skip(self, count: int) -> None:
        """Pass over the next `count` bytes. Passing the end is not an error here: the next `read` is empty."""
        ...


@runtime_checkable
class Rewindable(ByteSource, Protocol):
    """A source that can go back over bytes that it gave."""

    def back(self, count: int) -> None:
        """Go back by `count` bytes, no more than `read` gave last."""
        ...


class TreeStream(Protocol):
    """A tree as a stream of nodes, each before its children: an archive (`Walker`) or a directory being scanned."""

    @property
    def path(self) -> bytes:
        """Path of the node or finished directory that was yielded last, without a leading slash; empty for the root."""
        ...

    @property
    def feature_flags(self) -> int:
        """The flag word that the nodes were recorded with."""
        ...

    def __iter__(self) -> Iterator[Node | DirectoryEnd]: ...

    def payload(self) -> Iterator[memoryview]:
        """The pieces of the current regular file's payload; what is not asked for is skipped."""
        ...


@dataclass(frozen=True, slots=True)
class Known:
    """A directory of which somebody knows the records, and needs none of them.

    :ivar start: offset of its FILENAME record in the archive
    :ivar end: where its GOODBYE record ends
    :ivar path: without a leading slash
    :ivar entries: nodes in it, itself included
    """

    start: int
    end: int
    path: bytes
    entries: int


def _nobody(known: Known) -> bool:
    return False


def _below(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory else name


class Walker:
    """Iterates over the nodes of an archive and the ends of its directories.

    :param source: the archive's bytes
    :param decoder: to start somewhere else than at an archive's begin
    :param top: path of the top node, put before every `path`

    Iteration raises `FormatError`, and whatever the source raises.
    """

    def __init__(self, source: ByteSource, decoder: Decoder | None = None, *, top: bytes = b"") -> None:
        self.decoder = decoder or Decoder()
        self.path = top
        """Path of the node or finished directory that was yielded last, without a leading slash."""
        self._source = source
        self._rewindable: Rewindable | None = None  # the source, where it is one
        self._top = top
        self._parents: list[bytes] = []
        self._known: deque[Known] = deque()
        self._passes: Callable[[Known], bool] = _nobody

    def pass_over(self, known: Iterable[Known], passes: Callable[[Known], bool]) -> None:
        """Have directories passed over by `runs`, with all that is in them.

        That is done where a directory begins at its offset under its path, and the bytes before it were read by
        themselves: a source that knows of it stops there.

        :param known: in their order
        :param passes: asked whether it is to be, when one comes
        """
        self._known = deque(known)
        self._passes = passes

    def _pass_next(self) -> bool:
        """Pass over the next known directory, where that is what comes."""
        decoder, known = self.decoder, self._known
        at = decoder.offset
        while known and known[0].start < at:
            known.popleft()
        if not known or known[0].start != at or not decoder.is_between_entries:
            return False
        step = known.popleft()
        name = step.path.rpartition(b"/")[2]
        if _below(self._parents[-1], name) != step.path or not self._passes(step):
            return False
        missing = decoder.pass_over(name, step.end - step.start)
        if missing:
            self._source.skip(missing)
        return True

    def __iter__(self) -> Iterator[Node | DirectoryEnd]:
        decoder, source = self.decoder, self._source
        next_event = decoder.next_event
        parents = self._parents
        prefix = b""  # of the paths in the innermost directory
        while True:
            event = next_event()
            if type(event) is Node:
                self.path = path = prefix + event.name if parents else self._top
                if event.mode & 0o170000 == DIR:
                    parents.append(path)
                    prefix = path + b"/" if path else b""
                yield event
                if decoder.payload_left:
                    missing = decoder.skip_payload()
                    if missing:
                        source.skip(missing)
            elif event is NEED_DATA:
                decoder.receive(source.read())
            elif type(event) is DirectoryEnd:
                self.path = parents.pop()
                prefix = parents[-1] + b"/" if parents and parents[-1] else b""
                yield event
            elif event is END:
                return

    def runs(self) -> Iterator[Node | DirectoryEnd | Run]:
        """As iteration, with ordinary nodes and ends of directories in runs where that is possible.

        At a run, `path` is that of the directory in which the run's first row stands.
        """
        decoder, source = self.decoder, self._source
        parents = self._parents
        # Looked up once: it takes 0.1 ms.
        self._rewindable = source if isinstance(source, Rewindable) else None
        while True:
            if self._known and self._pass_next():
                continue
            run = decoder.next_run()
            if run is NEED_DATA:
                if not self._known or self._known[0].start != decoder.received:
                    self._receive_more()
                    continue
                decoder.without_run()
                run = None
            step = run or decoder.next_event()
            if step is NEED_DATA and self._known and self._known[0].start == decoder.offset:
                step = decoder.end_node() or step
            if type(step) is Run:
                self.path = parents[-1]
                del parents[len(parents) - step.closed :]
                for name in step.opened:
                    parents.append(_below(parents[-1], name))
            elif type(step) is Node:
                self.path = _below(parents[-1], step.name) if parents else self._top
                if step.mode & 0o170000 == DIR:
                    parents.append(self.path)
            elif type(step) is DirectoryEnd:
                self.path = parents.pop()
            elif step is NEED_DATA:
                decoder.receive(source.read())
                continue
            else:  # END: payloads are taken or skipped before the next step
                return
            yield step
            if decoder.payload_left:
                missing = decoder.skip_payload()
                if missing:
                    source.skip(missing)

    def _receive_more(self) -> None:
        """Give the decoder more than it has; where that works the rest is read again, which saves joining the two."""
        rest = 0
        if self._rewindable is not None:
            rest = self.decoder.unread()
            self._rewindable.back(rest)
        while rest >= 0:
            data = self._source.read()
            self.decoder.receive(data)
            rest = rest - len(data) if data else -1

    @property
    def feature_flags(self) -> int:
        """The archive's flag word; 0 before the first node was read."""
        return self.decoder.feature_flags or 0

    def payload(self) -> Iterator[memoryview]:
        """The pieces of the current node's payload; nothing when it has none."""
        decoder, source = self.decoder, self._source
        while decoder.payload_left:
            event = decoder.next_event()
            if type(event) is Data:
                yield event.data
            elif event is NEED_DATA:
                decoder.receive(source.read())
