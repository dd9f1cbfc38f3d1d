"""POSIX ACLs as the kernel stores them: the value of the `system.posix_acl_access` and `_default` attributes.

    le32 version (2), then for each entry: le16 tag, le16 permissions, le32 id

Reading and writing that value costs one system call; libacl adds a conversion both ways. This module does not touch
files and does not know what the entries mean for a mode (see `casync_compat.fs.apply.restore`).

    >>> build([AclItem(USER_OBJ, 6), AclItem(GROUP_OBJ, 4), AclItem(OTHER, 4)]).hex()[:8]
    '02000000'
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import NamedTuple

from casync_compat.acltext import GROUP, GROUP_OBJ, MASK, OTHER, USER, USER_OBJ, from_text
from catar.records import AclDefault, AclEntry, Node

__all__ = [
    "ACCESS",
    "DEFAULT",
    "GROUP",
    "GROUP_OBJ",
    "MASK",
    "NO_ID",
    "OTHER",
    "USER",
    "USER_OBJ",
    "AclItem",
    "build",
    "build_text",
    "parse",
    "values_of",
]

ACCESS = b"system.posix_acl_access"
DEFAULT = b"system.posix_acl_default"

# linux/posix_acl_xattr.h
NO_ID = 0xFFFFFFFF
"""The id field of entries that name nobody."""

_VERSION = b"\x02\x00\x00\x00"
_ENTRY = struct.Struct("<HHI")
_TAGS = frozenset({USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER})


class AclItem(NamedTuple):
    """One entry of an ACL.

    :ivar tag: `USER_OBJ` .. `OTHER`
    :ivar perm: 4 read, 2 write, 1 execute
    :ivar id: user or group id of `USER` and `GROUP` entries, `NO_ID` for the rest
    """

    tag: int
    perm: int
    id: int = NO_ID


def parse(raw: bytes) -> list[AclItem]:
    """The entries of an attribute value, in its order.

    :raises ValueError: when it is not version 2, has an unknown tag or is cut short
    """
    if raw[:4] != _VERSION:
        raise ValueError(f"ACL of unknown version {raw[:4].hex()}")
    if (len(raw) - 4) % _ENTRY.size:
        raise ValueError(f"ACL of {len(raw)} bytes is cut short")
    items = [AclItem(*fields) for fields in _ENTRY.iter_unpack(memoryview(raw)[4:])]
    for item in items:
        if item.tag not in _TAGS or item.perm > 7:
            raise ValueError(f"ACL entry with tag {item.tag:#x} and permissions {item.perm:#x} is not valid")
    return items


def build(items: Iterable[AclItem]) -> bytes:
    """The attribute value of these entries, put into the order that the kernel wants.

    :raises ValueError: for a field that does not fit
    """
    try:
        return _VERSION + b"".join(_ENTRY.pack(*item) for item in sorted(items, key=lambda i: (i.tag, i.id)))
    except struct.error as error:
        raise ValueError(f"ACL entry out of range: {error}") from None


def build_text(text: bytes) -> bytes:
    """The attribute value of an ACL as text, as `casync_compat.acltext.from_text` reads it.

    :raises ValueError: it is none, in one line
    """
    return build(AclItem(tag, perm, NO_ID if id_ is None else id_) for tag, perm, id_ in from_text(text))


def values_of(node: Node, acl_id: Callable[[AclEntry, bool], int]) -> dict[bytes, bytes]:
    """The attributes that a node's ACLs are, by name; none where it has none.

    :param acl_id: the id on disk of an entry, -1 when it has none here; the second argument says group
    """
    found = {}
    if node.acl_group_obj is not None:
        mode = node.mode
        base = AclDefault(mode >> 6 & 7, node.acl_group_obj, mode & 7, mode >> 3 & 7)
        found[ACCESS] = _value(base, node.acl_users, node.acl_groups, acl_id)
    if node.acl_default is not None:
        found[DEFAULT] = _value(node.acl_default, node.acl_default_users, node.acl_default_groups, acl_id)
    return found


def _value(
    base: AclDefault,
    users: tuple[AclEntry, ...],
    groups: tuple[AclEntry, ...],
    acl_id: Callable[[AclEntry, bool], int],
) -> bytes:
    items = []
    for tag, perm in (
        (USER_OBJ, base.user_obj),
        (GROUP_OBJ, base.group_obj),
        (MASK, base.mask),
        (OTHER, base.other),
    ):
        if perm is not None:
            items.append(AclItem(tag, perm))
    for tag, entries in ((USER, users), (GROUP, groups)):
        for entry in entries:
            id_ = acl_id(entry, tag == GROUP)
            if id_ >= 0:
                items.append(AclItem(tag, entry.permissions, id_))
    return build(items)
