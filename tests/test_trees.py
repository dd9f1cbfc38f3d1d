"""One way to read a tree, whatever holds it: a directory, an archive file, a pipe, an index over a store."""

from __future__ import annotations

import gc
import os
import random
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from casync_compat.chunker import ChunkSizes
from casync_compat.errors import ChunkMissing, FileError, FormatError, UsageError
from casync_compat.index import IndexChunk
from casync_compat.kinds import Kind
from casync_compat.store.memory import MemoryStore
from casync_compat.streams.inputs import load_index
from casync_compat.streams.trees import Tree
from casync_compat.verbs.make import MakeOptions, make_archive, make_archive_index
from catar.errors import NotFound
from catar.records import DirectoryEnd, Node
from catar.walker import TreeStream

PATHS = [b"", b"a", b"dir", b"dir/deep", b"dir/deep/x", b"dir/large", b"link", b"z"]
TREES = pytest.mark.parametrize("holder", ["directory", "archive", "index", "pipe"])
ARCHIVES = pytest.mark.parametrize("holder", ["archive", "index"])
LARGE = random.Random(1).randbytes(1_500_000)


class Holders:
    """The same tree in every form."""

    def __init__(self, at: Path) -> None:
        self.source = at / "source"
        (self.source / "dir" / "deep").mkdir(parents=True)
        for name, data in (("a", b"first"), ("dir/deep/x", b"x" * 5000), ("dir/large", LARGE), ("z", b"")):
            (self.source / name).write_bytes(data)
        os.symlink("a", self.source / "link")
        self.archive = os.fsencode(at / "x.catar")
        self.index = os.fsencode(at / "x.caidx")
        self.store = MemoryStore()
        make_archive(self.archive, os.fsencode(self.source))
        make_archive_index(
            self.index,
            os.fsencode(self.source),
            self.store,
            MakeOptions(sizes=ChunkSizes(4096, 16384, 65536)),
        )

    @contextmanager
    def open(self, holder: str) -> Iterator[Tree]:
        if holder == "pipe":
            with self._piped() as path, Tree(Kind.ARCHIVE, path) as tree:
                yield tree
            return
        if holder == "directory":
            tree = Tree(Kind.DIRECTORY, os.fsencode(self.source))
        elif holder == "archive":
            tree = Tree(Kind.ARCHIVE, self.archive)
        else:
            tree = Tree(Kind.ARCHIVE_INDEX, self.index, self.store)
        with tree:
            yield tree

    @contextmanager
    def _piped(self) -> Iterator[bytes]:
        """The archive in a pipe that something else writes, by a name."""
        reading, writing = os.pipe()
        data = Path(os.fsdecode(self.archive)).read_bytes()

        def write() -> None:
            with suppress(BrokenPipeError), open(writing, "wb") as pipe:
                pipe.write(data)

        writer = threading.Thread(target=write)
        writer.start()
        yield b"/dev/fd/%d" % reading
        os.close(reading)
        writer.join(10)


@pytest.fixture
def holders(tmp_path: Path) -> Holders:
    return Holders(tmp_path)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """A tree that was closed holds no descriptor and no thread."""
    gc.collect()  # what earlier tests left open is not closed meanwhile
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before
    assert [t.name for t in threading.enumerate() if t.name.startswith("worker")] == []


def steps(stream: TreeStream, contents: bool = True) -> list[tuple[bytes, str, bytes]]:
    """Every node and every end of a directory, with path and contents."""
    out = []
    for step in stream:
        if isinstance(step, DirectoryEnd):
            out.append((stream.path, "end", b""))
        else:
            assert isinstance(step, Node)
            data = b"".join(map(bytes, stream.payload())) if contents else b""
            out.append((stream.path, stat.filemode(step.mode)[0], data))
    return out


@TREES
def test_every_holder_gives_the_same_nodes(holders: Holders, holder: str) -> None:
    """Paths, kinds and contents, and the ends of directories, in the order of the archive."""
    with holders.open(holder) as tree:
        found = steps(tree.stream())
    assert [(path, kind) for path, kind, _ in found] == [
        (b"", "d"), (b"a", "-"), (b"dir", "d"), (b"dir/deep", "d"), (b"dir/deep/x", "-"), (b"dir/deep", "end"),
        (b"dir/large", "-"), (b"dir", "end"), (b"link", "l"), (b"z", "-"), (b"", "end"),
    ]  # fmt: skip
    assert {path: data for path, _, data in found if data} == {
        b"a": b"first", b"dir/deep/x": b"x" * 5000, b"dir/large": LARGE,
    }  # fmt: skip


@TREES
def test_contents_need_not_be_read(holders: Holders, holder: str) -> None:
    """What is not asked for is passed over, and what follows is right."""
    with holders.open(holder) as tree:
        assert [path for path, kind, _ in steps(tree.stream(), contents=False) if kind != "end"] == PATHS


def test_passing_over_contents_fetches_little(holders: Holders) -> None:
    """Walking an index without contents leaves most chunks in the store."""
    with holders.open("index") as tree:
        handed: list[IndexChunk] = []
        steps(tree.stream(on_chunk=handed.append), contents=False)
        assert tree.index is not None
        assert 0 < len(handed) < len(tree.index) // 2


@ARCHIVES
@pytest.mark.parametrize(
    "path", [b"dir", b"/dir/", b"dir/deep", b"dir//deep/x", b"dir/large", b"link", b"a", b"z"]
)
def test_from_a_path_inwards(holders: Holders, holder: str, path: bytes) -> None:
    """The stream at a path is the part of the whole stream below it, whatever kind of node stands there."""
    clean = path.strip(b"/").replace(b"//", b"/")
    with holders.open(holder) as tree:
        whole = [step for step in steps(tree.stream()) if (step[0] + b"/").startswith(clean + b"/")]
    with holders.open(holder) as tree:
        assert steps(tree.stream(path)) == whole


@ARCHIVES
def test_a_path_that_is_not_there(holders: Holders, holder: str) -> None:
    """Below a missing name, below a file, or with another case: nothing is there."""
    with holders.open(holder) as tree:
        for path in (b"no", b"dir/no", b"a/b", b"A", b"dir/deep/x/y", b"..", b"."):
            with pytest.raises(NotFound):
                tree.stream(path)


@pytest.mark.parametrize("holder", ["directory", "pipe"])
def test_paths_are_only_looked_up_where_that_works(holders: Holders, holder: str) -> None:
    """A path in a pipe or a directory is refused before anything is read."""
    with holders.open(holder) as tree, pytest.raises(UsageError):
        tree.stream(b"dir")


def test_size(holders: Holders) -> None:
    """The archive's size is known from a file and from an index, not from a pipe or a directory."""
    size = os.stat(holders.archive).st_size
    for holder, expected in (("archive", size), ("index", size), ("pipe", None), ("directory", None)):
        with holders.open(holder) as tree:
            assert tree.size == expected
            assert (tree.index is not None) == (holder == "index")


def test_a_stream_can_be_had_again(holders: Holders) -> None:
    """From what can be read at any offset, each stream starts from the beginning, with no thread kept from the last."""
    for holder in ("archive", "index", "directory"):
        with holders.open(holder) as tree:
            first = steps(tree.stream())
            for _ in range(5):
                assert steps(tree.stream()) == first
            assert [t.name for t in threading.enumerate() if t.name.startswith("worker")] == []


def test_standard_input(holders: Holders) -> None:
    """Without a path the archive comes from standard input, a file or a pipe."""
    saved = os.dup(0)
    try:
        fd = os.open(holders.archive, os.O_RDONLY)
        os.dup2(fd, 0)
        os.close(fd)
        with Tree(Kind.ARCHIVE, None) as tree:
            assert [path for path, kind, _ in steps(tree.stream(), contents=False) if kind != "end"] == PATHS
        with holders._piped() as path:
            os.dup2(int(path.rpartition(b"/")[2]), 0)
            with Tree(Kind.ARCHIVE, None) as tree:
                assert len(steps(tree.stream())) == 11
    finally:
        os.dup2(saved, 0)
        os.close(saved)


# ---- errors


@pytest.mark.parametrize("kind", [Kind.BLOB, Kind.BLOB_INDEX])
def test_blobs_are_no_trees(kind: Kind) -> None:
    """There are no files in a blob."""
    with pytest.raises(UsageError, match="has no files in it"):
        Tree(kind, b"x.caibx", MemoryStore())


def test_an_index_needs_a_store(holders: Holders) -> None:
    """Without a store nothing of an index can be read."""
    with pytest.raises(UsageError, match="needs a chunk store"):
        Tree(Kind.ARCHIVE_INDEX, holders.index)


@pytest.mark.parametrize("kind", [Kind.ARCHIVE, Kind.ARCHIVE_INDEX])
@pytest.mark.parametrize("what", ["missing", "directory"])
def test_files_that_cannot_be_opened(tmp_path: Path, kind: Kind, what: str) -> None:
    """The error names the file."""
    path = tmp_path / "x"
    if what == "directory":
        path.mkdir()
    with pytest.raises(FileError) as caught:
        Tree(kind, os.fsencode(path), MemoryStore())
    assert caught.value.path == os.fsencode(path)


def test_a_malformed_index_is_named(holders: Holders) -> None:
    """`load_index` says which file is no index."""
    with pytest.raises(FormatError) as caught:
        load_index(holders.archive)
    assert caught.value.path == holders.archive
    assert load_index(holders.index).size == os.stat(holders.archive).st_size


def test_a_missing_chunk_surfaces(holders: Holders) -> None:
    """A store that lacks a chunk fails the stream there."""
    holders.store.chunks.clear()
    with holders.open("index") as tree, pytest.raises(ChunkMissing):
        steps(tree.stream())
