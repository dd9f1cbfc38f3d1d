"""Reads layouts off declarations such as those in `catar.schema`, and writes them down for Python and for C.

    python -m catar.derive                      # catar/_layouts.py and catar/_layouts.h
    python -m catar.derive casync_compat.schema # the same beside that module

construct interprets a declaration for every record, some twenty times slower than `struct` (measured: 50 thousand
records a second against a million), and importing it takes longer than listing a small archive. So programs read the
tables that this module writes, and neither it nor construct is imported then. Nothing is written a second time by hand:
tests prove that the files are what the declarations give today.

A schema module has `DECLARED`, a `catar.schema.Declared`. In `_layouts.py` that becomes

    NUMBER = 0x40
    STRUCTURE = ("end:Q id:32s", {constants})   # for catar.structs.Fields
    RECORDS = ((name, type, smallest, largest, "uid:Q gid:Q", tail), ...)   # for catar.structs.Layout
    ROW_NAME = "mode:Q name:Q"
    WORD_BIT = 0x1

and in `_layouts.h`, with the prefix P before all but rows and bits,

    P_NUMBER, P_STRUCTURE_SIZE, P_STRUCTURE_AT_FIELD
    P_RECORD_TYPE, P_RECORD_SMALLEST, P_RECORD_LARGEST, P_RECORD_HEAD, P_RECORD_AT_FIELD
    ROW_COLUMN, ROW_COLUMNS, WORD_BIT

where offsets are in bytes, those of a record count its header, and HEAD is the size of header and fixed fields.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from construct import Const, Construct, ConstructError, FormatField, Renamed

from catar import schema
from catar.schema import Declared
from catar.structs import Fields, Layout, Tail

__all__ = ["c_source", "constants", "derive", "fixed_fields", "python_source"]

_TAILS: dict[tuple[int, ...], Tail] = {
    (): Tail.NONE,
    (id(schema.NUL_STRING),): Tail.STRING,
    (id(schema.OPTIONAL_NUL_STRING),): Tail.OPTIONAL_STRING,
    (id(schema.RAW),): Tail.RAW,
    (id(schema.NUL_STRING), id(schema.RAW)): Tail.STRING_RAW,
}
_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}
_INT_MAX = (1 << 31) - 1
_LINE_MAX = 90


def _members(declaration: Any) -> list[tuple[str, Construct[Any, Any]]]:
    return [(str(c.name), c.subcon) for c in declaration.subcons if isinstance(c, Renamed)]


def _code(con: Construct[Any, Any]) -> str | None:
    """The `struct` code of a field: a little-endian number, or bytes of a fixed size. None for all else."""
    if isinstance(con, Const):
        con = con.subcon
    if isinstance(con, FormatField):
        code = _CODES[con.length]
        if con.fmtstr[0] == ">" and con.length > 1:
            return None
        if con.fmtstr[1] in (code.lower(), "l"):
            return code.lower()
        return code if con.fmtstr[1] in (code, "L") else None
    if type(con).__name__ == "Bytes":
        try:
            return f"{con.sizeof()}s"
        except (ConstructError, AttributeError):  # the latter for a size that another field tells
            return None
    return None


def fixed_fields(declaration: Construct[Any, Any]) -> str:
    """The fields of a structure of fixed size, as of `catar.structs.Fields`.

    :raises TypeError: when the declaration has anything but little-endian numbers and `Bytes`
    """
    fields = []
    for name, con in _members(declaration):
        code = _code(con)
        if code is None:
            raise TypeError(f"field {name} has no fixed layout")
        fields.append(f"{name}:{code}")
    return " ".join(fields)


def constants(declaration: Construct[Any, Any]) -> dict[str, int | bytes]:
    """Values of those fields of a structure that always have the same."""
    return {name: con.value for name, con in _members(declaration) if isinstance(con, Const)}


def derive(row: schema.RecordRow) -> Layout:
    """Read a record's layout off its declaration.

    :raises TypeError: when the declaration uses a form that has no layout here
    """
    members = _members(row.body)
    fields = []
    for name, con in members:
        code = _code(con)
        if code is None or not code.endswith(("Q", "s")):
            break
        fields.append(f"{name}:{code}")
    rest = members[len(fields) :]
    if row.body is schema.GOODBYE_BODY:
        tail = Tail.TABLE
    else:
        try:
            tail = _TAILS[tuple(id(con) for _, con in rest)]
        except KeyError:
            raise TypeError(f"{row.name}: no layout for {[name for name, _ in rest]}") from None
    return Layout(row.name, row.type, row.smallest, row.largest, " ".join(fields), tail)


def _literal(value: int | bytes) -> str:
    return repr(value) if isinstance(value, bytes) or value <= _INT_MAX else f"0x{value:X}"


def python_source(module: str, declared: Declared) -> str:
    """The text of `_layouts.py`.

    :param module: name of the schema module, whose declarations these are
    """
    lines = [
        f'"""The layouts of `{module}` as plain numbers.',
        "",
        f"Written by `python -m catar.derive {module}`, never by hand; a test proves that it is up to date.",
        '"""',
        "",
        "from __future__ import annotations",
        "",
    ]
    lines += [f"{name} = {_literal(value)}" for name, value in declared.numbers.items()]
    for word, bits in declared.bits.items():
        lines += [f"{word}_{bit} = {_literal(1 << place)}" for place, bit in enumerate(bits)]
    for row, columns in declared.rows.items():
        text = " ".join(f"{column}:Q" for column in columns)
        lines += [f"{row}_COLUMNS = (", *_wrapped(text, "    "), ")"]
    for name, declaration in declared.structs.items():
        lines += [f"{name}: tuple[str, dict[str, int | bytes]] = ("]
        lines += [*_wrapped(fixed_fields(declaration), "    ", ","), "    {"]
        lines += [f'        "{field}": {_literal(value)},' for field, value in constants(declaration).items()]
        lines += ["    },", ")"]
    if declared.records:
        lines += ["", "RECORDS: tuple[tuple[str, int, int, int, str, str], ...] = ("]
        lines.append("    # name, type, smallest and largest size, fixed fields, tail")
        for record in map(derive, declared.records):
            head = f'"{record.name}", 0x{record.type:016X}, {record.smallest}, {record.largest}'
            lines += [f"    ({head},", *_wrapped(_text(record.body), "     ", f', "{record.tail.name}"),')]
        lines.append(")")
    return "\n".join([*lines, ""])


def _text(fields: Fields) -> str:
    return " ".join(f"{name}:{code}" for name, code in fields.codes())


def _wrapped(text: str, before: str, after: str = "") -> Iterator[str]:
    """A text as string literals that follow one another, each on a line of its own."""
    line = ""
    for word in text.split(" "):
        if len(line) + len(word) > _LINE_MAX:
            yield f'{before}"{line}"'
            line = ""
        line += word + " "
    yield f'{before}"{line[:-1]}"{after}'


def c_source(module: str, declared: Declared) -> str:
    """The text of `_layouts.h`.

    :param module: name of the schema module, whose declarations these are
    """
    prefix = declared.prefix
    lines = [
        f"/* The layouts of {module} as numbers.",
        " *",
        f" * Written by `python -m catar.derive {module}`, never by hand; a test proves that it is up to date.",
        " * Sizes and offsets are in bytes; those of a record count its header.",
        " */",
        f"#ifndef {prefix}_LAYOUTS_H",
        f"#define {prefix}_LAYOUTS_H",
        "",
    ]
    lines += [f"#define {prefix}_{name} {_number(value)}" for name, value in declared.numbers.items()]
    for name, declaration in declared.structs.items():
        fields = Fields(fixed_fields(declaration))
        lines += ["", f"#define {prefix}_{name}_SIZE {fields.size}"]
        lines += _offsets(f"{prefix}_{name}", fields, fields.names)
    for row in declared.records:
        layout = derive(row)
        name = f"{prefix}_{row.name}"
        lines += ["", f"#define {name}_TYPE {_number(row.type)}"]
        lines += [f"#define {name}_SMALLEST {row.smallest}", f"#define {name}_LARGEST {_number(row.largest)}"]
        lines += [f"#define {name}_HEAD {layout.head.size}", *_offsets(name, layout.head, layout.fields)]
    for name, columns in declared.rows.items():
        names = [f"{name}_{column.upper()}" for column in (*columns, "columns")]
        lines += ["", "enum {", *(f"    {name}," for name in names), "};"]
    for name, bits in declared.bits.items():
        names = [f"{name}_{bit} = 1 << {place}" for place, bit in enumerate(bits)]
        lines += ["", "enum {", *(f"    {name}," for name in names), "};"]
    return "\n".join([*lines, "", "#endif", ""])


def _number(value: int) -> str:
    return str(value) if value <= _INT_MAX else f"0x{value:X}ULL"


def _offsets(name: str, layout: Fields, fields: tuple[str, ...]) -> list[str]:
    return [f"#define {name}_AT_{field.upper()} {layout.at(field)}" for field in fields]


def write(module: str) -> None:
    """Write `_layouts.py` and `_layouts.h` beside a schema module."""
    declarations = import_module(module)
    directory = (declarations.__file__ or "").rpartition("/")[0]
    for name, source in (("_layouts.py", python_source), ("_layouts.h", c_source)):
        with open(f"{directory}/{name}", "w", encoding="ascii") as file:
            file.write(source(module, declarations.DECLARED))


if __name__ == "__main__":
    write(sys.argv[1] if len(sys.argv) > 1 else "catar.schema")
