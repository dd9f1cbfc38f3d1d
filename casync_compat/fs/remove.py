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
import re
import stat

from casync_compat.errors import FileError
from casync_compat.fs import inode_flags
from catar.flags import FeatureFlags

__all__ = ["OPEN_DIR", "TempNames", "clear_immutable", "exchange", "mount_points", "remove", "replace"]

OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_ANY = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
_LOCKED = int(FeatureFlags.FLAG_IMMUTABLE | FeatureFlags.FLAG_APPEND)
_MAX_OPEN = 32
"""Directories that `remove` has open at most; deeper ones are moved up first."""

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


def _open_flagged(directory_fd: int, name: bytes) -> int | None:
    """Open an entry that may have chattr flags: opening a device could do anything, and they are not for links."""
    try:
        st = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
        if not stat.S_ISREG(st.st_mode) and not stat.S_ISDIR(st.st_mode):
            return None
        return os.open(name, _OPEN_ANY, dir_fd=directory_fd)
    except OSError:
        return None


def clear_immutable(directory_fd: int, name: bytes) -> bool:
    """Clear the chattr flags that forbid to replace or remove an entry.

    :returns: whether there were any
    :raises OSError: when they cannot be cleared
    """
    fd = _open_flagged(directory_fd, name)
    if fd is None:
        return False
    try:
        if not inode_flags.get_flags(fd) & _LOCKED:
            return False
        inode_flags.set_flags(fd, 0, _LOCKED)
        return True
    finally:
        os.close(fd)


def _is_locked(directory_fd: int, name: bytes) -> bool:
    fd = _open_flagged(directory_fd, name)
    if fd is None:
        return False
    try:
        return bool(inode_flags.get_flags(fd) & _LOCKED)
    except OSError:
        return False
    finally:
        os.close(fd)


def _refused(error: OSError, directory_fd: int, name: bytes, path: bytes, op: str) -> FileError:
    """The error to raise, with what to do about it where that is known."""
    if isinstance(error, FileError):
        return FileError(path, op, error)
    if error.errno == errno.EBUSY:
        return FileError(path, op, _MOUNTED)
    if error.errno == errno.EPERM and _is_locked(directory_fd, name):
        return FileError(path, op, "it is immutable or append-only; --undo-immutable=yes clears that")
    return FileError(path, op, error)


def mount_points() -> list[bytes]:
    """Where file systems are mounted, for this process."""
    try:
        with open("/proc/self/mountinfo", "rb") as info:
            fields = [line.split(b" ", 5)[4] for line in info]
    except (OSError, IndexError):
        return []
    return [re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8)]), field) for field in fields]


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


class _Remover:
    """Removes one entry and what is below it; keeps the directories on the way open."""

    def __init__(self, directory_fd: int, path: bytes, undo_immutable: bool, temp: TempNames) -> None:
        self._base = directory_fd
        self._path = path
        self._undo = undo_immutable
        self._temp = temp
        # Open directories from the top down: descriptor, its name in its parent, names still to remove.
        self._stack: list[tuple[int, bytes, list[bytes]]] = []

    def run(self, name: bytes) -> None:
        try:
            self._remove(name)
            while self._stack:
                fd, own_name, names = self._stack[-1]
                if names:
                    self._remove(names.pop())
                    continue
                self._stack.pop()
                os.close(fd)
                self._remove(own_name)
        finally:
            for fd, _, _ in self._stack:
                os.close(fd)

    @property
    def _parent(self) -> int:
        return self._stack[-1][0] if self._stack else self._base

    def _full_path(self, name: bytes) -> bytes:
        inside = [own_name for _, own_name, _ in self._stack[1:]] + [name]
        return os.path.join(self._path, *inside) if self._stack else self._path

    def _remove(self, name: bytes) -> None:
        """Unlink an entry, or push it onto the stack when it is a directory with something in it."""
        try:
            self._unlink(name)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno == errno.EPERM and self._undo and clear_immutable(self._parent, name):
                self._remove(name)
                return
            raise _refused(error, self._parent, name, self._full_path(name), "delete") from error

    def _unlink(self, name: bytes) -> None:
        parent = self._parent
        try:
            os.unlink(name, dir_fd=parent)
        except IsADirectoryError:
            try:
                os.rmdir(name, dir_fd=parent)
            except OSError as error:
                if error.errno not in _NOT_EMPTY:
                    raise
                self._enter(name)

    def _enter(self, name: bytes) -> None:
        if not self._stack:
            refuse_mounts_below(self._base, name, self._path)
        if len(self._stack) >= _MAX_OPEN:
            # Too deep to keep every parent open: make it a child of the top one, which is removed last.
            moved = self._temp.next()
            top_fd, _, top_names = self._stack[0]
            os.rename(name, moved, src_dir_fd=self._parent, dst_dir_fd=top_fd)
            top_names.append(moved)
            return
        if self._undo:
            clear_immutable(self._parent, name)
        fd = os.open(name, OPEN_DIR, dir_fd=self._parent)
        try:
            _make_writable(fd)
            names = [os.fsencode(entry) for entry in os.listdir(fd)]
        except BaseException:
            os.close(fd)
            raise
        self._stack.append((fd, name, names))


def _make_writable(fd: int) -> None:
    """Give an unprivileged owner the right to remove what is in a directory."""
    if os.geteuid() == 0:
        return
    st = os.fstat(fd)
    if st.st_mode & 0o700 != 0o700 and st.st_uid == os.geteuid():
        os.fchmod(fd, 0o700)


def remove(
    directory_fd: int,
    name: bytes,
    path: bytes,
    *,
    undo_immutable: bool = False,
    temp: TempNames | None = None,
) -> None:
    """Remove an entry of a directory and all that is below it; nothing when there is no such entry.

    :param path: the entry's path for messages
    :param undo_immutable: clear immutable and append-only flags that are in the way
    :raises FileError: naming what could not be removed; mount points never are
    """
    _Remover(directory_fd, path, undo_immutable, temp or TempNames()).run(name)


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
    :raises FileError: when that fails; the old entry is then still there
    """
    temp = temp or TempNames()
    try:
        try:
            os.rename(temp_name, name, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
            return True
        except PermissionError:
            if not undo_immutable or not clear_immutable(directory_fd, name):
                raise
        except OSError as error:
            if error.errno not in _OTHER_KIND:
                raise
            if keep_full and _is_full(directory_fd, name):
                return False
            refuse_mounts_below(directory_fd, name, path)
            try:
                old = _swap_in(directory_fd, temp_name, name, temp)
            except FileNotFoundError:  # it was an empty directory
                os.rename(temp_name, name, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
                return True
            remove(directory_fd, old, path, undo_immutable=undo_immutable, temp=temp)
            return True
        return replace(directory_fd, temp_name, name, path, temp=temp, keep_full=keep_full)
    except OSError as error:
        raise _refused(error, directory_fd, name, path, "replace") from error
