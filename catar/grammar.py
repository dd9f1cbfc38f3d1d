"""Which record may follow which, and what a node may hold: tables and checks that encoder and decoder both consult.

    archive := node                                        the top node of a whole archive is a directory
    node    := ENTRY [USER] [GROUP] XATTR* ACL_USER* ACL_GROUP* [ACL_GROUP_OBJ]
               [ACL_DEFAULT] ACL_DEFAULT_USER* ACL_DEFAULT_GROUP* [SELINUX] [FCAPS] [QUOTA_PROJID] tail
    tail    := PAYLOAD | SYMLINK | DEVICE | (nothing: fifo, socket) | (FILENAME node)* GOODBYE

Checks return the reason as text, or None when all is well; the caller knows whether that is a `UsageError` (encoding)
or a `FormatError` (decoding). The rules are those of casync 2's decoder (`src/cadecoder.c`) except where a comment says
that casync writes what it then refuses to read; those are accepted here (see FORMAT.md, "Quirks").
"""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from catar import layouts
from catar.flags import NODE_FLAGS, SUBVOLUME_BITS, FeatureFlags, time_granularity
from catar.records import AclEntry, Node

__all__ = ["MAX_DEPTH", "METADATA", "TAILS", "MetadataRule", "check_entry", "check_name", "check_node"]

F = FeatureFlags

MAX_DEPTH = layouts.DEPTH_MAX
"""Most nodes on a path, the top node included."""

REG, DIR, LNK = stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK
BLK, CHR, FIFO, SOCK = stat.S_IFBLK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK
_ANY = frozenset({REG, DIR, LNK, BLK, CHR, FIFO, SOCK})
_NO_LINKS = _ANY - {LNK}

TAILS: Mapping[int, int | None] = {
    REG: layouts.PAYLOAD.type,
    LNK: layouts.SYMLINK.type,
    BLK: layouts.DEVICE.type,
    CHR: layouts.DEVICE.type,
    FIFO: None,
    SOCK: None,
    DIR: None,
}
"""The record that ends a node of each file type; None where the next FILENAME or GOODBYE does."""


class MetadataRule(NamedTuple):
    """Where a metadata record may stand.

    :ivar rank: records of a node never fall in rank
    :ivar repeats: whether several may stand in a row
    :ivar kinds: file types that may have it
    :ivar needs: feature flags of which one must be set; 0 where casync does not ask
    """

    rank: int
    repeats: bool
    kinds: frozenset[int]
    needs: int


def _rules() -> dict[int, MetadataRule]:
    rows: list[tuple[layouts.Layout, bool, frozenset[int], int]] = [
        (layouts.USER, False, _ANY, F.USER_NAMES),
        (layouts.GROUP, False, _ANY, F.USER_NAMES),
        (layouts.XATTR, True, _NO_LINKS, F.XATTRS),
        (layouts.ACL_USER, True, _NO_LINKS, F.ACL),
        (layouts.ACL_GROUP, True, _NO_LINKS, F.ACL),
        (layouts.ACL_GROUP_OBJ, False, _NO_LINKS, F.ACL),
        (layouts.ACL_DEFAULT, False, frozenset({DIR}), F.ACL),
        (layouts.ACL_DEFAULT_USER, True, frozenset({DIR}), F.ACL),
        (layouts.ACL_DEFAULT_GROUP, True, frozenset({DIR}), F.ACL),
        (layouts.SELINUX, False, _ANY, F.SELINUX),
        (layouts.FCAPS, False, frozenset({REG}), 0),
        (layouts.QUOTA_PROJID, False, frozenset({REG, DIR}), 0),
    ]
    return {
        row.type: MetadataRule(rank, repeats, kinds, int(needs))
        for rank, (row, repeats, kinds, needs) in enumerate(rows, 1)
    }


METADATA: Mapping[int, MetadataRule] = _rules()
"""Rules of the records between ENTRY and the tail, by record type."""

NODE_FEATURES: Mapping[int, int] = {
    REG: 0,
    DIR: 0,
    LNK: int(F.SYMLINKS),
    BLK: int(F.DEVICE_NODES),
    CHR: int(F.DEVICE_NODES),
    FIFO: int(F.FIFOS),
    SOCK: int(F.SOCKETS),
}
"""The feature flag without which nodes of a file type are not archived."""

_NSEC_TIME = int(F.NSEC_TIME)


def check_name(name: bytes) -> str | None:
    """Whether `name` may stand in a FILENAME record: no path, no escape, nothing a file system could not hold."""
    if name in (b"", b".", b".."):
        return f"file name {name!r} is not allowed"
    if b"/" in name or b"\0" in name:
        return f"file name {name!r} has a slash or NUL"
    return None


@lru_cache(maxsize=1024)
def _check_mode(mode: int, features: int) -> str | None:
    if mode & ~0o177777:
        return f"mode {mode:#o} has unknown bits"
    kind = mode & 0o170000
    needs = NODE_FEATURES.get(kind)
    if needs is None:
        return f"mode {mode:#o} has no known file type"
    if needs and not features & needs:
        return f"file type of mode {mode:#o} is not among the archive's feature flags"
    permissions = mode & 0o7777
    if kind == LNK:
        return None if permissions == 0o777 else f"symlink with mode {mode:#o}"
    if features & (F.PERMISSIONS | F.ACL):
        return None
    allowed = (0o777, 0o555) if kind == DIR else (0o666, 0o444)
    if permissions == allowed[0] or (features & F.READ_ONLY and permissions == allowed[1]):
        return None
    return f"mode {mode:#o} in an archive that records no permissions"


@lru_cache(maxsize=1024)
def _check_id(value: int, features: int, what: str) -> str | None:
    if features & F.UIDS_32BIT:
        bad = value >= layouts.ID_INVALID or value == layouts.ID16_INVALID
    elif features & F.UIDS_16BIT:
        bad = value >= layouts.ID16_INVALID
    else:
        bad = value != 0
    return f"{what} {value} is not valid with the archive's feature flags" if bad else None


def check_entry(mode: int, flags: int, uid: int, gid: int, mtime: int, features: int) -> str | None:
    """The fields of one ENTRY against the archive's feature flags."""
    reason = _check_mode(mode, features)
    if reason:
        return reason
    if flags:
        kind = mode & 0o170000
        if flags & ~(features & NODE_FLAGS) or kind not in (REG, DIR):
            return f"attribute flags {flags:#x} are not valid here"
        if flags & SUBVOLUME_BITS and kind != DIR:
            return "subvolume flag on something that is not a directory"
    if uid or gid:
        reason = _check_id(uid, features, "uid") or _check_id(gid, features, "gid")
        if reason:
            return reason
    # casync's decoder wants multiples of 1 ms for microsecond times and refuses -1 ns, both of which it writes.
    if features & _NSEC_TIME:
        return None
    granularity = time_granularity(features)
    if mtime % granularity if granularity else mtime:
        return f"time {mtime} is finer than the archive's feature flags"
    return None


def _check_acl_entries(entries: Sequence[AclEntry], features: int, what: str) -> str | None:
    last = None
    for entry in entries:
        if entry.permissions > 7:
            return f"{what} permissions {entry.permissions:#x} are not valid"
        reason = _check_id(entry.id, features, what)
        if reason:
            return reason
        key = entry.sort_key
        if last is not None and key <= last:
            return f"{what} entries are out of order"
        last = key
    return None


def _check_acl(node: Node, features: int) -> str | None:
    if (node.acl_users or node.acl_groups) and node.acl_group_obj is None:
        return "ACL entries without the owning group's"
    if node.acl_group_obj is not None and node.acl_group_obj > 7:
        return "ACL permissions of the owning group are not valid"
    default = node.acl_default
    if node.acl_default_users or node.acl_default_groups:
        if default is None:
            return "default ACL entries without a default ACL"
        if default.mask is None:
            return "default ACL with named entries but no mask"
    if default is not None:
        for value in (default.user_obj, default.group_obj, default.other, default.mask):
            if value is not None and value > 7:
                return "default ACL permissions are not valid"
    return (
        _check_acl_entries(node.acl_users, features, "ACL user")
        or _check_acl_entries(node.acl_groups, features, "ACL group")
        or _check_acl_entries(node.acl_default_users, features, "default ACL user")
        or _check_acl_entries(node.acl_default_groups, features, "default ACL group")
    )


def metadata_cost(size: int) -> int:
    """What a metadata record of `size` bytes counts towards `NODE_METADATA_MAX`; small ones take memory too."""
    return max(size, layouts.NODE_METADATA_MAX // layouts.NODE_RECORDS_MAX)


def check_xattr(name: bytes, value: bytes) -> str | None:
    """An attribute: its name is a namespace, a dot, and something after it; both are as long as an archive holds."""
    dot = name.find(b".")
    if dot <= 0 or dot == len(name) - 1 or len(name) > layouts.XATTR_NAME_MAX or b"\0" in name:
        return f"extended attribute name {name!r} is not valid"
    if len(value) > layouts.XATTR_VALUE_MAX:
        return f"extended attribute value of {len(value)} bytes is too large"
    return None


def check_payload(size: int) -> str | None:
    """A file's size: what an off_t holds."""
    return None if 0 <= size <= layouts.PAYLOAD_MAX else f"payload of {size} bytes is too large"


def check_device(major: int, minor: int) -> str | None:
    """A device number: 12 and 20 bits, as Linux has them."""
    if 0 <= major <= layouts.DEVICE_MAJOR_MAX and 0 <= minor <= layouts.DEVICE_MINOR_MAX:
        return None
    return f"device number {major}:{minor} is out of bounds"


def check_projid(projid: int) -> str | None:
    """A quota project id that is stored; 0 is the default project and never is.

    Linux's invalid id, 2^32 - 1, is among them: casync writes it, an `Encoder` does not.
    """
    return None if 0 < projid <= layouts.ID_INVALID else f"quota project id {projid} is not valid"


def check_node(node: Node, features: int) -> str | None:
    """What can only be checked once a node's metadata is complete; cheap for nodes that have none."""
    if node.xattrs:
        last = b""
        for attribute in node.xattrs:
            if attribute.name <= last:
                return f"extended attribute {attribute.name!r} is out of order"
            last = attribute.name
    if node.acl_group_obj is not None or node.acl_users or node.acl_groups or node.acl_default is not None:
        return _check_acl(node, features)
    if node.acl_default_users or node.acl_default_groups:
        return "default ACL entries without a default ACL"
    return None
