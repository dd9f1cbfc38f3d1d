"""What files, special nodes and directories share while a tree is written: how an inode begins and gets its name.

    >>> placer = Placer(Restorer(flags, options, warn), options)
    >>> placer.put(parent, b".#41ce77a90b000001", b"hosts")

It neither creates inodes nor restores metadata.
"""

from __future__ import annotations

import os
import time

from casync_compat.fs import inode_flags
from casync_compat.fs.apply.restore import ApplyOptions, InodeState, Restorer
from casync_compat.fs.apply.target import Directory
from casync_compat.fs.remove import TempNames, remove, replace
from catar.records import Node

__all__ = ["Placer"]


class Placer:
    """Knows what new inodes get from their directory and file system, so that each need not be asked.

    :ivar restorer: of the archive's metadata
    :ivar options: how the tree is written
    :ivar temp: names for what is under way
    :ivar in_the_way: paths of directories that have something in them, and were to become something else, where
        nothing is to be deleted
    """

    def __init__(self, restorer: Restorer, options: ApplyOptions, temp: TempNames) -> None:
        self.restorer = restorer
        self.options = options
        self.temp = temp
        self.in_the_way: list[bytes] = []
        # By device: whether a file has the mode it was created with; whether there are FAT attributes.
        self._exact_modes: dict[int, bool] = {}
        self._fat: dict[int, bool] = {}

    def doing(self, op: str, option: str = "") -> None:
        """Say what is about to be done, for error messages (see `LeftOut`)."""
        left_out = self.restorer.left_out
        left_out.op = op
        left_out.option = option

    def at(self, parent: Directory, node: Node) -> None:
        """Say whose metadata comes next, for what is told of what was left out."""
        left_out = self.restorer.left_out
        left_out.directory = parent.path
        left_out.name = node.name

    def owner_fits(self, parent: Directory, node: Node) -> bool:
        """Whether a new inode in a directory has the recorded owner from the start."""
        uid, gid = self.restorer.owner(node)
        owner = parent.owner
        return owner is not None and uid in (-1, owner[0]) and gid in (-1, owner[1])

    def new_file(self, parent: Directory, fd: int, mode: int, flags: int) -> InodeState:
        """What a regular file has that was just created with `mode`; the kernel is asked once a file system."""
        device = parent.stat.st_dev
        actual = mode & ~self.restorer.umask
        exact = self._exact_modes.get(device)
        owner = parent.owner
        if owner is None or not exact or parent.inherits_acl:
            st = os.fstat(fd)
            owner = parent.owner = (st.st_uid, st.st_gid)
            if exact is None and not parent.inherits_acl:
                self._exact_modes[device] = st.st_mode & 0o7777 == actual
            actual = st.st_mode & 0o7777
        return InodeState(fd, owner[0], owner[1], actual, time.time_ns(), True, parent.inherits_acl, flags)

    def has_fat(self, directory: Directory) -> bool:
        """Whether the file system of a directory has FAT attributes that are to be restored."""
        if not self.restorer.wants_fat:
            return False
        device = directory.stat.st_dev
        known = self._fat.get(device)
        if known is None:
            known = self._fat[device] = inode_flags.has_fat(directory.fd)
        return known

    def put(self, parent: Directory, temp: bytes, name: bytes) -> None:
        """Give a complete inode its final name, in place of whatever has it.

        Where nothing is to be deleted, what is in the way may stay, and the inode is gone.

        :raises FileError: when that fails; what had the name before still has it
        """
        if parent.fresh:
            self.doing("rename")
            os.rename(temp, name, src_dir_fd=parent.fd, dst_dir_fd=parent.fd)
        else:
            path = os.path.join(parent.path, name)
            undo, keep = self.options.undo_immutable, not self.options.delete
            if not replace(parent.fd, temp, name, path, undo_immutable=undo, temp=self.temp, keep_full=keep):
                remove(parent.fd, temp, path)
                self.in_the_way.append(path)
