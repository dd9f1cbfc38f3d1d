"""Runs that are told to end: they die of the signal, with casync's one line and no temporary files; and soon, whatever
they wait for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from .hostile import LETTERS, tree
from .running import environment, start, temporary_files, works

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
SOON = 10


def wait_for(condition: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    """Until a run has come to some point."""
    for _ in range(2000):
        if condition():
            return
        assert process.poll() is None, process.stderr
        time.sleep(0.01)
    raise AssertionError("it never came to the point")


def holds_open(process: subprocess.Popen[bytes], at: Path) -> bool:
    """Whether a run is writing a file in a directory that has no final name yet."""
    for fd in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(OSError):
            path = os.readlink(fd)
            if path.startswith((f"{at}/#", f"{at}/.#")):
                return True
    return False


def told_to_end(process: subprocess.Popen[bytes], number: int, *earlier: int) -> None:
    """Send a signal to a run and expect it to end as it should, by this one or one of those that were sent before."""
    process.send_signal(number)
    try:
        assert process.wait(SOON) in [-each for each in (number, *earlier)]
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.stderr is not None
    (line,) = process.stderr.read().splitlines()
    assert line.startswith(b"Got exit signal, quitting.")
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


@pytest.fixture
def at(tmp_path: Path) -> Path:
    here = tmp_path / "here"
    here.mkdir()
    return here


@pytest.mark.parametrize("number", SIGNALS)
def test_make_that_waits_for_input(at: Path, number: int) -> None:
    """An index of a stream that stalls: no index appears, an old one stays."""
    (at / "x.caibx").write_bytes(b"old")
    process = start("make", "x.caibx", "-", cwd=at, stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(Random(1).randbytes(6 << 20))
    process.stdin.flush()
    wait_for(lambda: list(at.glob("default.castr/*/*.cacnk")), process)
    told_to_end(process, number)
    assert (at / "x.caibx").read_bytes() == b"old"
    assert temporary_files(at) == []


@pytest.mark.parametrize("output", ["x.catar", "x.caidx"])
def test_make_in_the_middle(at: Path, output: str) -> None:
    """A large tree: the output does not appear, nor does anything temporary stay."""
    (at / "src").mkdir()
    with open(at / "src" / "large", "wb") as file:
        file.truncate(64 << 30)
    process = start("make", output, "src", cwd=at)
    wait_for(lambda: holds_open(process, at), process)
    time.sleep(0.3)
    told_to_end(process, signal.SIGTERM)
    assert sorted(set(os.listdir(at)) - {"default.castr"}) == ["src"]
    assert temporary_files(at) == []


@pytest.mark.parametrize("number", SIGNALS)
def test_make_whose_reader_stalls(at: Path, number: int) -> None:
    """Output that nobody takes does not keep a run from ending."""
    (at / "src").mkdir()
    (at / "src" / "large").write_bytes(bytes(32 << 20))
    process = start("make", "-", "src", cwd=at)
    time.sleep(1.0)
    assert process.poll() is None
    told_to_end(process, number)


@pytest.mark.parametrize("number", SIGNALS)
def test_extract_that_waits_for_input(at: Path, number: int) -> None:
    """Half an archive from a stream that stalls: what was complete stays, what was not goes."""
    from strategies import file

    data = tree(file(b"a", LETTERS), file(b"b", LETTERS * 100_000))
    (at / "out").mkdir()
    (at / "out" / "b").write_text("old")
    process = start("extract", "--what=archive", "-", "out", cwd=at, stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(data[: len(data) // 2])
    process.stdin.flush()
    wait_for(lambda: temporary_files(at), process)
    told_to_end(process, number)
    assert (at / "out" / "a").read_bytes() == LETTERS
    assert (at / "out" / "b").read_text() == "old"
    assert sorted(os.listdir(at / "out")) == ["a", "b"]


def test_extract_of_a_blob_in_the_middle(at: Path) -> None:
    """The old file stays whole, and the half-written new one goes."""
    with open(at / "blob", "wb") as file:
        file.truncate(64 << 20)
        file.write(b"end")
    works("make", "x.caibx", "blob", "--chunk-size=1K", cwd=at)
    (at / "new").write_text("old")
    process = start("extract", "x.caibx", "new", cwd=at)
    wait_for(lambda: holds_open(process, at), process)
    told_to_end(process, signal.SIGTERM)
    assert (at / "new").read_text() == "old"
    assert temporary_files(at) == []


@pytest.mark.parametrize("words", ["digest large", "list - --what=archive", "mtree ."])
def test_verbs_that_only_read(at: Path, words: str) -> None:
    """They end too, in the middle of a file."""
    with open(at / "large", "wb") as file:
        file.truncate(64 << 30)
    process = start(*words.split(), cwd=at, stdin=subprocess.PIPE)
    time.sleep(0.8)
    told_to_end(process, signal.SIGINT)
    assert os.listdir(at) == ["large"]


def test_two_signals(at: Path) -> None:
    """A second signal does not disturb what cleans up after the first."""
    process = start("make", "x.caibx", "-", cwd=at, stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(Random(1).randbytes(6 << 20))
    process.stdin.flush()
    wait_for(lambda: list(at.glob("default.castr/*/*.cacnk")), process)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGHUP)
    told_to_end(process, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    assert temporary_files(at) == []


def catches(process: subprocess.Popen[bytes], number: int) -> bool:
    """Whether a process has a handler for a signal."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt:")).split()[1], 16)
    return bool(caught >> (number - 1) & 1)


@pytest.mark.parametrize("words", ["oci ls oci:lay:x", "list x.caidx", "oci stats oci:lay:x"])
def test_while_it_starts(at: Path, words: str) -> None:
    """From its first line on, wherever a run is in its imports: one line, no traceback."""
    from test_oci.images import build, layer, layout_at, noise

    with layout_at(at / "lay") as layout:
        build(layout, "x", [layer({"etc/file": noise(5000)})])
    (at / "src").mkdir()
    works("make", "x.caidx", "src", cwd=at)
    began = time.monotonic()
    with start(*words.split(), cwd=at) as process:
        process.communicate()
    whole = time.monotonic() - began
    chance = Random(words)
    for turn in range(8):
        number = SIGNALS[turn % 2]
        with start(*words.split(), cwd=at) as process:
            # Before, Python itself is starting, and answers as Python does.
            while process.poll() is None and not catches(process, signal.SIGTERM):
                time.sleep(0.001)
            time.sleep(chance.uniform(0, whole))
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        assert (process.returncode, err) in ((0, b""), (-number, b"Got exit signal, quitting.\n"))


def test_an_ignored_signal_stays_ignored(at: Path) -> None:
    """What nohup has switched off is not switched on again."""
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start("make", "x.caibx", "-", cwd=at, stdin=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGHUP, old)
    time.sleep(0.6)
    process.send_signal(signal.SIGHUP)
    out, err = process.communicate(b"blob")
    assert (process.returncode, err) == (0, b"")
    assert len(out) == 65
    assert (at / "x.caibx").exists()


LOCKING = """
import os, signal, sys, threading, time
from casync_compat import cli

class Lock:
    # As one of threading, but a signal always comes just when it was taken.
    def __init__(self):
        self.real = threading.Lock()
        self.acquire, self.release = self.real.acquire, self.real.release
    def __enter__(self):
        self.real.acquire()
        os.kill(os.getpid(), signal.SIGTERM)
    def __exit__(self, *_):
        self.real.release()

cli._catch_signals()
lock = Lock()
try:
    with threading.Condition(lock):
        pass
    time.sleep(20)
except cli._Interrupted:
    sys.exit("still locked" if lock.real.locked() else "")
"""


def test_a_signal_while_a_lock_is_taken(at: Path) -> None:
    """What is locked just then is let go first; else a thread that needs it would be waited for without end."""
    command = [sys.executable, "-c", LOCKING]
    done = subprocess.run(command, cwd=at, env=environment(), stderr=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stderr.strip()) == (1, b"")
