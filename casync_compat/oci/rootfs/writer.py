"""A merged tree is written to a fresh directory: inodes made, linked, and given the metadata that the layers record.

    >>> with RootWriter(b"bundle/rootfs", Metadata(warn=print)) as writer:
    ...     writer.write(tree, fill)                  # fill(fd, inode, path) writes a file's contents

The directory is made here and is nobody else's until it is complete: every entry is made by its single name from a
descriptor of its directory, no symlink is ever followed, nothing that exists is opened. That is what keeps hostile
trees inside, together with `casync_compat.oci.rootfs.merge`, which gives out no name that is a path.

Unlike `casync_compat.fs.apply.tree`, which updates trees from archives, it knows hard links, attributes of all kinds
and names space for more than archives hold, and it never meets anything that was there before. For root, whatever the
kernel refuses is an error; others, and `rootless`, do without owners, devices and privileged attributes, and are told
so once. `security.selinux` and NFS's ACLs are the host's business and left out, as umoci does. Nothing is fsynced.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress

from casync_compat.closing import Closing
from casync_compat.errors import FileError, show_path
from casync_compat.fs.apply.left_out import LeftOut
from casync_compat.oci.rootfs.mergedtree import Inode, MergedTree

__all__ = ["HOST_ATTRIBUTES", "Fill", "Metadata", "Place", "RootWriter"]

Fill = Callable[[int, Inode, bytes], None]
"""Writes the contents of a regular file to a descriptor; gets the inode and its path in the tree."""
Place = Callable[[int, bytes, Inode, bytes], bool]
"""Makes a whole file of a name in an open directory, metadata included; False when that is left to the writer."""

_DIR, _REG, _LNK = stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK
_DEVICES = (stat.S_IFCHR, stat.S_IFBLK)
_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_ACLS = (b"system.posix_acl_access", b"system.posix_acl_default")
HOST_ATTRIBUTES = frozenset({b"security.selinux", b"system.nfs4_acl"})
"""Extended attributes that are the host's to set, whatever an image says."""
_MAX_ID = (1 << 32) - 2
_MAX_TIME = (1 << 63) // 1_000_000_000 * 1_000_000_000
_ROOTLESS = "--rootless"
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS)


class Metadata:
    """Gives inodes that were just made, by this process, the metadata of the merged tree.

    :param rootless: do without what takes root, as always when this is another user
    :param keep_setid: keep set-user-id and set-group-id bits of files that do not get their owner; only where nobody
        else can reach them
    :param warn: takes one line of text for the user

    Methods raise `OSError` and `ValueError`; `failure` makes a `FileError` of them.
    """

    def __init__(
        self, *, rootless: bool = False, keep_setid: bool = True, warn: Callable[[str], None]
    ) -> None:
        self.left_out = LeftOut()
        if rootless:
            self.left_out.privileged = False
        self.privileged = self.left_out.privileged
        self.owner = (os.geteuid(), os.getegid())
        """Whom a new inode belongs to."""
        self._keep_setid = keep_setid
        self._warn = warn
        self._no_attributes = False

    def doing(self, op: str, option: str = "") -> None:
        """Say what is about to be done, for error messages (see `LeftOut`)."""
        self.left_out.op = op
        self.left_out.option = option

    def effective(self, inode: Inode) -> tuple[int, int]:
        """User and group that an inode gets."""
        return (inode.uid, inode.gid) if self.privileged else self.owner

    def mode(self, inode: Inode) -> int:
        """Permissions that an inode gets."""
        if self._keep_setid or inode.kind == _DIR or self.effective(inode) == (inode.uid, inode.gid):
            return inode.mode
        return inode.mode & ~0o6000

    def attributes(self, inode: Inode) -> tuple[tuple[bytes, bytes], ...]:
        """The extended attributes that are restored."""
        if not inode.xattrs:
            return ()
        return tuple(pair for pair in inode.xattrs if pair[0] not in HOST_ATTRIBUTES)

    def apply(self, item: int | bytes, inode: Inode, mode: int | None = None) -> None:
        """Owner, attributes, permissions and, last, the time.

        :param item: a descriptor, or a path under /proc/self/fd which stands for one
        :param mode: permissions to set rather than the inode's
        """
        uid, gid = self.effective(inode)
        if (uid, gid) != self.owner:
            self.doing("set owner of", _ROOTLESS)
            if not (0 <= uid <= _MAX_ID and 0 <= gid <= _MAX_ID):
                raise ValueError(f"there is no owner {uid}:{gid} on Linux")
            os.chown(item, uid, gid)
        # Before the mode, which may forbid even the owner to set attributes; but an ACL refines a mode.
        found = self.attributes(inode)
        if found:
            self._set(item, [pair for pair in found if pair[0] not in _ACLS], True)
        self.doing("set mode of")
        os.chmod(item, self.mode(inode) if mode is None else mode)
        if found:
            self._set(item, [pair for pair in found if pair[0] in _ACLS], True)
        self.doing("set time of")
        os.utime(item, ns=_times(inode))

    def symlink(self, directory: int, name: bytes, inode: Inode) -> None:
        """Owner, attributes and time of a symlink in a directory that is nobody else's."""
        uid, gid = self.effective(inode)
        if (uid, gid) != self.owner:
            self.doing("set owner of", _ROOTLESS)
            if not (0 <= uid <= _MAX_ID and 0 <= gid <= _MAX_ID):
                raise ValueError(f"there is no owner {uid}:{gid} on Linux")
            os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
        if inode.xattrs:
            self._set(b"/proc/self/fd/%d/%b" % (directory, name), self.attributes(inode), False)
        self.doing("set time of")
        os.utime(name, ns=_times(inode), dir_fd=directory, follow_symlinks=False)

    def _set(self, item: int | bytes, pairs: Iterable[tuple[bytes, bytes]], follow: bool) -> None:
        for name, value in pairs:
            self.doing(f"set extended attribute {show_path(name)} of", _ROOTLESS)
            try:
                os.setxattr(item, name, value, follow_symlinks=follow)
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    self.left_out.skip("extended attributes", error)
                elif not self._no_attributes:
                    self._no_attributes = True
                    self._warn(
                        f"the file system takes no attributes like {show_path(name)}; they are left out"
                    )

    def failure(self, path: bytes, error: OSError | ValueError) -> FileError:
        """The error for the operation under way."""
        return self.left_out.failure(path, error)

    def finish(self) -> None:
        """Warn about what was left out."""
        summary = self.left_out.summary()
        if summary is not None:
            self._warn(summary)


def _times(inode: Inode) -> tuple[int, int]:
    # Times that no file system holds are cut by the kernel; this only keeps them within its interface.
    time = max(-_MAX_TIME, min(inode.mtime, _MAX_TIME))
    return time, time


class _Open:
    """A directory under way."""

    __slots__ = ("fd", "inode", "path")

    def __init__(self, fd: int, inode: Inode, path: bytes) -> None:
        self.fd = fd
        self.inode = inode
        self.path = path


class RootWriter(Closing):
    """Writes one tree.

    :param target: the directory to make; nothing may be there, or an empty directory
    :param shown: what messages call it
    :raises FileError: it cannot be made, or something is in it
    """

    def __init__(self, target: bytes, metadata: Metadata, shown: bytes | None = None) -> None:
        self.target = target
        self._shown = target if shown is None else shown
        self.metadata = metadata
        self._stack: list[_Open] = []
        self._places: dict[Inode, tuple[bytes, int]] = {}
        self._modes_left: list[tuple[bytes, int]] = []
        self._top = -1
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
        for name in _ACLS:
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
        place: Place | None = None,
        on_entry: Callable[[bytes], None] | None = None,
    ) -> None:
        """Write the whole tree.

        :param place: asked for each regular file first
        :param on_entry: called with the path of each entry
        :raises FileError: naming the file; and whatever `fill` raises
        """
        self._stack.append(_Open(self._top, tree.root, b""))
        path = b""
        try:
            for path, inode in tree.walk():
                if inode is None:
                    self._leave()
                    continue
                if on_entry is not None:
                    on_entry(path)
                self._entry(self._stack[-1].fd, path, inode, fill, place)
            path = b""
            self._leave()
            self._finish_modes()
        except (OSError, ValueError) as error:
            raise self.metadata.failure(os.path.join(self._shown, path), error) from error
        self.metadata.finish()

    # Entries

    def _entry(self, directory: int, path: bytes, inode: Inode, fill: Fill, place: Place | None) -> None:
        name = path.rpartition(b"/")[2]
        doing = self.metadata.doing
        if inode.links > 1 and inode in self._places:
            doing("link")
            self._link(directory, name, inode)
            return
        kind = inode.kind
        if kind == _DIR:
            doing("create directory")
            os.mkdir(name, 0o700, dir_fd=directory)
            fd = os.open(name, _OPEN_DIR, dir_fd=directory)
            self._stack.append(_Open(fd, inode, path))
            return
        if kind == _REG:
            if place is None or not place(directory, name, inode, path):
                self._file(directory, name, inode, path, fill)
        elif kind == _LNK:
            doing("create symlink")
            os.symlink(inode.target, name, dir_fd=directory)
            self.metadata.symlink(directory, name, inode)
        elif not self._special(directory, name, inode):
            return
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

    def _special(self, directory: int, name: bytes, inode: Inode) -> bool:
        """:returns: False when it was left out, because only root may"""
        is_device = inode.kind in _DEVICES
        if is_device:
            self.metadata.doing("create device node", _ROOTLESS)
        else:
            self.metadata.doing("create fifo")
        device = 0
        if is_device:
            major, minor = inode.device
            if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
                raise ValueError(f"there is no device {major}:{minor} on Linux")
            device = os.makedev(major, minor)
        try:
            os.mknod(name, inode.kind | 0o600, device, dir_fd=directory)
        except OSError as error:
            self.metadata.left_out.skip("device nodes", error)
            return False
        fd = os.open(name, _OPEN_PATH, dir_fd=directory)
        try:
            self.metadata.apply(b"/proc/self/fd/%d" % fd, inode)
        finally:
            os.close(fd)
        return True

    def _link(self, directory: int, name: bytes, inode: Inode) -> None:
        path, number = self._places[inode]
        os.link(path, name, src_dir_fd=self._top, dst_dir_fd=directory, follow_symlinks=False)
        if os.lstat(name, dir_fd=directory).st_ino != number:
            os.unlink(name, dir_fd=directory)
            raise ValueError("somebody else changed the tree while it was being written; try again")

    # Directories

    def _leave(self) -> None:
        directory = self._stack.pop()
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
        for path, mode in self._modes_left:  # what is inside comes first
            fd = os.open(path or b".", _OPEN_DIR, dir_fd=self._top)
            try:
                os.fchmod(fd, mode)
            finally:
                os.close(fd)
