"""The stream of an index as several readers use it at once."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from casync_compat.chunker import Chunker, ChunkSizes
from casync_compat.errors import ChunkMissing, ClosedError
from casync_compat.ids import ChunkId, Digest
from casync_compat.index import Index, IndexBuilder
from casync_compat.streams.assemble import ChunkFetcher
from casync_compat.streams.lookahead import SharedReader
from catar import flags

SIZES = ChunkSizes(1 << 10, 4 << 10, 16 << 10)
DATA = random.Random(3).randbytes(3 << 20) + bytes(1 << 18)
"""Some 600 chunks."""


class Source:
    """Gives chunks, and counts how often each was asked for. `gate` closed keeps whoever asks waiting."""

    name = "memory"

    def __init__(self) -> None:
        self.chunks: dict[ChunkId, bytes] = {}
        self.asked: list[ChunkId] = []
        self.away = False
        self.gate = threading.Event()
        self.gate.set()

    def get(self, id: ChunkId, digest: Digest, size: int) -> bytes:
        self.asked.append(id)
        assert self.gate.wait(20)
        if self.away:
            raise ChunkMissing(id, self.name)
        return self.chunks[id]


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def index(source: Source) -> Index:
    builder = IndexBuilder(flags.DEFAULT, SIZES)
    for start, end in Chunker(SIZES).split(DATA):
        id_ = Digest.SHA512_256.of(DATA[start:end])
        source.chunks[id_] = DATA[start:end]
        builder.append(id_, end - start)
    return builder.build()


def test_any_offset_from_many_threads(source: Source, index: Index) -> None:
    """Reads of all sizes at all offsets by eight threads give what the stream has there."""
    with SharedReader(ChunkFetcher(index, source), 256 << 10) as reader:

        def read(seed: int) -> None:
            rng = random.Random(seed)
            for _ in range(200):
                offset, size = rng.randrange(len(DATA) + 100), rng.randrange(1 << rng.randrange(19))
                assert reader.read_at(offset, size) == DATA[offset : offset + size]

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(read, range(8)))


def test_each_chunk_is_fetched_once(source: Source, index: Index) -> None:
    """Reading on, in pieces, fetches every chunk once, though several threads read ahead."""
    with SharedReader(ChunkFetcher(index, source)) as reader:
        for offset in range(0, len(DATA), 10_000):
            assert reader.read_at(offset, 10_000) == DATA[offset : offset + 10_000]
    assert len(source.asked) == len(set(source.asked)) == len(source.chunks)


def test_what_stands_twice_is_fetched_once(source: Source) -> None:
    """A chunk that is in several places, as in copies of a tree, comes once, also by two of them in one read."""
    builder = IndexBuilder(flags.DEFAULT, SIZES)
    pieces = [random.Random(seed).randbytes(SIZES.max) for seed in range(4)]
    for piece in pieces * 3:
        id_ = Digest.SHA512_256.of(piece)
        source.chunks[id_] = piece
        builder.append(id_, len(piece))
    whole = b"".join(pieces) * 3
    for size in (1000, len(whole)):
        source.asked.clear()
        with SharedReader(ChunkFetcher(builder.build(), source)) as reader:
            for offset in range(0, len(whole), size):
                assert reader.read_at(offset, size) == whole[offset : offset + size]
        assert len(source.asked) == 4


def test_waiting_for_what_another_fetches(source: Source, index: Index) -> None:
    """Who wants a chunk that is on its way waits for it, and does not ask a second time."""
    source.gate.clear()
    with SharedReader(ChunkFetcher(index, source)) as reader, ThreadPoolExecutor(4) as pool:
        results = [pool.submit(reader.read_at, 0, 10) for _ in range(4)]
        source.gate.set()
        assert {result.result(20) for result in results} == {DATA[:10]}
    assert len(source.asked) == 1


def test_reading_straight_on_is_read_ahead_for(source: Source, index: Index) -> None:
    """Who reads on finds chunks asked for before; who jumps about has only those fetched that are read."""
    with SharedReader(ChunkFetcher(index, source)) as reader:
        reader.read_at(0, 5000)
        reader.read_at(5000, 5000)
        reader.read_at(10_000, 100_000)  # waits for what was begun
    assert len(source.asked) > index.at(110_000) + 10
    source.asked.clear()
    with SharedReader(ChunkFetcher(index, source)) as reader:
        for offset in (2_500_000, 100_000, 1_500_000):
            reader.read_at(offset, 100)
    assert len(source.asked) <= 6


def test_not_read_ahead_further_than_read(source: Source, index: Index) -> None:
    """Many small reads one after another are not read ahead for as if much had been read."""
    with SharedReader(ChunkFetcher(index, source)) as reader:
        for offset in range(0, 10_000, 100):
            reader.read_at(offset, 100)
    assert len(source.asked) <= index.at(10_000 + (256 << 10)) + 1


def test_holes(source: Source, index: Index) -> None:
    """Chunks of nothing but zeros are found without being fetched; what is not known to be zeros is data."""
    with SharedReader(ChunkFetcher(index, source)) as reader:
        start = reader.next_zeros(0)
        assert 3 << 20 <= start < (3 << 20) + SIZES.max
        assert reader.next_zeros(start + 5) == start + 5
        assert reader.next_data(0) == 0
        end = reader.next_data(start)
        assert end - start >= (1 << 18) - 2 * SIZES.max
        assert (reader.next_zeros(end), reader.next_data(len(DATA))) == (len(DATA), len(DATA))
    assert source.asked == []


def test_a_source_that_is_away_and_comes_back(source: Source, index: Index) -> None:
    """A chunk that could not be had, by whoever read or ahead of it, is asked for again."""
    with SharedReader(ChunkFetcher(index, source)) as reader:
        reader.read_at(0, 5000)
        source.away = True
        reader.read_at(0, 5000)
        for _ in range(2):
            with pytest.raises(ChunkMissing):
                reader.read_at(1 << 20, 1000)
        reader.expect([(2 << 20, 100_000)])
        source.away = False
        assert reader.read_at(1 << 20, 2 << 20) == DATA[1 << 20 : 3 << 20]


def test_closed(source: Source, index: Index) -> None:
    """Nothing is fetched any more once it is closed."""
    reader = SharedReader(ChunkFetcher(index, source))
    reader.close()
    with pytest.raises(ClosedError):
        reader.read_at(0, 1)
    assert source.asked == []
