"""Sinks: index, chunks and digest never depend on how the bytes came or on how many threads there were."""

from __future__ import annotations

import functools
import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casync_compat.chunker import Chunker, ChunkSizes
from casync_compat.errors import FileError, UsageError
from casync_compat.ids import ChunkId, Digest
from casync_compat.index import Index, IndexBuilder, digest_bits
from casync_compat.store.base import Put
from casync_compat.store.memory import MemoryStore
from casync_compat.streams import chunking
from casync_compat.streams.chunking import ChunkCounts, ChunkingSink
from casync_compat.streams.sinks import DigestSink, FileSink, Sink
from catar import flags

FLAGS = flags.DEFAULT
MIB = 1 << 20
SIZES = [
    ChunkSizes(),
    ChunkSizes(1, 1000, 100_000),
    ChunkSizes(40, 50, 60),
    ChunkSizes(256, 1024, 4096),
    ChunkSizes(1000, 1000, 1000),
    ChunkSizes(500, 1000, 1000),
    ChunkSizes(MIB, MIB, MIB),
    ChunkSizes(3_000_000, 3_000_000, 3_000_000),
    ChunkSizes(65536, 262144, 2 * MIB),
]
SIZE = {
    "1 byte": 60_000,
    "odd": 5 * MIB + 3,
    "64 KiB": 5 * MIB + 3,
    "slab and one": 5 * MIB + 3,
    "10 MiB": 11 * MIB + 5,
    "mixed": 5 * MIB + 3,
}
"""How large a stream is, by the size of the pieces that it comes in."""
SPLITS = list(SIZE)


@functools.cache
def stream(size: int) -> bytes:
    """Random bytes with a stretch of zeros and a repetition in them."""
    rng = random.Random(size)
    head = rng.randbytes(size // 2)
    zeros = bytes(size // 5)
    again = head[: size // 8]
    return head + zeros + again + rng.randbytes(size - len(head) - len(zeros) - len(again))


@functools.cache
def reference(size: int, sizes: ChunkSizes, word: int = FLAGS) -> tuple[Index, dict[ChunkId, bytes], ChunkId]:
    """Index, chunks and digest of `stream(size)`, made the obvious way."""
    data = stream(size)
    builder = IndexBuilder(word, sizes)
    digest = builder.build().digest
    chunks = {}
    for start, end in Chunker(sizes).split(data):
        id_ = digest.of(data[start:end])
        builder.append(id_, end - start)
        chunks[id_] = data[start:end]
    return builder.build(), chunks, digest.of(data)


def pieces(data: bytes, how: str) -> Iterator[bytes]:
    """`data` in pieces."""
    fixed = {"1 byte": 1, "odd": 4099, "64 KiB": 65536, "slab and one": 2 * MIB + 1}
    if how in fixed:
        steps: Iterator[int] = itertools.repeat(fixed[how])
    elif how == "10 MiB":
        steps = itertools.repeat(10 * MIB)
    else:
        rng = random.Random(5)
        steps = iter(lambda: rng.choice([0, 1, 7, 4096, 70_000, 3 * MIB]), None)
    at = 0
    for step in steps:
        if at >= len(data):
            return
        yield data[at : at + step]
        at += step


def fill(sink: Sink, data: bytes, how: str, in_place: bool) -> None:
    """Give a stream to a sink, by `write` or by reading into its room."""
    for piece in pieces(data, how):
        if not in_place:
            sink.write(piece)
            continue
        while piece:
            room = sink.room()
            count = min(len(room), len(piece))
            room[:count] = piece[:count]
            sink.advance(count)
            piece = piece[count:]


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Whatever a test does to a sink, its threads end with it."""
    before = threading.enumerate()
    yield
    new = (thread.name for thread in threading.enumerate() if thread not in before)
    assert [name for name in new if name.startswith(("worker", "sequence"))] == []


def check(
    size: int, sizes: ChunkSizes, how: str, jobs: int | None, in_place: bool, word: int = FLAGS
) -> None:
    """Fill a `ChunkingSink` and compare everything with the reference."""
    index, chunks, digest = reference(size, sizes, word)
    store = MemoryStore()
    with ChunkingSink(store, sizes, word, jobs=jobs) as sink:
        fill(sink, stream(size), how, in_place)
        sink.finish()
    assert sink.written == size
    assert sink.index == index
    assert store.chunks == chunks
    assert sink.digest == digest
    stored = sum(map(len, chunks.values()))
    assert sink.counts == ChunkCounts(len(index), len(chunks), stored, stored)
    assert sink.counts.reused == len(index) - len(chunks)


# ---- chunks


@pytest.mark.parametrize("in_place", [False, True], ids=["written", "in place"])
@pytest.mark.parametrize("how", SPLITS)
@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_chunks_do_not_depend_on_writes_and_jobs(how: str, jobs: int, in_place: bool) -> None:
    """Pieces of one byte or of ten MiB, one worker or four: always the index of the whole stream, cut in one go."""
    size = SIZE[how]
    check(size, SIZES[0], how, jobs, in_place)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("how", ["odd", "10 MiB"])
def test_every_chunk_size(sizes: ChunkSizes, how: str) -> None:
    """Tiny, fixed and large chunks, larger than a slab even, are those of the chunker."""
    check(MIB + 3 if sizes.max < 100 else 5 * MIB + 3, sizes, how, 2, False)


@pytest.mark.parametrize("digest", list(Digest))
def test_every_digest(digest: Digest) -> None:
    """The flag word says what chunk ids and the stream's digest are made with."""
    check(300_001, ChunkSizes(256, 1024, 4096), "odd", 2, True, flags.select(digest_bits=digest_bits(digest)))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 3000), max_size=40),
    st.sampled_from([sizes for sizes in SIZES if sizes.max < 5000]),
    st.integers(1, 4),
)
def test_any_splitting(lengths: list[int], sizes: ChunkSizes, jobs: int) -> None:
    """However a small stream is cut into writes, the chunks are the same."""
    data = stream(200_000)[: sum(lengths)]
    store = MemoryStore()
    with ChunkingSink(store, sizes, FLAGS, jobs=jobs) as sink:
        at = 0
        for length in lengths:
            sink.write(data[at : at + length])
            at += length
        sink.finish()
    assert [(chunk.start, chunk.end) for chunk in sink.index] == Chunker(sizes).split(data)
    assert b"".join(store.chunks[chunk.id] for chunk in sink.index) == data
    assert sink.digest == Digest.SHA512_256.of(data)


@pytest.mark.parametrize("size", [0, 1, 47, 48, 49])
def test_streams_smaller_than_a_window(size: int) -> None:
    """An empty stream has no chunk, a small one has one."""
    check(size, SIZES[0], "odd", 2, False)
    assert len(reference(size, SIZES[0])[0]) == (size > 0)


@pytest.mark.parametrize("over", [-1, 0, 1])
@pytest.mark.parametrize("sizes", [SIZES[0], SIZES[4], SIZES[6]], ids=str)
def test_streams_that_end_with_a_slab(over: int, sizes: ChunkSizes) -> None:
    """The end of the stream may fall on the end of a buffer, or of a chunk, or both."""
    check(4 * MIB + over, sizes, "10 MiB", 2, True)


def test_a_stream_without_a_digest() -> None:
    """Leaving out the digest of the stream changes nothing else."""
    store = MemoryStore()
    with ChunkingSink(store, SIZES[3], FLAGS, stream_digest=False) as sink:
        sink.write(stream(100_000))
        sink.finish()
    assert sink.digest is None
    assert sink.index == reference(100_000, SIZES[3])[0]


def test_chunks_that_are_there_are_counted_as_reused() -> None:
    """A second run over the same store stores nothing, and says so."""
    store = MemoryStore()
    for _ in range(2):
        with ChunkingSink(store, SIZES[3], FLAGS) as sink:
            sink.write(stream(100_000))
            sink.finish()
    assert sink.counts.new == sink.counts.new_bytes == sink.counts.stored_bytes == 0
    assert sink.counts.reused == sink.counts.total == len(sink.index)


class LaggingStore(MemoryStore):
    """Takes its time with every third chunk, so that chunks finish out of order."""

    def put(self, id: ChunkId, data: object) -> Put:
        if id[0] % 3 == 0:
            time.sleep(0.002)
        return super().put(id, data)  # type: ignore[arg-type]


@pytest.mark.parametrize("jobs", [1, 4])
def test_the_index_keeps_its_order_when_chunks_finish_out_of_order(jobs: int) -> None:
    """A slow store does not shuffle the index, and data that it still works on is not overwritten."""
    size = 11 * MIB + 5
    store = LaggingStore()
    with ChunkingSink(store, SIZES[0], FLAGS, jobs=jobs) as sink:
        fill(sink, stream(size), "64 KiB", True)
        sink.finish()
    assert sink.index == reference(size, SIZES[0])[0]
    assert store.chunks == reference(size, SIZES[0])[1]


def test_chunk_sizes_that_cannot_be_kept_are_refused() -> None:
    """With a maximum below the chunker's window the run fails, as casync does, instead of making larger chunks."""
    with ChunkingSink(MemoryStore(), ChunkSizes(10, 20, 30), FLAGS) as sink, pytest.raises(UsageError):
        sink.write(stream(1000))
        sink.finish()


def test_memory_is_bounded_by_slabs() -> None:
    """A store that stands still stops the writer after some slabs."""
    go = threading.Event()

    class Standstill(MemoryStore):
        def put(self, id: ChunkId, data: object) -> Put:
            go.wait(20)
            return Put(False, 0)

    def produce() -> None:
        for _ in range(64):
            sink.write(stream(MIB))
        sink.finish()

    with ChunkingSink(Standstill(), SIZES[0], FLAGS, jobs=2) as sink:
        producer = threading.Thread(target=produce)
        producer.start()
        producer.join(0.4)
        assert producer.is_alive()
        assert sink.written < 16 * MIB
        go.set()
        producer.join(20)
        assert not producer.is_alive()
    assert sink.written == 64 * MIB


# ---- failures


class FailingStore(MemoryStore):
    """Fails from the `after`-th chunk on, or only in `sync`."""

    def __init__(self, after: int | None) -> None:
        super().__init__()
        self.after = after
        self.synced = False
        self._calls = itertools.count()  # one step, so that no two workers get the same number

    def put(self, id: ChunkId, data: object) -> Put:
        if self.after is not None and next(self._calls) >= self.after:
            raise FileError(b"store", "store a chunk", "the disk is full")
        return super().put(id, data)  # type: ignore[arg-type]

    def sync(self) -> None:
        if self.after is None:
            raise FileError(b"store", "make the stored chunks durable", "the disk is broken")
        self.synced = True


@pytest.mark.parametrize("jobs", [1, 4])
@pytest.mark.parametrize("after", [0, 1, 50, -1, None])
@pytest.mark.parametrize("how", ["64 KiB", "10 MiB"])
def test_a_failing_store_fails_the_stream(jobs: int, after: int | None, how: str) -> None:
    """The store's error comes out at the latest from `finish`; nothing hangs, and the store is not synced."""
    chunks = reference(SIZE[how], SIZES[0])[1]
    assert len(chunks) > 50
    store = FailingStore(len(chunks) - 1 if after == -1 else after)
    finished = False
    with (
        pytest.raises(FileError, match=r"^store: cannot "),
        ChunkingSink(store, SIZES[0], FLAGS, jobs=jobs) as sink,
    ):
        fill(sink, stream(SIZE[how]), how, True)
        sink.finish()
        finished = True
    assert not finished
    assert not store.synced


def test_the_store_is_synced_when_all_chunks_are_in() -> None:
    """`finish` returns after the store promised that every chunk is durable."""
    events: list[str] = []

    class Recording(MemoryStore):
        def put(self, id: ChunkId, data: object) -> Put:
            put = super().put(id, data)  # type: ignore[arg-type]
            events.append("put")
            return put

        def sync(self) -> None:
            events.append("sync")

    with ChunkingSink(Recording(), SIZES[3], FLAGS, jobs=4) as sink:
        sink.write(stream(100_000))
        sink.finish()
        events.append("finished")
    assert events == ["put"] * len(sink.index) + ["sync", "finished"]


def test_an_exception_in_the_block_stops_the_threads() -> None:
    """Leaving by somebody else's exception ends everything and hides nothing."""
    with pytest.raises(KeyError), ChunkingSink(LaggingStore(), SIZES[3], FLAGS, jobs=4) as sink:
        fill(sink, stream(5 * MIB), "64 KiB", False)
        raise KeyError


# ---- digests and files


@pytest.mark.parametrize("how", SPLITS)
def test_digest_of_a_stream(how: str) -> None:
    """A digest sink gives the digest of all bytes, however they came."""
    data = stream(SIZE[how])
    for digest in Digest:
        with DigestSink(digest) as sink:
            fill(sink, data, how, how == "odd")
            sink.finish()
            assert sink.digest == digest.of(data)
        assert sink.written == len(data)


def collecting(out: bytearray) -> Callable[[memoryview], None]:
    def write(view: memoryview) -> None:
        time.sleep(0.001)
        out.extend(view)

    return write


@pytest.mark.parametrize("how", SPLITS)
@pytest.mark.parametrize("in_place", [False, True], ids=["written", "in place"])
@pytest.mark.parametrize("digest", [Digest.SHA256, None], ids=["sha256", "no digest"])
def test_file_gets_every_byte_in_order(how: str, in_place: bool, digest: Digest | None) -> None:
    """A file sink hands on exactly the stream, also to a slow file, and has its digest if one was asked for."""
    data = stream(SIZE[how])
    out = bytearray()
    with FileSink(collecting(out), digest) as sink:
        fill(sink, data, how, in_place)
        sink.finish()
        assert out == data
    assert sink.digest == (digest.of(data) if digest is not None else None)


@pytest.mark.parametrize("size", [0, 1, 2 * MIB - 1, 2 * MIB, 2 * MIB + 1])
def test_file_borders(size: int) -> None:
    """Streams of no byte, and of a buffer more or less one, arrive whole."""
    out = bytearray()
    with FileSink(collecting(out), Digest.SHA512_256) as sink:
        fill(sink, stream(size), "64 KiB", True)
        sink.finish()
    assert out == stream(size)
    assert sink.digest == Digest.SHA512_256.of(stream(size))


@pytest.mark.parametrize("after", [0, 1, 4])
def test_file_that_cannot_be_written(after: int) -> None:
    """The error of a write comes out, and nothing is written behind the gap."""
    written: list[int] = []

    def write(view: memoryview) -> None:
        if len(written) >= after:
            raise FileError(b"x.catar", "write", "the disk is full")
        written.append(len(view))

    with (
        pytest.raises(FileError, match=r"^x.catar: cannot write: the disk is full"),
        FileSink(write, Digest.SHA512_256) as sink,
    ):
        fill(sink, stream(11 * MIB + 5), "64 KiB", True)
        sink.finish()
    assert written == [MIB] * after


@pytest.mark.parametrize("before", [0, 5, MIB, 3 * MIB + 1])
@pytest.mark.parametrize("hole", [1, MIB, 5 * MIB + 3])
def test_holes_are_passed_over_in_order(before: int, hole: int) -> None:
    """Where a file can skip, what it skips is the hole, at its place, and the digest is that of the zeros."""
    out = bytearray()
    skipped: list[tuple[int, int]] = []

    def skip(count: int) -> None:
        skipped.append((len(out), count))
        out.extend(bytes(count))

    with FileSink(collecting(out), Digest.SHA512_256, skip) as sink:
        sink.write(stream(before))
        sink.write_zeros(hole)
        sink.write(b"tail")
        sink.finish()
    whole = stream(before) + bytes(hole) + b"tail"
    assert out == whole
    assert sink.written == len(whole)
    assert sink.digest == Digest.SHA512_256.of(whole)
    assert skipped == ([(before, hole)] if hole >= MIB else [])


# ---- holes

HOLES = [
    ChunkSizes(),
    ChunkSizes(1000, 1000, 1000),
    ChunkSizes(64, 256, 1024),
    ChunkSizes(1, 48, 48),
    ChunkSizes(100, 7000, 50_000),
    ChunkSizes(1, 40, 47),
]


@pytest.mark.parametrize("sizes", HOLES, ids=str)
@settings(max_examples=15, deadline=None)
@given(
    parts=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 2_000_000)), max_size=4),
    jobs=st.integers(1, 2),
)
def test_holes_are_the_zeros_they_stand_for(
    sizes: ChunkSizes, parts: list[tuple[int, int]], jobs: int
) -> None:
    """Index, chunks and digest are those of the same bytes written out, wherever holes begin and end."""
    data = b"".join(stream(size) + bytes(hole) for size, hole in parts)
    if sizes.max < 48 and len(data) > sizes.max:
        return  # no chunker can cut that, holes or not; see test_chunk_sizes_that_cannot_be_kept_are_refused
    results = []
    for as_holes in (True, False):
        store = MemoryStore()
        with ChunkingSink(store, sizes, FLAGS, jobs=jobs) as sink:
            for size, hole in parts:
                sink.write(stream(size))
                if as_holes:
                    sink.write_zeros(hole)
                else:
                    sink.write(bytes(hole))
            sink.finish()
            assert sink.written == len(data)
            results.append((sink.index.to_bytes(), store.chunks, sink.digest, sink.counts.total))
    assert results[0] == results[1]


def test_a_hole_is_hashed_and_stored_once() -> None:
    """A hole of 4 GiB takes a few puts, not sixteen thousand."""

    class Counting(MemoryStore):
        puts = 0

        def put(self, id: ChunkId, data: object) -> Put:
            self.puts += 1
            return super().put(id, data)  # type: ignore[arg-type]

    store = Counting()
    with ChunkingSink(store, ChunkSizes(), FLAGS, stream_digest=False) as sink:
        sink.write_zeros(4 << 30)
        sink.finish()
        assert sink.index.size == 4 << 30
    assert store.puts <= 4
    assert len(store.chunks) == 1


# ---- on the way to the disk


class SyncedStore(MemoryStore):
    """Notes how many bytes it had at each sync; the first `fails` of them fail."""

    def __init__(self, fails: int = 0) -> None:
        super().__init__()
        self.synced: list[int] = []
        self._fails = fails

    def sync(self) -> None:
        self.synced.append(sum(map(len, list(self.chunks.values()))))
        if len(self.synced) <= self._fails:
            raise FileError(b"store", "make durable", "the disk is gone")


def put_all(store: MemoryStore) -> None:
    data = random.Random(1).randbytes(5 * MIB)
    with ChunkingSink(store, ChunkSizes(), FLAGS, jobs=2) as sink:
        for begin in range(0, len(data), 100_000):
            sink.write(data[begin : begin + 100_000])
        sink.finish()


def test_the_store_is_synced_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks are made durable while others are still to come, and the last call is after the last chunk."""
    monkeypatch.setattr(chunking, "_SYNC_EVERY", MIB)
    store = SyncedStore()
    put_all(store)
    assert 1 < len(store.synced) <= 6
    assert store.synced == sorted(store.synced)
    assert store.synced[-1] == 5 * MIB


def test_little_is_synced_once() -> None:
    """A small stream costs one sync."""
    store = SyncedStore()
    put_all(store)
    assert store.synced == [5 * MIB]


def test_a_sync_on_the_way_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error comes out, although a later one would succeed: what was lost stays lost."""
    monkeypatch.setattr(chunking, "_SYNC_EVERY", MIB)
    with pytest.raises(FileError, match="the disk is gone"):
        put_all(SyncedStore(fails=1))
