"""The guess of how large an archive will be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from casync_compat.cli import _estimate
from casync_compat.cli._estimate import ChunkEstimate, Estimate
from casync_compat.progress import Progress

from .conftest import Run


def guess(tree: Path, last: str | None = None) -> int:
    estimate = Estimate(os.fsencode(tree), None if last is None else os.fsencode(last), None)
    estimate.look()
    assert estimate.size is not None
    return estimate.size


def test_by_a_look_at_the_tree(ok: Run, tree: Path) -> None:
    """About what the archive has in the end, holes included, as they are zeros there."""
    with (tree / "holes").open("wb") as file:
        file.truncate(1 << 20)
    ok("make", "x.catar", tree)
    assert abs(guess(tree) - os.stat("x.catar").st_size) < 2000


def test_by_the_last_run(ok: Run, tree: Path, tmp_path: Path) -> None:
    """An index that is made anew says how large it was; one that is none says nothing."""
    ok("make", "x.caidx", tree)
    ok("make", "x.catar", tree)
    (tmp_path / "empty").mkdir()
    assert guess(tmp_path / "empty", "x.caidx") == os.stat("x.catar").st_size
    (tmp_path / "broken.caidx").write_bytes(b"nothing")
    assert guess(tree, "broken.caidx") == guess(tree)


def test_the_total_of_a_progress(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that lasts learns how much there is, as long as that can be true; nobody is told who does not ask."""
    monkeypatch.setattr(_estimate, "_PATIENCE", -1)
    told: list[Progress] = []
    with Estimate(os.fsencode(tree), None, told.append) as estimate:
        assert estimate.callback is not None
        estimate.callback(Progress(1))
        assert estimate._thread is not None
        estimate._thread.join()
        assert estimate.size is not None
        estimate.callback(Progress(2))
        estimate.callback(Progress(estimate.size + 1))
    assert [one.done for one in told] == [1, 2, estimate.size + 1]
    assert (told[1].total, told[2].total) == (estimate.size, None)
    assert Estimate(os.fsencode(tree), None, None).callback is None


def test_the_chunks_of_a_store(ok: Run, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is verified is guessed to go on as it began; where it is elsewhere nothing is guessed."""
    monkeypatch.setattr(_estimate, "_PATIENCE", -1)
    ok("make", "x.caidx", tree, "--chunk-size=4K")
    chunks = sum(len(names) for _, _, names in os.walk("default.castr"))
    assert chunks >= 3
    told: list[Progress] = []
    with ChunkEstimate(b"default.castr", told.append) as estimate:
        assert estimate.callback is not None
        estimate.callback(Progress(50, entries=1))
        assert estimate._thread is not None
        estimate._thread.join()
        estimate.callback(Progress(50, entries=1))
        estimate.callback(Progress(300, entries=3))
        estimate.callback(Progress(300, entries=chunks + 1))  # some came meanwhile
    assert [one.total for one in told[1:]] == [50 * chunks, 100 * chunks, None]
    nothing = ChunkEstimate(None, told.append)
    nothing.look()
    assert nothing.size is None
