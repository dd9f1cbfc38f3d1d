"""Images mounted by the kernel are the trees that `oci unpack` writes, share their files, and stay where they are."""

from __future__ import annotations

import ctypes
import io
import json
import mmap
import os
import shutil
import struct
import subprocess
import tarfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from compare import assert_same
from filesystems import IS_ROOT, KERNEL_LACKS, lacking, library
from grounds import Grounds
from interop.containers import add_programs, run_bundle
from interop.fullimage import full_image
from interop.tools import Tool
from test_oci import rawtar
from test_oci.images import build, layer, layout_at, noise

from casync_compat.errors import CasyncError
from casync_compat.oci.rootfs.kernelmount import NoKernelMount, check_kernel


@pytest.fixture
def place(ground: Grounds) -> Iterator[Path]:
    """Where images are mounted, on names below it; all mounts are taken away again."""
    if not IS_ROOT:
        lacking("only root has the kernel mount images")
    try:
        check_kernel()
    except NoKernelMount as error:
        lacking(f"{KERNEL_LACKS} layers of data: {error}")
    for name in ("erofs", "overlay"):
        if shutil.which("modprobe") is not None:  # does no harm where it is built in
            subprocess.run(["modprobe", "-q", name], check=False, timeout=30)
        if name not in Path("/proc/filesystems").read_text().split():
            lacking(f"{KERNEL_LACKS} {name}")
    at = ground(
        "place", "ext4"
    )  # the temporary directory may be an overlay itself, which takes no other's writes
    yield at
    with open("/proc/self/mountinfo") as table:
        mounts = [line.split()[4] for line in table]
    for each in reversed(mounts):
        if each.startswith(f"{at}/"):
            subprocess.run(["umount", each], check=True, timeout=30)


def _image(place: Path, tag: str, *tars: bytes) -> str:
    with layout_at(place / "layout") as layout:
        build(layout, tag, tars)
    return f"oci:{place / 'layout'}:{tag}"


def _layers() -> tuple[bytes, bytes]:
    members = {
        "usr": None, "usr/tool": noise(70_000), "usr/large": noise(3_000_000), "small": b"in the image\n",
        "empty": b"", "gone": b"x" * 100, **{f"many/{n:04}": b"%d" % n * 40 for n in range(300)},
    }  # fmt: skip
    return (
        layer(members, links={"usr/link": "usr/tool"}, mtime=1_600_000_000),
        layer({"caf\udce9 \n": noise(5000), ".wh.gone": b"", "usr/new": noise(900)}),
    )


def test_a_mount_is_the_unpacked_tree(
    place: Path, tmp_path_factory: pytest.TempPathFactory, pycasync: Tool
) -> None:
    """In every field, for reading only; nothing but the mount is left, and umount ends it."""
    name = full_image(tmp_path_factory, pycasync).name
    pycasync("oci", "unpack", name, place / "bundle")
    pycasync("oci", "mount", "--using=kernel", "--file-store", place / "files", name, place / "root")

    assert_same(place / "bundle/rootfs", place / "root")
    assert (place / "root/usr/bin/tool").samefile(place / "root/usr/bin/tool2")
    with pytest.raises(OSError, match="Read-only"):
        (place / "root/usr/bin/tool").write_bytes(b"")
    assert not list((place / "files/tmp").iterdir())
    pycasync("oci", "umount", place / "root")
    assert not list((place / "root").iterdir())


def test_a_second_image_shares_files_and_fetches_only_its_own(place: Path, pycasync: Tool) -> None:
    """Whatever its layers: what the store has is neither stored nor fetched once more."""
    first, second = _layers()
    one, other = _image(place, "one", first), _image(place, "other", second, first)
    options = ("oci", "mount", "--using=kernel", "--json", "--file-store", place / "files")
    pycasync(*options, one, place / "one")
    said = json.loads(pycasync(*options, other, place / "other"))

    assert said["stored"] == 2  # of the second layer
    large = place / "files/files"
    assert sum(path.stat().st_size == 3_000_000 for path in large.rglob("*") if path.is_file()) == 1
    assert (place / "one/usr/large").read_bytes() == (place / "other/usr/large").read_bytes()
    schema = json.loads(files("casync_compat.cli").joinpath("output.schema.json").read_text())
    described = {**schema, "$ref": "#/$defs/verbs/oci mount"}
    library("jsonschema").Draft202012Validator(described).validate(said)


def test_an_image_is_mounted_again_at_once(place: Path, pycasync: Tool) -> None:
    """From what was kept, with an upper directory of its own, too; what of the store has changed is fetched anew."""
    name = _image(place, "app", layer({"": None, "usr": None}, mtime=1_500_000_000), *_layers())
    options = ("oci", "mount", "--using=kernel", "--json", "--file-store", place / "files")
    first = json.loads(pycasync(*options, name, place / "one"))
    assert first["stored"] > 300
    assert len(list((place / "files/roots").iterdir())) == 2
    (place / "layout/blobs/sha256").rename(place / "layout/blobs/away")
    (place / "layout/blobs/sha256").mkdir()
    index = json.loads((place / "layout/index.json").read_text())
    manifest = index["manifests"][0]["digest"].partition(":")[2]
    for each in (
        manifest,
        json.loads((place / "layout/blobs/away" / manifest).read_text())["config"]["digest"][7:],
    ):
        shutil.copy(place / "layout/blobs/away" / each, place / "layout/blobs/sha256" / each)
    again = json.loads(pycasync(*options, "--upper", place / "upper", name, place / "two"))

    assert again == {**first, "stored": 0, "fetched": 0}
    assert_same(place / "one", place / "two")
    for each in ("one", "two"):
        pycasync("oci", "umount", place / each)
    shutil.rmtree(place / "layout/blobs/sha256")
    (place / "layout/blobs/away").rename(place / "layout/blobs/sha256")
    (large,) = (path for path in (place / "files/files").rglob("*") if path.stat().st_size == 3_000_000)
    os.chmod(large, 0o600)
    large.write_bytes(bytes(3_000_000))
    assert json.loads(pycasync(*options, name, place / "two"))["stored"] == 1
    assert (place / "two/usr/large").read_bytes() == noise(3_000_000)


def test_what_is_written_stays_in_the_upper_directory(place: Path, pycasync: Tool) -> None:
    """The root looks as the image's does; the store keeps its bytes; a second mount sees what was written."""
    name = _image(place, "app", *_layers())
    options = (
        "oci",
        "mount",
        "--using=kernel",
        "--file-store",
        place / "files",
        "--upper",
        place / "up,per:1",
    )
    pycasync("oci", "unpack", name, place / "bundle")
    pycasync(*options, name, place / "root")
    assert_same(place / "bundle/rootfs", place / "root")
    (place / "root/usr/tool").write_bytes(b"new")
    (place / "root/small").unlink()
    pycasync("oci", "umount", place / "root")
    pycasync(*options, name, place / "root")

    assert (place / "root/usr/tool").read_bytes() == b"new"
    assert not (place / "root/small").exists()
    assert (place / "up,per:1/upper/usr/tool").read_bytes() == b"new"
    assert (place / "bundle/rootfs/usr/large").read_bytes() == (place / "root/usr/large").read_bytes()

    (place / "second").mkdir()
    refused = pycasync.run(*options, name, place / "second")
    assert refused.status == 1
    assert b"takes what is written to" in refused.err
    assert not os.path.ismount(place / "second")


def test_a_bundle_whose_root_is_a_mount(place: Path, pycasync: Tool) -> None:
    """`oci unpack --using=kernel`: a configuration, and a root that can be written to."""
    name = _image(place, "app", *_layers())
    pycasync("oci", "unpack", "--using=kernel", "--file-store", place / "files", name, place / "bundle")
    (place / "bundle/rootfs/etc").mkdir()

    assert json.loads((place / "bundle/config.json").read_text())["root"]["path"] == "rootfs"
    assert (place / "bundle/overlay/upper/etc").is_dir()


def test_runc_runs_two_containers_on_what_they_share(place: Path, pycasync: Tool) -> None:
    """Images of other layers: each container writes for itself, and both run the same pages of the same files."""
    tree = place / "tree"
    add_programs(tree)
    programs = _tarred(tree)
    (tree / "etc/who").write_text("other\n")
    images = {
        "one": _image(place, "one", programs, layer({"etc/who": b"one\n"})),
        "other": _image(place, "other", _tarred(tree)),
    }
    script = "cat /etc/who; echo by $(cat /etc/who) > /tmp/new; cat /tmp/*"
    for name, image in images.items():
        (place / name).mkdir()
        options = ("--using=kernel", "--file-store", place / "files", "--upper", place / f"{name}-upper")
        pycasync("oci", "mount", *options, image, place / name / "rootfs")
        assert run_bundle(place / name, name, ["/bin/sh", "-c", script]) == [name, f"by {name}"]

    for name in images:
        assert (place / f"{name}-upper/upper/tmp/new").read_text() == f"by {name}\n"
    frames = [_first_frame(place / name / "rootfs/bin/sh") for name in images]
    assert frames[0] == frames[1] != _first_frame(tree / "bin/sh")


def _tarred(tree: Path) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.add(tree, ".")
    return out.getvalue()


def _first_frame(path: Path) -> int:
    """The number of the page of memory that a file's first bytes are in (Documentation/admin-guide/mm/pagemap.rst)."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, *[ctypes.c_size_t, *[ctypes.c_int] * 3], ctypes.c_long)
    size = mmap.PAGESIZE
    with open(path, "rb") as file, open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        at = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
        assert ctypes.string_at(at, 4) == b"\x7fELF"
        (entry,) = struct.unpack("=Q", os.pread(pagemap.fileno(), 8, at // size * 8))
        libc.munmap(ctypes.c_void_p(at), ctypes.c_size_t(size))
    frame: int = entry & (1 << 55) - 1
    if not frame:
        lacking(f"{KERNEL_LACKS} frames for who is root here only")
    return frame


def test_a_kernel_that_checks_reads_nothing_that_is_not_sealed(place: Path, pycasync: Tool) -> None:
    """The digests are there for `verity=require`: the store's file has no fs-verity, so reading it is an error."""
    name = _image(place, "app", *_layers())
    pycasync("oci", "erofs", "--file-store", place / "files", name, "-o", place / "app.erofs")
    for each in ("metadata", "root"):
        (place / each).mkdir()
    options = f"ro,verity=require,metacopy=on,redirect_dir=on,lowerdir={place}/metadata::{place}/files/files"
    for words in (
        ["erofs", "-o", "ro,loop", place / "app.erofs", place / "metadata"],
        ["overlay", "-o", options, "overlay", place / "root"],
    ):
        subprocess.run(["mount", "-t", *words], check=True, timeout=30)

    assert (place / "root/small").read_bytes() == b"in the image\n"
    assert (place / "root/usr/tool").stat().st_size == 70_000
    with pytest.raises(OSError, match="Input/output error"):
        (place / "root/usr/tool").read_bytes()


@pytest.mark.parametrize("name", ["redirect", "metacopy", "opaque", "whiteout"])
def test_a_hostile_image_reads_nothing_else_of_the_store(place: Path, pycasync: Tool, name: str) -> None:
    """Its attributes for overlays come out as they went in, and lead nowhere."""
    secret = _image(place, "secret", layer({"secret": b"secret " * 100}))
    pycasync("oci", "mount", "--using=kernel", "--file-store", place / "files", secret, place / "theirs")
    (stored,) = (path for path in (place / "files/files").rglob("*") if path.is_file())
    value = b"/" + bytes(stored.relative_to(place / "files/files"))
    attributes = rawtar.pax([(f"SCHILY.xattr.trusted.overlay.{name}".encode(), value)])
    members = (rawtar.file(b"f", b"mine " * 100), rawtar.file(b"empty"), rawtar.directory(b"d"))
    hostile = _image(place, "hostile", attributes + attributes.join(members) + rawtar.END)
    pycasync("oci", "mount", "--using=kernel", "--file-store", place / "files", hostile, place / "root")

    assert (place / "root/f").read_bytes() == b"mine " * 100
    assert (place / "root/empty").read_bytes() == b""
    assert list((place / "root/d").iterdir()) == []
    for each in ("f", "empty", "d"):
        assert os.getxattr(place / "root" / each, f"trusted.overlay.{name}") == value


def test_an_exported_image_is_in_order(place: Path, pycasync: Tool) -> None:
    """fsck.erofs has nothing to say, and the same image gives the same bytes."""
    fsck = shutil.which("fsck.erofs") or lacking(
        "fsck.erofs is not installed; .ci/setup installs erofs-utils"
    )
    name = _image(place, "app", *_layers())
    digests = [pycasync("oci", "erofs", name, "-o", place / each) for each in ("one", "two")]

    assert digests[0] == digests[1]
    assert (place / "one").read_bytes() == (place / "two").read_bytes()
    done = subprocess.run([fsck, place / "one"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, "<E>" in done.stdout + done.stderr) == (
        0,
        False,
    )  # a wrong checksum is status 0, too


@pytest.mark.parametrize(
    ("release", "euid", "text"), [("6.4.9", 0, "6.5"), ("5.10.0-9-amd64", 0, "5.10"), (None, 1, "root")]
)
def test_who_cannot_is_told(release: str | None, euid: int, text: str) -> None:
    """By which kernel, or by whom."""
    with pytest.raises(NoKernelMount, match=text) as caught:
        check_kernel(release, euid)
    assert isinstance(caught.value, CasyncError)
