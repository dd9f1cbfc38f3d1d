"""Packs beside chunk files: casync and desync go on as if there were none, and what is exploded is theirs again."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import pytest
from interop.tools import Tool, better_than_casync
from interop.webservers import Nginx, nginx  # noqa: F401 - a fixture

DATA = Random(7).randbytes(3_000_000)
MORE = Random(8).randbytes(1_000_000)

pytestmark = better_than_casync


@pytest.fixture
def mixed(tmp_path: Path, casync: Tool, pycasync: Tool) -> Path:
    """`packed.caibx` in packs and `more.caibx` in chunk files, in one store."""
    (tmp_path / "packed").write_bytes(DATA)
    (tmp_path / "more").write_bytes(MORE)
    pycasync("make", "--layout=packs", "packed.caibx", "packed", cwd=tmp_path)
    casync("make", "more.caibx", "more", cwd=tmp_path)
    casync("make", "gone.caibx", "packed", "--store=other.castr", cwd=tmp_path)
    return tmp_path


def tree(store: Path) -> dict[Path, bytes]:
    """All that belongs to packs."""
    return {path: path.read_bytes() for path in (store / ".pycasync").rglob("*") if path.is_file()}


def test_casync_collects_beside_packs(mixed: Path, casync: Tool, pycasync: Tool) -> None:
    """casync's gc removes chunk files that nobody names, and leaves packs alone; both are read afterwards."""
    before = tree(mixed / "default.castr")
    shutil.copytree(mixed / "other.castr", mixed / "default.castr", dirs_exist_ok=True)
    casync("gc", "more.caibx", cwd=mixed)
    assert tree(mixed / "default.castr") == before
    casync("extract", "more.caibx", "out", cwd=mixed)
    assert (mixed / "out").read_bytes() == MORE
    pycasync("extract", "packed.caibx", "out2", cwd=mixed)
    assert (mixed / "out2").read_bytes() == DATA


def test_desync_beside_packs(mixed: Path, desync: Tool, pycasync: Tool) -> None:
    """desync's verify, prune and extract see the chunk files only, and leave packs alone."""
    before = tree(mixed / "default.castr")
    desync("verify", "-s", "default.castr", cwd=mixed)
    desync("prune", "-y", "-s", "default.castr", "more.caibx", cwd=mixed)
    assert tree(mixed / "default.castr") == before
    desync("extract", "-s", "default.castr", "more.caibx", "out", cwd=mixed)
    assert (mixed / "out").read_bytes() == MORE
    pycasync("extract", "packed.caibx", "out2", cwd=mixed)
    assert (mixed / "out2").read_bytes() == DATA


def test_exploded_is_theirs(mixed: Path, casync: Tool, desync: Tool, pycasync: Tool) -> None:
    """After `store explode` both read everything, and `store pack` takes up what casync wrote."""
    pycasync("store", "pack", "default.castr", cwd=mixed)
    assert [path.name for path in (mixed / "default.castr").iterdir()] == [".pycasync"]
    pycasync("store", "explode", "default.castr", cwd=mixed)
    casync("extract", "packed.caibx", "out", cwd=mixed)
    desync("extract", "-s", "default.castr", "more.caibx", "out2", cwd=mixed)
    desync("verify", "-s", "default.castr", cwd=mixed)
    assert ((mixed / "out").read_bytes(), (mixed / "out2").read_bytes()) == (DATA, MORE)


def test_packs_over_http(mixed: Path, pycasync: Tool, nginx: Nginx) -> None:  # noqa: F811
    """A static server over a packed store, or a mixed one, is read by ranges, or without them."""
    root = nginx.root / "packed-test"
    shutil.copytree(mixed, root)
    for server in (nginx.plain, nginx.bare):
        for name, data in (("packed", DATA), ("more", MORE)):
            pycasync("extract", f"{server}/packed-test/{name}.caibx", f"{name}.out", cwd=mixed)
            assert (mixed / f"{name}.out").read_bytes() == data
