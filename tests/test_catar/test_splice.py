"""Writing a child whole: the encoder takes over what another encoder with the same flags once wrote."""

from __future__ import annotations

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import Archived, Item, archives

from catar.encoder import Encoder
from catar.errors import UsageError
from catar.flags import DEFAULT
from catar.records import Node

DIRECTORY = stat.S_IFDIR | 0o755


def spans(archived: Archived) -> dict[int, tuple[int, int]]:
    """Where each node begins and ends, by its identity in memory."""
    found: dict[int, tuple[int, int]] = {}

    def visit(item: Item, end: int) -> None:
        found[id(item)] = (item.node.start, end)
        # What follows the last child is this directory's GOODBYE record, whose size its own head says.
        following = [child.node.start for child in item.children[1:]]
        if item.children:
            last = _goodbye(archived.data, end)
            for child, child_end in zip(item.children, [*following, last], strict=True):
                visit(child, child_end)

    visit(archived.top, len(archived.data))
    return found


def _goodbye(data: bytes, end: int) -> int:
    """Where the GOODBYE record that ends at `end` begins: its tail has its size."""
    return end - int.from_bytes(data[end - 16 : end - 8], "little")


@given(archives(), st.data())
def test_spliced_is_the_same(archived: Archived, data: st.DataObject) -> None:
    """Whichever children are taken over whole from an archive, the result is that archive."""
    where = spans(archived)
    encoder = Encoder(archived.flags)
    out = bytearray()

    def write(item: Item) -> None:
        begin, end = where[id(item)]
        if item is not archived.top and data.draw(st.booleans()):
            encoder.splice(item.node.name, end - begin)
            out.extend(archived.data[begin:end])
            return
        out.extend(encoder.begin(item.node))
        encoder.advance(len(item.data))
        out.extend(item.data)
        if item.node.is_dir:
            for child in item.children:
                write(child)
            assert len(encoder.child_starts) == len(item.children)
            out.extend(encoder.end_directory())

    write(archived.top)
    assert encoder.complete
    assert bytes(out) == archived.data


def test_only_where_a_child_may_stand() -> None:
    """Not as the top node, not out of order, not within a payload, not after the end; and nothing is noted then."""
    encoder = Encoder(DEFAULT)
    with pytest.raises(UsageError):
        encoder.splice(b"a", 100)
    encoder.begin(Node(b"", DIRECTORY))
    encoder.splice(b"b", 100)
    at = encoder.offset
    for name in (b"a", b"b", b"", b".", b"x/y", b"x\0y"):
        with pytest.raises(UsageError):
            encoder.splice(name, 100)
    encoder.begin(Node(b"c", stat.S_IFREG | 0o644, size=3))
    with pytest.raises(UsageError):
        encoder.splice(b"d", 100)
    encoder.advance(3)
    encoder.end_directory()
    with pytest.raises(UsageError):
        encoder.splice(b"d", 100)
    assert encoder.offset > at
