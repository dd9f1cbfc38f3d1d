"""`gc` removes the chunks that casync removes, and says so in the same words.

It asks for `--yes` before indexes lose chunks that lie beside the store, and says without -v what it did; casync does
neither.
"""

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
    dry = bool({"-n", "--dry-run"} & set(options))
    theirs = pair.casync.run("gc", *options, *keep, cwd=pair.theirs)
    ours = pair.pycasync.run("gc", "--yes", *options, *keep, cwd=pair.ours)
    assert (ours.status, theirs.status) == (0, 0)
    assert file_modes(pair.ours) == file_modes(pair.theirs)
    assert (file_modes(pair.ours) == before) == dry
    said = [line for line in unordered(ours.out) if not line.startswith(b"Freed ")]
    if not options:
        assert [line.split()[0] for line in said] == [b"Removed"]
        said = []
    assert said == unordered(theirs.out)
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
    assert pair.pycasync.run("gc", "--store=s.castr", "sub/a.caidx", cwd=pair.ours).status == 1
    pair.pycasync("gc", "--yes", "--store=s.castr", "sub/a.caidx", cwd=pair.ours)
    pair.casync("gc", "--store=s.castr", "sub/a.caidx", cwd=pair.theirs)
    assert file_modes(pair.ours) == file_modes(pair.theirs)
    assert pair.pycasync.run("digest", "--store=s.castr", "b.caidx", cwd=pair.ours).status == 1


@pytest.mark.parametrize("arguments", [(), ("missing.caidx",), ("a.catar",), (".",)], ids=" ".join)
def test_refused(pair: Pair, forest: Forest, arguments: tuple[str, ...]) -> None:
    """Without a good index nothing is removed."""
    prepare(pair, forest)
    before = file_modes(pair.ours)
    pair.run("gc", *arguments)
    assert file_modes(pair.ours) == before
