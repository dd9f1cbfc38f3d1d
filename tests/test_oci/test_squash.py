"""Layers merged to one: the tree that they make together, in one tar that says all of it."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_oci.images import build, layer, layout_at, noise
from test_oci.rawtar import BytesView
from test_oci.strategies import any_tars

from casync_compat.chunker.params import ChunkSizes
from casync_compat.oci.convert import ConvertOptions, convert
from casync_compat.oci.export import ExportOptions, export
from casync_compat.oci.image.squash import squash
from casync_compat.oci.image.wrapped import WrappedImage
from casync_compat.oci.places.selection import look_up
from casync_compat.oci.rootfs.merge import Merger
from casync_compat.oci.rootfs.mergedtree import MergedTree
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.tar.reader import members
from casync_compat.oci.verify import verify_image

SQUASH = ConvertOptions(sizes=ChunkSizes(1024, 4096, 16384), jobs=2, squash=True)


def merged(*tars: bytes) -> MergedTree:
    merger = Merger("x")
    for tar in tars:
        merger.apply(members(BytesView(tar)))
    return merger.finish()


def squashed(*tars: bytes) -> bytes:
    tar, diff_id = squash([BytesView(one) for one in tars], "x")
    with tar:
        data = tar.view.read_at(0, tar.size)
    assert diff_id == type(diff_id).of(data)
    return data


def contents(tree: MergedTree, *tars: bytes) -> dict[bytes, object]:
    """All that is known of each name, hard links by the first of their names."""
    first: dict[int, bytes] = {}
    out: dict[bytes, object] = {}
    for path, inode in tree.walk():
        if inode is None:
            continue
        data = bytearray(inode.size)
        for offset, where, length in inode.parts:
            data[offset : offset + length] = tars[inode.layer][where : where + length]
        out[path] = (
            *(
                inode.kind,
                inode.mode,
                inode.uid,
                inode.gid,
                inode.mtime,
                inode.xattrs,
                inode.acls,
                inode.target,
            ),
            *(inode.device, bytes(data), first.setdefault(id(inode), path)),
        )
    return out


@settings(max_examples=150, deadline=None)
@given(st.lists(any_tars(), min_size=1, max_size=3))
def test_the_same_tree(tars: list[bytes]) -> None:
    """Merging the merged tar gives what merging the layers gave: names, metadata, contents, links."""
    try:
        tree = merged(*tars)
    except ImageError:
        assume(False)
        raise
    one = squashed(*tars)
    assert contents(merged(one), one) == contents(tree, *tars)
    assert squashed(one) == one, "and it is the one form of this tree"


def test_what_upper_layers_hide() -> None:
    """Whited out and replaced files are not in it; a link keeps what its first name lost."""
    below = layer({"a": b"old", "b": b"gone", "d/x": b"gone too"}, links={"kept": "a"})
    above = layer({"a": b"new", ".wh.b": b"", "d/.wh..wh..opq": b"", "d/y": b"y"})
    data = squashed(below, above)
    assert {path: inode.size for path, inode in merged(data).walk() if inode} == {
        b"a": 3,
        b"d": 0,
        b"d/y": 1,
        b"kept": 3,
    }
    assert b"gone" not in data
    assert b"old" in data


@pytest.mark.parametrize("name", ["n" * 101, "d/" * 60 + "x", "é" * 60, "x" * 255])
def test_long_names(name: str) -> None:
    """Names that do not fit into a header are in a PAX header."""
    tar = layer({name: b"x"}, links={"l": name})
    tree = merged(squashed(tar))
    assert tree.find(name.encode()) is tree.find(b"l")


def test_limits() -> None:
    """What becomes too large together is refused."""
    with pytest.raises(ImageError, match=r"larger than|more than the limit"):
        squash([BytesView(layer({"a": bytes(100_000)}))], "x", 50_000)


def test_image(tmp_path: Path) -> None:
    """The converted image has one layer, says that there is no way back, and verifies."""
    with layout_at(tmp_path / "layout") as layout:
        build(layout, "x", [layer({"a": noise(50_000), "b": b"b"}), layer({".wh.b": b"", "c": b"c"})])
        convert(layout, "x", layout, "y", replace(SQUASH, thin=True))
        found = look_up(layout, "y")
        with WrappedImage.open(layout, found.wrappers[0].descriptor, "x") as image:
            assert image.wrapper.squashed
            assert [stat.S_IFMT(m.kind) for m in members(image.tar(0))][:1] == [stat.S_IFDIR]
            assert [member.path for member in members(image.tar(0))] == [b"./", b"a", b"c"]
        assert verify_image(layout, "y").problems == []
        with pytest.raises(ImageError, match="there is no way back"):
            export(layout, "y", layout, "z", ExportOptions())
        again = convert(layout, "x", layout, "y", replace(SQUASH, thin=True)).images[0]
        assert again.new_packs == 0
