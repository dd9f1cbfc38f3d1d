"""Bars of progress, drawn by tqdm: what stands beside the bar is ours. Imported when the first is drawn.

>>> text("making", "new", Progress(1 << 20, 4 << 20), 1.0, 40)
'making  25%  1 MiB of 4 MiB  1 MiB/s  0:'
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm import tqdm

from casync_compat.errors import show_path
from casync_compat.progress import Progress, human_size, human_time

__all__ = ["Bar", "Bars", "text"]

_COLUMNS = 80
_ROWS = 24
_FOR_A_BAR = 60
"""Columns that a terminal must have for a bar: narrower ones are full of words."""
_WITH_BAR = "{head}  |{bar:20}|{tail}"
_WITHOUT = "{head}{tail}"

_MOST_PARTS = 8
_STALLED = 5.0
"""Seconds without anything done after which it is not as fast as it was any more."""

tqdm.set_lock(threading.RLock())  # its own is one for processes, too, and costs a semaphore of the system
tqdm.monitor_interval = 0  # a thread that looks whether bars are forgotten


def _columns(stream: _Frame) -> int:
    """How wide a terminal is. :returns: 80 where it does not say"""
    # Not shutil.get_terminal_size: importing shutil, with all the compressors it knows, costs 5 ms.
    try:
        return os.get_terminal_size(stream.fileno()).columns or _COLUMNS
    except (OSError, ValueError):
        return _COLUMNS


def _rows(stream: _Frame) -> int:
    """How many lines a terminal has. :returns: 24 where it does not say"""
    try:
        return os.get_terminal_size(stream.fileno()).lines or _ROWS
    except (OSError, ValueError):
        return _ROWS


def _amount(count: float, unit: str, *, of: bool = False) -> str:
    """So many bytes, or of what else is counted. :param of: the unit comes later"""
    if not unit:
        return human_size(count)
    return f"{count:.0f}" if of else f"{count:.0f} {unit}"


def _words(what: str, fetched: str, progress: Progress, rate: float) -> tuple[str, str]:
    """What stands before the bar, and behind it."""
    done, total, unit = progress.done, progress.total, progress.unit
    head = what
    parts = [""]
    if total and done <= total:  # else it was guessed, and too low
        head += f"  {100 * done / total:.0f}%"
        parts.append(f"{_amount(done, unit, of=True)} of {_amount(total, unit)}")
    else:
        parts.append(_amount(done, unit))
    parts.append(f"{_amount(rate, unit)}/s")
    if total and rate and done < total:
        parts.append(f"{human_time((total - done) / rate)} left")
    if progress.entries:
        parts.append(f"{progress.entries} files")
    if progress.total_chunks is not None:
        left = progress.total_chunks - progress.chunks
        parts.append(
            f"chunks: {progress.new_chunks} {fetched}, {progress.seed_chunks} from seeds, "
            f"{progress.kept_chunks} in place, {left} left"
        )
    elif progress.chunks:
        reused = progress.chunks - progress.new_chunks
        parts.append(f"chunks: {progress.new_chunks} {fetched}, {reused} reused")
    if progress.path:
        parts.append(show_path(progress.path))
    return head, "  ".join(parts)


def _layout(progress: Progress, width: int) -> str:
    known = progress.total and progress.done <= progress.total
    return _WITH_BAR if known and width >= _FOR_A_BAR else _WITHOUT


def text(what: str, fetched: str, progress: Progress, elapsed: float, width: int) -> str:
    """The line for a moment of a run that was as fast all the while, `width` columns at most."""
    if width < 1:
        return ""
    rate = progress.done / elapsed if elapsed > 0 else 0.0
    head, tail = _words(what, fetched, progress, rate)
    form = _layout(progress, width)
    return tqdm.format_meter(
        progress.done, progress.total, elapsed, ncols=width, bar_format=form, head=head, tail=tail
    )


class _Frame:
    """What is to be drawn next, which goes to the terminal in one piece: nothing that is typed comes between."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._pieces: list[str] = []
        self.encoding = stream.encoding

    def write(self, text: str) -> None:
        """Add to it."""
        self._pieces.append(text)

    def flush(self) -> None:
        """Does nothing: it is not whole yet."""

    def drop(self) -> None:
        """Forget it: it may be half of one, where a signal came."""
        self._pieces.clear()

    def show(self) -> None:
        """Let it be seen."""
        text = "".join(self._pieces)
        self._pieces.clear()
        self._stream.write(text)
        self._stream.flush()

    def fileno(self) -> int:
        """As of the terminal."""
        return self._stream.fileno()


class Bar(tqdm):
    """One line of a terminal with how far something has come, which is gone when it is closed.

    :param what: verb of the work, or a name of what is worked on
    :param fetched: what new chunks are called
    :param began: when that was, by `time.time`
    :param position: how many lines below the cursor
    :param initial: what was done before that
    """

    def __init__(
        self,
        what: str,
        fetched: str,
        stream: _Frame,
        began: float,
        *,
        position: int = 0,
        initial: int = 0,
    ) -> None:
        self._what = what
        self._fetched = fetched
        self._stream = stream
        self._progress = Progress()
        super().__init__(
            file=stream,
            leave=False,
            bar_format=_WITHOUT,
            mininterval=0,  # whoever reports does so now and then
            miniters=1,
            position=position,
            initial=initial,
            delay=1e-9,  # draw nothing before there is something to say
        )
        self.start_t = self.last_print_t = min(began, time.time())

    @property
    def format_dict(self) -> dict[str, Any]:
        """What tqdm makes a line of."""
        known = super().format_dict
        rate = known["rate"]
        if self.start_t < self.last_print_t < self._time() - _STALLED:
            rate = 0.0  # of late, whatever it was before
        if rate is None:
            rate = (known["n"] - known["initial"]) / known["elapsed"] if known["elapsed"] > 0 else 0.0
        head, tail = _words(self._what, self._fetched, self._progress, rate)
        width = max(_columns(self._stream) - 1, 1)
        form = _layout(self._progress, width)
        return {**known, "ncols": width, "bar_format": form, "head": head, "tail": tail}

    def show(self, progress: Progress) -> None:
        """Draw a moment of the run."""
        other = bool(self.n) and progress.unit != self._progress.unit
        self._progress = progress
        self.total = progress.total or None
        if other or progress.done < self.n:  # it is about something else now, which has a speed of its own
            self.reset()
        moved = progress.done - self.n
        if not moved:
            self.refresh()
        else:
            self.update(moved)


class Bars:
    """A bar, and below it others for parts of the work that are under way. Parameters as for `Bar`."""

    def __init__(self, what: str, fetched: str, stream: TextIO, began: float) -> None:
        self._frame = _Frame(stream)
        self._fetched = fetched
        self._whole = Bar(what, fetched, self._frame, began)
        self._parts: dict[str, Bar] = {}
        self._below = False

    def show(self, progress: Progress, parts: Iterable[tuple[str, Progress]] = ()) -> None:
        """Draw a moment of the run, and of its parts as many as fit."""
        self._frame.drop()
        now = dict(parts)
        for name in [name for name in self._parts if name not in now]:
            self._parts.pop(name).close()
        rows = min(_rows(self._frame) - 2, _MOST_PARTS)
        free = [
            row for row in range(1, rows + 1) if row not in {abs(bar.pos) for bar in self._parts.values()}
        ]
        for name, part in now.items():
            if name not in self._parts and free:
                self._parts[name] = Bar(
                    f"  {name}",
                    self._fetched,
                    self._frame,
                    time.time(),
                    position=free.pop(0),
                    initial=part.done,
                )
            if name in self._parts:
                self._parts[name].show(part)
        self._whole.show(progress)  # last, so that the cursor stays at its end
        self._below = self._below or bool(self._parts)
        self._frame.show()

    def clear(self) -> None:
        """Take them off the screen, until they are shown again, and what was typed behind them: `^C`."""
        self._frame.drop()
        self._frame.write("\r\x1b[J" if self._below else "\r\x1b[K")
        self._frame.show()
        self._below = False

    def close(self) -> None:
        """Let go of them, once they are off the screen."""
        for bar in (*self._parts.values(), self._whole):
            bar.close()
        self._frame.drop()
