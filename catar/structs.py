"""Binary layouts as values: fields by name, packed and unpacked by `struct`.

The tables that `catar.derive` writes are texts like `"end:Q id:32s"`, a name and a `struct` code for each field; here
they become what programs use. Fields are asked for by name, so that whoever reads or writes them follows the
declaration wherever it puts them; asked for in the order of the declaration, that costs nothing.

    >>> item = Fields("end:Q id:32s")
    >>> read = item.reader("end")
    >>> read(data, offset)
    (4096,)

Nothing here knows a format, nor checks a value: `catar.layouts` has those of archives.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["Fields", "Layout", "Tail"]

Values: TypeAlias = tuple[Any, ...]

_HEADER = "size:Q type:Q"


class Tail(Enum):
    """What follows the fixed fields of a record."""

    NONE = "nothing"
    STRING = "bytes and a NUL"
    OPTIONAL_STRING = "nothing, or bytes and a NUL"
    RAW = "bytes to the end"
    STRING_RAW = "bytes and a NUL, then bytes to the end"
    TABLE = "goodbye items and tail"


class Fields:
    """Fields of fixed size, one behind the other and nothing between them.

    :param declared: `name:code` for each, separated by spaces
    :param constants: values of those fields that always have the same
    :param order: of the bytes of numbers, as `struct` has it; "=" for rows that never leave the machine

    :ivar names: of the fields, in order
    :ivar size: of all, in bytes
    :ivar pack: all values, in order, to bytes; `unpack`, `unpack_from`, `iter_unpack` back, as of `struct.Struct`
    """

    __slots__ = ("_codes", "constants", "iter_unpack", "names", "pack", "size", "unpack", "unpack_from")

    def __init__(
        self, declared: str, constants: Mapping[str, int | bytes] | None = None, order: str = "<"
    ) -> None:
        pairs = [field.split(":") for field in declared.split()]
        self.names = tuple(name for name, _ in pairs)
        self._codes = (order, *(code for _, code in pairs))
        self.constants: Mapping[str, int | bytes] = constants or {}
        layout = struct.Struct("".join(self._codes))
        self.size = layout.size
        self.pack = layout.pack
        self.unpack = layout.unpack
        self.unpack_from = layout.unpack_from
        self.iter_unpack = layout.iter_unpack

    def at(self, name: str) -> int:
        """Offset of a field, in bytes."""
        return struct.calcsize("".join(self._codes[: 1 + self.names.index(name)]))

    def codes(self) -> Iterator[tuple[str, str]]:
        """Names and `struct` codes of the fields."""
        return zip(self.names, self._codes[1:], strict=True)

    def column(self, name: str) -> int:
        """Number of a field: of its column where all have 64 bits and a buffer is looked at as such numbers."""
        return self.names.index(name)

    def has_constants(self, buffer: ReadableBuffer, offset: int, *names: str) -> bool:
        """Whether these constants, all without names, have their values at an offset of a buffer."""
        values = dict(zip(self.names, self.unpack_from(buffer, offset), strict=True))
        return all(values[name] == self.constants[name] for name in names or self.constants)

    def reader(self, *names: str) -> Callable[[ReadableBuffer, int], Values]:
        """What reads these fields, in this order, out of a buffer at an offset."""
        if names == self.names:
            return self.unpack_from
        pick, unpack_from = self._picker(names), self.unpack_from
        return lambda buffer, offset: pick(unpack_from(buffer, offset))

    def row_reader(self, *names: str) -> Callable[[ReadableBuffer], Iterator[Values]]:
        """What reads these fields of rows that fill a buffer, a row at a time."""
        if names == self.names:
            return self.iter_unpack
        pick, iter_unpack = self._picker(names), self.iter_unpack
        return lambda rows: map(pick, iter_unpack(rows))

    def writer(self, *names: str) -> Callable[..., bytes]:
        """What packs values of these fields, in this order. The others are constants, or zero."""
        blank: list[Any] = [
            self.constants.get(name, b"" if code.endswith("s") else 0) for name, code in self.codes()
        ]
        before = len(self.names) - len(names)
        if names == self.names[before:] and all(name in self.constants for name in self.names[:before]):
            return partial(self.pack, *blank[:before]) if before else self.pack
        places = [self.names.index(name) for name in names]
        pack = self.pack

        def write(*values: Any) -> bytes:
            row = blank.copy()
            for place, value in zip(places, values, strict=True):
                row[place] = value
            return pack(*row)

        return write

    def _picker(self, names: tuple[str, ...]) -> Callable[[Values], Values]:
        places = [self.names.index(name) for name in names]
        if len(places) == 1:
            (place,) = places
            return lambda values: (values[place],)
        return itemgetter(*places)


class Layout:
    """How to pack and unpack one kind of record: a header with its size and type, fixed fields, a tail.

    :param declared: the fixed fields, as of `Fields`

    :ivar name: the format's name for it
    :ivar type: the 64-bit number that marks it
    :ivar smallest: smallest record size a reader accepts, header included, in bytes
    :ivar largest: largest such size
    :ivar fields: names of the fixed fields, in order
    :ivar head: header and fixed fields
    :ivar body: the fixed fields alone
    :ivar room: most bytes behind the fixed fields, a NUL included
    """

    __slots__ = ("body", "fields", "head", "largest", "name", "room", "smallest", "tail", "type")

    def __init__(self, name: str, type: int, smallest: int, largest: int, declared: str, tail: Tail) -> None:
        self.name = name
        self.type = type
        self.smallest = smallest
        self.largest = largest
        self.tail = tail
        self.body = Fields(declared)
        self.fields = self.body.names
        self.head = Fields(f"{_HEADER} {declared}")
        self.head.constants = {"size": self.head.size, "type": type}
        self.room = largest - self.head.size

    def pack(self, *values: Any, tail: bytes = b"") -> bytes:
        """The record with these fixed fields, followed by `tail` as it stands (NULs included)."""
        return self.head.pack(self.head.size + len(tail), self.type, *values) + tail

    def accepts(self, size: int) -> bool:
        """Whether a reader takes a record of this size, in bytes."""
        return self.smallest <= size <= self.largest
