"""The verbs that only look: at a whole archive or blob, or at one path in it; and what is opened to look longer."""

from __future__ import annotations

import builtins
import os

from casync_compat.api.given import (
    NO_FILE,
    IndexLocation,
    SourceLocation,
    is_directory,
    kind_of,
    open_tree,
    settings_for,
    source_of,
    tree_kind,
)
from casync_compat.api.opened import ArchiveTree, BlobFile, InsidePath
from casync_compat.errors import UsageError, naming, show_path
from casync_compat.ids import ChunkId, Digest
from casync_compat.index import Index
from casync_compat.kinds import Kind
from casync_compat.locations import PathType, name_of, open_index, open_input
from casync_compat.progress import ProgressCallback
from casync_compat.streams.filetree import ArchiveFiles
from casync_compat.streams.trees import Tree
from casync_compat.verbs.cat import cat as _cat
from casync_compat.verbs.digest import digest_index, digest_tree_part
from casync_compat.verbs.make import MakeOptions, digest_blob, digest_tree
from casync_compat.verbs.mtree import manifest
from casync_compat.verbs.stat import NodeStat, read_stat
from catar.records import Node

__all__ = ["cat", "digest", "list", "mtree", "open_archive", "open_blob", "stat"]

_HASHED = 2 << 20
"""Bytes of an archive file to read at a time where contents count: many files are then hashed together."""


def open_archive(
    source: IndexLocation,
    *,
    store: SourceLocation | None = None,
    kind: Kind | None = None,
    jobs: int | None = None,
) -> ArchiveTree:
    """Open a .catar file, or a .caidx index over a store, as a tree.

    :param store: where an index's chunks are; None for `default.castr` beside it
    :param kind: None takes it from the suffix
    :param jobs: threads that fetch chunks while the tree is walked; None for one a processor
    :raises NotFound: `source` is missing
    :raises FormatError: it is malformed
    :raises UsageError: it is of another kind
    :raises CasyncError: it cannot be opened

    >>> with casync.open_archive("etc.caidx") as tree:
    ...     [path for path, node in tree if node.is_regular], "ssh" in tree, tree["hostname"].size
    ([b'hostname', b'ssh/sshd_config'], True, 8)
    """
    if isinstance(source, Index):
        tree = Tree(
            Kind.ARCHIVE_INDEX, NO_FILE, source_of(store, source, settings_for()), index=source, jobs=jobs
        )
        return ArchiveTree(tree, NO_FILE)
    what = kind_of(source, kind)
    if not what.is_tree:
        raise UsageError(
            f"{show_path(name_of(source))}: a {what.value} has no files in it; extract or open it as a blob"
        )
    return ArchiveTree(open_tree(source, what, store, jobs=jobs), name_of(source))


def open_blob(index: IndexLocation, *, store: SourceLocation | None = None) -> BlobFile:
    """Open a blob's index (.caibx) over a store as a seekable, read-only binary file.

    :param store: where the chunks are; None for `default.castr` beside the index
    :raises NotFound: `index` is missing
    :raises FormatError: it is no index
    :raises CasyncError: it cannot be opened; and from reading, a chunk cannot be had

    >>> with casync.open_blob("disk.caibx", store=store) as disk:
    ...     disk.seek(510), disk.read(2)
    (510, b'U\\xaa')
    """
    settings = settings_for()
    chunks = source_of(store, index, settings)
    if isinstance(index, Index):
        return BlobFile(index, chunks)
    return BlobFile(open_index(index, settings), chunks, name_of(index))


def list(
    source: PathType,
    path: InsidePath = b"",
    *,
    recursive: bool = True,
    kind: Kind | None = None,
    store: SourceLocation | None = None,
    jobs: int | None = None,
) -> builtins.list[tuple[bytes, Node]]:
    """What is in an archive, an index or a directory: `(path, node)` of each node, parents first.

    All of it is in memory at once; `ArchiveTree.walk` gives one node at a time.

    :param path: only this node, and what is below it
    :param recursive: False for the node and its direct children
    :param kind: None for a directory when it is one, else by the suffix
    :raises NotFound: `source` is missing, or `path` in it
    :raises CasyncError: as `open_archive`, and when a chunk cannot be had

    >>> [path for path, node in casync.list("etc.caidx", "ssh")]
    [b'ssh', b'ssh/sshd_config']
    """
    opened = open_tree(source, tree_kind(source, kind), store, jobs=jobs, contents=False)
    with ArchiveTree(opened, name_of(source)) as tree:
        depth: int | None = None
        found = []
        for where, node in tree.walk(path):
            below = len(where.split(b"/")) if where else 0
            depth = below + 1 if depth is None else depth
            if recursive or below <= depth:
                found.append((where, node))
        return found


def stat(
    source: PathType,
    path: InsidePath = b"",
    *,
    kind: Kind | None = None,
    store: SourceLocation | None = None,
) -> NodeStat:
    """One node in full, with the digests that only reading its contents tells.

    :param path: None for the root
    :param kind: None for a directory when it is one, else by the suffix
    :raises NotFound: `source` is missing, or `path` in it
    :raises CasyncError: as `list`

    >>> about = casync.stat("etc.caidx", "hostname")
    >>> about.node.size, about.digest == casync.Digest.SHA512_256.of(b"example\\n")
    (8, True)
    """
    with naming(name_of(source)), open_tree(source, tree_kind(source, kind), store) as tree:
        return read_stat(tree.stream(os.fsencode(path)))


def mtree(
    source: PathType,
    path: InsidePath = b"",
    *,
    kind: Kind | None = None,
    store: SourceLocation | None = None,
    jobs: int | None = None,
) -> bytes:
    """The mtree(5) manifest of an archive, an index or a directory: a line a node, with the digests of files.

    :param path: only this node, and what is below it
    :param kind: None for a directory when it is one, else by the suffix
    :param jobs: threads that hash; None for one a processor
    :raises NotFound: `source` is missing, or `path` in it
    :raises CasyncError: as `list`

    >>> casync.mtree("etc.caidx").splitlines()[1].split()[:2]
    [b'hostname', b'type=file']
    """
    with naming(name_of(source)), open_tree(source, tree_kind(source, kind), store, jobs=jobs) as tree:
        return b"".join(manifest(tree.stream(os.fsencode(path), piece=_HASHED), jobs=jobs))


def digest(
    source: PathType,
    path: InsidePath = b"",
    *,
    kind: Kind | None = None,
    store: SourceLocation | None = None,
    options: MakeOptions | None = None,
    algorithm: Digest = Digest.SHA512_256,
    progress: ProgressCallback | None = None,
) -> ChunkId:
    """Digest of an archive, of what stands at a path in it, of the archive that a directory would make, or of a blob.

    :param path: in an archive: a file, whose contents are hashed, or a directory
    :param kind: None for a directory when it is one, else by the suffix, else a blob
    :param options: how a directory would be archived
    :param algorithm: of a blob that is not in chunks; archives say theirs
    :returns: 32 bytes, which print as hexadecimal
    :raises NotFound: `source` is missing, or `path` in it
    :raises CasyncError: as `list`

    >>> casync.digest("etc.caidx", "hostname") == casync.Digest.SHA512_256.of(b"example\\n")
    True
    >>> casync.digest("etc") == casync.digest("etc.caidx")
    True
    """
    what = kind or (Kind.DIRECTORY if is_directory(source) else Kind.of_suffix(name_of(source)) or Kind.BLOB)
    inside = os.fsencode(path)
    if inside.strip(b"/") and what not in (Kind.ARCHIVE, Kind.ARCHIVE_INDEX):
        raise UsageError(f"{show_path(name_of(source))}: a path inside is only looked up in archives")
    with naming(name_of(source)):
        if what is Kind.DIRECTORY:
            return digest_tree(os.fsencode(source), options or MakeOptions(), progress=progress)
        if what is Kind.BLOB:
            return digest_blob(open_input(source, settings_for()), algorithm, progress=progress)
        if what is Kind.BLOB_INDEX:
            settings = settings_for()
            index, chunks = open_index(source, settings), source_of(store, source, settings)
            # As casync does, whatever the index says of its chunks.
            return digest_index(index, chunks, Digest.SHA512_256, path=name_of(source), progress=progress)
        with open_tree(source, what, store) as tree:
            return digest_tree_part(tree, inside, progress=progress)[0]


def cat(
    source: PathType,
    path: InsidePath = b"",
    *,
    kind: Kind | None = None,
    store: SourceLocation | None = None,
) -> bytes:
    """The contents of a file in an archive, or of a whole blob.

    They are in memory at once; `ArchiveTree.open_file` and `open_blob` give files to read from.

    :param path: symlinks are followed within the archive
    :raises NotFound: `source` is missing, or `path` in it
    :raises FileError: `path` is not a regular file
    :raises CasyncError: as `open_archive`, and when a chunk cannot be had

    >>> casync.cat("etc.caidx", "hostname")
    b'example\\n'
    """
    what = kind_of(source, kind)
    name = name_of(source)
    if what is Kind.BLOB_INDEX:
        if os.fsencode(path).strip(b"/"):
            raise UsageError(f"{show_path(name)}: a blob has no paths inside")
        with open_blob(source, store=store) as blob:
            return blob.read()
    with naming(name), open_tree(source, what, store) as tree:
        return b"".join(_cat(ArchiveFiles(tree.archive(), name), os.fsencode(path)))
