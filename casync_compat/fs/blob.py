"""A regular file, block device or stream that is read from front to back.

A block device that holds a file system is read up to the size in its superblock, as casync does (`src/casync-tool.c`,
`src/util.c`), so that an image and the larger partition it was written to give the same index.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import sys
from types import TracebackType
from typing import Self

from casync_compat.errors import FileError
from casync_compat.fs import ioctls
from casync_compat.fs.losses import CHANGED, DAMAGED, Losses, is_ours
from casync_compat.fs.readers import next_data, wait_readable

__all__ = ["BlobInput", "device_size", "file_system_size"]

_PROBE = 4096
_ANDROID_HEADER = 608
_BLOCK = 4096
"""Bytes that are given up at the first failure to read, and twice as many at each that follows."""


def _u16(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "little")


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def file_system_size(head: bytes) -> int | None:
    """Size in bytes of the file system that a device's first 4096 bytes describe; None when they describe none.

    Knows what casync knows: squashfs, Android boot images, FAT and ext2/3/4.
    """
    if len(head) < _PROBE:
        return None
    if head[:4] == b"hsqs":
        (used,) = struct.unpack_from("<Q", head, 40)
        return int(used + 4095) // 4096 * 4096
    if head[:8] == b"ANDROID!":
        return _android_size(head)
    if head[510:512] == b"\x55\xaa":
        size = _fat_size(head)
        if size:
            return size
    if head[1080:1082] == b"\x53\xef":
        blocks, log_block = _u32(head, 1028), _u32(head, 1048)
        if blocks and log_block < 32:
            return blocks * (1024 << log_block)
    return None


def _android_size(head: bytes) -> int | None:
    kernel, ramdisk, second, page = (_u32(head, at) for at in (8, 16, 24, 36))
    if not page or page & (page - 1):
        return None

    def pages(size: int) -> int:
        return (size + page - 1) // page

    return (pages(_ANDROID_HEADER) + pages(kernel) + pages(ramdisk) + pages(second)) * page


def _fat_size(head: bytes) -> int | None:
    sector = _u16(head, 11)
    if not sector or sector & (sector - 1):
        return None
    sectors = _u16(head, 19) or _u32(head, 32)
    return sectors * sector or None


def device_size(fd: int) -> int:
    """Size in bytes of an open block device."""
    return int.from_bytes(fcntl.ioctl(fd, ioctls.BLKGETSIZE64, bytes(8)), sys.byteorder)


class BlobInput:
    """Context manager around the input.

    :param path: the file; None for standard input
    :param losses: told when it is not read as it was: what is missing is zeros then; None fails
    :raises FileError: from every method, naming the file

    :ivar size: in bytes, None for a pipe
    :ivar mode: its `st_mode`
    """

    def __init__(self, path: bytes | None, losses: Losses | None = None) -> None:
        self.path = b"standard input" if path is None else path
        self.size: int | None = None
        self.mode = 0
        self._fd = -1
        self._standard = path is None
        self._left: int | None = None
        self._positioned = False  # reads at `_at`, since looking for holes moves the descriptor
        self._sparse = False
        self._at = 0
        self._data_end = 0  # up to here, no hole begins
        self._losses = losses
        self._lost = False
        self._before: tuple[int, int] | None = None
        self._skip = _BLOCK

    def __enter__(self) -> Self:
        try:
            self._open()
        except OSError as error:
            self._close()
            raise FileError(self.path, "open", error) from error
        return self

    def _open(self) -> None:
        self._fd = 0 if self._standard else os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
        st = os.fstat(self._fd)
        self.mode = st.st_mode
        if stat.S_ISDIR(st.st_mode):
            self._close()
            raise FileError(self.path, "read", "it is a directory; a tree makes a .caidx or .catar")
        if stat.S_ISREG(st.st_mode):
            at = os.lseek(self._fd, 0, os.SEEK_CUR) if self._standard else 0
            self.size = max(st.st_size - at, 0)
            self._at = at
            self._positioned = True
            self._sparse = st.st_blocks * 512 < st.st_size
            self._before = (st.st_size, st.st_mtime_ns)
        elif stat.S_ISBLK(st.st_mode):
            self._at = os.lseek(self._fd, 0, os.SEEK_CUR) if self._standard else 0
            self.size = max(self._device_size() - self._at, 0)
            self._positioned = True
        self._left = self.size

    def _device_size(self) -> int:
        size = device_size(self._fd)
        described = file_system_size(os.pread(self._fd, _PROBE, 0))
        return min(size, described) if described else size

    def take_hole(self) -> int:
        """Pass over the hole that begins here. :returns: its size in bytes; 0 when there is data, or the end"""
        if not self._sparse or not self._left or self._at < self._data_end:
            return 0
        end = self._at + self._left
        data = next_data(self._fd, self._at, end)
        if data is None:
            self._sparse = False
            return 0
        size = data - self._at
        if size:
            self._at = data
            self._left -= size
            return size
        try:
            self._data_end = min(os.lseek(self._fd, self._at, os.SEEK_HOLE), end)
        except OSError:  # it shrank; reading will say so
            self._sparse = False
        return 0

    def read_into(self, buffer: memoryview) -> int:
        """Read the next bytes into `buffer`; 0 at the end."""
        want = len(buffer) if self._left is None else min(len(buffer), self._left)
        if self._sparse and self._at < self._data_end:
            want = min(want, self._data_end - self._at)
        if not want:
            return 0
        try:
            if self._positioned:
                count = os.preadv(self._fd, [buffer[:want]], self._at)
                self._at += count
            else:
                if self.size is None:
                    wait_readable(self._fd)
                count = os.readv(self._fd, [buffer[:want]])
            self._skip = _BLOCK
        except OSError as error:
            count = self._give_up(buffer[:want], error)
        if self._left is not None:
            if not count:
                count = self._fill_up(buffer[:want], self._left)
            self._left -= count
        return count

    def _loss(self, kind: str, text: str) -> None:
        assert self._losses is not None
        if not self._lost:
            self._losses.note(kind, self.path, text)
        self._lost = True

    def _give_up(self, buffer: memoryview, error: OSError) -> int:
        """Have zeros for what cannot be read, a little at first. :returns: their number"""
        # At the very beginning: nothing was read, so it is not damaged in places.
        if self._losses is None or not self._positioned or not self._at or is_ours(error):
            raise FileError(self.path, "read", error) from error
        why = f"at byte {self._at}: {error.strerror}; zeros stand for what cannot be read"
        self._loss(DAMAGED, f"a part of it cannot be read, {why}")
        return self._zeros(buffer[: self._skip - self._at % _BLOCK])

    def _fill_up(self, buffer: memoryview, missing: int) -> int:
        """Have zeros for what the file does not have any more. :returns: their number"""
        if self._losses is None:
            raise FileError(self.path, "read", f"it shrank by {missing} bytes while being read; try again")
        self._loss(CHANGED, f"it shrank by {missing} bytes while being read; zeros stand for them")
        return self._zeros(buffer)

    def _zeros(self, buffer: memoryview) -> int:
        self._skip *= 2
        self._at += len(buffer)
        buffer[:] = bytes(len(buffer))
        return len(buffer)

    def check(self) -> None:
        """It was read to its end: be sure that it did not change meanwhile. (Of a device that cannot be told.)

        :raises FileError: it did, and nobody is told of losses
        """
        if self._before is None or self._lost:
            return
        try:
            st = os.fstat(self._fd)
        except OSError as error:
            raise FileError(self.path, "read", error) from error
        if (st.st_size, st.st_mtime_ns) == self._before:
            return
        if self._losses is None:
            raise FileError(self.path, "read", "it changed while being read; try again")
        more = st.st_size - self._before[0]
        how = (
            f"it grew by {more} bytes while being read, and is cut"
            if more > 0
            else "it changed while being read"
        )
        self._loss(CHANGED, how)

    def _close(self) -> None:
        if self._fd > 0:
            os.close(self._fd)
        self._fd = -1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
