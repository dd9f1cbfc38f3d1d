"""Packed stores with several at work at once: whatever their order, and wherever one dies, nothing is lost."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pytest

from casync_compat.store.files import Files, FileStatus, Version
from casync_compat.store.memory import MemoryFiles
from casync_compat.store.packs import filling, repacking

from .contract import LIMIT, D
from .test_packed import assert_whole, chunk, put_all, store_in

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class Killed(BaseException):
    """The end of a run, at any moment."""


class Turns:
    """Lets threads go on one at a time, in an order that chance decides, the same for the same seed."""

    def __init__(self, seed: int, actors: int) -> None:
        self._chance = random.Random(seed)
        self._changed = threading.Condition()
        self._alive = actors
        self._waiting: set[int] = set()
        self._next: int | None = None

    def _choose(self) -> None:
        if self._waiting and len(self._waiting) == self._alive and self._next is None:
            self._next = self._chance.choice(sorted(self._waiting))
            self._changed.notify_all()

    def take(self, actor: int) -> None:
        with self._changed:
            self._waiting.add(actor)
            self._choose()
            assert self._changed.wait_for(lambda: self._next == actor, timeout=30)
            self._waiting.discard(actor)
            self._next = None

    def end(self) -> None:
        with self._changed:
            self._alive -= 1
            self._choose()


class Shared(MemoryFiles):
    """Files that several use, each by turns; one of them dies at a certain step, before or after it was done."""

    near = False

    def __init__(self, base: MemoryFiles, turns: Turns, actor: int, dies: int) -> None:
        super().__init__()
        self.contents, self._written, self._lock = base.contents, base._written, base._lock
        self._base = base
        self._turns, self._actor, self._dies, self._steps = turns, actor, dies, 0

    def _step(self) -> None:
        self._turns.take(self._actor)
        self._steps += 1
        if self._steps == self._dies:
            raise Killed

    def peek(self, name: bytes, size: int) -> tuple[FileStatus, bytes] | None:
        self._step()
        return super().peek(name, size)

    def read(self, name: bytes, limit: int) -> bytes | None:
        self._step()
        return super().read(name, limit)

    def read_range(self, name: bytes, offset: int, size: int) -> bytes | None:
        self._step()
        return super().read_range(name, offset, size)

    def write(
        self, name: bytes, data: ReadableBuffer, *, if_absent: bool = False, if_version: Version | None = None
    ) -> Version:
        self._step()
        version = self._base.write(name, data, if_absent=if_absent, if_version=if_version)
        if self._steps + 1 == self._dies:
            raise Killed
        return version

    def remove(self, name: bytes) -> int:
        self._step()
        return super().remove(name)


def interleaved(
    files: MemoryFiles, seed: int, actors: Sequence[Callable[[Files], object]], dies: int
) -> list[bool]:
    """Run them at once, by turns; number `dies % actors` dies on the way. Returns who came to his end."""
    turns = Turns(seed, len(actors))
    done = [False] * len(actors)
    errors: list[BaseException] = []

    def run(number: int) -> None:
        shared = Shared(files, turns, number, dies // len(actors) if dies % len(actors) == number else 0)
        try:
            actors[number](shared)
            done[number] = True
        except Killed:
            pass
        except BaseException as error:
            errors.append(error)
        finally:
            turns.end()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(actors))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return done


def assert_head_is_true(files: MemoryFiles) -> None:
    """All that the head names is there, and every chunk in the index is what it should be."""
    store = store_in(files)
    for segment in store.view().segments.values():
        for pack in segment.packs:
            assert len(files.contents[store.place.pack_name(pack.sha256)]) == pack.size
    for id in store.ids():
        store.get(id, D, LIMIT)


@pytest.mark.parametrize("seed", range(100))
def test_two_writers_a_reader_and_a_collection(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever their order, and wherever one of them dies: who came to his end has lost nothing, and no head lies."""
    monkeypatch.setattr(filling, "PACK_SIZE", 3000)
    monkeypatch.setattr(repacking, "_GRACE", 0)
    monkeypatch.setattr("casync_compat.store.packs.place._PAUSE", 0.0)
    files = MemoryFiles()
    live, dead = [chunk(n, 500) for n in range(10)], [chunk(n, 500) for n in range(50, 80)]
    both = [raw for pair in zip(live * 3, dead, strict=True) for raw in pair]
    put_all(store_in(files), both[:20])
    put_all(store_in(files), both[20:])

    def writer(raws: list[bytes]) -> Callable[[Files], object]:
        return lambda shared: put_all(store_in(shared), raws)

    def reader(shared: Files) -> None:
        store = store_in(shared)
        for raw in live:
            assert store.get(D.of(raw), D, LIMIT) == raw

    def collector(shared: Files) -> None:
        store = store_in(shared)
        for raw in dead:
            store.remove(D.of(raw))
        store.repack()

    first = live[:5] + [chunk(n, 500) for n in range(100, 112)]
    second = [chunk(n, 500) for n in range(106, 120)] + live[5:]
    dies = seed % 97 if seed % 4 else 0
    done = interleaved(files, seed, [writer(first), writer(second), collector, reader], dies)
    assert sum(done) >= 3
    assert_head_is_true(files)
    assert_whole(files, live)
    for came_to_his_end, raws in zip(done, (first, second), strict=False):
        if came_to_his_end:
            assert_whole(files, raws)
    store_in(files).repack()
    assert_head_is_true(files)
    assert_whole(files, live)
