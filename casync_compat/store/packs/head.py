"""The head of a packed store: which segments its index consists of, and which packs are no longer in it.

    magic (8) version (u32) segments (u32) removed (u32) collections (u32) generation (u64)
    segments times: sha256 (32) size (u64) packs (u32) chunks (u32)
    removed  times: sha256 (32) size (u64) moment (u64)
    sha256 of all that is before it (32)

It is the one file of a packed store that is ever replaced, by compare-and-swap, and every time with a higher
generation. No IO.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

from casync_compat import _layouts
from casync_compat.errors import FormatError
from casync_compat.store.packs.segment import MAX_CHUNKS, MAX_PACKS, Segment, segment_limit
from catar.structs import Fields

__all__ = ["EMPTY", "HEAD_LIMIT", "MAX_REMOVED", "MAX_SEGMENTS", "Head", "Removed", "SegmentName"]

_HEAD = Fields(*_layouts.STORE_HEAD)
_SEGMENT = Fields(*_layouts.STORE_HEAD_SEGMENT)
_REMOVED = Fields(*_layouts.STORE_HEAD_REMOVED)
_TAIL = Fields(*_layouts.STORE_HEAD_TAIL)

_write_head = _HEAD.writer("segments", "removed", "collections", "generation")
_write_segment = _SEGMENT.writer("sha256", "size", "packs", "chunks")
_write_removed = _REMOVED.writer("sha256", "size", "moment")
_read_head = _HEAD.reader("version", "segments", "removed", "collections", "generation")
_segments = _SEGMENT.row_reader("sha256", "size", "packs", "chunks")
_removed = _REMOVED.row_reader("sha256", "size", "moment")

MAX_SEGMENTS = _layouts.MAX_SEGMENTS
MAX_REMOVED = _layouts.MAX_REMOVED_PACKS
HEAD_LIMIT = _HEAD.size + MAX_SEGMENTS * _SEGMENT.size + MAX_REMOVED * _REMOVED.size + _TAIL.size
"""Bytes of the largest head."""


class SegmentName(NamedTuple):
    """A segment as the head names it.

    :ivar sha256: of its content, and so its name
    :ivar size: in bytes
    """

    sha256: bytes
    size: int
    packs: int
    chunks: int

    @classmethod
    def of(cls, segment: Segment) -> SegmentName:
        """The name of a segment."""
        return cls(hashlib.sha256(segment.raw).digest(), len(segment.raw), len(segment.packs), len(segment))


class Removed(NamedTuple):
    """A pack that was taken out of the index, and whose file may still be there.

    :ivar moment: when, in seconds since 1970
    """

    sha256: bytes
    size: int
    moment: int


@dataclass(frozen=True, slots=True)
class Head:
    """A parsed head.

    :ivar generation: grows by one with every change
    :ivar collections: grows by one with every change that takes chunks out, and begins anew after 2^32 - 1
    """

    generation: int
    segments: tuple[SegmentName, ...] = ()
    removed: tuple[Removed, ...] = ()
    collections: int = 0

    @property
    def chunks(self) -> int:
        """Rows of all segments."""
        return sum(segment.chunks for segment in self.segments)

    def to_bytes(self) -> bytes:
        """As it is written. :raises FormatError: it is over a limit"""
        self._check()
        body = b"".join(
            [
                _write_head(len(self.segments), len(self.removed), self.collections, self.generation),
                *(_write_segment(*segment) for segment in self.segments),
                *(_write_removed(*removed) for removed in self.removed),
            ]
        )
        return body + hashlib.sha256(body).digest()

    def _check(self) -> None:
        if len(self.segments) > MAX_SEGMENTS or len(self.removed) > MAX_REMOVED:
            raise FormatError(
                f"a head of {len(self.segments)} segments and {len(self.removed)} removed packs is over the limit"
            )
        if self.chunks > _layouts.MAX_STORE_CHUNKS:
            raise FormatError(
                f"the index has {self.chunks} chunks; a packed store has at most {_layouts.MAX_STORE_CHUNKS}"
            )

    @classmethod
    def parse(cls, data: bytes) -> Head:
        """:raises FormatError: it is malformed, or over a limit"""
        if len(data) < _HEAD.size + _TAIL.size or not _HEAD.has_constants(data, 0, "magic"):
            raise FormatError("this is no head of a packed store")
        version, segments, removed, collections, generation = _read_head(data, 0)
        if not _HEAD.has_constants(data, 0):
            raise FormatError(f"a packed store of version {version} is later than this program's")
        behind = _HEAD.size + segments * _SEGMENT.size
        end = behind + removed * _REMOVED.size
        if len(data) != end + _TAIL.size:
            raise FormatError(f"the head has {len(data)} bytes, which is not what it says")
        if hashlib.sha256(data[:end]).digest() != data[end:]:
            raise FormatError("the head's checksum is another")
        view = memoryview(data)
        head = cls(
            generation,
            tuple(SegmentName(*row) for row in _segments(view[_HEAD.size : behind])),
            tuple(Removed(*row) for row in _removed(view[behind:end])),
            collections,
        )
        head._check()
        for name in head.segments:
            if name.packs > MAX_PACKS or name.chunks > MAX_CHUNKS:
                raise FormatError("a segment is over the limit, says the head")
            if name.size != segment_limit(name.packs, name.chunks):
                raise FormatError("a segment has an impossible size, says the head")
        return head


EMPTY = Head(0)
"""That of a store which has none yet."""
