"""The progress line: its text at every width, and its silence."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyte
import pytest

from casync_compat.chunker import ChunkSizes
from casync_compat.cli import _bars, _progress
from casync_compat.cli._progress import ProgressLine, human_size
from casync_compat.ids import Digest
from casync_compat.index import IndexBuilder
from casync_compat.progress import Progress, Reporter
from catar import flags

MIB = 1 << 20


@pytest.fixture(autouse=True)
def only_what_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is drawn by itself, however long a test takes."""
    monkeypatch.setattr(_progress, "_EVERY", 3600.0)


class Terminal(io.StringIO):
    """Standard error as a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (999, "999 B"),
        (1000, "0.977 KiB"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (100 * 1024, "100 KiB"),
        (999 * 1024, "999 KiB"),
        (1000 * 1024, "0.977 MiB"),
        (12_345_678, "11.8 MiB"),
        (20 << 30, "20 GiB"),
        (5 << 60, "5 EiB"),
        (5000 << 60, "5000 EiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    """Three digits and a binary unit."""
    assert human_size(count) == text


def line(progress: Progress, width: int = 200, elapsed: float = 10.0, fetched: str = "new") -> str:
    return _bars.text("making", fetched, progress, elapsed, width)


def test_everything_is_shown() -> None:
    """Share, bytes, speed, time left, files, chunks and the path."""
    progress = Progress(25 * MIB, 100 * MIB, entries=3, chunks=10, new_chunks=4, path=b"usr/lib")
    assert line(progress) == (
        "making  25%  |█████               |  25 MiB of 100 MiB  2.5 MiB/s  0:30 left  "
        "3 files  chunks: 4 new, 6 reused  usr/lib"
    )


def test_without_a_total() -> None:
    """When nobody knows how much there is, no share and no time are made up."""
    assert line(Progress(25 * MIB)) == "making  25 MiB  2.5 MiB/s"
    assert line(Progress(25 * MIB, 0)) == "making  25 MiB  2.5 MiB/s"


def test_at_the_beginning_and_the_end() -> None:
    """No time is left when all is done, and none is known before anything is."""
    assert line(Progress(0, 100 * MIB)) == f"making  0%  |{' ' * 20}|  0 B of 100 MiB  0 B/s"
    assert line(Progress(100 * MIB, 100 * MIB)) == f"making  100%  |{'█' * 20}|  100 MiB of 100 MiB  10 MiB/s"
    assert line(Progress(0, 100), elapsed=0.0) == f"making  0%  |{' ' * 20}|  0 B of 100 B  0 B/s"


def test_long_times() -> None:
    """Hours are shown when there are some."""
    assert "2:46:30 left" in line(Progress(MIB, 1000 * MIB))


def test_what_is_not_bytes() -> None:
    """Other things are counted by their name."""
    bar = "|█████               |"
    assert (
        line(Progress(50, 200, unit="chunks"))
        == f"making  25%  {bar}  50 of 200 chunks  5 chunks/s  0:30 left"
    )
    assert line(Progress(50, unit="chunks")) == "making  50 chunks  5 chunks/s"


def test_fetched_chunks() -> None:
    """Extraction calls new chunks by another name."""
    assert "chunks: 4 fetched, 6 reused" in line(Progress(1, chunks=10, new_chunks=4), fetched="fetched")
    each = Progress(1, chunks=10, new_chunks=4, seed_chunks=5, kept_chunks=1, total_chunks=12)
    assert "chunks: 4 fetched, 5 from seeds, 1 in place, 2 left" in line(each, fetched="fetched")


@pytest.mark.parametrize("width", [0, 1, 10, 40, 79, 200])
def test_widths(width: int) -> None:
    """The line never gets longer than the terminal, which would scroll it."""
    progress = Progress(25 * MIB, 100 * MIB, entries=3, chunks=10, new_chunks=4, path=b"x" * 300)
    text = line(progress, width)
    assert len(text) == min(width, len(line(progress, 1000)))
    bar = "|█████               |  "
    assert line(progress, 1000).replace(bar, "" if width < 60 else bar).startswith(text)


def test_wide_characters() -> None:
    """Characters that take two columns are counted as two."""
    assert line(Progress(1, path="漢字".encode() * 99), 40).count("字") == 5


def test_odd_paths() -> None:
    """A path cannot break the line or the terminal."""
    text = line(Progress(1, path=b"a\nb\x1b[2J\xff"))
    assert text.isprintable()
    assert text.endswith(r"a\nb\x1b[2J\xff")


def test_drawn_and_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the line is drawn over itself and gone at the end."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(_progress, "_QUIET", 0)
    with ProgressLine("making") as drawn:
        assert drawn.callback is not None
        drawn.callback(Progress(1))
        assert terminal.getvalue().startswith("\rmaking  1 B")
        drawn.callback(Progress(2))
    assert terminal.getvalue().endswith("\r\x1b[K")
    assert "\n" not in terminal.getvalue()


def test_quick_work_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done at once is not worth a line."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with ProgressLine("making") as drawn:
        assert drawn.callback is not None
        drawn.callback(Progress(1))
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("wanted", [True, False])
def test_nothing_in_a_pipe(monkeypatch: pytest.MonkeyPatch, wanted: bool) -> None:
    """Nothing is drawn, or even worked out, when no terminal is there or none is wanted."""
    stream = io.StringIO() if wanted else Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(_progress, "_QUIET", 0)
    with ProgressLine("making", wanted=wanted) as drawn:
        assert drawn.callback is None
    assert stream.getvalue() == ""


def test_what_is_said_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line gives way to what is written, and does not come back behind half a line."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(_progress, "_QUIET", 0)
    with ProgressLine("making") as drawn:
        assert drawn.callback is not None
        drawn.callback(Progress(1))
        assert sys.stderr.isatty()
        sys.stderr.write("half")
        assert terminal.getvalue().endswith("\r\x1b[Khalf")
        drawn.callback(Progress(2))
        assert terminal.getvalue().endswith("half")
        print(" a line", file=sys.stderr)
        drawn.callback(Progress(3))
        assert "half a line\n\rmaking  3 B" in terminal.getvalue()
    assert sys.stderr is terminal


def test_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line is drawn again where nothing more is told, and after a while nothing is as fast as it was."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(_progress, "_QUIET", 0)
    monkeypatch.setattr(_progress, "_EVERY", 0.01)
    with ProgressLine("pulling") as drawn:
        assert drawn.callback is not None
        time.sleep(0.05)
        assert terminal.getvalue() == ""  # somebody may be asked for a password
        drawn.callback(Progress())
        while terminal.getvalue().count("pulling  0 B  0 B/s") < 2:
            time.sleep(0.01)
        for done in (1, 1 << 30, 2 << 30):
            drawn.callback(Progress(done, 4 << 30))
        assert " left" in terminal.getvalue()
        monkeypatch.setattr(_bars, "_STALLED", 0.0)
        while not terminal.getvalue().endswith("2 GiB of 4 GiB  0 B/s"):
            time.sleep(0.01)


def test_one_thing_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """What begins anew has a speed of its own."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(_progress, "_QUIET", 0)
    with ProgressLine("collecting") as drawn:
        assert drawn.callback is not None
        drawn.callback(Progress(1 << 60, unit="chunks"))
        drawn.callback(Progress(0, 9, unit="chunks"))
        assert terminal.getvalue().endswith("0 of 9 chunks  0 chunks/s")


@pytest.mark.parametrize("to_file", [True, False])
def test_lines_of_a_listing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, to_file: bool) -> None:
    """The line stays while lines go to a file, and gives way for good to the first that goes anywhere else."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(_progress, "_QUIET", 0)
    monkeypatch.setattr(Reporter, "due", True)
    index = IndexBuilder(flags.DEFAULT, ChunkSizes())
    index.append(Digest.SHA512_256.of(b""), 100)
    index.append(Digest.SHA512_256.of(b"x"), 300)
    with open(tmp_path / "out" if to_file else "/dev/null", "w") as out, ProgressLine("listing") as drawn:
        monkeypatch.setattr(sys, "stdout", out)
        on_chunk = drawn.on_chunk(made := index.build())
        assert on_chunk is not None
        chunks = list(made)
        on_chunk(chunks[0])
        assert "listing  25%" in terminal.getvalue()
        assert list(drawn.before([b"a", b"b"])) == [b"a", b"b"]
        on_chunk(chunks[1])
        assert ("listing  100%" in terminal.getvalue()) == to_file
    assert ProgressLine("listing", wanted=False).on_chunk(made) is None
    assert ProgressLine("listing", wanted=False).before(lines := [b"a"]) is lines


def test_parts_that_are_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the line of the whole stands one for each part that is under way, as many as fit, and none at the end."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(_progress, "_QUIET", 0)

    def shown() -> list[str]:
        screen = pyte.Screen(80, 24)
        screen.set_mode(pyte.modes.LNM)  # a terminal's driver does that to new lines
        pyte.Stream(screen).feed(terminal.getvalue())
        return [line.rstrip()[:12].rstrip() for line in screen.display if line.strip()]

    def parts(names: str) -> Callable[[], list[tuple[str, Progress]]]:
        return lambda: [(name, Progress(1, 2)) for name in names]

    with ProgressLine("pushing") as drawn:
        assert drawn.callback is not None
        drawn.parts = parts("ab")
        drawn.callback(Progress(2, 9))
        assert shown() == ["pushing  22%", "  a  50%  |█", "  b  50%  |█"]
        assert "1 B of 2 B  0 B/s" in terminal.getvalue()  # how fast it was before nobody knows
        drawn.parts = parts("bc")
        drawn.callback(Progress(3, 9))
        assert shown() == ["pushing  33%", "  c  50%  |█", "  b  50%  |█"]
        print("a line", file=sys.stderr)
        assert shown() == ["a line"]
        drawn.parts = parts("abcdefghijklm")
        drawn.callback(Progress(4, 9))
        assert len(shown()) == 10
    assert shown() == ["a line"]
