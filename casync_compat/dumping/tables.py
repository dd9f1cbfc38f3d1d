"""Index files (.caidx, .caibx) and chunk files (.cacnk) in pieces.

A chunk file is one piece: what it is compressed with, and which chunk comes out of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from casync_compat import schema
from casync_compat.chunker.params import ChunkSizes
from casync_compat.compression import decompress
from casync_compat.dumping.pieces import Piece, Source, Value, cut_short, number, parse
from casync_compat.errors import FormatError, UsageError
from casync_compat.ids import ChunkId, Digest
from catar.flags import is_normalised

__all__ = ["CHUNK_MARKS", "INDEX_MARK", "chunk_pieces", "index_pieces"]

INDEX_MARK = schema.INDEX_TYPE.to_bytes(8, "little")
"""What stands at offset 8 of an index."""
CHUNK_MARKS = {b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\x00": "xz", b"\x1f\x8b": "gzip"}
"""What chunk files begin with."""


def index_pieces(source: Source) -> Iterator[Piece]:
    """The pieces of an index. :raises FormatError: from the first piece that is wrong, with its offset"""
    size = schema.INDEX_HEADER.sizeof()
    data = source.take(size, "INDEX_HEADER")
    header = parse(schema.INDEX_HEADER, data, "INDEX_HEADER", 0)
    features = number(header, "feature_flags")
    limits = [number(header, f"chunk_size_{name}") for name in ("min", "avg", "max")]
    if not is_normalised(features):
        raise FormatError(f"feature flags {features:#x} are unknown or contradict one another", offset=0)
    try:
        ChunkSizes(*limits)
    except UsageError as error:
        raise FormatError(f"chunk sizes are not valid: {error}", offset=0) from None
    yield Piece(0, "INDEX_HEADER", size, header)
    yield from _items(source, limits[2])


def _items(source: Source, largest: int) -> Iterator[Piece]:
    size = schema.INDEX_ITEM.sizeof()
    end = count = 0
    while True:
        at = source.offset
        data = source.read(size)
        if len(data) < size:
            raise cut_short("the chunk table", at, source.offset)
        if not any(data[:8]):  # no chunk ends at 0, so this is the tail
            break
        fields = parse(schema.INDEX_ITEM, data, "INDEX_ITEM", at)
        start, end = end, number(fields, "end")
        if end <= start:
            raise FormatError(f"end of chunk {count} does not lie after its start", offset=at)
        if end - start > largest:
            raise FormatError(f"chunk {count} is larger than the index allows", offset=at)
        count += 1
        yield Piece(at, "INDEX_ITEM", size, fields)
    tail = parse(schema.INDEX_TAIL, data, "INDEX_TAIL", at)
    table = source.offset - number(tail, "index_offset")
    told = number(tail, "table_size")
    if told != table:
        raise FormatError(f"the size in the tail is {told}, that of the table {table}", offset=at)
    yield Piece(at, "INDEX_TAIL", size, tail)
    source.end("index")


def chunk_pieces(source: Source) -> Iterator[Piece]:
    """A chunk file. :raises FormatError: it is not one whole chunk"""
    data = source.read(schema.MAX_STORED_SIZE)
    kind = next(name for mark, name in CHUNK_MARKS.items() if data.startswith(mark))
    if source.peek(1):
        raise FormatError(f"a chunk file of more than {len(data)} bytes is larger than any chunk", offset=0)
    try:
        raw = decompress(data, schema.MAX_CHUNK_SIZE)
    except FormatError as error:
        raise FormatError(error.reason, offset=error.offset or 0) from None
    fields: dict[str, Value] = {"compression": kind, "raw_size": len(raw)}
    for digest in (Digest.SHA512_256, Digest.SHA256):
        hasher = digest.new()
        hasher.update(raw)
        fields[digest.value.replace("-", "_")] = ChunkId(hasher.digest()).hex()
    yield Piece(0, "CHUNK", len(data), fields)
