"""Symlinks, devices, fifos and sockets: inodes that are made complete by one call and never opened for their contents.

    >>> writer = SpecialWriter(placer)
    >>> writer.make(parent, node)

In a directory that others can reach, one is made under a temporary name, and its metadata goes through an O_PATH
descriptor, so that nobody can slip another file under the name meanwhile.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from casync_compat.fs.apply.placing import Placer
from casync_compat.fs.apply.restore import InodeState
from casync_compat.fs.apply.target import Directory
from catar.flags import FeatureFlags
from catar.records import Node

__all__ = ["SpecialWriter"]

_DEVICE_NODES = int(FeatureFlags.DEVICE_NODES)
_SYMLINKS = int(FeatureFlags.SYMLINKS)
_FIFOS, _SOCKETS = int(FeatureFlags.FIFOS), int(FeatureFlags.SOCKETS)
_OPEN_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DEVICES = (stat.S_IFCHR, stat.S_IFBLK)


class SpecialWriter:
    """Makes special nodes, one after the other."""

    def __init__(self, placer: Placer) -> None:
        self._placer = placer
        self._under_way: tuple[Directory, bytes] | None = None

    def make(self, parent: Directory, node: Node) -> None:
        """Make a node in an open directory and restore its metadata.

        :raises OSError: when that fails; `abort` then removes what there is
        :raises ValueError: when something else took its place
        """
        fresh = parent.fresh
        self._placer.at(parent, node)
        found = None if fresh else self._standing(parent, node.name)
        if found is not None and self._keep(parent, node, found):
            return
        where = node.name if fresh else self._placer.temp.next()
        self._under_way = (parent, where)
        try:
            made = self._create(parent, node, where)
        except FileExistsError:
            self._under_way = None
            if not fresh or not self._placer.may_be_ours(parent, node.name):
                raise
            self._placer.fell(parent, node.name)
            return
        if made:
            if fresh and node.is_symlink and node.selinux is None and parent.owner is not None:
                self._placer.restorer.symlink_in_fresh(parent.fd, where, node, *parent.owner)
            else:
                self._restore(parent, node, where)
            if fresh:
                self._placer.wrote(parent, where)
            else:
                self._placer.put(parent, where, node.name)
            self._placer.tally.updated += found is not None
        else:
            self._placer.tally.skipped += 1
        self._under_way = None

    def _standing(self, parent: Directory, name: bytes) -> os.stat_result | None:
        try:
            return os.stat(name, dir_fd=parent.fd, follow_symlinks=False)
        except OSError:
            return None

    def _keep(self, parent: Directory, node: Node, found: os.stat_result) -> bool:
        """Leave what is there, or set its metadata. :returns: False when it has to be made anew"""
        if stat.S_IFMT(found.st_mode) != node.kind:
            return False
        if node.kind in _DEVICES and (node.device is None or found.st_rdev != os.makedev(*node.device)):
            return False
        try:
            if node.is_symlink and os.readlink(node.name, dir_fd=parent.fd) != (node.target or b""):
                return False
            fd = os.open(node.name, _OPEN_PATH, dir_fd=parent.fd)
        except OSError:
            return False
        try:
            st = os.fstat(fd)
            if (st.st_dev, st.st_ino) != (found.st_dev, found.st_ino):
                return False
            return self._placer.mend(parent, b"/proc/self/fd/%d" % fd, st, node)
        finally:
            os.close(fd)

    def abort(self) -> None:
        """Remove what is under way; never raises."""
        if self._under_way is not None:
            (parent, where), self._under_way = self._under_way, None
            with suppress(OSError):
                os.unlink(where, dir_fd=parent.fd)

    def _create(self, parent: Directory, node: Node, where: bytes) -> bool:
        """:returns: False when it was left out, because only root may"""
        placer = self._placer
        kind = node.kind
        left_out = placer.restorer.left_out
        if kind == stat.S_IFLNK:
            placer.doing("create symlink", _SYMLINKS)
            try:
                os.symlink(node.target or b"", where, dir_fd=parent.fd)
            except OSError as error:
                left_out.skip_entry("symlinks", error)
                return False
            return True
        mode = placer.restorer.create_mode(node, placer.owner_fits(parent, node))
        if kind not in _DEVICES:
            fifo = kind == stat.S_IFIFO
            placer.doing("create fifo" if fifo else "create socket", _FIFOS if fifo else _SOCKETS)
            try:
                os.mknod(where, kind | mode, 0, dir_fd=parent.fd)
            except OSError as error:
                left_out.skip_entry("fifos" if fifo else "sockets", error)
                return False
            return True
        placer.doing("create device node", _DEVICE_NODES)
        device = os.makedev(*node.device) if node.device is not None else 0
        try:
            os.mknod(where, kind | mode, device, dir_fd=parent.fd)
        except OSError as error:
            left_out.skip_entry("device nodes", error)
            return False
        return True

    def _restore(self, parent: Directory, node: Node, where: bytes) -> None:
        """Restore metadata through a descriptor of the inode itself, whatever has its name meanwhile."""
        self._placer.doing("open")
        fd = os.open(where, _OPEN_PATH, dir_fd=parent.fd)
        try:
            st = os.fstat(fd)
            if stat.S_IFMT(st.st_mode) != node.kind:
                raise ValueError("something else took its place meanwhile; try again")
            item = b"/proc/self/fd/%d" % fd
            mode = st.st_mode & 0o7777
            inode = InodeState(item, st.st_uid, st.st_gid, mode, st.st_atime_ns, True, parent.inherits_acl, 0)
            self._placer.restorer.metadata(inode, node)
        finally:
            os.close(fd)
