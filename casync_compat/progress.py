"""How far a long run has come, told to a callback now and then.

>>> casync.make("x.caidx", "/srv", progress=lambda p: print(p.done, p.total))
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Progress", "ProgressCallback", "Reporter", "Warn", "human_size", "human_time", "no_warning"]

Warn: TypeAlias = Callable[[str], None]
"""Takes one line about something that the user should know, while a run goes on."""


def no_warning(text: str) -> None:
    """A `Warn` for those who do not want to know."""


_INTERVAL = 0.1


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a run. Each call of a callback gets one of its own, which may be kept.

    :ivar done: bytes of the archive or blob that are done
    :ivar total: bytes in all, None while that is not known
    :ivar entries: files, directories and other nodes so far
    :ivar chunks: chunks so far
    :ivar new_chunks: those that were written (make) or fetched from a store (extract)
    :ivar seed_chunks: those that came from seeds
    :ivar kept_chunks: those that were in their place already
    :ivar total_chunks: chunks in all, where each is counted as one of the three kinds; None for no such count
    :ivar path: the file being worked on
    :ivar unit: what `done` and `total` count, where that is not bytes: `chunks`

    >>> Progress(done=512, total=2048).total
    2048
    """

    done: int = 0
    total: int | None = None
    entries: int = 0
    chunks: int = 0
    new_chunks: int = 0
    path: bytes = b""
    seed_chunks: int = 0
    kept_chunks: int = 0
    total_chunks: int | None = None
    unit: str = ""


@dataclass(slots=True)
class _State:
    """A `Progress` in the making."""

    done: int = 0
    total: int | None = None
    entries: int = 0
    chunks: int = 0
    new_chunks: int = 0
    path: bytes = b""
    seed_chunks: int = 0
    kept_chunks: int = 0
    total_chunks: int | None = None
    unit: str = ""

    def now(self) -> Progress:
        """What is known at this moment."""
        return Progress(
            self.done,
            self.total,
            self.entries,
            self.chunks,
            self.new_chunks,
            self.path,
            self.seed_chunks,
            self.kept_chunks,
            self.total_chunks,
            self.unit,
        )


ProgressCallback: TypeAlias = Callable[[Progress], None]
"""Called on the thread that makes or extracts. What it raises ends the run, which then leaves what an error would."""


class Reporter:
    """Calls a callback at most ten times a second.

    :param callback: None reports to nobody
    :ivar state: what the next report will say; whoever works keeps it true
    """

    def __init__(self, callback: ProgressCallback | None) -> None:
        self.state = _State()
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
            self._callback(self.state.now())


_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def human_size(count: float) -> str:
    """A size for people: 3 significant digits, binary units."""
    for unit in _UNITS:
        if count < 1000 or unit == _UNITS[-1]:
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.3g} {unit}"


def human_time(seconds: float) -> str:
    """A time for people: `0:30`, `2:46:30`."""
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
