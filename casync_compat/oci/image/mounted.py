"""An image as a file system: its layers merged, contents read when somebody asks for them.

    >>> with ImageTree.open(place, "debian", where=name, shared=True) as image:
    ...     nodes = MountedImage(image, Metadata(warn=print))

What is shown is what `oci unpack` would restore, as `casync_compat.oci.rootfs.metadata` has it; owners and devices that
Linux does not have are left out and counted with the rest. An inode's number is its place in the order of an archive,
so that it is the same each time the image is mounted.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping, Sequence

from casync_compat.errors import show_path
from casync_compat.mount.abi import ROOT, InodeAttributes
from casync_compat.mount.nodes import Entry, Inodes, MountedInode
from casync_compat.oci.image.tree import ImageTree
from casync_compat.oci.rootfs.mergedtree import Inode
from casync_compat.oci.rootfs.metadata import ACL_ATTRIBUTES, Metadata
from casync_compat.oci.spec.errors import ImageError

__all__ = ["MountedImage"]

_MAX_ID = (1 << 32) - 2
_MAX_TIME = (1 << 63) // 1_000_000_000 * 1_000_000_000
_DEVICES = (stat.S_IFCHR, stat.S_IFBLK)
_REG = stat.S_IFREG


class _Inode(MountedInode):
    """One of an image.

    :ivar inode: as the tree has it
    """

    __slots__ = ("inode",)

    def __init__(self, attributes: InodeAttributes, inode: Inode) -> None:
        super().__init__(attributes)
        self.inode = inode


class MountedImage:
    """An open image (a `mount.nodes.MountedTree`). May be used from several threads.

    :param image: opened to be shared; stays the caller's to close
    :param metadata: says what is shown, and takes what is left out
    :raises CasyncError: the image is malformed, or something cannot be shown that has to be
    """

    with_labels = False  # they are the host's

    def __init__(self, image: ImageTree, metadata: Metadata) -> None:
        tree = image.tree
        self.size = tree.size
        self._image = image
        self._metadata = metadata
        self._known = Inodes[_Inode]()
        self._sorted: tuple[Inode, list[tuple[bytes, Inode]]] | None = None
        metadata.left_out.directory = os.fsencode(image.where)
        self._numbers = {tree.root: ROOT}
        names: set[bytes] = set()
        self._note(b"", tree.root, names)
        for path, inode in tree.walk():
            if inode is None or inode in self._numbers:
                continue
            if self._note(path, inode, names):
                self._numbers[inode] = len(self._numbers) + ROOT
        metadata.finish()
        self.with_xattrs = bool(names)
        self.with_acls = not names.isdisjoint(ACL_ATTRIBUTES)
        self._known.told(self._at(tree.root))

    def _note(self, path: bytes, inode: Inode, names: set[bytes]) -> bool:
        """See what an inode has. Returns whether it can be shown."""
        names.update(name for name, _ in self._metadata.attributes(inode))
        if not (0 <= inode.uid <= _MAX_ID and 0 <= inode.gid <= _MAX_ID):
            self._leave_out(path, "owners", f"there is no owner {inode.uid}:{inode.gid} on Linux")
        major, minor = inode.device
        if inode.kind in _DEVICES and not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
            self._leave_out(path, "device nodes", f"there is no device {major}:{minor} on Linux")
            return False
        return True

    def _leave_out(self, path: bytes, what: str, why: str) -> None:
        left_out = self._metadata.left_out
        left_out.name = path
        self._metadata.doing("show all of")
        try:
            left_out.skip(what, OSError(errno.EINVAL, why))
        except OSError:
            raise ImageError(self._image.where, f"{show_path(path)}: {why}") from None

    def inode(self, number: int) -> MountedInode:
        """See `MountedTree.inode`."""
        return self._known[number]

    def lookup(self, parent: int, name: bytes) -> MountedInode | None:
        """See `MountedTree.lookup`."""
        found = self._known[parent].inode.children.get(name)
        return None if found is None or found not in self._numbers else self._at(found)

    def entries(self, directory: int, start: int, count: int) -> Sequence[Entry]:
        """See `MountedTree.entries`."""
        names = self._names(self._known[directory].inode)
        return [Entry(name, self._at(inode)) for name, inode in names[start : start + count]]

    def read(self, number: int, offset: int, size: int) -> Sequence[bytes | memoryview]:
        """See `MountedTree.read`."""
        return self._image.read_range(self._known[number].inode, offset, size)

    def seek(self, number: int, offset: int, *, hole: bool) -> int:
        """See `MountedTree.seek`: all is data."""
        return self._known[number].size if hole else offset

    def flags(self, number: int) -> int:
        """See `MountedTree.flags`: layers have none."""
        return 0

    def readlink(self, number: int) -> bytes:
        """See `MountedTree.readlink`."""
        return self._known[number].inode.target

    def xattrs(self, number: int) -> Mapping[bytes, bytes]:
        """See `MountedTree.xattrs`."""
        return dict(self._metadata.attributes(self._known[number].inode))

    def told(self, inode: MountedInode) -> None:
        """See `MountedTree.told`."""
        assert isinstance(inode, _Inode)
        self._known.told(inode)

    def forget(self, number: int, count: int) -> None:
        """See `MountedTree.forget`."""
        self._known.forget(number, count)

    def _names(self, directory: Inode) -> list[tuple[bytes, Inode]]:
        """What is in a directory, in order; that of the last is remembered."""
        last = self._sorted
        if last is not None and last[0] is directory:
            return last[1]
        names = [pair for pair in sorted(directory.children.items()) if pair[1] in self._numbers]
        self._sorted = (directory, names)
        return names

    def _at(self, inode: Inode) -> _Inode:
        number = self._numbers[inode]
        known = self._known.get(number)
        if known is not None:
            return known
        attributes = InodeAttributes(
            number,
            inode.kind | inode.mode,
            inode.size if inode.kind == _REG else len(inode.target),
            2 + sum(child.is_dir for child in inode.children.values()) if inode.is_dir else inode.links,
            inode.uid if 0 <= inode.uid <= _MAX_ID else 0,
            inode.gid if 0 <= inode.gid <= _MAX_ID else 0,
            max(-_MAX_TIME, min(inode.mtime, _MAX_TIME)),
            inode.device if inode.kind in _DEVICES else (0, 0),
        )
        return _Inode(attributes, inode)
