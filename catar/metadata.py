"""The records behind the ENTRY of a node, both ways: a table with a row for each kind of metadata, and the small tails.

Where such a record may stand is said by `catar.grammar`; here is only what it holds, and which field of `Node` that is.
Payloads are no values, and left to encoder and decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from catar import layouts
from catar.errors import UsageError
from catar.grammar import (
    METADATA,
    TAILS,
    MetadataRule,
    check_device,
    check_node,
    check_projid,
    check_xattr,
    metadata_cost,
)
from catar.layouts import SYMLINK
from catar.records import AclDefault, AclEntry, Node, XAttr
from catar.structs import Layout

__all__ = ["KINDS", "MetadataKind", "MetadataReader", "metadata_records", "read_tail", "tail_record"]

_HEADER_SIZE = layouts.HEADER.size
_pack_header = layouts.HEADER.writer("size", "type")


class MetadataKind(NamedTuple):
    """One kind of metadata record.

    :ivar field: of `Node`; a tuple of what the records say where the record may repeat
    :ivar read: from a record's body to the field's value, or one of its values; raises ValueError
    :ivar write: back, to the body; raises ValueError
    :ivar absent: the field's value when the node has no such record; a constant
    """

    layout: Layout
    field: str
    read: Callable[[bytes], Any]
    write: Callable[[Any], bytes]
    absent: Any = None

    @property
    def rule(self) -> MetadataRule:
        """Where such a record may stand."""
        return METADATA[self.layout.type]


def _read_string(body: bytes, what: str) -> bytes:
    """The text of a body that ends in its only NUL. :raises ValueError: when it does not"""
    if body[-1] or body.find(0) != len(body) - 1:
        raise ValueError(f"{what} does not end in its only NUL")
    return body[:-1]


def _write_string(layout: Layout, value: bytes) -> bytes:
    if b"\0" in value:
        raise ValueError(f"{layout.name} record cannot hold a NUL: {value!r}")
    return value + b"\0"


def _string(layout: Layout, field: str, what: str) -> MetadataKind:
    return MetadataKind(layout, field, partial(_read_string, what=what), partial(_write_string, layout))


def _read_xattr(body: bytes) -> XAttr:
    name, nul, value = body.partition(b"\0")
    _raise(check_xattr(name, value) if nul else "extended attribute name without its NUL")
    return XAttr(name, value)


def _write_xattr(attribute: XAttr) -> bytes:
    _raise(check_xattr(attribute.name, attribute.value))
    return attribute.name + b"\0" + attribute.value


def _raise(reason: str | None) -> None:
    if reason:
        raise ValueError(reason)


def _acl(layout: Layout, field: str) -> MetadataKind:
    size = layout.body.size
    unpack = layout.body.reader("id", "permissions")
    pack = layout.body.writer("id", "permissions")

    def read(body: bytes) -> AclEntry:
        id_, permissions = unpack(body, 0)
        return AclEntry(id_, permissions, _read_string(body[size:], "ACL name") if len(body) > size else None)

    def write(entry: AclEntry) -> bytes:
        name = b"" if entry.name is None else _write_string(layout, entry.name)
        return pack(entry.id, entry.permissions) + name

    return MetadataKind(layout, field, read, write, ())


_DEFAULT = layouts.ACL_DEFAULT.body
_DEFAULT_FIELDS = ("user_obj", "group_obj", "other", "mask")
_unpack_default = _DEFAULT.reader(*_DEFAULT_FIELDS)
_pack_default = _DEFAULT.writer(*_DEFAULT_FIELDS)


def _read_default(body: bytes) -> AclDefault:
    values = _unpack_default(body, 0)
    return AclDefault(*(None if value == layouts.UINT64_MAX else value for value in values))


def _write_default(default: AclDefault) -> bytes:
    values = (default.user_obj, default.group_obj, default.other, default.mask)
    return _pack_default(*(layouts.UINT64_MAX if value is None else value for value in values))


_unpack_group_obj = layouts.ACL_GROUP_OBJ.body.reader("permissions")
_unpack_projid = layouts.QUOTA_PROJID.body.reader("projid")
_pack_projid = layouts.QUOTA_PROJID.body.writer("projid")


def _read_group_obj(body: bytes) -> int:
    return int(_unpack_group_obj(body, 0)[0])


def _read_projid(body: bytes) -> int:
    projid = int(_unpack_projid(body, 0)[0])
    _raise(check_projid(projid))
    return projid


def _write_projid(projid: int) -> bytes:
    _raise(check_projid(projid))
    return _pack_projid(projid)


_KINDS = (
    _string(layouts.USER, "user", "user name"),
    _string(layouts.GROUP, "group", "group name"),
    MetadataKind(layouts.XATTR, "xattrs", _read_xattr, _write_xattr, ()),
    _acl(layouts.ACL_USER, "acl_users"),
    _acl(layouts.ACL_GROUP, "acl_groups"),
    MetadataKind(
        layouts.ACL_GROUP_OBJ,
        "acl_group_obj",
        _read_group_obj,
        layouts.ACL_GROUP_OBJ.body.writer("permissions"),
    ),
    MetadataKind(layouts.ACL_DEFAULT, "acl_default", _read_default, _write_default),
    _acl(layouts.ACL_DEFAULT_USER, "acl_default_users"),
    _acl(layouts.ACL_DEFAULT_GROUP, "acl_default_groups"),
    _string(layouts.SELINUX, "selinux", "SELinux label"),
    MetadataKind(layouts.FCAPS, "fcaps", bytes, bytes),
    MetadataKind(layouts.QUOTA_PROJID, "projid", _read_projid, _write_projid, 0),
)
"""In the order of the format."""

KINDS: Mapping[int, MetadataKind] = {kind.layout.type: kind for kind in _KINDS}
"""Every kind of metadata record, by record type."""


class MetadataReader:
    """Takes the records of one node, in the order in which they stand.

    :param node: whose fields they are to set
    :param features: the archive's feature flags
    """

    __slots__ = ("_cost", "_features", "_node", "_rank", "_repeated", "_rule", "_size")

    def __init__(self, node: Node, features: int) -> None:
        self._node = node
        self._features = features
        self._rank = 0
        self._size = 0
        self._repeated: dict[str, list[object]] = {}

    def refuses(self, type_: int, size: int) -> str | None:
        """Why no record of this type and size may come next, told before there is more of it than its header."""
        rule = METADATA.get(type_)
        if rule is None:
            return f"record type {type_:#018x} is unknown or not allowed here"
        row = layouts.BY_TYPE[type_]
        if rule.rank < self._rank or (rule.rank == self._rank and not rule.repeats):
            return f"{row.name} record is out of order"
        if self._node.mode & 0o170000 not in rule.kinds or (rule.needs and not self._features & rule.needs):
            return f"{row.name} record is not allowed for this node"
        if not row.smallest <= size <= row.largest:
            return f"{row.name} record of {size} bytes is out of bounds"
        self._cost = metadata_cost(size)
        if self._size + self._cost > layouts.NODE_METADATA_MAX:
            return "one node has too much metadata"
        self._rule = rule
        return None

    def add(self, type_: int, body: bytes) -> None:
        """Read the body of the record that was just not refused. :raises ValueError: when it is wrong"""
        kind, rule = KINDS[type_], self._rule
        value = kind.read(body)
        self._rank = rule.rank
        self._size += self._cost
        # What may repeat is gathered in lists until the node is whole: growing its tuples one by one would take time
        # with the square of their number.
        if rule.repeats:
            self._repeated.setdefault(kind.field, []).append(value)
        else:
            setattr(self._node, kind.field, value)

    def finish(self) -> str | None:
        """Set what may repeat. :returns: what is wrong about all of the node's metadata together"""
        for field, found in self._repeated.items():
            setattr(self._node, field, tuple(found))
        return check_node(self._node, self._features)


def metadata_records(node: Node) -> list[tuple[int, bytes]]:
    """The records between a node's ENTRY and its tail, as `(type, bytes)`, in the order of the format.

    :raises UsageError: when a value cannot be stored
    """
    out: list[tuple[int, bytes]] = []
    try:
        for kind in _KINDS:
            field = kind.field
            value = getattr(node, field)
            if value is not kind.absent:
                out += [_packed(kind, one) for one in (value if kind.rule.repeats else (value,))]
    except ValueError as error:
        raise UsageError(str(error)) from None
    return out


def _packed(kind: MetadataKind, value: Any) -> tuple[int, bytes]:
    type_ = kind.layout.type
    body = kind.write(value)
    return type_, _pack_header(_HEADER_SIZE + len(body), type_) + body


_read_device = layouts.DEVICE.body.reader("major", "minor")
_pack_device = layouts.DEVICE.head.writer("major", "minor")


def read_tail(node: Node, type_: int, body: bytes) -> None:
    """Read the SYMLINK or DEVICE that ends a node. :raises ValueError: when it is wrong"""
    if type_ == SYMLINK.type:
        node.target = _read_string(body, "symlink target")
        return
    major, minor = _read_device(body, 0)
    _raise(check_device(major, minor))
    node.device = (major, minor)


def tail_record(node: Node) -> bytes:
    """The SYMLINK or DEVICE that ends a node; empty for those that end without.

    :raises UsageError: when its target or device number cannot be stored
    """
    tail = TAILS[node.mode & 0o170000]
    if tail == SYMLINK.type:
        target = node.target or b""
        if not SYMLINK.accepts(SYMLINK.head.size + len(target) + 1) or b"\0" in target:
            raise UsageError(f"symlink target of {len(target)} bytes cannot be stored")
        return SYMLINK.pack(tail=target + b"\0")
    if tail == layouts.DEVICE.type:
        if node.device is None:
            raise UsageError("device node without a device number")
        reason = check_device(*node.device)
        if reason:
            raise UsageError(reason)
        return _pack_device(*node.device)
    return b""
