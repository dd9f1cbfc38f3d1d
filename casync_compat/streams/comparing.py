"""A stream compared with an index, chunk by chunk as it comes; nothing is kept of it."""

from __future__ import annotations

from collections.abc import Callable

from casync_compat.index import Index, IndexChunk, digest_of_flags
from casync_compat.streams.sinks import ZEROS

__all__ = ["ComparingSink"]

_PIECE = 1 << 20


class ComparingSink:
    """A `streams.sinks.Sink` that says of every chunk of an index whether the stream has it there.

    :param on_chunk: told each chunk once its bytes are complete, whether they are its own, and what `name` gave at
        their beginning
    :param name: what is being written now
    """

    def __init__(
        self, index: Index, on_chunk: Callable[[IndexChunk, bool, str], None], name: Callable[[], str]
    ) -> None:
        self._chunks = iter(index)
        self._digest = digest_of_flags(index.feature_flags)
        self._on_chunk = on_chunk
        self._name = name
        self._room = memoryview(bytearray(_PIECE))
        self._written = 0
        self._next()

    def _next(self) -> None:
        self._chunk = next(self._chunks, None)
        self._hasher = self._digest.new()
        self._first: str | None = None

    @property
    def written(self) -> int:
        """Bytes taken so far, also behind the last chunk."""
        return self._written

    def write(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the stream."""
        view = memoryview(data).cast("B")
        while view and self._chunk is not None:
            if self._first is None:
                self._first = self._name()
            part = view[: self._chunk.end - self._written]
            self._hasher.update(part)
            self._written += len(part)
            view = view[len(part) :]
            if self._written == self._chunk.end:
                self._on_chunk(self._chunk, self._hasher.digest() == self._chunk.id, self._first)
                self._next()
        self._written += len(view)

    def write_zeros(self, count: int) -> None:
        """Take `count` zero bytes."""
        while count > 0:
            part = min(count, len(ZEROS))
            self.write(ZEROS[:part])
            count -= part

    def room(self) -> memoryview:
        """A buffer to read into; `advance` takes what was read."""
        return self._room

    def advance(self, count: int) -> None:
        """Take the first `count` bytes of `room`."""
        self.write(self._room[:count])
