"""The reading half: bytes in, nodes out. Sans-IO: it neither reads files nor writes any.

    >>> decoder = Decoder()
    >>> decoder.receive(data)           # b"" says that there is no more
    >>> event = decoder.next_event()    # Node, Data, DirectoryEnd, END, or NEED_DATA

A `Node` comes once all its metadata is known; its payload follows as `Data`, its children as further events up to their
`DirectoryEnd`. Everything is checked before it is handed out: sizes against limits before anything is kept, names
against escape, order against the grammar, and each directory's lookup table against what was read, item by item.
Nothing is allocated from a length that a record claims.

Runs of ordinary nodes (files and symlinks without attributes) are parsed by `_native.c` in one call, when it was built;
it accepts nothing that the code here would not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Final, Literal, TypeAlias

from catar import layouts
from catar.errors import FormatError
from catar.flags import FeatureFlags, is_normalised
from catar.goodbye import HASH_KEY, ChildTable, record_size
from catar.grammar import (
    DIR,
    MAX_DEPTH,
    METADATA,
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
from catar.records import AclDefault, AclEntry, Data, DirectoryEnd, Node, Run, XAttr

try:
    from catar._native import ordinary_nodes, parse_tree
except ImportError:  # built without a C compiler
    ordinary_nodes = parse_tree = None  # type: ignore[assignment]

__all__ = ["END", "NEED_DATA", "Decoder", "Event", "Sentinel"]


class Sentinel(Enum):
    """Events that carry nothing."""

    NEED_DATA = "NEED_DATA"
    END = "END"


NEED_DATA: Final = Sentinel.NEED_DATA
"""Nothing more can be said until `receive` is called again."""
END: Final = Sentinel.END
"""The archive is complete; what follows in the input is in `Decoder.trailing_data`."""

Event: TypeAlias = Node | Data | DirectoryEnd | Sentinel

_HEADER = layouts.HEADER.unpack_from
_ENTRY = layouts.ENTRY.body.unpack_from
_ENTRY_TYPE = layouts.ENTRY.type
_FILENAME_TYPE = layouts.FILENAME.type
_PAYLOAD_TYPE = layouts.PAYLOAD.type
_GOODBYE_TYPE = layouts.GOODBYE.type
_FILENAME_MAX = layouts.FILENAME.largest


_NATIVE_TYPES = (
    layouts.FILENAME.type,
    layouts.ENTRY.type,
    layouts.USER.type,
    layouts.GROUP.type,
    layouts.PAYLOAD.type,
    layouts.SYMLINK.type,
)
_NATIVE_LIMITS = (layouts.FILENAME.largest, layouts.USER.largest, layouts.SYMLINK.largest)
_NATIVE_NEEDS = int(FeatureFlags.NSEC_TIME | FeatureFlags.UIDS_32BIT | FeatureFlags.SYMLINKS)
_NATIVE_MODES = int(FeatureFlags.PERMISSIONS | FeatureFlags.ACL)
_NATIVE_RUN = 256
_TREE_TYPES = (*_NATIVE_TYPES, layouts.GOODBYE.type, layouts.GOODBYE_TAIL_MARKER)
_TREE_LIMITS = (*_NATIVE_LIMITS, MAX_DEPTH)
_TREE_RUN = 4096
_ORDINARY_MAX = 12 << 10
"""More than all records of an ordinary node have together, in bytes."""
_USER_NAMES = int(FeatureFlags.USER_NAMES)

_Ordinary: TypeAlias = tuple[
    bytes, int, int, int, int, bytes | None, bytes | None, bytes | None, int, int, int, int, int
]


class _State(Enum):
    ENTRY = "the node's ENTRY"
    METADATA = "metadata or the end of the node"
    CHILDREN = "FILENAME or GOODBYE"
    END = "nothing"


def _string(body: bytes, what: str) -> bytes:
    if body[-1] or body.find(0) != len(body) - 1:
        raise ValueError(f"{what} does not end in its only NUL")
    return body[:-1]


def _acl_entry(body: bytes) -> AclEntry:
    id_, permissions = layouts.ACL_USER.body.unpack_from(body)
    name = _string(body[16:], "ACL name") if len(body) > 16 else None
    return AclEntry(id_, permissions, name)


def _absent(value: int) -> int | None:
    return None if value == layouts.UINT64_MAX else value


def _user(node: Node, body: bytes) -> None:
    node.user = _string(body, "user name")


def _group(node: Node, body: bytes) -> None:
    node.group = _string(body, "group name")


def _xattr(body: bytes) -> XAttr:
    name, nul, value = body.partition(b"\0")
    reason = check_xattr(name, value) if nul else "extended attribute name without its NUL"
    if reason:
        raise ValueError(reason)
    return XAttr(name, value)


def _acl_group_obj(node: Node, body: bytes) -> None:
    (node.acl_group_obj,) = layouts.ACL_GROUP_OBJ.body.unpack(body)


def _acl_default(node: Node, body: bytes) -> None:
    node.acl_default = AclDefault(*map(_absent, layouts.ACL_DEFAULT.body.unpack(body)))


def _selinux(node: Node, body: bytes) -> None:
    node.selinux = _string(body, "SELinux label")


def _fcaps(node: Node, body: bytes) -> None:
    node.fcaps = body


def _projid(node: Node, body: bytes) -> None:
    (node.projid,) = layouts.QUOTA_PROJID.body.unpack(body)
    reason = check_projid(node.projid)
    if reason:
        raise ValueError(reason)


_PARSERS: dict[int, Callable[[Node, bytes], None]] = {
    layouts.USER.type: _user,
    layouts.GROUP.type: _group,
    layouts.ACL_GROUP_OBJ.type: _acl_group_obj,
    layouts.ACL_DEFAULT.type: _acl_default,
    layouts.SELINUX.type: _selinux,
    layouts.FCAPS.type: _fcaps,
    layouts.QUOTA_PROJID.type: _projid,
}
"""Records of which a node has one at most: how to read them into it."""

_REPEATED: dict[int, tuple[str, Callable[[bytes], XAttr | AclEntry]]] = {
    layouts.XATTR.type: ("xattrs", _xattr),
    layouts.ACL_USER.type: ("acl_users", _acl_entry),
    layouts.ACL_GROUP.type: ("acl_groups", _acl_entry),
    layouts.ACL_DEFAULT_USER.type: ("acl_default_users", _acl_entry),
    layouts.ACL_DEFAULT_GROUP.type: ("acl_default_groups", _acl_entry),
}
"""Records that may repeat: the node's field, and how to read one. They are gathered in lists until the node is whole:
growing its tuples one by one would take time with the square of their number."""


class Decoder:
    """Parses one archive, or the part of one that starts at some node's ENTRY.

    :param feature_flags: what every ENTRY must have (an index says so); None takes them from the first ENTRY
    :param offset: where the input starts within the archive, in bytes; only for reporting
    :param any_top: accept a top node that is not a directory (after a seek to one)
    :param native: False leaves `_native.c` out even where it was built; the nodes are the same
    """

    def __init__(
        self,
        feature_flags: int | None = None,
        *,
        offset: int = 0,
        any_top: bool = False,
        native: bool = True,
    ) -> None:
        self.feature_flags = feature_flags
        """The archive's flag word; None until the first ENTRY was read."""
        self._any_top = any_top
        self._buf = b""
        self._pos = 0
        self._parts: list[bytes] = []
        self._parts_size = 0
        self._base = offset  # archive offset of self._buf[0]
        self._eof = False
        self._state = _State.ENTRY
        self._open: list[ChildTable] = []
        self._name = b""
        self._start = offset
        self._node: Node | None = None
        self._rank = 0
        self._repeated: dict[str, list[XAttr | AclEntry]] = {}
        self._metadata_size = 0
        self._error: FormatError | None = None
        self.payload_left = 0
        """Payload bytes of the current file that are still to come."""
        self._native = native and ordinary_nodes is not None
        # Parsed ahead, with offsets into _buf, which stays as it is while there are any.
        self._run: deque[_Ordinary] = deque()

    # Input

    def receive(self, data: bytes) -> None:
        """Give the decoder the next bytes of the archive; empty when there are no more."""
        if not data:
            self._eof = True
        elif self._pos == len(self._buf) and not self._parts:
            self._base += self._pos
            self._buf = data
            self._pos = 0
        else:
            self._parts.append(data)
            self._parts_size += len(data)

    @property
    def offset(self) -> int:
        """Archive offset of the first byte that no event has accounted for."""
        return self._base + self._pos

    @property
    def depth(self) -> int:
        """Directories open at this moment."""
        return len(self._open)

    @property
    def trailing_data(self) -> bytes:
        """What was received after the end of the archive."""
        return bytes(self._buf[self._pos :]) + b"".join(self._parts)

    def unread(self) -> int:
        """Forget what was received and not used yet, so that a source that can go back gives it again, with more.

        :returns: how many bytes that is
        """
        count = len(self._buf) - self._pos + self._parts_size
        self._base += self._pos
        self._buf = b""
        self._pos = self._parts_size = 0
        self._parts.clear()
        return count

    def skip_payload(self) -> int:
        """Drop the rest of the current file's payload.

        :returns: bytes of it that were not received yet; the caller passes over them in its source, the decoder
            takes them as passed
        """
        left = self.payload_left
        self.payload_left = 0
        if left <= len(self._buf) - self._pos and self._open:
            self._pos += left
            return 0
        self._join()
        here = min(left, len(self._buf) - self._pos)
        self._pos += here
        if here < left:
            self._base += left - here
        if not self._open and self._state is _State.CHILDREN:
            self._state = _State.END
        return left - here

    def _join(self) -> None:
        """Make everything received one buffer."""
        if self._parts:
            rest = memoryview(self._buf)[self._pos :]
            self._base += self._pos
            self._pos = 0
            self._buf = b"".join((rest, *self._parts))
            self._parts.clear()
            self._parts_size = 0

    def _have(self, size: int) -> bool:
        """Whether `size` bytes of input stand at the read position; joins pieces only when they suffice."""
        if len(self._buf) - self._pos >= size:
            return True
        if len(self._buf) - self._pos + self._parts_size < size:
            return False
        self._join()
        return True

    def _starved(self) -> Sentinel:
        if self._eof:
            left = self.payload_left
            what = f"{left} bytes of payload" if left else self._state.value
            at = self._base + len(self._buf) + self._parts_size
            raise self._bad(f"archive is truncated: it ends before {what}", at)
        return NEED_DATA

    def _bad(self, reason: str, offset: int | None = None) -> FormatError:
        self._error = FormatError(reason, self.offset if offset is None else offset)
        return self._error

    # Events

    def next_event(self) -> Event:
        """The next event.

        :raises FormatError: when the bytes are not an archive, with the offset of what is wrong; from then on always
        """
        if self._error is not None:
            raise self._error
        if self.payload_left:
            return self._next_data()
        if self._run:
            return self._ordinary(self._run.popleft())
        while True:
            if self._state is _State.END:
                return END
            if not self._have(16):
                node = self._node
                if self._eof and node is not None and not self._open and self._ends_without_tail(node):
                    return self._finish(node)
                return self._starved()
            size, type_ = _HEADER(self._buf, self._pos)
            if size < 16 or size == layouts.UINT64_MAX:
                raise self._bad(f"record size {size} is not valid")
            if self._state is _State.METADATA:
                event = self._metadata(size, type_)
            elif self._state is _State.ENTRY:
                event = self._entry(size, type_)
            else:
                if self._native and type_ == _FILENAME_TYPE and self._parse_run():
                    return self._ordinary(self._run.popleft())
                event = self._child(size, type_)
            if event is not None:
                return event

    def _next_data(self) -> Event:
        if self._pos == len(self._buf):
            self._join()
            if self._pos == len(self._buf):
                return self._starved()
        view = memoryview(self._buf)[self._pos : self._pos + self.payload_left]
        self._pos += len(view)
        self.payload_left -= len(view)
        if not self.payload_left and not self._open:
            self._state = _State.END
        return Data(view)

    def _entry(self, size: int, type_: int) -> Event | None:
        if type_ != _ENTRY_TYPE or size != 64:
            raise self._bad("not an ENTRY record where a node must begin")
        if not self._have(64):
            return self._starved()
        features, mode, flags, uid, gid, mtime = _ENTRY(self._buf, self._pos + 16)
        if features != self.feature_flags:
            self._first_flags(features)
        reason = check_entry(mode, flags, uid, gid, mtime, features)
        if reason:
            raise self._bad(reason)
        node = Node(self._name, mode, flags, uid, gid, mtime)
        node.start = self._start
        node.offset = self._base + self._pos
        if not self._open and not self._any_top and not node.is_dir:
            raise self._bad("the top node is not a directory")
        if len(self._open) >= MAX_DEPTH:
            raise self._bad(f"directories nest deeper than {MAX_DEPTH} levels")
        self._node = node
        self._rank = 0
        self._metadata_size = 0
        self._state = _State.METADATA
        self._pos += 64
        return None

    def _first_flags(self, features: int) -> None:
        if self.feature_flags is not None:
            raise self._bad(
                f"feature flags {features:#x} differ from {self.feature_flags:#x}, which the rest has"
            )
        if not is_normalised(features):
            raise self._bad(f"feature flags {features:#x} are unknown or contradict one another")
        self.feature_flags = features

    def _ends_without_tail(self, node: Node) -> bool:
        return TAILS[node.kind] is None and not node.is_dir

    def _metadata(self, size: int, type_: int) -> Event | None:
        node = self._node
        assert node is not None
        kind = node.mode & 0o170000
        tail = TAILS[kind]
        if type_ == tail:
            return self._tail(node, size, type_)
        rule = METADATA.get(type_)
        if rule is None:
            if tail is None and type_ in (_FILENAME_TYPE, _GOODBYE_TYPE):
                return self._finish(node)
            raise self._bad(f"record type {type_:#018x} is unknown or not allowed here")
        row = layouts.BY_TYPE[type_]
        if rule.rank < self._rank or (rule.rank == self._rank and not rule.repeats):
            raise self._bad(f"{row.name} record is out of order")
        assert self.feature_flags is not None
        if kind not in rule.kinds or (rule.needs and not self.feature_flags & rule.needs):
            raise self._bad(f"{row.name} record is not allowed for this node")
        if not row.smallest <= size <= row.largest:
            raise self._bad(f"{row.name} record of {size} bytes is out of bounds")
        cost = metadata_cost(size)
        self._metadata_size += cost
        if self._metadata_size > layouts.NODE_METADATA_MAX:
            raise self._bad("one node has too much metadata")
        if not self._have(size):
            self._metadata_size -= cost
            return self._starved()
        self._rank = rule.rank
        body = bytes(self._buf[self._pos + 16 : self._pos + size])
        try:
            if rule.repeats:
                field, parse = _REPEATED[type_]
                self._repeated.setdefault(field, []).append(parse(body))
            else:
                _PARSERS[type_](node, body)
        except ValueError as error:
            raise self._bad(str(error)) from None
        self._pos += size
        return None

    def _tail(self, node: Node, size: int, type_: int) -> Event | None:
        if type_ == _PAYLOAD_TYPE:
            reason = check_payload(size - 16)
            if reason:
                raise self._bad(reason)
            self._pos += 16
            node.size = size - 16
            node.payload_offset = self._base + self._pos
            self.payload_left = node.size
            return self._finish(node)
        row = layouts.BY_TYPE[type_]
        if not row.smallest <= size <= row.largest:
            raise self._bad(f"{row.name} record of {size} bytes is out of bounds")
        if not self._have(size):
            return self._starved()
        body = bytes(self._buf[self._pos + 16 : self._pos + size])
        if type_ == layouts.SYMLINK.type:
            try:
                node.target = _string(body, "symlink target")
            except ValueError as error:
                raise self._bad(str(error)) from None
        else:
            major, minor = layouts.DEVICE.body.unpack(body)
            reason = check_device(major, minor)
            if reason:
                raise self._bad(reason)
            node.device = (major, minor)
        self._pos += size
        return self._finish(node)

    def _finish(self, node: Node) -> Node:
        assert self.feature_flags is not None
        if self._repeated:
            for field, found in self._repeated.items():
                setattr(node, field, tuple(found))
            self._repeated = {}
        if self._rank:
            reason = check_node(node, self.feature_flags)
            if reason:
                raise self._bad(reason, node.offset)
        self._node = None
        if node.mode & 0o170000 == DIR:
            self._open.append(ChildTable(node.offset))
        self._state = _State.CHILDREN
        if not self._open and not self.payload_left:
            self._state = _State.END
        return node

    def next_run(self) -> Run | Literal[Sentinel.NEED_DATA] | None:
        """The ordinary nodes and ends of directories at the read position, parsed in one call.

        An alternative to `next_event`, for callers that know what to do with a `Run`. When its last node is a file of
        which more payload is to come (`Run.left`), that is taken by `next_event` or `skip_payload`, as ever.

        :returns: None where the next event is for `next_event` to tell
        """
        if self._state is not _State.CHILDREN or self._run or self.payload_left or not self._is_native():
            return None
        rest = len(self._buf) - self._pos
        if self._parts and rest < _ORDINARY_MAX:
            self._join()
        rows, at, left, closed, opened, cut = parse_tree(
            self._buf,
            self._pos,
            _TREE_RUN,
            self._base,
            self.feature_flags or 0,
            bool((self.feature_flags or 0) & _USER_NAMES),
            self._open,
            ChildTable,
            HASH_KEY,
            _TREE_TYPES,
            _TREE_LIMITS,
        )
        if not rows:
            few = len(self._buf) - self._pos < _ORDINARY_MAX
            return NEED_DATA if cut and few and not self._eof and not self._parts else None
        self._pos = at
        self.payload_left = left
        if not self._open:
            self._state = _State.END
        return Run(self._buf, rows, self._base, closed, opened, left)

    def _is_native(self) -> bool:
        """Whether `_native.c` is there and knows the rules for this archive's feature flags."""
        features = self.feature_flags
        if features is None or features & _NATIVE_NEEDS != _NATIVE_NEEDS or not features & _NATIVE_MODES:
            self._native = False
        return self._native

    def _parse_run(self) -> bool:
        """Parse the ordinary nodes at the read position. :returns: whether there are any"""
        features = self.feature_flags
        table = self._open[-1]
        if features is None or not self._is_native():
            return False
        if table.names_seen is not None or len(self._open) >= MAX_DEPTH:
            return False
        nodes = ordinary_nodes(
            self._buf,
            self._pos,
            _NATIVE_RUN,
            features,
            bool(features & _USER_NAMES),
            table.last_name,
            HASH_KEY,
            _NATIVE_TYPES,
            _NATIVE_LIMITS,
        )
        self._run.extend(nodes)
        return bool(nodes)

    def _ordinary(self, row: _Ordinary) -> Node:
        """The node of a row that `_native.c` parsed."""
        name, mode, uid, gid, mtime, user, group, target, size, hash_, start, entry, payload = row
        base = self._base
        node = Node(name, mode, 0, uid, gid, mtime, user, group)
        node.start = base + start
        node.offset = base + entry
        if target is None:
            node.size = size
            node.payload_offset = base + payload
            self.payload_left = size
        else:
            node.target = target
        self._pos = payload
        self._open[-1].add_hashed(name, base + start, hash_)
        return node

    def _child(self, size: int, type_: int) -> Event | None:
        if type_ == _GOODBYE_TYPE:
            return self._goodbye(size)
        if type_ != _FILENAME_TYPE:
            raise self._bad("neither a FILENAME nor a GOODBYE record follows in this directory")
        if not 18 <= size <= _FILENAME_MAX:
            raise self._bad(f"FILENAME record of {size} bytes is out of bounds")
        if not self._have(size):
            return self._starved()
        name = bytes(self._buf[self._pos + 16 : self._pos + size - 1])
        if self._buf[self._pos + size - 1]:
            raise self._bad("file name without its NUL")
        reason = check_name(name)
        if reason:
            raise self._bad(reason)
        table = self._open[-1]
        # Names out of order are not casync's, but desync writes them from tar input: only duplicates are wrong.
        if table.starts and table.is_duplicate(name):
            raise self._bad(f"file name {name!r} occurs twice in one directory")
        self._start = self._base + self._pos
        table.add(name, self._start)
        self._name = name
        self._pos += size
        self._state = _State.ENTRY
        return None

    def _goodbye(self, size: int) -> Event:
        table = self._open[-1]
        offset = self.offset
        if size != record_size(len(table)):
            raise self._bad(
                f"GOODBYE record of {size} bytes does not fit a directory of {len(table)} entries"
            )
        if not self._have(size):
            return self._starved()
        if self._buf[self._pos : self._pos + size] != table.record(offset):
            raise self._bad("the lookup table of this directory does not match its entries")
        self._open.pop()
        self._pos += size
        if not self._open:
            self._state = _State.END
        return DirectoryEnd(offset, offset + size, table.entry_offset)
