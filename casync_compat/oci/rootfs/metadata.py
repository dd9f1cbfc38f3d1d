"""Gives inodes of an image the metadata that its layers record: owner, attributes, permissions, time.

    >>> metadata = Metadata(warn=print)
    >>> metadata.apply(fd, inode)
    >>> metadata.finish()                             # says what was left out

What the target, the kernel or the privileges cannot hold is left out and counted, by the rules of
`casync_compat.fs.apply.left_out`; others than root, and `rootless`, do without owners, devices and privileged
attributes, and are told so once. `security.selinux` and NFS's ACLs are the host's business and left out, as umoci does.
Inodes are made by others.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress

from casync_compat.errors import FileError, show_path
from casync_compat.fs import acl
from casync_compat.fs.apply.left_out import PRIVILEGES, LeftOut
from casync_compat.oci.rootfs.mergedtree import Inode

__all__ = ["ACL_ATTRIBUTES", "HOST_ATTRIBUTES", "Metadata"]

ACL_ATTRIBUTES = (acl.ACCESS, acl.DEFAULT)
"""Extended attributes that refine a mode."""
HOST_ATTRIBUTES = frozenset({b"security.selinux", b"system.nfs4_acl"})
"""Extended attributes that are the host's to set, whatever an image says."""

_DIR, _LNK = stat.S_IFDIR, stat.S_IFLNK
_MAX_ID = (1 << 32) - 2
_MAX_TIME = (1 << 63) // 1_000_000_000 * 1_000_000_000


class Metadata:
    """Gives inodes that were just made, by this process, the metadata of the merged tree.

    :param rootless: do without what takes root, as always when this is another user
    :param keep_setid: keep set-user-id and set-group-id bits of files that do not get their owner; only where nobody
        else can reach them
    :param acls: restore ACLs that an image has as text
    :param strict: fail at the first that the target cannot hold
    :ivar left_out: takes what is left out
    :ivar warn: takes one line of text for the user

    Methods raise `OSError` and `ValueError`; `failure` makes a `FileError` of them.
    """

    def __init__(
        self,
        *,
        rootless: bool = False,
        keep_setid: bool = True,
        acls: bool = False,
        strict: bool = False,
        warn: Callable[[str], None],
    ) -> None:
        self.left_out = LeftOut(tolerant=not strict)
        if rootless:
            self.left_out.privileged = False
        self.privileged = self.left_out.privileged
        self.owner = (os.geteuid(), os.getegid())
        """Whom a new inode belongs to."""
        self._keep_setid = keep_setid
        self.warn = warn
        self._acls = acls
        self._bad_acls: list[str] = []

    def doing(self, op: str, features: int = 0) -> None:
        """Say what is about to be done, for error messages (see `LeftOut`)."""
        self.left_out.op = op
        self.left_out.features = features

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
        if not inode.xattrs and not inode.acls:
            return ()
        found = tuple(pair for pair in inode.xattrs if pair[0] not in HOST_ATTRIBUTES)
        if self._acls and inode.acls and inode.kind != _LNK:
            found += self._text_acls(inode, {name for name, _ in found})
        return found

    def _text_acls(self, inode: Inode, known: set[bytes]) -> tuple[tuple[bytes, bytes], ...]:
        """ACLs that are only there as text, as the kernel takes them. What is no ACL is left out."""
        out = []
        for name, text in inode.acls:
            if name in known or (name == acl.DEFAULT and inode.kind != _DIR):
                continue
            try:
                out.append((name, acl.build_text(text)))
            except ValueError as error:
                self.doing("set ACL of")
                self.left_out.skip("ACLs", OSError(errno.EINVAL, str(error)))
                self._bad_acls.append(str(error))
        return tuple(out)

    def apply(self, item: int | bytes, inode: Inode, mode: int | None = None) -> None:
        """Owner, attributes, permissions and, last, the time.

        :param item: a descriptor, or a path under /proc/self/fd which stands for one
        :param mode: permissions to set rather than the inode's
        """
        owned = self._chown(inode, lambda uid, gid: os.chown(item, uid, gid))
        # Before the mode, which may forbid even the owner to set attributes; but an ACL refines a mode.
        found = self.attributes(inode)
        if found:
            self._set(item, [pair for pair in found if pair[0] not in ACL_ATTRIBUTES], True)
        self.doing("set mode of")
        wanted = self.mode(inode) if mode is None else mode
        if not owned and inode.kind != _DIR:
            wanted &= ~0o6000  # set-user-id means another user now
        try:
            os.chmod(item, wanted)
        except OSError as error:
            self.left_out.skip("permissions", error)
        if found:
            self._set(item, [pair for pair in found if pair[0] in ACL_ATTRIBUTES], True)
        self.doing("set time of")
        try:
            os.utime(item, ns=_times(inode))
        except OSError as error:
            self.left_out.skip("times", error)

    def apply_whole(self, item: int | bytes, inode: Inode) -> bool:
        """As `apply`, where something else is done when not all of it can be had, which is not counted then.

        :returns: whether the inode has all that it should
        """
        left_out = self.left_out
        before, strict = left_out.kinds, not left_out.tolerant
        left_out.tolerant = True
        try:
            self.apply(item, inode)
            whole = left_out.kinds == before
        finally:
            left_out.back_to(before)
            left_out.tolerant = not strict
        return whole

    def _chown(self, inode: Inode, chown: Callable[[int, int], None]) -> bool:
        """Set the owner. :returns: whether it is the one that the inode is to have"""
        uid, gid = self.effective(inode)
        if (uid, gid) == self.owner:
            return True
        self.doing("set owner of", PRIVILEGES)
        try:
            if not (0 <= uid <= _MAX_ID and 0 <= gid <= _MAX_ID):
                raise OSError(errno.EINVAL, f"there is no owner {uid}:{gid} on Linux")
            chown(uid, gid)
        except OSError as error:
            self.left_out.skip("owners", error)
            for half in ((-1, gid), (uid, -1)):  # one of the two may be mapped
                with suppress(OSError, OverflowError):
                    chown(*half)
            return False
        return True

    def symlink(self, directory: int, name: bytes, inode: Inode) -> None:
        """Owner, attributes and time of a symlink in a directory that is nobody else's."""
        self._chown(inode, lambda uid, gid: os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False))
        if inode.xattrs:
            self._set(b"/proc/self/fd/%d/%b" % (directory, name), self.attributes(inode), False)
        self.doing("set time of")
        try:
            os.utime(name, ns=_times(inode), dir_fd=directory, follow_symlinks=False)
        except OSError as error:
            self.left_out.skip("times", error)

    def _set(self, item: int | bytes, pairs: Iterable[tuple[bytes, bytes]], follow: bool) -> None:
        for name, value in pairs:
            self.doing(f"set extended attribute {show_path(name)} of", PRIVILEGES)
            try:
                os.setxattr(item, name, value, follow_symlinks=follow)
            except OSError as error:
                self.left_out.skip(_category(name), error)

    def failure(self, path: bytes, error: OSError | ValueError) -> FileError:
        """The error for the operation under way."""
        return self.left_out.failure(path, error)

    def finish(self) -> None:
        """Warn about what was left out."""
        if self._bad_acls:
            count = len(self._bad_acls)
            self.warn(f"{count} ACLs of the image are left out; of the first: {self._bad_acls[0]}")
        self.left_out.tell(self.warn)


def _category(name: bytes) -> str:
    if name in ACL_ATTRIBUTES:
        return "ACLs"
    if name == b"security.capability":
        return "file capabilities"
    for space in (b"trusted", b"security"):
        if name.startswith(space + b"."):
            return f"{space.decode()} attributes"
    return "extended attributes"


def _times(inode: Inode) -> tuple[int, int]:
    # Times that no file system holds are cut by the kernel; this only keeps them within its interface.
    time = max(-_MAX_TIME, min(inode.mtime, _MAX_TIME))
    return time, time
