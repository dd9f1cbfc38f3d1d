"""What is mounted, for this process: `/proc/self/mountinfo` (proc_pid_mountinfo(5))."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Mount", "mount_points", "mounts"]


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount.

    :ivar number: its id, which another may have once it is gone
    :ivar path: where it is
    :ivar kind: of the file system, `overlay` say
    """

    number: bytes
    path: bytes
    kind: bytes


def mounts() -> list[Mount]:
    """All mounts, later ones after those that they lie on; none where there is no /proc."""
    try:
        with open("/proc/self/mountinfo", "rb") as info:
            return [_mount(line) for line in info]
    except (OSError, IndexError):
        return []


def mount_points() -> list[bytes]:
    """Where file systems are mounted."""
    return [mount.path for mount in mounts()]


def _mount(line: bytes) -> Mount:
    before, _, after = line.partition(b" - ")
    fields = before.split(b" ", 5)
    path = re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), fields[4])
    return Mount(fields[0], path, after.split(b" ", 1)[0])
