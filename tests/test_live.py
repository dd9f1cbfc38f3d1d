"""Archives of trees and blobs that change, vanish or cannot be read while they are archived."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from casync_compat.errors import FileError
from casync_compat.fs.losses import LeftOutKind
from casync_compat.kinds import Kind
from casync_compat.progress import Progress
from casync_compat.store.memory import MemoryStore
from casync_compat.streams.archive import MakeResult
from casync_compat.streams.assemble import ChunkFetcher, ChunkStream
from casync_compat.streams.trees import Tree
from casync_compat.verbs.make import MakeOptions, make_archive, make_archive_index, make_blob_index
from catar.records import DirectoryEnd

LARGE = bytes(range(256)) * 4096 * 24
"""Contents that are read in many pieces."""


class Run:
    """One run of `make`, during which something is done once when it has come to a path."""

    def __init__(self, top: Path, at: str, act: Callable[[Path], object] = lambda _: None) -> None:
        self.top = top
        self.at = os.fsencode(at)
        self.act: Callable[[Path], object] | None = act
        self.told: list[str] = []
        self.store = MemoryStore()
        self.out = top.parent / "x.out"

    def __call__(self, progress: Progress) -> None:
        if self.act is None:
            return
        if progress.path != self.at:
            time.sleep(0.11)  # so that there is a report in the middle of the next file
            return
        act, self.act = self.act, None
        act(self.top)

    def make(self, maker: str, options: MakeOptions | None = None) -> MakeResult:
        """Make it; the archive's bytes are in `data` then."""
        how = options or MakeOptions()
        out, source = os.fsencode(self.out), os.fsencode(self.top)
        if maker == "catar":
            made = make_archive(out, source, how, warn=self.told.append, progress=self)
            self.data = self.out.read_bytes()
        else:
            make = make_archive_index if maker == "caidx" else make_blob_index
            made = make(out, source, self.store, how, warn=self.told.append, progress=self)
            assert made.index is not None
            with ChunkStream(ChunkFetcher(made.index, self.store)) as stream:
                self.data = b"".join(iter(stream.read, b""))
        if made.digest is not None:
            assert str(made.digest) == hashlib.new("sha512_256", self.data).hexdigest()
        return made


def contents(data: bytes, scratch: Path) -> dict[str, bytes | None]:
    """Everything in an archive, read to its end and looked up by every name; None for what is no regular file."""
    scratch.write_bytes(data)
    out: dict[str, bytes | None] = {}
    with Tree(Kind.ARCHIVE, os.fsencode(scratch)) as tree:
        stream = tree.stream()
        for step in stream:
            if not isinstance(step, DirectoryEnd):
                whole = b"".join(map(bytes, stream.payload()))
                out[os.fsdecode(stream.path)] = whole if step.is_regular else None
    with Tree(Kind.ARCHIVE, os.fsencode(scratch)) as tree:
        for path in out:
            assert tree.locate(os.fsencode(path)).path == os.fsencode(path)
    return out


def kinds(found: Sequence[LeftOutKind]) -> dict[str, int]:
    return {each.kind: each.count for each in found}


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory that every user may enter, and write to."""
    with TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        yield Path(name)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A tree of a large file among small ones."""
    top = tmp_path / "top"
    (top / "d").mkdir(parents=True)
    (top / "d" / "in").write_bytes(b"in d")
    (top / "a").write_bytes(b"a")
    (top / "b").write_bytes(LARGE)
    (top / "c").write_bytes(b"c")
    (top / "e").write_bytes(b"e")
    return top


MAKERS = pytest.mark.parametrize("maker", ["catar", "caidx"])


def _append(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"more")


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "grows": (_append, "grew by 4 bytes"),
    "shrinks": (lambda path: os.truncate(path, 100), "shrank by"),
    "is emptied": (lambda path: os.truncate(path, 0), "shrank by"),
    "is touched": (lambda path: os.utime(path, (1, 1)), "changed"),
}


@MAKERS
@pytest.mark.parametrize("how", CHANGES)
def test_a_file_that_changes(top: Path, maker: str, how: str) -> None:
    """The archive is whole: the file has the size it had, and it is told; its digest is that of what was written."""
    change, says = CHANGES[how]
    run = Run(top, "b", lambda top: change(top / "b"))
    made = run.make(maker)
    found = contents(run.data, top.parent / "scratch")
    assert set(found) == {"", "a", "b", "c", "d", "d/in", "e"}
    b = found["b"]
    assert b is not None
    assert len(b) == len(LARGE)
    if says == "shrank by":
        assert LARGE.startswith(b.rstrip(b"\0"))
    else:
        assert b == LARGE
    assert made.left_out == (LeftOutKind("files changed while being read", 1, os.fsencode(top / "b")),)
    (line,) = run.told
    assert line.startswith(f"{top}/b: ")
    assert says in line


@pytest.mark.parametrize("how", CHANGES)
def test_strictly(top: Path, how: str) -> None:
    """Who wants all or nothing gets an error that names the file, and no archive."""
    run = Run(top, "b", lambda top: CHANGES[how][0](top / "b"))
    with pytest.raises(FileError, match="try again") as caught:
        run.make("catar", MakeOptions(strict=True))
    assert caught.value.path == os.fsencode(top / "b")
    assert not run.out.exists()


def _remove_d(top: Path) -> None:
    (top / "d" / "in").unlink()
    (top / "d").rmdir()


VANISH: dict[str, tuple[Callable[[Path], object], str, set[str]]] = {
    "file": (lambda top: (top / "c").unlink(), "c", {"", "a", "b", "d", "d/in", "e"}),
    "directory": (_remove_d, "d", {"", "a", "b", "c", "e"}),
    "last": (lambda top: (top / "e").unlink(), "e", {"", "a", "b", "c", "d", "d/in"}),
}


@MAKERS
@pytest.mark.parametrize("what", VANISH)
def test_what_vanishes(top: Path, maker: str, what: str) -> None:
    """What was listed and is gone is left out, in the lookup tables, too; everything else is there."""
    act, name, left = VANISH[what]
    run = Run(top, "b", act)
    made = run.make(maker)
    assert set(contents(run.data, top.parent / "scratch")) == left
    assert made.left_out == (LeftOutKind("vanished entries", 1, os.fsencode(top / name)),)
    assert run.told == [f"{top}/{name}: it vanished before it was read, and is left out"]
    assert made.entries == len(left)


def test_a_directory_that_vanishes_when_it_is_open(top: Path) -> None:
    """Its entry is in the archive already, so it is archived empty."""
    (top / "d" / "in").unlink()
    (top / "d" / "in").write_bytes(LARGE)
    (top / "d" / "later").mkdir()
    (top / "d" / "later" / "file").write_bytes(b"x")

    def act(top: Path) -> None:
        (top / "d" / "later" / "file").unlink()
        (top / "d" / "later").rmdir()

    run = Run(top, "d/in", act)
    made = run.make("catar")
    assert "d/later" not in contents(run.data, top.parent / "scratch")
    assert kinds(made.left_out) == {"vanished entries": 1}


@pytest.fixture
def other_user(top: Path) -> Iterator[Path]:
    """The tree, for an ordinary user."""
    os.seteuid(65534)
    yield top
    os.seteuid(0)


@MAKERS
def test_what_may_not_be_read(top: Path, other_user: Path, maker: str) -> None:
    """Files and directories that may not be read are left out, each named."""
    os.seteuid(0)
    os.chmod(top / "c", 0)
    os.chmod(top / "d", 0)
    os.seteuid(65534)
    run = Run(top, "")
    made = run.make(maker)
    os.seteuid(0)
    assert set(contents(run.data, top.parent / "scratch")) == {"", "a", "b", "e"}
    assert kinds(made.left_out) == {"unreadable entries": 2}
    assert [line.partition(": ")[0] for line in run.told] == [f"{top}/c", f"{top}/d"]
    assert all("Permission denied" in line for line in run.told)


def test_many(top: Path, other_user: Path) -> None:
    """The first are named, the others counted."""
    os.seteuid(0)
    for number in range(30):
        (top / "d" / f"{number:02}").touch(0)
    os.seteuid(65534)
    run = Run(top, "")
    made = run.make("catar")
    os.seteuid(0)
    assert kinds(made.left_out) == {"unreadable entries": 30}
    assert made.left_out[0].first == os.fsencode(top / "d" / "00")
    assert len(run.told) == 11
    assert run.told[-1] == "unreadable entries: more are only counted"


def test_exclude_rules_that_may_not_be_read(top: Path, other_user: Path) -> None:
    """The directory is archived whole, and it is told."""
    os.seteuid(0)
    (top / "d" / ".caexclude").write_bytes(b"in\n")
    os.chmod(top / "d" / ".caexclude", 0)
    os.seteuid(65534)
    run = Run(top, "")
    made = run.make("catar")
    os.seteuid(0)
    assert "d/in" in contents(run.data, top.parent / "scratch")
    assert kinds(made.left_out) == {"unreadable exclude rules": 1, "unreadable entries": 1}


@pytest.fixture
def foreign_mount(top: Path) -> Iterator[Path]:
    """A directory in the tree on which a user has mounted something that root may not enter."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        fd = os.open("/dev/fuse", os.O_RDWR)
    except OSError:
        pytest.skip("no FUSE here")
    at = top / "mounted"
    at.mkdir()
    options = b"fd=%d,rootmode=40000,user_id=65534,group_id=65534" % fd
    if libc.mount(b"test", os.fsencode(at), b"fuse", 0, options):
        os.close(fd)
        pytest.skip(f"cannot mount: {os.strerror(ctypes.get_errno())}")
    yield at
    libc.umount2(os.fsencode(at), 2)
    os.close(fd)


@MAKERS
def test_a_mount_that_may_not_be_entered(top: Path, foreign_mount: Path, maker: str) -> None:
    """It is left out and named, like anything else that may not be read."""
    run = Run(top, "")
    made = run.make(maker)
    assert "mounted" not in contents(run.data, top.parent / "scratch")
    assert made.left_out == (LeftOutKind("unreadable entries", 1, os.fsencode(foreign_mount)),)


@MAKERS
def test_a_mount_that_is_excluded_anyway(top: Path, foreign_mount: Path, maker: str) -> None:
    """Nobody tries to open it, and nothing is amiss."""
    from catar.flags import select

    run = Run(top, "")
    made = run.make(maker, MakeOptions(select(exclude_submounts=True)))
    assert "mounted" not in contents(run.data, top.parent / "scratch")
    assert (made.left_out, run.told) == ((), [])
    assert made.excluded is not None
    assert made.excluded.submounts == 1


class BadBlocks:
    """Has reads of files of some size fail where the disk is bad."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, size: int, bad: range) -> None:
        self._real = os.preadv
        self.size = size
        self.bad = bad
        monkeypatch.setattr(os, "preadv", self)

    def __call__(self, fd: int, buffers: Sequence[memoryview], offset: int, *rest: Any) -> int:
        if os.fstat(fd).st_size == self.size:
            if offset in self.bad:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            if offset < self.bad.start:
                buffers = [memoryview(buffers[0])[: self.bad.start - offset]]
        return self._real(fd, buffers, offset, *rest)


@pytest.mark.parametrize("maker", ["catar", "caidx", "caibx"])
def test_bad_blocks(top: Path, monkeypatch: pytest.MonkeyPatch, maker: str) -> None:
    """Zeros stand for what the disk cannot read; what lies before and behind is there."""
    BadBlocks(monkeypatch, len(LARGE), range(1 << 20, (1 << 20) + 20480))
    run = Run(top if maker != "caibx" else top / "b", "")
    made = run.make(maker)
    got = run.data if maker == "caibx" else contents(run.data, top.parent / "scratch")["b"]
    assert got is not None
    assert got[: 1 << 20] == LARGE[: 1 << 20]
    assert not any(got[1 << 20 : (1 << 20) + 20480])
    assert got[(1 << 20) + 65536 :] == LARGE[(1 << 20) + 65536 :]
    assert made.left_out == (LeftOutKind("files read in part", 1, os.fsencode(top / "b")),)


def test_a_file_of_which_nothing_can_be_read(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left out, rather than archived as nothing but zeros."""
    BadBlocks(monkeypatch, len(LARGE), range(1 << 40))
    run = Run(top, "")
    made = run.make("catar")
    assert set(contents(run.data, top.parent / "scratch")) == {"", "a", "c", "d", "d/in", "e"}
    assert kinds(made.left_out) == {"unreadable entries": 1}


def test_too_many_open_files(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no fault of any file ends the run: nothing is left out for it."""
    BadBlocks(monkeypatch, 0, range(1))

    def refuse(fd: int, buffers: object, offset: int) -> int:
        raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))

    monkeypatch.setattr(os, "preadv", refuse)
    with pytest.raises(FileError, match="Too many open files"):
        Run(top, "").make("catar")


@pytest.mark.parametrize("how", CHANGES)
def test_a_blob_that_changes(top: Path, how: str) -> None:
    """The size that it had is kept, its digest is that of what is in the store, and it is told."""
    change, says = CHANGES[how]
    run = Run(top / "b", str(top / "b"), change)
    made = run.make("caibx")
    assert made.size == len(run.data) == len(LARGE)
    if says == "shrank by":
        assert LARGE.startswith(run.data.rstrip(b"\0"))
    else:
        assert run.data == LARGE
    assert kinds(made.left_out) == {"files changed while being read": 1}
    assert says in run.told[0]


@pytest.mark.parametrize("how", ["is touched", "grows", "vanishes", "cannot be read"])
def test_the_cache_remembers_nothing_that_was_not_so(
    top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The next run with the cache makes what a run without would make."""
    options = MakeOptions(cache=os.fsencode(tmp_path / "cache"))
    time.sleep(2.1)  # so that what does not change is believed
    run = Run(top, "b")
    if how == "vanishes":
        run.act = lambda top: os.rename(top / "c", top.parent / "c")
    elif how == "cannot be read":
        BadBlocks(monkeypatch, len(LARGE), range(1 << 20, (1 << 20) + 4096))
    else:
        run.act = lambda top: CHANGES[how][0](top / "b")
    assert run.make("caidx", options).left_out
    monkeypatch.undo()
    if how == "vanishes":
        os.rename(top.parent / "c", top / "c")
    after = Run(top, "")
    after.store = run.store
    made = after.make("caidx", options)
    fresh = Run(top, "")
    fresh.make("caidx")
    assert after.data == fresh.data
    assert made.left_out == ()


class Counting:
    """Counts the bytes that are read through `os.preadv`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = 0
        self._real = os.preadv
        monkeypatch.setattr(os, "preadv", self)

    def __call__(self, fd: int, buffers: Sequence[memoryview], offset: int, *rest: Any) -> int:
        count = self._real(fd, buffers, offset, *rest)
        self.bytes += count
        return count


@pytest.mark.parametrize("where", ["all", "begin", "middle", "end"])
@pytest.mark.parametrize("maker", ["catar", "caidx", "cached"])
def test_holes(top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, maker: str, where: str) -> None:
    """A sparse file in a tree is archived as if it were full of zeros, and its holes are not read."""
    size, data = 64 << 20, os.urandom(3 << 20)
    at = {"all": (), "begin": (61 << 20,), "middle": (0, 40 << 20), "end": (0,)}[where]
    for name in ("sparse", "full"):
        (tmp_path / name).mkdir()
        with open(tmp_path / name / "file", "wb") as file:
            if name == "full":
                file.write(bytes(size))
            os.truncate(file.fileno(), size)
            for each in at:
                file.seek(each)
                file.write(data)
            file.flush()
            os.utime(file.fileno(), (1, 1))
        os.utime(tmp_path / name, (1, 1))
    full = Run(tmp_path / "full", "")
    full.make("catar")
    counting = Counting(monkeypatch)
    sparse = Run(tmp_path / "sparse", "")
    options = MakeOptions(cache=os.fsencode(tmp_path / "cache")) if maker == "cached" else MakeOptions()
    made = sparse.make("caidx" if maker == "cached" else maker, options)
    assert sparse.data == full.data
    assert made.left_out == ()
    assert counting.bytes <= len(at) * (len(data) + (1 << 20)) + 1
