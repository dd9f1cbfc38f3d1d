"""Gives an inode the metadata that an archive records: owner, mode, ACLs, attributes, time, flags, in casync's order.

The order matters: a change of owner clears set-user-id bits and capabilities, so mode and capabilities follow it; a
mode may forbid even the owner to set attributes, so (unlike in casync) they precede it; an ACL refines a mode; writing
touches the mtime, so the time comes late; and an immutable file cannot even be renamed, so flags come last (casync 2,
`ca_decoder_finalize_child` in `src/cadecoder.c`).

`Restorer` works on inodes that others create (`casync_compat.fs.apply.tree`) and knows no paths: errors are plain
`OSError` and `ValueError`, and `left_out` can say what was being done. Where it departs from casync: times before 1970
are restored as they were; a user or group that is not known here falls back to its number, with a warning; `read-only`
takes write permission away and nothing else.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from casync_compat.errors import show_path
from casync_compat.fs import inode_flags
from casync_compat.fs.apply.extended import ExtendedWriter
from casync_compat.fs.apply.left_out import LeftOut
from casync_compat.fs.apply.options import ApplyOptions
from casync_compat.fs.owners import Names
from catar import layouts
from catar.flags import CHATTR, FAT_ATTRS, FeatureFlags, replayed, time_granularity
from catar.records import AclEntry, Node, signed_time

__all__ = ["ApplyOptions", "InodeState", "Restorer"]

F = FeatureFlags
_QUOTA_PROJID = int(F.QUOTA_PROJID)
_SUBVOLUME_RO = int(F.SUBVOLUME_RO)

EARLY = int(F.FLAG_NOATIME | F.FLAG_COMPR | F.FLAG_NOCOW | F.FLAG_NOCOMP | F.FLAG_PROJINHERIT)
"""Flags that change how contents are written, so that they are set on the empty file or directory."""
# Plain ints, because arithmetic on IntFlag members costs a microsecond each.
_PROJINHERIT = int(F.FLAG_PROJINHERIT)
_LOCKING = int(F.FLAG_IMMUTABLE | F.FLAG_APPEND)
INHERITED = CHATTR & ~_LOCKING
"""Flags that new inodes may take over from their directory (`EXT4_FL_INHERITED` and its like)."""

_FOREIGN = int(F.FLAG_NOCOW | F.FLAG_COMPR | F.FLAG_NOCOMP | F.FLAG_PROJINHERIT)
"""Flags that only some kinds of file systems have."""
_NO_PROJECT = 0xFFFFFFFF
_NUMERIC = int(F.UIDS_16BIT | F.UIDS_32BIT)
_OWNERS = int(F.UIDS_16BIT | F.UIDS_32BIT | F.USER_NAMES)
_TIME_SAMPLES = 16
_USUAL_TIMES = range(1 << 31)


class InodeState(NamedTuple):
    """What an inode has before its metadata is restored.

    :ivar item: an open descriptor, or a path under /proc/self/fd
    :ivar atime: access time in nanoseconds; kept
    :ivar fresh: made by us, so that it has no attributes, flags or labels from an earlier time
    :ivar inherits_acl: its directory has a default ACL, so that it may have ACLs although it is fresh
    :ivar flags: chattr flags that it has, or may have by inheritance
    :ivar lent: its owner was given permissions beyond `mode` for as long as it is being updated
    """

    item: int | bytes
    uid: int
    gid: int
    mode: int
    atime: int
    fresh: bool
    inherits_acl: bool
    flags: int
    lent: bool = False


def current_umask() -> int:
    """The process's umask, without changing it for a moment where /proc tells it."""
    try:
        with open("/proc/self/status", "rb") as status:
            for line in status:
                if line.startswith(b"Umask:"):
                    return int(line[6:], 8)
    except OSError:
        pass
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


class Restorer:
    """Restores metadata for one archive.

    :param archive_flags: its feature flags
    :param warn: takes one line of text for the user
    """

    def __init__(self, archive_flags: int, options: ApplyOptions, warn: Callable[[str], None]) -> None:
        self.features = replayed(archive_flags, options.mask)
        """What is restored at all."""
        self.left_out = LeftOut(tolerant=not options.strict)
        self._asked = options.named
        self._warn = warn
        self._warned: set[str] = set()
        self.extended = ExtendedWriter(self.features, self._acl_id, self.left_out, self._warn_once)
        self.umask = current_umask()
        self._shift = options.shift
        self._names = Names()
        self._owners: dict[tuple[int, int, bytes | None, bytes | None], tuple[int, int]] = {}
        # Replayed flags name every precision of what is restored; the archive's say which one its times have.
        self._granularity = time_granularity(archive_flags) if time_granularity(self.features) else 0
        # How many times with nanoseconds, and in odd seconds, are still read back to see whether they are held.
        self._samples = [0, _TIME_SAMPLES, _TIME_SAMPLES]
        self.exact_modes = bool(self.features & (F.PERMISSIONS | F.ACL))
        """Whether modes are restored as they are, so that one may be anything until then."""
        self._read_only = bool(self.features & F.READ_ONLY)
        self._numeric = bool(self.features & _NUMERIC)
        self._named = bool(self.features & F.USER_NAMES)
        self.chattr_mask = self.features & CHATTR
        """Flags to restore."""
        self.wants_fat = bool(self.features & FAT_ATTRS)
        self._wants_projid = bool(self.features & F.QUOTA_PROJID)

    @property
    def is_exact(self) -> bool:
        """Whether ordinary nodes get the modes, and times to the nanosecond, that are recorded."""
        return self.exact_modes and self._granularity <= 1

    @property
    def knows_basics(self) -> bool:
        """Whether owner, mode and time are all restored, so that they tell one file from another."""
        return self.exact_modes and self.wants_times and (self._numeric or self._named)

    @property
    def wants_times(self) -> bool:
        """Whether times are restored."""
        return self._granularity > 0

    @property
    def time_samples(self) -> tuple[int, int]:
        """How many more times are to be read back: of those with nanoseconds, and those in odd seconds."""
        return self._samples[1], self._samples[2]

    def sampled(self, left: tuple[int, int], rounded: bool) -> None:
        """Times were read back by somebody else, who started with `time_samples`.

        :param left: what remained of them
        :param rounded: whether one was not as recorded
        """
        self._samples = [0, min(self._samples[1], left[0]), min(self._samples[2], left[1])]
        if rounded:
            self._warn_rounded()

    def _warn_rounded(self) -> None:
        self._warn_once("the file system cannot hold all times as recorded; some are rounded")

    def _warn_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self._warn(text)

    def finish(self) -> None:
        """Warn about all that was left out."""
        self.left_out.tell(self._warn)

    # Owners

    def owner(self, node: Node) -> tuple[int, int]:
        """User and group id on disk; -1 for one that is not restored.

        :raises ValueError: when the shift takes it out of range
        """
        key = (node.uid, node.gid, node.user, node.group)
        ids = self._owners.get(key)
        if ids is None:
            self.left_out.op, self.left_out.features = "set owner of", 0
            ids = (self._id(node.uid, node.user, False), self._id(node.gid, node.group, True))
            self._owners[key] = ids
        return ids

    def _id(self, number: int, name: bytes | None, is_group: bool) -> int:
        if self._named and name is not None:
            known = self._names.gid(name) if is_group else self._names.uid(name)
            if known is not None:
                return known
            return self._unknown(number, name, is_group)
        if self._numeric:
            return self._shift.decode(number)
        # Names only: root has none.
        return self._shift.decode(0) if self._named and not number else -1

    def _unknown(self, number: int, name: bytes, is_group: bool) -> int:
        what = f"{'group' if is_group else 'user'} {show_path(name)}"
        if self._numeric:
            id_ = self._shift.decode(number)
            self._warn_once(f"{what} is not known here; its files get the recorded id {id_}")
            return id_
        if name.isdigit() and (id_ := int(name)) < layouts.ID_INVALID:
            return self._shift.decode(id_)  # casync writes the number of a nameless user as its name
        self._warn_once(f"{what} is not known here and no id is recorded; its files stay yours")
        return -1

    def _acl_id(self, entry: AclEntry, is_group: bool) -> int:
        return self._id(entry.id, entry.name, is_group)

    def _chown(self, inode: InodeState, uid: int, gid: int) -> bool:
        """Set the owner. :returns: whether it is the recorded one afterwards"""
        self.left_out.op, self.left_out.features = "set owner of", _OWNERS
        uid = -1 if uid == inode.uid else uid
        gid = -1 if gid == inode.gid else gid
        try:
            os.chown(inode.item, uid, gid)
        except OSError as error:
            self.left_out.skip("owners", error)
            if uid >= 0 and gid >= 0:
                # One of the user's own groups needs no privilege, and one of the two ids may be mapped.
                for half in ((-1, gid), (uid, -1)) if self.left_out.privileged else ((-1, gid),):
                    with suppress(OSError):
                        os.chown(inode.item, *half)
            return False
        return True

    # Modes

    def create_mode(self, node: Node, owner_fits: bool) -> int:
        """The mode to create a non-directory with: the final one where that gives nobody more than they will have.

        It is what stays, less the umask, where modes are not restored; set-id and sticky bits never do then.
        """
        mode = node.mode & 0o777
        if node.is_regular:
            mode |= 0o600
        if self.exact_modes:
            if node.acl_group_obj is not None:
                return 0o600
            if not owner_fits and mode & 0o077 not in (0o044, 0o055, 0):
                return 0o600
        return mode

    def mode(self, node: Node, mode: int) -> int:
        """The permission bits to set on an inode that has `mode`."""
        mode &= 0o7777
        if self.exact_modes:
            return node.mode & 0o7777
        if not self._read_only:
            return mode
        writable = bool(node.mode & 0o222)
        if mode & 0o400 and bool(mode & 0o200) == writable:
            return mode
        if writable:
            mode |= 0o400
            return mode | (mode & 0o444) >> 1
        return mode & ~0o222 | 0o400

    # One inode, from creation to completion

    def prepare(self, fd: int, node: Node, fresh: bool, flags: int) -> int:
        """Set what must be set on an empty file or directory before anything is written into it.

        :param flags: chattr flags that it has, or may have inherited
        :returns: chattr flags that it may have now
        """
        left_out = self.left_out
        if self.chattr_mask & EARLY:
            mask = self.chattr_mask & EARLY
            if (node.flags | flags) & mask:
                left_out.op, left_out.features = "set attribute flags of", CHATTR
                self._set_flags(fd, node.flags, mask)
                flags = flags & ~mask | node.flags & mask
        if self._wants_projid and (node.projid or not fresh or flags & _PROJINHERIT):
            left_out.op, left_out.features = "set quota project id of", _QUOTA_PROJID
            self._set_projid(fd, node.projid)
        return flags

    def _set_projid(self, fd: int, projid: int) -> None:
        kind = "quota project ids"
        try:
            if projid == _NO_PROJECT:  # the kernel's invalid id, which is never set
                self.left_out.skip(kind, OSError(errno.EINVAL, os.strerror(errno.EINVAL)))
            elif not inode_flags.set_projid(fd, projid) and projid:
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        except OSError as error:
            self.left_out.skip_foreign(kind, error, named=bool(self._asked & F.QUOTA_PROJID))

    def metadata(self, inode: InodeState, node: Node) -> None:
        """Everything except flags. The time must be the last thing that is done before the inode is renamed."""
        kind = node.mode & 0o170000
        uid, gid = self.owner(node)
        mode = inode.mode
        owned = True
        if (uid >= 0 and uid != inode.uid) or (gid >= 0 and gid != inode.gid):
            owned = self._chown(inode, uid, gid)
            if mode & 0o6000:
                mode = -1  # the change of owner may have cleared these
        if kind != 0o120000:
            self._permissions(inode, node, mode, owned)
        elif node.selinux is not None and self.extended.wants_selinux:
            self.extended.selinux(inode.item, node.selinux, ())
        if self._granularity:
            self._time(inode, node)

    def _permissions(self, inode: InodeState, node: Node, mode: int, owned: bool) -> None:
        """Mode, ACLs and attributes of anything but a symlink."""
        item, extended = inode.item, self.extended
        looked = not inode.fresh or inode.inherits_acl
        names = extended.listed(item) if looked and extended.wants_any else []
        if names and extended.wants_acl:
            extended.clear_acls(item, names)
        if isinstance(item, int) and extended.wants_xattrs and (names or node.xattrs):
            extended.xattrs(item, node, names)  # before the mode, which may forbid its owner to write
        wanted = self.mode(node, inode.mode)
        if not owned:
            wanted &= ~0o6000  # set-user-id means another user now
        if wanted != mode & 0o7777 or mode < 0 or inode.inherits_acl or inode.lent:
            self.left_out.op, self.left_out.features = "set mode of", 0
            try:
                os.chmod(item, wanted)
            except OSError as error:
                self._skip_own(inode, "permissions", error)
        if extended.wants_acl and node.has_acl_records:
            extended.acls(item, node)
        if extended.wants_fcaps and isinstance(item, int):
            if node.fcaps is not None:
                extended.fcaps(item, node.fcaps)
            elif not inode.fresh and node.is_regular:
                extended.no_fcaps(item)
        if extended.wants_selinux and (names or node.selinux is not None):
            extended.selinux(item, node.selinux, names)

    def _time(self, inode: InodeState, node: Node) -> None:
        left_out = self.left_out
        left_out.op, left_out.features = "set time of", 0
        mtime = signed_time(node.mtime, self._granularity)
        try:
            os.utime(inode.item, ns=(inode.atime, mtime))
        except OSError as error:
            self._skip_own(inode, "times", error)
            return
        seconds, rest = divmod(mtime, 1_000_000_000)
        kind = 1 if rest else 2 if seconds & 1 else 0
        if self._samples[kind] or seconds not in _USUAL_TIMES:
            self._check_time(os.stat(inode.item).st_mtime_ns, mtime, kind)

    def _skip_own(self, inode: InodeState, category: str, error: OSError) -> None:
        """Go on without what every owner may set; other people's directories are no place to extract to."""
        if not self.left_out.privileged and inode.uid != self.left_out.euid:
            raise error
        self.left_out.skip(category, error)

    def _check_time(self, found: int, wanted: int, kind: int) -> None:
        """Whether the file system holds times as finely as they are recorded; a few samples show it."""
        self._samples[kind] -= 1 if self._samples[kind] else 0
        if found // self._granularity != wanted // self._granularity:
            self._warn_rounded()

    def symlink_in_fresh(self, directory_fd: int, name: bytes, node: Node, uid: int, gid: int) -> None:
        """A symlink without a label in a directory that nobody else can reach: by name, which saves three calls.

        :param uid: owner that it has now, as is `gid`
        """
        left_out = self.left_out
        want_uid, want_gid = self.owner(node)
        if (want_uid >= 0 and want_uid != uid) or (want_gid >= 0 and want_gid != gid):
            left_out.op, left_out.features = "set owner of", _OWNERS
            try:
                os.chown(name, want_uid, want_gid, dir_fd=directory_fd, follow_symlinks=False)
            except OSError as error:
                left_out.skip("owners", error)
        if self._granularity:
            left_out.op, left_out.features = "set time of", 0
            mtime = signed_time(node.mtime, self._granularity)
            try:
                os.utime(name, ns=(time.time_ns(), mtime), dir_fd=directory_fd, follow_symlinks=False)
            except OSError as error:
                left_out.skip("times", error)

    def mtime(self, node: Node) -> int | None:
        """The time to set, in nanoseconds; None where none is restored."""
        return signed_time(node.mtime, self._granularity) if self._granularity else None

    # Flags

    def _set_flags(self, fd: int, bits: int, mask: int, counted: int = 0) -> None:
        """Set as many flags as the file system, and the privileges, allow; what locks the file goes last.

        :param counted: flags that were tried before, whose refusal is known
        """
        try:
            inode_flags.set_flags(fd, bits, mask)
            return
        except OSError:
            pass  # one by one it shows which
        for flag in sorted(
            (flag for flag in F if mask & flag & CHATTR), key=lambda flag: bool(flag & _LOCKING)
        ):
            try:
                inode_flags.set_flags(fd, bits, int(flag))
            except OSError as error:
                if flag & counted:
                    continue
                if flag & _LOCKING:
                    self.left_out.skip("immutable and append-only flags", error)
                elif flag & bits & _FOREIGN:
                    self.left_out.skip_foreign("attribute flags", error, named=bool(self._asked & flag))
                else:
                    self.left_out.skip("attribute flags", error)

    def flags(self, fd: int, node: Node, flags: int, on_fat: bool) -> None:
        """chattr flags and FAT attributes, once the inode has its final name.

        :param flags: chattr flags that it has, or may have
        :param on_fat: whether its file system has FAT attributes
        """
        left_out = self.left_out
        if (node.flags | flags) & self.chattr_mask:
            left_out.op, left_out.features = "set attribute flags of", CHATTR
            self._set_flags(fd, node.flags, self.chattr_mask, EARLY)
        mask = self.features & FAT_ATTRS
        if on_fat or node.flags & mask:
            left_out.op, left_out.features = "set FAT attributes of", FAT_ATTRS
            try:
                if not on_fat:
                    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
                inode_flags.set_fat(fd, node.flags, mask)
            except OSError as error:
                named = bool(self._asked & node.flags & mask)
                left_out.skip_foreign("FAT attributes", error, named=named)

    def no_subvolume(self, on_btrfs: bool) -> None:
        """A plain directory does where there can be no subvolume. :raises OSError: it does not"""
        error = OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        named = on_btrfs or bool(self._asked & (F.SUBVOLUME | F.SUBVOLUME_RO))
        self.left_out.skip_foreign("btrfs subvolumes", error, named=named)

    def subvolume(self, fd: int, read_only: bool) -> None:
        """Make the btrfs subvolume whose top directory is open as `fd` read-only, or writable again."""
        self.left_out.op, self.left_out.features = "make read-only", _SUBVOLUME_RO
        try:
            inode_flags.set_subvolume_read_only(fd, read_only)
        except OSError as error:
            if read_only:
                named = bool(self._asked & F.SUBVOLUME_RO)
                self.left_out.skip_foreign("read-only subvolumes", error, named=named)
