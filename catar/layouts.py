"""Fast layouts, derived from the declarations in `catar.schema` when this module is imported.

construct interprets a declaration for every record, some twenty times slower than `struct` (measured: 50 thousand
records a second against a million). So nothing here is written a second time: `derive` reads the fixed 64-bit fields
and the kind of tail off the declaration. `tests/test_catar/test_layouts.py` proves that both give the same bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum
from typing import Any

from construct import Const, Construct, FormatField, Renamed

from catar import schema

__all__ = ["BY_TYPE", "HEADER", "Layout", "Tail", "derive", "fixed_struct"]

HEADER = struct.Struct("<QQ")
"""size, type: the head of every record."""


class Tail(Enum):
    """What follows the fixed fields of a record."""

    NONE = "nothing"
    STRING = "bytes and a NUL"
    OPTIONAL_STRING = "nothing, or bytes and a NUL"
    RAW = "bytes to the end"
    STRING_RAW = "bytes and a NUL, then bytes to the end"
    TABLE = "goodbye items and tail"


@dataclass(frozen=True, slots=True)
class Layout:
    """How to pack and unpack one kind of record.

    :ivar row: the declaration this was derived from
    :ivar fields: names of the fixed 64-bit fields, in order
    :ivar head: header and fixed fields as one `struct.Struct`
    :ivar body: the fixed fields alone
    """

    row: schema.RecordRow
    fields: tuple[str, ...]
    tail: Tail
    head: struct.Struct
    body: struct.Struct

    @property
    def type(self) -> int:
        return self.row.type

    def pack(self, *values: int, tail: bytes = b"") -> bytes:
        """The record with these fixed fields, followed by `tail` as it stands (NULs included)."""
        return self.head.pack(self.head.size + len(tail), self.row.type, *values) + tail


def _is_u64(con: Construct[Any, Any]) -> bool:
    if isinstance(con, Const):
        con = con.subcon
    return isinstance(con, FormatField) and con.fmtstr in ("<Q", "<L") and con.length == 8


def _members(declaration: Any) -> list[tuple[str, Construct[Any, Any]]]:
    return [(str(c.name), c.subcon) for c in declaration.subcons if isinstance(c, Renamed)]


_TAILS: dict[tuple[int, ...], Tail] = {
    (): Tail.NONE,
    (id(schema.NUL_STRING),): Tail.STRING,
    (id(schema.OPTIONAL_NUL_STRING),): Tail.OPTIONAL_STRING,
    (id(schema.RAW),): Tail.RAW,
    (id(schema.NUL_STRING), id(schema.RAW)): Tail.STRING_RAW,
}


def fixed_struct(declaration: Construct[Any, Any]) -> struct.Struct:
    """The `struct` of a declaration made of 64-bit integers and `Bytes` only (index header, item, tail).

    :raises TypeError: when the declaration has anything else
    """
    fmt = "<"
    for name, con in _members(declaration):
        if _is_u64(con):
            fmt += "Q"
        elif type(con).__name__ == "Bytes":
            fmt += f"{con.sizeof()}s"
        else:
            raise TypeError(f"field {name} has no fixed layout")
    return struct.Struct(fmt)


def derive(row: schema.RecordRow) -> Layout:
    """Read a record's layout off its declaration.

    :raises TypeError: when the declaration uses a form that has no layout here
    """
    members = _members(row.body)
    count = 0
    while count < len(members) and _is_u64(members[count][1]):
        count += 1
    rest = members[count:]
    if row.body is schema.GOODBYE_BODY:
        tail = Tail.TABLE
    else:
        try:
            tail = _TAILS[tuple(id(con) for _, con in rest)]
        except KeyError:
            raise TypeError(f"{row.name}: no layout for {[name for name, _ in rest]}") from None
    fields = tuple(name for name, _ in members[:count])
    return Layout(row, fields, tail, struct.Struct("<QQ" + "Q" * count), struct.Struct("<" + "Q" * count))


BY_TYPE: dict[int, Layout] = {row.type: derive(row) for row in schema.ARCHIVE_RECORDS}

ENTRY = BY_TYPE[schema.ENTRY.type]
ACL_NAMED = BY_TYPE[schema.ACL_USER.type]
ACL_GROUP_OBJ = BY_TYPE[schema.ACL_GROUP_OBJ.type]
ACL_DEFAULT = BY_TYPE[schema.ACL_DEFAULT.type]
QUOTA_PROJID = BY_TYPE[schema.QUOTA_PROJID.type]
DEVICE = BY_TYPE[schema.DEVICE.type]

GOODBYE_ITEM = fixed_struct(schema.GOODBYE_ITEM)
GOODBYE_TAIL = fixed_struct(schema.GOODBYE_TAIL)
INDEX_HEADER = fixed_struct(schema.INDEX_HEADER)
INDEX_ITEM = fixed_struct(schema.INDEX_ITEM)
INDEX_TAIL = fixed_struct(schema.INDEX_TAIL)
