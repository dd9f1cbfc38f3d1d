"""Several stores: which is written to, and which are asked, in what order."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import pytest

from .conftest import Run

HALVES = Random(1).randbytes(200_000), Random(2).randbytes(200_000)


@pytest.fixture
def halves(run: Run, tmp_path: Path) -> None:
    """a.caibx with its chunks in a.castr, b.caibx in b.castr."""
    for name, data in zip("ab", HALVES, strict=True):
        (tmp_path / name).write_bytes(data)
        assert run("make", f"--store={name}.castr", f"{name}.caibx", name).status == 0


@pytest.mark.parametrize(
    "stores",
    [
        ["--store=a.castr", "--store=b.castr"],
        ["--store=b.castr", "--store=a.castr"],
        ["--extra-store=a.castr", "--store=none.castr", "--store=b.castr"],
        ["--store=none.castr", "--extra-store=b.castr", "--store=none.castr", "--store=a.castr"],
        ["--store", "a.castr", "--store", "none.castr", "--store", "b.castr"],
    ],
)
def test_every_store_is_asked(run: Run, tmp_path: Path, halves: None, stores: list[str]) -> None:
    """Whichever of the stores has the chunks, they are found."""
    for name, data in zip("ab", HALVES, strict=True):
        if not any(f"{name}.castr" in word for word in stores):
            continue
        assert run("extract", *stores, f"{name}.caibx", f"out-{name}").status == 0
        assert (tmp_path / f"out-{name}").read_bytes() == data


def test_the_last_is_written_to(run: Run, tmp_path: Path, halves: None) -> None:
    """As casync: the last `--store` is the primary one, and the others stay as they are."""
    before = sorted((tmp_path / "a.castr").rglob("*"))
    (tmp_path / "c").write_bytes(b"".join(HALVES))
    assert run("make", "--store=a.castr", "--store=c.castr", "c.caibx", "c").status == 0
    assert sorted((tmp_path / "a.castr").rglob("*")) == before
    shutil.rmtree(tmp_path / "a.castr")
    assert run("extract", "--store=c.castr", "c.caibx", "out").status == 0
    assert (tmp_path / "out").read_bytes() == b"".join(HALVES)


def test_what_the_primary_lacks(run: Run, tmp_path: Path, halves: None) -> None:
    """Chunks that are gone from the primary store come from an earlier one; without it they are missed."""
    shutil.copytree(tmp_path / "a.castr", tmp_path / "whole.castr")
    for chunk in (tmp_path / "a.castr").glob("*/*.cacnk"):
        chunk.unlink()
    assert run("extract", "--store=whole.castr", "--store=a.castr", "a.caibx", "out").status == 0
    assert run("extract", "--store=a.castr", "a.caibx", "out2").status == 1
