"""The declarations in construct and the `struct` layouts derived from them say the same, both ways."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from construct import (
    Bytes,
    Const,
    ConstructError,
    FixedSized,
    Float64l,
    GreedyBytes,
    Int8ul,
    Int16ul,
    Int32sl,
    Int32ub,
    Int32ul,
    Int64ub,
    Int64ul,
    NullTerminated,
    Struct,
    Terminated,
    this,
)
from fixtures import make_catar
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import text, u64

import casync_compat.schema
from casync_compat import _layouts as casync_layouts
from catar import layouts, schema
from catar.derive import c_source, constants, derive, fixed_fields, python_source
from catar.layouts import BY_TYPE
from catar.schema import ARCHIVE_RECORDS, Declared, RecordRow, record
from catar.structs import Fields, Layout, Tail

from .feeding import fixture

EVERY_ROW = pytest.mark.parametrize("row", ARCHIVE_RECORDS, ids=lambda row: row.name)
LARGE = 1 << 32
"""Bytes; rows that accept as much have no limit worth filling."""


def tails(row: RecordRow, layout: Layout) -> st.SearchStrategy[tuple[dict[str, Any], bytes]]:
    """What may follow the fixed fields of a record: as fields for construct, and as bytes."""
    names = [subcon.name for subcon in row.body.subcons if subcon.name][len(layout.fields) :]
    raw = st.binary(max_size=60)
    if layout.tail is Tail.NONE:
        return st.just(({}, b""))
    if layout.tail is Tail.STRING:
        return text(40).map(lambda name: ({names[0]: name}, name + b"\0"))
    if layout.tail is Tail.OPTIONAL_STRING:
        named = text(40).map(lambda name: ({names[0]: name}, name + b"\0"))
        return st.just(({names[0]: None}, b"")) | named
    if layout.tail is Tail.RAW:
        return raw.map(lambda data: ({names[0]: data}, data))
    if layout.tail is Tail.STRING_RAW:
        attribute = text(20).map(lambda name: b"user." + name)
        return st.builds(lambda n, data: ({names[0]: n, names[1]: data}, n + b"\0" + data), attribute, raw)
    return st.lists(st.tuples(u64(), u64(), u64()), max_size=9).flatmap(_goodbye)


def _goodbye(items: list[tuple[int, int, int]]) -> st.SearchStrategy[tuple[dict[str, Any], bytes]]:
    size = 16 + 24 * len(items) + 24
    fields = [dict(zip(("offset", "size", "hash"), item, strict=True)) for item in items]
    packed = b"".join(layouts.GOODBYE_ITEM.pack(*item) for item in items)

    def with_tail(entry: int) -> tuple[dict[str, Any], bytes]:
        tail = {"entry_offset": entry, "size": size, "marker": schema.GOODBYE_TAIL_MARKER}
        return {"items": fields, "tail": tail}, packed + layouts.GOODBYE_TAIL.pack(*tail.values())

    return u64().map(with_tail)


def plain(value: Any) -> Any:
    """A construct result as plain dicts and lists, without its private fields."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items() if not key.startswith("_")}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value


@pytest.mark.parametrize("module", [schema, casync_compat.schema], ids=["catar", "casync_compat"])
def test_tables_are_fresh(module: Any) -> None:
    """`_layouts.py` and `_layouts.h` are what `python -m catar.derive` writes today: nothing is there undeclared."""
    directory = Path(module.__file__).parent
    assert (directory / "_layouts.py").read_text() == python_source(module.__name__, module.DECLARED)
    assert (directory / "_layouts.h").read_text() == c_source(module.__name__, module.DECLARED)


@EVERY_ROW
def test_layouts_of_the_declarations(row: RecordRow) -> None:
    """Type, name, limits, fields and tail of a layout are those of its declaration."""
    layout, derived = BY_TYPE[row.type], derive(row)
    assert (layout.name, layout.type) == (row.name, row.type)
    for name in ("name", "type", "smallest", "largest", "fields", "tail"):
        assert getattr(layout, name) == getattr(derived, name)
    assert getattr(layouts, row.name) is layout


@EVERY_ROW
@settings(max_examples=40)
@given(data=st.data())
def test_both_ways(row: RecordRow, data: st.DataObject) -> None:
    """For any values, the layout packs what construct builds, and each unpacks what the other made."""
    layout = BY_TYPE[row.type]
    fixed = {name: data.draw(u64()) for name in layout.fields}
    fields, tail = data.draw(tails(row, layout))
    body = fixed | fields
    packed = layout.pack(*fixed.values(), tail=tail)
    reference = record(row)
    assert reference.build({"size": len(packed), "body": body}) == packed
    parsed = reference.parse(packed)
    assert plain(parsed.body) == body
    size, type_, *values = layout.head.unpack_from(packed)
    assert (size, type_) == (len(packed), row.type)
    assert dict(zip(layout.fields, values, strict=True)) == fixed
    assert layout.body.unpack_from(packed, 16) == tuple(fixed.values())
    assert packed[layout.head.size :] == tail


@EVERY_ROW
def test_limits(row: RecordRow) -> None:
    """The reference refuses a record just outside its limits before it reads the body, and one of another type."""
    reference = record(row)
    for size in (row.smallest - 1, row.largest + 1):
        if size < 1 << 64:
            with pytest.raises(ConstructError, match="check"):
                reference.parse(struct.pack("<QQ", size, row.type))
    smallest = struct.pack("<QQ", row.smallest, row.type ^ 1) + bytes(row.smallest - 16)
    with pytest.raises(ConstructError):
        reference.parse(smallest)


@pytest.mark.parametrize(
    "row", [row for row in ARCHIVE_RECORDS if row.largest < LARGE], ids=lambda row: row.name
)
def test_largest(row: RecordRow) -> None:
    """A record of the largest size is accepted, where there is a limit to try."""
    layout = BY_TYPE[row.type]
    room = row.largest - layout.head.size
    if layout.tail in (Tail.STRING, Tail.OPTIONAL_STRING):
        tail = b"n" * (room - 1) + b"\0"
    elif layout.tail is Tail.STRING_RAW:
        tail = b"user." + b"n" * 250 + b"\0" + bytes(room - 256)
    else:
        tail = bytes(room)
    packed = layout.pack(*range(len(layout.fields)), tail=tail)
    assert len(packed) == row.largest
    assert record(row).parse(packed).size == row.largest


@EVERY_ROW
def test_types_are_casyncs(row: RecordRow) -> None:
    """Each type number occurs in an archive that casync wrote, and is the one written down beside the fixtures."""
    number = row.type.to_bytes(8, "little")
    assert any(number in fixture(name) for name in make_catar.REAL)
    assert getattr(make_catar, row.name) == row.type


def test_rows_are_distinct() -> None:
    """No two rows share a type or a name, and limits are in order."""
    assert len(BY_TYPE) == len(ARCHIVE_RECORDS) == 18
    assert len({row.name for row in ARCHIVE_RECORDS}) == 18
    assert all(16 <= row.smallest <= row.largest < schema.UINT64_MAX for row in ARCHIVE_RECORDS)


FIXED = {
    "goodbye item": (schema.GOODBYE_ITEM, layouts.GOODBYE_ITEM, 24),
    "goodbye tail": (schema.GOODBYE_TAIL, layouts.GOODBYE_TAIL, 24),
    "index header": (casync_compat.schema.INDEX_HEADER, Fields(*casync_layouts.INDEX_HEADER), 64),
    "index item": (casync_compat.schema.INDEX_ITEM, Fields(*casync_layouts.INDEX_ITEM), 40),
    "index tail": (casync_compat.schema.INDEX_TAIL, Fields(*casync_layouts.INDEX_TAIL), 40),
}


@pytest.mark.parametrize("name", FIXED)
@settings(max_examples=40)
@given(data=st.data())
def test_fixed_structs(name: str, data: st.DataObject) -> None:
    """Structures of fixed size agree, too; constants of the declaration are constants of its bytes."""
    declaration, layout, size = FIXED[name]
    assert layout.size == declaration.sizeof() == size
    values: dict[str, Any] = {}
    for subcon in declaration.subcons:
        constant = getattr(subcon.subcon, "value", None)
        width = subcon.sizeof()
        free = u64() if width == 8 else st.binary(min_size=width, max_size=width)
        values[subcon.name] = data.draw(free) if constant is None else constant
    packed = layout.pack(*values.values())
    assert declaration.build(values) == packed
    assert plain(declaration.parse(packed)) == values
    assert layout.unpack(packed) == tuple(values.values())


@pytest.mark.parametrize(
    "body",
    [
        Struct("narrow" / Int32ul, Terminated),
        Struct("swapped" / Int64ub, Terminated),
        Struct("raw" / schema.RAW, "late" / Int64ul),
        Struct("odd" / FixedSized(3, GreedyBytes), Terminated),
        Struct("other" / NullTerminated(GreedyBytes), Terminated),
        Struct("count" / Int64ul, "counted" / Bytes(this.count)),
    ],
    ids=["32 bit", "big-endian", "field after rest", "fixed size", "undeclared form", "counted"],
)
def test_no_layout(body: Any) -> None:
    """A declaration that the layouts cannot express is refused when the table is written, not misread later."""
    with pytest.raises(TypeError, match="no layout"):
        derive(RecordRow("ODD", 1, body, 16, 64))


def test_no_fixed_layout() -> None:
    """The same goes for structures of fixed size."""
    for part in ("swapped" / Int32ub, "real" / Float64l, "rest" / schema.RAW, "counted" / Bytes(this.count)):
        with pytest.raises(TypeError, match="no fixed layout"):
            fixed_fields(Struct(part))


ODD = Struct(
    "magic" / Const(b'odd\n"'),
    "version" / Const(3, Int32ul),
    "count" / Int16ul,
    "kind" / Int8ul,
    "digest" / Bytes(5),
    "total" / Int64ul,
    "offset" / Int32sl,
)


def test_structures_of_any_width() -> None:
    """Numbers of 8 to 64 bits and bytes, constants among them, for formats that are not made of 64-bit numbers."""
    fields = Fields(fixed_fields(ODD), constants(ODD))
    assert fields.size == ODD.sizeof() == 29
    values = {"count": 7, "kind": 1, "digest": b"abcde", "total": 1 << 60, "offset": -5}
    packed = ODD.build(values)
    assert fields.writer(*values)(*values.values()) == packed
    assert fields.reader(*reversed(values))(b"x" + packed, 1) == tuple(reversed(values.values()))
    assert list(fields.row_reader("total", "kind")(packed * 2)) == [(1 << 60, 1)] * 2
    assert list(fields.row_reader("kind")(packed)) == [(1,)]
    assert [fields.at(name) for name in fields.names] == [0, 5, 9, 11, 12, 17, 25]
    assert fields.has_constants(packed, 0)
    assert not fields.has_constants(b"O" + packed[1:], 0)
    assert fields.has_constants(b"O" + packed[1:], 0, "version")


def test_both_files_say_the_same() -> None:
    """What is declared stands in the Python table and in the C header, under the names that `catar.derive` promises."""
    body = Struct("id" / Bytes(32), "number" / Int64ul, "name" / schema.NUL_STRING, Terminated)
    row = RecordRow("THING", 1 << 63, body, 58, 100)
    declared = Declared(
        prefix="P",
        numbers={"LIMIT": 9, "MANY": 1 << 40},
        structs={"ODD": ODD},
        records=(row,),
        rows={"LINE": ("first", "second")},
        bits={"ASK": ("ONE", "TWO")},
    )
    found: dict[str, Any] = {}
    exec(python_source("some.schema", declared), found)
    assert (found["LIMIT"], found["MANY"]) == (9, 1 << 40)
    assert Fields(*found["ODD"]).constants == {"magic": b'odd\n"', "version": 3}
    assert found["RECORDS"] == (("THING", 1 << 63, 58, 100, "id:32s number:Q", "STRING"),)
    assert (found["LINE_COLUMNS"], found["ASK_ONE"], found["ASK_TWO"]) == ("first:Q second:Q", 1, 2)
    header = c_source("some.schema", declared)
    for line in (
        *("#define P_LIMIT 9", "#define P_MANY 0x10000000000ULL", "#define P_ODD_SIZE 29"),
        *(
            "#define P_ODD_AT_COUNT 9",
            "#define P_THING_TYPE 0x8000000000000000ULL",
            "#define P_THING_HEAD 56",
        ),
        *("#define P_THING_SMALLEST 58", "#define P_THING_LARGEST 100", "#define P_THING_AT_NUMBER 48"),
        *("    LINE_FIRST,", "    LINE_SECOND,", "    LINE_COLUMNS,", "    ASK_TWO = 1 << 1,"),
    ):
        assert line in header.splitlines()
