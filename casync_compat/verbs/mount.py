"""A tree or a blob as a file system, until somebody takes it away."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from casync_compat.errors import FileError
from casync_compat.mount.nodes import MountedTree
from casync_compat.mount.operations import Operations
from casync_compat.mount.session import MountSession, check_mountpoint

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
    reading: Iterable[bytes] = (),
) -> MountSession:
    """Mount a tree.

    :param mountpoint: a directory
    :param fsname: what it is said to be mounted from
    :param tell: told in a line of what could not be read
    :param far: whether what is read is not on this machine, so that one waits for it
    :param mkdir: whether to make the directory if it is not there
    :param options: further ones of mount(8)
    :param reading: files and directories of this machine that are read while it is mounted
    :raises UsageError: nothing can be mounted here
    :raises FileError: it cannot be mounted there
    """
    made = mkdir and _make(mountpoint)
    if os.geteuid() == 0:
        options = ("allow_other", *options)
    try:
        check_mountpoint(mountpoint, reading)
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
