"""A file that appears whole or not at all: temporary name, sync, rename, sync of the directory.

    >>> with AtomicFile(b"x.caidx", mode=0o644) as out:
    ...     out.write(data)

The temporary name is casync's (`.#` + name + 16 hex digits, shortened to fit). What is no regular file (a device, a
fifo) is never replaced but written to directly. A symlink is followed, so that what it points to is replaced.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

from casync_compat.errors import FileError

try:
    from casync_compat.fs._system import start_writing
except ImportError:  # built without a C compiler
    from casync_compat.fs.system import start_writing

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["AtomicFile", "temporary_name"]

_NAME_MAX = 255
_AHEAD = 8 << 20


def temporary_name(name: bytes) -> bytes:
    """A fresh hidden name beside `name`, never longer than a file name may be."""
    suffix = os.urandom(8).hex().encode("ascii")
    return b".#" + name[: _NAME_MAX - 2 - len(suffix)] + suffix


class AtomicFile:
    """Context manager around a file that is being written.

    :param path: where it shall appear
    :param mode: permissions before the umask; an existing file keeps its own
    :raises FileError: naming `path`, from every method

    Leaving the block normally makes it durable and visible; leaving it by an exception leaves nothing behind.
    """

    def __init__(self, path: bytes, mode: int = 0o666) -> None:
        self.path = path
        self.fd = -1
        self._mode = mode
        self._final = b""
        self._temporary: bytes | None = None
        self._written = self._started = 0

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException as error:
            self._discard()
            if isinstance(error, OSError):
                raise FileError(self.path, "create", error) from error
            raise
        return self

    def _open(self) -> None:
        try:
            existing = os.stat(self.path)
        except FileNotFoundError:
            existing = None
        if existing is not None and stat.S_ISDIR(existing.st_mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if existing is not None and not stat.S_ISREG(existing.st_mode):
            # By the name as given: /dev/stdout leads to a pipe, which has no other.
            self.fd = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
            return
        self._final = os.path.realpath(self.path)
        directory, name = os.path.split(self._final)
        self._temporary = os.path.join(directory, temporary_name(name))
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self.fd = os.open(self._temporary, flags, self._mode)
        if existing is not None:
            with suppress(OSError):
                os.fchown(self.fd, existing.st_uid, existing.st_gid)
            with suppress(OSError):
                os.fchmod(self.fd, stat.S_IMODE(existing.st_mode))

    def write(self, data: ReadableBuffer) -> None:
        """Append all of `data`."""
        view = memoryview(data).cast("B")
        try:
            while view:
                count = os.write(self.fd, view)
                view = view[count:]
                self._written += count
        except OSError as error:
            raise FileError(self.path, "write", error) from error
        self.written_to(self._written)

    def written_to(self, end: int) -> None:
        """Everything before `end` is written, by whomever. It will be synced, so the disk is to work meanwhile."""
        if self._temporary is not None and end - self._started >= _AHEAD:
            start_writing(self.fd, self._started, end - self._started)
            self._started = end

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            try:
                self._publish()
            except OSError as problem:
                raise FileError(self.path, "write", problem) from problem
            finally:
                self._discard()
        else:
            self._discard()

    def _publish(self) -> None:
        if self._temporary is None:
            return
        os.fsync(self.fd)
        os.rename(self._temporary, self._final)
        self._temporary = None
        directory = os.open(os.path.dirname(self._final), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _discard(self) -> None:
        """Close the file, and take it away where it has not been published."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with suppress(OSError):  # it was synced, or is of no use
                os.close(fd)
        temporary, self._temporary = self._temporary, None
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)
