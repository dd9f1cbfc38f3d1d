"""Locators: which are paths, URLs and ssh locations, and where chunks are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from casync_compat.chunker import ChunkSizes
from casync_compat.errors import NotFound, UsageError
from casync_compat.ids import Digest
from casync_compat.index import Index, IndexBuilder
from casync_compat.locations import (
    PathType,
    Scheme,
    Settings,
    classify,
    default_store,
    index_location,
    index_output,
    input_path,
    local_path,
    open_index,
    open_local_store,
    open_source,
    open_store,
)
from casync_compat.store.layered import Layered
from casync_compat.store.local import LocalFiles
from casync_compat.store.memory import MemoryFiles, MemoryStore
from catar.flags import DEFAULT

LOCAL, URL, SSH = Scheme.LOCAL, Scheme.URL, Scheme.SSH


@pytest.mark.parametrize(
    ("locator", "scheme"),
    [
        ("x", LOCAL),
        ("x.caidx", LOCAL),
        (".", LOCAL),
        ("..", LOCAL),
        ("/a/b", LOCAL),
        ("./a:b", LOCAL),
        ("/a:b", LOCAL),
        ("a/b", LOCAL),
        ("a/b:c", LOCAL),
        ("a b:c", LOCAL),
        (":x", LOCAL),
        ("a:", LOCAL),
        ("@a:b", LOCAL),
        ("ümlaut:x", LOCAL),
        ("http:/x", SSH),
        ("http:///x", SSH),
        ("HTTP://x", SSH),
        ("1http://x", SSH),
        ("http://h", URL),
        ("http://h/", URL),
        ("http://h:80/x.caidx", URL),
        ("https://user@h/x?q", URL),
        ("http://h;x", URL),
        ("http://[::1]/x", URL),
        ("ftp://h/x", URL),
        ("s3+http://h/x", URL),
        ("http://h x/", SSH),
        ("/http://h", LOCAL),
        ("./http://h", LOCAL),
        ("host:x", SSH),
        ("host:/x", SSH),
        ("user@host:x", SSH),
        ("host.example.org:x y\nz", SSH),
        ("file:///x", LOCAL),
        ("file://localhost/x", LOCAL),
        ("file://other/x", URL),
    ],
)
def test_schemes(locator: str, scheme: Scheme) -> None:
    """By its form alone (casync-format.md §8.2)."""
    assert classify(locator) is scheme


@pytest.mark.parametrize(
    ("locator", "path"),
    [
        ("x", b"x"),
        ("/a/b", b"/a/b"),
        ("./a:b", b"./a:b"),
        ("file:///a%20b/c", b"/a b/c"),
        ("file://localhost/%ff", b"/\xff"),
        ("file:///a?query", b"/a"),
        (os.fsdecode(b"\xff"), b"\xff"),
    ],
)
def test_local_paths(locator: str, path: bytes) -> None:
    """Local locators become bytes; file URLs are unquoted."""
    assert local_path(locator) == path


@pytest.mark.parametrize(
    ("locator", "says"),
    [
        ("http://h/x.caidx", "read as a URL"),
        ("host:x.caidx", "read as an ssh location"),
        ("file://other/x", "read as a URL"),
    ],
)
def test_remote_locations(locator: str, says: str) -> None:
    """Where only a local path will do, that is said, and how a local file of that name is written."""
    with pytest.raises(UsageError) as caught:
        local_path(locator)
    assert says in str(caught.value)
    assert f"./{locator}" in str(caught.value)


def test_empty_path() -> None:
    """An empty argument is not the current directory."""
    with pytest.raises(UsageError, match="an empty path"):
        local_path("")


@pytest.mark.parametrize(
    ("index", "store"),
    [
        (None, "default.castr"),
        ("x.caidx", "default.castr"),
        ("./x.caidx", "./default.castr"),
        ("a/b/x.caidx", "a/b/default.castr"),
        ("/x.caidx", "/default.castr"),
        (b"x.caidx", b"default.castr"),
        (b"host:a/x.caidx", b"host:a/default.castr"),
        (Path("/a/x.caidx"), b"/a/default.castr"),
        ("host:x.caidx", "host:default.castr"),
        ("me@host:a/x.caidx", "me@host:a/default.castr"),
        ("ssh://me@host:22/a/x.caidx", "ssh://me@host:22/a/default.castr"),
        ("foo://host/a/x.caidx?y", "foo://host/a/default.castr"),
    ],
)
def test_default_store(index: PathType | None, store: PathType) -> None:
    """Chunks are beside the index, or here when there is none."""
    assert default_store(index, Settings()) == store


def test_store_by_environment() -> None:
    """$CASYNC_STORE comes before the place beside the index; empty, it counts as unset."""
    assert default_store("a/x.caidx", Settings(environ={"CASYNC_STORE": "/srv/chunks"})) == "/srv/chunks"
    assert default_store("a/x.caidx", Settings(environ={"CASYNC_STORE": ""})) == "a/default.castr"


def test_chunk_suffix_by_environment(tmp_path: Path) -> None:
    """$CASYNC_COMPRESSED_CHUNK_SUFFIX names compressed chunks."""
    id_ = Digest.SHA512_256.of(b"chunk")
    settings = Settings(environ={"CASYNC_COMPRESSED_CHUNK_SUFFIX": ".xz"})
    open_local_store(tmp_path / "s", settings).put(id_, b"chunk")
    assert (tmp_path / "s" / str(id_)[:4] / f"{id_}.xz").exists()


def test_the_library_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is passed in counts."""
    monkeypatch.setenv("CASYNC_STORE", "/srv/chunks")
    assert default_store("a/x.caidx", Settings()) == "a/default.castr"


def test_stores_in_order() -> None:
    """One store stands alone; more are asked in their order."""
    settings = Settings()
    assert not isinstance(open_source("a", [], settings), Layered)
    assert isinstance(open_source("a", ["b", "c"], settings), Layered)


def test_stores_by_any_name(tmp_path: Path) -> None:
    """A store is named by a locator or a path, or is one already."""
    id_ = Digest.SHA512_256.of(b"chunk")
    place = tmp_path / "a:b"
    names: list[PathType] = [f"file://{place}", os.fsencode(place), place]
    for name in names:
        open_store(name, Settings()).put(id_, b"chunk")
        assert (place / str(id_)[:4] / f"{id_}.cacnk").exists()
    store = MemoryStore()
    assert open_store(store, Settings()) is store
    assert open_source(store, [], Settings()) is store
    with pytest.raises(UsageError, match="no helper program"):
        open_store("foo://h/b", Settings())


def test_paths_are_not_locators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes and path objects are never taken for something remote."""
    monkeypatch.chdir(tmp_path)
    assert local_path(b"host:x") == b"host:x"
    assert local_path(Path("host:x")) == b"host:x"
    open_store(b"host:x", Settings()).put(Digest.SHA512_256.of(b"c"), b"c")
    assert (tmp_path / "host:x").is_dir()


def test_indexes_by_any_name(tmp_path: Path) -> None:
    """An index is named by a locator or a path, or is one already."""
    index = IndexBuilder(DEFAULT, ChunkSizes()).build()
    path = tmp_path / "x.caidx"
    path.write_bytes(index.to_bytes())
    places: list[PathType | Index] = [str(path), os.fsencode(path), path, index]
    for where in places:
        assert open_index(where, Settings()) == index


def test_indexes_in_any_place(tmp_path: Path) -> None:
    """An index may lie wherever files do: it is sent when it is whole, and read by its name."""
    data = IndexBuilder(DEFAULT, ChunkSizes()).build().to_bytes()
    for files in (MemoryFiles(), LocalFiles(os.fsencode(tmp_path / "indexes"))):
        with pytest.raises(NotFound, match=r"d/x\.caidx: cannot open: No such file"):
            open_index((files, b"d/x.caidx"), Settings())
        with pytest.raises(KeyError), index_output((files, b"d/x.caidx"), Settings()) as path:
            raise KeyError
        assert files.stat(b"d/x.caidx") is None
        with index_output((files, b"d/x.caidx"), Settings()) as path:
            assert path is not None
            assert path.endswith(b"/x.caidx")
            with open(path, "wb") as file:
                file.write(data)
        assert files.read(b"d/x.caidx", 1 << 20) == data
        assert open_index((files, b"d/x.caidx"), Settings()).to_bytes() == data
        with open(input_path((files, b"d/x.caidx"), Settings()), "rb") as file:
            assert file.read() == data


def test_paths_taken_apart(tmp_path: Path) -> None:
    """A local path is a directory's file."""
    (tmp_path / "x.caidx").write_bytes(b"index")
    for where in (tmp_path / "x.caidx", f"file://{tmp_path}/x.caidx"):
        files, name = index_location(where, Settings())
        assert files.read(name, 10) == b"index"
    files, name = index_location("x.caidx", Settings())
    assert (files.own_paths, name) == ((b".",), b"x.caidx")
