"""A regular file or block device that is changed where it is, and is not whole until that is done.

    >>> with InPlaceFile(b"/dev/sda2", size=1 << 30) as out:
    ...     os.pwrite(out.fd, data, offset)

It can be read, too: what is right in it need not be written again. Left without an error, it is durable and, if it is a
file, as long as it should be. Which bytes go where is the caller's business.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from types import TracebackType
from typing import Self

from casync_compat.errors import FileError, show_path
from casync_compat.fs.blob import device_size

__all__ = ["InPlaceFile", "check_room"]


def check_room(fd: int, path: bytes, size: int) -> None:
    """:raises FileError: it is a block device with fewer bytes"""
    if stat.S_ISBLK(os.fstat(fd).st_mode):
        there = device_size(fd)
        if there < size:
            raise FileError(path, "write", f"the device has {there} bytes, the blob {size}")


class InPlaceFile:
    """Context manager around the file.

    :param path: a regular file, which is made if it is missing, or a block device
    :param size: bytes that it will have, or a device must have
    :raises FileError: naming `path`, from every method

    :ivar size: bytes that can be read of it
    """

    def __init__(self, path: bytes, size: int) -> None:
        self.path = path
        self.fd = -1
        self.size = 0
        self._wanted = size
        self._device = False

    def __enter__(self) -> Self:
        try:
            self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o666)
            st = os.fstat(self.fd)
            self._device = stat.S_ISBLK(st.st_mode)
            check_room(self.fd, self.path, self._wanted)
            self.size = device_size(self.fd) if self._device else st.st_size
            if self.size < self._wanted:
                os.ftruncate(self.fd, self._wanted)
        except BaseException as error:
            self._close()
            if isinstance(error, OSError) and not isinstance(error, FileError):
                raise FileError(self.path, "open", error) from error
            raise
        return self

    def write(self, data: bytes) -> None:
        """Not front to back, but by `fd`."""
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                if not self._device:
                    os.ftruncate(self.fd, self._wanted)
                os.fsync(self.fd)
            elif error is not None:
                error.add_note(f"{show_path(self.path)} is not complete; the same command again continues")
        except OSError as problem:
            raise FileError(self.path, "write", problem) from problem
        finally:
            self._close()

    def _close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with suppress(OSError):
                os.close(fd)
