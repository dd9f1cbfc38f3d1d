"""Serving casync's protocol to who reads."""

from __future__ import annotations

import os
import select
from functools import partial
from pathlib import Path

import pytest
from pipedclient import Client
from trees import content

from casync_compat.chunker import ChunkSizes
from casync_compat.compression import Compression, decompress
from casync_compat.errors import ChunkCorrupt, FileError, FormatError, NotFound, RemoteError
from casync_compat.ids import ChunkId, Digest
from casync_compat.index import Index, IndexBuilder
from casync_compat.protocol import (
    Abort,
    ArchiveEnd,
    ArchivePart,
    ChunkAbsent,
    ChunkReply,
    ChunkRequest,
    Farewell,
    Hello,
    IndexEnd,
    IndexPart,
    Terms,
    encode,
)
from casync_compat.store.local import LocalStore
from casync_compat.store.memory import MemoryStore
from casync_compat.verbs.make import BLOB_FLAGS, make_archive
from casync_compat.verbs.pull import offered, serve_pull

ABSENT = ChunkId(b"?" * 32)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(os.fsencode(tmp_path / "default.castr"))


def fill(store: LocalStore | MemoryStore, count: int, digest: Digest = Digest.SHA512_256) -> list[ChunkId]:
    chunks = [content(2000, seed) for seed in range(count)]
    for chunk in chunks:
        store.put(digest.of(chunk), chunk)
    return [digest.of(chunk) for chunk in chunks]


def an_index(path: Path, ids: list[ChunkId]) -> Index:
    builder = IndexBuilder(BLOB_FLAGS, ChunkSizes())
    for id in ids:
        builder.append(id, 2000)
    index = builder.build()
    path.write_bytes(index.to_bytes())
    return index


def chunks_from(store: LocalStore | MemoryStore) -> Client:
    serve = partial(serve_pull, source=store)
    client = Client(serve, offered(archive=None, index=None, store=store), Terms.PULL_CHUNKS)
    client.greet()
    assert client.hear() == Hello(Terms.READABLE_STORE)
    return client


@pytest.mark.parametrize("compression", [Compression.ZSTD, Compression.NONE, Compression.XZ])
@pytest.mark.parametrize("digest", [Digest.SHA512_256, Digest.SHA256])
def test_chunks(tmp_path: Path, compression: Compression, digest: Digest) -> None:
    """Chunks of any form and digest come checked; what is not there is said to be absent."""
    store = LocalStore(os.fsencode(tmp_path / "store"), compression=compression)
    ids = fill(store, 20, digest)
    with chunks_from(store) as client:
        client.say(ChunkRequest((*ids, ABSENT)))
        found = [client.hear() for _ in range(21)]
        assert found.pop() == ChunkAbsent(ABSENT)
        for id, reply in zip(ids, found, strict=True):
            assert isinstance(reply, ChunkReply)
            assert reply.id == id
            assert digest.of(decompress(reply.data, 2000)) == id
        client.say(Farewell())
        assert client.hear() is None
        assert client.join() is None


def test_stored_form(store: LocalStore) -> None:
    """A compressed file goes out as it is."""
    (id,) = fill(store, 1)
    file = next(Path(os.fsdecode(store.path)).glob("*/*.cacnk"))
    with chunks_from(store) as client:
        client.say(ChunkRequest((id,), urgent=True))
        assert client.hear() == ChunkReply(id, file.read_bytes(), compressed=True)


def test_any_store() -> None:
    """Where chunks are kept otherwise, they are compressed to be sent."""
    store = MemoryStore()
    ids = fill(store, 3)
    with chunks_from(store) as client:
        client.say(ChunkRequest(tuple(ids)))
        assert {reply.id for _ in ids if isinstance(reply := client.hear(), ChunkReply)} == set(ids)


def test_damaged_chunk(store: LocalStore) -> None:
    """A chunk that is not what its name says is not sent; the other side is told."""
    one, two = fill(store, 2)
    names = [Path(os.fsdecode(store.path)) / str(id)[:4] / f"{id}.cacnk" for id in (one, two)]
    names[0].chmod(0o644)
    names[0].write_bytes(names[1].read_bytes())
    with chunks_from(store) as client:
        client.say(ChunkRequest((one,)))
        end = client.hear()
        assert isinstance(end, Abort)
        assert str(one).encode() in end.reason
        assert isinstance(client.join(), ChunkCorrupt)


def test_index_and_chunks(store: LocalStore, tmp_path: Path) -> None:
    """An index comes whole, and what it needs."""
    ids = fill(store, 1000)
    path = tmp_path / "x.caibx"
    an_index(path, ids)
    index = os.fsencode(path)
    terms = offered(archive=None, index=index, store=store)
    with Client(
        partial(serve_pull, index=index, source=store), terms, Terms.PULL_INDEX | Terms.PULL_CHUNKS
    ) as client:
        client.greet()
        assert client.hear() == Hello(Terms.READABLE_INDEX | Terms.READABLE_STORE)
        data = b""
        while isinstance(part := client.hear(), IndexPart):
            data += part.data
        assert part == IndexEnd()
        assert data == path.read_bytes()
        client.say(ChunkRequest(tuple(ids)))
        assert [reply.id for _ in ids if isinstance(reply := client.hear(), ChunkReply)] == ids
        client.hang_up()
        assert client.join() is None


def test_archive(tmp_path: Path) -> None:
    """An archive comes whole."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(content(300_000, 1))
    path = os.fsencode(tmp_path / "x.catar")
    make_archive(path, os.fsencode(tree))
    terms = offered(archive=path, index=None, store=None)
    with Client(partial(serve_pull, archive=path), terms, Terms.PULL_ARCHIVE) as client:
        client.greet()
        assert client.hear() == Hello(Terms.READABLE_ARCHIVE)
        client.hang_up()
        *parts, end = client.hear_all()
        assert end == ArchiveEnd()
        data = b"".join(part.data for part in parts if isinstance(part, ArchivePart))
        assert data == (tmp_path / "x.catar").read_bytes()


@pytest.mark.parametrize("archive", [True, False])
def test_what_cannot_be_sent(tmp_path: Path, archive: bool) -> None:
    """Only archives go out as archives and indexes as indexes: no other file, fifo or directory, and nothing waits."""
    (tmp_path / "key").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n" * 10)
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "fifo")
    for name, kind in (
        ("key", FormatError),
        ("empty", FormatError),
        ("none", NotFound),
        (".", FileError),
        ("fifo", FileError),
    ):
        where = os.fsencode(tmp_path / name)
        terms = Terms.READABLE_ARCHIVE if archive else Terms.READABLE_INDEX
        serve = partial(serve_pull, archive=where) if archive else partial(serve_pull, index=where)
        with Client(serve, terms, Terms.PULL_ARCHIVE if archive else Terms.PULL_INDEX) as client:
            client.greet()
            hello, end = client.hear_all()
            assert hello == Hello(terms)
            assert isinstance(end, Abort)
            assert isinstance(client.join(), kind)


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"\0" * 100,
        encode(ChunkRequest((ABSENT,))),
        encode(Hello(Terms.PULL_ARCHIVE)),
        encode(Hello(Terms.PULL_CHUNKS)) * 2,
        encode(Hello(Terms.PULL_CHUNKS)) + encode(IndexEnd()),
        encode(Hello(Terms.PULL_CHUNKS))
        + (1 << 40).to_bytes(8, "little")
        + b"\x10\x92\x9d\xf8\xe0\x27\xb4\x8a",
        encode(Hello(Terms.PULL_CHUNKS)) + encode(ChunkRequest((ABSENT,)))[:20],
    ],
    ids=["http", "zeros", "no-hello", "other-terms", "twice", "not-agreed", "oversized", "half"],
)
def test_nonsense(store: LocalStore, said: bytes) -> None:
    """Whoever says what it may not is told so, and that is the end."""
    serve = partial(serve_pull, source=store)
    with Client(serve, Terms.READABLE_STORE, Terms.PULL_CHUNKS) as client:
        client.send(said)
        client.hang_up()
        assert isinstance(client.hear_all()[-1], Abort)
        assert isinstance(client.join(), RemoteError)


def test_who_asks_without_reading(store: LocalStore) -> None:
    """Requests without end, of one that reads no answers, are not taken in without end."""
    (id,) = fill(store, 1)
    with chunks_from(store) as client:
        os.set_blocking(client.out, False)
        request, sent = encode(ChunkRequest((id,) * 2000)), 0
        takes = select.poll()
        takes.register(client.out, select.POLLOUT)
        while sent < 64 << 20 and takes.poll(500):
            sent += os.write(client.out, request[sent % len(request) :])
        # What lies in both pipes, in a message, in the queue and before the answers is less than this.
        assert sent < 64 << 20
