"""An archive as a file system: names by its lookup tables, contents by where they lie in it.

An inode's number is the offset of its ENTRY, so that it is the same each time the archive is mounted.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from casync_compat.fs import acl
from casync_compat.fs.owners import Names
from casync_compat.mount.abi import ROOT, InodeAttributes
from casync_compat.mount.nodes import Entry, Inodes, MountedInode, parts_of, seek_in
from casync_compat.streams.lookahead import SharedReader
from catar.archive import Archive, Located
from catar.flags import FeatureFlags, time_granularity
from catar.records import AclEntry, Node, signed_time

__all__ = ["MountedArchive"]

_FCAPS = b"security.capability"
_SELINUX = b"security.selinux"
_LISTINGS = 200_000
"""Names to remember of directories that were listed, all together."""

_MODES: dict[int, int] = {}
"""One object a mode: an archive has few of them."""

_F = FeatureFlags


class _Inode(MountedInode):
    """One of an archive, in few bytes: the kernel may know of millions, and forgets none while it has memory.

    :ivar flags: chattr and FAT flags, with the values of `FeatureFlags`
    :ivar target: of a symlink
    :ivar extended: attributes by name, ACLs among them
    """

    __slots__ = ("_end", "_skip", "extended", "flags", "target")

    def __init__(
        self, attributes: InodeAttributes, node: Node, where: Located, extended: Mapping[bytes, bytes] | None
    ) -> None:
        super().__init__(attributes)
        self.mode = _MODES.setdefault(self.mode, self.mode)
        self._end = where.end
        self._skip = node.payload_offset - where.entry
        self.flags = node.flags
        self.target = node.target or b""
        self.extended = extended

    @property
    def where(self) -> Located:
        """Where the node stands; its path is not known."""
        return Located(b"", self.number - ROOT, self._end)

    @property
    def payload(self) -> int:
        """Offset of a regular file's first byte."""
        return self.number - ROOT + self._skip


class MountedArchive:
    """An open archive (a `mount.nodes.MountedTree`). May be used from several threads.

    :raises CatarError: it is malformed
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._read = parts_of(archive.reader)
        self._seek = seek_in(archive.reader)
        self._names = Names()
        self._known = Inodes[_Inode]()
        self._listed: OrderedDict[int, list[tuple[int, int]]] = OrderedDict()
        self._remembered = 0
        self._lock = threading.Lock()  # of the two above
        self.size = archive.reader.size
        where = archive.locate()
        node = archive.node_at(where)
        flags = archive.feature_flags
        self._granularity = time_granularity(flags)
        self._numeric = bool(flags & (_F.UIDS_16BIT | _F.UIDS_32BIT))
        self.with_acls = bool(flags & _F.ACL)
        self.with_xattrs = bool(flags & (_F.ACL | _F.XATTRS | _F.FCAPS | _F.SELINUX))
        self.with_labels = node.selinux is not None
        self._known.told(self._inode(where, node))

    def inode(self, number: int) -> MountedInode:
        """See `MountedTree.inode`."""
        return self._known[number]

    def lookup(self, parent: int, name: bytes) -> MountedInode | None:
        """See `MountedTree.lookup`."""
        where = self._archive.child(self._known[parent].where, name)
        return None if where is None else self._at(where)

    def entries(self, directory: int, start: int, count: int) -> Sequence[Entry]:
        """See `MountedTree.entries`."""
        ranges = self._ranges(directory)[start : start + count]
        self._archive.expect(ranges)
        return [self._entry(*each) for each in ranges]

    def _entry(self, start: int, end: int) -> Entry:
        where, node = self._archive.entry_at(start, end)
        known = self._known.get(where.entry + ROOT)
        return Entry(where.path, known if known is not None else self._inode(where, node))

    def read(self, number: int, offset: int, size: int) -> Sequence[bytes | memoryview]:
        """See `MountedTree.read`."""
        inode = self._known[number]
        size = min(size, inode.size - offset)
        return self._read(inode.payload + offset, size) if size > 0 else []

    def seek(self, number: int, offset: int, *, hole: bool) -> int:
        """See `MountedTree.seek`."""
        start = self._known[number].payload
        return self._seek(start + offset, hole) - start

    def flags(self, number: int) -> int:
        """See `MountedTree.flags`."""
        return self._known[number].flags

    def readlink(self, number: int) -> bytes:
        """See `MountedTree.readlink`."""
        return self._known[number].target

    def xattrs(self, number: int) -> Mapping[bytes, bytes]:
        """See `MountedTree.xattrs`."""
        return self._known[number].extended or {}

    def told(self, inode: MountedInode) -> None:
        """See `MountedTree.told`."""
        assert isinstance(inode, _Inode)
        self._known.told(inode)

    def forget(self, number: int, count: int) -> None:
        """See `MountedTree.forget`."""
        self._known.forget(number, count)

    def rest(self) -> None:
        """Let go of what can be had again: listings, and chunks."""
        with self._lock:
            self._listed.clear()
            self._remembered = 0
        if isinstance(self._archive.reader, SharedReader):
            self._archive.reader.rest()

    def _ranges(self, directory: int) -> list[tuple[int, int]]:
        with self._lock:
            ranges = self._listed.get(directory)
            if ranges is not None:
                self._listed.move_to_end(directory)
                return ranges
        ranges = self._archive.ranges_of(self._known[directory].where)
        with self._lock:
            if directory not in self._listed:
                self._listed[directory] = ranges
                self._remembered += len(ranges)
            while self._remembered > _LISTINGS and len(self._listed) > 1:
                _, old = self._listed.popitem(last=False)
                self._remembered -= len(old)
        return ranges

    def _at(self, where: Located) -> _Inode:
        known = self._known.get(where.entry + ROOT)
        return known if known is not None else self._inode(where, self._archive.node_at(where))

    def _inode(self, where: Located, node: Node) -> _Inode:
        attributes = InodeAttributes(
            where.entry + ROOT,
            node.mode,
            len(node.target or b"") or node.size,
            2 if node.is_dir else 1,
            self._id(node.uid, node.user, False),
            self._id(node.gid, node.group, True),
            signed_time(node.mtime, self._granularity),
            node.device or (0, 0),
        )
        return _Inode(attributes, node, where, self._extended(node) if node.has_metadata else None)

    def _extended(self, node: Node) -> Mapping[bytes, bytes] | None:
        found = {attribute.name: attribute.value for attribute in node.xattrs}
        if node.fcaps is not None:
            found[_FCAPS] = node.fcaps
        if node.selinux is not None:
            found[_SELINUX] = node.selinux + b"\0"
        found |= acl.values_of(node, self._acl_id)
        return found or None

    def _id(self, number: int, name: bytes | None, is_group: bool) -> int:
        """The number that is recorded, or what a name means here where only names are."""
        if self._numeric or name is None:
            return number
        known = self._names.gid(name) if is_group else self._names.uid(name)
        if known is None and name.isdigit():  # casync writes the number of a nameless user as its name
            known = int(name)
        return number if known is None or known >= 0xFFFFFFFF else known

    def _acl_id(self, entry: AclEntry, is_group: bool) -> int:
        return self._id(entry.id, entry.name, is_group)
