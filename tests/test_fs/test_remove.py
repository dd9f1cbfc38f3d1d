"""What is in the way goes when it may, and stays as it was when it may not."""

from __future__ import annotations

import ctypes
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import inodes
import pytest
from applying import FLAGS, apply, archive, d, f, leftovers, listing

from casync_compat.errors import FileError
from casync_compat.fs.apply.tree import ApplyOptions, TreeWriter, apply_tree
from casync_compat.fs.locks import Locked
from casync_compat.fs.remove import remove
from catar.errors import FormatError
from catar.flags import FeatureFlags
from catar.walker import Walker

F = FeatureFlags
ROOT = pytest.mark.root
IMMUTABLE, APPEND = 0x10, 0x20  # linux/fs.h


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Set a flag on paths, for as long as the test runs."""

    def set_on(*paths: Path, flag: int = IMMUTABLE) -> None:
        for path in paths:
            inodes.set_flags(path, flag)

    yield set_on
    for above, names, files in os.walk(tmp_path):
        for name in (".", *names, *files):
            at = os.path.join(above, name)
            if not os.path.islink(at) and (os.path.isdir(at) or os.path.isfile(at)):
                inodes.set_flags(at, drop=IMMUTABLE | APPEND)


def tree_in_the_way(at: Path) -> list[Path]:
    """A directory `x` with something in it; returns its directories and files, the outer ones first."""
    for name in ("x/a/b/f", "x/a/g", "x/h"):
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_text(name)
    return [at / "x", *sorted((at / "x").rglob("*"))]


@ROOT
@pytest.mark.parametrize("flag", [IMMUTABLE, APPEND], ids=["immutable", "append"])
@pytest.mark.parametrize("new", [f(b"x", b"new"), d(b"y")], ids=["replaced", "deleted"])
def test_locked_trees_go_when_asked_to(
    tmp_path: Path, lock: Callable[..., None], new: object, flag: int
) -> None:
    """Immutable and append-only directories and files on all levels are no obstacle with `undo_immutable`."""
    out = tmp_path / "out"
    lock(*reversed(tree_in_the_way(out)), flag=flag)
    apply(out, d(b"", new), undo_immutable=True)  # type: ignore[arg-type]
    assert listing(out) in ({"x": "new"}, {"y": "/"})


@ROOT
@pytest.mark.parametrize("which", [0, 1, 2, 3, 4, 5])
def test_what_is_locked_stays_in_its_place(tmp_path: Path, lock: Callable[..., None], which: int) -> None:
    """Without `undo_immutable` the message names a place where the file is, and nothing stands under another name."""
    out = tmp_path / "out"
    paths = tree_in_the_way(out)
    lock(paths[which])
    with pytest.raises(Locked) as caught:
        apply(out, d(b"", f(b"x", b"new")))
    assert os.fsdecode(caught.value.path) == str(paths[which])
    assert paths[which].exists()
    assert inodes.flags(paths[which]) & IMMUTABLE
    assert leftovers(out) == []


@ROOT
def test_a_tree_is_swapped_back_without_the_kernels_help(
    tmp_path: Path, lock: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where two names cannot be exchanged at once (NFS), too."""

    def cannot(*args: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("casync_compat.fs.remove.exchange", cannot)
    out = tmp_path / "out"
    paths = tree_in_the_way(out)
    lock(paths[2])
    with pytest.raises(Locked):
        apply(out, d(b"", f(b"x", b"new")))
    assert paths[2].exists()
    assert leftovers(out) == []


@ROOT
def test_flags_are_put_back_when_it_fails_all_the_same(tmp_path: Path, lock: Callable[..., None]) -> None:
    """A mount point in an immutable tree keeps all of it: what was cleared to get there is set again."""
    libc = ctypes.CDLL(None, use_errno=True)
    out = tmp_path / "out"
    paths = tree_in_the_way(out)
    if libc.mount(b"none", os.fsencode(paths[1]), b"tmpfs", 0, None):
        pytest.skip("cannot mount")
    try:
        lock(paths[0], out)
        with pytest.raises(FileError, match="mount point"):
            apply(out, d(b"", f(b"x", b"new")), undo_immutable=True)
    finally:
        libc.umount2(os.fsencode(paths[1]), 2)
    assert inodes.flags(paths[0]) & IMMUTABLE
    assert inodes.flags(out) & IMMUTABLE
    assert leftovers(out) == []


@ROOT
def test_failed_runs_leave_no_immutable_leftovers(tmp_path: Path, lock: Callable[..., None]) -> None:
    """A directory under way goes although files in it were already made immutable."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "x").write_text("old")
    inner = d(b"z", f(b"i", flags=int(F.FLAG_IMMUTABLE)))
    data = archive(
        d(b"", d(b"x", f(b"i", b"i", flags=int(F.FLAG_IMMUTABLE)), inner, f(b"zz", b"z" * 5000))), FLAGS
    )
    stream = Walker(_Cut(data[: len(data) - 4000]))
    with pytest.raises(FormatError):  # the archive ends in the middle of a file
        apply_tree(stream, TreeWriter(os.fsencode(out), None, ApplyOptions(), warn=print))
    assert listing(out) == {"x": "old"}


def _as_nobody(function: Callable[[], None]) -> None:
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            function()
        except BaseException as error:
            print(repr(error))
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


@ROOT
@pytest.mark.parametrize("depth", [1, 3, 100])
def test_modes_stay_when_a_removal_fails(tmp_path: Path, depth: int) -> None:
    """Directories were made writable only to be emptied; those that stay are as they were, on every level."""
    for parent in tmp_path.parents:
        if parent.stat().st_uid == 0 and parent.parent != parent:
            parent.chmod(parent.stat().st_mode | 0o011)
    tmp_path.chmod(0o777)
    at = tmp_path
    made = []
    for _ in range(depth):
        at /= "d"
        at.mkdir()
        made.append(at)
    foreign = at / "foreign"
    foreign.mkdir()
    (foreign / "file").touch()
    for path in reversed(made):
        os.chown(path, 65534, 65534)
        path.chmod(0o555)

    def check() -> None:
        fd = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(FileError) as caught:
            remove(fd, b"d", os.fsencode(made[0]))
        assert os.fsdecode(caught.value.path) == str(foreign / "file")

    _as_nobody(check)
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o555}
    assert (foreign / "file").exists()


@ROOT
def test_what_may_not_be_unlocked_gets_no_useless_advice(tmp_path: Path, lock: Callable[..., None]) -> None:
    """With `undo_immutable` given, nobody is told to give it."""
    for parent in tmp_path.parents:
        if parent.stat().st_uid == 0 and parent.parent != parent:
            parent.chmod(parent.stat().st_mode | 0o011)
    tmp_path.chmod(0o777)
    (tmp_path / "f").touch()
    os.chown(tmp_path / "f", 65534, 65534)
    lock(tmp_path / "f")

    def check() -> None:
        fd = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(FileError, match="immutable or append-only") as caught:
            remove(fd, b"f", b"f", undo_immutable=True)
        assert not isinstance(caught.value, Locked)

    _as_nobody(check)


class _Cut:
    """An archive that ends too early, in small pieces."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def read(self) -> bytes:
        self._at += 512
        return self._data[self._at - 512 : self._at]

    def skip(self, count: int) -> None:
        self._at += count


_POOR = """
import os, resource, sys
from casync_compat.fs.remove import remove
parent = os.open(sys.argv[1], os.O_RDONLY)
resource.setrlimit(resource.RLIMIT_NOFILE, (parent + 20,) * 2)
taken = []
try:
    while True:
        taken.append(os.dup(parent))
except OSError:
    pass
for fd in taken[-int(sys.argv[2]):]:
    os.close(fd)
remove(parent, b"top", b"top")
"""


@pytest.mark.parametrize("free", [2, 3])
def test_two_descriptors_are_enough(tmp_path: Path, free: int) -> None:
    """A deep tree goes also when nearly no file can be opened any more."""
    deep = tmp_path / "top"
    for number in range(12):
        deep = deep / f"d{number}"
        deep.mkdir(parents=True)
        (deep / "file").write_bytes(b"x")
        (deep / "beside").mkdir()
    subprocess.run([sys.executable, "-c", _POOR, tmp_path, str(free)], check=True)
    assert list(tmp_path.iterdir()) == []
