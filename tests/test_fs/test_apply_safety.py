"""What must never happen: touching anything outside the target, leaving temporary files, emptying a mount."""

from __future__ import annotations

import ctypes
import os
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from applying import FLAGS, Item, Steps, apply, d, f, leftovers, link, listing, special

from casync_compat.errors import FileError
from casync_compat.fs.apply.tree import ApplyOptions, TreeWriter, apply_tree
from casync_compat.fs.remove import remove
from catar.errors import FormatError
from catar.records import DirectoryEnd, Node


class Broken(Exception):
    """Stands for whatever interrupts an extraction."""


class BreaksOff(Steps):
    """A stream that fails at the payload of the file `broken`."""

    def __init__(self, top: Item, error: BaseException) -> None:
        super().__init__(top, FLAGS)
        self._error = error

    def payload(self) -> Iterator[memoryview]:
        if self.path.endswith(b"broken"):
            yield memoryview(b"ha")
            raise self._error
        yield from super().payload()


@pytest.mark.parametrize("error", [Broken(), KeyboardInterrupt(), FormatError("bad", 5)])
@pytest.mark.parametrize("existing", [False, True])
def test_failures_leave_no_temporary_file(tmp_path: Path, error: BaseException, existing: bool) -> None:
    """A run that is broken off removes what is under way: complete files stay, old ones are as they were."""
    target = tmp_path / "out"
    if existing:
        apply(target, d(b"", f(b"broken", b"old"), f(b"dir", b"old"), f(b"last", b"old")))
    tree = d(b"", d(b"dir", f(b"first", b"1"), f(b"broken", b"half")), f(b"last"))
    writer = TreeWriter(os.fsencode(target), FLAGS, warn=print)
    open_before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(type(error)):
        apply_tree(BreaksOff(tree, error), writer)
    assert leftovers(target) == []
    assert len(os.listdir("/proc/self/fd")) == open_before
    if existing:
        # The new directory was not complete, so the file that it was to replace is still there.
        assert listing(target) == {"broken": "old", "dir": "old", "last": "old"}
    else:
        assert listing(target) == {"dir": "/", "dir/first": "1"}
        assert stat.S_IMODE((target / "dir").stat().st_mode) == 0o700
    writer.abort()


def test_unfinished_directories_are_owner_only(tmp_path: Path) -> None:
    """Nobody else sees into a directory before it is complete."""
    modes = []

    def on_payload(fd: int, node: Node, path: bytes) -> None:
        modes.extend(stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "out", tmp_path / "out" / "a"))

    apply(
        tmp_path / "out", d(b"", d(b"a", f(b"x"), mode=0o777), mode=0o777), hooks={"on_payload": on_payload}
    )
    assert modes == [0o700, 0o700]
    assert stat.S_IMODE((tmp_path / "out" / "a").stat().st_mode) == 0o777


def test_files_appear_complete_or_not_at_all(tmp_path: Path) -> None:
    """Until a file is complete, what has its name is the old one."""
    target = tmp_path / "out"
    apply(target, d(b"", f(b"x", b"old")))
    seen = []

    def on_payload(fd: int, node: Node, path: bytes) -> None:
        seen.append((target / "x").read_bytes())

    apply(target, d(b"", f(b"x", b"new!", mode=0o600)), hooks={"on_payload": on_payload})
    assert seen == [b"old"]
    assert (target / "x").read_bytes() == b"new!"


@pytest.mark.parametrize("what", ["file", "directory", "link", "fifo"])
def test_symlinks_in_the_target_are_never_followed(tmp_path: Path, what: str) -> None:
    """A symlink on the way, put there by somebody else, is replaced; where it points to nothing changes."""
    outside = tmp_path / "outside"
    apply(outside, d(b"", f(b"victim", b"precious"), d(b"sub", f(b"victim", b"precious"))))
    before = {path: path.lstat() for path in [outside, *outside.rglob("*")]}
    target = tmp_path / "out"
    target.mkdir()
    (target / "dir").symlink_to(outside / "sub")
    (target / "victim").symlink_to(outside / "victim")
    new = {
        "file": f(b"victim", b"evil", mode=0o666),
        "directory": d(b"victim", mode=0o777),
        "link": link(b"victim", b"evil"),
        "fifo": special(b"victim", stat.S_IFIFO, 0o666),
    }[what]
    apply(target, d(b"", d(b"dir", new, mode=0o777), new))
    assert {path: path.lstat() for path in [outside, *outside.rglob("*")]} == before
    assert (target / "dir").is_dir()
    assert not (target / "dir").is_symlink()
    assert not (target / "victim").is_symlink() or what == "link"


def test_a_link_in_the_archive_is_no_way_out(tmp_path: Path) -> None:
    """A symlink and then a directory of the same name, which no good archive has, does not lead through the link."""
    outside = tmp_path / "outside"
    outside.mkdir()
    tree = d(b"", link(b"x", os.fsencode(outside)), d(b"x", f(b"evil")))
    with pytest.raises(FileError, match="Not a directory"):
        apply(tmp_path / "out", tree)
    apply(tmp_path / "out", tree)  # this time it is no longer empty
    assert listing(outside) == {}
    assert listing(tmp_path / "out") == {"x": "/", "x/evil": ""}


def test_existing_hard_links_are_broken_not_written_through(tmp_path: Path) -> None:
    """A file that shares its inode with one outside is replaced, so that the one outside stays as it is."""
    outside = tmp_path / "victim"
    outside.write_text("precious")
    outside.chmod(0o600)
    target = tmp_path / "out"
    target.mkdir()
    (target / "x").hardlink_to(outside)
    apply(target, d(b"", f(b"x", b"evil", mode=0o666)))
    assert outside.read_text() == "precious"
    assert stat.S_IMODE(outside.stat().st_mode) == 0o600


def test_directories_swapped_for_links_while_extracting(tmp_path: Path) -> None:
    """Somebody who keeps exchanging directories of the target for symlinks gets nothing written outside."""
    outside = tmp_path / "outside"
    outside.mkdir()
    target = tmp_path / "out"
    tree = d(b"", d(b"dir", *(f(b"f%d" % i, b"x") for i in range(50))))
    apply(target, tree)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            with suppress(OSError):
                (target / "dir").rename(tmp_path / "aside")
                (target / "dir").symlink_to(outside)
                (target / "dir").unlink()
                (tmp_path / "aside").rename(target / "dir")

    attacker = threading.Thread(target=swap)
    attacker.start()
    try:
        for _ in range(20):
            with suppress(FileError):
                apply(target, tree)
    finally:
        stop.set()
        attacker.join()
    assert listing(outside) == {}


def test_deleting_does_not_follow_links(tmp_path: Path) -> None:
    """--delete removes symlinks, not what they point to."""
    outside = tmp_path / "outside"
    apply(outside, d(b"", f(b"victim", b"precious")))
    target = tmp_path / "out"
    (target / "gone").mkdir(parents=True)
    for place in (target, target / "gone"):
        (place / "dirlink").symlink_to(outside)
        (place / "filelink").symlink_to(outside / "victim")
    apply(target, d(b""))
    assert listing(target) == {}
    assert listing(outside) == {"victim": "precious"}


def test_removes_trees_deeper_than_descriptors_last(tmp_path: Path) -> None:
    """Old directories may nest as deep as they like; few descriptors are open at once."""
    target = tmp_path / "out"
    target.mkdir()
    fd = os.open(target, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("deep", dir_fd=fd)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        below = os.open("deep", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    apply(target, d(b""))
    assert os.listdir(target) == []


def test_removing_what_is_not_there_is_fine(tmp_path: Path) -> None:
    """Somebody else may have removed it in the meantime."""
    fd = os.open(tmp_path, os.O_RDONLY)
    remove(fd, b"missing", b"missing")
    os.close(fd)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """An old target with a mount at `out/old/sub/mnt`; it disappears with this process's mount namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    at = tmp_path / "out" / "old" / "sub" / "mnt"
    at.mkdir(parents=True)
    (tmp_path / "out" / "old" / "file").write_text("kept")
    if libc.mount(b"tmpfs", os.fsencode(at), b"tmpfs", 0, None):
        pytest.skip(f"cannot mount: {os.strerror(ctypes.get_errno())}")
    (at / "precious").write_text("precious")
    yield at
    assert (at / "precious").read_text() == "precious"
    libc.umount2(os.fsencode(at), 2)


@pytest.mark.root
@pytest.mark.parametrize("new", [[f(b"old", b"new")], [link(b"old", b"x")]])
def test_mounts_are_not_emptied(mounted: Path, tmp_path: Path, new: list[Item]) -> None:
    """A mount below something that is to become something else stops the run before anything of it is removed."""
    with pytest.raises(FileError, match="it is a mount point; unmount it first") as caught:
        apply(tmp_path / "out", d(b"", *new))
    assert caught.value.path == os.fsencode(mounted)
    assert leftovers(tmp_path) == []
    assert (tmp_path / "out" / "old" / "file").read_text() == "kept"


@pytest.mark.root
@pytest.mark.parametrize("kept", [[], [d(b"old")], [d(b"old", d(b"sub"))]])
def test_mounts_are_left_alone(mounted: Path, tmp_path: Path, kept: list[Item]) -> None:
    """A mount point that the archive does not have stays, with one warning; all around it is as it should be."""
    (warning,) = apply(tmp_path / "out", d(b"", *kept, f(b"new", b"1")))
    assert warning == f"a mount point, and left alone: {mounted}"
    expected = {
        "old": "/",
        "old/sub": "/",
        "old/sub/mnt": "/",
        "old/sub/mnt/precious": "precious",
        "new": "1",
    }
    assert listing(tmp_path / "out") == expected


@pytest.mark.root
def test_a_mount_point_in_the_way_is_named(mounted: Path, tmp_path: Path) -> None:
    """A mount point where the archive has something else than a directory is an error with its path."""
    with pytest.raises(FileError, match="mount point") as caught:
        apply(tmp_path / "out", d(b"", d(b"old", f(b"file", b"kept"), d(b"sub", f(b"mnt")))))
    assert caught.value.path == os.fsencode(mounted)


@pytest.mark.root
def test_mounts_in_the_archive_are_updated(tmp_path: Path, mounted: Path) -> None:
    """A mount where the archive has a directory is a directory like any other."""
    tree = d(b"", d(b"old", f(b"file", b"kept"), d(b"sub", d(b"mnt", f(b"precious", b"precious")))))
    apply(tmp_path / "out", tree)
    assert os.path.ismount(mounted)
    assert listing(mounted) == {"precious": "precious"}


def test_too_deep_is_an_error(tmp_path: Path) -> None:
    """More levels than an archive may have are refused, with few descriptors open."""
    item = d(b"x")
    for _ in range(70):
        item = d(b"x", item)
    with pytest.raises(FileError, match="64 levels"):
        apply(tmp_path / "out", item)


def test_interrupted_by_a_signal_anywhere(tmp_path: Path) -> None:
    """Ctrl-C at whatever moment leaves no temporary file."""
    tree = d(b"", *(d(b"d%d" % i, *(f(b"f%d" % j, bytes(100)) for j in range(20))) for i in range(20)))
    target = tmp_path / "out"
    interrupted = 0
    old = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for round_ in range(30):
            signal.setitimer(signal.ITIMER_REAL, 0.001 + round_ * 0.0007)
            try:
                apply(target, tree)
                signal.setitimer(signal.ITIMER_REAL, 0)  # here, where it may still come
            except KeyboardInterrupt:
                interrupted += 1
            assert leftovers(target) == []
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert interrupted


def test_options_have_casyncs_defaults() -> None:
    """Delete and punch holes, but undo no flags."""
    options = ApplyOptions()
    assert (options.delete, options.punch_holes, options.undo_immutable) == (True, True, False)
    assert not options.shift.enabled


def test_directory_ends_are_not_nodes(tmp_path: Path) -> None:
    """The end of a directory belongs to the innermost open one."""
    writer = TreeWriter(os.fsencode(tmp_path / "out"), FLAGS, warn=print)
    for step in (d(b"").node, d(b"a").node, DirectoryEnd(0, 0, 0), f(b"b").node, DirectoryEnd(0, 0, 0)):
        writer.feed(step, b"")
    writer.finish()
    assert listing(tmp_path / "out") == {"a": "/", "b": ""}
