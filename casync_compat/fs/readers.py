"""Files on disk at any offset, and streams of bytes, as sources for a decoder or a sink."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from casync_compat.closing import Closing
from casync_compat.errors import FileError, FormatError
from casync_compat.fs.waiting import readable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = [
    "FileReader",
    "FileView",
    "FillingAccess",
    "NotRegular",
    "RangeView",
    "StreamSource",
    "next_data",
    "open_regular",
    "read_whole",
    "wait_readable",
]

_PIECE = 256 << 10


class NotRegular(FileError):
    """What should be a regular file is a FIFO, a directory, a device or a socket."""


def open_regular(path: bytes, op: str = "read") -> int:
    """A file descriptor of a regular file, to read; the caller closes it. A FIFO is not waited for.

    :raises NotRegular: it is something else
    :raises FileError: it cannot be opened
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket, or a device without its driver
            raise NotRegular(path, op, "it is not a regular file") from error
        raise FileError(path, op, error) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise NotRegular(path, op, "it is not a regular file")
    return fd


class FileReader(Closing):
    """A regular file or block device at any offset (a `catar.archive.RandomAccess`).

    :param path: the file
    :raises FileError: when it cannot be opened or read
    """

    def __init__(self, path: bytes) -> None:
        self.path = path
        self.fd = -1
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
            self._stat = os.fstat(self.fd)
            os.set_blocking(self.fd, True)  # only the open must not wait
            self._size = os.lseek(self.fd, 0, os.SEEK_END) if self.seekable else 0
        except OSError as error:
            self.close()
            raise FileError(path, "open", error) from error
        if stat.S_ISDIR(self._stat.st_mode):
            self.close()
            raise FileError(path, "read", "it is a directory")

    @property
    def seekable(self) -> bool:
        """Whether it has a size and can be read at any offset."""
        return stat.S_ISREG(self._stat.st_mode) or stat.S_ISBLK(self._stat.st_mode)

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self._size

    def read_at(self, offset: int, size: int) -> bytes:
        """The bytes from `offset` on, `size` of them or as many as there are."""
        try:
            data = os.pread(self.fd, size, offset)
            while len(data) < size and (more := os.pread(self.fd, size - len(data), offset + len(data))):
                data += more
        except OSError as error:
            raise FileError(self.path, "read", error) from error
        return data

    def close(self) -> None:
        """Close the file."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


@runtime_checkable
class FillingAccess(Protocol):
    """Bytes at any offset (a `catar.archive.RandomAccess`), with a way to read into a buffer that is there already."""

    @property
    def size(self) -> int: ...
    def read_at(self, offset: int, size: int, /) -> bytes: ...
    def read_into(self, offset: int, buffer: memoryview, /) -> int: ...


class FileView:
    """An open file at any offset.

    :param fd: stays the caller's
    :param size: in bytes; None asks the file
    :param name: what messages call it
    :raises FileError: it cannot be read
    """

    def __init__(self, fd: int, size: int | None = None, *, name: bytes) -> None:
        self._fd = fd
        self._name = name
        try:
            self._size = os.fstat(fd).st_size if size is None else size
        except OSError as error:
            raise FileError(name, "read", error) from error

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self._size

    def read_at(self, offset: int, size: int) -> bytes:
        """The bytes from `offset` on, `size` of them or as many as there are."""
        size = min(size, self._size - offset)
        if size <= 0:
            return b""
        try:
            data = os.pread(self._fd, size, offset)
            while len(data) < size and (more := os.pread(self._fd, size - len(data), offset + len(data))):
                data += more
        except OSError as error:
            raise FileError(self._name, "read", error) from error
        return data

    def read_into(self, offset: int, buffer: WriteableBuffer) -> int:
        """Fill a buffer, or its beginning, with the bytes from `offset` on. Returns how many; 0 at the end."""
        view = memoryview(buffer).cast("B")[: max(0, self._size - offset)]
        try:
            return os.preadv(self._fd, [view], offset)
        except OSError as error:
            raise FileError(self._name, "read", error) from error


class RangeView:
    """A range of an open file as a `catar.archive.RandomAccess`.

    :param fd: stays the caller's
    """

    def __init__(self, fd: int, offset: int, size: int, name: bytes) -> None:
        self._view = FileView(fd, offset + size, name=name)
        self._offset = offset
        self.size = size

    def read_at(self, offset: int, size: int) -> bytes:
        """The bytes from `offset` on, `size` of them or as many as there are."""
        return self._view.read_at(self._offset + offset, min(size, self.size - offset))

    def read_into(self, offset: int, buffer: WriteableBuffer) -> int:
        """Fill a buffer, or its beginning, with the bytes from `offset` on. Returns how many; 0 at the end."""
        view = memoryview(buffer).cast("B")[: max(self.size - offset, 0)]
        return self._view.read_into(self._offset + offset, view) if len(view) else 0


class StreamSource:
    """A descriptor read front to back, a pipe or not (a `catar.walker.ByteSource`).

    :param fd: stays the caller's
    :param name: what messages call it
    """

    def __init__(self, fd: int, name: bytes) -> None:
        self._fd = fd
        self._name = name

    def read(self) -> bytes:
        """The next piece; empty at the end. :raises FileError: when it cannot be read"""
        try:
            wait_readable(self._fd)
            return os.read(self._fd, _PIECE)
        except OSError as error:
            raise FileError(self._name, "read", error) from error

    def skip(self, count: int) -> None:
        """Pass over `count` bytes: by seeking where that works, else by reading them."""
        try:
            os.lseek(self._fd, count, os.SEEK_CUR)
            return
        except OSError:
            pass
        while count > 0:
            try:
                wait_readable(self._fd)
                data = os.read(self._fd, min(count, _PIECE))
            except OSError as error:
                raise FileError(self._name, "read", error) from error
            if not data:
                return
            count -= len(data)


def wait_readable(fd: int) -> None:
    """Return when there is something to read, or the end, on a pipe or the like.

    It looks up every second: a signal that comes just before a read begins would else be noticed only after it.
    """
    while not readable([fd], 1.0):
        pass


def read_whole(path: bytes | str | int, limit: int, name: bytes | None = None) -> bytes:
    """All of a small file, given by its path or open already.

    :param limit: most bytes it may have
    :param name: what messages call it, if not by its path
    :raises FileError: when it cannot be read; `NotFound` when there is none
    :raises FormatError: when it is larger
    """
    if name is None:
        name = b"an open file" if isinstance(path, int) else os.fsencode(path)
    try:
        fd = path if isinstance(path, int) else os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            parts = []
            left = limit + 1
            while left and (piece := os.read(fd, min(left, 1 << 20))):
                parts.append(piece)
                left -= len(piece)
        finally:
            if fd != path:
                os.close(fd)
    except OSError as error:
        raise FileError(name, "read", error) from error
    if not left:
        raise FormatError(f"larger than {limit} bytes, the most this kind of file may have", name)
    return b"".join(parts)


def next_data(fd: int, at: int, end: int) -> int | None:
    """Where a sparse file has data next, from `at` on: `end` where none follows before that.

    :returns: None where nobody can tell: there are no holes here, or the file has become shorter than `end`
    """
    try:
        return min(os.lseek(fd, at, os.SEEK_DATA), end)
    except OSError as error:
        # ENXIO: no data follows. That it does after a file that has become shorter, too.
        return end if error.errno == errno.ENXIO and os.fstat(fd).st_size >= end else None
