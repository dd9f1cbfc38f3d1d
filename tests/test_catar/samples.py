"""Archives that several tests use, and the places of their records."""

from __future__ import annotations

import stat
import struct
from dataclasses import dataclass

from strategies import Item, directory, encode, file, special, symlink

from catar.flags import FeatureFlags
from catar.records import AclDefault, AclEntry, XAttr

F = FeatureFlags
SOMEBODY = {"uid": 33, "gid": 33, "user": b"www-data", "group": b"www-data"}


def everything() -> Item:
    """A small tree that has every kind of node and of record."""
    return directory(
        b"",
        file(b"empty"),
        file(
            b"file",
            b"contents\n" * 3,
            0o4755,
            flags=int(F.FLAG_NOATIME),
            mtime=1_500_000_000_123_456_789,
            xattrs=(XAttr(b"trusted.a", b""), XAttr(b"user.b", b"\0value\0")),
            acl_users=(AclEntry(33, 7, b"www-data"), AclEntry(1_000_000, 4)),
            acl_groups=(AclEntry(2, 6, b"bin"),),
            acl_group_obj=4,
            selinux=b"system_u:object_r:etc_t:s0",
            fcaps=bytes(20),
            projid=1000,
            **SOMEBODY,
        ),
        directory(
            b"sub",
            *(file(b"%d" % i, b"%d" % i * i) for i in range(7)),
            directory(b"void"),
            acl_default=AclDefault(7, 5, 0, 7),
            acl_default_users=(AclEntry(33, 7, b"www-data"),),
            acl_default_groups=(AclEntry(2, 5),),
            flags=int(F.FLAG_DIRSYNC | F.SUBVOLUME),
            **SOMEBODY,
        ),
        symlink(b"link", b"../target", **SOMEBODY),
        special(b"pipe", stat.S_IFIFO | 0o640),
        special(b"sock", stat.S_IFSOCK | 0o755, **SOMEBODY),
        special(b"null", stat.S_IFCHR | 0o666, (1, 3)),
        special(b"disk", stat.S_IFBLK | 0o660, (4095, (1 << 20) - 1)),
    )


EVERYTHING = encode(everything())

SMALL = encode(
    directory(
        b"",
        file(b"a", b"text", user=b"me", uid=1, xattrs=(XAttr(b"user.x", b"y"),)),
        file(b"b", b"b", 0o600),
        symlink(b"c", b"b"),
        directory(b"d"),
    )
)
"""Small enough to try every bit of it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands in an archive.

    :ivar size: as its header says
    """

    offset: int
    size: int
    type: int


def places(data: bytes) -> list[Place]:
    """The records of an archive, one after the other."""
    found = []
    at = 0
    while at < len(data):
        size, type_ = struct.unpack_from("<QQ", data, at)
        found.append(Place(at, size, type_))
        at += size
    assert at == len(data)
    return found


def patched(data: bytes, at: int, new: bytes) -> bytes:
    """`data` with other bytes at `at`."""
    return data[:at] + new + data[at + len(new) :]
