"""Chunk stores and indexes on web servers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from webserver import Reply, WebServer, web_server

from casync_compat.errors import ChunkCorrupt, ChunkMissing, FormatError, NotFound, RemoteError, UsageError
from casync_compat.ids import ChunkId
from casync_compat.locations import Settings, default_store, input_path, on_web, open_index, open_store
from casync_compat.net.exchange import Clock, Exchange
from casync_compat.net.transport import CurlTransport
from casync_compat.store.chunks import ChunkStore
from casync_compat.store.files import Can, Files
from casync_compat.store.http import HttpFiles
from casync_compat.store.memory import MemoryFiles

from .contract import D, SinkContract, StoreRig, text
from .contract_files import FilesContract

QUICK = Clock(sleep=lambda seconds: None, jitter=lambda: 0.5)


@pytest.fixture
def server() -> Iterator[WebServer]:
    with web_server() as running:
        yield running


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    transport = CurlTransport({}, "pycasync")
    yield Exchange(transport, QUICK)
    transport.close()


@pytest.fixture
def files(server: WebServer, exchange: Exchange) -> Files:
    return HttpFiles(server.url + "/some/where/", exchange)


class TestHttpFiles(FilesContract):
    """The contract of places of files."""


class TestWithoutRanges(FilesContract):
    """The same of a server that gives no ranges."""

    @pytest.fixture
    def files(self, server: WebServer, exchange: Exchange) -> Files:
        server.ranges = False
        return HttpFiles(server.url, exchange)


class TestChunks(SinkContract):
    """The contract of chunk stores."""

    lists = False

    @pytest.fixture
    def rig(self, server: WebServer, files: Files) -> StoreRig:
        store = ChunkStore(files)

        def fill(raw: bytes) -> ChunkId:
            store.put(D.of(raw), raw)
            return D.of(raw)

        def damage(id: ChunkId, raw: bytes) -> None:
            memory = MemoryFiles()
            ChunkStore(memory).put(id, raw)
            server.files = {f"/some/where/{os.fsdecode(name)}": c for name, c in memory.contents.items()}

        return StoreRig(store, fill, damage, store)


def filled(server: WebServer, count: int, files: Files) -> list[tuple[ChunkId, int]]:
    store = ChunkStore(files)
    wanted = []
    for n in range(count):
        raw = text(500 + n, n)
        store.put(D.of(raw), raw)
        wanted.append((D.of(raw), len(raw)))
    server.asked.clear()
    return wanted


def test_many_chunks(server: WebServer, files: Files) -> None:
    """A batch costs a request a chunk, and comes in order."""
    wanted = filled(server, 150, files)
    found = ChunkStore(files).get_many(wanted, D)
    assert [D.of(raw) for raw in found] == [id for id, _ in wanted]
    assert len(server.asked) == 150


def test_both_forms(server: WebServer, files: Files) -> None:
    """Compressed and plain chunks side by side."""
    wanted = filled(server, 20, files)
    for id, size in wanted[::2]:
        path = next(path for path in server.files if id.hex() in path)
        del server.files[path]
        server.files[path.removesuffix(".cacnk")] = ChunkStore(MemoryFiles()) and text(
            size, next(n for n in range(20) if D.of(text(size, n)) == id)
        )
    found = ChunkStore(files).get_many(wanted, D)
    assert [D.of(raw) for raw in found] == [id for id, _ in wanted]


def test_a_storm(server: WebServer, files: Files) -> None:
    """What fails for a while is asked for again, one request a chunk, and all is there."""
    wanted = filled(server, 60, files)
    failed: set[str] = set()

    def once(method: str, path: str, *_: object) -> Reply | None:
        if path in failed:
            return None
        failed.add(path)
        return Reply([500, 502, 503, 429][len(failed) % 4], fields=[("Retry-After", "0")])

    server.special = once
    found = ChunkStore(files).get_many(wanted, D)
    assert [D.of(raw) for raw in found] == [id for id, _ in wanted]
    assert len(server.asked) == 120


def test_missing_and_damaged(server: WebServer, files: Files) -> None:
    """A chunk that is missing, and one with a flipped bit, are named, and the server with them."""
    wanted = filled(server, 5, files)
    path = next(path for path in server.files if wanted[2][0].hex() in path)
    good = server.files.pop(path)
    with pytest.raises(ChunkMissing, match=str(wanted[2][0])):
        ChunkStore(files).get_many(wanted, D)
    server.files[path] = good[:-1] + bytes([good[-1] ^ 1])
    with pytest.raises(ChunkCorrupt, match=server.url):
        ChunkStore(files).get_many(wanted, D)


def test_a_chunk_without_end(server: WebServer, files: Files) -> None:
    """Nobody reads more of a chunk than it may have."""
    wanted = filled(server, 1, files)
    server.special = lambda *_: Reply(200, bytes(8 << 20))
    with pytest.raises(ChunkCorrupt):
        ChunkStore(files).get_many([*wanted, *wanted], D)


@pytest.mark.parametrize(
    ("url", "store"),
    [
        ("https://h/x.caidx", "https://h/default.castr"),
        ("http://h:1/a/b/x.caidx", "http://h:1/a/b/default.castr"),
        ("https://h/a/x.caidx?token=1/2", "https://h/a/default.castr"),
    ],
)
def test_default_stores(url: str, store: str) -> None:
    """The store beside a remote index, as casync derives it."""
    assert on_web(url)
    assert default_store(url, Settings()) == store


def test_indexes(server: WebServer, tmp_path: Path) -> None:
    """An index is read where it is; what is no index, or not there, says so and names the URL."""
    from casync_compat.verbs.make import make_blob_index

    source = tmp_path / "blob"
    source.write_bytes(text(300_000))
    made = tmp_path / "x.caibx"
    make_blob_index(os.fsencode(made), os.fsencode(source), ChunkStore(MemoryFiles()))
    server.files = {"/a b/x.caibx": made.read_bytes(), "/bad.caibx": b"no index at all" * 10}
    settings = Settings()
    index = open_index(server.url + "/a%20b/x.caibx?key=1", settings)
    assert index.size == 300_000
    assert server.asked[0][1] == "/a%20b/x.caibx?key=1"
    with pytest.raises(FormatError):
        open_index(server.url + "/bad.caibx", settings)
    with pytest.raises(NotFound, match=r"/none\.caibx"):
        input_path(server.url + "/none.caibx", settings)
    with pytest.raises(UsageError, match="directory"):
        input_path(server.url + "/", settings)


def test_access_is_told(server: WebServer, files: Files) -> None:
    """401 and 403 are not the absence of a file."""
    for status in (401, 403):
        server.special = lambda *_, status=status: Reply(status)  # type: ignore[misc]
        with pytest.raises(RemoteError, match=str(status)):
            files.read(b"x", 10)
        with pytest.raises(RemoteError, match=str(status)):
            files.stat(b"x")


def test_the_form_that_a_server_does_not_give(server: WebServer, files: Files) -> None:
    """desync's chunk-server answers 400 for one of the two forms of a chunk: then it is not there, and no error."""
    (id, size), (other, _) = filled(server, 2, files)
    server.special = lambda method, path, *_: None if path.endswith(".cacnk") else Reply(400)
    store = ChunkStore(files)
    assert D.of(store.get(id, D, size)) == id
    del server.files[next(path for path in server.files if other.hex() in path)]
    with pytest.raises(ChunkMissing):
        ChunkStore(files).get(other, D, size)
    with pytest.raises(ChunkMissing):
        ChunkStore(files).get_many([(id, size), (other, size)], D)
    assert not store.has(other)
    with pytest.raises(RemoteError, match="400"):
        files.stat(b"x.caidx")


def test_what_a_server_cannot(files: Files) -> None:
    """Listing is refused in words."""
    assert Can.LIST not in files.can
    with pytest.raises(UsageError, match="list"):
        open_store("http://127.0.0.1:1/", Settings()).ids().__next__()
