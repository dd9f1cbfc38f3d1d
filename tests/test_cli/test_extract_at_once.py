"""Several runs that extract into one directory at once."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Run

COMMAND = [sys.executable, "-m", "casync_compat", "extract"]


@pytest.fixture
def archives(tmp_path: Path, ok: Run) -> list[Path]:
    """Two archives of trees with the same names and other contents."""
    made = []
    for word in ("one", "two"):
        tree = tmp_path / f"tree-{word}"
        for number in range(120):
            at = (
                tree / f"d{number % 7}" / word / f"f{number}"
                if number % 5
                else tree / f"d{number % 7}" / f"f{number}"
            )
            at.parent.mkdir(parents=True, exist_ok=True)
            at.write_text(word)
        made.append(tmp_path / f"{word}.catar")
        ok("make", made[-1], tree)
    return made


def contents(tree: Path) -> dict[str, str]:
    return {str(path.relative_to(tree)): path.read_text() for path in tree.rglob("*") if path.is_file()}


@pytest.mark.parametrize("new", [True, False], ids=["new", "update"])
def test_two_whole_trees(archives: list[Path], tmp_path: Path, new: bool) -> None:
    """One of them is there in the end, whole; the other run says why it did nothing."""
    expected = [contents(tmp_path / "tree-one"), contents(tmp_path / "tree-two")]
    out = tmp_path / "out"
    for number in range(4):
        if not number or new:
            out = tmp_path / f"out{number}"
        runs = [
            subprocess.Popen([*COMMAND, archive, out], stderr=subprocess.PIPE, text=True)
            for archive in archives
        ]
        said = [run.communicate()[1] for run in runs]
        states = [run.returncode for run in runs]
        assert 0 in states, said
        for state, text in zip(states, said, strict=True):
            assert state == 0 or (state == 1 and "another run is writing into it" in text), said
        assert contents(out) in expected
        assert list(out.rglob(".#*")) == []


@pytest.mark.parametrize("operation", [fcntl.LOCK_EX, fcntl.LOCK_SH])
def test_what_another_run_has(
    archives: list[Path], tmp_path: Path, fails: Callable[..., str], operation: int
) -> None:
    """Nothing is changed there."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    fd = os.open(tmp_path / "out", os.O_RDONLY)
    try:
        fcntl.flock(fd, operation)
        said = fails("extract", archives[0], "out")
    finally:
        os.close(fd)
    assert said == "out: cannot write: another run is writing into it; try again when that is done"
    assert os.listdir(tmp_path / "out") == ["old"]


def test_a_run_that_was_killed(
    archives: list[Path], tmp_path: Path, run: Run, fails: Callable[..., str]
) -> None:
    """It leaves no lock behind."""
    (tmp_path / "out").mkdir()
    hold = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], 0), fcntl.LOCK_EX); print(flush=True); input()"
    words = [sys.executable, "-c", hold, tmp_path / "out"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert "another run" in fails("extract", archives[0], "out")
        holder.kill()
    assert run("extract", archives[0], "out").status == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "tree-one")


def test_entries_of_one_directory(
    archives: list[Path], tmp_path: Path, run: Run, fails: Callable[..., str]
) -> None:
    """Nodes of archives may go to one directory at once, as long as they are not the same."""
    (tmp_path / "out" / "d1").mkdir(parents=True)
    target = os.open(tmp_path / "out", os.O_RDONLY)
    entry = os.open(tmp_path / "out" / "d1", os.O_RDONLY)
    try:
        fcntl.flock(target, fcntl.LOCK_SH)
        fcntl.flock(entry, fcntl.LOCK_EX)
        assert run("extract", archives[0], "out", "d2").status == 0
        assert "out/d1: cannot write: another run" in fails("extract", archives[0], "out", "d1")
    finally:
        os.close(target)
        os.close(entry)


@pytest.mark.parametrize("number", [errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_no_locks_to_be_had(
    archives: list[Path], run: Run, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """On NFS and the like trees are extracted all the same."""

    def fail(*args: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", fail)
        assert run("extract", archives[0], "out").status == 0


def holding(path: Path, kind: int = fcntl.LOCK_EX) -> int:
    """Lock a directory, as another run does."""
    fd = os.open(path, os.O_RDONLY)
    fcntl.flock(fd, kind)
    return fd


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("linked", [False, True])
def test_below_what_another_run_has(
    archives: list[Path], tmp_path: Path, fails: Callable[..., str], run: Run, depth: int, linked: bool
) -> None:
    """A directory within the target of another run is not written to, by whichever path, and is afterwards."""
    inner = (tmp_path / "out").joinpath(*"abc"[:depth])
    inner.mkdir(parents=True)
    target = inner
    if linked:
        target = tmp_path / "link"
        target.symlink_to(inner)
    fd = holding(tmp_path / "out")
    try:
        said = fails("extract", archives[0], target)
        assert f"another run is writing into {tmp_path}/out, which it is in" in said
        assert list(inner.iterdir()) == []
        assert run("extract", archives[0], "beside").status == 0
    finally:
        os.close(fd)
    assert run("extract", archives[0], target).status == 0


def test_above_what_another_run_has(archives: list[Path], tmp_path: Path) -> None:
    """While a run writes into a directory, no other writes the tree that it is in; beside it others may."""
    (tmp_path / "out" / "inner").mkdir(parents=True)
    words = [*COMMAND, "--what=archive", "-", tmp_path / "out" / "inner"]
    first = subprocess.Popen(words, stdin=subprocess.PIPE)
    assert first.stdin is not None
    data = archives[0].read_bytes()
    first.stdin.write(data[:2000])
    first.stdin.flush()
    while not any((tmp_path / "out" / "inner").iterdir()):
        assert first.poll() is None
        time.sleep(0.01)
    second = subprocess.run([*COMMAND, archives[1], tmp_path / "out"], check=False, capture_output=True)
    assert second.returncode == 1
    assert b"another run is writing into it" in second.stderr
    beside = subprocess.run([*COMMAND, archives[1], tmp_path / "out" / "beside"], check=False)
    assert beside.returncode == 0
    first.communicate(data[2000:])
    assert first.returncode == 0
    assert subprocess.run([*COMMAND, archives[1], tmp_path / "out"], check=False).returncode == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "tree-two")


@pytest.mark.parametrize("number", [0, 700], ids=["any", "high"])
@pytest.mark.parametrize("where", ["out", "."])
def test_a_lock_that_the_run_was_started_with(
    archives: list[Path], tmp_path: Path, where: str, number: int
) -> None:
    """`flock DIR pycasync extract` has its lock for itself, whatever number its descriptor has."""
    (tmp_path / "out").mkdir()
    first = holding(tmp_path / where)
    fd = fcntl.fcntl(first, fcntl.F_DUPFD_CLOEXEC, number)
    os.close(first)
    try:
        done = subprocess.run([*COMMAND, archives[0], tmp_path / "out"], check=False, pass_fds=[fd])
        assert done.returncode == 0
        done = subprocess.run([*COMMAND, archives[0], tmp_path / "out"], check=False, capture_output=True)
        assert done.returncode == 1
    finally:
        os.close(fd)
