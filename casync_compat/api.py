"""The library: make, extract and open archives from Python.

    >>> from casync_compat import api as casync
    >>> casync.make("etc.caidx", "/etc")
    >>> casync.extract("etc.caidx", "/tmp/etc")
    >>> with casync.open_archive("etc.caidx") as tree:
    ...     print(tree.stat("hostname").size)
    ...     with tree.open_file("ssh/sshd_config") as file:
    ...         first = file.readline()

Paths may be `str`, `bytes` or `os.PathLike`; paths inside an archive are given the same way and come back as `bytes`,
since archives know no character set. Errors are `CasyncError` and `catar.CatarError`.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeAlias

from casync_compat.chunker import ChunkSizes
from casync_compat.closing import Closing
from casync_compat.compression import Compression
from casync_compat.errors import UsageError, naming, show_path
from casync_compat.index import Index
from casync_compat.kinds import Kind
from casync_compat.progress import ProgressCallback
from casync_compat.store.base import ChunkSource, Store
from casync_compat.store.local import LocalStore
from casync_compat.streams.archive import MakeResult
from casync_compat.streams.extraction import ExtractOptions, ExtractResult
from casync_compat.streams.trees import Tree
from casync_compat.verbs.extract import extract_archive
from casync_compat.verbs.extract_blob import extract_blob
from casync_compat.verbs.make import MakeOptions, make_archive, make_archive_index, make_blob_index
from catar.archive import Archive, Located
from catar.records import Node, signed_time

__all__ = ["ArchiveTree", "PathType", "extract", "make", "open_archive"]

PathType: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def _kind_of(path: bytes, kind: Kind | None) -> Kind:
    found = kind or Kind.of_suffix(path)
    if found is None:
        raise UsageError(
            f"{show_path(path)}: the name ends in none of .catar, .caidx and .caibx; say its kind"
        )
    return found


def _store_beside(index: bytes, compression: Compression = Compression.ZSTD) -> LocalStore:
    return LocalStore(os.path.join(os.path.dirname(index), b"default.castr"), compression=compression)


def make(
    output: PathType,
    source: PathType,
    *,
    kind: Kind | None = None,
    store: Store | None = None,
    feature_flags: int | None = None,
    sizes: ChunkSizes | None = None,
    compression: Compression = Compression.ZSTD,
    stream_digest: bool = True,
    jobs: int | None = None,
    progress: ProgressCallback | None = None,
) -> MakeResult:
    """Make an archive (.catar), an archive index (.caidx) or a blob index (.caibx).

    :param kind: None takes it from the suffix of `output`
    :param store: where chunks go; None for `default.castr` beside the index
    :param feature_flags: normalised (`catar.flags.select`); None for casync's default
    :param sizes: chunk sizes; None for casync's default
    :param compression: of new chunks, when `store` is None
    :param stream_digest: whether to hash the whole archive or blob
    :param jobs: threads; None for one a processor
    :raises CasyncError: nothing appears at `output` then
    """
    out, src = os.fsencode(output), os.fsencode(source)
    what = _kind_of(out, kind)
    made = MakeOptions(feature_flags, sizes or ChunkSizes(), stream_digest=stream_digest, jobs=jobs)
    if what is Kind.ARCHIVE:
        with naming(out):
            return make_archive(out, src, made, progress=progress)
    if not what.is_index:
        raise UsageError(f"{show_path(out)}: a {what.value} cannot be made")
    chunks: Store = store or _store_beside(out, compression)
    if what is Kind.ARCHIVE_INDEX:
        with naming(out):
            made = replace(made, skip=chunks.own_paths)
            return make_archive_index(out, src, chunks, made, progress=progress)
    return make_blob_index(out, src, chunks, made, progress=progress)


def extract(
    source: PathType,
    output: PathType,
    *,
    kind: Kind | None = None,
    store: ChunkSource | None = None,
    path: PathType = b"",
    options: ExtractOptions | None = None,
    warn: Callable[[str], None] | None = None,
    progress: ProgressCallback | None = None,
) -> ExtractResult:
    """Extract an archive or index to a directory, or a blob index to a file.

    :param kind: None takes it from the suffix of `source`
    :param store: where chunks are; None for `default.castr` beside the index
    :param path: extract only this node of an archive, as `output`/NAME
    :param warn: called with each warning; None drops them
    :raises CasyncError: naming the file
    """
    src, out = os.fsencode(source), os.fsencode(output)
    what = _kind_of(src, kind)
    chunks = store or _store_beside(src)
    tell = warn or (lambda text: None)
    inside = os.fsencode(path)
    if what not in (Kind.ARCHIVE, Kind.ARCHIVE_INDEX, Kind.BLOB_INDEX):
        raise UsageError(f"{show_path(src)}: a {what.value} cannot be extracted")
    with naming(src):
        if what is Kind.BLOB_INDEX:
            if inside.strip(b"/"):
                raise UsageError(f"{show_path(src)}: a blob has no paths inside")
            return extract_blob(src, out, chunks, options=options, warn=tell, progress=progress)
        return extract_archive(
            what,
            src,
            out,
            chunks,
            inside=inside,
            options=options,
            warn=tell,
            progress=progress,
        )


class ArchiveTree(Closing):
    """An archive opened as a tree; made by `open_archive`. Use it as a context manager.

    Iterating gives `(path, node)` of every node, parents first. `Node.mtime` is as stored; `mtime_ns` below converts.
    """

    def __init__(self, tree: Tree, path: bytes) -> None:
        self._tree = tree
        self._path = path
        self._archive: Archive | None = None

    def close(self) -> None:
        """Let go of the file and of threads."""
        self._tree.close()

    @property
    def index(self) -> Index | None:
        """The index, when it was opened from one."""
        return self._tree.index

    @property
    def archive(self) -> Archive:
        """Random access by path: `locate`, `node`, `children`, `open`."""
        if self._archive is None:
            self._archive = self._tree.archive()
        return self._archive

    @property
    def feature_flags(self) -> int:
        """What the archive records."""
        with naming(self._path):
            return self.archive.feature_flags

    def __iter__(self) -> Iterator[tuple[bytes, Node]]:
        return self.walk()

    def walk(self, path: PathType = b"") -> Iterator[tuple[bytes, Node]]:
        """`(path, node)` of a node and all below it, parents first; contents are not read.

        :raises CasyncError: when the archive is malformed or there is no such path
        """
        with naming(self._path):
            stream = self._tree.stream(os.fsencode(path))
            for step in stream:
                if isinstance(step, Node):
                    yield stream.path, step

    def stat(self, path: PathType = b"") -> Node:
        """The metadata of one node, found through the lookup tables.

        :raises CasyncError: when there is no such path
        """
        with naming(self._path):
            return self.archive.node(os.fsencode(path))

    def listdir(self, path: PathType = b"") -> list[bytes]:
        """The names in a directory, in the archive's order.

        :raises CasyncError: when there is no such directory
        """
        with naming(self._path):
            return [_name(child) for child in self.archive.children(os.fsencode(path))]

    def open_file(self, path: PathType) -> io.BufferedReader:
        """A regular file's contents as a seekable binary file; only the chunks that are read are fetched.

        :raises CasyncError: when there is no such file
        """
        with naming(self._path):
            return self.archive.open(os.fsencode(path))

    def mtime_ns(self, node: Node) -> int:
        """A node's modification time in nanoseconds since the epoch, negative before 1970."""
        from catar.flags import time_granularity

        return signed_time(node.mtime, time_granularity(self.feature_flags))


def _name(where: Located) -> bytes:
    return where.path.rpartition(b"/")[2]


def open_archive(
    path: PathType, *, store: ChunkSource | None = None, kind: Kind | None = None, jobs: int | None = None
) -> ArchiveTree:
    """Open a .catar file, or a .caidx index over a store, as a tree.

    :param store: where an index's chunks are; None for `default.castr` beside it
    :param kind: None takes it from the suffix
    :raises CasyncError: when it cannot be opened
    """
    file = os.fsencode(path)
    what = _kind_of(file, kind)
    if not what.is_tree:
        raise UsageError(f"{show_path(file)}: a {what.value} has no files in it; extract it instead")
    source = (store or _store_beside(file)) if what.is_index else None
    return ArchiveTree(Tree(what, file, source, jobs=jobs), file)
