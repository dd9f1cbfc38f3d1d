"""Large buffers that a stream is collected in, so that bytes are read into place and never copied one by one.

A `SlabWriter` hands out free room in the current slab; whoever produces bytes reads straight into it. Full slabs go to
`consume`, which says from where on the bytes are still needed (an unfinished chunk, say): those begin the next slab. A
slab is used again once everything that `consume` started on it is done: memory is bounded, pages are touched once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["Slab", "SlabWriter"]


class Slab:
    """One buffer, and what still works on it."""

    __slots__ = ("users", "view")

    def __init__(self, size: int) -> None:
        self.view = memoryview(bytearray(size))
        self.users: list[Future[Any]] = []

    def wait(self) -> None:
        """Return when nothing works on it any more; failures are reported by whoever collects the results."""
        for future in self.users:
            future.exception()
        self.users.clear()


def _closed(slab: Slab, begin: int, seen: int, end: int, last: bool) -> int:
    raise AssertionError("written to after it was closed")


class SlabWriter:
    """Collects a stream in slabs.

    :param size: of a slab, in bytes
    :param count: most slabs in use
    :param consume: called with a slab, the offset of the first byte in it that is still needed, the number of bytes
        that an earlier call saw already, the number it holds now, and whether the stream ends there; returns the offset
        of the first byte still needed after it. It appends to `Slab.users` what goes on working on the slab
    """

    def __init__(self, size: int, count: int, consume: Callable[[Slab, int, int, int, bool], int]) -> None:
        self.size = size
        self.written = 0
        """Bytes of the stream so far."""
        self._count = max(count, 2)
        self._consume = consume
        self._slab = Slab(size)
        self._made = 1
        self._used: deque[Slab] = deque()
        self._begin = self._seen = self._at = 0

    def room(self) -> memoryview:
        """Free room of at least one byte; fill it from its start, then call `advance`."""
        if self._at == self.size:
            self._turn()
        return self._slab.view[self._at :]

    def advance(self, count: int) -> None:
        """Tell that `count` bytes of the last `room` were filled."""
        self._at += count
        self.written += count

    def write(self, data: bytes | memoryview) -> None:
        """Append `data`."""
        size = len(data)
        if size <= self.size - self._at:
            self._slab.view[self._at : self._at + size] = data
            self._at += size
            self.written += size
            return
        view = memoryview(data)
        while view:
            room = self.room()
            part = view[: len(room)]
            room[: len(part)] = part
            self.advance(len(part))
            view = view[len(part) :]

    def flush(self) -> int:
        """Have everything so far consumed. :returns: bytes that are still needed, which begin the next slab"""
        self._turn()
        return self._at

    def take_back(self, count: int) -> None:
        """Forget the last `count` bytes written, no more than `flush` returned; they stay part of the stream."""
        self._at -= count
        self._seen = min(self._seen, self._at)

    @property
    def pending(self) -> int:
        """Bytes that were still needed, or not yet looked at, when they were last consumed or written."""
        return self._at - self._begin

    def consume(self) -> None:
        """Have everything so far consumed, in place: `pending` is then what is still needed."""
        if self._seen < self._at:
            self._look(False)

    def finish(self) -> None:
        """Consume what is left."""
        self._look(True)

    def close(self) -> None:
        """Let go of the buffers and of whoever consumes them; nothing can be written any more."""
        self._consume = _closed
        self._slab = Slab(0)
        self._used.clear()
        self.size = self._begin = self._seen = self._at = 0

    def _look(self, last: bool) -> None:
        self._begin = self._consume(self._slab, self._begin, self._seen, self._at, last)
        self._seen = self._at

    def _turn(self) -> None:
        self._look(False)
        rest = self._slab.view[self._begin : self._at]
        if len(rest) == self.size:
            raise AssertionError("a slab was not consumed")
        fresh = self._fresh()
        fresh.view[: len(rest)] = rest
        self._used.append(self._slab)
        self._slab = fresh
        self._begin = 0
        self._seen = self._at = len(rest)

    def _fresh(self) -> Slab:
        if self._made < self._count:
            self._made += 1
            return Slab(self.size)
        oldest = self._used.popleft()
        oldest.wait()
        return oldest
