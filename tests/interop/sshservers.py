"""sshd on loopback with a configuration and keys of its own, and a program in place of ssh that runs things here."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from filesystems import IS_ROOT, lacking
from interop.registries import free_port
from interop.webservers import waiting_for

__all__ = ["Sshd", "here", "sshd"]


@dataclass(frozen=True)
class Sshd:
    """A way to another end.

    :ivar ssh: what to start in place of ssh
    :ivar host: what to call the other end
    :ivar port: of a real sshd, else 0
    :ivar home: where its keys are
    """

    ssh: str
    host: str
    port: int = 0
    home: Path | None = None

    def restricted(self, command: str) -> Sshd:
        """The way with a key that runs a command, whatever the client wants to run."""
        assert self.home is not None
        key = self.home / f"key-{secrets.token_hex(4)}"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True, timeout=30)
        with open(self.home / "authorized", "a") as file:
            file.write(f'restrict,command="{command}" {key.with_suffix(".pub").read_text()}')
        ssh = (
            (self.home / "ssh").read_text().replace(f"-i {self.home}/user", f"-o IdentitiesOnly=yes -i {key}")
        )
        return replace(self, ssh=_script(key.with_suffix(".ssh"), ssh.partition("\n")[2].rstrip()))


def _script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture(scope="session")
def here(tmp_path_factory: pytest.TempPathFactory) -> Sshd:
    """No ssh at all: what would be run at the other end is run here."""
    return Sshd(_script(tmp_path_factory.mktemp("here") / "ssh", 'shift; exec "$@"'), "elsewhere")


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A real sshd."""
    program, ssh = shutil.which("sshd", path="/usr/sbin:/usr/bin"), shutil.which("ssh")
    if program is None or ssh is None:
        lacking("openssh-server is not installed; .ci/setup installs it")
    if IS_ROOT:
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
    home = tmp_path_factory.mktemp("sshd")
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / name]
        subprocess.run(command, check=True, timeout=30)
    shutil.copy(home / "user.pub", home / "authorized")
    port = free_port()
    (home / "known").write_text(f"[127.0.0.1]:{port} {(home / 'host.pub').read_text()}")
    (home / "conf").write_text(
        f"""Port {port}
ListenAddress 127.0.0.1
HostKey {home}/host
AuthorizedKeysFile {home}/authorized
UsePAM no
StrictModes no
PidFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
MaxStartups 100
MaxSessions 100
SetEnv PATH={os.environ.get("PATH", os.defpath)}
Subsystem sftp internal-sftp
LogLevel ERROR
"""
    )
    options = f"-F /dev/null -p {port} -i {home}/user -o UserKnownHostsFile={home}/known -o BatchMode=yes"
    with waiting_for([program, "-D", "-e", "-f", home / "conf"], port, home / "log"):
        yield Sshd(_script(home / "ssh", f'exec {ssh} {options} "$@"'), "127.0.0.1", port, home)
