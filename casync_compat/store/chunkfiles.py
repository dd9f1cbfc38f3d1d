"""Files that have the name of a chunk, whatever that is (`chunknames`), and whether what is in them is it."""

from __future__ import annotations

from typing import NamedTuple

from casync_compat.ids import ChunkId, Digest, DigestUnavailable

__all__ = ["LARGEST", "ChunkFile", "is_chunk"]

LARGEST = 256 << 20
"""Bytes of a chunk whose size nobody says, and that is read all the same."""


class ChunkFile(NamedTuple):
    """A file that has the name of a chunk.

    :ivar name: in its place of files
    :ivar id: that its name says
    :ivar packed: whether it is the compressed form
    :ivar placed: whether it lies where the chunk is looked for
    """

    name: bytes
    id: ChunkId
    packed: bool
    placed: bool


def is_chunk(raw: bytes, id: ChunkId, data: memoryview | None) -> bool:
    """Whether what a file holds is the very chunk.

    :param data: the chunk, if it is known; else its id tells, by any digest that there is
    """
    if data is not None:
        return data == memoryview(raw)
    return bool(raw) and any(_has_id(digest, raw, id) for digest in Digest)


def _has_id(digest: Digest, raw: bytes, id: ChunkId) -> bool:
    try:
        return digest.of(raw) == id
    except DigestUnavailable:
        return False
