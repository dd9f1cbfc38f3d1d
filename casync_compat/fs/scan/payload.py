"""The contents of the regular file that a scan has come to: read piece by piece, or in memory already.

    >>> payload = FilePayload(b"/etc")
    >>> payload.open(b"hosts", fd, size, (size, mtime))
    >>> while count := payload.read_into(buffer): ...
    >>> payload.finish()

A file that is not what it was when it was looked at never makes a corrupt archive: it is cut, or filled up with zeros,
and whoever asked is told; where nobody asked it is an error. Which file comes next is the business of
`casync_compat.fs.scan.scanner`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from casync_compat.errors import FileError
from casync_compat.fs.losses import CHANGED, DAMAGED, is_ours
from casync_compat.fs.readers import next_data

__all__ = ["FilePayload", "check_readable"]

_BUFFER = 256 * 1024
_SHORTEST_HOLE = 1 << 20
"""Bytes: shorter ones are read."""
_BLOCK = 4096
"""Bytes that are given up at the first failure to read, and twice as many at each that follows."""


def check_readable(fd: int, size: int) -> None:
    """Look whether anything of a file can be read: one of which nothing can is better left out.

    :raises OSError: nothing can
    """
    if size:
        byte = bytearray(1)
        try:
            os.preadv(fd, [byte], 0)
        except OSError:
            os.preadv(fd, [byte], size - 1)


class FilePayload:
    """One file's contents after another's.

    :param root: the directory that is scanned, for messages
    :param on_loss: called with kind (see `fs.losses`), path and what happened when a file is not read as it was; None
        makes that an error
    """

    __slots__ = (
        "_at",
        "_before",
        "_data_end",
        "_fd",
        "_left",
        "_lost",
        "_on_loss",
        "_path",
        "_ready",
        "_root",
        "_skip",
    )

    def __init__(self, root: bytes, on_loss: Callable[[str, bytes, str], None] | None = None) -> None:
        self._root = root
        self._on_loss = on_loss
        self._at = 0
        self._data_end = 0  # up to here, no hole begins
        self._skip = _BLOCK
        self._lost = False
        self._path = b""
        self._fd = -1
        self._left = 0
        self._before = (0, 0)
        self._ready: memoryview | None = None

    def open(self, path: bytes, fd: int, size: int, before: tuple[int, int]) -> None:
        """Go on with a file that is to be read, and to be closed here.

        :param path: from the root
        :param size: bytes to read, 0 when its contents are not wanted
        :param before: size and modification time that it must still have at its end
        """
        self._path = path
        self._fd = fd
        self._left = size
        self._before = before
        self._at = 0
        self._data_end = 0 if size >= _SHORTEST_HOLE else size
        self._skip = _BLOCK
        self._lost = False

    def hold(self, path: bytes, data: memoryview) -> None:
        """Go on with a file that was read whole."""
        self._path = path
        self._ready = data
        self._left = len(data)
        self._at = self._data_end = 0

    def close(self) -> None:
        """Let go of the current file."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
        self._left = 0
        self._ready = None

    def take_ready(self) -> memoryview | None:
        """The whole payload, when it is in memory already; valid until the next file."""
        ready = self._ready
        if ready is not None:
            self._ready = None
            self._left = 0
        return ready

    def _failure(self, op: str, why: OSError | str) -> FileError:
        return FileError(os.path.join(self._root, self._path), op, why)

    def take_hole(self) -> int:
        """Pass over the hole that begins here, if it is worth it. :returns: its size; 0 for data, or at the end"""
        if self._fd < 0 or not self._left or self._at < self._data_end:
            return 0
        end = self._at + self._left
        data = next_data(self._fd, self._at, end)
        if data is None:
            self._data_end = end
            return 0
        size = data - self._at
        if size >= _SHORTEST_HOLE:
            self._at = data
            self._left -= size
            return size
        try:
            self._data_end = max(min(os.lseek(self._fd, data, os.SEEK_HOLE), end), data)
        except OSError:  # reading will say why
            self._data_end = end
        return 0

    def read_into(self, buffer: memoryview) -> int:
        """Read the next bytes into `buffer`.

        :returns: their number; 0 when the file is complete
        :raises FileError: when it cannot be read, or turns out shorter than it was, and nobody is told of losses
        """
        if not self._left:
            return 0
        want = min(len(buffer), self._left)
        if self._at < self._data_end:
            want = min(want, self._data_end - self._at)
        if self._ready is not None:
            buffer[:want] = self._ready[:want]
            self._ready = self._ready[want:]
            self._left -= want
            return want
        try:
            count = os.preadv(self._fd, [buffer[:want]], self._at)
        except OSError as error:
            count = self._give_up(buffer[:want], error)
        else:
            self._skip = _BLOCK
        if not count:
            count = self._fill_up(buffer[:want])
        self._left -= count
        self._at += count
        return count

    def _give_up(self, buffer: memoryview, error: OSError) -> int:
        """Have zeros for what cannot be read, a little at first. :returns: their number"""
        if self._on_loss is None or is_ours(error):
            raise self._failure("read", error) from error
        if not self._lost:
            why = f"at byte {self._at}: {error.strerror}; zeros stand for what cannot be read"
            self._on_loss(DAMAGED, self._path, f"a part of it cannot be read, {why}")
        self._lost = True
        count = min(len(buffer), self._skip - self._at % _BLOCK)
        self._skip *= 2
        buffer[:count] = bytes(count)
        return count

    def _fill_up(self, buffer: memoryview) -> int:
        """Have zeros for what the file does not have any more. :returns: their number"""
        if self._on_loss is None:
            text = f"it shrank by {self._left} bytes while being read; try again"
            raise self._failure("read", text)
        if not self._lost:
            text = f"it shrank by {self._left} bytes while being read; zeros stand for them"
            self._on_loss(CHANGED, self._path, text)
        self._lost = True
        buffer[:] = bytes(len(buffer))
        return len(buffer)

    def pieces(self) -> Iterator[memoryview]:
        """What is left of it; each piece is valid until the next is asked for."""
        if not self._left:
            return
        buffer = memoryview(bytearray(min(_BUFFER, self._left)))
        while count := self.read_into(buffer):
            yield buffer[:count]

    def finish(self) -> None:
        """Let go of the current file; when it was read to its end, be sure that it did not change meanwhile."""
        if self._fd >= 0 and not self._left and self._before[0] and not self._lost:
            try:
                after = os.fstat(self._fd)
            except OSError as error:
                raise self._failure("archive", error) from error
            if (after.st_size, after.st_mtime_ns) != self._before:
                self._changed(after.st_size - self._before[0])
        self.close()

    def _changed(self, more: int) -> None:
        if self._on_loss is None:
            raise self._failure("archive", "it changed while being read; try again")
        how = (
            f"it grew by {more} bytes while being read, and is cut"
            if more > 0
            else "it changed while being read"
        )
        self._on_loss(CHANGED, self._path, how)
