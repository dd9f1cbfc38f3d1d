"""Indexes that are for pycasync alone, and what becomes of them when casync or desync meets them."""

from __future__ import annotations

import pytest
from grounds import Forest
from interop.tools import Pair, better_than_casync


@better_than_casync
def test_blake3_is_refused_by_casync(pair: Pair, forest: Forest) -> None:
    """casync does not misread a blake3 index: it says that it cannot read it."""
    index = pair.ours / "fast.caidx"
    pair.pycasync("make", index, "--digest=blake3", "--chunk-size=4096:4096:4096", forest.get("small"))
    refused = pair.casync.run("list", index)
    assert refused.status == 1
    assert b"Operation not supported" in refused.err


@better_than_casync
@pytest.mark.parametrize("name", ["small", "sizes"])
def test_converted_indexes_are_those_of_casync(pair: Pair, forest: Forest, name: str) -> None:
    """Converted, such an index is the one that casync makes of the same tree."""
    tree = forest.get(name)
    fast, right, converted = (pair.ours / f"{n}.caidx" for n in ("fast", "right", "converted"))
    pair.pycasync("make", fast, "--digest=blake3", "--chunk-size=4096:4096:4096", tree)
    pair.casync("make", right, tree)
    pair.pycasync("convert-index", fast, converted)
    assert converted.read_bytes() == right.read_bytes()
