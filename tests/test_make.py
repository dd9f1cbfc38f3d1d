"""Making archives and indexes: the same bytes each time, and nothing appears that is not whole."""

from __future__ import annotations

import gc
import os
import random
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trees
from hypothesis import given, settings
from hypothesis import strategies as st

from casync_compat.chunker import Chunker, ChunkSizes
from casync_compat.errors import FileError, UsageError
from casync_compat.ids import ChunkId, Digest
from casync_compat.index import Index, IndexBuilder
from casync_compat.progress import Progress, ProgressCallback
from casync_compat.store.base import Put
from casync_compat.store.local import LocalStore
from casync_compat.store.memory import MemoryStore
from casync_compat.verbs.make import (
    BLOB_FLAGS,
    MakeOptions,
    digest_blob,
    digest_tree,
    make_archive,
    make_archive_index,
    make_blob_index,
)
from catar import Archive, flags

SIZES = ChunkSizes(256, 1024, 4096)
LARGE = random.Random(1).randbytes(5_000_000)
"""More than two slabs of a sink."""


class Bytes:
    """Random access to bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read_at(self, offset: int, size: int) -> bytes:
        return self._data[offset : offset + size]


def paths_in(archive: bytes) -> list[bytes]:
    """Every path in an archive."""
    walker = Archive(Bytes(archive)).walk()
    return list(dict.fromkeys(walker.path for _ in walker))


def joined(index: Index, store: MemoryStore) -> bytes:
    return b"".join(store.chunks[chunk.id] for chunk in index)


def below(top: Path) -> list[Path]:
    """Everything below a directory. `Path.rglob` follows symlinks to see what they are, and some lead nowhere."""
    return [Path(at, name) for at, directories, files in os.walk(top) for name in directories + files]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree with one file larger than the buffers."""
    top = tmp_path / "tree"
    top.mkdir()
    trees.TREES["small"].build(top)
    (top / "large").write_bytes(LARGE)
    return top


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """However a run ends: no temporary file, no descriptor, no thread."""
    gc.collect()  # what earlier tests left open is not closed meanwhile
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before
    assert [t.name for t in threading.enumerate() if t.name.startswith(("worker", "sequence"))] == []
    assert [path for path in below(tmp_path) if path.name.startswith(".#")] == []


# ---- the same bytes


@pytest.mark.parametrize("sizes", [None, SIZES, ChunkSizes(5000, 5000, 5000)], ids=str)
@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_an_index_is_the_archive_in_chunks(
    tree: Path, tmp_path: Path, jobs: int, sizes: ChunkSizes | None
) -> None:
    """With any number of jobs: the chunks are those of the .catar file, and digests and counts agree."""
    plain = make_archive(os.fsencode(tmp_path / "x.catar"), os.fsencode(tree))
    archive = (tmp_path / "x.catar").read_bytes()
    store = MemoryStore()
    made = make_archive_index(
        os.fsencode(tmp_path / "x.caidx"),
        os.fsencode(tree),
        store,
        MakeOptions(sizes=sizes or ChunkSizes(), jobs=jobs),
    )
    index = Index.parse((tmp_path / "x.caidx").read_bytes())
    assert made.index == index
    assert index.feature_flags == flags.DEFAULT
    assert index.sizes == (sizes or ChunkSizes())
    assert [(chunk.start, chunk.end) for chunk in index] == Chunker(index.sizes).split(archive)
    assert joined(index, store) == archive
    assert made.digest == plain.digest == Digest.SHA512_256.of(archive) == digest_tree(os.fsencode(tree))
    assert made.size == plain.size == index.size == len(archive)
    assert made.entries == plain.entries == len(paths_in(archive))
    assert made.chunks is not None
    assert made.chunks.total == len(index)
    assert made.chunks.new == len(store.chunks)
    assert plain.chunks is None
    assert plain.index is None


@pytest.mark.parametrize("name", ["sizes", "holes", "duplicates", "sort-traps", "deep", "empty", "one-file"])
def test_twice_is_the_same(tmp_path: Path, name: str) -> None:
    """The shared trees give the same archive and index each time, and the second run stores nothing."""
    top = tmp_path / "tree"
    top.mkdir()
    trees.TREES[name].build(top)
    store = LocalStore(os.fsencode(tmp_path / "x.castr"))
    results = []
    for number in range(2):
        out = tmp_path / f"{number}.caidx"
        result = make_archive_index(
            os.fsencode(out), os.fsencode(top), store, MakeOptions(sizes=SIZES, jobs=1 + 3 * number)
        )
        results.append((out.read_bytes(), result.digest))
    assert results[0] == results[1]
    assert result.chunks is not None
    assert result.chunks.new == 0
    make_archive(os.fsencode(tmp_path / "x.catar"), os.fsencode(top))
    assert Digest.SHA512_256.of((tmp_path / "x.catar").read_bytes()) == result.digest


@pytest.mark.parametrize("size", [0, 1, 47, 4096, 300_000, len(LARGE)])
@pytest.mark.parametrize("jobs", [1, 4])
def test_blobs(tmp_path: Path, size: int, jobs: int) -> None:
    """A blob's chunks are cut from its bytes, whatever the jobs; an empty one has none."""
    (tmp_path / "blob").write_bytes(LARGE[:size])
    store = MemoryStore()
    made = make_blob_index(
        os.fsencode(tmp_path / "x.caibx"), os.fsencode(tmp_path / "blob"), store, MakeOptions(jobs=jobs)
    )
    index = Index.parse((tmp_path / "x.caibx").read_bytes())
    builder = IndexBuilder(BLOB_FLAGS, ChunkSizes())
    for start, end in Chunker().split(LARGE[:size]):
        builder.append(Digest.SHA512_256.of(LARGE[start:end]), end - start)
    assert made.index == index == builder.build()
    assert BLOB_FLAGS == 0xB000000000000000
    assert joined(index, store) == LARGE[:size]
    assert made.digest == Digest.SHA512_256.of(LARGE[:size])
    assert made.digest == digest_blob(os.fsencode(tmp_path / "blob"), Digest.SHA512_256)
    assert (made.size, made.entries) == (size, 0)


@settings(max_examples=15, deadline=None)
@given(st.binary(max_size=3000), st.integers(0, 400_000), st.binary(max_size=3000))
def test_sparse_blobs_are_their_bytes(
    tmp_path_factory: pytest.TempPathFactory, head: bytes, hole: int, tail: bytes
) -> None:
    """A hole reads as zeros."""
    top = tmp_path_factory.mktemp("sparse")
    with open(top / "blob", "wb") as file:
        file.write(head)
        file.seek(hole, os.SEEK_CUR)
        file.write(tail)
        file.truncate(len(head) + hole + len(tail))
    store = MemoryStore()
    made = make_blob_index(
        os.fsencode(top / "x.caibx"), os.fsencode(top / "blob"), store, MakeOptions(sizes=SIZES)
    )
    assert made.index is not None
    assert joined(made.index, store) == head + bytes(hole) + tail


@pytest.mark.parametrize("digest", [None, *Digest])
def test_digest_of_the_flags(tree: Path, tmp_path: Path, digest: Digest | None) -> None:
    """The flag word chooses the digest of chunks and archive; the latter can be left out."""
    bits = {Digest.BLAKE3: 1 << 59, Digest.SHA512_256: 1 << 61}.get(digest, 0) if digest else 1 << 61
    word = flags.select(digest_bits=bits)
    store = MemoryStore()
    made = make_archive_index(
        os.fsencode(tmp_path / "x.caidx"),
        os.fsencode(tree),
        store,
        MakeOptions(feature_flags=word, stream_digest=digest is not None),
    )
    plain = make_archive(
        os.fsencode(tmp_path / "x.catar"),
        os.fsencode(tree),
        MakeOptions(feature_flags=word, stream_digest=digest is not None),
    )
    assert made.index is not None
    algorithm = digest or Digest.SHA512_256
    assert all(algorithm.of(data) == id_ for id_, data in store.chunks.items())
    assert joined(made.index, store) == (tmp_path / "x.catar").read_bytes()
    expected = algorithm.of((tmp_path / "x.catar").read_bytes()) if digest else None
    assert made.digest == plain.digest == expected


# ---- streams


@contextmanager
def standard_input(fd: int) -> Iterator[None]:
    saved = os.dup(0)
    os.dup2(fd, 0)
    try:
        yield
    finally:
        os.dup2(saved, 0)
        os.close(saved)


@contextmanager
def piped(data: bytes) -> Iterator[None]:
    """Standard input is a pipe that brings `data`."""
    reading, writing = os.pipe()

    def write() -> None:
        with open(writing, "wb") as pipe:
            pipe.write(data)

    writer = threading.Thread(target=write)
    writer.start()
    with standard_input(reading):
        yield
    os.close(reading)
    writer.join(10)


@pytest.mark.parametrize("size", [0, 1, len(LARGE)])
def test_a_pipe_as_standard_input(tmp_path: Path, size: int) -> None:
    """A blob of unknown size comes from a pipe, and gives what the file gives."""
    store = MemoryStore()
    with piped(LARGE[:size]):
        made = make_blob_index(os.fsencode(tmp_path / "x.caibx"), None, store)
    assert made.index is not None
    assert joined(made.index, store) == LARGE[:size]
    with piped(LARGE[:size]):
        assert digest_blob(None, Digest.SHA512_256) == made.digest


def test_a_file_as_standard_input(tmp_path: Path) -> None:
    """A file is read from where it stands, and its size is known."""
    (tmp_path / "blob").write_bytes(LARGE)
    totals: list[int | None] = []
    with open(tmp_path / "blob", "rb", buffering=0) as file:
        file.seek(1000)
        store = MemoryStore()
        with standard_input(file.fileno()):
            made = make_blob_index(
                os.fsencode(tmp_path / "x.caibx"), None, store, progress=lambda p: totals.append(p.total)
            )
    assert made.index is not None
    assert joined(made.index, store) == LARGE[1000:]
    assert set(totals) == {len(LARGE) - 1000}


def test_a_fifo_by_name(tmp_path: Path) -> None:
    """A named pipe is read to its end like any stream."""
    os.mkfifo(tmp_path / "fifo")
    writer = threading.Thread(target=(tmp_path / "fifo").write_bytes, args=(LARGE[:100_000],))
    writer.start()
    store = MemoryStore()
    made = make_blob_index(os.fsencode(tmp_path / "x.caibx"), os.fsencode(tmp_path / "fifo"), store)
    writer.join(10)
    assert made.index is not None
    assert joined(made.index, store) == LARGE[:100_000]


@contextmanager
def standard_output(path: Path) -> Iterator[None]:
    saved = os.dup(1)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    os.dup2(fd, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(fd)


def test_standard_output(tree: Path, tmp_path: Path) -> None:
    """Without an output path the archive or index goes to standard output, the same bytes."""
    make_archive(os.fsencode(tmp_path / "x.catar"), os.fsencode(tree))
    make_archive_index(os.fsencode(tmp_path / "x.caidx"), os.fsencode(tree), MemoryStore())
    with standard_output(tmp_path / "catar"):
        make_archive(None, os.fsencode(tree))
    with standard_output(tmp_path / "caidx"):
        make_archive_index(None, os.fsencode(tree), MemoryStore())
    for kind in ("catar", "caidx"):
        assert (tmp_path / kind).read_bytes() == (tmp_path / f"x.{kind}").read_bytes()


# ---- output inside the source


def test_output_inside_the_source_is_not_archived(tree: Path, tmp_path: Path) -> None:
    """Neither the archive nor what is written of it so far gets into it, whether it was there before or not."""
    make_archive(os.fsencode(tree / "src" / "x.catar"), os.fsencode(tree))
    first = (tree / "src" / "x.catar").read_bytes()
    make_archive(os.fsencode(tree / "src" / "x.catar"), os.fsencode(tree))
    second = (tree / "src" / "x.catar").read_bytes()
    for archive in (first, second):
        assert not [path for path in paths_in(archive) if b"x.catar" in path or b"/.#" in path]
        assert b"src/main.c" in paths_in(archive)


@pytest.mark.parametrize("where", [".", "void", "zzz/deep"])
def test_store_inside_the_source_is_not_archived(tree: Path, tmp_path: Path, where: str) -> None:
    """A store in the tree is left out, also one that comes into being while the tree is read."""
    (tree / where).mkdir(parents=True, exist_ok=True)
    output = tree / where / "x.caidx"
    for _ in range(2):
        store = LocalStore(os.fsencode(tree / where / "default.castr"))
        memory = MemoryStore()
        made = make_archive_index(
            os.fsencode(output), os.fsencode(tree), store, MakeOptions(skip=[store.path])
        )
        assert made.index is not None
        for chunk in made.index:
            memory.put(chunk.id, store.get(chunk.id, Digest.SHA512_256, chunk.size))
        paths = paths_in(joined(made.index, memory))
        assert b"large" in paths
        assert not [path for path in paths if b"castr" in path or b"caidx" in path]


@pytest.mark.parametrize("at_end", [False, True])
def test_a_hole_costs_an_archive_no_room(tmp_path: Path, at_end: bool) -> None:
    """A .catar of a sparse file has its bytes and digest, and holes where the file has them."""
    source = tmp_path / "tree"
    source.mkdir()
    with open(source / "sparse", "wb") as file:
        file.write(b"head")
        file.truncate(64 << 20)
        if not at_end:
            file.seek(0, os.SEEK_END)
            file.write(b"tail")
    made = make_archive(bytes(tmp_path / "x.catar"), bytes(source))
    data = (tmp_path / "x.catar").read_bytes()
    assert made.digest == Digest.SHA512_256.of(data)
    assert data.count(b"head" + bytes((64 << 20) - 4)) == 1
    assert os.stat(tmp_path / "x.catar").st_blocks * 512 < 1 << 20


# ---- nothing appears that is not whole


class Ordered(MemoryStore):
    """Looks for the output with every call."""

    def __init__(self, output: Path) -> None:
        super().__init__()
        self.output = output
        self.events: list[tuple[str, bool]] = []

    def put(self, id: ChunkId, data: object) -> Put:
        self.events.append(("put", self.output.exists()))
        return super().put(id, data)  # type: ignore[arg-type]

    def sync(self) -> None:
        self.events.append(("sync", self.output.exists()))


@pytest.mark.parametrize("kind", ["tree", "blob"])
def test_an_index_appears_after_its_chunks_are_durable(tree: Path, tmp_path: Path, kind: str) -> None:
    """The index is not there while chunks are put, nor when the store is asked to make them durable; then it is."""
    output = tmp_path / "x.index"
    store = Ordered(output)
    if kind == "tree":
        make_archive_index(os.fsencode(output), os.fsencode(tree), store, MakeOptions(jobs=4))
    else:
        make_blob_index(os.fsencode(output), os.fsencode(tree / "large"), store, MakeOptions(jobs=4))
    assert output.exists()
    assert len(store.events) > 50
    assert store.events == [("put", False)] * (len(store.events) - 1) + [("sync", False)]


class Broken(MemoryStore):
    """Fails somewhere."""

    def __init__(self, after: int, op: str) -> None:
        super().__init__()
        self.after = after
        self.op = op

    def put(self, id: ChunkId, data: object) -> Put:
        if self.op == "put" and len(self.chunks) >= self.after:
            raise FileError(b"x.castr", "store a chunk", "no space")
        return super().put(id, data)  # type: ignore[arg-type]

    def sync(self) -> None:
        if self.op == "sync":
            raise FileError(b"x.castr", "make the stored chunks durable", "no space")


@pytest.mark.parametrize("existing", [False, True], ids=["new", "existing"])
@pytest.mark.parametrize(("after", "op"), [(0, "put"), (30, "put"), (0, "sync")])
@pytest.mark.parametrize("kind", ["tree", "blob"])
def test_a_failing_store_leaves_no_index(
    tree: Path, tmp_path: Path, kind: str, after: int, op: str, existing: bool
) -> None:
    """The store's error comes out, and what stood at the output is as it was."""
    output = tmp_path / "x.index"
    if existing:
        output.write_bytes(b"the old one")
        inode = output.stat().st_ino
    with pytest.raises(FileError, match=r"^x\.castr: "):
        if kind == "tree":
            make_archive_index(os.fsencode(output), os.fsencode(tree), Broken(after, op))
        else:
            make_blob_index(os.fsencode(output), os.fsencode(tree / "large"), Broken(after, op))
    assert output.exists() == existing
    if existing:
        assert (output.read_bytes(), output.stat().st_ino) == (b"the old one", inode)


MAKERS = pytest.mark.parametrize("maker", ["catar", "caidx"])


STRICT = MakeOptions(strict=True)


def make(maker: str, output: Path, tree: Path, progress: ProgressCallback | None = None) -> None:
    """Make a tree's archive or index, of which nothing may be missing."""
    if maker == "catar":
        make_archive(os.fsencode(output), os.fsencode(tree), STRICT, progress=progress)
    else:
        make_archive_index(os.fsencode(output), os.fsencode(tree), MemoryStore(), STRICT, progress=progress)


@MAKERS
@pytest.mark.parametrize("source", ["missing", "file", "fifo"])
def test_sources_that_are_no_directory(tmp_path: Path, maker: str, source: str) -> None:
    """The error names the source, says what to do with a file, and nothing appears."""
    path = tmp_path / "source"
    if source == "file":
        path.write_bytes(b"x")
    elif source == "fifo":
        os.mkfifo(path)
    with pytest.raises(FileError) as caught:
        make(maker, tmp_path / "x.out", path)
    assert caught.value.path == os.fsencode(path)
    assert not (tmp_path / "x.out").exists()


@pytest.mark.parametrize("source", ["missing", "directory", "loop"])
def test_blobs_that_cannot_be_read(tmp_path: Path, source: str) -> None:
    """The error names the source, and nothing appears."""
    path = tmp_path / "source"
    if source == "directory":
        path.mkdir()
    elif source == "loop":
        os.symlink("source", path)
    with pytest.raises(FileError) as caught:
        make_blob_index(os.fsencode(tmp_path / "x.caibx"), os.fsencode(path), MemoryStore())
    assert caught.value.path == os.fsencode(path)
    assert not (tmp_path / "x.caibx").exists()


class Meanwhile:
    """Does something to a file once, when the run tells that it is working on `at`."""

    def __init__(self, path: Path, how: str, at: bytes) -> None:
        self.path = path
        self.how = how
        self.at = at
        self.done = False

    def __call__(self, progress: Progress) -> None:
        if self.done:
            return
        if progress.path != self.at:
            time.sleep(0.11)  # so that there is a report in the middle of the next file, however small
            return
        self.done = True
        if self.how == "grows":
            with open(self.path, "ab") as file:
                file.write(b"more")
        elif self.how == "shrinks":
            os.truncate(self.path, 100)
        elif self.how == "touched":
            os.utime(self.path, (1, 1))
        elif self.how == "vanishes":
            self.path.unlink()


@MAKERS
@pytest.mark.parametrize("how", ["grows", "shrinks", "touched"])
def test_a_file_that_changes_while_it_is_read(tmp_path: Path, maker: str, how: str) -> None:
    """Strictly: a file that is not what it was when its size was stored fails the run; nothing appears."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "large").write_bytes(LARGE)
    meanwhile = Meanwhile(tree / "large", how, b"large")
    with pytest.raises(FileError) as caught:
        make(maker, tmp_path / "x.out", tree, meanwhile)
    assert meanwhile.done
    assert caught.value.path == os.fsencode(tree / "large")
    assert "try again" in str(caught.value)
    assert not (tmp_path / "x.out").exists()


@MAKERS
def test_a_file_that_vanishes_before_it_is_read(tmp_path: Path, maker: str) -> None:
    """Strictly: a file that was listed and cannot be opened fails the run; it is named, and nothing appears."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a").write_bytes(LARGE)
    (tree / "b").write_bytes(b"x")
    with pytest.raises(FileError) as caught:
        make(maker, tmp_path / "x.out", tree, Meanwhile(tree / "b", "vanishes", b"a"))
    assert caught.value.path == os.fsencode(tree / "b")
    assert not (tmp_path / "x.out").exists()


def test_a_blob_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    """Strictly: a blob that ends too early fails the run; it is named, and nothing appears."""
    (tmp_path / "blob").write_bytes(LARGE)
    with pytest.raises(FileError) as caught:
        make_blob_index(
            os.fsencode(tmp_path / "x.caibx"),
            os.fsencode(tmp_path / "blob"),
            MemoryStore(),
            STRICT,
            progress=Meanwhile(tmp_path / "blob", "shrinks", os.fsencode(tmp_path / "blob")),
        )
    assert caught.value.path == os.fsencode(tmp_path / "blob")
    assert not (tmp_path / "x.caibx").exists()


@MAKERS
def test_an_exception_from_the_callback_leaves_nothing(tree: Path, tmp_path: Path, maker: str) -> None:
    """Whoever stops a run from its progress callback gets the exception back and finds no output."""

    def stop(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(maker, tmp_path / "x.out", tree, stop)
    assert not (tmp_path / "x.out").exists()


@pytest.mark.parametrize("maker", ["catar", "caidx", "caibx"])
@pytest.mark.parametrize("output", ["no/x.out", "directory", "file/x.out"])
def test_outputs_that_cannot_be_written(tree: Path, tmp_path: Path, maker: str, output: str) -> None:
    """The error names the output, and no chunk was stored for it."""
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_bytes(b"x")
    store = MemoryStore()
    with pytest.raises(FileError) as caught:
        out = os.fsencode(tmp_path / output)
        if maker == "catar":
            make_archive(out, os.fsencode(tree))
        elif maker == "caidx":
            make_archive_index(out, os.fsencode(tree), store)
        else:
            make_blob_index(out, os.fsencode(tree / "large"), store)
    assert caught.value.path == os.fsencode(tmp_path / output)
    assert store.chunks == {}


def test_flags_that_are_not_normalised(tree: Path, tmp_path: Path) -> None:
    """An index that nobody could read is not made."""
    with pytest.raises(UsageError):
        make_blob_index(
            os.fsencode(tmp_path / "x.caibx"),
            os.fsencode(tree / "large"),
            MemoryStore(),
            MakeOptions(feature_flags=3),
        )
    assert not (tmp_path / "x.caibx").exists()


@MAKERS
@pytest.mark.parametrize("mode", [0o755, 0o700, 0o750])
def test_the_output_has_the_permissions_of_the_source(tmp_path: Path, maker: str, mode: int) -> None:
    """Who may not look into a directory may not read its archive: rw bits of the source, limited by the umask."""
    tree = tmp_path / "tree"
    tree.mkdir()
    tree.chmod(mode)
    saved = os.umask(0o022)
    try:
        make(maker, tmp_path / "x.out", tree)
    finally:
        os.umask(saved)
    assert stat.S_IMODE((tmp_path / "x.out").stat().st_mode) == mode & 0o666 & ~0o022


# ---- progress


def snapshots(seen: list[tuple[int, ...]]) -> object:
    def callback(p: Progress) -> None:
        seen.append((p.done, p.entries, p.chunks, p.new_chunks))

    return callback


class Slow(MemoryStore):
    """Makes a run last long enough for some reports."""

    def put(self, id: ChunkId, data: object) -> Put:
        threading.Event().wait(0.003)
        return super().put(id, data)  # type: ignore[arg-type]


def test_progress_only_rises(tree: Path, tmp_path: Path) -> None:
    """Bytes, entries and chunks never go down from one report to the next, and end within the totals."""
    for i in range(4):
        (tree / f"more{i}").write_bytes(LARGE[i:])
    seen: list[tuple[int, ...]] = []
    made = make_archive_index(
        os.fsencode(tmp_path / "x.caidx"),
        os.fsencode(tree),
        Slow(),
        MakeOptions(jobs=2),
        progress=snapshots(seen),
    )
    assert made.chunks is not None
    assert len(seen) >= 3
    for earlier, later in zip(
        seen, [*seen[1:], (made.size, made.entries, made.chunks.total, made.chunks.new)], strict=True
    ):
        assert all(a <= b for a, b in zip(earlier, later, strict=True))
