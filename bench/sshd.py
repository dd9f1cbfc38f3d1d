"""An sshd on loopback with keys of its own, for as long as a block runs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["sshd"]


@contextmanager
def sshd(home: Path) -> Iterator[Path]:
    """A program that reaches it, to be started in place of ssh (`CASYNC_SSH_PATH`)."""
    program = shutil.which("sshd", path="/usr/sbin:/usr/bin")
    if program is None:
        raise SystemExit("sshd is not installed")
    os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / name], check=True)
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    (home / "known").write_text(f"[127.0.0.1]:{port} {(home / 'host.pub').read_text()}")
    (home / "conf").write_text(
        f"""Port {port}
ListenAddress 127.0.0.1
HostKey {home}/host
AuthorizedKeysFile {home}/user.pub
UsePAM no
StrictModes no
PidFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
LogLevel ERROR
"""
    )
    ssh = home / "ssh"
    options = f"-F /dev/null -p {port} -i {home}/user -o UserKnownHostsFile={home}/known -o BatchMode=yes"
    ssh.write_text(f'#!/bin/sh\nexec ssh {options} "$@"\n')
    ssh.chmod(0o755)
    server = subprocess.Popen([program, "-D", "-e", "-f", home / "conf"])
    try:
        for _ in range(100):
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield ssh
    finally:
        server.terminate()
        server.wait()
