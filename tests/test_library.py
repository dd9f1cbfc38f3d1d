"""What a program may expect of the library beyond the verbs: values, files, stores of any kind, and clean ends."""

from __future__ import annotations

import gc
import io
import os
import pickle
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import compare
import pytest

import casync_compat as casync
from catar.records import Node

LARGE = random.Random(3).randbytes(2_000_000)
SMALL_CHUNKS = casync.MakeOptions(sizes=casync.ChunkSizes(1024, 4096, 16384))
ARCHIVES = pytest.mark.parametrize("name", ["x.catar", "x.caidx"])


class CountingStore(casync.MemoryStore):
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.gets: Counter[casync.ChunkId] = Counter()

    def get(self, id: casync.ChunkId, digest: casync.Digest, limit: int) -> bytes:
        self.gets[id] += 1
        return super().get(id, digest, limit)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a tree and a blob."""
    top = tmp_path / "etc"
    (top / "ssh").mkdir(parents=True)
    (top / "hostname").write_bytes(b"example\n")
    (top / "ssh" / "config").write_bytes(b"Port 22\n")
    (top / "b\udcff").write_bytes(b"odd")
    (tmp_path / "disk.img").write_bytes(LARGE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """Whatever is done: no temporary file, no descriptor, no thread."""
    gc.collect()  # what earlier tests left open is not closed meanwhile
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before
    assert [t.name for t in threading.enumerate() if t.name.startswith(("worker", "sequence"))] == []
    assert [name for _, _, names in os.walk(tmp_path) for name in names if name.startswith(".#")] == []


# ---- stores and indexes, however they are given


def test_a_store_that_is_an_object(place: Path) -> None:
    """Anything with the methods of a store will do, for trees and blobs alike."""
    store = casync.MemoryStore()
    casync.make("x.caidx", "etc", store=store)
    casync.make("x.caibx", "disk.img", store=store)
    assert sorted(os.listdir(place)) == ["disk.img", "etc", "x.caibx", "x.caidx"]
    casync.extract("x.caidx", "copy", store=store)
    compare.assert_same(place / "etc", place / "copy")
    assert casync.cat("x.caibx", store=store) == LARGE


@pytest.mark.parametrize("convert", [str, os.fsencode, Path, lambda path: f"file://{os.path.abspath(path)}"])
def test_a_store_that_is_a_place(place: Path, convert: Callable[[str], casync.api.PathType]) -> None:
    """Paths of every type and locators; one that lies in the tree is left out of the archive."""
    store = convert("etc/s.castr")
    casync.make("x.caidx", "etc", store=store)
    assert casync.cat("x.caidx", "hostname", store=store) == b"example\n"
    assert casync.info("x.caidx", store=store).in_store == 1
    assert casync.gc("x.caidx", store=store).removed == 0


def test_an_index_that_is_an_object(place: Path) -> None:
    """What `make` gives back is as good as the file; only its store must be named."""
    store = casync.MemoryStore()
    tree_index = casync.make("x.caidx", "etc", store=store).index
    blob_index = casync.make("x.caibx", "disk.img", store=store).index
    assert tree_index is not None
    assert blob_index is not None
    os.unlink("x.caidx")
    with casync.open_archive(tree_index, store=store) as tree:
        assert tree["hostname"].size == 8
    with casync.open_blob(blob_index, store=store) as blob:
        assert blob.read() == LARGE
    assert casync.info(blob_index).size == len(LARGE)
    with pytest.raises(casync.UsageError):
        casync.open_blob(blob_index)


def test_the_environment_says_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables are for the command line: a program that names no store gets the one beside the index."""
    monkeypatch.setenv("CASYNC_STORE", str(place / "elsewhere.castr"))
    casync.make("x.caidx", "etc")
    assert (place / "default.castr").is_dir()
    assert not (place / "elsewhere.castr").exists()


def test_gc_takes_one_index_or_several_but_not_none(place: Path) -> None:
    """A store is never emptied because a list was."""
    casync.make("x.caidx", "etc")
    casync.make("y.caibx", "disk.img")
    assert casync.gc([Path("x.caidx"), b"y.caibx"]).removed == 0
    with pytest.raises(casync.UsageError):
        casync.gc([], store="default.castr")
    assert casync.gc("x.caidx", dry_run=True).removed > 0
    assert casync.cat("y.caibx") == LARGE
    with pytest.raises(casync.CasyncError, match=r"y\.caibx"):
        casync.gc("x.caidx")
    assert casync.cat("y.caibx") == LARGE
    time.sleep(0.05)  # an index that is as old as the run would count as named
    assert casync.gc("x.caidx", ignore_unnamed=True).remaining == 1


def test_stores_are_opened_by_any_path_and_closed_by_with(place: Path) -> None:
    """`with` works, stores say where they are, and one that was closed opens again when it is used."""
    for path in ("s.castr", b"s.castr", Path("s.castr")):
        with casync.LocalStore(path) as local:
            casync.make("x.caidx", "etc", store=local)
        assert casync.cat("x.caidx", "hostname", store=local) == b"example\n"
        assert repr(local) == "<LocalStore s.castr>"
        local.close()
    with casync.MemoryStore() as memory:
        casync.make("x.caidx", "etc", store=memory)
    assert repr(memory) == "<MemoryStore memory: 1 chunks>"


def test_options_take_paths_of_every_type(place: Path) -> None:
    """Seeds and what is to be skipped; a single path is not taken for its letters."""
    casync.make("x.caidx", "etc", options=casync.MakeOptions(skip=[Path("etc/ssh")]))  # type: ignore[list-item]
    assert [path for path, _ in casync.list("x.caidx")] == [b"", b"b\xff", b"hostname"]
    casync.make("x.caidx", "etc")
    for number, seeds in enumerate((["etc"], (b"etc",), [Path("etc")], "etc")):
        options = casync.ExtractOptions(seeds=seeds)  # type: ignore[arg-type]
        out = casync.extract("x.caidx", f"copy{number}", store=casync.MemoryStore(), options=options)
        assert out.from_seeds == out.chunks == 1


# ---- trees


@ARCHIVES
def test_a_tree_answers_like_a_collection(place: Path, name: str) -> None:
    """`in`, `[]`, `len` and iteration agree, for every type of path, as often as one likes."""
    casync.make(name, "etc")
    with casync.open_archive(name) as tree:
        paths = [path for path, _ in tree]
        assert paths == [path for path, _ in tree] == [b"", b"b\xff", b"hostname", b"ssh", b"ssh/config"]
        assert len(list(tree)) == len(paths)
        assert tree
        for path in paths:
            for given in (path, os.fsdecode(path), *([Path(os.fsdecode(path))] if path else [])):
                assert given in tree
                assert isinstance(tree[given], Node)
        for absent in ("no", b"ssh/no", Path("hostname/x"), 5, None):
            assert absent not in tree
        with pytest.raises(FileNotFoundError) as caught:
            tree["ssh/no"]
        assert isinstance(caught.value, casync.NotFound)
        assert caught.value.filename == "ssh/no"
        with pytest.raises(casync.FileError, match="Not a directory"):
            tree.listdir("hostname")


@ARCHIVES
def test_a_closed_tree_does_not_answer(place: Path, name: str) -> None:
    """Neither do files that were opened from it; closing twice is fine."""
    casync.make(name, "etc")
    tree = casync.open_archive(name)
    file = tree.open_file("ssh/config")
    walk = tree.walk()
    next(walk)
    tree.close()
    tree.close()
    assert tree.closed
    asks: list[Callable[[], object]] = [
        lambda: tree.stat(),
        lambda: tree["hostname"],
        lambda: "hostname" in tree,
        lambda: list(tree),
        lambda: tree.listdir(),
        lambda: tree.open_file("hostname"),
        lambda: tree.feature_flags,
        lambda: tree.walk(),
        lambda: next(walk),
        lambda: file.read(),
    ]
    for ask in asks:
        with pytest.raises(ValueError, match="closed") as caught:
            ask()
        assert isinstance(caught.value, casync.ClosedError)
    assert "closed" in repr(tree)


@ARCHIVES
def test_threads_may_share_a_tree(place: Path, name: str) -> None:
    """Each reads what it asked for."""
    casync.make(name, "etc", **({} if name == "x.catar" else {"options": SMALL_CHUNKS}))
    with casync.open_archive(name) as tree, ThreadPoolExecutor(8) as pool:

        def read(path: bytes) -> bytes:
            with tree.open_file(path) as file:
                return file.read()

        files = [path for path, node in tree if node.is_regular]
        assert set(pool.map(read, files * 50)) == {b"odd", b"example\n", b"Port 22\n"}


def test_an_empty_tree_and_an_empty_blob(place: Path) -> None:
    """Nothing is something, too."""
    (place / "nothing").mkdir()
    (place / "empty").touch()
    casync.make("x.caidx", "nothing")
    with casync.open_archive("x.caidx") as tree:
        assert [path for path, _ in tree] == [*tree.listdir(), b""]
        assert len(list(tree)) == 1
    casync.make("x.caibx", "empty")
    with casync.open_blob("x.caibx") as blob:
        assert (blob.read(), blob.size, blob.seek(0, io.SEEK_END)) == (b"", 0, 0)
    casync.extract("x.caibx", "copy")
    assert (place / "copy").read_bytes() == b""


@ARCHIVES
def test_what_is_open_survives_another_working_directory(place: Path, name: str) -> None:
    """Relative names are those of the moment of opening."""
    casync.make(name, "etc")
    with casync.open_archive(name) as tree:
        os.chdir("/")
        assert tree["hostname"].size == 8
        assert len(list(tree)) == 5


# ---- blobs


def test_a_blob_is_a_file(place: Path) -> None:
    """It reads, seeks, ends and closes as files do, under a buffer too."""
    casync.make("x.caibx", "disk.img", options=SMALL_CHUNKS)
    with casync.open_blob("x.caibx") as blob:
        assert blob.readable()
        assert blob.seekable()
        assert not blob.writable()
        assert (blob.size, blob.name, blob.tell()) == (len(LARGE), b"x.caibx", 0)
        assert blob.read() == LARGE
        assert blob.read(1) == b""
        for at, size in ((0, 1), (1_000_000, 70_000), (len(LARGE) - 5, 100), (len(LARGE) + 9, 1)):
            assert blob.seek(at) == at
            assert blob.read(size) == LARGE[at : at + size]
        buffer = bytearray(10)
        blob.seek(-20, io.SEEK_END)
        assert blob.readinto(buffer) == 10
        assert buffer == LARGE[-20:-10]
        with pytest.raises(ValueError, match="negative"):
            blob.seek(-1)
        with pytest.raises(io.UnsupportedOperation):
            blob.write(b"x")
        blob.seek(0)
        with io.BufferedReader(blob) as buffered:
            assert buffered.peek(1)[:1] == LARGE[:1]
            assert buffered.read(1000) == LARGE[:1000]
    assert blob.closed
    for ask in (blob.read, blob.tell, lambda: blob.seek(0), lambda: blob.readinto(buffer), blob.readable):
        with pytest.raises(ValueError, match="closed"):
            ask()


def test_a_blob_fetches_only_what_is_read(place: Path) -> None:
    """Opening costs nothing; a few bytes cost the chunks that have them, once."""
    store = CountingStore()
    made = casync.make("x.caibx", "disk.img", store=store, options=SMALL_CHUNKS)
    assert made.index is not None
    with casync.open_blob("x.caibx", store=store) as blob:
        assert not store.gets
        for _ in range(3):
            blob.seek(1_000_000)
            assert blob.read(100) == LARGE[1_000_000:1_000_100]
    needed = {chunk.id for chunk in made.index if chunk.start < 1_000_100 and chunk.end > 1_000_000}
    assert store.gets == dict.fromkeys(needed, 1)


def test_a_blob_whose_chunks_are_gone(place: Path) -> None:
    """Opening works, reading says which chunk is missing from where."""
    casync.make("x.caibx", "disk.img")
    with (
        casync.open_blob("x.caibx", store=casync.MemoryStore("an empty one")) as blob,
        pytest.raises(casync.ChunkMissing, match="an empty one"),
    ):
        blob.read(1)


# ---- verbs that look


def test_looking_at_archives_and_directories_alike(place: Path) -> None:
    """An archive, its index and the directory that both were made of give the same answers."""
    casync.make("x.catar", "etc")
    casync.make("x.caidx", "etc")
    listings = [
        [(path, node.mode, node.size) for path, node in casync.list(x)] for x in ("etc", "x.catar", "x.caidx")
    ]
    assert listings[0] == listings[1] == listings[2]
    assert len(listings[0]) == 5
    assert casync.mtree("etc") == casync.mtree("x.catar") == casync.mtree("x.caidx")
    assert casync.digest("etc") == casync.digest("x.catar") == casync.digest("x.caidx")
    assert casync.digest("disk.img") == casync.Digest.SHA512_256.of(LARGE)
    assert casync.stat("x.catar", "ssh").node.is_dir
    assert [path for path, _ in casync.list("x.caidx", recursive=False)] == [
        b"",
        b"b\xff",
        b"hostname",
        b"ssh",
    ]
    assert [path for path, _ in casync.list("x.caidx", "ssh", recursive=False)] == [b"ssh", b"ssh/config"]


def test_cat_follows_symlinks(place: Path) -> None:
    """As a process would that has its root there; what is no file has no contents."""
    os.symlink("../hostname", "etc/ssh/name")
    casync.make("x.catar", "etc")
    assert casync.cat("x.catar", "ssh/name") == b"example\n"
    for path in ("ssh", "", "hostname/x"):
        with pytest.raises(casync.FileError):
            casync.cat("x.catar", path)


VERBS: list[Callable[[str, str], object]] = [
    casync.list,
    casync.stat,
    casync.mtree,
    casync.cat,
    casync.digest,
    lambda source, inside: casync.extract(source, "out", path=inside),
]


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_missing(place: Path, verb: Callable[[str, str], object]) -> None:
    """A file, or a path inside: a `FileNotFoundError` that names it, and no misuse."""
    casync.make("x.caidx", "etc")
    for source, inside, missing in (("no.caidx", "", "no.caidx"), ("x.caidx", "ssh/no", "ssh/no")):
        with pytest.raises(FileNotFoundError) as caught:
            verb(source, inside)
        assert isinstance(caught.value, casync.NotFound)
        assert not isinstance(caught.value, casync.UsageError)
        assert str(caught.value.filename).endswith(missing)
    assert not (place / "out").exists()


# ---- values


def test_values_are_values(place: Path) -> None:
    """Results and options compare, hash, cross processes and fit on a screen."""
    made = casync.make("x.caibx", "disk.img", options=SMALL_CHUNKS)
    again = casync.make("y.caibx", "disk.img", store=casync.MemoryStore(), options=SMALL_CHUNKS)
    assert made.index == again.index
    assert made.index is not None
    values = [
        made,
        made.index,
        made.index[0],
        made.digest,
        casync.extract("x.caibx", "copy"),
        casync.info("x.caibx"),
        casync.gc("x.caibx"),
        casync.Progress(1, 2),
        SMALL_CHUNKS,
        casync.ExtractOptions(),
    ]
    for value in values:
        assert pickle.loads(pickle.dumps(value)) == value
        assert len(repr(value)) < 1200
        assert hash(value) == hash(pickle.loads(pickle.dumps(value)))


# ---- ends


class Stop(Exception):
    """Raised by callbacks."""


@pytest.mark.parametrize("what", [Stop, KeyboardInterrupt])
@pytest.mark.parametrize("name", ["x.catar", "x.caidx", "x.caibx"])
def test_a_callback_may_end_a_run(place: Path, name: str, what: type[BaseException]) -> None:
    """It comes out as it was raised; no output is half-made, and the same run then works."""

    def stop(progress: casync.Progress) -> None:
        raise what

    source = "disk.img" if name == "x.caibx" else "etc"
    with pytest.raises(what):
        casync.make(name, source, progress=stop)
    assert not (place / name).exists()
    casync.make(name, source)
    if name == "x.caibx":
        (place / "copy").write_bytes(b"as it was")
        with pytest.raises(what):
            casync.extract(name, "copy", progress=stop)
        assert (place / "copy").read_bytes() == b"as it was"
    casync.extract(name, "copy")
    assert not [entry for entry in os.listdir(place) if entry.startswith(".")]


# ---- the package


def test_the_package_shows_what_is_public() -> None:
    """`dir` is what a prompt completes: names to use, and no others."""
    assert set(dir(casync)) == {*casync.__all__, "__version__"}
    assert not [name for name in dir(casync) if name.startswith("_") and name != "__version__"]


def test_importing_costs_nothing() -> None:
    """Names load when they are used: the package alone loads no module of ours."""
    program = "import sys, casync_compat; print([n for n in sys.modules if n.startswith(('casync_compat.', 'catar'))])"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"


def test_blobs_need_nothing_of_archives(tmp_path: Path) -> None:
    """What is slow to load, and of no use for a blob, is not loaded for one: a small one is there sooner."""
    (tmp_path / "x").write_bytes(b"blob" * 1000)
    casync.make(tmp_path / "x.caibx", tmp_path / "x", store=tmp_path / "x.castr")
    program = (
        "import sys; from casync_compat.cli import main; status = main(sys.argv[1:]); "
        "print(status, [n for n in sys.modules if n.startswith(('catar.de', 'casync_compat.fs.apply.tree',"
        " 'casync_compat.fs.scan.s', 'casync_compat.store.packs.packed'))])"
    )
    words = ["extract", "--store", "x.castr", "x.caibx", "out"]
    said = subprocess.check_output([sys.executable, "-c", program, *words], cwd=tmp_path, text=True)
    assert said.splitlines()[-1] == "0 []"
