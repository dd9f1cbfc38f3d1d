"""Serving casync's protocol to who writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from pipedclient import Client
from trees import content

from casync_compat.chunker import ChunkSizes
from casync_compat.compression import Compression, compress
from casync_compat.errors import CasyncError, ChunkCorrupt, ChunkMissing, FormatError, RemoteError, UsageError
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
    Message,
    Terms,
)
from casync_compat.store.base import Put
from casync_compat.store.local import LocalStore
from casync_compat.verbs.make import BLOB_FLAGS
from casync_compat.verbs.push import serve_push

BOTH = Terms.WRITABLE_INDEX | Terms.WRITABLE_STORE
PUSH = Terms.PUSH_INDEX | Terms.PUSH_CHUNKS | Terms.PUSH_INDEX_CHUNKS
SIZE = 2000
CHUNKS = {Digest.SHA512_256.of(chunk): chunk for chunk in (content(SIZE, seed) for seed in range(300))}


class Watched(LocalStore):
    """A store that tells the order of things."""

    def __init__(self, path: Path, target: Path) -> None:
        super().__init__(os.fsencode(path))
        self.target = target
        self.puts: list[ChunkId] = []
        self.synced_before_index = False

    def put(self, id: ChunkId, data: bytes) -> Put:  # type: ignore[override]
        self.puts.append(id)
        return super().put(id, data)

    def sync(self) -> None:
        super().sync()
        self.synced_before_index = not self.target.exists()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "there").mkdir()
    return tmp_path / "there" / "x.caibx"


@pytest.fixture
def store(tmp_path: Path, target: Path) -> Watched:
    return Watched(tmp_path / "default.castr", target)


def an_index(ids: list[ChunkId]) -> Index:
    builder = IndexBuilder(BLOB_FLAGS, ChunkSizes())
    for id in ids:
        builder.append(id, SIZE)
    return builder.build()


@contextmanager
def output(target: Path) -> Iterator[bytes]:
    yield os.fsencode(target)


def pushing(target: Path, store: Watched | None, offered: Terms = BOTH, terms: Terms = PUSH) -> Client:
    client = Client(partial(serve_push, output=partial(output, target), store=store), offered, terms)
    client.greet()
    assert client.hear() == Hello(offered)
    return client


def send_index(client: Client, data: bytes) -> None:
    for at in range(0, len(data), 1000):
        client.say(IndexPart(data[at : at + 1000]))
    client.say(IndexEnd())


def reply_to(client: Client, message: Message | None) -> None:
    assert isinstance(message, ChunkRequest)
    client.say(
        *(ChunkReply(id, compress(Compression.ZSTD, CHUNKS[id]), compressed=True) for id in message.ids)
    )


def nothing_appeared(target: Path) -> bool:
    return not os.listdir(target.parent)


def test_index_and_chunks(target: Path, store: Watched) -> None:
    """What is not there is asked for, once; all is durable before the index appears, and that before the last word."""
    ids = list(CHUNKS)
    for id in ids[:100]:
        store.put(id, CHUNKS[id])
    store.puts.clear()
    data = an_index(ids + ids[50:250]).to_bytes()
    with pushing(target, store) as client:
        send_index(client, data)
        while (message := client.hear()) != Farewell():
            assert nothing_appeared(target)
            reply_to(client, message)
        assert target.read_bytes() == data
        assert client.join() is None
    assert sorted(store.puts) == sorted(ids[100:])
    assert store.synced_before_index
    assert all(store.get(id, Digest.SHA512_256, SIZE) == CHUNKS[id] for id in ids)


def test_archive(target: Path) -> None:
    """An archive appears whole, or not at all."""
    for whole in (False, True):
        with pushing(target, None, Terms.WRITABLE_ARCHIVE, Terms.PUSH_ARCHIVE) as client:
            client.say(ArchivePart(b"first"), ArchivePart(b"second"))
            if whole:
                client.say(ArchiveEnd())
                assert client.hear() == Farewell()
                assert target.read_bytes() == b"firstsecond"
            else:
                client.hang_up()
                assert isinstance(client.join(), RemoteError)
                assert nothing_appeared(target)


def test_index_alone(target: Path) -> None:
    """An index whose chunks go elsewhere is taken; chunks whose index goes elsewhere are not, as nobody would ask."""
    data = an_index(list(CHUNKS)).to_bytes()
    with pushing(target, None, Terms.WRITABLE_INDEX, Terms.PUSH_INDEX) as client:
        send_index(client, data)
        assert client.hear() == Farewell()
    assert target.read_bytes() == data


def test_chunks_alone(target: Path, store: Watched) -> None:
    """Chunks whose index goes elsewhere are refused, in words, where casync loses them."""
    with pushing(target, store, Terms.WRITABLE_STORE, Terms.PUSH_CHUNKS) as client:
        assert isinstance(client.hear(), Abort)
        assert isinstance(client.join(), UsageError)


def _wrong(client: Client, ids: list[ChunkId], kind: str) -> None:
    first = ids[0]
    good = ChunkReply(first, compress(Compression.ZSTD, CHUNKS[first]), compressed=True)
    client.say(
        *{
            "another": [ChunkReply(first, CHUNKS[ids[1]], compressed=False)],
            "short": [ChunkReply(first, CHUNKS[first][:-1], compressed=False)],
            "bomb": [ChunkReply(first, compress(Compression.ZSTD, bytes(64 << 20)), compressed=True)],
            "no-frame": [ChunkReply(first, b"garbage", compressed=True)],
            "absent": [ChunkAbsent(first)],
            "not-asked": [ChunkReply(ChunkId(b"?" * 32), b"x", compressed=False)],
            "twice": [good, good],
            "farewell": [Farewell()],
            "abort": [Abort(28, b"no space")],
            "another-index": [IndexPart(b"x")],
        }[kind]
    )


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("another", ChunkCorrupt),
        ("short", ChunkCorrupt),
        ("bomb", ChunkCorrupt),
        ("no-frame", ChunkCorrupt),
        ("absent", ChunkMissing),
        ("not-asked", RemoteError),
        ("twice", RemoteError),
        ("farewell", RemoteError),
        ("abort", RemoteError),
        ("another-index", RemoteError),
    ],
)
def test_hostile_chunks(target: Path, store: Watched, kind: str, error: type[CasyncError]) -> None:
    """What is not what was asked for ends it: no index appears, and nothing is kept that lies."""
    ids = list(CHUNKS)[:20]
    with pushing(target, store) as client:
        send_index(client, an_index(ids).to_bytes())
        assert isinstance(client.hear(), ChunkRequest)
        _wrong(client, ids, kind)
        client.hang_up()
        assert isinstance(client.join(), error)
        assert isinstance(client.hear_all()[-1], Abort)
    assert nothing_appeared(target)
    kept = set(store.ids())
    assert kept <= {ids[0]} if kind == "twice" else not kept


@pytest.mark.parametrize("kind", ["garbage", "cut", "trailing", "falling", "empty"])
def test_hostile_indexes(target: Path, store: Watched, kind: str) -> None:
    """What is no index is refused as soon as that shows, and does not appear."""
    data = an_index(list(CHUNKS)[:50]).to_bytes()
    falling = bytearray(data)
    falling[64 + 40 : 64 + 48] = (1).to_bytes(8, "little")
    sent = {
        "garbage": b"GET / HTTP/1.0\r\n\r\n" * 10,
        "cut": data[:-1],
        "trailing": data + b"x",
        "falling": bytes(falling),
        "empty": b"",
    }[kind]
    with pushing(target, store) as client:
        send_index(client, sent)
        client.hang_up()
        assert isinstance(client.join(), FormatError)
        assert isinstance(client.hear_all()[-1], Abort)
    assert nothing_appeared(target)


@pytest.mark.parametrize("after", ["hello", "half", "requests"])
def test_who_goes(target: Path, store: Watched, after: str) -> None:
    """Whoever goes before the end leaves no index behind."""
    with pushing(target, store) as client:
        data = an_index(list(CHUNKS)).to_bytes()
        if after == "half":
            client.say(IndexPart(data[: len(data) // 2]))
        if after == "requests":
            send_index(client, data)
            reply_to(client, client.hear())
        client.hang_up()
        assert isinstance(client.join(), RemoteError)
    assert nothing_appeared(target)


def test_no_more_asked_for_than_there_is_room_for(target: Path, store: Watched) -> None:
    """An index of very many chunks does not have all of them asked for at once."""
    ids = [ChunkId(number.to_bytes(32, "big")) for number in range(1, 20_000)]
    with pushing(target, store) as client:
        send_index(client, an_index(ids).to_bytes())
        client.hang_up()
        client.join()
        asked = [message for message in client.hear_all() if isinstance(message, ChunkRequest)]
    assert 0 < sum(len(message.ids) for message in asked) <= 4096 + 64


def test_leases(target: Path, store: Watched) -> None:
    """While chunks come, collectors of garbage know."""
    ids = list(CHUNKS)[:5]
    with pushing(target, store) as client:
        send_index(client, an_index(ids).to_bytes())
        message = client.hear()
        leases = [path for path in Path(os.fsdecode(store.path)).rglob("*") if "lease" in str(path).lower()]
        assert any(path.is_file() for path in leases)
        reply_to(client, message)
        while (message := client.hear()) != Farewell():
            reply_to(client, message)
