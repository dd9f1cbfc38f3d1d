"""What a run says for people on a terminal: a line of progress, and a line at the end. Nothing in a pipe.

The line of progress has bytes, share, speed, time left and chunks (`_bars` draws it); the one at the end what there is
now, how much of it is new and how long it took.
"""

from __future__ import annotations

import argparse
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TextIO

from casync_compat.progress import Progress, ProgressCallback, Reporter, human_size, human_time
from casync_compat.streams.transfer import Ticker

if TYPE_CHECKING:
    from casync_compat.cli._bars import Bars
    from casync_compat.index import Index, IndexChunk

__all__ = ["ProgressLine", "counted", "human_size", "progress_line", "tells"]

_QUIET = 0.5
_EVERY = 1.0
"""Seconds after which the line is drawn again, whether anything was done or not: what waits is seen to wait."""
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

    def __init__(self, stream: TextIO, line: ProgressLine) -> None:
        self._stream = stream
        self._line = line
        self.ended = True
        """Whether what was written last is a whole line, behind which a bar may stand."""

    def write(self, text: str) -> int:
        """Write where the line was."""
        with self._line.lock:
            self._line.clear()
            written = self._stream.write(text)
            self.ended = text.endswith("\n") or (self.ended and not text)
        return written

    def flush(self) -> None:
        """As of the stream."""
        self._stream.flush()

    def isatty(self) -> bool:
        """As of the stream."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """As of the stream."""
        return self._stream.fileno()

    @property
    def buffer(self) -> BinaryIO:
        """As of the stream."""
        return self._stream.buffer

    @property
    def encoding(self) -> str:
        """As of the stream."""
        return self._stream.encoding

    @property
    def errors(self) -> str | None:
        """As of the stream."""
        return self._stream.errors


class ProgressLine:
    """Context manager that draws one line over and over, and leaves none behind.

    What is written to standard output and error meanwhile stands above it.

    :param what: verb of the work ("making")
    :param wanted: False draws nothing
    :param fetched: what new chunks are called
    :param summary: whether a line at the end is wanted
    :ivar parts: says what is under way at a moment, where several things are: the name of each, and how far it is
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
        self._bars: Bars | None = None
        self._drawn = False
        self._last: Progress | None = None
        self._ticker: Ticker | None = None
        self._above: list[_Above] = []
        self._redirected = ExitStack()
        self.parts: Callable[[], Iterable[tuple[str, Progress]]] = tuple
        self.lock = threading.RLock()

    @property
    def callback(self) -> ProgressCallback | None:
        """What a verb is to call; None when nothing is to be drawn."""
        return self._draw if self._on else None

    def __enter__(self) -> Self:
        if self._on and sys.stdout.isatty():
            self._redirected.enter_context(redirect_stdout(self._before(sys.stdout)))
        if self._on:
            self._redirected.enter_context(redirect_stderr(self._before(sys.stderr)))
            self._ticker = Ticker(self._wait, _EVERY)
        return self

    def _before(self, stream: TextIO) -> Any:
        self._above.append(_Above(stream, self))
        return self._above[-1]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ticker is not None:
            self._ticker.close()  # without the lock, for which it may wait
        with self.lock:
            self._redirected.close()
            self._on = False
            self.clear()
            if self._bars is not None:
                self._bars.close()

    def again(self) -> None:
        """Draw it again, where something else has changed: `parts`."""
        if self.callback is not None:
            self._draw(self._last or Progress())

    def _wait(self) -> None:
        """Draw it again, unless there was nothing yet: somebody may be asked for a password meanwhile."""
        if self._last is not None and self._on:
            self._draw(self._last)

    def clear(self) -> None:
        """Take the line off the screen."""
        with self.lock:
            if self._drawn and self._bars is not None:
                self._drawn = False
                self._bars.clear()

    def stop(self) -> None:
        """Take the line off the screen, and draw no more."""
        with self.lock:
            self.clear()
            self._on = False

    def on_chunk(self, index: Index | None) -> Callable[[IndexChunk], None] | None:
        """What is to be told of chunks as they are read, in the order of an index; None when nothing is to be drawn."""
        reporter = Reporter(self.callback)
        if index is None or not reporter.active:
            return None
        reporter.state.total = index.size

        def told(chunk: IndexChunk) -> None:
            reporter.state.done = chunk.end
            reporter.state.chunks += 1
            reporter.state.new_chunks += 1
            if reporter.due:
                reporter.report()

        return told

    def before(self, lines: Iterable[bytes]) -> Iterable[bytes]:
        """Lines for standard output: where that is no file, the line gives way to the first, and does not come back.

        A terminal shows how it goes on by itself; and what reads a pipe, a pager say, may have the screen for itself.
        """
        if not self._on or stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode):
            return lines
        return self._until_the_first(lines)

    def _until_the_first(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        for number, line in enumerate(lines):
            if not number:
                self.stop()
            yield line

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
        self._last = progress
        if time.monotonic() - self._begin < _QUIET:
            return
        parts = self.parts()  # without the lock: who knows them may be waiting for it
        with self.lock:
            if not self._on or not all(above.ended for above in self._above):
                return
            if self._bars is None:
                from casync_compat.cli._bars import Bars  # lazily: tqdm costs a tenth of a second

                self._bars = Bars(self._what, self._fetched, self._screen, self._began)
            self._drawn = True
            self._bars.show(progress, parts)
