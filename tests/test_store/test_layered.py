"""Layered keeps the contract of a source, whichever layer has the chunk, and hides damage that a later layer mends."""

from __future__ import annotations

import pytest

from casync_compat.errors import AccessDenied, ChunkCorrupt, ChunkMissing, FileError, RemoteError
from casync_compat.ids import ChunkId, Digest
from casync_compat.store.chunks import ChunkStore
from casync_compat.store.layered import Layered
from casync_compat.store.memory import MemoryFiles, MemoryStore

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


class Down:
    """A server that does not answer."""

    def __init__(self, name: str, error: type[RemoteError] = RemoteError) -> None:
        self.name = name
        self.error = error
        self.asked = 0

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        self.asked += 1
        raise self.error(self.name, "read it", "connection refused")

    def has(self, id: ChunkId) -> bool:
        self.asked += 1
        raise self.error(self.name, "look for it", "connection refused")


def store_with(name: str, *raws: bytes) -> ChunkStore:
    """A store over files in memory."""
    store = ChunkStore(MemoryFiles(), name=name)
    for raw in raws:
        store.put(D.of(raw), raw)
    return store


def test_batches_go_through_the_layers() -> None:
    """Each layer is asked at once for all that those before it lack."""

    class Counting(ChunkStore):
        asked: list[int]

        def begin_finding(self, wanted, digest):  # type: ignore[no-untyped-def]
            self.asked.append(len(wanted))
            return super().begin_finding(wanted, digest)

    layers = []
    raws = [b"%d" % number for number in range(10)]
    for part in (raws[::2], raws[1:4], raws[4:]):
        layer = Counting(MemoryFiles())
        layer.asked = []
        for raw in part:
            layer.put(D.of(raw), raw)
        layers.append(layer)
    assert Layered(*layers).get_many([(D.of(raw), 9) for raw in raws], D) == raws
    assert [layer.asked for layer in layers] == [[10], [5], [3]]


def test_damage_is_told_once_it_is_mended() -> None:
    """Store and chunk are named, one line."""
    bad, good = store_with("bad", b"x"), store_with("good", b"x")
    bad.files.write(bad.forms(D.of(b"x"))[1].name, b"rubbish")
    warnings: list[str] = []
    assert Layered(bad, good, warn=warnings.append).get_many([(D.of(b"x"), 9)], D) == [b"x"]
    (warning,) = warnings
    assert str(D.of(b"x")) in warning
    assert "good" in warning


def test_a_server_that_is_down_is_told_once_and_passed_over() -> None:
    """It costs one attempt, not one a chunk; after a while it is tried again."""
    down, now = Down("https://down"), [0.0]
    warnings: list[str] = []
    store = store_with("good", b"x", b"y")
    layered = Layered(down, store, warn=warnings.append, clock=lambda: now[0])
    for raw in (b"x", b"y", b"x", b"y"):
        assert layered.get(D.of(raw), D, LIMIT) == raw
    assert layered.has(D.of(b"x"))
    assert down.asked == 1
    (warning,) = warnings
    assert "https://down: cannot read it: connection refused" in warning
    now[0] += 3600
    assert layered.get(D.of(b"x"), D, LIMIT) == b"x"
    assert down.asked == 2
    assert len(warnings) == 1


def test_what_only_a_server_that_is_down_may_have_is_not_missing() -> None:
    """The error is its own, and says who lacks the chunk."""
    layered = Layered(Down("https://down", AccessDenied), MemoryStore("empty"))
    with pytest.raises(AccessDenied, match="https://down") as caught:
        layered.get(D.of(b"x"), D, LIMIT)
    assert caught.value.__notes__ == [f"chunk {D.of(b'x')} is missing from empty"]
    with pytest.raises(RemoteError):
        layered.has(D.of(b"x"))


def test_all_reasons_are_named() -> None:
    """With more than one server down, each has its reason in one line."""
    layered = Layered(Down("https://one"), MemoryStore("empty"), Down("https://two"))
    with pytest.raises(RemoteError) as caught:
        layered.get(D.of(b"x"), D, LIMIT)
    for part in ("https://one: ", "https://two: ", "missing from empty", str(D.of(b"x"))):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_layers_of_layers_are_one_chain() -> None:
    """What fails is said once, and what is missing is said of each."""
    inner = Layered(Down("https://one"), MemoryStore("empty"))
    with pytest.raises(RemoteError) as caught:
        Layered(MemoryStore("the seeds"), inner).get(D.of(b"x"), D, LIMIT)
    assert caught.value.__notes__ == [f"chunk {D.of(b'x')} is missing from the seeds, empty"]


class Far(ChunkStore):
    """A store far away that is asked at once, and tells for what."""

    def __init__(self, name: str, *raws: bytes) -> None:
        super().__init__(MemoryFiles(), name=name)
        for raw in raws:
            self.put(D.of(raw), raw)
        self.far = self.eager = True
        self.begun: list[int] = []
        self.down = False

    def begin_finding(self, wanted, digest):  # type: ignore[no-untyped-def]
        self.begun.append(len(wanted))
        found = super().begin_finding(wanted, digest)

        def answers():  # type: ignore[no-untyped-def]
            if self.down:
                raise RemoteError(self.name, "read it", "connection refused")
            return found()

        return answers


def test_far_layers_are_asked_ahead() -> None:
    """What no nearer layer has is asked for before anybody waits; what one has is not asked for at all."""
    near, far = store_with("near", b"1", b"2"), Far("far", b"2", b"3", b"4")
    layered = Layered(near, far)
    assert (layered.far, layered.eager) == (True, True)
    wanted = [(D.of(raw), 9) for raw in (b"1", b"3", b"2", b"4")]
    collect = layered.begin(wanted, D)
    assert far.begun == [2]
    assert collect() == [b"1", b"3", b"2", b"4"]
    assert far.begun == [2]
    near.files.write(near.forms(D.of(b"2"))[1].name, b"rubbish")  # which `has` does not see
    assert layered.begin(wanted, D)() == [b"1", b"3", b"2", b"4"]
    far.down = True
    with pytest.raises(RemoteError, match="far"):
        layered.begin(wanted, D)()
    assert Layered(far, store_with("last", b"4")).begin([(D.of(b"4"), 9)], D)() == [b"4"]
