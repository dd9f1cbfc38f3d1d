"""Reads the layouts off the declarations in `catar.schema`, and writes them down as `catar/_layouts.py`.

    python -m catar.derive > layouts.new && mv layouts.new catar/_layouts.py

construct interprets a declaration for every record, some twenty times slower than `struct` (measured: 50 thousand
records a second against a million), and importing it takes longer than listing a small archive. So programs read the
table that this module writes, and neither it nor construct is imported then. Nothing is written a second time by hand:
`tests/test_catar/test_layouts.py` proves that the table is what the declarations give today.
"""

from __future__ import annotations

import sys
from typing import Any

from construct import Const, Construct, FormatField, Renamed

from catar import schema
from catar.layouts import Layout, Tail

__all__ = ["derive", "fixed_format", "source"]

_CONSTANTS = (
    "UINT64_MAX",
    "NODE_METADATA_MAX",
    "NODE_RECORDS_MAX",
    "GOODBYE_TAIL_MARKER",
    "INDEX_TYPE",
    "TABLE_TYPE",
    "TABLE_TAIL_MARKER",
    "MAX_CHUNK_SIZE",
)
_STRUCTS = ("GOODBYE_ITEM", "GOODBYE_TAIL", "INDEX_HEADER", "INDEX_ITEM", "INDEX_TAIL")
_TAILS: dict[tuple[int, ...], Tail] = {
    (): Tail.NONE,
    (id(schema.NUL_STRING),): Tail.STRING,
    (id(schema.OPTIONAL_NUL_STRING),): Tail.OPTIONAL_STRING,
    (id(schema.RAW),): Tail.RAW,
    (id(schema.NUL_STRING), id(schema.RAW)): Tail.STRING_RAW,
}


def _is_u64(con: Construct[Any, Any]) -> bool:
    if isinstance(con, Const):
        con = con.subcon
    return isinstance(con, FormatField) and con.fmtstr in ("<Q", "<L") and con.length == 8


def _members(declaration: Any) -> list[tuple[str, Construct[Any, Any]]]:
    return [(str(c.name), c.subcon) for c in declaration.subcons if isinstance(c, Renamed)]


def fixed_format(declaration: Construct[Any, Any]) -> str:
    """The `struct` format of a declaration made of 64-bit integers and `Bytes` only (index header, item, tail).

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
    return fmt


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
    return Layout(row.name, row.type, row.smallest, row.largest, fields, tail)


def source() -> str:
    """The text of `catar/_layouts.py`."""
    lines = [
        '"""The layouts of `catar.schema` as plain numbers, for `catar.layouts`.',
        "",
        "Written by `python -m catar.derive`, never by hand; a test proves that it is up to date.",
        '"""',
        "",
        "from __future__ import annotations",
        "",
    ]
    lines += [f"{name} = 0x{getattr(schema, name):X}" for name in _CONSTANTS]
    lines += [f'{name} = "{fixed_format(getattr(schema, name))}"' for name in _STRUCTS]
    lines += ["", "RECORDS: tuple[tuple[str, int, int, int, str, str], ...] = ("]
    lines.append("    # name, type, smallest and largest size, fixed fields, tail")
    for row in schema.ARCHIVE_RECORDS:
        layout = derive(row)
        sizes = f"{layout.smallest}, {layout.largest}"
        fields = " ".join(layout.fields)
        lines.append(f'    ("{row.name}", 0x{row.type:016X}, {sizes}, "{fields}", "{layout.tail.name}"),')
    return "\n".join([*lines, ")", ""])


if __name__ == "__main__":
    sys.stdout.write(source())
