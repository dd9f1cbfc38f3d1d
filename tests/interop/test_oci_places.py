"""Tags, copies, deletions and logins at a real registry, beside skopeo."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from filesystems import lacking
from interop.registries import PASSWORD, USER, RunningRegistry
from interop.tools import Tool, better_than_casync
from test_oci.images import build, layer, layout_at

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
    digest = pycasync("oci", "copy", layout, f"{there}:1").decode().strip()
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
