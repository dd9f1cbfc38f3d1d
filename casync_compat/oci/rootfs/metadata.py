"""Gives inodes of an image the metadata that its layers record: owner, attributes, permissions, time.

    >>> metadata = Metadata(warn=print)
    >>> metadata.apply(fd, inode)
    >>> metadata.finish()                             # says what was left out

For root, whatever the kernel refuses is an error; others, and `rootless`, do without owners, devices and privileged
attributes, and are told so once. `security.selinux` and NFS's ACLs are the host's business and left out, as umoci does.
Inodes are made by others.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable

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
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS)


class Metadata:
    """Gives inodes that were just made, by this process, the metadata of the merged tree.

    :param rootless: do without what takes root, as always when this is another user
    :param keep_setid: keep set-user-id and set-group-id bits of files that do not get their owner; only where nobody
        else can reach them
    :param acls: restore ACLs that an image has as text
    :ivar warn: takes one line of text for the user

    Methods raise `OSError` and `ValueError`; `failure` makes a `FileError` of them.
    """

    def __init__(
        self,
        *,
        rootless: bool = False,
        keep_setid: bool = True,
        acls: bool = False,
        warn: Callable[[str], None],
    ) -> None:
        self.left_out = LeftOut()
        if rootless:
            self.left_out.privileged = False
        self.privileged = self.left_out.privileged
        self.owner = (os.geteuid(), os.getegid())
        """Whom a new inode belongs to."""
        self._keep_setid = keep_setid
        self.warn = warn
        self._no_attributes = False
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
                self._bad_acls.append(str(error))
        return tuple(out)

    def apply(self, item: int | bytes, inode: Inode, mode: int | None = None) -> None:
        """Owner, attributes, permissions and, last, the time.

        :param item: a descriptor, or a path under /proc/self/fd which stands for one
        :param mode: permissions to set rather than the inode's
        """
        uid, gid = self.effective(inode)
        if (uid, gid) != self.owner:
            self.doing("set owner of", PRIVILEGES)
            if not (0 <= uid <= _MAX_ID and 0 <= gid <= _MAX_ID):
                raise ValueError(f"there is no owner {uid}:{gid} on Linux")
            os.chown(item, uid, gid)
        # Before the mode, which may forbid even the owner to set attributes; but an ACL refines a mode.
        found = self.attributes(inode)
        if found:
            self._set(item, [pair for pair in found if pair[0] not in ACL_ATTRIBUTES], True)
        self.doing("set mode of")
        os.chmod(item, self.mode(inode) if mode is None else mode)
        if found:
            self._set(item, [pair for pair in found if pair[0] in ACL_ATTRIBUTES], True)
        self.doing("set time of")
        os.utime(item, ns=_times(inode))

    def symlink(self, directory: int, name: bytes, inode: Inode) -> None:
        """Owner, attributes and time of a symlink in a directory that is nobody else's."""
        uid, gid = self.effective(inode)
        if (uid, gid) != self.owner:
            self.doing("set owner of", PRIVILEGES)
            if not (0 <= uid <= _MAX_ID and 0 <= gid <= _MAX_ID):
                raise ValueError(f"there is no owner {uid}:{gid} on Linux")
            os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
        if inode.xattrs:
            self._set(b"/proc/self/fd/%d/%b" % (directory, name), self.attributes(inode), False)
        self.doing("set time of")
        os.utime(name, ns=_times(inode), dir_fd=directory, follow_symlinks=False)

    def _set(self, item: int | bytes, pairs: Iterable[tuple[bytes, bytes]], follow: bool) -> None:
        for name, value in pairs:
            self.doing(f"set extended attribute {show_path(name)} of", PRIVILEGES)
            try:
                os.setxattr(item, name, value, follow_symlinks=follow)
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    self.left_out.skip("extended attributes", error)
                elif not self._no_attributes:
                    self._no_attributes = True
                    self.warn(
                        f"the file system takes no attributes like {show_path(name)}; they are left out"
                    )

    def failure(self, path: bytes, error: OSError | ValueError) -> FileError:
        """The error for the operation under way."""
        return self.left_out.failure(path, error)

    def finish(self) -> None:
        """Warn about what was left out."""
        if self._bad_acls:
            count = len(self._bad_acls)
            self.warn(f"{count} ACLs of the image are left out; of the first: {self._bad_acls[0]}")
        summary = self.left_out.summary()
        if summary is not None:
            self.warn(summary)


def _times(inode: Inode) -> tuple[int, int]:
    # Times that no file system holds are cut by the kernel; this only keeps them within its interface.
    time = max(-_MAX_TIME, min(inode.mtime, _MAX_TIME))
    return time, time
