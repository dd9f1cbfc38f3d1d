"""Heads and segments of packed stores in pieces.

The rules are those of `casync_compat/store/packs/README.md`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from casync_compat import schema
from casync_compat.dumping.images import places
from casync_compat.dumping.pieces import Piece, Source, number, take
from casync_compat.errors import FormatError

__all__ = ["HEAD_MAGIC", "SEGMENT_MAGIC", "head_pieces", "segment_pieces"]

HEAD_MAGIC: bytes = schema.STORE_HEAD.magic.subcon.value
"""What a head begins with."""
SEGMENT_MAGIC: bytes = schema.SEGMENT_HEADER.magic.subcon.value
"""What a segment begins with."""


def segment_pieces(source: Source) -> Iterator[Piece]:
    """The pieces of a segment. :raises FormatError: from the first one that is wrong, with its offset"""
    header = take(source, "SEGMENT_HEADER", schema.SEGMENT_HEADER)
    packs, chunks = number(header.fields, "packs"), number(header.fields, "chunks")
    if packs > schema.MAX_PACKS or chunks > schema.MAX_SEGMENT_CHUNKS:
        raise FormatError(f"{packs} packs and {chunks} chunks are over the limit", offset=0)
    yield header
    for piece in places(source, packs, chunks):
        if piece.type == "PACK_INDEX_PACK" and number(piece.fields, "size") > schema.MAX_STORE_PACK:
            raise FormatError("no pack of a store has this size", offset=piece.offset)
        yield piece
    source.end("segment")


def head_pieces(source: Source) -> Iterator[Piece]:
    """The pieces of a head. :raises FormatError: from the first one that is wrong, with its offset"""
    checksum = hashlib.sha256()
    source.observe = checksum.update
    head = take(source, "STORE_HEAD", schema.STORE_HEAD)
    segments, removed = number(head.fields, "segments"), number(head.fields, "removed")
    if segments > schema.MAX_SEGMENTS or removed > schema.MAX_REMOVED_PACKS:
        raise FormatError(f"{segments} segments and {removed} removed packs are over the limit", offset=0)
    yield head
    chunks = 0
    for _ in range(segments):
        segment = take(source, "STORE_HEAD_SEGMENT", schema.STORE_HEAD_SEGMENT)
        _check_segment(segment)
        chunks += number(segment.fields, "chunks")
        if chunks > schema.MAX_STORE_CHUNKS:
            raise FormatError(f"{chunks} chunks of a store are over the limit", offset=segment.offset)
        yield segment
    for _ in range(removed):
        yield take(source, "STORE_HEAD_REMOVED", schema.STORE_HEAD_REMOVED)
    wanted = checksum.hexdigest()
    tail = take(source, "STORE_HEAD_TAIL", schema.STORE_HEAD_TAIL)
    if tail.fields["checksum"] != wanted:
        raise FormatError(f"the checksum should be {wanted}", offset=tail.offset)
    yield tail
    source.end("head")


def _check_segment(piece: Piece) -> None:
    packs, chunks = number(piece.fields, "packs"), number(piece.fields, "chunks")
    if packs > schema.MAX_PACKS or chunks > schema.MAX_SEGMENT_CHUNKS:
        raise FormatError(f"{packs} packs and {chunks} chunks are over the limit", offset=piece.offset)
    size: int = (
        schema.SEGMENT_HEADER.sizeof()
        + packs * schema.PACK_INDEX_PACK.sizeof()
        + chunks * schema.PACK_INDEX_CHUNK.sizeof()
    )
    if piece.fields["size"] != size:
        raise FormatError(f"a segment of so many packs and chunks has {size} bytes", offset=piece.offset)
