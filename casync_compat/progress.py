"""How far a long run has come, told to a callback now and then.

>>> make(b"x.caidx", b"/srv", progress=lambda p: print(p.done, p.total))
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Progress", "ProgressCallback", "Reporter", "human_size"]

_INTERVAL = 0.1


@dataclass(slots=True)
class Progress:
    """A moment of a run.

    :ivar done: bytes of the archive or blob that are done
    :ivar total: bytes in all, None while that is not known
    :ivar entries: files, directories and other nodes so far
    :ivar chunks: chunks so far
    :ivar new_chunks: those that were written (make) or fetched from a store (extract)
    :ivar path: the file being worked on
    """

    done: int = 0
    total: int | None = None
    entries: int = 0
    chunks: int = 0
    new_chunks: int = 0
    path: bytes = b""


ProgressCallback: TypeAlias = Callable[[Progress], None]


class Reporter:
    """Calls a callback at most ten times a second.

    :param callback: None reports to nobody
    """

    def __init__(self, callback: ProgressCallback | None) -> None:
        self.state = Progress()
        self.active = callback is not None
        self._callback = callback
        self._due = 0.0

    @property
    def due(self) -> bool:
        """Whether the state should be brought up to date and `report` be called."""
        return self.active and time.monotonic() >= self._due

    def report(self) -> None:
        """Hand the state to the callback."""
        if self._callback is not None:
            self._due = time.monotonic() + _INTERVAL
            self._callback(self.state)


_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def human_size(count: float) -> str:
    """A size for people: 3 significant digits, binary units."""
    for unit in _UNITS:
        if count < 1000 or unit == _UNITS[-1]:
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.3g} {unit}"
