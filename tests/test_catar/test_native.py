"""The native parser of ordinary nodes: it is used, it sees what the Python decoder sees, and never more."""

from __future__ import annotations

import stat
from collections.abc import Callable
from typing import Any

import pytest
from fixtures import make_catar
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Item, archives, directory, encode, file, flag_words, items, special, symlink

from catar import layouts, runs
from catar.decoder import Decoder
from catar.flags import DEFAULT, FeatureFlags, select
from catar.goodbye import HASH_KEY, ChildTable, hash_name
from catar.records import Node, XAttr
from catar.runs import parse_run, run_events

from .feeding import bytewise, feed, in_pieces

try:
    from catar._decoder import parse_tree
except ImportError:
    pytest.skip("the native parser is not compiled", allow_module_level=True)

TOP = 64
"""Bytes of the top directory's ENTRY, which `serialised` leaves out."""


def tables(last: bytes = b"") -> list[ChildTable]:
    """One open directory, at the begin of an archive."""
    table = ChildTable(0)
    table.last_name = last
    return [table]


def parse(data: bytes, at: int = 0, last: bytes = b"", features: int = DEFAULT) -> list[Node]:
    run = parse_run(data, at, TOP, features, tables(last))
    return [event for event, _ in run_events(run) if isinstance(event, Node)]


def parsed_names(data: bytes, last: bytes = b"") -> list[bytes]:
    return [node.name for node in parse(data, last=last)]


def serialised(*children: Item) -> bytes:
    """The children of a directory as they stand in an archive, without the directory."""
    return encode(directory(b"", *children)).data[TOP:]


MIXED = (
    file(b"a", b"text", 0o4755, uid=33, gid=34, mtime=(1 << 64) - 1, user=b"u", group=b"g"),
    file(b"b"),
    symlink(b"c", b"target", user=b"u"),
    file(b"d", b"x" * 100, group=b"g"),
)


def test_rows() -> None:
    """Each row tells the node's fields, and where its records and payload stand."""
    archived = encode(directory(b"", *MIXED))
    assert parse(serialised(*MIXED)) == [item.node for item in archived.top.children]


def test_is_used() -> None:
    """The decoder takes runs of ordinary nodes from it."""
    parser = Decoder()
    parser.receive(encode(directory(b"", *MIXED)).data)
    assert isinstance(parser.next_event(), Node)
    assert isinstance(parser.next_event(), Node)
    assert parser._events_left == 4
    assert runs.parse_tree is not None


@given(st.binary(max_size=300))
def test_hash(name: bytes) -> None:
    """Its SipHash is that of the siphashc package, for names of any length."""
    name = name.replace(b"\0", b"0").replace(b"/", b"|") or b"x"
    if name not in (b".", b".."):
        found = tables()
        parse_run(serialised(file(name))[:-TOP], 0, TOP, DEFAULT, found)
        assert found[0].hashes.tolist() == [hash_name(name)]


NOT_ORDINARY: dict[str, Item] = {
    "fifo": special(b"m", stat.S_IFIFO | 0o644),
    "device": special(b"m", stat.S_IFCHR | 0o644, (1, 3)),
    "xattr": file(b"m", xattrs=(XAttr(b"user.a", b""),)),
    "ACL": file(b"m", acl_group_obj=5),
    "label": file(b"m", selinux=b"l"),
    "capabilities": file(b"m", fcaps=bytes(20)),
    "project": file(b"m", projid=1),
    "attribute": file(b"m", flags=0x10000),
}


@pytest.mark.parametrize("name", NOT_ORDINARY)
def test_stops(name: str) -> None:
    """It stops before a node that is more than ordinary, and the decoder goes on from there."""
    children = (file(b"a", b"1"), NOT_ORDINARY[name], file(b"z", b"2"))
    assert parsed_names(serialised(*children)) == [b"a"]
    archived = encode(directory(b"", *children))
    outcome = feed([archived.data])
    assert outcome.ended
    assert outcome.nodes == [item.node for _, item in archived.top.walk()]


@pytest.mark.parametrize("name", make_catar.broken())
def test_broken(name: str) -> None:
    """From no broken archive does it take a node that the Python decoder would not."""
    data = make_catar.broken()[name].data
    plain = {node.start: node for node in feed([data], Decoder(native=False)).nodes}
    for at in range(64, min(len(data), 400)):
        for found in parse(data, at)[:1]:
            known = plain.get(found.start - TOP)
            if known is not None:
                assert (found.name, found.mode) == (known.name, known.mode)
    assert [node.start for node in feed([data]).nodes] == list(plain)


def test_names_must_rise() -> None:
    """It leaves names that do not rise to the decoder, which knows about duplicates."""
    a, b = serialised(file(b"a"))[:-64], serialised(file(b"b"))[:-64]
    assert parsed_names(a + b) == [b"a", b"b"]
    assert parsed_names(b + a) == [b"b"]
    assert parsed_names(a + a) == [b"a"]
    assert parsed_names(a, last=b"a") == []
    assert parsed_names(a, last=b"b") == []
    assert parsed_names(serialised(file(b"ab")), last=b"a") == [b"ab"]
    assert parsed_names(a, last=b"ab") == []


def test_names_only_with_their_flag() -> None:
    """User and group are taken only where the flags have them."""
    data = serialised(file(b"a", user=b"u"))
    assert len(parse(data)) == 1
    nameless = DEFAULT & ~int(FeatureFlags.USER_NAMES)
    assert (
        parse(data.replace(DEFAULT.to_bytes(8, "little"), nameless.to_bytes(8, "little")), features=nameless)
        == []
    )


def test_most() -> None:
    """No more rows than asked for."""
    data = serialised(*(file(b"%02d" % i) for i in range(20)))
    for most in (0, 1, 7, 20, 21, 22):
        rows, *_ = parse_tree(data, 0, most, TOP, DEFAULT, True, tables(), ChildTable, HASH_KEY)
        assert len(rows) == min(most, 21) * layouts.NODE_ROW.size


def test_payload_beyond_the_buffer() -> None:
    """A payload that is not all there ends the run behind its node."""
    data = serialised(file(b"a", b"x" * 50), file(b"b"))
    for size in range(len(data)):
        rows = parse(data[:size])
        assert len(rows) == (size >= 98) + (size >= 98 + 50 + 98)


@pytest.mark.parametrize(
    ("at", "key"), [(-1, HASH_KEY), (1000, HASH_KEY), (0, b"short"), (0, HASH_KEY + b"x")]
)
def test_arguments(at: int, key: bytes) -> None:
    """Offsets outside of the buffer, and keys of another length, are refused."""
    with pytest.raises(ValueError, match="bad offset"):
        parse_tree(bytes(100), at, 1, 0, DEFAULT, True, tables(), ChildTable, key)


@given(st.binary(max_size=200), st.integers(0, 200))
def test_any_bytes(data: bytes, at: int) -> None:
    """Any bytes give no node, and nothing worse."""
    assert parse(data, min(at, len(data))) == []


FEEDERS: list[Callable[[bytes], Any]] = [
    lambda data: [data],
    bytewise,
    lambda data: in_pieces(data, 3),
    lambda data: in_pieces(data, 4),
]


@given(
    st.lists(
        st.one_of(*(items(DEFAULT, kind=kind, depth=0) for kind in (stat.S_IFREG, stat.S_IFLNK))), max_size=8
    )
)
@settings(max_examples=35)
def test_same_as_python(found: list[Item]) -> None:
    """Runs of files and symlinks, ordinary and not, give the same events with and without it."""
    for i, item in enumerate(found):
        item.node.name = b"%03d" % i
    data = encode(directory(b"", *found)).data
    plain = feed([data], Decoder(native=False))
    assert plain.ended
    for feeder in FEEDERS:
        assert feed(feeder(data)) == plain


@given(archives(select(), depth=2), st.data())
@settings(max_examples=35)
def test_same_as_python_when_damaged(archived: Any, data: st.DataObject) -> None:
    """The same for damaged archives: the error, too, is the same."""
    raw = bytearray(archived.data)
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at : at + 1] = data.draw(st.binary(max_size=3))
    assert feed([bytes(raw)]) == feed([bytes(raw)], Decoder(native=False))


@given(flag_words().flatmap(lambda flags: archives(flags, depth=1)))
@settings(max_examples=35)
def test_same_with_any_flags(archived: Any) -> None:
    """The same whatever the feature flags; where they make other rules, the native parser is not asked."""
    assert feed([archived.data]) == feed([archived.data], Decoder(native=False))
