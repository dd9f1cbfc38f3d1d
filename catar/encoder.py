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
    check_entry,
    check_name,
    check_node,
    check_payload,
    metadata_cost,
)
from catar.layouts import ENTRY, FILENAME, PAYLOAD
from catar.metadata import metadata_records, tail_record
from catar.records import Node

try:
    from catar._filling import fill
except ImportError:  # built without a C compiler
    from catar.filling import fill

__all__ = ["Encoder"]

_pack_header = layouts.HEADER.writer("size", "type")
_pack_entry = ENTRY.head.writer("feature_flags", "mode", "flags", "uid", "gid", "mtime")
# Looked up for every node, as are the writers.
_FILENAME_HEAD, _FILENAME_TYPE, _FILENAME_ROOM = FILENAME.head.size, FILENAME.type, FILENAME.room
_PAYLOAD_HEAD, _PAYLOAD_TYPE = PAYLOAD.head.size, PAYLOAD.type
_WHOLE_MODES = int(FeatureFlags.PERMISSIONS | FeatureFlags.ACL)


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
        self._symlinks = bool(self.feature_flags & FeatureFlags.SYMLINKS)

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
            size = _FILENAME_HEAD + len(node.name) + 1
            filename = _pack_header(size, _FILENAME_TYPE) + node.name + b"\0"
        try:
            entry = _pack_entry(self.feature_flags, node.mode, node.flags, node.uid, node.gid, node.mtime)
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
        if len(node.name) >= _FILENAME_ROOM:
            return f"file name of {len(node.name)} bytes is too long"
        return check_name(node.name)

    def _metadata(self, node: Node) -> bytes:
        if not node.has_metadata:
            return b""
        records = metadata_records(node)
        reason = check_node(node, self.feature_flags)
        if node.projid == layouts.ID_INVALID and not self._any_top:
            reason = f"quota project id {node.projid} is not valid"
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
            if not row.accepts(len(packed)):
                raise UsageError(f"{row.name} record of {len(packed)} bytes is out of bounds")
        return b"".join(packed for _, packed in records)

    def _tail(self, node: Node) -> bytes:
        if node.mode & 0o170000 != REG:
            return tail_record(node)
        reason = check_payload(node.size)
        if reason:
            raise UsageError(reason)
        return _pack_header(_PAYLOAD_HEAD + node.size, _PAYLOAD_TYPE)

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
        :param rows: a `FILE_ROW` of `catar.schema` for each
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
                self._symlinks,
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
