"""Tags, copies, deletions and logins at a real registry, beside skopeo; directories and archives for it and from it."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from filesystems import lacking
from interop.registries import PASSWORD, USER, RunningRegistry
from interop.tools import Tool, better_than_casync
from test_oci.images import build, build_index, layer, layout_at

pytestmark = better_than_casync


@pytest.fixture
def layout(tmp_path: Path) -> str:
    """A layout with an image."""
    with layout_at(tmp_path / "images") as place:
        build(place, "app", [layer({"etc/app": b"1" * 500})])
    return f"oci:{tmp_path}/images:app"


def test_tags_and_delete(pycasync: Tool, registry: RunningRegistry, layout: str) -> None:
    """skopeo sees the same tags; one that shares its image goes with the others only, by the digest."""
    skopeo = shutil.which("skopeo") or lacking("skopeo is not installed; .ci/setup installs it")
    there = registry.reference("habits/app")
    digest = json.loads(pycasync("oci", "copy", "--json", layout, f"{there}:1"))["digest"]
    pycasync("oci", "copy", f"{there}:1", f"{there}:2")
    assert pycasync("oci", "tags", there) == b"1\n2\n"
    listed = subprocess.run(
        [skopeo, "list-tags", "--tls-verify=false", there], capture_output=True, check=True, timeout=60
    )
    assert sorted(json.loads(listed.stdout)["Tags"]) == ["1", "2"]
    raw = subprocess.run(
        [skopeo, "inspect", "--raw", "--tls-verify=false", f"{there}:1"],
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert pycasync("oci", "inspect", "--raw", f"{there}:1") == raw.stdout

    refused = pycasync.run("oci", "delete", f"{there}:1")
    assert refused.status == 1
    assert b"'2' would go, too" in refused.err
    pycasync("oci", "delete", f"{there}@{digest}")
    assert pycasync.run("oci", "inspect", f"{there}:2").status == 1


def test_logins(pycasync: Tool, private_registry: RunningRegistry, layout: str, tmp_path: Path) -> None:
    """A password on standard input, a file of credentials, and each for one side only."""
    there = private_registry.reference("habits/app:1")
    assert pycasync.run("oci", "copy", layout, there).status == 1
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    dest = ("--dest-creds", USER, "--password-stdin")
    pycasync("oci", "copy", *dest, layout, there, stdin=tmp_path / "password")

    login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {private_registry.host: {"auth": login}}}))
    back = f"oci:{tmp_path}/back:app"
    assert pycasync.run("oci", "copy", "--dest-authfile", tmp_path / "auth.json", there, back).status == 1
    pycasync("oci", "copy", "--src-authfile", tmp_path / "auth.json", there, back)
    assert pycasync("oci", "inspect", "--raw", back) == pycasync("oci", "inspect", "--raw", layout)


def test_login(pycasync: Tool, private_registry: RunningRegistry, layout: str, tmp_path: Path) -> None:
    """skopeo comes in with the login that was kept, and is out after the logout; and the other way round."""
    skopeo = shutil.which("skopeo") or lacking("skopeo is not installed; .ci/setup installs it")
    host, auth = private_registry.host, tmp_path / "auth.json"
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    (tmp_path / "wrong").write_text("wrong\n")
    login = ("oci", "login", "-u", USER, "--password-stdin", "--authfile", auth, host)
    assert pycasync.run(*login, stdin=tmp_path / "wrong").status == 1
    assert not auth.exists()
    pycasync(*login, stdin=tmp_path / "password")
    there = private_registry.reference("login/app:1")
    pycasync("oci", "copy", "--authfile", auth, layout, there)

    def skopeo_gets_in(*words: object) -> bool:
        command = [skopeo, words[0], "--tls-verify=false", "--authfile", str(auth), *map(str, words[1:])]
        return subprocess.run(command, capture_output=True, timeout=60).returncode == 0

    assert skopeo_gets_in("inspect", there)
    pycasync("oci", "logout", "--authfile", auth, host)
    assert not skopeo_gets_in("inspect", there)
    assert skopeo_gets_in("login", "-u", USER, "-p", PASSWORD, host)
    pycasync("oci", "inspect", "--authfile", auth, there)
    assert skopeo_gets_in("logout", host)
    assert pycasync.run("oci", "logout", "--authfile", auth, host).status == 1


@pytest.fixture
def several(tmp_path: Path) -> str:
    """A layout with an index of two images."""
    with layout_at(tmp_path / "several") as place:
        images = [
            (build(place, None, [layer({"etc/app": b"x" * 500})], architecture=name), f"linux/{name}")
            for name in ("amd64", "arm64")
        ]
        build_index(place, "app", images)
    return f"oci:{tmp_path}/several:app"


def by_skopeo(*words: str) -> bytes:
    """What skopeo prints."""
    skopeo = shutil.which("skopeo") or lacking("skopeo is not installed; .ci/setup installs it")
    done = subprocess.run([skopeo, *words], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.mark.parametrize("kind", ["dir", "oci-archive"])
@pytest.mark.parametrize("shape", ["layout", "several"])
def test_written_for_skopeo(
    pycasync: Tool, request: pytest.FixtureRequest, tmp_path: Path, kind: str, shape: str
) -> None:
    """What we write skopeo reads, and the other way round: the same manifests to the byte, converted ones, too."""
    image: str = request.getfixturevalue(shape)
    raw = pycasync("oci", "inspect", "--raw", image)
    ours, theirs, back = (f"{kind}:{tmp_path}/{name}" for name in ("ours", "theirs", "back"))
    pycasync("oci", "copy", image, ours)
    by_skopeo("copy", "--all", image, theirs)
    assert by_skopeo("inspect", "--raw", ours) == raw
    if kind == "dir":
        assert {path.name: path.read_bytes() for path in (tmp_path / "ours").iterdir()} == {
            path.name: path.read_bytes() for path in (tmp_path / "theirs").iterdir()
        }
    pycasync("oci", "copy", theirs, f"oci:{tmp_path}/again:app")
    assert pycasync("oci", "inspect", "--raw", f"oci:{tmp_path}/again:app") == raw

    pycasync("oci", "convert", "--all", theirs, ours)
    by_skopeo("copy", "--all", ours, back)
    pycasync("oci", "verify", back)
    by_skopeo("copy", "--all", back, theirs)  # in place of what was there


def test_unpacked_by_umoci(pycasync: Tool, layout: str, tmp_path: Path) -> None:
    """An archive is a tar of a layout, which umoci unpacks."""
    umoci = shutil.which("umoci") or lacking("umoci is not installed; .ci/setup installs it")
    pycasync("oci", "copy", layout, f"oci-archive:{tmp_path}/x.tar:app")
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-C", tmp_path / "out", "-xf", tmp_path / "x.tar"], check=True, timeout=60)
    command = [umoci, "unpack", "--rootless", "--image", f"{tmp_path}/out:app", tmp_path / "bundle"]
    subprocess.run(command, check=True, timeout=60, capture_output=True)
    assert (tmp_path / "bundle/rootfs/etc/app").read_bytes() == b"1" * 500


def test_signatures(pycasync: Tool, registry: RunningRegistry, layout: str, tmp_path: Path) -> None:
    """A signature as cosign stores it goes to a registry and comes back with the image; skopeo finds it by its tag."""
    there, place = registry.reference("signed/app"), layout.removesuffix(":app")
    digest = hashlib.sha256(pycasync("oci", "inspect", "--raw", layout)).hexdigest()
    with layout_at(Path(place.removeprefix("oci:"))) as images:
        build(images, f"sha256-{digest}.sig", [layer({"payload": b"signed"})])
    signature = f"sha256-{digest}.sig"
    raw = pycasync("oci", "inspect", "--raw", f"{place}:{signature}")
    assert json.loads(pycasync("oci", "push", "--json", layout, f"{there}:1"))["attached"] == 1
    assert by_skopeo("inspect", "--raw", "--tls-verify=false", f"{there}:{signature}") == raw
    pycasync("oci", "pull", f"{there}:1", f"oci:{tmp_path}/back:app")
    assert pycasync("oci", "inspect", "--raw", f"oci:{tmp_path}/back:{signature}") == raw
