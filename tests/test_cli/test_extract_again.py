"""A restore that stops half-way says that it can be continued, and is continued by the same command."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import Run

AGAIN = "out is not complete; the same command again continues"


@pytest.fixture
def made(tmp_path: Path, ok: Run) -> Path:
    """An index over a tree of many small chunks; returns the store."""
    for number in range(60):
        at = tmp_path / "tree" / f"d{number % 7}" / f"f{number}"
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_bytes(os.urandom(40_000))
    ok("make", "--store=s.castr", "--chunk-size=4096:16384:65536", "x.caidx", "tree")
    return tmp_path / "s.castr"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte at `disk`."""
    libc = ctypes.CDLL(None, use_errno=True)
    at = tmp_path / "disk"
    at.mkdir()
    if libc.mount(b"none", os.fsencode(at), b"tmpfs", 0, b"size=1m"):
        pytest.skip("cannot mount")
    yield at
    libc.umount2(os.fsencode(at), 2)


def contents(tree: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(tree)): (path.stat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in tree.rglob("*")
    }


@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_a_chunk(made: Path, fails: Callable[..., str], run: Run, tmp_path: Path, how: str) -> None:
    """When the chunk is there again all of the tree is."""
    shutil.copytree(made, tmp_path / "whole")
    chunks = sorted(path for path in made.rglob("*.cacnk"))
    listed = run("list", "--store=s.castr", "x.caidx").out
    assert listed
    for chunk in chunks[::20]:
        chunk.unlink() if how == "missing" else chunk.write_bytes(b"x")
    said = fails("extract", "--store=s.castr", "--jobs=1", "x.caidx", "out")
    if any((tmp_path / "out").rglob("f*")):
        assert said.endswith(AGAIN)
    assert list((tmp_path / "out").rglob(".#*")) == []
    shutil.rmtree(made)
    (tmp_path / "whole").rename(made)
    assert run("extract", "--store=s.castr", "x.caidx", "out").status == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "tree")


@pytest.mark.root
def test_a_full_disk(made: Path, small: Path, fails: Callable[..., str], run: Run, tmp_path: Path) -> None:
    """With more room the same command goes on."""
    (tmp_path / "out").symlink_to("disk/out")
    (small / "out").mkdir()
    assert fails("extract", "--store=s.castr", "x.caidx", "out").endswith(AGAIN)
    assert list((small / "out").rglob("f*")) != []
    subprocess.run(["mount", "-o", "remount,size=10m", small], check=True)
    assert run("extract", "--store=s.castr", "x.caidx", "out").status == 0
    assert contents(small / "out") == contents(tmp_path / "tree")


@pytest.mark.root
def test_make_on_a_full_disk(made: Path, small: Path, run: Run, tmp_path: Path) -> None:
    """The old index stays as it was, and is whole."""
    shutil.copy(tmp_path / "x.caidx", small / "x.caidx")
    before = (small / "x.caidx").read_bytes()
    with open(small / "fill", "wb") as fill:
        fill.write(bytes(900_000))
    for store in (small / "s.castr", tmp_path / "other.castr"):
        result = run("make", f"--store={store}", "--chunk-size=64:64:64", small / "x.caidx", "tree")
        assert result.status == 1
        assert (small / "x.caidx").read_bytes() == before


def test_nothing_to_continue(fails: Callable[..., str], tmp_path: Path) -> None:
    """What another try cannot help is not called so."""
    (tmp_path / "x.catar").write_bytes(b"nonsense" * 100)
    assert "continues" not in fails("extract", "x.catar", "out")
