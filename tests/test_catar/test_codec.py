"""Archives that casync 2 wrote, node by node: the encoder gives their bytes, the decoder gives the nodes."""

from __future__ import annotations

import hashlib
import stat

import pytest
from fixtures.make_catar import REAL
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Archived, Item, archives, directory, encode, file, flag_words, items, special, symlink

from catar.decoder import Decoder
from catar.errors import UsageError
from catar.flags import DEFAULT, FeatureFlags, select
from catar.records import AclDefault, AclEntry, DirectoryEnd, Node, XAttr

from .feeding import bytewise, every_way, feed, fixture, in_pieces

F = FeatureFlags
FEWER = settings(max_examples=50)
T0 = 1_500_000_000 * 10**9
U64 = 1 << 64


def at(item: Item, mtime: int = T0) -> Item:
    """The same item, and all below it, with this modification time."""
    item.node.mtime = mtime
    for child in item.children:
        at(child, mtime)
    return item


CAPABILITIES = bytes.fromhex("0100000200040000000000000000000000000000")

CASES: dict[str, tuple[int, Item]] = {
    "empty-directory": (DEFAULT, directory(b"", mtime=T0)),
    "one-file": (
        DEFAULT,
        directory(b"", file(b"a.txt", b"hello\n", 0o640, mtime=T0 + 123456789), mtime=T0 + 10**9),
    ),
    "sort-order": (
        DEFAULT,
        at(
            directory(
                b"",
                *(file(name, name) for name in (b"B", b"a", b"a-b", b"a.b", b"b")),
                directory(b"dir", file(b"f", b"deep")),
            )
        ),
    ),
    "special-nodes": (
        DEFAULT,
        at(
            directory(
                b"",
                symlink(b"lnk", b"../target"),
                special(b"null", stat.S_IFCHR | 0o600, (1, 3)),
                special(b"pipe", stat.S_IFIFO | 0o640),
                special(b"sock", stat.S_IFSOCK | 0o755),
            )
        ),
    ),
    "owners": (
        DEFAULT,
        at(
            directory(
                b"",
                file(b"known", b"x", uid=33, gid=2, user=b"www-data", group=b"bin"),
                file(b"unknown", b"y", uid=4_000_000, gid=70_000),
            )
        ),
    ),
    "xattrs": (
        DEFAULT,
        at(
            directory(
                b"",
                file(
                    b"f",
                    b"x",
                    0o755,
                    xattrs=(XAttr(b"trusted.z", b""), XAttr(b"user.a", b"\0\1"), XAttr(b"user.b", b"two")),
                    fcaps=CAPABILITIES,
                ),
            )
        ),
    ),
    "acls": (
        DEFAULT,
        at(
            directory(
                b"",
                directory(
                    b"d",
                    acl_default=AclDefault(7, 5, 0, 7),
                    acl_default_users=(AclEntry(33, 7, b"www-data"),),
                ),
                file(
                    b"f",
                    b"x",
                    0o650,
                    acl_users=(AclEntry(33, 7, b"www-data"), AclEntry(1_000_000, 4)),
                    acl_groups=(AclEntry(2, 6, b"bin"),),
                    acl_group_obj=4,
                ),
            )
        ),
    ),
    "inode-flags": (
        DEFAULT,
        at(
            directory(
                b"",
                directory(b"d", flags=int(F.FLAG_DIRSYNC)),
                file(b"f", b"x", flags=int(F.FLAG_NOATIME | F.FLAG_SYNC)),
            )
        ),
    ),
    "project-and-groups": (
        DEFAULT,
        at(
            directory(
                b"",
                file(b"f", b"x", xattrs=(XAttr(b"user.a", b"v"),), projid=1000),
                acl_default=AclDefault(7, 5, 0, 7),
                acl_default_groups=(AclEntry(2, 5, b"bin"), AclEntry(70_000, 4)),
            )
        ),
    ),
    "sha256": (select(digest_bits=0), directory(b"", mtime=T0)),
    "unix": (
        select([0x1F09]),
        directory(b"", file(b"f", b"x", 0o4711, uid=33, gid=33, mtime=T0 + 10**9), mtime=T0 + 3 * 10**9),
    ),
    "fat": (
        select([0xE0C0]),
        directory(b"", file(b"f", b"x", 0o444, mtime=T0 + 2 * 10**9), mode=0o777, mtime=T0 + 2 * 10**9),
    ),
    "selinux": (
        DEFAULT,
        at(directory(b"", symlink(b"l", b"x", selinux=b"system_u:object_r:etc_t:s0"))),
    ),
    "nothing": (0xB000000000000000, directory(b"", file(b"f", b"x", 0o666), mode=0o777)),
    "before-1970": (
        DEFAULT,
        directory(b"", file(b"f", b"x", mtime=U64 - 5 * 10**9 - 1), mtime=U64 - (1 << 31) * 10**9),
    ),
    "usec-time": (
        0xB0000001FFEFFE16,
        directory(
            b"", file(b"f", b"x", 0o640, mtime=T0 + 10**9 + 123456000), mtime=T0 + 3 * 10**9
        ),
    ),
    "minus-one-ns": (DEFAULT, directory(b"", file(b"f", b"x", mtime=U64 - 1), mtime=T0)),
    "names-without-ids": (
        0xB0000001FFEFFE24,
        directory(
            b"",
            file(b"f", b"x", 0o640, user=b"www-data", group=b"4242", mtime=T0 + 10**9 + 123456789),
            mtime=T0 + 3 * 10**9,
        ),
    ),
    "dotted-name": (DEFAULT, at(directory(b"", file(b"f", b"x", uid=4242, user=b"first.last")))),
}  # fmt: skip
"""What is in each of the real archives: its flag word and its tree."""


@pytest.mark.parametrize("name", REAL)
def test_fixtures_are_what_casync_wrote(name: str) -> None:
    """Each fixture has the digest that its provenance tells."""
    algorithm = "sha256" if name == "sha256" else "sha512_256"
    assert hashlib.new(algorithm, fixture(name)).hexdigest() == REAL[name].digest


def test_every_real_fixture_is_described() -> None:
    """No fixture is without its tree here, but for the one that casync's order forbids."""
    assert set(CASES) | {"unordered"} == set(REAL)


@pytest.mark.parametrize("name", CASES)
def test_encode(name: str) -> None:
    """Encoding the nodes gives casync's bytes."""
    flags, top = CASES[name]
    assert encode(top, flags).data == fixture(name)


@pytest.mark.parametrize("name", CASES)
def test_decode(name: str) -> None:
    """Decoding casync's bytes gives the nodes, their contents and their offsets, however the bytes arrive."""
    flags, top = CASES[name]
    outcome = every_way(fixture(name))
    assert outcome.steps == steps(encode(top, flags))
    assert outcome.ended
    assert outcome.flags == flags


def test_project_id_that_no_inode_has() -> None:
    """The kernel's invalid id is read, as casync reads it; an archive that holds it is not written."""
    outcome = every_way(fixture("project-invalid"))
    assert outcome.ended
    assert "projid=4294967295" in repr(outcome.steps)
    with pytest.raises(UsageError, match="project id 4294967295"):
        encode(directory(b"", file(b"a", projid=0xFFFFFFFF)), DEFAULT)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize(
    "after", [b"\0", b"x" * 100, fixture("empty-directory")], ids=["NUL", "text", "archive"]
)
def test_trailing_bytes(name: str, after: bytes) -> None:
    """What follows the top directory is not looked at, and handed back."""
    alone = every_way(fixture(name))
    followed = every_way(fixture(name) + after)
    assert followed.ended
    assert followed.steps == alone.steps
    assert (alone.trailing, followed.trailing) == (b"", after)


def test_names_out_of_order() -> None:
    """desync's archives keep the order of the tar they were made of; it is accepted and kept."""
    outcome = every_way(fixture("unordered"))
    assert outcome.ended
    assert [node.name for node in outcome.nodes] == [b"", b"c", b"z", b"b", b"y", b"b", b"B", b"a"]
    assert [step for step in outcome.steps if isinstance(step, bytes)] == [
        b"c/z",
        b"c/b",
        b"c/y",
        b"b",
        b"B",
        b"a",
    ]


def test_names_out_of_order_are_not_written() -> None:
    """The encoder keeps to casync's order."""
    unsorted = Item(Node(b"", stat.S_IFDIR | 0o755), b"", (file(b"b"), file(b"a")))
    with pytest.raises(UsageError, match="must rise"):
        encode(unsorted)


def steps(archived: Archived) -> list[Node | bytes | DirectoryEnd]:
    """What a decoder says of a tree, by a walk of its own."""
    out: list[Node | bytes | DirectoryEnd] = []

    def visit(item: Item, stop: int) -> None:
        out.append(item.node)
        if item.data:
            out.append(item.data)
        if item.node.is_dir:
            goodbye = stop - 16 - 24 * len(item.children) - 24
            starts = [child.node.start for child in item.children]
            for child, end in zip(item.children, [*starts[1:], goodbye], strict=False):
                visit(child, end)
            out.append(DirectoryEnd(goodbye, stop, item.node.offset))

    visit(archived.top, len(archived.data))
    return out


@given(archives())
def test_decoding_undoes_encoding(archived: Archived) -> None:
    """Any tree comes back as it was, offsets included; and encoding what came back gives the same bytes."""
    outcome = feed([archived.data])
    assert outcome.ended
    assert outcome.steps == steps(archived)
    assert encode(archived.top, archived.flags).data == archived.data


@given(archives())
@FEWER
def test_feeding_does_not_matter(archived: Archived) -> None:
    """Byte by byte and in pieces, with bytes behind the archive, the same events come out."""
    data = archived.data + b"behind"
    whole = feed([data])
    assert whole.trailing == b"behind"
    assert feed(bytewise(data)) == whole
    assert feed(in_pieces(data, len(data))) == whole


@given(archives(depth=1))
@FEWER
def test_flags_given_beforehand(archived: Archived) -> None:
    """A decoder that is told the flags accepts an archive that has them, and refuses any other at its first ENTRY."""
    assert feed([archived.data], Decoder(archived.flags)) == feed([archived.data])
    other = select() if archived.flags != DEFAULT else select(digest_bits=0)
    refused = feed([archived.data], Decoder(other))
    assert refused.error is not None
    assert refused.error[1] == 0


@st.composite
def single_nodes(draw: st.DrawFn) -> Archived:
    flags = draw(flag_words())
    return encode(draw(items(flags, depth=1)), flags, any_top=True)


@given(single_nodes())
@FEWER
def test_any_top(archived: Archived) -> None:
    """A single node of any type is serialised and read as one, and refused as a whole archive unless a directory."""
    assert every_way(archived.data, any_top=True).steps == steps(archived)
    assert feed([archived.data]).ended == archived.top.node.is_dir


def test_position_independent() -> None:
    """A directory's bytes from its ENTRY on are those of an archive of that directory alone."""
    inner = directory(b"d", file(b"x", b"1"), directory(b"y", symlink(b"z", b"t")))
    alone = encode(Item(Node(b"", inner.node.mode), b"", inner.children))
    outer = encode(directory(b"", file(b"a", b"padding"), inner, file(b"z")))
    start = outer.top.children[1].node.offset
    assert outer.data[start : start + len(alone.data)] == alone.data
