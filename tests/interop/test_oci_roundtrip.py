"""Images made by umoci and GNU tar, converted, copied by skopeo, read by casync, and given back.

Every layer is a tar that another program wrote; every digest is compared by another program.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from compare import assert_same
from filesystems import lacking
from interop.registries import RunningRegistry, running
from interop.tools import Tool
from test_oci.images import build, build_index, layer, layout_at

from casync_compat.oci.convert import ConvertOptions, convert
from casync_compat.oci.copy import copy_image
from casync_compat.oci.verify import verify_image


def _need(name: str, factory: pytest.TempPathFactory) -> Tool:
    path = shutil.which(name)
    if path is None:
        lacking(f"{name} is not installed; .ci/setup installs it")
    return Tool(name, (path,), factory.mktemp(f"tmp-{name}"))


@pytest.fixture(scope="session")
def skopeo(tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """skopeo, which needs no policy file here."""
    tool = _need("skopeo", tmp_path_factory)
    return Tool("skopeo", (*tool.command, "--insecure-policy"), tool.temporary)


@pytest.fixture(scope="session")
def umoci(tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """umoci."""
    return _need("umoci", tmp_path_factory)


def noise(size: int, seed: int) -> bytes:
    return b"".join(hashlib.sha256(b"%d %d" % (seed, n)).digest() for n in range(size // 32 + 1))[:size]


def grow(root: Path, version: int) -> None:
    """A small root file system with what layers have: links, devices are left to root, odd names, times, a whiteout."""
    (root / "etc").mkdir(parents=True)
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/lib").mkdir()
    (root / "etc/hostname").write_bytes(b"box\n")
    (root / "etc/version").write_bytes(b"%d\n" % version)
    for n in range(60):
        # Two per cent of the bytes differ between versions.
        (root / f"usr/lib/lib{n}.so").write_bytes(noise(150_000, n + (1000 * version if n == 7 else 0)))
    (root / "usr/bin/tool").write_bytes(noise(40_000, 77))
    os.chmod(root / "usr/bin/tool", 0o4755)
    os.link(root / "usr/bin/tool", root / "usr/bin/alias")
    os.symlink("usr/bin", root / "bin")
    (root / "empty").mkdir(mode=0o1777)
    (root / ("long-" * 30)).write_bytes(b"long name")
    (root / "caf\udce9").write_bytes(b"not UTF-8")
    for path in sorted(root.rglob("*"), reverse=True):
        os.utime(path, ns=(0, 1_600_000_000_123_456_789), follow_symlinks=False)


def gnu_tar(root: Path, tar: Path, *options: str) -> None:
    subprocess.run(
        ["tar", "-C", root, "--numeric-owner", "--owner=0", "--group=0", *options, "-cf", tar, "."],
        check=True,
    )


@dataclass(frozen=True)
class Images:
    """A layout `images` in `base`, with the image `app` in two versions `1` and `2` of two layers each."""

    base: Path

    def name(self, version: int) -> str:
        return f"oci:{self.base}/images:{version}"


@pytest.fixture(scope="session")
def built(umoci: Tool, tmp_path_factory: pytest.TempPathFactory) -> Images:
    base = tmp_path_factory.mktemp("images")
    layout = base / "images"
    umoci("init", "--layout", layout)
    for version, form in ((1, "--format=gnu"), (2, "--format=posix")):
        tag = f"{layout}:{version}"
        umoci("new", "--image", tag)
        grow(base / f"root{version}", version)
        gnu_tar(base / f"root{version}", base / f"{version}.tar", form)
        umoci("raw", "add-layer", "--image", tag, base / f"{version}.tar")
        top = base / f"top{version}"
        (top / "etc").mkdir(parents=True)
        (top / "etc/.wh.hostname").write_bytes(b"")
        (top / "usr").mkdir()
        (top / "usr/app").write_bytes(b"app %d" % version)
        gnu_tar(top, base / f"top{version}.tar", "--sort=name", "--mtime=@1")
        umoci("raw", "add-layer", "--image", tag, base / f"top{version}.tar")
        umoci("config", "--image", tag, "--config.cmd", "/usr/bin/tool", "--author", "a test")
    return Images(base)


def identity(skopeo: Tool, image: str, *options: str) -> tuple[str, list[str]]:
    """Image id and diff ids, as skopeo sees them."""
    raw = skopeo("inspect", *options, "--config", "--raw", image)
    config: dict[str, Any] = json.loads(raw)
    return hashlib.sha256(raw).hexdigest(), config["rootfs"]["diff_ids"]


def digest(skopeo: Tool, image: str, *options: str) -> str:
    return hashlib.sha256(skopeo("inspect", *options, "--raw", image)).hexdigest()


INSECURE = ("--tls-verify=false",)


@pytest.mark.parametrize("version", [1, 2])
def test_back_to_layout_and_archive(
    pycasync: Tool, skopeo: Tool, built: Images, tmp_path: Path, version: int
) -> None:
    """The image that comes back has the same id and diff ids, as skopeo sees it, in a layout and in an archive."""
    original = identity(skopeo, built.name(version))
    pycasync("oci", "convert", "--thin", built.name(version), f"oci:{tmp_path}/new:app")
    pycasync("oci", "verify", f"oci:{tmp_path}/new:app")
    for target in (f"oci:{tmp_path}/back:app", f"docker-archive:{tmp_path}/back.tar:app:1"):
        pycasync("oci", "export", f"oci:{tmp_path}/new:app", target)
        assert identity(skopeo, target) == original
    skopeo("copy", f"docker-archive:{tmp_path}/back.tar", f"oci:{tmp_path}/loaded:app")
    # skopeo writes a config of its own when it makes an OCI image of an archive.
    assert identity(skopeo, f"oci:{tmp_path}/loaded:app")[1] == original[1]


def test_archives_of_skopeo(pycasync: Tool, skopeo: Tool, built: Images, tmp_path: Path) -> None:
    """An archive that skopeo wrote converts, and comes back as it was."""
    skopeo("copy", built.name(1), f"docker-archive:{tmp_path}/x.tar:app:1")
    pycasync("oci", "convert", "--thin", f"docker-archive:{tmp_path}/x.tar", f"oci:{tmp_path}/new:app")
    pycasync("oci", "export", f"oci:{tmp_path}/new:app", f"oci:{tmp_path}/back:app")
    archive = identity(skopeo, f"docker-archive:{tmp_path}/x.tar")
    assert identity(skopeo, f"oci:{tmp_path}/back:app") == archive
    assert archive[1] == identity(skopeo, built.name(1))[1]


def test_archives_of_layouts(pycasync: Tool, skopeo: Tool, built: Images, tmp_path: Path) -> None:
    """An archive of a layout that skopeo wrote is read in place, under the name that skopeo gave it."""
    archive = f"oci-archive:{tmp_path}/x.tar:app:1"
    skopeo("copy", built.name(1), archive)
    pycasync("oci", "convert", "--thin", archive, f"oci:{tmp_path}/new:app")
    pycasync("oci", "export", f"oci:{tmp_path}/new:app", f"oci:{tmp_path}/back:app")
    assert (
        identity(skopeo, f"oci:{tmp_path}/back:app")
        == identity(skopeo, archive)
        == identity(skopeo, built.name(1))
    )
    assert pycasync("oci", "ls", archive) == pycasync("oci", "ls", built.name(1))


def test_skopeo_carries_it(
    pycasync: Tool, skopeo: Tool, built: Images, tmp_path: Path, registry: RunningRegistry
) -> None:
    """A dual image goes registry, layout, registry by `skopeo copy --all` without a digest changing, and is whole."""
    one, two = registry.reference("carried/app:1"), registry.reference("carried/again:1")
    pycasync("oci", "convert", built.name(1), one)
    before = digest(skopeo, one, *INSECURE)
    skopeo("copy", "--all", "--src-tls-verify=false", one, f"oci:{tmp_path}/layout:app")
    skopeo("copy", "--all", "--dest-tls-verify=false", f"oci:{tmp_path}/layout:app", two)
    assert digest(skopeo, two, *INSECURE) == before
    assert digest(skopeo, f"oci:{tmp_path}/layout:app") == before
    for place in (two, f"oci:{tmp_path}/layout:app"):
        assert b"all good" in pycasync("oci", "verify", place)
    pycasync("oci", "export", "--rebuild", two, f"oci:{tmp_path}/back:app")
    assert identity(skopeo, f"oci:{tmp_path}/back:app") == identity(skopeo, built.name(1))


def test_thin_images_are_carried(
    pycasync: Tool, skopeo: Tool, built: Images, tmp_path: Path, registry: RunningRegistry
) -> None:
    """So does a converted image alone."""
    one, two = registry.reference("thin/app:1"), registry.reference("thin/again:1")
    pycasync("oci", "convert", "--thin", built.name(1), one)
    skopeo("copy", "--src-tls-verify=false", one, f"oci:{tmp_path}/layout:app")
    skopeo("copy", "--dest-tls-verify=false", f"oci:{tmp_path}/layout:app", two)
    assert digest(skopeo, two, *INSECURE) == digest(skopeo, one, *INSECURE)
    assert b"all good" in pycasync("oci", "verify", two)


def test_plain_tools_see_the_plain_image(
    pycasync: Tool, skopeo: Tool, umoci: Tool, built: Images, tmp_path: Path, registry: RunningRegistry
) -> None:
    """Without --all skopeo takes the plain image of a dual one, which umoci unpacks as ever."""
    dual = registry.reference("dual/app:1")
    pycasync("oci", "convert", built.name(1), dual)
    assert identity(skopeo, dual, *INSECURE) == identity(skopeo, built.name(1))
    skopeo("copy", "--src-tls-verify=false", dual, f"oci:{tmp_path}/plain:app")
    assert digest(skopeo, f"oci:{tmp_path}/plain:app") == digest(skopeo, built.name(1))
    for name, image in (("a", f"{built.base}/images:1"), ("b", f"{tmp_path}/plain:app")):
        umoci("raw", "unpack", "--rootless", "--image", image, tmp_path / name)
    assert_same(tmp_path / "a", tmp_path / "b")


def test_original_manifest(
    pycasync: Tool, skopeo: Tool, built: Images, tmp_path: Path, registry: RunningRegistry
) -> None:
    """From a dual image, or to where the layers are already, even the manifest is the original one."""
    dual = registry.reference("original/app:1")
    original = digest(skopeo, built.name(1))
    pycasync("oci", "convert", built.name(1), dual)
    pycasync("oci", "export", dual, f"oci:{tmp_path}/a:app")
    assert digest(skopeo, f"oci:{tmp_path}/a:app") == original
    pycasync("oci", "pull", "--thin", dual, f"oci:{tmp_path}/b:app")
    plain = registry.reference("original/app:plain")
    pycasync("oci", "export", f"oci:{tmp_path}/b:app", plain)
    assert digest(skopeo, plain, *INSECURE) == original


@pytest.mark.root
def test_casync_extracts_layers(pycasync: Tool, casync: Tool, built: Images, tmp_path: Path) -> None:
    """Plain casync gives each layer's tree from the store beside the image, with its times where they were kept."""
    store = tmp_path / "s.castr"
    pycasync("oci", "convert", "--mtime=keep", built.name(1), f"oci:{tmp_path}/new:app", f"--store={store}")
    for number, root in ((0, "root1"), (1, "top1")):
        out = tmp_path / f"out{number}"
        casync("extract", tmp_path / f"{number}.caidx", out, f"--store={store}")
        subprocess.run(["tar", "-C", out, "-cf", "/dev/null", "."], check=True)
        names = {path.relative_to(built.base / root) for path in (built.base / root).rglob("*")}
        assert {path.relative_to(out) for path in out.rglob("*")} == names
        for name in names:
            ours, theirs = (out / name), (built.base / root / name)
            assert ours.lstat().st_mode == theirs.lstat().st_mode, name
            if ours.is_file() and not ours.is_symlink():
                assert ours.read_bytes() == theirs.read_bytes(), name
                assert int(ours.stat().st_mtime) == int(theirs.stat().st_mtime) or number == 1, name


# ---- what travels


@dataclass(frozen=True)
class Traffic:
    requests: int
    sent: int
    moved: int


def push(pycasync: Tool, source: str, target: str) -> Traffic:
    told = json.loads(pycasync("oci", "push", "--json", source, target))
    return Traffic(told["requests"], told["bytes_sent"], told["moved"])


def test_push_of_a_small_change(
    pycasync: Tool, built: Images, tmp_path: Path, registry: RunningRegistry
) -> None:
    """Two per cent changed: under 5 % of the bytes, under 30 requests. The same again: nothing is sent."""
    new = f"oci:{tmp_path}/new"
    pycasync("oci", "convert", "--thin", built.name(1), f"{new}:app")
    target = registry.reference("small/app:1")
    first = push(pycasync, f"{new}:app", target)
    pycasync("oci", "convert", "--thin", built.name(2), f"{new}:app")
    second = push(pycasync, f"{new}:app", target)
    third = push(pycasync, f"{new}:app", target)
    print(f"first {first}\nsecond {second}\nthird {third}")
    assert first.sent > 8_000_000
    assert second.sent < first.sent * 0.05
    assert second.requests < 30
    assert third.sent == third.moved == 0
    assert third.requests < 10
    assert b"all good" in pycasync("oci", "verify", target)


def test_pull_of_a_small_change(
    pycasync: Tool, built: Images, tmp_path: Path, registry: RunningRegistry
) -> None:
    """Into a chunk store that has the first version, the second one brings its new chunks alone."""
    target = registry.reference("pulled/app:1")
    store = f"--store={tmp_path}/s.castr"
    pulled = []
    for version in (1, 2):
        pycasync("oci", "convert", "--thin", "--no-base", built.name(version), target)
        told = pycasync("oci", "pull", "--json", store, target, f"oci:{tmp_path}/local:{version}")
        pulled.append(json.loads(told))
    assert pulled[1]["bytes_received"] < pulled[0]["bytes_received"] * 0.07
    for version in (1, 2):
        assert b"all good" in pycasync("oci", "verify", store, f"oci:{tmp_path}/local:{version}")


def test_garbage_collection_of_the_registry(
    pycasync: Tool, built: Images, tmp_path: Path, registry: RunningRegistry
) -> None:
    """Everything that an image needs is named by a tagged manifest: the registry's own collection takes nothing."""
    target = registry.reference("kept/app:1")
    for version in (1, 2):
        pycasync("oci", "convert", "--thin", built.name(version), target)
    command = ["docker-registry", "garbage-collect", registry.directory / "config.yml"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert b"all good" in pycasync("oci", "verify", target)


def test_deletion_of_untagged_manifests(skopeo: Tool, tmp_path: Path) -> None:
    """distribution 2 takes manifests that only a tagged index names for untagged: multi-platform images break, and
    dual tags with the plain image in them. Thin tags do not."""
    small = ("a", "b", "c", "d")
    with layout_at(tmp_path / "layout") as layout, running(tmp_path / "registry") as registry:
        images = [build(layout, name, [layer({name: noise(5000, seed)})]) for seed, name in enumerate(small)]
        build_index(layout, "multi", [(images[0], "linux/amd64"), (images[1], "linux/arm64")])
        copy_image(layout, "multi", registry.open("multi"), "1")
        convert(layout, "c", registry.open("dual"), "1", ConvertOptions())
        convert(layout, "d", registry.open("thin"), "1", ConvertOptions(thin=True))

        def collect(*options: str) -> dict[str, bool]:
            """Which images are whole after a garbage collection."""
            config = registry.directory / "config.yml"
            command = ["docker-registry", "garbage-collect", *options, config]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
            return {
                name: not verify_image(registry.open(name), "1").problems
                for name in ("multi", "dual", "thin")
            }

        assert collect() == {"multi": True, "dual": True, "thin": True}
        assert collect("--delete-untagged") == {"multi": False, "dual": False, "thin": True}
        assert skopeo.run("inspect", "--tls-verify=false", registry.reference("dual:1")).status != 0


# ---- runs that end early


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("after", [0.4, 0.8, 1.2])
def test_killed(pycasync: Tool, built: Images, tmp_path: Path, number: int, after: float) -> None:
    """A conversion that is killed leaves the tag as it was, or done; gc takes away what else it leaves; the next
    succeeds."""
    layout = f"oci:{tmp_path}/new"
    pycasync("oci", "convert", "--thin", built.name(1), f"{layout}:app")
    before = (tmp_path / "new/index.json").read_bytes()
    run = subprocess.Popen(
        [*pycasync.command, "oci", "convert", "--no-base", built.name(2), f"{layout}:app"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "PYTHONSAFEPATH": "1", "TMPDIR": str(tmp_path)},
    )
    time.sleep(after)
    run.send_signal(number)
    if run.wait(60) != 0:
        if (
            tmp_path / "new/index.json"
        ).read_bytes() != before:  # the signal came between the tag and the end
            assert b"all good" in pycasync("oci", "verify", f"{layout}:app")
        if number == signal.SIGTERM:
            assert not list((tmp_path / "new").glob(".pycasync-*")), (
                "a signal that can be caught leaves nothing"
            )
    assert {path.name for path in tmp_path.iterdir()} == {"new"}, "no temporary files"
    pycasync("oci", "gc", layout)
    assert not list((tmp_path / "new").glob(".pycasync-*"))
    assert b"all good" in pycasync("oci", "verify", f"{layout}:app")
    pycasync("oci", "convert", built.name(2), f"{layout}:app")
    assert b"all good" in pycasync("oci", "verify", f"{layout}:app")
