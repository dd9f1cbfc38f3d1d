"""Whether what is in a target already is what an archive records, so that an update leaves it alone or only mends it.

    >>> current = Current(restorer)
    >>> wrong = current.wrong(fd, os.fstat(fd), node, on_fat=False)   # 0: nothing is to be done
    >>> if current.may_mend(fd, os.fstat(fd), wrong): ...             # no need for a new inode

Only metadata is looked at, and contents by `Old`, piece by piece as they come. Nothing is written here.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from casync_compat.fs import inode_flags
from casync_compat.fs.apply.payload import PayloadWriter
from casync_compat.fs.apply.restore import Restorer
from catar.flags import FAT_ATTRS, FeatureFlags
from catar.records import Node

__all__ = ["Current", "Old", "Tally"]

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_PIECE = 1 << 20
_LOCKING = int(FeatureFlags.FLAG_IMMUTABLE | FeatureFlags.FLAG_APPEND)
_PROJID = int(FeatureFlags.QUOTA_PROJID)
_WITH_FLAGS = (stat.S_IFREG, stat.S_IFDIR)

_BASIC, _NAMED, _FLAGS = 1, 2, 4
"""What is wrong: what stat tells; attributes by name; flags and project ids."""


@dataclass(slots=True)
class Tally:
    """What became of the entries of an archive.

    :ivar unchanged: they were there as recorded, and were left alone
    :ivar updated: something was there under the name, and was mended or replaced
    :ivar skipped: they were left out as a whole
    """

    unchanged: int = 0
    updated: int = 0
    skipped: int = 0


class Current:
    """Compares the metadata of what is there with what is to be restored."""

    def __init__(self, restorer: Restorer) -> None:
        self._restorer = restorer
        self._features = int(restorer.features)
        self._groups = {os.getegid(), *os.getgroups()}

    def wrong(self, item: int | bytes, st: os.stat_result, node: Node, *, on_fat: bool) -> int:
        """What of an inode's metadata is not as recorded, as bits; 0 when nothing is to be done.

        :param item: its descriptor, or a path under /proc/self/fd
        :param on_fat: whether its file system has FAT attributes
        """
        wrong = 0 if self.has_basics(st, node) else _BASIC
        if not self._restorer.extended.holds(item, node):
            wrong |= _NAMED
        if isinstance(item, int) and stat.S_IFMT(st.st_mode) in _WITH_FLAGS:
            wrong |= 0 if self._has_flags(item, node, on_fat) else _FLAGS
        return wrong

    def has_basics(self, st: os.stat_result, node: Node) -> bool:
        """Whether an inode has the owner, mode and time that are to be restored, as far as they can be."""
        uid, gid = self._restorer.owner(node)
        mode = self._restorer.mode(node, st.st_mode)
        if uid not in (-1, st.st_uid) or gid not in (-1, st.st_gid):
            if not self.is_out_of_reach(st, node):
                return False
            mode &= ~0o6000
        if not node.is_symlink and mode != stat.S_IMODE(st.st_mode):
            return False
        return self._restorer.mtime(node) in (None, st.st_mtime_ns)

    def is_out_of_reach(self, st: os.stat_result, node: Node) -> bool:
        """Whether one of our own inodes should have an owner that only root can give it, and is as near as can be."""
        left_out = self._restorer.left_out
        if left_out.privileged or st.st_uid != left_out.euid:
            return False
        uid, gid = self._restorer.owner(node)
        if gid != st.st_gid and gid in self._groups:
            return False
        return uid not in (-1, st.st_uid) or gid not in (-1, st.st_gid)

    def _has_flags(self, fd: int, node: Node, on_fat: bool) -> bool:
        mask = self._restorer.chattr_mask
        if mask and (inode_flags.get_flags(fd) ^ node.flags) & mask:
            return False
        if self._features & _PROJID and inode_flags.get_projid(fd) != node.projid:
            return False
        mask = self._features & FAT_ATTRS
        return not mask or not ((inode_flags.get_fat(fd) if on_fat else 0) ^ node.flags) & mask

    def may_mend(self, item: int | bytes, st: os.stat_result, wrong: int) -> bool:
        """Whether the metadata of a file or special node may be set where it is.

        Not where the inode has other names, which would change with it; nor where a new one can be given more.
        """
        if st.st_nlink != 1:
            return False
        if isinstance(item, int) and inode_flags.get_flags(item) & _LOCKING:
            return False
        left_out = self._restorer.left_out
        if left_out.privileged:
            return True
        return st.st_uid == left_out.euid and (not wrong & _NAMED or bool(st.st_mode & 0o200))

    def looks_same(self, st: os.stat_result, node: Node) -> bool:
        """Whether size, time, mode and owner are as recorded, where all of them are to be restored."""
        return self._restorer.knows_basics and st.st_size == node.size and self.has_basics(st, node)


class Old:
    """A regular file that is there, while it turns out whether it has the contents that are to be restored.

    :ivar st: as it was when it was opened
    :ivar at: bytes that were the same so far
    """

    __slots__ = ("at", "fd", "st")

    def __init__(self, fd: int, st: os.stat_result) -> None:
        self.fd = fd
        self.st = st
        self.at = 0

    @classmethod
    def open(cls, directory_fd: int, name: bytes) -> Old | None:
        """Open an entry for comparison; None where there is no regular file that can be read."""
        try:
            if not stat.S_ISREG(os.stat(name, dir_fd=directory_fd, follow_symlinks=False).st_mode):
                return None  # opening a device could do anything
            fd = os.open(name, _OPEN, dir_fd=directory_fd)
        except OSError:
            return None
        st = os.fstat(fd)
        if stat.S_ISREG(st.st_mode):
            return cls(fd, st)
        os.close(fd)
        return None

    def has(self, view: memoryview) -> bool:
        """Whether the next bytes are these; then it goes on behind them."""
        at = self.at
        while view:
            try:
                found = os.pread(self.fd, min(len(view), _PIECE), at)
            except OSError:
                return False
            if not found or found != view[: len(found)]:
                return False
            at += len(found)
            view = view[len(found) :]
        self.at = at
        return True

    def copy_to(self, payload: PayloadWriter) -> None:
        """Write what was the same so far.

        :raises ValueError: it changed meanwhile
        :raises OSError: it cannot be read, or written
        """
        left = self.at
        while left:
            found = os.pread(self.fd, min(left, _PIECE), payload.at)
            if not found:
                break
            payload.write(memoryview(found))
            left -= len(found)
        st = os.fstat(self.fd)
        if left or (st.st_size, st.st_mtime_ns) != (self.st.st_size, self.st.st_mtime_ns):
            raise ValueError("it changed while it was compared; run it again")

    def close(self) -> None:
        """Let go of it."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
