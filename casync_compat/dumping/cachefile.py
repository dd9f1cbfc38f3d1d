"""Caches of `make` in pieces: directories with names and identities of what is in them, and the table of the index."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from construct import Construct

from casync_compat import schema
from casync_compat.dumping.pieces import Piece, Source, Value, cut_short, number, parse
from casync_compat.errors import FormatError
from catar.schema import FILENAME_MAX

__all__ = ["CACHE_MAGIC", "cache_pieces"]

CACHE_MAGIC: bytes = schema.CACHE_HEADER.magic.subcon.value
"""What a cache begins with."""
_PATH_MAX = 64 * FILENAME_MAX
_START = 8


def cache_pieces(source: Source) -> Iterator[Piece]:
    """The pieces of a cache.

    :raises FormatError: from the first piece that is wrong, with its offset; at the end when all look right and the
        checksum is another
    """
    header = _next(source, "CACHE_HEADER", schema.CACHE_HEADER)
    yield header
    sizes = [number(header.fields, f"{name}_size") for name in ("directories", "table", "description")]
    hasher = hashlib.blake2b(digest_size=32)
    source.observe = hasher.update
    end = source.offset + sizes[0]
    while source.offset < end:
        yield from _directory(source, end)
    if sizes[1] % schema.INDEX_ITEM.sizeof():
        raise FormatError(f"an index table of {sizes[1]} bytes has no whole number of items", offset=0)
    for _ in range(sizes[1] // schema.INDEX_ITEM.sizeof()):
        yield _next(source, "INDEX_ITEM", schema.INDEX_ITEM)
    yield _passed_over(source, "CACHE_DESCRIPTION", sizes[2])
    source.observe = None
    source.end("cache")
    hasher.update(b"".join(size.to_bytes(8, "little") for size in sizes))
    if hasher.hexdigest() != header.fields["checksum"]:
        raise FormatError("the checksum is not that of what follows", offset=0)


def _next(source: Source, name: str, declaration: Construct[Any, Any]) -> Piece:
    at = source.offset
    data = source.take(declaration.sizeof(), name)
    return Piece(at, name, len(data), parse(declaration, data, name, at))


def _passed_over(source: Source, name: str, size: int) -> Piece:
    at = source.offset
    if source.skip(size) < size:
        raise cut_short(name, at, source.offset)
    return Piece(at, name, size)


def _directory(source: Source, end: int) -> Iterator[Piece]:
    at = source.offset
    head = _next(source, "CACHE_DIRECTORY", schema.CACHE_DIRECTORY)
    path_size, entries, names_size, _ = (
        number(head.fields, name) for name in ("path_size", "entries", "names_size", "complete")
    )
    tables = entries * schema.CACHE_IDENTITY.sizeof() + (entries + 1) * _START
    if path_size > _PATH_MAX or source.offset + path_size + names_size + tables > end:
        raise FormatError("this directory does not fit the section of directories", offset=at)
    path = source.take(path_size, head.type, at)
    yield Piece(at, head.type, head.size + path_size, {"path": path, **head.fields})
    names_end = source.offset + names_size
    for _ in range(entries):
        yield _name(source)
    if source.offset != names_end:
        raise FormatError("the names of this directory have another size", offset=at)
    for _ in range(entries):
        yield _next(source, "CACHE_IDENTITY", schema.CACHE_IDENTITY)
    yield _passed_over(source, "CACHE_STARTS", (entries + 1) * _START)


def _name(source: Source) -> Piece:
    at = source.offset
    size = source.peek(FILENAME_MAX).find(b"\0") + 1
    if not size:
        raise FormatError("a name without its NUL", offset=at)
    fields: dict[str, Value] = {"name": source.take(size, "CACHE_NAME")[:-1]}
    return Piece(at, "CACHE_NAME", size, fields)
