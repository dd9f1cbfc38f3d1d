"""A disk that fills up: an error that names the file, no half-written output, and nothing lost that was there."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from filesystems import FileSystems
from trees import write

from .running import everything, fails, temporary_files, works

pytestmark = pytest.mark.root
MIB = 1 << 20


@pytest.fixture
def small(filesystems: FileSystems, tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB, in the mount namespace of the tests."""
    filesystems.directory("tmpfs")  # makes the namespace
    at = tmp_path / "small"
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(at)], check=True)
    yield at
    subprocess.run(["umount", "--lazy", str(at)], check=True)


@pytest.fixture
def at(tmp_path: Path) -> Path:
    """A directory for runs, with a source of 6 MiB that does not compress."""
    here = tmp_path / "here"
    (here / "src").mkdir(parents=True)
    for i in range(6):
        write(here / "src" / f"f{i}", random.Random(i).randbytes(MIB))
    return here


def test_make_into_a_full_store(at: Path, small: Path) -> None:
    """No index appears; what is in the store is right, and the same run succeeds once there is room."""
    line = fails("make", "x.caidx", "src", f"--store={small / 'castr'}", cwd=at)
    assert line == f"{small / 'castr'}: cannot store a chunk: No space left on device"
    assert not (at / "x.caidx").exists()
    assert temporary_files(at) + temporary_files(small) == []
    subprocess.run(["mount", "-o", "remount,size=20m", str(small)], check=True)
    works("make", "x.caidx", "src", f"--store={small / 'castr'}", cwd=at)
    works("extract", "x.caidx", "out", f"--store={small / 'castr'}", cwd=at)
    assert everything(at / "out") == everything(at / "src")


@pytest.mark.parametrize("old", [None, b"old"])
def test_make_of_an_archive(at: Path, small: Path, old: bytes | None) -> None:
    """The output is not there, or still the old one; no temporary file takes room."""
    output = small / "x.catar"
    if old:
        output.write_bytes(old)
    line = fails("make", output, "src", cwd=at)
    assert line == f"{output}: cannot write: No space left on device"
    assert os.listdir(small) == (["x.catar"] if old else [])
    assert not old or output.read_bytes() == old


def test_make_of_an_index(at: Path, small: Path) -> None:
    """An index that does not fit is not there."""
    (small / "x.caidx").write_bytes(b"old")
    fill(small)
    line = fails("make", small / "x.caidx", "src", "--store=castr", cwd=at)
    assert line == f"{small / 'x.caidx'}: cannot write: No space left on device"
    assert (small / "x.caidx").read_bytes() == b"old"
    assert sorted(os.listdir(small)) == ["filler", "x.caidx"]


def fill(at: Path) -> None:
    """Leave no room at all."""
    with open(at / "filler", "wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            pass


def test_extract_of_a_tree(at: Path, small: Path) -> None:
    """What fits is whole, the file that does not fit is not there, and what was there stays."""
    works("make", "x.caidx", "src", cwd=at)
    (small / "out" / "zzz").mkdir(parents=True)
    (small / "out" / "f5").write_text("old")
    line = fails("extract", "x.caidx", small / "out", cwd=at)
    assert "No space left on device" in line
    assert line.startswith(str(small / "out" / "f"))
    assert temporary_files(small) == []
    for path in (small / "out").glob("f*"):
        assert path.read_bytes() == (b"old" if path.name == "f5" else (at / "src" / path.name).read_bytes())
    assert (small / "out" / "zzz").exists()


def test_extract_of_a_blob(at: Path, small: Path) -> None:
    """The old file stays."""
    (at / "blob").write_bytes(random.Random(9).randbytes(4 * MIB))
    works("make", "x.caibx", "blob", cwd=at)
    (small / "blob").write_bytes(b"old")
    line = fails("extract", "x.caibx", small / "blob", cwd=at)
    assert line.startswith(f"{small / 'blob'}: cannot ")
    assert line.endswith("No space left on device")
    assert (small / "blob").read_bytes() == b"old"
    assert os.listdir(small) == ["blob"]
