"""Pieces of a file, and the stream that they are read from.

A `Piece` is a stretch of a file that a declaration describes: a record, an item of a table. Those of a file follow one
another without gaps, so that their sizes add up to that of the file. Declarations are interpreted by construct, which
trusts what it reads; so every length is checked before it is used, and `Source` allocates for what is there and not for
what a length field claims.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeAlias

from construct import Const, Construct, ConstructError, Renamed

from casync_compat.errors import FormatError

__all__ = ["Piece", "Source", "Value", "cut_short", "fields_of", "number", "parse", "take"]

Value: TypeAlias = int | str | bytes | None
"""Of a field: bytes are a name or a text, while ids and digests are hexadecimal text already."""

_PIECE = 1 << 18


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a file.

    :ivar offset: of its first byte; within what `inside` names, where that is set
    :ivar type: what it is, in capitals
    :ivar size: in bytes
    :ivar fields: values of the declared fields, by name
    :ivar inside: what it was compressed into, a piece that came before; empty for a stretch of the file itself
    """

    offset: int
    type: str
    size: int
    fields: Mapping[str, Value] = field(default_factory=dict)
    inside: str = ""


class Source:
    """A stream that is read once, from its beginning.

    :param file: binary; a seekable one is passed over without being read
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._ahead = b""
        self.offset = 0
        """Of the next byte."""
        self.observe: Callable[[bytes], None] | None = None
        """Gets all that is read or passed over from now on, for a checksum."""

    def peek(self, count: int) -> bytes:
        """The next bytes, which stay where they are; fewer at the end."""
        while len(self._ahead) < count:
            data = self._file.read(count - len(self._ahead))
            if not data:
                break
            self._ahead += data
        return self._ahead[:count]

    def read(self, count: int) -> bytes:
        """The next bytes; fewer at the end."""
        parts = [self._ahead[:count]]
        self._ahead = self._ahead[count:]
        left = count - len(parts[0])
        while left:
            piece = self._file.read(min(left, _PIECE))
            if not piece:
                break
            parts.append(piece)
            left -= len(piece)
        self.offset += count - left
        data = b"".join(parts)
        if self.observe is not None:
            self.observe(data)
        return data

    def take(self, count: int, what: str, start: int | None = None) -> bytes:
        """The next bytes, all of them.

        :param what: the piece that they belong to, for the message
        :param start: offset of that piece; None when it begins here
        :raises FormatError: they are not there
        """
        start = self.offset if start is None else start
        data = self.read(count)
        if len(data) < count:
            raise cut_short(what, start, self.offset)
        return data

    def skip(self, count: int) -> int:
        """Pass over bytes. :returns: how many there were"""
        if self.observe is not None:
            start = self.offset
            while (left := count - (self.offset - start)) and self.read(min(left, _PIECE)):
                pass
            return self.offset - start
        here = min(count, len(self._ahead))
        self._ahead = self._ahead[here:]
        left = count - here
        if left > _PIECE and self._file.seekable():
            at = self._file.tell()
            end = self._file.seek(0, 2)
            step = min(left, max(0, end - at))
            self._file.seek(at + step)
            left -= step
        else:
            while left:
                data = self._file.read(min(left, _PIECE))
                if not data:
                    break
                left -= len(data)
        self.offset += count - left
        return count - left

    def last(self, count: int) -> tuple[bytes, int]:
        """The last bytes and the size of the file; nothing and 0 when it cannot be told without reading it all."""
        if not self._file.seekable():
            return b"", 0
        at = self._file.tell()
        size = self._file.seek(0, 2)
        self._file.seek(max(0, size - count))
        data = self._file.read(count)
        self._file.seek(at)
        return data, size

    def skip_rest(self) -> int:
        """Pass over everything. :returns: how many bytes there were"""
        return self.skip(1 << 63)

    def end(self, what: str) -> None:
        """:raises FormatError: something follows"""
        if self.peek(1):
            raise FormatError(f"something follows the end of the {what}", offset=self.offset)


def cut_short(what: str, start: int, end: int) -> FormatError:
    """The error for a piece that the end of the file cuts."""
    return FormatError(f"{what} is cut short: the file ends at byte {end}", offset=start)


def parse(
    declaration: Construct[Any, Any], data: bytes, what: str, offset: int, **context: int
) -> dict[str, Value]:
    """Interpret a declaration.

    :param what: the piece, for the message
    :param context: what the declaration wants to know of what surrounds it
    :raises FormatError: the bytes break it; says which field, and how
    """
    try:
        found = declaration.parse(data, **context)
    except ConstructError as error:
        name = str(error.path or "").rpartition("-> ")[2].strip()
        rule = str(error).splitlines()[-1].removeprefix("parsing ")
        where = f"{what}, {name}" if name and "(" not in name else what
        raise FormatError(f"{where}: {rule}", offset=offset) from None
    return fields_of(declaration, found)


def take(source: Source, name: str, declaration: Construct[Any, Any]) -> Piece:
    """The next piece, of a declaration that always has the same size.

    :raises FormatError: the bytes are not there, or break it
    """
    at = source.offset
    data = source.take(declaration.sizeof(), name)
    return Piece(at, name, len(data), parse(declaration, data, name, at))


def fields_of(declaration: Any, found: Mapping[str, Any]) -> dict[str, Value]:
    """The values of the declared fields; bytes of a fixed size are ids and the like, and become hexadecimal."""
    out: dict[str, Value] = {}
    for part in declaration.subcons:
        if isinstance(part, Renamed):
            name = str(part.name)
            kind = part.subcon.subcon if isinstance(part.subcon, Const) else part.subcon
            value = found[name]
            out[name] = value.hex() if type(kind).__name__ == "Bytes" and value is not None else value
    return out


def number(fields: Mapping[str, Value], name: str) -> int:
    """A field that is a number."""
    value = fields[name]
    assert isinstance(value, int)
    return value
