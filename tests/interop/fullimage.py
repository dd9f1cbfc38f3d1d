"""An image with every kind of inode and attribute, of two layers that umoci puts together, plain and converted."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from filesystems import lacking
from interop.tools import Tool
from test_oci.images import noise

__all__ = ["Image", "full_image"]


def _lower(tree: Path) -> None:
    """A base layer with every kind of inode and attribute."""
    for name in ("etc", "usr/bin", "dev", "gone/deep", "opaque/old", "shut"):
        (tree / name).mkdir(parents=True)
    (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n")
    (tree / "etc/group").write_text("root:x:0:\napp:x:1001:\nextra:x:77:app\n")
    os.chown(tree / "etc/group", 65535, 70_000)
    (tree / "usr/bin/tool").write_bytes(noise(300_000))
    os.link(tree / "usr/bin/tool", tree / "usr/bin/tool2")
    os.chmod(tree / "usr/bin/tool", 0o6755)
    os.setxattr(
        tree / "usr/bin/tool", "security.capability", bytes.fromhex("01000002" + "00200000" + "00" * 12)
    )
    os.setxattr(tree / "etc", "user.note", b"\0\xff")
    (tree / "bin").symlink_to("usr/bin")
    os.mknod(tree / "dev/null", 0o020666, os.makedev(1, 3))
    os.mkfifo(tree / "dev/fifo", 0o640)
    (tree / "gone/deep/file").write_text("x")
    (tree / "opaque/old/file").write_text("x")
    (tree / "replaced").mkdir()
    (tree / "replaced/inner").write_text("x")
    with open(tree / "etc/sparse", "wb") as file:
        file.seek(3 << 20)
        file.write(b"end")
    (tree / "caf\udce9 n\nl").write_text("odd name")
    for path, mtime in (("etc/passwd", -1_000_000_001), ("bin", 5), ("shut", 1_234_567_890_123_456_789)):
        os.utime(tree / path, ns=(0, mtime), follow_symlinks=False)
    os.chmod(tree / "shut", 0o1500)


def _upper(tree: Path) -> None:
    """A layer over it: whiteouts, an opaque directory, replacements, a file beneath a symlink."""
    for name in ("etc", "opaque"):
        (tree / name).mkdir(parents=True)
    (tree / ".wh.gone").touch()
    (tree / "opaque/.wh..wh..opq").touch()
    (tree / "opaque/new").write_text("new")
    (tree / "replaced").write_text("a file now")
    (tree / "etc/new").write_text("new")
    os.link(tree / "etc/new", tree / "opaque/linked")


class Image:
    """A layout with a plain image `plain` and a converted one `image`."""

    def __init__(self, base: Path, umoci: Tool, gnu_tar: Tool, pycasync: Tool) -> None:
        self.layout = base / "layout"
        umoci("init", "--layout", self.layout)
        umoci("new", "--image", f"{self.layout}:plain")
        for number, build in enumerate((_lower, _upper)):
            tree = base / f"layer{number}"
            tree.mkdir()
            build(tree)
            options = ["--xattrs", "--xattrs-include=*", "--sparse", "--format=posix", "--sort=name"]
            if number:
                # As a layer of a diff: the directory is not in it, only what is beneath it, through the link.
                (tree / "through").write_text("beneath a link")
                options.append("--transform=s,^\\./through$,./bin/through,")
            archive = base / f"layer{number}.tar"
            gnu_tar(*options, "-C", tree, "-cf", archive, ".")
            umoci("raw", "add-layer", "--image", f"{self.layout}:plain", archive)
        umoci(
            *("config", "--image", f"{self.layout}:plain", "--config.user", "app", "--config.env", "A=b"),
            *("--config.entrypoint", "/bin/tool", "--config.cmd", "x", "--config.workingdir", "/etc"),
            *("--config.volume", "/data", "--config.exposedports", "80/tcp", "--config.label", "a=b"),
            *("--config.stopsignal", "SIGINT", "--author", "somebody"),
        )
        pycasync("oci", "convert", "--thin", f"oci:{self.layout}:plain", f"oci:{self.layout}:image")

    @property
    def name(self) -> str:
        return f"oci:{self.layout}:image"


def full_image(factory: pytest.TempPathFactory, pycasync: Tool) -> Image:
    """One in a directory of its own."""
    tools = []
    for name in ("umoci", "tar"):
        path = shutil.which(name) or lacking(f"{name} is not installed; .ci/setup installs it")
        tools.append(Tool(name, (path,), factory.mktemp(f"tmp-{name}")))
    return Image(factory.mktemp("image"), *tools, pycasync)
