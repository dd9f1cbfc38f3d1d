"""Indexes made into others: the result is what `make` would have made of the same content."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from casync_compat.chunker import ChunkSizes
from casync_compat.errors import ChunkMissing, UsageError
from casync_compat.ids import Digest
from casync_compat.index import digest_bits
from casync_compat.kinds import Kind
from casync_compat.store.memory import MemoryStore
from casync_compat.verbs.convert_index import convert_index
from casync_compat.verbs.make import MakeOptions, make_archive_index, make_blob_index
from catar import flags

FAST = flags.select(digest_bits=digest_bits(Digest.BLAKE3))
FAST_BLOB = flags.select(default=0, digest_bits=digest_bits(Digest.BLAKE3))
FIXED = ChunkSizes(4096, 4096, 4096)


def tree(at: Path) -> bytes:
    at.mkdir()
    (at / "a").write_bytes(bytes(range(256)) * 400)
    (at / "empty").touch()
    (at / "d").mkdir()
    (at / "d" / "link").symlink_to("../a")
    return os.fsencode(at)


@pytest.mark.parametrize("digest", list(Digest))
def test_an_archive_index(tmp_path: Path, digest: Digest) -> None:
    """From blake3 and fixed sizes to any digest: index, chunks and printed digest are those of `make`."""
    source = tree(tmp_path / "tree")
    fast, expected, made = MemoryStore(), MemoryStore(), MemoryStore()
    a, b, c = (os.fsencode(tmp_path / name) for name in ("a.caidx", "b.caidx", "c.caidx"))
    make_archive_index(a, source, fast, MakeOptions(feature_flags=FAST, sizes=FIXED))
    word = flags.select(digest_bits=digest_bits(digest))
    right = make_archive_index(b, source, expected, MakeOptions(feature_flags=word))
    result = convert_index(Kind.ARCHIVE_INDEX, a, c, fast, made, digest=digest)
    assert Path(os.fsdecode(c)).read_bytes() == Path(os.fsdecode(b)).read_bytes()
    assert made.chunks == expected.chunks
    assert result.digest == right.digest
    assert result.entries == 5


def test_a_blob_index(tmp_path: Path) -> None:
    """A blob likewise, and into the store it comes from."""
    blob = tmp_path / "blob"
    blob.write_bytes(Random(1).randbytes(300_000) + bytes(2_000_000))
    store, expected = MemoryStore(), MemoryStore()
    a, b, c = (os.fsencode(tmp_path / name) for name in ("a.caibx", "b.caibx", "c.caibx"))
    make_blob_index(a, os.fsencode(blob), store, MakeOptions(feature_flags=FAST_BLOB, sizes=FIXED))
    make_blob_index(b, os.fsencode(blob), expected)
    convert_index(Kind.BLOB_INDEX, a, c, store, store)
    assert Path(os.fsdecode(c)).read_bytes() == Path(os.fsdecode(b)).read_bytes()
    assert expected.chunks.items() <= store.chunks.items()


def test_nothing_appears_when_a_chunk_is_missing(tmp_path: Path) -> None:
    """A conversion that fails leaves no index."""
    blob = tmp_path / "blob"
    blob.write_bytes(Random(1).randbytes(300_000))
    store = MemoryStore()
    a, c = os.fsencode(tmp_path / "a.caibx"), os.fsencode(tmp_path / "c.caibx")
    make_blob_index(a, os.fsencode(blob), store, MakeOptions(sizes=FIXED))
    store.chunks.popitem()
    with pytest.raises(ChunkMissing):
        convert_index(Kind.BLOB_INDEX, a, c, store, store)
    assert sorted(os.listdir(tmp_path)) == ["a.caibx", "blob"]


def test_only_indexes_are_converted(tmp_path: Path) -> None:
    """An archive is not an index."""
    with pytest.raises(UsageError, match="archive"):
        convert_index(Kind.ARCHIVE, b"a.catar", b"b.catar", MemoryStore(), MemoryStore())
