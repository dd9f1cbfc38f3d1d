"""Layers as tars that others write, catars that casync reads, and the same bytes as casync makes of the same tree."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import stat
import tarfile
from pathlib import Path
from random import Random

import pytest
from compare import assert_same
from filesystems import IS_ROOT, lacking
from grounds import Forest, Grounds
from interop.tools import Tool
from test_oci import rawtar
from test_oci.rawtar import BytesView, MemorySink

from casync_compat.oci.spec.descriptor import BlobDigest
from casync_compat.oci.tar.plan import LayerPlan, plan_layer, verify
from casync_compat.oci.tar.reader import members
from casync_compat.oci.tar.recipe import Recipe
from casync_compat.oci.tar.view import TarView
from catar.flags import flag_names

FORMATS = ["v7", "oldgnu", "gnu", "ustar", "posix"]
SPARSE = ["old", "0.0", "0.1", "1.0"]


def _tool(factory: pytest.TempPathFactory, name: str) -> Tool:
    path = shutil.which(name)
    if path is None:
        lacking(f"{name} is not installed")
    return Tool(name, (path,), factory.mktemp(f"tmp-{name}"))


@pytest.fixture(scope="module")
def gnu_tar(tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """GNU tar."""
    return _tool(tmp_path_factory, "tar")


@pytest.fixture(scope="module")
def umoci(tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """umoci, whose layers Go's archive/tar writes."""
    return _tool(tmp_path_factory, "umoci")


def convert(tar: bytes) -> tuple[LayerPlan, bytes]:
    """Convert a layer with its times, make sure that it comes back, and return the catar."""
    plan = plan_layer(BytesView(tar), mtime="keep")
    sink = MemorySink()
    plan.write(sink)
    catar = bytes(sink.data)
    recipe = plan.recipe(BlobDigest.of(tar))
    verify(recipe, BytesView(catar))
    assert list(members(TarView(Recipe.parse(recipe), BytesView(catar)))) == list(members(BytesView(tar)))
    return plan, catar


def accepted(casync: Tool, gnu_tar: Tool, ground: Grounds, at: Path, tar: bytes) -> None:
    """casync lists the catar and extracts from it what tar extracts from the tar."""
    _, catar = convert(tar)
    (at / "x.catar").write_bytes(catar)
    (at / "x.tar").write_bytes(tar)
    by_tar, by_casync = ground("by-tar"), ground("by-casync")
    gnu_tar("-xpf", at / "x.tar", "-C", by_tar)
    casync("extract", at / "x.catar", by_casync)
    assert_same(by_tar, by_casync)
    listed = casync("list", at / "x.catar").splitlines()
    assert len(listed) == sum(1 for _ in by_casync.rglob("*")) + 1


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("tree", ["small", "sort-traps", "duplicates", "modes"])
def test_gnu_tar(
    casync: Tool, gnu_tar: Tool, forest: Forest, ground: Grounds, tmp_path: Path, tree: str, format_: str
) -> None:
    """Whatever format GNU tar writes, casync extracts the tree from the catar."""
    made = gnu_tar.run("-cf", tmp_path / "source.tar", f"--format={format_}", "-C", forest.get(tree), ".")
    # The old formats have no place for long links and fifos, which tar then leaves out.
    assert made.status == 0 or (made.status == 2 and format_ in ("v7", "ustar")), made
    accepted(casync, gnu_tar, ground, tmp_path, (tmp_path / "source.tar").read_bytes())


@pytest.mark.parametrize("version", SPARSE)
def test_gnu_tar_sparse(
    casync: Tool, gnu_tar: Tool, forest: Forest, ground: Grounds, tmp_path: Path, version: str
) -> None:
    """All four forms of sparse files that GNU tar writes."""
    form = ["--format=gnu"] if version == "old" else ["--format=posix", f"--sparse-version={version}"]
    gnu_tar("-cSf", tmp_path / "source.tar", *form, "-C", forest.get("holes"), ".")
    tar = (tmp_path / "source.tar").read_bytes()
    assert any(member.sparse for member in members(BytesView(tar)))
    accepted(casync, gnu_tar, ground, tmp_path, tar)


def test_hard_links(casync: Tool, gnu_tar: Tool, ground: Grounds, tmp_path: Path) -> None:
    """Each name of a file with several gets its contents."""
    source = ground("source")
    (source / "a").write_bytes(Random(1).randbytes(100_000))
    for name in ("b", "c"):
        os.link(source / "a", source / name)
    gnu_tar("-cf", tmp_path / "source.tar", "-C", source, ".")
    tar = (tmp_path / "source.tar").read_bytes()
    accepted(casync, gnu_tar, ground, tmp_path, tar)
    assert convert(tar)[0].hardlink_groups == 1


TYPES = {
    stat.S_IFREG: b"0",
    stat.S_IFLNK: b"2",
    stat.S_IFCHR: b"3",
    stat.S_IFBLK: b"4",
    stat.S_IFDIR: b"5",
    stat.S_IFIFO: b"6",
}


def layer_of(root: Path) -> bytes:
    """A tree as container engines make a layer of it: PAX, exact times, attributes as they are in the kernel."""
    out = []
    for path in [os.fsencode(root), *sorted(map(os.fsencode, root.rglob("*")))]:
        status = os.lstat(path)
        flag = TYPES[stat.S_IFMT(status.st_mode)]
        records = [
            (b"path", os.path.relpath(path, os.fsencode(root))),
            (b"mtime", b"%d.%09d" % divmod(status.st_mtime_ns, 1_000_000_000)),
        ]
        for name in os.listxattr(path, follow_symlinks=False):
            value = os.getxattr(path, name, follow_symlinks=False)
            records.append(rawtar.xattr(os.fsencode(name), value))
        data = b""
        if flag == b"0":
            with open(path, "rb") as file:
                data = file.read()
        elif flag == b"2":
            records.append((b"linkpath", os.readlink(path)))
        device = (os.major(status.st_rdev), os.minor(status.st_rdev))
        head = rawtar.header(
            *(b"name", len(data), flag),
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            device=device,
        )
        out.append(rawtar.pax(records) + head + rawtar.padded(data))
    return b"".join(out) + rawtar.END


@pytest.mark.parametrize(
    "tree",
    [
        *("empty", "small", "sort-traps", "sizes", "holes", "deep", "times", "long-names"),
        *("modes", "owners", "owners-large", "devices", "xattrs-user", "xattrs-trusted"),
        *("acls", "capabilities", "selinux"),
    ],
)
def test_same_bytes_as_casync(casync: Tool, forest: Forest, tmp_path: Path, tree: str) -> None:
    """The catar of a layer is what casync makes of the tree that the layer was made of, with the same flags."""
    source = forest.get(tree)
    plan, catar = convert(layer_of(source))
    flags = [f"--with={name}" for name in flag_names(plan.feature_flags)]
    casync("make", *flags, tmp_path / "x.catar", source)
    assert (tmp_path / "x.catar").read_bytes() == catar


@pytest.mark.skipif(not IS_ROOT, reason="needs root")
def test_odd_members(casync: Tool, gnu_tar: Tool, ground: Grounds, tmp_path: Path) -> None:
    """Duplicates, missing parents and replaced directories come out of casync as they come out of tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in [("./a", b"1"), ("x/y/z", b"2"), ("a", b"3"), ("n" * 200, b"4"), ("é/ü", b"5")]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    _, catar = convert(out.getvalue())
    (tmp_path / "x.catar").write_bytes(catar)
    at = ground("by-casync")
    casync("extract", tmp_path / "x.catar", at)
    found = {str(path.relative_to(at)): path.read_bytes() for path in at.rglob("*") if path.is_file()}
    assert found == {"a": b"3", "x/y/z": b"2", "n" * 200: b"4", "é/ü": b"5"}
    assert stat.S_IMODE((at / "x/y").stat().st_mode) == 0o755


def test_empty_layer(casync: Tool, tmp_path: Path) -> None:
    """A layer of nothing is an empty directory to casync."""
    plan, catar = convert(bytes(1024))
    (tmp_path / "x.catar").write_bytes(catar)
    shown = casync("mtree", tmp_path / "x.catar")
    assert b"type=dir mode=0755" in shown
    assert len(casync("list", tmp_path / "x.catar").splitlines()) == 1
    assert plan.entries == 1


def test_umoci(umoci: Tool, casync: Tool, forest: Forest, tmp_path: Path) -> None:
    """Layers, whiteouts and opaque markers that umoci writes with Go's archive/tar."""
    image = f"{tmp_path}/image:latest"
    umoci("init", "--layout", tmp_path / "image")
    umoci("new", "--image", image)
    rootless = [] if IS_ROOT else ["--rootless"]
    umoci("insert", *rootless, "--image", image, forest.get("small"), "/etc")
    umoci("insert", *rootless, "--image", image, forest.get("holes"), "/var/" + "long/" * 30 + "holes")
    umoci("insert", *rootless, "--image", image, "--whiteout", "/etc/gone")
    umoci("insert", *rootless, "--image", image, "--opaque", forest.get("one-file"), "/opt")
    blobs = tmp_path / "image" / "blobs" / "sha256"
    index = json.loads((tmp_path / "image" / "index.json").read_bytes())
    manifest = json.loads((blobs / index["manifests"][0]["digest"].removeprefix("sha256:")).read_bytes())
    whiteouts = 0
    assert len(manifest["layers"]) == 4
    for number, layer in enumerate(manifest["layers"]):
        tar = gzip.decompress((blobs / layer["digest"].removeprefix("sha256:")).read_bytes())
        plan, catar = convert(tar)
        whiteouts += plan.whiteouts
        (tmp_path / f"{number}.catar").write_bytes(catar)
        assert len(casync("list", tmp_path / f"{number}.catar").splitlines()) >= plan.entries
    assert whiteouts == 2
