"""The tables of catar/FORMAT.md that say what the declarations say, made of them.

    cd tests && python -m test_catar.format_tables

writes them between their markers. What a field means, and where a rule comes from, is written by hand around them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from construct import Construct, Renamed

import casync_compat.schema
from catar import schema
from catar.derive import constants, derive, fixed_fields
from catar.flags import OPTION_NAMES
from catar.structs import Fields, Tail

__all__ = ["PATH", "filled"]

PATH = Path(__file__).parents[2] / "catar" / "FORMAT.md"
_MARKED = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_FLAG_COLUMNS = 3
_TAILS = {
    Tail.NONE: (),
    Tail.STRING: ("{}",),
    Tail.OPTIONAL_STRING: ("[{}]",),
    Tail.RAW: ("{}...",),
    Tail.STRING_RAW: ("{}", "{}..."),
    Tail.TABLE: ("{}...", "{}"),
}


def _table(head: str, rows: Iterable[Iterable[object]]) -> Iterator[str]:
    columns = head.split("|")
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for row in rows:
        yield f"| {' | '.join(map(str, row))} |".replace("  ", " ")


def _sizes(row: schema.RecordRow) -> str:
    if row.smallest == row.largest:
        return str(row.smallest)
    return f"{row.smallest}.." if row.largest >= 1 << 62 else f"{row.smallest}..{row.largest}"


def _body(row: schema.RecordRow) -> str:
    """Names of the fields, those of no fixed size in a form that shows what they are."""
    names = [str(part.name) for part in row.body.subcons if isinstance(part, Renamed)]
    layout = derive(row)
    fixed = len(layout.fields)
    forms = ["{}"] * fixed + list(_TAILS[layout.tail])
    return ", ".join(form.format(name) for form, name in zip(forms, names, strict=True))


def _records() -> Iterator[str]:
    return _table(
        "record|type|body|record size",
        ((row.name, f"{row.type:016x}", _body(row), _sizes(row)) for row in schema.ARCHIVE_RECORDS),
    )


def _structure(*parts: tuple[str, Construct[Any, Any]]) -> Iterator[str]:
    """Fields of structures of fixed size: offset in the structure, name, bytes, and the value where it is fixed."""
    rows: list[tuple[object, ...]] = []
    for name, declaration in parts:
        layout = Fields(fixed_fields(declaration))
        ends = [*map(layout.at, layout.names[1:]), layout.size]
        fixed = constants(declaration)
        for field, end in zip(layout.names, ends, strict=True):
            at = layout.at(field)
            value = fixed.get(field, "")
            shown = f"{value:x}" if isinstance(value, int) and value > 1 << 32 else value
            rows.append((name, at, field, end - at, shown))
    if len(parts) == 1:
        return _table("offset|field|bytes|always", (row[1:] for row in rows))
    return _table("part|offset|field|bytes|always", rows)


def _flags() -> Iterator[str]:
    cells = [(flag.bit_length() - 1, name) for name, flag in OPTION_NAMES.items()]
    height = -(-len(cells) // _FLAG_COLUMNS)
    rows = [[cell for pair in cells[at::height] for cell in pair] for at in range(height)]
    return _table("|".join(["bit|option"] * _FLAG_COLUMNS), rows)


_TABLES = {
    "header": lambda: _structure(("header", schema.HEADER)),
    "records": _records,
    "goodbye": lambda: _structure(("item", schema.GOODBYE_ITEM), ("tail", schema.GOODBYE_TAIL)),
    "flags": _flags,
    "index": lambda: _structure(
        ("header", casync_compat.schema.INDEX_HEADER),
        ("item", casync_compat.schema.INDEX_ITEM),
        ("tail", casync_compat.schema.INDEX_TAIL),
    ),
}


def filled(text: str) -> str:
    """The document with its tables as the declarations have them.

    :raises KeyError: it asks for a table that there is not
    """
    return _MARKED.sub(lambda match: "\n".join([match[1], *_TABLES[match[2]](), "", match[3]]), text)


if __name__ == "__main__":
    PATH.write_text(filled(PATH.read_text()))
