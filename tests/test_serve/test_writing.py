"""What is put over HTTP: checked before it is kept, within limits, and by those who may."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from asking import Heard, Message, ask, asked, scope_of

from casync_compat.chunker.params import ChunkSizes
from casync_compat.compression import Compression, compress
from casync_compat.ids import ChunkId, Digest
from casync_compat.index import IndexBuilder
from casync_compat.serve.access import NOTHING, Grant, Rules
from casync_compat.serve.application import Application
from casync_compat.serve.settings import Limits, Served
from casync_compat.store.local import LocalFiles, LocalStore

D = Digest.SHA512_256
RAW = b"some chunk " * 500
ID = D.of(RAW)


def at(id: ChunkId, suffix: str = ".cacnk") -> str:
    return f"/{id.hex()[:4]}/{id}{suffix}"


def index_of(*raws: bytes) -> bytes:
    """An index of chunks in that order."""
    builder = IndexBuilder(0xB000000000000000, ChunkSizes(1, 1 << 12, 1 << 16))
    for raw in raws:
        builder.append(D.of(raw), len(raw))
    return builder.build().to_bytes()


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def files(tmp_path: Path) -> LocalFiles:
    return LocalFiles(bytes(tmp_path / "files"))


@pytest.fixture
def served(store: LocalStore, files: LocalFiles) -> Iterator[Application]:
    """Both, to be written to."""
    limits = Limits(chunk=100_000, index=10_000)
    application = Application(Served({"default": store}, files, {"default": store}, True), limits)
    yield application
    application.close()


def put(served: Application, path: str, body: bytes, **fields: str) -> Heard:
    return ask(served, "PUT", path, fields, [body[: len(body) // 2], body[len(body) // 2 :]])


@pytest.mark.parametrize(
    ("suffix", "body"),
    [
        ("", RAW),
        (".cacnk", compress(Compression.ZSTD, RAW)),
        (".cacnk", compress(Compression.XZ, RAW)),
        (".xz", compress(Compression.XZ, RAW)),
    ],
)
def test_chunk_is_kept(served: Application, store: LocalStore, suffix: str, body: bytes) -> None:
    """In the form that its suffix says; what is there already is put again without harm."""
    for _ in range(2):
        assert put(served, at(ID, suffix), body).status == 200
        assert store.get(ID, D, 1 << 20) == RAW
        assert ask(served, "GET", at(ID, "")).body == RAW


@pytest.mark.parametrize("digest", list(Digest))
def test_chunk_of_any_digest(served: Application, digest: Digest) -> None:
    """A chunk is right if any digest says so."""
    assert put(served, at(digest.of(RAW), ""), RAW).status == 200


WRONG = {
    "another": (".cacnk", compress(Compression.ZSTD, b"another"), 415),
    "another plain": ("", b"another", 415),
    "plain": (".cacnk", RAW, 415),
    "cut": (".cacnk", compress(Compression.ZSTD, RAW)[:-1], 415),
    "more": (".cacnk", compress(Compression.ZSTD, RAW) + b"x", 415),
    "compressed": ("", compress(Compression.ZSTD, RAW), 415),
    "bomb": (".cacnk", compress(Compression.ZSTD, b"\0" * (50 << 20)), 415),
    "too large": ("", b"x" * 100_001, 413),
    "empty": ("", b"", 415),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_chunk(served: Application, store: LocalStore, what: str) -> None:
    """Nothing of it is kept."""
    suffix, body, status = WRONG[what]
    assert put(served, at(ID, suffix), body).status == status
    assert not Path(store.files.name).exists()


def test_index_after_its_chunks(served: Application, files: LocalFiles) -> None:
    """An index is refused until all that it needs is there; then others find it."""
    other = b"another chunk"
    body = index_of(RAW, other, RAW)
    put(served, at(ID, ""), RAW)
    heard = put(served, "/deep/x.caibx", body)
    assert heard.status == 409
    assert str(D.of(other)) in heard.text
    assert ask(served, "GET", "/deep/x.caibx").status == 404
    put(served, at(D.of(other), ""), other)
    assert put(served, "/deep/x.caibx", body).status == 200
    assert ask(served, "GET", "/deep/x.caibx").body == body


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/x.caibx", b"nonsense", 415),
        ("/x.caibx", b"", 415),
        ("/x.caibx", b"x" * 10_001, 413),
        ("/x.catar", b"x", 400),
        ("/x", b"x", 400),
        ("/metrics", b"x", 400),
        ("/../x.caibx", b"x", 400),
    ],
)
def test_what_is_no_index(
    served: Application, files: LocalFiles, path: str, body: bytes, status: int
) -> None:
    """Nothing of it is kept, and nothing lands where it should not."""
    assert put(served, path, body).status == status
    assert not Path(files.name).exists()


def test_read_only(store: LocalStore, files: LocalFiles) -> None:
    """Without leave to write, nobody does: the status is desync's."""
    served = Application(Served({"default": store}, files))
    for path in (at(ID, ""), "/x.caibx"):
        heard = put(served, path, RAW)
        assert (heard.status, "not enabled" in heard.text) == (400, True)
    assert not Path(store.files.name).exists()


def test_who_may_write(store: LocalStore, files: LocalFiles) -> None:
    """Who may read one store may not write it; who may write the store may not write indexes."""
    rules = Rules(
        None,
        {
            sha256(b"reader").hexdigest(): Grant(frozenset({"*"}), known=True),
            sha256(b"writer").hexdigest(): Grant(frozenset(), frozenset({"a"}), known=True),
        },
        NOTHING,
    )
    served = Application(Served({"a": store, "b": store}, files, {"a": store, "b": store}, True), None, rules)

    def status(path: str, token: str | None) -> int:
        fields = {} if token is None else {"authorization": f"Bearer {token}"}
        return put(served, path, RAW, **fields).status

    for path in (f"/a{at(ID, '')}", f"/b{at(ID, '')}", "/x.caibx"):
        assert status(path, None) == 401
        assert status(path, "reader") == 403
    assert status(f"/b{at(ID, '')}", "writer") == 403
    assert status("/x.caibx", "writer") == 403
    assert not Path(store.files.name).exists()
    assert status(f"/a{at(ID, '')}", "writer") == 200


def test_client_that_goes_away(served: Application, store: LocalStore) -> None:
    """Half a chunk is no chunk, whatever its half would be."""
    heard = ask(served, "PUT", at(ID, ""), {"content-length": "99999"}, [RAW], lost=True)
    assert heard.status == 400
    heard = ask(served, "PUT", at(ID, ""), {"content-length": "99999"}, [RAW])
    assert heard.status == 400
    assert not Path(store.files.name).exists()


def test_too_large_is_not_read(served: Application) -> None:
    """A body that says its size is refused before any of it is read; one that does not, as soon as it is too large."""
    read = 0

    async def run(fields: dict[str, str]) -> int:
        sent: list[Message] = []

        async def receive() -> Message:
            nonlocal read
            read += 1
            return {"type": "http.request", "body": b"x" * 60_000, "more_body": True}

        async def send(message: Message) -> None:
            sent.append(message)

        await served(scope_of("PUT", at(ID, ""), fields, "192.0.2.1"), receive, send)
        status: int = sent[0]["status"]
        return status

    assert (asyncio.run(run({"content-length": str(10**12)})), read) == (413, 0)
    assert (asyncio.run(run({})), read) == (413, 2)


def test_slow_bodies(store: LocalStore) -> None:
    """A body that stops coming, or comes in drops, is given up, and others who wait for their turn get it."""
    limits = Limits(receive=0.05, slowest=10**6, uploads=1)
    served = Application(Served({"default": store}, None, {"default": store}, True), limits)

    async def slow(drops: bool) -> int:
        sent: list[Message] = []

        async def receive() -> Message:
            await asyncio.sleep(0.01 if drops else 60)
            return {"type": "http.request", "body": b"x", "more_body": True}

        async def send(message: Message) -> None:
            sent.append(message)

        await served(scope_of("PUT", at(ID, ""), {}, "192.0.2.1"), receive, send)
        status: int = sent[0]["status"]
        return status

    async def run() -> list[Any]:
        return await asyncio.gather(slow(False), slow(True), asked(served, "PUT", at(ID, ""), {}, [RAW]))

    one, two, three = asyncio.run(run())
    assert (one, two, three.status) == (408, 408, 200)


def test_conditions(served: Application, files: LocalFiles) -> None:
    """An index that has to be new replaces none, and one that has to replace a known one replaces no other."""
    for raw in (RAW, b"other"):
        put(served, at(D.of(raw)), compress(Compression.ZSTD, raw))
    first, second = index_of(RAW), index_of(RAW, b"other")

    def put_if(body: bytes, **fields: str) -> int:
        return put(
            served, "/x.caibx", body, **{name.replace("_", "-"): value for name, value in fields.items()}
        ).status

    assert put_if(first, if_match="*") == 412
    assert put_if(first, if_match='"some"') == 412
    assert put_if(first, if_none_match="*") == 200
    assert put_if(second, if_none_match="*") == 412
    tag = ask(served, "GET", "/x.caibx").fields["etag"]
    assert put_if(second, if_none_match=tag) == 412
    assert put_if(second, if_match=f"W/{tag}") == 412
    assert put_if(second, if_unmodified_since="Mon, 01 Jan 2001 00:00:00 GMT") == 412
    assert files.read(b"x.caibx", 10_000) == first
    assert put_if(second, if_match=f'"other", {tag}') == 200
    assert put_if(first, if_match=tag) == 412
    assert files.read(b"x.caibx", 10_000) == second
    assert put_if(first, if_match="*") == 200


def test_who_was_quicker(served: Application, files: LocalFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look and the write another index may come; it stays."""
    put(served, at(D.of(RAW)), compress(Compression.ZSTD, RAW))
    sync = LocalStore.sync

    def meanwhile(store: LocalStore) -> None:
        sync(store)
        files.write(b"x.caibx", b"of another")

    monkeypatch.setattr(LocalStore, "sync", meanwhile)
    assert put(served, "/x.caibx", index_of(RAW), **{"if-none-match": "*"}).status == 412
    assert files.read(b"x.caibx", 100) == b"of another"
