"""The decoder's input: what was received and is not used yet, as one buffer where that costs no copy.

It knows no records. `data` is replaced and never changed, so that whoever keeps it may go on reading at places in it.
"""

from __future__ import annotations

__all__ = ["Inbox"]


class Inbox:
    """Bytes that come in pieces and are used from the front.

    :param offset: of the first byte within the archive

    :ivar data: the buffer
    :ivar pos: the read position in it
    :ivar base: offset of `data[0]` within the archive
    :ivar ended: whether there are no more pieces
    """

    __slots__ = ("_pieces", "_waiting", "base", "data", "ended", "pos")

    def __init__(self, offset: int) -> None:
        self.data = b""
        self.pos = 0
        self.base = offset
        self.ended = False
        self._pieces: list[bytes] = []
        self._waiting = 0  # bytes of them

    def receive(self, data: bytes) -> None:
        """Add a piece; an empty one says that there are no more."""
        if not data:
            self.ended = True
        elif self.pos == len(self.data) and not self._pieces:
            self.base += self.pos
            self.data = data
            self.pos = 0
        else:
            self._pieces.append(data)
            self._waiting += len(data)

    @property
    def offset(self) -> int:
        """Offset of the read position within the archive."""
        return self.base + self.pos

    @property
    def end(self) -> int:
        """Offset within the archive of what is received next."""
        return self.base + len(self.data) + self._waiting

    @property
    def ready(self) -> int:
        """Bytes that stand in `data` at the read position."""
        return len(self.data) - self.pos

    @property
    def is_whole(self) -> bool:
        """Whether everything received is in `data`."""
        return not self._pieces

    def join(self) -> None:
        """Make everything received one buffer."""
        if self._pieces:
            rest = memoryview(self.data)[self.pos :]
            self.base += self.pos
            self.pos = 0
            self.data = b"".join((rest, *self._pieces))
            self._pieces.clear()
            self._waiting = 0

    def has(self, size: int) -> bool:
        """Whether `size` bytes stand at the read position; pieces are joined only when they suffice."""
        ready = len(self.data) - self.pos
        if ready >= size:
            return True
        if ready + self._waiting < size:
            return False
        self.join()
        return True

    def take_some(self, most: int) -> memoryview:
        """Up to `most` bytes, as they stand in the buffer; none when nothing was received."""
        if self.pos == len(self.data):
            self.join()
        view = memoryview(self.data)[self.pos : self.pos + most]
        self.pos += len(view)
        return view

    def skip(self, count: int) -> int:
        """Pass over `count` bytes. :returns: those that were not received yet, which are taken as passed"""
        if len(self.data) - self.pos < count:
            self.join()
        here = min(count, len(self.data) - self.pos)
        self.pos += here
        self.base += count - here
        return count - here

    def unread(self) -> int:
        """Forget what was received and not used. :returns: how many bytes that is"""
        count = self.end - self.offset
        self.base += self.pos
        self.data = b""
        self.pos = self._waiting = 0
        self._pieces.clear()
        return count

    def rest(self) -> bytes:
        """All that was received and not used."""
        return bytes(self.data[self.pos :]) + b"".join(self._pieces)
