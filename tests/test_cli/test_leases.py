"""Commands that write to a store and those that collect its garbage wait for one another, and say so."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from test_oci.images import build, layer, layout_at

from casync_compat.verbs.gc import UnnamedIndexes

from .conftest import Run

LEASE = Path("x.castr/.pycasync/leases/abc")
LOCK = Path("x.castr/.pycasync/gc")


def leave(path: Path, age: float = 0) -> Path:
    """What another run would leave."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("a run on elsewhere, process 7\n")
    os.utime(path, (time.time() - age,) * 2)
    return path


@pytest.fixture
def filled(ok: Run) -> Path:
    """A store with the chunks of two indexes, one of which is gone."""
    Path("src").mkdir()
    Path("src/one").write_bytes(os.urandom(200_000))
    ok("make", "gone.caidx", "src", "--store=x.castr")
    Path("src/one").write_bytes(os.urandom(200_000))
    ok("make", "x.caidx", "src", "--store=x.castr")
    Path("gone.caidx").unlink()
    return Path("x.castr")


def chunks(store: Path) -> set[str]:
    return {path.name for path in store.rglob("*.cacnk")}


def test_gc_waits_and_gives_up(filled: Path, run: Run, ok: Run) -> None:
    """Status 1 and one line that says who it is and what to do; nothing is removed, and the lease is still theirs."""
    before = chunks(filled)
    leave(LEASE)
    left = run("gc", "--store=x.castr", "--wait=0.1", "x.caidx")
    assert (left.status, left.out) == (1, b"")
    assert left.err.decode() == (
        "pycasync: x.castr is in use by a run on elsewhere, process 7, which was not done within 0.1 seconds; "
        "nothing is changed; try again, or wait longer with --wait=SECONDS\n"
    )
    assert chunks(filled) == before
    assert LEASE.exists()
    assert not LOCK.exists()
    leave(LEASE, age=601)
    ok("gc", "--store=x.castr", "--wait=0", "x.caidx")
    assert chunks(filled) < before
    assert not LEASE.parents[1].exists()


def test_a_wait_is_told(filled: Path, run: Run) -> None:
    """What takes longer than a second is told on standard error, once."""
    leave(LEASE)
    lines = run("gc", "--store=x.castr", "--wait=1.2", "x.caidx").err.decode().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(
        "pycasync: warning: x.castr is in use by a run on elsewhere, process 7; waiting"
    )


@pytest.mark.parametrize("words", ["gc -n", "gc --dry-run --wait=0", "gc -n --grace=1d"])
def test_a_dry_run_never_waits(filled: Path, run: Run, words: str) -> None:
    """It ends at once with status 0, says who is at work, and changes nothing."""
    leave(LEASE)
    leave(LOCK)
    before = {path: path.lstat().st_mtime_ns for path in [filled, *filled.rglob("*")]}
    left = run(*words.split(), "--store=x.castr", "x.caidx")
    assert left.status == 0
    assert left.out.startswith(b"Would remove ")
    assert b"may be writing" in left.err
    assert {path: path.lstat().st_mtime_ns for path in [filled, *filled.rglob("*")]} == before


MAKING = {
    "make": ("make", "new.caidx", "src"),
    "make a blob": ("make", "new.caibx", "src/one"),
    "make with a cache": ("make", "--cache=remembered", "new.caidx", "src"),
    "convert-index": ("convert-index", "x.caidx", "new.caidx"),
    "copy": ("copy", "x.caidx", "new.caidx"),
}


@pytest.mark.parametrize("what", MAKING)
def test_writers_wait_and_give_up(filled: Path, run: Run, ok: Run, what: str) -> None:
    """While a collection is at work no index appears, and no chunk; when it is over, or dead, both do."""
    before = chunks(filled)
    leave(LOCK)
    left = run(*MAKING[what], "--store=x.castr", "--wait=0")
    assert left.status == 1
    assert b"wait longer with --wait" in left.err
    assert not Path(MAKING[what][-1 if what in ("convert-index", "copy") else -2]).exists()
    assert chunks(filled) == before
    leave(LOCK, age=601)
    left = ok(*MAKING[what], "--store=x.castr", "--wait=0")
    assert left.err == b""
    assert not LOCK.parent.exists()


def test_a_second_make_changes_nothing(filled: Path, ok: Run) -> None:
    """Bytes, times and names in the store are the same after a run that found all there, and so is its own date."""
    os.utime(filled, (1e9, 1e9))
    before = {path: path.lstat().st_mtime_ns for path in [filled, *filled.rglob("*")]}
    assert ok("make", "again.caidx", "src", "--store=x.castr").err == b""
    assert {path: path.lstat().st_mtime_ns for path in [filled, *filled.rglob("*")]} == before


@pytest.mark.parametrize("words", ["make no.caidx nothing", "make no.caibx nothing", "make no/no.caidx src"])
def test_what_fails_leaves_nothing(ok: Run, run: Run, words: str) -> None:
    """A run that fails before its first chunk leaves no directory behind."""
    Path("src").mkdir()
    assert run(*words.split(), "--store=new.castr").status == 1
    assert not Path("new.castr").exists()


def test_readers_need_no_lease(filled: Path, ok: Run) -> None:
    """Whoever only reads does not wait."""
    leave(LOCK)
    for words in ("list x.caidx", "extract x.caidx out", "verify x.caidx", "verify x.castr", "info x.caidx"):
        store = () if words == "verify x.castr" else ("--store=x.castr",)
        ok(*words.split(), *store)
    assert LOCK.exists()


def test_words_of_leases_are_no_damage(filled: Path, ok: Run) -> None:
    """A store with leases in it is a good one, and as large as before."""
    before = ok("verify", "x.castr").out
    leave(LEASE)
    leave(LEASE.with_name("0123.ids"))
    assert ok("verify", "x.castr").out == before
    assert ok("verify", "x.caidx", "--store=x.castr").status == 0


def test_grace(filled: Path, ok: Run) -> None:
    """Young chunks are spared and counted; all goes without it."""
    before = chunks(filled)
    out = ok("gc", "--store=x.castr", "--grace=1h", "x.caidx").out.decode()
    assert chunks(filled) == before
    assert "Removed 0 chunks" in out
    assert "spared because they are young" in out
    ok("gc", "--store=x.castr", "--grace", "0", "x.caidx")
    assert chunks(filled) < before


@pytest.mark.parametrize(
    ("word", "good"),
    [("0", True), ("1.5", True), ("90S", True), ("15m", True), ("7d", True), ("2w", True)]
    + [(word, False) for word in ("", "-1", "1y", "1h30", "soon", "1e3", "inf", "nan", "١", "9" * 400)],
)
@pytest.mark.parametrize("option", ["--grace", "--wait"])
def test_times(filled: Path, run: Run, option: str, word: str, good: bool) -> None:
    """Seconds, or a number with a unit; anything else is refused in one line, and nothing is removed."""
    before = chunks(filled)
    left = run("gc", "--yes", "--store=x.castr", f"{option}={word}", "x.caidx")
    assert left.status == (0 if good else 2)
    if not good:
        assert chunks(filled) == before
        assert left.err.count(b"\n") == 1
        assert b"internal" not in left.err


def test_unnamed_indexes_leave_no_lock(filled: Path, fails: Callable[..., str]) -> None:
    """A collection that refuses takes its lock away."""
    Path("other.caidx").write_bytes(b"no index")
    assert str(UnnamedIndexes((b"other.caidx",))).split(":")[0] in fails("gc", "--store=x.castr", "x.caidx")
    assert not LOCK.parent.exists()


def test_images(run: Run) -> None:
    """Conversion and pulling with a store are writers, too."""
    with layout_at(Path("images")) as layout:
        build(layout, "app", [layer({"etc/app": b"app\n" * 100})])
    convert = ("oci", "convert", "--thin", "oci:images:app", "oci:new:app")
    pull = ("oci", "pull", "oci:new:app", "oci:third:app")
    for words, before in ((convert, None), (pull, convert)):
        if before is not None:
            assert run(*before).status == 0
        leave(LOCK)
        left = run(*words, "--store=x.castr", "--wait=0")
        assert left.status == 1
        assert b"in use by a run on elsewhere" in left.err
        assert not chunks(Path("x.castr"))
        leave(LOCK, age=601)
        assert run(*words, "--store=x.castr", "--wait=0").status == 0
        assert chunks(Path("x.castr"))
        assert not LOCK.parent.exists()
        for path in Path("x.castr").rglob("*.cacnk"):
            path.unlink()
