"""How often those who share a store renew what they left there, and look at what others did (`leases`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["PACE", "Pace", "boot_time"]


def boot_time() -> float:
    """Seconds since the machine was started, those in which it slept included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often what is done, in seconds.

    :ivar renew: a lease is renewed
    :ivar dead: what was not renewed for so long is dead
    :ivar quiet: who waits longer says so
    :ivar poll: at first, between two looks; then longer, up to a second
    :ivar clock: a clock that is never set
    """

    renew: float = 60.0
    dead: float = 600.0
    quiet: float = 1.0
    poll: float = 0.05
    clock: Callable[[], float] = boot_time
    sleep: Callable[[float], None] = time.sleep


PACE = Pace()
