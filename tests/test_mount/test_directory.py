"""A directory of archives, mounted: each under its name, opened when somebody looks at it, and not before."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

import pytest
from archives import END, archive
from fusekernel import Kernel

from casync_compat.errors import FileError, FormatError, UsageError
from casync_compat.kinds import Kind
from casync_compat.mount.abi import Code
from casync_compat.mount.archive import MountedArchive
from casync_compat.mount.directory import MountedDirectory, MountedMember, OpenedMember, find_members
from casync_compat.mount.nodes import MountedBlob
from catar import Node
from catar.flags import FeatureFlags
from catar.records import XAttr

_XATTRS = (XAttr(b"user.x", b"y"),)
TREE = (
    Node(b"", stat.S_IFDIR | 0o755, mtime=5),
    (Node(b"a", stat.S_IFREG | 0o640, uid=7, xattrs=_XATTRS, flags=FeatureFlags.FLAG_APPEND), b"content"),
    Node(b"link", stat.S_IFLNK | 0o777, target=b"a/b"),
    END,
)  # fmt: skip


class _Bytes:
    """A blob in memory."""

    size = 5

    def read_at(self, offset: int, size: int) -> bytes:
        return b"hello"[offset : offset + size]


class Shelf:
    """A mounted directory of a blob, trees and what is broken.

    :ivar opened: names of what was opened, in order
    :ivar rested: of what let go of its chunks
    :ivar away: whether `broken` cannot be opened, and why
    """

    def __init__(self, *more: bytes) -> None:
        self.opened: list[bytes] = []
        self.rested: list[bytes] = []
        self.away: str | None = "no chunk"
        trees = (b"broken", b"host/deep/x", b"host/y", b"tree", *more)
        members = {name: self._member(name, Kind.ARCHIVE_INDEX) for name in trees}
        members[b"disk"] = self._member(b"disk", Kind.BLOB_INDEX)
        self.kernel = Kernel(MountedDirectory(members, uid=1, gid=2, mtime=3))

    def _member(self, name: bytes, kind: Kind) -> MountedMember:
        def opened() -> OpenedMember:
            if name == b"broken" and self.away is not None:
                raise FormatError(self.away)
            self.opened.append(name)
            if kind is Kind.BLOB_INDEX:
                return OpenedMember(MountedBlob(_Bytes(), b""), lambda: self.rested.append(name))
            tree = MountedArchive(archive(TREE))

            def rest() -> None:
                self.rested.append(name)
                tree.rest()

            return OpenedMember(tree, rest)

        return MountedMember(kind, opened)


def test_nothing_is_opened_to_be_listed() -> None:
    """Names come without opening anything; looking one up opens that one, once."""
    shelf = Shelf()
    names = [name for name, _ in shelf.kernel.names(1, 4096)][2:]
    assert names == [b"broken", b"disk", b"host", b"tree"]
    assert shelf.opened == []
    tree = shelf.kernel.find(b"tree")
    assert [name for name, _ in shelf.kernel.names(tree, 4096)][2:] == [b"a", b"link"]
    assert shelf.kernel.find(b"tree") == tree
    assert shelf.opened == [b"tree"]


def test_each_is_there_whole() -> None:
    """Contents, attributes, links and directories between them are as in a mount of its own."""
    kernel = Shelf().kernel
    file = kernel.find(b"host", b"deep", b"x", b"a")
    assert kernel.read(file, 1, 3) == b"ont"
    assert kernel.attributes(file)[-5:-3] == (7, 0)
    assert kernel.ask(Code.LISTXATTR, file, b"\xff\0\0\0\0\0\0\0") == (0, b"user.x\0")
    assert kernel.ask(Code.READLINK, kernel.find(b"tree", b"link")) == (0, b"a/b")
    assert kernel.read(kernel.find(b"disk"), 1, 9) == b"ello"
    host = kernel.find(b"host")
    assert kernel.attributes(host)[-6:-3] == (2, 1, 2)
    assert kernel.ask(Code.LISTXATTR, host, bytes(8)) == (0, bytes(8))
    assert kernel.find(b"tree", b"none") == 0
    assert kernel.find(b"none") == 0
    assert kernel.tree.flags(host) == 0
    assert kernel.tree.flags(file) == FeatureFlags.FLAG_APPEND
    assert kernel.tree.seek(file, 2, hole=True) >= 7


def test_numbers_are_no_others() -> None:
    """No inode of one has a number of another's, they are those that listings have, and the same each time."""
    paths = [(b"host",), (b"host", b"deep"), (b"disk",)]
    paths += [
        (*top, *inside) for top in ((b"tree",), (b"host", b"y")) for inside in ((), (b"a",), (b"link",))
    ]
    first, second = Shelf().kernel, Shelf().kernel
    numbers = [first.find(*path) for path in paths]
    assert numbers == [second.find(*path) for path in reversed(paths)][::-1]
    assert len({1, *numbers}) == len(paths) + 1
    assert dict(Shelf().kernel.names(1, 4096))[b"disk"] == first.find(b"disk")
    assert dict(first.names(1, 4096))[b"tree"] == first.find(b"tree")
    assert first.ask(Code.GETATTR, 999, bytes(16))[0] == errno.ESTALE


def test_what_cannot_be_opened() -> None:
    """It is an error for who looks at it, told once; others are there, and so is it when it can be opened again."""
    shelf = Shelf()
    for _ in range(3):
        assert shelf.kernel.ask(Code.LOOKUP, 1, b"broken\0")[0] == errno.EIO
    assert shelf.kernel.said == ["no chunk"]
    assert shelf.kernel.find(b"tree", b"a")
    shelf.away = None
    assert shelf.kernel.find(b"broken", b"a")
    assert shelf.kernel.said == ["no chunk"]


def test_memory_of_many() -> None:
    """Of many that were read the last few keep what they read; a forgotten inode is let go of."""
    shelf = Shelf(*(b"n%d" % number for number in range(10)))
    for number in range(10):
        top = shelf.kernel.find(b"n%d" % number)
        assert shelf.kernel.names(top, 4096)
    assert shelf.rested == [b"n0", b"n1"]
    file = shelf.kernel.find(b"n0", b"a")
    shelf.kernel.tree.forget(file, 2)
    assert shelf.kernel.ask(Code.GETATTR, file, bytes(16))[0] == errno.ESTALE
    assert shelf.kernel.find(b"n0", b"a") == file


def test_what_is_found(tmp_path: Path) -> None:
    """Archives and indexes in all directories but stores; a suffix stays where two would have one name."""
    for path in (
        "a.caidx", "b.catar", "b.caidx", "c.caibx", "c/x.caidx", "e.caidx.caibx", "e.caidx", "none.txt", "empty/none",
        "s.castr/y.caidx", "store/0123/z.caidx", "h/i/j.caibx",
    ):  # fmt: skip
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    top = bytes(tmp_path)
    found = find_members(top, lambda line: None)
    assert {name: path[len(top) + 1 :] for name, path in found.items()} == {
        b"a": b"a.caidx",
        b"b.catar": b"b.catar",
        b"b.caidx": b"b.caidx",
        b"c.caibx": b"c.caibx",
        b"c/x": b"c/x.caidx",
        b"e.caidx.caibx": b"e.caidx.caibx",
        b"e": b"e.caidx",
        b"h/i/j": b"h/i/j.caibx",
    }
    with pytest.raises(FileError):
        find_members(b"/nowhere", lambda line: None)


def test_too_many() -> None:
    """More than inode numbers can tell apart are refused."""
    member = MountedMember(Kind.BLOB_INDEX, lambda: OpenedMember(MountedBlob(_Bytes(), b""), lambda: None))
    with pytest.raises(UsageError, match="131072"):
        MountedDirectory({b"%d" % number: member for number in range(131072)})


def test_an_archive_that_is_too_large() -> None:
    """One whose offsets would be another's numbers is not shown."""
    blob = MountedBlob(_Bytes(), b"")
    blob.size = 1 << 46
    kernel = Kernel(
        MountedDirectory({b"x": MountedMember(Kind.BLOB_INDEX, lambda: OpenedMember(blob, lambda: None))})
    )
    assert kernel.ask(Code.LOOKUP, 1, b"x\0")[0] == errno.EIO
    assert "too large" in kernel.said[0]
