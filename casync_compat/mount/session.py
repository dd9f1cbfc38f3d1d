"""A file system that is mounted: from asking for it until it is gone.

    >>> with MountSession.mount(operations, b"/mnt", fsname="etc.caidx") as session:
    ...     session.wait()

`fusermount3` mounts it and hands over the connection, for root and others alike. Requests are read and answered by
several threads. `close` takes it away also while somebody uses it, who then finds nothing there.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress

from casync_compat.closing import Closing
from casync_compat.errors import FileError, UsageError, show_path
from casync_compat.fs.inuse import in_use
from casync_compat.fs.waiting import readable
from casync_compat.mount.abi import READ_BUFFER
from casync_compat.mount.operations import Operations
from casync_compat.streams.transfer import Crew

__all__ = ["MountSession", "check_mountpoint", "unmount"]

_PROGRAM = "fusermount3"
_CHANNEL = "_FUSE_COMMFD"
"""How fusermount3 is told where to send the connection (lib/mount_util.c of libfuse)."""
_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
_PATIENCE = 20.0
"""Seconds for fusermount3, which only asks the kernel."""
_LEAVE = 3.0
"""Seconds for what is under way to end."""
_GONE = (errno.ENODEV, errno.EBADF)
_AGAIN = (errno.EINTR, errno.EAGAIN, errno.ENOENT)
"""A request was taken back before it was read."""


class MountSession(Closing):
    """One mounted file system.

    :ivar mountpoint: where it is
    :param device: an open /dev/fuse that is mounted there
    """

    def __init__(self, operations: Operations, device: int, mountpoint: bytes, threads: int) -> None:
        self.mountpoint = mountpoint
        self._operations = operations
        self._device = device
        self._mounted = True
        self._ends, self._end = os.pipe2(os.O_CLOEXEC)
        self._crew = Crew(self._work, threads)

    @classmethod
    def mount(
        cls,
        operations: Operations,
        mountpoint: bytes,
        *,
        fsname: str,
        threads: int = 1,
        options: Sequence[str] = (),
    ) -> MountSession:
        """Mount it.

        :param mountpoint: a directory, or a file
        :param fsname: what it is said to be mounted from
        :param options: further ones of mount(8), beside those of a file system that is only read
        :raises UsageError: there is no fusermount3
        :raises FileError: it cannot be mounted
        """
        named = fsname.replace("\\", "\\\\").replace(",", "\\,")
        given = ",".join(("ro", "default_permissions", f"fsname={named}", "subtype=pycasync", *options))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with ours, theirs:
            done = _run(["-o", given, "--", os.fsdecode(mountpoint)], mountpoint, "mount", theirs)
            if done.returncode:
                raise FileError(mountpoint, "mount", _reason(done.stderr))
            ours.settimeout(_PATIENCE)
            _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
        if not descriptors:
            raise FileError(mountpoint, "mount", f"{_PROGRAM} gave no connection to the kernel")
        return cls(operations, descriptors[0], mountpoint, threads)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is gone, taken away by somebody else, or until `stop`. Returns whether either has happened.

        :param seconds: how long to wait at most
        """
        return bool(readable([self._ends], seconds))

    def stop(self) -> None:
        """End `wait`; a handler of signals may call it."""
        os.write(self._end, b"s")

    def close(self) -> None:
        """Take it away, and end what is under way."""
        if not self._mounted:
            return
        self._mounted = False
        if not self._crew.wait(0):
            with suppress(FileError, UsageError):
                _run(["-u", "-z", "-q", "--", os.fsdecode(self.mountpoint)], self.mountpoint, "unmount")
            if not self._crew.wait(_LEAVE):  # somebody has a file open: it lasts as long as this process
                return
        for descriptor in (self._device, self._ends, self._end):
            os.close(descriptor)

    def _work(self) -> None:
        try:
            self._serve()
        finally:
            self.stop()

    def _serve(self) -> None:
        device, answer = self._device, self._operations.answer
        while True:
            try:
                request = os.read(device, READ_BUFFER)
            except OSError as error:
                if error.errno in _AGAIN:
                    continue
                return
            if not request:
                return
            parts = answer(request)
            if parts is None:
                continue
            try:
                os.writev(device, parts)
            except OSError as error:
                if error.errno in _GONE:
                    return
                # ENOENT: whoever asked is not there any more


def check_mountpoint(mountpoint: bytes, reading: Iterable[bytes] = ()) -> None:
    """See whether something may be mounted on a directory.

    :param reading: files and directories of this machine that are read while it is mounted
    :raises FileError: it is no directory, or what was mounted there has lost its process
    :raises UsageError: the mount would hide one of those from whoever serves it, who would wait for himself
    """
    try:
        is_directory = stat.S_ISDIR(os.stat(mountpoint).st_mode)
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            shown = show_path(mountpoint)
            why = f"the process of what is mounted there has ended; take that away with {_PROGRAM} -u {shown}"
            raise FileError(mountpoint, "mount", why) from error
        raise FileError(mountpoint, "mount", error) from error
    if not is_directory:
        raise FileError(mountpoint, "mount", OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))
    top = os.path.join(os.path.realpath(mountpoint), b"")
    for path in reading:
        if os.path.join(os.path.realpath(path), b"").startswith(top):
            raise UsageError(
                f"{show_path(mountpoint)}: {show_path(path)} is read from while it is mounted, and would be hidden by "
                "it; mount it on another directory"
            )


def unmount(mountpoint: bytes) -> None:
    """Take away what this user has mounted by FUSE.

    :raises UsageError: there is no fusermount3
    :raises FileError: nothing is mounted there, or it is in use
    """
    done = _run(["-u", "--", os.fsdecode(mountpoint)], mountpoint, "unmount")
    if done.returncode:
        why = _reason(done.stderr)
        raise FileError(mountpoint, "unmount", in_use(mountpoint) if os.strerror(errno.EBUSY) in why else why)


def _run(
    words: Sequence[str], mountpoint: bytes, op: str, channel: socket.socket | None = None
) -> subprocess.CompletedProcess[bytes]:
    environment = {"PATH": _PATH, "LC_ALL": "C"}
    passed: tuple[int, ...] = ()
    if channel is not None:
        environment[_CHANNEL] = str(channel.fileno())
        passed = (channel.fileno(),)
    try:
        return subprocess.run(
            [_PROGRAM, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            pass_fds=passed,
            timeout=_PATIENCE,
            check=False,
        )
    except FileNotFoundError:
        raise UsageError(
            f"{_PROGRAM} is not there, which mounts file systems: install the package fuse3 of your system"
        ) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FileError(mountpoint, op, str(error)) from error


def _reason(said: bytes) -> str:
    text = show_path(said.strip().replace(b"\n", b"; "))
    return text.removeprefix(f"{_PROGRAM}: ") or f"{_PROGRAM} failed"
