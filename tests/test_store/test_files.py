"""Places of files keep their contract: a directory, and memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from casync_compat.errors import ChunkCorrupt, FileError
from casync_compat.ids import ChunkId
from casync_compat.store.chunks import ChunkStore
from casync_compat.store.files import Files, check_name
from casync_compat.store.local import LocalFiles
from casync_compat.store.memory import MemoryFiles
from casync_compat.store.tidy import TidyFiles

from .contract import LIMIT, D, PrunableContract, StoreRig
from .contract_files import SwapContract


class TestMemoryFiles(SwapContract):
    """The contract, over a dictionary."""

    @pytest.fixture
    def files(self) -> Files:
        return MemoryFiles()


class TestLocalFiles(SwapContract):
    """The contract, over a directory that is not made yet."""

    @pytest.fixture
    def files(self, tmp_path: Path) -> Files:
        return LocalFiles(os.fsencode(tmp_path / "files"))


class TestTidyFiles(SwapContract):
    """The contract, over a directory that is left as it was."""

    @pytest.fixture
    def files(self, tmp_path: Path) -> Files:
        path = os.fsencode(tmp_path / "files")
        return TidyFiles(LocalFiles(path), path)


@pytest.mark.parametrize("flat", [False, True])
class TestChunksAnywhere(PrunableContract):
    """The contract of chunk stores, over the plainest of places, with and without directories."""

    @pytest.fixture
    def rig(self, flat: bool) -> StoreRig:
        files = MemoryFiles()
        store = ChunkStore(files, flat=flat)

        def fill(raw: bytes) -> ChunkId:
            store.put(D.of(raw), raw)
            return D.of(raw)

        def damage(id: ChunkId, raw: bytes) -> None:
            files.contents.clear()
            ChunkStore(files, flat=flat).put(id, raw)

        return StoreRig(store, fill, damage, store)


def test_names() -> None:
    """Chunks lie where casync and desync look for them."""
    files = MemoryFiles()
    ChunkStore(files).put(D.of(b"x"), b"x")
    ChunkStore(files, flat=True).put(D.of(b"x"), b"x")
    hex_ = D.of(b"x").hex()
    assert sorted(files.contents) == sorted([f"{hex_[:4]}/{hex_}.cacnk".encode(), f"{hex_}.cacnk".encode()])


def test_a_chunk_too_large_is_not_read() -> None:
    """The place's refusal is the chunk's damage, with the reason."""
    files = MemoryFiles()
    store = ChunkStore(files)
    store.put(D.of(b"x"), b"x")
    (name,) = files.contents
    files.contents[name] = bytes(LIMIT * 2)
    with pytest.raises(ChunkCorrupt, match="more than the"):
        store.get(D.of(b"x"), D, LIMIT)


def test_strangers_between_the_forms() -> None:
    """A chunk is listed once, whatever else has a name between those of its two forms."""
    files = MemoryFiles()
    hex_ = D.of(b"x").hex().encode()
    for suffix in (b"", b".b", b".cacnk", b".cacnk2", b".tmp"):
        files.write(hex_[:4] + b"/" + hex_ + suffix, b"x")
    assert list(ChunkStore(files).ids()) == [D.of(b"x")]


def test_links_are_not_followed(tmp_path: Path) -> None:
    """Neither reading nor listing leaves the directory."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x").write_bytes(b"secret")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "x").symlink_to(tmp_path / "outside" / "x")
    (tmp_path / "files" / "d").symlink_to(tmp_path / "outside")
    files = LocalFiles(os.fsencode(tmp_path / "files"))
    assert files.read(b"x", LIMIT) is None
    assert files.read_range(b"x", 0, 1) is None
    assert files.stat(b"x") is None
    assert list(files.list()) == []


def test_a_condition_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """No temporary file stays when a write does not come about."""
    files = LocalFiles(os.fsencode(tmp_path))
    (tmp_path / "x").mkdir()
    with pytest.raises(FileError):
        files.write(b"x", b"1")
    assert sorted(os.listdir(tmp_path)) == ["x"]


@pytest.mark.parametrize("name", [b"", b"/a", b"a/", b"a//b", b".", b"../x", b"a/./b", b"a\0b"])
def test_names_stay_inside(name: bytes) -> None:
    """A name that could lead out of a place is no name."""
    with pytest.raises(ValueError, match="no name"):
        check_name(name)
