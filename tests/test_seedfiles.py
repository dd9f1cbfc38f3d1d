"""Files as seeds: with an index nothing is read before it is used; what a file was cut into is remembered."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from casync_compat.chunker import ChunkSizes
from casync_compat.ids import ChunkId, Digest
from casync_compat.index import digest_bits
from casync_compat.kinds import Kind
from casync_compat.store.memory import MemoryStore
from casync_compat.streams import seeds as seeds_module
from casync_compat.streams.extraction import ExtractOptions, ExtractResult
from casync_compat.verbs.extract import extract_archive
from casync_compat.verbs.extract_blob import extract_blob
from casync_compat.verbs.make import MakeOptions, make_archive, make_archive_index, make_blob_index
from catar import flags

SIZES = ChunkSizes(1024, 4096, 16384)
OLD = Random(1).randbytes(300_000)
NEW = OLD[:100_000] + Random(2).randbytes(20_000) + OLD[100_000:]


class Counting(MemoryStore):
    """Counts what is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.gets = 0

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        self.gets += 1
        return super().get(id, digest, limit)


class Place:
    """A new blob to be extracted, and an old one with its index."""

    def __init__(self, at: Path) -> None:
        self.at = at
        self.store = Counting()
        self.warnings: list[str] = []
        (at / "new").write_bytes(NEW)
        (at / "old").write_bytes(OLD)
        for name in ("new", "old"):
            self.index(name, self.store)

    def index(self, name: str, store: MemoryStore, flag_word: int | None = None) -> None:
        """Index a file, beside it."""
        options = MakeOptions(sizes=SIZES)
        if flag_word is not None:
            options = MakeOptions(sizes=SIZES, feature_flags=flag_word)
        paths = (os.fsencode(self.at / f"{name}.caibx"), os.fsencode(self.at / name))
        make_blob_index(*paths, store, options)

    def extract(self, *seeds: str, cache: str | None = None) -> ExtractResult:
        """Extract the new one with seeds, which lie in the place."""
        self.store.gets = 0
        self.warnings.clear()
        options = ExtractOptions(
            seeds=tuple(os.fsencode(self.at) + b"/" + os.fsencode(seed) for seed in seeds),
            seed_cache=None if cache is None else os.fsencode(self.at / cache),
            seed_output=False,
            jobs=1,
        )
        out = os.fsencode(self.at / "out")
        paths = (os.fsencode(self.at / "new.caibx"), out)
        result = extract_blob(*paths, self.store, options=options, warn=self.warnings.append)
        assert (self.at / "out").read_bytes() == NEW
        return result


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """See `Place`."""
    return Place(tmp_path)


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The paths of files that are read and cut."""
    read: list[bytes] = []
    original = seeds_module.BlobSeed._read

    def noting(path: bytes, *rest: object) -> object:
        read.append(path)
        return original(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(seeds_module.BlobSeed, "_read", staticmethod(noting))
    return read


def few(place: Place, result: ExtractResult) -> bool:
    """Whether only what is new was fetched."""
    return 0 < place.store.gets <= 20 and result.seed_bytes > 250_000


def test_an_index_says_where_chunks_are(place: Place, unread: list[bytes]) -> None:
    """Its file lies beside it, or is named behind a colon; it is not cut."""
    assert few(place, place.extract("old.caibx"))
    (place.at / "old").rename(place.at / "moved")
    path = os.fsencode(place.at / "moved")
    assert few(place, place.extract(f"old.caibx:{os.fsdecode(path)}"))
    assert unread == []
    place.extract("old.caibx")
    assert place.warnings[0].startswith(f"{place.at}/old.caibx is not used as a seed: ")
    assert place.store.gets > 50


def test_an_index_that_lies_costs_only_time(place: Place) -> None:
    """Where the file has other data than the index says, chunks come from the store."""
    (place.at / "old").write_bytes(b"x" * 300_000)
    place.extract("old.caibx")
    assert place.store.gets > 50
    (place.at / "old").write_bytes(OLD[:1000])
    place.extract("old.caibx")


def test_an_index_of_another_digest(place: Place) -> None:
    """It has nothing that could be used, and a warning says so."""
    place.index("old", MemoryStore(), flags.select(default=0, digest_bits=digest_bits(Digest.SHA256)))
    place.extract("old.caibx")
    assert "sha256" in place.warnings[0]


def test_a_directory_of_indexes(place: Place, unread: list[bytes]) -> None:
    """Those that have their files beside them are used; others are passed over."""
    (place.at / "dir").mkdir()
    for name in ("old", "old.caibx"):
        (place.at / name).rename(place.at / "dir" / name)
    (place.at / "dir" / "alone.caibx").write_bytes((place.at / "new.caibx").read_bytes())
    (place.at / "dir" / "bad.caibx").write_bytes(b"no index")
    (place.at / "dir" / "bad").write_bytes(b"")
    assert few(place, place.extract("dir"))
    assert place.warnings == unread == []


def test_what_a_file_was_cut_into_is_remembered(place: Place, unread: list[bytes]) -> None:
    """The second time it is not read; after it changed, or where what is remembered is damaged, it is."""
    old = os.fsencode(place.at / "old")
    assert few(place, place.extract("old", cache="cache/seeds"))
    assert few(place, place.extract("old", cache="cache/seeds"))
    assert unread == [old]
    (place.at / "old").write_bytes(OLD + b"more")
    assert few(place, place.extract("old", cache="cache/seeds"))
    assert unread == [old, old]
    cached = list((place.at / "cache" / "seeds").iterdir())
    assert [path.stat().st_mode & 0o777 for path in cached] == [0o600] * 2
    for path in cached:
        path.write_bytes(b"damaged")
    assert few(place, place.extract("old", cache="cache/seeds"))
    assert unread == [old, old, old]
    place.extract("old")
    assert len(unread) == 4


def test_a_cache_that_cannot_be_written(place: Place) -> None:
    """It is done without."""
    (place.at / "cache").write_bytes(b"")
    assert few(place, place.extract("old", cache="cache"))
    assert place.warnings == []


def test_archives_have_such_seeds_too(place: Place, unread: list[bytes]) -> None:
    """An index of an archive with the archive beside it, or the archive alone, which is cut."""
    tree, store, how = place.at / "tree", Counting(), MakeOptions(sizes=SIZES)
    tree.mkdir()
    (tree / "file").write_bytes(OLD)
    paths = [os.fsencode(place.at / name) for name in ("was.catar", "was.caidx", "now.caidx", "out.d")]
    make_archive(paths[0], os.fsencode(tree), how)
    make_archive_index(paths[1], os.fsencode(tree), MemoryStore(), how)
    (tree / "file").write_bytes(NEW)
    make_archive_index(paths[2], os.fsencode(tree), store, how)
    for seed, cut in ((paths[1], 0), (paths[0], 1)):
        store.gets = 0
        options = ExtractOptions(seeds=(seed,), seed_output=False, jobs=1)
        extract_archive(Kind.ARCHIVE_INDEX, paths[2], paths[3], store, options=options)
        assert (place.at / "out.d" / "file").read_bytes() == NEW
        assert 0 < store.gets <= 25
        assert len(unread) == cut
