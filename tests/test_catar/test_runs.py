"""Runs of ordinary nodes and ends of directories: what a walk in runs says is what one node by node says."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from archives import Memory
from fixtures import make_catar
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Archived, archives, directory, encode, file, flag_words, plain_archives, symlink

from catar.archive import RangeSource
from catar.decoder import NEED_DATA, Decoder
from catar.errors import FormatError
from catar.flags import DEFAULT
from catar.goodbye import HASH_KEY, ChildTable
from catar.grammar import MAX_DEPTH
from catar.layouts import NODE_ROW
from catar.records import DirectoryEnd, Node
from catar.runs import Run
from catar.walker import ByteSource, Walker

from .test_walker import Stream

try:
    from catar._decoder import parse_tree
except ImportError:
    pytest.skip("the native parser is not compiled", allow_module_level=True)

Said = tuple[bytes, tuple[Any, ...], bytes | None]


def facts(node: Node, base: int = 0) -> tuple[Any, ...]:
    places = (node.size, node.start, node.offset)
    return (node.mode, node.uid, node.gid, node.mtime, node.user, node.group, node.target, *places)


def expanded(run: Run, path: bytes, rest: Callable[[], bytes]) -> Iterator[Said]:
    """The rows of a run as steps with paths, and files with their payloads."""
    view = memoryview(run.buffer)
    here = path
    for number, row in enumerate(NODE_ROW.iter_unpack(run.rows), 1):
        (
            mode,
            name,
            name_len,
            uid,
            gid,
            mtime,
            user,
            user_len,
            group,
            group_len,
            target,
            target_len,
            *places,
        ) = row
        size, start, entry, behind = places
        if not mode:
            yield here, ("end", run.base + start, run.base + behind), None
            here = here.rpartition(b"/")[0]
            continue
        below = here + b"/" * bool(here) + bytes(view[name : name + name_len])
        texts = [
            bytes(view[at : at + length]) if length else None
            for at, length in ((user, user_len), (group, group_len), (target, target_len))
        ]
        data = None
        if stat.S_ISREG(mode):
            whole = not (run.left and number == len(run))
            data = bytes(view[behind : behind + size]) if whole else rest()
        yield below, (mode, uid, gid, mtime, *texts, size, run.base + start, run.base + entry), data
        if stat.S_ISDIR(mode):
            here = below


def said(source: ByteSource, *, runs: bool, native: bool = True) -> tuple[list[Said], object]:
    """All that a walk says, and the error that ends it, if one does."""
    walker = Walker(source, Decoder(native=native))
    out: list[Said] = []
    try:
        for step in walker.runs() if runs else walker:
            if isinstance(step, Run):
                out += expanded(step, walker.path, lambda: b"".join(walker.payload()))
            elif isinstance(step, Node):
                data = b"".join(walker.payload()) if step.is_regular else None
                out.append((walker.path, facts(step), data))
            else:
                out.append((walker.path, ("end", step.offset, step.end), None))
    except FormatError as error:
        return out, (error.reason, error.offset)
    return out, walker.decoder.trailing_data


def sources(data: bytes) -> Iterator[ByteSource]:
    """An archive in pieces of several sizes, from sources that can go back and from one that cannot."""
    for piece in (1 << 20, 1000, 100, 7):
        yield RangeSource(Memory(data), 0, len(data), piece)
    yield Stream(data, 1 << 20)
    yield Stream(data, seed=1)


def same(data: bytes) -> None:
    plain = said(Stream(data, 1 << 20), runs=False, native=False)
    for source in sources(data):
        assert said(source, runs=True) == plain


@given(plain_archives())
@settings(max_examples=60)
def test_same_as_one_by_one(archived: Archived) -> None:
    """Trees of ordinary nodes with others between them."""
    same(archived.data)


@given(flag_words().flatmap(lambda flags: archives(flags, depth=2)))
@settings(max_examples=35)
def test_same_with_any_flags(archived: Archived) -> None:
    """The same whatever the feature flags; where they make other rules, nothing comes in runs."""
    same(archived.data)


@given(plain_archives(), st.data())
@settings(max_examples=60)
def test_same_when_damaged(archived: Archived, data: st.DataObject) -> None:
    """In a damaged archive the same is wrong, and the same was said before: no node is lost and none made up."""
    raw = bytearray(archived.data)
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at : at + 1] = data.draw(st.binary(max_size=3))
    same(bytes(raw[: data.draw(st.sampled_from([len(raw), len(raw), at + 1]))]))


@pytest.mark.parametrize("name", make_catar.broken())
def test_broken(name: str) -> None:
    """The broken archives of the collection, each with its own defect."""
    same(make_catar.broken()[name].data)


BIG = directory(b"", *(file(b"%05d" % i, b"x" * (i % 50)) for i in range(3000)), symlink(b"z", b"t"))


def test_directories_larger_than_pieces() -> None:
    """A lookup table longer than any piece is read and checked."""
    data = encode(BIG).data
    same(data)
    wrong = bytearray(data)
    wrong[-60] ^= 1
    same(bytes(wrong))


def test_depth() -> None:
    """The deepest tree there may be, and one deeper."""
    for depth in (MAX_DEPTH - 2, MAX_DEPTH - 1):
        inner = directory(b"d", file(b"f", b"x"))
        for _ in range(depth - 2):
            inner = directory(b"d", inner)
        same(encode(directory(b"", inner)).data)
    head = encode(directory(b"", directory(b"d"))).data
    node = head[64 : 64 + 18 + 64]
    same(head[:64] + node * MAX_DEPTH + b"\0" * 64)


def runs_of(data: bytes) -> list[Run | Node | DirectoryEnd]:
    return list(Walker(Stream(data, 1 << 20)).runs())


def test_is_used() -> None:
    """Everything after the top node of an ordinary tree is one run; directories too."""
    tree = directory(b"", directory(b"a", file(b"b", b"1"), symlink(b"c", b"t")), file(b"z", b"2"))
    top, run = runs_of(encode(tree).data)
    assert isinstance(top, Node)
    assert isinstance(run, Run)
    assert len(run) == 6
    assert (run.closed, run.opened, run.left) == (1, [], 0)
    assert [bytes(run.buffer[begin:end]) for begin, end in run.payloads()] == [b"1", b"2"]


def test_what_stays_open() -> None:
    """A run that ends within directories names them; their tables go on in the next run."""
    tree = directory(b"", directory(b"a", directory(b"b", file(b"c", b"x" * 5000), file(b"d", b"y"))))
    walker = Walker(Stream(encode(tree).data, 1000))
    steps = walker.runs()
    assert isinstance(next(steps), Node)
    run = next(steps)
    assert isinstance(run, Run)
    assert (run.closed, run.opened) == (0, [b"a", b"b"])
    assert run.left == 5000
    assert run.payloads() == []
    assert walker.path == b""
    assert b"".join(walker.payload()) == b"x" * 5000
    rest = list(steps)
    assert all(isinstance(step, Run) for step in rest)
    assert sum(step.closed for step in rest if isinstance(step, Run)) == 3


def test_next_run_asks_before_it_gives_up() -> None:
    """With a part of a node at hand it asks for more; only at the end is the rest left to `next_event`."""
    data = encode(directory(b"", file(b"a", b"x"))).data
    decoder = Decoder()
    decoder.receive(data[:100])
    assert decoder.next_run() is None
    assert isinstance(decoder.next_event(), Node)
    assert decoder.next_run() is NEED_DATA
    assert decoder.unread() == 36
    decoder.receive(data[64:110])
    assert decoder.next_run() is NEED_DATA
    decoder.receive(b"")
    assert decoder.next_run() is None
    with pytest.raises(FormatError, match="truncated"):
        decoder.next_event()


@pytest.mark.parametrize(
    ("at", "key", "open_"),
    [(-1, HASH_KEY, 1), (1000, HASH_KEY, 1), (0, b"short", 1), (0, HASH_KEY, MAX_DEPTH + 1)],
)
def test_arguments(at: int, key: bytes, open_: int) -> None:
    """Offsets outside of the buffer, keys of another length and too many open directories are refused."""
    tables = [ChildTable(0) for _ in range(open_)]
    with pytest.raises(ValueError, match="bad offset"):
        parse_tree(bytes(100), at, 1, 0, DEFAULT, True, tables, ChildTable, key)  # type: ignore[arg-type]
