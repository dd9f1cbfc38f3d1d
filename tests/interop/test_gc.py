"""`gc` removes the chunks that casync removes, and says so in the same words."""

from __future__ import annotations

import re

import pytest
from grounds import Forest
from interop.tools import Pair, file_modes


def prepare(pair: Pair, forest: Forest) -> None:
    """Both with the same store, of which two indexes use a part each and a third, now gone, used the rest."""
    for name, tree in (("a.caidx", "sizes"), ("b.caidx", "duplicates"), ("gone.caidx", "small")):
        pair.casync("make", name, forest.get(tree), "--chunk-size=16K", cwd=pair.theirs)
        pair.casync("make", name, forest.get(tree), "--chunk-size=16K", cwd=pair.ours)
    for at in (pair.theirs, pair.ours):
        (at / "gone.caidx").unlink()


def unordered(output: bytes) -> list[bytes]:
    """Lines in any order: casync names chunks in the order in which the directory lists them."""
    return sorted(output.splitlines())


@pytest.mark.parametrize("keep", [("a.caidx", "b.caidx"), ("a.caidx",), ("b.caidx",)], ids=" ".join)
@pytest.mark.parametrize("options", [(), ("-v",), ("-n",), ("-n", "-v"), ("--dry-run",)], ids=" ".join)
def test_collect(pair: Pair, forest: Forest, keep: tuple[str, ...], options: tuple[str, ...]) -> None:
    """The same files remain; with -n all of them, and the same numbers are printed."""
    prepare(pair, forest)
    before = file_modes(pair.ours)
    theirs, ours = pair.run("gc", *options, *keep)
    assert file_modes(pair.ours) == file_modes(pair.theirs)
    assert (file_modes(pair.ours) == before) == bool({"-n", "--dry-run"} & set(options))
    assert unordered(ours.out) == unordered(theirs.out)
    assert unordered(ours.err) == unordered(theirs.err)


def test_nothing_to_collect(pair: Pair, forest: Forest) -> None:
    """What is all in use stays; a second run finds nothing."""
    prepare(pair, forest)
    pair.run("gc", "a.caidx", "b.caidx")
    _, ours = pair.run("gc", "-n", "a.caidx", "b.caidx")
    assert re.search(rb"remove 0 chunks", ours.out + ours.err)
    assert pair.same_output("digest", "a.caidx")
    assert pair.same_output("digest", "b.caidx")


def test_named_store(pair: Pair, forest: Forest) -> None:
    """--store names the store; indexes may lie elsewhere."""
    for at, tool in ((pair.theirs, pair.casync), (pair.ours, pair.pycasync)):
        (at / "sub").mkdir()
        tool("make", "sub/a.caidx", "--store=s.castr", forest.get("sizes"), cwd=at)
        tool("make", "b.caidx", "--store=s.castr", forest.get("small"), cwd=at)
    pair.run("gc", "--store=s.castr", "sub/a.caidx")
    assert file_modes(pair.ours) == file_modes(pair.theirs)
    assert pair.pycasync.run("digest", "--store=s.castr", "b.caidx", cwd=pair.ours).status == 1


@pytest.mark.parametrize("arguments", [(), ("missing.caidx",), ("a.catar",), (".",)], ids=" ".join)
def test_refused(pair: Pair, forest: Forest, arguments: tuple[str, ...]) -> None:
    """Without a good index nothing is removed."""
    prepare(pair, forest)
    before = file_modes(pair.ours)
    pair.run("gc", *arguments)
    assert file_modes(pair.ours) == before
