"""Inode attributes that Python's os module does not reach: chattr flags, project ids, btrfs subvolumes.

Used by the tree builders and by the strict comparison. Numbers are those of Linux on 64-bit machines
(`linux/fs.h`, `linux/btrfs.h`).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

APPEND = 0x20
COMPR = 0x4
DIRSYNC = 0x10000
IMMUTABLE = 0x10
NOATIME = 0x80
NOCOMP = 0x400
NOCOW = 0x800000
NODUMP = 0x40
PROJINHERIT = 0x20000000
SYNC = 0x8

ARCHIVED = APPEND | COMPR | DIRSYNC | IMMUTABLE | NOATIME | NOCOMP | NOCOW | NODUMP | PROJINHERIT | SYNC
"""The chattr flags that an archive can hold; others (extents, indexed directory) describe the file system only."""

_GETFLAGS = 0x80086601
_SETFLAGS = 0x40086602
_FSGETXATTR = 0x801C581F
_FSSETXATTR = 0x401C5820
_FSXATTR = struct.Struct("=5I8x")
_SUBVOL_CREATE = 0x5000940E
_SUBVOL_GETFLAGS = 0x80089419
_SUBVOL_SETFLAGS = 0x4008941A
_SUBVOL_RDONLY = 2
_UNSUPPORTED = {errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}

Name = bytes | Path


@contextmanager
def _opened(path: Name) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def flags(path: Name) -> int:
    """The chattr flags of a regular file or directory; 0 where the file system has none."""
    buffer = bytearray(8)
    with _opened(path) as fd:
        try:
            fcntl.ioctl(fd, _GETFLAGS, buffer)
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                return 0
            raise
    return struct.unpack_from("=I", buffer)[0]


def set_flags(path: Name, add: int = 0, *, drop: int = 0) -> None:
    """Add and drop chattr flags, leaving the others as they are."""
    with _opened(path) as fd:
        buffer = bytearray(8)
        fcntl.ioctl(fd, _GETFLAGS, buffer)
        now = struct.unpack_from("=I", buffer)[0]
        fcntl.ioctl(fd, _SETFLAGS, struct.pack("=Q", now & ~drop | add))


def project(path: Name) -> int:
    """The quota project id; 0 where the file system has none."""
    buffer = bytearray(_FSXATTR.size)
    with _opened(path) as fd:
        try:
            fcntl.ioctl(fd, _FSGETXATTR, buffer)
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                return 0
            raise
    return _FSXATTR.unpack(buffer)[3]


def set_project(path: Name, project_id: int) -> None:
    """Give a regular file or directory a quota project id."""
    with _opened(path) as fd:
        buffer = bytearray(_FSXATTR.size)
        fcntl.ioctl(fd, _FSGETXATTR, buffer)
        fields = list(_FSXATTR.unpack(buffer))
        fields[3] = project_id
        fcntl.ioctl(fd, _FSSETXATTR, _FSXATTR.pack(*fields))


def make_subvolume(path: Path) -> None:
    """Create an empty btrfs subvolume."""
    with _opened(path.parent) as fd:
        # A bytearray, because fcntl copies immutable arguments into a buffer of 1024 bytes.
        fcntl.ioctl(fd, _SUBVOL_CREATE, bytearray(struct.pack("=q4088s", 0, os.fsencode(path.name))))


def subvolume(path: Name) -> str:
    """`"subvolume"`, `"subvolume-ro"`, or `""` for whatever is not a btrfs subvolume."""
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode) or status.st_ino != 256:
        return ""
    buffer = bytearray(8)
    with _opened(path) as fd:
        try:
            fcntl.ioctl(fd, _SUBVOL_GETFLAGS, buffer)
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                return ""
            raise
    return "subvolume-ro" if struct.unpack("=Q", buffer)[0] & _SUBVOL_RDONLY else "subvolume"


def set_read_only(path: Path, read_only: bool) -> None:
    """Make a btrfs subvolume read-only or writable."""
    with _opened(path) as fd:
        fcntl.ioctl(fd, _SUBVOL_SETFLAGS, struct.pack("=Q", _SUBVOL_RDONLY if read_only else 0))
