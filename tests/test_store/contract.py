"""What every chunk store promises, as tests. A store's own test derives from a contract and provides a `rig`.

Modelled on restic's `internal/backend/test`. `SourceContract` is for whatever can be read, `SinkContract` adds writing,
`PrunableContract` adds listing and removing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import pytest

from casync_compat.errors import ChunkCorrupt, ChunkMissing, UsageError
from casync_compat.ids import ChunkId, Digest
from casync_compat.store.base import ChunkSink, ChunkSource, Prunable, PrunableTogether
from casync_compat.store.leases import LeaseLost

D = Digest.SHA512_256
LIMIT = 256 << 10


class Store(ChunkSource, ChunkSink, Prunable, Protocol):
    """Everything that a store can be."""


@dataclass(frozen=True)
class Rig:
    """A store under test.

    :ivar source: the store, for reading
    :ivar fill: puts a chunk where `source` finds it
    :ivar damage: replaces the stored bytes of a chunk by what that store would hold for these raw bytes
    """

    source: ChunkSource
    fill: Callable[[bytes], ChunkId]
    damage: Callable[[ChunkId, bytes], None]


@dataclass(frozen=True)
class StoreRig(Rig):
    """A store under test that can also be written and pruned."""

    store: Store


def text(n: int, seed: int = 1) -> bytes:
    """`n` bytes that compress well, and are the same each time."""
    return (b"%d bottles of beer on the wall, %d\n" % (seed, n) * (n // 20 + 1))[:n]


class SourceContract:
    """Reading."""

    @pytest.mark.parametrize("size", [1, 2, 4096, 65536, 131072, 131073, LIMIT - 1, LIMIT])
    def test_returns_what_was_put(self, rig: Rig, size: int) -> None:
        """A chunk comes back byte for byte, up to exactly the limit."""
        raw = text(size)
        id = rig.fill(raw)
        assert rig.source.get(id, D, LIMIT) == raw
        assert rig.source.has(id)

    def test_returns_incompressible_chunks(self, rig: Rig) -> None:
        """A chunk that compression makes larger comes back as well."""
        raw = b"".join(D.of(b"%d" % i) for i in range(LIMIT // 32))
        assert rig.source.get(rig.fill(raw), D, LIMIT) == raw

    def test_missing(self, rig: Rig) -> None:
        """A chunk that is not there is ChunkMissing, with its id and the store's name, in an empty store or not."""
        id = D.of(b"never put")
        for _ in range(2):
            assert not rig.source.has(id)
            with pytest.raises(ChunkMissing) as caught:
                rig.source.get(id, D, LIMIT)
            assert caught.value.id == id
            assert caught.value.where == rig.source.name
            rig.fill(b"another")

    def test_missing_differs_in_the_last_bit(self, rig: Rig) -> None:
        """An id is looked up whole, not by a prefix."""
        id = rig.fill(b"this one")
        near = ChunkId(id[:-1] + bytes([id[-1] ^ 1]))
        assert not rig.source.has(near)
        with pytest.raises(ChunkMissing):
            rig.source.get(near, D, LIMIT)

    def test_reads_are_verified(self, rig: Rig) -> None:
        """Bytes that do not have the id are never handed out."""
        id = rig.fill(b"the truth, the whole truth")
        rig.damage(id, b"the truth, the whole tooth")
        with pytest.raises(ChunkCorrupt) as caught:
            rig.source.get(id, D, LIMIT)
        assert caught.value.id == id
        assert id.hex() in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_digest_decides(self, rig: Rig) -> None:
        """A chunk read with another digest than its id was made with is corrupt."""
        id = rig.fill(b"which digest?")
        with pytest.raises(ChunkCorrupt):
            rig.source.get(id, Digest.SHA256, LIMIT)

    def test_limit(self, rig: Rig) -> None:
        """One byte over the limit is corrupt, although the id matches."""
        id = rig.fill(text(1001))
        assert len(rig.source.get(id, D, 1001)) == 1001
        with pytest.raises(ChunkCorrupt):
            rig.source.get(id, D, 1000)


class SinkContract(SourceContract):
    """Reading and writing."""

    lists = True
    """Whether the store can say what it has."""

    def test_second_put_stores_nothing(self, rig: StoreRig) -> None:
        """The first put says how much it stored, the second that there was nothing to do."""
        raw = text(5000)
        id = D.of(raw)
        first = rig.store.put(id, raw)
        assert first.new
        assert 0 < first.stored <= 5100
        second = rig.store.put(id, raw)
        assert not second.new
        assert second.stored == 0
        assert rig.source.get(id, D, LIMIT) == raw

    @pytest.mark.parametrize(
        "kind", [bytes, bytearray, memoryview, lambda b: memoryview(b + b"tail")[: len(b)]]
    )
    def test_takes_any_buffer(self, rig: StoreRig, kind: Callable[[bytes], bytes]) -> None:
        """Chunks come as slices of a larger buffer."""
        raw = text(3000)
        rig.store.put(D.of(raw), kind(raw))
        assert rig.source.get(D.of(raw), D, LIMIT) == raw

    def test_does_not_keep_the_buffer(self, rig: StoreRig) -> None:
        """The caller may use its buffer again after put."""
        raw = text(3000)
        buffer = bytearray(raw)
        rig.store.put(D.of(raw), buffer)
        buffer[:] = bytes(3000)
        assert rig.source.get(D.of(raw), D, LIMIT) == raw

    def test_refuses_an_empty_chunk(self, rig: StoreRig) -> None:
        """No index can hold an empty chunk, so no store does."""
        with pytest.raises(UsageError):
            rig.store.put(D.of(b""), b"")
        assert not rig.source.has(D.of(b""))

    def test_sync_any_time(self, rig: StoreRig) -> None:
        """sync is fine before the first put, after it, and twice."""
        rig.store.sync()
        rig.store.put(D.of(b"x"), b"x")
        rig.store.sync()
        rig.store.sync()
        assert rig.source.get(D.of(b"x"), D, LIMIT) == b"x"

    def test_eight_threads_put_the_same(self, rig: StoreRig) -> None:
        """Threads racing with the same chunks all succeed, and every chunk is there whole, once."""
        raws = [text(20000 + i, i) for i in range(20)]
        ids = [D.of(raw) for raw in raws]
        start = threading.Barrier(8)
        new: list[ChunkId] = []
        errors: list[BaseException] = []

        def work() -> None:
            try:
                start.wait()
                for id, raw in zip(ids, raws, strict=True):
                    if rig.store.put(id, raw).new:
                        new.append(id)
                    assert rig.store.get(id, D, LIMIT) == raw
            except BaseException as e:
                errors.append(e)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert set(new) == set(ids)
        if self.lists:
            assert list(rig.store.ids()) == sorted(ids)


class PrunableContract(SinkContract):
    """Reading, writing, listing and removing."""

    def test_ids_of_an_empty_store(self, rig: StoreRig) -> None:
        """A store without chunks lists none."""
        assert list(rig.store.ids()) == []

    def test_ids_are_all_and_in_order(self, rig: StoreRig) -> None:
        """Every chunk is listed once, in ascending order."""
        ids = [rig.fill(b"%d" % i) for i in range(50)]
        if self.lists:
            assert list(rig.store.ids()) == sorted(ids)
        assert all(type(id) is ChunkId for id in rig.store.ids())

    def test_remove(self, rig: StoreRig) -> None:
        """A removed chunk is gone, frees what it took, and leaves the others alone."""
        raw = text(4000)
        id, other = D.of(raw), rig.fill(b"other")
        stored = rig.store.put(id, raw).stored
        assert rig.store.remove(id) == stored
        assert not rig.store.has(id)
        with pytest.raises(ChunkMissing):
            rig.store.get(id, D, LIMIT)
        assert list(rig.store.ids()) == [other]

    def test_remove_many(self, rig: StoreRig) -> None:
        """Many chunks that are removed are told of before they go, and the others stay."""
        if not isinstance(rig.store, PrunableTogether):
            pytest.skip("one by one")
        ids = sorted(rig.fill(b"%d" % i) for i in range(30))
        rig.store.sync()
        told: list[ChunkId] = []
        freed = rig.store.remove_many(ids[::3], told.extend)
        assert freed > 0
        assert told == ids[::3]
        assert list(rig.store.ids()) == [id for n, id in enumerate(ids) if n % 3]

        def refuse(some: Sequence[ChunkId]) -> None:
            raise LeaseLost("here", "others write")

        with pytest.raises(LeaseLost):
            rig.store.remove_many(ids[1::3], refuse)
        assert list(rig.store.ids()) == [id for n, id in enumerate(ids) if n % 3]

    def test_remove_what_is_not_there(self, rig: StoreRig) -> None:
        """Removing a missing chunk frees nothing and is no error."""
        assert rig.store.remove(D.of(b"never put")) == 0
        rig.fill(b"x")
        assert rig.store.remove(D.of(b"never put")) == 0

    def test_put_again_after_remove(self, rig: StoreRig) -> None:
        """A removed chunk can be put again."""
        id = rig.fill(b"phoenix")
        rig.store.remove(id)
        assert rig.store.put(id, b"phoenix").new
        assert rig.store.get(id, D, LIMIT) == b"phoenix"

    def test_remove_while_listing(self, rig: StoreRig) -> None:
        """What gc does: walk the ids and remove some on the way."""
        ids = sorted(rig.fill(b"%d" % i) for i in range(20))
        for n, id in enumerate(rig.store.ids()):
            if n % 2:
                rig.store.remove(id)
        assert list(rig.store.ids()) == ids[::2]
