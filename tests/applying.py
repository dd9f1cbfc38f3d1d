"""Trees of nodes built by hand, as a stream that `casync_compat.fs.apply.tree` takes.

    apply(target, d(b"", f(b"hello", b"contents"), link(b"there", b"hello")))

No archive is involved, unless nodes are to come in runs: only a decoder makes those.
Owners default to whoever runs the test, so that only tests that mean to change them need root.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from casync_compat.fs.apply.runs import Pool
from casync_compat.fs.apply.tree import ApplyOptions, TreeWriter, apply_tree
from catar import flags
from catar.encoder import Encoder
from catar.errors import CatarError
from catar.records import DirectoryEnd, Node
from catar.walker import TreeStream, Walker

SECOND = 1_000_000_000
WHEN = 1_500_000_000 * SECOND + 123_456_789
FLAGS = flags.select(digest_bits=0)
"""Everything, as `casync make` records it."""

in_runs = False
"""Whether `apply` has nodes come in runs, where an archive can hold the tree; set by a fixture."""


@dataclass
class Item:
    """A node with its payload or children."""

    node: Node
    data: bytes = b""
    children: list[Item] = field(default_factory=list)
    piece: int = 65536


def _node(name: bytes, mode: int, **fields: Any) -> Node:
    fields = {"uid": os.geteuid(), "gid": os.getegid(), "mtime": WHEN} | fields
    return Node(name, mode, **fields)


def d(name: bytes, *children: Item, mode: int = 0o755, **fields: Any) -> Item:
    """A directory."""
    return Item(_node(name, stat.S_IFDIR | mode, **fields), children=list(children))


def f(name: bytes, data: bytes = b"", mode: int = 0o644, *, piece: int = 65536, **fields: Any) -> Item:
    """A regular file; `piece` is how many bytes of payload come at once."""
    return Item(_node(name, stat.S_IFREG | mode, **{"size": len(data)} | fields), data, piece=piece)


def link(name: bytes, target: bytes, **fields: Any) -> Item:
    """A symlink."""
    return Item(_node(name, stat.S_IFLNK | 0o777, target=target, **fields))


def special(name: bytes, kind: int, mode: int = 0o644, **fields: Any) -> Item:
    """A fifo, socket or device."""
    return Item(_node(name, kind | mode, **fields))


class Steps:
    """A `TreeStream` over items."""

    def __init__(self, top: Item, feature_flags: int) -> None:
        self.path = b""
        self.feature_flags = feature_flags
        self._top = top
        self._item = top

    def __iter__(self) -> Iterator[Node | DirectoryEnd]:
        return self._walk(self._top, b"")

    def _walk(self, item: Item, path: bytes) -> Iterator[Node | DirectoryEnd]:
        self._item, self.path = item, path
        yield item.node
        if item.node.is_dir:
            for child in item.children:
                yield from self._walk(child, os.path.join(path, child.node.name))
            self.path = path
            yield DirectoryEnd(0, 0, 0)

    def payload(self) -> Iterator[memoryview]:
        data, piece = self._item.data, self._item.piece
        for at in range(0, len(data), piece):
            yield memoryview(data)[at : at + piece]


def archive(top: Item, feature_flags: int) -> bytes:
    """The tree as an archive. :raises CatarError: when none can hold it"""
    encoder = Encoder(feature_flags)

    def parts(item: Item) -> Iterator[bytes]:
        yield encoder.begin(item.node)
        if item.node.is_dir:
            for child in item.children:
                yield from parts(child)
            yield encoder.end_directory()
        elif item.data:
            yield item.data
            encoder.advance(len(item.data))

    return b"".join(parts(top))


class Pieces:
    """An archive in memory, given out in pieces."""

    def __init__(self, data: bytes, size: int = 1 << 20) -> None:
        self._data = data
        self._size = size
        self._at = 0

    def read(self) -> bytes:
        begin = self._at
        self._at += self._size
        return self._data[begin : self._at]

    def skip(self, count: int) -> None:
        self._at += count


def stream(top: Item, feature_flags: int, runs: bool) -> TreeStream:
    """A tree as a stream, of an archive when nodes are to come in runs and an archive can hold it."""
    if runs:
        with suppress(CatarError):
            return Walker(Pieces(archive(top, feature_flags)))
    return Steps(top, feature_flags)


def apply(
    target: Path | bytes,
    top: Item,
    *,
    feature_flags: int = FLAGS,
    name: bytes | None = None,
    hooks: dict[str, Any] | None = None,
    pool: Pool | None = None,
    warnings: list[str] | None = None,
    **options: Any,
) -> list[str]:
    """Write a tree; returns the warnings, which are also put into a list that is given."""
    warnings = [] if warnings is None else warnings
    writer = TreeWriter(
        os.fsencode(target),
        None,
        ApplyOptions(**options),
        warn=warnings.append,
        name=name,
        pool=pool,
        depth=3,
        **hooks or {},
    )
    apply_tree(stream(top, feature_flags, in_runs and not hooks), writer)
    return warnings


def leftovers(target: Path) -> list[Path]:
    """Temporary files that should not be there."""
    return list(target.rglob(".#*"))


def listing(target: Path) -> dict[str, str]:
    """Every path below `target` with its contents, target or type."""
    found = {}
    for path in sorted(target.rglob("*")):
        name = str(path.relative_to(target))
        if path.is_symlink():
            found[name] = "-> " + os.readlink(path)
        elif path.is_dir():
            found[name] = "/"
        elif path.is_file():
            found[name] = path.read_bytes().decode()
        else:
            found[name] = stat.filemode(path.stat().st_mode)[0]
    return found
