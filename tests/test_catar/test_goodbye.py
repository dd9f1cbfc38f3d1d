"""The lookup table at a directory's end: casync's hash and order, and every name is found in it."""

from __future__ import annotations

import random
import struct
from array import array
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import names

from catar import goodbye
from catar.goodbye import ChildTable, find, hash_name, level_order, parse_tail, record_size
from catar.layouts import GOODBYE_ITEM

from .feeding import fixture

HASHES = {
    b"a": 0x51BA5A19E058C7AD,
    b"b": 0x9007695395E7DF8F,
    b"B": 0x06292DF697C901D3,
    b"a.txt": 0x30DBB40A12778187,
    b"a-b": 0x204BAC6C4D9E81F5,
    b"a.b": 0x60B841AA4768267D,
    b"dir": 0x6B24EFE599FA858C,
    b"f": 0x61CFFDBFF93EC8E0,
    b"hello": 0xE2E033B44A10AF27,
    b".caexclude": 0x3894E83FB6320D37,
    b"xxxxxxxx": 0x7371F97A7592AD4E,
    "äöü".encode(): 0x44D496468DA364A0,
}
"""Seen in archives that casync 2 wrote."""

ORDERS = {
    1: [0],
    2: [1, 0],
    3: [1, 0, 2],
    4: [2, 1, 3, 0],
    5: [3, 1, 4, 0, 2],
    6: [3, 1, 5, 0, 2, 4],
    7: [3, 1, 5, 0, 2, 4, 6],
    8: [4, 2, 6, 1, 3, 5, 7, 0],
    9: [5, 3, 7, 1, 4, 6, 8, 0, 2],
    10: [6, 3, 8, 1, 5, 7, 9, 0, 2, 4],
    12: [7, 3, 10, 1, 5, 9, 11, 0, 2, 4, 6, 8],
    20: [12, 7, 16, 3, 10, 14, 18, 1, 5, 9, 11, 13, 15, 17, 19, 0, 2, 4, 6, 8],
}
"""The rank of the item at each position, in tables that casync 2 wrote."""


@pytest.mark.parametrize("name", HASHES)
def test_hash(name: bytes) -> None:
    """Names hash as casync hashes them."""
    assert hash_name(name) == HASHES[name]


@pytest.mark.parametrize("count", ORDERS)
def test_order(count: int) -> None:
    """Items stand where casync puts them."""
    assert list(level_order(count)) == ORDERS[count]


@pytest.mark.parametrize("count", [*range(70), 255, 256, 257, 1000, 4095, 4096])
def test_order_is_a_search_tree(count: int) -> None:
    """Walked in order, the tree gives every rank once, rising, whatever the number of items."""
    order = level_order(count)
    ranks: list[int] = []

    def visit(i: int) -> None:
        if i < count:
            visit(2 * i + 1)
            ranks.append(order[i])
            visit(2 * i + 2)

    visit(0)
    assert ranks == list(range(count))


def table_of(children: list[bytes], start: int = 64, size: int = 100) -> tuple[ChildTable, int]:
    """A table with these children, each `size` bytes long from `start` on, and where its record stands."""
    table = ChildTable(0)
    for i, name in enumerate(children):
        table.add(name, start + i * size)
    return table, start + len(children) * size


def lookup(record: bytes, name: bytes) -> list[tuple[int, int]]:
    """Look a name up in a GOODBYE record, counting that no more items are read than the tree is deep."""
    count = (len(record) - record_size(0)) // goodbye.ITEM_SIZE
    reads: list[int] = []

    def read_item(i: int) -> bytes:
        reads.append(i)
        at = 16 + i * goodbye.ITEM_SIZE
        return record[at : at + goodbye.ITEM_SIZE]

    found = list(find(read_item, count, name))
    assert len(set(reads)) == len(reads)
    assert len(reads) <= count.bit_length() * (len(found) + 1)
    return found


@given(st.lists(names(), unique=True, max_size=40))
def test_every_name_is_found(children: list[bytes]) -> None:
    """Each child is found with its offset and size, and nothing else is."""
    children.sort()
    table, end = table_of(children)
    record = table.record(end)
    assert len(record) == record_size(len(children))
    for i, name in enumerate(children):
        assert lookup(record, name) == [(end - (64 + i * 100), 100)]
    assert lookup(record, b"/never/a/name") == []


@pytest.mark.parametrize("count", [1000, 5000])
def test_big_directories(count: int) -> None:
    """In a big directory, too, and with few reads."""
    children = sorted(b"entry-%05d" % (i * 7919 % 100000) for i in range(count))
    table, end = table_of(children, size=90)
    record = table.record(end)
    for i in random.Random(1).sample(range(count), 200):
        assert lookup(record, children[i]) == [(end - (64 + i * 90), 90)]
    assert lookup(record, b"entry") == []


@pytest.mark.parametrize("count", [2, 3, 7, 8, 30])
def test_equal_hashes_are_all_found(count: int) -> None:
    """Where hashes collide, every item with the hash is offered, in whichever half of the tree it stands."""
    table, end = table_of([b"%03d" % i for i in range(count)])
    for i in range(0, count, 2):
        table.hashes[i] = hash_name(b"wanted")
    items = [GOODBYE_ITEM.pack(*item) for item in GOODBYE_ITEM.iter_unpack(table.record(end)[16:-24])]
    found = list(find(items.__getitem__, count, b"wanted"))
    assert sorted(found, reverse=True) == [(end - (64 + i * 100), 100) for i in range(0, count, 2)]


def test_equal_hashes_are_ordered_by_offset() -> None:
    """Items with one hash are ordered by offset: (hash, offset), of which the item itself has the distance."""
    table, end = table_of([b"%d" % i for i in range(7)])
    for i in range(7):
        table.hashes[i] = 5
    items = list(GOODBYE_ITEM.iter_unpack(table.record(end)[16:-24]))
    by_rank = {rank: items[position] for position, rank in enumerate(level_order(7))}
    starts = [end - by_rank[rank][0] for rank in range(7)]
    assert starts == sorted(starts)


def test_casyncs_record() -> None:
    """A whole record equals the one that casync 2 wrote for the same children."""
    data = fixture("sort-order")
    table = ChildTable(0)
    for name, start in [
        (b"B", 0x40),
        (b"a", 0xA3),
        (b"a-b", 0x106),
        (b"a.b", 0x16D),
        (b"b", 0x1D4),
        (b"dir", 0x237),
    ]:
        table.add(name, start)
    assert table.record(0x331) == data[0x331:]
    assert len(table) == 6


def test_empty_directory() -> None:
    """An empty directory's record is forty bytes: header and tail."""
    assert ChildTable(0).record(64) == fixture("empty-directory")[64:]
    assert record_size(0) == 40


@given(st.lists(names(), unique=True, max_size=20), st.integers(64, 1 << 62))
def test_position_does_not_matter(children: list[bytes], start: int) -> None:
    """The same directory further back in an archive has the same record."""
    here, end = table_of(children)
    there = ChildTable(start - 64)
    for i, name in enumerate(children):
        there.add(name, start + i * 100)
    assert there.record(start + len(children) * 100) == here.record(end)


@given(st.lists(names(), max_size=30))
def test_duplicates(children: list[bytes]) -> None:
    """A name is a duplicate exactly when it was added before, in whatever order names come."""
    table = ChildTable(0)
    seen: set[bytes] = set()
    for i, name in enumerate(children):
        assert (bool(seen) and table.is_duplicate(name)) == (name in seen)
        if name not in seen:
            seen.add(name)
            table.add(name, 64 + i)


@given(st.integers(0, 1000), st.integers(64, 1 << 62))
def test_tail(count: int, entry: int) -> None:
    """A record's last 24 bytes tell how far back its directory and its first byte are."""
    tail = struct.pack("<QQQ", entry, record_size(count), 0x57446FA533702943)
    assert parse_tail(tail) == (entry, record_size(count))


@pytest.mark.parametrize(
    "tail",
    [
        (64, 40, 0),
        (64, 40, 0x57446FA533702944),
        (64, 39, 0x57446FA533702943),
        (64, 0, 0x57446FA533702943),
        (64, 41, 0x57446FA533702943),
        (64, (1 << 64) - 1, 0x57446FA533702943),
    ],
)
def test_not_a_tail(tail: tuple[int, int, int]) -> None:
    """Anything without the marker, or with a size that no record has, is not a tail."""
    assert parse_tail(struct.pack("<QQQ", *tail)) is None


# ---- the native twin


def _native() -> Any:
    return pytest.importorskip("catar._goodbye", reason="built without a C compiler")


def tables() -> Iterator[tuple[int, list[int]]]:
    """Offsets and hashes of directories with up to 70 children, some hashes equal."""
    for count in range(70):
        yield (
            100 * count + 5,
            [(i * 0x9E3779B97F4A7C15 % (1 << 64)) & ~(0xFF << 56 * (i % 3)) for i in range(count)],
        )
        yield 100 * count + 5, [1 << 63, 0, 1 << 63] * (count // 3)


def test_lookup_tables() -> None:
    """The native table is that of the Python form, equal hashes in order of offset."""
    for offset, hashes in tables():
        table = ChildTable(0)
        for i, hash_ in enumerate(hashes):
            table.add_hashed(b"", 100 * i, hash_)
        found = _native().goodbye_items(offset, table.starts, table.hashes)
        assert found == (table._items(offset, len(hashes)) if hashes else b"")


@given(st.lists(st.integers(0, (1 << 64) - 1), min_size=1, max_size=40))
def test_any_lookup_table(hashes: list[int]) -> None:
    """The same for any hashes."""
    table = ChildTable(0)
    for i, hash_ in enumerate(hashes):
        table.add_hashed(b"", 7 * i, hash_)
    end = 7 * len(hashes) + 1
    assert _native().goodbye_items(end, table.starts, table.hashes) == table._items(end, len(hashes))


def test_lookup_table_of_unequal_arrays() -> None:
    """As many hashes as offsets, or an error."""
    with pytest.raises(ValueError, match="as many"):
        _native().goodbye_items(0, array("Q", [1]), array("Q", [1, 2]))
