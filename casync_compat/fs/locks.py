"""The chattr flags that forbid to change, replace or remove something: immutable and append-only.

    >>> locks = clear_immutable(directory_fd, b"fixed")
    >>> lock_again(directory_fd, b"fixed", locks)

Nothing is removed here.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import Self

from casync_compat.errors import FileError
from casync_compat.fs import inode_flags
from catar.flags import FeatureFlags

__all__ = ["Locked", "clear_immutable", "clear_locks", "is_locked", "lock_again"]

_OPEN_ANY = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
_LOCKED = int(FeatureFlags.FLAG_IMMUTABLE | FeatureFlags.FLAG_APPEND)


class Locked(FileError):
    """Something cannot be changed or removed because of these flags, and nobody asked to clear them."""

    @classmethod
    def at(cls, path: bytes, op: str) -> Self:
        """The error for the file at `path`."""
        return cls(path, op, "it is immutable or append-only")


def _open_flagged(directory_fd: int, name: bytes) -> int | None:
    """Open an entry that may have chattr flags: opening a device could do anything, and they are not for links."""
    try:
        st = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
        if not stat.S_ISREG(st.st_mode) and not stat.S_ISDIR(st.st_mode):
            return None
        return os.open(name, _OPEN_ANY, dir_fd=directory_fd)
    except OSError:
        return None


def clear_immutable(directory_fd: int, name: bytes) -> int:
    """Clear the chattr flags that forbid to replace or remove an entry.

    :returns: those that there were
    :raises OSError: when they cannot be cleared
    """
    fd = _open_flagged(directory_fd, name)
    if fd is None:
        return 0
    try:
        return clear_locks(fd)
    finally:
        os.close(fd)


def clear_locks(fd: int) -> int:
    """As `clear_immutable`, for what is open."""
    locks = inode_flags.get_flags(fd) & _LOCKED
    if locks:
        inode_flags.set_flags(fd, 0, locks)
    return locks


def lock_again(directory_fd: int, name: bytes, locks: int) -> None:
    """Put back what `clear_immutable` cleared; never raises."""
    fd = _open_flagged(directory_fd, name) if locks else None
    if fd is not None:
        with suppress(OSError):
            inode_flags.set_flags(fd, locks, locks)
        os.close(fd)


def is_locked(directory_fd: int, name: bytes) -> bool:
    """Whether an entry has a chattr flag that forbids to replace or remove it."""
    fd = _open_flagged(directory_fd, name)
    if fd is None:
        return False
    try:
        return bool(inode_flags.get_flags(fd) & _LOCKED)
    except OSError:
        return False
    finally:
        os.close(fd)
