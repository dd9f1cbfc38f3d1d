"""Leases held while work goes on: `writing` around a run that makes an index, `collecting` around a collection.

    >>> with writing(store, "make") as lease, AtomicFile(path) as out:
    ...     index = fill(store)
    ...     lease.keep(index)
    ...     out.write(index.to_bytes())

The rules are those of `store.leases`; here is the thread that renews. A store that takes no leases is used without.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress

from casync_compat.errors import FileError
from casync_compat.ids import ChunkId
from casync_compat.index import Index
from casync_compat.progress import no_warning
from casync_compat.store.base import Keeping, Leased, Surveyed
from casync_compat.store.leases import PACE, WAIT, LeaseLost, Leases, Mark, Pace
from casync_compat.streams.transfer import Ticker

__all__ = ["Collection", "Lease", "busy", "collecting", "writing"]


class Lease:
    """That a run writes chunks, and what for.

    :ivar indexes: those that are to live when the run is done
    """

    def __init__(
        self, store: object, leases: Leases | None, mark: Mark | None, again: Callable[[], None]
    ) -> None:
        self.indexes: list[Index] = []
        self._store = store
        self._leases = leases
        self._mark = mark
        self._again = again
        self._kept = False  # whether indexes were let appear because there was a lease

    def keep(self, index: Index) -> None:
        """Be sure that an index may be written now: that nobody has collected chunks of it meanwhile.

        :raises LeaseLost: somebody has
        :raises StoreBusy: a collection is at work, and does not end
        """
        self.indexes.append(index)
        if self._mark is None or self._leases is None:
            return
        if not self._mark.check():
            self._again()
            self._look(self._leases)
        self._kept = self._mark.held
        with suppress(FileError):
            self._leases.name(self._mark, self.named)

    def confirm(self) -> None:
        """Be sure, once the indexes are in place, that they were when chunks were collected.

        :raises LeaseLost: this run slept before they were, and some of their chunks are gone
        """
        if self._kept and self._mark is not None and self._leases is not None and not self._mark.check():
            self._look(self._leases)

    def _look(self, leases: Leases) -> None:
        """Be sure that all is still there."""
        if not isinstance(self._store, Keeping):
            return
        for id_ in dict.fromkeys(self.named()):
            if not self._store.has(id_):
                raise LeaseLost(
                    leases.where, f"chunk {id_} was there and is gone, while this run had no lease"
                )

    def named(self) -> Iterator[ChunkId]:
        """The ids of all chunks that are needed, repeated ones included."""
        for index in self.indexes:
            yield from index.ids()


@contextmanager
def writing(
    store: object,
    what: str,
    *,
    wait: float | None = None,
    tell: Callable[[str], None] | None = None,
    pace: Pace = PACE,
) -> Iterator[Lease]:
    """While chunks are put into a store, and until the indexes that need them are in place.

    :param store: a chunk sink, or None
    :param what: the run, for messages of others
    :param wait: seconds to wait for a collection that is at work; None for a minute
    :param tell: called with a line when that takes long
    :raises StoreBusy: it does not end
    """
    files = store.leases() if isinstance(store, Leased) else None
    if files is None:
        yield Lease(store, None, None, lambda: None)
        return
    leases = Leases(files, pace)
    mark = leases.lease(what)

    def take() -> None:
        leases.take(mark, WAIT if wait is None else wait, tell or no_warning)

    try:
        try:
            take()
            lease = Lease(store, leases, mark, take)
            survey = store.surveyed() if isinstance(store, Surveyed) else nullcontext()
            with survey, Ticker(mark.renew, pace.renew):
                yield lease
                lease.confirm()
        except BaseException:
            mark.remove()
            raise
        leases.done(mark, lease.named)
    finally:
        leases.close()


class Collection:
    """That garbage is being collected.

    :ivar named: chunks that runs need which ended while this one waited for them
    """

    def __init__(self, leases: Leases | None = None, mark: Mark | None = None) -> None:
        self._leases = leases
        self._mark = mark
        self.named: frozenset[ChunkId] = frozenset() if leases is None else frozenset(leases.named)

    def now(self) -> int:
        """The store's clock, in nanoseconds since 1970; this machine's, where the store's is not known."""
        return time.time_ns() if self._leases is None else self._leases.now()

    def check(self) -> None:
        """Be sure that nobody writes.

        :raises LeaseLost: somebody may, since this run slept, or found no room for its lock
        :raises FileError: there can be no lock, so that nothing is to be changed
        """
        if self._mark is None or self._leases is None:
            return
        if self._leases.go_on(self._mark) and not self._mark.check():
            raise LeaseLost(
                self._leases.where, "others went on while this run slept, so that it must not remove more"
            )


@contextmanager
def collecting(
    store: object,
    *,
    wait: float | None = None,
    tell: Callable[[str], None] | None = None,
    pace: Pace = PACE,
) -> Iterator[Collection]:
    """While garbage is collected: nobody else writes. Parameters as for `writing`.

    :raises StoreBusy: others are at work, and do not end
    :raises LeaseLost: what they left is damaged
    """
    files = store.leases() if isinstance(store, Leased) else None
    if files is None:
        yield Collection()
        return
    leases = Leases(files, pace)
    mark = leases.lock()
    try:
        leases.wait(mark, WAIT if wait is None else wait, tell or no_warning)
        with Ticker(mark.renew, pace.renew):
            yield Collection(leases, mark)
    finally:
        leases.end(mark)
        leases.close()


def busy(store: object) -> list[str]:
    """Who is at work in a store, as far as can be told without writing there."""
    files = store.leases() if isinstance(store, Leased) else None
    return [] if files is None else Leases(files).alive()
