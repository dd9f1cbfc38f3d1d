"""The library as its users see it."""

from __future__ import annotations

import dataclasses
import gc
import importlib
import io
import os
import random
import shutil
import stat
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import compare
import pytest
import trees

import casync_compat as casync
from casync_compat.chunker import ChunkSizes
from casync_compat.compression import Compression
from casync_compat.errors import CasyncError, ChunkMissing, FileError, FormatError, UsageError
from casync_compat.ids import ChunkId, Digest
from casync_compat.index import Index
from casync_compat.kinds import Kind
from casync_compat.progress import Progress
from casync_compat.store.leases import StoreBusy
from casync_compat.store.local import LocalStore
from casync_compat.store.memory import MemoryStore
from casync_compat.streams.extraction import ExtractOptions
from casync_compat.verbs.make import MakeOptions
from catar import flags
from catar.records import Node

LARGE = random.Random(1).randbytes(600_000)
ARCHIVES = pytest.mark.parametrize("name", ["etc.catar", "etc.caidx"])


class CountingStore(MemoryStore):
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.gets: Counter[ChunkId] = Counter()

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        self.gets[id] += 1
        return super().get(id, digest, limit)


def below(top: Path) -> list[Path]:
    """Everything below a directory. `Path.rglob` follows symlinks to see what they are, and some lead nowhere."""
    return [Path(at, name) for at, directories, files in os.walk(top) for name in directories + files]


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """Something like /etc, with one large file."""
    top = tmp_path / "etc"
    (top / "ssh").mkdir(parents=True)
    (top / "empty.d").mkdir()
    (top / "hostname").write_bytes(b"example\n")
    (top / "ssh" / "sshd_config").write_bytes(b"Port 22\nPermitRootLogin no\n")
    (top / "large").write_bytes(LARGE)
    (top / "nothing").write_bytes(b"")
    os.symlink("hostname", top / "name")
    os.mkfifo(top / "pipe")
    (top / "b\udcff").write_bytes(b"odd")
    return top


def unplaced(node: Node, other: Node) -> Node:
    """`node`, with the `start` of another: a node that was looked up does not know where its name stands."""
    return dataclasses.replace(node, start=other.start)


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """Whatever is done: no temporary file, no descriptor, no thread."""
    gc.collect()  # what earlier tests left open is not closed meanwhile
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before
    assert [t.name for t in threading.enumerate() if t.name.startswith(("worker", "sequence"))] == []
    assert [path for path in below(tmp_path) if path.name.startswith(".#")] == []


def test_the_example_of_the_readme(etc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make, extract, walk, stat and read, as documented, with relative paths."""
    monkeypatch.chdir(tmp_path)
    casync.make("etc.caidx", "etc")
    assert sorted(os.listdir(tmp_path)) == ["default.castr", "etc", "etc.caidx"]
    casync.extract("etc.caidx", "copy")
    compare.assert_same(etc, tmp_path / "copy")
    with casync.open_archive("etc.caidx") as tree:
        found = {path: node.size for path, node in tree}
        assert tree.stat("hostname").size == 8
        with tree.open_file("ssh/sshd_config") as file:
            assert file.readline() == b"Port 22\n"
            assert file.seekable()
    assert found[b"hostname"] == 8
    assert found[b"large"] == len(LARGE)


@pytest.mark.parametrize("convert", [str, os.fsencode, Path], ids=["str", "bytes", "PathLike"])
@ARCHIVES
def test_every_type_of_path(etc: Path, tmp_path: Path, name: str, convert: type) -> None:
    """Paths outside and inside may be `str`, `bytes` or `os.PathLike`; undecodable names work as all three."""
    archive = convert(str(tmp_path / name))
    casync.make(archive, convert(str(etc)))
    casync.extract(archive, convert(str(tmp_path / "copy")))
    compare.assert_same(etc, tmp_path / "copy")
    casync.extract(archive, convert(str(tmp_path / "part")), path=convert("ssh/sshd_config"))
    assert os.listdir(tmp_path / "part") == ["sshd_config"]
    with casync.open_archive(archive) as tree:
        assert tree.stat(convert("ssh")).is_dir
        assert tree.listdir(convert("ssh")) == [b"sshd_config"]
        with tree.open_file(convert("b\udcff")) as file:
            assert file.read() == b"odd"
        assert [path for path, _ in tree.walk(convert("ssh"))] == [b"ssh", b"ssh/sshd_config"]


def test_blobs(etc: Path, tmp_path: Path) -> None:
    """The suffix .caibx stands for blobs; their result has no entries."""
    made = casync.make(tmp_path / "large.caibx", etc / "large")
    assert made.digest == Digest.SHA512_256.of(LARGE)
    assert made.entries == 0
    result = casync.extract(tmp_path / "large.caibx", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == LARGE
    assert result.size == len(LARGE)


def test_kinds_without_suffix(etc: Path, tmp_path: Path) -> None:
    """Where the name says nothing, `kind` does; it also wins over the name."""
    for kind, out in ((Kind.ARCHIVE, "a"), (Kind.ARCHIVE_INDEX, "b"), (Kind.ARCHIVE, "c.caidx")):
        casync.make(tmp_path / out, etc, kind=kind)
        casync.extract(tmp_path / out, tmp_path / f"{out}-copy", kind=kind)
        compare.assert_same(etc, tmp_path / f"{out}-copy")
        with casync.open_archive(tmp_path / out, kind=kind) as tree:
            assert (tree.index is not None) == kind.is_index
    casync.make(tmp_path / "d", etc / "large", kind=Kind.BLOB_INDEX)
    casync.extract(tmp_path / "d", tmp_path / "d-copy", kind=Kind.BLOB_INDEX)
    assert (tmp_path / "d-copy").read_bytes() == LARGE


def test_options_of_make(etc: Path, tmp_path: Path) -> None:
    """Store, flags, chunk sizes and compression are those that were asked for."""
    store = LocalStore(os.fsencode(tmp_path / "s.castr"))
    sizes = ChunkSizes(1024, 4096, 16384)
    word = flags.select([flags.NAMED_SETS["unix"]], digest_bits=0)
    options = MakeOptions(word, sizes, stream_digest=False, jobs=1)
    made = casync.make(tmp_path / "x.caidx", etc, store=store, options=options)
    assert made.digest is None
    assert made.index is not None
    assert (made.index.sizes, made.index.feature_flags) == (sizes, word)
    assert set(store.ids()) == set(made.index.ids())
    assert not (tmp_path / "default.castr").exists()
    casync.make(tmp_path / "y.caidx", etc, compression=Compression.NONE)
    stored = [path for path in below(tmp_path / "default.castr") if path.is_file()]
    assert stored
    assert all(path.suffix == "" for path in stored)
    casync.extract(tmp_path / "x.caidx", tmp_path / "copy", store=store)
    compare.assert_same(etc, tmp_path / "copy", ignore=["mtime"])  # "unix" keeps whole seconds
    store.close()


@pytest.mark.parametrize("name", ["x.catar", "x.caidx", "x.caibx"])
def test_a_flag_word_of_zero(etc: Path, tmp_path: Path, name: str) -> None:
    """Recording nothing at all is a choice, and not the default."""
    casync.make(tmp_path / name, etc / "large" if name == "x.caibx" else etc, options=MakeOptions(0))
    if name == "x.caibx":
        assert Index.parse((tmp_path / name).read_bytes()).feature_flags == 0
        return
    with casync.open_archive(tmp_path / name) as tree:
        assert tree.feature_flags == 0
        assert (
            stat.S_IMODE(tree.stat("hostname").mode) == 0o666
        )  # casync 2 stores this for files without permissions
        assert tree.stat("hostname").mtime == 0


def test_progress(etc: Path, tmp_path: Path) -> None:
    """Make and extract tell how far they are, for every kind."""
    seen: list[int] = []

    def callback(progress: Progress) -> None:
        seen.append(progress.done)

    for name, source in (("x.catar", etc), ("x.caidx", etc), ("x.caibx", etc / "large")):
        before = len(seen)
        casync.make(tmp_path / name, source, progress=callback)
        assert len(seen) > before
        before = len(seen)
        casync.extract(tmp_path / name, tmp_path / f"{name}-copy", progress=callback)
        assert len(seen) > before


def test_previews(etc: Path, tmp_path: Path) -> None:
    """What would be made and changed is returned or told, and nothing is written, in a store of any kind."""
    before = sorted(tmp_path.rglob("*"))
    memory = MemoryStore()
    for store in (None, memory):
        dry = casync.make(tmp_path / "x.caidx", etc, store=store, options=MakeOptions(dry_run=True))
        assert dry.chunks is not None
        assert dry.chunks.new == dry.chunks.total > 0
    assert list(memory.ids()) == []
    assert sorted(tmp_path.rglob("*")) == before
    real = casync.make(tmp_path / "x.caidx", etc)
    assert real.digest == dry.digest
    before = sorted(tmp_path.rglob("*"))
    changes: list[str] = []
    options = ExtractOptions(on_change=lambda change: changes.append(change.verb))
    done = casync.extract(tmp_path / "x.caidx", tmp_path / "out", options=options)
    assert changes == ["create"] * done.created
    assert done.created == done.entries > 1
    assert sorted(tmp_path.rglob("*")) == before


def test_an_output_in_its_own_source(etc: Path) -> None:
    """Archiving a directory into itself leaves out the index and the store beside it."""
    casync.make(etc / "ssh" / "x.caidx", etc)
    with casync.open_archive(etc / "ssh" / "x.caidx") as tree:
        assert tree.listdir("ssh") == [b"sshd_config"]


# ---- an open archive


@ARCHIVES
def test_walk_and_listdir(etc: Path, tmp_path: Path, name: str) -> None:
    """Every node comes once, parents first and in order; `listdir` gives the names of one directory."""
    casync.make(tmp_path / name, etc)
    with casync.open_archive(tmp_path / name) as tree:
        nodes = list(tree)
        paths = [path for path, _ in nodes]
        assert paths == sorted(paths)
        assert paths[0] == b""
        assert set(paths[1:]) == {os.fsencode(path.relative_to(etc)) for path in below(etc)}
        assert list(tree.walk()) == nodes
        assert tree.listdir() == sorted(os.listdir(os.fsencode(etc)))
        assert tree.listdir("empty.d") == []
        for path, node in nodes:
            assert tree.stat(path) == unplaced(node, tree.stat(path))


@ARCHIVES
def test_stat(etc: Path, tmp_path: Path, name: str) -> None:
    """The metadata is what the file system has, times in nanoseconds through `mtime_ns`."""
    os.utime(etc / "hostname", ns=(0, 1_500_000_000_123_456_789))
    os.utime(etc / "large", ns=(0, -7_000_000_001))
    casync.make(tmp_path / name, etc)
    with casync.open_archive(tmp_path / name) as tree:
        for path in ("", "hostname", "large", "ssh", "ssh/sshd_config", "name", "pipe"):
            status, node = os.lstat(etc / path), tree.stat(path)
            assert isinstance(node, Node)
            assert tree.mtime_ns(node) == status.st_mtime_ns
            assert (node.uid, node.gid) == (status.st_uid, status.st_gid)
            assert stat.S_IFMT(node.mode) == stat.S_IFMT(status.st_mode)
        assert tree.stat("name").target == b"hostname"
        assert tree.feature_flags == flags.DEFAULT


@ARCHIVES
def test_open_file(etc: Path, tmp_path: Path, name: str) -> None:
    """A file in an archive reads and seeks like one on disk."""
    casync.make(tmp_path / name, etc)
    with casync.open_archive(tmp_path / name) as tree, tree.open_file("large") as file:
        assert file.read() == LARGE
        rng = random.Random(2)
        for _ in range(100):
            at, size = rng.randrange(len(LARGE) + 10), rng.choice([0, 1, 100, 100_000])
            assert file.seek(at) == file.tell() == at
            assert file.read(size) == LARGE[at : at + size]
        assert file.seek(-10, io.SEEK_END) == len(LARGE) - 10
        assert file.read() == LARGE[-10:]
        assert not file.writable()
        with tree.open_file("nothing") as empty:
            assert empty.read() == b""


def test_open_file_fetches_only_what_is_read(etc: Path, tmp_path: Path) -> None:
    """Reading in the middle of a large file costs the chunks there, and those that lead to the file."""
    store = CountingStore()
    local = LocalStore(os.fsencode(tmp_path / "s.castr"))
    made = casync.make(
        tmp_path / "x.caidx", etc, store=local, options=MakeOptions(sizes=ChunkSizes(1024, 4096, 16384))
    )
    assert made.index is not None
    for chunk in made.index:
        store.put(chunk.id, local.get(chunk.id, Digest.SHA512_256, chunk.size))
    local.close()
    with casync.open_archive(tmp_path / "x.caidx", store=store) as tree:
        node = tree.stat("large")
        led = sum(store.gets.values())
        assert led < 8
        store.gets.clear()
        with tree.open_file("large") as file:
            assert not store.gets, "opening asks for nothing that is not known yet"
            file.seek(300_000)
            assert file.read(100) == LARGE[300_000:300_100]
        start = node.payload_offset + 300_000
        buffered = {c.id for c in made.index if c.start < start + 65536 and c.end > start}
        assert set(store.gets) <= buffered
        assert set(store.gets.values()) == {1}
        store.gets.clear()
        assert [path for path, _ in tree][-1] == b"ssh/sshd_config"
        assert sum(store.gets.values()) < len(made.index) // 2, "walking does not read contents"


@ARCHIVES
def test_many_walks_keep_no_threads(etc: Path, tmp_path: Path, name: str) -> None:
    """An archive may stay open and be walked again and again, also when a walk is left in the middle."""
    casync.make(tmp_path / name, etc)
    with casync.open_archive(tmp_path / name, jobs=2) as tree:
        before = threading.active_count()
        for _ in range(10):
            assert len(list(tree)) == 10
        assert threading.active_count() == before
        for path, _ in tree:
            if path == b"hostname":
                break


# ---- errors


ABSENT = ["no", "ssh/no", "hostname/x", "Hostname", "ssh/sshd_config/.", "../etc"]


@ARCHIVES
@pytest.mark.parametrize("path", ABSENT)
def test_a_path_that_is_not_there(etc: Path, tmp_path: Path, name: str, path: str) -> None:
    """Every way to ask for it is a `CasyncError` that names the archive and the path."""
    casync.make(tmp_path / name, etc)
    with casync.open_archive(tmp_path / name) as tree:
        asks = (tree.stat, tree.listdir, tree.open_file, lambda path: list(tree.walk(path)))
        for ask in asks:
            with pytest.raises(CasyncError) as caught:
                ask(path)
            prefix = f"{tmp_path / name}: no such path in the archive: "
            assert str(caught.value).startswith(prefix)
            assert path.startswith(str(caught.value).removeprefix(prefix))
    with pytest.raises(CasyncError, match="no such path in the archive"):
        casync.extract(tmp_path / name, tmp_path / "copy", path=path)
    assert not (tmp_path / "copy").exists()


@ARCHIVES
def test_the_wrong_kind_of_node(etc: Path, tmp_path: Path, name: str) -> None:
    """What is no file cannot be opened, what is no directory cannot be listed."""
    casync.make(tmp_path / name, etc)
    with casync.open_archive(tmp_path / name) as tree:
        for path in ("", "ssh", "name", "pipe"):
            with pytest.raises(CasyncError, match=f"{name}: not a regular file"):
                tree.open_file(path)
        for path in ("hostname", "name", "pipe"):
            with pytest.raises(CasyncError, match=name):
                tree.listdir(path)


def test_names_that_say_nothing(etc: Path, tmp_path: Path) -> None:
    """Without a suffix and without `kind` nothing is guessed."""
    for ask in (
        lambda: casync.make(tmp_path / "x.tar", etc),
        lambda: casync.extract(tmp_path / "x.tar", tmp_path / "y"),
        lambda: casync.open_archive(tmp_path / "x.tar"),
    ):
        with pytest.raises(UsageError, match=r"x\.tar: .*\.catar.*\.caidx.*\.caibx"):
            ask()
    assert os.listdir(tmp_path) == ["etc"]


@pytest.mark.parametrize("name", ["x.catar", "x.caidx", "x.caibx"])
def test_files_that_are_missing_or_malformed(tmp_path: Path, name: str) -> None:
    """The error names the file, the offset where there is one, and nothing is extracted."""
    path = tmp_path / name

    def extract() -> None:
        casync.extract(path, tmp_path / "y")

    def look() -> None:
        with casync.open_archive(path) as tree:
            tree.stat()

    asks = [extract] if name == "x.caibx" else [extract, look]
    for ask in asks:
        with pytest.raises(FileError) as missing:
            ask()
        assert missing.value.path == os.fsencode(path)
    path.write_bytes(b"x" * 5000)
    for ask in asks:
        with pytest.raises(FormatError) as malformed:
            ask()
        assert (malformed.value.path, malformed.value.offset) == (os.fsencode(path), 0)
    assert not (tmp_path / "y").exists()


@pytest.mark.parametrize("name", ["x.catar", "x.caidx", "x.caibx"])
def test_a_source_that_is_missing(tmp_path: Path, name: str) -> None:
    """The error names the source; neither output nor store appears."""
    with pytest.raises(FileError) as caught:
        casync.make(tmp_path / name, tmp_path / "no")
    assert caught.value.path == os.fsencode(tmp_path / "no")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["x.catar", "x.caidx", "x.caibx"])
def test_flags_that_contradict_one_another(etc: Path, tmp_path: Path, name: str) -> None:
    """A flag word that no reader would take is refused as a `CasyncError`, and nothing appears."""
    with pytest.raises(UsageError):
        casync.make(tmp_path / name, etc / "large" if name == "x.caibx" else etc, options=MakeOptions(3))
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("kind", [Kind.BLOB, Kind.DIRECTORY])
def test_what_cannot_be_made_or_extracted(etc: Path, tmp_path: Path, kind: Kind) -> None:
    """Blobs and directories are no archives; the file is named."""
    casync.make(tmp_path / "x.catar", etc)
    for ask in (
        lambda: casync.make(tmp_path / "x.catar", etc, kind=kind),
        lambda: casync.extract(tmp_path / "x.catar", tmp_path / "y", kind=kind),
    ):
        with pytest.raises(UsageError, match=rf"x\.catar: .*{kind.value}"):
            ask()
    assert not (tmp_path / "y").exists()


def test_blobs_have_no_paths_inside(etc: Path, tmp_path: Path) -> None:
    """A blob index cannot be opened as a tree, nor a path in it be extracted; the file is named."""
    casync.make(tmp_path / "x.caibx", etc / "large")
    for ask in (
        lambda: casync.open_archive(tmp_path / "x.caibx"),
        lambda: casync.extract(tmp_path / "x.caibx", tmp_path / "y", path="a"),
    ):
        with pytest.raises(UsageError, match=r"x\.caibx: "):
            ask()
    assert not (tmp_path / "y").exists()


def test_an_index_whose_store_is_gone(etc: Path, tmp_path: Path) -> None:
    """The chunk and the store are named."""
    casync.make(tmp_path / "x.caidx", etc)
    (tmp_path / "default.castr").rename(tmp_path / "elsewhere.castr")
    with pytest.raises(ChunkMissing, match=r"default\.castr"):
        casync.extract(tmp_path / "x.caidx", tmp_path / "copy")
    with casync.open_archive(tmp_path / "x.caidx") as tree, pytest.raises(ChunkMissing):
        tree.stat("hostname")
    elsewhere = LocalStore(os.fsencode(tmp_path / "elsewhere.castr"))
    casync.extract(tmp_path / "x.caidx", tmp_path / "copy", store=elsewhere)
    compare.assert_same(etc, tmp_path / "copy")


@pytest.mark.parametrize("name", ["x.caidx", "x.caibx"])
def test_an_index_that_lies_about_a_chunk(etc: Path, tmp_path: Path, name: str) -> None:
    """A chunk of another length than the index says is reported with the index's name and the offset."""
    casync.make(tmp_path / name, etc / "large" if name == "x.caibx" else etc)
    data = bytearray((tmp_path / name).read_bytes())
    last = len(data) - 80
    data[last : last + 8] = (int.from_bytes(data[last : last + 8], "little") + 1).to_bytes(8, "little")
    (tmp_path / name).write_bytes(data)
    with pytest.raises(FormatError) as caught:
        casync.extract(tmp_path / name, tmp_path / "copy")
    assert caught.value.path == os.fsencode(tmp_path / name)
    assert caught.value.offset == Index.parse(bytes(data))[(last - 64) // 40].start


def test_warnings(etc: Path, tmp_path: Path) -> None:
    """Warnings go to the callback, and nowhere when there is none."""
    casync.make(tmp_path / "x.caidx", etc)
    for told in (True, False):
        out = tmp_path / f"out{told}"
        out.mkdir()
        (out / ".caexclude").mkdir()
        warnings: list[str] = []
        casync.extract(tmp_path / "x.caidx", out, warn=warnings.append if told else None)
        assert len(warnings) == told
        compare.assert_same(etc, out)


def test_options_of_extract(etc: Path, tmp_path: Path) -> None:
    """Options reach the run: here a seed without which chunks would be missing."""
    casync.make(tmp_path / "x.caidx", etc)
    casync.extract(
        tmp_path / "x.caidx",
        tmp_path / "copy",
        store=MemoryStore(),
        options=ExtractOptions(seeds=(os.fsencode(etc),)),
    )
    compare.assert_same(etc, tmp_path / "copy")


@pytest.mark.parametrize("name", ["small", "sort-traps", "deep"])
def test_the_shared_trees(tmp_path: Path, name: str) -> None:
    """What projects have can be made, opened, walked and extracted."""
    top = tmp_path / "tree"
    top.mkdir()
    trees.TREES[name].build(top)
    casync.make(tmp_path / "x.caidx", top)
    with casync.open_archive(tmp_path / "x.caidx") as tree:
        for path, node in tree:
            assert tree.stat(path) == unplaced(node, tree.stat(path))
            if node.is_regular:
                with tree.open_file(path) as file:
                    assert file.read() == (top / os.fsdecode(path)).read_bytes()
    casync.extract(tmp_path / "x.caidx", tmp_path / "copy")
    compare.assert_same(top, tmp_path / "copy")


# ---- names of the package


def test_every_name_of_the_package_is_there() -> None:
    """What `__all__` promises can be imported, is what its home module has, and shows in `dir`."""
    for name in casync.__all__:
        thing = getattr(casync, name)
        home = importlib.import_module(thing.__module__)
        assert getattr(home, name) is thing
        assert name in dir(casync)
    with pytest.raises(AttributeError):
        casync.no_such_name  # noqa: B018


def test_gc_and_make_wait_for_one_another(tmp_path: Path, etc: Path) -> None:
    """A lock or a lease of somebody else is waited for as long as is said, and then nothing is changed."""
    index, store = tmp_path / "x.caidx", tmp_path / "default.castr"
    casync.make(index, etc)
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    for name, run in (
        ("leases/abc", lambda: casync.gc(index, wait=0)),
        ("gc", lambda: casync.make(tmp_path / "y.caidx", etc, wait=0)),
    ):
        theirs = store / ".pycasync" / name
        theirs.parent.mkdir(parents=True, exist_ok=True)
        theirs.write_text("a run on elsewhere\n")
        with pytest.raises(StoreBusy, match="a run on elsewhere"):
            run()
        shutil.rmtree(store / ".pycasync")
    assert not (tmp_path / "y.caidx").exists()
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == before


def test_gc_spares_young_chunks(tmp_path: Path, etc: Path) -> None:
    """`grace` keeps what came lately, and the result says how much."""
    casync.make(tmp_path / "x.caidx", etc)
    (etc / "more").write_bytes(bytes(range(256)) * 500)
    casync.make(tmp_path / "y.caidx", etc)
    (tmp_path / "y.caidx").unlink()
    spared = casync.gc(tmp_path / "x.caidx", grace=3600)
    assert spared.removed == 0
    assert spared.spared == casync.gc(tmp_path / "x.caidx").removed > 0
