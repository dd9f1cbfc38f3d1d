"""A buffer cut in spans by several workers has the cuts of one worker, whatever is in it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casync_compat.chunker import Chunker, ChunkSizes
from casync_compat.chunker.spans import join, spans

SIZES = st.sampled_from(["1K:2K:4K", "64:128:1000", "2000:2000:2000", "1:300:5000"]).map(ChunkSizes.parse)


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    """Noise, zeros, or noise, then zeros, then one text over and over."""
    size = draw(st.integers(0, 40_000))
    noise = random.Random(draw(st.integers(0, 1 << 30)))
    kind = draw(st.sampled_from(["noise", "zeros", "mixed"]))
    if kind == "noise":
        return noise.randbytes(size)
    if kind == "zeros":
        return bytes(size)
    return noise.randbytes(size // 3) + bytes(size // 3) + noise.randbytes(50) * (size // 150)


@given(contents(), SIZES, st.integers(1, 9), st.integers(0, 5000))
def test_joined_cuts_are_the_serial_ones(data: bytes, sizes: ChunkSizes, count: int, begin: int) -> None:
    """Any number of spans, over any bytes, gives what one pass gives."""
    chunker = Chunker(sizes)
    begin, end = min(begin, len(data)), len(data)
    parts = spans(begin, end, count)
    guesses = [chunker.cuts(data, start, stop) for start, stop in parts]
    assert join(chunker, data, begin, end, 0, parts, guesses) == chunker.cuts(data, begin, end)


@given(contents(), SIZES, st.integers(1, 9))
def test_a_chunk_carried_in(data: bytes, sizes: ChunkSizes, count: int) -> None:
    """A chunk that began before the spans goes on into them."""
    chunker = Chunker(sizes)
    middle, end = len(data) // 2, len(data)
    first = chunker.cuts(data, 0, middle)
    begin = first[-1] if first else 0
    parts = spans(middle, end, count)
    guesses = [chunker.cuts(data, start, stop) for start, stop in parts]
    joined = join(chunker, data, begin, end, middle, parts, guesses)
    assert first + joined == chunker.cuts(data, 0, end)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_spans_cover(count: int) -> None:
    """Spans follow each other from begin to end."""
    parts = spans(10, 1000, count)
    assert parts[0][0] == 10
    assert parts[-1][1] == 1000
    assert [stop for _, stop in parts[:-1]] == [start for start, _ in parts[1:]]
    assert spans(5, 5, count) == []
