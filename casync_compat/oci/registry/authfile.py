"""The file where logins at registries are written: the one that skopeo, podman, buildah and docker read, too.

    >>> path = login_file(os.environ)
    >>> keep_login(path, "ghcr.io", "joe", "secret")
    >>> forget_login(path, "ghcr.io")
    True

Its form is that of containers-auth.json(5) and of docker's `config.json`: `auths` has an entry a registry, with the
name and the password in base64, which hides nothing; so the file is for its owner alone. What else is in it stays.
Several logins at once lose none of them: each reads and replaces the file under a lock.
Who keeps passwords by a helper (`credHelpers`, `credsStore`) is sent there: nothing is written beside it.
Reading is in `credentials`.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from casync_compat.errors import FileError, UsageError
from casync_compat.fs.atomic import AtomicFile
from casync_compat.fs.exclusive import alone_in
from casync_compat.oci.registry.credentials import (
    DOCKER_HUB,
    HUB_HELPER_KEY,
    credential_files,
    helpers_of,
    host_of_key,
    load_file,
    registry_host,
)

__all__ = ["forget_login", "keep_login", "login_file"]

_MODE = 0o600


def login_file(environ: Mapping[str, str]) -> str:
    """The path of the file where a login is kept: the first that is looked into.

    :raises UsageError: the environment names no place at all
    """
    for path, _ in credential_files(environ):
        return path
    raise UsageError("there is no place to keep a login in; set HOME or REGISTRY_AUTH_FILE")


def keep_login(path: str, host: str, username: str, password: str) -> None:
    """Write a login, in place of the one that is there for the same registry.

    :param path: made with its directory where there is none; of mode 0600 afterwards
    :param host: the registry with its port, as in image names
    :raises UsageError: what is there is no file of credentials, or leaves them to a helper, or the name has a colon
    :raises FileError: it cannot be written
    """
    if not username or ":" in username or not password:
        raise UsageError("a login has a user name, without a colon in it, and a password")
    host = registry_host(host)
    with _alone(path):
        config = load_file(path, required=False) or {}
        helpers = helpers_of(config, host)
        if helpers:
            raise UsageError(
                f"{path}: docker-credential-{helpers[0]} keeps the logins at {host}; log in with the tool that it is "
                "for, or choose another file"
            )
        auths = _without(config, path, host)
        auth = base64.b64encode(f"{username}:{password}".encode()).decode()
        # docker looks for its own registry by an address only, all others by the name.
        docker = host == DOCKER_HUB and os.path.basename(path) == "config.json"
        config["auths"] = {**auths, HUB_HELPER_KEY if docker else host: {"auth": auth}}
        _write(path, config)


def forget_login(path: str, host: str) -> bool:
    """Take a login away. Returns whether there was one.

    :raises UsageError: what is there is no file of credentials
    :raises FileError: it cannot be written
    """
    if not os.path.exists(path):
        return False
    with _alone(path):
        config = load_file(path, required=False)
        if config is None:
            return False
        auths = _without(config, path, registry_host(host))
        if auths == config.get("auths", {}):
            return False
        config["auths"] = auths
        _write(path, config)
    return True


@contextmanager
def _alone(path: str) -> Iterator[None]:
    """Nobody else of ours changes a file that lies in this directory meanwhile.

    The lock is on the directory: the file itself is replaced, and one more file would stand there for ever.

    :raises FileError: the directory is not there and cannot be made
    """
    directory = os.path.dirname(os.path.abspath(path))
    with ExitStack() as stack:
        try:
            os.makedirs(directory, 0o700, exist_ok=True)
            stack.enter_context(alone_in(os.fsencode(os.path.dirname(os.path.realpath(path)))))
        except OSError as error:
            raise FileError(os.fsencode(directory), "create", error) from error
        yield


def _without(config: dict[str, Any], path: str, host: str) -> dict[str, Any]:
    """The entries for all other registries, and for single repositories of this one."""
    auths = config.get("auths", {})
    if not isinstance(auths, dict):
        raise UsageError(f"{path}: the auths in this file of credentials are not a JSON object")
    return {key: entry for key, entry in auths.items() if host_of_key(key) != host}


def _write(path: str, config: dict[str, Any]) -> None:
    with AtomicFile(os.fsencode(path), _MODE) as out:
        try:
            os.fchmod(out.fd, _MODE)  # it may be there with another
        except OSError as error:
            raise FileError(os.fsencode(path), "set the mode of", error) from error
        out.write(json.dumps(config, indent="\t", ensure_ascii=False).encode() + b"\n")
