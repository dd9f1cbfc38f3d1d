"""Writing trees: every type of node, updating what is there, replacing what is in the way."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest
from applying import FLAGS, WHEN, Item, Steps, apply, d, f, leftovers, link, listing, special
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from casync_compat.errors import CasyncError, FileError, FormatError, UsageError
from casync_compat.fs.apply.tree import TreeWriter, apply_tree
from catar.flags import WITH_ALL, FeatureFlags
from catar.records import DirectoryEnd, Node

F = FeatureFlags


def _sample() -> Item:
    return d(
        b"",
        d(b"dir", f(b"inner", b"deep"), d(b"empty")),
        f(b"file", b"contents"),
        f(b"nothing"),
        link(b"link", b"/nowhere/at all"),
        special(b"pipe", stat.S_IFIFO),
        special(b"socket", stat.S_IFSOCK, 0o700),
    )


SAMPLE = {
    "dir": "/",
    "dir/inner": "deep",
    "dir/empty": "/",
    "file": "contents",
    "nothing": "",
    "link": "-> /nowhere/at all",
    "pipe": "p",
    "socket": "s",
}


def test_creates_everything_in_a_missing_target(tmp_path: Path) -> None:
    """Every type of node that needs no privilege appears, with its time, and nothing else does."""
    target = tmp_path / "out"
    assert apply(target, _sample()) == []
    assert listing(target) == SAMPLE
    times = {path.lstat().st_mtime_ns for path in [target, *target.rglob("*")]}
    assert times == {WHEN}


def test_target_is_created_one_level_only(tmp_path: Path) -> None:
    """A target whose parent is missing is an error that names it, as in casync."""
    with pytest.raises(FileError) as caught:
        apply(tmp_path / "no" / "out", _sample())
    assert caught.value.path == os.fsencode(tmp_path / "no" / "out")
    assert listing(tmp_path) == {}


def test_target_may_be_a_symlink_to_a_directory(tmp_path: Path) -> None:
    """The target alone is followed when it is a symlink."""
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    apply(tmp_path / "out", _sample())
    assert listing(tmp_path / "real") == SAMPLE


def test_target_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    """A file is not replaced by a tree."""
    (tmp_path / "out").write_text("precious")
    with pytest.raises(FileError, match="out: cannot open directory"):
        apply(tmp_path / "out", _sample())
    assert (tmp_path / "out").read_text() == "precious"


def test_twice_is_the_same_as_once(tmp_path: Path) -> None:
    """Applying a tree over itself changes nothing and leaves nothing behind."""
    apply(tmp_path / "out", _sample())
    before = (tmp_path / "out" / "dir").stat().st_ino
    assert apply(tmp_path / "out", _sample()) == []
    assert listing(tmp_path / "out") == SAMPLE
    assert (tmp_path / "out" / "dir").stat().st_ino == before


@pytest.mark.root
def test_devices(tmp_path: Path) -> None:
    """Device nodes come with type, number, mode and time."""
    null, disk = (1, 3), (259, 70000)
    apply(
        tmp_path / "out",
        d(b"", special(b"c", stat.S_IFCHR, 0o666, device=null), special(b"b", stat.S_IFBLK, device=disk)),
    )
    for name, kind, mode, device in (("c", stat.S_IFCHR, 0o666, null), ("b", stat.S_IFBLK, 0o644, disk)):
        status = (tmp_path / "out" / name).lstat()
        assert status.st_mode == kind | mode
        assert status.st_rdev == os.makedev(*device)
        assert status.st_mtime_ns == WHEN


def test_names_of_255_bytes(tmp_path: Path) -> None:
    """The longest names that a file system holds can be extracted, in new directories and in old ones."""
    name = b"n" * 255
    tree = d(b"", f(name, b"long"))
    for _ in range(2):
        apply(tmp_path / "out", tree)
        assert listing(tmp_path / "out") == {"n" * 255: "long"}
    apply(tmp_path / "out", d(b"", d(name, f(b"x"))))
    apply(tmp_path / "out", d(b"", link(name, b"t")))
    assert listing(tmp_path / "out") == {"n" * 255: "-> t"}


def test_a_name_that_is_too_long_is_an_error_that_names_it(tmp_path: Path) -> None:
    """256 bytes fit nowhere; nothing is left of the attempt."""
    with pytest.raises(FileError, match="File name too long"):
        apply(tmp_path / "out", d(b"", f(b"n" * 256, b"long")))
    assert leftovers(tmp_path) == []


def test_names_are_bytes(tmp_path: Path) -> None:
    """Names that are not UTF-8, with line breaks or looking like our temporary ones, come out as they are."""
    names = [b"\xff\xfe", b"a\nb", b".#0123456789abcdef", b" ", b"-rf", b"\\"]
    apply(tmp_path / "out", d(b"", *(f(name, name) for name in names)))
    found = {name: (os.fsencode(tmp_path / "out") + b"/" + name) for name in names}
    assert sorted(os.listdir(os.fsencode(tmp_path / "out"))) == sorted(names)
    for name, path in found.items():
        with open(path, "rb") as file:
            assert file.read() == name


OLD_THINGS = (
    "file",
    "link to file",
    "link to directory",
    "dangling link",
    "fifo",
    "directory",
    "full directory",
)
NEW_THINGS = {
    "file": f(b"x", b"new"),
    "empty file": f(b"x"),
    "link": link(b"x", b"elsewhere"),
    "fifo": special(b"x", stat.S_IFIFO),
    "directory": d(b"x", f(b"inner", b"new")),
    "empty directory": d(b"x"),
}


def _make_old(path: Path, kind: str, outside: Path) -> None:
    if kind == "file":
        path.write_text("old")
    elif kind == "link to file":
        path.symlink_to(outside / "file")
    elif kind == "link to directory":
        path.symlink_to(outside)
    elif kind == "dangling link":
        path.symlink_to(outside / "missing")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
        if kind == "full directory":
            (path / "sub").mkdir()
            (path / "sub" / "old").write_text("old")
            (path / "link").symlink_to(outside)


@pytest.mark.parametrize("delete", [True, False])
@pytest.mark.parametrize("new", NEW_THINGS)
@pytest.mark.parametrize("old", OLD_THINGS)
def test_replaces_whatever_is_in_the_way(tmp_path: Path, old: str, new: str, delete: bool) -> None:
    """Each type replaces each other type; symlinks are replaced and never followed; no temporary name stays.

    What a directory has in it is not deleted on the way where nothing is to be deleted.
    """
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    target = tmp_path / "out"
    target.mkdir()
    _make_old(target / "x", old, outside)
    if not delete and old == "full directory" and "directory" not in new:
        before = listing(target)
        with pytest.raises(FileError, match="with something in it"):
            apply(target, d(b"", NEW_THINGS[new]), delete=False)
        assert listing(target) == before
        return
    apply(target, d(b"", NEW_THINGS[new]), delete=delete)
    expected = tmp_path / "expected"
    apply(expected, d(b"", NEW_THINGS[new]))
    found, wanted = listing(target), listing(expected)
    if not delete and old == "full directory" and "directory" in new:
        wanted |= {"x/sub": "/", "x/sub/old": "old", "x/link": f"-> {outside}"}
    assert found == wanted
    assert listing(outside) == {"file": "precious"}


def test_without_directory_exchange_it_is_renamed_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the kernel cannot swap two entries, replacing a directory takes two renames and ends the same."""

    def refuse(directory_fd: int, one: bytes, other: bytes) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr("casync_compat.fs.remove.exchange", refuse)
    target = tmp_path / "out"
    (target / "x" / "sub").mkdir(parents=True)
    apply(target, d(b"", f(b"x", b"new")))
    assert listing(target) == {"x": "new"}
    apply(target, d(b"", d(b"x", f(b"inner"))))
    assert listing(target) == {"x": "/", "x/inner": ""}


def test_deletes_what_is_not_in_the_archive(tmp_path: Path) -> None:
    """What the archive does not have goes away at every level, also when its names come out of order."""
    target = tmp_path / "out"
    apply(
        target,
        d(b"", d(b"dir", f(b"a"), f(b"old"), d(b"olddir", f(b"x"))), f(b"z"), f(b"gone"), link(b"l", b"/")),
    )
    apply(target, d(b"", f(b"z"), d(b"dir", f(b"b"), f(b"a"))))
    assert listing(target) == {"z": "", "dir": "/", "dir/a": "", "dir/b": ""}


def test_keeps_everything_without_delete(tmp_path: Path) -> None:
    """--delete=no leaves what the archive does not have."""
    target = tmp_path / "out"
    apply(target, d(b"", d(b"dir", f(b"old", b"1")), f(b"gone", b"2")))
    apply(target, d(b"", d(b"dir", f(b"new", b"3"))), delete=False)
    assert listing(target) == {"dir": "/", "dir/old": "1", "dir/new": "3", "gone": "2"}


def test_masked_types_are_skipped_and_not_deleted(tmp_path: Path) -> None:
    """Types that are not restored are left as they are in the target: absent or present."""
    mask = WITH_ALL & ~(F.SYMLINKS | F.FIFOS | F.SOCKETS | F.DEVICE_NODES)
    target = tmp_path / "out"
    target.mkdir()
    (target / "link").symlink_to("mine")
    apply(target, _sample(), mask=mask)
    assert listing(target) == {
        "dir": "/",
        "dir/inner": "deep",
        "dir/empty": "/",
        "file": "contents",
        "nothing": "",
        "link": "-> mine",
    }


@pytest.mark.parametrize("top", [*NEW_THINGS.values()], ids=[*NEW_THINGS])
def test_one_node_alone(tmp_path: Path, top: Item) -> None:
    """A node of any type can be written as an entry of the target, whose other entries and metadata stay."""
    target = tmp_path / "out"
    target.mkdir(mode=0o711)
    (target / "other").write_text("mine")
    os.utime(target, (5, 5))
    apply(target, top, name=b"sub")
    expected = tmp_path / "expected"
    apply(expected, d(b"", top))
    wanted = {name.replace("x", "sub", 1): what for name, what in listing(expected).items()}
    assert listing(target) == wanted | {"other": "mine"}
    assert stat.S_IMODE(target.stat().st_mode) == 0o711
    assert (target / "sub").lstat().st_mtime_ns == WHEN


def test_one_node_alone_makes_the_target(tmp_path: Path) -> None:
    """A missing target is made as any directory is, not owner-only."""
    old = os.umask(0o027)
    try:
        apply(tmp_path / "out", f(b"", b"data"), name=b"x")
    finally:
        os.umask(old)
    assert listing(tmp_path / "out") == {"x": "data"}
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o750


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"a\0b"])
def test_bad_names_for_one_node_are_refused(tmp_path: Path, name: bytes) -> None:
    """The name that a single node gets must be a name."""
    with pytest.raises(UsageError):
        TreeWriter(os.fsencode(tmp_path), FLAGS, warn=print, name=name)


def test_a_file_cannot_be_the_target_itself(tmp_path: Path) -> None:
    """A top node that is no directory needs a name."""
    with pytest.raises(UsageError):
        apply(tmp_path / "out", f(b"", b"data"))


def test_incomplete_streams_are_errors(tmp_path: Path) -> None:
    """Steps that make no whole tree are refused, and what is under way is removed by abort."""
    node = d(b"").node

    def writer() -> TreeWriter:
        return TreeWriter(os.fsencode(tmp_path / "out"), FLAGS, warn=print)

    one = writer()
    with pytest.raises(FormatError):
        one.finish()
    one.feed(node, b"")
    with pytest.raises(FormatError, match="middle"):
        one.finish()
    one.abort()
    two = writer()
    two.feed(node, b"")
    two.feed(DirectoryEnd(0, 0, 0), b"")
    for step in (node, DirectoryEnd(0, 0, 0)):
        with pytest.raises(FormatError, match="follows"):
            two.feed(step, b"")
    with pytest.raises(FormatError, match="payload"):
        two.write(memoryview(b"x"))
    two.finish()
    with pytest.raises(FormatError):
        writer().feed(DirectoryEnd(0, 0, 0), b"")


def test_payload_must_have_the_announced_size(tmp_path: Path) -> None:
    """Neither a byte less nor a byte more makes a file."""
    for size in (2, 4):
        with pytest.raises(CasyncError, match="payload"):
            apply(tmp_path / "out", d(b"", f(b"x", b"abc", size=size), f(b"y")))
        assert listing(tmp_path / "out") == {}


def test_hooks_see_every_complete_payload(tmp_path: Path) -> None:
    """on_payload gets a descriptor with the whole payload, the node and its archive path."""
    seen = []

    def on_payload(fd: int, node: object, path: bytes) -> None:
        seen.append((path, os.pread(fd, 100, 0)))

    apply(tmp_path / "out", _sample(), hooks={"on_payload": on_payload})
    assert seen == [(b"dir/inner", b"deep"), (b"file", b"contents"), (b"nothing", b"")]


def test_identical_files_become_links(tmp_path: Path) -> None:
    """What is found is linked when it has the size, owner, mode and time; else the copy stays."""
    tree = d(
        b"", *(f(name, b"same", mode=0o640) for name in (b"as", b"changed", b"missing", b"none", b"symlink"))
    )
    seed = tmp_path / "seed"
    apply(seed, tree)
    (seed / "changed").chmod(0o600)
    (seed / "missing").unlink()
    (seed / "symlink").unlink()
    (seed / "symlink").symlink_to("as")

    class Finder:
        """Says that a file of the same path is identical, and checks what it is told."""

        def __init__(self) -> None:
            self.contents = b""

        def open(self, feature_flags: int) -> None:
            assert feature_flags == FLAGS

        def begin(self, node: Node) -> None:
            self.contents = b""

        def update(self, piece: memoryview) -> None:
            self.contents += piece

        def candidate(self, node: Node, path: bytes) -> bytes | None:
            assert self.contents == b"same"
            return None if path == b"none" else os.path.join(os.fsencode(seed), path)

    target = tmp_path / "out"
    for _ in range(2):
        apply(target, tree, hooks={"links": Finder()})
        assert listing(target) == dict.fromkeys(("as", "changed", "missing", "none", "symlink"), "same")
        linked = {path.name for path in target.iterdir() if path.stat().st_nlink > 1}
        assert linked == {"as"}
    assert (target / "as").samefile(seed / "as")


@pytest.mark.parametrize(
    "item",
    [f(b"x", b"new"), link(b"x", b"nowhere"), special(b"x", stat.S_IFIFO)],
    ids=["file", "link", "fifo"],
)
def test_full_directories_are_kept_on_request(tmp_path: Path, item: Item) -> None:
    """Where nothing is to be deleted, what is in the way goes unless something would be lost; the rest is restored."""
    target = tmp_path / "out"
    (target / "dir" / "x" / "deep").mkdir(parents=True)
    with pytest.raises(FileError, match="with something in it") as caught:
        apply(target, d(b"", d(b"dir", item), f(b"last", b"there")), delete=False)
    assert caught.value.path == os.fsencode(target / "dir" / "x")
    assert listing(target) == {"dir": "/", "dir/x": "/", "dir/x/deep": "/", "last": "there"}
    assert leftovers(target) == []
    (target / "dir" / "x" / "deep").rmdir()
    apply(target, d(b"", d(b"dir", item), f(b"last", b"there")), delete=False)
    assert stat.S_IFMT((target / "dir" / "x").lstat().st_mode) == stat.S_IFMT(item.node.mode)


def test_small_things_in_the_way_are_replaced(tmp_path: Path) -> None:
    """Files, links and pipes are, also where nothing is to be deleted."""
    target = tmp_path / "out"
    apply(target, d(b"", f(b"a", b"old"), link(b"b", b"out"), special(b"c", stat.S_IFIFO)))
    apply(target, d(b"", d(b"a", f(b"x", b"1")), d(b"b"), f(b"c", b"2")), delete=False)
    assert listing(target) == {"a": "/", "a/x": "1", "b": "/", "c": "2"}
    assert leftovers(target) == []


@given(st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_tree_over_any_tree(tmp_path: Path, data: st.DataObject) -> None:
    """Whatever was there, the result is what a fresh extraction gives."""
    names = st.sampled_from([b"a", b"b", b"c"])

    def children(inner: st.SearchStrategy[Item]) -> st.SearchStrategy[Item]:
        entries = st.lists(inner, max_size=3, unique_by=lambda item: item.node.name)
        return st.builds(lambda name, items: d(name, *items), names, entries)

    leaves = st.one_of(
        st.builds(f, names, st.sampled_from([b"", b"1", b"22"])),
        st.builds(link, names, st.sampled_from([b"a", b"..", b"/"])),
        st.builds(lambda name: special(name, stat.S_IFIFO), names),
    )
    trees = st.builds(
        lambda items: d(b"", *items),
        st.lists(st.recursive(leaves, children, max_leaves=8), max_size=3, unique_by=lambda i: i.node.name),
    )
    first, second = data.draw(trees), data.draw(trees)
    target, expected = tmp_path / "out", tmp_path / "expected"
    for path in (target, expected):
        shutil.rmtree(path, ignore_errors=True)
    apply(target, first)
    apply(target, second)
    apply(expected, second)
    assert listing(target) == listing(expected)


def test_apply_tree_takes_flags_from_the_stream(tmp_path: Path) -> None:
    """A writer that does not know the feature flags yet learns them with the first step."""
    writer = TreeWriter(os.fsencode(tmp_path / "out"), None, warn=print)
    apply_tree(Steps(d(b"", f(b"x")), int(F.NSEC_TIME)), writer)
    assert (tmp_path / "out" / "x").stat().st_mtime_ns == WHEN
