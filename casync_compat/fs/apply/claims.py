"""Locks of directories that trees are written to, so that two runs do not mix what they write.

    >>> claim = Claim(fd, path)              # this run alone, and nobody above or below it
    >>> claim.release()

A run has its target for itself, and shares every directory above it: so it meets those who write to a tree that its
target is in, and they meet it. Locks are flock(2)'s, never waited for, and go with whoever has them, however that ends.
Where the file system has none there is none. A lock that this very process was started with (`flock DIR pycasync ...`)
is no other run's.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from contextlib import suppress

from casync_compat.errors import FileError

__all__ = ["Claim"]

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_LOOK = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_INHERITED = range(3, 256)
"""Descriptors that whoever started us may have left open, where /proc does not tell."""


class Claim:
    """A lock of a directory, with descriptors of its own: whatever a signal interrupts, it goes with the object.

    :param directory_fd: the directory
    :param path: for messages
    :param shared: others may write into it, too, as long as they share it
    :param above: share the directories above it with others who do, and meet those who have one alone
    :raises FileError: another run has it
    """

    __slots__ = ("_fds",)

    def __init__(self, directory_fd: int, path: bytes, *, shared: bool = False, above: bool = True) -> None:
        self._fds: list[int] = []
        try:
            if not self._lock(directory_fd, b".", fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
                raise FileError(path, "write", "another run is writing into it; try again when that is done")
            if above:
                self._share_above(directory_fd, path)
        except BaseException:
            self.release()
            raise

    def _lock(self, directory_fd: int, name: bytes, kind: int) -> bool:
        """Lock a directory. :returns: False when another run has it; what has no locks is nobody's"""
        try:
            fd = os.open(name, _OPEN, dir_fd=directory_fd)
        except OSError:
            return True  # we may not read it: who writes there has seen to it that nobody reads
        self._fds.append(fd)
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return _is_our_own(fd)
        except OSError:
            pass  # NFS, for one, has none for what is open for reading only
        return True

    def _share_above(self, directory_fd: int, path: bytes) -> None:
        at = -1
        try:
            at = os.open(b"..", _LOOK, dir_fd=directory_fd)
            below = os.fstat(directory_fd)
            while not os.path.samestat(here := os.fstat(at), below):
                if not self._lock(at, b".", fcntl.LOCK_SH):
                    why = f"another run is writing into {_name(at)}, which it is in; try again when that is done"
                    raise FileError(path, "write", why)
                below, old = here, at
                at = os.open(b"..", _LOOK, dir_fd=old)
                os.close(old)
        except FileError:
            raise
        except OSError:
            pass  # no further up
        finally:
            if at >= 0:
                os.close(at)

    def release(self) -> None:
        """Let others in."""
        fds, self._fds = self._fds, []
        for fd in fds:
            os.close(fd)

    def __del__(self) -> None:
        self.release()


def _name(fd: int) -> str:
    try:
        return os.fsdecode(os.readlink(b"/proc/self/fd/%d" % fd)).encode("utf-8", "replace").decode()
    except OSError:
        return "a directory above it"


def _is_our_own(fd: int) -> bool:
    """Whether a lock that we cannot have is one that this process was started with."""
    wanted = os.fstat(fd)
    try:
        opened: Iterable[int] = map(int, os.listdir(b"/proc/self/fd"))
    except OSError:
        opened = _INHERITED
    for other in opened:
        with suppress(OSError):
            if os.get_inheritable(other) and os.path.samestat(os.fstat(other), wanted):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)  # changes nothing where it has it
                return True
    return False
