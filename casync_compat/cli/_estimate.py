"""How large an archive will about be, so that progress knows how much is left: by the last one, or by a look around.

A guess for people: it holds nothing up, and nothing is decided by it.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import Self

from casync_compat.errors import CasyncError
from casync_compat.progress import Progress, ProgressCallback
from casync_compat.streams.inputs import load_index

__all__ = ["Estimate"]

_ENTRY = 300
"""About what an entry takes beside its contents, in bytes."""
_PATIENCE = 0.3
"""Seconds that a run must last before anybody looks."""


class Estimate:
    """A context manager, until whose end the tree may be looked at.

    :param tree: the directory that is archived
    :param last: an index that may be there, of the last run
    :param callback: what is told the progress, with the guess for a total; None guesses nothing
    """

    def __init__(self, tree: bytes, last: bytes | None, callback: ProgressCallback | None) -> None:
        self._tree = tree
        self._last = last
        self._told = callback
        self._begin = time.monotonic()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.size: int | None = None
        """The guess, in bytes; None while there is none."""

    @property
    def callback(self) -> ProgressCallback | None:
        """What the run is to call."""
        return None if self._told is None else self._tell

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _tell(self, progress: Progress) -> None:
        if self._thread is None and time.monotonic() - self._begin > _PATIENCE:
            self._thread = threading.Thread(target=self.look, daemon=True)
            self._thread.start()
        if progress.total is None and self.size is not None and progress.done <= self.size:
            progress = replace(progress, total=self.size)
        if self._told is not None:
            self._told(progress)

    def look(self) -> None:
        """Make the guess."""
        if self._last is not None and os.path.isfile(self._last):
            with suppress(CasyncError):
                self.size = load_index(self._last).size
                return
        size = 0
        for directory, _, names in os.walk(self._tree):
            size += _ENTRY * (1 + len(names))
            for name in names:
                if self._stop.is_set():
                    return
                with suppress(OSError):
                    status = os.lstat(os.path.join(directory, name))
                    size += status.st_size if stat.S_ISREG(status.st_mode) else 0
        self.size = size
