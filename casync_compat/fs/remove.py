"""Removing and replacing entries of an open directory, never through a symlink and never into a mount.

    >>> remove(directory_fd, b"old", b"/target/old")
    >>> replace(directory_fd, b".#1f0c", b"new", b"/target/new")

Everything is relative to a descriptor of the directory that holds the entry, so that nothing outside of it can be
reached whatever others rename meanwhile. A mount point cannot be removed (the kernel says EBUSY before it looks at
what is inside), so that no mounted file system is emptied.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from dataclasses import dataclass

from casync_compat.errors import FileError
from casync_compat.fs import inode_flags
from casync_compat.fs.locks import Locked, clear_immutable, clear_locks, is_locked, lock_again
from casync_compat.fs.mounts import mount_points

__all__ = [
    "OPEN_DIR",
    "Locked",
    "TempNames",
    "clear_immutable",
    "exchange",
    "remove",
    "replace",
]

OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_OPEN = 32
"""Directories that `remove` has open at most, the innermost ones."""

_MOUNTED = "it is a mount point; unmount it first"
_RENAME_EXCHANGE = 2  # linux/fs.h
_NOT_EXCHANGED = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)
_NOT_EMPTY = (errno.ENOTEMPTY, errno.EEXIST)
_OTHER_KIND = (errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST)


class TempNames:
    """Names for what is under way: casync's `.#` and 16 hex digits, but without the final name, which may be long."""

    def __init__(self) -> None:
        self._prefix = b".#" + os.urandom(5).hex().encode()
        self._count = 0

    def next(self) -> bytes:
        """A name that this object has not given before and that nobody can have guessed."""
        self._count += 1
        return self._prefix + b"%06x" % self._count

    def renew(self) -> bytes:
        """A name with another random part, for when `next` gave one that exists."""
        self._prefix = b".#" + os.urandom(5).hex().encode()
        return self.next()


def _refused(
    error: OSError, directory_fd: int, name: bytes, path: bytes, op: str, undo_immutable: bool
) -> FileError:
    """The error to raise, with the reason where that is known."""
    if isinstance(error, FileError):
        return error
    if error.errno == errno.EBUSY:
        return FileError(path, op, _MOUNTED)
    if error.errno == errno.EPERM and is_locked(directory_fd, name):
        if undo_immutable:
            return FileError(path, op, "it is immutable or append-only, and clearing that is not permitted")
        return Locked.at(path, op)
    return FileError(path, op, error)


def refuse_mounts_below(directory_fd: int, name: bytes, path: bytes) -> None:
    """Stop before anything is removed when something is mounted below a directory.

    This is for a good message and an unharmed tree; that no mount is ever entered rests on EBUSY alone.

    :raises FileError: naming the mount point
    """
    try:
        top = os.path.join(os.readlink(b"/proc/self/fd/%d" % directory_fd), name)
    except OSError:
        return
    for mount in mount_points():
        if mount.startswith(top + b"/"):
            raise FileError(path + mount[len(top) :], "delete", _MOUNTED)


@dataclass(slots=True)
class _Emptied:
    """A directory whose contents are being removed.

    :ivar fd: -1 while it is closed
    :ivar key: device and inode
    :ivar name: in its parent
    :ivar names: what is still to be removed
    :ivar mode: as it was; None when it was not changed
    :ivar locks: flags that were cleared
    """

    fd: int
    key: tuple[int, int]
    name: bytes
    names: list[bytes]
    mode: int | None
    locks: int

    def put_back(self) -> None:
        """Give it back what was taken from it to empty it, because it stays; never raises."""
        with suppress(OSError):
            if self.mode is not None:
                os.fchmod(self.fd, self.mode)
        with suppress(OSError):
            if self.locks:
                inode_flags.set_flags(self.fd, self.locks, self.locks)


class _Remover:
    """Removes one entry and what is below it; keeps the innermost directories on the way open."""

    def __init__(self, directory_fd: int, path: bytes, undo_immutable: bool) -> None:
        self._base = directory_fd
        self._path = path
        self._undo = undo_immutable
        self._stack: list[_Emptied] = []

    def run(self, name: bytes) -> None:
        try:
            self._remove(name)
            while self._stack:
                if self._stack[-1].names:
                    self._remove(self._stack[-1].names.pop())
                else:
                    self._leave()
        except BaseException:
            self._put_back()
            raise
        finally:
            for each in self._stack:
                if each.fd >= 0:
                    os.close(each.fd)

    def _leave(self) -> None:
        """Remove the innermost directory, which is empty now."""
        self._reopen(len(self._stack) - 2)
        emptied = self._stack.pop()
        try:
            self._remove(emptied.name)
        except BaseException:
            emptied.put_back()
            raise
        finally:
            os.close(emptied.fd)

    def _reopen(self, level: int) -> None:
        """Have a directory open again, from the one below it."""
        if level < 0 or self._stack[level].fd >= 0:
            return
        fd = os.open(b"..", OPEN_DIR, dir_fd=self._stack[level + 1].fd)
        st = os.fstat(fd)
        if (st.st_dev, st.st_ino) != self._stack[level].key:
            os.close(fd)
            raise FileError(self._path, "delete", "directories in it were moved meanwhile; try again")
        self._stack[level].fd = fd

    def _put_back(self) -> None:
        """What could not be removed stays as it was."""
        for level in range(len(self._stack) - 1, -1, -1):
            with suppress(OSError):
                self._reopen(level - 1)
            if self._stack[level].fd >= 0:
                self._stack[level].put_back()

    @property
    def _parent(self) -> int:
        return self._stack[-1].fd if self._stack else self._base

    def _full_path(self, name: bytes) -> bytes:
        inside = [each.name for each in self._stack[1:]] + [name]
        return os.path.join(self._path, *inside) if self._stack else self._path

    def _remove(self, name: bytes) -> None:
        """Unlink an entry, or push it onto the stack when it is a directory with something in it."""
        locks = 0
        try:
            try:
                self._unlink(name, 0)
            except PermissionError as error:
                locks = clear_immutable(self._parent, name) if self._undo else 0
                if not locks:
                    raise error
                self._unlink(name, locks)
        except FileNotFoundError:
            return
        except OSError as error:
            refused = _refused(error, self._parent, name, self._full_path(name), "delete", self._undo)
            lock_again(self._parent, name, locks)
            raise refused from error

    def _unlink(self, name: bytes, locks: int) -> None:
        parent = self._parent
        try:
            os.unlink(name, dir_fd=parent)
        except IsADirectoryError:
            try:
                os.rmdir(name, dir_fd=parent)
            except OSError as error:
                if error.errno not in _NOT_EMPTY:
                    raise
                self._enter(name, locks)

    def _open(self, name: bytes) -> int:
        """Open a directory in the innermost one. Two descriptors are enough for any depth."""
        try:
            return os.open(name, OPEN_DIR, dir_fd=self._parent)
        except OSError as error:
            if not self._made_room(error, self._stack[:-1]):
                raise
        return os.open(name, OPEN_DIR, dir_fd=self._parent)

    def _list(self, fd: int) -> list[bytes]:
        """The names in a directory that was opened from the innermost one."""
        try:
            return [os.fsencode(entry) for entry in os.listdir(fd)]
        except OSError as error:
            if not self._made_room(error, self._stack):
                raise
        return [os.fsencode(entry) for entry in os.listdir(fd)]

    @staticmethod
    def _made_room(error: OSError, outer: list[_Emptied]) -> bool:
        """Close directories that can be opened again from those below, where there are too few descriptors."""
        opened = [each for each in outer if each.fd >= 0]
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            return False
        for each in opened:
            os.close(each.fd)
            each.fd = -1
        return bool(opened)

    def _enter(self, name: bytes, locks: int) -> None:
        """:param locks: its flags that were cleared already"""
        if not self._stack:
            refuse_mounts_below(self._base, name, self._path)
        fd = self._open(name)
        st = os.fstat(fd)
        entered = _Emptied(fd, (st.st_dev, st.st_ino), name, [], None, locks)
        try:
            if self._undo:
                entered.locks |= clear_locks(fd)
            entered.mode = _make_writable(fd, st)
            entered.names = self._list(fd)
        except BaseException:
            entered.put_back()
            os.close(fd)
            raise
        self._stack.append(entered)
        if len(self._stack) > _MAX_OPEN:
            outer = self._stack[-1 - _MAX_OPEN]
            os.close(outer.fd)
            outer.fd = -1


def _make_writable(fd: int, st: os.stat_result) -> int | None:
    """Give an unprivileged owner the right to remove what is in a directory.

    :returns: the mode that it had, when it was changed
    """
    euid = os.geteuid()
    if euid == 0 or st.st_mode & 0o700 == 0o700 or st.st_uid != euid:
        return None
    mode = stat.S_IMODE(st.st_mode)
    os.fchmod(fd, mode | 0o700)
    return mode


def remove(
    directory_fd: int,
    name: bytes,
    path: bytes,
    *,
    undo_immutable: bool = False,
) -> None:
    """Remove an entry of a directory and all that is below it; nothing when there is no such entry.

    :param path: the entry's path for messages
    :param undo_immutable: clear immutable and append-only flags that are in the way
    :raises FileError: naming what could not be removed, which has the modes and flags that it had; mount points
        never are removed
    """
    _Remover(directory_fd, path, undo_immutable).run(name)


def exchange(directory_fd: int, one: bytes, other: bytes) -> None:
    """Swap two entries of a directory atomically.

    :raises OSError: when that fails; ENOSYS or EINVAL where it is not supported
    """
    import ctypes  # 8 ms to import, for a case that is rare

    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if libc.renameat2(directory_fd, one, directory_fd, other, ctypes.c_uint(_RENAME_EXCHANGE)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _swap_in(directory_fd: int, temp_name: bytes, name: bytes, temp: TempNames) -> bytes:
    """Put `temp_name` in the place of `name`, of whatever kind; returns the name that the old entry has now."""
    try:
        exchange(directory_fd, temp_name, name)
        return temp_name
    except OSError as error:
        if error.errno not in _NOT_EXCHANGED:
            raise
    aside = temp.next()
    os.rename(name, aside, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
    try:
        os.rename(temp_name, name, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
    except BaseException:
        os.rename(aside, name, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
        raise
    return aside


def _is_full(directory_fd: int, name: bytes) -> bool:
    """Whether an entry is a directory with something in it; one with nothing in it is removed."""
    try:
        os.rmdir(name, dir_fd=directory_fd)
    except NotADirectoryError:
        return False
    except OSError as error:
        if error.errno not in _NOT_EMPTY:
            raise
        return True
    return False


def _swap_back(directory_fd: int, temp_name: bytes, name: bytes, old: bytes) -> None:
    """Undo `_swap_in`, which returned `old`."""
    if old == temp_name:
        exchange(directory_fd, temp_name, name)
        return
    os.rename(name, temp_name, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
    os.rename(old, name, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)


def _replace_other_kind(
    directory_fd: int, temp_name: bytes, name: bytes, path: bytes, undo_immutable: bool, temp: TempNames
) -> None:
    refuse_mounts_below(directory_fd, name, path)
    try:
        old = _swap_in(directory_fd, temp_name, name, temp)
    except FileNotFoundError:  # it was an empty directory
        os.rename(temp_name, name, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
        return
    try:
        remove(directory_fd, old, path, undo_immutable=undo_immutable)
    except BaseException as error:
        try:
            _swap_back(directory_fd, temp_name, name, old)
        except OSError:
            if not isinstance(error, FileError):
                raise error from None
            where = os.path.join(os.path.dirname(path), old) + error.path.removeprefix(path)
            raise FileError(where, error.op, error.cause) from error
        raise


def replace(
    directory_fd: int,
    temp_name: bytes,
    name: bytes,
    path: bytes,
    *,
    undo_immutable: bool = False,
    temp: TempNames | None = None,
    keep_full: bool = False,
) -> bool:
    """Rename a finished entry to its final name, in place of whatever has that name; the old one goes last.

    :param keep_full: leave a directory that has something in it where it is
    :returns: False when there was such a directory, and nothing was done
    :raises FileError: when that fails; what is left of the old entry is then still there
    """

    def move() -> bool:
        try:
            os.rename(temp_name, name, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
        except OSError as error:
            if error.errno not in _OTHER_KIND:
                raise
            if keep_full and _is_full(directory_fd, name):
                return False
            _replace_other_kind(directory_fd, temp_name, name, path, undo_immutable, temp or TempNames())
        return True

    locks = 0
    try:
        try:
            return move()
        except PermissionError as error:
            locks = clear_immutable(directory_fd, name) if undo_immutable else 0
            if not locks:
                raise error
            moved = move()
            if not moved:
                lock_again(directory_fd, name, locks)
            return moved
    except OSError as error:
        refused = _refused(error, directory_fd, name, path, "replace", undo_immutable)
        lock_again(directory_fd, name, locks)
        raise refused from error
