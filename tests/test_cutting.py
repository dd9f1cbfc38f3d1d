"""Cuts found by several threads are those of one."""

from __future__ import annotations

import random

import pytest

from casync_compat.chunker import Chunker, ChunkSizes
from casync_compat.streams.cutting import CutFinder

DATA = random.Random(1).randbytes(1_500_000) + bytes(1_500_000) + random.Random(2).randbytes(3_000_000)


@pytest.mark.parametrize("jobs", [1, 4, 16, 64])
@pytest.mark.parametrize("sizes", ["auto", "4K", "1M", "64K:64K:64K"])
def test_cuts(jobs: int, sizes: str) -> None:
    """A stream has the same cuts with any number of workers, in slabs of any size."""
    chunk_sizes = ChunkSizes.parse(sizes)
    expected = [end for _, end in Chunker(chunk_sizes).split(DATA)]
    with CutFinder(chunk_sizes, jobs) as finder:
        for slab in (len(DATA), 2_000_000):
            found: list[int] = []
            begin, seen = 0, 0
            for end in range(slab, len(DATA) + slab, slab):
                end = min(end, len(DATA))
                view = memoryview(DATA)[begin:]
                cuts = finder.cuts(view, 0, seen - begin if seen else 0, end - begin)
                found += [begin + cut for cut in cuts]
                begin, seen = (found[-1] if found else 0), end
            if not found or found[-1] != len(DATA):
                found.append(len(DATA))
            assert found == expected
