"""The process of a run, and when it was started."""

from __future__ import annotations

import os
import time
from contextlib import suppress

__all__ = ["run_begins", "started"]

_own = False
_START = 19
"""Place in /proc/PID/stat (proc_pid_stat(5)), counted from what follows the name."""


def run_begins(*, own_process: bool) -> None:
    """To be told first. :param own_process: whether the process was started for this run, and did nothing before"""
    global _own
    _own = own_process


def started() -> float:
    """When a run was started: with its process, if that is its own, and else just now.

    :returns: seconds since the machine was, as `store.pace.boot_time`
    """
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    if _own:
        with suppress(OSError, ValueError, IndexError), open("/proc/self/stat", "rb") as file:
            ticks = int(file.read().rpartition(b")")[2].split()[_START])
            return min(ticks / os.sysconf("SC_CLK_TCK"), now)
    return now
