"""Request numbers of ioctls, in the one place where they are put together: they are not the same on all machines.

Letters, numbers and sizes are those of linux/fs.h, linux/msdos_fs.h, linux/btrfs.h and linux/fsverity.h. What a request
takes and gives is for its caller to know.
"""

from __future__ import annotations

import os
import struct

__all__ = [
    "BLKGETSIZE64",
    "FAT_GET",
    "FAT_SET",
    "FICLONE",
    "FIDEDUPERANGE",
    "FSXATTR_GET",
    "FSXATTR_SET",
    "FS_GETFLAGS",
    "FS_SETFLAGS",
    "SUBVOLUME_CREATE",
    "SUBVOLUME_GETFLAGS",
    "SUBVOLUME_SETFLAGS",
    "VERITY_ENABLE",
    "VERITY_MEASURE",
]

# The encoding differs on a few machines (asm/ioctl.h).
_ODD = os.uname().machine.startswith(("ppc", "powerpc", "mips", "sparc", "alpha"))
_WRITE, _READ, _SHIFT = (4, 2, 29) if _ODD else (1, 2, 30)
_LONG = struct.calcsize("l")
_BTRFS = 0x94


def _request(direction: int, letter: int, number: int, size: int) -> int:
    return direction << _SHIFT | size << 16 | letter << 8 | number


FS_GETFLAGS = _request(_READ, ord("f"), 1, _LONG)
FS_SETFLAGS = _request(_WRITE, ord("f"), 2, _LONG)
VERITY_ENABLE = _request(_WRITE, ord("f"), 133, 128)
VERITY_MEASURE = _request(_READ | _WRITE, ord("f"), 134, 4)
FAT_GET = _request(_READ, ord("r"), 0x10, 4)
FAT_SET = _request(_WRITE, ord("r"), 0x11, 4)
FSXATTR_GET = _request(_READ, ord("X"), 31, 28)
FSXATTR_SET = _request(_WRITE, ord("X"), 32, 28)
BLKGETSIZE64 = _request(_READ, 0x12, 114, _LONG)
FICLONE = _request(_WRITE, _BTRFS, 9, 4)
FIDEDUPERANGE = _request(_READ | _WRITE, _BTRFS, 54, 24)
SUBVOLUME_CREATE = _request(_WRITE, _BTRFS, 14, 4096)
SUBVOLUME_GETFLAGS = _request(_READ, _BTRFS, 25, 8)
SUBVOLUME_SETFLAGS = _request(_WRITE, _BTRFS, 26, 8)
