"""Commands that have something mounted: from when it is there until somebody takes it away."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from casync_compat.cli._daemon import let_go, tell_ready
from casync_compat.mount.nbd import NbdServer
from casync_compat.mount.session import MountSession

__all__ = ["until_gone"]


def until_gone(session: MountSession | NbdServer, text: str, *, background: bool) -> None:
    """Say that it is mounted, and wait until it is not any more; signals that would end the process end that.

    :param text: a line for standard output
    :param background: whether this is the process that goes on in the background (`_daemon.in_background`)
    """
    with session, _stopping(session):
        print(text, flush=True)
        tell_ready()
        if background:
            let_go()
        session.wait()


@contextmanager
def _stopping(session: MountSession | NbdServer) -> Iterator[None]:
    """Signals that would end the process end the session."""
    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = {number: signal.signal(number, lambda *_: session.stop()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
