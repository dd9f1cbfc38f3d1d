"""Inode attributes that only ioctls reach: chattr and FAT flags, project ids, btrfs subvolumes, file system types.

Flags go in and out with the values of `catar.FeatureFlags`. Every call works on an open descriptor; calls on the hot
path give the kernel constant buffers, so that they may run in several threads.

Numbers are those of linux/fs.h, linux/msdos_fs.h and linux/magic.h, those of requests in `fs.ioctls`; the list of
virtual file systems is casync 2's (`src/util.c`, `is_temporary_fs` and friends), as FORMAT.md explains.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable
from fcntl import ioctl

from casync_compat.fs import ioctls
from catar import layouts
from catar.flags import FeatureFlags

__all__ = [
    "BTRFS_MAGIC",
    "BTRFS_SUBVOLUME_INO",
    "CHATTR_DISK",
    "EXT4_MAGIC",
    "FUSE_MAGIC",
    "MSDOS_MAGIC",
    "TMPFS_MAGIC",
    "VIRTUAL_MAGICS",
    "XFS_MAGIC",
    "create_subvolume",
    "fs_magic",
    "get_fat",
    "get_flags",
    "get_projid",
    "get_raw_flags",
    "has_fat",
    "is_subvolume_read_only",
    "on_private_fs",
    "set_fat",
    "set_flags",
    "set_projid",
    "set_subvolume_read_only",
]

F = FeatureFlags

EXT4_MAGIC = 0xEF53
XFS_MAGIC = 0x58465342
BTRFS_MAGIC = 0x9123683E
TMPFS_MAGIC = 0x01021994
MSDOS_MAGIC = 0x4D44
FUSE_MAGIC = 0x65735546
_PRIVATE = frozenset(
    {
        EXT4_MAGIC,
        XFS_MAGIC,
        BTRFS_MAGIC,
        TMPFS_MAGIC,
        MSDOS_MAGIC,
        0xF2F52010,
        0xCA451A4E,
        0x2FC12FC1,
        0x794C7630,
    }
)
"""File systems that one kernel has to itself; the last ones are f2fs, bcachefs, ZFS and overlayfs."""
VIRTUAL_MAGICS = frozenset(
    {
        0x42494E4D,  # binfmt_misc
        0x0027E0EB,  # cgroup
        0x63677270,  # cgroup2
        0x62656570,  # configfs
        0x64626720,  # debugfs
        0x1CD1,  # devpts
        0xDE5E81E4,  # efivarfs
        0x65735543,  # fusectl
        0x958458F6,  # hugetlbfs
        0x19800202,  # mqueue
        0x6E667364,  # nfsd
        0x9FA0,  # proc
        0x6165676C,  # pstore
        0x67596969,  # rpc_pipefs
        0x73636673,  # securityfs
        0xF97CFF8C,  # selinuxfs
        0x43415D53,  # smackfs
        0x62656572,  # sysfs
    }
)
"""File systems whose files are made up when read; they are archived as empty."""

UNSUPPORTED = frozenset({errno.ENOTTY, errno.ENOSYS, errno.EBADF, errno.EOPNOTSUPP, errno.EINVAL})
"""Error numbers by which a file system says that it has no such attribute."""

_FSXATTR = struct.Struct("=IIIII8s")  # xflags, extent size, extents, project id, CoW extent size
_SUBVOLUME_NAME_MAX = 4087
_SUBVOLUME_RDONLY = 2

BTRFS_SUBVOLUME_INO = 256
"""Inode number of the top directory of every btrfs subvolume."""

# The kernel moves an int, although the request numbers say long.
_INT = struct.Struct("=I4x")
_INT_BUFFER = bytes(8)
_FSXATTR_BUFFER = bytes(_FSXATTR.size)
_U64 = struct.Struct("=Q")

_CHATTR = {
    0x20: F.FLAG_APPEND,
    0x80: F.FLAG_NOATIME,
    0x4: F.FLAG_COMPR,
    0x800000: F.FLAG_NOCOW,
    0x40: F.FLAG_NODUMP,
    0x10000: F.FLAG_DIRSYNC,
    0x10: F.FLAG_IMMUTABLE,
    0x8: F.FLAG_SYNC,
    0x400: F.FLAG_NOCOMP,
    0x20000000: F.FLAG_PROJINHERIT,
}
_FAT = {0x02: F.FLAG_HIDDEN, 0x04: F.FLAG_SYSTEM, 0x20: F.FLAG_ARCHIVE}


def _pairs(table: dict[int, FeatureFlags]) -> tuple[tuple[int, int], ...]:
    return tuple((disk, int(flag)) for disk, flag in table.items())


_CHATTR_PAIRS, _FAT_PAIRS = _pairs(_CHATTR), _pairs(_FAT)
CHATTR_DISK = sum(_CHATTR)
"""All chattr flags that an archive can hold, as the kernel has them."""


def _to_disk(pairs: Iterable[tuple[int, int]], flags: int) -> int:
    return sum(disk for disk, flag in pairs if flags & flag)


def _from_disk(pairs: Iterable[tuple[int, int]], raw: int) -> int:
    return sum(flag for disk, flag in pairs if raw & disk)


def get_flags(fd: int) -> int:
    """The chattr flags of a file or directory, as feature flag bits; 0 where the file system has none.

    :raises OSError: when they cannot be read
    """
    return from_disk(get_raw_flags(fd))


def get_raw_flags(fd: int) -> int:
    """The chattr flags as FS_IOC_GETFLAGS gives them; 0 where the file system has none.

    :raises OSError: when they cannot be read
    """
    try:
        raw: int = _INT.unpack(ioctl(fd, ioctls.FS_GETFLAGS, _INT_BUFFER))[0]
    except OSError as error:
        if error.errno in UNSUPPORTED:
            return 0
        raise
    return raw


def from_disk(raw: int) -> int:
    """What FS_IOC_GETFLAGS gives, as feature flag bits."""
    raw &= CHATTR_DISK
    return _from_disk(_CHATTR_PAIRS, raw) if raw else 0


def to_disk(flags: int) -> int:
    """Feature flag bits as the chattr flags that FS_IOC_GETFLAGS gives; others are ignored."""
    return _to_disk(_CHATTR_PAIRS, flags)


def fat_to_disk(flags: int) -> int:
    """Feature flag bits as the attributes that FAT_IOCTL_GET_ATTRIBUTES gives; others are ignored."""
    return _to_disk(_FAT_PAIRS, flags)


def _masked(raw: int, pairs: Iterable[tuple[int, int]], bits: int, mask: int) -> int:
    return raw & ~_to_disk(pairs, mask) | _to_disk(pairs, bits & mask)


def set_flags(fd: int, bits: int, mask: int) -> None:
    """Make the chattr flags within `mask` those of `bits` and leave the others alone.

    :raises OSError: when that fails; never because the file system has no flags and none are to be set
    """
    try:
        (raw,) = _INT.unpack(ioctl(fd, ioctls.FS_GETFLAGS, _INT_BUFFER))
        wanted = _masked(raw, _CHATTR_PAIRS, bits, mask)
        if wanted != raw:
            ioctl(fd, ioctls.FS_SETFLAGS, _INT.pack(wanted))
    except OSError as error:
        if error.errno not in UNSUPPORTED or _to_disk(_CHATTR_PAIRS, bits & mask):
            raise


def get_fat(fd: int) -> int:
    """The FAT attributes (hidden, system, archive) as feature flag bits; 0 where there are none."""
    try:
        raw: int = _INT.unpack(ioctl(fd, ioctls.FAT_GET, _INT_BUFFER))[0]
    except OSError as error:
        if error.errno in UNSUPPORTED:
            return 0
        raise
    return _from_disk(_FAT_PAIRS, raw)


def has_fat(fd: int) -> bool:
    """Whether the file system of an open file or directory has FAT attributes."""
    try:
        ioctl(fd, ioctls.FAT_GET, _INT_BUFFER)
    except OSError:
        return False
    return True


def set_fat(fd: int, bits: int, mask: int) -> None:
    """Make the FAT attributes within `mask` those of `bits`.

    :raises OSError: when that fails; never because the file system has none and none are to be set
    """
    try:
        (raw,) = _INT.unpack(ioctl(fd, ioctls.FAT_GET, _INT_BUFFER))
        wanted = _masked(raw, _FAT_PAIRS, bits, mask)
        if wanted != raw:
            ioctl(fd, ioctls.FAT_SET, _INT.pack(wanted))
    except OSError as error:
        if error.errno not in UNSUPPORTED or _to_disk(_FAT_PAIRS, bits & mask):
            raise


def get_projid(fd: int) -> int:
    """The quota project id; 0 where there is none, or the kernel's invalid one."""
    try:
        projid: int = _FSXATTR.unpack(ioctl(fd, ioctls.FSXATTR_GET, _FSXATTR_BUFFER))[3]
    except OSError as error:
        if error.errno in UNSUPPORTED:
            return 0
        raise
    return projid if projid != layouts.ID_INVALID else 0


def set_projid(fd: int, projid: int) -> bool:
    """Set the quota project id.

    :returns: False when the file system has no project ids, and nothing was done
    :raises OSError: when it cannot be set for another reason
    """
    try:
        xflags, extent, extents, old, cow, pad = _FSXATTR.unpack(
            ioctl(fd, ioctls.FSXATTR_GET, _FSXATTR_BUFFER)
        )
        if old != projid:
            ioctl(fd, ioctls.FSXATTR_SET, _FSXATTR.pack(xflags, extent, extents, projid, cow, pad))
    except OSError as error:
        if error.errno in UNSUPPORTED:
            return False
        raise
    return True


def is_subvolume_read_only(fd: int) -> bool:
    """Whether the btrfs subvolume whose top directory is open as `fd` is read-only."""
    (flags,) = _U64.unpack(ioctl(fd, ioctls.SUBVOLUME_GETFLAGS, _INT_BUFFER))
    return bool(flags & _SUBVOLUME_RDONLY)


def set_subvolume_read_only(fd: int, read_only: bool) -> None:
    """Make a btrfs subvolume read-only or writable. :raises OSError: when that fails"""
    (old,) = _U64.unpack(ioctl(fd, ioctls.SUBVOLUME_GETFLAGS, _INT_BUFFER))
    new = old | _SUBVOLUME_RDONLY if read_only else old & ~_SUBVOLUME_RDONLY
    if new != old:
        ioctl(fd, ioctls.SUBVOLUME_SETFLAGS, _U64.pack(new))


def create_subvolume(directory_fd: int, name: bytes) -> None:
    """Create a btrfs subvolume in an open directory.

    :raises OSError: when that fails; ENOTTY where the file system is not btrfs
    """
    if len(name) > _SUBVOLUME_NAME_MAX:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    # Mutable, because fcntl copies other arguments into a buffer of 1024 bytes.
    ioctl(directory_fd, ioctls.SUBVOLUME_CREATE, bytearray(struct.pack("=q4088s", 0, name)))


def fs_magic(fd: int) -> int:
    """The type of the file system that an open file is on (`f_type` of statfs). Ask once a device: it is slow.

    :raises OSError: when the kernel does not say
    """
    import ctypes  # 8 ms to import, and only these callers need it

    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(256)  # struct statfs is at most 120 bytes, with f_type first
    if libc.fstatfs(fd, buffer):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    (magic,) = struct.unpack_from("l", buffer)
    return int(magic) & 0xFFFFFFFF


def on_private_fs(path: bytes) -> bool:
    """Whether a directory is on a file system that no other kernel can have mounted. False where nobody can say."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return fs_magic(fd) in _PRIVATE
    except OSError:
        return False
    finally:
        os.close(fd)
