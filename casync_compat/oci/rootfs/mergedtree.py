"""The merged tree of an image: inodes by name, to be walked and looked up. `casync_compat.oci.rootfs.merge` makes it.

>>> tree.find(b"/bin/sh").parts
>>> for path, inode in tree.walk(): ...
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from casync_compat import paths
from casync_compat.errors import show_path
from casync_compat.oci.spec.errors import ImageError

__all__ = ["IMPLIED_MODE", "Inode", "MergedTree"]

_DIR, _LNK = stat.S_IFDIR, stat.S_IFLNK
IMPLIED_MODE = 0o755
"""Permissions of directories that no layer has."""


@dataclass(slots=True, eq=False)
class Inode:
    """A file, directory or other inode of the merged tree. The same object under several names is a hard link.

    :ivar kind: `stat.S_IFREG` and so on
    :ivar mode: permissions, 12 bits
    :ivar mtime: in nanoseconds since the epoch
    :ivar xattrs: sorted by name
    :ivar acls: ACLs as text, by the name of the attribute that Linux keeps such a one in
    :ivar target: of a symlink
    :ivar size: bytes of a regular file, holes included
    :ivar layer: number of the layer that its header is in; -1 for a directory that no layer has
    :ivar parts: `(offset in the file, offset in the layer's tar, length)`, in order; what is not named is a hole
    :ivar children: of a directory, by name
    :ivar touched: of a directory: the last layer that has it, or something in it
    :ivar links: names that it has in the finished tree
    """

    kind: int
    mode: int = IMPLIED_MODE
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    target: bytes = b""
    device: tuple[int, int] = (0, 0)
    size: int = 0
    layer: int = -1
    parts: tuple[tuple[int, int, int], ...] = ()
    children: dict[bytes, Inode] = field(default_factory=dict)
    touched: int = -1
    links: int = 0
    acls: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return self.kind == _DIR

    @property
    def stored(self) -> int:
        """Bytes of payload, without holes."""
        parts = self.parts
        return parts[0][2] if len(parts) == 1 else sum(length for _, _, length in parts)


class MergedTree:
    """A finished tree.

    :ivar root: its top directory
    :ivar where: the image, for messages
    :ivar entries: names in it, the root not counted
    :ivar size: bytes of payload, each inode's once
    """

    def __init__(self, root: Inode, where: str) -> None:
        self.root = root
        self.where = where
        self.entries = 0
        self.size = 0
        for _, inode in self.walk():
            if inode is not None:
                self.entries += 1
                inode.links += 1
                if inode.links == 1:
                    self.size += inode.stored

    def walk(self, top: Inode | None = None, path: bytes = b"") -> Iterator[tuple[bytes, Inode | None]]:
        """Everything below a directory with its path, in the order of an archive (by bytes of the names).

        After what is in a directory comes its path again, with None.
        """
        stack = [(path, iter(sorted((self.root if top is None else top).children.items())))]
        while stack:
            at, entries = stack[-1]
            for name, inode in entries:
                here = at + b"/" + name if at else name
                yield here, inode
                if inode.kind == _DIR:
                    stack.append((here, iter(sorted(inode.children.items()))))
                    break
            else:
                stack.pop()
                if stack:
                    yield at, None

    def find(self, path: bytes, *, follow: bool = True) -> Inode:
        """What a path means inside the root; symlinks on the way are followed as a process in there would.

        :param follow: whether a symlink as the last component is followed too
        :raises ImageError: there is nothing of this name
        """
        try:
            return self.follow(path, last=follow)[1]
        except OSError as error:
            raise ImageError(self.where, f"{show_path(path)}: {error.strerror}") from None

    def follow(self, path: bytes, *, last: bool = True) -> tuple[bytes, Inode]:
        """Like `find`, with the path under which the inode is found without symlinks on the way.

        :raises OSError: see `casync_compat.paths.follow`
        """
        return paths.follow(
            self.root,
            path,
            child=lambda here, name, _there: here.children.get(name),
            link=lambda here: here.target if here.kind == _LNK else None,
            is_dir=lambda here: here.is_dir,
            last=last,
        )
