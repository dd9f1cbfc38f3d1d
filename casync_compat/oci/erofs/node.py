"""Inodes as an EROFS image has them, and what of them it can hold.

    >>> root = Node(stat.S_IFDIR | 0o755, children={b"hello": Node(stat.S_IFREG | 0o644, size=3, content=b"hi!")})

The format could hold more than the kernel gives out again; what is refused here is what one of the two cannot.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from functools import lru_cache

__all__ = ["MAX_ID", "MAX_STUB", "MAX_TARGET", "PREFIXES", "Node", "fault_of", "split"]

MAX_ID = (1 << 32) - 2
"""The largest user or group: the number behind it means none."""
MAX_TARGET = 4095
"""Bytes of a symlink's target: the kernel cuts longer ones."""
MAX_STUB = 1 << 53
"""Bytes of a file whose contents are elsewhere: 1024 chunks of the largest that there are, as composefs has it."""
_MAX_NAME = 255
_MAX_VALUE = 65535
_MAX_NAMES = 65536
_MAX_BODY = 12 + 4 * 65534
_MAX_SECONDS = 1 << 62

PREFIXES = (
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
)
"""How names of extended attributes begin, and the number that stands for that (Linux fs/erofs/xattr.h)."""


@dataclass(slots=True, eq=False)
class Node:
    """An inode; the same object under several names is a hard link.

    :ivar mode: kind and permissions
    :ivar mtime: in nanoseconds since the epoch
    :ivar xattrs: sorted by name, each name once
    :ivar target: of a symlink
    :ivar device: major and minor number
    :ivar size: of a regular file, in bytes
    :ivar content: of a regular file; None for one whose contents are elsewhere, which reads as zeros by itself
    :ivar children: of a directory, by name
    :ivar links: names of a file, or 2 and one for each directory in a directory
    """

    mode: int
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    target: bytes = b""
    device: tuple[int, int] = (0, 0)
    size: int = 0
    content: bytes | None = None
    children: dict[bytes, Node] = field(default_factory=dict)
    links: int = 1

    @property
    def kind(self) -> int:
        """`stat.S_IFREG` and so on."""
        return stat.S_IFMT(self.mode)


@lru_cache(maxsize=1024)
def split(name: bytes) -> tuple[int, bytes] | None:
    """The number of an extended attribute's prefix and the rest of its name; None when the format cannot name it."""
    for prefix, index in PREFIXES:
        if name.startswith(prefix):
            rest = name[len(prefix) :]
            # The ACLs are whole names; for the others something must follow.
            return (index, rest) if bool(rest) == prefix.endswith(b".") else None
    return None


def fault_of(node: Node, name: bytes) -> str | None:
    """Why an inode of this name cannot be in an image; None when it can.

    :param name: empty for the root
    """
    if len(name) > _MAX_NAME or name in (b".", b"..") or b"/" in name or b"\0" in name:
        return "its name is none that Linux has"
    if not (0 <= node.uid <= MAX_ID and 0 <= node.gid <= MAX_ID):
        return f"there is no owner {node.uid}:{node.gid} on Linux"
    if not -_MAX_SECONDS <= node.mtime // 1_000_000_000 <= _MAX_SECONDS:
        return "its time is out of range"
    kind = node.kind
    if kind == stat.S_IFLNK and (not 0 < len(node.target) <= MAX_TARGET or b"\0" in node.target):
        return f"its target has {len(node.target)} bytes, or a NUL in it"
    if kind == stat.S_IFREG:
        if not 0 <= node.size <= MAX_STUB:
            return f"it has {node.size} bytes; EROFS images of metadata hold files of 8 PiB at most"
        if node.content is not None and len(node.content) != node.size:
            return "its contents have another size than it"
    major, minor = node.device
    if kind in (stat.S_IFCHR, stat.S_IFBLK) and not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
        return f"there is no device {major}:{minor} on Linux"
    return _attributes_fault(node) if node.xattrs else None


def _attributes_fault(node: Node) -> str | None:
    names = body = 0
    for name, value in node.xattrs:
        if split(name) is None or len(name) > _MAX_NAME or b"\0" in name or len(value) > _MAX_VALUE:
            return f"EROFS cannot hold its extended attribute {name!r} of {len(value)} bytes"
        names += len(name) + 1
        body += 8 + len(name) + len(value)
    if names > _MAX_NAMES or body + 12 > _MAX_BODY:
        return "it has more extended attributes than fit"
    return None
