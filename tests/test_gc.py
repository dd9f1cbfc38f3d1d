"""Garbage collection keeps exactly what the indexes name, and touches nothing when anything about them is unclear."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casync_compat.chunker import ChunkSizes
from casync_compat.compression import Compression
from casync_compat.errors import CasyncError, FileError, FormatError
from casync_compat.ids import ChunkId, Digest
from casync_compat.index import Index, IndexBuilder
from casync_compat.progress import Progress, Reporter
from casync_compat.store.local import LocalStore
from casync_compat.streams.inputs import load_index
from casync_compat.verbs.gc import GcResult, collect_garbage
from catar import flags

DAY = 24 * 3600


def chunk(number: int) -> bytes:
    return b"chunk number %d" % number


def id_of(number: int) -> ChunkId:
    return Digest.SHA512_256.of(chunk(number))


def index_of(*numbers: int) -> Index:
    """An index that names these chunks."""
    builder = IndexBuilder(flags.DEFAULT, ChunkSizes())
    for number in numbers:
        builder.append(id_of(number), len(chunk(number)))
    return builder.build()


def filled(path: Path, *numbers: int, compression: Compression = Compression.ZSTD) -> LocalStore:
    """A store with these chunks."""
    store = LocalStore(os.fsencode(path / "x.castr"), compression=compression)
    for number in numbers:
        store.put(id_of(number), chunk(number))
    return store


def files(store: LocalStore) -> dict[Path, int]:
    """Every file below the store, with its size."""
    top = Path(os.fsdecode(store.path))
    return {path: path.stat().st_size for path in top.rglob("*") if path.is_file()}


@pytest.mark.parametrize("compression", [Compression.ZSTD, Compression.NONE], ids=lambda kind: kind.value)
def test_keeps_exactly_what_the_indexes_name(tmp_path: Path, compression: Compression) -> None:
    """Chunks of any index stay, all others go, and the numbers say so."""
    store = filled(tmp_path, *range(20), compression=compression)
    before = files(store)
    result = collect_garbage(store, [index_of(0, 1, 2, 3), index_of(3, 3, 4, 100)])
    after = files(store)
    assert list(store.ids()) == sorted(map(id_of, range(5)))
    assert all(store.get(id_of(n), Digest.SHA512_256, 100) == chunk(n) for n in range(5))
    assert after.items() <= before.items()
    # The ids of 20 chunks begin with 20 different directories, so that each removed chunk leaves one empty.
    assert result == GcResult(8, 6, 20, 15, 15, sum(before.values()) - sum(after.values()))
    assert result.remaining == 5
    assert len(os.listdir(store.path)) == 5


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(0, 15)), st.lists(st.lists(st.integers(0, 20), max_size=8), max_size=4))
def test_any_store_and_indexes(
    tmp_path_factory: pytest.TempPathFactory, there: set[int], named: list[list[int]]
) -> None:
    """What remains is what was there and is named; a second run has nothing to do."""
    store = filled(tmp_path_factory.mktemp("gc"), *there)
    indexes = [index_of(*numbers) for numbers in named]
    kept = there & {number for numbers in named for number in numbers}
    result = collect_garbage(store, indexes)
    assert set(store.ids()) == set(map(id_of, kept))
    assert (result.chunks, result.remaining) == (len(there), len(kept))
    assert collect_garbage(store, indexes).removed == 0


def test_both_forms_of_a_chunk_go(tmp_path: Path) -> None:
    """A chunk that is stored compressed and plain is one chunk, and is removed whole."""
    store = filled(tmp_path, 1)
    plain = Path(os.fsdecode(store.path)) / str(id_of(1))[:4] / str(id_of(1))
    plain.write_bytes(chunk(1))
    result = collect_garbage(store, [index_of(2)])
    assert (result.chunks, result.removed) == (1, 1)
    assert files(store) == {}


def test_a_dry_run_removes_nothing(tmp_path: Path) -> None:
    """It counts what would go, names it, and leaves every file, stale temporary ones too."""
    store = filled(tmp_path, *range(6))
    old_temporary(store, 2 * DAY)
    before = files(store)
    named: list[ChunkId] = []
    result = collect_garbage(store, [index_of(0, 1)], dry_run=True, on_chunk=named.append)
    assert files(store) == before
    assert result == GcResult(2, 2, 6, 4, 0, 0)
    assert named == sorted(map(id_of, range(2, 6)))


def test_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told how many chunks were looked at, and then how many of those that go are gone."""
    monkeypatch.setattr(Reporter, "due", True)
    told: list[Progress] = []
    collect_garbage(filled(tmp_path, *range(5)), [index_of(0, 1)], progress=told.append)
    assert told == [
        *(Progress(done, unit="chunks") for done in range(1, 6)),
        *(Progress(done, 3, unit="chunks") for done in range(1, 4)),
    ]


def test_each_chunk_is_told_before_it_goes(tmp_path: Path) -> None:
    """`on_chunk` sees the chunk while it is still there; an exception from it stops the run."""
    store = filled(tmp_path, *range(6))
    there: list[bool] = []
    collect_garbage(store, [index_of(0)], on_chunk=lambda id_: there.append(store.has(id_)))
    assert there == [True] * 5
    store = filled(tmp_path, *range(6))

    def refuse(id_: ChunkId) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        collect_garbage(store, [index_of(0)], on_chunk=refuse)
    assert len(list(store.ids())) == 6


@pytest.mark.parametrize("broken", ["missing", "malformed", "directory"])
def test_an_unreadable_index_removes_nothing(tmp_path: Path, broken: str) -> None:
    """Indexes that are loaded on the way may fail: nothing has been removed then."""
    store = filled(tmp_path, *range(6))
    good, bad = tmp_path / "good.caidx", tmp_path / "bad.caidx"
    good.write_bytes(index_of(0).to_bytes())
    if broken == "malformed":
        bad.write_bytes(index_of(1).to_bytes()[:-1])
    elif broken == "directory":
        bad.mkdir()
    before = files(store)

    def indexes() -> Iterator[Index]:
        yield load_index(os.fsencode(good))
        yield load_index(os.fsencode(bad))

    with pytest.raises(CasyncError) as caught:
        collect_garbage(store, indexes())
    assert isinstance(caught.value, FormatError if broken == "malformed" else FileError)
    assert str(bad) in str(caught.value)
    assert files(store) == before


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    """An absent store has no chunks; a file in its place is an error."""
    assert collect_garbage(LocalStore(os.fsencode(tmp_path / "no")), [index_of(1)]) == GcResult(
        1, 1, 0, 0, 0, 0
    )
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileError):
        collect_garbage(LocalStore(os.fsencode(tmp_path / "file")), [index_of(1)])


def old_temporary(store: LocalStore, age: float, number: int = 0) -> Path:
    """What a killed run leaves: a temporary file beside a chunk."""
    path = Path(os.fsdecode(store.path)) / str(id_of(number))[:4] / f"{id_of(number)}.{age:016.0f}.tmp"
    path.write_bytes(b"half a ch")
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_temporary_files_go_after_a_day(tmp_path: Path) -> None:
    """One that may still be written stays; one older than a day is a crashed run's."""
    store = filled(tmp_path, 0, 1)
    young = [old_temporary(store, age) for age in (0, 3600, DAY - 60)]
    old = [old_temporary(store, age) for age in (DAY + 60, 365 * DAY)]
    result = collect_garbage(store, [index_of(0, 1)])
    assert result.removed == 0
    assert all(path.exists() for path in young)
    assert not any(path.exists() for path in old)
    assert len(list(store.ids())) == 2


def test_files_that_are_no_chunks_stay(tmp_path: Path) -> None:
    """Whatever else lies in the store's directory is not garbage."""
    store = filled(tmp_path, 0, 1)
    top = Path(os.fsdecode(store.path))
    others = [top / "README", top / str(id_of(0))[:4] / "notes.tmp", top / "0000" / "abc.cacnk"]
    (top / "0000").mkdir(exist_ok=True)
    for path in others:
        path.write_bytes(b"mine")
        os.utime(path, (0, 0))
    collect_garbage(store, [index_of(1)])
    assert all(path.read_bytes() == b"mine" for path in others)
    assert list(store.ids()) == [id_of(1)]


@pytest.mark.parametrize("where", ["store", "sub directory"])
def test_symlinks_are_not_followed(tmp_path: Path, where: str) -> None:
    """A link from the store to somewhere else loses nothing there; the store itself may be reached by a link."""
    store = filled(tmp_path, 0, 1)
    if where == "store":
        os.symlink("x.castr", tmp_path / "link.castr")
        result = collect_garbage(LocalStore(os.fsencode(tmp_path / "link.castr")), [index_of(0)])
        assert result.removed == 1
        return
    other = tmp_path / "other"
    other.mkdir()
    (other / f"{id_of(7)}.cacnk").write_bytes(b"precious")
    os.symlink(other, Path(os.fsdecode(store.path)) / str(id_of(7))[:4])
    collect_garbage(store, [index_of(0)])
    assert (other / f"{id_of(7)}.cacnk").read_bytes() == b"precious"
