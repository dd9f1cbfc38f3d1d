"""Contents copied between open files: by sharing blocks, within the kernel, or through memory; holes stay holes."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator

__all__ = ["CANNOT", "clone", "copy_range", "data_ranges", "write_at"]

_FICLONE = 0x40049409  # linux/fs.h
_PIECE = 1 << 20
CANNOT = frozenset(
    {errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.ETXTBSY}
)
"""Errors that mean that files cannot share blocks or inodes, or be copied by the kernel; not that a disk is full."""


def clone(source: int, target: int) -> bool:
    """Let a file share all blocks of another. Returns whether it can. :raises OSError: for want of space, say"""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in CANNOT:
            return False
        raise
    return True


def write_at(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of `data`. :raises OSError: when that fails"""
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        view = view[done:]
        offset += done


def data_ranges(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """The parts of a file that are no holes."""
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        at = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, at


def copy_range(source: int, target: int, start: int, end: int) -> None:
    """Copy a range to the same place of another file. :raises OSError: or `ValueError`, when the source ends before"""
    while start < end:
        try:
            done = os.copy_file_range(source, target, end - start, start, start)
        except OSError as error:
            if error.errno not in CANNOT:
                raise
            done = 0
        if not done:  # the system call cannot, for these two
            data = os.pread(source, min(_PIECE, end - start), start)
            if not data:
                raise ValueError("it became shorter while it was copied; run it again")
            write_at(target, data, start)
            done = len(data)
        start += done
