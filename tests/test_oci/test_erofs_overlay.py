"""A tree of an image becomes one for overlayfs, and nothing in it can make overlayfs look elsewhere."""

from __future__ import annotations

import stat

import pytest

from casync_compat.oci.erofs.image import write_image
from casync_compat.oci.erofs.node import Node
from casync_compat.oci.erofs.overlay import Backing, compose
from casync_compat.oci.rootfs.mergedtree import Inode, MergedTree

_BACKING = Backing(b"ab/" + b"c" * 62, b"\x12" * 32)
_DIGEST = b"\0\x24\0\1" + b"\x12" * 32


def _compose(
    children: dict[bytes, Inode], contents: Backing | bytes | None = _BACKING, root: Inode | None = None
) -> tuple[Node, list[tuple[bytes, str]]]:
    root = root or Inode(stat.S_IFDIR)
    root.children = children
    lost: list[tuple[bytes, str]] = []
    composed, version = compose(
        MergedTree(root, "image"),
        lambda inode: contents,
        lambda inode: inode.xattrs,
        lambda path, what, why: lost.append((path, what)),
    )
    write_image(composed, version)  # it can be written
    return composed, lost


def _file(size: int = 100, **more: object) -> Inode:
    return Inode(stat.S_IFREG, 0o644, size=size, **more)  # type: ignore[arg-type]


def test_a_file_leads_to_the_store_by_an_absolute_name() -> None:
    """As large as its contents, with their fs-verity digest."""
    root, _ = _compose({b"f": _file(12345)})
    stub = root.children[b"f"]

    assert (stub.size, stub.content) == (12345, None)
    assert dict(stub.xattrs) == {
        b"trusted.overlay.metacopy": _DIGEST,
        b"trusted.overlay.redirect": b"/ab/" + b"c" * 62,
    }


@pytest.mark.parametrize(
    "name", [b"metacopy", b"redirect", b"opaque", b"whiteout", b"overlay.redirect", b"origin"]
)
@pytest.mark.parametrize("kind", ["file", "empty", "directory", "root", "link"])
def test_what_an_image_says_about_overlays_means_nothing_to_the_mount(name: bytes, kind: str) -> None:
    """`trusted.overlay.*` is escaped on inodes of all kinds, so that it comes out again as the image has it."""
    xattrs = ((b"trusted.overlay." + name, b"/../../etc/shadow"),)
    inode = {
        "file": _file(xattrs=xattrs),
        "empty": _file(0, xattrs=xattrs),
        "link": Inode(stat.S_IFLNK, 0o777, target=b"x", xattrs=xattrs),
    }.get(kind, Inode(stat.S_IFDIR, xattrs=xattrs))
    root, lost = _compose({b"f": inode}) if kind != "root" else _compose({}, root=inode)
    found = dict((root.children[b"f"] if kind != "root" else root).xattrs)

    assert found.pop(b"trusted.overlay.overlay." + name) == b"/../../etc/shadow"
    if kind == "root":
        assert found.pop(b"trusted.overlay.opaque") == b"y"
    if kind == "file":
        assert found.pop(b"trusted.overlay.redirect") == b"/" + _BACKING.name
        assert found.pop(b"trusted.overlay.metacopy") == _DIGEST
    assert not found
    assert not lost


def test_attributes_of_users_overlays_stay() -> None:
    """`user.overlay.*` means nothing to a mount of root's."""
    root, _ = _compose({b"f": _file(0, xattrs=((b"user.overlay.redirect", b"/x"),))})

    assert root.children[b"f"].xattrs == ((b"user.overlay.redirect", b"/x"),)


def test_a_whiteout_of_the_image_is_a_file_that_hides_nothing() -> None:
    """Character device 0:0, which overlayfs would take for a name that is not there."""
    root, _ = _compose({b"d": Inode(stat.S_IFDIR, children={b"w": Inode(stat.S_IFCHR, 0o600)})})
    directory = root.children[b"d"]

    assert stat.S_ISREG(directory.children[b"w"].mode)
    assert b"trusted.overlay.overlay.whiteout" in dict(directory.children[b"w"].xattrs)
    assert dict(directory.xattrs)[b"trusted.overlay.overlay.opaque"] == b"x"


@pytest.mark.parametrize(
    "name", [b"../../etc/shadow", b"ab/../" + b"c" * 59, b"/" + b"a" * 64, b"ab//" + b"c" * 61, b""]
)
def test_only_names_of_the_store_are_led_to(name: bytes) -> None:
    """Whoever names the contents."""
    with pytest.raises(ValueError, match="store"):
        _compose({b"f": _file()}, Backing(name))


def test_a_name_of_an_image_that_the_store_has_too_is_the_images() -> None:
    """The names that hide the store's directories give way to it; the others are hidden."""
    root, _ = _compose({b"ab": _file(0), b"zz": _file(0)})

    assert stat.S_ISREG(root.children[b"ab"].mode)
    assert stat.S_ISCHR(root.children[b"ac"].mode)
    assert len(root.children) == 257


def test_small_files_and_holes_need_no_store() -> None:
    """Contents are in the image; a file of nothing but a hole reads as zeros by itself."""
    small, hole = (_compose({b"f": _file(5)}, contents)[0].children[b"f"] for contents in (b"hello", None))

    assert (small.content, small.xattrs) == (b"hello", ())
    assert (hole.content, hole.size, hole.xattrs) == (None, 5, ())


def test_what_an_image_cannot_hold_is_left_out_and_told() -> None:
    """Devices and owners that Linux has not, attributes without a place."""
    _, lost = _compose(
        {
            b"device": Inode(stat.S_IFBLK, 0o600, device=(1 << 13, 0)),
            b"owner": _file(0, uid=1 << 33),
            b"attribute": _file(0, xattrs=((b"system.nfs4_acl", b"x"), (b"user.large", bytes(1 << 16)))),
        }
    )

    assert sorted(lost) == [
        (b"attribute", "extended attributes"),
        (b"attribute", "extended attributes"),
        (b"device", "device nodes"),
        (b"owner", "owners"),
    ]


def test_hard_links_are_one_inode() -> None:
    """With all its names counted, wherever they are."""
    both = _file()
    root, _ = _compose({b"a": both, b"d": Inode(stat.S_IFDIR, children={b"b": both})})

    assert root.children[b"a"] is root.children[b"d"].children[b"b"]
    assert (root.children[b"a"].links, root.links) == (2, 3)
