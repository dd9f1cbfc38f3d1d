"""Threads for what takes time, in pools of their own: whoever waits for one store takes none from the others."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor

from casync_compat.serve.settings import Limits

__all__ = ["Pools"]


class Pools:
    """All of a server's threads. A pool starts as many as are wanted at once, up to its limit.

    :ivar near: that read what is on this machine
    :ivar pages: that take pieces of what pages give
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._all: list[ThreadPoolExecutor] = []
        self.near = self._new("near", limits.near_threads)
        self.pages = self._new("pieces", limits.threads)

    def reading(self, name: str, *, far: bool) -> Executor:
        """Those that read a store, or a place of files."""
        return self._new(f"read-{name}", self._limits.threads) if far else self.near

    def writing(self, name: str) -> Executor:
        """Those that write to it: each may wait for a disk."""
        return self._new(f"write-{name}", self._limits.uploads)

    def close(self) -> None:
        """End them, when what they do now is done."""
        for pool in self._all:
            pool.shutdown(wait=False, cancel_futures=True)

    def _new(self, name: str, most: int) -> ThreadPoolExecutor:
        pool = ThreadPoolExecutor(most, name)
        self._all.append(pool)
        return pool
