"""Waiting that ends when the process is to end: for pauses between attempts, and for what moves transfers.

Threads that wait for the network are waited for in turn when a run ends, and a server that says nothing may keep them
for minutes. Whoever ends a run early says so here, from a signal handler if need be: no lock is taken.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["give_up", "has_ended", "rest", "tell"]

_SLICE = 0.05
"""Seconds between two looks at whether it is still worth waiting."""


class _State:
    def __init__(self) -> None:
        self.ended = False
        self.told: list[Callable[[], None]] = []


_state = _State()


def give_up() -> None:
    """The process is to end: nothing is waited for any more, in no thread."""
    _state.ended = True
    for call in list(_state.told):
        call()


def has_ended() -> bool:
    """Whether nothing is waited for any more."""
    return _state.ended


def tell(call: Callable[[], None]) -> None:
    """Have something called, from whichever thread, when nothing is waited for any more."""
    _state.told.append(call)


def rest(seconds: float) -> None:
    """Sleep, but no longer than until `give_up`."""
    end = time.monotonic() + seconds
    while not _state.ended and (left := end - time.monotonic()) > 0:
        time.sleep(min(left, _SLICE))
