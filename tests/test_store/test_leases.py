"""Who writes and who collects garbage wait for one another; whoever died is not waited for, and nobody leaves a trace.

Time passes where a run sleeps, and nowhere else; what others do meanwhile, they do then.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from casync_compat.chunker import ChunkSizes
from casync_compat.errors import FileError, UsageError
from casync_compat.ids import ChunkId, Digest
from casync_compat.index import Index, IndexBuilder
from casync_compat.store import leases
from casync_compat.store.chunks import ChunkStore
from casync_compat.store.files import Files
from casync_compat.store.leases import LeaseLost, Leases, Pace, StoreBusy
from casync_compat.store.local import LocalFiles, LocalStore
from casync_compat.store.memory import MemoryFiles, MemoryStore
from casync_compat.streams.leasing import Lease, busy, collecting, writing
from casync_compat.verbs.gc import GcResult, collect_garbage
from catar import flags

LOCK = b".pycasync/gc"


def chunk(number: int) -> bytes:
    return b"chunk number %d" % number


def id_of(number: int) -> ChunkId:
    return Digest.SHA512_256.of(chunk(number))


def index_of(*numbers: int) -> Index:
    builder = IndexBuilder(flags.DEFAULT, ChunkSizes())
    for number in numbers:
        builder.append(id_of(number), len(chunk(number)))
    return builder.build()


def put(store: ChunkStore, *numbers: int) -> None:
    for number in numbers:
        store.put(id_of(number), chunk(number))


@dataclass
class Time:
    """A clock that stands still until somebody sleeps; `meanwhile` is called then, once each."""

    now: float = 1000.0
    meanwhile: list[Callable[[], object]] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.meanwhile:
            self.meanwhile.pop(0)()

    @property
    def pace(self) -> Pace:
        return Pace(clock=lambda: self.now, sleep=self.sleep)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    """The clock that every run of the test goes by."""
    clock = Time()
    for run in (writing, collecting):
        monkeypatch.setitem(run.__wrapped__.__kwdefaults__, "pace", clock.pace)  # type: ignore[attr-defined]
    return clock


@pytest.fixture(params=["directory", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ChunkStore:
    """A store with the chunks 0 to 5."""
    made = LocalStore(tmp_path / "x.castr") if request.param == "directory" else ChunkStore(MemoryFiles())
    put(made, *range(6))
    return made


def beside_chunks(store: ChunkStore) -> list[bytes]:
    """What lies in the store besides chunks."""
    return [file.name for file in store.files.list() if b".pycasync" in file.name]


def set_back(store: ChunkStore, name: bytes, seconds: float) -> None:
    """Let a file be older than it is."""
    if isinstance(store, LocalStore):
        path = os.path.join(store.path, name)
        when = os.stat(path).st_mtime - seconds
        os.utime(path, (when, when))
    else:
        assert isinstance(store.files, MemoryFiles)
        modified, version = store.files._written[name]
        store.files._written[name] = (modified - int(seconds * 1e9), version)


def numbers_in(store: ChunkStore) -> set[int]:
    there = set(store.ids())
    return {number for number in range(20) if id_of(number) in there}


def snapshot(top: Path) -> dict[str, tuple[int, int]]:
    """Names, modes and times of all below a directory, and of itself."""
    paths = [top, *sorted(top.rglob("*"))]
    return {str(path): (path.stat().st_mode, path.stat().st_mtime_ns) for path in paths}


# ---- no trace


@pytest.mark.parametrize("end", [None, OSError, KeyboardInterrupt, SystemExit])
def test_no_trace_is_left(tmp_path: Path, end: type[BaseException] | None) -> None:
    """There is one lease while a run goes on; then all is as it was, its date included, however the run ended."""
    store = LocalStore(tmp_path / "x.castr")
    put(store, 1, 2)
    os.utime(store.path, (1e9, 1e9))
    before = snapshot(tmp_path / "x.castr")
    with ExitStack() as stack:
        if end is not None:
            stack.enter_context(pytest.raises(end))
        with writing(store, "make") as lease:
            names = beside_chunks(store)
            assert len(names) == 1
            assert names[0].startswith(b".pycasync/leases/")
            put(store, 1, 2)
            if end is not None:
                raise end
            lease.keep(index_of(1, 2))
    assert snapshot(tmp_path / "x.castr") == before


@pytest.mark.parametrize("chunks", [0, 1])
def test_a_store_without_chunks_is_none(tmp_path: Path, chunks: int) -> None:
    """The store's directory is there for its chunks only."""
    store = LocalStore(tmp_path / "new.castr")
    with writing(store, "make"):
        put(store, *range(chunks))
    assert (tmp_path / "new.castr").exists() == bool(chunks)


def test_collecting_leaves_no_trace(store: ChunkStore, clock: Time) -> None:
    """The lock is there while chunks go, and neither before nor after, nor after an error."""
    locked = []
    collect_garbage(store, [index_of(0)], on_chunk=lambda _: locked.append(beside_chunks(store)))
    assert locked == [[LOCK]] * 5
    assert beside_chunks(store) == []
    with pytest.raises(KeyError):
        collect_garbage(store, iter_error(KeyError()))
    assert beside_chunks(store) == []


def iter_error(error: Exception) -> Iterator[Index]:
    yield index_of(0)
    raise error


def test_other_writers_stay(store: ChunkStore) -> None:
    """A run that ends takes only its own lease away."""
    with writing(store, "make"):
        with writing(store, "make"):
            assert len(beside_chunks(store)) == 2
        assert len(beside_chunks(store)) == 1
    assert beside_chunks(store) == []


# ---- a collection and writers


def test_gc_waits_for_a_writer(store: ChunkStore, clock: Time) -> None:
    """Chunks that a run put or found there survive a collection that began before its index was there."""
    with ExitStack() as stack:
        lease = stack.enter_context(writing(store, "make"))
        put(store, 3, 7)  # one that is there, and a new one

        def finish() -> None:
            lease.keep(index_of(3, 7))
            stack.close()

        clock.meanwhile = [lambda: None, lambda: None, finish]
        result = collect_garbage(store, [index_of(0, 1)])
        assert numbers_in(store) == {0, 1, 3, 7}
        assert result.removed == 3
    assert beside_chunks(store) == []
    assert collect_garbage(store, [index_of(0, 1)]).removed == 2  # a new one has been told what is to live


def test_indexes_are_read_after_the_wait(store: ChunkStore, clock: Time) -> None:
    """An index that appears, or changes, while a collection waits counts as it is then."""
    named = [index_of(0)]
    with ExitStack() as stack:
        stack.enter_context(writing(store, "make"))

        def finish() -> None:
            named[0] = index_of(4)
            stack.close()

        clock.meanwhile = [finish]
        collect_garbage(store, (index for index in named))
    assert numbers_in(store) == {4}


def test_gc_gives_up(store: ChunkStore, clock: Time) -> None:
    """A run that takes too long is told of by name, once; nothing goes, the lease stays, and the lock is gone."""
    told: list[str] = []
    before = numbers_in(store)
    with writing(store, "make"):
        names = beside_chunks(store)
        with pytest.raises(StoreBusy, match=rf"make on .*, process {os.getpid()}, .*60 seconds"):
            collect_garbage(store, [index_of(0)], tell=told.append)
        assert clock.now == pytest.approx(1060)
        assert len(told) == 1
        assert f"process {os.getpid()}" in told[0]
        assert beside_chunks(store) == names
        with pytest.raises(StoreBusy):
            collect_garbage(store, [index_of(0)], wait=0)
        assert clock.now == pytest.approx(1060)
    assert numbers_in(store) == before


def test_a_short_wait_is_not_told(store: ChunkStore, clock: Time) -> None:
    """Nothing is said of less than a second."""
    told: list[str] = []
    with ExitStack() as stack:
        stack.enter_context(writing(store, "make"))
        clock.meanwhile = [stack.close]
        collect_garbage(store, [index_of(0)], tell=told.append)
    assert told == []


def test_a_writer_waits_for_gc(store: ChunkStore, clock: Time) -> None:
    """A run that meets a collection begins when that is over, and does not hold it up."""
    told: list[str] = []
    with ExitStack() as stack:
        stack.enter_context(collecting(store))
        seen: list[list[bytes]] = []
        clock.meanwhile = [lambda: seen.append(beside_chunks(store))] * 9 + [stack.close]
        with writing(store, "make", tell=told.append):
            assert len(beside_chunks(store)) == 1
        assert seen == [[LOCK]] * 9
        assert len(told) == 1
        assert "gc on" in told[0]


def test_a_writer_gives_up(store: ChunkStore, clock: Time) -> None:
    """It says so, and changes nothing."""
    with collecting(store):
        with pytest.raises(StoreBusy, match=r"gc on .* 5 seconds"), writing(store, "make", wait=5):
            raise AssertionError("it must not begin")
        assert beside_chunks(store) == [LOCK]


def test_collections_take_turns(store: ChunkStore, clock: Time) -> None:
    """A second collection waits for the first; what was left for that one counts for both."""
    with ExitStack() as first, ExitStack() as maker:
        lease = maker.enter_context(writing(store, "make"))
        put(store, 7)

        def begin() -> None:
            lease.keep(index_of(7))
            maker.close()

        def during_first() -> None:
            clock.meanwhile = [begin, first.close]
            collect_garbage(store, [index_of(1)])

        clock.meanwhile = [lambda: None]
        locked = Leases(store.leases() or MemoryFiles(), clock.pace)
        mark = locked.lock()
        mark.place()
        first.callback(locked.end, mark)
        during_first()
    assert numbers_in(store) == {1, 7}
    assert beside_chunks(store) == []


def test_word_for_a_collection_is_left_for_the_next(store: ChunkStore, clock: Time) -> None:
    """What a run leaves for one collection that is about to end stays for another that waits, and sleeps just then."""
    locked = Leases(store.leases() or MemoryFiles(), clock.pace)
    with ExitStack() as maker:
        lease = maker.enter_context(writing(store, "make"))
        put(store, 7)
        mark = locked.lock()
        mark.place()

        def all_at_once() -> None:
            lease.keep(index_of(7))
            maker.close()
            locked.end(mark)

        clock.meanwhile = [all_at_once]
        collect_garbage(store, [index_of(1)])
    assert numbers_in(store) == {1, 7}
    assert beside_chunks(store) == []


@pytest.mark.parametrize("gone", [False, True])
def test_a_collection_that_waited_in_vain(store: ChunkStore, clock: Time, gone: bool) -> None:
    """It leaves nothing, and what is left of one that was killed while it waited is not waited for."""
    if gone:
        store.files.write(b".pycasync/leases/0123.gc", b"gc\n")
    mark = Leases(store.leases() or MemoryFiles(), clock.pace).lock()
    mark.place()
    with pytest.raises(StoreBusy):
        collect_garbage(store, [index_of(1)], wait=3)
    mark.remove()
    assert collect_garbage(store, [index_of(1)], wait=0).removed == 5
    if gone:
        set_back(store, b".pycasync/leases/0123.gc", 3600)
    with writing(store, "make"):
        pass
    assert beside_chunks(store) == []


def test_a_dry_run_waits_for_nobody(store: ChunkStore, clock: Time) -> None:
    """It writes nothing, and says who may be writing."""
    told: list[str] = []
    with writing(store, "make"):
        before = beside_chunks(store)
        result = collect_garbage(
            store,
            [index_of(0)],
            dry_run=True,
            tell=told.append,
            on_chunk=lambda _: told.append(str(beside_chunks(store) == before)),
        )
    assert result.removed == 5
    assert told[1:] == ["True"] * 5
    assert "make on" in told[0]
    assert clock.now == 1000
    told.clear()
    collect_garbage(store, [index_of(0)], dry_run=True, tell=told.append)
    assert told == []


@pytest.mark.parametrize("when", ["before", "since", "while it waits"])
def test_indexes_that_nobody_could_name(tmp_path: Path, clock: Time, when: str) -> None:
    """An index that appears beside the store once it has been said what is to live counts as if it were named."""
    store = LocalStore(tmp_path / "x.castr")
    put(store, *range(4))
    began = leases.boot_time() - 10

    def appear() -> None:
        (tmp_path / "new.caidx").write_bytes(index_of(2, 3).to_bytes())

    with ExitStack() as stack:
        if when == "while it waits":
            stack.enter_context(writing(store, "make"))
            stack.callback(appear)
            clock.meanwhile = [stack.close]
        else:
            appear()
        if when == "before":
            began = (
                leases.boot_time() + 10
            )  # in which the clock of a file system may stand still, and the machine
        collect_garbage(store, [index_of(0)], ignore_unnamed=True, began=began)
    assert numbers_in(store) == ({0} if when == "before" else {0, 2, 3})


@pytest.mark.parametrize("ignore_unnamed", [False, True])
def test_indexes_that_appear_beside_those_that_are_named(
    tmp_path: Path, clock: Time, ignore_unnamed: bool
) -> None:
    """The same holds in the directories of indexes that were named, by `gc /srv/indexes/*.caidx`, say."""
    store = LocalStore(tmp_path / "x.castr")
    put(store, *range(5))
    for name, number in (("a/named.caidx", 0), ("a/old.caidx", 1), ("b/new.caidx", 4)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(index_of(number).to_bytes())
    time.sleep(0.05)  # the clock of a file system may stand still so long
    began = leases.boot_time()
    (tmp_path / "a/new.caibx").write_bytes(index_of(2, 3).to_bytes())
    (tmp_path / "a/broken.caidx").write_bytes(b"none")
    paths = [os.fsencode(tmp_path / name) for name in ("a/named.caidx", "a/missing.caidx")]
    collect_garbage(store, [index_of(0)], ignore_unnamed=ignore_unnamed, began=began - 0.03, named=paths)
    assert numbers_in(store) == {0, 2, 3}


def test_the_clock_is_set_while_a_collection_waits(
    tmp_path: Path, clock: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index that appeared before the clock went forward has appeared since the run began, for all its date says."""
    store = LocalStore(tmp_path / "x.castr")
    put(store, *range(4))
    index = tmp_path / "new.caidx"
    off = 0.0
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + off)
    monkeypatch.setattr(Leases, "now", lambda self: int(time.time() * 1e9))
    with ExitStack() as stack:
        stack.enter_context(writing(store, "make"))

        def done() -> None:
            nonlocal off
            index.write_bytes(index_of(2, 3).to_bytes())
            off = 3600
            stack.close()

        clock.meanwhile = [done]
        collect_garbage(store, [index_of(0)], ignore_unnamed=True)
    assert numbers_in(store) == {0, 2, 3}


def test_a_store_that_was_empty(tmp_path: Path) -> None:
    """A collection that finds nothing takes no lock, and does not take away what others put there meanwhile."""
    store = LocalStore(tmp_path / "x.castr")
    (tmp_path / "x.castr").mkdir()

    def indexes() -> Iterator[Index]:
        with writing(store, "make") as lease:
            put(store, 1, 2)
            lease.keep(index_of(1, 2))
        yield index_of(5)

    assert collect_garbage(store, indexes()).removed == 0
    assert numbers_in(store) == {1, 2}


# ---- the dead


@pytest.mark.parametrize(("age", "dead"), [(9 * 60, False), (11 * 60, True)])
@pytest.mark.parametrize("off", [-3600, 0, 3600])
def test_dead_writers(
    store: ChunkStore, clock: Time, monkeypatch: pytest.MonkeyPatch, age: float, dead: bool, off: float
) -> None:
    """What was not renewed for ten minutes is not waited for, whatever the time is on this machine."""
    name = b".pycasync/leases/0123"
    store.files.write(name, b"make on elsewhere\n")
    set_back(store, name, age)
    now = time.time_ns
    if isinstance(store, LocalStore):
        monkeypatch.setattr(leases.time, "time_ns", lambda: now() + int(off * 1e9))
    if dead:
        assert collect_garbage(store, [index_of(0)], wait=0).removed == 5
        assert beside_chunks(store) == []
    else:
        with pytest.raises(StoreBusy, match="make on elsewhere"):
            collect_garbage(store, [index_of(0)], wait=0)
        assert beside_chunks(store) == [name]


@pytest.mark.parametrize(("age", "dead"), [(9 * 60, False), (11 * 60, True)])
@pytest.mark.parametrize("who", ["make", "gc"])
def test_dead_collections(store: ChunkStore, clock: Time, who: str, age: float, dead: bool) -> None:
    """A lock that was left behind is taken away by whoever comes next."""
    store.files.write(LOCK, b"gc on elsewhere\n")
    set_back(store, LOCK, age)
    with ExitStack() as stack:
        if not dead:
            stack.enter_context(pytest.raises(StoreBusy, match="gc on elsewhere"))
        if who == "gc":
            assert collect_garbage(store, [index_of(0)], wait=0).removed == 5
        else:
            with writing(store, "make", wait=0):
                assert LOCK not in beside_chunks(store)
    assert beside_chunks(store) == ([] if dead else [LOCK])


def test_a_lock_dies_while_it_is_waited_for(store: ChunkStore, clock: Time) -> None:
    """Whoever waits longer than it lives goes on then."""
    store.files.write(LOCK, b"gc on elsewhere\n")
    with writing(store, "make", wait=3600):
        assert 1599 < clock.now < 1610
    assert beside_chunks(store) == []


@pytest.mark.parametrize("name", [b"0123", b"0123.ab.tmp", b"0123.ids"])
def test_writers_tidy_up_after_the_dead(store: ChunkStore, name: bytes) -> None:
    """What a killed run left goes with the next that ends, and not before it is dead."""
    store.files.write(b".pycasync/leases/" + name, bytes(32))
    with writing(store, "make"):
        pass
    assert beside_chunks(store) == [b".pycasync/leases/" + name]
    set_back(store, b".pycasync/leases/" + name, 660)
    with writing(store, "make"):
        pass
    assert beside_chunks(store) == []


@pytest.mark.parametrize("lost", [False, True])
def test_a_writer_that_slept(store: ChunkStore, clock: Time, lost: bool) -> None:
    """Who was taken for dead finds out before it writes an index, which it does only if all chunks are still there."""
    with ExitStack() as stack:
        lease = stack.enter_context(writing(store, "make"))
        put(store, 3, 7)
        set_back(store, beside_chunks(store)[0], 700)
        clock.now += 700
        collect_garbage(store, [index_of(0) if lost else index_of(3, 7)])
        if lost:
            with pytest.raises(LeaseLost, match="is gone"):
                lease.keep(index_of(3, 7))
        else:
            lease.keep(index_of(3, 7))
            assert len(beside_chunks(store)) == 1
    assert beside_chunks(store) == []


def test_a_collection_that_slept(store: ChunkStore, clock: Time) -> None:
    """Who was taken for dead removes no more chunks, and no other's lock."""

    def sleep(_: ChunkId) -> None:
        if LOCK in beside_chunks(store):
            set_back(store, LOCK, 700)
            clock.now += 700
            writer.enter_context(writing(store, "make"))

    with ExitStack() as writer:
        with pytest.raises(LeaseLost):
            collect_garbage(store, [index_of(0)], on_chunk=sleep)
        assert len(numbers_in(store)) == 6
        assert len(beside_chunks(store)) == 1


def test_a_collection_is_not_interrupted_by_sleep(store: ChunkStore, clock: Time) -> None:
    """Who slept, and was taken for dead by nobody, goes on."""

    def sleep(_: ChunkId) -> None:
        clock.now += 700

    assert collect_garbage(store, [index_of(0)], on_chunk=sleep).removed == 5


def test_leases_are_renewed(tmp_path: Path) -> None:
    """While a run goes on its lease gets new dates, and so does the lock."""
    store = LocalStore(tmp_path / "x.castr")
    put(store, 1)
    pace = Pace(renew=0.001)
    for run in (writing(store, "make", pace=pace), collecting(store, pace=pace)):
        with run:  # type: ignore[attr-defined]
            path = os.path.join(store.path, beside_chunks(store)[0])
            os.utime(path, (0, 0))
            end = time.monotonic() + 60
            while os.stat(path).st_mtime == 0 and time.monotonic() < end:
                time.sleep(0.001)
            assert os.stat(path).st_mtime > 0


def test_without_a_thread(store: ChunkStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread is to be had the run goes on, and its lease is there."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with writing(store, "make") as lease:
        lease.keep(index_of(1))
        assert len(beside_chunks(store)) == 1
    assert beside_chunks(store) == []


# ---- stores that take no leases


class Unwritable(MemoryFiles):
    """Files of which some cannot be written."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, name, data, **conditions):  # type: ignore[no-untyped-def]
        if name.startswith(b".pycasync"):
            raise FileError(name, "create", OSError(self.number, os.strerror(self.number)))
        return super().write(name, data, **conditions)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_where_nothing_can_be_written(number: int) -> None:
    """A run goes on without a lease; its index is written if all its chunks are there. A collection makes room.

    Where it is not room that is lacking, others may write there, and nothing goes.
    """
    store = ChunkStore(Unwritable(number))
    put(store, 1, 2, 3)
    with writing(store, "make") as lease:
        lease.keep(index_of(1, 2))
        store.remove(id_of(2))
        with pytest.raises(LeaseLost):
            lease.keep(index_of(1, 2))
    assert collect_garbage(store, [index_of(1, 3)]).removed == 0
    if number == errno.ENOSPC:
        assert collect_garbage(store, [index_of(1)]).removed == 1
        assert numbers_in(store) == {1}
    else:
        with pytest.raises(FileError, match="pycasync/gc"):
            collect_garbage(store, [index_of(1)])
        assert numbers_in(store) == {1, 3}


class Full(Unwritable):
    """A place that has room for a lock once a file has gone, or for those of whom nothing is known here."""

    def remove(self, name: bytes) -> int:
        if b".pycasync" not in name:
            self.number = 0
        return super().remove(name)

    def write(self, name, data, **conditions):  # type: ignore[no-untyped-def]
        return (
            super().write(name, data, **conditions)
            if self.number
            else MemoryFiles.write(self, name, data, **conditions)
        )


def test_a_full_store_gets_its_lock_when_there_is_room(clock: Time) -> None:
    """Who begins to write then is kept away."""
    store = ChunkStore(Full(errno.ENOSPC))
    put(store, *range(6))
    seen = []

    def look(id: ChunkId) -> None:
        seen.append(beside_chunks(store))
        if len(seen) == 4:
            with pytest.raises(StoreBusy), writing(store, "make", wait=0):
                pass

    assert collect_garbage(store, [index_of(0)], on_chunk=look).removed == 5
    assert seen[0] == []
    assert seen[-1] == [LOCK]
    assert beside_chunks(store) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, 0], ids=["full still", "room by now"])
def test_others_come_while_there_is_no_lock(clock: Time, number: int) -> None:
    """A run with room that others have not, root's say, may begin beside a collection without a lock, which stops."""
    files = Full(errno.ENOSPC)
    store = ChunkStore(files)
    put(store, *range(3))

    def indexes() -> Iterator[Index]:
        yield index_of(0)
        MemoryFiles.write(files, b".pycasync/leases/0123", b"make by root\n")
        files.number = number

    with pytest.raises(LeaseLost, match="no room for a lock"):
        collect_garbage(store, indexes())
    assert numbers_in(store) == {0, 1, 2}


@pytest.mark.parametrize("lost", [False, True])
def test_a_writer_sleeps_while_its_index_appears(store: ChunkStore, clock: Time, lost: bool) -> None:
    """It does not end well when chunks of an index have gone that appeared after all."""
    with ExitStack() as stack:
        if lost:
            stack.enter_context(pytest.raises(LeaseLost, match="run it again"))
        with writing(store, "make") as lease:
            lease.keep(index_of(1, 2))
            clock.now += 700
            for name in beside_chunks(store):
                set_back(store, name, 700)
            collect_garbage(store, [index_of(*((1,) if lost else (1, 2)))])
    assert numbers_in(store) == ({1} if lost else {1, 2})


def test_other_kinds_of_stores() -> None:
    """A store that knows nothing of leases is used without."""
    store = MemoryStore()
    with writing(store, "make") as lease:
        assert isinstance(lease, Lease)
        store.put(id_of(1), chunk(1))
        lease.keep(index_of(1))
    assert busy(store) == []
    assert collect_garbage(store, [index_of(2)]).removed == 1
    with pytest.raises(UsageError, match="how old"):
        collect_garbage(store, [index_of(2)], grace=5)


@pytest.mark.parametrize("below", ["", "leases"])
def test_links_are_not_followed(tmp_path: Path, below: str) -> None:
    """Where a link leads elsewhere nothing is written, nor removed as if it were a lease."""
    store = LocalStore(tmp_path / "x.castr")
    put(store, *range(3))
    other = tmp_path / "other"
    (other / "leases").mkdir(parents=True)
    for path in (other / "mine", other / "leases" / "mine"):
        path.write_text("mine")
        os.utime(path, (0, 0))
    if below:
        (tmp_path / "x.castr/.pycasync").mkdir()
        (tmp_path / "x.castr/.pycasync/leases").symlink_to(other)
    else:
        (tmp_path / "x.castr/.pycasync").symlink_to(other)
    before = snapshot(other)
    with writing(store, "make") as lease:
        put(store, 3)
        lease.keep(index_of(3))
    with pytest.raises(FileError, match="symbolic link"):
        collect_garbage(store, [index_of(3)])
    assert snapshot(other) == before
    assert numbers_in(store) == {0, 1, 2, 3}


def test_a_file_in_the_way(tmp_path: Path) -> None:
    """What is no directory stays as it is: a run does without, a collection removes nothing."""
    store = LocalStore(tmp_path / "x.castr")
    put(store, 1, 2)
    (tmp_path / "x.castr/.pycasync").write_text("mine")
    with writing(store, "make") as lease:
        lease.keep(index_of(1))
    with pytest.raises(FileError):
        collect_garbage(store, [index_of(1)])
    assert (tmp_path / "x.castr/.pycasync").read_text() == "mine"
    assert numbers_in(store) == {1, 2}


def test_damaged_word_of_others(store: ChunkStore, clock: Time) -> None:
    """When nobody can say what a run needs that is done, nothing is removed."""
    store.files.write(b".pycasync/leases/0123.ids", bytes(33))
    with pytest.raises(LeaseLost, match="damaged"):
        collect_garbage(store, [index_of(1)])
    assert len(numbers_in(store)) == 6


@pytest.mark.parametrize("content", [b"", b"\x1b[31mred\n", b"\xff\xfe", b"x" * 10000])
def test_words_of_others_are_harmless(store: ChunkStore, clock: Time, content: bytes) -> None:
    """Whatever a lease holds, it is waited for, and shown without control characters."""
    store.files.write(b".pycasync/leases/anything", content)
    with pytest.raises(StoreBusy) as caught:
        collect_garbage(store, [index_of(1)], wait=0)
    assert str(caught.value).isprintable()


# ---- young chunks


@pytest.mark.parametrize("off", [-3600, 0, 3600])
def test_grace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off: float) -> None:
    """Chunks that were written, or came here, within the time stay; the store's clock counts."""
    store = LocalStore(tmp_path / "x.castr")
    put(store, *range(4))
    files: Files = LocalFiles(store.path)
    paths = [os.path.join(store.path, file.name) for file in sorted(files.list(), key=lambda file: file.name)]
    now = time.time_ns
    monkeypatch.setattr(leases.time, "time_ns", lambda: now() + int(off * 1e9))
    for path in paths:
        os.utime(path, (0, 0))  # copied with its date: but the copy is new
    result = collect_garbage(store, [index_of(0)], grace=3600)
    assert (result.removed, result.spared, result.remaining) == (0, 3, 4)
    monkeypatch.setattr(leases.time, "time_ns", now)
    assert collect_garbage(store, [index_of(0)], grace=3600, dry_run=True).removed == 0
    assert collect_garbage(store, [index_of(0)]).removed == 3


def test_grace_tells_old_from_young() -> None:
    """Only what is younger stays, of either form."""
    files = MemoryFiles()
    store = ChunkStore(files)
    put(store, *range(6))
    for number in (1, 2, 3):
        set_back(store, store._names(id_of(number))[1], 100)
    result = collect_garbage(store, [index_of(0)], grace=60)
    assert numbers_in(store) == {0, 4, 5}
    assert result == GcResult(1, 1, 6, 3, 0, result.freed, (), 2)
