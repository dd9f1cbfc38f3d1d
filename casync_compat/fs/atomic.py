"""A file that appears whole or not at all: written without a name, synced, named, and its directory synced.

    >>> with AtomicFile(b"x.caidx", mode=0o644) as out:
    ...     out.write(data)

Where the file system has no files without a name, it has a hidden one meanwhile (`.#` + name + `~` + 16 hex digits,
shortened to fit; casync's are without the `~`) and is locked, so that the next run knows it from what a process left
that was killed, and takes that away. What is no regular file (a device, a fifo) is never replaced but written to
directly. A symlink is followed, so that what it points to is replaced.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

from casync_compat.errors import FileError
from casync_compat.fs.unnamed import NAMELESS, give_name, open_unnamed

try:
    from casync_compat.fs._system import start_writing
except ImportError:  # built without a C compiler
    from casync_compat.fs.system import start_writing

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["AtomicFile", "open_named", "remove_unlocked", "temporary_name", "try_lock"]

_NAME_MAX = 255
_AHEAD = 8 << 20
_OURS = re.compile(rb"\.#.+~[0-9a-f]{16}", re.DOTALL)
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


def temporary_name(name: bytes) -> bytes:
    """A fresh hidden name beside `name`, never longer than a file name may be."""
    suffix = b"~" + os.urandom(8).hex().encode("ascii")
    return b".#" + name[: _NAME_MAX - 2 - len(suffix)] + suffix


def _lock(fd: int, *, wait: bool) -> bool:
    """Whether nobody else has a file locked, which now this process has. None can be where there are no locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def try_lock(fd: int) -> bool:
    """Whether nobody else has a file locked, which now this process has."""
    return _lock(fd, wait=False)


def open_named(path: bytes, mode: int) -> int:
    """A file of that name, to read and write, made where there is none; no symlink is followed, no FIFO waited for."""
    return os.open(path, _FLAGS | os.O_CREAT, mode)


def _create(path: bytes, mode: int) -> int:
    """A new file of that name, locked where the file system has locks."""
    while True:
        fd = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, mode)
        # Whoever tidies up may have come between the two, and found it without a lock.
        if not _lock(fd, wait=True) or os.fstat(fd).st_nlink:
            return fd
        os.close(fd)


_tidied: set[tuple[int, int]] = set()


def _tidy(directory: bytes) -> None:
    """Take away what processes left in a directory that were killed; once a directory, for it has to be listed."""
    with suppress(OSError):
        st = os.stat(directory)
        if (st.st_dev, st.st_ino) in _tidied:
            return
        _tidied.add((st.st_dev, st.st_ino))
        with os.scandir(directory or b".") as entries:
            left = [e.path for e in entries if _OURS.fullmatch(e.name) and e.is_file(follow_symlinks=False)]
        for path in left:
            with suppress(OSError):
                remove_unlocked(path)


def remove_unlocked(path: bytes) -> None:
    """Remove a regular file that nobody has locked. :raises OSError: it cannot be opened or removed"""
    fd = os.open(path, _FLAGS)
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode) and _lock(fd, wait=False):
            os.unlink(path)
    finally:
        os.close(fd)


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
        self._unnamed = False
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
        _tidy(directory)
        self._temporary = os.path.join(directory, temporary_name(name))
        self._open_temporary(directory)
        if existing is not None:
            with suppress(OSError):
                os.fchown(self.fd, existing.st_uid, existing.st_gid)
            with suppress(OSError):
                os.fchmod(self.fd, stat.S_IMODE(existing.st_mode))

    def _open_temporary(self, directory: bytes) -> None:
        assert self._temporary is not None
        fd = open_unnamed(directory, os.O_RDWR, self._mode)
        if fd is not None:
            self.fd = fd
            if os.path.exists(b"/proc/self/fd/%d" % fd):  # or else it could never have a name
                _lock(fd, wait=False)
                self._unnamed = True
                return
            os.close(fd)
        self.fd = _create(self._temporary, self._mode)

    @property
    def new(self) -> bool:
        """Whether it is a file that nothing has been in yet, and no device or pipe."""
        return self._temporary is not None

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

    def skip(self, count: int) -> None:
        """Append `count` zero bytes as a hole, which only a file that is `new` can have."""
        try:
            self._written = os.lseek(self.fd, count, os.SEEK_CUR)
            os.ftruncate(self.fd, self._written)
        except OSError as error:
            raise FileError(self.path, "write", error) from error

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
        # Opened before: what cannot be had then is no failure to write what already has its name.
        directory = os.open(os.path.dirname(self._final), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if not self._name_it(self._temporary):
                os.rename(self._temporary, self._final)
            self._temporary = None
            os.fsync(directory)
        finally:
            os.close(directory)

    def _name_it(self, temporary: bytes) -> bool:
        """Give a file without a name its final one, or a temporary one where that is taken. Whether it is the final."""
        if not self._unnamed:
            return False
        try:
            give_name(self.fd, self._final)
            return True
        except FileExistsError:
            give_name(self.fd, temporary)
        except OSError as error:
            if error.errno not in NAMELESS:
                raise
            self._copy(temporary)
        return False

    def _copy(self, temporary: bytes) -> None:
        """Where no file can be given a name afterwards, have one with a name from the beginning."""
        mode = stat.S_IMODE(os.fstat(self.fd).st_mode)
        fd = _create(temporary, mode)
        try:
            os.lseek(self.fd, 0, os.SEEK_SET)
            while os.sendfile(fd, self.fd, None, 1 << 30):  # None: from where it stands
                pass
            with suppress(OSError):
                os.fchown(fd, os.fstat(self.fd).st_uid, os.fstat(self.fd).st_gid)
            os.fchmod(fd, mode)
            os.fsync(fd)
        except BaseException:
            os.close(fd)
            raise
        os.close(self.fd)
        self.fd = fd

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
