"""What FORMAT.md says in its tables is what the code does."""

from __future__ import annotations

import pytest
from fixtures import make_catar

import casync_compat.schema
from catar import schema
from catar.flags import NAMED_SETS, OPTION_NAMES
from catar.goodbye import HASH_KEY, level_order
from catar.grammar import MAX_DEPTH
from catar.schema import ARCHIVE_RECORDS, RecordRow

from .format_tables import PATH, filled

TEXT = PATH.read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.splitlines()
    if line.startswith("|")
]


def test_tables_are_fresh() -> None:
    """The tables between markers are what the declarations give today."""
    assert filled(TEXT) == TEXT
    assert TEXT.count("<!-- generated: ") == TEXT.count("<!-- end -->") == 5


@pytest.mark.parametrize("row", ARCHIVE_RECORDS, ids=lambda row: row.name)
def test_records(row: RecordRow) -> None:
    """Each record is listed with its type and the sizes that are accepted."""
    (cells,) = [cells for cells in ROWS if cells[0] == row.name and len(cells) == 4 and len(cells[1]) == 16]
    assert int(cells[1], 16) == row.type
    sizes = cells[3].split()[0]
    if row.smallest == row.largest:
        assert sizes == str(row.smallest)
    elif row.largest >= 1 << 62:
        assert sizes == f"{row.smallest}.."
    else:
        assert sizes == f"{row.smallest}..{row.largest}"


def test_flags() -> None:
    """Each option stands beside its bit."""
    found = {}
    for cells in ROWS:
        if len(cells) == 6:
            found |= {name: bit for bit, name in zip(cells[::2], cells[1::2], strict=True) if bit.isdecimal()}
    assert found == {name: str(flag.bit_length() - 1) for name, flag in OPTION_NAMES.items()}


def test_named_sets() -> None:
    """Each composite name has its value."""
    found = {
        cells[0]: cells[1].partition(":")[0] for cells in ROWS if cells[0] in NAMED_SETS and len(cells) == 2
    }
    assert found == {name: f"{value:x}" for name, value in NAMED_SETS.items()}


def test_fixtures_that_are_named() -> None:
    """Every fixture that the text points to is there."""
    real, broken = set(make_catar.REAL), set(make_catar.broken())
    for name in ("usec-time", "minus-one-ns", "dotted-name", "names-without-ids", "unordered", "before-1970"):
        assert name in TEXT
        assert name in real
    assert "project-invalid" in TEXT
    assert "project-invalid" in make_catar.by_hand()
    for name in (
        "name-4096",
        "xattr-value-too-large",
        "goodbye-huge",
        "goodbye-hash",
        "empty",
    ):
        assert name in TEXT
        assert name in broken


def test_numbers_in_the_text() -> None:
    """Keys, markers and limits that stand in the text are those of the code."""
    text = TEXT.replace(" ", "").replace("\n", "")
    assert HASH_KEY.hex() in text
    for number in (
        schema.GOODBYE_TAIL_MARKER,
        casync_compat.schema.TABLE_TAIL_MARKER,
        casync_compat.schema.INDEX_TYPE,
        casync_compat.schema.TABLE_TYPE,
        make_catar.FLAGS,
    ):
        assert f"{number:x}" in text
    assert f"atmost{MAX_DEPTH}nodes" in text
    assert schema.NODE_METADATA_MAX == 64 << 20
    assert "morethan64MiBofmetadata" in text
    assert "".join(map(str, level_order(10))) in text
