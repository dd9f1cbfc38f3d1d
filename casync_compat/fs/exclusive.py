"""Files that are written on a condition, whoever else does the same: alone in a directory, under a new name, or only
where they are already.

Some file systems have no locks (NFS locks only what is open for writing), some no hard links. Where there are neither,
conditions are kept only against those who are not at it in the same moment.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["alone_in", "place", "renew"]

_NO_LOCKS = frozenset({errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})


@contextmanager
def alone_in(directory: bytes) -> Iterator[None]:
    """While nobody else, in this process or another, is within such a block for this directory."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield
    finally:
        os.close(fd)


def place(temporary: bytes, target: bytes, *, new: bool) -> None:
    """Give a file another name.

    :param new: whether nothing may have that name
    :raises FileExistsError: something has
    """
    if new:
        try:
            os.link(temporary, target)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
        else:
            os.unlink(temporary)
            return
    os.rename(temporary, target)


def renew(path: bytes) -> bool:
    """Give a file the date of now by its file system's clock, its content as it is. Whether there is one."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
            return False
        raise
    try:
        # Written, and not utime(2): that takes this machine's clock on some network file systems.
        if not os.pwrite(fd, os.pread(fd, 1, 0), 0):
            os.utime(fd)
    finally:
        os.close(fd)
    return True
