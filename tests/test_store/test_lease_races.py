"""Two makes, a collection and an extract at once on a store that is far away: in whatever order, and whoever dies.

Every request is a turn, and chance says whose turn is next; the same chance for the same seed. Time passes where a run
sleeps, and dates are whole seconds, as those of S3 are.
"""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from casync_compat.chunker import ChunkSizes
from casync_compat.errors import CasyncError
from casync_compat.ids import ChunkId
from casync_compat.index import Index, IndexBuilder
from casync_compat.store.chunks import ChunkStore
from casync_compat.store.files import FileStatus, Listed, Version
from casync_compat.store.leases import LeaseLost, Pace, StoreBusy
from casync_compat.store.memory import MemoryFiles
from casync_compat.streams.leasing import collecting, writing
from casync_compat.verbs.gc import collect_garbage
from catar import flags

from .contract import LIMIT, D
from .test_packed_races import Killed, Turns

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class World:
    """A bucket, the indexes that there are, and a clock.

    :ivar hurry: how much longer a sleep lasts than whoever sleeps believes
    """

    def __init__(self, seed: int, actors: int, hurry: float) -> None:
        self.files = MemoryFiles("bucket")
        self.indexes: dict[str, Index] = {}
        self.turns = Turns(seed, actors)
        self.now = 1000.0
        self.hurry = hurry
        self.actors: dict[int, int] = {}

    def turn(self) -> None:
        """Wait for one's turn."""
        self.turns.take(self.actors[threading.get_ident()])

    def sleep(self, seconds: float) -> None:
        self.turn()
        self.now += seconds * self.hurry


class Requests(MemoryFiles):
    """The bucket as one of them sees it: each request is a turn, and at one of them he dies."""

    near = False
    paged = True

    def __init__(self, world: World, dies: int) -> None:
        super().__init__("bucket")
        self.contents, self._written, self._lock = (
            world.files.contents,
            world.files._written,
            world.files._lock,
        )
        self._world = world
        self._left = dies or -1

    def _step(self) -> None:
        if not self._left:
            raise Killed
        self._world.turn()
        self._left -= 1
        if not self._left:
            raise Killed

    def read(self, name: bytes, limit: int) -> bytes | None:
        self._step()
        return super().read(name, limit)

    def stat(self, name: bytes) -> FileStatus | None:
        self._step()
        return super().stat(name)

    def write(
        self, name: bytes, data: ReadableBuffer, *, if_absent: bool = False, if_version: Version | None = None
    ) -> Version:
        self._step()
        version = self._world.files.write(name, data, if_absent=if_absent, if_version=if_version)
        self._written[name] = (int(self._world.now) * 10**9, self._written[name][1])
        if self._left == 1:  # done, but he never knew
            self._left = 0
            raise Killed
        return version

    def remove(self, name: bytes) -> int:
        self._step()
        return super().remove(name)

    def list(
        self, prefix: bytes = b"", *, under: re.Pattern[bytes] | None = None, details: bool = True
    ) -> Iterator[Listed]:
        self._step()
        yield from self._world.files.list(prefix, under=under, details=details)


def raw(number: int) -> bytes:
    return b"chunk number %d" % number


def index_of(numbers: range) -> Index:
    builder = IndexBuilder(flags.DEFAULT, ChunkSizes())
    for number in numbers:
        builder.append(D.of(raw(number)), len(raw(number)))
    return builder.build()


def chunks_of(numbers: range) -> list[tuple[ChunkId, ReadableBuffer]]:
    return [(D.of(raw(number)), raw(number)) for number in numbers]


def make(world: World, store: ChunkStore, name: str, numbers: range, *, deaths: bool) -> None:
    """A make: chunks, and then the index that needs them."""
    index = index_of(numbers)
    with writing(store, "make", wait=1e9) as lease:
        for begin in range(0, len(numbers), 3):
            store.put_many(chunks_of(numbers[begin : begin + 3]))
        lease.keep(index)
        if not deaths:  # else it may last longer than a lease
            world.turn()
        world.indexes[name] = index


def collect(world: World, store: ChunkStore) -> None:
    """A collection that keeps what those indexes need that were there when it was asked for."""
    collect_garbage(store, list(world.indexes.values()), wait=1e9)


def extract(store: ChunkStore, numbers: range) -> None:
    for number in numbers:
        assert store.get(D.of(raw(number)), D, LIMIT) == raw(number)


def play(world: World, dies: int, monkeypatch: pytest.MonkeyPatch, *, deaths: bool) -> list[str]:
    """Let them all run. How each ended: "done", "killed", or "refused" for one that has to be run again."""
    pace = Pace(clock=lambda: world.now, sleep=world.sleep)
    for run in (writing, collecting):
        monkeypatch.setitem(run.__wrapped__.__kwdefaults__, "pace", pace)  # type: ignore[attr-defined]
    old, first, second, garbage = range(8), range(4, 20), range(14, 30), range(26, 40)
    before = ChunkStore(world.files)
    before.put_many([*chunks_of(old), *chunks_of(garbage)])
    world.indexes["old"] = index_of(old)
    jobs: list[Callable[[ChunkStore], None]] = [
        lambda store: make(world, store, "first", first, deaths=deaths),
        lambda store: make(world, store, "second", second, deaths=deaths),
        lambda store: collect(world, store),
        lambda store: extract(store, old),
    ]
    ends = [""] * len(jobs)
    errors: list[BaseException] = []

    def run(number: int) -> None:
        world.actors[threading.get_ident()] = number
        requests = Requests(world, dies // len(jobs) + 1 if deaths and dies % len(jobs) == number else 0)
        try:
            jobs[number](ChunkStore(requests))
            ends[number] = "done"
        except Killed:
            ends[number] = "killed"
        except (LeaseLost, StoreBusy):
            ends[number] = "refused"
        except BaseException as error:
            errors.append(error)
        finally:
            world.turns.end()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return ends


def assert_nothing_is_lost(world: World) -> None:
    """Every chunk that an index needs is there."""
    store = ChunkStore(world.files)
    for name, index in world.indexes.items():
        for chunk in index:
            try:
                store.get(chunk.id, D, LIMIT)
            except CasyncError as error:
                raise AssertionError(f"{name} has lost a chunk: {error}") from None


@pytest.mark.parametrize("seed", range(60))
def test_all_at_once(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All come to their ends, and nothing is lost."""
    world = World(seed, 4, hurry=0.01)
    assert play(world, 0, monkeypatch, deaths=False) == ["done"] * 4
    assert set(world.indexes) == {"old", "first", "second"}
    assert_nothing_is_lost(world)
    assert not [name for name in world.files.contents if name.startswith(b".pycasync/")]


@pytest.mark.parametrize("seed", range(60))
def test_one_is_killed(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is killed, at whatever moment: the others come to their ends, or are told to run again."""
    world = World(seed, 4, hurry=50.0)
    dies = random.Random(seed).randrange(120)
    ends = play(world, dies, monkeypatch, deaths=True)
    assert ends.count("killed") <= 1
    for name, end in zip(("first", "second"), ends, strict=False):
        assert end != "done" or name in world.indexes
    assert ends[3] in ("done", "killed")
    assert_nothing_is_lost(world)
