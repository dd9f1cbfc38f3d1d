"""Packs being filled: chunks in the order in which they come, up to 16 MiB, and what becomes of the index by them.

Values and bytes only; `store.packs.packed` writes them.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Collection, Iterable, Sequence
from operator import attrgetter

from casync_compat.ids import ChunkId
from casync_compat.packtable import PackRow, pack_table
from casync_compat.store.packs.place import Draft, View
from casync_compat.store.packs.segment import (
    MAX_CHUNKS,
    MAX_PACKS,
    Pack,
    PackedPlace,
    PackedRow,
    Segment,
    merged,
)

__all__ = ["PACK_SIZE", "Filling", "Written", "with_packs"]

PACK_SIZE = 16 << 20
"""Bytes of chunks from which on a pack is full."""
_ROOM = 1 << 20
"""Bytes of a buffer for the last chunk and the table; where that is not enough, it becomes larger."""
_MOST_CHUNKS = 1 << 18
_TIMES = 2
"""A segment is merged with the new one unless it has more than this times as many chunks."""

Written = tuple[Pack, list[PackedRow]]
"""A pack that is written, and its chunks."""


class Filling:
    """A pack that is not full yet: one buffer, and where in it which chunk is.

    The buffer is asked of the kernel, and goes back there: those of the C library stay with each thread that made one.
    """

    def __init__(self) -> None:
        self._buffer = mmap.mmap(-1, PACK_SIZE + _ROOM)
        self._size = 0
        self._places: dict[ChunkId, tuple[int, int]] = {}
        self._rows: list[PackRow] = []

    @property
    def ids(self) -> Collection[ChunkId]:
        """Of its chunks."""
        return self._places.keys()

    def _append(self, data: bytes) -> None:
        end = self._size + len(data)
        if end > len(self._buffer):
            larger = mmap.mmap(-1, end + _ROOM)
            larger[: self._size] = self._buffer[: self._size]
            self._buffer = larger
        self._buffer[self._size : end] = data
        self._size = end

    def add(self, id: ChunkId, frame: bytes, raw: int) -> bool:
        """Add a chunk, which is not in it yet; whether it is full now."""
        self._places[id] = self._size, len(frame)
        self._append(frame)
        self._rows.append(PackRow(id, len(frame), raw))
        return self._size >= PACK_SIZE or len(self._rows) >= _MOST_CHUNKS

    def frame(self, id: ChunkId) -> bytes | None:
        """A chunk as it is stored; None when it is not in it."""
        place = self._places.get(id)
        return None if place is None else self._buffer[place[0] : place[0] + place[1]]

    def content(self) -> memoryview:
        """The pack as it is written; nothing is added to it from now on."""
        self._append(pack_table(self._rows))
        return memoryview(self._buffer)[: self._size]

    def rows(self, pack: Pack) -> list[PackedRow]:
        """Its chunks and where they are, now that it is written."""
        out, at = [], 0
        for row in self._rows:
            out.append(PackedRow(row.id, PackedPlace(pack.sha256, at, row.stored, row.raw)))
            at += row.stored
        return out


def _groups(written: Iterable[Written]) -> list[list[Written]]:
    """As many packs together as a segment takes."""
    groups: list[list[Written]] = []
    chunks = 0
    for one in written:
        chunks += len(one[1])
        if not groups or len(groups[-1]) == MAX_PACKS or chunks > MAX_CHUNKS:
            groups.append([])
            chunks = len(one[1])
        groups[-1].append(one)
    return groups


def _joined(group: Sequence[Written], others: Sequence[Iterable[PackedRow]], generation: int) -> Segment:
    packs = dict.fromkeys(pack for pack, _ in group)
    for other in others:
        if isinstance(other, Segment):
            packs.update(dict.fromkeys(other.packs))
    own = sorted((row for _, rows in group for row in rows), key=attrgetter("id"))
    return Segment.build(tuple(packs), merged([*others, own]), generation)


def _log_wise(group: Sequence[Written], segments: list[Segment], generation: int) -> Segment:
    """A segment of new packs, and of those segments, taken off the list, that are not much larger than it."""
    chunks, packs = sum(len(rows) for _, rows in group), len(group)
    taken: list[Segment] = []
    for segment in sorted(segments, key=len):
        if (
            len(segment) > _TIMES * chunks
            or chunks + len(segment) > MAX_CHUNKS
            or packs + len(segment.packs) > MAX_PACKS
        ):
            break
        chunks, packs = chunks + len(segment), packs + len(segment.packs)
        taken.append(segment)
        segments.remove(segment)
    return _joined(group, taken, generation)


def with_packs(written: Sequence[Written]) -> Callable[[View], Draft | None]:
    """The change of a head by which packs that are written become part of the store (`PackPlace.swap`).

    A pack that was taken out of the index, and is written again, is no longer one that may be removed.
    """

    def change(view: View) -> Draft | None:
        known = view.packs()
        fresh = [one for one in written if one[0].sha256 not in known]
        if not fresh:
            return None
        generation = view.head.generation + 1
        segments = list(view.segments.values())
        groups = _groups(fresh)
        made = [_joined(group, (), generation) for group in groups[:-1]]
        made.append(_log_wise(groups[-1], segments, generation))
        back: Collection[bytes] = {pack.sha256 for pack, _ in fresh}
        removed = [one for one in view.head.removed if one.sha256 not in back]
        return Draft(segments + made, removed)

    return change
