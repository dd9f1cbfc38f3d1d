"""Indexes: casync's own bytes come through unchanged, and nothing malformed is taken for an index."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casync_compat import _layouts, schema
from casync_compat.chunker import ChunkSizes
from casync_compat.errors import FormatError, NotFound, UsageError
from casync_compat.ids import ChunkId, Digest
from casync_compat.index import Index, IndexBuilder, digest_bits, digest_of_flags
from catar import flags
from catar.structs import Fields

BLOB = bytes.fromhex(
    "3000000000000000f99f127b9c4d829600000000000000b0004000000000000000000100000000000000040000000000"
    "ffffffffffffffff7d41172f119e5be7df790000000000009ec5b1a42d0f297a95e75ad1324db3577f5be5b5988da6f4"
    "7588b924d9bc2f357521010000000000182316552862202a40be8c8afb519c45fbf204fb0ec68f64666eb9b0650a601c"
    "2aeb020000000000d1c23ef3529bae9dda57b83826dbb607d093841f38ed63841cc8a59447fd11dd534a030000000000"
    "38125e68a7666eb817d1d54d5a65e999966be7e55e75b0a602f046fc283fd14f69a2030000000000b4bd7b02e24b1ea3"
    "e08284ee283725241662f26377e7eb33f4e2186bb0f64371e94405000000000087e581400304a513a794dd30ea22d468"
    "da810b0d2317d7af42863d70073722cde944090000000000340349b75c19a019f5a2c1d0ddd0a59f3208f1918e0d134e"
    "352e8106808663423db70900000000007932dacbd8aee45187213cfd79f078204a8d97f0777c52a572b7cd99d649429c"
    "922d0b00000000006ad67412fec55589e36e4a3a1efc939bf012bb82ad5cb760e949b99d32f479050b530e0000000000"
    "9836b83442de1b841f20a8e94700eca738e2bbbe9db186bbc3763be3dfa6ad670000100000000000a9ec5e167a7f504f"
    "9aaf1fe89e6d8859a3b748a4877cab54ded2893c1e434bf1000000000000000000000000000000003000000000000000"
    "f001000000000000d1ec49550e054f4b"
)
"""`casync make blob.caibx blob`, casync 2, over SHA256(le32(i)) for i in 0..32767."""

TREE = bytes.fromhex(
    "3000000000000000f99f127b9c4d829626feefff010000b0200000000000000080000000000000000002000000000000"
    "ffffffffffffffff7d41172f119e5be73900000000000000e4a9cd8d3fd5cee55004e86e5db638ddbb17d4bc01fd7239"
    "9c8cf268c4d0cde1b2000000000000004d27ac9bd6a61eb6721f1d97ba960d4eb476e211ec9180dda3b9bc8396580a74"
    "8601000000000000bd36a48efd32826531af7af95fe04d386ffc09ae4e06801802d43885562cfc58fd01000000000000"
    "4700addf280e005ef937b4c3daf13d6a990bc570a206436dce0374647a3701aa7602000000000000cca510e9dca2e168"
    "6466634e2a0dbb37edd68400bd44128498dcb9d32fd21723e4020000000000008c2bb97820a4ddf0473017935463b166"
    "d13af5ea35580d573ad055230adbb7b8e903000000000000e66642e6cbdabbde4f61138f9653bbbfcfb87e12708ace15"
    "40102f205e6d4e710000000000000000000000000000000030000000000000005001000000000000d1ec49550e054f4b"
)
"""`casync --chunk-size=128 make t.caidx t`, casync 2, over a directory of five files and another directory."""

EMPTY = bytes.fromhex(
    "3000000000000000f99f127b9c4d829600000000000000b0004000000000000000000100000000000000040000000000"
    "ffffffffffffffff7d41172f119e5be7000000000000000000000000000000003000000000000000"
    "3800000000000000d1ec49550e054f4b"
)
"""`casync make empty.caibx empty`, casync 2, over an empty file."""

BLOB_ENDS = [31199, 74101, 191274, 215635, 238185, 345321, 607465, 636733, 732562, 938763, 1048576]
TREE_ENDS = [57, 178, 390, 509, 630, 740, 1001]
VECTORS = pytest.mark.parametrize("data", [BLOB, TREE, EMPTY], ids=["blob", "tree", "empty"])


def put(data: bytes, offset: int, value: int) -> bytes:
    """`data` with the 64-bit number at `offset` replaced."""
    return data[:offset] + value.to_bytes(8, "little") + data[offset + 8 :]


# ---- bytes that casync wrote


@VECTORS
def test_reading_and_writing_gives_the_same_bytes(data: bytes) -> None:
    """An index of casync's comes out of `parse` and `to_bytes` unchanged."""
    assert Index.parse(data).to_bytes() == data


@VECTORS
def test_building_gives_the_same_bytes(data: bytes) -> None:
    """The same chunks added one by one make the same file."""
    index = Index.parse(data)
    builder = IndexBuilder(index.feature_flags, index.sizes)
    for chunk in index:
        builder.append(chunk.id, chunk.size)
    assert len(builder) == len(index)
    assert builder.size == index.size
    assert builder.build() == index
    assert builder.build().to_bytes() == data


@pytest.mark.parametrize(
    ("data", "word", "sizes", "ends"),
    [
        (BLOB, 0xB000000000000000, ChunkSizes(), BLOB_ENDS),
        (TREE, flags.DEFAULT, ChunkSizes(32, 128, 512), TREE_ENDS),
        (EMPTY, 0xB000000000000000, ChunkSizes(), []),
    ],
    ids=["blob", "tree", "empty"],
)
def test_reads_what_is_in_it(data: bytes, word: int, sizes: ChunkSizes, ends: list[int]) -> None:
    """Flags, chunk sizes and chunks are those of the annotated files."""
    index = Index.parse(data)
    assert index.feature_flags == word
    assert index.digest is Digest.SHA512_256
    assert index.sizes == sizes
    assert list(index.ends) == ends
    assert [(chunk.start, chunk.end) for chunk in index] == list(zip([0, *ends], ends, strict=False))
    assert index.size == (ends or [0])[-1]
    assert len(index) == len(ends)


def test_ids_are_the_bytes_behind_each_end() -> None:
    """Chunk ids come out as they stand, and print as hexadecimal."""
    ids = list(Index.parse(TREE).ids())
    assert str(ids[3]) == "4700addf280e005ef937b4c3daf13d6a990bc570a206436dce0374647a3701aa"
    assert ids == [chunk.id for chunk in Index.parse(TREE)]


def test_an_empty_index_has_nothing() -> None:
    """No chunks, no bytes, nothing at any offset."""
    index = Index.parse(EMPTY)
    assert not list(index) + list(index.ids()) + list(index.ends)
    assert (len(index), index.size, index.at(0), index.at(1)) == (0, 0, 0, 0)
    with pytest.raises(IndexError):
        index[0]


def test_a_file_is_loaded(tmp_path: Path) -> None:
    """By whichever name, or from a file that is open; what is wrong with it is said of that file."""
    path = tmp_path / "x.caibx"
    path.write_bytes(BLOB)
    for given_ in (path, str(path), os.fsencode(path), io.BytesIO(BLOB)):
        assert Index.load(given_) == Index.parse(BLOB)
    with pytest.raises(NotFound) as missing:
        Index.load(tmp_path / "y.caibx")
    assert missing.value.path == os.fsencode(tmp_path / "y.caibx")
    path.write_bytes(BLOB[:-1])
    with pytest.raises(FormatError) as malformed:
        Index.load(path)
    assert malformed.value.path == os.fsencode(path)
    with pytest.raises(FormatError):
        Index.load(io.BytesIO(BLOB[:-1]))


def test_what_a_prompt_shows_fits_on_a_line() -> None:
    """However many chunks there are."""
    index = Index.parse(BLOB)
    assert len(repr(index)) < 200
    assert f"{len(index)} chunks" in repr(index)


def test_which_chunks_are_in_it() -> None:
    """`in` takes ids, as bytes of any kind, and rows; nothing else is in an index."""
    index = Index.parse(BLOB)
    assert index[3].id in index
    assert bytes(index[3].id) in index
    assert index[3] in index
    assert bytes(32) not in index
    assert Index.parse(TREE)[0] not in index
    assert 3 not in index


# ---- finding chunks


def test_chunk_at_an_offset() -> None:
    """`at` names the chunk that holds a byte: the first byte of a chunk is in it, its end is in the next."""
    index = Index.parse(TREE)
    for offset in range(index.size):
        chunk = index[index.at(offset)]
        assert chunk.start <= offset < chunk.end
    assert index.at(index.size) == index.at(1 << 62) == len(index)


def test_chunks_of_a_range() -> None:
    """Of each chunk that a range touches comes its id, and where the range is in it; nothing of what lies behind."""
    builder = IndexBuilder(flags.DEFAULT, ChunkSizes(1, 2, 10))
    ids = [Digest.SHA512_256.of(b"%d" % number) for number in range(3)]
    for id_, size in zip(ids, (4, 10, 3), strict=True):
        builder.append(id_, size)
    index = builder.build()
    assert index.spans(2, 15) == [(ids[0], 2, 4), (ids[1], 0, 10), (ids[2], 0, 1)]
    assert index.spans(4, 14) == [(ids[1], 0, 10)]
    assert index.spans(5, 5) == index.spans(17, 30) == []
    assert index.spans(16, 99) == [(ids[2], 2, 3)]


def test_chunks_from_a_number_on() -> None:
    """`chunks(n)` is the tail of the whole iteration, `index[n]` its first."""
    index = Index.parse(BLOB)
    whole = list(index)
    for first in range(len(index) + 1):
        assert list(index.chunks(first)) == whole[first:]
    assert [index[i] for i in range(len(index))] == whole
    for i in (-1, len(index)):
        with pytest.raises(IndexError):
            index[i]


# ---- malformed files


class Defect(NamedTuple):
    """A change to `TREE` and the offset at which it must be reported."""

    name: str
    at: int
    value: int
    reported: int


DEFECTS = [
    Defect("header size", 0, 49, 0),
    Defect("header type", 8, schema.TABLE_TYPE, 0),
    Defect("unknown flag", 16, flags.DEFAULT | 1 << 40, 16),
    Defect("second unknown flag", 16, flags.DEFAULT | 1 << 58, 16),
    Defect("flags not normalised", 16, flags.DEFAULT | 1, 16),
    Defect("smallest of 0", 24, 0, 24),
    Defect("smallest above average", 24, 129, 24),
    Defect("average of 0", 32, 0, 24),
    Defect("average above largest", 32, 513, 24),
    Defect("largest above 128 MiB", 40, (128 << 20) + 1, 24),
    Defect("largest of 2^64-1", 40, (1 << 64) - 1, 24),
    Defect("largest below average", 40, 127, 24),
    Defect("table size known", 48, len(TREE) - 48, 48),
    Defect("table type", 56, schema.INDEX_TYPE, 48),
    Defect("first chunk empty", 64, 0, 64),
    Defect("second chunk empty", 104, 57, 104),
    Defect("ends fall", 104, 56, 104),
    Defect("last end falls", 304, 1, 304),
    Defect("first chunk beyond the largest", 64, 513, 64),
    Defect("middle chunk beyond the largest", 144, 178 + 513, 144),
    Defect("end of 2^63", 144, 1 << 63, 144),
    Defect("end of 2^64-1", 144, (1 << 64) - 1, 144),
    Defect("first end of 2^64-1", 64, (1 << 64) - 1, 64),
    Defect("last end of 2^64-1", 304, (1 << 64) - 1, 304),
    Defect("tail's first zero", 344, 1, 344),
    Defect("tail's second zero", 352, 1, 344),
    Defect("tail's index offset", 360, 49, 344),
    Defect("tail's table size", 368, 337, 368),
    Defect("tail's table size, too small", 368, 336 - 40, 368),
    Defect("tail's marker", 376, 0x4B4F050E5549ECD2, 344),
]


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_every_field_is_checked(defect: Defect) -> None:
    """One wrong number is refused, with the file and the offset of what is wrong."""
    with pytest.raises(FormatError) as caught:
        Index.parse(put(TREE, defect.at, defect.value), b"dir/x.caidx")
    assert caught.value.offset == defect.reported
    assert caught.value.path == b"dir/x.caidx"
    assert str(caught.value).startswith("dir/x.caidx: ")


@VECTORS
def test_truncation_is_noticed_at_every_byte(data: bytes) -> None:
    """No prefix of an index is an index."""
    for size in range(len(data)):
        with pytest.raises(FormatError) as caught:
            Index.parse(data[:size])
        assert caught.value.offset is not None
        assert caught.value.offset <= size


@VECTORS
@pytest.mark.parametrize("more", [b"\0", b"x" * 39, b"\0" * 40, b"\0" * 80])
def test_bytes_after_the_tail_are_refused(data: bytes, more: bytes) -> None:
    """An index ends with its tail: a single byte behind it is an error, and so is a whole empty item."""
    with pytest.raises(FormatError):
        Index.parse(data + more)


def test_two_tables_are_refused() -> None:
    """A tail in the middle of the items does not hide what follows."""
    with pytest.raises(FormatError):
        Index.parse(TREE + TREE[64:])


def test_chunk_of_exactly_the_largest_size_is_taken() -> None:
    """A chunk may have the maximum itself, and the smallest does not bind the last one."""
    builder = IndexBuilder(flags.DEFAULT, ChunkSizes(32, 128, 512))
    for size in (512, 1):
        builder.append(ChunkId(bytes(32)), size)
    assert [chunk.size for chunk in Index.parse(builder.build().to_bytes())] == [512, 1]


@given(st.binary(max_size=300) | st.binary(max_size=120).map(lambda tail: TREE[:64] + tail))
def test_anything_else_is_refused_by_a_format_error(data: bytes) -> None:
    """Random bytes raise `FormatError` and nothing else."""
    with pytest.raises(FormatError):
        Index.parse(data)


@given(st.integers(64, len(TREE) - 41), st.integers(0, 255))
def test_a_changed_table_is_refused_or_still_consistent(at: int, value: int) -> None:
    """Whatever a byte of the table becomes, an index that is taken has rising ends and no chunk beyond the largest."""
    data = TREE[:at] + bytes([value]) + TREE[at + 1 :]
    in_an_end = (at - 64) % 40 < 8
    try:
        index = Index.parse(data)
    except FormatError:
        assert in_an_end, "ids may be anything"
    else:
        assert all(0 < chunk.size <= 512 for chunk in index)
        assert index.to_bytes() == data


# ---- digests


def test_the_flag_word_names_the_digest() -> None:
    """Bit 61 stands for SHA-512/256, bit 59 for BLAKE3, none for SHA-256; every digest finds its way back."""
    for digest in Digest:
        word = flags.select(digest_bits=digest_bits(digest))
        assert digest_of_flags(word) is digest
        assert Index.parse(put(TREE, 16, word)).digest is digest
    assert digest_bits(Digest.SHA256) == 0
    assert digest_bits(Digest.SHA512_256) == 1 << 61
    assert digest_bits(Digest.BLAKE3) == 1 << 59


# ---- building


class Chunks(NamedTuple):
    """Something that a builder can be given."""

    word: int
    sizes: ChunkSizes
    chunks: list[tuple[bytes, int]]


@st.composite
def chunk_lists(draw: st.DrawFn) -> Chunks:
    """Chunks that fit the sizes drawn with them."""
    smallest, average, largest = sorted(draw(st.lists(st.integers(1, 1 << 27), min_size=3, max_size=3)))
    chunk = st.tuples(st.binary(min_size=32, max_size=32), st.integers(1, largest))
    digest = draw(st.sampled_from(list(Digest)))
    word = flags.select(default=0, digest_bits=digest_bits(digest))
    return Chunks(word, ChunkSizes(smallest, average, largest), draw(st.lists(chunk, max_size=20)))


@given(chunk_lists())
def test_what_is_built_is_what_is_read(given_: Chunks) -> None:
    """Any chunks that fit come back from the bytes, in order, with their sizes and places."""
    builder = IndexBuilder(given_.word, given_.sizes)
    for id_, size in given_.chunks:
        builder.append(ChunkId(id_), size)
    index = Index.parse(builder.build().to_bytes())
    assert (index.feature_flags, index.sizes) == (given_.word, given_.sizes)
    assert [(chunk.id, chunk.size) for chunk in index] == given_.chunks
    start = 0
    for number, chunk in enumerate(index):
        assert chunk.start == start
        assert index.at(start) == index.at(chunk.end - 1) == number
        start = chunk.end


@pytest.mark.parametrize("size", [0, -1, 513, 1 << 64])
def test_a_chunk_that_no_index_can_hold_is_refused(size: int) -> None:
    """The builder makes nothing that `parse` would refuse."""
    builder = IndexBuilder(flags.DEFAULT, ChunkSizes(32, 128, 512))
    with pytest.raises(UsageError):
        builder.append(ChunkId(bytes(32)), size)
    assert (len(builder), builder.size) == (0, 0)


@pytest.mark.parametrize("word", [3, 1 << 40, flags.DEFAULT | 1, 1 << 59 | 1 << 64])
def test_a_flag_word_that_no_reader_takes_is_refused(word: int) -> None:
    """Contradictory and unknown flags do not get into an index."""
    with pytest.raises(UsageError):
        IndexBuilder(word, ChunkSizes())


def test_layouts_are_those_of_the_format() -> None:
    """Header with table head, item and tail have casync's sizes."""
    parts = (_layouts.INDEX_HEADER, _layouts.INDEX_ITEM, _layouts.INDEX_TAIL)
    assert [Fields(*part).size for part in parts] == [64, 40, 40]
