"""A cache in front of a store: what it spares, what it survives, and how it stays within its size."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from casync_compat.errors import ChunkMissing, RemoteError
from casync_compat.ids import ChunkId, Digest
from casync_compat.store.cached import Cached, ChunkCache
from casync_compat.store.local import LocalStore
from casync_compat.store.memory import MemoryStore

from .contract import LIMIT, D, Rig, SourceContract

HOUR = 3600 * 10**9


class Counted(MemoryStore):
    """A store that counts what it is asked for, and can be switched off."""

    asked = 0
    down = False

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        if self.down:
            raise RemoteError(self.name, "read it", "connection refused")
        self.asked += 1
        return super().get(id, digest, limit)


def filled(*raws: bytes) -> Counted:
    """A store with these chunks."""
    store = Counted("origin")
    for raw in raws:
        store.put(D.of(raw), raw)
    return store


def noise(number: int, size: int = 10_000) -> bytes:
    """A chunk that hardly compresses."""
    return b"".join(D.of(b"%d %d" % (number, part)) for part in range(size // 32))


class TestCached(SourceContract):
    """The contract, with the chunk in the store, and in the cache as well."""

    @pytest.fixture(params=[False, True])
    def rig(self, request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
        origin = MemoryStore("origin")
        cached = Cached(origin, ChunkCache(LocalStore(tmp_path / "cache")))

        def fill(raw: bytes) -> ChunkId:
            origin.put(D.of(raw), raw)
            if request.param:
                cached.get(D.of(raw), D, LIMIT)
            return D.of(raw)

        def damage(id: ChunkId, raw: bytes) -> None:
            origin.chunks[id] = raw
            cached.cache.store.remove(id)

        return Rig(cached, fill, damage)


def test_a_chunk_is_fetched_once(tmp_path: Path) -> None:
    """Also by another process with the same cache, and when the store is gone; what is nowhere is missing."""
    origin = filled(b"x", b"y")
    wanted = [(D.of(b"x"), 9), (D.of(b"y"), 9)]
    for _ in range(2):
        cached = Cached(origin, ChunkCache(LocalStore(tmp_path / "cache")))
        assert cached.get_many(wanted, D) == [b"x", b"y"]
        assert cached.get(D.of(b"x"), D, 9) == b"x"
    assert origin.asked == 2
    with pytest.raises(ChunkMissing, match="origin"):
        cached.get(D.of(b"z"), D, 9)
    origin.down = True
    assert cached.get_many(wanted, D) == [b"x", b"y"]


def test_it_is_a_store_for_others(tmp_path: Path) -> None:
    """Its layout is that of a store."""
    Cached(filled(b"x"), ChunkCache(LocalStore(tmp_path / "cache"))).get(D.of(b"x"), D, 9)
    assert LocalStore(tmp_path / "cache").get(D.of(b"x"), D, 9) == b"x"


@pytest.mark.parametrize("rubbish", [b"", b"rubbish", b"\x28\xb5\x2f\xfd\x00\x00\x01\x00\x00"])
def test_damage_is_repaired(tmp_path: Path, rubbish: bytes) -> None:
    """A damaged chunk is fetched again and replaced; nobody is told, since nobody lost anything."""
    origin, warnings = filled(b"x", b"y"), list[str]()
    cached = Cached(origin, ChunkCache(LocalStore(tmp_path / "cache"), warn=warnings.append))
    wanted = [(D.of(b"x"), 9), (D.of(b"y"), 9)]
    cached.get_many(wanted, D)
    (file,) = tmp_path.glob(f"cache/*/{D.of(b'x').hex()}.cacnk")
    file.chmod(0o600)
    file.write_bytes(rubbish)
    assert cached.get_many(wanted, D) == [b"x", b"y"]
    assert origin.asked == 3
    assert cached.get_many(wanted, D) == [b"x", b"y"]
    assert origin.asked == 3
    assert warnings == []


def test_a_cache_that_cannot_be_written_costs_no_run(tmp_path: Path) -> None:
    """One warning, and the store serves alone."""
    (tmp_path / "file").write_bytes(b"")
    warnings: list[str] = []
    cached = Cached(filled(b"x", b"y"), ChunkCache(LocalStore(tmp_path / "file/cache"), warn=warnings.append))
    for _ in range(3):
        assert cached.get_many([(D.of(b"x"), 9), (D.of(b"y"), 9)], D) == [b"x", b"y"]
    (warning,) = warnings
    assert "chunk cache" in warning


def test_what_was_used_longest_ago_goes(tmp_path: Path) -> None:
    """The files keep to the size, and a hit counts as use."""
    now = [10**18]
    raws = [noise(number) for number in range(12)]
    cache = ChunkCache(LocalStore(tmp_path / "cache"), 100_000, clock=lambda: now[0])
    cached = Cached(filled(*raws), cache)

    def files() -> dict[str, Path]:
        return {file.name[:64]: file for file in tmp_path.glob("cache/*/*")}

    for number, raw in enumerate(raws[:9]):
        cached.get(D.of(raw), D, LIMIT)
        stamp = now[0] - (100 - number) * HOUR
        os.utime(files()[D.of(raw).hex()], ns=(stamp, stamp))
    cached.get(D.of(raws[0]), D, LIMIT)  # which makes it the youngest
    for raw in raws[9:]:
        cached.get(D.of(raw), D, LIMIT)
    left = files()
    assert sum(file.stat().st_size for file in left.values()) <= 100_000
    assert D.of(raws[0]).hex() in left
    assert D.of(raws[1]).hex() not in left
    assert D.of(raws[11]).hex() in left


def test_two_processes_keep_to_the_size(tmp_path: Path) -> None:
    """Each looks at what the other has put there before it throws anything away, and survives what that took."""
    raws = [noise(number) for number in range(40)]
    one, two = (Cached(filled(*raws), ChunkCache(LocalStore(tmp_path / "cache"), 100_000)) for _ in range(2))
    for raw, other in zip(raws, reversed(raws), strict=True):
        assert one.get(D.of(raw), D, LIMIT) == raw
        assert two.get(D.of(other), D, LIMIT) == other
    assert sum(file.stat().st_size for file in tmp_path.glob("cache/*/*")) <= 200_000


def test_strangers_stay(tmp_path: Path) -> None:
    """What is no chunk is not the cache's to remove."""
    (tmp_path / "cache/1234").mkdir(parents=True)
    (tmp_path / "cache/1234/notes").write_bytes(bytes(200_000))
    cached = Cached(filled(noise(1)), ChunkCache(LocalStore(tmp_path / "cache"), 15_000))
    cached.get(D.of(noise(1)), D, LIMIT)
    assert (tmp_path / "cache/1234/notes").exists()
    assert list(tmp_path.glob("cache/*/*.cacnk"))
