"""Names of an image that fall together where the target ignores case: told, and nothing else is lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from grounds import Grounds
from test_oci import rawtar
from test_oci.opened import BOTH, opened, tar

from casync_compat.errors import FileError
from casync_compat.oci.checkout import CheckoutOptions, Link, checkout
from casync_compat.oci.unpack import UnpackOptions, unpack

LAYER = tar(
    rawtar.directory(b"Dir/"),
    rawtar.file(b"Dir/Same", b"first"),
    rawtar.file(b"Dir/one", b"1"),
    rawtar.file(b"README", b"first"),
    rawtar.directory(b"dir/"),
    rawtar.file(b"dir/same", b"second"),
    rawtar.directory(b"dir/sub/"),
    rawtar.file(b"dir/sub/two", b"2"),
    rawtar.file(b"other", b"more"),
    rawtar.file(b"readme", b"second"),
    rawtar.hard_link(b"zlink", b"readme"),
    rawtar.symlink(b"README.d", b"nowhere"),
    rawtar.directory(b"readme.D/"),
    rawtar.file(b"readme.D/lost", b"lost"),
)
HELD = {
    "Dir/Same": "first",
    "Dir/one": "1",
    "Dir/sub/two": "2",
    "README": "first",
    "other": "more",
    "zlink": "second",
}
PAIRS = (("README", "readme"), ("Dir", "dir"), ("Dir/Same", "dir/same"), ("README.d", "readme.D"))


def _check(root: Path, warnings: list[str], error: FileError) -> None:
    assert {name: (root / name).read_text() for name in HELD} == HELD
    assert os.readlink(root / "README.d") == "nowhere"
    assert len(os.listdir(root)) == 5
    for one, other in PAIRS:
        assert any(f"{root}/{one} and {root}/{other} are" in line for line in warnings), (one, warnings)
    assert f"{len(PAIRS) - 1} more" in str(error)


@pytest.mark.root
@BOTH
@pytest.mark.parametrize("kind", ["nocase", "nocase-open"])
def test_unpack(tmp_path: Path, ground: Grounds, kind: str, thin: bool) -> None:
    """The bundle is there, with the first of each, and the run has failed."""
    target = ground("out", kind) / "bundle"
    warnings: list[str] = []
    with opened(tmp_path / "layout", [LAYER], thin) as image, pytest.raises(FileError) as caught:
        unpack(image, bytes(target), UnpackOptions(), warn=warnings.append)
    assert (target / "config.json").exists()
    _check(target / "rootfs", warnings, caught.value)


@pytest.mark.root
@pytest.mark.parametrize("link", [Link.COPY, Link.HARDLINK])
def test_checkout(tmp_path: Path, ground: Grounds, link: Link) -> None:
    """So has a checkout, files of the store linked or copied."""
    at = ground("out", "nocase")
    warnings: list[str] = []
    with opened(tmp_path / "layout", [LAYER]) as image, pytest.raises(FileError) as caught:
        options = CheckoutOptions(link=link)
        checkout(image, bytes(at / "tree"), bytes(at / "store"), options, warn=warnings.append)
    _check(at / "tree", warnings, caught.value)
