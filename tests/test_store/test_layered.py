"""Layered keeps the contract of a source, whichever layer has the chunk, and hides damage that a later layer mends."""

from __future__ import annotations

import pytest

from casync_compat.errors import ChunkCorrupt, ChunkMissing, FileError
from casync_compat.ids import ChunkId, Digest
from casync_compat.store.layered import Layered
from casync_compat.store.memory import MemoryStore

from .contract import LIMIT, D, Rig, SourceContract


class Unreachable:
    """A source whose disk is gone."""

    name = "unreachable"

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        raise FileError(b"/gone", "read", OSError(5, "Input/output error"))

    def has(self, id: ChunkId) -> bool:
        raise FileError(b"/gone", "read", OSError(5, "Input/output error"))


class TestLayered(SourceContract):
    """The contract, with the chunk in the first, the second or the last of three layers."""

    @pytest.fixture(params=[0, 1, 2])
    def rig(self, request: pytest.FixtureRequest) -> Rig:
        stores = [MemoryStore(name) for name in ("one", "two", "three")]
        target = stores[request.param]

        def fill(raw: bytes) -> ChunkId:
            target.put(D.of(raw), raw)
            return D.of(raw)

        return Rig(Layered(*stores), fill, target.chunks.__setitem__)


def test_first_layer_wins() -> None:
    """Later layers are not asked when an earlier one has the chunk."""
    store = MemoryStore()
    store.put(D.of(b"x"), b"x")
    layered = Layered(store, Unreachable())
    assert layered.get(D.of(b"x"), D, LIMIT) == b"x"
    assert layered.has(D.of(b"x"))


def test_damage_falls_through() -> None:
    """A chunk that is corrupt in one layer is taken from the next that has it."""
    bad, good = MemoryStore("bad"), MemoryStore("good")
    bad.chunks[D.of(b"x")] = b"y"
    good.put(D.of(b"x"), b"x")
    assert Layered(bad, good).get(D.of(b"x"), D, LIMIT) == b"x"


def test_damage_is_reported_over_absence() -> None:
    """When nobody has it whole, the first damage is the error, not that the last layer lacks it."""
    first, second = MemoryStore("first"), MemoryStore("second")
    first.chunks[D.of(b"x")] = b"y"
    second.chunks[D.of(b"x")] = b"z"
    with pytest.raises(ChunkCorrupt, match="first"):
        Layered(MemoryStore(), first, second, MemoryStore()).get(D.of(b"x"), D, LIMIT)


def test_missing_names_all_layers() -> None:
    """The message says where was looked."""
    with pytest.raises(ChunkMissing, match="one, two"):
        Layered(MemoryStore("one"), MemoryStore("two")).get(D.of(b"x"), D, LIMIT)


def test_unreadable_layer_is_an_error() -> None:
    """A store that cannot be read is not passed over: the chunk might be there."""
    store = MemoryStore()
    store.put(D.of(b"x"), b"x")
    with pytest.raises(FileError):
        Layered(Unreachable(), store).get(D.of(b"x"), D, LIMIT)
    with pytest.raises(FileError):
        Layered(MemoryStore(), Unreachable()).has(D.of(b"y"))
