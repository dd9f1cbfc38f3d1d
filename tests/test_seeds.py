"""Seeds: all chunks of an unchanged seed can be had from it; a changed one gives nothing wrong and never hangs."""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import trees
from hypothesis import given, settings
from hypothesis import strategies as st

from casync_compat.chunker import Chunker, ChunkSizes
from casync_compat.errors import ChunkMissing, FileError
from casync_compat.ids import ChunkId, Digest
from casync_compat.index import Index, IndexBuilder
from casync_compat.kinds import Kind
from casync_compat.store.memory import MemoryStore
from casync_compat.streams.extraction import ExtractOptions
from casync_compat.streams.seeds import BlobSeed, Seeded, SeedSource
from casync_compat.streams.treeseed import TreeSeed
from casync_compat.verbs.extract import extract_archive
from casync_compat.verbs.make import MakeOptions, make_archive, make_archive_index, make_blob_index
from catar import Archive, flags
from catar.encoder import Encoder

D = Digest.SHA512_256
FLAGS = flags.DEFAULT
SIZES = ChunkSizes(64, 256, 1024)


def blob_index(data: bytes, sizes: ChunkSizes = SIZES) -> Index:
    """The index of a blob, made the obvious way."""
    builder = IndexBuilder(FLAGS, sizes)
    for start, end in Chunker(sizes).split(data):
        builder.append(D.of(data[start:end]), end - start)
    return builder.build()


def tree_index(tree: Path, beside: Path, sizes: ChunkSizes = SIZES) -> tuple[Index, MemoryStore]:
    """The index of a directory, and a store with its chunks."""
    store = MemoryStore()
    result = make_archive_index(
        os.fsencode(beside / "x.caidx"), os.fsencode(tree), store, MakeOptions(sizes=sizes)
    )
    assert result.index is not None
    return result.index, store


def sources(*seeds: BlobSeed | TreeSeed) -> SeedSource:
    source = SeedSource()
    for seed in seeds:
        source.add(seed)
    return source


def place(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files of many sizes, empty ones and neighbours of empty ones among them, directories, links and a fifo."""
    rng = random.Random(11)
    top = tmp_path / "tree"
    for name, size in (
        ("a-empty", 0), ("b", 1), ("c-empty", 0), ("d-empty", 0), ("e", 100), ("sub/f", 5000), ("sub/g-empty", 0),
        ("sub/deep/h", 20_000), ("sub/i", 63), ("z-empty", 0),
    ):  # fmt: skip
        place(top / name, rng.randbytes(size))
    place(top / "zeros", bytes(9000))
    os.symlink("b", top / "link")
    os.mkfifo(top / "pipe")
    (top / "void").mkdir()
    return top


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """Seeds that were closed hold no descriptor and no thread."""

    def held() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = held()
    yield
    assert held() == before
    assert [t.name for t in threading.enumerate() if t.name.startswith(("worker", "sequence"))] == []


# ---- unchanged seeds


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize(
    "sizes", [SIZES, ChunkSizes(40, 50, 60), ChunkSizes(), ChunkSizes(777, 777, 777)], ids=str
)
def test_every_chunk_of_a_tree_comes_from_it(
    tree: Path, tmp_path: Path, sizes: ChunkSizes, jobs: int
) -> None:
    """With a tree as its own seed, each chunk - of contents, of metadata, of both - is read from it, and is right."""
    index, store = tree_index(tree, tmp_path, sizes)
    with sources(TreeSeed(os.fsencode(tree), index, FLAGS, jobs=jobs)) as source:
        for chunk in index:
            assert source.has(chunk.id)
            assert source.get(chunk.id, D, chunk.size) == store.chunks[chunk.id]
    assert source.used == len(index)
    assert source.used_bytes == index.size


@pytest.mark.parametrize("size", [0, 1, 63, 64, 100_000])
def test_every_chunk_of_a_blob_comes_from_it(tmp_path: Path, size: int) -> None:
    """With a file as its own seed each chunk is read from it."""
    data = random.Random(size).randbytes(size // 2) + bytes(size - size // 2)
    place(tmp_path / "blob", data)
    index = blob_index(data)
    with sources(BlobSeed(os.fsencode(tmp_path / "blob"), index)) as source:
        for chunk in index:
            assert source.get(chunk.id, D, chunk.size) == data[chunk.start : chunk.end]
    assert source.used_bytes == size


names = st.text("abc", min_size=1, max_size=3)
contents = (
    st.just(b"")
    | st.binary(max_size=30)
    | st.integers(0, 3000).map(lambda n: bytes(range(251)) * 12 + bytes(n))
)


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.tuples(names, names), contents, max_size=12), st.integers(0, 10))
def test_any_tree_is_its_own_seed(
    tmp_path_factory: pytest.TempPathFactory, files: dict[tuple[str, str], bytes], spare: int
) -> None:
    """Whatever lies in a tree, every chunk of it is found in it again, at chunk sizes that cut everywhere."""
    top = tmp_path_factory.mktemp("any")
    try:
        (top / "tree").mkdir()
        for (directory, name), data in files.items():
            place(top / "tree" / directory / name, data)
        index, store = tree_index(top / "tree", top, ChunkSizes(48 + spare, 60 + spare, 75 + spare))
        with sources(TreeSeed(os.fsencode(top / "tree"), index, FLAGS)) as source:
            for chunk in index:
                assert source.get(chunk.id, D, chunk.size) == store.chunks[chunk.id]
    finally:
        shutil.rmtree(top)


def test_parts_point_at_the_bytes(tree: Path, tmp_path: Path) -> None:
    """The file parts of a chunk are where its bytes are; what no part covers is the archive's own."""
    index, store = tree_index(tree, tmp_path)
    seen: dict[bytes, set[int]] = {}
    covered = 0
    with sources(TreeSeed(os.fsencode(tree), index, FLAGS)) as source:
        for chunk in index:
            end = 0
            for part in source.parts(chunk.id):
                assert part.at >= end
                assert part.size > 0
                end = part.at + part.size
                data = Path(os.fsdecode(part.path)).read_bytes()
                there = data[part.offset : part.offset + part.size]
                assert there == store.chunks[chunk.id][part.at : end]
                seen.setdefault(part.path, set()).update(range(part.offset, part.offset + part.size))
                covered += part.size
            assert end <= chunk.size
    # Of equal chunks (the zeros) one place is remembered, so that one file may be covered in part only.
    for path in tree.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.name != "zeros":
            assert seen.get(os.fsencode(path), set()) == set(range(path.stat().st_size))
    files = sum(p.stat().st_size for p in tree.rglob("*") if p.is_file() and not p.is_symlink())
    assert covered == files


def test_parts_of_a_blob(tmp_path: Path) -> None:
    """A chunk of a blob seed is one part, at the chunk's place, in the file that a symlink leads to."""
    data = random.Random(2).randbytes(5000)
    place(tmp_path / "blob", data)
    os.symlink("blob", tmp_path / "link")
    index = blob_index(data)
    with sources(BlobSeed(os.fsencode(tmp_path / "link"), index)) as source:
        for chunk in index:
            (part,) = source.parts(chunk.id)
            assert (part.path, part.offset, part.at, part.size) == (
                os.fsencode(tmp_path / "blob"), chunk.start, 0, chunk.size,
            )  # fmt: skip
            assert source.get(chunk.id, D, chunk.size) == data[chunk.start : chunk.end]


def test_unknown_chunks(tree: Path, tmp_path: Path) -> None:
    """A chunk that no seed has is missing, and has no parts; so it is for an id that only begins like one."""
    index, _ = tree_index(tree, tmp_path)
    with sources(TreeSeed(os.fsencode(tree), index, FLAGS)) as source:
        for id_ in (D.of(b"nobody has this"), ChunkId(index[0].id[:8] + bytes(24))):
            assert not source.has(id_)
            assert source.parts(id_) == []
            with pytest.raises(ChunkMissing) as caught:
                source.get(id_, D, 1024)
            assert caught.value.where == "the seeds"
    assert source.used == 0


def test_a_seed_that_is_partly_the_same(tree: Path, tmp_path: Path) -> None:
    """A tree that differs in one file gives the chunks that both have, and only right ones."""
    index, store = tree_index(tree, tmp_path)
    data = (tree / "sub" / "deep" / "h").read_bytes()
    (tree / "sub" / "deep" / "h").write_bytes(data[:10_000] + b"changed" + data[10_000:])
    found = 0
    with sources(TreeSeed(os.fsencode(tree), index, FLAGS)) as source:
        for chunk in index:
            try:
                assert source.get(chunk.id, D, chunk.size) == store.chunks[chunk.id]
                found += chunk.size
            except ChunkMissing:
                pass
    assert 0.8 * index.size < found < index.size


def test_several_seeds(tmp_path: Path) -> None:
    """What the first seed has not, or has no more, the second gives."""
    rng = random.Random(4)
    one, two = rng.randbytes(20_000), rng.randbytes(20_000)
    for name, data in (("one", one), ("two", two), ("both", one + two)):
        place(tmp_path / name, data)
    index = blob_index(one + two)
    seeds = [BlobSeed(os.fsencode(tmp_path / name), index) for name in ("one", "both")]
    (tmp_path / "one").write_bytes(bytes(20_000))
    with sources(*seeds) as source:
        for chunk in index:
            assert source.get(chunk.id, D, chunk.size) == (one + two)[chunk.start : chunk.end]


def test_a_chunk_beyond_the_limit_is_not_given(tmp_path: Path) -> None:
    """A seed gives no more bytes than the caller allows."""
    data = random.Random(3).randbytes(5000)
    place(tmp_path / "blob", data)
    index = blob_index(data)
    with sources(BlobSeed(os.fsencode(tmp_path / "blob"), index)) as source, pytest.raises(ChunkMissing):
        source.get(index[0].id, D, index[0].size - 1)


# ---- seeds that change


def becomes_other_bytes(path: Path) -> None:
    path.write_bytes(bytes(len(path.read_bytes())))


def becomes_shorter(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def becomes_empty(path: Path) -> None:
    os.truncate(path, 0)


def vanishes(path: Path) -> None:
    path.unlink()


def becomes_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def becomes_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def becomes_a_symlink_to_zeros(path: Path) -> None:
    path.unlink()
    os.symlink("/dev/zero", path)


def becomes_unreadable(path: Path) -> None:
    path.unlink()
    os.symlink("loop", path)


CHANGES = [
    becomes_other_bytes,
    becomes_shorter,
    becomes_empty,
    vanishes,
    becomes_a_fifo,
    becomes_a_directory,
    becomes_a_symlink_to_zeros,
    becomes_unreadable,
]


@pytest.mark.timeout(30)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", ["tree", "blob"])
def test_a_seed_that_changed_gives_nothing_wrong(
    tree: Path, tmp_path: Path, change: object, kind: str
) -> None:
    """After a seed was read its file becomes something else: its chunks are missing then, and nobody waits for it."""
    assert callable(change)
    victim = tree / "sub" / "deep" / "h"
    if kind == "tree":
        index, store = tree_index(tree, tmp_path)
        chunks = store.chunks
        seed: BlobSeed | TreeSeed = TreeSeed(os.fsencode(tree), index, FLAGS)
    else:
        data = victim.read_bytes()
        index = blob_index(data)
        chunks = {chunk.id: data[chunk.start : chunk.end] for chunk in index}
        seed = BlobSeed(os.fsencode(victim), index)
    change(victim)
    missing = 0
    with sources(seed) as source:
        for chunk in index:
            try:
                assert source.get(chunk.id, D, chunk.size) == chunks[chunk.id]
            except ChunkMissing:
                missing += chunk.size
    least = 9_000 if change is becomes_shorter else 19_000
    assert least < missing < 22_000


@pytest.mark.timeout(30)
def test_a_tree_seed_that_is_gone(tree: Path, tmp_path: Path) -> None:
    """When the whole tree is removed, the chunks of nothing but metadata are left, since those were kept."""
    index, store = tree_index(tree, tmp_path)
    with sources(TreeSeed(os.fsencode(tree), index, FLAGS)) as source:
        shutil.rmtree(tree)
        for chunk in index:
            if source.parts(chunk.id):
                with pytest.raises(ChunkMissing):
                    source.get(chunk.id, D, chunk.size)
            else:
                assert source.get(chunk.id, D, chunk.size) == store.chunks[chunk.id]
    assert source.used > 0


# ---- what cannot be a seed


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", ["missing", "directory", "fifo", "/dev/zero"])
def test_what_cannot_be_a_blob_seed(tmp_path: Path, kind: str) -> None:
    """A seed must be a file that can be read again: anything else is an error that names it, at once."""
    path = tmp_path / "seed"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "/dev/zero":
        os.symlink(kind, path)
    with pytest.raises(FileError) as caught:
        BlobSeed(os.fsencode(path), blob_index(b"x"))
    assert caught.value.path == os.fsencode(path)


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_what_cannot_be_a_tree_seed(tmp_path: Path, kind: str) -> None:
    """A tree seed must be a directory; the temporary files are closed when it is not (see `nothing_left`)."""
    path = tmp_path / "seed"
    if kind == "file":
        path.write_bytes(b"x")
    with pytest.raises(FileError) as caught:
        TreeSeed(os.fsencode(path), blob_index(b"x"), FLAGS)
    assert caught.value.path == os.fsencode(path)


def test_closing_twice(tree: Path, tmp_path: Path) -> None:
    """A seed may be closed again."""
    index, _ = tree_index(tree, tmp_path)
    seed = TreeSeed(os.fsencode(tree), index, FLAGS)
    seed.close()
    seed.close()


def test_seeds_use_the_directory_for_temporary_files_and_leave_nothing(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept of a tree has no name anywhere."""
    index, _ = tree_index(tree, tmp_path)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    with sources(TreeSeed(os.fsencode(tree), index, FLAGS)):
        assert os.listdir(tmp_path / "tmp") == []


def test_a_seed_that_cannot_be_noted_down_costs_only_the_seed(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a directory for temporary files extraction goes on, with a warning that names it."""
    index, store = tree_index(tree, tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "no"))
    warnings: list[str] = []
    result = extract_archive(
        Kind.ARCHIVE_INDEX,
        os.fsencode(tmp_path / "x.caidx"),
        os.fsencode(tmp_path / "out"),
        store,
        options=ExtractOptions(seeds=(os.fsencode(tree),)),
        warn=warnings.append,
    )
    assert (result.chunks, result.from_seeds) == (len(index), 0)
    assert len(warnings) == 1
    assert f"{tree} is not used as a seed: {tmp_path / 'no'}: cannot make a temporary file" in warnings[0]


# ---- hard links


def link_digest(archive: Archive, path: bytes) -> bytes:
    """casync's hard link digest of a file in an archive: over its ENTRY up to the end of its payload."""
    node = archive.node(path)
    top = dataclasses.replace(node, name=b"")
    with archive.open(path) as file:
        return bytes(D.of(Encoder(FLAGS, any_top=True).begin(top) + file.read()))


class Bytes:
    """Random access to bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read_at(self, offset: int, size: int) -> bytes:
        return self._data[offset : offset + size]


@pytest.mark.parametrize("chunked", [False, True], ids=["links only", "with chunks"])
def test_link_target_is_the_file_with_this_digest(tree: Path, tmp_path: Path, chunked: bool) -> None:
    """The digest of a file, metadata and contents, leads to a file with the same; another digest leads nowhere."""
    index, _ = tree_index(tree, tmp_path)
    make_archive(os.fsencode(tmp_path / "x.catar"), os.fsencode(tree))
    archive = Archive(Bytes((tmp_path / "x.catar").read_bytes()))
    with sources(TreeSeed(os.fsencode(tree), index if chunked else None, FLAGS, links=D)) as source:
        for name in ("b", "e", "sub/f", "sub/deep/h", "sub/i", "zeros"):
            assert source.link_target(link_digest(archive, name.encode())) == os.fsencode(tree / name)
        empty = source.link_target(link_digest(archive, b"a-empty"))
        assert empty is not None
        assert Path(os.fsdecode(empty)).stat().st_size == 0
        assert source.link_target(bytes(D.of(b"other"))) is None
        assert source.has(index[0].id) == chunked


def test_without_links_there_is_no_target(tree: Path, tmp_path: Path) -> None:
    """Link digests are only collected when asked for; blobs have none."""
    index, _ = tree_index(tree, tmp_path)
    make_archive(os.fsencode(tmp_path / "x.catar"), os.fsencode(tree))
    archive = Archive(Bytes((tmp_path / "x.catar").read_bytes()))
    tree_seed, blob_seed = TreeSeed(os.fsencode(tree), index, FLAGS), BlobSeed(os.fsencode(tree / "b"), index)
    with sources(tree_seed, blob_seed) as source:
        assert source.link_target(link_digest(archive, b"e")) is None


@pytest.mark.parametrize("name", ["sizes", "duplicates", "holes", "sort-traps"])
def test_trees_that_projects_have(tmp_path: Path, name: str) -> None:
    """The shared test trees are their own seeds at casync's default chunk sizes and at small ones."""
    top = tmp_path / "tree"
    top.mkdir()
    trees.TREES[name].build(top)
    for sizes in (ChunkSizes(), ChunkSizes(4096, 16384, 65536)):
        index, store = tree_index(top, tmp_path, sizes)
        with sources(TreeSeed(os.fsencode(top), index, FLAGS)) as source:
            assert all(
                source.get(chunk.id, D, chunk.size) == store.chunks[chunk.id] for chunk in index.chunks()
            )


# ---- seeds in front of a store that is far away


class FarStore(MemoryStore):
    """A store that is asked ahead; notes what for."""

    far = True
    eager = True

    def __init__(self) -> None:
        super().__init__("far")
        self.begun: list[list[ChunkId]] = []

    def get_many(self, wanted: Sequence[tuple[ChunkId, int]], digest: Digest) -> list[bytes]:
        return self.begin(wanted, digest)()

    def begin(self, wanted: Sequence[tuple[ChunkId, int]], digest: Digest) -> Callable[[], list[bytes]]:
        self.begun.append([id for id, _ in wanted])
        return lambda: [self.get(id, digest, limit) for id, limit in wanted]


def test_only_what_no_seed_has_is_asked_for_ahead(tmp_path: Path) -> None:
    """Chunks of a far store are asked for together, those that a seed has not at all; and they come in their order."""
    data = random.Random(9).randbytes(200_000)
    blob, seed = tmp_path / "blob", tmp_path / "seed"
    blob.write_bytes(data)
    seed.write_bytes(data[:100_000])
    store = FarStore()
    sizes = ChunkSizes(256, 1024, 4096)
    index = make_blob_index(
        os.fsencode(tmp_path / "x.caibx"), os.fsencode(blob), store, MakeOptions(sizes=sizes)
    ).index
    assert index is not None
    seeds = SeedSource()
    seeds.add(BlobSeed(os.fsencode(seed), index))
    both = Seeded(seeds, store)
    wanted = [(chunk.id, chunk.size) for chunk in index]
    assert b"".join(both.begin(wanted, index.digest)()) == data
    (asked,) = store.begun
    assert asked == [id for id, _ in wanted if not seeds.has(id)]
    assert 0 < len(asked) < len(wanted)
    seed.write_bytes(data[:50_000])  # what has changed meanwhile comes from the store, too
    assert b"".join(both.get_many(wanted, index.digest)) == data
    assert (both.far, both.eager) == (True, True)
    near = Seeded(seeds, MemoryStore())
    assert not near.far
