"""Archives written by hand, node by node, and read from memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from catar import Archive, DirectoryEnd, Encoder, Node, Walker
from catar.flags import DEFAULT

END = "end"
"""The step that ends a directory."""
Step = Node | tuple[Node, bytes] | str
"""A node, one with its payload, or `END`."""


class Memory:
    """An archive in memory that notes how much of it was read."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)
        self.bytes_read = 0

    def read_at(self, offset: int, size: int) -> bytes:
        piece = self._data[offset : offset + size]
        self.bytes_read += len(piece)
        return piece


def encode(steps: Iterable[Step], features: int = DEFAULT) -> bytes:
    """The bytes of an archive."""
    encoder = Encoder(features)
    out = b""
    for step in steps:
        if isinstance(step, str):
            out += encoder.end_directory()
            continue
        node, payload = step if isinstance(step, tuple) else (step, b"")
        node.size = len(payload)
        out += encoder.begin(node) + payload
        encoder.advance(len(payload))
    return out


def archive(steps: Iterable[Step], features: int = DEFAULT) -> Archive:
    """The archive, to be looked into."""
    return Archive(Memory(encode(steps, features)))


class OneByOne:
    """An archive as a stream that gives one node at a time, and never runs."""

    def __init__(self, data: bytes) -> None:
        self._walker: Walker = Archive(Memory(data)).walk()

    @property
    def path(self) -> bytes:
        return self._walker.path

    @property
    def feature_flags(self) -> int:
        return self._walker.feature_flags

    def __iter__(self) -> Iterator[Node | DirectoryEnd]:
        return iter(self._walker)

    def payload(self) -> Iterator[memoryview]:
        return self._walker.payload()
