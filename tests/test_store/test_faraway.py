"""Filling a store that is far away: few questions, and none whose answer may have become wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from casync_compat.ids import ChunkId
from casync_compat.store import faraway
from casync_compat.store.chunks import ChunkStore
from casync_compat.store.faraway import Survey
from casync_compat.store.files import FileStatus, Listed
from casync_compat.store.memory import MemoryFiles
from casync_compat.streams.leasing import writing

from .contract import D


class FarFiles(MemoryFiles):
    """Files that are far away, and count what they are asked.

    :ivar asked: names whose status was asked for
    :ivar listed: files that were listed
    """

    near = False
    paged = True

    def __init__(self) -> None:
        super().__init__("far away")
        self.asked: list[bytes] = []
        self.listed = 0

    def stat(self, name: bytes) -> FileStatus | None:
        if not name.startswith(b".pycasync/"):
            self.asked.append(name)
        return super().stat(name)

    def list(
        self, prefix: bytes = b"", *, under: re.Pattern[bytes] | None = None, details: bool = True
    ) -> Iterator[Listed]:
        before = len(self.asked)
        found = [*super().list(prefix, under=under, details=details)]
        del self.asked[before:]  # a listing is one question
        for file in found:
            self.listed += not prefix
            yield file


CHUNKS = [(D.of(b"%d" % number), b"%d" % number) for number in range(500)]


def fill(store: ChunkStore, chunks: list[tuple[ChunkId, bytes]] = CHUNKS) -> int:
    """Put chunks, as a run does, some together; how many were new."""
    new = 0
    with writing(store, "make"):
        for begin in range(0, len(chunks), 20):
            new += sum(put.new for put in store.put_many(chunks[begin : begin + 20]))
    return new


@pytest.fixture
def files() -> FarFiles:
    return FarFiles()


def test_empty_store(files: FarFiles) -> None:
    """Nothing is asked of a store that a listing has shown to be empty, and nothing is written twice."""
    store = ChunkStore(files)
    assert fill(store, CHUNKS + CHUNKS) == len(CHUNKS)
    assert files.asked == []
    assert sorted(store.ids()) == sorted(id for id, _ in CHUNKS)


def test_full_store(files: FarFiles) -> None:
    """Nor of one that was listed whole; only what it lacks is written."""
    fill(ChunkStore(files), CHUNKS[:300])
    assert fill(ChunkStore(files)) == 200
    assert files.asked == []


def test_what_went_between_two_runs(files: FarFiles) -> None:
    """What a run has seen is not believed by the next one with the same store."""
    store = ChunkStore(files)
    fill(store)
    store.remove(CHUNKS[7][0])
    assert fill(store) == 1
    assert store.has(CHUNKS[7][0])


def test_without_a_lease(files: FarFiles) -> None:
    """Where nothing keeps others from removing chunks each one is asked for, every time."""
    store = ChunkStore(files)
    store.put_many(CHUNKS[:50])
    assert [put.new for put in store.put_many(CHUNKS[:50])] == [False] * 50
    assert len(files.asked) == 100
    assert files.listed == 0


def test_large_store(files: FarFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a store that is large for the run only a part is listed; the rest is asked for. Either is right."""
    monkeypatch.setattr(faraway, "_PAGE", 50)
    fill(ChunkStore(files))
    few = CHUNKS[::10]
    files.asked, files.listed = [], 0
    new = [(D.of(b"new %d" % number), b"new %d" % number) for number in range(10)]
    assert fill(ChunkStore(files), few + new) == 10
    assert 0 < len(files.asked) < len(few + new)
    assert 0 < files.listed < len(CHUNKS)


def test_as_much_as_is_kept(files: FarFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing without end ends where it would take too much memory."""
    monkeypatch.setattr(faraway, "_PAGE", 10)
    monkeypatch.setattr(faraway, "_MOST", 100)
    fill(ChunkStore(files))
    files.listed = 0
    assert fill(ChunkStore(files)) == 0
    assert files.listed <= 120


def test_empty_files(files: FarFiles) -> None:
    """A file without content is no chunk, and is replaced."""
    store = ChunkStore(files)
    fill(store)
    name = store.forms(CHUNKS[3][0])[1].name
    files.contents[name] = b""
    assert fill(store) == 1
    assert files.contents[name]


def test_survey_and_what_is_written_meanwhile(files: FarFiles) -> None:
    """What others write behind the listing is not known, and so asked for; what we write is."""
    for name in (b"0001/a", b"0002/b", b"0003/c"):
        files.write(name, b"x")
    survey = Survey(files, re.compile(rb"[0-9a-f]{4}"))
    assert [survey.has(name) for name in (b"0001/a", b"0001/b", b"0004/x")] == [True, False, False]
    survey.add(b"0004/x")
    assert survey.has(b"0004/x")


def test_verified(files: FarFiles) -> None:
    """Where what is there is to be read, it is, and replaced if it is wrong."""
    store = ChunkStore(files)
    fill(store, CHUNKS[:20])
    good = files.contents[store.forms(CHUNKS[3][0])[1].name]
    files.contents[store.forms(CHUNKS[3][0])[1].name] = good[:-1]
    store.verify_reused = True
    assert fill(store, CHUNKS[:20]) == 1
    assert files.contents[store.forms(CHUNKS[3][0])[1].name] == good


def test_what_comes_twice_is_written_once(files: FarFiles) -> None:
    """Of chunks put together those with one content are one file, asked for and written once."""
    store = ChunkStore(files)
    puts = store.put_many([CHUNKS[0], CHUNKS[1], CHUNKS[0], CHUNKS[0]])
    assert [put.new for put in puts] == [True, True, False, False]
    assert len(files.asked) == len(set(files.asked))
