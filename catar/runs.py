"""Runs of ordinary nodes and ends of directories: rows of numbers that point into a buffer, as `_decoder.c` gives them.

An ordinary node is a regular file, directory or symlink with nothing but ENTRY, perhaps USER and GROUP, and its tail.
What a row says as a node or an event is said here. Nothing is parsed in Python: where `_decoder.c` was not built or
does not know the rules there are no runs, and `catar.decoder`, its twin, goes node by node.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

from catar import layouts
from catar.flags import FeatureFlags
from catar.goodbye import HASH_KEY, ChildTable
from catar.inbox import Inbox
from catar.layouts import NODE_ROW, UINT64_MAX
from catar.records import NEED_DATA, DirectoryEnd, Node, Sentinel

try:
    from catar._decoder import parse_tree
except ImportError:  # built without a C compiler
    parse_tree = None  # type: ignore[assignment]

__all__ = [
    "ORDINARY_MAX",
    "Run",
    "count_nodes",
    "find_run",
    "node_of_row",
    "parse_run",
    "run_events",
    "run_paths",
]

RowEvent: TypeAlias = tuple[Node | DirectoryEnd, int]

ORDINARY_MAX = sum(
    layout.largest
    for layout in (layouts.FILENAME, layouts.ENTRY, layouts.USER, layouts.GROUP, layouts.SYMLINK)
)
"""What all records of an ordinary node have together at most, in bytes."""

_NEEDS = int(FeatureFlags.NSEC_TIME | FeatureFlags.UIDS_32BIT | FeatureFlags.SYMLINKS)
_MODES = int(FeatureFlags.PERMISSIONS | FeatureFlags.ACL)
_USER_NAMES = int(FeatureFlags.USER_NAMES)
_MOST = 4096

_COLUMNS = len(NODE_ROW.names)
_MODE = NODE_ROW.column("mode")
_SIZE = NODE_ROW.column("size")
_BEHIND = NODE_ROW.column("behind")

_rows = NODE_ROW.row_reader(
    *("mode", "name", "name_len", "uid", "gid", "mtime", "user", "user_len", "group", "group_len"),
    *("target", "target_len", "size", "start", "entry", "behind"),
)


class Run(NamedTuple):
    """Ordinary nodes and ends of directories that follow one another: one row each.

    :ivar buffer: what the places in the rows are offsets in
    :ivar rows: the rows, see `NODE_ROW` in `catar.schema`
    :ivar base: offset in the archive of the buffer's first byte
    :ivar closed: how many of the directories that were open before are closed
    :ivar opened: names of the directories that were opened and not closed, outermost first
    :ivar end: place in the buffer of what follows, or of a payload of which more is to come
    :ivar left: bytes of that payload, from its begin
    :ivar cut: whether it ends there because the buffer does
    """

    buffer: bytes | memoryview
    rows: bytes
    base: int
    closed: int
    opened: list[bytes]
    end: int
    left: int
    cut: bool

    def __len__(self) -> int:
        return len(self.rows) // NODE_ROW.size

    def payloads(self) -> list[tuple[int, int]]:
        """Begin and end in `buffer` of every regular file's payload, but for the one of which more is to come."""
        numbers = memoryview(self.rows).cast("Q")
        columns = (numbers[column::_COLUMNS] for column in (_MODE, _SIZE, _BEHIND))
        found = [
            (begin, begin + size)
            for mode, size, begin in zip(*columns, strict=True)
            if mode & 0o170000 == stat.S_IFREG
        ]
        return found[:-1] if self.left else found


def knows_rules(features: int) -> bool:
    """Whether `_decoder.c` is there and knows the rules for an archive with these feature flags."""
    return parse_tree is not None and features & _NEEDS == _NEEDS and bool(features & _MODES)


def parse_run(buffer: bytes, at: int, base: int, features: int, open_tables: list[ChildTable]) -> Run:
    """The ordinary nodes and ends of directories that stand at a place in a buffer, where a child or the end must be.

    :param base: offset in the archive of the buffer's first byte
    :param open_tables: of the open directories, the innermost last; it is changed to what is open behind the run
    :returns: the run, without rows where there is none
    """
    rows, end, left, closed, opened, cut = parse_tree(
        buffer, at, _MOST, base, features, bool(features & _USER_NAMES), open_tables, ChildTable, HASH_KEY
    )
    return Run(buffer, rows, base, closed, opened, end, left, bool(cut))


def find_run(
    inbox: Inbox, features: int, open_tables: list[ChildTable]
) -> Run | Literal[Sentinel.NEED_DATA] | None:
    """As `parse_run`, at the read position of the decoder's input, which stays where it is.

    :returns: None where there is none; NEED_DATA where there may be one, with more input
    """
    if not knows_rules(features):
        return None
    if inbox.ready < ORDINARY_MAX:
        inbox.join()
    run = parse_run(inbox.data, inbox.pos, inbox.base, features, open_tables)
    if run.rows:
        return run
    more = inbox.ready < ORDINARY_MAX and not inbox.ended
    return NEED_DATA if run.cut and more and inbox.is_whole else None


class _Copied:
    """A buffer whose slices are bytes."""

    __slots__ = ("_view",)

    def __init__(self, view: memoryview) -> None:
        self._view = view

    def __getitem__(self, part: slice) -> bytes:
        return bytes(self._view[part])


def run_events(run: Run, first: int = 0) -> Iterator[RowEvent]:
    """What the rows from number `first` on say, each with the place in the buffer of what follows its records."""
    base = run.base
    data = run.buffer if isinstance(run.buffer, bytes) else _Copied(run.buffer)
    for (
        mode, name, name_len, uid, gid, mtime, user, user_len, group, group_len, target, target_len,
        size, start, entry, behind,
    ) in _rows(memoryview(run.rows)[first * NODE_ROW.size :]):  # fmt: skip
        if not mode:
            # The ENTRY may stand before the buffer, in which case its place has wrapped around.
            yield DirectoryEnd(base + start, base + behind, (base + entry) & UINT64_MAX), behind
            continue
        node = Node(
            data[name : name + name_len],
            mode,
            0,
            uid,
            gid,
            mtime,
            data[user : user + user_len] if user_len else None,
            data[group : group + group_len] if group_len else None,
        )
        node.start = base + start
        node.offset = base + entry
        kind = mode & 0o170000
        if kind == stat.S_IFREG:
            node.size = size
            node.payload_offset = base + behind
        elif kind == stat.S_IFLNK:
            node.target = data[target : target + target_len]
        yield node, behind


def node_of_row(run: Run, number: int) -> Node | None:
    """The node that a row describes; None for the end of a directory."""
    event, _ = next(run_events(run, number))
    return event if isinstance(event, Node) else None


def count_nodes(run: Run) -> int:
    """How many rows of a run are nodes, and not ends of directories."""
    return len(run) - memoryview(run.rows).cast("Q")[_MODE::_COLUMNS].tolist().count(0)


def run_paths(run: Run, path: bytes) -> Iterator[bytes]:
    """The paths of a run's nodes.

    :param path: of the directory in which the first one stands
    """
    for event, _ in run_events(run):
        if isinstance(event, DirectoryEnd):
            path = path.rpartition(b"/")[0]
            continue
        here = path + b"/" + event.name if path else event.name
        yield here
        if event.is_dir:
            path = here
