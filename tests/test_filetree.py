"""Looking into trees by path: an archive, a directory and an image answer alike."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest
from test_oci import rawtar
from test_oci.opened import opened, tar

from casync_compat.errors import CasyncError, NotFound
from casync_compat.fs.readers import FileReader
from casync_compat.oci.image.files import ImageFiles
from casync_compat.streams.filetree import ArchiveFiles, DirectoryFiles, FileTree, walk
from casync_compat.verbs.cat import cat
from casync_compat.verbs.make import make_archive
from catar.archive import Archive

BIG = Random(1).randbytes(1 << 10) * 700
MEMBERS = {
    "dir": None,
    "dir/empty": b"",
    "dir/file": b"contents",
    "dir/big": BIG,
    "dir/deep": None,
    "dir/deep/\udcff name": b"x",
}
LINKS = {
    "abs": "/dir/file",
    "up": "../../../dir",
    "dir/deep/back": "../file",
    "loop": "loop",
    "broken": "nowhere",
    "host": "/etc/hostname",
}


def on_disk(at: Path) -> Path:
    root = at / "tree"
    root.mkdir()
    for name, data in MEMBERS.items():
        if data is None:
            (root / name).mkdir()
        else:
            (root / name).write_bytes(data)
    for name, target in LINKS.items():
        (root / name).symlink_to(target)
    return root


def directory(at: Path, stack: ExitStack) -> FileTree:
    return DirectoryFiles(os.fsencode(on_disk(at)))


def archive(at: Path, stack: ExitStack) -> FileTree:
    path = os.fsencode(at / "tree.catar")
    make_archive(path, os.fsencode(on_disk(at)))
    return ArchiveFiles(Archive(stack.enter_context(FileReader(path))), path)


def image(at: Path, stack: ExitStack) -> FileTree:
    parts = [
        rawtar.directory(os.fsencode(name)) if data is None else rawtar.file(os.fsencode(name), data)
        for name, data in MEMBERS.items()
    ]
    parts += [rawtar.symlink(os.fsencode(name), os.fsencode(target)) for name, target in LINKS.items()]
    return ImageFiles(stack.enter_context(opened(at / "layout", [tar(*parts)])))


@pytest.fixture(params=[directory, archive, image], ids=lambda make: make.__name__)
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FileTree]:
    make: Callable[[Path, ExitStack], FileTree] = request.param
    with ExitStack() as stack:
        yield make(tmp_path, stack)


def test_walk(tree: FileTree) -> None:
    """Everything is found once, sorted, directories before what is in them, with kind and size."""
    found = {os.fsdecode(entry.path): entry for entry in walk(tree)}
    assert list(found) == sorted([*MEMBERS, *LINKS], key=lambda name: os.fsencode(name).split(b"/"))
    for name, data in MEMBERS.items():
        kind = stat.S_IFDIR if data is None else stat.S_IFREG
        assert (found[name].kind, found[name].size) == (kind, len(data or b""))
    for name, target in LINKS.items():
        assert (found[name].kind, found[name].target) == (stat.S_IFLNK, os.fsencode(target))


def test_contents(tree: FileTree) -> None:
    """Files are read as they were written, whatever their size and name."""
    for name, data in MEMBERS.items():
        if data is not None:
            assert b"".join(cat(tree, os.fsencode(name))) == data


@pytest.mark.parametrize(
    ("path", "real"),
    [
        (b"abs", b"dir/file"),
        (b"/abs", b"dir/file"),
        (b"up/file", b"dir/file"),
        (b"up/deep/back", b"dir/file"),
        (b"dir/deep/../file", b"dir/file"),
        (b"../../dir//./file", b"dir/file"),
        (b"up/", b"dir"),
        (b"/", b""),
    ],
)
def test_links_are_followed_inside(tree: FileTree, path: bytes, real: bytes) -> None:
    """Links and `..` lead where they would lead a process that has its root there."""
    assert tree.stat(path) == tree.stat(real, follow=False)
    assert tree.stat(path).path == real


@pytest.mark.parametrize("path", [b"nothing", b"dir/nothing", b"broken", b"host", b"dir/deep/nothing/x"])
def test_nothing_there(tree: FileTree, path: bytes) -> None:
    """What is not in the tree is not found, though it may be on this machine."""
    for ask in (tree.stat, tree.open):
        with pytest.raises(NotFound):
            ask(path)


@pytest.mark.parametrize("path", [b"loop", b"dir/file/x", b"dir/file/"])
def test_no_way(tree: FileTree, path: bytes) -> None:
    """A circle of links ends, and a file is no directory; both are said of the path that was asked for."""
    with pytest.raises(CasyncError) as caught:
        tree.stat(path)
    assert not isinstance(caught.value, NotFound)
    assert os.fsdecode(path).strip("/") in str(caught.value)


def test_wrong_kinds(tree: FileTree) -> None:
    """Directories are not opened, files not listed, and only links have targets."""
    for ask in (
        lambda: tree.open(b"dir"),
        lambda: list(tree.children(b"dir/file")),
        lambda: tree.readlink(b"dir"),
    ):
        with pytest.raises(CasyncError):
            ask()
    assert tree.readlink(b"abs") == b"/dir/file"


def test_a_directory_is_not_left(tmp_path: Path) -> None:
    """A directory that became a link outwards is not followed."""
    root = on_disk(tmp_path)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "file").write_bytes(b"secret")
    tree = DirectoryFiles(os.fsencode(root))
    (root / "dir").rename(root / "moved")
    (root / "dir").symlink_to(tmp_path / "secret")
    with pytest.raises(CasyncError):
        tree.open(b"dir/file")
