"""Every chunk of an index is read once, where that is wanted."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from casync_compat.chunker import Chunker, ChunkSizes
from casync_compat.errors import ChunkMissing
from casync_compat.ids import Digest
from casync_compat.index import Index, IndexBuilder
from casync_compat.store.cached import Cached, ChunkCache
from casync_compat.store.local import LocalStore
from casync_compat.store.memory import MemoryStore
from casync_compat.streams.assemble import ChunkFetcher
from casync_compat.streams.warming import Warming, read_all
from catar import flags

SIZES = ChunkSizes(1 << 10, 4 << 10, 16 << 10)
DATA = random.Random(4).randbytes(1 << 20) * 2


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def index(store: MemoryStore) -> Index:
    builder = IndexBuilder(flags.DEFAULT, SIZES)
    for start, end in Chunker(SIZES).split(DATA):
        id_ = Digest.SHA512_256.of(DATA[start:end])
        store.put(id_, DATA[start:end])
        builder.append(id_, end - start)
    return builder.build()


def test_what_is_fetched_is_kept(store: MemoryStore, index: Index, tmp_path: Path) -> None:
    """All that the cache lacked is in it afterwards; a second time there is nothing to fetch, and no store needed."""
    cache = ChunkCache(LocalStore(tmp_path / "chunks"))
    cached = Cached(store, cache)
    told: list[str] = []
    with Warming([ChunkFetcher(index, cached)], cache, told.append) as warming:
        assert warming.wait(20)
    assert all(cache.has(id_) for id_ in index.ids())
    with Warming([ChunkFetcher(index, Cached(MemoryStore(), cache))], cache, told.append) as warming:
        assert warming.wait(20)
    assert told == []


def test_a_chunk_that_is_away(index: Index, tmp_path: Path) -> None:
    """A chunk that cannot be had is an error of who checks; who fetches meanwhile is told, and what was read stays."""
    fetcher = ChunkFetcher(index, MemoryStore())
    with pytest.raises(ChunkMissing):
        read_all(fetcher)
    told: list[str] = []
    with Warming([fetcher], ChunkCache(LocalStore(tmp_path / "chunks")), told.append) as warming:
        assert warming.wait(20)
    assert len(told) == 1
    assert told[0].endswith("; nothing more is fetched but what is read")


def test_all_is_read(store: MemoryStore, index: Index) -> None:
    """A store that has everything passes."""
    read_all(ChunkFetcher(index, store))
