"""Extracting: what was archived comes back, from wherever its chunks are, and failures leave what was there."""

from __future__ import annotations

import gc
import os
import random
import shutil
import stat
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import compare
import pytest
import trees
from grounds import Grounds

from casync_compat.chunker import ChunkSizes
from casync_compat.errors import CasyncError, ChunkCorrupt, ChunkMissing, FileError, FormatError, UsageError
from casync_compat.fs.apply.tree import ApplyOptions
from casync_compat.ids import ChunkId, Digest
from casync_compat.index import Index
from casync_compat.kinds import Kind
from casync_compat.progress import Progress
from casync_compat.store.layered import Layered
from casync_compat.store.local import LocalStore
from casync_compat.store.memory import MemoryStore
from casync_compat.streams.extraction import ExtractOptions, ExtractResult
from casync_compat.streams.treeseed import TreeSeed
from casync_compat.verbs.extract import extract_archive
from casync_compat.verbs.extract_blob import extract_blob
from casync_compat.verbs.make import (
    MakeOptions,
    digest_tree,
    make_archive,
    make_archive_index,
    make_blob_index,
)
from catar.errors import FormatError as CatarFormatError
from catar.errors import NotFound

SIZES = ChunkSizes(256, 1024, 4096)
LARGE = random.Random(1).randbytes(3_000_000)
PLAIN = ExtractOptions(seed_output=False)
KINDS = pytest.mark.parametrize("kind", [Kind.ARCHIVE, Kind.ARCHIVE_INDEX], ids=lambda kind: kind.value)


class CountingStore(MemoryStore):
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.gets: Counter[ChunkId] = Counter()

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        self.gets[id] += 1
        return super().get(id, digest, limit)


class Place:
    """A directory to work in: makes archives, extracts them."""

    def __init__(self, at: Path) -> None:
        self.at = at
        self.store = CountingStore()
        self.warnings: list[str] = []

    def tree(self, name: str, where: str = "tree") -> Path:
        """One of the shared test trees."""
        top = self.at / where
        top.mkdir()
        trees.TREES[name].build(top)
        return top

    def make(self, kind: Kind, tree: Path) -> Path:
        """Archive a tree."""
        path = self.at / ("x.catar" if kind is Kind.ARCHIVE else "x.caidx")
        if kind is Kind.ARCHIVE:
            make_archive(os.fsencode(path), os.fsencode(tree))
        else:
            make_archive_index(os.fsencode(path), os.fsencode(tree), self.store, MakeOptions(sizes=SIZES))
        return path

    def extract(
        self, kind: Kind, path: Path, to: str = "out", options: ExtractOptions | None = None, **more: object
    ) -> ExtractResult:
        """Extract an archive to a directory beside it."""
        return extract_archive(
            kind,
            os.fsencode(path),
            os.fsencode(self.at / to),
            self.store,
            options=options,
            warn=self.warnings.append,
            **more,  # type: ignore[arg-type]
        )

    def make_blob(self, data: bytes, sizes: ChunkSizes = SIZES) -> Index:
        """Make x.caibx of a blob."""
        (self.at / "blob").write_bytes(data)
        path = os.fsencode(self.at / "x.caibx")
        made = make_blob_index(path, os.fsencode(self.at / "blob"), self.store, MakeOptions(sizes=sizes))
        (self.at / "blob").unlink()
        assert made.index is not None
        return made.index

    def extract_blob(
        self, to: Path | None = None, options: ExtractOptions | None = None, **more: object
    ) -> ExtractResult:
        """Extract x.caibx."""
        return extract_blob(
            os.fsencode(self.at / "x.caibx"),
            os.fsencode(to or self.at / "out"),
            self.store,
            options=options,
            warn=self.warnings.append,
            **more,  # type: ignore[arg-type]
        )


def below(top: Path) -> list[Path]:
    """Everything below a directory. `Path.rglob` follows symlinks to see what they are, and some lead nowhere."""
    return [Path(at, name) for at, directories, files in os.walk(top) for name in directories + files]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """However a run ends: no temporary file, no descriptor, no thread."""
    gc.collect()  # what earlier tests left open is not closed meanwhile
    before = len(os.listdir("/proc/self/fd"))
    yield Place(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before
    assert [t.name for t in threading.enumerate() if t.name.startswith(("worker", "sequence"))] == []
    assert [path for path in below(tmp_path) if path.name.startswith(".#")] == []


# ---- trees


@KINDS
@pytest.mark.parametrize(
    "name",
    [
        "empty",
        "one-file",
        "small",
        "sizes",
        "holes",
        "sort-traps",
        "deep",
        "times",
        "fifos-sockets",
        pytest.param("modes", marks=pytest.mark.root),
    ],
)
def test_round_trip(place: Place, kind: Kind, name: str) -> None:
    """A tree comes back as it was, and archived again it gives the same digest."""
    tree = place.tree(name)
    path = place.make(kind, tree)
    result = place.extract(kind, path)
    compare.assert_same(tree, place.at / "out")
    assert digest_tree(os.fsencode(tree)) == digest_tree(os.fsencode(place.at / "out"))
    assert place.warnings == []
    assert result.entries == 1 + len(below(tree))
    assert result.from_seeds == result.shared == 0
    if kind is Kind.ARCHIVE:
        assert (result.chunks, result.size) == (0, path.stat().st_size)
    else:
        index = Index.parse(path.read_bytes())
        assert (result.chunks, result.size) == (len(index), index.size)


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_jobs_do_not_matter(place: Place, jobs: int) -> None:
    """Any number of threads gives the same tree."""
    tree = place.tree("duplicates")
    path = place.make(Kind.ARCHIVE_INDEX, tree)
    place.extract(Kind.ARCHIVE_INDEX, path, options=ExtractOptions(jobs=jobs))
    compare.assert_same(tree, place.at / "out")


@KINDS
@pytest.mark.parametrize("again", [True, False], ids=["seeded by itself", "not seeded"])
def test_over_itself(place: Place, kind: Kind, again: bool) -> None:
    """Extracting over what was extracted changes nothing; with the output as a seed, an index needs no store for it."""
    tree = place.tree("small")
    path = place.make(kind, tree)
    place.extract(kind, path)
    place.store.gets.clear()
    result = place.extract(kind, path, options=ExtractOptions(seed_output=again))
    compare.assert_same(tree, place.at / "out")
    if kind is Kind.ARCHIVE_INDEX:
        assert bool(place.store.gets) == (not again)
        assert (result.from_seeds > 0) == again
        assert result.seed_bytes == (result.size if again else 0)


@KINDS
def test_update_in_place(place: Place, kind: Kind) -> None:
    """An older version of the tree becomes the newer one: changed files change, new ones come, others go."""
    tree = place.tree("small")
    old = place.at / "out"
    shutil.copytree(tree, old, symlinks=True)
    (old / "src" / "main.c").write_bytes(b"older")
    (old / "src" / "deep" / "deeper" / "blob").unlink()
    (old / "void").rmdir()
    (old / "void").write_bytes(b"was a file")
    (old / "gone" / "deep").mkdir(parents=True)
    os.symlink("x", old / "gone" / "deep" / "link")
    (old / "link").unlink()
    (old / "link").mkdir()
    path = place.make(kind, tree)
    place.extract(kind, path)
    compare.assert_same(tree, old)


def test_seeds(place: Place) -> None:
    """What a seed directory has is not fetched from the store; counts say how much came from it."""
    tree = place.tree("sizes")
    path = place.make(Kind.ARCHIVE_INDEX, tree)
    seed = place.at / "seed"
    shutil.copytree(tree, seed)
    (seed / "0065536").write_bytes(b"something else")
    result = place.extract(
        Kind.ARCHIVE_INDEX, path, options=ExtractOptions(seeds=(os.fsencode(seed),), seed_output=False)
    )
    compare.assert_same(tree, place.at / "out")
    index = Index.parse(path.read_bytes())
    fetched = sum(chunk.size for chunk in index if chunk.id in place.store.gets)
    assert 65_000 < fetched < index.size // 3
    assert result.seed_bytes > index.size // 5
    assert 0 < result.from_seeds < result.chunks


def test_a_seed_does_not_need_the_store_to_be_whole(place: Place) -> None:
    """With all chunks in a seed, an empty store is enough."""
    tree = place.tree("small")
    path = place.make(Kind.ARCHIVE_INDEX, tree)
    place.store.chunks.clear()
    with pytest.raises(ChunkMissing):
        place.extract(Kind.ARCHIVE_INDEX, path)
    place.extract(Kind.ARCHIVE_INDEX, path, options=ExtractOptions(seeds=(os.fsencode(tree),)))
    compare.assert_same(tree, place.at / "out")


@pytest.mark.parametrize("seed", ["missing", "file"])
def test_a_seed_that_cannot_be_one(place: Place, seed: str) -> None:
    """A seed that is no directory is warned of; the store gives everything, and an error says the seed again."""
    tree = place.tree("small")
    path = place.make(Kind.ARCHIVE_INDEX, tree)
    (place.at / "file").write_bytes(b"x")
    options = ExtractOptions(seeds=(os.fsencode(place.at / seed),))
    place.extract(Kind.ARCHIVE_INDEX, path, options=options)
    compare.assert_same(tree, place.at / "out")
    (warning,) = place.warnings
    assert warning.startswith(f"{place.at / seed} is not used as a seed: ")
    for id in list(place.store.ids()):
        place.store.remove(id)
    with pytest.raises(ChunkMissing, match=f"and {place.at / seed} could not be used as a seed"):
        place.extract(Kind.ARCHIVE_INDEX, path, "again", options=options)


def change_contents(out: Path, rng: random.Random) -> None:
    path = rng.choice([path for path in below(out) if path.is_file() and not path.is_symlink()])
    status = path.stat()
    path.write_bytes(rng.randbytes(rng.choice([status.st_size, 5])))
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))


def change_metadata(out: Path, rng: random.Random) -> None:
    path = rng.choice(below(out))
    if not path.is_symlink():
        path.chmod(rng.choice([0o700, 0o741]))


def take_away(out: Path, rng: random.Random) -> None:
    path = rng.choice(below(out))
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def add_something(out: Path, rng: random.Random) -> None:
    path = rng.choice([out, *(path for path in below(out) if path.is_dir() and not path.is_symlink())])
    for name in rng.sample(["!", "zz", ".x", "m"], 2):
        (path / name).mkdir(exist_ok=True)
        (path / name / "file").write_bytes(rng.randbytes(100_000))


def swap(out: Path, rng: random.Random) -> None:
    first, second = rng.sample(
        sorted(path for path in out.iterdir() if path.is_dir() and not path.is_symlink()), 2
    )
    first.rename(out / "swap")
    second.rename(first)
    (out / "swap").rename(second)


def become_a_link(out: Path, rng: random.Random) -> None:
    """What is there is the same, but by way of a link."""
    path = rng.choice([path for path in out.iterdir() if path.is_dir() and not path.is_symlink()])
    path.rename(out.parent / "elsewhere")
    path.symlink_to(out.parent / "elsewhere")


@pytest.mark.parametrize("seed", range(24))
def test_a_target_with_some_changes(place: Place, seed: int) -> None:
    """Whatever was changed where, the target is as the archive then, and all is counted once."""
    rng = random.Random(seed)
    tree = place.at / "tree"
    for name in ("a", "b/c", "b/d", "e/f/g", "h", "i"):
        (tree / name).mkdir(parents=True)
        for number in range(rng.randint(0, 30)):
            (tree / name / f"{number}").write_bytes(rng.randbytes(rng.choice([0, 100, 9000, 60_000])))
        if rng.random() < 0.5:
            (tree / name / "link").symlink_to("nowhere")
        if rng.random() < 0.3:
            os.mkfifo(tree / name / "0fifo")
    shutil.copytree(tree / "h", tree / "like h", symlinks=True, ignore=shutil.ignore_patterns("*fifo"))
    path = place.make(Kind.ARCHIVE_INDEX, tree)
    place.extract(Kind.ARCHIVE_INDEX, path)
    out = place.at / "out"
    for change in rng.choices(
        [change_contents, change_metadata, take_away, add_something, swap, become_a_link], k=rng.randint(1, 3)
    ):
        if not (place.at / "elsewhere").exists():
            change(out, rng)
    place.store.gets.clear()
    result = place.extract(Kind.ARCHIVE_INDEX, path)
    compare.assert_same(tree, out)
    index = Index.load(os.fsencode(path))
    assert (result.chunks, result.entries) == (len(index), len(below(tree)) + 1)
    assert 0 <= result.fetched <= place.store.gets.total()
    assert result.created + result.updated + result.unchanged == result.entries
    assert place.extract(Kind.ARCHIVE_INDEX, path).unchanged == result.entries


def asking_seeds(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What is asked of seeds from now on."""
    asked: list[bytes] = []
    read = TreeSeed.read

    def reading(seed: TreeSeed, id: bytes) -> bytes | None:
        asked.append(id)
        return read(seed, id)

    monkeypatch.setattr(TreeSeed, "read", reading)
    return asked


def test_a_directory_that_was_renamed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in it is there, but under other paths: it is made anew of its seed, and not read again and again."""
    tree = place.at / "tree"
    rng = random.Random(1)
    for number in range(40):
        (tree / f"new/{number:02}").mkdir(parents=True)
        (tree / f"new/{number:02}/file").write_bytes(rng.randbytes(70_000))
    path = place.make(Kind.ARCHIVE_INDEX, tree)
    place.extract(Kind.ARCHIVE_INDEX, path)
    (place.at / "out/new").rename(place.at / "out/old")
    asked = asking_seeds(monkeypatch)
    result = place.extract(Kind.ARCHIVE_INDEX, path)
    compare.assert_same(tree, place.at / "out")
    assert (result.deleted, result.fetched < 10) == (1, True)
    assert len(asked) < 1.5 * len(Index.load(os.fsencode(path)))


def test_most_of_a_target_is_read_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one file changed, its directory is looked at again, and those that begin or end in changed chunks."""
    tree = place.at / "tree"
    rng = random.Random(1)
    for name in "abcdefgh":
        (tree / name).mkdir(parents=True)
        for number in range(20):
            (tree / name / f"{number}").write_bytes(rng.randbytes(50_000))
    path = place.make(Kind.ARCHIVE_INDEX, tree)
    place.extract(Kind.ARCHIVE_INDEX, path)
    (place.at / "out/c/7").write_bytes(b"changed")
    asked = asking_seeds(monkeypatch)
    result = place.extract(Kind.ARCHIVE_INDEX, path)
    assert (result.updated, result.unchanged) == (2, 167)
    assert sum(chunk.size for chunk in Index.load(os.fsencode(path)) if chunk.id in asked) < 3_300_000


def test_an_output_that_cannot_be_a_seed_is_only_a_warning(place: Place) -> None:
    """When the output cannot be read as a tree, that is said, and the store gives everything."""
    tree = place.tree("small")
    path = place.make(Kind.ARCHIVE_INDEX, tree)
    (place.at / "out").mkdir()
    (place.at / "out" / ".caexclude").mkdir()
    place.extract(Kind.ARCHIVE_INDEX, path)
    compare.assert_same(tree, place.at / "out")
    (warning,) = place.warnings
    assert "is not used as a seed" in warning
    assert str(place.at / "out") in warning


@KINDS
@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
def test_hard_links_to_a_seed(
    place: Place, kind: Kind, relative: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `hardlink`, files that are the same in a seed, metadata included, become links to it; others are copies."""
    tree = place.tree("small")
    path = place.make(kind, tree)
    seed = place.at / "seed"
    shutil.copytree(tree, seed, symlinks=True)
    (seed / "run.sh").chmod(0o700)
    os.utime(seed / "src" / "deep" / "empty", (1, 1))
    monkeypatch.chdir(place.at)
    name = b"seed" if relative else os.fsencode(seed)
    options = ExtractOptions(seeds=(name,), hardlink=True)
    place.extract(kind, path, options=options)
    compare.assert_same(tree, place.at / "out")
    for file, same in (
        ("src/main.c", True), ("src/deep/deeper/blob", True), ("run.sh", False), ("src/deep/empty", False),
    ):  # fmt: skip
        assert os.path.samefile(seed / file, place.at / "out" / file) == same, file
    assert compare.differences(compare.snapshot(seed), compare.snapshot(tree)) != []


def test_without_hardlink_nothing_is_linked(place: Place) -> None:
    """Data is copied (or its blocks are shared), so that the seed can be changed without changing the output."""
    tree = place.tree("small")
    path = place.make(Kind.ARCHIVE_INDEX, tree)
    place.extract(Kind.ARCHIVE_INDEX, path, options=ExtractOptions(seeds=(os.fsencode(tree),)))
    found = [path.lstat() for path in below(place.at / "out")]
    assert all(status.st_nlink == 1 for status in found if not stat.S_ISDIR(status.st_mode))


@pytest.mark.root
@pytest.mark.parametrize("on", ["btrfs", "xfs"])
@pytest.mark.parametrize("reflink", [True, False])
def test_blocks_are_shared_with_seeds(ground: Grounds, on: str, reflink: bool) -> None:
    """Where the file system can, unchanged files share their blocks with the seed, in whole blocks; on request."""
    place = Place(ground("shared", on))
    (place.at / "tree").mkdir()
    (place.at / "tree" / "large").write_bytes(LARGE)
    path = place.make(Kind.ARCHIVE_INDEX, place.at / "tree")
    place.make_blob(LARGE)
    whole = len(LARGE) // 4096 * 4096 if reflink else 0
    options = ExtractOptions(seeds=(os.fsencode(place.at / "tree"),), reflink=reflink)
    # The chunks at both ends of a file hold metadata as well, and one of them need not be in a seed.
    assert whole - 10_000 < place.extract(Kind.ARCHIVE_INDEX, path, options=options).shared <= whole
    assert (place.at / "out" / "large").read_bytes() == LARGE
    options = ExtractOptions(seeds=(os.fsencode(place.at / "tree" / "large"),), reflink=reflink)
    assert place.extract_blob(place.at / "blob", options).shared == whole
    assert (place.at / "blob").read_bytes() == LARGE


# ---- parts


@KINDS
@pytest.mark.parametrize("inside", ["src", "/src/deep/", "src/main.c", "link", "src/deep/empty", "void"])
def test_one_node(place: Place, kind: Kind, inside: str) -> None:
    """A path in the archive is extracted as an entry of the output, with everything below it and nothing else."""
    tree = place.tree("small")
    path = place.make(kind, tree)
    place.extract(kind, path, inside=inside.encode())
    name = inside.strip("/").rpartition("/")[2]
    assert os.listdir(place.at / "out") == [name]
    theirs, ours = tree / inside.strip("/"), place.at / "out" / name
    if theirs.is_dir():
        compare.assert_same(theirs, ours)
    else:
        assert compare.describe(os.fsencode(theirs)) == compare.describe(os.fsencode(ours))


@KINDS
def test_one_node_beside_others(place: Place, kind: Kind) -> None:
    """What else is in the output stays, whatever is extracted beside it."""
    path = place.make(kind, place.tree("small"))
    (place.at / "out").mkdir()
    (place.at / "out" / "other").write_bytes(b"mine")
    (place.at / "out" / "main.c").write_bytes(b"old")
    place.extract(kind, path, inside=b"src/main.c")
    assert sorted(os.listdir(place.at / "out")) == ["main.c", "other"]
    assert (place.at / "out" / "other").read_bytes() == b"mine"
    assert (place.at / "out" / "main.c").read_bytes() == (place.at / "tree" / "src" / "main.c").read_bytes()


@KINDS
def test_a_path_that_is_not_in_the_archive(place: Place, kind: Kind) -> None:
    """The error says so, and no output appears."""
    path = place.make(kind, place.tree("small"))
    with pytest.raises(NotFound):
        place.extract(kind, path, inside=b"src/no")
    assert not (place.at / "out").exists()


def test_one_file_fetches_its_chunks_only(place: Place) -> None:
    """A small file out of a large archive costs the chunks that lead to it, not all."""
    tree = place.tree("sizes")
    path = place.make(Kind.ARCHIVE_INDEX, tree)
    place.extract(Kind.ARCHIVE_INDEX, path, inside=b"0004096", options=PLAIN)
    assert (place.at / "out" / "0004096").read_bytes() == (tree / "0004096").read_bytes()
    assert sum(place.store.gets.values()) < len(Index.parse(path.read_bytes())) // 4


@KINDS
def test_each_node_is_named(place: Place, kind: Kind) -> None:
    """`on_node` gets every path, parents first."""
    tree = place.tree("small")
    names: list[bytes] = []
    place.extract(kind, place.make(kind, tree), on_node=names.append)
    assert names[0] == b""
    assert sorted(names[1:]) == sorted(os.fsencode(p.relative_to(tree)) for p in below(tree))


# ---- failures


def _archive_in_target(place: Place, kind: Kind, inside: str) -> Path:
    """An archive of `hello` that lies below the target, at out/INSIDE."""
    source = place.at / "source"
    source.mkdir()
    (source / "hello").write_text("hello")
    made = place.make(kind, source)
    at = place.at / "out" / inside
    at.parent.mkdir(parents=True)
    return made.rename(at)


@KINDS
@pytest.mark.parametrize("inside", ["x", "old/deep/x"])
@pytest.mark.parametrize(
    "way", ["itself", "symlink", "hard link", "relative", "through a symlink", "symlink within"]
)
def test_what_is_read_is_not_deleted(
    place: Place, kind: Kind, inside: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive below the target survives, by whatever name it was given; the rest is updated, with one warning."""
    at = _archive_in_target(place, kind, inside)
    (place.at / "out" / "unwanted").mkdir()
    (at.parent / "beside").touch()
    given = at
    if way == "symlink":
        given = place.at / "link"
        given.symlink_to(at)
    elif way == "hard link":
        given = place.at / "link"
        os.link(at, given)
    elif way == "relative":
        monkeypatch.chdir(at.parent)
        given = Path(at.name)
    elif way == "through a symlink":
        (place.at / "there").symlink_to(at.parent)
        given = place.at / "there" / at.name
    elif way == "symlink within":
        given = at.parent / "link"
        elsewhere = place.at / "elsewhere"
        at.rename(elsewhere)
        given.symlink_to(elsewhere)
    data = given.read_bytes()
    done = place.extract(kind, given)
    out = place.at / "out"
    assert given.read_bytes() == data
    assert (out / "hello").read_text() == "hello"
    (warning,) = place.warnings
    assert warning.startswith("in use, and not deleted: ")
    assert os.path.lexists(at.parent / given.name if way == "symlink within" else at)
    assert not (out / "unwanted").exists()
    assert not (at.parent / "beside").exists()
    assert done.deleted >= 2


def test_stores_and_seeds_are_not_deleted(place: Place) -> None:
    """Stores below the target keep their chunks, and seeds their files."""
    at = _archive_in_target(place, Kind.ARCHIVE, "x")
    out = place.at / "out"
    tree = out / "tree"
    tree.mkdir()
    (tree / "big").write_bytes(LARGE)
    store = LocalStore(os.fsencode(out / "a" / "default.castr"))
    (out / "a").mkdir()
    index = place.at / "x.caidx"
    make_archive_index(os.fsencode(index), os.fsencode(tree), store)
    chunks = len(below(out / "a"))
    extra = LocalStore(os.fsencode(out / "extra"))
    shutil.copytree(out / "a" / "default.castr", out / "extra")
    extract_archive(
        Kind.ARCHIVE_INDEX,
        os.fsencode(index),
        os.fsencode(out),
        Layered(store, extra),
        options=ExtractOptions(seeds=(os.fsencode(tree),)),
        warn=place.warnings.append,
    )
    assert (out / "big").read_bytes() == LARGE
    assert len(below(out / "a")) == len(below(out / "extra")) + 1 == chunks
    assert (tree / "big").read_bytes() == LARGE
    assert not at.exists()
    assert len(place.warnings) == 1


def test_a_seed_that_is_updated(place: Place) -> None:
    """The target as its own seed is not spared anything."""
    tree = place.tree("small")
    path = place.make(Kind.ARCHIVE_INDEX, tree)
    out = place.at / "out"
    out.mkdir()
    (out / "unwanted").touch()
    place.extract(Kind.ARCHIVE_INDEX, path, options=ExtractOptions(seeds=(os.fsencode(out),)))
    assert not (out / "unwanted").exists()
    assert place.warnings == []


@KINDS
@pytest.mark.parametrize("delete", [True, False])
@pytest.mark.parametrize("entry", ["file", "directory", "parent"])
def test_what_is_read_is_not_replaced(place: Place, kind: Kind, delete: bool, entry: str) -> None:
    """An archive that has an entry where it lies itself is refused before the first change."""
    source = place.at / "source"
    (source / "sub").mkdir(parents=True)
    (source / "a").write_text("comes first")
    if entry == "file":
        (source / "sub" / "x").write_text("me")
    elif entry == "directory":
        (source / "sub" / "x").mkdir()
    else:
        (source / "sub").rmdir()
        (source / "sub").write_text("a file")
    made = place.make(kind, source)
    at = place.at / "out" / "sub" / "x"
    at.parent.mkdir(parents=True)
    made.rename(at)
    (place.at / "out" / "unwanted").touch()
    data = at.read_bytes()
    with pytest.raises(FileError, match="in use") as caught:
        place.extract(kind, at, options=ExtractOptions(apply=ApplyOptions(delete=delete)))
    assert caught.value.path == os.fsencode(at)
    assert at.read_bytes() == data
    assert sorted(os.listdir(place.at / "out")) == ["sub", "unwanted"]


def test_a_missing_chunk_of_a_tree(place: Place) -> None:
    """The chunk is named; files of which all chunks were there may have come, half a file never."""
    tree = place.tree("small")
    path = place.make(Kind.ARCHIVE_INDEX, tree)
    index = Index.parse(path.read_bytes())
    victim = index[len(index) // 2].id
    place.store.remove(victim)
    with pytest.raises(ChunkMissing) as caught:
        place.extract(Kind.ARCHIVE_INDEX, path)
    assert caught.value.id == victim
    for found in below(place.at / "out"):
        if not found.is_symlink() and found.is_file():
            assert found.read_bytes() == (tree / found.relative_to(place.at / "out")).read_bytes()


def test_an_existing_file_survives_a_missing_chunk(place: Place) -> None:
    """A file that could not be replaced is what it was."""
    tree = place.tree("small")
    path = place.make(Kind.ARCHIVE_INDEX, tree)
    (place.at / "out" / "src" / "deep" / "deeper").mkdir(parents=True)
    blob = place.at / "out" / "src" / "deep" / "deeper" / "blob"
    blob.write_bytes(b"the old one")
    inode = blob.stat().st_ino
    index = Index.parse(path.read_bytes())
    place.store.remove(index[len(index) // 2].id)
    with pytest.raises(ChunkMissing):
        place.extract(Kind.ARCHIVE_INDEX, path)
    assert (blob.read_bytes(), blob.stat().st_ino) == (b"the old one", inode)


@pytest.mark.parametrize("cut", [1, 100, 60_000])
def test_a_truncated_archive(place: Place, cut: int) -> None:
    """The offset is told, and no half-written file stays."""
    tree = place.tree("small")
    path = place.make(Kind.ARCHIVE, tree)
    os.truncate(path, path.stat().st_size - cut)
    with pytest.raises(CatarFormatError) as caught:
        place.extract(Kind.ARCHIVE, path)
    assert caught.value.offset is not None
    for found in below(place.at / "out"):
        if not found.is_symlink() and found.is_file():
            assert found.read_bytes() == (tree / found.relative_to(place.at / "out")).read_bytes()


def test_what_is_deleted_is_told_when_the_rest_fails(place: Place) -> None:
    """A run that deleted something and then fails says what is gone."""
    source = place.at / "source"
    (source / "a").mkdir(parents=True)
    (source / "z").write_bytes(LARGE)
    path = place.make(Kind.ARCHIVE, source)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    (place.at / "out" / "a" / "gone").mkdir(parents=True)
    with pytest.raises(Exception, match="truncated"):
        place.extract(Kind.ARCHIVE, path)
    assert not (place.at / "out" / "a" / "gone").exists()
    assert place.warnings == ["deleted 1 entry that the archive does not have: a/gone"]


def test_an_index_needs_a_store(place: Place) -> None:
    """Without a store there is nothing to extract from."""
    path = place.make(Kind.ARCHIVE_INDEX, place.tree("small"))
    with pytest.raises(UsageError, match="needs a chunk store"):
        extract_archive(Kind.ARCHIVE_INDEX, os.fsencode(path), os.fsencode(place.at / "out"), None)


@pytest.mark.parametrize("what", ["missing", "malformed"])
def test_an_index_that_cannot_be_read(place: Place, what: str) -> None:
    """The file is named, and nothing appears, for trees and for blobs."""
    path = place.at / "x.caibx"
    if what == "malformed":
        path.write_bytes(b"no index")
    for run in (lambda: place.extract(Kind.ARCHIVE_INDEX, path), place.extract_blob):
        with pytest.raises(CasyncError) as caught:
            run()
        assert isinstance(caught.value, FileError | FormatError)
        assert caught.value.path == os.fsencode(path)
    assert not (place.at / "out").exists()


# ---- blobs


@pytest.mark.parametrize("size", [0, 1, 4096, 100_001, len(LARGE)])
@pytest.mark.parametrize("jobs", [1, 4])
def test_blob_round_trip(place: Place, size: int, jobs: int) -> None:
    """A blob comes back byte for byte, also an empty one."""
    index = place.make_blob(LARGE[:size], ChunkSizes() if size > 200_000 else SIZES)
    result = place.extract_blob(options=ExtractOptions(jobs=jobs))
    assert (place.at / "out").read_bytes() == LARGE[:size]
    assert (result.size, result.chunks, result.entries) == (size, len(index), 0)


SPARSE = LARGE[:5000] + bytes(1_000_000) + LARGE[:70_000] + bytes(500_123)


@pytest.mark.parametrize("punch", [True, False])
def test_holes(place: Place, punch: bool) -> None:
    """Zeros become holes that take no space, unless told otherwise; the length is right also when it ends in one."""
    place.make_blob(SPARSE)
    place.extract_blob(options=ExtractOptions(apply=ApplyOptions(punch_holes=punch)))
    assert (place.at / "out").read_bytes() == SPARSE
    blocks = (place.at / "out").stat().st_blocks * 512
    assert (blocks < 150_000) == punch
    assert (blocks >= len(SPARSE)) == (not punch)


def test_a_blob_of_zeros_takes_no_space(place: Place) -> None:
    """Nothing but zeros is nothing but a hole."""
    place.make_blob(bytes(2_000_000))
    place.extract_blob()
    assert (place.at / "out").read_bytes() == bytes(2_000_000)
    assert (place.at / "out").stat().st_blocks == 0


@pytest.mark.parametrize("before", [0, 10, 100_000, 1_000_000])
@pytest.mark.parametrize("seed_output", [True, False])
def test_an_existing_output_is_replaced_at_its_exact_length(
    place: Place, before: int, seed_output: bool
) -> None:
    """Whether the old file was longer or shorter, the new one is the blob; its permissions stay."""
    place.make_blob(LARGE[:100_000])
    (place.at / "out").write_bytes(LARGE[1000 : 1000 + before])
    (place.at / "out").chmod(0o640)
    result = place.extract_blob(options=ExtractOptions(seed_output=seed_output))
    assert (place.at / "out").read_bytes() == LARGE[:100_000]
    assert stat.S_IMODE((place.at / "out").stat().st_mode) == 0o640
    assert (result.from_seeds > 50) == (seed_output and before >= 100_000)


def test_a_symlink_to_the_output_stays(place: Place) -> None:
    """What a symlink leads to is replaced, not the link."""
    place.make_blob(LARGE[:100_000])
    (place.at / "real").write_bytes(b"old")
    os.symlink("real", place.at / "out")
    place.extract_blob()
    assert (place.at / "out").is_symlink()
    assert (place.at / "real").read_bytes() == LARGE[:100_000]


@pytest.mark.parametrize("defect", ["missing", "corrupt", "short"])
@pytest.mark.parametrize("number", [0, 60, -1])
@pytest.mark.parametrize("existing", [True, False])
def test_an_existing_output_survives_a_bad_chunk(
    place: Place, defect: str, number: int, existing: bool
) -> None:
    """With a chunk missing, corrupt or of another length, the old file is untouched: same inode, same bytes."""
    index = place.make_blob(LARGE[:100_000])
    id_ = list(index.ids())[number]
    output = place.at / "out"
    if existing:
        output.write_bytes(b"precious")
        inode = output.stat().st_ino
    if defect == "missing":
        place.store.remove(id_)
    elif defect == "corrupt":
        place.store.chunks[id_] = bytes(len(place.store.chunks[id_]))
    else:
        data = bytearray((place.at / "x.caibx").read_bytes())
        for item in range(64 + 40 * (number % len(index)), len(data) - 40, 40):
            end = int.from_bytes(data[item : item + 8], "little") + 1
            data[item : item + 8] = end.to_bytes(8, "little")
        (place.at / "x.caibx").write_bytes(data)
    expected = {"missing": ChunkMissing, "corrupt": ChunkCorrupt, "short": FormatError}[defect]
    with pytest.raises(expected):
        place.extract_blob()
    assert output.exists() == existing
    if existing:
        assert (output.read_bytes(), output.stat().st_ino) == (b"precious", inode)


def test_blob_seeds(place: Place) -> None:
    """What a seed file has is not fetched; a seed that is shifted, longer or partly different still serves."""
    index = place.make_blob(LARGE)
    (place.at / "seed").write_bytes(b"shifted" + LARGE[:2_000_000] + b"and more")
    result = place.extract_blob(options=ExtractOptions(seeds=(os.fsencode(place.at / "seed"),)))
    assert (place.at / "out").read_bytes() == LARGE
    assert result.seed_bytes > 1_900_000
    assert result.from_seeds + sum(place.store.gets.values()) == len(index)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("seed", ["missing", "directory", "fifo"])
def test_a_blob_seed_that_cannot_be_one(place: Place, seed: str) -> None:
    """A seed that is no file is warned of; the store gives everything, and an error says the seed again."""
    place.make_blob(LARGE[:100_000])
    (place.at / "directory").mkdir()
    os.mkfifo(place.at / "fifo")
    options = ExtractOptions(seeds=(os.fsencode(place.at / seed),))
    place.extract_blob(options=options)
    assert (place.at / "out").read_bytes() == LARGE[:100_000]
    (warning,) = place.warnings
    assert warning.startswith(f"{place.at / seed} is not used as a seed: ")
    for id in list(place.store.ids()):
        place.store.remove(id)
    with pytest.raises(ChunkMissing, match=f"and {place.at / seed} could not be used as a seed"):
        place.extract_blob(place.at / "again", options=options)
    assert not (place.at / "again").exists()


@pytest.mark.parametrize("name", ["x.caibx", "link", "hard link"])
def test_a_blob_over_its_own_index(place: Place, name: str) -> None:
    """The index is not replaced by what it describes."""
    place.make_blob(b"x")
    index = place.at / "x.caibx"
    before = index.read_bytes()
    (place.at / "link").symlink_to(index)
    os.link(index, place.at / "hard link")
    with pytest.raises(FileError, match="it is the index itself"):
        place.extract_blob(place.at / name)
    assert index.read_bytes() == before


def test_a_blob_to_the_name_of_a_directory(place: Place) -> None:
    """Whoever ends a name in a slash means a directory, which no file is made in place of."""
    place.make_blob(b"x")
    output = os.fsencode(place.at / "out") + b"/"
    with pytest.raises(FileError, match="ends in /"):
        extract_blob(os.fsencode(place.at / "x.caibx"), output, place.store)
    assert not (place.at / "out").exists()


def test_a_fifo_as_output(place: Place) -> None:
    """A fifo is not replaced but written to."""
    place.make_blob(LARGE[:300_000])
    os.mkfifo(place.at / "out")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append((place.at / "out").read_bytes()))
    reader.start()
    place.extract_blob()
    reader.join(10)
    assert got == [LARGE[:300_000]]
    assert stat.S_ISFIFO((place.at / "out").stat().st_mode)


def test_standard_output(place: Place) -> None:
    """Without an output path the blob goes to standard output."""
    place.make_blob(SPARSE)
    saved = os.dup(1)
    fd = os.open(place.at / "stdout", os.O_WRONLY | os.O_CREAT, 0o600)
    os.dup2(fd, 1)
    try:
        extract_blob(os.fsencode(place.at / "x.caibx"), None, place.store)
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(fd)
    assert (place.at / "stdout").read_bytes() == SPARSE


@pytest.mark.parametrize("output", ["no/out", "directory", "file/out"])
def test_outputs_that_cannot_be_written(place: Place, output: str) -> None:
    """The error names the output."""
    place.make_blob(b"x")
    (place.at / "directory").mkdir()
    (place.at / "file").write_bytes(b"x")
    with pytest.raises(FileError) as caught:
        place.extract_blob(place.at / output)
    assert caught.value.path == os.fsencode(place.at / output)


# ---- progress


class Slow(CountingStore):
    """Makes a run last long enough for some reports."""

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        time.sleep(0.003)
        return super().get(id, digest, limit)


@pytest.mark.parametrize("what", ["tree", "blob"])
def test_progress_only_rises(place: Place, what: str) -> None:
    """Bytes, entries and chunks never go down from one report to the next, with chunks from seeds among them."""
    place.store = Slow()
    seen: list[tuple[int, ...]] = []
    totals: set[int | None] = set()

    def callback(p: Progress) -> None:
        seen.append((p.done, p.entries, p.chunks, p.new_chunks))
        totals.add(p.total)
        time.sleep(0.03)  # fetching goes on meanwhile, from seeds too

    seed = place.at / "seed"
    if what == "tree":
        tree = place.tree("sizes")
        shutil.copytree(tree, seed)
        for path in sorted(seed.iterdir())[::2]:
            path.write_bytes(b"other")
            (tree / f"{path.name}.more").write_bytes(LARGE[:20_000])
        options = ExtractOptions(seeds=(os.fsencode(seed),), jobs=2)
        result = place.extract(
            Kind.ARCHIVE_INDEX, place.make(Kind.ARCHIVE_INDEX, tree), options=options, progress=callback
        )
    else:
        place.make_blob(LARGE, ChunkSizes.from_average(8192))
        seed.write_bytes(LARGE[1_000_000:])
        options = ExtractOptions(seeds=(os.fsencode(seed),), jobs=2)
        result = place.extract_blob(options=options, progress=callback)
    assert result.from_seeds > 0
    assert len(seen) >= 2
    assert totals == {result.size}
    last = (result.size, result.entries, result.chunks, result.chunks)
    for earlier, later in zip(seen, [*seen[1:], last], strict=True):
        assert all(a <= b for a, b in zip(earlier, later, strict=True))


def test_progress_of_an_archive_file(place: Place) -> None:
    """A plain archive reports bytes of the archive, of its size, with the path that it works on."""
    tree = place.tree("one-file")
    (tree / "large").write_bytes(LARGE)
    path = place.make(Kind.ARCHIVE, tree)
    seen: list[tuple[int, int | None]] = []
    place.extract(Kind.ARCHIVE, path, progress=lambda p: seen.append((p.done, p.total)))
    assert seen
    assert all(0 <= done <= path.stat().st_size == total for done, total in seen)
