"""The only owner of threads: a bounded pool whose results come back in order.

    >>> with OrderedPool(jobs=2, depth=8) as pool:
    ...     for chunk in chunks:
    ...         for result in pool.submit(work, chunk): use(result)
    ...     for result in pool.drain(): use(result)

Work is hashing, compressing, reading and writing, all of which release the GIL. What is submitted first comes out
first, whatever finishes first, so output never depends on the number of workers.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from casync_compat.closing import Closing
from casync_compat.store.base import far_source
from casync_compat.streams.processors import processors

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["Crew", "FreePool", "OrderedPool", "Sequencer", "Ticker", "default_jobs", "jobs_at"]

P = ParamSpec("P")
R = TypeVar("R")


def default_jobs() -> int:
    """Workers to use when nobody says: the processors this process may keep busy."""
    return processors()


_FAR_JOBS = 16


def jobs_at(store: object) -> int:
    """Workers to use when nobody says, where each waits for a store: more for one that is far away."""
    return default_jobs() if far_source(store) is None else _FAR_JOBS


def _keep_heaps() -> None:
    """Let threads keep the memory of one chunk for the next.

    The GNU C library's malloc gives back what is free at the end of a heap and faults it in anew, chunk after chunk,
    unless a block of this size was freed before (mallopt(3), `M_TRIM_THRESHOLD`). Its pages are never touched.
    """
    bytes(16 << 20)


def _executor(workers: int, name: str) -> ThreadPoolExecutor:
    from casync_compat.streams._threads import Threads  # lazily: 15 ms that small jobs do not need

    _keep_heaps()
    return Threads(workers, name)


class OrderedPool(Closing, Generic[R]):
    """Runs calls on several threads and gives their results in the order of submission.

    :param jobs: threads
    :ivar depth: most calls under way or waiting to be collected; bounds the memory they hold
    """

    def __init__(self, jobs: int, depth: int) -> None:
        self._executor = _executor(jobs, "worker")
        self.depth = max(depth, 1)
        self._pending: deque[Future[R]] = deque()

    def close(self) -> None:
        """Forget what has not begun, and wait for what has."""
        self._pending.clear()
        self._executor.shutdown(wait=True, cancel_futures=True)

    def __len__(self) -> int:
        return len(self._pending)

    def submit(self, call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> list[R]:
        """Start a call; waits while `depth` are pending.

        :returns: results of earlier calls that are due, in order
        :raises Exception: what an earlier call raised
        """
        due = []
        while len(self._pending) >= self.depth:
            due.append(self._pending.popleft().result())
        while self._pending and self._pending[0].done():
            due.append(self._pending.popleft().result())
        self.start(call, *args, **kwargs)
        return due

    def start(self, call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Start a call without waiting or collecting, whatever the depth; `take` gives its result in its turn."""
        self._pending.append(self._executor.submit(call, *args, **kwargs))

    @property
    def newest(self) -> Future[R]:
        """The call that was submitted last."""
        return self._pending[-1]

    @property
    def ready(self) -> bool:
        """Whether `take` has not to wait."""
        return bool(self._pending) and self._pending[0].done()

    def take(self) -> R:
        """The oldest result that was not collected yet; waits for it. :raises IndexError: when nothing is pending"""
        self._pending[0].exception()  # waits; an interrupt here leaves it pending, to be waited for again
        return self._pending.popleft().result()

    def discard(self) -> None:
        """Forget everything pending; what has not begun will not run."""
        for future in self._pending:
            future.cancel()
        self._pending.clear()

    def drain(self) -> Iterator[R]:
        """Every result that is still due, in order."""
        while self._pending:
            yield self._pending.popleft().result()


class FreePool(Closing):
    """Runs calls on several threads, for whoever wants their results, in any order. Threads start with the first call.

    :param jobs: threads
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None

    def submit(self, call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Start a call."""
        with self._lock:
            if self._executor is None:
                self._executor = _executor(self._jobs, "worker")
            return self._executor.submit(call, *args, **kwargs)

    def close(self) -> None:
        """Take no more calls. What was handed in runs, and is not waited for."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)


class Sequencer:
    """One thread that runs calls strictly one after another, beside everything else. After one failed no other runs.

    :param depth: most calls that may wait
    """

    def __init__(self, depth: int = 64) -> None:
        self._executor = _executor(1, "sequence")
        self._depth = depth
        self._pending: deque[Future[Any]] = deque()
        self._failed = False

    def submit(self, call: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Future[Any]:
        """Run a call after all earlier ones; waits while `depth` of them have not run.

        :raises Exception: what an earlier call raised
        """
        while self._pending and (len(self._pending) >= self._depth or self._pending[0].done()):
            self._pending.popleft().result()
        future = self._executor.submit(self._run, call, *args, **kwargs)
        self._pending.append(future)
        return future

    def _run(self, call: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> object:
        if self._failed:  # the failure is pending before this, and is raised first
            return None
        try:
            return call(*args, **kwargs)
        except BaseException:
            self._failed = True
            raise

    def wait(self) -> None:
        """Return when everything submitted has run. :raises Exception: what a call raised"""
        while self._pending:
            self._pending.popleft().result()

    def close(self) -> None:
        """Forget what has not begun, and wait for what has."""
        self._pending.clear()
        self._executor.shutdown(wait=True, cancel_futures=True)


class Crew:
    """Threads that all do the same until it is done, and that nobody waits for when the process ends.

    :param work: returns when there is no more to do
    :raises RuntimeError: there is not even one thread to be had
    """

    def __init__(self, work: Callable[[], object], size: int) -> None:
        self._threads: list[threading.Thread] = []
        for _ in range(size):
            thread = threading.Thread(target=work, name="crew", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # "can't start new thread"
                if not self._threads:
                    raise
                break
            self._threads.append(thread)

    def wait(self, seconds: float | None = None) -> bool:
        """Whether all have ended. :param seconds: how long to wait for that at most"""
        until = None if seconds is None else time.monotonic() + seconds
        for thread in self._threads:
            thread.join(None if until is None else max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)


class Ticker(Closing):
    """Calls something every so often from a thread, beside everything else. Where none is to be had, it is not called.

    :param call: what it raises is dropped
    :param every: seconds from the end of one call to the next
    """

    def __init__(self, call: Callable[[], object], every: float) -> None:
        self._call = call
        self._every = every
        self._stop = threading.Event()
        self._thread: threading.Thread | None = threading.Thread(target=self._run, name="ticker", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # "can't start new thread"
            self._thread = None

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            with suppress(Exception):
                self._call()

    def close(self) -> None:
        """Stop, and wait for a call that is under way."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
