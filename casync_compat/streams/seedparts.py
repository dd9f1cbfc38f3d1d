"""What seeds of all kinds are made of: where chunks lie in a seed's stream, and parts of chunks in its files."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import NamedTuple

from casync_compat.ids import ChunkId
from casync_compat.index import Index
from casync_compat.store.base import Put

__all__ = ["ChunkPlaces", "FilePart", "Nowhere", "Stretch", "read_file", "same_stretches"]

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class FilePart:
    """Where a part of a chunk lies in a seed's file.

    :ivar path: of the file
    :ivar offset: in the file, in bytes
    :ivar at: where in the chunk the part begins
    :ivar size: in bytes
    """

    path: bytes
    offset: int
    at: int
    size: int


class Nowhere:
    """A chunk sink that keeps nothing: a seed's chunks are only cut and named."""

    def put(self, id: ChunkId, data: object) -> Put:
        return Put(False, 0)

    def sync(self) -> None:
        return None


class ChunkPlaces:
    """Chunk id to place in a seed's stream. Eight bytes of the id are enough, since chunks are verified when read."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._numbers = {int.from_bytes(id_[:8], "big"): number for number, id_ in enumerate(index.ids())}

    def find(self, id_: bytes) -> tuple[int, int] | None:
        """`(offset, size)` in the seed's stream, None when the chunk is not in it."""
        number = self._numbers.get(int.from_bytes(id_[:8], "big"))
        if number is None:
            return None
        chunk = self._index[number]
        return (chunk.start, chunk.size) if chunk.id == id_ else None


class Stretch(NamedTuple):
    """Bytes that two streams have in common.

    :ivar start: offset in the first
    :ivar end: where they end there
    :ivar there: offset in the second
    """

    start: int
    end: int
    there: int


def same_stretches(first: Index, second: Index) -> list[Stretch]:
    """Runs of chunks that two streams have, in the order of the first. The last that start together are the longest."""
    numbers = {id_: number for number, id_ in enumerate(first.ids())}
    chunks = list(first.chunks())
    found: list[Stretch] = []
    following = -1
    for chunk in second.chunks():
        if not (0 <= following < len(chunks) and chunks[following].id == chunk.id):
            following = numbers.get(chunk.id, -1)
            if following < 0:
                continue
            found.append(Stretch(chunks[following].start, chunks[following].start, chunk.start))
        found[-1] = found[-1]._replace(end=chunks[following].end)
        following += 1
    return sorted(found)


def read_file(path: bytes, offset: int, size: int) -> bytes:
    """Part of a regular file; fewer bytes, or none, when it is not there any more."""
    try:
        fd = os.open(path, _OPEN)
    except OSError:
        return b""
    try:
        st = os.fstat(fd)
        if not (stat.S_ISREG(st.st_mode) or stat.S_ISBLK(st.st_mode)):
            return b""
        return os.pread(fd, size, offset)
    except OSError:
        return b""
    finally:
        os.close(fd)
