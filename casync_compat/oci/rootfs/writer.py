"""A merged tree is written to a fresh directory: inodes made and linked.

    >>> with RootWriter(b"bundle/rootfs", Metadata(warn=print)) as writer:
    ...     writer.write(tree, fill)                  # fill(fd, inode, path) writes a file's contents

The directory is made here and is nobody else's until it is complete: every entry is made by its single name from a
descriptor of its directory, no symlink is ever followed, nothing that exists is opened, but for a directory
of its own whose name has fallen together with another's. That is what keeps hostile trees inside, together with
`casync_compat.oci.rootfs.merge`, which gives out no name that is a path.

Unlike `casync_compat.fs.apply.tree`, which updates trees from archives, it knows hard links, attributes of all kinds
and names space for more than archives hold, and it never meets anything that was there before. What inodes get is the
business of `casync_compat.oci.rootfs.metadata`. Nothing is fsynced.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress

from casync_compat.closing import Closing
from casync_compat.errors import FileError
from casync_compat.fs.apply.left_out import PRIVILEGES
from casync_compat.fs.together import FallenTogether, Written, folds, key_of, shown_name
from casync_compat.oci.rootfs.mergedtree import Inode, MergedTree
from casync_compat.oci.rootfs.metadata import ACL_ATTRIBUTES, Metadata

__all__ = ["Fill", "PlaceFile", "RootWriter"]

Fill = Callable[[int, Inode, bytes], None]
"""Writes the contents of a regular file to a descriptor; gets the inode and its path in the tree."""
PlaceFile = Callable[[int, bytes, Inode, bytes], bool]
"""Makes a whole file of a name in an open directory, metadata included; False when that is left to the writer."""

_DIR, _REG, _LNK = stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK
_DEVICES = (stat.S_IFCHR, stat.S_IFBLK)
_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class _Open:
    """A directory under way."""

    __slots__ = ("fd", "first", "inode", "path", "times", "written")

    def __init__(self, fd: int, inode: Inode, path: bytes, first: bytes | None = None) -> None:
        """Know a directory.

        :param first: the path of the directory that this one has fallen together with, and is added to
        """
        self.fd = fd
        self.inode = inode
        self.path = path
        self.first = first
        st = os.fstat(fd)
        self.times = (st.st_atime_ns, st.st_mtime_ns)
        self.written: Written | None = None


class RootWriter(Closing):
    """Writes one tree.

    :param target: the directory to make; nothing may be there, or an empty directory
    :param shown: what messages call it
    :raises FileError: it cannot be made, or something is in it
    :ivar together: names that fell together
    """

    def __init__(self, target: bytes, metadata: Metadata, shown: bytes | None = None) -> None:
        self.together = FallenTogether(metadata.warn)
        self.target = target
        self._shown = target if shown is None else shown
        self.metadata = metadata
        self._stack: list[_Open] = []
        self._places: dict[Inode, tuple[bytes, int]] = {}
        self._modes_left: list[tuple[bytes, int]] = []
        self._top = -1
        self._folds = False
        self._written: dict[bytes, Written] = {}  # by path, where names fall together
        try:
            self._open_target()
        except OSError as error:
            self.close()
            raise FileError(self._shown, "write", error) from error

    def _open_target(self) -> None:
        with suppress(FileExistsError):
            os.mkdir(self.target, 0o700)
        self._top = os.open(self.target, _OPEN_DIR)
        if os.listdir(self._top):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        # Ours alone until it is complete, and giving nothing of its own to what is made in it: neither ACL nor group.
        os.fchown(self._top, *self.metadata.owner)
        os.fchmod(self._top, 0o700)
        for name in ACL_ATTRIBUTES:
            with suppress(OSError):
                os.removexattr(self._top, name)

    def close(self) -> None:
        """Close what is open. What was written stays."""
        while self._stack:
            fd = self._stack.pop().fd
            if fd != self._top:
                os.close(fd)
        if self._top >= 0:
            os.close(self._top)
            self._top = -1

    def write(
        self,
        tree: MergedTree,
        fill: Fill,
        place: PlaceFile | None = None,
        on_entry: Callable[[bytes], None] | None = None,
    ) -> None:
        """Write the whole tree.

        :param place: asked for each regular file first
        :param on_entry: called with the path of each entry
        :raises FileError: naming the file; and whatever `fill` raises
        """
        path = b""
        skipped: bytes | None = None
        left_out = self.metadata.left_out
        left_out.directory, left_out.name = self._shown, path
        try:
            self._folds = folds(self._top, b".#")
            self._push(_Open(self._top, tree.root, b""))
            for path, inode in tree.walk():
                if skipped is not None:
                    skipped = None if inode is None and path == skipped else skipped
                    continue
                left_out.name = path
                if inode is None:
                    self._leave()
                    continue
                if on_entry is not None:
                    on_entry(path)
                if key_of(self._stack[-1].fd, path.rpartition(b"/")[2]) is not None:
                    merged = self._fell(self._stack[-1], path, inode)
                    skipped = path if inode.kind == _DIR and not merged else None
                else:
                    self._entry(self._stack[-1].fd, path, inode, fill, place)
            left_out.name = path = b""
            self._leave()
            self._finish_modes()
        except (OSError, ValueError) as error:
            raise self.metadata.failure(os.path.join(self._shown, path), error) from error
        self.metadata.finish()

    # Entries

    def _entry(self, directory: int, path: bytes, inode: Inode, fill: Fill, place: PlaceFile | None) -> None:
        name = path.rpartition(b"/")[2]
        doing = self.metadata.doing
        if inode.links > 1 and inode in self._places and self._link(directory, name, inode):
            self._wrote(name)
            return
        kind = inode.kind
        if kind == _DIR:
            doing("create directory")
            os.mkdir(name, 0o700, dir_fd=directory)
            fd = os.open(name, _OPEN_DIR, dir_fd=directory)
            self._wrote(name)
            self._push(_Open(fd, inode, path))
            return
        if kind == _REG:
            if place is None or not place(directory, name, inode, path):
                self._file(directory, name, inode, path, fill)
        elif kind == _LNK:
            if not self._symlink(directory, name, inode):
                return
        elif not self._special(directory, name, inode):
            return
        self._wrote(name)
        if inode.links > 1:
            self._places[inode] = (path, os.lstat(name, dir_fd=directory).st_ino)

    def _file(self, directory: int, name: bytes, inode: Inode, path: bytes, fill: Fill) -> None:
        self.metadata.doing("create")
        fd = os.open(name, _CREATE, 0o600, dir_fd=directory)
        try:
            if inode.size:
                self.metadata.doing("write")
                fill(fd, inode, path)
            self.metadata.apply(fd, inode)
        finally:
            os.close(fd)

    def _symlink(self, directory: int, name: bytes, inode: Inode) -> bool:
        """:returns: False when it was left out"""
        self.metadata.doing("create symlink")
        try:
            os.symlink(inode.target, name, dir_fd=directory)
        except OSError as error:
            self.metadata.left_out.skip_entry("symlinks", error)
            return False
        self.metadata.symlink(directory, name, inode)
        return True

    def _special(self, directory: int, name: bytes, inode: Inode) -> bool:
        """:returns: False when it was left out"""
        is_device = inode.kind in _DEVICES
        if is_device:
            self.metadata.doing("create device node", PRIVILEGES)
        else:
            self.metadata.doing("create fifo")
        device = 0
        try:
            if is_device:
                major, minor = inode.device
                if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
                    raise OSError(errno.EINVAL, f"there is no device {major}:{minor} on Linux")
                device = os.makedev(major, minor)
            os.mknod(name, inode.kind | 0o600, device, dir_fd=directory)
        except OSError as error:
            self.metadata.left_out.skip_entry("device nodes" if is_device else "fifos", error)
            return False
        fd = os.open(name, _OPEN_PATH, dir_fd=directory)
        try:
            self.metadata.apply(b"/proc/self/fd/%d" % fd, inode)
        finally:
            os.close(fd)
        return True

    def _link(self, directory: int, name: bytes, inode: Inode) -> bool:
        """:returns: False where the target has no such links, or no more: the inode is to be made once more"""
        path, number = self._places[inode]
        self.metadata.doing("link")
        try:
            os.link(path, name, src_dir_fd=self._top, dst_dir_fd=directory, follow_symlinks=False)
        except OSError as error:
            self.metadata.left_out.skip_link("hard links", error)
            return False
        if os.lstat(name, dir_fd=directory).st_ino != number:
            os.unlink(name, dir_fd=directory)
            raise ValueError("somebody else changed the tree while it was being written; try again")
        return True

    # Names that fall together

    def _push(self, directory: _Open) -> None:
        if self._folds:
            path = directory.path if directory.first is None else directory.first
            directory.written = self._written.setdefault(path, Written())
        self._stack.append(directory)

    def _wrote(self, name: bytes) -> None:
        directory = self._stack[-1]
        if directory.written is not None:
            directory.written.add(None, name)

    def _fell(self, directory: _Open, path: bytes, inode: Inode) -> bool:
        """Go on without an entry whose name is taken; of two directories what is in them becomes one.

        :returns: whether they are
        """
        name = path.rpartition(b"/")[2]
        first = directory.written.like(name) if directory.written is not None else None
        first = os.path.join(
            directory.path if directory.first is None else directory.first,
            first or shown_name(directory.fd, name),
        )
        merged = False
        if inode.kind == _DIR:
            with suppress(NotADirectoryError):
                fd = os.open(name, _OPEN_DIR, dir_fd=directory.fd)
                self._push(_Open(fd, inode, path, first))
                merged = True
        self.together.add(os.path.join(self._shown, path), os.path.join(self._shown, first), merged=merged)
        return merged

    # Directories

    def _leave(self) -> None:
        directory = self._stack.pop()
        if directory.first is not None:
            os.utime(directory.fd, ns=directory.times)
            os.close(directory.fd)
            return
        mode = directory.inode.mode
        if not self.metadata.privileged and mode & 0o700 != 0o700:
            # Links may still be made to what is in it, which its owner must be allowed to reach.
            self._modes_left.append((directory.path, mode))
            mode |= 0o700
        try:
            self.metadata.apply(directory.fd, directory.inode, mode)
        finally:
            if directory.fd != self._top:
                os.close(directory.fd)

    def _finish_modes(self) -> None:
        self.metadata.doing("set mode of")
        left_out = self.metadata.left_out
        for path, mode in self._modes_left:  # what is inside comes first
            left_out.name = path
            fd = os.open(path or b".", _OPEN_DIR, dir_fd=self._top)
            try:
                os.fchmod(fd, mode)
            except OSError as error:
                left_out.skip("permissions", error)
            finally:
                os.close(fd)
