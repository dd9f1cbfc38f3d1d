"""Few descriptors, little memory, files that may not grow: done, or refused in a line, and nothing half-written."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path

import pytest

from .mutants import fresh
from .running import build_tree, everything, run, temporary_files, works

VERBS = (
    "make y.caidx src --store=y.castr", "make y.catar src", "make y.caibx x.catar --store=y.castr",
    "make y.caidx src --store=y.castr --cache=cache", "extract x.caidx out", "extract x.catar out",
    "extract x.caidx out --seed=src", "extract x.caibx out", "list src", "list x.caidx", "mtree src", "mtree x.caidx",
    "stat x.caidx d0", "digest x.caidx", "digest src", "verify x.caidx", "verify x.caidx src",
    "verify --what=store default.castr", "gc x.caidx x.caibx", "info x.caidx", "cat x.caibx", "dump x.catar",
    "convert-index x.caidx y.caidx --store=default.castr --digest=sha256", "completion bash",
)  # fmt: skip
LIMITS = [
    *((resource.RLIMIT_NOFILE, most) for most in (4, 7, 10, 16, 40)),
    *((resource.RLIMIT_FSIZE, most) for most in (0, 4096)),
    *((resource.RLIMIT_AS, most << 20) for most in (0, 2, 12, 40)),
]


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree, an archive and indexes of it."""
    here = tmp_path_factory.mktemp("rlimits") / "here"
    (here / "src").mkdir(parents=True)
    build_tree(here / "src", files=12, size=20_000)
    works("make", "x.catar", "src", cwd=here)
    works("make", "x.caidx", "src", cwd=here)
    works("make", "x.caibx", "x.catar", cwd=here)
    return here


@pytest.mark.parametrize(("which", "most"), LIMITS)
def test_limits(at: Path, which: int, most: int) -> None:
    """Every verb works, or says why it cannot; what was there stays, and what it was writing does not."""
    sources = everything(at / "src")
    for verb in VERBS:
        for name in ("y.caidx", "y.caibx", "y.catar", "y.castr", "out", "cache"):
            fresh(at / name)
        outcome = run(*verb.split(), cwd=at, limits=[(which, most)])
        if which == resource.RLIMIT_FSIZE and not outcome.err and outcome.status == 1:
            continue  # the file that takes what it says has that limit, too
        assert outcome.status in (0, 1, 3), outcome
        said = outcome.err.decode().splitlines()
        assert all(line.startswith("pycasync: ") for line in said), outcome
        assert "internal error" not in outcome.err.decode(), outcome
        assert outcome.status == 0 or said, outcome
        assert temporary_files(at) == [], outcome
        if outcome.status == 0 and verb.startswith("extract x.ca") and "caibx" not in verb:
            assert everything(at / "out") == sources
        if outcome.status == 0 and verb.startswith("make y.caidx"):
            assert (at / "y.caidx").read_bytes() == (at / "x.caidx").read_bytes()
    assert everything(at / "src") == sources
    shutil.rmtree(at / "out", ignore_errors=True)
    works("extract", "x.caidx", "out", cwd=at)
    assert everything(at / "out") == sources
