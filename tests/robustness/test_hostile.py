"""Hostile and damaged input through the real command.

Each time: exit status 1, one line that names the file and the place, nothing outside the target, nothing of what was
there is lost, no temporary file stays.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
from pathlib import Path

import pytest
import zstandard
from strategies import directory, file, symlink

from casync_compat.chunker import ChunkSizes
from casync_compat.ids import Digest
from casync_compat.index import IndexBuilder
from casync_compat.verbs.make import BLOB_FLAGS
from catar import schema

from .hostile import (
    LETTERS,
    chunk_files,
    filename,
    flipped,
    patched,
    records,
    renamed,
    reordered,
    sample,
    tree,
)
from .running import everything, fails, run, temporary_files, works

SAMPLE = sample()
MEMORY = 150 << 20


@pytest.fixture
def at(tmp_path: Path) -> Path:
    """A directory for a run, with a target in it that must survive, and a neighbour that must not be touched."""
    here = tmp_path / "here"
    (here / "out" / "old").mkdir(parents=True)
    (here / "out" / "old" / "precious").write_text("keep me")
    (tmp_path / "neighbour").write_text("not yours")
    return here


def extract_fails(at: Path, data: bytes, *says: str) -> str:
    """Extracting this archive over what is there fails, and harms nothing."""
    (at / "x.catar").write_bytes(data)
    line = fails("extract", "x.catar", "out", cwd=at, memory=MEMORY)
    assert line.startswith(("x.catar: ", "out/")), line
    for text in says:
        assert text in line
    assert (at / "out" / "old" / "precious").read_text() == "keep me"
    assert sorted(os.listdir(at)) == ["out", "x.catar"]
    assert (at.parent / "neighbour").read_text() == "not yours"
    assert temporary_files(at) == []
    return line


# ---- damaged archives


def cuts() -> list[int]:
    """Lengths at record borders, around them, and anywhere."""
    borders = [offset for offset, _, _ in records(SAMPLE)]
    chosen = random.Random(1).sample([b + d for b in borders[1:] for d in (-1, 0, 8, 16)], 8)
    return sorted({0, 1, 63, len(SAMPLE) - 1, *chosen})


@pytest.mark.parametrize("length", cuts())
def test_truncated_archive(at: Path, length: int) -> None:
    """An archive that ends early is an error at the byte where it ends; casync would loop for ever."""
    line = extract_fails(at, SAMPLE[:length], "archive is truncated")
    assert f"(at byte {length})" in line
    if length:
        assert "archive is truncated" in fails("list", "x.catar", cwd=at)


def test_truncated_archive_from_a_pipe(at: Path) -> None:
    """The same from standard input."""
    (at / "half").write_bytes(SAMPLE[:1000])
    line = fails("extract", "--what=archive", "-", "out", cwd=at, stdin=at / "half")
    assert line == f"standard input: {line.split(': ', 1)[1]}"
    assert "archive is truncated" in line
    assert (at / "out" / "old" / "precious").exists()


def test_bits_flipped_in_an_archive(at: Path) -> None:
    """Every bit of a header's size and type matters; a flipped one is found at its record, or where that leads to."""
    chance = random.Random(2)
    for offset, _, _ in chance.sample(records(SAMPLE), 6):
        position = offset + chance.choice([0, 1, 8, 9, 15])
        data = flipped(SAMPLE, position, chance.randrange(8))
        assert "(at byte " in extract_fails(at, data)


@pytest.mark.parametrize(
    "data", [b"x" * 1000, bytes(1000), b"\xff" * 1000, b"hsqs" + bytes(996), b"\n"], ids=repr
)
def test_files_that_are_no_archive(at: Path, data: bytes) -> None:
    """Anything else is refused at its first byte."""
    assert "(at byte " in extract_fails(at, data)


def test_empty_file(at: Path) -> None:
    """Nothing is no archive."""
    extract_fails(at, b"", "(at byte 0)")


# ---- names


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (b"..", "'..' is not allowed"),
        (b".", "'.' is not allowed"),
        (b"", "FILENAME record of 17 bytes is out of bounds"),
        (b"/", "has a slash or NUL"),
        (b"../neighbour", "has a slash or NUL"),
        (b"a/b", "has a slash or NUL"),
        (b"a\0b", "has a slash or NUL"),
        (b"x" * 5000, "is out of bounds"),
    ],
)
def test_names_that_no_file_has(at: Path, name: bytes, says: str) -> None:
    """Names that would lead elsewhere, or nowhere, are refused at their record, by every verb."""
    data = renamed(SAMPLE, b"second", name)
    offset = data.index(filename(name))
    extract_fails(at, data, says, f"(at byte {offset})")
    for verb in ("list", "mtree", "digest"):
        assert says in fails(verb, "x.catar", cwd=at)


def test_a_name_that_is_too_long_for_the_file_system(at: Path) -> None:
    """256 bytes are a name in an archive, but not on disk: the error names the file."""
    extract_fails(at, renamed(SAMPLE, b"second", b"x" * 256), "File name too long")


@pytest.mark.parametrize(
    "data",
    [
        tree(file(b"a", b"one"), file(b"b", b"two")),
        tree(directory(b"a", file(b"x")), directory(b"b", file(b"y"))),
        tree(symlink(b"a", b".."), directory(b"b", file(b"neighbour", b"gone"))),
        tree(directory(b"a", file(b"x")), symlink(b"b", b"..")),
    ],
    ids=["files", "directories", "a link, then a directory behind it", "a directory, then a link"],
)
def test_names_that_occur_twice(at: Path, data: bytes) -> None:
    """The second of two nodes with one name is refused before anything is written through the first."""
    extract_fails(at, renamed(data, b"b", b"a"), "occurs twice in one directory")


@pytest.mark.parametrize("seed", range(3))
def test_names_out_of_order(at: Path, seed: int) -> None:
    """Archives whose names do not rise (desync writes them from tar files) extract rightly, deletion included."""
    names = [b"%02d" % i for i in range(30)]
    random.Random(seed).shuffle(names)
    (at / "x.catar").write_bytes(reordered(names))
    (at / "out" / "05").mkdir()
    (at / "out" / "31").write_text("old")
    works("extract", "x.catar", "out", cwd=at)
    assert {p.name: p.read_bytes() for p in (at / "out").iterdir()} == {
        os.fsdecode(name): b"contents of " + name for name in names
    }
    (at / "out" / "17x").write_text("old")
    works("extract", "x.catar", "out", cwd=at)
    assert len(os.listdir(at / "out")) == 30
    (at / "one").mkdir()
    works("extract", "x.catar", "one", os.fsdecode(names[0]), cwd=at)
    assert works("cat", "x.catar", os.fsdecode(names[7]), cwd=at).out == b"contents of " + names[7]
    listed = works("list", "x.catar", cwd=at).out.splitlines()
    assert [line[11:] for line in listed] == [b".", *names]


# ---- sizes that lie


@pytest.mark.parametrize("size", [1 << 63, (1 << 64) - 1, 1 << 62, 1 << 40, 15, 0])
@pytest.mark.parametrize("record", ["PAYLOAD", "FILENAME", "GOODBYE", "ENTRY", "SYMLINK"])
def test_sizes_of_records(at: Path, record: str, size: int) -> None:
    """A record that claims an absurd size is an error, and costs no memory."""
    type_ = getattr(schema, record).type
    offset = next(at for at, _, t in records(SAMPLE) if t == type_)
    extract_fails(at, patched(SAMPLE, offset, "<Q", size), "(at byte ")


# ---- lookup tables that lie


def goodbye_items(data: bytes) -> tuple[int, list[tuple[int, int, int]]]:
    """Offset and items of the root's table."""
    offset, size, _ = records(data)[-1]
    count = (size - 40) // 24
    return offset + 16, [struct.unpack_from("<QQQ", data, offset + 16 + 24 * i) for i in range(count)]


def lie(kind: str) -> bytes:
    """The sample with a wrong lookup table at its root."""
    start, items = goodbye_items(SAMPLE)
    data = bytearray(SAMPLE)
    for i, (offset, size, hash_) in enumerate(items):
        wrong = {
            "far": (1 << 60, size, hash_),
            "zero": (0, size, hash_),
            "one byte off": (offset - 1, size, hash_),
            "turned round": (*items[(i + 1) % len(items)][:2], hash_),
            "too short": (offset, size - 1, hash_),
            "too long": (offset, size + 1, hash_),
            "other hashes": (offset, size, hash_ ^ 1),
        }[kind]
        struct.pack_into("<QQQ", data, start + 24 * i, *wrong)
    return bytes(data)


@pytest.mark.parametrize(
    "kind", ["far", "zero", "one byte off", "turned round", "too short", "too long", "other hashes"]
)
def test_lookup_tables(at: Path, kind: str) -> None:
    """A table that lies never yields wrong bytes: reading on is refused at the table, looking up fails."""
    (at / "x.catar").write_bytes(lie(kind))
    assert "lookup table" in fails("extract", "x.catar", "new", cwd=at)
    assert "lookup table" in fails("list", "x.catar", cwd=at)
    assert fails("cat", "x.catar", "second", cwd=at).startswith(("x.catar: ", "x.catar/second: "))
    assert fails("extract", "x.catar", "out", "second", cwd=at).startswith(("x.catar: ", "x.catar/second: "))
    assert not (at / "out" / "second").exists()
    assert temporary_files(at) == []


def test_a_table_does_not_make_anything_disappear(at: Path) -> None:
    """--delete goes by what was extracted, not by the table."""
    extract_fails(at, lie("other hashes"))
    assert (at / "out" / "first").exists()


# ---- links in the way


def test_symlinks_inside_the_target_are_not_followed(at: Path) -> None:
    """Where the target has symlinks to other places, files are put in their stead, and nothing goes through them."""
    outside = at.parent / "outside"
    (outside / "sub").mkdir(parents=True)
    (outside / "first").write_text("theirs")
    before = everything(outside)
    target = at / "out"
    shutil.rmtree(target)
    target.mkdir()
    (target / "inner").symlink_to(outside)
    (target / "first").symlink_to(outside / "first")
    (target / "second").symlink_to(outside / "new")
    (target / "gone").symlink_to(outside / "sub")
    (at / "x.catar").write_bytes(SAMPLE)
    works("extract", "x.catar", "out", cwd=at)
    assert everything(outside) == before
    assert not (target / "inner").is_symlink()
    assert (target / "inner" / "deep").read_bytes() == b"deep\n" * 50
    assert not (target / "first").is_symlink()
    assert (target / "second").read_bytes() == LETTERS * 1000
    assert not os.path.lexists(target / "gone")


def test_an_archive_cannot_write_through_its_own_links(at: Path) -> None:
    """A link that an archive makes leads nowhere for what comes after it, whatever order names come in."""
    first = tree(symlink(b"a", os.fsencode(at.parent)), file(b"b"))
    (at / "x.catar").write_bytes(first)
    works("extract", "x.catar", "out", cwd=at)
    (at / "y.catar").write_bytes(tree(directory(b"a", file(b"neighbour", b"mine now"))))
    works("extract", "y.catar", "out", cwd=at)
    assert (at.parent / "neighbour").read_text() == "not yours"
    assert (at / "out" / "a" / "neighbour").read_bytes() == b"mine now"


def test_the_target_may_be_a_symlink(at: Path) -> None:
    """The target itself is followed: it is what the user said."""
    (at / "x.catar").write_bytes(SAMPLE)
    (at / "real").mkdir()
    (at / "link").symlink_to("real")
    works("extract", "x.catar", "link", cwd=at)
    assert (at / "real" / "first").exists()
    assert (at / "link").is_symlink()


# ---- indexes


@pytest.fixture
def indexed(at: Path) -> Path:
    """A run's directory with an archive index, its source and its store."""
    (at / "src" / "sub").mkdir(parents=True)
    for name, seed in (("a", 1), ("sub/b", 2)):
        (at / "src" / name).write_bytes(random.Random(seed).randbytes(300_000))
    works("make", "x.caidx", "src", cwd=at)
    works("make", "x.caibx", "src/a", cwd=at)
    return at


VERBS = (("extract", "bad.caidx", "out"), ("list", "bad.caidx"), ("info", "bad.caidx"), ("gc", "bad.caidx"))


def index_fails(at: Path, data: bytes, *says: str, verbs: tuple[tuple[str, ...], ...] = VERBS) -> None:
    """Every verb refuses this index, naming it, and nothing changes."""
    (at / "bad.caidx").write_bytes(data)
    before = everything(at)
    for words in verbs:
        line = fails(*words, cwd=at)
        assert line.startswith("bad.caidx: ")
        for text in ("(at byte ", *says):
            assert text in line
    assert everything(at) == before


@pytest.mark.parametrize("length", [0, 1, 48, 63, 64, 104, 105, -80, -41, -40, -1])
def test_truncated_index(indexed: Path, length: int) -> None:
    """An index that ends early is refused before anything is done."""
    data = (indexed / "x.caidx").read_bytes()
    index_fails(indexed, data[:length], verbs=VERBS[:1] + VERBS[3:])


@pytest.mark.parametrize(
    ("offset", "says"),
    [(0, "not an index"), (8, "not an index"), (17, "feature flags"), (31, "chunk sizes"), (48, "chunk table"),
     (56, "chunk table"), (-1, "tail"), (-16, "size in the index tail"), (-24, "tail"), (-40, "tail")],
)  # fmt: skip
def test_bits_flipped_in_an_index(indexed: Path, offset: int, says: str) -> None:
    """Headers and tail are checked field by field."""
    data = (indexed / "x.caidx").read_bytes()
    index_fails(indexed, flipped(data, offset % len(data), 7), says, verbs=VERBS[:1])


@pytest.mark.parametrize("end", [0, 1, 1 << 63, (1 << 64) - 1])
def test_offsets_that_fall(indexed: Path, end: int) -> None:
    """Chunks that end before they begin, or are larger than the index allows, are refused at their row."""
    data = (indexed / "x.caidx").read_bytes()
    row = 64 + 40 * 2
    (second,) = struct.unpack_from("<Q", data, 64 + 40)
    index_fails(
        indexed, patched(data, row, "<Q", end), "chunk 2 " if end > second else "chunk 2", f"(at byte {row})"
    )


def test_bytes_after_the_end_of_an_index(indexed: Path) -> None:
    """One byte too many is refused."""
    index_fails(indexed, (indexed / "x.caidx").read_bytes() + b"\0")


def test_an_index_that_is_a_blob_index(indexed: Path) -> None:
    """A blob index under the name of an archive index is found out at the first node."""
    (indexed / "bad.caidx").write_bytes((indexed / "x.caibx").read_bytes())
    assert fails("extract", "bad.caidx", "out", cwd=indexed).startswith("bad.caidx: ")
    assert (indexed / "out" / "old" / "precious").exists()


# ---- stores


def chunk_fails(at: Path, chunk: Path, *says: str) -> None:
    """Neither archive nor blob can be extracted, the error names chunk and store, and old files stay."""
    (at / "blob").write_text("old blob")
    for words in (("extract", "x.caidx", "out"), ("extract", "x.caibx", "blob"), ("digest", "x.caidx")):
        outcome = run(*words, cwd=at)
        if outcome.status == 0:
            continue  # the chunk is not in this index
        line = outcome.err.decode()
        assert (outcome.status, line.count("\n")) == (1, 1), outcome
        assert chunk.name.removesuffix(".cacnk") in line
        assert "default.castr" in line
        for text in says:
            assert text in line
        assert outcome.peak < MEMORY
    assert run("extract", "x.caidx", "new", cwd=at).status == 1
    assert (at / "blob").read_bytes() in (b"old blob", (at / "src" / "a").read_bytes())
    assert (at / "out" / "old" / "precious").exists()
    assert temporary_files(at) == []


def test_missing_chunk(indexed: Path) -> None:
    """A chunk that no store has is named, with what to do; an extra store that has it helps."""
    chunk = chunk_files(indexed / "default.castr")[0]
    shutil.copytree(indexed / "default.castr", indexed / "extra")
    chunk.unlink()
    chunk_fails(indexed, chunk, "is missing from", "--extra-store")
    works("extract", "x.caidx", "out", "--extra-store=extra", cwd=indexed)
    assert everything(indexed / "out") == everything(indexed / "src")


@pytest.mark.parametrize("damage", ["bit", "cut", "empty", "other chunk", "not compressed", "not zstd"])
def test_damaged_chunk(indexed: Path, damage: str) -> None:
    """Whatever is wrong with a chunk file, its bytes are never used."""
    chunk, other = chunk_files(indexed / "default.castr")[:2]
    data = chunk.read_bytes()
    os.chmod(chunk, 0o644)
    chunk.write_bytes(
        {
            "bit": flipped(data, len(data) // 2),
            "cut": data[: len(data) // 2],
            "empty": b"",
            "other chunk": other.read_bytes(),
            "not compressed": zstandard.ZstdDecompressor().decompressobj().decompress(data),
            "not zstd": b"PK\3\4" + data,
        }[damage]
    )
    chunk_fails(indexed, chunk, "is missing" if damage == "empty" else "is corrupt")


@pytest.mark.parametrize("declared", [True, False])
def test_decompression_bomb(indexed: Path, declared: bool) -> None:
    """A chunk that would decompress to gigabytes is refused by its size, without the memory for it."""
    chunk = chunk_files(indexed / "default.castr")[0]
    os.chmod(chunk, 0o644)
    compressor = zstandard.ZstdCompressor(write_content_size=declared).compressobj(
        size=2 << 30 if declared else -1
    )
    piece = bytes(1 << 20)
    with open(chunk, "wb") as out:
        for _ in range(2048):
            out.write(compressor.compress(piece))
        out.write(compressor.flush())
    assert chunk.stat().st_size < 1 << 20
    chunk_fails(indexed, chunk, "is corrupt")


def test_a_bomb_of_chunks(at: Path) -> None:
    """An index that names one small chunk a million times is read in little memory."""
    data = b"x" * 1024
    id_ = Digest.SHA512_256.of(data)
    builder = IndexBuilder(BLOB_FLAGS, ChunkSizes(1024, 1024, 1024))
    for _ in range(300_000):
        builder.append(id_, len(data))
    (at / "bomb.caibx").write_bytes(builder.build().to_bytes())
    assert "missing" in fails("extract", "bomb.caibx", "blob", cwd=at)
    outcome = run("info", "bomb.caibx", cwd=at)
    assert outcome.status == 0
    assert outcome.peak < MEMORY


def test_a_store_that_is_a_file(indexed: Path) -> None:
    """A store of the wrong kind is named."""
    (indexed / "file").write_text("x")
    for words in (("extract", "x.caidx", "new"), ("make", "y.caidx", "src")):
        assert "file" in fails(*words, "--store=file", cwd=indexed)
    assert not (indexed / "y.caidx").exists()


# ---- seeds


@pytest.mark.parametrize("words", [("x.caidx", "out"), ("x.caibx", "blob")])
def test_seeds_that_are_missing(indexed: Path, words: tuple[str, str]) -> None:
    """A seed that is not there costs a warning, and nothing else."""
    outcome = run("extract", *words, "--seed=nowhere", cwd=indexed)
    assert outcome.status == 0
    assert outcome.err.startswith(b"pycasync: warning: nowhere is not used as a seed: ")


def test_an_output_that_cannot_be_a_seed(indexed: Path) -> None:
    """What is in the output, whatever it is, does not stop its replacement."""
    os.mkfifo(indexed / "out" / "fifo")
    (indexed / "out" / "a").mkdir()
    (indexed / "out" / "sub").write_text("in the way")
    outcome = run("extract", "x.caidx", "out", cwd=indexed)
    assert outcome.status == 0
    assert everything(indexed / "out") == everything(indexed / "src")
