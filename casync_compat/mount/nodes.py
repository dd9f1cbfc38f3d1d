"""What a mounted file system shows, by inode number.

`MountedTree` is what `mount.operations` asks. Here are the inodes that the kernel knows of, which all kinds of trees
share, and a blob as the only file of a directory; `mount.archive` has archives.
"""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from casync_compat.mount.abi import ROOT, InodeAttributes
from casync_compat.streams.lookahead import SharedReader
from catar.archive import RandomAccess

__all__ = ["Entry", "Inodes", "MountedBlob", "MountedInode", "MountedTree", "parts_of", "seek_in"]


class MountedInode:
    """What is kept of an inode while the kernel knows of it.

    :ivar number: of the inode
    :ivar mode: file type and permissions
    :ivar attributes: as the kernel wants them (`InodeAttributes.pack`); empty where it had better ask
    :ivar size: of a regular file, in bytes
    :ivar lookups: how many times the kernel was told of it
    """

    __slots__ = ("attributes", "lookups", "mode", "number", "size")

    def __init__(self, attributes: InodeAttributes) -> None:
        self.number = attributes.inode
        self.mode = attributes.mode
        self.size = attributes.size
        self.attributes = attributes.pack()
        self.lookups = 0

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_regular(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.mode)

    @property
    def is_symlink(self) -> bool:
        """Whether it is a symlink."""
        return stat.S_ISLNK(self.mode)


AnyInode = TypeVar("AnyInode", bound=MountedInode)


class Entry(NamedTuple):
    """A name in a directory, and what it stands for."""

    name: bytes
    inode: MountedInode


class MountedTree(Protocol):
    """A tree that never changes. From every method: `CasyncError` or `CatarError` when it cannot be read.

    :ivar size: of all of it, in bytes, about
    :ivar with_xattrs: whether anything may have extended attributes
    :ivar with_acls: whether anything may have ACLs
    :ivar with_labels: whether its root has a label of SELinux; all of a tree are labelled, or nothing
    """

    size: int
    with_xattrs: bool
    with_acls: bool
    with_labels: bool

    def inode(self, number: int) -> MountedInode:
        """An inode that the kernel was told of. :raises KeyError: it was not"""

    def lookup(self, parent: int, name: bytes) -> MountedInode | None:
        """What is in a directory under a name; None for nothing."""

    def entries(self, directory: int, start: int, count: int) -> Sequence[Entry]:
        """Names in a directory, in an order that stays the same.

        :param start: of the first wanted
        :param count: about how many; fewer, but some, where there are more
        """

    def read(self, number: int, offset: int, size: int) -> Sequence[bytes | memoryview]:
        """Bytes of a regular file, as many as there are, in pieces."""

    def seek(self, number: int, offset: int, *, hole: bool) -> int:
        """Where the next hole of a regular file begins, or the next data; not before the offset.

        Where that is unknown, all is data. What lies behind the file's end means its end.
        """

    def flags(self, number: int) -> int:
        """Chattr and FAT flags, with the values of `FeatureFlags`."""

    def readlink(self, number: int) -> bytes:
        """A symlink's target."""

    def xattrs(self, number: int) -> Mapping[bytes, bytes]:
        """Names and values of extended attributes."""

    def told(self, inode: MountedInode) -> None:
        """The kernel was told of an inode, once more."""

    def forget(self, number: int, count: int) -> None:
        """The kernel forgets what it was told so many times."""


class Inodes(Generic[AnyInode]):
    """The inodes that the kernel knows of. May be used from several threads."""

    def __init__(self) -> None:
        self._known: dict[int, AnyInode] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    def __getitem__(self, number: int) -> AnyInode:
        return self._known[number]

    def get(self, number: int) -> AnyInode | None:
        """One by its number; None where the kernel does not know it."""
        return self._known.get(number)

    def told(self, inode: AnyInode) -> None:
        """See `MountedTree.told`."""
        with self._lock:
            self._known.setdefault(inode.number, inode).lookups += 1

    def forget(self, number: int, count: int) -> None:
        """See `MountedTree.forget`."""
        with self._lock:
            inode = self._known.get(number)
            if inode is not None and number != ROOT:
                inode.lookups -= count
                if inode.lookups <= 0:
                    del self._known[number]


def parts_of(reader: RandomAccess) -> Callable[[int, int], Sequence[bytes | memoryview]]:
    """Reads from an offset on so many bytes, in pieces where that saves copies."""
    return (
        reader.read_parts if isinstance(reader, SharedReader) else lambda at, size: [reader.read_at(at, size)]
    )


def seek_in(reader: RandomAccess) -> Callable[[int, bool], int]:
    """Finds the next hole, or the next data, from an offset on."""
    if isinstance(reader, SharedReader):
        return lambda at, hole: reader.next_zeros(at) if hole else reader.next_data(at)
    return lambda at, hole: reader.size if hole else at


class MountedBlob:
    """A directory with one file, which is a blob.

    :param name: of the file
    :param mtime: of both, nanoseconds since 1970
    """

    with_xattrs = False
    with_acls = False
    with_labels = False

    def __init__(
        self, reader: RandomAccess, name: bytes, *, uid: int = 0, gid: int = 0, mtime: int = 0
    ) -> None:
        self._read = parts_of(reader)
        self._seek = seek_in(reader)
        self._name = name
        self.size = reader.size
        self._root = MountedInode(
            InodeAttributes(ROOT, stat.S_IFDIR | 0o555, links=2, uid=uid, gid=gid, mtime=mtime)
        )
        self._file = MountedInode(
            InodeAttributes(ROOT + 1, stat.S_IFREG | 0o444, reader.size, uid=uid, gid=gid, mtime=mtime)
        )

    def inode(self, number: int) -> MountedInode:
        """See `MountedTree.inode`."""
        return self._root if number == ROOT else self._file

    def lookup(self, parent: int, name: bytes) -> MountedInode | None:
        """See `MountedTree.lookup`."""
        return self._file if name == self._name else None

    def entries(self, directory: int, start: int, count: int) -> Sequence[Entry]:
        """See `MountedTree.entries`."""
        return [] if start else [Entry(self._name, self._file)]

    def read(self, number: int, offset: int, size: int) -> Sequence[bytes | memoryview]:
        """See `MountedTree.read`."""
        return self._read(offset, size)

    def seek(self, number: int, offset: int, *, hole: bool) -> int:
        """See `MountedTree.seek`."""
        return self._seek(offset, hole)

    def flags(self, number: int) -> int:
        """See `MountedTree.flags`."""
        return 0

    def readlink(self, number: int) -> bytes:
        """See `MountedTree.readlink`."""
        raise KeyError(number)

    def xattrs(self, number: int) -> Mapping[bytes, bytes]:
        """See `MountedTree.xattrs`."""
        return {}

    def told(self, inode: MountedInode) -> None:
        """See `MountedTree.told`."""

    def forget(self, number: int, count: int) -> None:
        """See `MountedTree.forget`."""
