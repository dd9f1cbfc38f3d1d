"""The contents of one file of a tree, or of a blob, in pieces."""

from __future__ import annotations

from collections.abc import Iterator

from casync_compat.index import Index
from casync_compat.store.base import ChunkSource
from casync_compat.streams.assemble import ChunkFetcher, ChunkStream
from casync_compat.streams.filetree import FileTree

__all__ = ["cat", "cat_blob"]

_PIECE = 1 << 18


def cat(tree: FileTree, path: bytes) -> Iterator[bytes]:
    """The contents of a regular file, holes as zeros, in pieces of at most 256 KiB.

    :param path: from the tree's root; symlinks are followed within the tree
    :raises NotFound: there is no such file
    :raises CasyncError: it is no regular file, or cannot be read
    """
    with tree.open(path) as file:
        while piece := file.read1(_PIECE):
            yield piece


def cat_blob(
    index: Index, source: ChunkSource, path: bytes | None = None, *, jobs: int | None = None
) -> Iterator[bytes | memoryview]:
    """The whole blob that an index describes, in pieces, each chunk checked.

    :param path: of the index, for messages; None for standard input
    :param jobs: threads that fetch, None for one a processor
    :raises CasyncError: a chunk is missing or corrupt
    """
    with ChunkStream(ChunkFetcher(index, source, path), jobs=jobs) as stream:
        while data := stream.read():
            yield data
