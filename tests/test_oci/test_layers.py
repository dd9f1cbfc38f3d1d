"""A layer's tar becomes a catar and a recipe, and comes back to the byte, or is refused beforehand."""

from __future__ import annotations

import hashlib
import stat
import struct
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_oci import rawtar, strategies
from test_oci.rawtar import END, BytesView, MemorySink

from casync_compat.errors import UsageError
from casync_compat.oci.spec.descriptor import BlobDigest
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.tar.plan import (
    LayerLimits,
    LayerPlan,
    Unrepresentable,
    layer_flags,
    plan_layer,
    verify,
)
from casync_compat.oci.tar.reader import HARD_LINK, Member, TarLimits, clean_path, members
from casync_compat.oci.tar.recipe import Recipe, rebuild, rebuild_checked
from casync_compat.oci.tar.view import TarView
from catar.flags import flag_names
from catar.records import AclDefault, AclEntry, DirectoryEnd, Node, XAttr
from catar.walker import Walker


@dataclass
class Pieces:
    """Bytes as a decoder takes them."""

    data: bytes

    def read(self) -> bytes:
        data, self.data = self.data, b""
        return data

    def skip(self, count: int) -> None:
        raise AssertionError("all of it was given at once")


@dataclass(frozen=True)
class Converted:
    plan: LayerPlan
    catar: bytes
    recipe: bytes

    def nodes(self) -> dict[bytes, tuple[Node, bytes]]:
        """What a decoder reads in the catar: nodes and contents by path."""
        walker = Walker(Pieces(self.catar))
        found = {}
        for step in walker:
            if not isinstance(step, DirectoryEnd):
                path = walker.path
                found[path] = (step, b"".join(map(bytes, walker.payload())))
        return found

    def rebuilt(self) -> bytes:
        return b"".join(rebuild_checked(Recipe.parse(self.recipe), BytesView(self.catar)))


def diff_id(tar: bytes) -> BlobDigest:
    return BlobDigest.of(tar)


def convert(tar: bytes, **options: object) -> Converted:
    plan = plan_layer(BytesView(tar), **options)  # type: ignore[arg-type]
    sink = MemorySink()
    plan.write(sink)
    return Converted(plan, bytes(sink.data), plan.recipe(diff_id(tar)))


class Untouchable:
    """A catar that must not be read."""

    def __init__(self, size: int) -> None:
        self.size = size

    def read_at(self, offset: int, size: int) -> bytes:
        raise AssertionError(f"payload was read at {offset}")


# The promise


@settings(max_examples=150, deadline=None)
@given(strategies.any_tars(), st.sampled_from(["epoch", "keep"]), st.data())
def test_round_trip(tar: bytes, mtime: str, data: st.DataObject) -> None:
    """Every tar comes back to the byte, whole and in parts, or is refused; its catar is a good one."""
    try:
        found = convert(tar, mtime=mtime)
    except Unrepresentable:
        return
    assert found.rebuilt() == tar
    verify(found.recipe, BytesView(found.catar))
    assert len(found.nodes()) == found.plan.entries
    assert found.plan.catar_size == len(found.catar)
    view = TarView(Recipe.parse(found.recipe), BytesView(found.catar))
    offset = data.draw(st.integers(0, len(tar)))
    size = data.draw(st.integers(0, len(tar)))
    assert view.read_at(offset, size) == tar[offset : offset + size]
    assert view.size == len(tar)


@settings(max_examples=100, deadline=None)
@given(strategies.broken_tars())
def test_broken_tars(tar: bytes) -> None:
    """A tar that is cut short or damaged is refused, or comes back to the byte."""
    try:
        found = convert(tar)
    except Unrepresentable:
        return
    assert found.rebuilt() == tar


@settings(max_examples=150, deadline=None)
@given(strategies.any_tars())
def test_members_of_the_virtual_tar(tar: bytes) -> None:
    """The members of a tar are read through its recipe alone, whatever its payload."""
    try:
        found = convert(tar)
    except Unrepresentable:
        return
    view = TarView(Recipe.parse(found.recipe), Untouchable(len(found.catar)))
    assert list(members(view)) == list(members(BytesView(tar)))


@settings(max_examples=150, deadline=None)
@given(strategies.any_tars())
def test_extents_are_where_payload_is(tar: bytes) -> None:
    """The extents of a range of the tar name the bytes of the catar that it is made of."""
    try:
        found = convert(tar)
    except Unrepresentable:
        return
    view = TarView(Recipe.parse(found.recipe), BytesView(found.catar))
    for member in members(BytesView(tar)):
        for _, at, length in member.ranges():
            position = at
            for extent in view.extents(at, length):
                assert extent.tar == position
                if extent.catar is not None:
                    assert (
                        found.catar[extent.catar : extent.catar + extent.length]
                        == tar[position : position + extent.length]
                    )
                position += extent.length
            assert position == at + length


def contents(tar: bytes, member: Member) -> bytes:
    out = bytearray(member.size)
    for offset, at, length in member.ranges():
        out[offset : offset + length] = tar[at : at + length]
    return bytes(out)


def extracted(tar: bytes) -> dict[bytes, tuple[int, bytes]]:
    """What extracting a tar front to back leaves, worked out in the plainest way: file type and contents by path."""
    tree: dict[bytes, tuple[int, bytes]] = {b"": (stat.S_IFDIR, b"")}
    lower: set[bytes] = set()
    for member in members(BytesView(tar)):
        parts = clean_path(member.path)
        assert parts is not None
        for depth in range(len(parts)):
            tree.setdefault(b"/".join(parts[:depth]), (stat.S_IFDIR, b""))
        path = b"/".join(parts)
        if member.kind == stat.S_IFDIR and tree.get(path, (0, b""))[0] == stat.S_IFDIR:
            continue
        new = (member.kind, contents(tar, member))
        if member.kind == stat.S_IFLNK:
            new = (member.kind, member.linkname)
        if member.kind == HARD_LINK:
            target = b"/".join(clean_path(member.linkname) or ())
            new = tree.get(target, (0, b""))
        for other in [other for other in tree if other == path or other.startswith(path + b"/")]:
            del tree[other]
        lower.discard(path)
        if new[0]:
            tree[path] = new
        else:
            lower.add(path)
    return tree


@settings(max_examples=150, deadline=None)
@given(strategies.any_tars())
def test_tree_is_what_extraction_leaves(tar: bytes) -> None:
    """The catar has the tree that extracting the tar front to back leaves: last ones win, links have contents."""
    try:
        found = convert(tar)
    except Unrepresentable:
        return
    there = {path: (node.kind, node.target or data) for path, (node, data) in found.nodes().items()}
    assert there == extracted(tar)


# What is in the tree


def node(tar: bytes, path: bytes, **options: object) -> Node:
    return convert(tar + END, **options).nodes()[path][0]


def test_empty_tar() -> None:
    """A tar of nothing is an empty root directory; so is one of no bytes at all."""
    for tar in (b"", END, bytes(10240)):
        found = convert(tar)
        assert [*found.nodes()] == [b""]
        assert found.nodes()[b""][0].mode == stat.S_IFDIR | 0o755
        assert found.rebuilt() == tar


def test_missing_parents() -> None:
    """Parents that the tar does not name are directories of root, 0755; if it names them later, as it says."""
    tar = rawtar.file(b"a/b/c", b"1") + rawtar.directory(b"a", mode=0o700, uid=5)
    nodes = convert(tar + END).nodes()
    assert (nodes[b"a/b"][0].mode, nodes[b"a/b"][0].uid) == (stat.S_IFDIR | 0o755, 0)
    assert (nodes[b"a"][0].mode, nodes[b"a"][0].uid) == (stat.S_IFDIR | 0o700, 5)


def test_hard_links_are_copies() -> None:
    """Links have the contents and metadata of their target; the tar's payload is copied from one of them."""
    tar = rawtar.file(b"a", b"payload", mode=0o600, uid=7) + rawtar.hard_link(b"b", b"./a", mode=0, uid=0)
    found = convert(tar + rawtar.hard_link(b"c", b"/b") + END)
    assert found.plan.hardlink_groups == 1
    for path in (b"a", b"b", b"c"):
        copy, data = found.nodes()[path]
        assert (data, copy.mode, copy.uid) == (b"payload", stat.S_IFREG | 0o600, 7)


def test_link_outlives_its_target() -> None:
    """A link means what its target was then, not what replaced it; no payload is kept twice."""
    tar = (
        rawtar.file(b"a", b"old" * 100) + rawtar.hard_link(b"b", b"a") + rawtar.file(b"a", b"new" * 100) + END
    )
    found = convert(tar)
    assert found.nodes()[b"b"][1] == b"old" * 100
    assert found.nodes()[b"a"][1] == b"new" * 100
    assert found.plan.hardlink_groups == 0
    copied = [extent for extent in view_of(found).extents(0, len(tar)) if extent.catar is not None]
    assert [extent.length for extent in copied] == [300, 300]


def view_of(found: Converted) -> TarView:
    return TarView(Recipe.parse(found.recipe), BytesView(found.catar))


def test_link_to_a_lower_layer() -> None:
    """A link to something that is not in the layer is in the recipe only; what it replaces is gone from the tree."""
    tar = rawtar.file(b"b", b"1") + rawtar.hard_link(b"b", b"usr/lower") + rawtar.hard_link(b"c", b"b") + END
    found = convert(tar)
    assert [*found.nodes()] == [b""]
    assert found.rebuilt() == tar


def test_replaced_payload_is_kept() -> None:
    """The payload of a file that is replaced later is in the recipe, and is counted."""
    tar = rawtar.file(b"a", b"1" * 600) + rawtar.file(b"a", b"2") + END
    assert convert(tar).nodes()[b"a"][1] == b"2"
    with pytest.raises(Unrepresentable, match="belong to no file"):
        convert(tar, limits=LayerLimits(lost=500))


def test_whiteouts_are_files() -> None:
    """Whiteouts and opaque markers stand in the catar as what they are in the tar."""
    found = convert(rawtar.file(b"d/.wh.gone", mode=0o600) + rawtar.file(b"d/.wh..wh..opq") + END)
    assert [*found.nodes()] == [b"", b"d", b"d/.wh..wh..opq", b"d/.wh.gone"]
    assert found.nodes()[b"d/.wh.gone"][0].mode == stat.S_IFREG | 0o600
    assert found.plan.whiteouts == 2


@pytest.mark.parametrize("kind", sorted(rawtar.SPARSE))
def test_sparse_files_are_expanded(kind: str) -> None:
    """A sparse file of each of the four formats has its holes in the catar, and its parts are copied from there."""
    parts = [(at, bytes([at // 10_000 + 1]) * 700) for at in range(0, 300_000, 10_000)]
    tar = rawtar.SPARSE[kind](b"s", 400_000, parts) + END
    found = convert(tar)
    expected = bytearray(400_000)
    for at, data in parts:
        expected[at : at + len(data)] = data
    assert found.nodes()[b"s"][1] == expected
    assert found.rebuilt() == tar
    copied = sum(extent.length for extent in view_of(found).extents(0, len(tar)) if extent.catar is not None)
    assert copied == 700 * len(parts)


def test_times() -> None:
    """By default all times are the epoch; a given epoch keeps those before it; `keep` keeps them within bounds."""
    tar = (
        rawtar.file(b"old", mtime=1000)
        + rawtar.file(b"new", mtime=3000)
        + rawtar.file(b"neg", mtime=-5)
        + END
    )

    def times(**options: object) -> list[int]:
        nodes = convert(tar, **options).nodes()
        return [nodes[path][0].mtime // 1_000_000_000 for path in (b"old", b"new", b"neg", b"")]

    assert times() == [0, 0, 0, 0]
    assert times(epoch=2000) == [1000, 2000, 0, 0]
    assert times(mtime="keep") == [1000, 3000, 0, 0]
    with pytest.raises(UsageError):
        plan_layer(BytesView(tar), epoch=-1)


def test_nanoseconds_only_where_there_are_some() -> None:
    """Times are kept to the nanosecond if one of the layer's has a fraction, else to the second."""
    fine = rawtar.pax([(b"mtime", b"1.000000001")]) + rawtar.file(b"a") + END
    assert "nsec-time" in flag_names(convert(fine, mtime="keep").plan.feature_flags)
    assert node(fine[: -len(END)], b"a", mtime="keep").mtime == 1_000_000_001
    assert "sec-time" in flag_names(convert(fine).plan.feature_flags)
    assert "sec-time" in flag_names(
        convert(rawtar.file(b"a", mtime=1) + END, mtime="keep").plan.feature_flags
    )


def test_feature_flags() -> None:
    """The flags do not depend on what the layer has."""
    assert flag_names(layer_flags()) == [
        *("32bit-uids", "sec-time", "symlinks", "device-nodes", "fifos", "sockets"),
        *("xattrs", "acl", "selinux", "fcaps"),
    ]
    assert convert(END).plan.feature_flags == layer_flags()
    assert layer_flags(digest_bits=0) == layer_flags() & ~(1 << 61)


@pytest.mark.parametrize(
    ("uid", "stored"), [(65534, 65534), (65535, 65534), (65536, 65536), (0xFFFFFFFF, 65534)]
)
def test_owners(uid: int, stored: int) -> None:
    """Owners that a catar cannot hold become nobody, who gets no setuid file from that."""
    found = node(rawtar.file(b"a", uid=uid, mode=0o4755), b"a")
    assert found.uid == stored
    assert found.mode & 0o7777 == (0o4755 if uid == stored else 0o755)


def test_symlink_modes() -> None:
    """Symlinks are 0777 in a catar, whatever the tar says."""
    found = node(rawtar.symlink(b"l", b"target", mode=0o644), b"l")
    assert (found.mode, found.target) == (stat.S_IFLNK | 0o777, b"target")


def test_extended_attributes() -> None:
    """Attributes go where a catar has a place for them; those without are left out; the tar is unharmed."""
    records = [
        rawtar.xattr(b"user.b", b""),
        rawtar.xattr(b"trusted.a", b"\0\n="),
        rawtar.xattr(b"security.capability", b"caps"),
        rawtar.xattr(b"security.selinux", b"label\0"),
        rawtar.xattr(b"security.ima", b"x"),
        rawtar.libarchive_xattr(b"user.c%2F", b"\1\2"),
    ]
    tar = rawtar.pax(records) + rawtar.file(b"f") + rawtar.pax(records) + rawtar.directory(b"d") + END
    found = convert(tar)
    attributes = (XAttr(b"trusted.a", b"\0\n="), XAttr(b"user.b", b""), XAttr(b"user.c/", b"\1\2"))
    file, directory = (found.nodes()[path][0] for path in (b"f", b"d"))
    assert (file.xattrs, file.fcaps, file.selinux) == (attributes, b"caps", b"label")
    assert (directory.xattrs, directory.fcaps, directory.selinux) == (attributes, None, b"label")
    assert found.rebuilt() == tar


def acl_value(*entries: tuple[int, int, int]) -> bytes:
    return b"\2\0\0\0" + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def test_acls() -> None:
    """The kernel's form of ACLs becomes ACL records; one that is malformed or cannot be stored is left out."""
    nobody = 0xFFFFFFFF
    access = acl_value(
        (1, 6, nobody), (2, 7, 1000), (4, 4, nobody), (8, 5, 7), (0x10, 7, nobody), (0x20, 4, nobody)
    )
    default = acl_value((1, 7, nobody), (4, 5, nobody), (0x20, 0, nobody))
    both = [
        rawtar.xattr(b"system.posix_acl_access", access),
        rawtar.xattr(b"system.posix_acl_default", default),
    ]
    found = node(rawtar.pax(both) + rawtar.directory(b"d", mode=0o674), b"d")
    assert found.acl_users == (AclEntry(1000, 7),)
    assert found.acl_groups == (AclEntry(7, 5),)
    assert found.acl_group_obj == 4
    assert found.acl_default == AclDefault(7, 5, 0, None)
    for bad in (access[:-1], access.replace(struct.pack("<I", 1000), struct.pack("<I", 65535))):
        records = [rawtar.xattr(b"system.posix_acl_access", bad)]
        assert not node(rawtar.pax(records) + rawtar.file(b"f"), b"f").has_acl_records


TEXT = b"user::rw-,user:www:rwx:1000,group::r--,group:7:r-x,mask::rwx,other::r--"


def test_acls_as_text() -> None:
    """ACLs as star and GNU tar write them become the same records, and the tar comes back to the byte."""
    both = [(b"SCHILY.acl.access", TEXT), (b"SCHILY.acl.default", b"u::rwx,g::r-x,o::---")]
    tar = rawtar.pax(both) + rawtar.directory(b"d", mode=0o674) + END
    converted = convert(tar)
    found = converted.nodes()[b"d"][0]
    assert found.acl_users == (AclEntry(1000, 7),)
    assert found.acl_groups == (AclEntry(7, 5),)
    assert found.acl_group_obj == 4
    assert found.acl_default == AclDefault(7, 5, 0, None)
    assert converted.rebuilt() == tar


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace(b":1000", b""),
        TEXT.replace(b"mask::rwx", b"mask::r-x"),
        TEXT.replace(b"1000", b"65535"),
        TEXT[:-4],
        b"\0\xff",
    ],
)
def test_acls_as_text_left_out(text: bytes) -> None:
    """A text with a name alone, with another mask than the mode, or that is no ACL leaves no record, nor harm."""
    tar = rawtar.pax([(b"SCHILY.acl.access", text)]) + rawtar.file(b"f", mode=0o674) + END
    converted = convert(tar)
    assert not converted.nodes()[b"f"][0].has_acl_records
    assert converted.rebuilt() == tar


# What is refused


def long_named(path: bytes) -> bytes:
    return rawtar.pax([(b"path", path)]) + rawtar.file(b"x")


REFUSED = {
    "dot dot": (rawtar.file(b"a/../b"), "its path has '..' in it"),
    "link out": (rawtar.file(b"a") + rawtar.hard_link(b"b", b"../a"), "hard link to a path with '..'"),
    "beneath a file": (rawtar.file(b"a") + rawtar.file(b"a/b"), "beneath something that is not a directory"),
    "beneath a symlink": (rawtar.symlink(b"a", b"usr") + rawtar.file(b"a/b"), "is not a directory"),
    "link beneath a symlink": (
        rawtar.symlink(b"a", b"usr") + rawtar.hard_link(b"l", b"a/b"),
        "a hard link to something beneath a file or symlink",
    ),
    "link to a directory": (
        rawtar.directory(b"d") + rawtar.hard_link(b"l", b"d"),
        "a hard link to a directory",
    ),
    "link to the root": (rawtar.hard_link(b"l", b"./"), "to the root"),
    "link to itself": (rawtar.file(b"a") + rawtar.hard_link(b"a", b"a"), "a hard link to itself"),
    "link over a directory": (
        rawtar.file(b"a") + rawtar.file(b"d/b") + rawtar.hard_link(b"d", b"a"),
        "a hard link replaces a directory",
    ),
    "root is a file": (rawtar.file(b"./"), "replace the root directory"),
    "unknown type": (rawtar.header(b"label", typeflag=b"V"), "unknown type b'V'"),
    "file with a slash": (rawtar.file(b"a/"), "name ends in a slash"),
    "long name": (long_named(b"n" * 256), "more than 255 bytes"),
    "long parent": (long_named(b"n" * 256 + b"/x"), "more than 255 bytes"),
    "too deep": (long_named(b"d/" * 63 + b"x"), "deeper than 64 levels"),
    "empty target": (rawtar.symlink(b"l", b""), "its target has 0 bytes"),
    "large device": (rawtar.header(b"n", typeflag=b"3", device=(4096, 0)), "device number 4096:0"),
    "not a tar": (b"no tar header".ljust(512, b"."), "no tar header"),
    "cut short": (rawtar.file(b"a", b"1" * 1000)[:-600], "cut short within a member"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    """What a catar cannot hold, or what has no clear meaning, is refused before anything is written."""
    tar, why = REFUSED[name]
    with pytest.raises(Unrepresentable) as caught:
        plan_layer(BytesView(tar), where="layer 3")
    assert str(caught.value).startswith("layer 3: ")
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_deep_enough() -> None:
    """The deepest tree that casync can read is taken."""
    assert len(convert(long_named(b"d/" * 62 + b"x") + END).nodes()) == 64


def test_bombs() -> None:
    """Holes, links and sheer numbers that would fill disk or memory are refused."""
    hole = rawtar.sparse_old(b"s", 1 << 60, [])
    links = rawtar.file(b"a", b"1" * 5000) + b"".join(rawtar.hard_link(b"l%d" % i, b"a") for i in range(30))
    with pytest.raises(Unrepresentable, match="holes and hard links"):
        convert(hole + END)
    with pytest.raises(Unrepresentable, match="holes and hard links"):
        convert(links + END, limits=LayerLimits(growth=100_000))
    with pytest.raises(Unrepresentable, match="more than 10 entries"):
        convert(rawtar.file(b"d/" * 20 + b"x") + END, limits=LayerLimits(entries=10))
    with pytest.raises(Unrepresentable, match="more than 30 members"):
        convert(links + END, tar_limits=TarLimits(members=30))
    sparse = rawtar.sparse_old(b"s", 1000, [(i, b"1") for i in range(0, 100, 2)])
    with pytest.raises(Unrepresentable, match="more than 49 parts"):
        convert(sparse + END, limits=LayerLimits(ranges=49))
    with pytest.raises(Unrepresentable, match="belong to no file"):
        convert(END + b"\1" * 5000, limits=LayerLimits(lost=4000))


def test_large_tail_of_zeros() -> None:
    """Any number of zeros after the end takes next to nothing in the recipe."""
    tar = rawtar.file(b"a", b"1") + bytes(5_000_000)
    found = convert(tar, limits=LayerLimits(lost=0))
    assert len(found.recipe) < 400
    assert found.rebuilt() == tar


def test_progress() -> None:
    """Whoever waits is told how far it is, within large files too."""
    seen: list[int] = []
    plan = plan_layer(
        BytesView(rawtar.file(b"a", b"1" * 3_000_000) + rawtar.file(b"b", b"2" * 2_000_000) + END)
    )
    plan.write(MemorySink(), seen.append)
    assert seen == sorted(seen)
    assert len(seen) >= 2


class Shrinking(BytesView):
    def read_at(self, offset: int, size: int) -> bytes:
        return self.data[offset : min(offset + size, 3000)]


def test_tar_that_shrinks() -> None:
    """A tar that becomes shorter between planning and writing is an error, not a short file."""
    tar = rawtar.file(b"a", b"1" * 5000) + END
    plan = plan_layer(BytesView(tar), where="layer 1")
    plan._tar = Shrinking(tar)
    with pytest.raises(ImageError, match="layer 1: its tar became shorter"):
        plan.write(MemorySink())


def test_order_of_calls() -> None:
    """The recipe is known after the catar is written, which happens once."""
    plan = plan_layer(BytesView(END))
    with pytest.raises(UsageError):
        plan.recipe(diff_id(END))
    plan.write(MemorySink())
    with pytest.raises(UsageError):
        plan.write(MemorySink())


def test_verify_notices() -> None:
    """A catar with a single other byte is found out, and so is another digest than the tar's."""
    tar = rawtar.file(b"a", b"payload") + END
    found = convert(tar)
    at = found.catar.index(b"payload")
    changed = found.catar[:at] + b"P" + found.catar[at + 1 :]
    with pytest.raises(ImageError, match="has the digest sha256:"):
        verify(found.recipe, BytesView(changed))
    with pytest.raises(ImageError, match="has the digest sha256:"):
        verify(found.plan.recipe(BlobDigest.of(b"other")), BytesView(found.catar))
    with pytest.raises(ImageError, match="belongs to an archive of"):
        verify(found.recipe, BytesView(found.catar + b"1"))
    assert hashlib.sha256(b"".join(rebuild(Recipe.parse(found.recipe), BytesView(changed)))).digest()


def test_deterministic() -> None:
    """The same tar gives the same bytes; extended attributes and members in another order give the same catar."""
    one = rawtar.file(b"a", b"1") + rawtar.directory(b"d") + rawtar.file(b"d/x", b"2")
    two = rawtar.file(b"d/x", b"2") + rawtar.directory(b"d") + rawtar.file(b"a", b"1")
    assert convert(one + END).recipe == convert(one + END).recipe
    assert convert(one + END).catar == convert(two + END).catar
