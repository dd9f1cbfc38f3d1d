"""Pools: results in order whatever finishes first, errors never lost, nothing unbounded, no thread left behind."""

from __future__ import annotations

import os
import random
import threading
import time

import pytest

from casync_compat.streams.transfer import OrderedPool, Sequencer, default_jobs

JOBS = pytest.mark.parametrize("jobs", [1, 2, 3, 8])


class Oops(Exception):
    """What failing calls raise."""


def oops(value: int = 0) -> int:
    raise Oops(value)


def napping(value: int, seconds: float) -> int:
    time.sleep(seconds)
    return value


def threads_named(prefix: str) -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(prefix)]


def test_default_is_one_a_processor() -> None:
    """Without being told, as many workers as there are processors for this process."""
    assert default_jobs() == len(os.sched_getaffinity(0))


@JOBS
@pytest.mark.parametrize("depth", [1, 2, 7, 100])
def test_results_come_in_the_order_of_submission(jobs: int, depth: int) -> None:
    """Calls that finish in any order give their results in the order in which they were submitted, each once."""
    rng = random.Random(jobs * 1000 + depth)
    with OrderedPool[int](jobs, depth) as pool:
        got = []
        for i in range(60):
            got += pool.submit(napping, i, rng.random() / 1000)
        got += pool.drain()
    assert got == list(range(60))


@JOBS
def test_pending_calls_are_bounded(jobs: int) -> None:
    """Never more than `depth` calls are begun or waiting to be collected, however fast they are submitted."""
    depth = 5
    go = threading.Event()
    submitted: list[int] = []

    def submit() -> None:
        for i in range(20):
            pool.submit(go.wait, 10)
            submitted.append(i)

    with OrderedPool[bool](jobs, depth) as pool:
        feeder = threading.Thread(target=submit)
        feeder.start()
        time.sleep(0.05)
        assert len(submitted) == depth
        go.set()
        feeder.join(10)
        assert len(submitted) == 20
        assert len(pool) <= depth


@JOBS
def test_runs_on_as_many_threads_as_asked(jobs: int) -> None:
    """`jobs` calls run at once, and no more."""
    together = threading.Barrier(jobs)
    running: set[str] = set()

    def work() -> None:
        running.add(threading.current_thread().name)
        together.wait(10)

    with OrderedPool[None](jobs, 2 * jobs) as pool:
        for _ in range(4 * jobs):
            pool.submit(work)
        list(pool.drain())
    assert len(running) == jobs


@pytest.mark.parametrize("take", ["submit", "drain", "take"])
def test_errors_surface_where_the_result_would(take: str) -> None:
    """What a call raised is raised in place of its result; no result from behind it comes out first."""
    with OrderedPool[int](2, 3) as pool:
        got = pool.submit(napping, 0, 0) + pool.submit(oops, 1)
        with pytest.raises(Oops):
            if take == "submit":
                for i in range(10):
                    got += pool.submit(napping, i, 0)
            elif take == "drain":
                got.extend(pool.drain())
            else:
                while True:
                    got.append(pool.take())
    assert got == [0][: len(got)]


def test_taking_from_an_empty_pool() -> None:
    """There is nothing to take when nothing was started."""
    with OrderedPool[int](1, 1) as pool, pytest.raises(IndexError):
        pool.take()


def test_start_does_not_wait() -> None:
    """`start` takes calls beyond the depth; `take` gives them back one by one; `newest` is the last of them."""
    with OrderedPool[int](2, 1) as pool:
        for i in range(10):
            pool.start(napping, i, 0.001)
        assert len(pool) == 10
        assert pool.newest.result() == 9
        assert [pool.take() for _ in range(10)] == list(range(10))


def test_what_is_discarded_does_not_run() -> None:
    """After `discard` the calls that had not begun never begin, and nothing is due."""
    ran: list[int] = []
    hold = threading.Event()
    with OrderedPool[object](1, 50) as pool:
        pool.submit(hold.wait, 10)
        for i in range(20):
            pool.submit(ran.append, i)
        pool.discard()
        hold.set()
        assert list(pool.drain()) == []
        assert pool.submit(ran.append, 100) == []
        list(pool.drain())
    assert ran == [100]


@JOBS
def test_closing_drops_what_has_not_begun_and_leaves_no_thread(jobs: int) -> None:
    """`close` returns when no thread is left; calls that waited never run, and their errors are nobody's."""
    hold = threading.Event()
    ran: list[int] = []
    pool = OrderedPool[object](jobs, 100)
    for _ in range(jobs):
        pool.submit(hold.wait, 10)
    for i in range(50):
        pool.submit(ran.append, i)
    threading.Timer(0.02, hold.set).start()
    pool.close()
    assert not threads_named("worker")
    assert ran == []
    assert len(pool) == 0
    pool.close()


def test_an_exception_in_the_block_closes_the_pool() -> None:
    """Leaving the block by an exception leaves no thread behind and does not hide the exception."""
    with pytest.raises(Oops), OrderedPool[int](3, 9) as pool:
        for i in range(9):
            pool.submit(napping, i, 0.001)
        oops()
    assert not threads_named("worker")


# ---- one after another


def test_calls_run_one_after_another_in_order() -> None:
    """A sequencer's calls never overlap and never overtake, on one thread that is not the caller's."""
    seen: list[tuple[int, int]] = []
    running = threading.Lock()

    def work(i: int) -> None:
        assert running.acquire(blocking=False)
        time.sleep(0.0003)
        seen.append((i, threading.get_ident()))
        running.release()

    sequencer = Sequencer(depth=4)
    for i in range(60):
        sequencer.submit(work, i)
    sequencer.wait()
    sequencer.close()
    assert [i for i, _ in seen] == list(range(60))
    assert len({thread for _, thread in seen} | {threading.get_ident()}) == 2
    assert not threads_named("sequence")


def test_waiting_calls_of_a_sequencer_are_bounded() -> None:
    """With `depth` calls waiting, `submit` waits too."""
    hold = threading.Event()
    submitted: list[int] = []

    def submit() -> None:
        for i in range(10):
            sequencer.submit(hold.wait, 10)
            submitted.append(i)

    sequencer = Sequencer(depth=3)
    feeder = threading.Thread(target=submit)
    feeder.start()
    time.sleep(0.05)
    assert len(submitted) == 3
    hold.set()
    feeder.join(10)
    sequencer.wait()
    sequencer.close()
    assert len(submitted) == 10


@pytest.mark.parametrize("later", [0, 1, 10])
def test_a_sequencer_tells_what_failed(later: int) -> None:
    """A failure is raised by a later `submit`, or at the latest by `wait`."""
    sequencer = Sequencer(depth=2)
    try:
        with pytest.raises(Oops):
            sequencer.submit(oops)
            for i in range(later):
                sequencer.submit(napping, i, 0)
            sequencer.wait()
    finally:
        sequencer.close()


def test_nothing_runs_after_a_failure() -> None:
    """A call never runs when one before it failed: what follows a failed write must not be written."""
    ran: list[int] = []
    hold = threading.Event()
    sequencer = Sequencer()
    sequencer.submit(hold.wait, 10)
    sequencer.submit(oops)
    for i in range(5):
        sequencer.submit(ran.append, i)
    hold.set()
    with pytest.raises(Oops):
        sequencer.wait()
    sequencer.close()
    assert ran == []


def test_closing_a_sequencer_drops_what_has_not_begun() -> None:
    """`close` waits for the running call only."""
    hold = threading.Event()
    ran: list[int] = []
    sequencer = Sequencer()
    sequencer.submit(hold.wait, 10)
    for i in range(5):
        sequencer.submit(ran.append, i)
    threading.Timer(0.02, hold.set).start()
    sequencer.close()
    assert ran == []
    assert not threads_named("sequence")
