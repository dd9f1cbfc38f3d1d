"""Whom to be at a registry: credentials from options, from the files of podman and docker, and from their helpers.

    >>> Credentials({"HOME": "/home/joe"}).find("ghcr.io", "joe/tools")
    Credential(source='/home/joe/.docker/config.json')

Asked in this order, the first answer wins: what was given explicitly; `$REGISTRY_AUTH_FILE`;
`$XDG_RUNTIME_DIR/containers/auth.json`; `~/.config/containers/auth.json` (or beneath `$XDG_CONFIG_HOME`);
`$DOCKER_CONFIG/config.json` or `~/.docker/config.json`. In each file: `credHelpers`, `credsStore`, `auths`, there the
key with the longest matching path (containers-auth.json(5)). Nothing is looked up before a registry asks for it.
Secrets are in no `repr` and in no message.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from casync_compat.errors import FormatError, UsageError
from casync_compat.fs.readers import read_whole

__all__ = [
    "DOCKER_HUB",
    "HUB_HELPER_KEY",
    "Credential",
    "Credentials",
    "credential_files",
    "helpers_of",
    "host_of_key",
    "load_file",
    "registry_host",
    "run_helper",
]

DOCKER_HUB = "docker.io"
_HUB_NAMES = (DOCKER_HUB, "index.docker.io", "registry-1.docker.io")
HUB_HELPER_KEY = "https://index.docker.io/v1/"
"""What docker asks its helpers for, and its key in `auths`; podman asks for `docker.io`."""

_NOT_FOUND = "credentials not found in native keychain"
"""docker-credential-helpers: printed, with a failing exit status, when a helper has nothing."""

_HELPER_NAME = re.compile(r"[A-Za-z0-9._-]+")
_HELPER_SECONDS = 60
_FILE_LIMIT = 4 << 20


@dataclass(frozen=True, slots=True)
class Credential:
    """Who one is at a registry.

    :ivar source: where it is from, for messages
    :ivar identity_token: for the token server, in place of a password
    :ivar registry_token: for the registry itself, as it is
    """

    source: str
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of an Authorization field (RFC 7617)."""
        secret = self.password or self.identity_token
        return "Basic " + base64.b64encode(f"{self.username}:{secret}".encode()).decode()


HelperRunner = Callable[[str, str, Mapping[str, str]], tuple[int, str]]
"""Program, what it gets on standard input, environment; its exit status and output."""


def run_helper(program: str, request: str, environ: Mapping[str, str]) -> tuple[int, str]:
    """Run `PROGRAM get`.

    :raises OSError: it cannot be run
    :raises subprocess.TimeoutExpired: it does not end
    """
    done = subprocess.run(
        [program, "get"],
        input=request.encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=dict(environ),
        timeout=_HELPER_SECONDS,
    )
    return done.returncode, done.stdout.decode("utf-8", "replace")


class Credentials:
    """Finds credentials.

    :param environ: variables to look at; helpers get them too
    """

    def __init__(self, environ: Mapping[str, str], run: HelperRunner = run_helper) -> None:
        self._environ = environ
        self._run = run

    def find(self, host: str, repository: str) -> Credential | None:
        """The credentials for a repository, None for none.

        :param host: with its port, as in image names
        :raises UsageError: a file or helper that should have them is unusable
        """
        host = registry_host(host)
        for path, required in credential_files(self._environ):
            config = load_file(path, required)
            if config is not None:
                found = self._in_file(config, path, host, repository)
                if found is not None:
                    return found
        return None

    def _in_file(self, config: dict[str, Any], path: str, host: str, repository: str) -> Credential | None:
        for helper in helpers_of(config, host):
            found = self._from_helper(helper, path, host)
            if found is not None:
                return found
        entry = _best(config.get("auths"), host, repository)
        return _parse_entry(entry, path, host) if entry else None

    def _from_helper(self, helper: object, path: str, host: str) -> Credential | None:
        if not isinstance(helper, str) or not _HELPER_NAME.fullmatch(helper):
            raise UsageError(f"{path}: a credential helper has a bad name")
        program = f"docker-credential-{helper}"
        for key in (HUB_HELPER_KEY, DOCKER_HUB) if host == DOCKER_HUB else (host,):
            try:
                status, output = self._run(program, key, self._environ)
            except (OSError, subprocess.SubprocessError) as error:
                why = error.strerror if isinstance(error, OSError) else "it does not end"
                raise UsageError(
                    f"{path}: {program} cannot be run ({why}); install it, or give credentials"
                ) from error
            if status == 0:
                return _parse_helper(output, program, path)
            if _NOT_FOUND not in output:
                raise UsageError(f"{path}: {program} failed for {host} (exit status {status})")
        return None


def registry_host(host: str) -> str:
    """A registry as image names have it: docker's own has several names."""
    return DOCKER_HUB if host in _HUB_NAMES else host


def credential_files(environ: Mapping[str, str]) -> Iterator[tuple[str, bool]]:
    """The files that may have credentials, in their order, and whether each has to be there."""
    if environ.get("REGISTRY_AUTH_FILE"):
        yield environ["REGISTRY_AUTH_FILE"], True
    if environ.get("XDG_RUNTIME_DIR"):
        yield os.path.join(environ["XDG_RUNTIME_DIR"], "containers/auth.json"), False
    home = environ.get("HOME", "")
    config = environ.get("XDG_CONFIG_HOME") or (os.path.join(home, ".config") if home else "")
    if config:
        yield os.path.join(config, "containers/auth.json"), False
    docker = environ.get("DOCKER_CONFIG") or (os.path.join(home, ".docker") if home else "")
    if docker:
        yield os.path.join(docker, "config.json"), False


def helpers_of(config: Mapping[str, Any], host: str) -> list[Any]:
    """The helpers that a file names for a registry, as they are written there, in their order."""
    helpers = config.get("credHelpers")
    chosen = []
    if isinstance(helpers, dict):
        for name in _HUB_NAMES if host == DOCKER_HUB else (host,):
            if helpers.get(name):
                chosen.append(helpers[name])
                break
    if config.get("credsStore"):
        chosen.append(config["credsStore"])
    return chosen


def load_file(path: str, required: bool) -> dict[str, Any] | None:
    """A file of credentials; None where there is none.

    :param required: whether it has to be there
    :raises UsageError: it is unusable, or missing
    """
    try:
        data = read_whole(path, _FILE_LIMIT)
    except (FileNotFoundError, NotADirectoryError) as error:
        if required:
            raise UsageError(f"{path}: REGISTRY_AUTH_FILE names it, but there is no such file") from error
        return None
    except OSError as error:
        raise UsageError(f"{path}: cannot read credentials: {error.strerror}") from error
    except FormatError as error:
        raise UsageError(f"{path}: cannot read credentials: {error.reason}") from error
    try:
        config = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        # Without the cause: its message may quote what is in the file.
        raise UsageError(f"{path}: this file of credentials is not JSON") from None
    if not isinstance(config, dict):
        raise UsageError(f"{path}: this file of credentials is not a JSON object")
    return config


def _best(auths: object, host: str, repository: str) -> dict[str, Any] | None:
    """The entry whose key is the longest prefix, by whole components, of HOST/REPOSITORY."""
    if not isinstance(auths, dict):
        return None
    parts = repository.split("/") if repository else []
    names = ["/".join([host, *parts[:n]]) for n in range(len(parts), -1, -1)]
    by_name: dict[str, dict[str, Any]] = {}
    for key, entry in auths.items():
        if isinstance(entry, dict) and entry:
            by_name.setdefault(host_of_key(key), entry)
    return next((by_name[name] for name in names if name in by_name), None)


def host_of_key(key: str) -> str:
    """A key of `auths` as HOST[/PATH]; docker's are URLs, of which only the host counts."""
    text = key
    for scheme in ("https://", "http://"):
        if key.startswith(scheme):
            text = key.removeprefix(scheme).partition("/")[0]
    host, slash, path = text.strip("/").partition("/")
    if host in _HUB_NAMES:
        # docker writes index.docker.io/v1/, with or without a scheme.
        return DOCKER_HUB if path in ("v1", "v2") or not path else f"{DOCKER_HUB}/{path}"
    return f"{host}{slash}{path}"


def _parse_entry(entry: dict[str, Any], path: str, host: str) -> Credential | None:
    username, password = entry.get("username") or "", entry.get("password") or ""
    if entry.get("auth"):
        try:
            username, colon, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
        except (ValueError, TypeError):
            colon = ""
        if not colon:
            raise UsageError(
                f"{path}: the entry for {host} is malformed; log in again with `pycasync oci login`"
            )
        password = password.rstrip("\0")  # as docker does, which once padded them
    identity, token = entry.get("identitytoken") or "", entry.get("registrytoken") or ""
    if not all(isinstance(value, str) for value in (username, password, identity, token)):
        raise UsageError(f"{path}: the entry for {host} is malformed; log in again with `pycasync oci login`")
    if not (username or password or identity or token):
        return None
    return Credential(path, username, password, identity, token)


def _parse_helper(output: str, program: str, path: str) -> Credential:
    try:
        answer = json.loads(output)
        username, secret = answer["Username"], answer["Secret"]
        if not isinstance(username, str) or not isinstance(secret, str):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UsageError(f"{path}: {program} gave something that is not a credential") from None
    source = f"{program} ({path})"
    if username == "<token>":
        return Credential(source, identity_token=secret)
    return Credential(source, username, secret)
