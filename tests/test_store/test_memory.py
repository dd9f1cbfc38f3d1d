"""MemoryStore keeps the contract."""

from __future__ import annotations

import pytest

from casync_compat.ids import ChunkId
from casync_compat.store.memory import MemoryStore

from .contract import D, PrunableContract, StoreRig


class TestMemoryStore(PrunableContract):
    """The contract, over a dictionary."""

    @pytest.fixture
    def rig(self) -> StoreRig:
        store = MemoryStore()

        def fill(raw: bytes) -> ChunkId:
            store.put(D.of(raw), raw)
            return D.of(raw)

        return StoreRig(store, fill, store.chunks.__setitem__, store)

    def test_exactly_one_racer_is_new(self) -> None:
        """Putting one and the same object twice is new once, even one that Python caches."""
        store = MemoryStore()
        assert [store.put(D.of(b"x"), b"x").new for _ in range(3)] == [True, False, False]
