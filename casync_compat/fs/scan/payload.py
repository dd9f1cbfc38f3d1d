"""The contents of the regular file that a scan has come to: read piece by piece, or in memory already.

    >>> payload = FilePayload(b"/etc")
    >>> payload.open(b"hosts", fd, size, (size, mtime))
    >>> while count := payload.read_into(buffer): ...
    >>> payload.finish()

A file that is not what it was when it was looked at is an error, never a corrupt archive. Which file comes next is the
business of `casync_compat.fs.scan.scanner`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from casync_compat.errors import FileError

__all__ = ["FilePayload"]

_BUFFER = 256 * 1024


class FilePayload:
    """One file's contents after another's.

    :param root: the directory that is scanned, for messages
    """

    __slots__ = ("_before", "_fd", "_left", "_path", "_ready", "_root")

    def __init__(self, root: bytes) -> None:
        self._root = root
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

    def hold(self, path: bytes, data: memoryview) -> None:
        """Go on with a file that was read whole."""
        self._path = path
        self._ready = data
        self._left = len(data)

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

    def read_into(self, buffer: memoryview) -> int:
        """Read the next bytes into `buffer`.

        :returns: their number; 0 when the file is complete
        :raises FileError: when it cannot be read, or turns out shorter than it was
        """
        if not self._left:
            return 0
        want = min(len(buffer), self._left)
        if self._ready is not None:
            buffer[:want] = self._ready[:want]
            self._ready = self._ready[want:]
            self._left -= want
            return want
        try:
            count = os.readv(self._fd, [buffer[:want]])
        except OSError as error:
            raise self._failure("read", error) from error
        if not count:
            text = f"it shrank by {self._left} bytes while being read; try again"
            raise self._failure("read", text)
        self._left -= count
        return count

    def pieces(self) -> Iterator[memoryview]:
        """What is left of it; each piece is valid until the next is asked for."""
        if not self._left:
            return
        buffer = memoryview(bytearray(min(_BUFFER, self._left)))
        while count := self.read_into(buffer):
            yield buffer[:count]

    def finish(self) -> None:
        """Let go of the current file; when it was read to its end, be sure that it did not change meanwhile."""
        if self._fd >= 0 and not self._left and self._before[0]:
            after = os.fstat(self._fd)
            if (after.st_size, after.st_mtime_ns) != self._before:
                raise self._failure("archive", "it changed while being read; try again")
        self.close()
