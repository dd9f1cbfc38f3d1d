"""Directories of a tree that is being written: created or opened without following symlinks, kept open until complete.

    >>> top = open_target(b"/target", restorer, undo_immutable=False)
    >>> child = enter(top, node, restorer, temp, undo_immutable=False)

A directory that we made ourselves is `fresh`: owner-only until it is complete, so that nobody else has put anything in
it, and what is created in it needs no look at what was there before. What its inodes take over from it (group, ACL,
chattr flags) is known from the start.

This module does not restore metadata, except what must be set while a directory is empty.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from casync_compat.fs import acl, inode_flags
from casync_compat.fs.apply.claims import Claim
from casync_compat.fs.apply.restore import INHERITED, InodeState, Restorer
from casync_compat.fs.locks import Locked
from casync_compat.fs.remove import OPEN_DIR, TempNames
from casync_compat.fs.together import Written
from catar.flags import FeatureFlags
from catar.records import Node

__all__ = ["Directory", "enter", "is_subvolume", "open_target"]

F = FeatureFlags
_SUBVOLUME = int(F.SUBVOLUME)  # a plain int: arithmetic on IntFlag members costs a microsecond each
_LOCKING = int(F.FLAG_IMMUTABLE | F.FLAG_APPEND)
_NOT_A_DIRECTORY = (errno.ENOTDIR, errno.ELOOP)


class Directory:
    """An open directory.

    :ivar node: what the archive says about it; None for one that only holds the top node
    :ivar name: in its parent; empty for the target
    :ivar path: for messages
    :ivar made: made by us
    :ivar fresh: made by us and out of others' reach
    :ivar stood: it was there before
    :ivar temp: the name that it has until it is complete, when something else has its own; else None
    :ivar names: entries that the archive has, to know what to delete; None where nothing is deleted
    :ivar written: what was written into it; None where it is fresh, and names do not fall together
    :ivar merged: path of another directory of the same run that this one is here, so that nothing in it is replaced;
        None where it is one of its own
    :ivar stat: as it was when it was opened
    :ivar owner: user and group id that new inodes in it get; None when not known yet
    :ivar inherits_acl: it has a default ACL, which new inodes get
    :ivar flags: chattr flags that it has
    :ivar child_flags: chattr flags that new inodes in it may take over
    :ivar made_writable: its owner was given the permission to write into it, beyond what `stat` says
    :ivar unlocked: chattr flags that were cleared so that it can be written into
    :ivar claim: what keeps other runs out of it, if this one does
    """

    __slots__ = (
        "child_flags",
        "claim",
        "fd",
        "flags",
        "fresh",
        "inherits_acl",
        "made",
        "made_writable",
        "merged",
        "name",
        "names",
        "node",
        "owner",
        "path",
        "stat",
        "stood",
        "temp",
        "unlocked",
        "written",
    )

    def __init__(self, fd: int, st: os.stat_result, path: bytes, name: bytes, node: Node | None) -> None:
        self.fd = fd
        self.stat = st
        self.path = path
        self.name = name
        self.node = node
        self.made = False
        self.fresh = False
        self.stood = False
        self.temp: bytes | None = None
        self.names: set[bytes] | None = None
        self.written: Written | None = None
        self.merged: bytes | None = None
        self.owner: tuple[int, int] | None = None
        self.inherits_acl = False
        self.flags = 0
        self.child_flags = 0
        self.made_writable = False
        self.unlocked = 0
        self.claim: Claim | None = None

    def inode(self) -> InodeState:
        """What it has before its metadata is restored."""
        st = self.stat
        return InodeState(
            self.fd,
            st.st_uid,
            st.st_gid,
            st.st_mode,
            st.st_atime_ns,
            self.fresh,
            self.inherits_acl,
            self.flags,
            self.made_writable,
        )

    def close(self) -> None:
        """Close the descriptor, and let other runs in. :raises OSError: the last write to it failed"""
        if self.claim is not None:
            self.claim.release()
            self.claim = None
        os.close(self.fd)

    def leave_alone(self) -> None:
        """Undo what was done to an existing directory only to write into it; never raises."""
        with suppress(OSError):
            if self.made_writable:
                os.fchmod(self.fd, self.stat.st_mode & 0o7777)
        with suppress(OSError):
            if self.merged is not None:
                os.utime(self.fd, ns=(self.stat.st_atime_ns, self.stat.st_mtime_ns))
        with suppress(OSError):
            if self.unlocked:
                inode_flags.set_flags(self.fd, self.unlocked, self.unlocked)
        self.made_writable, self.unlocked = False, 0


def _is_ours_alone(st: os.stat_result, restorer: Restorer) -> bool:
    return st.st_uid == restorer.left_out.euid and not st.st_mode & 0o077


def _open(name: bytes, how: int, made_by: Restorer | None, directory_fd: int | None = None) -> int:
    """Open a directory. One that we just made may forbid that to its owner, by a default ACL or the umask.

    :param made_by: who has made it; None when it was there
    """
    try:
        return os.open(name, how, dir_fd=directory_fd)
    except PermissionError:
        if made_by is None:
            raise
        fd = os.open(name, os.O_PATH | OPEN_DIR, dir_fd=directory_fd)
    try:
        if not _is_ours_alone(os.fstat(fd), made_by):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        os.chmod(b"/proc/self/fd/%d" % fd, 0o700)
    finally:
        os.close(fd)
    return os.open(name, how, dir_fd=directory_fd)


def _has_default_acl(fd: int) -> bool:
    try:
        return bool(os.getxattr(fd, acl.DEFAULT))
    except OSError:
        return False


def _open_fresh(fd: int, parent: Directory | None, directory: Directory, restorer: Restorer) -> None:
    """Complete what is known of a directory that we just made."""
    st = directory.stat
    directory.fresh = True
    mode = stat.S_IMODE(st.st_mode) | 0o700  # a default ACL or the umask may have taken of that
    # In it, new inodes get what it got itself, by whichever rule of the file system.
    directory.owner = (st.st_uid, st.st_gid)
    if parent is not None:
        directory.flags = parent.child_flags
        directory.child_flags = parent.child_flags
        directory.inherits_acl = parent.inherits_acl
    if directory.inherits_acl and restorer.extended.wants_acl:
        # What is made in it must not inherit what is about to be replaced.
        restorer.extended.clear_acls(fd, (acl.ACCESS, acl.DEFAULT))
        directory.inherits_acl = False
        os.fchmod(fd, mode)
    elif mode != stat.S_IMODE(st.st_mode):
        os.fchmod(fd, mode)
    else:
        return
    directory.stat = os.fstat(fd)


def _open_existing(fd: int, directory: Directory, restorer: Restorer, undo_immutable: bool) -> None:
    """Find out what a directory that was there before gives to new inodes, and make it writable for its owner."""
    st = directory.stat
    directory.inherits_acl = _has_default_acl(fd)
    directory.flags = inode_flags.get_flags(fd)
    directory.child_flags = directory.flags & INHERITED
    locked = directory.flags & _LOCKING
    if locked:
        restorer.left_out.op = "update"
        if not undo_immutable:
            raise Locked.at(directory.path, "update")
        inode_flags.set_flags(fd, 0, locked)
        directory.unlocked = locked
        directory.flags &= ~locked
    left_out = restorer.left_out
    if st.st_mode & 0o700 != 0o700 and not left_out.privileged and st.st_uid == left_out.euid:
        os.fchmod(fd, stat.S_IMODE(st.st_mode) | 0o700)
        directory.made_writable = True


def open_target(path: bytes, node: Node | None, restorer: Restorer, *, undo_immutable: bool) -> Directory:
    """Open the directory that a tree is written to; create it (one level) when it is missing. May be a symlink to one.

    :param node: what the archive says about it, or None when it only holds the top node
    :raises OSError: when that fails
    """
    private = node is not None and restorer.exact_modes  # else nothing would open it up again
    restorer.left_out.op, restorer.left_out.features = "create directory", 0
    made = False
    try:
        _make_target(path, node, restorer, private)
        made = True
    except FileExistsError:
        pass
    restorer.left_out.op = "open directory"
    fd = _open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, restorer if made and private else None)
    directory = Directory(fd, os.fstat(fd), path, b"", node)
    try:
        directory.claim = Claim(fd, path, shared=node is None)
        directory.made = made
        # Made ourselves, it may still have inherited from a parent that we did not look at.
        if made and private and _is_ours_alone(directory.stat, restorer):
            directory.inherits_acl = _has_default_acl(fd)
            directory.flags = inode_flags.get_flags(fd)
            directory.child_flags = directory.flags & INHERITED
            _open_fresh(fd, None, directory, restorer)
        else:
            _open_existing(fd, directory, restorer, undo_immutable)
        directory.stood = not made
        if node is not None:
            _check_subvolume(directory, node, restorer)
        _prepare(directory, restorer)
    except BaseException:
        directory.leave_alone()
        directory.close()
        raise
    return directory


def _prepare(directory: Directory, restorer: Restorer) -> None:
    node = directory.node
    if node is None:
        return
    restorer.left_out.directory, restorer.left_out.name = directory.path, b""
    before = directory.flags
    directory.flags = restorer.prepare(directory.fd, node, directory.fresh, before)
    if directory.flags != before:
        directory.child_flags = directory.flags & INHERITED


def _make(parent: Directory, name: bytes, node: Node, restorer: Restorer) -> None:
    """Create an owner-only directory, or a btrfs subvolume where the archive says so.

    :raises FileExistsError: when something has the name
    """
    if node.flags & _SUBVOLUME and restorer.features & _SUBVOLUME:
        restorer.left_out.op, restorer.left_out.features = "create subvolume", _SUBVOLUME
        if _make_subvolume(parent.fd, name):
            return
    restorer.left_out.op, restorer.left_out.features = "create directory", 0
    os.mkdir(name, 0o700, dir_fd=parent.fd)


def _make_subvolume(directory_fd: int, name: bytes) -> bool:
    """:returns: False when there can be none, so that a plain directory has to do

    :raises FileExistsError: when something has the name
    """
    try:
        inode_flags.create_subvolume(directory_fd, name)
    except FileExistsError:
        raise
    except OSError:
        return False
    fd = os.open(name, OPEN_DIR, dir_fd=directory_fd)
    try:
        os.fchmod(fd, 0o700)
    finally:
        os.close(fd)
    return True


def _make_target(path: bytes, node: Node | None, restorer: Restorer, private: bool) -> None:
    """Create the target. :raises FileExistsError: when it is there"""
    if node is not None and private and node.flags & restorer.features & _SUBVOLUME:
        above, name = os.path.split(path.rstrip(b"/"))
        fd = os.open(above or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if name not in (b"", b".", b"..") and _make_subvolume(fd, name):
                return
        finally:
            os.close(fd)
    os.mkdir(path, 0o700 if private else 0o777)


def is_subvolume(directory: Directory) -> bool:
    """Whether a directory is the top of a btrfs subvolume."""
    return (
        directory.stat.st_ino == inode_flags.BTRFS_SUBVOLUME_INO
        and inode_flags.fs_magic(directory.fd) == inode_flags.BTRFS_MAGIC
    )


def _check_subvolume(directory: Directory, node: Node, restorer: Restorer) -> None:
    """Where there is no subvolume to be had, or a plain directory is there already, that does."""
    if not node.flags & restorer.features & _SUBVOLUME or is_subvolume(directory):
        return
    on_btrfs = inode_flags.fs_magic(directory.fd) == inode_flags.BTRFS_MAGIC
    left_out = restorer.left_out
    left_out.op, left_out.features = "create subvolume", _SUBVOLUME
    left_out.directory, left_out.name = directory.path, b""
    restorer.no_subvolume(on_btrfs)


def enter(
    parent: Directory,
    node: Node,
    restorer: Restorer,
    temp: TempNames,
    *,
    undo_immutable: bool,
    merged: bytes | None = None,
) -> Directory:
    """Create or open a directory within another. Something else that has its name is left for when it is complete.

    :param merged: path of a directory that this run has written, and that has the name
    :raises OSError: when that fails
    """
    name = node.name
    made = True
    if merged is not None:
        return _opened_again(parent, node, restorer, merged)
    try:
        _make(parent, name, node, restorer)
    except FileExistsError:
        made = False
    restorer.left_out.op, restorer.left_out.features = "open directory", 0
    try:
        fd = _open(name, OPEN_DIR, restorer if made else None, parent.fd)
    except OSError as error:
        if made or error.errno not in _NOT_A_DIRECTORY:
            raise
    else:
        return _opened(parent, fd, node, restorer, made, undo_immutable)
    temporary = temp.next()
    try:
        _make(parent, temporary, node, restorer)
        fd = _open(temporary, OPEN_DIR, restorer, parent.fd)
        directory = _opened(parent, fd, node, restorer, True, undo_immutable)
        directory.temp = temporary
    except BaseException:
        with suppress(OSError):
            os.rmdir(temporary, dir_fd=parent.fd)
        raise
    return directory


def _opened_again(parent: Directory, node: Node, restorer: Restorer, merged: bytes) -> Directory:
    """Open a directory that this run has written, to add to it. :raises OSError: that cannot be"""
    restorer.left_out.op, restorer.left_out.features = "open directory", 0
    fd = os.open(node.name, OPEN_DIR, dir_fd=parent.fd)
    try:
        directory = Directory(fd, os.fstat(fd), os.path.join(parent.path, node.name), node.name, node)
        directory.merged = merged
        _open_existing(fd, directory, restorer, True)  # it is our own
    except BaseException:
        os.close(fd)
        raise
    return directory


def _opened(
    parent: Directory, fd: int, node: Node, restorer: Restorer, made: bool, undo_immutable: bool
) -> Directory:
    """The directory that `fd` stands for from now on."""
    directory = Directory(fd, os.fstat(fd), os.path.join(parent.path, node.name), node.name, node)
    directory.made = made
    try:
        if made and _is_ours_alone(directory.stat, restorer):
            _open_fresh(fd, parent, directory, restorer)
        else:
            _open_existing(fd, directory, restorer, undo_immutable)
        directory.stood = not made
        _check_subvolume(directory, node, restorer)
        _prepare(directory, restorer)
    except BaseException:
        directory.leave_alone()
        directory.close()
        raise
    return directory
