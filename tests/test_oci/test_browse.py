"""Looking into images: what is listed and shown is the merged tree, and little is fetched for it."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_oci import rawtar
from test_oci.images import build, layout_at, noise
from test_oci.opened import BOTH, NESTED, converted, opened, tar
from test_oci.strategies import nasty_tars

from casync_compat.errors import CasyncError, NotFound
from casync_compat.oci.convert import ConvertOptions, convert
from casync_compat.oci.image.files import ImageFiles
from casync_compat.oci.image.tree import ImageTree
from casync_compat.oci.places.layout import FileStream, Layout
from casync_compat.oci.spec.blobs import MANIFEST_LIMIT
from casync_compat.oci.spec.descriptor import Descriptor
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.spec.media import PACK_TYPES
from casync_compat.verbs.cat import cat
from casync_compat.verbs.ls import json_line, long_line, ls, name_line


@dataclass
class CountingPlace:
    """A layout that pretends to be far away, and counts what is asked of it."""

    layout: Layout
    asked: list[tuple[str, int]] = field(default_factory=list)
    manifests: dict[str, bytes] = field(default_factory=dict)
    near: bool = False

    @property
    def name(self) -> str:
        return self.layout.name

    def has(self, descriptor: Descriptor) -> bool:
        return self.layout.has(descriptor)

    def open(self, descriptor: Descriptor) -> FileStream:
        self.asked.append((descriptor.media_type, descriptor.size))
        return self.layout.open(descriptor)

    def read(self, descriptor: Descriptor, limit: int = MANIFEST_LIMIT) -> bytes:
        self.asked.append((descriptor.media_type, descriptor.size))
        return self.layout.read(descriptor, limit)

    def read_range(self, descriptor: Descriptor, offset: int, size: int) -> bytes:
        self.asked.append((descriptor.media_type, size))
        return self.layout.read_range(descriptor, offset, size)

    def resolve(self, reference: str | None) -> Descriptor:
        return self.layout.resolve(reference)

    def read_manifest(self, descriptor: Descriptor) -> bytes:
        if str(descriptor.digest) not in self.manifests:  # which a repository keeps, too
            self.asked.append((descriptor.media_type, descriptor.size))
            self.manifests[str(descriptor.digest)] = self.layout.read_manifest(descriptor)
        return self.manifests[str(descriptor.digest)]

    def tags(self) -> list[str]:
        return self.layout.tags()

    @property
    def from_packs(self) -> list[int]:
        """Sizes of what was read of packs."""
        return [size for kind, size in self.asked if kind in PACK_TYPES]


def contents(image: ImageTree, path: str) -> bytes:
    return b"".join(cat(ImageFiles(image), path.encode()))


def listed(image: ImageTree, path: str = "", *, recursive: bool = False) -> list[str]:
    return [entry.path.decode() for entry in ls(ImageFiles(image), path.encode(), recursive=recursive)]


@BOTH
def test_list(tmp_path: Path, thin: bool) -> None:
    """A directory is listed, a file is itself; whited out names are gone, and a link is shown, not followed."""
    with opened(tmp_path / "layout", NESTED, thin) as image:
        assert listed(image) == ["bin", "etc", "fifo", "locked", "usr"]
        assert listed(image, "/etc") == ["etc/empty", "etc/new", "etc/passwd", "etc/sparse"]
        assert listed(image, "./usr//", recursive=True) == [
            *("usr/bin", "usr/bin/link", "usr/bin/tool", "usr/bin/tool2")
        ]
        assert listed(image, "etc/passwd") == ["etc/passwd"]
        assert listed(image, "bin") == ["bin"]
        assert listed(image, "bin/") == ["bin/link", "bin/tool", "bin/tool2"]
        with pytest.raises(NotFound, match="no such path in the archive: /etc/old"):
            listed(image, "/etc/old")


@BOTH
def test_read(tmp_path: Path, thin: bool) -> None:
    """Contents come through links of both kinds, with zeros for holes."""
    with opened(tmp_path / "layout", NESTED, thin) as image:
        assert contents(image, "/etc/new") == b"new"
        assert contents(image, "bin/tool2") == b"\x7fELF" + b"t" * 100_000
        assert (
            contents(image, "bin/link") == contents(image, "etc/passwd") == b"root:x:0:0:root:/root:/bin/sh\n"
        )
        assert contents(image, "etc/empty") == b""
        assert contents(image, "etc/sparse") == bytes(4096) + b"middle" + bytes((1 << 20) - 4102)
        for path, why in (
            ("etc", "not a regular file"),
            ("fifo", "not a regular file"),
            ("etc/old", "no such path"),
        ):
            with pytest.raises(CasyncError, match=why):
                contents(image, path)


@BOTH
def test_upper_layers_win(tmp_path: Path, thin: bool) -> None:
    """A file is that of the uppermost layer that has it, though a link there leads to one below."""
    layers = [
        tar(
            rawtar.file(b"a", b"1"),
            rawtar.file(b"b", b"1"),
            rawtar.directory(b"d"),
            rawtar.symlink(b"l", b"d"),
        ),
        tar(rawtar.file(b"a", b"2"), rawtar.file(b"l/x", b"2")),
        tar(rawtar.hard_link(b"b", b"a"), rawtar.file(b"d/y", b"3")),
    ]
    with opened(tmp_path / "layout", layers, thin) as image:
        assert [contents(image, path) for path in ("a", "b", "d/x", "l/x", "l/y")] == [
            b"2",
            b"2",
            b"2",
            b"2",
            b"3",
        ]


def test_listing_fetches_no_chunk(tmp_path: Path) -> None:
    """The tree of a converted image comes from its recipes alone."""
    converted(tmp_path / "layout", NESTED)
    place = CountingPlace(layout_at(tmp_path / "layout"))
    with ImageTree.open(place, "image", where="image") as image:
        assert len(listed(image, recursive=True)) == 14
    assert place.from_packs == []
    assert len(place.asked) == 2 + 2  # the manifest and our config, two recipes


def test_file_fetches_its_chunks(tmp_path: Path) -> None:
    """Of a large image one small file costs the indexes and one range of a pack."""
    layers = [
        tar(*(rawtar.file(b"d%d/f%d" % (n, n), noise(300_000, n)) for n in range(20))),
        tar(*(rawtar.file(b"e%d" % n, noise(100_000, 100 + n)) for n in range(20))),
    ]
    converted(tmp_path / "layout", layers)
    place = CountingPlace(layout_at(tmp_path / "layout"))
    with ImageTree.open(place, "image", where="image") as image:
        assert contents(image, "e7") == noise(100_000, 107)
    assert len(place.from_packs) == 1
    assert sum(place.from_packs) < 500_000
    assert len(place.asked) == 2 + 2 + 2 + 1  # and one index, the pack index, the range


def test_dual_image_is_read_from_chunks(tmp_path: Path) -> None:
    """Where a tag leads to a plain and a converted image, the converted one is used."""
    layout = layout_at(tmp_path / "layout")
    build(layout, "plain", NESTED)
    convert(layout, "plain", layout, "dual", ConvertOptions())
    place = CountingPlace(layout)
    with ImageTree.open(place, "dual", where="image") as image:
        assert contents(image, "etc/new") == b"new"
    assert len(place.from_packs) == 1


def test_fallback_layers(tmp_path: Path) -> None:
    """A layer that is kept as a tar of chunks is read like any other."""
    odd = tar(rawtar.file(b"d/" + b"n" * 250, b"x"), rawtar.file(b"a" * 70 + b"/" + b"b", noise(90_000)))
    odd = rawtar.gnu_long(b"z/" * 100 + b"f") + rawtar.file(b"f", b"deep") + odd
    with opened(tmp_path / "layout", [odd]) as image:
        assert contents(image, "z/" * 100 + "f") == b"deep"
        assert contents(image, "a" * 70 + "/b") == noise(90_000)


def _seen(path: Path, tars: list[bytes], thin: bool) -> object:
    """Everything that can be seen of an image, or why nothing can."""
    try:
        with opened(path, tars, thin) as image:
            found = []
            tree = ImageFiles(image)
            for entry in ls(tree, recursive=True):
                inode = image.tree.find(entry.path, follow=False)
                data = b"".join(data for _, data in image.read(inode)) if inode.size < 1 << 20 else b""
                found.append((entry.path, json_line(tree, entry), inode.parts, data))
            return found
    except ImageError as error:
        return error.why


@settings(max_examples=40, deadline=None)
@given(st.lists(nasty_tars(), min_size=1, max_size=3))
def test_plain_and_converted_images_are_the_same(tars: list[bytes]) -> None:
    """Whatever the layers, what is seen of an image does not depend on its having been converted."""
    with tempfile.TemporaryDirectory() as at:
        seen = [_seen(Path(at) / f"{thin:d}", tars, thin) for thin in (False, True)]
    assert seen[0] == seen[1]


def test_lines(tmp_path: Path) -> None:
    """The three forms of a line say what there is, names escaped as in other listings."""
    attributes = rawtar.pax([rawtar.xattr(b"user.x", b"\xff")])
    layer = tar(
        attributes + rawtar.file(b"a b\xff", b"12345", mode=0o4711, uid=7, gid=8, mtime=1_600_000_000),
        rawtar.hard_link(b"link", b"a b\xff"),
        rawtar.symlink(b"sym", b"to \xfe", mtime=-1),
        rawtar.header(b"null", 0, b"3", device=(1, 3), mtime=1 << 40),
    )
    with opened(tmp_path / "layout", [layer]) as image:
        tree = ImageFiles(image)
        entries = {entry.path: entry for entry in ls(tree)}
        found, null_json, sym_json = (
            json.loads(json_line(tree, entries[name])) for name in (b"a b\xff", b"null", b"sym")
        )
    assert name_line(entries[b"a b\xff"]) == rb"a\040b\377" + b"\n"
    file, null, sym = (long_line(entries[name]).split() for name in (b"a b\xff", b"null", b"sym"))
    assert file == [b"-rws--x--x", b"2", b"7", b"8", b"5", b"2020-09-13T12:26:40Z", rb"a\040b\377"]
    assert null[4:6] == [b"1,3", b"@%d" % (1 << 40)]
    assert sym[5:] == [b"1969-12-31T23:59:59Z", b"sym", b"->", rb"to\040\376"]
    assert found == {
        "name_base64": "YSBi/w==",
        "type": "file",
        "mode": "4711",
        "size": 5,
        "links": 2,
        "uid": 7,
        "gid": 8,
        "mtime_ns": 1_600_000_000 * 10**9,
        "xattrs": [{"name": "user.x", "value_base64": "/w=="}],
        "layer": 0,
    }
    assert null_json["device"] == {"major": 1, "minor": 3}
    assert sym_json["target_base64"] == "dG8g/g=="
