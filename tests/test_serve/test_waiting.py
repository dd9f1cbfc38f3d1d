"""Stores that let wait: who asks for something else is answered all the same."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest
from asking import Heard, Message, ask, asked, scope_of

from casync_compat.errors import FileError
from casync_compat.ids import ChunkId, Digest
from casync_compat.serve.application import Application
from casync_compat.serve.settings import Limits, Served
from casync_compat.store.base import ChunkSource
from casync_compat.store.cached import Cached, ChunkCache
from casync_compat.store.files import FileStatus
from casync_compat.store.local import LocalFiles, LocalStore
from casync_compat.store.memory import MemoryStore

D = Digest.SHA512_256
RAWS = [b"chunk %d" % number for number in range(8)]


class Stuck(MemoryStore):
    """A store far away that answers nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__("far")
        self.go = threading.Event()
        self.asked = 0
        for raw in RAWS:
            self.put(D.of(raw), raw)

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        self.asked += 1
        assert self.go.wait(60)
        return super().get(id, digest, limit)

    def has(self, id: ChunkId) -> bool:
        assert self.go.wait(60)
        return super().has(id)


def at(raw: bytes, suffix: str = ".cacnk") -> str:
    id_ = D.of(raw)
    return f"/{id_.hex()[:4]}/{id_}{suffix}"


def local(path: Path, *raws: bytes) -> LocalStore:
    """A store with these chunks."""
    store = LocalStore(path)
    for raw in raws:
        store.put(D.of(raw), raw)
    return store


def while_stuck(application: Application, stuck: Stuck, *asks: tuple[str, str, bytes]) -> list[Heard]:
    """The answers to some requests, one after the other, while as many wait for the store as have threads and more.

    :param asks: methods, paths and bodies
    """

    async def run() -> list[Heard]:
        waiting = [asyncio.create_task(asked(application, "GET", f"/far{at(raw)}")) for raw in RAWS]
        while not stuck.asked:
            await asyncio.sleep(0)
        try:
            async with asyncio.timeout(30):
                return [await asked(application, method, path, body=[body]) for method, path, body in asks]
        finally:
            stuck.go.set()
            assert {each.status for each in await asyncio.gather(*waiting)} == {200}

    try:
        return asyncio.run(run())
    finally:
        application.close()


def test_other_stores_go_on(tmp_path: Path) -> None:
    """Chunks of a store here that nobody has read yet, and of another far away; indexes; what is put; the numbers."""
    stuck, near, other = Stuck(), local(tmp_path / "near", b"near"), Stuck()
    other.go.set()
    files = LocalFiles(bytes(tmp_path))
    files.write(b"x.caibx", b"index")
    files.write(b"large.catar", b"a" * 2_000_000)
    stores: dict[str, ChunkSource] = {"far": stuck, "default": near, "other": other}
    served = Application(
        Served(stores, files, {"far": stuck, "default": near}, True), Limits(threads=2, uploads=2)
    )
    heard = while_stuck(
        served,
        stuck,
        ("GET", at(b"near"), b""),
        ("HEAD", at(b"near", ""), b""),
        ("GET", "/other" + at(RAWS[0]), b""),
        ("GET", "/x.caibx", b""),
        ("GET", "/large.catar", b""),
        ("PUT", at(b"new", ""), b"new"),
        ("GET", "/healthz", b""),
        ("GET", "/metrics", b""),
    )
    assert {each.status for each in heard} == {200}
    assert len(heard[4].body) == 2_000_000


def test_what_is_cached_is_given(tmp_path: Path) -> None:
    """Though the store behind it answers nobody."""
    stuck = Stuck()
    cached = Cached(stuck, ChunkCache(local(tmp_path / "cache", b"cached")))
    served = Application(Served({"far": cached}), Limits(threads=2))
    asks = [
        (method, f"/far{at(b'cached', suffix)}", b"")
        for method in ("HEAD", "GET")
        for suffix in ("", ".xz", ".cacnk")
    ]
    heard = while_stuck(served, stuck, *asks)
    assert {each.status for each in heard} == {200}


class OtherFiles(LocalFiles):
    """Files on a disk, or of another machine. Notes which threads ask for them.

    :ivar asleep: whether a disk is needed
    """

    def __init__(self, path: bytes, *, here: bool) -> None:
        super().__init__(path)
        self.here = here
        self.asleep = False
        self.readers: list[str] = []

    @property
    def one_kernel(self) -> bool:
        return self.here

    def peek(self, name: bytes, size: int) -> tuple[FileStatus, bytes] | None:
        self.readers.append(threading.current_thread().name)
        return super().peek(name, size)

    def in_memory(self, name: bytes, size: int) -> tuple[FileStatus, bytes] | None:
        if self.asleep:
            raise FileError(name, "read", BlockingIOError(errno.EAGAIN, "asleep"))
        self.readers.append(threading.current_thread().name)
        return super().peek(name, size)


@pytest.mark.parametrize(
    ("here", "asleep", "by_thread"), [(True, False, False), (True, True, True), (False, False, True)]
)
def test_a_slow_disk_holds_nobody_up(tmp_path: Path, *, here: bool, asleep: bool, by_thread: bool) -> None:
    """What is not in memory is read by a thread, as is all that may come over a network."""
    store = local(tmp_path, b"near")
    store.files = files = OtherFiles(bytes(tmp_path), here=here)
    served = Application(Served({"default": store}))
    assert ask(served, "GET", at(b"near")).status == 200
    files.asleep = asleep
    files.readers.clear()
    assert ask(served, "GET", at(b"near")).status == 200
    assert [name.startswith("near") for name in files.readers] == [by_thread]
    served.close()


def test_nothing_is_read_for_who_has_gone(tmp_path: Path) -> None:
    """A client that goes away in the middle of a large file costs nothing from then on."""
    files = LocalFiles(bytes(tmp_path))
    files.write(b"large.catar", bytes(20_000_000))
    served = Application(Served(files=files))
    pieces: list[int] = []

    async def run() -> None:
        gone = asyncio.Event()

        async def receive() -> Message:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            pieces.append(len(message.get("body", b"")))
            if len(pieces) == 5:
                gone.set()
            await asyncio.sleep(0)

        async with asyncio.timeout(30):
            await served(scope_of("GET", "/large.catar", {}, "192.0.2.1"), receive, send)

    asyncio.run(run())
    served.close()
    assert 5 <= len(pieces) < 10
    assert sum(pieces) < 1_000_000


def test_size_of_the_cache_is_told(tmp_path: Path) -> None:
    """With what came in since, and how much there may be."""
    far = MemoryStore("far")
    far.put(D.of(b"new"), b"new")
    cache = ChunkCache(local(tmp_path / "cache", b"old"), 1_000_000)
    served = Application(Served({"a": Cached(far, cache), "b": Cached(far, cache)}))

    def told() -> list[str]:
        lines = ask(served, "GET", "/metrics").text.splitlines()
        return [line for line in lines if line.startswith("pycasync_cache_")]

    for _ in range(2):
        files = sum(file.stat().st_size for file in tmp_path.glob("cache/*/*"))
        assert told() == [f"pycasync_cache_bytes {files}", "pycasync_cache_limit_bytes 1000000"]
        assert ask(served, "GET", "/a" + at(b"new")).status == 200
    served.close()


def test_what_clients_want_stays_in_the_cache(tmp_path: Path) -> None:
    """A file's date says when it was used last, also where it is given as it is."""
    cache = ChunkCache(local(tmp_path / "cache", b"old"), 1_000_000)
    served = Application(Served({"default": Cached(MemoryStore("far"), cache)}))
    (file,) = tmp_path.glob("cache/*/*")
    for _ in range(2):
        os.utime(file, (10**9, 10**9))
        assert ask(served, "GET", at(b"old")).status == 200
        assert file.stat().st_mtime > 10**9
        assert ask(served, "GET", at(b"old")).status == 200
    served.close()
