"""Commands that go on until they are told to end: in the background, and what they say once they are at work."""

from __future__ import annotations

import os
import sys

from casync_compat.fs.notify import notify

__all__ = ["in_background", "let_go", "tell_ready"]

_READY: list[int] = []
"""What the process in front waits at."""


def tell_ready() -> None:
    """Tell systemd, if it started this and waits for it."""
    notify(os.environ.get("NOTIFY_SOCKET", ""), "READY=1")


def in_background() -> int | None:
    """Go on in a process of its own: None there. Where the command was given, its exit status, once it is known.

    That is 0 when the other has said `let_go`, and what it ended with when it did not come so far. Nothing may have
    been started yet, neither threads nor connections.
    """
    waits, ready = os.pipe2(os.O_CLOEXEC)
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        os.close(waits)
        os.setsid()
        _READY.append(ready)
        return None
    os.close(ready)
    with open(waits, "rb") as told:
        if told.read(1):
            return 0
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or 1


def let_go() -> None:
    """In the background: the command is at work, and has no more to say to the terminal."""
    sys.stdout.flush()
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    os.close(nothing)
    ready = _READY.pop()
    os.write(ready, b"y")
    os.close(ready)
