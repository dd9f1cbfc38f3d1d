"""Images that docker's daemon keeps, asked for at its socket: what `docker save` does, without docker.

    >>> at = daemon_socket(os.environ)
    >>> save(at, "app:1", out)

Only the daemon of this machine is asked (`$DOCKER_HOST` of the form `unix://PATH`, else the usual socket); one that is
reached otherwise is skopeo's business (`casync_compat.oci.places.bydaemon`). What comes is a docker archive.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import stat
from collections.abc import Mapping
from typing import BinaryIO
from urllib.parse import quote

from casync_compat.errors import UsageError
from casync_compat.oci.spec.errors import ImageError

__all__ = ["daemon_socket", "save"]

_USUAL = "/var/run/docker.sock"
_PATIENCE = 600
"""Seconds without a byte: the daemon begins when it has gathered the layers."""
_PIECE = 1 << 20
_MESSAGE = 64 << 10


def daemon_socket(environ: Mapping[str, str]) -> str | None:
    """Where docker's daemon listens on this machine; None where it does not, or elsewhere."""
    said = environ.get("DOCKER_HOST", "")
    if said and not said.startswith("unix://"):
        return None
    path = said.removeprefix("unix://") or _USUAL
    try:
        return path if stat.S_ISSOCK(os.stat(path).st_mode) else None
    except OSError:
        return None


def save(at: str, name: str, out: BinaryIO) -> None:
    """Write an image as a docker archive.

    :param at: the daemon's socket
    :param name: NAME[:TAG], NAME@DIGEST, or a digest; without a tag `latest`
    :raises UsageError: the daemon cannot be asked
    :raises ImageError: it has no such image, or stops in the middle
    """
    where = f"docker-daemon:{name}"
    if "@" not in name and ":" not in name.rpartition("/")[2]:
        name += ":latest"
    connection = _Connection(at)
    try:
        connection.request("GET", f"/images/{quote(name, safe='/:@')}/get", headers={"Host": "docker"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise ImageError(where, f"docker's daemon does not give it: {_message(answer)}")
        while data := answer.read(_PIECE):
            out.write(data)
    except http.client.HTTPException as error:
        raise ImageError(where, f"docker's daemon stopped in the middle ({type(error).__name__})") from error
    finally:
        connection.close()


class _Connection(http.client.HTTPConnection):
    """HTTP through a socket of this machine."""

    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=_PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_PATIENCE)
        try:
            self.sock.connect(self._path)
        except OSError as error:
            raise UsageError(
                f"{self._path}: docker's daemon cannot be asked ({error.strerror}); whoever is in the group docker or "
                "root can, or use docker save and docker-archive:"
            ) from error


def _message(answer: http.client.HTTPResponse) -> str:
    text = answer.read(_MESSAGE)
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"status {answer.status}"
