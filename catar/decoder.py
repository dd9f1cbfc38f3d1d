"""The reading half: bytes in, nodes out. Sans-IO: it neither reads files nor writes any.

    >>> decoder = Decoder()
    >>> decoder.receive(data)           # b"" says that there is no more
    >>> event = decoder.next_event()    # Node, Data, DirectoryEnd, END, or NEED_DATA

A `Node` comes once all its metadata is known; its payload follows as `Data`, its children as further events up to their
`DirectoryEnd`. Everything is checked before it is handed out: sizes against limits before anything is kept, names
against escape, order against the grammar, and each directory's lookup table against what was read, item by item.
Nothing is allocated from a length that a record claims.

Runs of ordinary nodes (files, directories and symlinks without attributes) are parsed by `_decoder.c` in one call, when
it was built; it accepts nothing that the code here, its twin, would not.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Literal, TypeAlias

from catar import layouts
from catar.errors import FormatError
from catar.flags import is_normalised
from catar.goodbye import ChildTable, record_size
from catar.grammar import DIR, TAILS, check_entry, check_name, check_payload
from catar.inbox import Inbox
from catar.layouts import DEPTH_MAX, ENTRY, FILENAME, GOODBYE, HEADER, PAYLOAD
from catar.metadata import MetadataReader, read_tail
from catar.records import END, NEED_DATA, Data, DirectoryEnd, Node, Sentinel
from catar.runs import RowEvent, Run, find_run, run_events

__all__ = ["END", "NEED_DATA", "Decoder", "Event", "Sentinel"]

Event: TypeAlias = Node | Data | DirectoryEnd | Sentinel

# Looked up for every node, as are the readers.
_HEADER_SIZE = HEADER.size
_ENTRY_SIZE = ENTRY.head.size
_ENTRY_TYPE, _FILENAME_TYPE = ENTRY.type, FILENAME.type
_PAYLOAD_TYPE, _GOODBYE_TYPE = PAYLOAD.type, GOODBYE.type
_read_header = HEADER.reader("size", "type")
_read_entry = ENTRY.body.reader("feature_flags", "mode", "flags", "uid", "gid", "mtime")


class _State(Enum):
    ENTRY = "the node's ENTRY"
    METADATA = "metadata or the end of the node"
    CHILDREN = "FILENAME or GOODBYE"
    END = "nothing"


class Decoder:
    """Parses one archive, or the part of one that starts at some node's ENTRY.

    :param feature_flags: what every ENTRY must have (an index says so); None takes them from the first ENTRY
    :param offset: where the input starts within the archive, in bytes; only for reporting
    :param any_top: accept a top node that is not a directory (after a seek to one)
    :param native: False leaves `_decoder.c` out even where it was built; the nodes are the same
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
        self._inbox = Inbox(offset)
        self._state = _State.ENTRY
        self._open: list[ChildTable] = []
        self._name = b""
        self._start = offset
        self._node: Node | None = None
        self._metadata: MetadataReader | None = None  # of the node, when it has any
        self._error: FormatError | None = None
        self.payload_left = 0
        """Payload bytes of the current file that are still to come."""
        self._native = native
        # Events of a run that were not handed out yet, and their number; the inbox keeps its buffer meanwhile.
        self._events: Iterator[RowEvent] = iter(())
        self._events_left = 0
        self._refused_at = -1  # where `_decoder.c` found nothing for itself

    # Input

    def receive(self, data: bytes) -> None:
        """Give the decoder the next bytes of the archive; empty when there are no more."""
        self._inbox.receive(data)

    @property
    def offset(self) -> int:
        """Archive offset of the next byte to be used."""
        return self._inbox.offset

    @property
    def trailing_data(self) -> bytes:
        """What was received after the end of the archive."""
        return self._inbox.rest()

    def unread(self) -> int:
        """Forget what was received and not used yet, so that a source that can go back gives it again, with more.

        :returns: how many bytes that is
        """
        return self._inbox.unread()

    def skip_payload(self) -> int:
        """Drop the rest of the current file's payload.

        :returns: bytes of it that were not received yet; the caller passes over them in its source, the decoder
            takes them as passed
        """
        left, self.payload_left = self.payload_left, 0
        inbox = self._inbox
        if left <= len(inbox.data) - inbox.pos and self._open:
            inbox.pos += left
            return 0
        missing = inbox.skip(left)
        if not self._open and self._state is _State.CHILDREN:
            self._state = _State.END
        return missing

    @property
    def is_between_entries(self) -> bool:
        """Whether the next record is an entry's FILENAME or a directory's GOODBYE, and all before it was told."""
        return self._state is _State.CHILDREN and not self._events_left and not self.payload_left

    def pass_over(self, name: bytes, size: int) -> int:
        """Take it that an entry of the innermost directory comes next, with all that is in it, and drop it unseen.

        Only where `is_between_entries`, and for somebody who knows these bytes from elsewhere.

        :param size: of all its records, from FILENAME to the end
        :returns: as `skip_payload`
        :raises FormatError: there was an entry of that name
        """
        table = self._open[-1]
        if table.starts and table.is_duplicate(name):
            raise self._bad(f"file name {name!r} occurs twice in one directory")
        table.add(name, self.offset)
        return self._inbox.skip(size)

    @property
    def received(self) -> int:
        """Offset of the first byte that was not received yet."""
        return self._inbox.end

    def without_run(self) -> None:
        """Let the next record be read by itself, since what follows it will not come."""
        self._refused_at = self.offset

    def end_node(self) -> Node | None:
        """The node of which the metadata was read last, for somebody who knows that an entry follows it.

        :returns: None where none is under way, or something of it is missing
        """
        node = self._node
        complete = self._state is _State.METADATA and not self._inbox.has(1)
        return self._finish(node) if complete and node is not None and TAILS[node.kind] is None else None

    def _starved(self) -> Sentinel:
        if self._inbox.ended:
            left = self.payload_left
            what = f"{left} bytes of payload" if left else self._state.value
            raise self._bad(f"archive is truncated: it ends before {what}", self._inbox.end)
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
        if self._events_left:
            return self._next_of_run()
        inbox = self._inbox
        while True:
            if self._state is _State.END:
                return END
            if not inbox.has(_HEADER_SIZE):
                node = self._node
                if inbox.ended and node is not None and not self._open and self._ends_without_tail(node):
                    return self._finish(node)
                return self._starved()
            size, type_ = _read_header(inbox.data, inbox.pos)
            if size < _HEADER_SIZE or size == layouts.UINT64_MAX:
                raise self._bad(f"record size {size} is not valid")
            if self._state is _State.METADATA:
                event = self._after_entry(size, type_)
            elif self._state is _State.ENTRY:
                event = self._entry(size, type_)
            else:
                if self._native and self._refused_at != inbox.base + inbox.pos:
                    run = self._find_run()
                    if run is NEED_DATA:
                        return NEED_DATA
                    if run is not None:
                        self._events, self._events_left = run_events(run), len(run)
                        return self._next_of_run()
                    self._refused_at = inbox.base + inbox.pos
                event = self._child(size, type_)
            if event is not None:
                return event

    def _next_data(self) -> Event:
        view = self._inbox.take_some(self.payload_left)
        if not view:
            return self._starved()
        self.payload_left -= len(view)
        if not self.payload_left and not self._open:
            self._state = _State.END
        return Data(view)

    def _entry(self, size: int, type_: int) -> Event | None:
        if type_ != _ENTRY_TYPE or size != _ENTRY_SIZE:
            raise self._bad("not an ENTRY record where a node must begin")
        inbox = self._inbox
        if not inbox.has(size):
            return self._starved()
        features, mode, flags, uid, gid, mtime = _read_entry(inbox.data, inbox.pos + _HEADER_SIZE)
        if features != self.feature_flags:
            self._first_flags(features)
        reason = check_entry(mode, flags, uid, gid, mtime, features)
        if reason:
            raise self._bad(reason)
        node = Node(self._name, mode, flags, uid, gid, mtime)
        node.start = self._start
        node.offset = inbox.base + inbox.pos
        if not self._open and not self._any_top and not node.is_dir:
            raise self._bad("the top node is not a directory")
        if len(self._open) >= DEPTH_MAX:
            raise self._bad(f"directories nest deeper than {DEPTH_MAX} levels")
        self._node = node
        self._metadata = None
        self._state = _State.METADATA
        inbox.pos += size
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

    def _after_entry(self, size: int, type_: int) -> Event | None:
        node = self._node
        assert node is not None
        tail = TAILS[node.mode & 0o170000]
        if type_ == tail:
            return self._tail(node, size, type_)
        if tail is None and type_ in (_FILENAME_TYPE, _GOODBYE_TYPE):
            return self._finish(node)
        assert self.feature_flags is not None
        if self._metadata is None:
            self._metadata = MetadataReader(node, self.feature_flags)
        reason = self._metadata.refuses(type_, size)
        if reason:
            raise self._bad(reason)
        inbox = self._inbox
        if not inbox.has(size):
            return self._starved()
        try:
            self._metadata.add(type_, bytes(inbox.data[inbox.pos + _HEADER_SIZE : inbox.pos + size]))
        except ValueError as error:
            raise self._bad(str(error)) from None
        inbox.pos += size
        return None

    def _tail(self, node: Node, size: int, type_: int) -> Event | None:
        inbox = self._inbox
        if type_ == _PAYLOAD_TYPE:
            node.size = size - PAYLOAD.head.size
            reason = check_payload(node.size)
            if reason:
                raise self._bad(reason)
            inbox.pos += PAYLOAD.head.size
            node.payload_offset = inbox.base + inbox.pos
            self.payload_left = node.size
            return self._finish(node)
        layout = layouts.BY_TYPE[type_]
        if not layout.accepts(size):
            raise self._bad(f"{layout.name} record of {size} bytes is out of bounds")
        if not inbox.has(size):
            return self._starved()
        try:
            read_tail(node, type_, bytes(inbox.data[inbox.pos + _HEADER_SIZE : inbox.pos + size]))
        except ValueError as error:
            raise self._bad(str(error)) from None
        inbox.pos += size
        return self._finish(node)

    def _finish(self, node: Node) -> Node:
        if self._metadata is not None:
            reason = self._metadata.finish()
            if reason:
                raise self._bad(reason, node.offset)
        self._node = None
        if node.mode & 0o170000 == DIR:
            self._open.append(ChildTable(node.offset))
        self._state = _State.CHILDREN
        if not self._open and not self.payload_left:
            self._state = _State.END
        return node

    def _child(self, size: int, type_: int) -> Event | None:
        if type_ == _GOODBYE_TYPE:
            return self._goodbye(size)
        if type_ != _FILENAME_TYPE:
            raise self._bad("neither a FILENAME nor a GOODBYE record follows in this directory")
        if not FILENAME.smallest <= size <= FILENAME.largest:
            raise self._bad(f"FILENAME record of {size} bytes is out of bounds")
        inbox = self._inbox
        if not inbox.has(size):
            return self._starved()
        last = inbox.pos + size - 1
        if inbox.data[last]:
            raise self._bad("file name without its NUL")
        name = bytes(inbox.data[inbox.pos + _HEADER_SIZE : last])
        reason = check_name(name)
        if reason:
            raise self._bad(reason)
        table = self._open[-1]
        # Names out of order are not casync's, but desync writes them from tar input: only duplicates are wrong.
        if table.starts and table.is_duplicate(name):
            raise self._bad(f"file name {name!r} occurs twice in one directory")
        self._start = inbox.base + inbox.pos
        table.add(name, self._start)
        self._name = name
        inbox.pos += size
        self._state = _State.ENTRY
        return None

    def _goodbye(self, size: int) -> Event:
        table = self._open[-1]
        inbox, offset = self._inbox, self.offset
        if size != record_size(len(table)):
            raise self._bad(
                f"GOODBYE record of {size} bytes does not fit a directory of {len(table)} entries"
            )
        if not inbox.has(size):
            return self._starved()
        if inbox.data[inbox.pos : inbox.pos + size] != table.record(offset):
            raise self._bad("the lookup table of this directory does not match its entries")
        self._open.pop()
        inbox.pos += size
        if not self._open:
            self._state = _State.END
        return DirectoryEnd(offset, offset + size, table.entry_offset)

    # Runs of ordinary nodes

    def next_run(self) -> Run | Literal[Sentinel.NEED_DATA] | None:
        """The ordinary nodes and ends of directories at the read position, parsed in one call.

        An alternative to `next_event`, for callers that know what to do with a `Run`. When its last node is a file of
        which more payload is to come (`Run.left`), that is taken by `next_event` or `skip_payload`, as ever.

        :returns: None where the next event is for `next_event` to tell
        """
        if self._state is not _State.CHILDREN or self._events_left or self.payload_left:
            return None
        run = self._find_run()
        if isinstance(run, Run):
            self._inbox.pos = run.end
            self.payload_left = run.left
        return run

    def _find_run(self) -> Run | Literal[Sentinel.NEED_DATA] | None:
        """What `_decoder.c` parses at the read position, which stays; directories are opened and closed at once."""
        if not self._native or self.feature_flags is None:
            return None
        run = find_run(self._inbox, self.feature_flags, self._open)
        if not self._open:
            self._state = _State.END
        return run

    def _next_of_run(self) -> Node | DirectoryEnd:
        event, self._inbox.pos = next(self._events)
        self._events_left -= 1
        if type(event) is Node:
            self.payload_left = event.size
        return event
