"""The pack index and the table in a pack: every chunk is found where it is, and no place outside a pack is believed."""

from __future__ import annotations

import struct

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from casync_compat.ids import ChunkId
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.spec.packindex import (
    MAX_CHUNKS,
    MAX_PACKS,
    ChunkPlace,
    PackIndex,
    PackRow,
    pack_table,
    parse_pack_table,
    table_size,
)

HUGE = 1 << 40
PACKS = [(BlobDigest.of(b"a"), 5000), (BlobDigest.of(b"b"), HUGE)]
ids = st.binary(min_size=32, max_size=32).map(ChunkId)
places = st.one_of(
    st.builds(ChunkPlace, st.just(0), st.integers(0, 2000), st.integers(1, 1000), st.integers(1, 1 << 20)),
    st.builds(
        ChunkPlace, st.just(1), st.integers(0, HUGE - 5000), st.integers(1, 4000), st.integers(1, 1 << 27)
    ),
)


@given(st.dictionaries(ids, places, max_size=40), ids)
def test_every_chunk_is_found(chunks: dict[ChunkId, ChunkPlace], other: ChunkId) -> None:
    """Built and parsed again, the index finds each chunk in its place, and no other."""
    built = PackIndex.build(PACKS, chunks.items())
    index = PackIndex.parse(built.raw, "x")
    assert index.packs == tuple(PACKS)
    assert len(index) == len(chunks)
    assert dict(index) == chunks
    for id_, at in chunks.items():
        assert index.find(id_) == at
    assert index.find(other) == chunks.get(other)


def test_bytes_do_not_depend_on_order() -> None:
    """The same chunks make the same index, in whatever order they come."""
    chunks = [(ChunkId(bytes([n]) * 32), ChunkPlace(0, n, 1, 1)) for n in range(9)]
    assert PackIndex.build(PACKS, chunks).raw == PackIndex.build(PACKS, chunks[::-1]).raw


GOOD = PackIndex.build(
    PACKS, [(ChunkId(bytes([n]) * 32), ChunkPlace(0, 10 * n, 10, 100)) for n in (1, 2, 3)]
).raw
CHUNKS = 24 + 2 * 40


def patched(offset: int, data: bytes) -> bytes:
    return GOOD[:offset] + data + GOOD[offset + len(data) :]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "cut short"),
        (GOOD[:20], "cut short"),
        (GOOD[:-1], "not what its header says"),
        (GOOD + b"x", "not what its header says"),
        (patched(0, b"X"), "no pack index"),
        (patched(8, b"\2"), "version 2 is later"),
        (patched(12, struct.pack("<I", MAX_PACKS + 1)), "over the limit"),
        (patched(16, struct.pack("<I", MAX_CHUNKS + 1)), "over the limit"),
        (patched(16, struct.pack("<I", 1 << 31)), "over the limit"),
        (patched(CHUNKS, b"\x02" * 32), "out of order, or there twice"),
        (patched(CHUNKS, b"\x09" * 32), "out of order, or there twice"),
        (patched(CHUNKS + 32, struct.pack("<H", 2)), "outside the packs"),
        (patched(CHUNKS + 42, struct.pack("<I", 5000)), "outside the packs"),
        (patched(CHUNKS + 46, b"\xff"), "outside the packs"),
        (patched(CHUNKS + 34, struct.pack("<I", 1 << 31)), "outside the packs"),
        (patched(CHUNKS + 34, struct.pack("<I", 0)), "impossible size"),
        (patched(CHUNKS + 38, struct.pack("<I", 0)), "impossible size"),
        (patched(CHUNKS + 38, struct.pack("<I", 1 << 31)), "impossible size"),
    ],
)
def test_lies(data: bytes, says: str) -> None:
    """Whatever does not add up is refused before anything is looked up."""
    with pytest.raises(ImageError, match=says):
        PackIndex.parse(data, "x")


def test_other_packs() -> None:
    """The manifest and the index must speak of the same packs, in the same order."""
    index = PackIndex.parse(GOOD, "x")
    packs = [Descriptor("a/b", digest, size) for digest, size in PACKS]
    index.check_packs(packs, "x")
    for other in (packs[::-1], packs[:1], [*packs, packs[0]]):
        with pytest.raises(ImageError, match="about other packs"):
            index.check_packs(other, "x")


rows = st.builds(PackRow, ids, st.integers(1, 1 << 20), st.integers(1, 1 << 20))


@given(st.lists(rows, max_size=20), st.binary(max_size=50))
def test_table(rows: list[PackRow], before: bytes) -> None:
    """The table is found from the end of the pack, whatever stands before it."""
    table = pack_table(rows)
    assert len(table) == table_size(len(rows))
    size = sum(row.stored for row in rows) + len(table)
    assert parse_pack_table(before + table, size, "x") == rows


def test_zstd_skips_the_table() -> None:
    """A pack is a zstd stream like any other: decoders pass over the table."""
    frames = [zstandard.ZstdCompressor().compress(data) for data in (b"one", b"two")]
    pack = b"".join(frames) + pack_table([PackRow(ChunkId(bytes(32)), len(frames[0]), 3)])
    with zstandard.ZstdDecompressor().stream_reader(pack, read_across_frames=True) as reader:
        assert reader.read() == b"onetwo"


TABLE = pack_table([PackRow(ChunkId(bytes(32)), 10, 100)])


@pytest.mark.parametrize(
    ("tail", "size", "says"),
    [
        (b"", 0, "cut short"),
        (TABLE[:-1], 10 + len(TABLE), "does not end in a table"),
        (TABLE, 11 + len(TABLE), "do not fill the pack"),
        (TABLE[1:], 10 + len(TABLE), "larger than it can be"),
        (b"X" + TABLE[1:], 10 + len(TABLE), "not framed"),
        (TABLE[:4] + b"\0" + TABLE[5:], 10 + len(TABLE), "not framed"),
    ],
)
def test_bad_tables(tail: bytes, size: int, says: str) -> None:
    """A pack that is cut short, or whose table does not fill it, is refused."""
    with pytest.raises(ImageError, match=says):
        parse_pack_table(tail, size, "x")
