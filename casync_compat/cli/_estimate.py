"""How much there is about to do, so that progress knows how much is left: by the last run, or by a look around.

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

__all__ = ["ChunkEstimate", "Estimate"]

_ENTRY = 300
"""About what an entry takes beside its contents, in bytes."""
_ID_DIGITS = 64
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
        if progress.total is None and (total := self.total(progress)) is not None and progress.done <= total:
            progress = replace(progress, total=total)
        if self._told is not None:
            self._told(progress)

    def total(self, progress: Progress) -> int | None:
        """What there is in all, as far as is known by now."""
        return self.size

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


class ChunkEstimate(Estimate):
    """A guess of how many bytes the chunks of a store have: as many each as those that were looked at.

    :param store: its directory; None guesses nothing
    :param callback: as for `Estimate`; its `entries` count chunks
    """

    def __init__(self, store: bytes | None, callback: ProgressCallback | None) -> None:
        super().__init__(store or b"", None, callback)
        self._here = store is not None

    def total(self, progress: Progress) -> int | None:
        """The bytes of all chunks."""
        if self.size is None or not 0 < progress.entries <= self.size:
            return None
        return progress.done * self.size // progress.entries

    def look(self) -> None:
        """Count the files that have the name of a chunk."""
        count = 0
        for _, _, names in os.walk(self._tree) if self._here else ():
            if self._stop.is_set():
                return
            count += sum(len(name.partition(b".")[0]) == _ID_DIGITS for name in names)
        self.size = count or None
