"""Segments and heads of packed stores: every chunk is found where it is, and nothing that cannot be is believed."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casync_compat.errors import CasyncError, FormatError
from casync_compat.ids import ChunkId
from casync_compat.store.files import FileDamaged
from casync_compat.store.memory import MemoryFiles
from casync_compat.store.packs.head import EMPTY, MAX_SEGMENTS, Head, Removed, SegmentName
from casync_compat.store.packs.packed import PackedStore
from casync_compat.store.packs.place import PackPlace
from casync_compat.store.packs.segment import Pack, PackedPlace, PackedRow, Segment, merged, segment_limit

from .contract import LIMIT, D

PACKS = [Pack(b"a" * 32, 5000), Pack(b"b" * 32, 200 << 20)]
ids = st.binary(min_size=32, max_size=32).map(ChunkId)
places = st.one_of(
    st.builds(
        PackedPlace, st.just(b"a" * 32), st.integers(0, 2000), st.integers(1, 1000), st.integers(1, 1 << 20)
    ),
    st.builds(
        PackedPlace,
        st.just(b"b" * 32),
        st.integers(0, 199 << 20),
        st.integers(1, 4000),
        st.integers(1, 1 << 27),
    ),
)


def rows_of(chunks: dict[ChunkId, PackedPlace]) -> list[PackedRow]:
    return [PackedRow(*item) for item in sorted(chunks.items())]


@given(st.dictionaries(ids, places, max_size=40), ids, st.integers(0, 2**64 - 1))
def test_every_chunk_is_found(chunks: dict[ChunkId, PackedPlace], other: ChunkId, generation: int) -> None:
    """Built and parsed again, a segment finds each chunk in its place, and no other."""
    segment = Segment.parse(Segment.build(PACKS, rows_of(chunks), generation).raw)
    assert list(segment) == rows_of(chunks)
    assert segment.packs == tuple(PACKS)
    assert segment.generation == generation
    assert len(segment) == len(chunks)
    for id_, at in chunks.items():
        assert segment.find(id_) == at
    assert segment.find(other) == chunks.get(other)


@given(st.lists(st.dictionaries(ids, places, max_size=9), max_size=5))
def test_merged_rows_are_in_order_and_there_once(parts: list[dict[ChunkId, PackedPlace]]) -> None:
    """Of a chunk that several segments have, the first one's place is taken."""
    wanted: dict[ChunkId, PackedPlace] = {}
    for part in parts:
        wanted = part | wanted
    segments = [Segment.build(PACKS, rows_of(part), 0) for part in parts]
    assert list(merged(segments)) == rows_of(wanted)


names = st.builds(
    lambda sha256, packs, chunks: SegmentName(sha256, segment_limit(packs, chunks), packs, chunks),
    st.binary(min_size=32, max_size=32),
    st.integers(0, 1000),
    st.integers(0, 1 << 20),
)
gone = st.builds(
    Removed, st.binary(min_size=32, max_size=32), st.integers(0, 1 << 28), st.integers(0, 1 << 40)
)
heads = st.builds(
    Head,
    st.integers(0, 2**64 - 1),
    st.lists(names, max_size=5).map(tuple),
    st.lists(gone, max_size=5).map(tuple),
    st.integers(0, 2**32 - 1),
)


@given(heads)
def test_heads_come_back(head: Head) -> None:
    """Written and read, a head says the same."""
    assert Head.parse(head.to_bytes()) == head


@given(heads, st.data())
def test_a_damaged_head_is_found_out(head: Head, data: st.DataObject) -> None:
    """One flipped bit, one byte more or less: the head is refused, whatever bit it is."""
    raw = bytearray(head.to_bytes())
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    for bad in (bytes(raw), head.to_bytes()[:-1], head.to_bytes() + b"\0", b""):
        with pytest.raises(FormatError):
            Head.parse(bad)


def test_limits() -> None:
    """More than a head may name is neither written nor read."""
    name = SegmentName(bytes(32), segment_limit(0, 0), 0, 0)
    with pytest.raises(FormatError, match="limit"):
        Head(1, (name,) * (MAX_SEGMENTS + 1)).to_bytes()
    full = SegmentName(bytes(32), segment_limit(1000, 1 << 20), 1000, 1 << 20)
    assert Head.parse(Head(1, (full,) * 32).to_bytes()).chunks == 1 << 25
    with pytest.raises(FormatError, match="at most"):
        Head(1, (full,) * 33).to_bytes()


GOOD = Segment.build(
    PACKS,
    [PackedRow(ChunkId(bytes([n]) * 32), PackedPlace(b"a" * 32, 10 * n, 10, 100)) for n in (1, 2, 3)],
    7,
).raw
FIRST = 32 + 2 * 40


@pytest.mark.parametrize(
    ("at", "value", "why"),
    [
        (0, b"\x88", "no segment"),
        (8, b"\2", "later than"),
        (12, b"\xff\xff", "over the limit"),
        (18, b"\xff", "over the limit"),
        (16, b"\4", "what its header says"),
        (32 + 32, bytes(8), "cannot be"),
        (32 + 32 + 7, b"\1", "cannot be"),
    ],
)
def test_a_bad_segment_is_refused(at: int, value: bytes, why: str) -> None:
    """What cannot be true is refused when the segment is read."""
    raw = GOOD[:at] + value + GOOD[at + len(value) :]
    with pytest.raises(FormatError, match=why):
        Segment.parse(raw)


@pytest.mark.parametrize(
    ("at", "value", "why"),
    [
        (32, b"\2", "outside the packs"),  # number of a pack that is not there
        (34, b"\xff\xff", "outside the packs"),  # larger than the pack
        (34, bytes(4), "impossible size"),
        (38, bytes(4), "impossible size"),
        (41, b"\xff", "impossible size"),
        (46, b"\1", "outside the packs"),
    ],
)
def test_a_bad_row_is_refused_when_it_is_asked_for(at: int, value: bytes, why: str) -> None:
    """Where a chunk cannot be, nobody looks; others of the segment are found all the same."""
    at += FIRST
    segment = Segment.parse(GOOD[:at] + value + GOOD[at + len(value) :])
    with pytest.raises(FormatError, match=why):
        segment.find(bytes([1]) * 32)
    assert segment.find(bytes([2]) * 32) is not None
    with pytest.raises(FormatError):
        list(segment)


def packed(contents: dict[bytes, bytes]) -> PackedStore:
    files = MemoryFiles()
    files.contents = dict(contents)
    return PackedStore(PackPlace(files))


def test_hostile_files() -> None:
    """Whatever bytes stand in a store's files, each chunk is right, or one clear error is told."""
    raws = [random.Random(n).randbytes(500) for n in range(20)]
    store = packed({})
    for raw in raws:
        store.put(D.of(raw), raw)
    store.sync()
    assert isinstance(store.place.files, MemoryFiles)
    good = store.place.files.contents
    chance = random.Random(10)
    wrong, told = 0, set[str]()
    for _ in range(100):
        contents = dict(good)
        name = chance.choice(sorted(contents))
        content = bytearray(contents[name])
        for _ in range(chance.choice((1, 1, 8))):
            content[chance.randrange(len(content))] = chance.randrange(256)
        contents[name] = bytes(content[: chance.choice((len(content), chance.randrange(len(content) + 1)))])
        for raw in raws:
            try:
                assert packed(contents).get(D.of(raw), D, LIMIT) == raw
            except CasyncError as error:
                wrong += 1
                told.add(str(error))
        try:
            list(packed(contents).ids())
            packed(contents).repack()
        except CasyncError:
            wrong += 1
    assert wrong
    assert not any("\n" in line for line in told)


def test_a_segment_is_what_its_name_says() -> None:
    """A segment with other content is refused, and named, though it is a good one."""
    other = Segment.build(PACKS, [], 3).raw
    name = SegmentName(hashlib.sha256(GOOD).digest(), len(GOOD), 2, 3)
    file = b"index/" + name.sha256.hex().encode()
    for content in (other, GOOD[:-1], GOOD[:-1] + b"x"):
        with pytest.raises(FileDamaged, match=file.decode()):
            packed({b"head": Head(1, (name,)).to_bytes(), file: content}).has(D.of(b"x"))
    with pytest.raises(FileDamaged, match="not there"):
        packed({b"head": Head(1, (name,)).to_bytes()}).has(D.of(b"x"))


def test_an_empty_place_is_an_empty_store() -> None:
    """Without a head there is nothing, and nothing is written by looking."""
    store = packed({})
    assert not store.has(D.of(b"x"))
    assert list(store.ids()) == []
    store.sync()
    assert store.repack() == 0
    assert store.view().head == EMPTY
    assert isinstance(store.place.files, MemoryFiles)
    assert store.place.files.contents == {}
