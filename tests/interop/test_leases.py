"""A store that runs of pycasync are at work in is one that casync and desync can use, verify and clean up as ever."""

from __future__ import annotations

from pathlib import Path

import pytest
from grounds import Forest
from interop.tools import Pair, Tool, better_than_casync

PLACES = (".pycasync/leases/0123456789abcdef", ".pycasync/leases/0123456789abcdef.ids", ".pycasync/gc")


def leave(store: Path) -> None:
    """What is there while a run makes an index, and another collects."""
    for name in PLACES:
        path = store / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"make on elsewhere, process 7\n" + bytes(3))


def chunks(store: Path) -> set[str]:
    return {path.name for path in store.glob("*/*") if path.is_file() and path.parent.name != ".pycasync"}


@better_than_casync
def test_casync_works_beside_leases(pair: Pair, forest: Forest) -> None:
    """casync collects, makes and extracts as without, and leaves them alone."""
    for at in (pair.theirs, pair.ours):
        pair.casync("make", "gone.caidx", forest.get("sizes"), cwd=at)
        pair.casync("make", "a.caidx", forest.get("small"), cwd=at)
        (at / "gone.caidx").unlink()
    leave(pair.ours / "default.castr")
    for words in (("gc", "-v", "a.caidx"), ("make", "b.caidx", forest.get("small")), ("digest", "a.caidx")):
        without = pair.casync.run(*words, cwd=pair.theirs)
        beside = pair.casync.run(*words, cwd=pair.ours)
        assert beside.status == without.status == 0
        assert sorted(beside.out.splitlines()) == sorted(without.out.splitlines())
    assert chunks(pair.ours / "default.castr") == chunks(pair.theirs / "default.castr")
    assert all((pair.ours / "default.castr" / name).exists() for name in PLACES)


@better_than_casync
@pytest.mark.parametrize(
    "verb",
    [("verify", "-s", "default.castr"), ("prune", "-y", "-s", "default.castr", "a.caidx")],
    ids=lambda words: words[0],
)
def test_desync_works_beside_leases(pair: Pair, forest: Forest, desync: Tool, verb: tuple[str, ...]) -> None:
    """desync checks and prunes as without, and leaves them alone."""
    for at in (pair.theirs, pair.ours):
        pair.casync("make", "gone.caidx", forest.get("sizes"), cwd=at)
        pair.casync("make", "a.caidx", forest.get("small"), cwd=at)
        (at / "gone.caidx").unlink()
    leave(pair.ours / "default.castr")
    without = desync.run(*verb, cwd=pair.theirs)
    beside = desync.run(*verb, cwd=pair.ours)
    assert beside.status == without.status == 0, beside
    assert chunks(pair.ours / "default.castr") == chunks(pair.theirs / "default.castr")
    assert all((pair.ours / "default.castr" / name).exists() for name in PLACES)
