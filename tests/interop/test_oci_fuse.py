"""Images mounted by FUSE are the trees that `oci unpack` writes; what is read is fetched, and nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from compare import assert_same
from filesystems import KERNEL_LACKS, lacking, library
from interop.containers import add_programs, run_bundle
from interop.fullimage import Image, full_image
from interop.registries import RunningRegistry, running
from interop.tools import PYCASYNC, Tool
from test_oci.images import build, layer, layout_at, noise

from casync_compat.oci.image.tree import ImageTree

pytestmark = [pytest.mark.root, pytest.mark.timeout(90)]


@contextlib.contextmanager
def mounted(tool: Tool, *words: str | Path, at: Path) -> Iterator[Path]:
    """A mount by a process of its own, which has ended at the end."""
    if not os.path.exists("/dev/fuse"):
        lacking(f"{KERNEL_LACKS} fuse")
    if shutil.which("fusermount3") is None:
        lacking("fusermount3 is not installed")
    try:
        tool("oci", "mount", "--background", *words, at)
        yield at
        tool("oci", "umount", at)
        assert not os.path.ismount(at)
    finally:
        subprocess.run(["fusermount3", "-u", "-z", "-q", at], timeout=20, check=False)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, pycasync: Tool) -> Image:
    """An image with everything."""
    return full_image(tmp_path_factory, pycasync)


@pytest.mark.parametrize("tag", ["image", "plain"])
def test_a_mount_is_the_unpacked_tree(tmp_path: Path, image: Image, pycasync: Tool, tag: str) -> None:
    """In every field, devices, capabilities and set-user-id bits among them; nothing can be written."""
    pycasync("oci", "unpack", f"oci:{image.layout}:{tag}", tmp_path / "bundle")
    with mounted(pycasync, f"oci:{image.layout}:{tag}", at=tmp_path / "root") as root:
        assert_same(tmp_path / "bundle/rootfs", root)
        assert (root / "usr/bin/tool").samefile(root / "usr/bin/tool2")
        assert (root / "dev/null").write_bytes(b"a device that works") == 19
        with pytest.raises(OSError, match="Read-only"):
            (root / "etc/passwd").write_text("")
    assert list(root.iterdir()) == []


def test_runc_runs_on_it(tmp_path: Path, pycasync: Tool) -> None:
    """A container whose root nobody has unpacked: it starts with what of it is fetched."""
    tree = tmp_path / "tree"
    add_programs(tree)
    subprocess.run(["tar", "-C", tree, "-cf", tmp_path / "tar", "."], check=True, timeout=60)
    with layout_at(tmp_path / "layout") as layout:
        build(layout, "app", [(tmp_path / "tar").read_bytes(), layer({"etc/who": b"me\n"})])
    name = f"oci:{tmp_path / 'layout'}:app"
    pycasync("oci", "convert", "--thin", name, name)
    (tmp_path / "bundle").mkdir()
    with mounted(pycasync, name, at=tmp_path / "bundle/rootfs"):
        assert run_bundle(tmp_path / "bundle", "fuse", ["/bin/cat", "/etc/who"], readonly=True) == ["me"]


def test_few_requests_for_the_first_byte(tmp_path: Path, pycasync: Tool, registry: RunningRegistry) -> None:
    """Of an image of 20 MB in a registry, mounted, listed, and one small file of it read."""
    members = {f"d/f{number:02}": noise(500_000, number) for number in range(40)}
    with layout_at(tmp_path / "layout") as layout:
        build(layout, "big", [layer({"d": None, **members, "d/small": b"small"})])
    name = registry.reference("mount/big")
    pycasync("oci", "convert", "--thin", "--insecure", f"oci:{tmp_path / 'layout'}:big", name)
    argv = [*PYCASYNC, "oci", "mount", "-v", "--json", "--insecure", name, str(tmp_path / "root")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
            assert len(os.listdir(tmp_path / "root/d")) == 41
            assert (tmp_path / "root/d/small").read_bytes() == b"small"
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
            subprocess.run(["fusermount3", "-u", "-z", "-q", tmp_path / "root"], timeout=20, check=False)
    assert process.returncode == 0, errors
    found = re.search(rb"(\d+) requests, .* sent, ([\d.]+) (B|KiB|MiB) received", errors)
    assert found is not None, errors
    assert int(found[1]) < 15
    assert float(found[2]) * {b"B": 1, b"KiB": 1024, b"MiB": 1 << 20}[found[3]] < 600_000
    schema = json.loads(files("casync_compat.cli").joinpath("output.schema.json").read_text())
    described = {**schema, "$ref": "#/$defs/verbs/oci mount"}
    library("jsonschema").Draft202012Validator(described).validate(said)


def test_everything_is_fetched_meanwhile(tmp_path: Path, pycasync: Tool) -> None:
    """With --fetch all chunks come into the cache unread; then the registry may lose them, also for the next mount."""
    members = {f"f{number}": noise(400_000, number) for number in range(5)}
    cache = tmp_path / "cache"
    with running(tmp_path / "registry") as registry:
        with layout_at(tmp_path / "layout") as layout:
            build(layout, "app", [layer(members), layer({"more": noise(90_000, 9)})])
        name = registry.reference("mount/warm")
        pycasync("oci", "convert", "--thin", "--insecure", f"oci:{tmp_path / 'layout'}:app", name)
        pycasync("oci", "copy", "--insecure", name, f"oci:{tmp_path / 'layout'}:app-c")
        with ImageTree.open(layout_at(tmp_path / "layout"), "app-c", where="copy") as copy:
            wanted = {id_ for fetcher in copy.fetchers() for id_ in fetcher.index.ids()}
        words = ("--insecure", "--fetch", f"--chunk-cache={cache}", name)
        with mounted(pycasync, *words, at=tmp_path / "root") as root:
            until = time.monotonic() + 60
            while len(list(cache.glob("*/*.cacnk"))) < len(wanted):
                assert time.monotonic() < until
                time.sleep(0.02)
            (tmp_path / "registry/files").rename(tmp_path / "away")
            assert (root / "f3").read_bytes() == members["f3"]
            assert (root / "more").read_bytes() == noise(90_000, 9)
            (tmp_path / "away").rename(tmp_path / "registry/files")
    words = ("--fetch", f"--chunk-cache={cache}", f"oci:{tmp_path / 'layout'}:app")
    outcome = pycasync.run("oci", "mount", *words, tmp_path / "m")
    assert (outcome.status, b"not converted" in outcome.err) == (1, True)


def test_what_cannot_be_fetched_is_an_error_until_it_can(tmp_path: Path, pycasync: Tool) -> None:
    """EIO while the registry has not got it; nothing hangs, and the next read has it once it is back."""
    large = noise(5_000_000)
    with running(tmp_path / "registry") as registry:
        with layout_at(tmp_path / "layout") as layout:
            build(layout, "app", [layer({"large": large, "small": b"small"})])
        name = registry.reference("mount/away")
        pycasync("oci", "convert", "--thin", "--insecure", f"oci:{tmp_path / 'layout'}:app", name)
        with mounted(pycasync, "--insecure", name, at=tmp_path / "root") as root:
            (tmp_path / "registry/files").rename(tmp_path / "away")
            with pytest.raises(OSError, match="Input/output error"):
                (root / "large").read_bytes()
            assert os.listdir(root) == ["large", "small"]
            (tmp_path / "away").rename(tmp_path / "registry/files")
            assert (root / "large").read_bytes() == large
