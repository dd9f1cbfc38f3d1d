"""From chunks back to the stream: exactly its bytes, fetching no more than is needed, and never a byte out of place."""

from __future__ import annotations

import errno
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casync_compat.chunker import Chunker, ChunkSizes
from casync_compat.errors import ChunkCorrupt, ChunkMissing, FormatError, StoreError
from casync_compat.ids import ChunkId, Digest
from casync_compat.index import Index, IndexBuilder, IndexChunk
from casync_compat.store.memory import MemoryStore
from casync_compat.streams.assemble import ChunkFetcher, ChunkStream, IndexReader, place_chunks
from catar import flags

D = Digest.SHA512_256
SIZES = ChunkSizes(256, 1024, 4096)
LARGE = ChunkSizes(16384, 65536, 262144)


class CountingStore(MemoryStore):
    """Remembers what it was asked for.

    :ivar gets: how often each chunk was fetched
    """

    def __init__(self) -> None:
        super().__init__()
        self.gets: Counter[ChunkId] = Counter()

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        self.gets[id] += 1
        return super().get(id, digest, limit)


class Case:
    """A stream, its index and a store that has its chunks."""

    def __init__(self, data: bytes, sizes: ChunkSizes) -> None:
        self.data = data
        self.store = CountingStore()
        builder = IndexBuilder(flags.DEFAULT, sizes)
        for start, end in Chunker(sizes).split(data):
            id_ = D.of(data[start:end])
            self.store.put(id_, data[start:end])
            builder.append(id_, end - start)
        self.index = builder.build()

    def fetcher(self) -> ChunkFetcher:
        return ChunkFetcher(self.index, self.store)

    def touched(self, start: int, end: int) -> set[ChunkId]:
        """The chunks that hold the bytes from `start` to `end`."""
        return {chunk.id for chunk in self.index if chunk.start < end and chunk.end > start}


SMALL_DATA = random.Random(1).randbytes(60_000) + bytes(20_000) + random.Random(2).randbytes(20_000)
LARGE_DATA = random.Random(3).randbytes(5_000_000)


@pytest.fixture
def small() -> Case:
    """Some 100 chunks of about a kilobyte, zeros among them."""
    return Case(SMALL_DATA, SIZES)


@pytest.fixture
def large() -> Case:
    """Some 70 chunks of about 64 KiB: more than is fetched at a time."""
    return Case(LARGE_DATA, LARGE)


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Whatever a test does to a stream, its threads end with it."""
    before = threading.enumerate()
    yield
    new = (thread.name for thread in threading.enumerate() if thread not in before)
    assert [name for name in new if name.startswith("worker")] == []


def read_all(stream: ChunkStream) -> bytes:
    return b"".join(iter(stream.read, b""))


# ---- front to back


@pytest.mark.parametrize("jobs", [None, 1, 2, 4])
def test_the_whole_stream(large: Case, small: Case, jobs: int | None) -> None:
    """Read to the end, the pieces are the stream, every chunk was fetched once, and the end stays the end."""
    for case in (large, small):
        with ChunkStream(case.fetcher(), jobs=jobs) as stream:
            assert read_all(stream) == case.data
            assert stream.read() == b""
        # Runs of equal chunks may be fetched once or several times, depending on threads.
        assert all(
            count == 1 for id_, count in case.store.gets.items() if case.store.chunks[id_].strip(b"\0")
        )
        assert case.store.gets.keys() == set(case.index.ids())


def test_an_empty_stream() -> None:
    """Without chunks there is nothing to read, and nothing is fetched."""
    case = Case(b"", SIZES)
    with ChunkStream(case.fetcher()) as stream:
        assert stream.read() == b""
        stream.skip(10)
        assert stream.read() == b""
    assert not case.store.gets


@pytest.mark.parametrize("lag", [0.001, 0.01])
def test_slow_chunks_do_not_change_the_order(large: Case, lag: float) -> None:
    """Chunks that arrive in any order are handed out in the stream's."""

    class Lagging(CountingStore):
        def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
            time.sleep(lag * (id[0] % 4) / 4)
            return super().get(id, digest, limit)

    source = Lagging()
    source.chunks = large.store.chunks
    with ChunkStream(ChunkFetcher(large.index, source), jobs=4) as stream:
        assert read_all(stream) == large.data


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([(SMALL_DATA, SIZES), (LARGE_DATA, LARGE)]),
    st.integers(1, 3),
    st.data(),
)
def test_ranges_and_skips_are_slices(what: tuple[bytes, ChunkSizes], jobs: int, draw: st.DataObject) -> None:
    """From any start to any end, with any reads and skips between, the bytes are those of the original there."""
    case = Case(*what)
    size = len(case.data)
    near = st.sampled_from([chunk.end for chunk in case.index]).flatmap(
        lambda at: st.integers(at - 1, at + 1)
    )
    offsets = (st.integers(0, size) | near).map(lambda at: min(at, size))
    start = draw.draw(offsets)
    end = draw.draw(st.none() | offsets)
    stop = size if end is None else end
    at = start
    with ChunkStream(case.fetcher(), start=start, end=end, jobs=jobs) as stream:
        for skip in draw.draw(st.lists(st.none() | st.integers(0, 3000) | st.integers(0, size), max_size=25)):
            if skip is not None:
                stream.skip(skip)
                at += skip
                continue
            piece = stream.read()
            assert piece == case.data[at : min(at + len(piece), stop)]
            assert piece or at >= stop
            at += len(piece)
        assert read_all(stream) == case.data[at:stop]
    assert set(case.store.gets) <= case.touched(start, stop)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([(SMALL_DATA, SIZES), (LARGE_DATA, LARGE)]),
    st.integers(1, 3),
    st.booleans(),
    st.data(),
)
def test_gaps(what: tuple[bytes, ChunkSizes], jobs: int, joined: bool, draw: st.DataObject) -> None:
    """Reading stops before each; whether it is passed over, read, or in part, the bytes are those that are there.

    Where all are passed over nothing is fetched that lies wholly in them, and nothing twice.
    """
    case = Case(*what)
    size = len(case.data)
    offsets = draw.draw(st.lists(st.integers(0, size), max_size=12).map(sorted))
    gaps = [(start, end) for start, end in pairwise(offsets) if start < end]
    gaps = [gap for gap in gaps if draw.draw(st.booleans()) or len(gaps) < 3]
    lies = draw.draw(st.booleans())
    at, starts, passed = 0, dict(gaps), set()
    told: list[IndexChunk] = []
    with ChunkStream(case.fetcher(), jobs=jobs, joined=joined, on_chunk=told.append, gaps=gaps) as stream:
        while at < size:
            if at in starts and (not lies or draw.draw(st.booleans())):
                count = draw.draw(st.integers(1, starts[at] - at)) if lies else starts[at] - at
                passed.add(at)
                stream.skip(count)
                at += count
                continue
            piece = stream.read()
            assert piece
            assert piece == case.data[at : at + len(piece)]
            if not lies:
                assert not any(at < start < at + len(piece) for start in starts)
            at += len(piece)
        assert stream.read() == b""
    assert len(told) == len(set(told))
    if not lies:
        inside = bytearray(size)
        for start, end in gaps:
            inside[start:end] = b"x" * (end - start)
        needed = [chunk for chunk in case.index if bytes(1) in inside[chunk.start : chunk.end]]
        assert told == needed
        assert set(case.store.gets) == {chunk.id for chunk in needed}


def test_only_a_range_is_fetched(large: Case) -> None:
    """What lies before `start` or behind `end` is not asked for."""
    start, end = 1_000_000, 1_400_000
    with ChunkStream(large.fetcher(), start=start, end=end, jobs=2) as stream:
        assert read_all(stream) == large.data[start:end]
    assert large.store.gets == Counter(large.touched(start, end))


@pytest.mark.parametrize("start", [len(LARGE_DATA), len(LARGE_DATA) + 1, 1 << 60])
def test_a_range_past_the_end_is_empty(large: Case, start: int) -> None:
    """Nothing is there, and nothing is fetched."""
    with ChunkStream(large.fetcher(), start=start) as stream:
        assert stream.read() == b""
    assert not large.store.gets


def test_skipped_chunks_are_not_fetched(large: Case) -> None:
    """Passing over most of a stream fetches the chunks at the beginning, at the place, and what was under way."""
    with ChunkStream(large.fetcher(), jobs=1) as stream:
        first = stream.read()
        stream.skip(4_900_000 - len(first))
        assert stream.read() == large.data[4_900_000 : large.index[large.index.at(4_900_000)].end]
    skipped = large.touched(2_000_000, 4_900_000 - 300_000)
    assert len(skipped) > 20
    assert not skipped & set(large.store.gets)


def test_what_was_under_way_is_dropped_by_a_skip(large: Case) -> None:
    """Chunks that were asked for ahead are not waited for when they turn out to be skipped."""

    class Slow(CountingStore):
        def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
            time.sleep(0.004)
            return super().get(id, digest, limit)

    source = Slow()
    source.chunks = large.store.chunks
    with ChunkStream(ChunkFetcher(large.index, source), jobs=1) as stream:
        at = 0
        while at < 1_500_000:
            at += len(stream.read())
        read = large.touched(0, at)
        stream.skip(4_950_000 - at)
        assert stream.read() == large.data[4_950_000 : large.index[large.index.at(4_950_000)].end]
    assert sum(source.gets.values()) < len(read) + 20


def test_hopping_through_a_stream_fetches_little(large: Case) -> None:
    """Reading a little here and there, as listing an archive does, does not fetch the whole of it."""
    with ChunkStream(large.fetcher(), jobs=2) as stream:
        at = 0
        while at < 4_500_000:
            piece = stream.read()
            at += len(piece)
            stream.skip(1_000_000)
            at += 1_000_000
    assert sum(large.store.gets.values()) < len(large.index) // 2


def test_each_chunk_is_reported_as_it_is_handed_out(large: Case) -> None:
    """`on_chunk` gets every chunk once, in order, on the reader's thread and before its bytes."""
    seen: list[tuple[IndexChunk, int, int]] = []
    done = 0

    def on_chunk(chunk: IndexChunk) -> None:
        seen.append((chunk, threading.get_ident(), done))

    with ChunkStream(large.fetcher(), jobs=2, on_chunk=on_chunk) as stream:
        while piece := stream.read():
            done += len(piece)
    assert seen == [(chunk, threading.get_ident(), chunk.start) for chunk in large.index]


def test_threads_end_with_the_stream(large: Case) -> None:
    """When everything was fetched there are no threads any more, though nobody closed the stream yet."""
    stream = ChunkStream(large.fetcher(), jobs=2)
    assert read_all(stream) == large.data
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("worker")] == []
    stream.close()


def test_closing_in_the_middle_stops_fetching(large: Case) -> None:
    """A stream that is closed early asks for nothing more."""
    with ChunkStream(large.fetcher(), jobs=2) as stream:
        stream.read()
    fetched = sum(large.store.gets.values())
    assert fetched < len(large.index)
    time.sleep(0.02)
    assert sum(large.store.gets.values()) == fetched


# ---- in pieces of several chunks, and in any order


@pytest.mark.parametrize("jobs", [1, 2, 5])
@pytest.mark.parametrize("start", [0, 100_000, 4_900_000])
def test_joined_pieces(large: Case, jobs: int, start: int) -> None:
    """Several chunks come as one piece, of which any part may be skipped; each is still reported, before it comes."""
    seen: list[IndexChunk] = []
    with ChunkStream(large.fetcher(), jobs=jobs, start=start, on_chunk=seen.append, joined=True) as stream:
        pieces = list(iter(stream.read, b""))
    assert b"".join(pieces) == large.data[start:]
    assert len(pieces) < len(seen) // 2 or start > 4_000_000
    assert seen == list(large.index.chunks(large.index.at(start)))
    with ChunkStream(large.fetcher(), jobs=jobs, start=start, joined=True) as stream:
        first = stream.read()
        stream.skip(1000)
        assert read_all(stream) == large.data[start + len(first) + 1000 :]


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_chunks_in_their_places(large: Case, small: Case, jobs: int) -> None:
    """Everything is put where it belongs, and each chunk is told when it is there, in order and once."""
    for case in (large, small):
        assert by_places(case.fetcher(), jobs) == case.data
        with closing(place_chunks(case.fetcher(), lambda at, pieces: None, jobs=jobs)) as placed:
            assert list(placed) == list(case.index)


def test_nothing_to_place() -> None:
    """An empty index has no chunks."""
    empty = IndexBuilder(flags.DEFAULT, SIZES).build()
    assert list(place_chunks(ChunkFetcher(empty, MemoryStore()), lambda at, pieces: None)) == []


def test_a_place_that_cannot_be_written(large: Case) -> None:
    """What `put` raises ends it all."""

    def put(offset: int, pieces: list[bytes]) -> None:
        if offset > 1_000_000:
            raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"), closing(place_chunks(large.fetcher(), put, jobs=2)) as placed:
        for chunk in placed:
            assert chunk.start <= 1_200_000


# ---- chunks that cannot be had


Reader = Callable[[ChunkFetcher], bytes]


def by_stream(fetcher: ChunkFetcher) -> bytes:
    with ChunkStream(fetcher, jobs=2) as stream:
        return read_all(stream)


def by_reader(fetcher: ChunkFetcher) -> bytes:
    reader = IndexReader(fetcher)
    return reader.read_at(0, reader.size)


def by_joined_stream(fetcher: ChunkFetcher) -> bytes:
    with ChunkStream(fetcher, jobs=2, joined=True) as stream:
        return read_all(stream)


def by_places(fetcher: ChunkFetcher, jobs: int = 2) -> bytes:
    out = bytearray(fetcher.index.size)

    def put(offset: int, pieces: list[bytes]) -> None:
        for piece in pieces:
            out[offset : offset + len(piece)] = piece
            offset += len(piece)

    with closing(place_chunks(fetcher, put, jobs=jobs)) as placed:
        for chunk in placed:
            assert out[chunk.start : chunk.end] == fetcher.fetch(chunk)
    return bytes(out)


BOTH = pytest.mark.parametrize("read", [by_stream, by_reader, by_joined_stream, by_places])
NUMBERS = pytest.mark.parametrize("number", [0, 1, 33, -1])


@BOTH
@NUMBERS
def test_a_missing_chunk_is_an_error(large: Case, read: Reader, number: int) -> None:
    """The error names the chunk and the store."""
    id_ = list(large.index.ids())[number]
    large.store.remove(id_)
    with pytest.raises(ChunkMissing) as caught:
        read(large.fetcher())
    assert (caught.value.id, caught.value.where) == (id_, "memory")


@BOTH
@NUMBERS
def test_a_corrupt_chunk_is_an_error(large: Case, read: Reader, number: int) -> None:
    """A chunk whose content is something else never gets into the stream."""
    id_ = list(large.index.ids())[number]
    raw = large.store.chunks[id_]
    large.store.chunks[id_] = bytes([raw[0] ^ 1]) + raw[1:]
    with pytest.raises(ChunkCorrupt) as caught:
        read(large.fetcher())
    assert caught.value.id == id_


def with_size(index: Index, number: int, size: int) -> Index:
    """The index with another size for one chunk; all that follows moves."""
    builder = IndexBuilder(index.feature_flags, index.sizes)
    for i, chunk in enumerate(index):
        builder.append(chunk.id, size if i == number else chunk.size)
    return builder.build()


@BOTH
@pytest.mark.parametrize("number", [0, 1, 33])
@pytest.mark.parametrize("more", [1, 1000])
def test_a_chunk_shorter_than_the_index_says(large: Case, read: Reader, number: int, more: int) -> None:
    """The error says where in the stream it is, how long the chunk is and how long it should be."""
    chunk = large.index[number]
    lying = with_size(large.index, number, chunk.size + more)
    with pytest.raises(FormatError) as caught:
        read(ChunkFetcher(lying, large.store))
    assert caught.value.offset == chunk.start
    for text in (str(chunk.id), str(chunk.size), str(chunk.size + more)):
        assert text in str(caught.value)


@BOTH
@pytest.mark.parametrize("number", [0, 33])
def test_a_chunk_longer_than_the_index_says(large: Case, read: Reader, number: int) -> None:
    """The store is asked for no more than the index has room for, and refuses."""
    lying = with_size(large.index, number, large.index[number].size - 1)
    with pytest.raises(StoreError):
        read(ChunkFetcher(lying, large.store))


def test_the_same_chunk_with_two_sizes(large: Case) -> None:
    """An index that gives one chunk two sizes is found out, although the chunk was fetched just before."""
    chunk = large.index[0]
    builder = IndexBuilder(large.index.feature_flags, large.index.sizes)
    builder.append(chunk.id, chunk.size)
    builder.append(chunk.id, chunk.size + 1)
    fetcher = ChunkFetcher(builder.build(), large.store)
    rows = list(fetcher.index)
    assert fetcher.fetch(rows[0]) == large.data[: chunk.size]
    with pytest.raises(FormatError):
        fetcher.fetch(rows[1])


def test_runs_of_one_chunk_are_fetched_once() -> None:
    """A long run of zeros costs one fetch, not hundreds."""
    case = Case(bytes(2_000_000), SIZES)
    assert len(case.index) > 400
    with ChunkStream(case.fetcher(), jobs=1) as stream:
        assert read_all(stream) == case.data
    assert sum(case.store.gets.values()) < 10


# ---- at any offset


def test_reading_at_any_offset(small: Case) -> None:
    """Any range comes back as it is in the stream, also at its end and past it."""
    reader = IndexReader(small.fetcher())
    assert reader.size == len(small.data)
    rng = random.Random(7)
    places = [(rng.randrange(reader.size), rng.choice([0, 1, 100, 5000, 50_000])) for _ in range(300)]
    places += [
        (0, 0),
        (0, reader.size),
        (reader.size, 5),
        (reader.size - 1, 5),
        (reader.size + 10, 5),
        (0, 1 << 60),
    ]
    for chunk in small.index:
        places += [(chunk.start, chunk.size), (chunk.end - 1, 2), (chunk.end, 1)]
    for offset, size in places:
        assert reader.read_at(offset, size) == small.data[offset : offset + size]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, len(SMALL_DATA)), st.integers(0, 10_000))
def test_only_the_chunks_touched_are_fetched(offset: int, size: int) -> None:
    """A fresh reader asks for the chunks that hold the range, once each, and for no other."""
    case = Case(SMALL_DATA, SIZES)
    reader = IndexReader(case.fetcher())
    reader.read_at(offset, size)
    touched = case.touched(offset, offset + size) if size else set()
    assert case.store.gets == Counter(touched)


def test_neighbouring_reads_fetch_once(small: Case) -> None:
    """Small reads, one after another or back and forth, are answered from memory."""
    reader = IndexReader(small.fetcher())
    for _ in range(2):
        for offset in range(0, 20_000, 100):
            assert reader.read_at(offset, 150) == small.data[offset : offset + 150]
    assert set(small.store.gets.values()) == {1}
    assert reader.fetched == len(small.store.gets)


class Alive(bytes):
    """Bytes that know how many of them are alive."""

    alive = 0
    most = 0

    def __new__(cls, size: int) -> Alive:
        cls.alive += 1
        cls.most = max(cls.most, cls.alive)
        return super().__new__(cls, b"x" * size)

    def __del__(self) -> None:
        type(self).alive -= 1


class Megabytes:
    """Gives a megabyte for every id, unchecked."""

    name = "megabytes"

    def __init__(self) -> None:
        self.gets = 0

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        self.gets += 1
        return Alive(1 << 20)

    def has(self, id: ChunkId) -> bool:
        return True


def megabytes(count: int) -> Index:
    builder = IndexBuilder(flags.DEFAULT, ChunkSizes(1 << 20, 1 << 20, 1 << 20))
    for i in range(count):
        builder.append(ChunkId(i.to_bytes(32, "big")), 1 << 20)
    return builder.build()


class Zeros(Megabytes):
    """Gives zeros for the id of zeros, and notes which ids were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[ChunkId] = []

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        self.asked.append(id)
        return bytes(1 << 20) if id == ChunkId(bytes(32)) else super().get(id, digest, limit)


def test_zeros_are_fetched_once() -> None:
    """The chunk of zeros is fetched and checked once, whatever stands between its places."""
    source = Zeros()
    fetcher = ChunkFetcher(megabytes(3), source)
    chunks = list(fetcher.index)
    zeros = fetcher.fetch(chunks[0])
    for chunk in (chunks[1], chunks[0], chunks[2], chunks[0]):
        data = fetcher.fetch(chunk)
        assert fetcher.is_zeros(data) == (chunk is chunks[0])
    assert fetcher.fetch_all([chunks[0], chunks[1]])[0] is zeros
    assert source.asked.count(chunks[0].id) == 1


def test_the_memory_of_a_reader_is_bounded() -> None:
    """However much is read, a few megabytes of chunks are kept; the oldest go first."""
    Alive.most = Alive.alive = 0
    source = Megabytes()
    reader = IndexReader(ChunkFetcher(megabytes(100), source))
    for number in range(100):
        reader.read_at(number << 20, 100)
    assert source.gets == 100
    assert Alive.most <= 12
    reader.read_at(99 << 20, 100)
    reader.read_at(97 << 20, 100)
    assert source.gets == 100
    reader.read_at(0, 100)
    assert source.gets == 101


@pytest.mark.parametrize("jobs", [1, 4])
def test_the_memory_of_a_stream_is_bounded(jobs: int) -> None:
    """A reader that takes its time is not swamped: only a window is fetched ahead."""
    Alive.most = Alive.alive = 0
    with ChunkStream(ChunkFetcher(megabytes(60), Megabytes()), jobs=jobs) as stream:
        for _ in range(60):
            piece = stream.read()
            assert len(piece) == 1 << 20
            time.sleep(0.001)
        assert stream.read() == b""
    assert Alive.most <= 20


def test_one_reader_for_several_threads(small: Case) -> None:
    """Threads that read at once each get their own ranges right."""
    reader = IndexReader(small.fetcher())
    wrong: list[int] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(200):
            offset, size = rng.randrange(reader.size), rng.randrange(5000)
            if reader.read_at(offset, size) != small.data[offset : offset + size]:
                wrong.append(offset)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []


class Eager(CountingStore):
    """A store that is asked for chunks before they are needed, and for no chunk by itself."""

    far = eager = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[ChunkId] = []
        self.most_ahead = self.ahead = 0

    def begin(self, wanted: Sequence[tuple[ChunkId, int]], digest: Digest) -> Callable[[], list[bytes]]:
        self.asked.extend(id for id, _ in wanted)
        self.ahead += sum(size for _, size in wanted)
        self.most_ahead = max(self.most_ahead, self.ahead)

        def collect() -> list[bytes]:
            self.ahead -= sum(size for _, size in wanted)
            return [super(CountingStore, self).get(id, digest, size) for id, size in wanted]

        return collect

    def get_many(self, wanted: Sequence[tuple[ChunkId, int]], digest: Digest) -> list[bytes]:
        return self.begin(wanted, digest)()

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        raise AssertionError("a request for one chunk, and a wait for it")


def by_places_alone(fetcher: ChunkFetcher) -> bytes:
    pieces: dict[int, bytes] = {}
    with closing(place_chunks(fetcher, lambda at, data: pieces.update({at: b"".join(data)}))) as placed:
        assert list(placed) == list(fetcher.index)
    return b"".join(pieces[at] for at in sorted(pieces))


@pytest.mark.parametrize("read", [by_stream, by_joined_stream, by_places_alone])
def test_an_eager_store_is_asked_ahead(read: Reader, large: Case) -> None:
    """What repeats within a batch is asked for once and not by itself; memory is bounded by what is ahead."""
    data = large.data + 6 * large.data[: 1 << 17] + large.data
    case = Case(data, ChunkSizes(1 << 12, 1 << 14, 1 << 16))
    source = Eager()
    for chunk in case.index:
        source.put(chunk.id, data[chunk.start : chunk.end])
    assert read(ChunkFetcher(case.index, source)) == data
    assert len(source.asked) < len(list(case.index))
    assert 1 << 20 < source.most_ahead <= 40 << 20
