"""What is read over HTTP: chunks in each form, indexes and archives, conditions and ranges, and who may."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from asking import Heard, ask, asked

from casync_compat.compression import Compression, compress, decompress
from casync_compat.errors import RemoteError
from casync_compat.ids import ChunkId, Digest
from casync_compat.serve.access import NOTHING, Grant, Rules
from casync_compat.serve.application import Application
from casync_compat.serve.settings import Limits, Served
from casync_compat.store.layered import Layered
from casync_compat.store.local import LocalFiles, LocalStore
from casync_compat.store.memory import MemoryStore

D = Digest.SHA512_256
RAW = b"some chunk " * 500
ID = D.of(RAW)
AT = f"/{ID.hex()[:4]}/{ID}"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """A store with one chunk."""
    store = LocalStore(tmp_path / "store")
    store.put(ID, RAW)
    return store


@pytest.fixture
def files(tmp_path: Path) -> LocalFiles:
    """A directory with an index, by its name, and an archive in a directory."""
    place = LocalFiles(bytes(tmp_path / "files"))
    place.write(b"x.caibx", b"0123456789")
    place.write(b"deep/er/x.catar", b"a" * 3_000_000)
    place.write(b"secret.txt", b"no")
    return place


@pytest.fixture
def served(store: LocalStore, files: LocalFiles) -> Iterator[Application]:
    """Both."""
    application = Application(Served({"default": store}, files))
    yield application
    application.close()


@pytest.mark.parametrize("prefix", ["", "/default.castr", "/", "/default.castr/", "/%64efault.castr"])
def test_chunk_as_it_is_stored(served: Application, store: LocalStore, prefix: str) -> None:
    """Where desync asks, and where casync does, the stored bytes are given, with all that lets caches keep them."""
    stored = store.files.read(AT[1:].encode() + b".cacnk", 1 << 20)
    for _ in range(2):  # checked, and known to be right
        heard = ask(served, "GET", f"{prefix}{AT}.cacnk")
        assert (heard.status, heard.body) == (200, stored)
        assert "immutable" in heard.fields["cache-control"]
        assert "public" in heard.fields["cache-control"]
    head = ask(served, "HEAD", f"{prefix}{AT}.cacnk")
    assert (head.status, head.body, head.fields["content-length"]) == (200, b"", str(len(heard.body)))
    assert head.fields["etag"] == heard.fields["etag"]


@pytest.mark.parametrize("stored", [Compression.ZSTD, Compression.XZ, Compression.GZIP, Compression.NONE])
def test_every_form_of_every_store(tmp_path: Path, stored: Compression) -> None:
    """Whatever a chunk is stored as, a client has it in the form that its suffix says."""
    store = LocalStore(tmp_path / "store", compression=stored)
    store.put(ID, RAW)
    served = Application(Served({"default": store}))
    magic = {".cacnk": b"\x28\xb5\x2f\xfd", ".xz": b"\xfd7zXZ", ".gz": b"\x1f\x8b"}
    for _ in range(2):
        assert ask(served, "GET", AT).body == RAW
        for suffix, start in magic.items():
            body = ask(served, "GET", f"{AT}{suffix}").body
            assert body.startswith(start)
            assert decompress(body, len(RAW)) == RAW
    served.close()


def test_chunks_of_any_digest(tmp_path: Path) -> None:
    """Nobody says which digest names a chunk."""
    store, memory = LocalStore(tmp_path / "store"), MemoryStore("far")
    for digest in (Digest.SHA256, Digest.BLAKE3, D):
        store.put(digest.of(RAW), RAW)
        memory.put(digest.of(RAW), RAW)
    served = Application(Served({"default": store, "far": memory}))
    for digest in Digest:
        id_ = digest.of(RAW)
        for prefix in ("", "/far"):
            assert ask(served, "GET", f"{prefix}/{id_.hex()[:4]}/{id_}").body == RAW


def test_damaged_chunk_is_not_given(store: LocalStore, served: Application) -> None:
    """Neither at first nor once a file that was right has been changed; and it is given again when it was repaired."""
    path = Path(f"{store.files.name}{AT}.cacnk")
    good = path.read_bytes()
    assert ask(served, "GET", f"{AT}.cacnk").status == 200
    for bad in (compress(Compression.ZSTD, b"another"), good[:-1], b""):
        path.unlink()
        path.write_bytes(bad)
        heard = ask(served, "GET", f"{AT}.cacnk")
        assert heard.status in (404, 500)
        assert bad == b"" or bad not in heard.body
    path.unlink()
    path.write_bytes(good)
    assert ask(served, "GET", f"{AT}.cacnk").body == good


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"/{'0' * 4}/{'0' * 64}.cacnk", 404),
        (f"/{'0' * 4}/{'0' * 64}", 404),
        (f"/{'1' * 4}/{'0' * 64}.cacnk", 400),
        (f"{AT}.zip", 400),
        (f"/nowhere{AT}.cacnk", 400),
        (f"/a/b{AT}.cacnk", 400),
        (f"/default{AT}.cacnk", 400),
        (f"/{ID}.cacnk", 400),
        (f"/{'0' * 4}/{'0' * 63}.cacnk", 404),
        ("/y.caibx", 404),
        ("/secret.txt", 404),
        ("/", 404),
        ("/..%2f..%2fetc%2fpasswd", 400),
        ("/../x.caibx", 400),
        ("/%2e%2e/files/x.caibx", 400),
        ("/deep/../x.caibx", 400),
        ("/./x.caibx", 400),
        ("/x.caibx%00.txt", 400),
        ("/x%0a.caibx", 400),
        ("/x.caibx/", 404),
        ("*", 400),
        ("/" + "a" * 5000 + ".caibx", 400),
        ("/" + "a" * 300 + ".caibx", 400),
        ("/" + "/".join(["a"] * 2000) + ".caibx", 404),
    ],
)
def test_what_is_not_there(served: Application, path: str, status: int) -> None:
    """Each has an answer that says so, for GET and HEAD alike; none leads out of what is served."""
    assert ask(served, "GET", path).status == status
    assert ask(served, "HEAD", path).status == status


def test_other_methods(served: Application) -> None:
    """Are told which there are."""
    for method in ("POST", "DELETE", "OPTIONS", "PROPFIND"):
        heard = ask(served, method, f"{AT}.cacnk")
        assert (heard.status, heard.fields["allow"]) == (405, "GET, HEAD, PUT")


def test_files(served: Application) -> None:
    """Indexes and archives are given whole and in parts, small and large; other files are not."""
    heard = ask(served, "GET", "/x.caibx")
    assert (heard.status, heard.body) == (200, b"0123456789")
    assert heard.fields["cache-control"] == "no-cache"
    assert ask(served, "HEAD", "/x.caibx").fields["content-length"] == "10"
    assert ask(served, "GET", "/deep//er/x.catar").body == b"a" * 3_000_000
    part = ask(served, "GET", "/deep/er/x.catar", {"range": "bytes=10-1999999"})
    assert (part.status, part.body) == (206, b"a" * 1_999_990)
    assert part.fields["content-range"] == "bytes 10-1999999/3000000"


@pytest.mark.parametrize("path", ["/x.caibx", f"{AT}.cacnk", AT])
def test_what_a_client_has_already(served: Application, path: str) -> None:
    """By its tag, among others, weak or not."""
    tag = ask(served, "GET", path).fields["etag"]
    for known in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        heard = ask(served, "GET", path, {"if-none-match": known})
        assert (heard.status, heard.body, heard.fields["etag"]) == (304, b"", tag)
    assert ask(served, "GET", path, {"if-none-match": '"other"'}).status == 200


def test_dates_of_files(served: Application, files: LocalFiles) -> None:
    """A client that has only the date is told so, too."""
    date = ask(served, "GET", "/x.caibx").fields["last-modified"]
    assert ask(served, "GET", "/x.caibx", {"if-modified-since": date}).status == 304
    for other in ("Thu, 01 Jan 1970 00:00:00 GMT", "nonsense"):
        assert ask(served, "GET", "/x.caibx", {"if-modified-since": other}).status == 200


RANGES = [
    ("bytes=0-3", 206, slice(0, 4)),
    ("bytes=2-", 206, slice(2, None)),
    ("bytes=-3", 206, slice(-3, None)),
    ("bytes=-99999999", 206, slice(None)),
    ("bytes=5-99999999", 206, slice(5, None)),
    ("bytes=99999999-", 416, None),
    ("bytes=-0", 416, None),
    ("bytes=3-2", 200, slice(None)),
    ("bytes=0-1,3-4", 200, slice(None)),
    ("lines=0-1", 200, slice(None)),
    ("bytes=" + "9" * 30 + "-", 200, slice(None)),
]


@pytest.mark.parametrize(("asked_for", "status", "part"), RANGES)
@pytest.mark.parametrize("path", ["/x.caibx", f"{AT}.cacnk", AT])
def test_ranges(served: Application, path: str, asked_for: str, status: int, part: slice | None) -> None:
    """A part is given as RFC 9110 has it; of what it leaves open all is given."""
    whole = ask(served, "GET", path)
    heard = ask(served, "GET", path, {"range": asked_for})
    assert heard.status == status
    if part is None:
        assert heard.fields["content-range"] == f"bytes */{len(whole.body)}"
    else:
        assert heard.body == whole.body[part]
    same = ask(served, "GET", path, {"range": "bytes=0-3", "if-range": whole.fields["etag"]})
    assert same.status == 206
    assert ask(served, "GET", path, {"range": "bytes=0-3", "if-range": '"other"'}).body == whole.body


class Slow(MemoryStore):
    """A store that lets its first question wait, and counts."""

    def __init__(self) -> None:
        super().__init__("far")
        self.asked: list[ChunkId] = []
        self.go = threading.Event()
        self.down = False

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        self.asked.append(id)
        assert self.go.wait(30)
        if self.down:
            raise RemoteError("https://user:secret@far", "read it", "connection refused")
        return super().get(id, digest, limit)


def test_one_question_for_many(store: LocalStore) -> None:
    """Many clients who want the same chunk at once cost the store behind one question, and a client that goes away in
    the meantime costs the others nothing."""
    far = Slow()
    far.put(ID, RAW)
    served = Application(Served({"default": far}))

    async def many() -> list[Heard]:
        clients = [asyncio.create_task(asked(served, "GET", f"{AT}.cacnk")) for _ in range(50)]
        while not far.asked:
            await asyncio.sleep(0)
        clients.pop(0).cancel()
        far.go.set()
        return await asyncio.gather(*clients)

    heard = asyncio.run(many())
    assert len({each.body for each in heard}) == 1
    assert {each.status for each in heard} == {200}
    assert far.asked == [ID]


def test_too_many_wait() -> None:
    """Who comes when too many wait is told to come back."""
    far = Slow()
    far.put(ID, RAW)
    served = Application(Served({"default": far}), Limits(waiting=1))

    async def two() -> tuple[Heard, Heard]:
        first = asyncio.create_task(asked(served, "GET", AT))
        while not far.asked:
            await asyncio.sleep(0)
        second = await asked(served, "GET", f"{AT}.cacnk")
        far.go.set()
        return await first, second

    first, second = asyncio.run(two())
    assert (first.status, second.status, second.fields["retry-after"]) == (200, 503, "1")


def test_store_behind_is_down() -> None:
    """The client learns that, and not where it is."""
    far = Slow()
    far.down = True
    far.go.set()
    said: list[str] = []
    served = Application(Served({"default": far}), tell=said.append)
    heard = ask(served, "GET", AT)
    assert heard.status == 502
    assert b"far" not in heard.body
    assert "connection refused" in said[0]


def test_compositions_and_names(tmp_path: Path, store: LocalStore) -> None:
    """Several stores without a name are one; one with a name is under its own, and only there."""
    other, third = b"of another", b"of a third"
    second, named = LocalStore(tmp_path / "second"), LocalStore(tmp_path / "third")
    second.put(D.of(other), other)
    named.put(D.of(third), third)
    served = Application(Served({"default": Layered(store, second), "third": named}))

    def at(raw: bytes, prefix: str = "") -> Heard:
        id_ = D.of(raw)
        return ask(served, "GET", f"{prefix}/{id_.hex()[:4]}/{id_}")

    assert [at(raw).body for raw in (RAW, other)] == [RAW, other]
    assert at(third).status == 404
    assert at(third, "/third").body == third
    assert at(RAW, "/third").status == 404


TOKEN = {"authorization": "Bearer secret"}
RULES = Rules(b"Token letmein", {sha256(b"secret").hexdigest(): Grant(frozenset({"a"}), known=True)}, NOTHING)


def test_who_may_read(store: LocalStore, files: LocalFiles) -> None:
    """desync's whole field opens all, a token what its row says, nothing nothing; a page asks a browser to log in."""
    served = Application(Served({"a": store, "b": store}, files), access=RULES)
    basic = base64.b64encode(b"anybody:secret").decode()

    def status(path: str, **fields: str) -> int:
        return ask(served, "GET", path, fields).status

    for path in (f"/a{AT}", f"/b{AT}", "/x.caibx", "/", "/metrics", "/..", f"{AT}.zip"):
        assert status(path) == 401
        assert status(path, authorization="Token wrong") == 401
        assert status(path, authorization="Basic ???") == 401
    for shown in ("Bearer secret", f"Basic {basic}"):
        assert status(f"/a{AT}", authorization=shown) == 200
        assert status(f"/b{AT}", authorization=shown) == 403
        assert status("/x.caibx", authorization=shown) == 403
        assert status("/metrics", authorization=shown) == 403
    for path in (f"/a{AT}", f"/b{AT}", "/x.caibx", "/metrics"):
        assert status(path, authorization="Token letmein") == 200
    assert status("/healthz") == 200
    assert "private" in ask(served, "GET", f"/a{AT}", TOKEN).fields["cache-control"]


def test_rate_of_an_address(store: LocalStore) -> None:
    """Who asks too often is told so; others are not slowed down by it."""
    served = Application(Served({"default": store}), Limits(rate=2))
    told = [ask(served, "GET", AT, client="192.0.2.1").status for _ in range(6)]
    assert told[:2] == [200, 200]
    assert told[-1] == 429
    assert ask(served, "GET", AT, client="192.0.2.2").status == 200


def test_metrics(served: Application) -> None:
    """What was asked is counted, as Prometheus reads it."""
    for path in (AT, AT, f"/{'0' * 4}/{'0' * 64}", "/x.caibx"):
        ask(served, "GET", path)
    lines = ask(served, "GET", "/metrics").text.splitlines()
    assert 'pycasync_requests_total{method="GET",store="default",status="200"} 2' in lines
    assert f'pycasync_sent_bytes_total{{store="default"}} {2 * len(RAW)}' in lines
    assert 'pycasync_chunks_total{store="default",hit="true"} 2' in lines
    assert any(line.startswith("# TYPE pycasync_upstream_seconds_total counter") for line in lines)


@pytest.mark.parametrize("path", [AT, "/x.caibx"])
def test_what_has_to_be_the_same(served: Application, path: str) -> None:
    """Who goes on with what he has a part of gets no part of another."""
    tag = ask(served, "GET", path).fields["etag"]
    for value, status in (("*", 200), (tag, 200), (f'"x", {tag}', 200), ('"x"', 412), (f"W/{tag}", 412)):
        assert ask(served, "GET", path, {"if-match": value}).status == status
    old = {"if-unmodified-since": "Mon, 01 Jan 2001 00:00:00 GMT"}
    assert ask(served, "GET", "/x.caibx", old).status == 412
    new = {"if-unmodified-since": "Fri, 01 Jan 2100 00:00:00 GMT"}
    assert ask(served, "GET", "/x.caibx", new).status == 200
