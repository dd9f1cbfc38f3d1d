"""What files, special nodes and directories share while a tree is written: how an inode begins and gets its name.

    >>> placer = Placer(Restorer(flags, options, warn), options)
    >>> placer.put(parent, b".#41ce77a90b000001", b"hosts")

It neither creates inodes nor restores metadata.
"""

from __future__ import annotations

import errno
import os
import time

from casync_compat.fs import inode_flags
from casync_compat.fs.apply.restore import ApplyOptions, InodeState, Restorer
from casync_compat.fs.apply.target import Directory
from casync_compat.fs.apply.uptodate import Current, Tally
from casync_compat.fs.remove import TempNames, remove, replace
from casync_compat.fs.together import FallenTogether, InodeKey, Written, folds, key_of, shown_name
from catar.records import Node

__all__ = ["Placer"]

_RESERVE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Placer:
    """Knows what new inodes get from their directory and file system, so that each need not be asked.

    :ivar restorer: of the archive's metadata
    :ivar options: how the tree is written
    :ivar temp: names for what is under way
    :ivar current: tells whether metadata is as recorded
    :ivar tally: what became of the entries
    :ivar in_the_way: paths of directories that have something in them, and were to become something else, where
        nothing is to be deleted
    :ivar together: names that fell together
    :ivar has_company: whether files may be made by other threads meanwhile, in fresh directories
    """

    def __init__(
        self, restorer: Restorer, options: ApplyOptions, temp: TempNames, together: FallenTogether
    ) -> None:
        self.restorer = restorer
        self.options = options
        self.temp = temp
        self.current = Current(restorer)
        self.tally = Tally()
        self.in_the_way: list[bytes] = []
        self.together = together
        self.has_company = False
        # By device: whether names fall together. By directory, where they do: what was written into it.
        self._folds: dict[int, bool] = {}
        self._written: dict[InodeKey, Written] = {}
        # By device: whether a file has the mode it was created with; whether there are FAT attributes.
        self._exact_modes: dict[int, bool] = {}
        self._fat: dict[int, bool] = {}

    def doing(self, op: str, features: int = 0) -> None:
        """Say what is about to be done, for error messages (see `LeftOut`)."""
        left_out = self.restorer.left_out
        left_out.op = op
        left_out.features = features

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

    def leave(self, st: os.stat_result, node: Node) -> None:
        """Count what is there as recorded, and what cannot be had of it."""
        if self.current.is_out_of_reach(st, node):
            self.restorer.left_out.skip("owners", PermissionError(errno.EPERM, os.strerror(errno.EPERM)))
        self.tally.unchanged += 1

    def mend(self, parent: Directory, item: int | bytes, st: os.stat_result, node: Node) -> bool:
        """Have the metadata of a file or special node that is there, with the right contents, as recorded.

        It is counted. :returns: False when a new inode is needed, and nothing was done
        """
        on_fat = self.has_fat(parent)
        wrong = self.current.wrong(item, st, node, on_fat=on_fat)
        if not wrong:
            self.leave(st, node)
            self.wrote(parent, node.name)
            return True
        if not self.current.may_mend(item, st, wrong):
            return False
        restorer = self.restorer
        mode, flags = st.st_mode & 0o7777, 0
        if isinstance(item, int):
            flags = restorer.prepare(item, node, False, inode_flags.get_flags(item))
        restorer.metadata(
            InodeState(item, st.st_uid, st.st_gid, mode, st.st_atime_ns, False, False, flags), node
        )
        if isinstance(item, int):
            restorer.flags(item, node, flags, on_fat)
        self.tally.updated += 1
        self.wrote(parent, node.name)
        return True

    def put(self, parent: Directory, temp: bytes, name: bytes) -> None:
        """Give a complete inode its final name, in place of whatever has it.

        Where nothing is to be deleted, what is in the way may stay, and the inode is gone; likewise in a fresh
        directory where the name is taken, which only another of the same run can have done.

        :raises FileError: when that fails; what had the name before still has it
        """
        if parent.fresh:
            self.doing("rename")
            if not self._reserve(parent, name) and self.may_be_ours(parent, name):
                os.unlink(temp, dir_fd=parent.fd)
                self.fell(parent, name)
                return
            os.rename(temp, name, src_dir_fd=parent.fd, dst_dir_fd=parent.fd)
        else:
            path = os.path.join(parent.path, name)
            undo, keep = self.options.undo_immutable, not self.options.delete
            if not replace(parent.fd, temp, name, path, undo_immutable=undo, temp=self.temp, keep_full=keep):
                remove(parent.fd, temp, path)
                self.in_the_way.append(path)
                return
        self.wrote(parent, name)

    def _reserve(self, parent: Directory, name: bytes) -> bool:
        """:returns: False when something has the name; else nobody gets it any more"""
        if not self.has_company:
            return key_of(parent.fd, name) is None
        try:
            os.close(os.open(name, _RESERVE, 0o200, dir_fd=parent.fd))
        except FileExistsError:
            return False
        return True

    def may_be_ours(self, parent: Directory, name: bytes) -> bool:
        """Whether what has a name in a fresh directory is of this run, and not of somebody else."""
        return self._may_fold(parent) or name not in map(os.fsencode, os.listdir(parent.fd))

    def is_taken(self, parent: Directory, name: bytes) -> bool:
        """Whether something of this run has a name in a fresh directory."""
        return parent.fresh and key_of(parent.fd, name) is not None and self.may_be_ours(parent, name)

    # Names that fall together

    def watch(self, directory: Directory, parent: Directory | None) -> None:
        """Begin to note what is written into a directory, where names may fall together unseen."""
        if directory.merged is not None:
            known = self._written.get(_key(directory.stat))
            directory.written = known if known is not None else Written.of(directory.fd)
            directory.written.merged = True
            return
        if directory.made and self._may_fold(directory):
            directory.written = self._written[_key(directory.stat)] = Written()
        elif not directory.fresh:
            directory.written = Written()
            device, other = directory.stat.st_dev, directory.name.swapcase()
            if device not in self._folds and parent is not None and other != directory.name:
                same = key_of(parent.fd, other)
                self._folds[device] = same is not None and same[0] == _key(directory.stat)
            if self._folds.get(device):
                self._written[_key(directory.stat)] = directory.written

    def _may_fold(self, directory: Directory) -> bool:
        """Whether names fall together there, for which a directory is made in it, once a file system."""
        device = directory.stat.st_dev
        known = self._folds.get(device)
        if known is None:
            known = self._folds[device] = folds(directory.fd, self.temp.next())
        return known

    def first(self, parent: Directory, name: bytes) -> bytes | None:
        """The name under which something was written that has this name as well; None where there is none."""
        if parent.written is None:
            return None
        return parent.written.first(parent.fd, name, lambda: self._may_fold(parent))

    def wrote(self, parent: Directory, name: bytes) -> None:
        """An entry is in its place."""
        if parent.written is not None and (found := key_of(parent.fd, name)) is not None:
            parent.written.add(found[0], name)

    def fell(
        self, parent: Directory, name: bytes, first: bytes | None = None, *, merged: bool = False
    ) -> bytes:
        """An entry is not written, because another of this run has its name.

        :param first: the name of that one, where it is known
        :param merged: both are directories, and become one
        :returns: the path of that one
        """
        first = shown_name(parent.fd, name) if first is None else first
        path = os.path.join(parent.merged or parent.path, first)
        self.together.add(os.path.join(parent.path, name), path, merged=merged)
        return path


def _key(st: os.stat_result) -> InodeKey:
    return st.st_dev, st.st_ino
