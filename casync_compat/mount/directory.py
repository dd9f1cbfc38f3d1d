"""A directory of archives and indexes as a file system: each under its name, opened when it is first looked at.

    >>> found = find_members(b"backups", warn)
    >>> MountedDirectory({b"monday": MountedMember(Kind.ARCHIVE_INDEX, partial(opened, found[b"monday"]))})

What is in the directory is looked up once. An archive that cannot be opened is an error for whoever looks at it, each
time anew, and for nobody else. An inode's number is that of its archive in the order of names, and its own in there.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from casync_compat.errors import CasyncError, FileError, UsageError, show_path
from casync_compat.kinds import Kind
from casync_compat.mount.abi import ROOT, InodeAttributes
from casync_compat.mount.nodes import Entry, MountedInode, MountedTree
from catar.errors import CatarError

__all__ = ["MountedDirectory", "MountedMember", "OpenedMember", "find_members"]

_STORE = b".castr"
_HEX = frozenset(b"0123456789abcdef")
_BITS = 46
"""Of an inode's number, those that are its archive's own: offsets up to 64 TiB."""
_MOST = (1 << 63 - _BITS) - 1
_OWN = (1 << _BITS) - 1
_AWAKE = 8
"""Archives of which chunks and listings are kept in memory."""
_NUMBER = struct.Struct("=Q")  # the first field of a fuse_attr


@dataclass(frozen=True, slots=True)
class OpenedMember:
    """An archive or a blob that was opened.

    :ivar tree: what it shows
    :ivar rest: lets go of what can be had again
    """

    tree: MountedTree
    rest: Callable[[], None]


@dataclass(frozen=True, slots=True)
class MountedMember:
    """An archive, or the index of one or of a blob.

    :ivar kind: of a blob the file is shown, of others the root
    :ivar open: opens it; `CasyncError` or `CatarError` when it cannot be
    """

    kind: Kind
    open: Callable[[], OpenedMember]

    @property
    def top(self) -> int:
        """The number, within it, of what stands under its name."""
        return ROOT + 1 if self.kind is Kind.BLOB_INDEX else ROOT

    @property
    def mode(self) -> int:
        """The file type of that."""
        return stat.S_IFREG if self.kind is Kind.BLOB_INDEX else stat.S_IFDIR


class _Inode(MountedInode):
    """One of an archive, by its number in here.

    :ivar inner: the same in the archive; None for what is not opened
    """

    __slots__ = ("inner",)

    def __init__(self, number: int, mode: int, inner: MountedInode | None = None) -> None:
        self.number = number
        self.mode = mode
        self.size = inner.size if inner is not None else 0
        self.attributes = (
            _NUMBER.pack(number) + inner.attributes[_NUMBER.size :] if inner is not None else b""
        )
        self.lookups = 0
        self.inner = inner


class MountedDirectory:
    """Archives side by side (a `mount.nodes.MountedTree`). May be used from several threads.

    :param members: by the path that each has in here
    :param mtime: of directories between them, nanoseconds since 1970
    :raises UsageError: they are too many
    """

    size = 0
    with_xattrs = True
    with_acls = True
    with_labels = True

    def __init__(
        self, members: Mapping[bytes, MountedMember], *, uid: int = 0, gid: int = 0, mtime: int = 0
    ) -> None:
        if len(members) > _MOST:
            raise UsageError(
                f"{len(members)} archives and indexes; more than {_MOST} are not mounted at once"
            )
        self._members: list[MountedMember] = []
        self._opened: dict[int, OpenedMember] = {}
        self._opening = [threading.Lock() for _ in range(len(members) + 1)]
        self._failed: dict[int, str] = {}
        self._awake: OrderedDict[int, None] = OrderedDict()
        self._lock = threading.Lock()  # of the one above
        self._directories: list[dict[bytes, int]] = [{}]  # numbers by name; of directories from ROOT on
        numbers = {b"": ROOT}
        for path in sorted(members):
            parent, name = self._parent(path, numbers)
            self._members.append(members[path])
            parent[name] = len(self._members) << _BITS | members[path].top
        self._attributes = InodeAttributes(ROOT, stat.S_IFDIR | 0o555, links=2, uid=uid, gid=gid, mtime=mtime)

    def _parent(self, path: bytes, numbers: dict[bytes, int]) -> tuple[dict[bytes, int], bytes]:
        """The directory that a path is in, made if it is not there, and the name in it."""
        directory, _, name = path.rpartition(b"/")
        if directory not in numbers:
            parent, own = self._parent(directory, numbers)
            self._directories.append({})
            parent[own] = numbers[directory] = len(self._directories) - 1 + ROOT
        return self._directories[numbers[directory] - ROOT], name

    def inode(self, number: int) -> MountedInode:
        """See `MountedTree.inode`."""
        if number > _OWN:
            inner = self._opened[number >> _BITS].tree.inode(number & _OWN)
            return _Inode(number, inner.mode, inner)
        self._names(number)
        return MountedInode(self._attributes._replace(inode=number))

    def lookup(self, parent: int, name: bytes) -> MountedInode | None:
        """See `MountedTree.lookup`."""
        if parent > _OWN:
            opened, own = self._of(parent)
            inner = opened.tree.lookup(own, name)
            return None if inner is None else self._mapped(parent, inner)
        number = self._names(parent).get(name)
        if number is not None and number > _OWN:
            self._open(number >> _BITS)
        return None if number is None else self.inode(number)

    def entries(self, directory: int, start: int, count: int) -> Sequence[Entry]:
        """See `MountedTree.entries`. What was not opened has no attributes."""
        if directory > _OWN:
            opened, own = self._of(directory)
            found = opened.tree.entries(own, start, count)
            return [Entry(each.name, self._mapped(directory, each.inode)) for each in found]
        names = sorted(self._names(directory).items())[start : start + count]
        return [Entry(name, self._listed(number)) for name, number in names]

    def read(self, number: int, offset: int, size: int) -> Sequence[bytes | memoryview]:
        """See `MountedTree.read`."""
        opened, own = self._of(number)
        return opened.tree.read(own, offset, size)

    def seek(self, number: int, offset: int, *, hole: bool) -> int:
        """See `MountedTree.seek`."""
        opened, own = self._of(number)
        return opened.tree.seek(own, offset, hole=hole)

    def flags(self, number: int) -> int:
        """See `MountedTree.flags`."""
        if number <= _OWN:
            return 0
        opened, own = self._of(number)
        return opened.tree.flags(own)

    def readlink(self, number: int) -> bytes:
        """See `MountedTree.readlink`."""
        opened, own = self._of(number)
        return opened.tree.readlink(own)

    def xattrs(self, number: int) -> Mapping[bytes, bytes]:
        """See `MountedTree.xattrs`."""
        if number <= _OWN:
            return {}
        opened, own = self._of(number)
        return opened.tree.xattrs(own)

    def told(self, inode: MountedInode) -> None:
        """See `MountedTree.told`."""
        if isinstance(inode, _Inode) and inode.inner is not None:
            self._opened[inode.number >> _BITS].tree.told(inode.inner)

    def forget(self, number: int, count: int) -> None:
        """See `MountedTree.forget`."""
        if number > _OWN:
            self._opened[number >> _BITS].tree.forget(number & _OWN, count)

    def _names(self, directory: int) -> Mapping[bytes, int]:
        if not ROOT <= directory < ROOT + len(self._directories):
            raise KeyError(directory)
        return self._directories[directory - ROOT]

    def _listed(self, number: int) -> MountedInode:
        slot = number >> _BITS
        if slot and slot not in self._opened:
            return _Inode(number, self._members[slot - 1].mode)
        return self.inode(number)

    def _mapped(self, near: int, inner: MountedInode) -> MountedInode:
        return _Inode(near & ~_OWN | inner.number, inner.mode, inner)

    def _of(self, number: int) -> tuple[OpenedMember, int]:
        """What an inode is in, and its number there."""
        slot = number >> _BITS
        opened = self._opened[slot]
        with self._lock:
            self._awake[slot] = None
            self._awake.move_to_end(slot)
            tired = self._awake.popitem(last=False)[0] if len(self._awake) > _AWAKE else 0
        if tired:
            self._opened[tired].rest()
        return opened, number & _OWN

    def _open(self, slot: int) -> None:
        if slot in self._opened:
            return
        with self._opening[slot]:
            if slot in self._opened:
                return
            try:
                opened = self._members[slot - 1].open()
                if opened.tree.size > _OWN:
                    raise UsageError(
                        f"an archive of {opened.tree.size} bytes is too large to be mounted with others"
                    )
            except (CasyncError, CatarError) as error:
                if self._failed.get(slot) == str(error):  # was told before
                    raise OSError(errno.EIO, os.strerror(errno.EIO)) from error
                self._failed[slot] = str(error)
                raise
            self._failed.pop(slot, None)
            self._opened[slot] = opened


def find_members(top: bytes, tell: Callable[[str], None]) -> dict[bytes, bytes]:
    """Archives and indexes in a directory and those below it, but for stores: paths, by those shown.

    These are without the suffix, but where another would have the same.

    :param tell: told in a line of directories that cannot be read
    :raises FileError: the directory itself cannot be
    """

    def fail(error: OSError) -> None:
        if error.filename == top:
            raise FileError(top, "read directory", error) from error
        tell(f"{show_path(os.fsencode(error.filename))}: {error.strerror}; nothing in it is shown")

    files: dict[bytes, list[bytes]] = {}
    directories: set[bytes] = set()
    for where, below, names in os.walk(top, onerror=fail):
        below[:] = [name for name in below if not _is_store(name)]
        inside = b"" if where == top else os.path.relpath(where, top) + b"/"
        files[inside] = [name for name in names if Kind.of_suffix(name) is not None]
        if files[inside]:
            while inside:
                directories.add(inside.rstrip(b"/"))
                inside = inside.rstrip(b"/").rpartition(b"/")[0]
                inside += b"/" if inside else b""
    found = {}
    for inside, names in files.items():
        stems = Counter(os.path.splitext(name)[0] for name in names)
        for name in names:
            stem = os.path.splitext(name)[0]
            taken = stems[stem] > 1 or stem in names or inside + stem in directories
            found[inside + (name if taken else stem)] = os.path.join(top, inside + name)
    return found


def _is_store(name: bytes) -> bool:
    """Whether a directory is a store, or one of those in a store."""
    return name.endswith(_STORE) or (len(name) == 4 and _HEX.issuperset(name))
