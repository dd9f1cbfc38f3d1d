"""The encoder writes nothing that the decoder would not read, and says UsageError when it is asked to."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Archived, Item, archives, directory, encode, file, special, symlink

from catar import goodbye, schema
from catar.encoder import Encoder
from catar.errors import CatarError, UsageError
from catar.flags import DEFAULT, FeatureFlags, select
from catar.grammar import MAX_DEPTH
from catar.metadata import KINDS, MetadataKind
from catar.records import AclDefault, AclEntry, Node, XAttr

from .feeding import feed

F = FeatureFlags
REG, DIR, LNK, CHR, FIFO = stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO


def opened(flags: int = DEFAULT) -> Encoder:
    """An encoder that is in the top directory."""
    encoder = Encoder(flags)
    mode = 0o755 if flags & (F.PERMISSIONS | F.ACL) else 0o777
    encoder.begin(Node(b"", DIR | mode))
    return encoder


BAD: dict[str, tuple[Node, str]] = {
    "name empty": (Node(b"", REG), "not allowed"),
    "name dot": (Node(b".", REG), "not allowed"),
    "name dot dot": (Node(b"..", REG), "not allowed"),
    "name with slash": (Node(b"a/b", REG), "slash"),
    "name with NUL": (Node(b"a\0b", REG), "NUL"),
    "name too long": (Node(b"n" * 4096, REG), "too long"),
    "no type": (Node(b"a", 0o644), "file type"),
    "unknown type": (Node(b"a", 0o070644), "file type"),
    "unknown mode bits": (Node(b"a", REG | 1 << 16), "unknown bits"),
    "symlink with mode": (Node(b"a", LNK | 0o755, target=b"t"), "symlink"),
    "attributes of a fifo": (Node(b"a", FIFO, int(F.FLAG_APPEND)), "attribute"),
    "attributes not in the flags": (Node(b"a", REG, int(F.FLAG_NODUMP)), "attribute"),
    "subvolume flag of a file": (Node(b"a", REG, int(F.SUBVOLUME)), "subvolume"),
    "uid 65535": (Node(b"a", REG, uid=65535), "uid"),
    "uid too large": (Node(b"a", REG, uid=0xFFFFFFFF), "uid"),
    "gid too large": (Node(b"a", REG, gid=1 << 40), "gid"),
    "uid negative": (Node(b"a", REG, uid=-1), "64-bit"),
    "mode negative": (Node(b"a", -1), "unknown bits"),
    "time negative": (Node(b"a", REG, mtime=-1), "64-bit"),
    "time too large": (Node(b"a", REG, mtime=1 << 64), "64-bit"),
    "size negative": (Node(b"a", REG, size=-1), "payload"),
    "size 2^63": (Node(b"a", REG, size=1 << 63), "payload"),
    "size 2^64": (Node(b"a", REG, size=1 << 64), "payload"),
    "user empty": (Node(b"a", REG, user=b""), "out of bounds"),
    "user too long": (Node(b"a", REG, user=b"u" * 256), "out of bounds"),
    "user with NUL": (Node(b"a", REG, user=b"u\0"), "NUL"),
    "group with NUL": (Node(b"a", REG, group=b"\0"), "NUL"),
    "label too long": (Node(b"a", REG, selinux=b"l" * 4096), "out of bounds"),
    "xattr without namespace": (Node(b"a", REG, xattrs=(XAttr(b"user", b""),)), "not valid"),
    "xattr with NUL": (Node(b"a", REG, xattrs=(XAttr(b"user.\0", b""),)), "not valid"),
    "xattr name too long": (Node(b"a", REG, xattrs=(XAttr(b"user." + b"n" * 251, b""),)), "not valid"),
    "xattr value too large": (Node(b"a", REG, xattrs=(XAttr(b"user.a", bytes(65537)),)), "too large"),
    "xattrs out of order": (Node(b"a", REG, xattrs=(XAttr(b"u.b", b""), XAttr(b"u.a", b""))), "order"),
    "xattr twice": (Node(b"a", REG, xattrs=(XAttr(b"u.b", b""), XAttr(b"u.b", b""))), "order"),
    "xattr of a symlink": (Node(b"a", LNK | 0o777, target=b"t", xattrs=(XAttr(b"u.b", b""),)), "not allowed"),
    "ACL of a symlink": (Node(b"a", LNK | 0o777, target=b"t", acl_group_obj=7), "not allowed"),
    "ACL without group": (Node(b"a", REG, acl_users=(AclEntry(1, 7),)), "owning group"),
    "ACL out of order": (
        Node(b"a", REG, acl_users=(AclEntry(2, 7), AclEntry(1, 7)), acl_group_obj=7),
        "out of order",
    ),
    "ACL permissions": (Node(b"a", REG, acl_users=(AclEntry(1, 8),), acl_group_obj=7), "permissions"),
    "ACL permissions negative": (Node(b"a", REG, acl_group_obj=-1), "64-bit"),
    "ACL id": (Node(b"a", REG, acl_users=(AclEntry(65535, 7),), acl_group_obj=7), "not valid"),
    "ACL name with NUL": (Node(b"a", REG, acl_users=(AclEntry(1, 7, b"\0"),), acl_group_obj=7), "NUL"),
    "ACL name too long": (Node(b"a", REG, acl_users=(AclEntry(1, 7, b"n" * 256),), acl_group_obj=7), "bounds"),
    "default ACL of a file": (Node(b"a", REG, acl_default=AclDefault(7, 7, 7, None)), "not allowed"),
    "default ACL without mask": (
        Node(b"a", DIR, acl_default=AclDefault(7, 7, 7, None), acl_default_users=(AclEntry(1, 7),)),
        "mask",
    ),
    "default ACL users alone": (Node(b"a", DIR, acl_default_users=(AclEntry(1, 7),)), "without a default ACL"),
    "default ACL groups alone": (Node(b"a", DIR, acl_default_groups=(AclEntry(1, 7),)), "without a default ACL"),
    "capabilities of a directory": (Node(b"a", DIR, fcaps=bytes(20)), "not allowed"),
    "capabilities too large": (Node(b"a", REG, fcaps=bytes(65537)), "out of bounds"),
    "project of a fifo": (Node(b"a", FIFO, projid=1), "not allowed"),
    "project too large": (Node(b"a", REG, projid=0xFFFFFFFF), "project"),
    "project negative": (Node(b"a", REG, projid=-1), "project"),
    "no target": (Node(b"a", LNK | 0o777), "target"),
    "target too long": (Node(b"a", LNK | 0o777, target=b"t" * 4096), "target"),
    "target with NUL": (Node(b"a", LNK | 0o777, target=b"t\0t"), "target"),
    "no device": (Node(b"a", CHR), "device"),
    "device major": (Node(b"a", CHR, device=(4096, 0)), "device"),
    "device minor": (Node(b"a", CHR, device=(0, 1 << 20)), "device"),
    "device negative": (Node(b"a", CHR, device=(-1, 0)), "device"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_nodes(name: str) -> None:
    """A node that no archive can hold is refused, and the encoder is as it was: what follows is a good archive."""
    node, reason = BAD[name]
    encoder = opened()
    before = encoder.offset
    with pytest.raises(UsageError, match=reason) as caught:
        encoder.begin(node)
    assert "\n" not in str(caught.value)
    assert encoder.offset == before
    out = Encoder(DEFAULT).begin(Node(b"", DIR | 0o755))
    out += encoder.begin(Node(b"a", REG, size=1)) + b"x"
    encoder.advance(1)
    out += encoder.end_directory()
    assert encoder.complete
    assert [step.name for step in feed([out]).nodes] == [b"", b"a"]


NEEDS: dict[str, tuple[int, Node]] = {
    "user": (F.USER_NAMES, Node(b"a", REG | 0o644, user=b"u")),
    "group": (F.USER_NAMES, Node(b"a", REG | 0o644, group=b"g")),
    "xattr": (F.XATTRS, Node(b"a", REG | 0o644, xattrs=(XAttr(b"user.a", b""),))),
    "ACL": (F.ACL, Node(b"a", REG | 0o644, acl_group_obj=5)),
    "default ACL": (F.ACL, Node(b"a", DIR | 0o755, acl_default=AclDefault(7, 7, 7, None))),
    "label": (F.SELINUX, Node(b"a", REG | 0o644, selinux=b"l")),
    "symlink": (F.SYMLINKS, Node(b"a", LNK | 0o777, target=b"t")),
    "device": (F.DEVICE_NODES, Node(b"a", CHR | 0o644, device=(1, 3))),
    "fifo": (F.FIFOS, Node(b"a", FIFO | 0o644)),
    "socket": (F.SOCKETS, Node(b"a", stat.S_IFSOCK | 0o644)),
    "attribute": (F.FLAG_APPEND, Node(b"a", REG | 0o644, int(F.FLAG_APPEND))),
    "uid": (F.UIDS_32BIT, Node(b"a", REG | 0o644, uid=70000)),
    "time": (F.NSEC_TIME, Node(b"a", REG | 0o644, mtime=1)),
}


@pytest.mark.parametrize("name", NEEDS)
def test_needs_its_flag(name: str) -> None:
    """What the feature flags leave out cannot be written; with the flag alone it can."""
    flag, node = NEEDS[name]
    with_flag = select([int(flag | F.PERMISSIONS)])
    opened(with_flag).begin(replace(node))
    with pytest.raises(UsageError):
        opened(select([int(F.PERMISSIONS)])).begin(replace(node))


@pytest.mark.parametrize(
    ("flags", "mode", "good"),
    [
        (F.PERMISSIONS, REG | 0o4123, True),
        (F.READ_ONLY, REG | 0o666, True),
        (F.READ_ONLY, REG | 0o444, True),
        (F.READ_ONLY, DIR | 0o555, True),
        (F.READ_ONLY, REG | 0o644, False),
        (F.READ_ONLY, DIR | 0o444, False),
        (0, REG | 0o666, True),
        (0, DIR | 0o777, True),
        (0, REG | 0o444, False),
        (0, DIR | 0o755, False),
    ],
)
def test_modes(flags: int, mode: int, good: bool) -> None:
    """Permissions must be as coarse as the flags say."""
    encoder = opened(select([int(flags)]) if flags else select(default=0))
    if good:
        assert encoder.begin(Node(b"a", mode))
    else:
        with pytest.raises(UsageError, match="no permissions"):
            encoder.begin(Node(b"a", mode))


def _second_top(encoder: Encoder) -> None:
    encoder.end_directory()
    encoder.begin(Node(b"", DIR | 0o755))


def _file_then(action: Callable[[Encoder], Any]) -> Callable[[Encoder], Any]:
    def act(encoder: Encoder) -> None:
        encoder.begin(Node(b"a", REG, size=4))
        encoder.advance(3)
        action(encoder)

    return act


MISUSES: dict[str, tuple[Callable[[Encoder], Any], str]] = {
    "second top": (_second_top, "complete"),
    "end twice": (lambda e: (e.end_directory(), e.end_directory()), "no directory"),
    "node within payload": (_file_then(lambda e: e.begin(Node(b"b", REG))), "still to come"),
    "end within payload": (_file_then(lambda e: e.end_directory()), "no directory"),
    "too much payload": (_file_then(lambda e: e.advance(2)), "only 1"),
    "payload backwards": (_file_then(lambda e: e.advance(-1)), "payload"),
    "payload of nothing": (lambda e: e.advance(1), "only 0"),
    "name twice": (lambda e: (e.begin(Node(b"a", REG)), e.begin(Node(b"a", REG))), "must rise"),
    "name falls": (lambda e: (e.begin(Node(b"b", REG)), e.begin(Node(b"a", REG))), "must rise"),
    "prefix after longer": (lambda e: (e.begin(Node(b"ab", REG)), e.begin(Node(b"a", REG))), "must rise"),
}


@pytest.mark.parametrize("name", MISUSES)
def test_misuse(name: str) -> None:
    """Calls out of order are refused."""
    action, reason = MISUSES[name]
    with pytest.raises(UsageError, match=reason):
        action(opened())


def test_top() -> None:
    """The top node has no name and is a directory, unless a single node is asked for."""
    with pytest.raises(UsageError, match="no name"):
        Encoder(DEFAULT).begin(Node(b"x", DIR))
    with pytest.raises(UsageError, match="must be a directory"):
        Encoder(DEFAULT).begin(Node(b"", REG))
    single = Encoder(DEFAULT, any_top=True)
    single.begin(Node(b"", REG))
    assert single.complete


def test_complete() -> None:
    """An archive is complete when the top directory has ended, and not before."""
    encoder = Encoder(DEFAULT)
    assert not encoder.complete
    encoder.begin(Node(b"", DIR))
    assert not encoder.complete
    encoder.begin(Node(b"a", REG, size=2))
    encoder.advance(2)
    assert not encoder.complete
    encoder.end_directory()
    assert encoder.complete
    single = Encoder(DEFAULT, any_top=True)
    single.begin(Node(b"", REG, size=2))
    assert not single.complete
    single.advance(2)
    assert single.complete


@pytest.mark.parametrize("flags", [1 << 40, DEFAULT | F.UIDS_16BIT, int(F.ACL), -1])
def test_flags_must_be_normal(flags: int) -> None:
    """Flags that are not normalised are refused at once."""
    with pytest.raises(UsageError, match="not normalised"):
        Encoder(flags)


def test_nesting() -> None:
    """As many nodes on a path as casync reads, and no more."""
    encoder = opened()
    for _ in range(MAX_DEPTH - 1):
        encoder.begin(Node(b"a", DIR))
    with pytest.raises(UsageError, match="nest deeper"):
        encoder.begin(Node(b"a", REG))


def test_errors_have_one_root() -> None:
    """Whoever catches CatarError catches misuse, too."""
    assert issubclass(UsageError, CatarError)


@pytest.mark.parametrize(
    "item",
    [
        file(b"n" * 4095),
        file(b"a", user=b"u" * 255, group=b"\xff"),
        file(b"a", selinux=b"l" * 4095, fcaps=bytes(65536), projid=0xFFFFFFFE),
        file(b"a", xattrs=(XAttr(b"u." + b"n" * 253, bytes(65536)),)),
        file(b"a", uid=0xFFFFFFFE, gid=65534, mtime=(1 << 64) - 1),
        file(b"a", acl_users=(AclEntry(0xFFFFFFFE, 7, b"n" * 255),), acl_group_obj=0),
        symlink(b"a", b"t" * 4095),
        special(b"a", CHR, (4095, (1 << 20) - 1)),
        special(b"a", CHR, (0, 0)),
        directory(b"a", acl_default=AclDefault(None, None, None, None), flags=int(F.SUBVOLUME | F.SUBVOLUME_RO)),
    ],
    ids=lambda item: f"{item.node.kind:o}",
)  # fmt: skip
def test_limits_are_written_and_read(item: Any) -> None:
    """The largest values that are accepted are read back."""
    archived = encode(directory(b"", item))
    assert feed([archived.data]).nodes == [archived.top.node, archived.top.children[0].node]


@given(archives(depth=2))
@settings(max_examples=40)
def test_positions(archived: Archived) -> None:
    """Nodes know where they stand: each FILENAME, ENTRY and payload is where they say."""
    for path, item in archived.top.walk():
        node = item.node
        assert archived.data[node.offset : node.offset + 8] == bytes([64]) + bytes(7)
        if path:
            assert archived.data[node.start + 16 : node.offset] == node.name + b"\0"
        else:
            assert node.start == node.offset == 0
        if node.is_regular:
            assert archived.data[node.payload_offset : node.payload_offset + node.size] == item.data


@given(archives(depth=2))
@settings(max_examples=40)
def test_how_nodes_were_made(archived: Archived) -> None:
    """Fields left out and fields given their defaults are the same."""

    def filled(item: Item) -> Item:
        return Item(replace(item.node), item.data, tuple(map(filled, item.children)))

    assert encode(filled(archived.top), archived.flags).data == archived.data


def test_owners_are_told_apart() -> None:
    """Nodes with the same and with other owners, and kinds that may not have what others have."""
    owners = [(None, None), (b"u", None), (None, b"u"), (b"u", b"u"), (b"u", b"g"), (b"g", b"u")]
    children = [
        make(b"%d%s" % (i, kind), user, group)
        for i, (user, group) in enumerate(owners * 2)
        for kind, make in (
            (b"f", lambda name, user, group: file(name, user=user, group=group)),
            (b"d", lambda name, user, group: directory(name, user=user, group=group)),
            (b"l", lambda name, user, group: symlink(name, b"t", user=user, group=group)),
        )
    ]
    archived = encode(directory(b"", *children))
    assert feed([archived.data]).nodes == [item.node for _, item in archived.top.walk()]
    encoder = opened(select([int(F.PERMISSIONS)]))
    encoder.begin(Node(b"a", REG | 0o644))
    for _ in range(2):
        with pytest.raises(UsageError, match="USER"):
            encoder.begin(Node(b"b", REG | 0o644, user=b"u"))


def test_good_entries_do_not_excuse_bad_ones() -> None:
    """A node is checked also when one with almost the same fields was good."""
    encoder = opened()
    encoder.begin(Node(b"a", REG | 0o644, uid=33))
    encoder.begin(Node(b"b", REG | 0o644, uid=33))
    for bad in (
        Node(b"c", REG | 0o644, uid=33, gid=65535),
        Node(b"c", REG | 0o644, 1 << 40, 33),
        Node(b"c", REG | 0o644, uid=33, mtime=1 << 64),
    ):
        with pytest.raises(UsageError):
            encoder.begin(bad)


@given(st.sets(st.binary(min_size=1, max_size=3), max_size=200))
@settings(max_examples=40)
def test_wide(found: set[bytes]) -> None:
    """Directories of any width are read back, and their record has the size that was foretold."""
    children = sorted(name for name in found if not set(name) & {0, 47} and name not in (b".", b".."))
    archived = encode(directory(b"", *map(file, children)))
    outcome = feed([archived.data])
    assert outcome.ended
    assert [node.name for node in outcome.nodes[1:]] == children
    assert len(archived.data) == 64 + sum(64 + 16 + 17 + len(n) for n in children) + goodbye.record_size(
        len(children)
    )


@pytest.mark.parametrize(("word", "most"), [(F.UIDS_16BIT, 0xFFFE), (F.UIDS_32BIT, 0xFFFFFFFE)])
@pytest.mark.parametrize("field", ["uid", "gid"])
def test_largest_id(word: F, most: int, field: str) -> None:
    """The largest id of either width is stored and read again; -1 of that width is neither written nor read."""
    flags = select([int(word | F.PERMISSIONS)])
    good = Node(b"a", REG | 0o644, **{field: most})
    encoder = Encoder(flags)
    out = encoder.begin(Node(b"", DIR | 0o755))
    child = encoder.begin(good)
    out += child + encoder.end_directory()
    assert getattr(feed([out]).nodes[1], field) == most
    with pytest.raises(UsageError, match=field):
        opened(flags).begin(Node(b"a", REG | 0o644, **{field: most + 1}))
    wrong = out.replace(most.to_bytes(8, "little"), (most + 1).to_bytes(8, "little"))
    assert feed([wrong]).error is not None


def test_most_metadata_of_a_node() -> None:
    """What a decoder would refuse because one node has too much metadata is not written."""
    value = bytes(schema.XATTR_VALUE_MAX)
    room = schema.NODE_METADATA_MAX // (schema.HEADER_SIZE + len(b"user.0000\0") + len(value))
    attributes = tuple(XAttr(b"user.%04d" % i, value) for i in range(room + 1))
    few, many = Node(b"a", REG | 0o644, xattrs=attributes[:-1]), Node(b"b", REG | 0o644, xattrs=attributes)
    encoder = opened()
    encoder.begin(few)
    with pytest.raises(UsageError, match="too much metadata"):
        encoder.begin(many)
    small = tuple(XAttr(b"user.%05d" % i, b"") for i in range(schema.NODE_RECORDS_MAX + 1))
    encoder.begin(Node(b"c", REG | 0o644, xattrs=small[:-1]))
    with pytest.raises(UsageError, match="too much metadata"):
        encoder.begin(Node(b"d", REG | 0o644, xattrs=small))


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.layout.name)
def test_every_kind_counts_as_metadata(kind: MetadataKind) -> None:
    """A node that has any record between ENTRY and tail is known to have one, and without it to have none."""
    node = Node(b"a", REG | 0o644)
    assert not node.has_metadata
    setattr(node, kind.field, 1 if kind.absent == 0 else (object(),))
    assert node.has_metadata
