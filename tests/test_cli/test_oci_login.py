"""`pycasync oci login` and `logout`: the registry decides, and the file is shared with other tools."""

from __future__ import annotations

import base64
import io
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_cli.conftest import Run
from test_oci.fake_registry import FakeRegistry

from casync_compat.errors import FileError, UsageError
from casync_compat.net import transport
from casync_compat.oci.registry.authfile import forget_login, keep_login, login_file
from casync_compat.oci.registry.credentials import Credentials

HOST = "registry.test"
LOGIN = ("oci", "login", "-u", "joe", "--password-stdin", HOST)


def entry(user: str, password: str = "secret") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture
def auth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the login goes: nothing is there yet."""
    path = tmp_path / "containers" / "auth.json"
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(path))
    return path


@pytest.fixture(params=["basic", "bearer"])
def registry(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    """A registry that wants to know who asks."""
    fake = FakeRegistry(auth=request.param)
    fake.user = "joe"
    monkeypatch.setattr(transport, "CurlTransport", lambda *_, **__: fake)
    return fake


def typed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_login_and_logout(
    ok: Run, run: Run, registry: FakeRegistry, auth: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login that the registry takes is in the file, which is its owner's alone, and is gone after the logout."""
    typed(monkeypatch, "secret\n")
    assert b"secret" not in ok(*LOGIN).out
    assert json.loads(auth.read_bytes()) == {"auths": {HOST: entry("joe")}}
    assert stat.S_IMODE(auth.stat().st_mode) == 0o600
    found = Credentials(os.environ).find(HOST, "a/b")
    assert found is not None
    assert (found.username, found.password) == ("joe", "secret")
    ok("oci", "logout", HOST)
    assert json.loads(auth.read_bytes()) == {"auths": {}}
    said = run("oci", "logout", HOST)
    assert said.status == 1
    assert b"there is no login at registry.test" in said.err


def test_a_wrong_password(
    run: Run, registry: FakeRegistry, auth: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written when the registry does not take it."""
    typed(monkeypatch, "wrong\n")
    said = run(*LOGIN)
    assert said.status == 1
    assert b"registry.test: cannot log in: it does not take this user name and password" in said.err
    assert b"wrong" not in said.err
    assert not auth.exists()


def test_a_registry_that_asks_nobody(run: Run, auth: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not checked is said."""
    monkeypatch.setattr(transport, "CurlTransport", lambda *_, **__: FakeRegistry())
    typed(monkeypatch, "anything\n")
    said = run(*LOGIN)
    assert said.status == 0
    assert b"whether this login is right is not known" in said.err
    assert HOST in json.loads(auth.read_bytes())["auths"]


def test_what_is_no_registry(run: Run, auth: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A web server that knows nothing of images gets no login."""
    monkeypatch.setattr(transport, "CurlTransport", lambda *_, **__: FakeRegistry(statuses=[(404, {})]))
    typed(monkeypatch, "secret\n")
    said = run(*LOGIN)
    assert said.status == 1
    assert b"no registry" in said.err
    assert not auth.exists()


def test_who_asks_at_a_terminal(
    ok: Run, run: Run, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Name and password are asked for; another file may be named."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal("joe\n"))
    monkeypatch.setattr("getpass.getpass", lambda prompt: "secret")
    other = tmp_path / "other.json"
    assert run("oci", "login", f"--authfile={other}", "--tls-verify=false", HOST).err == b"User name: "
    assert json.loads(other.read_bytes()) == {"auths": {HOST: entry("joe")}}
    ok("oci", "logout", f"--authfile={other}", HOST)
    assert json.loads(other.read_bytes()) == {"auths": {}}


@pytest.mark.parametrize(
    "words",
    [
        "login -u joe registry.test",
        "login --password-stdin registry.test",
        "login -u joe --password-stdin docker://registry.test",
        "login -u joe --password-stdin registry",
        "login -u jo:e --password-stdin registry.test",
        "login -u joe --password-stdin registry.test",
        "login -u joe --password-stdin --insecure --tls-verify=true registry.test",
        "logout registry.test/app",
    ],
)
def test_words_that_make_no_sense(run: Run, auth: Path, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    """Half a login, an empty password, a registry that is none: all before anything is asked."""
    typed(monkeypatch, "")
    assert run("oci", *words.split()).status == 2
    assert not auth.exists()


def test_another_login_stays_in_force(
    run: Run, auth: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A logout tells of one in a file that is read later."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"auths": {HOST: entry("ann")}}))
    keep_login(str(auth), HOST, "joe", "secret")
    said = run("oci", "logout", HOST)
    assert said.status == 0
    assert f"another login at {HOST} in {tmp_path}/config.json".encode() in said.err


def written(path: Path, config: object) -> str:
    path.write_text(json.dumps(config))
    return str(path)


def test_everything_else_stays(tmp_path: Path) -> None:
    """Other registries, single repositories, others' helpers and unknown members; older forms of the same go."""
    kept: dict[str, Any] = {"credHelpers": {"ecr.test": "ecr"}, "HttpHeaders": {"a": "b"}}
    others = {"other.test": entry("ann"), f"{HOST}/team": entry("team")}
    path = tmp_path / "config.json"
    name = written(path, {**kept, "auths": {f"https://{HOST}/v1/": entry("old"), **others}})
    path.chmod(0o644)
    keep_login(name, HOST, "joe", "secret")
    assert json.loads(path.read_bytes()) == {**kept, "auths": {**others, HOST: entry("joe")}}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert forget_login(name, HOST)
    assert json.loads(path.read_bytes()) == {**kept, "auths": others}
    assert not forget_login(name, HOST)


@pytest.mark.parametrize(
    ("file", "key"), [("config.json", "https://index.docker.io/v1/"), ("auth.json", "docker.io")]
)
def test_docker_hub(tmp_path: Path, file: str, key: str) -> None:
    """It has the name under which the tool looks whose file it is, and only one."""
    path = tmp_path / file
    name = written(path, {"auths": {"docker.io": entry("old"), "https://index.docker.io/v1/": entry("old")}})
    keep_login(name, "index.docker.io", "joe", "secret")
    assert json.loads(path.read_bytes()) == {"auths": {key: entry("joe")}}


@pytest.mark.parametrize(
    "config", [{"credsStore": "desktop"}, {"credHelpers": {HOST: "desktop"}}, {"auths": []}, []]
)
def test_files_that_are_left_alone(tmp_path: Path, config: object) -> None:
    """A helper keeps the logins, or it is no file of credentials."""
    path = tmp_path / "config.json"
    with pytest.raises(UsageError, match=r"config\.json"):
        keep_login(written(path, config), HOST, "joe", "secret")
    assert json.loads(path.read_bytes()) == config


def test_where_a_login_goes(tmp_path: Path) -> None:
    """The first file that is looked into; where that cannot be made, it is told."""
    assert login_file({"XDG_RUNTIME_DIR": "/run/user/7", "HOME": "/h"}) == "/run/user/7/containers/auth.json"
    assert login_file({"HOME": "/h"}) == "/h/.config/containers/auth.json"
    with pytest.raises(UsageError, match="set HOME"):
        login_file({})
    with pytest.raises(UsageError, match="without a colon"):
        keep_login(str(tmp_path / "a.json"), HOST, "", "secret")
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(FileError, match="dangling"):
        keep_login(str(tmp_path / "dangling" / "a.json"), HOST, "joe", "secret")
    assert not forget_login(str(tmp_path / "missing.json"), HOST)


def test_logins_at_once(tmp_path: Path) -> None:
    """Of several processes that log in and out at the same time none loses what another wrote."""
    path = tmp_path / "containers/auth.json"
    keep_login(str(path), "old.example", "joe", "x")
    program = (
        "import sys; from casync_compat.oci.registry.authfile import forget_login, keep_login\n"
        "path, number = sys.argv[1:]\n"
        "for at in range(20): keep_login(path, f'r{number}-{at}.example', 'joe', 'secret')\n"
        "forget_login(path, f'r{number}-0.example')"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, path, str(number)]) for number in range(4)]
    assert [process.wait(timeout=120) for process in running] == [0] * 4
    hosts = {f"r{number}-{at}.example" for number in range(4) for at in range(1, 20)}
    assert set(json.loads(path.read_text())["auths"]) == hosts | {"old.example"}
    assert [one.name for one in path.parent.iterdir()] == ["auth.json"]
