"""Killed at any moment, then run again: no index lies, every chunk in the store is right, the tree comes out whole."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from casync_compat.ids import Digest
from casync_compat.index import Index
from casync_compat.store.local import LocalStore

from .mutants import times
from .running import Word, build_tree, everything, start, temporary_files, works

KILLS = times(20)
LIMIT = 128 << 20


def kill_after(delay: float, *words: Word, cwd: Path) -> bool:
    """Start a run and kill it after so many seconds. Whether it was still going on."""
    process = start(*words, cwd=cwd)
    try:
        process.communicate(timeout=delay)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return True
    assert process.returncode == 0
    return False


def duration(*words: Word, cwd: Path) -> float:
    """How long a run takes that is left alone."""
    begin = time.monotonic()
    process = start(*words, cwd=cwd)
    _, err = process.communicate()
    assert process.returncode == 0, err
    return time.monotonic() - begin


def assert_store_is_right(at: Path) -> int:
    """Every chunk that has a name in the store has the contents of that name. Returns their number."""
    store = LocalStore(os.fsencode(at))
    count = 0
    for id_ in store.ids():
        store.get(id_, Digest.SHA512_256, LIMIT)
        count += 1
    return count


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tree, and what an undisturbed run makes of it."""
    at = tmp_path_factory.mktemp("kill")
    build_tree(at / "src", files=60, size=400_000)
    works("make", "right.caidx", "src", "--store=right.castr", cwd=at)
    works("make", "right.catar", "src", cwd=at)
    (at / "blob").write_bytes((at / "right.catar").read_bytes())
    works("make", "right.caibx", "blob", "--store=right.castr", cwd=at)
    return at


def test_make_of_an_index(source: Path) -> None:
    """After every kill there is no index, or the right one; stores are right at any time."""
    right = (source / "right.caidx").read_bytes()
    words = ("make", "x.caidx", "src", "--store=x.castr")
    whole = duration(*words, cwd=source)
    chance = random.Random(1)
    killed = 0
    for i in range(KILLS):
        (source / "x.caidx").unlink(missing_ok=True)
        if i % 3 == 0:
            shutil.rmtree(source / "x.castr", ignore_errors=True)
        killed += kill_after(whole * chance.uniform(0.2, 1.0), *words, cwd=source)
        if (source / "x.caidx").exists():
            assert (source / "x.caidx").read_bytes() == right
            stored = {str(id_) for id_ in LocalStore(os.fsencode(source / "x.castr")).ids()}
            assert {str(id_) for id_ in Index.parse(right).ids()} <= stored
        if (source / "x.castr").exists():
            assert_store_is_right(source / "x.castr")
    assert killed >= KILLS // 3
    works(*words, cwd=source)
    assert (source / "x.caidx").read_bytes() == right
    assert temporary_files(source) == []
    assert assert_store_is_right(source / "x.castr") == len(set(Index.parse(right).ids()))


def test_make_of_an_archive(source: Path) -> None:
    """There is the old archive or the new one, and at the end the right one."""
    words = ("make", "x.catar", "src")
    whole = duration(*words, cwd=source)
    chance = random.Random(2)
    for _ in range(KILLS // 3):
        (source / "x.catar").write_bytes(b"old")
        kill_after(whole * chance.uniform(0.3, 1.0), *words, cwd=source)
        assert (source / "x.catar").read_bytes() in (b"old", (source / "right.catar").read_bytes())
    works(*words, cwd=source)
    assert (source / "x.catar").read_bytes() == (source / "right.catar").read_bytes()
    assert temporary_files(source) == []


def test_extract_of_an_index(source: Path) -> None:
    """Whatever a killed run left in the target, the next one makes the tree right and takes the remains away."""
    words = ("extract", "right.caidx", "out", "--store=right.castr")
    whole = duration(*words, cwd=source)
    wanted = everything(source / "src")
    chance = random.Random(3)
    killed = 0
    for i in range(KILLS):
        if i % 2:
            shutil.rmtree(source / "out")
        killed += kill_after(whole * chance.uniform(0.2, 1.0), *words, cwd=source)
        if i % 5 == 4:
            works(*words, cwd=source)
            assert everything(source / "out") == wanted
        (source / "out").mkdir(exist_ok=True)
    assert killed >= KILLS // 3
    works(*words, cwd=source)
    assert everything(source / "out") == wanted
    assert (source / "out").stat().st_mtime_ns == (source / "src").stat().st_mtime_ns


def test_extract_of_a_blob(source: Path) -> None:
    """The file is the old one or the new one."""
    words = ("extract", "right.caibx", "restored", "--store=right.castr")
    whole = duration(*words, cwd=source)
    chance = random.Random(4)
    right = (source / "blob").read_bytes()
    for _ in range(KILLS // 3):
        (source / "restored").write_bytes(b"old")
        kill_after(whole * chance.uniform(0.3, 1.0), *words, cwd=source)
        assert (source / "restored").read_bytes() in (b"old", right)
    works(*words, cwd=source)
    assert (source / "restored").read_bytes() == right
    assert temporary_files(source) == []


def ten_minutes_pass(store: Path) -> None:
    """What a run that was killed holds in a store is taken for dead then."""
    for path in (store / ".pycasync").rglob("*"):
        os.utime(path, (path.stat().st_atime - 700, path.stat().st_mtime - 700))


def test_gc(source: Path) -> None:
    """What an index needs is there after every kill, and the next run removes all that none needs."""
    right = Index.parse((source / "right.caidx").read_bytes())
    words = ("gc", "right.caidx", "--store=g.castr", "--yes")
    needed = {str(id_) for id_ in right.ids()}
    chance = random.Random(5)
    (source / "other").write_bytes(chance.randbytes(6_000_000))
    works("make", "other.caibx", "other", "--store=garbage.castr", "--chunk-size=1K:4K:16K", cwd=source)

    def fill() -> None:
        for store in ("right.castr", "garbage.castr"):
            shutil.copytree(source / store, source / "g.castr", dirs_exist_ok=True)

    fill()
    whole = duration(*words, cwd=source)
    for _ in range(KILLS):
        fill()
        kill_after(whole * chance.uniform(0.2, 1.0), *words, cwd=source)
        ten_minutes_pass(source / "g.castr")
        assert needed <= {str(id_) for id_ in LocalStore(os.fsencode(source / "g.castr")).ids()}
    assert_store_is_right(source / "g.castr")
    works(*words, cwd=source)
    assert needed == {str(id_) for id_ in LocalStore(os.fsencode(source / "g.castr")).ids()}
    works("extract", "right.caidx", "collected", "--store=g.castr", cwd=source)
    assert everything(source / "collected") == everything(source / "src")


def test_convert_index(source: Path) -> None:
    """There is no index, or the right one with all its chunks; what was converted is as it was."""
    words = ("convert-index", "right.caidx", "c.caidx", "--store=right.castr", "--chunk-size=8K:32K:128K")
    before = (source / "right.caidx").read_bytes()
    whole = duration(*words, cwd=source)
    right = (source / "c.caidx").read_bytes()
    chance = random.Random(6)
    for _ in range(KILLS):
        (source / "c.caidx").unlink(missing_ok=True)
        kill_after(whole * chance.uniform(0.2, 1.0), *words, cwd=source)
        assert (source / "right.caidx").read_bytes() == before
        if (source / "c.caidx").exists():
            assert (source / "c.caidx").read_bytes() == right
            stored = {str(id_) for id_ in LocalStore(os.fsencode(source / "right.castr")).ids()}
            assert {str(id_) for id_ in Index.parse(right).ids()} <= stored
    works(*words, cwd=source)
    assert (source / "c.caidx").read_bytes() == right
    assert temporary_files(source) == []
