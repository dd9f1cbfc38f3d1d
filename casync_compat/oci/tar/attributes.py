"""What a catar holds of a tar member's metadata: clamped, or left out, where the format has no room for it.

The truth stays in the tar's headers, which the recipe keeps verbatim; whoever needs it reads them. Here is decided what
somebody sees who extracts the catar with plain casync:

* `user.*` and `trusted.*` attributes of files and directories, `security.capability` of files, `security.selinux`;
* `system.posix_acl_*` attributes as ACL records, and where there is none the text form of star and GNU tar
  (`SCHILY.acl.*`), unless it names somebody without a number or contradicts the mode;
* owners that the format cannot store (65535, 2^32 - 1, negative) become 65534, and lose setuid and setgid with it;
* times before 1970 become 1970, those after 2446 become 2446, where ext4 ends.
"""

from __future__ import annotations

import stat
from contextlib import suppress
from typing import Any

from casync_compat.fs import acl
from casync_compat.oci.tar.reader import Member
from catar import layouts
from catar.flags import FeatureFlags
from catar.grammar import check_node, check_xattr
from catar.records import AclDefault, AclEntry, Node, XAttr

__all__ = ["NOBODY", "stored_attributes", "stored_mode", "stored_mtime", "stored_owner"]

NOBODY = 65534
_LATEST = ((1 << 34) - (1 << 31) - 1) * 1_000_000_000

_FCAPS = b"security.capability"
_SELINUX = b"security.selinux"
_STORED = (b"user.", b"trusted.")
_ACL_FEATURES = int(FeatureFlags.ACL | FeatureFlags.UIDS_32BIT)


def stored_owner(value: int) -> int:
    """A user or group id as the catar has it."""
    return value if 0 <= value < layouts.ID_INVALID and value != layouts.ID16_INVALID else NOBODY


def stored_mode(kind: int, mode: int, uid: int, gid: int) -> int:
    """File type and permissions as the catar has them, for owners as the tar has them."""
    if kind == stat.S_IFLNK:
        return kind | 0o777
    if stored_owner(uid) != uid:
        mode &= ~stat.S_ISUID
    if stored_owner(gid) != gid:
        mode &= ~stat.S_ISGID
    return kind | mode


def stored_mtime(mtime: int, latest: int | None) -> int:
    """A time as the catar has it.

    :param mtime: in nanoseconds
    :param latest: the latest time that is wanted, in nanoseconds; None for any
    """
    return max(0, min(mtime, _LATEST if latest is None else min(latest, _LATEST)))


def stored_attributes(member: Member) -> dict[str, Any] | None:
    """Extended attributes, ACLs, capabilities and label as arguments for `catar.records.Node`; None without any."""
    kind = member.kind
    out: dict[str, Any] = {}
    xattrs = []
    for name, value in member.xattrs:
        if name == _SELINUX:
            label = value.rstrip(b"\0")
            if 0 < len(label) < layouts.SELINUX.room and b"\0" not in label:
                out["selinux"] = label
        elif name == _FCAPS:
            if kind == stat.S_IFREG and len(value) <= layouts.FCAPS.room:
                out["fcaps"] = value
        elif (
            kind in (stat.S_IFREG, stat.S_IFDIR) and name.startswith(_STORED) and not check_xattr(name, value)
        ):
            xattrs.append(XAttr(name, value))
    if xattrs:
        out["xattrs"] = tuple(xattrs)
    if kind != stat.S_IFLNK:
        found = {**_text_acls(member), **dict(member.xattrs)}
        _add(out, kind, _access_acl(found.get(acl.ACCESS)))
        if kind == stat.S_IFDIR:
            _add(out, kind, _default_acl(found.get(acl.DEFAULT)))
    return out or None


def _text_acls(member: Member) -> dict[bytes, bytes]:
    """ACLs that the tar has as text, as the kernel would have them."""
    out = {}
    for name, text in member.acls:
        with suppress(ValueError):
            raw = acl.build_text(text)
            masks = [item.perm for item in acl.parse(raw) if item.tag == acl.MASK]
            if name == acl.DEFAULT or masks == [member.mode >> 3 & 7]:
                out[name] = raw
    return out


def _add(out: dict[str, Any], kind: int, records: dict[str, Any]) -> None:
    """Add ACL records, unless the format forbids them."""
    if records and check_node(Node(b"", kind, **records), _ACL_FEATURES) is None:
        out.update(records)


def _items(raw: bytes | None) -> list[acl.AclItem]:
    try:
        return acl.parse(raw) if raw else []
    except ValueError:
        return []


def _named(items: list[acl.AclItem], tag: int) -> tuple[AclEntry, ...]:
    entries = [AclEntry(item.id, item.perm) for item in items if item.tag == tag]
    return tuple(sorted(entries, key=lambda entry: entry.sort_key))


def _access_acl(raw: bytes | None) -> dict[str, Any]:
    """Only one with a mask says more than the mode does (casync `src/caencoder.c`, `process_acl`)."""
    items = _items(raw)
    permissions = {item.tag: item.perm for item in items}
    if acl.MASK not in permissions or acl.GROUP_OBJ not in permissions:
        return {}
    return {
        "acl_users": _named(items, acl.USER),
        "acl_groups": _named(items, acl.GROUP),
        "acl_group_obj": permissions[acl.GROUP_OBJ],
    }


def _default_acl(raw: bytes | None) -> dict[str, Any]:
    items = _items(raw)
    if not items:
        return {}
    permissions = {item.tag: item.perm for item in items}
    return {
        "acl_default": AclDefault(
            *(permissions.get(tag) for tag in (acl.USER_OBJ, acl.GROUP_OBJ, acl.OTHER, acl.MASK))
        ),
        "acl_default_users": _named(items, acl.USER),
        "acl_default_groups": _named(items, acl.GROUP),
    }
