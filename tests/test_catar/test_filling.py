"""Runs of ordinary nodes filled in around their contents: the same bytes as node by node, natively and in Python."""

from __future__ import annotations

import stat
import struct
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import names

from catar import encoder, filling, flags
from catar.encoder import Encoder
from catar.errors import UsageError
from catar.filling import Owners
from catar.flags import DEFAULT, NAMED_SETS, FeatureFlags, time_granularity
from catar.records import Node, stored_time

native = pytest.importorskip("catar._filling", reason="built without a C compiler")

F = FeatureFlags
TWINS = {"native": native.fill, "python": filling.fill}
WORDS = [
    DEFAULT,
    flags.select([NAMED_SETS["unix"]]),
    flags.select(default=int(F.PERMISSIONS | F.SYMLINKS | F.TWO_SEC_TIME | F.USER_NAMES)),
    flags.select(default=int(F.PERMISSIONS | F.SYMLINKS)),
    flags.select(default=int(F.ACL | F.SYMLINKS | F.USEC_TIME | F.UIDS_32BIT)),
]
OWNERS = {
    (0, 0): (None, None),
    (1000, 1000): (b"user", b"group"),
    (1000, 0): (b"user", None),
    (7, 1 << 20): (None, b"g" * 255),
}


@dataclass(frozen=True, slots=True)
class Plain:
    """An ordinary file or symlink as it is on disk; `data` is its contents or target."""

    name: bytes
    mode: int
    owner: tuple[int, int]
    mtime: int
    data: bytes


@pytest.fixture(params=TWINS)
def twin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The test runs with each form of `fill`."""
    monkeypatch.setattr(encoder, "fill", TWINS[request.param])
    return str(request.param)


def stored(word: int, owner: tuple[int, int]) -> tuple[int, int, bytes | None, bytes | None]:
    """An owner as an archive with these flags has it."""
    numeric = word & (F.UIDS_16BIT | F.UIDS_32BIT)
    uid, gid = (owner[0] & 0xFFF, owner[1] & 0xFFF) if numeric else (0, 0)
    user, group = OWNERS[owner] if word & F.USER_NAMES else (None, None)
    return uid, gid, user, group


def owners_of(word: int) -> Owners:
    owners = Owners(word)
    for owner in OWNERS:
        owners.add(*owner, *stored(word, owner))
    return owners


@st.composite
def plain(draw: st.DrawFn, name: bytes) -> Plain:
    time = draw(st.integers(-(1 << 60), 1 << 62))
    owner = draw(st.sampled_from(list(OWNERS)))
    if draw(st.booleans()):
        return Plain(
            name, stat.S_IFREG | draw(st.integers(0, 0o7777)), owner, time, draw(st.binary(max_size=99))
        )
    target = draw(st.binary(min_size=1, max_size=99)).replace(b"\0", b"0")
    return Plain(name, stat.S_IFLNK | 0o777, owner, time, target)


@st.composite
def runs(draw: st.DrawFn) -> list[Plain]:
    found = draw(st.lists(names(), min_size=1, max_size=9, unique=True))
    return [draw(plain(name)) for name in sorted(found)]


def laid_out(run: list[Plain], owners: Owners, begin: int = 0) -> tuple[bytearray, bytes, bytes]:
    """What a reader makes of a run: room with the contents in it, names and rows."""
    lengths = {row[:2]: len(row[4]) for row in owners.rows}
    room, rows = bytearray(b"\xaa" * begin), b""
    for node in run:
        data = node.data + b"\0" if stat.S_ISLNK(node.mode) else node.data
        room += b"\xaa" * (Owners.HEAD + len(node.name) + lengths[node.owner])
        rows += struct.pack("=6Q", node.mode, *node.owner, node.mtime % (1 << 64), len(data), len(room))
        room += data
    return room, b"".join(node.name + b"\0" for node in run), rows


def one_by_one(run: list[Plain], word: int) -> bytes:
    """The archive of a directory with these nodes, each encoded alone."""
    encoder = Encoder(word)
    out = encoder.begin(Node(b"", stat.S_IFDIR | 0o755))
    for plain in run:
        uid, gid, user, group = stored(word, plain.owner)
        time = stored_time(plain.mtime, time_granularity(word))
        node = Node(plain.name, plain.mode, 0, uid, gid, time, user, group)
        if node.is_symlink:
            node.target = plain.data
            out += encoder.begin(node)
        else:
            node.size = len(plain.data)
            out += encoder.begin(node) + plain.data
            encoder.advance(node.size)
    return out + encoder.end_directory()


@pytest.mark.parametrize("form", TWINS)
@given(run=runs(), word=st.sampled_from(WORDS), split=st.integers(0, 9), begin=st.integers(0, 9))
def test_same_bytes(form: str, run: list[Plain], word: int, split: int, begin: int) -> None:
    """However a directory is cut into runs, its archive is that of its nodes one by one, lookup table and all."""
    owners = owners_of(word)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "fill", TWINS[form])
        made = Encoder(word)
        out = made.begin(Node(b"", stat.S_IFDIR | 0o755))
        for part in (run[:split], run[split:]):
            room, part_names, rows = laid_out(part, owners, begin)
            end = made.fill(memoryview(room), begin, part_names, rows, owners)
            assert end == len(room)
            assert room[:begin] == b"\xaa" * begin
            out += room[begin:end]
        out += made.end_directory()
    assert made.complete
    assert made.offset == len(out)
    assert out == one_by_one(run, word)


FILE = Plain(b"b", stat.S_IFREG | 0o644, (0, 0), 1, b"hello")
LINK = Plain(b"b", stat.S_IFLNK | 0o777, (0, 0), 1, b"target")
_REST = (FILE.mode, (0, 0), 1, b"")
BAD: dict[str, tuple[list[Plain], str]] = {
    "same name": ([FILE, FILE], "must rise"),
    "falling name": ([FILE, Plain(b"a", *_REST)], "must rise"),
    "falling from the run before": ([Plain(b"A", *_REST)], "must rise"),
    "no name": ([Plain(b"", *_REST)], "not allowed"),
    "dot": ([Plain(b".", *_REST)], "not allowed"),
    "dots": ([Plain(b"..", *_REST)], "not allowed"),
    "slash": ([Plain(b"b/c", *_REST)], "not allowed"),
    "long name": ([Plain(b"b" * 256, *_REST)], "not allowed"),
    "directory": ([Plain(b"b", stat.S_IFDIR | 0o755, (0, 0), 1, b"")], "not an ordinary"),
    "more mode bits": ([Plain(b"b", 0o200000 | FILE.mode, (0, 0), 1, b"")], "not an ordinary"),
    "symlink with a mode": ([Plain(b"b", stat.S_IFLNK | 0o755, (0, 0), 1, b"x")], "not an ordinary"),
    "target with a NUL": ([Plain(b"b", LINK.mode, (0, 0), 1, b"x\0y")], "target"),
    "no target": ([Plain(b"b", LINK.mode, (0, 0), 1, b"")], "target"),
    "long target": ([Plain(b"b", LINK.mode, (0, 0), 1, b"x" * 4096)], "target"),
}


def started(word: int = DEFAULT) -> Encoder:
    """An encoder in a directory that has one child, `AA`."""
    made = Encoder(word)
    made.begin(Node(b"", stat.S_IFDIR | 0o755))
    made.begin(Node(b"AA", stat.S_IFREG | 0o644))
    return made


@pytest.mark.usefixtures("twin")
@pytest.mark.parametrize("what", BAD)
def test_what_cannot_stand_in_an_archive(what: str) -> None:
    """A run with a node that no archive may hold is refused, and the encoder says where it still is."""
    run, reason = BAD[what]
    owners = owners_of(DEFAULT)
    room, run_names, rows = laid_out(run, owners)
    made = started()
    before = made.offset
    with pytest.raises(UsageError, match=reason):
        made.fill(memoryview(room), 0, run_names, rows, owners)
    assert made.offset == before


@pytest.mark.usefixtures("twin")
def test_contents_elsewhere() -> None:
    """Contents that do not lie right behind the room for their records, or not wholly in the buffer, are refused."""
    owners = owners_of(DEFAULT)
    room, run_names, rows = laid_out([FILE], owners)
    mode, uid, gid, time, size, place = struct.unpack("=6Q", rows)
    for wrong in ((size, place - 1), (size, place + 1), (size + 1, place), (1 << 63, place), (size, 1 << 63)):
        with pytest.raises(UsageError, match="where they should be"):
            started().fill(
                memoryview(room), 0, run_names, struct.pack("=6Q", mode, uid, gid, time, *wrong), owners
            )


@pytest.mark.usefixtures("twin")
def test_unknown_owner() -> None:
    """A file whose owner is not in the table is refused."""
    room, run_names, rows = laid_out([FILE], owners_of(DEFAULT))
    with pytest.raises(UsageError, match="not an ordinary"):
        started().fill(memoryview(room), 0, run_names, rows, Owners(DEFAULT))


@pytest.mark.usefixtures("twin")
def test_flags_that_runs_are_not_for() -> None:
    """No symlink where the archive has none, and no run where modes are not stored whole."""
    word = flags.select(default=int(F.PERMISSIONS))
    owners = owners_of(word)
    room, run_names, rows = laid_out([LINK], owners)
    with pytest.raises(UsageError, match="not an ordinary"):
        started(word).fill(memoryview(room), 0, run_names, rows, owners)
    word = flags.select(default=int(F.SYMLINKS))
    made = Encoder(word)
    made.begin(Node(b"", stat.S_IFDIR | 0o777))
    with pytest.raises(UsageError, match="modes"):
        made.fill(memoryview(room), 0, run_names, rows, owners)


def test_out_of_place() -> None:
    """A run has its place in a directory only, and not within a payload."""
    owners = owners_of(DEFAULT)
    room, run_names, rows = laid_out([FILE], owners)
    made = Encoder(DEFAULT)
    with pytest.raises(UsageError, match="no place"):
        made.fill(memoryview(room), 0, run_names, rows, owners)
    made.begin(Node(b"", stat.S_IFDIR | 0o755))
    made.begin(Node(b"AA", stat.S_IFREG | 0o644, size=1))
    with pytest.raises(UsageError, match="no place"):
        made.fill(memoryview(room), 0, run_names, rows, owners)


@pytest.mark.parametrize("form", [native.fill, filling.fill])
def test_names_and_rows_are_as_many(form: object) -> None:
    """Names without rows are an error, not an overrun."""
    owners = owners_of(DEFAULT)
    room, run_names, rows = laid_out([FILE], owners)
    for bad in ((run_names, rows * 2), (run_names, b""), (b"", rows), (run_names[:-1], rows)):
        with pytest.raises(ValueError):  # noqa: PT011
            form(room, 0, 0, *bad, DEFAULT, 1, owners.rows, True, b"", bytes(16))  # type: ignore[operator]


# ---- owners


def test_owners_that_cannot_be_stored() -> None:
    """They are left out of the table, so that no run has them."""
    owners = Owners(DEFAULT)
    owners.add(1, 1, 0xFFFF, 0, None, None)
    owners.add(2, 2, 2, 2, b"x" * 256, None)
    owners.add(3, 3, 3, 3, None, b"")
    owners.add(4, 4, 4, 4, b"a\0b", None)
    assert owners.rows == []
    assert not owners.has(1, 1)
    owners.add(5, 6, 5, 6, b"u", b"g")
    assert owners.has(5, 6)
    assert not owners.has(6, 5)


def test_few_owners_are_kept() -> None:
    """The latest are, and the table stays small."""
    owners = Owners(DEFAULT)
    for uid in range(100):
        owners.add(uid, 0, uid, 0, None, None)
    assert len(owners.rows) <= 32
    assert owners.has(99, 0)
    assert not owners.has(0, 0)
    assert len(owners.gaps) == 24 * len(owners.rows)
