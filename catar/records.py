"""Values that go into and come out of an archive.

A `Node` is one inode: its ENTRY and every metadata record up to the one that ends it. The small record classes are its
parts. Names, targets and labels are bytes without their NUL. Times are kept as stored (`mtime`, unsigned) so that
reading and writing again gives the same bytes; `signed_time` tells what moment is meant.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

__all__ = [
    "END",
    "NEED_DATA",
    "AclDefault",
    "AclEntry",
    "Data",
    "DirectoryEnd",
    "Node",
    "Sentinel",
    "XAttr",
    "signed_time",
    "stored_time",
]


class Sentinel(Enum):
    """What a decoder says where there is no value to give."""

    NEED_DATA = "NEED_DATA"
    END = "END"


NEED_DATA: Final = Sentinel.NEED_DATA
"""Nothing more can be said until more is received."""
END: Final = Sentinel.END
"""The archive is complete."""

_U64 = 1 << 64
_EARLIEST = -(1 << 31) * 1_000_000_000
"""1901-12-13, the earliest time that ext4 and xfs can hold, in nanoseconds; see `signed_time`."""


def stored_time(ns: int, granularity: int) -> int:
    """A time as an archive stores it: modulo 2^64, floored as an unsigned number (casync's arithmetic).

    :param ns: nanoseconds since the epoch, may be negative
    :param granularity: of `flags.time_granularity`; 0 stores no time
    """
    if not granularity:
        return 0
    raw = ns % _U64
    return raw - raw % granularity


def signed_time(raw: int, granularity: int = 1) -> int:
    """The moment that a stored time means, in nanoseconds since the epoch.

    The format has one unsigned number for moments before 1970 and after 2262 alike. Values from 2^64 - 2^31 s on are
    read as 1901..1970; below that (up to 2486) as they stand. Both ranges of ext4 and xfs come back exactly.
    A coarse negative time was floored after wrapping, so it is rounded towards zero to undo that; the earliest of them
    was floored to below the split and is told from the last moment of 2486 by nothing: 1901 is taken.
    """
    back = _U64 - raw
    if granularity > 1:
        back -= back % granularity
    return raw if back > -_EARLIEST else -back


@dataclass(frozen=True, slots=True)
class XAttr:
    """One extended attribute, with its namespace prefix in `name`."""

    name: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class AclEntry:
    """A named user or group of an ACL.

    :ivar id: numeric id, 0 when the archive stores names only
    :ivar permissions: 4 read, 2 write, 1 execute
    :ivar name: the name, or None when there is none
    """

    id: int
    permissions: int
    name: bytes | None = None

    @property
    def sort_key(self) -> tuple[int, bool, bytes, int]:
        """casync's order of ACL entries: id, nameless first, name, permissions."""
        return (self.id, self.name is not None, self.name or b"", self.permissions)


@dataclass(frozen=True, slots=True)
class AclDefault:
    """The unnamed entries of a directory's default ACL; None marks an absent one."""

    user_obj: int | None
    group_obj: int | None
    other: int | None
    mask: int | None


@dataclass(init=False)
class Node:
    """One file, directory or other inode with all its metadata.

    :ivar name: file name within its directory, empty for the top node
    :ivar mode: file type and permissions, as `st_mode`
    :ivar flags: chattr, FAT and subvolume bits, with the values of `FeatureFlags`
    :ivar mtime: as stored, see `signed_time`
    :ivar acl_group_obj: permissions of the owning group where an ACL mask hides them in `mode`
    :ivar projid: quota project id, 0 for none
    :ivar target: of a symlink
    :ivar device: major and minor number of a device node
    :ivar size: of a regular file's payload, in bytes
    :ivar start: offset of the node's FILENAME record (of its ENTRY for the top node); set by encoder and decoder
    :ivar offset: offset of its ENTRY record
    :ivar payload_offset: offset of a regular file's first payload byte
    """

    name: bytes
    mode: int
    flags: int = 0
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    user: bytes | None = None
    group: bytes | None = None
    xattrs: tuple[XAttr, ...] = ()
    acl_users: tuple[AclEntry, ...] = ()
    acl_groups: tuple[AclEntry, ...] = ()
    acl_group_obj: int | None = None
    acl_default: AclDefault | None = None
    acl_default_users: tuple[AclEntry, ...] = ()
    acl_default_groups: tuple[AclEntry, ...] = ()
    selinux: bytes | None = None
    fcaps: bytes | None = None
    projid: int = 0
    target: bytes | None = None
    device: tuple[int, int] | None = None
    size: int = 0
    start: int = 0
    offset: int = 0
    payload_offset: int = 0

    def __init__(
        self,
        name: bytes,
        mode: int,
        flags: int = 0,
        uid: int = 0,
        gid: int = 0,
        mtime: int = 0,
        user: bytes | None = None,
        group: bytes | None = None,
        **rest: Any,
    ) -> None:
        # Written by hand: most nodes have none of the rest, and what is not set here is found in the class, which
        # halves the time it takes to make a node.
        self.name = name
        self.mode = mode
        self.flags = flags
        self.uid = uid
        self.gid = gid
        self.mtime = mtime
        self.user = user
        self.group = group
        if rest:
            unknown = rest.keys() - self.__dataclass_fields__.keys()
            if unknown:
                raise TypeError(f"Node has no {', '.join(sorted(unknown))}")
            self.__dict__.update(rest)

    @property
    def kind(self) -> int:
        """The file type bits of `mode`."""
        return stat.S_IFMT(self.mode)

    @property
    def is_dir(self) -> bool:
        return self.mode & 0o170000 == stat.S_IFDIR

    @property
    def is_regular(self) -> bool:
        return self.mode & 0o170000 == stat.S_IFREG

    @property
    def is_symlink(self) -> bool:
        return self.mode & 0o170000 == stat.S_IFLNK

    @property
    def has_metadata(self) -> bool:
        """Whether any record stands between its ENTRY and its tail; most nodes have USER and GROUP at most."""
        return bool(
            self.user is not None
            or self.group is not None
            or self.xattrs
            or self.acl_users
            or self.acl_groups
            or self.acl_group_obj is not None
            or self.acl_default is not None
            or self.acl_default_users
            or self.acl_default_groups
            or self.selinux is not None
            or self.fcaps is not None
            or self.projid
        )

    @property
    def has_acl_records(self) -> bool:
        """Whether the archive carries any ACL record for this node."""
        return self.acl_group_obj is not None or self.acl_default is not None


@dataclass(frozen=True, slots=True)
class Data:
    """A piece of the current node's payload; pieces follow in order until `Node.size` is reached."""

    data: memoryview


@dataclass(frozen=True, slots=True)
class DirectoryEnd:
    """The current directory is complete.

    :ivar offset: of its GOODBYE record
    :ivar end: offset of the first byte after that record
    :ivar entry_offset: offset of the directory's ENTRY
    """

    offset: int
    end: int
    entry_offset: int
