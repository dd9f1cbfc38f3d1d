"""What a run says for people on a terminal: a line of progress, and a line at the end. Nothing in a pipe.

The line of progress has bytes, share, speed, time left and chunks (`_bars` draws it); the one at the end what there is
now, how much of it is new and how long it took.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from casync_compat.progress import Progress, ProgressCallback, human_size, human_time

if TYPE_CHECKING:
    from casync_compat.cli._bars import Bar

__all__ = ["ProgressLine", "counted", "human_size", "progress_line", "tells"]

_QUIET = 0.5
_MINUTE = 60


def counted(count: int, one: str, many: str = "") -> str:
    """A number of things: `1 chunk`, `2 chunks`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def tells(options: argparse.Namespace) -> bool:
    """Whether somebody looks on who wants to be told what was done: a person at a terminal."""
    return sys.stderr.isatty() and not (options.quiet or getattr(options, "json", False))


def progress_line(options: argparse.Namespace, what: str, *, fetched: str = "new") -> ProgressLine:
    """The line of a verb that has `--no-progress`, unless it is not wanted; and what is told at the end."""
    wanted = not (options.no_progress or options.quiet)
    return ProgressLine(what, wanted=wanted, fetched=fetched, summary=tells(options))


class _Above:
    """Standard output or error of a terminal, where the line gives way to what is written."""

    def __init__(self, stream: Any, line: ProgressLine) -> None:
        self._stream = stream
        self._line = line
        self.ended = True
        """Whether what was written last is a whole line, behind which a bar may stand."""

    def write(self, text: str) -> int:
        """Write where the line was."""
        with self._line.lock:
            self._line.clear()
            written: int = self._stream.write(text)
            self.ended = text.endswith("\n") or (self.ended and not text)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class ProgressLine:
    """Context manager that draws one line over and over, and leaves none behind.

    What is written to standard output and error meanwhile stands above it.

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
        self._began = time.time()
        self._begin = time.monotonic()
        self._screen = sys.stderr
        self._bar: Bar | None = None
        self._drawn = False
        self._above: dict[str, _Above] = {}
        self.lock = threading.RLock()

    @property
    def callback(self) -> ProgressCallback | None:
        """What a verb is to call; None when nothing is to be drawn."""
        return self._draw if self._on else None

    def __enter__(self) -> Self:
        for name in ("stdout", "stderr") if self._on else ():
            stream = getattr(sys, name)
            if stream.isatty():
                self._above[name] = _Above(stream, self)
                setattr(sys, name, cast(Any, self._above[name]))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.lock:
            for name, above in self._above.items():
                if getattr(sys, name) is above:
                    setattr(sys, name, above._stream)
            self._on = False
            self.clear()
            if self._bar is not None:
                self._bar.close()

    def clear(self) -> None:
        """Take the line off the screen."""
        with self.lock:
            if self._drawn and self._bar is not None:
                self._drawn = False
                self._bar.clear()

    def tell(self, *parts: str, always: bool = False) -> None:
        """Say in one line what was done, where somebody looks on: parts that are not empty, and how long it took."""
        if self._summary or always:
            self.clear()
            seconds = time.monotonic() - self._begin
            took = f"{seconds:.1f} s" if seconds < _MINUTE else human_time(seconds)
            print(", ".join(filter(None, (*parts, took))), file=sys.stderr)

    def above(self, say: Callable[[str], None]) -> Callable[[str], None]:
        """What says something where the line was, which is drawn again below."""

        def clear_and_say(text: str) -> None:
            self.clear()
            say(text)

        return clear_and_say

    def _draw(self, progress: Progress) -> None:
        if time.monotonic() - self._begin < _QUIET:
            return
        with self.lock:
            if not self._on or not all(above.ended for above in self._above.values()):
                return
            if self._bar is None:
                from casync_compat.cli._bars import Bar  # lazily: tqdm costs a tenth of a second

                self._bar = Bar(self._what, self._fetched, self._screen, self._began)
            self._drawn = True
            self._bar.show(progress)
