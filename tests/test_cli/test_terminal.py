"""What the command says to a person at a terminal, and does not say to a pipe."""

from __future__ import annotations

import os
import re
import select
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from terminals import Terminal

BLOCK = bytes(4 << 10)


def _takes(fd: int, seconds: float) -> bool:
    """Whether something can be written within a time."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(seconds * 1000))


class Fed(Terminal):
    """A run that makes an index of what comes through a pipe, as long as the test likes."""

    def __init__(
        self,
        cwd: Path,
        *words: str,
        columns: int = 80,
        program: Sequence[str] = (sys.executable, "-m", "casync_compat"),
        **environ: str,
    ) -> None:
        reading, self._pipe = os.pipe()
        super().__init__(
            ["make", "x.caibx", *words],
            cwd,
            streams=(1, 2),
            columns=columns,
            stdin=reading,
            environ=environ,
            program=program,
        )
        os.close(reading)

    def feed(self, text: str = "", *, seconds: float = 60.0) -> None:
        """Give it work until something is seen, or until the time is over."""
        rounds = int(seconds / 0.02)
        for _ in range(rounds):
            if _takes(self._pipe, 0.02):
                os.write(self._pipe, BLOCK)
            self.look(0.01)
            if text and text in self.seen:
                return
        assert not text, f"{text!r} does not come: {self.seen!r}"

    def finish(self) -> int:
        """Let the input end. Returns the exit status."""
        os.close(self._pipe)
        return self.end()


@contextmanager
def alone(tmp_path: Path, *words: str, streams: tuple[int, ...] = (0, 1, 2)) -> Iterator[Terminal]:
    with Terminal(words, tmp_path, streams=streams) as terminal:
        yield terminal


def said(tmp_path: Path, *words: str) -> tuple[int, list[str]]:
    """Exit status and lines of a run on a terminal."""
    with alone(tmp_path, *words) as terminal:
        return terminal.end(), terminal.lines


def test_progress(tmp_path: Path) -> None:
    """Work that lasts shows bytes and speed in one line, which gives way to a line that says what was done."""
    with Fed(tmp_path) as terminal:
        terminal.feed("/s")
        assert "making" in terminal.seen
        assert terminal.finish() == 0
        summary, digest = terminal.lines
    assert summary.startswith("made x.caibx: ")
    assert summary.endswith(" s")
    assert len(digest) == 64


def test_ctrl_c(tmp_path: Path) -> None:
    """Ctrl-C takes the line away, nothing half made is left, and the process dies of the signal."""
    with Fed(tmp_path) as terminal:
        terminal.feed("/s")
        terminal.type(b"\x03")
        terminal.feed("quitting")
        assert terminal.end() == -signal.SIGINT
        assert terminal.lines[-1].removeprefix("^C") == "Got exit signal, quitting."
    assert list(tmp_path.glob("*.caibx*")) == []


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_a_line_at_every_width(tmp_path: Path, columns: int) -> None:
    """Progress keeps to one line of the terminal, and has no colours, whatever NO_COLOR says."""
    with Fed(tmp_path, columns=columns, NO_COLOR="1") as terminal:
        terminal.feed("making")
        terminal.feed(seconds=0.5)
        shown = [line for line in terminal.screen if line]
        assert len(shown) == 1
        assert shown[0].startswith("making  ")
        assert len(shown[0]) < columns
        assert terminal.finish() == 0
        assert not [line for line in terminal.screen if "making" in line]
        assert re.search(r"\x1b\[[0-9;]*m", terminal.seen) is None


@pytest.mark.parametrize("words", ["-v", "--log-level=debug"])
def test_progress_below_what_is_said(tmp_path: Path, words: str) -> None:
    """Who wants to hear more still sees progress, below what is said meanwhile, which stays whole."""
    with Fed(tmp_path, words) as terminal:
        terminal.feed("making")
        terminal.feed("/s")
        assert any(line.startswith("making") for line in terminal.screen)
        assert terminal.finish() == 0
        assert not [line for line in terminal.screen if "making" in line]
        assert any(line.startswith("made x.caibx: ") for line in terminal.screen)
        said = "Selected chunk sizes" if words == "-v" else "pycasync: info: make: status 0"
        assert any(line.startswith(said) for line in terminal.screen)


def test_the_library_is_loaded_when_it_draws(tmp_path: Path) -> None:
    """Runs in pipes, and those that are over at once, do not pay for the library that draws."""
    code = "import sys; from casync_compat.cli import main; main(); print('tqdm' in sys.modules)"
    with Fed(tmp_path, program=(sys.executable, "-c", code)) as terminal:
        assert terminal.finish() == 0
        assert terminal.lines[-1] == "False"
    with Fed(tmp_path, program=(sys.executable, "-c", code)) as terminal:
        terminal.feed("making")
        assert terminal.finish() == 0
        assert terminal.lines[-1] == "True"


@pytest.mark.parametrize("words", ["--quiet", "-q", "--no-progress"])
def test_no_progress(tmp_path: Path, words: str) -> None:
    """Who wants no progress gets none; `-q` leaves only what was asked for."""
    with Fed(tmp_path, words) as terminal:
        terminal.feed(seconds=0.8)
        assert terminal.finish() == 0
        assert "\x1b" not in terminal.seen
        assert len(terminal.lines) == (2 if words == "--no-progress" else 1)


def test_a_dumb_terminal(tmp_path: Path) -> None:
    """A terminal that cannot take a line back is told only what was done."""
    with Fed(tmp_path, TERM="dumb") as terminal:
        terminal.feed(seconds=0.8)
        assert terminal.finish() == 0
        assert "\x1b" not in terminal.seen
        assert len(terminal.lines) == 2


def test_a_pipe_is_told_nothing(tmp_path: Path, tree: Path) -> None:
    """Where standard error is no terminal there is neither progress nor summary."""
    with alone(tmp_path, "make", "x.caidx", "tree", streams=(0, 1)) as terminal:
        assert terminal.end() == 0
        assert len(terminal.lines) == 1
        assert terminal.process.stderr is not None
        assert terminal.process.stderr.read() == b""


def test_summaries(tmp_path: Path, tree: Path) -> None:
    """At the end stands what was done, how much, how much of it was new, and how long it took."""
    status, lines = said(tmp_path, "make", "x.caidx", "tree")
    assert status == 0
    assert lines[0].startswith("made x.caidx: 251 KiB, 5 entries, ")
    assert " new: " in lines[0]
    status, lines = said(tmp_path, "extract", "x.caidx", "out")
    assert status == 0
    assert lines[-1].startswith("extracted x.caidx: 251 KiB, 5 entries, ")
    assert " fetched: " in lines[-1]


def test_json_comes_alone(tmp_path: Path, tree: Path) -> None:
    """Who asks for JSON gets no sentence beside it."""
    status, lines = said(tmp_path, "make", "--json", "x.caidx", "tree")
    assert (status, len(lines)) == (0, 1)
    assert lines[0].startswith('{"output"')


@pytest.mark.parametrize("words", ["make", "make - tree", "make --what=archive-index"])
def test_no_archive_on_a_terminal(tmp_path: Path, tree: Path, words: str) -> None:
    """An archive is not poured on a terminal."""
    status, lines = said(tmp_path, *words.split())
    assert (status, len(lines)) == (1, 1)
    assert "standard output is a terminal" in lines[0]
    assert "`pycasync make x.caidx DIRECTORY`" in lines[0]


@pytest.mark.parametrize("words", ["extract", "extract - out"])
def test_no_archive_from_a_keyboard(tmp_path: Path, words: str) -> None:
    """Without an input nobody waits for somebody to type an archive."""
    status, lines = said(tmp_path, *words.split())
    assert (status, len(lines)) == (1, 1)
    assert "standard input is a terminal" in lines[0]


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_help_keeps_within_the_terminal(tmp_path: Path, columns: int) -> None:
    """Help is folded to the width of the terminal; only a word that is longer than that stands out."""
    with Terminal(["oci", "convert", "--help"], tmp_path, columns=columns) as terminal:
        assert terminal.end() == 0
        for line in terminal.lines:
            assert len(line) <= columns or len(line.split()) <= 2 or "pycasync oci" in line, line
        assert terminal.lines[0].startswith("usage: pycasync oci convert [OPTIONS]")
