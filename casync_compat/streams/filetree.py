"""A tree of files that is looked into by path, whatever it is: an archive, an image's merged layers, a directory.

    >>> tree = ArchiveFiles(archive, b"etc.catar")
    >>> tree.stat(b"hostname").size
    7
    >>> with tree.open(b"hostname") as file: file.read()
    b'example'

What looks into trees (`cat`, listings, and later mounts) is written once, over `FileTree`. Paths are bytes from the
tree's root; leading, repeated and trailing slashes and `.` do not count. Symlinks are followed inside the tree, as a
process that has its root there would follow them: nothing outside is ever reached. Nothing is written here, and no file
is read but those that are opened.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from errno import ENOENT, ENOTDIR
from typing import Protocol

from casync_compat import paths
from casync_compat.errors import FileError, NotFound, naming
from catar.archive import Archive
from catar.archive import NotFound as Absent
from catar.flags import time_granularity
from catar.records import Node, signed_time

__all__ = [
    "ArchiveFiles",
    "DirectoryFiles",
    "FileStat",
    "FileTree",
    "directory",
    "failed",
    "link",
    "look_up",
    "regular",
    "walk",
]


@dataclass(frozen=True, slots=True)
class FileStat:
    """What is known of one file, directory or other inode without opening it.

    :ivar path: from the root, without leading slash; empty for the root
    :ivar kind: file type, `stat.S_IFREG` and so on
    :ivar mode: permissions, 12 bits
    :ivar size: bytes of a regular file, holes included; 0 for others
    :ivar mtime: nanoseconds since the epoch, negative before 1970
    :ivar links: names that it has; 1 where nobody counts them
    :ivar device: major and minor number of a device node
    :ivar target: of a symlink
    :ivar layer: in an image: the number of the layer that it is from; -1 elsewhere
    """

    path: bytes
    kind: int
    mode: int
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int = 0
    links: int = 1
    device: tuple[int, int] = (0, 0)
    target: bytes = b""
    layer: int = -1

    @property
    def name(self) -> bytes:
        """Its name in its directory; empty for the root."""
        return self.path.rpartition(b"/")[2]

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return self.kind == stat.S_IFDIR


class FileTree(Protocol):
    """What can be looked into by path. From every method: `CasyncError` when the tree cannot be read or is malformed.

    :ivar where: the tree, as a user would name it
    """

    where: str

    def stat(self, path: bytes = b"", *, follow: bool = True) -> FileStat:
        """What a path means; `FileStat.path` is where it is found, without symlinks on the way.

        :param follow: whether a symlink as the last component is followed, too
        :raises NotFound: there is nothing of this name
        :raises FileError: something on the way is no directory, or there are too many symlinks
        """

    def children(self, path: bytes = b"") -> Iterator[FileStat]:
        """What is in a directory, sorted by name as bytes.

        :raises NotFound: there is no such directory
        :raises FileError: it is no directory
        """

    def open(self, path: bytes) -> io.BufferedReader:
        """A regular file's contents, holes as zeros; symlinks are followed.

        :raises NotFound: there is no such file
        :raises FileError: it is no regular file
        """

    def readlink(self, path: bytes) -> bytes:
        """A symlink's target. :raises FileError: it is no symlink"""

    def xattrs(self, path: bytes) -> tuple[tuple[bytes, bytes], ...]:
        """Names and values of the extended attributes that are kept as such, sorted; symlinks are not followed."""


def look_up(
    tree: FileTree, path: bytes, look: Callable[[bytes], FileStat | None], *, follow: bool = True
) -> FileStat:
    """`FileTree.stat` for a tree that can `look` at a clean path whose directories are real ones (None for nothing)."""
    root = look(b"")
    try:
        if root is None:
            raise OSError(ENOENT, "no such file or directory")
        return paths.follow(
            root,
            path,
            child=lambda _here, _name, there: look(there),
            link=lambda here: here.target if here.kind == stat.S_IFLNK else None,
            is_dir=lambda here: here.is_dir,
            last=follow,
        )[1]
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise failed(tree.where, path, error) from None


def failed(where: str, path: bytes, error: OSError) -> FileError:
    """The error for a path in a tree that means nothing.

    A path that an archive or image does not have is told apart from the archive that is not there itself.
    """
    if error.errno == ENOENT and not os.path.isdir(where):
        return NotFound.in_archive(os.fsencode(where), path)
    return FileError(_joined(where, path), "look up", OSError(error.errno, os.strerror(error.errno or 0)))


def _joined(where: str, path: bytes) -> bytes:
    return os.path.join(os.fsencode(where), path.lstrip(b"/"))


def walk(tree: FileTree, path: bytes = b"") -> Iterator[FileStat]:
    """Everything below a directory, each directory before what is in it, sorted by name; symlinks are not followed."""
    stack = [tree.children(path)]
    while stack:
        for entry in stack[-1]:
            yield entry
            if entry.is_dir:
                stack.append(tree.children(entry.path))
                break
        else:
            stack.pop()


class ArchiveFiles:
    """An archive as a `FileTree`: names are found through its lookup tables, and only what is asked for is read.

    :param path: the file, for messages; None for standard input
    """

    def __init__(self, archive: Archive, path: bytes | None) -> None:
        self._archive = archive
        self._path = path if path is not None else b"standard input"
        self.where = os.fsdecode(self._path)

    def stat(self, path: bytes = b"", *, follow: bool = True) -> FileStat:
        """See `FileTree.stat`."""
        return look_up(self, path, self._look, follow=follow)

    def children(self, path: bytes = b"") -> Iterator[FileStat]:
        """See `FileTree.children`."""
        found = directory(self, path)
        with naming(self._path):
            for child in self._archive.children(found.path):
                yield self._stat(child.path, self._archive.node_at(child))

    def open(self, path: bytes) -> io.BufferedReader:
        """See `FileTree.open`. Seekable; only what is read is fetched."""
        found = regular(self, path)
        with naming(self._path):
            return self._archive.open(found.path)

    def readlink(self, path: bytes) -> bytes:
        """See `FileTree.readlink`."""
        return link(self, path)

    def xattrs(self, path: bytes) -> tuple[tuple[bytes, bytes], ...]:
        """See `FileTree.xattrs`."""
        found = self.stat(path, follow=False)
        with naming(self._path):
            return tuple(
                (attribute.name, attribute.value) for attribute in self._archive.node(found.path).xattrs
            )

    def _look(self, path: bytes) -> FileStat | None:
        with naming(self._path):
            try:
                where = self._archive.locate(path)
            except Absent:
                return None
            return self._stat(path, self._archive.node_at(where))

    def _stat(self, path: bytes, node: Node) -> FileStat:
        return FileStat(
            path,
            node.kind,
            node.mode & 0o7777,
            node.uid,
            node.gid,
            node.size,
            signed_time(node.mtime, time_granularity(self._archive.feature_flags)),
            device=node.device or (0, 0),
            target=node.target or b"",
        )


class DirectoryFiles:
    """A directory on disk as a `FileTree`. What changes meanwhile is seen; nothing outside of it is.

    :param path: the directory
    """

    def __init__(self, path: bytes) -> None:
        self._path = path
        self.where = os.fsdecode(path)

    def stat(self, path: bytes = b"", *, follow: bool = True) -> FileStat:
        """See `FileTree.stat`."""
        return look_up(self, path, self._look, follow=follow)

    def children(self, path: bytes = b"") -> Iterator[FileStat]:
        """See `FileTree.children`."""
        found = directory(self, path)
        fd = self._open(found.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            names = sorted(map(os.fsencode, os.listdir(fd)))
        except OSError as error:
            raise FileError(_joined(self.where, found.path), "list directory", error) from error
        finally:
            os.close(fd)
        for name in names:
            child = self._look(found.path + b"/" + name if found.path else name)
            if child is not None:
                yield child

    def open(self, path: bytes) -> io.BufferedReader:
        """See `FileTree.open`. Seekable."""
        found = regular(self, path)
        return os.fdopen(self._open(found.path, os.O_RDONLY | os.O_NONBLOCK), "rb")

    def readlink(self, path: bytes) -> bytes:
        """See `FileTree.readlink`."""
        return link(self, path)

    def xattrs(self, path: bytes) -> tuple[tuple[bytes, bytes], ...]:
        """See `FileTree.xattrs`."""
        found = self.stat(path, follow=False)
        fd = self._open(found.path, os.O_PATH)
        try:
            # The extended attributes of what a descriptor without access stands for are had through /proc only.
            name = f"/proc/self/fd/{fd}"
            if found.kind == stat.S_IFLNK:
                return ()
            return tuple(sorted((os.fsencode(key), os.getxattr(name, key)) for key in os.listxattr(name)))
        except OSError as error:
            raise FileError(_joined(self.where, found.path), "read extended attributes", error) from error
        finally:
            os.close(fd)

    def _open(self, path: bytes, flags: int) -> int:
        """Open a path whose components are no symlinks, whatever they have become meanwhile."""
        fd = -1
        try:
            fd = os.open(self._path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            *parents, last = path.split(b"/") if path else [b"."]
            for name in parents:
                inner = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
                os.close(fd)
                fd = inner
            return os.open(last, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        except OSError as error:
            raise FileError(_joined(self.where, path), "open", error) from error
        finally:
            if fd >= 0:
                os.close(fd)

    def _look(self, path: bytes) -> FileStat | None:
        try:
            fd = self._open(path, os.O_PATH)
        except FileNotFoundError:
            return None
        try:
            found = os.stat(fd)
            target = os.readlink(b"", dir_fd=fd) if stat.S_ISLNK(found.st_mode) else b""
        except OSError as error:
            raise FileError(_joined(self.where, path), "look at", error) from error
        finally:
            os.close(fd)
        return FileStat(
            path,
            stat.S_IFMT(found.st_mode),
            stat.S_IMODE(found.st_mode),
            found.st_uid,
            found.st_gid,
            found.st_size if stat.S_ISREG(found.st_mode) else 0,
            found.st_mtime_ns,
            found.st_nlink,
            (os.major(found.st_rdev), os.minor(found.st_rdev)),
            target,
        )


def directory(tree: FileTree, path: bytes) -> FileStat:
    """A directory, links followed. :raises FileError: it is none"""
    found = tree.stat(path)
    if not found.is_dir:
        raise failed(tree.where, path, NotADirectoryError(ENOTDIR, ""))
    return found


def regular(tree: FileTree, path: bytes) -> FileStat:
    """A regular file, links followed. :raises FileError: it is none"""
    found = tree.stat(path)
    if found.kind != stat.S_IFREG:
        raise FileError(_joined(tree.where, path), "open", "not a regular file")
    return found


def link(tree: FileTree, path: bytes) -> bytes:
    """A symlink's target. :raises FileError: it is none"""
    found = tree.stat(path, follow=False)
    if found.kind != stat.S_IFLNK:
        raise FileError(_joined(tree.where, path), "read link", "not a symbolic link")
    return found.target
