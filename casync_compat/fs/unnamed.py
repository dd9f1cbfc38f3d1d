"""Files that have no name until they are complete: what a process that is killed was writing goes with it.

    >>> fd = open_unnamed(b"/srv", os.O_WRONLY, 0o644)
    >>> give_name(fd, b"/srv/disk.caibx")

Not every file system has them (NFS and many FUSE ones do not); what to do there is for the caller.
"""

from __future__ import annotations

import errno
import os

__all__ = ["NAMELESS", "give_name", "open_unnamed"]

_NONE_HERE = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS})
"""The file system has no such files, or (EISDIR) the kernel or what stands between takes the flag for a directory's."""

NAMELESS = frozenset(
    {errno.ENOENT, errno.EPERM, errno.EACCES, errno.EXDEV, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}
)
"""Why a file without a name cannot be given one, where one that is made with a name may be possible: `/proc` is not
mounted, the file system has no hard links, or a security policy forbids them."""


def open_unnamed(directory: bytes, flags: int, mode: int) -> int | None:
    """A descriptor of a new file on the file system of a directory; None when that has no files without a name.

    :param flags: of open(2)
    :param mode: before the umask
    :raises OSError: it has them, but this one cannot be made
    """
    try:
        return os.open(directory, flags | os.O_TMPFILE | os.O_CLOEXEC, mode)
    except OSError as error:
        if error.errno in _NONE_HERE:
            return None
        raise


def give_name(fd: int, path: bytes) -> None:
    """Let a file that `open_unnamed` made appear.

    :raises FileExistsError: there is something of that name
    :raises OSError: it cannot; see `NAMELESS`
    """
    # With a directory's descriptor, which an absolute path does not need, Python calls linkat(2), which follows.
    os.link(b"/proc/self/fd/%d" % fd, path, src_dir_fd=fd, follow_symlinks=True)
