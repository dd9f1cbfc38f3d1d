"""How many processors this process may keep busy: those it may run on, or less where a quota of a container says so.

A quota (`docker run --cpus`, `CPUQuota=` of a unit) leaves all processors in sight and takes time away from whoever
uses them all: threads beyond it only wait. It is in files of control groups, of this one and of those that it is in,
see cgroups(7): `cpu.max` of version 2, `cpu.cfs_quota_us` and `cpu.cfs_period_us` of version 1.

    >>> processors() >= 1
    True
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator
from contextlib import suppress

__all__ = ["processors", "quota"]

_MOST = 4096
_UNIFIED = ("sys/fs/cgroup", "sys/fs/cgroup/unified")
_OF_ITS_OWN = ("sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct")
"""Where trees of control groups are, of version 2 and of version 1."""


def processors() -> int:
    """Those this process may keep busy, 1 at least."""
    allowed = len(os.sched_getaffinity(0))
    limit = _quota_here()
    return max(1, allowed if limit is None else min(allowed, math.ceil(limit)))


@functools.cache
def _quota_here() -> float | None:
    return quota("/")


def quota(root: str) -> float | None:
    """The processors' time that control groups leave this process, in processors; None for all that there is.

    :param root: where `proc` and `sys` are
    """
    found: list[float] = []
    for line in _read(os.path.join(root, "proc/self/cgroup")).splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        unified = not controllers
        if not unified and "cpu" not in controllers.split(","):
            continue
        for tree in _UNIFIED if unified else _OF_ITS_OWN:
            for directory in _upwards(os.path.join(root, tree), path):
                names = ("cpu.max",) if unified else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                found.extend(_share(" ".join(_read(os.path.join(directory, name)) for name in names)))
    return min(found, default=None)


def _upwards(tree: str, path: str) -> Iterator[str]:
    """Directories of a group and of those that it is in. In a container the path may be that of the host: then only
    the top is there, which is its own."""
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    for count in range(len(parts), -1, -1):
        yield os.path.join(tree, *parts[:count])


def _share(text: str) -> Iterator[float]:
    """What a quota and its period say, both in microseconds. Nothing where there is none: `max`, or -1."""
    words = text.split()
    if len(words) == 2 and all(word.isdecimal() for word in words) and int(words[1]) > 0:
        yield int(words[0]) / int(words[1])


def _read(path: str) -> str:
    with suppress(OSError, UnicodeDecodeError), open(path, encoding="ascii") as file:
        return file.read(_MOST)
    return ""
