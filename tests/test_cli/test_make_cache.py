"""`make --cache` and `make -c` from the command line."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from casync_compat.fs.scan import reusing

from .conftest import Run

Fails = Callable[..., str]


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Believe a tree that has only just been built."""
    monkeypatch.setattr(reusing, "SETTLED", -3600 * 10**9)


def cached(ok: Run, tree: Path, *words: str) -> tuple[int, int]:
    """Chunks that were known, and all."""
    told = json.loads(ok("make", "--json", "x.caidx", tree, *words).out)
    assert told["digest"] is None
    return told["chunks"]["cached"], told["chunks"]["total"]


def test_the_index_is_the_same_and_no_digest_is_printed(ok: Run, tree: Path) -> None:
    """As casync with a cache: it says nothing, for an index and for an archive."""
    ok("make", "plain.caidx", tree)
    for _ in range(2):
        assert ok("make", "--cache=cache", "x.caidx", tree).out == b""
        assert Path("x.caidx").read_bytes() == Path("plain.caidx").read_bytes()
    assert len(os.listdir("cache")) == 1
    ok("make", "plain.catar", tree)
    assert ok("make", "--cache", "cache", "x.catar", tree).out == b""
    assert Path("x.catar").read_bytes() == Path("plain.catar").read_bytes()


def test_json_and_verbose_tell_hits(ok: Run, run: Run, tree: Path) -> None:
    """How many chunks were known: in JSON, and on standard error with -v."""
    hits, total = cached(ok, tree, "--cache=cache")
    assert (hits, total > 0) == (0, True)
    assert cached(ok, tree, "--cache=cache") == (total, total)
    told = run("make", "-v", "--cache=cache", "x.caidx", tree).err
    assert b"Cache hits: %d, misses: 0" % total in told
    assert b"Reused (non-cached) chunks: 0 (0%)" in told
    assert "cached" not in json.loads(ok("make", "--json", "y.caidx", tree).out)["chunks"]


def test_the_automatic_place(ok: Run, tree: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """-c keeps it where the XDG specification says, whose relative paths do not count."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    ok("make", "-c", "x.caidx", tree)
    assert len(os.listdir("xdg/pycasync")) == 1
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    ok("make", "--cache-auto", "x.caidx", tree)
    assert len(os.listdir("home/.cache/pycasync")) == 1
    assert not Path("relative").exists()


def test_the_path_that_is_given_wins(ok: Run, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With both options, as casync."""
    monkeypatch.setenv("XDG_CACHE_HOME", os.path.abspath("xdg"))
    ok("make", "-c", "--cache=given", "x.caidx", tree)
    assert os.path.isdir("given")
    assert not os.path.exists("xdg")


def test_a_damaged_cache_is_one_warning(ok: Run, run: Run, tree: Path) -> None:
    """On standard error; the run succeeds."""
    ok("make", "--cache=cache", "x.caidx", tree)
    path = next(Path("cache").iterdir())
    path.write_bytes(b"damaged" * 100)
    result = run("make", "--cache=cache", "x.caidx", tree)
    told = result.err.decode()
    assert result.status == 0
    assert told.startswith(f"pycasync: warning: {path}")
    assert told.count("\n") == 1
    assert ok("make", "--cache=cache", "x.caidx", tree).err == b""


def test_blobs_have_none(fails: Fails, tree: Path) -> None:
    """casync refuses it, too."""
    assert "blob" in fails("make", "--cache=cache", "x.caibx", tree / "sub" / "data")
    assert not os.path.exists("cache")


def test_a_cache_that_cannot_be_made(fails: Fails, tree: Path) -> None:
    """A file in its place is an error that names it, and no index is left."""
    Path("cache").write_bytes(b"")
    assert "cache" in fails("make", "--cache=cache", "x.caidx", tree)
    assert not os.path.exists("x.caidx")


def test_what_changes_without_a_trace(ok: Run, tmp_path: Path) -> None:
    """A page that a program has mapped and changed already can be changed again without any new time."""
    tree = tmp_path / "mapped"
    tree.mkdir()
    (tree / "file").write_bytes(bytes(5000))
    with open(tree / "file", "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[0] = 1
        for number in range(2, 5):
            ok("make", "--cache=cache", "--cache-check=strict", "x.caidx", tree)
            ok("make", "plain.caidx", tree)
            assert Path("x.caidx").read_bytes() == Path("plain.caidx").read_bytes()
            memory[0] = number


def test_a_strict_run_does_not_believe_others(ok: Run, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was remembered with less certainty is read again; what has not changed for long is not."""
    _, total = cached(ok, tree, "--cache=cache")
    assert cached(ok, tree, "--cache=cache") == (total, total)
    assert cached(ok, tree, "--cache=cache", "--cache-check=strict") == (0, total)
    assert cached(ok, tree, "--cache=cache", "--cache-check=strict") == (0, total)
    monkeypatch.setattr(reusing, "WRITTEN_BACK", -3600 * 10**9)
    monkeypatch.setattr(reusing, "WRITES_BACK", reusing.KEEPS_CHANGE_TIMES)
    cached(ok, tree, "--cache=cache", "--cache-check=strict")
    assert cached(ok, tree, "--cache=cache", "--cache-check=strict") == (total, total)


def test_checks_that_there_are(fails: Fails) -> None:
    """Anything else is refused."""
    assert "neither normal nor strict" in fails("make", "--cache=c", "--cache-check=never", "x.caidx", ".")
