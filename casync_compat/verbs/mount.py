"""A tree or a blob as a file system, until somebody takes it away."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence

from casync_compat.errors import FileError
from casync_compat.mount.nodes import MountedTree
from casync_compat.mount.operations import Operations
from casync_compat.mount.session import MountSession

__all__ = ["mount"]

_NEAR, _FAR = 2, 16
"""Threads that answer: each waits for what it reads."""


def mount(
    nodes: MountedTree,
    mountpoint: bytes,
    *,
    fsname: str,
    tell: Callable[[str], None],
    far: bool = False,
    mkdir: bool = True,
    options: Sequence[str] = (),
) -> MountSession:
    """Mount a tree.

    :param mountpoint: a directory
    :param fsname: what it is said to be mounted from
    :param tell: told in a line of what could not be read
    :param far: whether what is read is not on this machine, so that one waits for it
    :param mkdir: whether to make the directory if it is not there
    :param options: further ones of mount(8)
    :raises UsageError: nothing can be mounted here
    :raises FileError: it cannot be mounted there
    """
    made = mkdir and _make(mountpoint)
    if os.geteuid() == 0:
        options = ("allow_other", *options)
    try:
        if not os.path.isdir(mountpoint):
            number = errno.ENOTDIR if os.path.lexists(mountpoint) else errno.ENOENT
            raise FileError(mountpoint, "mount", OSError(number, os.strerror(number)))
        threads = _FAR if far else _NEAR
        operations = Operations(nodes, tell, background=max(12, threads))
        return MountSession.mount(operations, mountpoint, fsname=fsname, threads=threads, options=options)
    except BaseException:
        if made:
            os.rmdir(mountpoint)
        raise


def _make(mountpoint: bytes) -> bool:
    try:
        os.mkdir(mountpoint)
    except FileExistsError:
        return False
    except OSError as error:
        raise FileError(mountpoint, "create directory", error) from error
    return True
