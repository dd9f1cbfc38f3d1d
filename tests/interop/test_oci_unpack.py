"""Images used: the same trees and configurations as umoci makes, containers that runc starts, little traffic, kills."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from compare import assert_same
from filesystems import lacking
from interop.containers import add_programs, run_bundle
from interop.fullimage import Image
from interop.registries import RunningRegistry
from interop.tools import PYCASYNC, Tool
from test_oci.images import noise

pytestmark = pytest.mark.root


def _tool(factory: pytest.TempPathFactory, name: str) -> Tool:
    path = shutil.which(name)
    if path is None:
        lacking(f"{name} is not installed; .ci/setup installs it")
    return Tool(name, (path,), factory.mktemp(f"tmp-{name}"))


@pytest.fixture(scope="module")
def umoci(tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """umoci, which unpacks images too."""
    return _tool(tmp_path_factory, "umoci")


@pytest.fixture(scope="module")
def gnu_tar(tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """GNU tar."""
    return _tool(tmp_path_factory, "tar")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, umoci: Tool, gnu_tar: Tool, pycasync: Tool) -> Image:
    return Image(tmp_path_factory.mktemp("image"), umoci, gnu_tar, pycasync)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory, image: Image, umoci: Tool) -> Path:
    """The bundle that umoci makes."""
    bundle = tmp_path_factory.mktemp("theirs") / "bundle"
    umoci("unpack", "--image", f"{image.layout}:plain", bundle)
    return bundle


@pytest.mark.parametrize("tag", ["image", "plain"])
def test_same_bundle_as_umoci(tmp_path: Path, image: Image, theirs: Path, pycasync: Tool, tag: str) -> None:
    """The tree is umoci's to the last attribute and nanosecond, of converted images and of plain ones."""
    pycasync("oci", "unpack", "--verify", f"oci:{image.layout}:{tag}", tmp_path / "bundle")
    assert_same(theirs / "rootfs", tmp_path / "bundle/rootfs")
    root = tmp_path / "bundle/rootfs"
    assert (root / "usr/bin/through").read_text() == "beneath a link"
    assert (root / "usr/bin/tool").samefile(root / "usr/bin/tool2")
    assert (root / "etc/new").samefile(root / "opaque/linked")
    assert (root / "etc/sparse").stat().st_blocks < 64


def test_same_config_as_umoci(tmp_path: Path, image: Image, theirs: Path, pycasync: Tool) -> None:
    """`config.json` differs from umoci's in the host name alone."""
    pycasync("oci", "unpack", image.name, tmp_path / "bundle")
    ours, other = (json.loads((at / "config.json").read_text()) for at in (tmp_path / "bundle", theirs))
    assert (ours.pop("hostname"), other.pop("hostname")) == ("pycasync", "umoci-default")
    other["annotations"] = {key: text for key, text in other["annotations"].items() if text}
    assert ours == other


@pytest.mark.parametrize("link", ["hardlink", "copy"])
def test_checkouts_are_the_same_tree(
    tmp_path: Path, image: Image, theirs: Path, pycasync: Tool, link: str
) -> None:
    """What is checked out is what umoci unpacks, the second time too."""
    for name in ("one", "two"):
        options = ("--file-store", tmp_path / "files", "--link", link, "--json")
        said = json.loads(pycasync("oci", "checkout", *options, image.name, tmp_path / name))
        assert_same(theirs / "rootfs", tmp_path / name)
    assert (said["link"], said["stored"], said["fetched"]) == (link, 0, 0)


def test_ls_lists_what_unpack_writes(image: Image, theirs: Path, pycasync: Tool) -> None:
    """A recursive listing names every file of the tree, with its size, mode and owner."""
    lines = pycasync("oci", "ls", "-R", "--json", image.name).splitlines()
    listed = {json.loads(line).get("name"): json.loads(line) for line in lines}
    root = theirs / "rootfs"
    paths = [path for path in root.rglob("*") if path.name.isascii()]
    assert len(lines) == len(paths) + 1
    for path in paths:
        status, found = path.lstat(), listed[str(path.relative_to(root))]
        assert found["mode"] == f"{status.st_mode & 0o7777:04o}"
        assert (found["uid"], found["gid"]) == (status.st_uid, status.st_gid)
        assert found.get("size", 0) == (status.st_size if path.is_file() and not path.is_symlink() else 0)
        assert found["mtime_ns"] == status.st_mtime_ns


def test_cat(image: Image, theirs: Path, pycasync: Tool) -> None:
    """Files come out as they are, through links, from the layer that has the last word."""
    for path in ("bin/tool2", "etc/passwd", "opaque/linked", "/bin/through", "replaced"):
        assert pycasync("oci", "cat", image.name, path) == (theirs / "rootfs" / path.lstrip("/")).read_bytes()
    assert pycasync.run("oci", "cat", image.name, "gone/deep/file").status == 1


def test_whole_life_in_a_registry(
    tmp_path: Path, image: Image, theirs: Path, pycasync: Tool, registry: RunningRegistry
) -> None:
    """From a registry too; one small file takes few requests and few bytes of a large image."""
    tree = tmp_path / "big"
    (tree / "d").mkdir(parents=True)
    for number in range(40):
        (tree / f"d/f{number:02}").write_bytes(noise(500_000, number))
    (tree / "d/small").write_text("small")
    name = registry.reference("use/big")
    _add_layer(tmp_path, tree, image, pycasync, name)
    outcome = pycasync.run("oci", "cat", "-v", "--insecure", name, "d/small")
    assert outcome.out == b"small"
    found = re.search(rb"(\d+) requests, .* sent, ([\d.]+) (B|KiB|MiB) received", outcome.err)
    assert found is not None, outcome
    received = float(found[2]) * {b"B": 1, b"KiB": 1024, b"MiB": 1 << 20}[found[3]]
    assert int(found[1]) < 15, outcome
    assert received < 600_000, outcome  # of 20 MB
    pycasync("oci", "unpack", "--insecure", name, tmp_path / "bundle")
    assert_same(tree, tmp_path / "bundle/rootfs")


def _add_layer(tmp_path: Path, tree: Path, image: Image, pycasync: Tool, name: str) -> None:
    """Push an image of one tree to a registry."""
    layout = tmp_path / "big-layout"
    subprocess.run(["umoci", "init", "--layout", layout], check=True, capture_output=True)
    subprocess.run(["umoci", "new", "--image", f"{layout}:i"], check=True, capture_output=True)
    subprocess.run(["tar", "--format=posix", "-C", tree, "-cf", tmp_path / "big.tar", "."], check=True)
    command = ["umoci", "raw", "add-layer", "--image", f"{layout}:i", tmp_path / "big.tar"]
    subprocess.run(command, check=True, capture_output=True)
    pycasync("oci", "convert", "--thin", "--insecure", f"oci:{layout}:i", name)


@pytest.mark.parametrize("verb", ["unpack", "checkout"])
def test_without_the_privilege_for_devices(tmp_path: Path, image: Image, pycasync: Tool, verb: str) -> None:
    """Where root may not make device nodes, all the rest is there; who wants all or nothing is told what to do."""
    setpriv = shutil.which("setpriv") or lacking("setpriv")
    options = ("--file-store", tmp_path / "files") if verb == "checkout" else ()
    bound = Tool("pycasync", (setpriv, "--bounding-set=-mknod", *pycasync.command), pycasync.temporary)
    root = tmp_path / "out" / ("rootfs" if verb == "unpack" else "")
    outcome = bound.run("oci", verb, "--strict", *options, image.name, tmp_path / "out")
    assert outcome.status == 1
    assert (
        b"dev/null: cannot create device node: Operation not permitted; --rootless leaves it out"
        in outcome.err
    )
    assert set(os.listdir(tmp_path)) <= {"files"}
    outcome = bound.run("oci", verb, *options, image.name, tmp_path / "out")
    assert outcome.status == 3
    assert b"cannot hold it: device nodes (1, first %b/dev/null)" % os.fsencode(root) in outcome.err
    assert os.listdir(root / "dev") == ["fifo"]
    assert (root / "etc/group").stat().st_uid == 65535
    shutil.rmtree(tmp_path / "out")
    outcome = bound.run("oci", verb, "--rootless", *options, image.name, tmp_path / "out")
    assert outcome.status == 0, outcome
    assert b"device nodes (1)" in outcome.err
    assert os.listdir(root / "dev") == ["fifo"]
    assert (root / "etc/group").stat().st_uid == 0


# Containers


@pytest.mark.parametrize("rootless", [False, True])
def test_runc_runs_it(tmp_path: Path, umoci: Tool, gnu_tar: Tool, pycasync: Tool, rootless: bool) -> None:
    """runc starts the bundle, as the image's user, with its arguments."""
    tree, layout = tmp_path / "tree", tmp_path / "layout"
    add_programs(tree)
    gnu_tar("--format=posix", "-C", tree, "-cf", tmp_path / "tar", ".")
    umoci("init", "--layout", layout)
    umoci("new", "--image", f"{layout}:i")
    umoci("raw", "add-layer", "--image", f"{layout}:i", tmp_path / "tar")
    user = () if rootless else ("--config.user", "app")
    command = (
        "--config.entrypoint",
        "/bin/sh",
        "--config.cmd",
        "-c",
        "--config.cmd",
        "id; echo $HOME; cat /proc/1/comm",
    )
    umoci("config", "--image", f"{layout}:i", *user, *command)
    pycasync("oci", "convert", f"oci:{layout}:i", f"oci:{layout}:i")
    bundle = tmp_path / "bundle"
    pycasync("oci", "unpack", *(["--rootless"] if rootless else []), f"oci:{layout}:i", bundle)
    lines = run_bundle(bundle, f"unpacked-{rootless:d}")
    assert lines[0].startswith("uid=0" if rootless else "uid=1000(app) gid=1001")
    assert lines[1:] == ["/" if rootless else "/home/app", "sh"]  # "/" is what runc sets where nobody says


# Kills


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, umoci: Tool, gnu_tar: Tool, pycasync: Tool) -> Path:
    """A tree of many files, with its converted image in a layout beside it."""
    base = tmp_path_factory.mktemp("many")
    tree, layout = base / "tree", base / "layout"
    tree.mkdir()
    for number in range(1000):
        (tree / f"f{number}").write_bytes(noise(3000, number))
    gnu_tar("--format=posix", "-C", tree, "-cf", base / "tar", ".")
    umoci("init", "--layout", layout)
    umoci("new", "--image", f"{layout}:i")
    umoci("raw", "add-layer", "--image", f"{layout}:i", base / "tar")
    pycasync("oci", "convert", f"oci:{layout}:i", f"oci:{layout}:i")
    return base


@pytest.mark.parametrize("verb", ["unpack", "checkout"])
def test_killed_in_the_middle(tmp_path: Path, many: Path, pycasync: Tool, verb: str) -> None:
    """A run that is killed leaves nothing under the final name, and a store that the next run can use."""
    tree, layout = many / "tree", many / "layout"
    options = ["--file-store", str(tmp_path / "files")] if verb == "checkout" else []
    command = [*PYCASYNC, "oci", verb, *options, f"oci:{layout}:i", str(tmp_path / "out")]
    begun = subprocess.Popen(command)
    watched = tmp_path / "files" / "inodes" if verb == "checkout" else tmp_path
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and begun.poll() is None:
        if verb == "checkout" and watched.exists() and len(os.listdir(watched)) > 20:
            break
        if verb == "unpack" and any(name.startswith(".#") for name in os.listdir(watched)):
            break
        time.sleep(0.005)
    begun.send_signal(signal.SIGKILL)
    begun.wait()
    assert not (tmp_path / "out").exists()
    pycasync("oci", verb, *options, f"oci:{layout}:i", tmp_path / "out")
    assert_same(tree, tmp_path / "out" / ("rootfs" if verb == "unpack" else ""))
