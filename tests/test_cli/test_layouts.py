"""`--layout`, and `store pack` and `explode`: what a user sees of packed stores."""

from __future__ import annotations

import os
import time
from pathlib import Path
from random import Random

import pytest

from .conftest import Run

DATA = Random(1).randbytes(500_000)


@pytest.fixture
def disk(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(DATA)


def entries(tmp_path: Path) -> list[str]:
    return sorted(os.listdir(tmp_path / "default.castr"))


def test_a_packed_store_is_used_as_any_other(run: Run, tmp_path: Path, disk: None) -> None:
    """Made with packs, every verb finds the chunks; -v says which layout it is; a second run goes on with packs."""
    assert b"Layout of the store: packs" in run("make", "-v", "--layout=packs", "disk.caibx", "disk").err
    assert entries(tmp_path) == [".pycasync"]
    (tmp_path / "more").write_bytes(DATA + b"more")
    assert b"Layout of the store: packs" in run("make", "-v", "more.caibx", "more").err
    assert entries(tmp_path) == [".pycasync"]
    assert run("extract", "more.caibx", "out").status == 0
    assert (tmp_path / "out").read_bytes() == DATA + b"more"
    assert run("verify", "more.caibx").status == 0
    assert run("cat", "disk.caibx").status == 0
    time.sleep(0.05)  # an index that is as old as the run would count as named
    assert run("gc", "disk.caibx", "--yes").status == 0
    assert run("extract", "disk.caibx", "out").status == 0
    assert run("extract", "more.caibx", "out2").status == 1


def test_layout_against_what_is_there(run: Run, tmp_path: Path, disk: None) -> None:
    """What the store is not is refused with the verb that makes it so, and then works."""
    assert run("make", "disk.caibx", "disk").status == 0
    refused = run("make", "--layout=packs", "disk.caibx", "disk")
    assert refused.status == 1
    assert b"pycasync store pack" in refused.err
    assert run("store", "pack", "default.castr", "disk.caibx").out.startswith(b"Put ")
    assert entries(tmp_path) == [".pycasync"]
    assert run("make", "--layout=packs", "disk.caibx", "disk").status == 0
    refused = run("make", "--layout=objects", "disk.caibx", "disk")
    assert refused.status == 1
    assert b"pycasync store explode" in refused.err
    assert run("store", "explode", "default.castr").status == 0
    assert ".pycasync" not in entries(tmp_path)
    assert run("make", "--layout=objects", "disk.caibx", "disk").status == 0
    assert run("make", "--layout=tapes", "disk.caibx", "disk").status == 2


def test_a_lost_head_is_told(run: Run, tmp_path: Path, disk: None) -> None:
    """Packs without a head are told with the verb that makes it anew."""
    run("make", "--layout=packs", "disk.caibx", "disk")
    (tmp_path / "default.castr/.pycasync/head").unlink()
    failed = run("extract", "disk.caibx", "out")
    assert failed.status == 1
    assert b"store pack --rebuild" in failed.err
    assert run("store", "pack", "--rebuild", "default.castr").status == 0
    assert run("extract", "disk.caibx", "out").status == 0
    assert (tmp_path / "out").read_bytes() == DATA


def test_gc_gives_back_the_room(run: Run, tmp_path: Path, disk: None) -> None:
    """What no index needs goes, and the bytes that are said to be freed are."""
    run("make", "--layout=packs", "disk.caibx", "disk")
    (tmp_path / "other").write_bytes(Random(2).randbytes(300_000))
    run("make", "other.caibx", "other")
    size = sum(path.stat().st_size for path in (tmp_path / "default.castr").rglob("*"))
    time.sleep(0.05)  # an index that is as old as the run would count as named
    done = run("gc", "--yes", "other.caibx")
    assert done.status == 0
    left = sum(path.stat().st_size for path in (tmp_path / "default.castr").rglob("*") if path.is_file())
    assert left < 320_000 < size
    assert run("extract", "other.caibx", "out").status == 0


def damaged_pack(tmp_path: Path, at: int) -> Path:
    (pack,) = (tmp_path / "default.castr/.pycasync/packs").rglob("*/*")
    content = bytearray(pack.read_bytes())
    content[at] ^= 1
    pack.chmod(0o644)
    pack.write_bytes(content)
    return pack


def test_verify_reads_every_pack(run: Run, tmp_path: Path, disk: None) -> None:
    """One flipped bit is found by `verify` of the store and of the index, and mended from another store."""
    run("make", "--store=good.castr", "disk.caibx", "disk")
    run("make", "--layout=packs", "disk.caibx", "disk")
    assert run("verify", "default.castr").status == 0
    pack = damaged_pack(tmp_path, 1000)
    found = run("verify", "default.castr")
    assert found.status == 1
    assert pack.name.encode() in found.out
    assert b"2 defects (2 corrupt)" in found.out
    assert run("verify", "disk.caibx").status == 1
    mended = run("verify", "--repair-from=good.castr", "default.castr")
    assert mended.status == 1
    assert b"2 repaired" in mended.out
    assert not pack.exists()
    assert run("verify", "default.castr").status == 0
    assert run("extract", "disk.caibx", "out").status == 0
    assert (tmp_path / "out").read_bytes() == DATA


def test_verify_of_an_index_mends(run: Run, tmp_path: Path, disk: None) -> None:
    """The same, when what is verified is the index."""
    run("make", "--store=good.castr", "disk.caibx", "disk")
    run("make", "--layout=packs", "disk.caibx", "disk")
    damaged_pack(tmp_path, 1000)
    assert b"1 repaired" in run("verify", "--repair-from=good.castr", "disk.caibx").out
    assert run("verify", "disk.caibx").status == 0


def test_verify_finds_damage_outside_of_chunks(run: Run, tmp_path: Path, disk: None) -> None:
    """A pack whose table is damaged is told, and written anew with --remove; a missing one loses its chunks."""
    run("make", "--layout=packs", "disk.caibx", "disk")
    damaged_pack(tmp_path, -20)
    assert b"1 defects" in run("verify", "default.castr").out
    assert b"1 repaired" in run("verify", "--remove", "default.castr").out
    assert run("verify", "default.castr").status == 0
    for path in (tmp_path / "default.castr/.pycasync/packs").rglob("*/*"):
        path.unlink()
    assert b"missing" in run("verify", "default.castr").out
    assert b"removed" in run("verify", "--remove", "default.castr").out
    assert run("verify", "default.castr").out.startswith(b"0 chunks")
