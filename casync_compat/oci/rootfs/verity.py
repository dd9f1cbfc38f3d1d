"""fs-verity: files that the kernel lets nobody change any more, and whose digest it knows without reading them.

    >>> if seal(fd):
    ...     expected = measure(fd)

Numbers are those of `linux/fsverity.h`. File systems without it (all but ext4, btrfs and f2fs, and those unless they
were made for it) just say no.
"""

from __future__ import annotations

import errno
import fcntl
import struct

from casync_compat.fs import ioctls

__all__ = ["measure", "seal"]

_ENABLE_ARGUMENT = struct.Struct("=IIIIQIIQ88x")
_VERSION, _SHA256, _BLOCK = 1, 1, 4096
_DIGEST = struct.Struct("=HH")
_LARGEST_DIGEST = 64
_UNABLE = frozenset(
    {
        *(errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS, errno.EINVAL, errno.ENOPKG),
        *(errno.EPERM, errno.EACCES, errno.ETXTBSY, errno.EROFS),
    }
)


def seal(fd: int) -> bool:
    """Make a file's contents unchangeable, for good.

    :param fd: open for reading; nobody may have it open for writing
    :returns: whether they are; False where the file system, or the user, may not
    :raises OSError: it was tried and failed, for want of space for example
    """
    try:
        fcntl.ioctl(fd, ioctls.VERITY_ENABLE, _ENABLE_ARGUMENT.pack(_VERSION, _SHA256, _BLOCK, 0, 0, 0, 0, 0))
    except OSError as error:
        if error.errno == errno.EEXIST:
            return True
        if error.errno in _UNABLE:
            return False
        raise
    return True


def measure(fd: int) -> bytes:
    """The kernel's digest of a sealed file, with the number of its algorithm before it; empty for any other file."""
    argument = bytearray(_DIGEST.pack(0, _LARGEST_DIGEST) + bytes(_LARGEST_DIGEST))
    try:
        fcntl.ioctl(fd, ioctls.VERITY_MEASURE, argument)
    except OSError:
        return b""
    algorithm, size = _DIGEST.unpack_from(argument)
    return b"%d:" % algorithm + bytes(argument[_DIGEST.size : _DIGEST.size + size])
