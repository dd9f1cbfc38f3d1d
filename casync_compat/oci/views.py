"""Open files as `catar.archive.RandomAccess`, with a way to read into a buffer that is there already."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from casync_compat.errors import FileError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["FileView"]


class FileView:
    """An open file at any offset.

    :param fd: stays the caller's
    :param size: in bytes; None asks the file
    :param name: what messages call it
    :raises FileError: it cannot be read
    """

    def __init__(self, fd: int, size: int | None = None, name: bytes = b"temporary file") -> None:
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
