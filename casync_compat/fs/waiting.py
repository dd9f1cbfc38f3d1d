"""Waiting until there is something to read, whatever numbers descriptors have: select(2) knows none above 1023."""

from __future__ import annotations

import select
from collections.abc import Iterable

__all__ = ["readable"]


def readable(fds: Iterable[int], seconds: float | None) -> set[int]:
    """Those that something can be read from, or the end.

    :param seconds: how long to wait for the first; None for ever
    """
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return {fd for fd, _ in poll.poll(None if seconds is None else max(0.0, seconds) * 1000)}
