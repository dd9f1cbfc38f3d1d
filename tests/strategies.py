"""Hypothesis strategies shared by all tests: feature flag words, names, nodes and whole trees.

    @given(archives())
    def test_something(archive: Archived) -> None: ...

Everything drawn is valid: what `nodes(flags)` gives may stand in an archive with these flags, and children are in
order. `Item` is a tree in memory; `encode` serialises one with `catar.Encoder`. Nothing here touches the file system.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from functools import cache

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from catar.encoder import Encoder
from catar.flags import (
    DEFAULT,
    NAMED_SETS,
    NODE_FLAGS,
    OPTION_NAMES,
    SUBVOLUME_BITS,
    FeatureFlags,
    normalise,
    select,
    time_granularity,
)
from catar.grammar import NODE_FEATURES
from catar.records import AclDefault, AclEntry, Node, XAttr, stored_time

F = FeatureFlags
U64_MAX = (1 << 64) - 1
SECOND = 1_000_000_000

NUMERIC_IDS = int(F.UIDS_16BIT | F.UIDS_32BIT)
EARLIEST, LATEST = -(1 << 31), (1 << 34) - (1 << 31) - 1
"""What ext4 holds, in seconds since the epoch: 1901 to 2446."""


@dataclass(frozen=True, slots=True)
class Item:
    """A node and what is in it.

    :ivar data: a regular file's payload; `node.size` is its length
    :ivar children: of a directory, in order of their names
    """

    node: Node
    data: bytes = b""
    children: tuple[Item, ...] = ()

    def walk(self, path: bytes = b"") -> Iterator[tuple[bytes, Item]]:
        """This item and everything below it, with paths, in the order of the archive."""
        yield path, self
        for child in self.children:
            yield from child.walk(path + b"/" + child.node.name if path else child.node.name)


@dataclass(frozen=True, slots=True)
class Archived:
    """A tree and its serialisation.

    :ivar top: with the positions that the encoder gave its nodes
    """

    flags: int
    top: Item
    data: bytes


def encode(top: Item, flags: int = DEFAULT, *, any_top: bool = False) -> Archived:
    """Serialise a tree. The nodes given are left alone; those of the result have their positions set."""
    encoder = Encoder(flags, any_top=any_top)
    out = bytearray()

    def put(item: Item) -> Item:
        node = copy(item.node)  # with no more of its own than it has: encoders look at that
        out.extend(encoder.begin(node))
        if node.is_regular:
            out.extend(item.data)
            encoder.advance(len(item.data))
        children = tuple(map(put, item.children))
        if node.is_dir:
            out.extend(encoder.end_directory())
        return Item(node, item.data, children)

    placed = put(top)
    assert encoder.complete
    assert encoder.offset == len(out)
    return Archived(flags, placed, bytes(out))


# ---- shorthand for trees written by hand -------------------------------------------------------------------------


def file(name: bytes, data: bytes = b"", mode: int = 0o644, **metadata: object) -> Item:
    """A regular file."""
    return Item(Node(name, stat.S_IFREG | mode, size=len(data), **metadata), data)  # type: ignore[arg-type]


def directory(name: bytes, *children: Item, mode: int = 0o755, **metadata: object) -> Item:
    """A directory; children are put in order of their names."""
    ordered = tuple(sorted(children, key=lambda child: child.node.name))
    return Item(Node(name, stat.S_IFDIR | mode, **metadata), b"", ordered)  # type: ignore[arg-type]


def symlink(name: bytes, target: bytes, **metadata: object) -> Item:
    """A symbolic link."""
    return Item(Node(name, stat.S_IFLNK | 0o777, target=target, **metadata))  # type: ignore[arg-type]


def special(name: bytes, mode: int, device: tuple[int, int] | None = None, **metadata: object) -> Item:
    """A fifo, socket or device node; `mode` has the file type."""
    return Item(Node(name, mode, device=device, **metadata))  # type: ignore[arg-type]


# ---- strategies --------------------------------------------------------------------------------------------------
# Cached, because hypothesis takes longer to look through a new strategy than to draw from it.


@cache
def u64() -> SearchStrategy[int]:
    """Any unsigned 64-bit number, often an extreme one."""
    return st.integers(0, U64_MAX) | st.sampled_from([0, 1, 15, 16, 1 << 63, U64_MAX - 1, U64_MAX])


@cache
def raw_flag_words() -> SearchStrategy[int]:
    """Any combination of with bits and exclude bits, and one digest bit at most; not normalised."""
    bits = [*map(int, OPTION_NAMES.values()), *map(int, NAMED_SETS.values())]
    others = [int(F.EXCLUDE_FILE), int(F.EXCLUDE_NODUMP), int(F.EXCLUDE_SUBMOUNTS)]
    digest = st.sampled_from([int(F.SHA512_256), 0, int(F.BLAKE3)])
    return st.builds(_all_of, st.lists(st.sampled_from(bits + others), max_size=12), digest)


def _all_of(words: list[int], digest: int) -> int:
    out = digest
    for word in words:
        out |= word
    return out


@cache
def flag_words() -> SearchStrategy[int]:
    """Normalised flag words: casync's default, the composite sets, and any other combination."""
    sets = [DEFAULT, *(select([value]) for value in NAMED_SETS.values())]
    return st.sampled_from(sets) | raw_flag_words().map(normalise)


@cache
def names() -> SearchStrategy[bytes]:
    """File names: short ones that share prefixes, any bytes, and long ones."""
    near = st.lists(st.sampled_from([b"a", b"b", b".", b"-", b"\xff", b"\n"]), min_size=1, max_size=4).map(
        b"".join
    )
    wild = st.binary(min_size=1, max_size=12)
    long = st.binary(min_size=1, max_size=2).map(lambda unit: (unit * 255)[:255])
    return (near | wild | long).map(_as_name)


def _as_name(raw: bytes) -> bytes:
    name = raw.replace(b"\0", b"0").replace(b"/", b"|")
    return b"_" if name in (b".", b"..") else name


@cache
def text(longest: int) -> SearchStrategy[bytes]:
    """Non-empty bytes without NUL."""
    return st.binary(min_size=1, max_size=longest).map(lambda raw: raw.replace(b"\0", b"."))


@cache
def times(granularity: int) -> SearchStrategy[int]:
    """Modification times as an archive of this granularity stores them; negative and far ones among them."""
    seconds = st.integers(EARLIEST, LATEST) | st.sampled_from([EARLIEST, -1, 0, 1, 1 << 31, LATEST])
    return st.builds(
        lambda second, ns: stored_time(second * SECOND + ns, granularity), seconds, st.integers(0, SECOND - 1)
    )


@cache
def ids(flags: int) -> SearchStrategy[int]:
    """User and group ids that the flags can express."""
    if flags & F.UIDS_32BIT:
        return st.sampled_from([0, 1, 33, 65534, 65536, 0xFFFFFFFE]) | st.integers(0, 60000)
    return st.integers(0, 65534) if flags & F.UIDS_16BIT else st.just(0)


@cache
def permissions(kind: int, flags: int) -> SearchStrategy[int]:
    """Permission bits that a node of this type may have in an archive with these flags."""
    if kind == stat.S_IFLNK:
        return st.just(0o777)
    if flags & (F.PERMISSIONS | F.ACL):
        return st.integers(0, 0o7777)
    writable, read_only = (0o777, 0o555) if kind == stat.S_IFDIR else (0o666, 0o444)
    return st.sampled_from([writable, read_only] if flags & F.READ_ONLY else [writable])


@cache
def xattrs() -> SearchStrategy[tuple[XAttr, ...]]:
    """Extended attributes of one node, in order."""
    spaces = st.sampled_from([b"user.", b"trusted.", b"x."])
    named = st.dictionaries(st.builds(bytes.__add__, spaces, text(20)), st.binary(max_size=40), max_size=4)
    return named.map(lambda found: tuple(XAttr(name, found[name]) for name in sorted(found)))


@cache
def acl_entries(flags: int) -> SearchStrategy[tuple[AclEntry, ...]]:
    """Named entries of one ACL, in casync's order."""
    name = st.none() | text(12) if flags & F.USER_NAMES else st.none()
    entry = st.builds(AclEntry, ids(flags), st.integers(0, 7), name)
    return st.lists(entry, max_size=4, unique_by=lambda found: found.sort_key).map(
        lambda found: tuple(sorted(found, key=lambda one: one.sort_key))
    )


@cache
def acl_defaults(named: bool) -> SearchStrategy[AclDefault]:
    """The unnamed part of a default ACL; with a mask where there are named entries."""
    bits = st.integers(0, 7)
    mask = bits if named else st.none() | bits
    return st.builds(AclDefault, st.none() | bits, st.none() | bits, st.none() | bits, mask)


_NAME_OR_NONE = st.none() | text(32)
_LABEL_OR_NONE = st.none() | text(30)
_ACL_BITS = st.integers(0, 7)
_FCAPS = st.none() | st.binary(max_size=24)
_PROJECTS = st.sampled_from([0, 1, 1000, 0xFFFFFFFE])
_DATA = st.binary(max_size=60) | st.integers(0, 300).map(bytes)
_CHILD_NAMES = st.sets(names(), max_size=5)
_TARGETS = text(40)
_MAJOR, _MINOR = st.integers(0, 4095), st.integers(0, (1 << 20) - 1)
_ANY_FLAGS = st.integers(0, NODE_FLAGS)
_RELEVANT = NUMERIC_IDS | int(F.USER_NAMES | F.PERMISSIONS | F.ACL | F.READ_ONLY)


@cache
def kinds(flags: int) -> SearchStrategy[int]:
    """File types that may stand in an archive with these flags."""
    return st.sampled_from([kind for kind, needs in NODE_FEATURES.items() if not needs or flags & needs])


@st.composite
def nodes(draw: DrawFn, flags: int, name: bytes = b"", kind: int | None = None) -> Node:
    """A valid node without contents.

    :param kind: its file type; None for any that the flags allow
    """
    if kind is None:
        kind = draw(kinds(flags))
    relevant = flags & _RELEVANT  # few values, so that the cached strategies below are found
    node = Node(name, kind | draw(permissions(kind, relevant)), mtime=draw(times(time_granularity(flags))))
    node.uid, node.gid = draw(ids(relevant)), draw(ids(relevant))
    if kind in (stat.S_IFREG, stat.S_IFDIR):
        allowed = flags & NODE_FLAGS & ~(0 if kind == stat.S_IFDIR else SUBVOLUME_BITS)
        node.flags = draw(_ANY_FLAGS) & allowed
    if kind == stat.S_IFLNK:
        node.target = draw(_TARGETS)
    if kind in (stat.S_IFBLK, stat.S_IFCHR):
        node.device = (draw(_MAJOR), draw(_MINOR))
    if draw(st.booleans()):
        draw(_metadata(node, flags))
    return node


@st.composite
def _metadata(draw: DrawFn, node: Node, flags: int) -> None:
    if flags & F.USER_NAMES:
        node.user, node.group = draw(_NAME_OR_NONE), draw(_NAME_OR_NONE)
    if flags & F.SELINUX:
        node.selinux = draw(_LABEL_OR_NONE)
    if node.is_symlink:
        return
    if flags & F.XATTRS:
        node.xattrs = draw(xattrs())
    entries = acl_entries(flags & _RELEVANT)
    if flags & F.ACL and draw(st.booleans()):
        node.acl_users, node.acl_groups = draw(entries), draw(entries)
        node.acl_group_obj = draw(_ACL_BITS)
    if node.is_dir and flags & F.ACL and draw(st.booleans()):
        node.acl_default_users, node.acl_default_groups = draw(entries), draw(entries)
        node.acl_default = draw(acl_defaults(bool(node.acl_default_users or node.acl_default_groups)))
    if node.is_regular and flags & F.FCAPS:
        node.fcaps = draw(_FCAPS)
    if (node.is_regular or node.is_dir) and flags & F.QUOTA_PROJID:
        node.projid = draw(_PROJECTS)


@st.composite
def items(draw: DrawFn, flags: int, name: bytes = b"", kind: int | None = None, depth: int = 3) -> Item:
    """A node with contents; directories have up to five children each, `depth` levels down."""
    node = draw(nodes(flags, name, kind))
    if node.is_regular:
        data = draw(_DATA)
        node.size = len(data)
        return Item(node, data)
    if not node.is_dir or not depth:
        return Item(node)
    found = sorted(draw(_CHILD_NAMES))
    return Item(node, b"", tuple(draw(items(flags, child, None, depth - 1)) for child in found))


@st.composite
def archives(draw: DrawFn, flags: int | None = None, depth: int = 3) -> Archived:
    """A valid archive: a tree with its serialisation.

    :param flags: its flag word; None for any
    """
    word = draw(flag_words()) if flags is None else flags
    return encode(draw(items(word, kind=stat.S_IFDIR, depth=depth)), word)


@st.composite
def plain_archives(draw: DrawFn, flags: int = DEFAULT) -> Archived:
    """A valid archive in which most nodes are ordinary: no attributes, owners by number and perhaps by name."""
    top = draw(items(flags, kind=stat.S_IFDIR))
    for _, item in top.walk():
        if draw(st.integers(0, 7)):
            full = item.node
            kept = (full.name, full.mode, 0, full.uid, full.gid, full.mtime, full.user, full.group)
            plain = Node(*kept, size=full.size, target=full.target, device=full.device)
            full.__dict__.clear()
            full.__dict__.update(plain.__dict__)
    return encode(top, flags)
