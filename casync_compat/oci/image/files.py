"""An image's merged tree as a `FileTree`: looked into without unpacking it.

    >>> with ImageTree.open(place, "debian", where=name) as image:
    ...     ImageFiles(image).open(b"/etc/os-release").read()

A listing fetches no chunk, and a file only those that it lies in: one or two requests for a small one.
"""

from __future__ import annotations

import io
import stat
from collections.abc import Iterable, Iterator
from errno import ENOTDIR
from typing import TYPE_CHECKING

from casync_compat.oci.image.tree import ImageTree
from casync_compat.oci.rootfs.mergedtree import Inode
from casync_compat.streams.filetree import FileStat, failed, link, regular

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["ImageContents", "ImageFiles"]


class ImageFiles:
    """An open image, looked into by path.

    :param image: stays the caller's to close
    """

    def __init__(self, image: ImageTree) -> None:
        self._image = image
        self.where = image.where

    def stat(self, path: bytes = b"", *, follow: bool = True) -> FileStat:
        """See `FileTree.stat`."""
        return _stat(*self._find(path, follow))

    def children(self, path: bytes = b"") -> Iterator[FileStat]:
        """See `FileTree.children`."""
        at, inode = self._find(path)
        if not inode.is_dir:
            raise failed(self.where, path, OSError(ENOTDIR, ""))
        for name, child in sorted(inode.children.items()):
            yield _stat(at + b"/" + name if at else name, child)

    def open(self, path: bytes) -> io.BufferedReader:
        """See `FileTree.open`. Its chunks are fetched ahead."""
        found = regular(self, path)
        inode = self._find(found.path, follow=False)[1]
        self._image.plan([inode])
        return io.BufferedReader(_Contents(self._image, inode), 1 << 18)

    def contents(self, path: bytes) -> ImageContents:
        """A regular file's contents at any offset; symlinks are followed.

        :raises NotFound: there is no such file
        :raises FileError: it is no regular file
        """
        found = regular(self, path)
        return ImageContents(self._image, self._find(found.path, follow=False)[1])

    def expect(self, wanted: Iterable[tuple[ImageContents, int, int]]) -> None:
        """What will be read soon of which files: an offset and a size each."""
        self._image.expect((contents.inode, offset, size) for contents, offset, size in wanted)

    def readlink(self, path: bytes) -> bytes:
        """See `FileTree.readlink`."""
        return link(self, path)

    def xattrs(self, path: bytes) -> tuple[tuple[bytes, bytes], ...]:
        """See `FileTree.xattrs`."""
        return self._find(path, follow=False)[1].xattrs

    def _find(self, path: bytes, follow: bool = True) -> tuple[bytes, Inode]:
        tree = self._image.tree
        try:
            return tree.follow(path, last=follow)
        except OSError as error:
            raise failed(self.where, path, error) from None


def _stat(path: bytes, inode: Inode) -> FileStat:
    return FileStat(
        path,
        inode.kind,
        inode.mode,
        inode.uid,
        inode.gid,
        inode.size if inode.kind == stat.S_IFREG else 0,
        inode.mtime,
        inode.links,
        inode.device,
        inode.target,
        inode.layer,
    )


class ImageContents:
    """A regular file of an image at any offset, holes as zeros (a `catar.archive.RandomAccess`).

    May be used from several threads where the image was opened as `shared`.
    """

    def __init__(self, image: ImageTree, inode: Inode) -> None:
        self._image = image
        self.inode = inode

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.inode.size

    def read_at(self, offset: int, size: int) -> bytes:
        """The bytes from `offset` on, as many as there are. :raises CasyncError: they cannot be had"""
        return b"".join(self._image.read_range(self.inode, offset, size)) if offset < self.size else b""


class _Contents(io.RawIOBase):
    """A file of an image from its beginning to its end; what no layer has of it is zeros."""

    def __init__(self, image: ImageTree, inode: Inode) -> None:
        super().__init__()
        self._size = inode.size
        self._pieces = image.read(inode)
        self._piece = memoryview(b"")
        self._offset = 0  # of the piece
        self._at = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        out = memoryview(buffer).cast("B")
        want = min(len(out), self._size - self._at)
        if want <= 0:
            return 0
        if self._at >= self._offset + len(self._piece):
            self._offset, data = next(self._pieces, (self._size, b""))
            self._piece = memoryview(data)
        if self._at < self._offset:  # a hole
            want = min(want, self._offset - self._at)
            out[:want] = bytes(want)
        else:
            begin = self._at - self._offset
            want = min(want, len(self._piece) - begin)
            out[:want] = self._piece[begin : begin + want]
        self._at += want
        return want
