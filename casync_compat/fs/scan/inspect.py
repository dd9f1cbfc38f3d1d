"""One inode's metadata as a `Node`: what the feature flags ask for, read with as few system calls as they allow.

    >>> inspector = Inspector(flags.DEFAULT, IdShift())
    >>> fs = inspector.file_system(fd, device)
    >>> node = inspector.node(b"hosts", fd, os.fstat(fd), fs, inspector.chattr_flags(fd))

Which attributes are read of which file type follows casync (`src/caencoder.c`): attributes, ACLs and labels of
directories and regular files come from their descriptor; fifos, sockets and devices have ACLs and labels but never
extended attributes; symlinks have labels only.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import xattr

from casync_compat import _layouts
from casync_compat.fs import acl, inode_flags
from casync_compat.fs.losses import is_ours
from casync_compat.fs.owners import IdShift, IdTooLarge, Names
from catar import layouts
from catar.filling import Owners
from catar.flags import CHATTR, FAT_ATTRS, NODE_FLAGS, SUBVOLUME_BITS, FeatureFlags, time_granularity
from catar.grammar import NODE_FEATURES
from catar.records import AclDefault, AclEntry, Node, XAttr, stored_time

__all__ = ["FileSystem", "Inspector", "RawFile"]

RawFile: TypeAlias = tuple[int, int, int, int, int, int, int, int, int, int, int, int, int, int, int]
"""A row of the native reader, see `casync_compat.fs.system.read_files`."""

F = FeatureFlags
_DIR = stat.S_IFDIR

_LISTS_ACLS = frozenset(
    {
        inode_flags.EXT4_MAGIC,
        inode_flags.XFS_MAGIC,
        inode_flags.BTRFS_MAGIC,
        inode_flags.TMPFS_MAGIC,
        0x794C7630,  # overlayfs
    }
)
"""File systems whose attribute listing names ACLs, so that none listed means none there."""
_HAS_PROJID = frozenset({inode_flags.EXT4_MAGIC, inode_flags.XFS_MAGIC, inode_flags.FUSE_MAGIC})
_HAS_FAT_ATTRS = frozenset({inode_flags.MSDOS_MAGIC, inode_flags.FUSE_MAGIC})
_NO_ATTRIBUTE = (errno.ENODATA, errno.EOPNOTSUPP, errno.ENOSYS)

_ACL_ACCESS = b"system.posix_acl_access"
_ACL_DEFAULT = b"system.posix_acl_default"
_SELINUX = b"security.selinux"
_FCAPS = b"security.capability"
_STORED_XATTRS = (b"user.", b"trusted.")


@dataclass(frozen=True, slots=True)
class FileSystem:
    """What matters about the file system that an inode is on.

    :ivar device: its `st_dev`
    :ivar magic: its `f_type`
    :ivar is_virtual: its files are stored as empty (procfs and the like, casync's list)
    """

    device: int
    magic: int
    is_virtual: bool


def _xattr_is_stored(name: bytes) -> bool:
    """Whether an attribute becomes an XATTR record: `user.` or `trusted.`, with something after the first dot."""
    dot = name.find(b".")
    return name.startswith(_STORED_XATTRS) and len(name) <= layouts.XATTR_NAME_MAX and dot != len(name) - 1


class Inspector:
    """Reads metadata for one set of feature flags.

    :param features: the normalised flag word
    :param shift: how owner ids are stored
    :param on_loss: called when an attribute cannot be read, which is left out then; None raises
    """

    def __init__(
        self, features: int, shift: IdShift, on_loss: Callable[[OSError], None] | None = None
    ) -> None:
        self._on_loss = on_loss
        self._features = features
        self._shift = shift
        self._names = Names()
        self._file_systems: dict[int, FileSystem] = {}
        self._owners: dict[tuple[int, int], tuple[int, int, bytes | None, bytes | None]] = {}
        self.owners = Owners(features)
        """The owners seen last, for runs."""
        # Worked out once: arithmetic on enum members costs a microsecond each, and this runs for every file.
        self._granularity = time_granularity(features)
        self._modes: dict[int, int] = {}
        self._node_flags = features & NODE_FLAGS
        self._numeric = bool(features & (F.UIDS_16BIT | F.UIDS_32BIT))
        self._named = bool(features & F.USER_NAMES)
        self._wants_flags = bool(features & (CHATTR | F.EXCLUDE_NODUMP))
        self._wants_fat = bool(features & FAT_ATTRS)
        self._wants_subvolume = bool(features & SUBVOLUME_BITS)
        self._wants_projid = bool(features & F.QUOTA_PROJID)
        self._wants_xattrs = bool(features & F.XATTRS)
        self._wants_acl = bool(features & F.ACL)
        self._wants_selinux = bool(features & F.SELINUX)
        self._wants_fcaps = bool(features & F.FCAPS)
        self._run_bits = 0
        if features & (F.PERMISSIONS | F.ACL):
            links = _layouts.WANT_LINKS if features & F.SYMLINKS else 0
            self._run_bits = _layouts.WANT_RUNS | links | (_layouts.WANT_LABELS if self._wants_selinux else 0)
        self._wants_list = bool(features & (F.XATTRS | F.ACL | F.SELINUX | F.FCAPS))

    @property
    def names(self) -> Names:
        """The names of users and groups that were looked up."""
        return self._names

    def stores(self, kind: int) -> bool:
        """Whether nodes of a file type (`S_IFMT` bits) are archived at all."""
        needs = NODE_FEATURES.get(kind)
        return needs is not None and (not needs or bool(self._features & needs))

    def file_system(self, fd: int, device: int) -> FileSystem:
        """The file system of an open file, asked for once a device."""
        known = self._file_systems.get(device)
        if known is None:
            magic = inode_flags.fs_magic(fd)
            known = FileSystem(device, magic, magic in inode_flags.VIRTUAL_MAGICS)
            self._file_systems[device] = known
        return known

    # Fields of ENTRY

    def _mode(self, mode: int) -> int:
        known = self._modes.get(mode)
        if known is None:
            known = self._modes[mode] = self._stored_mode(mode)
        return known

    def _stored_mode(self, mode: int) -> int:
        features = self._features
        kind = mode & 0o170000
        if kind == stat.S_IFLNK:
            return kind | 0o777
        if features & (F.PERMISSIONS | F.ACL):
            return mode & 0o177777
        is_dir = kind == stat.S_IFDIR
        if features & F.READ_ONLY and not mode & 0o222:
            return kind | (0o555 if is_dir else 0o444)
        return kind | (0o777 if is_dir else 0o666)

    def _owner(self, uid: int, gid: int) -> tuple[int, int, bytes | None, bytes | None]:
        """`(uid, gid, user, group)` as stored. :raises ValueError: for ids that cannot be stored"""
        known = self._owners.get((uid, gid))
        if known is None:
            user, stored_uid = self._stored_id(uid, is_group=False)
            group, stored_gid = self._stored_id(gid, is_group=True)
            known = (stored_uid, stored_gid, user, group)
            self._owners[uid, gid] = known
            self.owners.add(uid, gid, *known)
        return known

    def note_owner(self, uid: int, gid: int) -> None:
        """Have an owner that a node was made with among `owners`."""
        if not self.owners.has(uid, gid):
            self.owners.add(uid, gid, *self._owner(uid, gid))

    def _stored_id(self, id_: int, *, is_group: bool) -> tuple[bytes | None, int]:
        what = "group" if is_group else "user"
        shifted = self._shift.encode(id_) if self._numeric or self._named else 0
        if self._features & F.UIDS_16BIT and shifted > layouts.ID16_INVALID:
            raise IdTooLarge(f"{what} id {shifted} does not fit 16bit-uids")
        name = None
        if self._named and id_ != 0:
            name = self._names.group(id_) if is_group else self._names.user(id_)
            if name is None and not self._numeric:
                name = str(shifted).encode()
            elif name is None and not shifted and self._shift.for_listing:
                name = b""
        return name, shifted if self._numeric else 0

    def raw_wanted(self, fs: FileSystem) -> int:
        """What the native reader is to ask about each file (`WANT_*`)."""
        projid = self._wants_projid and fs.magic in _HAS_PROJID
        return (
            (_layouts.WANT_FLAGS if self._wants_flags else 0)
            | (_layouts.WANT_PROJID if projid else 0)
            | (_layouts.WANT_LIST if self._wants_list else 0)
        )

    def run_wanted(self, fs: FileSystem) -> int:
        """The same for runs that are encoded as they are; 0 where modes are not stored whole: there are no runs."""
        return self.raw_wanted(fs) | self._run_bits if self._run_bits else 0

    @property
    def odd_flags(self) -> int:
        """The chattr flags, as the kernel has them, that ordinary files do not have."""
        return inode_flags.CHATTR_DISK if self._wants_flags else 0

    def reads_raw(self, fs: FileSystem) -> bool:
        """Whether the native reader asks for all that matters on a file system."""
        return fs.magic in _LISTS_ACLS and not fs.is_virtual

    def opens_raw(self, fs: FileSystem) -> bool:
        """The same for directories."""
        return self.reads_raw(fs) and not (self._wants_subvolume and fs.magic == inode_flags.BTRFS_MAGIC)

    def from_disk(self, chattr: int) -> int:
        """`chattr_flags` of what a row of the native reader has for them."""
        return inode_flags.from_disk(chattr) if chattr and self._wants_flags else 0

    def of_raw(self, name: bytes, raw: RawFile, flags: int) -> Node:
        """A regular file or directory, from a row of the native reader, but for its extended attributes.

        :raises ValueError: when an archive cannot hold its owner
        """
        node = self._start_node(name, raw[2], raw[3], raw[4], raw[6])
        if raw[2] & 0o170000 != _DIR:
            node.size = raw[5]
        if flags:
            node.flags = flags & self._node_flags
        if raw[10] != layouts.ID_INVALID:
            node.projid = raw[10]
        return node

    def _start_node(self, name: bytes, mode: int, uid: int, gid: int, mtime: int) -> Node:
        uid, gid, user, group = self._owner(uid, gid)
        if self._granularity != 1 or mtime < 0:
            mtime = stored_time(mtime, self._granularity)
        return Node(name, self._mode(mode), 0, uid, gid, mtime, user, group)

    # Whole nodes

    def chattr_flags(self, fd: int) -> int:
        """The chattr flags of an open directory or regular file, nodump included; 0 when nobody asks for any."""
        return self._ask(inode_flags.get_flags, fd) if self._wants_flags else 0

    def _ask(self, ask: Callable[[int], int], fd: int) -> int:
        try:
            return ask(fd)
        except OSError as error:
            self._loss(error)
            return 0

    def _loss(self, error: OSError) -> None:
        if self._on_loss is None or is_ours(error):
            raise error
        self._on_loss(error)

    def node(self, name: bytes, fd: int, st: os.stat_result, fs: FileSystem, flags: int) -> Node:
        """A directory or regular file, from its descriptor.

        :param flags: its `chattr_flags`
        :raises ValueError: when an archive cannot hold its owner
        """
        node = self._start_node(name, st.st_mode, st.st_uid, st.st_gid, st.st_mtime_ns)
        is_dir = st.st_mode & 0o170000 == _DIR
        if not is_dir and not fs.is_virtual:
            node.size = st.st_size
        if self._wants_fat and fs.magic in _HAS_FAT_ATTRS:
            flags |= self._ask(inode_flags.get_fat, fd)
        if self._wants_subvolume and is_dir and fs.magic == inode_flags.BTRFS_MAGIC:
            flags |= self._subvolume(fd, st)
        node.flags = flags & self._node_flags
        if self._wants_projid and fs.magic in _HAS_PROJID:
            node.projid = self._ask(inode_flags.get_projid, fd)
        if self._wants_list:
            self.attributes(node, fd, fs, is_dir=is_dir)
        return node

    def special(
        self,
        name: bytes,
        directory_fd: int,
        st: os.stat_result,
        target: bytes | None,
        full: bytes | None = None,
    ) -> Node:
        """A symlink, device, fifo or socket, which is not opened.

        :param target: of a symlink, else None
        :param full: its path, by which its attributes are had where there is no `/proc`
        """
        node = self._start_node(name, st.st_mode, st.st_uid, st.st_gid, st.st_mtime_ns)
        node.target = target
        if stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
            node.device = (os.major(st.st_rdev), os.minor(st.st_rdev))
        path = b"/proc/self/fd/%d/%s" % (directory_fd, name)
        if full is not None and not os.path.exists("/proc/self/fd"):
            path = full
        if self._wants_selinux:
            label = self._get(path, _SELINUX)
            if label is not None:
                node.selinux = label.rstrip(b"\0")
        if self._wants_acl and target is None:
            self._access_acl(node, self._get(path, _ACL_ACCESS))
        return node

    def _subvolume(self, fd: int, st: os.stat_result) -> int:
        if st.st_ino != inode_flags.BTRFS_SUBVOLUME_INO:
            return 0
        read_only = inode_flags.is_subvolume_read_only(fd)
        return int(F.SUBVOLUME | F.SUBVOLUME_RO) if read_only else int(F.SUBVOLUME)

    # Extended attributes in all their roles

    def _get(self, item: int | bytes, name: bytes) -> bytes | None:
        try:
            return xattr.get(item, name, True) if isinstance(item, bytes) else xattr.get(item, name)
        except OSError as error:
            if error.errno not in _NO_ATTRIBUTE:
                self._loss(error)
            return None

    def attributes(self, node: Node, fd: int, fs: FileSystem, *, is_dir: bool) -> None:
        """Add what an open file has of extended attributes, ACLs, label and capabilities."""
        try:
            names = xattr.list(fd)
        except OSError as error:
            if error.errno not in _NO_ATTRIBUTE:
                self._loss(error)
            names = []
        lists_acls = fs.magic in _LISTS_ACLS
        if not names and lists_acls:
            return
        if self._wants_xattrs and names:
            node.xattrs = self._stored_xattrs(fd, names)
        if self._wants_acl:
            if _ACL_ACCESS in names or not lists_acls:
                self._access_acl(node, self._get(fd, _ACL_ACCESS))
            if is_dir and (_ACL_DEFAULT in names or not lists_acls):
                self._default_acl(node, self._get(fd, _ACL_DEFAULT))
        if self._wants_selinux and _SELINUX in names:
            label = self._get(fd, _SELINUX)
            node.selinux = label.rstrip(b"\0") if label is not None else None
        if self._wants_fcaps and not is_dir and _FCAPS in names:
            node.fcaps = self._get(fd, _FCAPS)

    def _stored_xattrs(self, fd: int, names: list[bytes]) -> tuple[XAttr, ...]:
        out = []
        for name in sorted(filter(_xattr_is_stored, names)):
            value = self._get(fd, name)
            if value is not None:
                out.append(XAttr(name, value))
        return tuple(out)

    def _acl_entries(self, items: list[acl.AclItem], tag: int) -> tuple[AclEntry, ...]:
        entries = []
        for item in items:
            if item.tag == tag:
                name, id_ = self._stored_id(item.id, is_group=tag == acl.GROUP)
                entries.append(AclEntry(id_, item.perm, name))
        entries.sort(key=lambda entry: entry.sort_key)
        return tuple(entries)

    def _access_acl(self, node: Node, raw: bytes | None) -> None:
        if not raw:
            return
        items = acl.parse(raw)
        by_tag = {item.tag: item.perm for item in items}
        if acl.MASK not in by_tag:
            return
        node.acl_users = self._acl_entries(items, acl.USER)
        node.acl_groups = self._acl_entries(items, acl.GROUP)
        node.acl_group_obj = by_tag[acl.GROUP_OBJ]

    def _default_acl(self, node: Node, raw: bytes | None) -> None:
        if not raw:
            return
        items = acl.parse(raw)
        by_tag = {item.tag: item.perm for item in items}
        node.acl_default = AclDefault(
            by_tag.get(acl.USER_OBJ),
            by_tag.get(acl.GROUP_OBJ),
            by_tag.get(acl.OTHER),
            by_tag.get(acl.MASK),
        )
        node.acl_default_users = self._acl_entries(items, acl.USER)
        node.acl_default_groups = self._acl_entries(items, acl.GROUP)
