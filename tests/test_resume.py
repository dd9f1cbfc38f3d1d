"""A run that was cut off is taken up again by the next: what is right in the target is kept, and not fetched again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from webserver import Reply, WebServer, web_server

from casync_compat.chunker import ChunkSizes
from casync_compat.errors import ChunkMissing, FileError, StoreError
from casync_compat.fs.apply.options import ApplyOptions
from casync_compat.ids import ChunkId, Digest
from casync_compat.index import Index
from casync_compat.kinds import Kind
from casync_compat.store.memory import MemoryStore
from casync_compat.streams.extraction import ExtractOptions, ExtractResult
from casync_compat.verbs.extract import extract_archive
from casync_compat.verbs.extract_blob import extract_blob
from casync_compat.verbs.make import MakeOptions, make_archive_index, make_blob_index

SIZES = ChunkSizes(1024, 4096, 16384)
DATA = Random(1).randbytes(600_000)
HOLED = DATA[:200_000] + bytes(300_000) + DATA[200_000:]


class Flaky(MemoryStore):
    """A store that counts, and after so many chunks breaks.

    :ivar left: chunks that it will still give
    """

    def __init__(self) -> None:
        super().__init__("flaky")
        self.left = 1 << 30
        self.asked: list[ChunkId] = []

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        if self.left <= 0:
            raise StoreError(id, self.name, "gone")
        self.left -= 1
        self.asked.append(id)
        return super().get(id, digest, limit)


class Place:
    """A blob's index in a store, and somewhere to extract it to."""

    def __init__(self, at: Path, data: bytes) -> None:
        self.at, self.data = at, data
        self.store = Flaky()
        self.out = at / "out"
        self.index = self.make("x.caibx", data)

    def make(self, name: str, data: bytes) -> Index:
        """Index a blob."""
        (self.at / "blob").write_bytes(data)
        blob, path = os.fsencode(self.at / "blob"), os.fsencode(self.at / name)
        made = make_blob_index(path, blob, self.store, MakeOptions(sizes=SIZES)).index
        (self.at / "blob").unlink()
        assert made is not None
        return made

    def extract(self, name: str = "x.caibx", left: int = 1 << 30, **how: object) -> ExtractResult:
        """Extract to `out`; the store gives so many chunks."""
        self.store.left, self.store.asked = left, []
        options = ExtractOptions(jobs=1, **{"resume": True, **how})  # type: ignore[arg-type]
        return extract_blob(os.fsencode(self.at / name), os.fsencode(self.out), self.store, options=options)

    def hidden(self) -> list[str]:
        """What lies beside the target, hidden."""
        return [name for name in os.listdir(self.at) if name.startswith(".#")]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A blob with a hole in it."""
    return Place(tmp_path, HOLED)


def test_what_was_fetched_is_not_fetched_again(place: Place) -> None:
    """A failure leaves a hidden file and no other; the next run fetches what it lacks, and leaves nothing hidden."""
    with pytest.raises(StoreError) as caught:
        place.extract(left=60)
    assert "continues" in caught.value.__notes__[0]
    first = place.store.asked
    assert not place.out.exists()
    (name,) = place.hidden()
    assert name.startswith(".#out~")
    assert name.endswith(".part")
    result = place.extract()
    assert place.out.read_bytes() == HOLED
    assert place.hidden() == []
    assert result.in_place >= 50
    assert len(set(first) & set(place.store.asked)) <= 10, "only what was in flight is fetched again"
    assert result.fetched + result.in_place == len(place.index)
    assert result.in_place_bytes + result.fetched_bytes == len(HOLED)
    assert place.out.stat().st_blocks * 512 < len(HOLED) - 200_000, "the hole is still one"


def test_a_preview_knows_what_was_left(place: Place) -> None:
    """What would be fetched is what the next run fetches, and looking changes nothing."""
    with pytest.raises(StoreError):
        place.extract(left=60)
    (name,) = place.hidden()
    before = (place.at / name).read_bytes()
    told = place.extract(on_change=lambda change: None)
    assert place.store.asked == []
    assert (place.at / name).read_bytes() == before
    real = place.extract()
    assert (told.in_place, told.fetched, told.fetched_bytes) == (
        real.in_place,
        real.fetched,
        real.fetched_bytes,
    )


def test_nothing_that_was_left_is_believed(place: Place) -> None:
    """What is damaged in the hidden file, in data or in holes, is fetched again; one that is too long is cut."""
    with pytest.raises(StoreError):
        place.extract(left=60)
    (name,) = place.hidden()
    with open(place.at / name, "r+b") as file:
        for offset in (5_000, 250_000, 590_000):
            file.seek(offset)
            file.write(b"damage")
        file.seek(len(HOLED))
        file.write(b"more")
    place.extract()
    assert place.out.read_bytes() == HOLED


def test_another_index_begins_anew(place: Place) -> None:
    """What was left of another version is removed, so that there is one hidden file for a target at most."""
    with pytest.raises(StoreError):
        place.extract(left=60)
    before = place.hidden()
    place.make("y.caibx", DATA[::-1])
    with pytest.raises(StoreError):
        place.extract("y.caibx", left=60)
    assert len(place.hidden()) == 1
    assert place.hidden() != before
    place.extract("y.caibx")
    assert place.out.read_bytes() == DATA[::-1]
    assert place.hidden() == []


def test_an_old_file_stays_until_the_new_one_is_whole(place: Place) -> None:
    """Whatever was there is there after a failure; then it is replaced, with its permissions."""
    place.out.write_bytes(b"old")
    place.out.chmod(0o640)
    with pytest.raises(StoreError):
        place.extract(left=60)
    assert place.out.read_bytes() == b"old"
    place.extract()
    assert (place.out.read_bytes(), place.out.stat().st_mode & 0o777) == (HOLED, 0o640)


@pytest.mark.parametrize("trap", ["symlink", "fifo", "hard link", "directory"])
def test_what_is_no_file_of_ours_is_not_taken_up(place: Place, trap: str) -> None:
    """Something else of the hidden name is neither followed nor written to; the run does without."""
    with pytest.raises(StoreError):
        place.extract(left=60)
    (name,) = place.hidden()
    hidden = place.at / name
    hidden.unlink()
    (place.at / "victim").write_bytes(b"victim")
    if trap == "symlink":
        hidden.symlink_to("victim")
    elif trap == "hard link":
        os.link(place.at / "victim", hidden)
    elif trap == "fifo":
        os.mkfifo(hidden)
    else:
        hidden.mkdir()
    place.extract()
    assert place.out.read_bytes() == HOLED
    assert (place.at / "victim").read_bytes() == b"victim"


def test_nothing_is_left_of_what_cannot_go_on(place: Place) -> None:
    """Where the next run would fail alike, or nothing was written, or nobody asked for it, nothing is kept."""
    data = bytearray((place.at / "x.caibx").read_bytes())
    with pytest.raises(StoreError):
        place.extract(left=0)
    assert place.hidden() == []
    with pytest.raises(StoreError):
        place.extract(left=60, resume=False)
    assert place.hidden() == []
    for item in range(64 + 40 * 50, len(data) - 40, 40):  # every chunk from here ends a byte later
        end = int.from_bytes(data[item : item + 8], "little") + 1
        data[item : item + 8] = end.to_bytes(8, "little")
    (place.at / "bad.caibx").write_bytes(data)
    with pytest.raises(Exception, match="but the index says"):
        place.extract("bad.caibx")
    assert place.hidden() == []


# ---- in place


def test_in_place_only_what_differs_is_written(place: Place) -> None:
    """The file stays the one that it is, and is cut or extended; chunks at their places are not asked for."""
    place.out.write_bytes(HOLED[:150_000] + b"x" * 5_000 + HOLED[155_000:] + b"tail")
    inode = place.out.stat().st_ino
    result = place.extract(in_place=True)
    assert (place.out.read_bytes(), place.out.stat().st_ino) == (HOLED, inode)
    assert 0 < len(place.store.asked) <= 5
    assert result.fetched == len(place.store.asked)
    assert result.in_place == len(place.index) - result.fetched
    place.out.write_bytes(HOLED[:100_000])
    place.extract(in_place=True)
    assert place.out.read_bytes() == HOLED
    place.extract(in_place=True)
    assert place.store.asked == []


def test_in_place_data_may_move(place: Place) -> None:
    """What moved is taken from where it was, as long as it is still there."""
    place.out.write_bytes(b"shift" + HOLED)
    result = place.extract(in_place=True)
    assert place.out.read_bytes() == HOLED
    assert result.from_seeds > 0
    place.out.write_bytes(HOLED[1000:])
    place.extract(in_place=True)
    assert place.out.read_bytes() == HOLED


def test_in_place_goes_on_where_it_failed(place: Place) -> None:
    """A failure leaves the file half-written, as was asked for; the next run does the rest."""
    place.out.write_bytes(b"old")
    with pytest.raises(StoreError) as caught:
        place.extract(left=60, in_place=True)
    assert "not complete" in caught.value.__notes__[0]
    first = place.store.asked
    place.extract(in_place=True)
    assert place.out.read_bytes() == HOLED
    assert len(set(first) & set(place.store.asked)) <= 10
    assert place.hidden() == []


# ---- a tree with a large file


class TreePlace(Place):
    """A tree of which one file is nearly everything."""

    def make(self, name: str, data: bytes) -> Index:
        self.tree = self.at / "tree"
        (self.tree / "d").mkdir(parents=True)
        self.files = {"a": b"a", "d/large": Random(3).randbytes(4_000_000), "d/z": b"z"}
        for path, content in self.files.items():
            (self.tree / path).write_bytes(content)
        index, tree = os.fsencode(self.at / name), os.fsencode(self.tree)
        made = make_archive_index(index, tree, self.store, MakeOptions(sizes=SIZES)).index
        assert made is not None
        return made

    def extract(self, name: str = "x.caibx", left: int = 1 << 30, **how: object) -> ExtractResult:
        self.store.left, self.store.asked = left, []
        options = ExtractOptions(jobs=1, **{"resume": True, **how})  # type: ignore[arg-type]
        where, out = os.fsencode(self.at / name), os.fsencode(self.out)
        return extract_archive(Kind.ARCHIVE_INDEX, where, out, self.store, options=options)

    def hidden(self) -> list[str]:
        return [path.name for path in self.out.rglob(".#*")]

    def check(self) -> None:
        """All is there, and nothing else."""
        found = {
            os.fspath(p.relative_to(self.out)): p.read_bytes() for p in self.out.rglob("*") if p.is_file()
        }
        assert found == self.files


@pytest.fixture
def tree(tmp_path: Path) -> TreePlace:
    """A tree's index, with nothing extracted."""
    return TreePlace(tmp_path, b"")


@pytest.mark.parametrize("delete", [True, False])
def test_what_was_written_of_a_large_file_is_used_again(tree: TreePlace, delete: bool) -> None:
    """It is hidden beside its place meanwhile, and gone once the file is there."""
    apply = ApplyOptions(delete=delete)
    half = len(tree.index) // 2
    with pytest.raises(StoreError, match="gone"):
        tree.extract(left=half, apply=apply)
    assert not (tree.out / "d/large").exists()
    assert len(tree.hidden()) == 1
    first = set(tree.store.asked)
    result = tree.extract(apply=apply)
    tree.check()
    assert result.deleted == 0
    assert len(first & set(tree.store.asked)) < half // 10
    assert len(tree.store.asked) < half + half // 10


def test_the_run_that_came_further_is_kept(tree: TreePlace) -> None:
    """One that breaks off early does not cost what an earlier one has, and one that comes further adds to it."""
    many = len(tree.index)
    with pytest.raises(StoreError):
        tree.extract(left=many // 2)
    for left in (0, many // 4):
        with pytest.raises(StoreError):
            tree.extract(left=left)
        assert len(tree.hidden()) == 1
    tree.extract()
    tree.check()
    assert len(tree.store.asked) < many // 4 + many // 10


@pytest.mark.parametrize("how", [{"resume": False}, {"seed_output": False}])
def test_a_large_file_is_kept_for_those_who_look(tree: TreePlace, how: dict[str, bool]) -> None:
    """Where the next run would not look into the target, or all is near, nothing half-written stays."""
    with pytest.raises(StoreError):
        tree.extract(left=len(tree.index) // 2, **how)
    assert tree.hidden() == []


def test_little_of_a_large_file_is_not_kept(tree: TreePlace) -> None:
    """What is fetched again at once leaves no trace."""
    with pytest.raises(StoreError):
        tree.extract(left=50)
    assert tree.hidden() == []


# ---- the command, killed


@pytest.fixture
def server() -> Iterator[WebServer]:
    """A web server on loopback."""
    with web_server() as state:
        yield state


def serve(server: WebServer, store: MemoryStore) -> None:
    """Have the chunks of a store on a server."""
    for id_, data in store.chunks.items():
        server.files[f"/s.castr/{id_.hex()[:4]}/{id_.hex()}"] = data


def run_until_killed(server: WebServer, words: list[str], enough: Callable[[], bool]) -> None:
    """Run the command until so much was fetched, and kill it."""
    os.environ.pop("CASYNC_STORE", None)
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 60
        while process.poll() is None and not enough() and time.monotonic() < end:
            time.sleep(0.01)
        assert process.poll() is None, "it was to be killed in the middle"
        process.send_signal(signal.SIGKILL)


def given(server: WebServer) -> list[str]:
    """The paths of the chunks that were given."""
    return [path for method, path, _ in server.asked if method == "GET" and path in server.files]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["blob", "tree", "large file"])
def test_killed_in_the_middle(tmp_path: Path, server: WebServer, kind: str) -> None:
    """After kill -9 the next run fetches what is missing, and what the first was just fetching, from the web server."""
    store = MemoryStore()
    how = MakeOptions(sizes=ChunkSizes(4096, 16384, 65536))
    source, index = tmp_path / "source", tmp_path / ("x.caibx" if kind == "blob" else "x.caidx")
    random = Random(7)
    if kind == "blob":
        source.write_bytes(random.randbytes(8 << 20))
        make_blob_index(os.fsencode(index), os.fsencode(source), store, how)
    else:
        source.mkdir()
        count, size = (80, 100_000) if kind == "tree" else (1, 6 << 20)
        for number in range(count):
            (source / f"{number:03}").write_bytes(random.randbytes(size))
        make_archive_index(os.fsencode(index), os.fsencode(source), store, how)
    serve(server, store)
    total = len(server.files)
    stopped = []

    def answer(method: str, path: str, fields: dict[str, str], body: bytes) -> Reply | None:
        if len(given(server)) > total // 2 and not stopped:
            time.sleep(0.5)  # the rest comes slowly, so that there is time to be killed
        return None

    server.special = answer
    words = [sys.executable, "-m", "casync_compat", "extract", f"--store={server.url}/s.castr"]
    words += [os.fspath(index), os.fspath(tmp_path / "out")]

    def enough() -> bool:
        if kind == "large file":  # is written in order, as far behind as the machine is slow
            return any(f.stat().st_blocks * 512 > 2 << 20 for f in (tmp_path / "out").glob(".#*"))
        return len(given(server)) > total * 5 // 8

    run_until_killed(server, words, enough)
    stopped.append(True)
    kept = 0
    if kind == "blob":
        assert not (tmp_path / "out").exists()
    else:  # each small file is some six chunks, of which two may be shared with others
        files = {f.name: f.read_bytes() for f in source.iterdir()}
        kept = sum(f.read_bytes() == files.get(f.name) for f in (tmp_path / "out").iterdir())
        assert kept > 5 if kind == "tree" else kept == 0
    server.asked.clear()
    subprocess.run(words, check=True, timeout=60)
    second = len(set(given(server)))  # an answer that broke off is asked for twice
    if kind == "blob":
        assert (tmp_path / "out").read_bytes() == source.read_bytes()
        assert [name for name in os.listdir(tmp_path) if name.startswith(".#")] == []
    else:
        assert {f.name: f.read_bytes() for f in (tmp_path / "out").iterdir()} == files
    assert second < (total - 3 * kept if kind == "tree" else total * 3 // 4), (second, total)


def test_a_device_that_is_too_small_is_refused(tmp_path: Path) -> None:
    """What cannot be opened in place is named."""
    place = Place(tmp_path, DATA)
    place.out.mkdir()
    with pytest.raises(FileError):
        place.extract(in_place=True)
    place.store.chunks.clear()
    place.out.rmdir()
    with pytest.raises(ChunkMissing):
        place.extract(in_place=True)
