"""Random access by path finds what a walk finds, and trusts nothing that the archive says about itself."""

from __future__ import annotations

import io
import struct
from contextlib import suppress
from dataclasses import replace

import pytest
from fixtures import make_catar
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Archived, archives, directory, encode, file, symlink

from catar import layouts
from catar.archive import Archive, Located, PayloadReader, RangeSource
from catar.errors import CatarError, FormatError, NotFound
from catar.goodbye import hash_name, level_order, record_size
from catar.records import Node

from .feeding import fixture
from .samples import EVERYTHING, patched


class Memory:
    """Bytes that can be read anywhere; counts what is read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.read = 0

    @property
    def size(self) -> int:
        return len(self.data)

    def read_at(self, offset: int, size: int) -> bytes:
        assert offset >= 0
        assert size >= 0
        self.read += size
        return self.data[offset : offset + size]


def archive_of(data: bytes, flags: int | None = None) -> Archive:
    return Archive(Memory(data), flags)


def placed(node: Node) -> Node:
    """A node as random access gives it: it does not know where its FILENAME is."""
    return replace(node, start=node.offset)


@given(archives())
@settings(max_examples=40)
def test_every_path_is_found(archived: Archived) -> None:
    """Each node is found by its path, as the walk over the whole archive gives it, with its contents."""
    archive = archive_of(archived.data)
    for path, item in archived.top.walk():
        assert archive.node(path) == placed(item.node)
        where = archive.locate(path)
        assert (where.path, where.entry) == (path, item.node.offset)
        if item.node.is_regular:
            with archive.open(path) as opened:
                assert opened.read() == item.data
        if item.node.is_dir:
            children = list(archive.children(path))
            assert [child.path.rpartition(b"/")[2] for child in children] == [
                c.node.name for c in item.children
            ]
            assert [archive.node_at(child) for child in children] == [placed(c.node) for c in item.children]
    assert archive.feature_flags == archived.flags


@given(archives(depth=2))
@settings(max_examples=25)
def test_walk_below(archived: Archived) -> None:
    """A walk from any node gives that node and what is below it, with full paths."""
    archive = archive_of(archived.data)
    for path, item in archived.top.walk():
        walker = archive.walk(path)
        found = [(walker.path, step) for step in walker if isinstance(step, Node)]
        assert [p for p, _ in found] == [p for p, _ in item.walk(path)]
        assert [n.offset for _, n in found] == [i.node.offset for _, i in item.walk(path)]


@given(archives(depth=2), st.binary(max_size=6))
@settings(max_examples=40)
def test_absent_paths(archived: Archived, name: bytes) -> None:
    """What is not there is not found, and the error names the path that was asked for."""
    archive = archive_of(archived.data)
    there = {path for path, _ in archived.top.walk()}
    wanted = name.strip(b"/") or b"absent"
    if b"/".join(filter(None, wanted.split(b"/"))) in there:
        return
    with pytest.raises(NotFound) as caught:
        archive.locate(wanted)
    assert caught.value.path == wanted


@pytest.mark.parametrize("path", [b"sub/1", b"/sub/1", b"sub//1", b"//sub///1//"])
def test_slashes_do_not_count(path: bytes) -> None:
    """Leading, repeated and trailing slashes are passed over, as casync does."""
    assert archive_of(EVERYTHING.data).locate(path).path == b"sub/1"


@pytest.mark.parametrize("path", [b"", b"/", b"//"])
def test_root(path: bytes) -> None:
    """The empty path is the root."""
    assert archive_of(EVERYTHING.data).locate(path) == Located(b"", 0, len(EVERYTHING.data))


@pytest.mark.parametrize("path", [b".", b"..", b"sub/..", b"./sub", b"../etc/passwd"])
def test_dots_mean_nothing(path: bytes) -> None:
    """`.` and `..` are names like any other, which no archive has."""
    with pytest.raises(NotFound):
        archive_of(EVERYTHING.data).locate(path)


@pytest.mark.parametrize("path", [b"file/x", b"link/x", b"pipe/x", b"null/x/y"])
def test_below_a_file(path: bytes) -> None:
    """Nothing is below what is not a directory, not even below a symlink to one; the error names the whole path."""
    with pytest.raises(NotFound) as caught:
        archive_of(EVERYTHING.data).locate(path)
    assert caught.value.path == path
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", [b"sub", b"link", b"pipe", b""])
def test_open_other_things(path: bytes) -> None:
    """Only regular files are opened."""
    with pytest.raises(CatarError, match="not a regular file"):
        archive_of(EVERYTHING.data).open(path)


def test_children_of_a_file() -> None:
    """A file has no children to list."""
    with pytest.raises(NotFound):
        list(archive_of(EVERYTHING.data).children(b"file"))


def test_little_is_read() -> None:
    """Finding one of 2,000 files reads some kilobytes of an archive of megabytes."""
    names = [b"%04d" % i for i in range(2000)]
    archived = encode(directory(b"", directory(b"d", *(file(name, name * 300) for name in names))))
    memory = Memory(archived.data)
    assert Archive(memory).node(b"d/1234").size == 1200
    assert memory.read < 20_000 < len(archived.data) / 100


def test_names_out_of_order() -> None:
    """Lookup does not depend on the order of names; children are listed in the order of the archive."""
    archive = archive_of(fixture("unordered"))
    assert [child.path for child in archive.children()] == [b"c", b"b", b"B", b"a"]
    assert [child.path for child in archive.children(b"c")] == [b"c/z", b"c/b", b"c/y"]
    assert archive.open(b"c/b").read() == b"c/b"


def test_flags_of_an_index() -> None:
    """An archive that has other flags than the index that leads to it is refused."""
    with pytest.raises(FormatError, match="differ"):
        archive_of(fixture("sha256"), make_catar.FLAGS).node()
    assert archive_of(EVERYTHING.data, make_catar.FLAGS).feature_flags == make_catar.FLAGS


# ---- payloads as files -------------------------------------------------------------------------------------------


operations = st.lists(
    st.tuples(st.just("seek"), st.integers(0, 90), st.just(0))
    | st.tuples(st.just("seek"), st.integers(-70, 0), st.just(2))
    | st.tuples(st.just("read"), st.integers(-1, 90), st.just(0))
    | st.tuples(st.just("readinto"), st.integers(0, 90), st.just(0))
    | st.tuples(st.sampled_from(["tell", "readline", "readall"]), st.just(0), st.just(0)),
    max_size=12,
)


@given(st.binary(min_size=70, max_size=80), operations)
def test_payload_reader_is_a_file(data: bytes, steps: list[tuple[str, int, int]]) -> None:
    """A payload reads and seeks as `io.BytesIO` does, and never beyond the payload."""
    ours = PayloadReader(Memory(b"before" + data + b"behind"), 6, len(data))
    theirs = io.BytesIO(data)
    for step, number, whence in steps:
        if step == "seek":
            assert ours.seek(number, whence) == theirs.seek(number, whence)
        elif step == "read":
            assert ours.read(number) == theirs.read(number)
        elif step == "readinto":
            a, b = bytearray(number), bytearray(number)
            assert ours.readinto(a) == theirs.readinto(b)
            assert a == b
        elif step == "readline":
            assert ours.readline() == theirs.readline()
        elif step == "readall":
            assert ours.readall() == theirs.read()
        assert ours.tell() == theirs.tell()


def test_payload_reader_relative() -> None:
    """Seeking from the current position and from the end, also past it."""
    reader = PayloadReader(Memory(b"0123456789"), 2, 6)
    assert reader.read(2) == b"23"
    assert reader.seek(1, io.SEEK_CUR) == 3
    assert reader.read(1) == b"5"
    assert reader.seek(-1, io.SEEK_END) == 5
    assert reader.read() == b"7"
    assert reader.seek(100) == 100
    assert reader.read() == b""
    assert reader.readable()
    assert reader.seekable()
    assert not reader.writable()


@pytest.mark.parametrize(("offset", "whence"), [(-1, 0), (-1, 1), (-7, 2), (0, 3)])
def test_payload_reader_refuses(offset: int, whence: int) -> None:
    """Positions before the beginning, and unknown kinds of seeking, are refused, and the position stays."""
    reader = PayloadReader(Memory(bytes(10)), 2, 6)
    with pytest.raises(ValueError, match=r"seek|whence"):
        reader.seek(offset, whence)
    assert reader.tell() == 0


def test_payload_reader_closed() -> None:
    """A closed file is not read."""
    opened = archive_of(EVERYTHING.data).open(b"file")
    assert opened.readline() == b"contents\n"
    opened.close()
    with pytest.raises(ValueError, match="closed"):
        opened.read()


def test_text() -> None:
    """What `open` gives serves the usual wrappers."""
    with io.TextIOWrapper(archive_of(EVERYTHING.data).open(b"file")) as lines:
        assert list(lines) == ["contents\n"] * 3


@pytest.mark.parametrize("piece", [1, 7, 64])
def test_range_source(piece: int) -> None:
    """A range is read in pieces and ends at its end, also when skipping passes it."""
    source = RangeSource(Memory(bytes(range(100))), 10, 90, piece)
    assert source.read() == bytes(range(10, 10 + piece))
    source.skip(20 - piece)
    rest = b"".join(iter(source.read, b""))
    assert rest == bytes(range(30, 90))
    source.skip(1 << 63)
    assert source.read() == b""


# ---- archives that lie -------------------------------------------------------------------------------------------

LIES = [name for name in make_catar.broken() if name.startswith("goodbye-") and name not in ("goodbye-hash",)]


@pytest.mark.parametrize("name", LIES)
def test_lying_tables(name: str) -> None:
    """Whatever a table says, each lookup gives the node with that name, or an error: never another one."""
    archive = archive_of(make_catar.broken()[name].data)
    for path in (b"B", b"a", b"a-b", b"a.b", b"b", b"dir", b"dir/f"):
        try:
            node = archive.node(path)
        except (NotFound, FormatError):
            continue
        assert node.name == path.rpartition(b"/")[2]
    with pytest.raises(FormatError):
        list(archive.children())


def test_wrong_hash() -> None:
    """An item with a false hash hides its name from lookup, but shows nothing else in its place."""
    archive = archive_of(make_catar.broken()["goodbye-hash"].data)
    found = []
    for path in (b"B", b"a", b"a-b", b"a.b", b"b", b"dir"):
        try:
            found.append(archive.node(path).name)
        except NotFound:
            found.append(b"")
    assert b"" in found
    assert set(found) <= {b"", b"B", b"a", b"a-b", b"a.b", b"b", b"dir"}


def with_table(items: list[tuple[int, int, bytes]], body: bytes, entry: int = 0) -> bytes:
    """An archive of `body` (from the ENTRY on) whose table has these (start, size, name) items, sorted rightly."""
    end = len(body)
    ranked = sorted((hash_name(name), end - start, size) for start, size, name in items)
    packed = [b""] * len(items)
    for position, rank in enumerate(level_order(len(items))):
        hash_, back, size = ranked[rank]
        packed[position] = layouts.GOODBYE_ITEM.pack(back % (1 << 64), size, hash_)
    size = record_size(len(items))
    tail = layouts.GOODBYE_TAIL.pack(end - entry, size, make_catar.MARKER)
    return body + layouts.HEADER.pack(size, make_catar.GOODBYE) + b"".join(packed) + tail


def one_file(name: bytes) -> bytes:
    """FILENAME with this body, and a file."""
    return make_catar.record(make_catar.FILENAME, name) + make_catar.entry(make_catar.REG) + make_catar.TEXT


@pytest.mark.parametrize(
    ("body", "name"),
    [(b"..\0", b".."), (b".\0", b"."), (b"a\0b\0", b"a\0b"), (b"ab", b"a"), (b"", b""), (b"\0", b"")],
    ids=["dot dot", "dot", "NUL", "no NUL", "nothing", "empty"],
)
def test_bad_names(body: bytes, name: bytes) -> None:
    """A name that a decoder would refuse is refused here, too: in lookups and in listings."""
    child = one_file(body)
    archive = archive_of(with_table([(64, len(child), name)], make_catar.TOP + child))
    with pytest.raises(FormatError):
        list(archive.children())
    with pytest.raises((FormatError, NotFound)):
        archive.locate(name or b"x")


def test_names_with_a_slash() -> None:
    """A name with a slash in it is not listed as if it were a path."""
    child = one_file(b"etc/passwd\0")
    archive = archive_of(with_table([(64, len(child), b"etc/passwd")], make_catar.TOP + child))
    with pytest.raises(FormatError, match="slash"):
        list(archive.children())


@pytest.mark.parametrize(
    ("start", "size"),
    [(64, 0), (0, 64), (63, 102), (64, 103), (64, 1 << 63), (1 << 63, 102), (65, 101), (166, 1), (-1, 10)],
)
def test_items_point_inside(start: int, size: int) -> None:
    """An item whose range is not within its directory is refused before it is followed."""
    child = one_file(b"a\0")
    archive = archive_of(with_table([(start, size, b"a")], make_catar.TOP + child))
    for ask in (lambda: archive.locate(b"a"), lambda: list(archive.children())):
        with pytest.raises(FormatError):
            ask()


def test_overlapping_children() -> None:
    """Children that share bytes are refused: nested tables of them would make a tree of exponential size."""
    child = one_file(b"a\0")
    twice = [(64, len(child), b"a"), (64, len(child), b"a")]
    with pytest.raises(FormatError, match="overlap"):
        list(archive_of(with_table(twice, make_catar.TOP + child)).children())


def test_children_with_gaps() -> None:
    """Children that leave bytes of the directory out are refused: a listing must show what a walk shows."""
    a, b = one_file(b"a\0"), one_file(b"b\0")
    body = make_catar.TOP + a + b
    for items in ([(64, len(a), b"a")], [(64 + len(a), len(b), b"b")], []):
        with pytest.raises(FormatError):
            list(archive_of(with_table(items, body)).children())


def test_payload_that_imitates_a_table() -> None:
    """A file whose contents end like a directory is a file all the same, and nothing is found below it."""
    inner = encode(directory(b"", file(b"secret", b"!"))).data
    archived = encode(directory(b"", file(b"f", inner)))
    archive = archive_of(archived.data)
    assert archive.node(b"f").is_regular
    with pytest.raises(NotFound):
        archive.locate(b"f/secret")
    with pytest.raises(NotFound):
        list(archive.children(b"f"))
    assert archive.open(b"f").read() == inner


def test_payload_larger_than_its_node() -> None:
    """A payload that claims more bytes than its node has is refused, so that no file shows its neighbours."""
    data = EVERYTHING.data
    node = EVERYTHING.top.children[2].node
    assert node.name == b"file"
    archive = archive_of(patched(data, node.payload_offset - 16, struct.pack("<Q", 16 + node.size + 1)))
    with pytest.raises(FormatError, match="past the end"):
        archive.open(b"file")


@pytest.mark.parametrize("size", [*range(0, 200, 7), *range(2400, 2802, 13)])
def test_truncated(size: int) -> None:
    """A truncated archive gives FormatError for every question, and answers none of them wrongly."""
    archive = archive_of(EVERYTHING.data[:size])
    for path in (b"file", b"sub/3", b"absent"):
        with pytest.raises(FormatError):
            archive.locate(path)


@given(st.data())
@settings(max_examples=80)
def test_damaged(data: st.DataObject) -> None:
    """With any bytes changed, every question has an answer or one of the two errors."""
    raw = bytearray(EVERYTHING.data)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        new = data.draw(st.integers(0, (1 << 64) - 1)).to_bytes(8, "little")
        raw[at : at + 8] = new[: len(raw) - at]
    archive = archive_of(bytes(raw))
    for path in (b"", b"file", b"sub", b"sub/3", b"sub/void", b"link", b"absent"):
        for ask in (archive.node, lambda p: list(archive.children(p)), lambda p: archive.open(p).read()):
            with suppress(CatarError):
                ask(path)


def test_located_symlink() -> None:
    """A symlink is found as itself; it is never followed."""
    archive = archive_of(encode(directory(b"", symlink(b"l", b"d"), directory(b"d", file(b"x")))).data)
    assert archive.node(b"l").target == b"d"
    with pytest.raises(NotFound):
        archive.locate(b"l/x")
