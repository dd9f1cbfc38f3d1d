"""The command on a terminal of its own: a pseudo-terminal as some or all of its standard streams."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyte

import casync_compat
from casync_compat.fs.waiting import readable

__all__ = ["Terminal"]

_LIMIT = 60.0


class Terminal:
    """A run of the command whose user sits before a terminal. A context manager, which ends the run.

    :param words: of the command line
    :param streams: numbers of the standard streams that are the terminal
    :param stdin: standard input, where that is not the terminal; so is `stdout`
    :ivar seen: what came to the terminal so far
    """

    def __init__(
        self,
        words: Sequence[str],
        cwd: Path,
        *,
        streams: Sequence[int] = (0, 1, 2),
        columns: int = 80,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
        environ: Mapping[str, str] | None = None,
        program: Sequence[str] = (sys.executable, "-m", "casync_compat"),
    ) -> None:
        self.columns = columns
        self._ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        given = (stdin, stdout, subprocess.PIPE)
        in_, out, err = (theirs if number in streams else given[number] for number in range(3))
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CASYNC_")}
        root = str(Path(casync_compat.__file__).parents[1])  # the one that is tested, which may be a wheel
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            [*program, *words],
            cwd=cwd,
            stdin=in_,
            stdout=out,
            stderr=err,
            env=kept | {"TERM": "xterm", "PYTHONPATH": path} | dict(environ or {}),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        self.seen = ""
        self._ended = False

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        self.process.wait(_LIMIT)
        os.close(self._ours)

    def type(self, keys: bytes) -> None:
        """Press keys; `\\x03` is Ctrl-C."""
        os.write(self._ours, keys)

    def look(self, seconds: float) -> None:
        """Take in what comes within a time."""
        if not self._ended and readable([self._ours], seconds):
            try:
                data = os.read(self._ours, 1 << 16)
            except OSError:  # nobody has the other end any more
                data = b""
            self._ended = not data
            self.seen += data.decode("utf-8", "replace")

    def wait_for(self, text: str) -> None:
        """Wait until something is seen. Fails when it does not come."""
        until = time.monotonic() + _LIMIT
        while text not in self.seen:
            assert not self._ended, f"{text!r} is not in {self.seen!r}"
            assert time.monotonic() < until, f"{text!r} does not come: {self.seen!r}"
            self.look(0.1)

    @property
    def lines(self) -> list[str]:
        """What was said in lines of its own, without what was drawn and taken off again."""
        text = re.sub(r"\r[^\n]*\x1b\[K", "", self.seen)
        return text.replace("\r\n", "\n").splitlines()

    @property
    def screen(self) -> list[str]:
        """What stands on the screen now."""
        screen = pyte.Screen(self.columns, 24)
        pyte.Stream(screen).feed(self.seen)
        return [line.rstrip() for line in screen.display]

    def end(self) -> int:
        """Wait for the end. Returns the exit status, or the negative number of the signal that ended it."""
        until = time.monotonic() + _LIMIT
        while not self._ended:
            assert time.monotonic() < until, f"it does not end: {self.seen!r}"
            self.look(0.1)
        return self.process.wait(_LIMIT)
