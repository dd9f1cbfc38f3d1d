"""Making durable all that was written to a file system, with one system call.

    >>> sync_file_system(fd)

It says that something was lost since `fd` was opened, not which file.
"""

from __future__ import annotations

import errno
import os

__all__ = ["sync_file_system"]


def sync_file_system(fd: int) -> None:
    """syncfs(2), which Python does not offer, or sync(2) where the C library or kernel lacks it.

    :param fd: anything on the file system
    :raises OSError: what was written since `fd` was opened could not be made durable
    """
    import ctypes  # lazily: 10 ms that only writers need to pay

    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "syncfs"):
        os.sync()
    elif libc.syncfs(fd) != 0:
        number = ctypes.get_errno()
        if number != errno.ENOSYS:
            raise OSError(number, os.strerror(number))
        os.sync()
