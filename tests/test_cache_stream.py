"""A stream put together of old chunks and fresh bytes: its index is that of the same bytes cut from scratch."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from casync_compat.cache.stream import SplicedStream
from casync_compat.chunker import Chunker, ChunkSizes
from casync_compat.errors import ChunkCorrupt, ChunkMissing
from casync_compat.ids import Digest
from casync_compat.index import Index, IndexBuilder
from casync_compat.store.memory import MemoryStore
from casync_compat.streams.chunking import ChunkingSink
from catar.flags import select

FLAGS = select(default=0)
SIZES = [ChunkSizes(64, 256, 1024), ChunkSizes(512, 512, 512), ChunkSizes(256, 1024, 4096)]
Part = bytes | tuple[int, int]


def index_of(data: bytes, sizes: ChunkSizes, store: MemoryStore | None = None) -> Index:
    """Cut and hash from scratch."""
    builder = IndexBuilder(FLAGS, sizes)
    for begin, end in Chunker(sizes).split(data):
        id_ = Digest.SHA512_256.of(data[begin:end])
        builder.append(id_, end - begin)
        if store is not None:
            store.put(id_, data[begin:end])
    return builder.build()


def spliced(
    old: bytes, parts: list[Part], sizes: ChunkSizes, jobs: int = 1
) -> tuple[Index, Index, MemoryStore, int]:
    """The index of the spliced stream, and that of the same bytes."""
    store = MemoryStore()
    before = index_of(old, sizes, store)
    whole = b""
    with ChunkingSink(store, sizes, FLAGS, stream_digest=False, jobs=jobs) as sink:
        stream = SplicedStream(sink, before, store)
        for part in parts:
            if isinstance(part, bytes):
                stream.write(part)
                whole += part
            else:
                stream.splice(part[0], part[1] - part[0])
                whole += old[part[0] : part[1]]
            assert stream.written == len(whole)
        stream.settle()
        sink.finish()
        assert sink.counts.total == len(sink.index)
        return sink.index, index_of(whole, sizes), store, stream.hits


def contents(seed: int, size: int) -> bytes:
    """Bytes that are random in places and the same over and over in others."""
    numbers = random.Random(seed)
    out = b""
    while len(out) < size:
        length = numbers.randrange(1, 3000)
        out += numbers.randbytes(length) if numbers.random() < 0.7 else bytes([numbers.randrange(2)]) * length
    return out[:size]


@st.composite
def part_lists(draw: st.DrawFn) -> tuple[bytes, list[Part]]:
    """An old stream, and a new one of parts of it in any order and fresh bytes between."""
    old = contents(draw(st.integers(0, 50)), draw(st.integers(1, 20_000)))
    parts: list[Part] = []
    for _ in range(draw(st.integers(0, 8))):
        if draw(st.booleans()):
            begin, end = sorted(draw(st.tuples(st.integers(0, len(old)), st.integers(0, len(old)))))
            if parts and isinstance(parts[-1], tuple) and draw(st.booleans()):
                begin, end = parts[-1][1], max(parts[-1][1], end)
            parts.append((begin, end))
        else:
            parts.append(contents(draw(st.integers(51, 99)), draw(st.integers(0, 3000))))
    return old, parts


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@given(case=part_lists())
@example(case=(contents(1, 9000), [(0, 9000)]))
@example(case=(contents(1, 9000), [(0, 9000), b"x"]))
@example(case=(bytes(9000), [b"x", (0, 9000)]))
def test_the_same_as_from_scratch(sizes: ChunkSizes, case: tuple[bytes, list[Part]]) -> None:
    """Any parts of an old stream in any order, with anything between: same chunks, and all of them in the store."""
    index, expected, store, _ = spliced(*case, sizes)
    assert index == expected
    assert all(store.has(id_) for id_ in index.ids())


@pytest.mark.parametrize("jobs", [1, 3])
def test_beyond_the_buffers(jobs: int) -> None:
    """Streams larger than all slabs, with parts that go over their ends, keep their order."""
    sizes = ChunkSizes(256, 1024, 4096)
    numbers = random.Random(5)
    old = numbers.randbytes(6_000_000)
    parts: list[Part] = [
        (0, 2_000_000),
        numbers.randbytes(5_000_000),
        (1_000_000, 1_700_000),
        b"some more",
        (2_000_001, 5_900_000),
        numbers.randbytes(9_000_000),
    ]
    index, expected, _, hits = spliced(old, parts, sizes, jobs)
    assert index == expected
    assert hits > 4000


def test_what_is_the_same_is_not_looked_at() -> None:
    """Around an inserted byte only the chunk that it lies in, and at most a few more, are made anew."""
    old = random.Random(3).randbytes(400_000)
    index, expected, _, hits = spliced(old, [(0, 200_000), b"!", (200_000, 399_999)], SIZES[0])
    assert index == expected
    assert len(index) - hits < 8


def test_old_chunks_are_checked() -> None:
    """Old bytes come from the store, which says so when they are missing or wrong: nothing is made up."""
    old = random.Random(3).randbytes(20_000)
    sizes = SIZES[0]
    for damage in ("missing", "wrong"):
        store = MemoryStore()
        before = index_of(old, sizes, store)
        chunk = before[5]
        if damage == "missing":
            del store.chunks[chunk.id]
        else:
            store.chunks[chunk.id] = bytes(chunk.size)
        with ChunkingSink(store, sizes, FLAGS, stream_digest=False, jobs=1) as sink:
            stream = SplicedStream(sink, before, store)
            stream.write(b"x")
            stream.splice(chunk.start + 1, 5000)
            with pytest.raises((ChunkMissing, ChunkCorrupt)):
                stream.settle()
