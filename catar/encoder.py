"""The writing half: nodes in, bytes out. Sans-IO: it neither reads files nor writes any.

    >>> encoder = Encoder(flags.DEFAULT)
    >>> out = encoder.begin(Node(b"", stat.S_IFDIR | 0o755))
    >>> out += encoder.begin(Node(b"a", stat.S_IFREG | 0o644, size=3))
    >>> encoder.advance(3); out += b"abc"
    >>> out += encoder.end_directory()

Children are given in order of their names. The caller writes payload bytes itself, so that they are never copied here,
and tells their number with `advance`.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable

from catar import layouts
from catar.errors import UsageError
from catar.filling import Owners
from catar.flags import FeatureFlags, is_normalised, time_granularity
from catar.goodbye import HASH_KEY, ChildTable
from catar.grammar import (
    DIR,
    MAX_DEPTH,
    METADATA,
    REG,
    TAILS,
    check_device,
    check_entry,
    check_name,
    check_node,
    check_payload,
    check_projid,
    check_xattr,
    metadata_cost,
)
from catar.records import AclEntry, Node

try:
    from catar._encode import fill
except ImportError:  # built without a C compiler
    from catar.filling import fill

__all__ = ["Encoder", "metadata_records"]

_HEADER_PACK = layouts.HEADER.pack
_ENTRY_PACK = layouts.ENTRY.head.pack
_ENTRY_TYPE = layouts.ENTRY.type
_FILENAME_TYPE = layouts.FILENAME.type
_PAYLOAD_TYPE = layouts.PAYLOAD.type
_LINK_TYPE = layouts.SYMLINK.type
_WHOLE_MODES = int(FeatureFlags.PERMISSIONS | FeatureFlags.ACL)
_LONGEST_NAME = layouts.FILENAME.largest - 17


def _string(row: layouts.Layout, value: bytes) -> tuple[int, bytes]:
    if b"\0" in value:
        raise UsageError(f"{row.name} record cannot hold a NUL: {value!r}")
    return row.type, row.pack(tail=value + b"\0")


def _acl(row: layouts.Layout, entries: Iterable[AclEntry]) -> list[tuple[int, bytes]]:
    out = []
    for entry in entries:
        if entry.name is not None and b"\0" in entry.name:
            raise UsageError(f"{row.name} record cannot hold a NUL: {entry.name!r}")
        tail = b"" if entry.name is None else entry.name + b"\0"
        out.append((row.type, row.pack(entry.id, entry.permissions, tail=tail)))
    return out


def _or_absent(value: int | None) -> int:
    return layouts.UINT64_MAX if value is None else value


def metadata_records(node: Node) -> list[tuple[int, bytes]]:
    """The records between a node's ENTRY and its tail, as `(type, bytes)`, in the order of the format.

    :raises UsageError: when a value cannot be stored
    """
    out: list[tuple[int, bytes]] = []
    if node.user is not None:
        out.append(_string(layouts.USER, node.user))
    if node.group is not None:
        out.append(_string(layouts.GROUP, node.group))
    for attribute in node.xattrs:
        reason = check_xattr(attribute.name, attribute.value)
        if reason:
            raise UsageError(reason)
        out.append((layouts.XATTR.type, layouts.XATTR.pack(tail=attribute.name + b"\0" + attribute.value)))
    if (
        node.acl_users
        or node.acl_groups
        or node.acl_group_obj is not None
        or node.acl_default is not None
        or node.acl_default_users
        or node.acl_default_groups
    ):
        out += _acl_records(node)
    if node.selinux is not None:
        out.append(_string(layouts.SELINUX, node.selinux))
    if node.fcaps is not None:
        out.append((layouts.FCAPS.type, layouts.FCAPS.pack(tail=node.fcaps)))
    if node.projid:
        reason = check_projid(node.projid)
        if reason:
            raise UsageError(reason)
        out.append((layouts.QUOTA_PROJID.type, layouts.QUOTA_PROJID.pack(node.projid)))
    return out


def _acl_records(node: Node) -> list[tuple[int, bytes]]:
    out = _acl(layouts.ACL_USER, node.acl_users) + _acl(layouts.ACL_GROUP, node.acl_groups)
    if node.acl_group_obj is not None:
        out.append((layouts.ACL_GROUP_OBJ.type, layouts.ACL_GROUP_OBJ.pack(node.acl_group_obj)))
    default = node.acl_default
    if default is not None:
        fields = (default.user_obj, default.group_obj, default.other, default.mask)
        out.append((layouts.ACL_DEFAULT.type, layouts.ACL_DEFAULT.pack(*map(_or_absent, fields))))
    out += _acl(layouts.ACL_DEFAULT_USER, node.acl_default_users)
    out += _acl(layouts.ACL_DEFAULT_GROUP, node.acl_default_groups)
    return out


class Encoder:
    """Serialises one tree, node by node.

    :param feature_flags: the archive's flag word, normalised
    :param any_top: allow a top node that is not a directory (the serialisation of one inode, as HLDigest takes it)
    :raises UsageError: for flags that are not normalised; every method raises it when called out of order
    """

    def __init__(self, feature_flags: int, *, any_top: bool = False) -> None:
        if not is_normalised(feature_flags):
            raise UsageError(f"feature flags {feature_flags:#x} are not normalised")
        self.feature_flags = int(feature_flags)
        self.offset = 0
        """Bytes written so far."""
        self._any_top = any_top
        self._open: list[ChildTable] = []
        self._started = False
        self._payload_left = 0
        self._granularity = time_granularity(self.feature_flags)
        links = _LINK_TYPE if self.feature_flags & FeatureFlags.SYMLINKS else 0
        self._types = (_FILENAME_TYPE, _ENTRY_TYPE, _PAYLOAD_TYPE, links)

    @property
    def complete(self) -> bool:
        """Whether the archive is whole."""
        return self._started and not self._open and not self._payload_left

    def begin(self, node: Node) -> bytes:
        """The bytes of a node up to its children or payload. Sets `start`, `offset` and `payload_offset` of it."""
        reason = self._misplaced(node) or check_entry(
            node.mode, node.flags, node.uid, node.gid, node.mtime, self.feature_flags
        )
        if reason:
            raise UsageError(reason)
        start = self.offset
        filename = b""
        if self._open:
            filename = _HEADER_PACK(17 + len(node.name), _FILENAME_TYPE) + node.name + b"\0"
        try:
            entry = _ENTRY_PACK(
                64, _ENTRY_TYPE, self.feature_flags, node.mode, node.flags, node.uid, node.gid, node.mtime
            )
            out = filename + entry + self._metadata(node) + self._tail(node)
        except struct.error as error:
            raise UsageError(
                f"a number of node {node.name!r} does not fit an unsigned 64-bit field"
            ) from error
        # Nothing may be noted before this line: a node that was refused must leave no trace.
        if self._open:
            self._open[-1].add(node.name, start)
        self._started = True
        node.start = start
        node.offset = start + len(filename)
        self.offset = start + len(out)
        kind = node.mode & 0o170000
        if kind == DIR:
            self._open.append(ChildTable(node.offset))
        elif kind == REG:
            node.payload_offset = self.offset
            self._payload_left = node.size
        return out

    def _misplaced(self, node: Node) -> str | None:
        if self._payload_left:
            return f"{self._payload_left} bytes of payload are still to come"
        if not self._open:
            if self._started:
                return "the archive is complete"
            if node.name:
                return "the top node has no name"
            return None if node.is_dir or self._any_top else "the top node must be a directory"
        if len(self._open) >= MAX_DEPTH:
            return f"directories nest deeper than {MAX_DEPTH} levels, the most that casync can read"
        parent = self._open[-1]
        if parent.starts and node.name <= parent.last_name:
            return f"{node.name!r} comes after {parent.last_name!r}, but names must rise"
        if len(node.name) > _LONGEST_NAME:
            return f"file name of {len(node.name)} bytes is too long"
        return check_name(node.name)

    def _metadata(self, node: Node) -> bytes:
        records = metadata_records(node)
        if not records:
            return b""
        reason = check_node(node, self.feature_flags)
        if reason:
            raise UsageError(reason)
        if sum(metadata_cost(len(packed)) for _, packed in records) > layouts.NODE_METADATA_MAX:
            raise UsageError("one node has too much metadata")
        kind = node.mode & 0o170000
        for type_, packed in records:
            row = layouts.BY_TYPE[type_]
            rule = METADATA[type_]
            if kind not in rule.kinds or (rule.needs and not self.feature_flags & rule.needs):
                raise UsageError(f"{row.name} record is not allowed here")
            if not row.smallest <= len(packed) <= row.largest:
                raise UsageError(f"{row.name} record of {len(packed)} bytes is out of bounds")
        return b"".join(packed for _, packed in records)

    def _tail(self, node: Node) -> bytes:
        kind = node.mode & 0o170000
        if kind == REG:
            reason = check_payload(node.size)
            if reason:
                raise UsageError(reason)
            return _HEADER_PACK(16 + node.size, _PAYLOAD_TYPE)
        tail = TAILS[kind]
        if tail == layouts.SYMLINK.type:
            target = node.target or b""
            if not 0 < len(target) < 4096 or b"\0" in target:
                raise UsageError(f"symlink target of {len(target)} bytes cannot be stored")
            return _string(layouts.SYMLINK, target)[1]
        if tail == layouts.DEVICE.type:
            if node.device is None:
                raise UsageError("device node without a device number")
            reason = check_device(*node.device)
            if reason:
                raise UsageError(reason)
            return layouts.DEVICE.pack(*node.device)
        return b""

    def advance(self, count: int) -> None:
        """Tell that the caller wrote `count` payload bytes of the current file."""
        if not 0 <= count <= self._payload_left:
            raise UsageError(f"{count} bytes of payload, but only {self._payload_left} are left")
        self._payload_left -= count
        self.offset += count

    def fill(self, room: memoryview, begin: int, names: bytes, rows: bytes, owners: Owners) -> int:
        """Write the records of ordinary nodes whose contents lie in `room` already, see `catar.filling`.

        :param begin: offset in `room` of the first node; the next byte of the archive
        :param names: each followed by a NUL
        :param rows: `catar.filling.COLUMNS` numbers for each
        :returns: offset in `room` behind the last node
        """
        reason = self._misplaced_run()
        if reason:
            raise UsageError(reason)
        table = self._open[-1]
        try:
            end, starts, hashes, last_name = fill(
                room,
                begin,
                self.offset,
                names,
                rows,
                self.feature_flags,
                self._granularity,
                owners.rows,
                self._types,
                table.last_name,
                HASH_KEY,
            )
        except ValueError as error:
            raise UsageError(str(error)) from error
        table.add_run(starts, hashes, last_name)
        self.offset += end - begin
        return end

    def splice(self, name: bytes, size: int) -> None:
        """Tell that the caller writes a whole child, as an encoder with the same flags once wrote it.

        A node's bytes do not depend on where it stands, nor do those of what is in it.

        :param size: in bytes, from its FILENAME record to the end of all that is in it
        """
        reason = self._misplaced(Node(name, 0)) if self._open else "only a child can be written whole"
        if reason:
            raise UsageError(reason)
        self._open[-1].add(name, self.offset)
        self.offset += size

    @property
    def child_starts(self) -> array[int]:
        """Where the children of the innermost open directory begin so far."""
        return self._open[-1].starts

    def _misplaced_run(self) -> str | None:
        if not self._open or len(self._open) >= MAX_DEPTH or self._payload_left:
            return "no place for children here"
        if not self.feature_flags & _WHOLE_MODES:
            return "modes of ordinary nodes are not stored as they are"
        return None

    def end_directory(self) -> bytes:
        """The GOODBYE record of the innermost open directory."""
        if not self._open or self._payload_left:
            raise UsageError("no directory to end here")
        out = self._open.pop().record(self.offset)
        self.offset += len(out)
        return out
