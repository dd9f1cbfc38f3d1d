"""Whole reads and writes of a file that is open: system calls may do less than they were told.

Not here: names, and what errors mean to whom.
"""

from __future__ import annotations

import os

__all__ = ["read_all", "read_in_memory", "write_all"]


def read_all(fd: int, size: int) -> bytes:
    """So many bytes from here on, or what there is.

    :raises OSError: they cannot be read
    """
    data = os.read(fd, size)
    # Network file systems may return less; a file that shrinks is found out by its digest.
    while len(data) < size and (more := os.read(fd, size - len(data))):
        data += more
    return data


def read_in_memory(fd: int, size: int) -> bytes:
    """So many bytes from the beginning, or as many as no disk is needed for (preadv2(2), ``RWF_NOWAIT``).

    :raises OSError: they cannot be read. EAGAIN: a disk is needed for the first one; EOPNOTSUPP: the file system cannot
        tell
    """
    into = bytearray(size)
    done = os.preadv(fd, (into,), 0, os.RWF_NOWAIT)
    return bytes(into) if done == size else bytes(into[:done])


def write_all(fd: int, content: memoryview) -> None:
    """All of it, from here on.

    :raises OSError: it cannot be written
    """
    done = os.write(fd, content)
    while done < content.nbytes:  # a full disk takes what fits, and the next call says ENOSPC
        done += os.write(fd, content[done:])
