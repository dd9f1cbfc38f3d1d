"""A failover group keeps the contract of a source, survives members that fail, and comes back to the first."""

from __future__ import annotations

import pytest

from casync_compat.errors import ChunkCorrupt, ChunkMissing, FileError, RemoteError
from casync_compat.ids import ChunkId, Digest
from casync_compat.store.chunks import ChunkStore
from casync_compat.store.failover import FailoverGroup
from casync_compat.store.memory import MemoryFiles, MemoryStore

from .contract import LIMIT, D, Rig, SourceContract


class Server:
    """A store that can be switched off."""

    def __init__(self, name: str, *raws: bytes) -> None:
        self.name = name
        self.store = MemoryStore(name)
        self.error: Exception | None = None
        self.asked = 0
        for raw in raws:
            self.store.put(D.of(raw), raw)

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.store.get(id, digest, limit)

    def has(self, id: ChunkId) -> bool:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.store.has(id)


def refused(name: str) -> RemoteError:
    """What a server that is down gives."""
    return RemoteError(name, "read it", "connection refused")


class TestGroup(SourceContract):
    """The contract, with the first member well, and down."""

    @pytest.fixture(params=[False, True])
    def rig(self, request: pytest.FixtureRequest) -> Rig:
        first, second = Server("one"), Server("two")
        if request.param:
            first.error = refused("one")

        def fill(raw: bytes) -> ChunkId:
            for server in (first, second):
                server.store.put(D.of(raw), raw)
            return D.of(raw)

        def damage(id: ChunkId, raw: bytes) -> None:
            for server in (first, second):
                server.store.chunks[id] = raw

        return Rig(_Named(FailoverGroup(first, second), "two" if request.param else "one"), fill, damage)


class _Named:
    """A group under the name that its errors have: that of the member which said it."""

    def __init__(self, group: FailoverGroup, name: str) -> None:
        self.group = group
        self.name = name

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        return self.group.get(id, digest, limit)

    def has(self, id: ChunkId) -> bool:
        return self.group.has(id)


def test_one_at_a_time_and_back_to_the_first() -> None:
    """The second is asked while the first is down; the first is tried after a while, and asked once it is back."""
    one, two, now = Server("one", b"x"), Server("two", b"x"), [0.0]
    warnings: list[str] = []
    group = FailoverGroup(one, two, warn=warnings.append, clock=lambda: now[0])
    assert group.get(D.of(b"x"), D, LIMIT) == b"x"
    assert (one.asked, two.asked) == (1, 0)
    one.error = refused("one")
    for _ in range(5):
        assert group.get(D.of(b"x"), D, LIMIT) == b"x"
    assert (one.asked, two.asked) == (2, 5)
    now[0] += 60  # tried, and still down
    assert group.get(D.of(b"x"), D, LIMIT) == b"x"
    assert (one.asked, two.asked) == (3, 6)
    one.error = None
    assert group.get(D.of(b"x"), D, LIMIT) == b"x"
    assert (one.asked, two.asked) == (3, 7)
    now[0] += 60
    for _ in range(3):
        assert group.get(D.of(b"x"), D, LIMIT) == b"x"
    assert (one.asked, two.asked) == (6, 7)
    assert len(warnings) == 1


def test_one_caller_tries_a_member_that_was_down() -> None:
    """Others are not kept waiting for it meanwhile."""
    one, two, now = Server("one", b"x"), Server("two", b"x"), [0.0]
    group = FailoverGroup(one, two, clock=lambda: now[0])
    one.error = refused("one")
    group.get(D.of(b"x"), D, LIMIT)
    now[0] += 60
    assert [group.members[0].ready(), group.members[0].ready()] == [True, False]


def test_a_missing_chunk_is_missing() -> None:
    """All members have the same chunks: the others are not asked."""
    one, two = Server("one"), Server("two", b"x")
    with pytest.raises(ChunkMissing):
        FailoverGroup(one, two).get(D.of(b"x"), D, LIMIT)
    assert two.asked == 0


def test_a_damaged_chunk_is_told_and_taken_from_another() -> None:
    """That member stays the one that is asked."""
    one, two = Server("one", b"x", b"y"), Server("two", b"x")
    one.store.chunks[D.of(b"x")] = b"z"
    warnings: list[str] = []
    group = FailoverGroup(one, two, warn=warnings.append)
    assert group.get(D.of(b"x"), D, LIMIT) == b"x"
    assert group.get(D.of(b"y"), D, LIMIT) == b"y"
    (warning,) = warnings
    assert "one" in warning
    assert str(D.of(b"x")) in warning
    two.store.chunks[D.of(b"x")] = b"z"
    with pytest.raises(ChunkCorrupt):
        group.get(D.of(b"x"), D, LIMIT)


def test_all_down_names_all_reasons() -> None:
    """Local stores that cannot be read count, too."""
    one, two = Server("one"), Server("two")
    one.error = refused("https://one")
    two.error = FileError(b"/srv/two", "read", OSError(5, "Input/output error"))
    with pytest.raises(RemoteError) as caught:
        FailoverGroup(one, two).get(D.of(b"x"), D, LIMIT)
    for part in ("https://one: ", "/srv/two: ", str(D.of(b"x"))):
        assert part in str(caught.value)
    two.error = None
    assert not FailoverGroup(one, two).has(D.of(b"x"))


def test_batches() -> None:
    """Several chunks at once come from one member, damaged ones from another."""
    one, two = Server("one", b"x", b"y"), Server("two", b"x", b"y")
    one.store.chunks[D.of(b"y")] = b"z"
    group = FailoverGroup(one, two)
    assert group.get_many([(D.of(b"x"), 9), (D.of(b"y"), 9)], D) == [b"x", b"y"]


def test_far_members_are_asked_ahead() -> None:
    """The one that is asked at the moment; should it fail meanwhile, the next one answers."""

    class Far(ChunkStore):
        begun = 0
        down = False

        def begin_finding(self, wanted, digest):  # type: ignore[no-untyped-def]
            self.begun += 1
            found = super().begin_finding(wanted, digest)

            def answers():  # type: ignore[no-untyped-def]
                if self.down:
                    raise refused(self.name)
                return found()

            return answers

    one, two = Far(MemoryFiles(), name="one"), Far(MemoryFiles(), name="two")
    for member in (one, two):
        member.put(D.of(b"x"), b"x")
        member.far = member.eager = True
    group = FailoverGroup(one, two)
    assert (group.far, group.eager) == (True, True)
    collect = group.begin([(D.of(b"x"), 9)], D)
    assert (one.begun, two.begun) == (1, 0)
    one.down = True
    assert collect() == [b"x"]
    assert group.begin([(D.of(b"x"), 9)], D)() == [b"x"]
    assert one.begun == 1
