"""What is opened: an archive as a tree, a blob as a file. Bytes are read, and chunks fetched, when they are asked for.

    >>> with open_archive("etc.caidx") as tree, tree.open_file("hostname") as file: ...

Which file, store and kind is meant is for `casync_compat.api` to find out.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from errno import ENOTDIR
from typing import TYPE_CHECKING, TypeAlias

from casync_compat.closing import Closing
from casync_compat.errors import ClosedError, FileError, NotFound, naming, show_path
from casync_compat.index import Index
from casync_compat.store.base import ChunkSource
from casync_compat.streams.assemble import ChunkFetcher, IndexReader
from casync_compat.streams.trees import Tree
from catar.archive import Archive, Expecting, PayloadReader, RandomAccess
from catar.flags import time_granularity
from catar.records import Node, signed_time

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["ArchiveTree", "BlobFile", "InsidePath"]

InsidePath: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]
"""A path in an archive. Slashes at its ends, and repeated ones, do not count; none at all is the root."""


class _Guarded:
    """Bytes of an archive that are there until its tree is closed (a `catar.archive.Expecting`)."""

    def __init__(self, reader: RandomAccess, tree: ArchiveTree) -> None:
        self._reader = reader
        self._tree = tree

    @property
    def size(self) -> int:
        return self._reader.size

    def read_at(self, offset: int, size: int) -> bytes:
        self._tree.check_open()
        return self._reader.read_at(offset, size)

    def expect(self, ranges: Sequence[tuple[int, int]]) -> None:
        if isinstance(self._reader, Expecting):
            self._reader.expect(ranges)


class ArchiveTree(Closing):
    """An archive opened as a tree; made by `open_archive`. Use it as a context manager.

    Iterating gives `(path, node)` of every node, parents first, as often as one likes; `path in tree` and `tree[path]`
    look one up. Paths are given as `str`, `bytes` or `os.PathLike`, and come back as `bytes`. It may be used from
    several threads. What it gives is not available any more once it is closed, open files included.

    `Node.mtime` is as stored; `mtime_ns` converts.

    :raises ClosedError: from every method but `close`, after that
    """

    def __init__(self, tree: Tree, path: bytes) -> None:
        self._tree = tree
        self._path = path
        self._archive: Archive | None = None
        self._closed = False

    def __repr__(self) -> str:
        closed = ", closed" if self._closed else ""
        return f"<{type(self).__name__} {show_path(self._path)}: {self._tree.kind.value}{closed}>"

    def close(self) -> None:
        """Let go of the file and of threads. May be called more than once."""
        self._closed = True
        self._tree.close()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def check_open(self) -> None:
        """:raises ClosedError: when it was closed"""
        if self._closed:
            raise ClosedError(f"{show_path(self._path)}: the archive was closed")

    @property
    def index(self) -> Index | None:
        """The index, when it was opened from one."""
        return self._tree.index

    @property
    def archive(self) -> Archive:
        """Random access by path: `locate`, `node`, `children`, `open`."""
        self.check_open()
        if self._archive is None:
            archive = self._tree.archive()
            archive.reader = _Guarded(archive.reader, self)
            self._archive = archive
        return self._archive

    @property
    def feature_flags(self) -> int:
        """What the archive records (`catar.flags`)."""
        with naming(self._path):
            return self.archive.feature_flags

    def __iter__(self) -> Iterator[tuple[bytes, Node]]:
        return self.walk()

    def __contains__(self, path: object) -> bool:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return False
        try:
            self.stat(path)
        except NotFound:
            return False
        return True

    def __getitem__(self, path: InsidePath) -> Node:
        return self.stat(path)

    def walk(self, path: InsidePath = b"") -> Iterator[tuple[bytes, Node]]:
        """`(path, node)` of a node and all below it, parents first; contents are not read.

        :raises NotFound: there is no such path
        :raises FormatError: the archive is malformed
        :raises StoreError: a chunk cannot be had
        """
        self.check_open()
        return self._walk(os.fsencode(path))

    def _walk(self, path: bytes) -> Iterator[tuple[bytes, Node]]:
        with naming(self._path):
            stream = self._tree.stream(path)
            for step in stream:
                if isinstance(step, Node):
                    yield stream.path, step
                    self.check_open()

    def stat(self, path: InsidePath = b"") -> Node:
        """The metadata of one node, found through the lookup tables.

        :raises NotFound: there is no such path
        :raises CasyncError: as `walk`
        """
        with naming(self._path):
            return self.archive.node(os.fsencode(path))

    def listdir(self, path: InsidePath = b"") -> list[bytes]:
        """The names in a directory, in the archive's order.

        :raises NotFound: there is no such path
        :raises FileError: it is no directory
        :raises CasyncError: as `walk`
        """
        with naming(self._path):
            if not self.archive.node(os.fsencode(path)).is_dir:
                why = NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR))
                raise FileError(self._path, f"list {show_path(os.fsencode(path))} in it", why)
            return [child.path.rpartition(b"/")[2] for child in self.archive.children(os.fsencode(path))]

    def open_file(self, path: InsidePath) -> io.BufferedReader:
        """A regular file's contents as a seekable binary file; only the chunks that are read are fetched.

        :raises NotFound: there is no such path
        :raises UsageError: it is not a regular file
        :raises CasyncError: as `walk`
        """
        with naming(self._path):
            return self.archive.open(os.fsencode(path))

    def mtime_ns(self, node: Node) -> int:
        """A node's modification time in nanoseconds since the epoch, negative before 1970."""
        return signed_time(node.mtime, time_granularity(self.feature_flags))


class BlobFile(PayloadReader):
    """A blob as a seekable, read-only binary file without a buffer of its own; made by `open_blob`.

    Reading fetches the chunks in which the bytes lie; some MiB of them are kept. `io.BufferedReader(blob)` gives a
    buffer and lines. As with all files, threads that share one share its position.

    :ivar name: the index file, as `bytes`; None when it was opened from an `Index`
    :ivar index: what says which chunks make up the blob
    """

    mode = "rb"

    def __init__(self, index: Index, store: ChunkSource, name: bytes | None = None) -> None:
        self.name = name
        self.index = index
        super().__init__(IndexReader(ChunkFetcher(index, store, name)), 0, index.size)

    def __repr__(self) -> str:
        name = "an index" if self.name is None else show_path(self.name)
        return f"<{type(self).__name__} {name}: {self.index.size} bytes{', closed' if self.closed else ''}>"

    @property
    def size(self) -> int:
        """Size of the blob in bytes."""
        return self.index.size

    def write(self, data: ReadableBuffer, /) -> int:
        """Nothing can be written. :raises io.UnsupportedOperation: always"""
        raise io.UnsupportedOperation("not writable")
