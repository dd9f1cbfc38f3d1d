"""Threads as `ThreadPoolExecutor` has them, which do with as many as there are to be had, if need be with none.

A limit on processes (`ulimit -u`, `pids.max` of a container) lets a thread not start. What was handed in is then for
the threads that did start; where there are none, whoever hands it in does it at once. Not for use but by `transfer`,
which imports it when a pool is first made.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from queue import Empty

__all__ = ["Threads"]


class Threads(ThreadPoolExecutor):
    """An executor.

    :param workers: most threads
    """

    def __init__(self, workers: int, name: str) -> None:
        super().__init__(workers, thread_name_prefix=name)

    def _adjust_thread_count(self) -> None:
        try:
            super()._adjust_thread_count()
        except RuntimeError:  # "can't start new thread"
            if not self._threads:
                self._work_here()

    def _work_here(self) -> None:
        while True:
            try:
                item = self._work_queue.get_nowait()
            except Empty:
                return
            item.run()
