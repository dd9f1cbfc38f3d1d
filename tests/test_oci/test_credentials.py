"""Credentials: the order of places, the forms of files and helpers, and that secrets are never shown."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from casync_compat.errors import UsageError
from casync_compat.oci.registry.credentials import Credential, Credentials


def entry(user: str, password: str = "secret") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def write(path: Path, config: object) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config))
    return str(path)


def user(environ: Mapping[str, str], host: str = "reg.test", repository: str = "a/b") -> str | None:
    found = Credentials(environ, no_helper).find(host, repository)
    return found.username if found else None


def no_helper(program: str, request: str, environ: Mapping[str, str]) -> tuple[int, str]:
    raise AssertionError(f"{program} was run")


def test_files_in_their_order(tmp_path: Path) -> None:
    """The first file with an entry for the host wins; files that are not there are passed over."""
    home, run, auth = tmp_path / "home", tmp_path / "run", tmp_path / "auth.json"
    environ = {
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(run),
        "REGISTRY_AUTH_FILE": str(auth),
        "DOCKER_CONFIG": "",
    }
    write(auth, {"auths": {}})
    assert user(environ) is None
    for name, path in [
        ("docker", home / ".docker/config.json"),
        ("podman", home / ".config/containers/auth.json"),
        ("runtime", run / "containers/auth.json"),
        ("named", auth),
    ]:
        write(path, {"auths": {"reg.test": entry(name)}})
        assert user(environ) == name
        assert user(environ, "other.test") is None


def test_places_can_be_moved(tmp_path: Path) -> None:
    """DOCKER_CONFIG and XDG_CONFIG_HOME name other directories."""
    write(tmp_path / "d" / "config.json", {"auths": {"reg.test": entry("docker")}})
    assert user({"DOCKER_CONFIG": str(tmp_path / "d")}) == "docker"
    write(tmp_path / "x" / "containers" / "auth.json", {"auths": {"reg.test": entry("xdg")}})
    assert user({"DOCKER_CONFIG": str(tmp_path / "d"), "XDG_CONFIG_HOME": str(tmp_path / "x")}) == "xdg"
    assert user({}) is None


@pytest.mark.parametrize(
    ("host", "repository", "expected"),
    [
        ("reg.test", "a/b", "repository"),
        ("reg.test", "a/bc", "namespace"),
        ("reg.test", "a", "namespace"),
        ("reg.test", "ab", "host"),
        ("reg.test:5000", "a/b", "port"),
        ("reg", "a", None),
        ("docker.io", "library/debian", "hub"),
        ("url.test", "a", "url"),
        ("slash.test", "a", "slash"),
    ],
)
def test_longest_path_wins(tmp_path: Path, host: str, repository: str, expected: str | None) -> None:
    """Keys match by whole components of host and path; docker's URLs mean their hosts."""
    auths = {
        "reg.test": entry("host"),
        "reg.test/a": entry("namespace"),
        "reg.test/a/b": entry("repository"),
        "reg.test:5000": entry("port"),
        "https://index.docker.io/v1/": entry("hub"),
        "http://url.test/v2/": entry("url"),
        "slash.test/": entry("slash"),
    }
    environ = {"REGISTRY_AUTH_FILE": write(tmp_path / "auth.json", {"auths": auths})}
    assert user(environ, host, repository) == expected


def test_forms_of_entries(tmp_path: Path) -> None:
    """Passwords may have colons; tokens are kept apart; an empty entry is none."""
    auths = {
        "a.test": entry("joe", "pass:word\0\0"),
        "b.test": {"username": "joe", "password": "plain"},
        "c.test": {**entry("joe", ""), "identitytoken": "identity"},
        "d.test": {"registrytoken": "bearer"},
        "e.test": {},
    }
    found = Credentials({"REGISTRY_AUTH_FILE": write(tmp_path / "auth.json", {"auths": auths})}, no_helper)
    a, b, c, d = (found.find(f"{name}.test", "x") for name in "abcd")
    assert a is not None
    assert (a.username, a.password) == ("joe", "pass:word")
    assert a.basic == "Basic " + base64.b64encode(b"joe:pass:word").decode()
    assert b is not None
    assert b.password == "plain"
    assert c is not None
    assert (c.username, c.identity_token) == ("joe", "identity")
    assert d is not None
    assert d.registry_token == "bearer"
    assert found.find("e.test", "x") is None


def test_helpers_come_first(tmp_path: Path) -> None:
    """credHelpers for the host, then credsStore, then auths, as far as each has nothing."""
    asked: list[tuple[str, str]] = []
    answers: dict[str, tuple[int, str]] = {}

    def run(program: str, request: str, environ: Mapping[str, str]) -> tuple[int, str]:
        asked.append((program, request))
        return answers.get(program, (1, "credentials not found in native keychain\n"))

    config = {
        "credHelpers": {"reg.test": "one"},
        "credsStore": "two",
        "auths": {"reg.test": entry("file")},
    }
    credentials = Credentials({"REGISTRY_AUTH_FILE": write(tmp_path / "c.json", config)}, run)
    found = credentials.find("reg.test", "a")
    assert found is not None
    assert found.username == "file"
    assert asked == [("docker-credential-one", "reg.test"), ("docker-credential-two", "reg.test")]
    answers["docker-credential-two"] = (0, json.dumps({"ServerURL": "x", "Username": "u2", "Secret": "s"}))
    found = credentials.find("reg.test", "a")
    assert found is not None
    assert found.username == "u2"
    answers["docker-credential-one"] = (0, json.dumps({"Username": "<token>", "Secret": "identity"}))
    found = credentials.find("reg.test", "a")
    assert found is not None
    assert (found.username, found.password, found.identity_token) == ("", "", "identity")
    asked.clear()
    credentials.find("other.test", "a")
    assert asked == [("docker-credential-two", "other.test")]


def test_docker_hub_in_helpers(tmp_path: Path) -> None:
    """Helpers know Docker Hub by docker's key or by podman's."""
    asked = []

    def run(program: str, request: str, environ: Mapping[str, str]) -> tuple[int, str]:
        asked.append(request)
        return 1, "credentials not found in native keychain"

    path = write(tmp_path / "c.json", {"credHelpers": {"index.docker.io": "x"}})
    assert Credentials({"REGISTRY_AUTH_FILE": path}, run).find("docker.io", "library/a") is None
    assert asked == ["https://index.docker.io/v1/", "docker.io"]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"auths": {"reg.test": {"auth": "!"}}}', "malformed"),
        ('{"auths": {"reg.test": {"username": 1}}}', "malformed"),
        ('{"credsStore": "../evil"}', "bad name"),
        ('{"credsStore": "fails"}', "docker-credential-fails failed"),
        ('{"credsStore": "absent"}', "docker-credential-absent cannot be run"),
        ('{"credsStore": "hangs"}', "it does not end"),
        ('{"credsStore": "rubbish"}', "not a credential"),
    ],
)
def test_broken_files_are_said(tmp_path: Path, config: str, says: str) -> None:
    """What cannot be used is an error that names the file and no secret, rather than silently nobody."""

    def run(program: str, request: str, environ: Mapping[str, str]) -> tuple[int, str]:
        if program.endswith("absent"):
            raise FileNotFoundError(2, "No such file or directory")
        if program.endswith("hangs"):
            raise subprocess.TimeoutExpired(program, 60, output=b"TOPSECRET")
        return (0, '{"Username": "TOPSECRET"}') if program.endswith("rubbish") else (3, "TOPSECRET")

    path = tmp_path / "auth.json"
    path.write_text(config)
    with pytest.raises(UsageError) as caught:
        Credentials({"REGISTRY_AUTH_FILE": str(path)}, run).find("reg.test", "a")
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert "TOPSECRET" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_named_file_must_be_there(tmp_path: Path) -> None:
    """A REGISTRY_AUTH_FILE that does not exist is a mistake, unlike the default places."""
    with pytest.raises(UsageError, match="no such file"):
        user({"REGISTRY_AUTH_FILE": str(tmp_path / "nothing")})


def test_secrets_are_not_shown() -> None:
    """Neither repr nor str of credentials says more than where they are from."""
    credential = Credential("file.json", "joe", "TOPSECRET", "TOPSECRET", "TOPSECRET")
    assert "TOPSECRET" not in repr(credential) + str(credential)
    assert "joe" not in repr(credential)
    assert "file.json" in repr(credential)
