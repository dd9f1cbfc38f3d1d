"""What a run says for people on a terminal: a line of progress, and a line at the end. Nothing in a pipe.

The line of progress has bytes, share, speed, time left and chunks; the one at the end what there is now, how much of it
is new and how long it took.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from casync_compat.cli._log import talks
from casync_compat.errors import show_path
from casync_compat.progress import Progress, ProgressCallback, human_size

__all__ = ["ProgressLine", "counted", "human_size", "progress_line", "tells"]

_QUIET = 0.5
_COLUMNS = 80
_MINUTE = 60


def _clock(seconds: float) -> str:
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def counted(count: int, one: str, many: str = "") -> str:
    """A number of things: `1 chunk`, `2 chunks`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def tells(options: argparse.Namespace) -> bool:
    """Whether somebody looks on who wants to be told what was done: a person at a terminal."""
    return sys.stderr.isatty() and not (options.quiet or getattr(options, "json", False))


def progress_line(options: argparse.Namespace, what: str, *, fetched: str = "new") -> ProgressLine:
    """The line of a verb that has `--no-progress`, unless it is not wanted; and what is told at the end."""
    wanted = not (options.no_progress or options.verbose or options.quiet or talks())
    return ProgressLine(what, wanted=wanted, fetched=fetched, summary=tells(options))


def _columns() -> int:
    # Not shutil.get_terminal_size: importing shutil, with all the compressors it knows, costs 5 ms.
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _COLUMNS
    except (OSError, ValueError):
        return _COLUMNS


class ProgressLine:
    """Context manager that draws one line over and over, and leaves none behind.

    :param what: verb of the work ("making")
    :param wanted: False draws nothing
    :param fetched: what new chunks are called
    :param summary: whether a line at the end is wanted
    """

    def __init__(
        self, what: str, *, wanted: bool = True, fetched: str = "new", summary: bool = False
    ) -> None:
        self._what = what
        self._fetched = fetched
        self._on = wanted and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._summary = summary
        self._begin = time.monotonic()
        self._drawn = False

    @property
    def callback(self) -> ProgressCallback | None:
        """What a verb is to call; None when nothing is to be drawn."""
        return self._draw if self._on else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def clear(self) -> None:
        """Take the line off the screen."""
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._drawn = False

    def tell(self, *parts: str, always: bool = False) -> None:
        """Say in one line what was done, where somebody looks on: parts that are not empty, and how long it took."""
        if self._summary or always:
            self.clear()
            seconds = time.monotonic() - self._begin
            took = f"{seconds:.1f} s" if seconds < _MINUTE else _clock(seconds)
            print(", ".join(filter(None, (*parts, took))), file=sys.stderr)

    def above(self, say: Callable[[str], None]) -> Callable[[str], None]:
        """What says something where the line was, which is drawn again below."""

        def clear_and_say(text: str) -> None:
            self.clear()
            say(text)

        return clear_and_say

    def _draw(self, progress: Progress) -> None:
        elapsed = time.monotonic() - self._begin
        if elapsed < _QUIET:
            return
        text = self.text(progress, elapsed, _columns() - 1)
        sys.stderr.write("\r" + text + "\x1b[K")
        sys.stderr.flush()
        self._drawn = True

    def text(self, progress: Progress, elapsed: float, width: int) -> str:
        """The line for a moment of the run, `width` columns at most."""
        speed = progress.done / elapsed if elapsed > 0 else 0.0
        parts = [self._what]
        if progress.total:
            parts.append(f"{100 * progress.done / progress.total:.0f}%")
            parts.append(f"{human_size(progress.done)} of {human_size(progress.total)}")
        else:
            parts.append(human_size(progress.done))
        parts.append(f"{human_size(speed)}/s")
        if progress.total and speed and progress.done < progress.total:
            parts.append(f"{_clock((progress.total - progress.done) / speed)} left")
        if progress.entries:
            parts.append(f"{progress.entries} files")
        if progress.total_chunks is not None:
            left = progress.total_chunks - progress.chunks
            parts.append(
                f"chunks: {progress.new_chunks} {self._fetched}, {progress.seed_chunks} from seeds, "
                f"{progress.kept_chunks} in place, {left} left"
            )
        elif progress.chunks:
            reused = progress.chunks - progress.new_chunks
            parts.append(f"chunks: {progress.new_chunks} {self._fetched}, {reused} reused")
        if progress.path:
            parts.append(show_path(progress.path))
        return "  ".join(parts)[:width]
