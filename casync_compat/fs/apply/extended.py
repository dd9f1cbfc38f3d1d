"""Writes what inodes carry beside their `stat` fields: ACLs, extended attributes, file capabilities, SELinux labels.

`item` is an open descriptor or a path under /proc/self/fd, which stands for an inode that cannot be opened. An inode
that was just created needs no reading first, so callers say which are `fresh`.

It does not decide what is restored, beyond the replayed feature flags. XATTR records outside of `user.` and `trusted.`
are not restored: casync writes none, and those of other programs would bypass `--without=fcaps` and `--without=acl`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Container

import xattr

from casync_compat.fs import acl
from casync_compat.fs.apply.left_out import LeftOut
from catar.flags import FeatureFlags
from catar.records import AclEntry, Node

__all__ = ["ExtendedWriter"]

F = FeatureFlags
_OF_FCAPS = int(F.FCAPS)
_OF_SELINUX = int(F.SELINUX)
_ACL = int(F.ACL)
_XATTRS = int(F.XATTRS)
_FCAPS = b"security.capability"
_SELINUX = b"security.selinux"
_ACLS_OF_XFS = frozenset({b"trusted.SGI_ACL_FILE", b"trusted.SGI_ACL_DEFAULT"})
"""XFS shows ACLs a second time under these names; they are restored as ACLs."""
_RESTORED = (b"user.", b"trusted.")
_ABSENT = (errno.ENODATA, errno.EOPNOTSUPP, errno.ENOSYS)


class ExtendedWriter:
    """Restores extended metadata for one set of replayed flags.

    :param features: replayed feature flags
    :param acl_id: the id on disk of an ACL entry, -1 when it has none here; the second argument says group
    :param left_out: takes what an unprivileged user may not do
    :param warn_once: told about attributes that are not restored
    """

    def __init__(
        self,
        features: int,
        acl_id: Callable[[AclEntry, bool], int],
        left_out: LeftOut,
        warn_once: Callable[[str], None],
    ) -> None:
        self.wants_xattrs = bool(features & F.XATTRS)
        self.wants_acl = bool(features & F.ACL)
        self.wants_fcaps = bool(features & F.FCAPS)
        self.wants_selinux = bool(features & F.SELINUX)
        self.wants_any = bool(features & (F.XATTRS | F.ACL | F.SELINUX))
        self._acl_id = acl_id
        self._left_out = left_out
        self._warn_once = warn_once

    def listed(self, item: int | bytes) -> list[bytes]:
        """Names of the attributes that an existing inode has; none where the file system has none."""
        try:
            return [name for name in xattr.list(item) if name not in _ACLS_OF_XFS]
        except OSError as error:
            if error.errno in _ABSENT:
                return []
            self._left_out.op, self._left_out.features = "list attributes of", _XATTRS
            self._left_out.skip("extended attributes", error)
            return []

    def _has(self, item: int | bytes, name: bytes, value: bytes) -> bool:
        """Whether an attribute has a value; no when it cannot be read, since setting it then tells more."""
        try:
            return bytes(xattr.get(item, name)) == value
        except OSError:
            return False

    def _set(self, item: int | bytes, name: bytes, value: bytes, category: str) -> None:
        try:
            xattr.set(item, name, value)
        except OSError as error:
            self._left_out.skip(category, error)

    def _remove(self, item: int | bytes, name: bytes, category: str) -> None:
        try:
            xattr.remove(item, name)
        except OSError as error:
            if error.errno not in _ABSENT:
                self._left_out.skip(category, error)

    def holds(self, item: int | bytes, node: Node) -> bool:
        """Whether an existing inode has what is to be restored of these, and no more; no where that cannot be read."""
        if not (self.wants_any or self.wants_fcaps):
            return True
        wanted = self._wanted(item, node)
        try:
            names = xattr.list(item)
            found = {name: bytes(xattr.get(item, name)) for name in names if self._concerns(name, item, node)}
        except OSError as error:
            return error.errno in _ABSENT and not wanted
        if _SELINUX in found:
            found[_SELINUX] = found[_SELINUX].removesuffix(b"\0")
        return found == wanted

    def _concerns(self, name: bytes, item: int | bytes, node: Node) -> bool:
        """Whether an attribute is one that is restored of an inode."""
        if name == _SELINUX:
            return self.wants_selinux and not (node.is_symlink and node.selinux is None)
        if node.is_symlink or name in _ACLS_OF_XFS:
            return False
        if name in (acl.ACCESS, acl.DEFAULT):
            return self.wants_acl
        if not isinstance(item, int):
            return False
        if name == _FCAPS:
            return self.wants_fcaps and node.is_regular
        return self.wants_xattrs and name.startswith(_RESTORED)

    def _wanted(self, item: int | bytes, node: Node) -> dict[bytes, bytes]:
        """What an inode has by name when it is restored."""
        found = {attribute.name: attribute.value for attribute in node.xattrs}
        if node.fcaps is not None:
            found[_FCAPS] = node.fcaps
        if node.selinux is not None:
            found[_SELINUX] = node.selinux
        found |= acl.values_of(node, self._acl_id)
        return {name: value for name, value in found.items() if self._concerns(name, item, node)}

    # ACLs

    def clear_acls(self, item: int | bytes, names: Container[bytes]) -> None:
        """Remove both ACLs from an inode that has them by inheritance or from an earlier time."""
        self._left_out.op, self._left_out.features = "remove ACL of", _ACL
        for name in (acl.ACCESS, acl.DEFAULT):
            if name in names:
                self._remove(item, name, "ACLs")

    def acls(self, item: int | bytes, node: Node) -> None:
        """Set the ACLs that an archive records; the mode must have been set before."""
        self._left_out.op, self._left_out.features = "set ACL of", _ACL
        for name, value in acl.values_of(node, self._acl_id).items():
            self._set(item, name, value, "ACLs")

    # Attributes

    def xattrs(self, item: int | bytes, node: Node, names: list[bytes]) -> None:
        """Make the `user.` and `trusted.` attributes those of the archive.

        :param names: attributes that the inode has now
        """
        self._left_out.features = _XATTRS
        if names:
            wanted = {attribute.name for attribute in node.xattrs}
            for name in names:
                if name.startswith(_RESTORED) and name not in wanted:
                    self._left_out.op = f"remove extended attribute {_show(name)} of"
                    self._remove(item, name, _category(name))
        for attribute in node.xattrs:
            name, value = attribute.name, attribute.value
            if name in _ACLS_OF_XFS:
                continue
            if not name.startswith(_RESTORED):
                self._warn_once(
                    f"extended attributes like {_show(name)} are not restored, only user.* and trusted.*"
                )
                continue
            self._left_out.op = f"set extended attribute {_show(name)} of"
            if name in names and self._has(item, name, value):
                continue
            self._set(item, name, value, _category(name))

    def fcaps(self, item: int, value: bytes) -> None:
        """Set the file capabilities of a regular file."""
        self._left_out.op, self._left_out.features = "set capabilities of", _OF_FCAPS
        self._set(item, _FCAPS, value, "file capabilities")

    def no_fcaps(self, item: int) -> None:
        """Remove the file capabilities that a regular file had before."""
        self._left_out.op, self._left_out.features = "remove capabilities of", _OF_FCAPS
        try:
            xattr.get(item, _FCAPS)
        except OSError:
            return  # who may not remove any is told so also where there are none
        self._remove(item, _FCAPS, "file capabilities")

    def selinux(self, item: int | bytes, label: bytes | None, names: Container[bytes]) -> None:
        """Set or remove the SELinux label; where a running SELinux forbids to remove it, it stays."""
        self._left_out.op, self._left_out.features = "set SELinux label of", _OF_SELINUX
        here = _SELINUX in names
        if label is None:
            if here:
                try:
                    xattr.remove(item, _SELINUX)
                except OSError as error:
                    if error.errno not in (*_ABSENT, errno.EACCES, errno.EPERM):
                        self._left_out.skip("SELinux labels", error)
            return
        if here and (self._has(item, _SELINUX, label + b"\0") or self._has(item, _SELINUX, label)):
            return
        self._set(item, _SELINUX, label + b"\0", "SELinux labels")


def _category(name: bytes) -> str:
    return "trusted attributes" if name.startswith(b"trusted.") else "extended attributes"


def _show(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
