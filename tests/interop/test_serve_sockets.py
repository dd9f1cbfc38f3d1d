"""`pycasync serve` at sockets that it was handed over, and with as many connections as a machine may have."""

from __future__ import annotations

import fcntl
import os
import re
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from interop.serving import serving
from interop.tools import Pair, better_than_casync

from casync_compat.ids import Digest
from casync_compat.store.local import LocalStore

pytestmark = better_than_casync

RAW = b"some chunk " * 500
ID = Digest.SHA512_256.of(RAW)
IDLE = 10_000
HANDED_OVER = """
import os, sys
for number, fd in enumerate(sys.argv[1:3]):
    os.dup2(int(fd), 3 + number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2")
os.execvp(sys.argv[3], sys.argv[3:])
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with one chunk."""
    LocalStore(tmp_path / "store").put(ID, RAW)
    return tmp_path / "store"


def ask(*how: str) -> bytes:
    """The chunk, by curl."""
    command = ["curl", "-s", "-f", "--max-time", "20", *how]
    return subprocess.run(command, capture_output=True, timeout=30, check=True).stdout


def test_handed_over(pair: Pair, store: Path, tmp_path: Path) -> None:
    """As systemd does for a socket unit: an address, and a Unix socket."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.socket(socket.AF_UNIX) as two:
        two.bind(str(tmp_path / "s"))
        two.listen()
        high = [fcntl.fcntl(each.fileno(), fcntl.F_DUPFD, 10) for each in (one, two)]
        command = [
            sys.executable,
            "-c",
            HANDED_OVER,
            *map(str, high),
            *pair.pycasync.command,
            "serve",
            str(store),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, pass_fds=high) as process:
            try:
                assert process.stdout is not None
                said = [process.stdout.readline().removeprefix("Serving at ").strip() for _ in high]
                port = one.getsockname()[1]
                assert said == [f"http://127.0.0.1:{port}/", f"unix:{tmp_path}/s"]
                path = f"{ID.hex()[:4]}/{ID}"
                assert ask(f"{said[0]}{path}") == RAW
                assert ask("--unix-socket", str(tmp_path / "s"), f"http://x/{path}") == RAW
            finally:
                process.terminate()
                process.wait(30)
        for fd in high:
            os.close(fd)
    assert process.returncode == 0


@pytest.fixture
def room() -> Iterator[int]:
    """How many connections this process may have open; as many as the test wants where nothing forbids it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield min(IDLE, hard - 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_ten_thousand_connections(pair: Pair, store: Path, room: int) -> None:
    """That say nothing: others are served, and all of them cost less memory than a server may take."""
    with serving(pair.pycasync, store) as it:
        host, port = it.url.removeprefix("http://").split(":")
        silent = [socket.create_connection((host, int(port)), 20) for _ in range(room)]
        try:
            for _ in range(3):
                assert ask(f"{it.url}/{ID.hex()[:4]}/{ID}") == RAW
            status = Path(f"/proc/{it.process.pid}/status").read_text()
            found = re.search(r"VmHWM:\s+(\d+) kB", status)
            assert found is not None
            assert int(found[1]) < 150 << 10
        finally:
            for client in silent:
                client.close()
        assert ask(f"{it.url}/{ID.hex()[:4]}/{ID}") == RAW
