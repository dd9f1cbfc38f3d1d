"""What a store of files gives out: a file of it read, copied, or linked into a tree, if it is still what was found.

    >>> copy(store_fd, kept, target_fd, share=True)

Files are named by their path from the store's directory, which is open. What is found right, and how a store is filled,
is the business of `casync_compat.oci.rootfs.filestore`; everything here raises plain `OSError` and `ValueError`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from casync_compat.fs.reflink import CANNOT, clone, copy_range, data_ranges
from casync_compat.oci.rootfs.filecache import Stamp

__all__ = [
    "FILES",
    "INODES",
    "Kept",
    "can_clone",
    "can_link",
    "copy",
    "link",
    "read",
    "stamp_of",
    "status_of",
]

FILES, INODES = b"files", b"inodes"
"""Directories of a store: contents alone, and with metadata."""
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE = 1 << 20


@dataclass(slots=True)
class Kept:
    """A file of the store that was found right.

    :ivar name: relative to the store
    :ivar content: blake3 of its contents
    :ivar status: its permissions, owner and group
    :ivar seal: its fs-verity digest; empty when it has none
    """

    name: bytes
    content: bytes
    stamp: Stamp
    status: tuple[int, int, int]
    seal: bytes

    @property
    def has_metadata(self) -> bool:
        """Whether it was stored for hard links, with the metadata of the files that share it."""
        return self.name.startswith(INODES)


def stamp_of(st: os.stat_result) -> Stamp:
    """What tells that a file is still the one that was looked at."""
    return Stamp(st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns)


def status_of(st: os.stat_result) -> tuple[int, int, int]:
    """Permissions, user and group of a file."""
    return stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid


def can_clone(fd: int, directory: int, name: bytes) -> bool:
    """Whether blocks of an open file can be shared with a file in a directory; one of that name is made and removed."""
    other = os.open(name, _CREATE, 0o600, dir_fd=directory)
    try:
        return clone(fd, other)
    finally:
        os.close(other)
        os.unlink(name, dir_fd=directory)


def can_link(store: int, inside: bytes, directory: int, name: bytes) -> bool:
    """Whether a file of the store can be linked into a directory; one of that name is made and removed."""
    try:
        os.link(inside, name, src_dir_fd=store, dst_dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        if error.errno in CANNOT:
            return False
        raise
    os.unlink(name, dir_fd=directory)
    return True


def _open(store: int, kept: Kept) -> int:
    """Open a file that was found right, which must not have changed since."""
    fd = os.open(kept.name, _OPEN, dir_fd=store)
    if stamp_of(os.fstat(fd))[:3] != kept.stamp[:3]:
        os.close(fd)
        raise ValueError("it was changed while it was in use; run it again")
    return fd


def read(store: int, kept: Kept) -> Iterator[tuple[int, bytes]]:
    """The contents of a file in pieces, each with its offset; what is not given is zeros."""
    fd = _open(store, kept)
    try:
        for start, end in data_ranges(fd, kept.stamp.size):
            for at in range(start, end, _PIECE):
                yield at, os.pread(fd, min(_PIECE, end - at), at)
    finally:
        os.close(fd)


def copy(store: int, kept: Kept, target: int, *, share: bool) -> None:
    """Copy a file's contents into an empty file.

    :param share: share its blocks, which must be possible
    """
    fd = _open(store, kept)
    try:
        if share:
            if not clone(fd, target):
                raise OSError(errno.EOPNOTSUPP, "its blocks cannot be shared")
            return
        for start, end in data_ranges(fd, kept.stamp.size):
            copy_range(fd, target, start, end)
        os.ftruncate(target, kept.stamp.size)
    finally:
        os.close(fd)


def link(store: int, kept: Kept, directory: int, name: bytes) -> bool:
    """Make a hard link to a file, and note its new change time in `kept`.

    :returns: False where there are as many as the file system allows
    """
    try:
        os.link(kept.name, name, src_dir_fd=store, dst_dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.EMLINK:
            return False
        raise
    st = os.lstat(name, dir_fd=directory)
    stamp = stamp_of(st)
    if stamp[:3] != kept.stamp[:3] or status_of(st) != kept.status:
        os.unlink(name, dir_fd=directory)
        raise ValueError("it was changed while it was in use; run it again")
    # The link itself changed the change time. A write that hits the moment since the check, and sets the
    # modification time back, goes unnoticed until --verify; only fs-verity rules that out.
    kept.stamp = stamp
    return True
