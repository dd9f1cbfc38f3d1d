"""A regular file's payload, written to a temporary name beside its place, with holes where it is zero.

    >>> with_holes = PayloadWriter(fd, size, punch_holes=True)
    >>> with_holes.write(piece)

A block of 4096 zero bytes, aligned in the file, is not written: what is not written reads as zeros and takes no space.
Data without zeros costs one look at every 4096th byte. Where zeros reach the end of a piece, the part of a block there
is left unwritten too, because it may be continued in the next piece.

It does not create or rename files.
"""

from __future__ import annotations

import os

__all__ = ["BLOCK", "PayloadWriter"]

BLOCK = 4096
_MANY = 16 * BLOCK
_ZEROS = bytes(_MANY)


def _is_zero(view: memoryview) -> bool:
    return not view[0] and view.tobytes() == _ZEROS[: len(view)]


class PayloadWriter:
    """Writes one payload, or a part of it, from front to back.

    :param fd: a file, open for writing, that is empty or has zeros there
    :param size: how large it will be, in bytes
    :param punch_holes: leave blocks of zeros unwritten
    :param start: offset to begin at; `finish` is for payloads that begin at 0
    """

    __slots__ = ("_end", "_fd", "_holes", "_size", "at")

    def __init__(self, fd: int, size: int, punch_holes: bool, start: int = 0) -> None:
        self._fd = fd
        self._size = size
        self._holes = punch_holes and size >= BLOCK
        self.at = start
        """Offset of the next byte to be given."""
        self._end = 0  # of what was written

    def write(self, view: memoryview) -> None:
        """Write the next bytes.

        :raises ValueError: when there are more than the size said
        :raises OSError: when they cannot be written
        """
        count = len(view)
        if self.at + count > self._size:
            raise ValueError(f"the payload is longer than the {self._size} bytes announced")
        if self._holes and count and self._may_have_zeros(view):
            self._write_sparse(view)
        else:
            self._write_at(view, self.at)
        self.at += count

    def skip_zeros(self, count: int) -> None:
        """The next `count` bytes are zeros, which need not be shown.

        :raises ValueError: when there are more than the size said
        :raises OSError: when they cannot be written
        """
        if not self._holes:
            self.write(memoryview(bytes(count)))
            return
        if self.at + count > self._size:
            raise ValueError(f"the payload is longer than the {self._size} bytes announced")
        self.at += count

    def finish(self) -> None:
        """Make the file as long as it should be, where it ends in a hole.

        :raises ValueError: when bytes are missing
        :raises OSError: when the file cannot be extended
        """
        if self.at != self._size:
            raise ValueError(f"the payload ends after {self.at} of {self._size} bytes")
        if self._end < self.at:
            os.ftruncate(self._fd, self.at)

    def _may_have_zeros(self, view: memoryview) -> bool:
        """Whether one of the blocks could be zero, judged by the first byte of each."""
        first = -self.at % BLOCK
        if first and not view[0]:
            return True
        return 0 in view[first::BLOCK].tobytes()

    def _write_sparse(self, view: memoryview) -> None:
        """Write the runs of blocks that are not zero."""
        count = len(view)
        run = 0
        begin = 0
        end = min(-self.at % BLOCK or BLOCK, count)
        while begin < count:
            many = begin + _MANY
            if end - begin == BLOCK and many <= count and not view[many - 1] and _is_zero(view[begin:many]):
                end = many
                zeros = True
            else:
                zeros = _is_zero(view[begin:end])
            if zeros:
                if run < begin:
                    self._write_at(view[run:begin], self.at + run)
                run = end
            begin, end = end, min(end + BLOCK, count)
        if run < count:
            self._write_at(view[run:], self.at + run)

    def _write_at(self, view: memoryview, offset: int) -> None:
        while view:
            written = os.pwrite(self._fd, view, offset)
            offset += written
            self._end = offset
            view = view[written:]
