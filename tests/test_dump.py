"""`dump` shows every piece of every format, and stops where a file is damaged, with one sentence."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fixtures import make_catar
from hypothesis import given, settings
from hypothesis import strategies as st
from test_catar.feeding import feed

from casync_compat.chunker import ChunkSizes
from casync_compat.compression import Compression, compress
from casync_compat.dumping.pieces import Source
from casync_compat.errors import FormatError
from casync_compat.ids import ChunkId
from casync_compat.index import Index, IndexBuilder
from casync_compat.oci.spec.descriptor import BlobDigest
from casync_compat.oci.spec.packindex import ChunkPlace, PackIndex, PackRow, pack_table
from casync_compat.oci.tar.recipebuilder import RecipeBuilder
from casync_compat.protocol.messages import (
    Abort,
    ChunkAbsent,
    ChunkReply,
    ChunkRequest,
    Farewell,
    Hello,
    IndexEnd,
    IndexPart,
    Terms,
    encode,
)
from casync_compat.store.packs.head import Head, Removed, SegmentName
from casync_compat.store.packs.segment import Pack, PackedPlace, PackedRow, Segment
from casync_compat.verbs.dump import Piece, json_line, pieces, text_line

FIXTURES = Path(__file__).parent / "fixtures" / "catar"
ARCHIVES = {path.stem: path.read_bytes() for path in sorted(FIXTURES.glob("*.catar"))}
BROKEN = make_catar.broken()


class Pipe(io.BytesIO):
    """A stream in which nobody can seek."""

    def seekable(self) -> bool:
        return False

    def seek(self, *args: Any) -> int:
        raise AssertionError("nobody can seek in a pipe")

    tell = seek  # type: ignore[assignment]


@dataclass(slots=True)
class Dump:
    """What came out."""

    pieces: list[Piece]
    error: FormatError | None = None

    def of(self, type_: str) -> list[dict[str, Any]]:
        """The fields of the pieces of one type."""
        return [dict(piece.fields) for piece in self.pieces if piece.type == type_]


def dump(data: bytes, name: bytes = b"", pipe: bool = False) -> Dump:
    """Dump to the end or to the first fault; pieces always follow one another without gaps."""
    found = Dump([])
    at = 0
    try:
        for piece in pieces(Pipe(data) if pipe else io.BytesIO(data), name):
            if not piece.inside:
                assert piece.offset == at
                at += piece.size
            found.pieces.append(piece)
            assert text_line(piece).isascii()
            assert text_line(piece).count(b"\n") == json_line(piece).count(b"\n") == 1
    except FormatError as error:
        found.error = error
    assert at == len(data) or found.error is not None
    assert "\n" not in str(found.error)
    return found


def chunk_id(number: int) -> ChunkId:
    return ChunkId(hashlib.sha256(bytes([number])).digest())


def an_index() -> bytes:
    builder = IndexBuilder(make_catar.FLAGS, ChunkSizes(16, 64, 256))
    for number, size in enumerate((256, 1, 100)):
        builder.append(chunk_id(number), size)
    return builder.build().to_bytes()


def a_pack_index() -> bytes:
    packs = [(BlobDigest.of(b"a"), 10_000), (BlobDigest.of(b"b"), 1 << 40)]
    places = [(chunk_id(n), ChunkPlace(n % 2, n % 2 * (1 << 33) + n * 100, 100, 150)) for n in range(6)]
    return PackIndex.build(packs, places).raw


def a_pack() -> bytes:
    chunks = [compress(Compression.ZSTD, bytes([n]) * 100) for n in range(3)]
    rows = [PackRow(chunk_id(n), len(chunk), 100) for n, chunk in enumerate(chunks)]
    return b"".join(chunks) + pack_table(rows)


def a_recipe() -> bytes:
    builder = RecipeBuilder(5000)
    builder.literal(b"head" * 300_000)
    builder.copy(100, 400)
    builder.zeros(112)
    builder.copy(4000, 100)
    builder.literal(b"tail")
    builder.copy(10, 20)
    return builder.build(BlobDigest.of(b"tar"))


def a_segment() -> Segment:
    packs = [Pack(hashlib.sha256(b"a").digest(), 10_000), Pack(hashlib.sha256(b"b").digest(), 200 << 20)]
    rows = sorted(
        PackedRow(chunk_id(n), PackedPlace(packs[n % 2].sha256, n % 2 * (100 << 20) + n * 100, 100, 150))
        for n in range(6)
    )
    return Segment.build(packs, rows, 7)


def a_head() -> bytes:
    removed = (Removed(hashlib.sha256(b"c").digest(), 5000, 1_500_000_000),)
    return Head(7, (SegmentName.of(a_segment()),), removed, 3).to_bytes()


def said() -> bytes:
    """By one who pulls and one who is asked, one after the other."""
    ids = (chunk_id(1), chunk_id(2))
    messages = (
        Hello(Terms.PULL_CHUNKS | Terms.PULL_INDEX),
        IndexPart(b"index"),
        IndexEnd(),
        ChunkRequest(ids, urgent=True),
        ChunkReply(ids[0], compress(Compression.ZSTD, b"data"), compressed=True),
        ChunkAbsent(ids[1]),
        Abort(5, b"disk\nis full"),
        Farewell(),
    )
    return b"".join(map(encode, messages))


FORMATS = {
    "archive": ARCHIVES["one-file"],
    "rich archive": ARCHIVES["acls"],
    "index": an_index(),
    "pack index": a_pack_index(),
    "pack": a_pack(),
    "recipe": a_recipe(),
    "segment": a_segment().raw,
    "head": a_head(),
    "messages": said(),
    "zstd": compress(Compression.ZSTD, b"hello" * 100),
    "xz": compress(Compression.XZ, b"hello" * 100),
    "gzip": compress(Compression.GZIP, b"hello" * 100),
}


# ---- archives


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("pipe", [False, True])
def test_archives(name: str, pipe: bool) -> None:
    """Every archive is shown whole, its pieces one after another, with what the decoder sees in it."""
    found = dump(ARCHIVES[name], pipe=pipe)
    assert found.error is None
    nodes = feed([ARCHIVES[name]]).nodes
    entries = found.of("ENTRY")
    assert [(e["mode"], e["flags"], e["uid"], e["gid"], e["mtime"]) for e in entries] == [
        (node.mode, node.flags, node.uid, node.gid, node.mtime) for node in nodes
    ]
    assert [piece.offset for piece in found.pieces if piece.type == "ENTRY"] == [n.offset for n in nodes]
    assert [fields["name"] for fields in found.of("FILENAME")] == [node.name for node in nodes if node.name]
    assert [fields["data_size"] for fields in found.of("PAYLOAD")] == [n.size for n in nodes if n.is_regular]
    assert len(found.of("GOODBYE_ITEM")) == len(nodes) - 1
    attributes = [(x.name, x.value) for node in nodes for x in node.xattrs]
    assert [(fields["name"], fields["value"]) for fields in found.of("XATTR")] == attributes


@pytest.mark.parametrize("name", BROKEN)
def test_broken_archives(name: str) -> None:
    """It stops at the first record that is wrong, and says which rule it breaks, as the decoder does."""
    broken = BROKEN[name]
    found = dump(broken.data, b"x.catar")
    shown = sum(piece.size for piece in found.pieces)
    assert found.error is not None
    assert found.error.offset is not None
    if "truncated" in broken.says:  # the decoder says where the file ends; here it is the record that is cut
        assert "truncated" in found.error.reason or "cut short" in found.error.reason
        assert found.error.offset == shown <= broken.offset
    else:
        assert broken.says in found.error.reason
        # Of rules about several records of a node, the decoder only knows that the node breaks them.
        assert found.error.offset >= broken.offset
        assert found.error.offset == shown or name == "acl-without-group-obj"


def test_attribute_out_of_order() -> None:
    """The attribute at fault is named, where the decoder can only name the node."""
    found = dump(BROKEN["xattrs-out-of-order"].data)
    assert found.pieces[-1].type == "XATTR"
    assert found.error is not None
    assert found.error.offset == found.pieces[-1].offset + found.pieces[-1].size


def test_behind_the_end() -> None:
    """Bytes behind an archive are no fault, and are told."""
    found = dump(ARCHIVES["one-file"] + bytes(100))
    assert found.error is None
    assert (found.pieces[-1].type, found.pieces[-1].size) == ("BEHIND_THE_END", 100)


def test_payload_is_not_read_into_memory() -> None:
    """A payload that claims a terabyte costs nothing but the error that it is not there."""
    data = bytearray(ARCHIVES["one-file"])
    (at,) = [piece.offset for piece in dump(bytes(data)).pieces if piece.type == "PAYLOAD"]
    data[at : at + 8] = (1 << 40).to_bytes(8, "little")
    for pipe in (False, True):
        found = dump(bytes(data), pipe=pipe)
        assert found.error is not None
        assert (found.error.offset, "cut short" in found.error.reason) == (at, True)


# ---- indexes, chunks


def test_index() -> None:
    """Header, items and tail, with what the parser sees in them."""
    data = an_index()
    found = dump(data)
    index = Index.parse(data)
    assert found.error is None
    (header,) = found.of("INDEX_HEADER")
    assert header["feature_flags"] == make_catar.FLAGS
    assert (header["chunk_size_min"], header["chunk_size_avg"], header["chunk_size_max"]) == (16, 64, 256)
    assert [(f["end"], f["id"]) for f in found.of("INDEX_ITEM")] == [(c.end, c.id.hex()) for c in index]
    assert found.of("INDEX_TAIL")[0]["table_size"] == len(data) - 48


@pytest.mark.parametrize(
    ("at", "value", "offset", "says"),
    [
        (0, 49, 0, "index_size"),
        (16, 3, 0, "feature flags"),
        (24, 0, 0, "chunk sizes"),
        (48, 0, 0, "table_size"),
        (104, 256, 104, "end of chunk 1 does not lie after its start"),
        (104, 600, 104, "chunk 1 is larger"),
        (208, 0, 184, "the size in the tail"),
        (216, 0, 184, "marker"),
    ],
)
def test_broken_index(at: int, value: int, offset: int, says: str) -> None:
    """The first piece that is wrong is named, and what is wrong with it."""
    data = bytearray(an_index())
    data[at : at + 8] = value.to_bytes(8, "little")
    found = dump(bytes(data), b"x.caidx")
    assert found.error is not None
    assert found.error.offset == offset == sum(piece.size for piece in found.pieces)
    assert says in found.error.reason


def test_index_that_goes_on() -> None:
    """Nothing may follow the tail, and the tail may not be missing."""
    data = an_index()
    found = dump(data + b"\0")
    assert found.error is not None
    assert found.error.offset == len(data)
    found = dump(data[:-40])
    assert found.error is not None
    assert "cut short" in found.error.reason


@pytest.mark.parametrize("kind", ["zstd", "xz", "gzip"])
def test_chunks(kind: str) -> None:
    """A chunk file tells its compression, its size and the ids that the chunk has by each digest."""
    ((fields),) = dump(FORMATS[kind]).of("CHUNK")
    raw = b"hello" * 100
    assert fields == {
        "compression": kind,
        "raw_size": 500,
        "sha512_256": hashlib.new("sha512_256", raw).hexdigest(),
        "sha256": hashlib.sha256(raw).hexdigest(),
    }


# ---- images


def test_pack_index() -> None:
    """Every pack and every chunk's place."""
    data = a_pack_index()
    found = dump(data)
    index = PackIndex.parse(data, "test")
    assert found.error is None
    assert [(f["sha256"], f["size"]) for f in found.of("PACK_INDEX_PACK")] == [
        (digest.hex, size) for digest, size in index.packs
    ]
    assert [
        (f["id"], f["pack"], f["stored_size"], f["raw_size"], f["offset_high"] << 32 | f["offset_low"])
        for f in found.of("PACK_INDEX_CHUNK")
    ] == [(id_.hex(), place.pack, place.stored, place.raw, place.offset) for id_, place in index]


@pytest.mark.parametrize(
    ("at", "value", "offset", "says"),
    [
        (8, b"\2", 0, "version"),
        (12, b"\xff\xff", 0, "over the limit"),
        (104, b"\xff", 151, "out of order"),
        (136, b"\7", 104, "outside of the packs"),
        (142, b"\0\0\0\0", 104, "no chunk has this size"),
    ],
)
def test_broken_pack_index(at: int, value: bytes, offset: int, says: str) -> None:
    """The first piece that is wrong is named, and what is wrong with it."""
    data = bytearray(a_pack_index())
    data[at : at + len(value)] = value
    found = dump(bytes(data))
    assert found.error is not None
    assert (found.error.offset, says in found.error.reason) == (offset, True)


def test_pack() -> None:
    """A pack shows its chunks by their size, and its table."""
    found = dump(a_pack())
    assert found.error is None
    assert [piece.type for piece in found.pieces] == [
        "CHUNKS",
        "PACK_TABLE_FRAME",
        *["PACK_TABLE_ROW"] * 3,
        "PACK_TABLE_FOOTER",
    ]
    assert [fields["id"] for fields in found.of("PACK_TABLE_ROW")] == [chunk_id(n).hex() for n in range(3)]
    found = dump(b"\0" + a_pack())
    assert found.error is not None
    assert "the chunks of the table have" in found.error.reason


def test_recipe() -> None:
    """A recipe shows its head, its splices with what they copy, and its literals by their size."""
    found = dump(a_recipe())
    assert found.error is None
    assert [(f["kind"], f["length"]) for f in found.of("RECIPE_SPLICE")] == [
        ("literal", 1_200_000),
        ("copy", 400),
        ("zeros", 112),
        ("copy", 100),
        ("literal", 4),
        ("copy", 20),
    ]
    assert [f["distance"] for f in found.of("RECIPE_OFFSET")] == [100, 3500, -4090]
    assert [f["raw_size"] for f in found.of("RECIPE_LITERALS")] == [1 << 20, 1_200_004 - (1 << 20)]


def test_segment() -> None:
    """Every pack and every chunk's place, as the store finds them."""
    segment = a_segment()
    found = dump(segment.raw)
    assert found.error is None
    assert [(f["packs"], f["chunks"], f["generation"]) for f in found.of("SEGMENT_HEADER")] == [(2, 6, 7)]
    packs = [Pack(bytes.fromhex(f["sha256"]), f["size"]) for f in found.of("PACK_INDEX_PACK")]
    assert packs == list(segment.packs)
    assert [
        (f["id"], packs[f["pack"]].sha256, f["offset_high"] << 32 | f["offset_low"], f["stored_size"])
        for f in found.of("PACK_INDEX_CHUNK")
    ] == [(id_.hex(), at.pack, at.offset, at.stored) for id_, at in segment]


def test_head() -> None:
    """Every segment, every pack that went, and the checksum."""
    found = dump(a_head())
    head = Head.parse(a_head())
    assert found.error is None
    assert [piece.type for piece in found.pieces] == [
        "STORE_HEAD",
        "STORE_HEAD_SEGMENT",
        "STORE_HEAD_REMOVED",
        "STORE_HEAD_TAIL",
    ]
    assert [(f["generation"], f["collections"]) for f in found.of("STORE_HEAD")] == [(7, 3)]
    assert [f["sha256"] for f in found.of("STORE_HEAD_SEGMENT")] == [head.segments[0].sha256.hex()]
    assert [(f["size"], f["moment"]) for f in found.of("STORE_HEAD_REMOVED")] == [(5000, 1_500_000_000)]


@pytest.mark.parametrize(
    ("name", "at", "value", "offset", "says"),
    [
        ("segment", 8, b"\2", 0, "version"),
        ("segment", 12, b"\xff\xff", 0, "over the limit"),
        ("segment", 71, b"\x7f", 32, "no pack of a store has this size"),
        ("segment", 112, b"\xff", 159, "out of order"),
        ("segment", 144, b"\7", 112, "outside of the packs"),
        ("head", 12, b"\xff\xff", 0, "over the limit"),
        ("head", 72, b"\1", 32, "a segment of so many packs and chunks has"),
        ("head", 78, b"\xff\xff", 32, "over the limit"),
        ("head", 24, b"\1", 128, "the checksum should be"),
        ("messages", 16, b"\0\0", 0, "flags"),
        ("messages", 24, b"\x10", 24, "INDEX of 16 bytes"),
        ("messages", 32, b"\0", 24, "no type of a message"),
    ],
)
def test_broken(name: str, at: int, value: bytes, offset: int, says: str) -> None:
    """The first piece that is wrong is named, and what is wrong with it."""
    data = bytearray(FORMATS[name])
    data[at : at + len(value)] = value
    found = dump(bytes(data))
    assert found.error is not None
    assert (found.error.offset, says in found.error.reason) == (offset, True), found.error


def test_messages() -> None:
    """What was said is shown message by message, data by its size, and each chunk that was asked for."""
    found = dump(said())
    assert found.error is None
    assert [piece.type for piece in found.pieces] == [
        "HELLO",
        "INDEX",
        "INDEX_EOF",
        "REQUEST",
        "REQUEST_ID",
        "REQUEST_ID",
        "CHUNK",
        "MISSING",
        "ABORT",
        "GOODBYE",
    ]
    assert found.of("INDEX") == [{"data_size": 5}]
    assert [f["id"] for f in found.of("REQUEST_ID")] == [chunk_id(1).hex(), chunk_id(2).hex()]
    assert found.of("MISSING") == [{"id": chunk_id(2).hex()}]
    assert found.of("ABORT") == [{"error": 5, "reason": b"disk\nis full"}]


# ---- anything


@pytest.mark.parametrize("data", [b"", b"x", bytes(100), b"\x28\xb5\x2f\xfd", b"tarcatartarcatar"])
def test_unknown(data: bytes) -> None:
    """What is none of the formats is refused in one sentence."""
    found = dump(data)
    assert not found.pieces
    assert found.error is not None
    assert found.error.offset == 0


@pytest.mark.parametrize("name", FORMATS)
def test_truncated(name: str) -> None:
    """A file that ends early is shown up to the piece that is cut."""
    data = FORMATS[name]
    for end in [*range(0, min(len(data), 700), 3), len(data) - 1]:
        found = dump(data[:end])
        if name == "messages":  # which may end after each of them
            assert sum(piece.size for piece in found.pieces) <= end
        elif found.error is None:  # a pack without its table, cut where its first chunk ends, is a chunk file
            assert (name, [piece.type for piece in found.pieces]) == ("pack", ["CHUNK"])
        else:
            assert 0 <= (found.error.offset or 0) <= end


@given(st.sampled_from(sorted(FORMATS)), st.lists(st.tuples(st.integers(0), st.integers(0, 7)), max_size=4))
@settings(max_examples=150, deadline=None)
def test_flipped_bits(name: str, flips: Iterable[tuple[int, int]]) -> None:
    """Whatever the bytes: pieces without gaps, and at most one sentence that says where it is wrong."""
    data = bytearray(FORMATS[name])
    for at, bit in flips:
        data[at % min(len(data), 4096)] ^= 1 << bit
    for pipe in (False, True):
        found = dump(bytes(data), pipe=pipe)
        assert found.error is None or 0 <= (found.error.offset or 0) <= len(data)


@given(st.integers(0), st.integers(0, 7))
@settings(max_examples=100, deadline=None)
def test_judges_as_the_decoder(at: int, bit: int) -> None:
    """An archive that the decoder takes is shown whole, and one that it refuses is not."""
    data = bytearray(ARCHIVES["acls"])
    data[at % len(data)] ^= 1 << bit
    assert (dump(bytes(data), b"x.catar").error is None) == feed([bytes(data)]).ended


def test_source_reads_no_more_than_is_there() -> None:
    """A length from a file allocates nothing by itself."""
    with pytest.raises(FormatError, match=r"thing is cut short: the file ends at byte 3 \(at byte 0\)"):
        Source(io.BytesIO(b"abc")).take(1 << 60, "thing")


def test_lines() -> None:
    """A line for people has escaped names; JSON has text, or base64 where it is none."""
    piece = Piece(64, "FILENAME", 23, {"name": "n\n ä".encode()})
    assert text_line(piece).split() == [b"64", b"FILENAME", b"23", rb"name=n\012\040\303\244"]
    assert json.loads(json_line(piece)) == {
        "offset": 64,
        "type": "FILENAME",
        "size": 23,
        "fields": {"name": "n\n ä"},
    }
    piece = Piece(0, "X", 1, {"name": b"\xff", "mode": 0o40755, "flags": 16, "none": None})
    assert json.loads(json_line(piece))["fields"] == {
        "name_base64": "/w==",
        "mode": "0o40755",
        "flags": "0x10",
        "none": None,
    }
