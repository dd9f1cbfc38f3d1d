"""Sharing blocks between files that hold the same bytes (reflinks), on file systems that can (btrfs, xfs), and copying.

What comes from a seed is written first and shared afterwards with FIDEDUPERANGE, which compares both sides in the
kernel and shares only what is equal. Unlike cloning (FICLONERANGE, which casync uses) it cannot put bytes into the
target that were never verified, however the seed changes meanwhile. Whole files of our own are cloned, or copied within
the kernel or through memory; their holes stay holes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator

from casync_compat.fs import ioctls

__all__ = ["BLOCK", "CANNOT", "BlockSharer", "clone", "copy_range", "data_ranges", "write_at"]

_HEAD = struct.Struct("=QQHHI")
_INFO = struct.Struct("=qQQiI")
BLOCK = 4096
"""Ranges are shared in multiples of this, in bytes; smaller files share nothing."""
_MOST = 16 << 20
_UNABLE = frozenset(
    {errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EACCES}
)
_PIECE = 1 << 20
CANNOT = frozenset(
    {errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.ETXTBSY}
)
"""Errors that mean that files cannot share blocks or inodes, or be copied by the kernel; not that a disk is full."""
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class BlockSharer:
    """Shares ranges of files with ranges of others; stops trying on file systems that refuse.

    :ivar shared: bytes shared so far
    """

    def __init__(self) -> None:
        self.shared = 0
        self._refused: set[tuple[int, int]] = set()
        self._run: tuple[bytes, int, int, int, int] | None = None

    def add(self, source: bytes, source_offset: int, target_fd: int, offset: int, size: int) -> None:
        """Note that a range of a file was written with bytes from a range of `source`. Ranges that touch are joined."""
        run = self._run
        if run is not None:
            path, source_at, fd, at, length = run
            if (
                path == source
                and fd == target_fd
                and source_at + length == source_offset
                and at + length == offset
            ):
                self._run = (path, source_at, fd, at, length + size)
                return
            self.flush()
        if (source_offset - offset) % BLOCK == 0:
            self._run = (source, source_offset, target_fd, offset, size)

    def flush(self) -> None:
        """Share what was noted. Call it before the target is closed."""
        run, self._run = self._run, None
        if run is None:
            return
        source, source_offset, fd, offset, size = run
        skip = -offset % BLOCK
        size = (size - skip) // BLOCK * BLOCK
        if size <= 0:
            return
        try:
            source_fd = os.open(source, _OPEN)
        except OSError:
            return
        try:
            self._share(source_fd, source_offset + skip, fd, offset + skip, size)
        finally:
            os.close(source_fd)

    def _share(self, source_fd: int, source_offset: int, fd: int, offset: int, size: int) -> None:
        devices = (os.fstat(source_fd).st_dev, os.fstat(fd).st_dev)
        if devices in self._refused:
            return
        while size > 0:
            length = min(size, _MOST)
            request = bytearray(_HEAD.pack(source_offset, length, 1, 0, 0) + _INFO.pack(fd, offset, 0, 0, 0))
            try:
                fcntl.ioctl(source_fd, ioctls.FIDEDUPERANGE, request)
            except OSError as error:
                if error.errno in _UNABLE:
                    self._refused.add(devices)
                return
            _, _, done, status, _ = _INFO.unpack_from(request, _HEAD.size)
            if status < 0 and -status in _UNABLE:
                self._refused.add(devices)
            if status != 0 or done <= 0:
                return
            self.shared += done
            source_offset += done
            offset += done
            size -= done


def clone(source: int, target: int) -> bool:
    """Let a file share all blocks of another. Returns whether it can. :raises OSError: for want of space, say"""
    try:
        fcntl.ioctl(target, ioctls.FICLONE, source)
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
