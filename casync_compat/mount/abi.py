"""The messages of /dev/fuse, as far as a tree that never changes needs them: bytes to fields, and back.

Numbers and layouts are those of linux/fuse.h, protocol 7.31; all are in the byte order of the machine. Each request is
a header, a body of its kind and perhaps names that end in NUL; each answer a header and a body. What is done about them
is for `mount.operations`.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

__all__ = [
    "ATTRIBUTES",
    "FOREVER",
    "MINOR",
    "READ_BUFFER",
    "ROOT",
    "Code",
    "Init",
    "InodeAttributes",
    "Listing",
    "attr_out",
    "entry_out",
    "init_out",
    "ioctl_out",
    "no_entry",
    "statfs_out",
]

ROOT = 1
"""The inode number of the root (FUSE_ROOT_ID)."""
FOREVER = 365 * 86400
"""Seconds for which names and attributes hold: nothing changes while it is mounted."""

MAJOR, MINOR = 7, 31
"""What is spoken: maximal pages came with 7.28, and kernels since 5.3 have all of it."""
LEAST_MINOR = 28

_MOST_PAGES = 256
READ_BUFFER = 16 << 10
"""Bytes for a request: nothing is written, so that none comes near it (FUSE_MIN_READ_BUFFER is 8192)."""
_MAX_WRITE = 4096


class Code(IntEnum):
    """Requests that are answered, or that have no answer (enum fuse_opcode)."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    READLINK = 5
    OPEN = 14
    READ = 15
    STATFS = 17
    RELEASE = 18
    GETXATTR = 22
    LISTXATTR = 23
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    INTERRUPT = 36
    DESTROY = 38
    IOCTL = 39
    BATCH_FORGET = 42
    READDIRPLUS = 44
    LSEEK = 46


class _Flag(IntEnum):
    """What kernel and file system agree on at the beginning (FUSE_... of fuse_init_in.flags)."""

    ASYNC_READ = 1 << 0
    DO_READDIRPLUS = 1 << 13
    NO_OPEN_SUPPORT = 1 << 17
    PARALLEL_DIROPS = 1 << 18
    POSIX_ACL = 1 << 20
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    NO_OPENDIR_SUPPORT = 1 << 24
    EXPLICIT_INVAL_DATA = 1 << 25


IN_HEADER = struct.Struct("=IIQQIIIHH")
"""length, code, number, inode, user, group, process, length of extensions, padding (fuse_in_header)."""
OUT_HEADER = struct.Struct("=IiQ")
"""length, error below zero, number (fuse_out_header)."""
READ_IN = struct.Struct("=QQIIQII")
"""handle, offset, size, flags, lock's owner, flags of the file, padding (fuse_read_in); of directories, too."""
GETXATTR_IN = struct.Struct("=II")
GETXATTR_OUT = struct.Struct("=II")
IOCTL_IN = struct.Struct("=QIIQII")
"""handle, flags, command, argument, sizes of what comes and of what there is room for (fuse_ioctl_in)."""
LSEEK_IN = struct.Struct("=QQII")
"""handle, offset, whence, padding (fuse_lseek_in)."""
LSEEK_OUT = struct.Struct("=Q")
_IOCTL_OUT = struct.Struct("=iIII")
INTERRUPT_IN = struct.Struct("=Q")
"""number of the request that is not waited for any more (fuse_interrupt_in)."""
FORGET_IN = struct.Struct("=Q")
FORGET_ONE = struct.Struct("=QQ")
BATCH_FORGET_IN = struct.Struct("=II")
_INIT_IN = struct.Struct("=IIII")
_INIT_OUT = struct.Struct("=IIIIHHIIHHI28x")
ATTRIBUTES = struct.Struct("=QQQqqqIIIIIIIIII")
"""inode, size, blocks, atime, mtime, ctime, their nanoseconds, mode, links, user, group, device, block size, flags
(fuse_attr). The kernel reads seconds as signed."""
_ENTRY_OUT = struct.Struct("=QQQQII")
_ATTR_OUT = struct.Struct("=QII")
_STATFS_OUT = struct.Struct("=QQQQQIIII24x")
_DIRENT = struct.Struct("=QQII")

_ENTRY_SIZE = _ENTRY_OUT.size + ATTRIBUTES.size
_NO_ENTRY = _ENTRY_OUT.pack(0, 0, FOREVER, 0, 0, 0) + bytes(ATTRIBUTES.size)
_SHORT = _DIRENT.size + 8
_IN_LIST = b"\0" * _ENTRY_SIZE
_ATTR_HEAD = _ATTR_OUT.pack(FOREVER, 0, 0)


class InodeAttributes(NamedTuple):
    """What is known of an inode without opening it.

    :ivar mode: file type and permissions
    :ivar mtime: nanoseconds since 1970, may be negative; the other times are the same
    :ivar device: major and minor number of a device node
    """

    inode: int
    mode: int
    size: int = 0
    links: int = 1
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    device: tuple[int, int] = (0, 0)

    def pack(self) -> bytes:
        """As a `fuse_attr`."""
        seconds, nanoseconds = divmod(self.mtime, 1_000_000_000)
        major, minor = self.device
        # new_encode_dev of linux/kdev_t.h
        device = minor & 0xFF | (major & 0xFFF) << 8 | (minor & ~0xFF) << 12 & 0xFFFFFFFF
        return ATTRIBUTES.pack(
            self.inode, self.size, -(-self.size // 512), seconds, seconds, seconds,
            nanoseconds, nanoseconds, nanoseconds, self.mode, self.links, self.uid, self.gid, device, 4096, 0,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Init:
    """The kernel's first request."""

    major: int
    minor: int
    max_readahead: int
    flags: int

    @classmethod
    def parse(cls, body: bytes | memoryview) -> Init:
        """Read its body."""
        return cls(*_INIT_IN.unpack_from(body))

    @property
    def is_known(self) -> bool:
        """Whether the kernel speaks what is spoken here."""
        return self.major == MAJOR and self.minor >= LEAST_MINOR


def init_out(asked: Init, *, acls: bool, background: int) -> bytes:
    """The answer to it: no more than the kernel offers.

    :param acls: whether there are ACLs, which the kernel then asks for and obeys
    :param background: most reads ahead that the kernel has under way
    """
    wanted = [*_Flag]
    if not acls:
        wanted.remove(_Flag.POSIX_ACL)
    flags = 0
    for flag in wanted:
        flags |= asked.flags & flag
    return _INIT_OUT.pack(
        MAJOR, MINOR, asked.max_readahead, flags, background, background * 3 // 4, _MAX_WRITE, 1, _MOST_PAGES, 0, 0
    )  # fmt: skip


def entry_out(inode: int, attributes: bytes) -> bytes:
    """The answer that a name stands for an inode."""
    return _ENTRY_OUT.pack(inode, 0, FOREVER, FOREVER, 0, 0) + attributes


def no_entry() -> bytes:
    """The answer that there is nothing of a name, which the kernel may remember, too."""
    return _NO_ENTRY


def attr_out(attributes: bytes) -> bytes:
    """The answer with an inode's attributes."""
    return _ATTR_HEAD + attributes


def statfs_out(size: int, inodes: int) -> bytes:
    """The answer about the file system as a whole: full. :param size: in bytes"""
    return _STATFS_OUT.pack(-(-size // 4096), 0, 0, inodes, 0, 4096, 255, 4096, 0)


def ioctl_out(value: int, size: int) -> bytes:
    """The answer of an ioctl that gives a number, in an integer of so many bytes."""
    return _IOCTL_OUT.pack(0, 0, 0, 0) + value.to_bytes(size, sys.byteorder)


class Listing:
    """The answer to a request for names in a directory, as many as there is room for.

    :param size: bytes of room
    :param plus: with attributes, as READDIRPLUS wants it
    """

    def __init__(self, size: int, *, plus: bool) -> None:
        self._left = size
        self._plus = plus
        self.parts: list[bytes] = []

    def room(self) -> int:
        """For how many names there is room, if they are short; at least 1."""
        return self._left // (_SHORT + (_ENTRY_SIZE if self._plus else 0)) or 1

    def add(self, name: bytes, inode: int, mode: int, following: int, attributes: bytes = b"") -> bool:
        """Add a name, if there is room.

        :param following: what the kernel says when it goes on behind this name
        :param attributes: empty for those that the kernel had better ask for
        """
        length = _DIRENT.size + len(name)
        padding = -length % 8
        size = length + padding + (_ENTRY_SIZE if self._plus else 0)
        if size > self._left:
            return False
        self._left -= size
        if self._plus:
            self.parts.append(entry_out(inode, attributes) if attributes else _IN_LIST)
        self.parts.append(_DIRENT.pack(inode, following, len(name), mode >> 12) + name + bytes(padding))
        return True


def forgotten(code: int, inode: int, body: bytes) -> Sequence[tuple[int, int]]:
    """Inodes that the kernel forgets, each with how many times it was told of it."""
    if code == Code.FORGET:
        return [(inode, FORGET_IN.unpack_from(body)[0])]
    count, _ = BATCH_FORGET_IN.unpack_from(body)
    return list(FORGET_ONE.iter_unpack(body[8 : 8 + count * FORGET_ONE.size]))
