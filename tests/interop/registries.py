"""Debian's docker-registry (distribution) on loopback, started by the tests: open, with a password, or with TLS.

def test_something(registry: RunningRegistry) -> None:
    repository = registry.open("a/b")
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from filesystems import lacking

from casync_compat.oci.registry.client import Repository, open_repository
from casync_compat.oci.spec.reference import Reference

USER, PASSWORD = "joe", "secret"
_HTPASSWD = f"{USER}:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n"
"""distribution takes bcrypt only. Made by `crypt.crypt("secret", "$2b$04$abcdefghijklmnopqrstuu")` of Python 3.11."""


@dataclass(frozen=True)
class RunningRegistry:
    """A registry that listens.

    :ivar host: `127.0.0.1:PORT`
    :ivar directory: where it keeps everything
    """

    host: str
    directory: Path

    def open(self, name: str, *, login: bool = False, environ: dict[str, str] | None = None) -> Repository:
        """A repository, by a client of its own."""
        return open_repository(
            Reference("docker", self.host, name),
            environ=environ or {},
            username=USER if login else None,
            password=PASSWORD if login else None,
        )

    def reference(self, name: str) -> str:
        """`docker://HOST/NAME`."""
        return f"docker://{self.host}/{name}"


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def running(directory: Path, **http: object) -> Iterator[RunningRegistry]:
    """Start a registry that keeps its files in `directory`, and stop it.

    :param http: further members of its configuration; `auth` goes to the top
    """
    program = shutil.which("docker-registry")
    if program is None:
        lacking("docker-registry is not installed; .ci/setup installs it")
    port = free_port()
    auth = http.pop("auth", None)
    config: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(directory / "files")},
            "delete": {"enabled": True},
            "maintenance": {"uploadpurging": {"enabled": False}},
        },
        "http": {"addr": f"127.0.0.1:{port}", "secret": "for tests", **http},
    }
    if auth is not None:
        config["auth"] = auth
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "config.yml"
    file.write_text(json.dumps(config))  # JSON is YAML
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen(
            [program, "serve", str(file)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={"PATH": os.defpath, "OTEL_TRACES_EXPORTER": "none"},
        )
    try:
        _wait(process, port, directory / "log")
        yield RunningRegistry(f"127.0.0.1:{port}", directory)
    finally:
        process.terminate()
        process.wait(30)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"docker-registry does not start: {log.read_text()[-2000:]}") from None
            time.sleep(0.02)


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """A registry without passwords, one for all tests: use a repository of your own."""
    with running(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture(scope="session")
def private_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """A registry that wants USER and PASSWORD (HTTP Basic)."""
    directory = tmp_path_factory.mktemp("private-registry")
    (directory / "htpasswd").write_text(_HTPASSWD)
    auth = {"htpasswd": {"realm": "tests", "path": str(directory / "htpasswd")}}
    with running(directory, auth=auth) as found:
        yield found


@pytest.fixture(scope="session")
def tls_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """A registry with TLS; the certificate that it signed itself is `certificate.pem` in its directory."""
    openssl = shutil.which("openssl")
    if openssl is None:
        lacking("openssl is not installed; .ci/setup installs it")
    directory = tmp_path_factory.mktemp("tls-registry")
    key, certificate = str(directory / "key.pem"), str(directory / "certificate.pem")
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=tests"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    subprocess.run(command, check=True, capture_output=True)
    with running(directory, tls={"certificate": certificate, "key": key}) as found:
        yield found
