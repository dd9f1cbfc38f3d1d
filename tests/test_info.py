"""`describe` says what an index says, without reading a chunk."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casync_compat.chunker import ChunkSizes
from casync_compat.ids import ChunkId, Digest
from casync_compat.index import Index, IndexBuilder, digest_bits
from casync_compat.store.memory import MemoryStore
from casync_compat.verbs.info import describe
from catar import flags


def index_of(*chunks: tuple[int, int], word: int = flags.DEFAULT) -> Index:
    """An index of `(number for the id, size)`."""
    builder = IndexBuilder(word, ChunkSizes(32, 128, 512))
    for number, size in chunks:
        builder.append(ChunkId(number.to_bytes(32, "big")), size)
    return builder.build()


SOME = index_of((1, 512), (2, 100), (1, 512), (3, 1), (2, 100), (4, 129))


def test_counts_and_sizes() -> None:
    """Repeated chunks count in `chunks` and `size`, once in `unique` and `unique_size`."""
    info = describe(SOME)
    assert (info.chunks, info.size) == (6, 1354)
    assert (info.unique, info.unique_size) == (4, 742)
    assert (info.smallest, info.largest) == (1, 512)
    assert (info.chunk_size_min, info.chunk_size_avg, info.chunk_size_max) == (32, 128, 512)
    assert (info.digest, info.feature_flags) == ("sha512-256", flags.DEFAULT)
    assert info.in_store is None


def test_distribution() -> None:
    """Chunks are counted by the power of two that holds them; borders belong to the smaller one."""
    assert describe(SOME).distribution == ((1, 1), (128, 2), (256, 1), (512, 2))
    sizes = [1, 2, 3, 4, 5, 8, 9, 255, 256, 257, 511]
    info = describe(index_of(*enumerate(sizes)))
    assert info.distribution == ((1, 1), (2, 1), (4, 2), (8, 2), (16, 1), (256, 2), (512, 2))


def test_an_empty_index() -> None:
    """Nothing is counted, and nothing is divided by it."""
    info = describe(index_of(), MemoryStore())
    assert (info.chunks, info.size, info.unique, info.unique_size, info.smallest, info.largest) == (0,) * 6
    assert (info.in_store, info.distribution) == (0, ())


def test_the_store_is_asked_for_each_chunk_once() -> None:
    """`in_store` counts unique chunks, whatever else the store has; contents are not read."""

    class Asked(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.asked: list[ChunkId] = []

        def has(self, id: ChunkId) -> bool:
            self.asked.append(id)
            return super().has(id)

        def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
            raise AssertionError("no chunk is read")

    store = Asked()
    for number in (1, 3, 99):
        store.chunks[ChunkId(number.to_bytes(32, "big"))] = b"whatever"
    assert describe(SOME, store).in_store == 2
    assert sorted(store.asked) == sorted(set(SOME.ids()))


def test_a_store_far_away_is_asked_for_many_chunks_at_once() -> None:
    """Where a question takes a round trip, many are under way, and none is asked twice."""
    together = threading.Barrier(32, timeout=20)

    class Far(MemoryStore):
        far = eager = True

        def begin(self, wanted: Sequence[tuple[ChunkId, int]], digest: Digest) -> Callable[[], list[bytes]]:
            raise AssertionError("no chunk is read")

        def get_many(self, wanted: Sequence[tuple[ChunkId, int]], digest: Digest) -> list[bytes]:
            raise AssertionError("no chunk is read")

        def has(self, id: ChunkId) -> bool:
            together.wait()  # goes on when 32 are here
            return super().has(id)

    store = Far()
    for number in range(20):
        store.chunks[ChunkId(number.to_bytes(32, "big"))] = b"whatever"
    index = index_of(*((number, 100 + number) for number in range(64)))
    assert describe(index, store).in_store == 20


def test_many_chunks_are_told_apart_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is unique does not depend on how many chunks are looked at together."""
    numbers = random.Random(5)
    ids = [numbers.randbytes(32) for _ in range(300)]
    builder = IndexBuilder(flags.DEFAULT, ChunkSizes(32, 128, 512))
    for id in ids + ids[::2]:
        builder.append(ChunkId(id), 32 + id[0])
    index = builder.build()
    expected = {id: 32 + id[0] for id in ids}
    for together in (1 << 20, 100, 7, 1):
        monkeypatch.setattr("casync_compat.index._TOGETHER", together)
        found = list(index.distinct())
        assert len(found) == 300
        assert dict(found) == expected


def test_as_json() -> None:
    """The JSON form has plain values, the flag word in hexadecimal and by names, and named distribution fields."""
    word = flags.select([int(flags.FeatureFlags.SYMLINKS)], digest_bits=digest_bits(Digest.BLAKE3))
    data = json.loads(json.dumps(describe(index_of((1, 100), word=word)).to_json()))
    assert data["digest"] == "blake3"
    assert data["feature_flags"] == f"{word:#x}"
    assert data["features"] == ["symlinks"]
    assert data["distribution"] == [{"up_to": 128, "chunks": 1}]
    assert data["in_store"] is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 512)), max_size=40))
def test_numbers_agree_with_one_another(chunks: list[tuple[int, int]]) -> None:
    """Every chunk is in one bucket, and totals are those of the rows."""
    chunks = list(dict(chunks).items())
    info = describe(index_of(*chunks, *chunks))
    assert sum(count for _, count in info.distribution) == info.chunks == 2 * len(chunks)
    assert info.size == 2 * info.unique_size == 2 * sum(size for _, size in chunks)
    assert all(up_to >= (info.smallest or 1) for up_to, _ in info.distribution)
