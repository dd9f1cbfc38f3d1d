"""Drives a decoder over a source of bytes: nodes with their paths, payloads on demand.

    >>> walker = Walker(source)
    >>> for step in walker:
    ...     if isinstance(step, Node) and step.is_regular and wanted(walker.path):
    ...         for piece in walker.payload():
    ...             ...

A payload that is not asked for is skipped in the source, so that listing an archive file does not read its contents.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from catar.decoder import END, NEED_DATA, Decoder
from catar.grammar import DIR
from catar.records import Data, DirectoryEnd, Node

__all__ = ["ByteSource", "TreeStream", "Walker"]


class ByteSource(Protocol):
    """A stream that is read once, front to back."""

    def read(self) -> bytes:
        """The next piece, of whatever size suits the source; empty at the end."""
        ...

    def skip(self, count: int) -> None:
        """Pass over the next `count` bytes. Passing the end is not an error here: the next `read` is empty."""
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
        self._top = top
        self._parents: list[bytes] = []

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
