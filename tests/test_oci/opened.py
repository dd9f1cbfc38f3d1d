"""Images built from tars and opened as trees, plain and converted alike.

>>> with opened(tmp_path, [tar]) as image: image.tree.find(b"/etc/passwd")
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_oci import rawtar
from test_oci.images import build, layout_at

from casync_compat.oci.convert import ConvertOptions, convert
from casync_compat.oci.image.tree import ImageTree
from casync_compat.oci.rootfs.merge import MergeLimits

__all__ = ["BOTH", "NESTED", "converted", "opened", "opened_again", "tar"]

BOTH = pytest.mark.parametrize("thin", [False, True], ids=["plain", "converted"])
"""Whether an image is used as it is, or converted."""


def tar(*members: bytes) -> bytes:
    """A layer of these members."""
    return b"".join(members) + rawtar.END


def converted(path: Path, tars: Sequence[bytes], tag: str = "image") -> None:
    """Make a layout with a converted image, and nothing else under the tag."""
    layout = layout_at(path)
    build(layout, f"{tag}-plain", tars)
    convert(layout, f"{tag}-plain", layout, tag, ConvertOptions(thin=True))
    layout.close()


@contextmanager
def opened(
    path: Path,
    tars: Sequence[bytes],
    thin: bool = True,
    *,
    tag: str = "image",
    limits: MergeLimits | None = None,
    warnings: list[str] | None = None,
    shared: bool = False,
) -> Iterator[ImageTree]:
    """An image of these layers, put into a layout at `path`.

    :param thin: convert it
    :param shared: to be read by several threads
    """
    said: list[str] = [] if warnings is None else warnings
    if thin:
        converted(path, tars, tag)
    else:
        layout = layout_at(path)
        build(layout, tag, tars)
        layout.close()
    layout = layout_at(path)
    with ImageTree.open(layout, tag, where="image", limits=limits, warn=said.append, shared=shared) as image:
        yield image


@contextmanager
def opened_again(path: Path, tag: str = "image") -> Iterator[ImageTree]:
    """An image that `opened` made before in the directory `layout`."""
    with ImageTree.open(layout_at(path / "layout"), tag, where="image") as image:
        yield image


NESTED = [
    tar(
        rawtar.directory(b"./", mode=0o755, mtime=5),
        rawtar.directory(b"./etc/", mtime=1_600_000_000),
        rawtar.file(b"./etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n", mtime=77),
        rawtar.file(b"./etc/old", b"gone", mode=0o600),
        rawtar.directory(b"./usr/bin/"),
        rawtar.file(b"./usr/bin/tool", b"\x7fELF" + b"t" * 100_000, mode=0o755),
        rawtar.hard_link(b"./usr/bin/tool2", b"./usr/bin/tool"),
        rawtar.symlink(b"./bin", b"usr/bin", mtime=9),
        rawtar.sparse_10(b"./etc/sparse", 1 << 20, [(4096, b"middle")]),
        rawtar.file(b"./etc/empty"),
    ),
    tar(
        rawtar.file(b"./etc/.wh.old"),
        rawtar.hard_link(b"./bin/link", b"./etc/passwd"),
        rawtar.file(b"./etc/new", b"new", mtime=88),
        rawtar.directory(b"./locked/", mode=0o500, mtime=66),
        rawtar.hard_link(b"./locked/passwd", b"./etc/passwd"),
        rawtar.header(b"./fifo", 0, b"6", mode=0o640),
    ),
]
"""Two layers with some of everything that needs no privilege."""
