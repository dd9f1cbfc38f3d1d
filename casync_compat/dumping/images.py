"""Pack indexes, packs and tar recipes of converted images in pieces.

The rules are those of `casync_compat/oci/README.md`. The contents of packs are shown by their size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from construct import Construct

from casync_compat import schema
from casync_compat.compression import decompress
from casync_compat.dumping.pieces import Piece, Source, Value, number, parse, take
from casync_compat.errors import FormatError

__all__ = [
    "PACK_INDEX_MAGIC",
    "PACK_TABLE_MAGIC",
    "RECIPE_MAGIC",
    "pack_index_pieces",
    "pack_pieces",
    "places",
    "recipe_pieces",
]

PACK_INDEX_MAGIC: bytes = schema.PACK_INDEX_HEADER.magic.subcon.value
"""What a pack index begins with."""
PACK_TABLE_MAGIC: bytes = schema.PACK_TABLE_FOOTER.magic.subcon.value
"""What a pack ends in."""
RECIPE_MAGIC: bytes = schema.RECIPE_HEAD.magic.subcon.value
"""What stands at offset 8 of a recipe."""

_KINDS = {schema.RECIPE_LITERAL: "literal", schema.RECIPE_COPY: "copy", schema.RECIPE_ZEROS: "zeros"}
_VARINT_MAX = 10
"""Bytes of a number of 64 bits."""
_LIST = "RECIPE_LIST"


def pack_index_pieces(source: Source) -> Iterator[Piece]:
    """The pieces of a pack index. :raises FormatError: from the first one that is wrong, with its offset"""
    header = take(source, "PACK_INDEX_HEADER", schema.PACK_INDEX_HEADER)
    packs, chunks = number(header.fields, "packs"), number(header.fields, "chunks")
    if packs > schema.MAX_PACKS or chunks > schema.MAX_PACK_CHUNKS:
        raise FormatError(f"{packs} packs and {chunks} chunks are over the limit", offset=0)
    yield header
    yield from places(source, packs, chunks)
    source.end("pack index")


def places(source: Source, packs: int, chunks: int) -> Iterator[Piece]:
    """The packs of an index, and where its chunks are in them.

    :raises FormatError: from the first one that is wrong, with its offset
    """
    ends = []
    table = schema.PACK_TABLE_FRAME.sizeof() + schema.PACK_TABLE_FOOTER.sizeof()
    for _ in range(packs):
        yield (piece := take(source, "PACK_INDEX_PACK", schema.PACK_INDEX_PACK))
        ends.append(number(piece.fields, "size") - table)
    last = ""
    for _ in range(chunks):
        piece = take(source, "PACK_INDEX_CHUNK", schema.PACK_INDEX_CHUNK)
        _check_chunk(piece, ends, last)
        yield piece
        last = str(piece.fields["id"])


def _check_chunk(piece: Piece, ends: list[int], last: str) -> None:
    pack, low, high = (number(piece.fields, name) for name in ("pack", "offset_low", "offset_high"))
    if str(piece.fields["id"]) <= last:
        raise FormatError("this chunk is out of order, or there twice", offset=piece.offset)
    if pack >= len(ends) or (high << 32 | low) + number(piece.fields, "stored_size") > ends[pack]:
        raise FormatError("this chunk lies outside of the packs", offset=piece.offset)
    _check_sizes(piece)


def _check_sizes(piece: Piece) -> None:
    stored, raw = number(piece.fields, "stored_size"), number(piece.fields, "raw_size")
    if not 0 < raw <= schema.MAX_CHUNK_SIZE or not 0 < stored <= schema.MAX_STORED_SIZE:
        raise FormatError("no chunk has this size", offset=piece.offset)


def pack_pieces(source: Source) -> Iterator[Piece]:
    """The pieces of a pack: its chunks as one, and its table. Needs a file in which one can seek.

    :raises FormatError: from the first one that is wrong, with its offset
    """
    declaration = schema.PACK_TABLE_FOOTER
    tail, size = source.last(declaration.sizeof())
    at = size - len(tail)
    count = number(parse(declaration, tail, "PACK_TABLE_FOOTER", at), "chunks")
    length = count * schema.PACK_TABLE_ROW.sizeof() + len(tail)
    start = size - length - schema.PACK_TABLE_FRAME.sizeof()
    if start < 0:
        raise FormatError(f"a table of {count} chunks does not fit the pack", offset=at)
    source.skip(start)
    yield Piece(0, "CHUNKS", start)
    frame = take(source, "PACK_TABLE_FRAME", schema.PACK_TABLE_FRAME)
    if frame.fields["frame_size"] != length:
        raise FormatError(f"the table of {count} chunks has {length} bytes", offset=frame.offset)
    yield frame
    stored = 0
    for _ in range(count):
        piece = take(source, "PACK_TABLE_ROW", schema.PACK_TABLE_ROW)
        _check_sizes(piece)
        stored += number(piece.fields, "stored_size")
        if stored > start:
            raise FormatError("this chunk lies outside of the pack", offset=piece.offset)
        yield piece
    if stored != start:
        raise FormatError(
            f"the chunks of the table have {stored} bytes, those of the pack {start}", offset=at
        )
    yield take(source, "PACK_TABLE_FOOTER", declaration)


def recipe_pieces(source: Source) -> Iterator[Piece]:
    """The pieces of a recipe, and those of the lists that it has compressed.

    :raises FormatError: from the first one that is wrong, with its offset
    """
    head = take(source, "RECIPE_HEAD", schema.RECIPE_HEAD)
    values = {name: value for name, value in head.fields.items() if isinstance(value, int)}
    literals, frames = values["literals"], values["frames"]
    if frames != -(-literals // schema.RECIPE_LITERAL_FRAME):
        raise FormatError(f"{literals} bytes of literals do not make {frames} frames", offset=0)
    if (
        values["tar_size"] > schema.RECIPE_TAR_MAX
        or values["catar_size"] > schema.RECIPE_CATAR_MAX
        or literals > schema.RECIPE_LITERALS_MAX
    ):
        raise FormatError("a size is over the limit", offset=0)
    yield head
    at = source.offset
    lists = _frame(source, values["list_size"], schema.RECIPE_LIST_MAX, _LIST)
    yield Piece(at, _LIST, values["list_size"], {"raw_size": len(lists)})
    sizes = []
    for piece in _Lists(lists, at, values).pieces():
        if piece.type == "RECIPE_FRAME":
            sizes.append(number(piece.fields, "stored_size"))
        yield piece
    for size in sizes:
        at = source.offset
        wanted = min(literals, schema.RECIPE_LITERAL_FRAME)
        if len(_frame(source, size, wanted, "RECIPE_LITERALS")) != wanted:
            raise FormatError(f"this frame should have {wanted} bytes of literals", offset=at)
        literals -= wanted
        yield Piece(at, "RECIPE_LITERALS", size, {"raw_size": wanted})
    source.end("recipe")


def _frame(source: Source, size: int, limit: int, name: str) -> bytes:
    """What a zstd frame holds."""
    at = source.offset
    if size > limit + limit // 8 + (64 << 10):
        raise FormatError(f"{name} of {size} bytes is out of bounds", offset=at)
    data = source.take(size, name)
    try:
        return decompress(data, limit)
    except FormatError as error:
        raise FormatError(f"{name}: {error.reason}", offset=at) from None


class _Lists:
    """The lists of a recipe: sizes of its frames, splices, offsets of those that copy.

    :param at: offset in the file of what they were compressed into, for messages
    """

    def __init__(self, data: bytes, at: int, head: dict[str, int]) -> None:
        self._data = data
        self._at = at
        self._head = head
        self._next = self._splices = 0

    def pieces(self) -> Iterator[Piece]:
        """:raises FormatError: from the first one that is wrong"""
        head = self._head
        for _ in range(head["frames"]):
            yield self._take("RECIPE_FRAME", schema.RECIPE_FRAME, schema.RECIPE_FRAME.sizeof())
        self._splices = self._next
        made = literals = 0
        for _ in range(head["splices"]):
            piece = self._varint("RECIPE_SPLICE", schema.RECIPE_SPLICE)
            length, kind = divmod(number(piece.fields, "length_and_kind"), 4)
            made += length
            literals += length if kind == schema.RECIPE_LITERAL else 0
            if kind not in _KINDS or not length or made > head["tar_size"]:
                raise self._bad("this splice is of unknown kind, empty, or beyond the tar", piece.offset)
            yield Piece(
                piece.offset, piece.type, piece.size, {"kind": _KINDS[kind], "length": length}, inside=_LIST
            )
        if made != head["tar_size"] or literals != head["literals"]:
            raise self._bad("the splices do not make the tar", self._next)
        yield from self._offsets()
        if self._next != len(self._data):
            raise self._bad("something follows the end of the lists", self._next)

    def _offsets(self) -> Iterator[Piece]:
        place = 0
        for length in self._copies():
            piece = self._varint("RECIPE_OFFSET", schema.RECIPE_OFFSET)
            place += number(piece.fields, "distance")
            if place < 0 or place + length > self._head["catar_size"]:
                raise self._bad("this splice copies what is outside of the archive", piece.offset)
            place += length
            yield piece

    def _copies(self) -> Iterator[int]:
        """Lengths of the splices that copy, read a second time rather than kept: a hostile list has millions."""
        at = self._splices
        for _ in range(self._head["splices"]):
            value = shift = 0
            while (byte := self._data[at]) >= 0x80:
                value |= (byte & 0x7F) << shift
                shift += 7
                at += 1
            at += 1
            length, kind = divmod(value | byte << shift, 4)
            if kind == schema.RECIPE_COPY:
                yield length

    def _varint(self, name: str, declaration: Construct[Any, Any]) -> Piece:
        """A number of seven bits a byte. construct would read on for as long as the bytes ask it to."""
        for size in range(1, _VARINT_MAX + 1):
            if self._next + size <= len(self._data) and self._data[self._next + size - 1] < 0x80:
                return self._take(name, declaration, size)
        raise self._bad(f"{name} is cut short, or too large", self._next)

    def _take(self, name: str, declaration: Construct[Any, Any], size: int) -> Piece:
        at = self._next
        data = self._data[at : at + size]
        if len(data) < size:
            raise self._bad(f"{name} is cut short", at)
        self._next += size
        fields: dict[str, Value] = parse(declaration, data, name, self._at)
        return Piece(at, name, size, fields, inside=_LIST)

    def _bad(self, reason: str, at: int) -> FormatError:
        return FormatError(f"{_LIST}, byte {at} decompressed: {reason}", offset=self._at)
