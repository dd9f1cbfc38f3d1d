"""Who uses what lies below a directory, as /proc tells: for the message that it is in use.

>>> users_of(b"/mnt/root")
["bash (1234)"]
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

from casync_compat.errors import show_path

__all__ = ["in_use", "users_of"]

_PROC = b"/proc"
_MOST = 5


def in_use(directory: bytes) -> str:
    """Why a mount there cannot be taken away, and what to do, for a message."""
    users = users_of(directory)
    who = ", ".join(users[:_MOST]) + (" and others" if len(users) > _MOST else "")
    by = f" by {who}" if users else ""
    shown = show_path(directory)
    todo = "end it, or leave the directory there" if users else f"`fuser -vm {shown}` says by whom"
    return f"it is in use{by}; {todo}, or have it go once nobody uses it: `umount -l {shown}`"


def users_of(directory: bytes) -> list[str]:
    """Processes whose directory, program or open files are there, as far as this user may see: "NAME (PID)"."""
    top = os.path.realpath(directory)
    found = []
    with suppress(OSError):
        for pid in filter(bytes.isdigit, os.listdir(_PROC)):
            at = os.path.join(_PROC, pid)
            if any(path == top or path.startswith(top + b"/") for path in _used(at)):
                found.append(f"{_name(at)} ({pid.decode()})")
    return found


def _used(at: bytes) -> Iterator[bytes]:
    links = [os.path.join(at, name) for name in (b"cwd", b"root", b"exe")]
    with suppress(OSError):
        links += [os.path.join(at, b"fd", fd) for fd in os.listdir(os.path.join(at, b"fd"))]
    for link in links:
        with suppress(OSError):
            yield os.readlink(link)


def _name(at: bytes) -> str:
    try:
        with open(os.path.join(at, b"comm"), "rb") as file:
            return show_path(file.read(64).strip())
    except OSError:
        return "a process"
