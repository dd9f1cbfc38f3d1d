"""Reading every chunk of an index once, for nothing but that: to know that all is there, or to have it near.

>>> read_all(fetcher)
>>> with Warming([fetcher], cache, tell):
...     ...
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter

from casync_compat.batches import batches
from casync_compat.closing import Closing
from casync_compat.errors import CasyncError
from casync_compat.ids import ChunkId
from casync_compat.index import Index, IndexChunk
from casync_compat.store.cached import ChunkCache
from casync_compat.streams.assemble import ChunkFetcher
from casync_compat.streams.transfer import Crew, OrderedPool
from catar.errors import CatarError

__all__ = ["Warming", "read_all"]

_BATCH = 256 << 10
"""Bytes to ask for together."""


def read_all(
    fetcher: ChunkFetcher,
    *,
    known: Callable[[ChunkId], bool] = lambda id: False,
    together: int = _BATCH,
    stop: threading.Event | None = None,
) -> None:
    """Read every chunk once, and check it.

    :param known: chunks of which this is true are left out
    :param together: bytes to ask for with one call
    :param stop: ends it early
    :raises StoreError: a chunk cannot be had, or is damaged
    """

    def fetch(batch: list[IndexChunk]) -> None:
        fetcher.fetch_all(batch)

    with OrderedPool[None](fetcher.threads, 2 * fetcher.threads) as pool:
        for batch in batches(_each_once(fetcher.index, known), together, attrgetter("size")):
            if stop is not None and stop.is_set():
                break
            pool.submit(fetch, batch)
        for _ in pool.drain():
            pass


class Warming(Closing):
    """Fetches meanwhile what a cache has not: each chunk that is there is one that the next time need not be fetched.

    :param fetchers: for indexes, one after the other, each made when the one before is done
    :param tell: told in a line when that ends early
    :param together: bytes to ask for with one call
    """

    def __init__(
        self,
        fetchers: Iterable[ChunkFetcher],
        cache: ChunkCache,
        tell: Callable[[str], None],
        *,
        together: int = _BATCH,
    ) -> None:
        self._fetchers = fetchers
        self._cache = cache
        self._tell = tell
        self._together = together
        self._stop = threading.Event()
        self._crew = Crew(self._work, 1)

    def wait(self, seconds: float) -> bool:
        """Wait until it is done. Returns whether it is. :param seconds: how long to wait at most"""
        return self._crew.wait(seconds)

    def close(self) -> None:
        """Fetch no more; what is under way is not waited for."""
        self._stop.set()

    def _work(self) -> None:
        try:
            for fetcher in self._fetchers:
                read_all(fetcher, known=self._cache.has, together=self._together, stop=self._stop)
                if self._stop.is_set():
                    break
        except (CasyncError, CatarError) as error:
            if not self._stop.is_set():
                self._tell(f"{error}; nothing more is fetched but what is read")


def _each_once(index: Index, known: Callable[[ChunkId], bool]) -> Iterator[IndexChunk]:
    seen: set[ChunkId] = set()
    for chunk in index:
        if chunk.id not in seen:
            seen.add(chunk.id)
            if not known(chunk.id):
                yield chunk
