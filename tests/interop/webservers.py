"""nginx and desync's chunk-server on loopback, started by the tests."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from filesystems import lacking
from interop.registries import free_port

__all__ = ["Nginx", "chunk_server", "index_server", "nginx", "waiting_for"]


_NEW_CERTIFICATE = (
    *(
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ),
    *("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
)


@dataclass(frozen=True)
class Nginx:
    """A running nginx.

    :ivar root: the directory that it serves
    :ivar plain: its URL over HTTP/1.1
    :ivar tls: its URL over HTTP/2 with TLS
    :ivar bare: its URL over HTTP/1.1, without ranges
    :ivar writable: its URL over HTTP/1.1, where PUT and DELETE are taken
    :ivar certificate: the authority of its certificate, as a file
    :ivar mutual: its URL over HTTP/2 with TLS, for those who show the certificate of tests/fixtures/certificates/a.pem
    :ivar locked: its URL over HTTP/1.1, for the user `me` with the password `p:w@x`
    :ivar strict: its URL over HTTP/1.1, where more than a few requests at once, or 50 a second, are turned away
    """

    root: Path
    plain: str
    tls: str
    bare: str
    certificate: Path
    writable: str
    mutual: str
    locked: str
    strict: str


@contextmanager
def waiting_for(command: Sequence[str | Path], port: int, log: Path) -> Iterator[None]:
    """Run a server until the block ends, from when it listens on."""
    with open(log, "wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"{command[0]} does not start: {log.read_text()[-2000:]}") from None
                time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="session")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """One nginx for all tests; each has its own directory below its root."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None:
        lacking("nginx is not installed; .ci/setup installs it")
    home = tmp_path_factory.mktemp("nginx")
    root = home / "root"
    root.mkdir()
    for directory in (home, root):
        directory.chmod(0o755)
    subprocess.run(
        [*_NEW_CERTIFICATE, "-keyout", home / "key.pem", "-out", home / "cert.pem"],
        check=True,
        capture_output=True,
    )
    plain, tls, bare, writable, mutual, locked, strict = (free_port() for _ in range(7))
    hashed = subprocess.run(
        ["openssl", "passwd", "-apr1", "p:w@x"], check=True, capture_output=True, text=True
    ).stdout
    (home / "users").write_text(f"me:{hashed}")  # nginx cuts what is {PLAIN} at a colon
    client = Path(__file__).parents[1] / "fixtures/certificates/a.pem"
    secure = f"ssl_certificate {home}/cert.pem; ssl_certificate_key {home}/key.pem;"
    (home / "conf").write_text(
        f"""daemon off; pid {home}/pid; error_log {home}/log; worker_processes 1; user root;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fcgi;
  uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi; root {root};
  server {{ listen 127.0.0.1:{plain}; }}
  server {{ listen 127.0.0.1:{bare}; max_ranges 0; }}
  server {{
    listen 127.0.0.1:{writable}; dav_methods PUT DELETE; create_full_put_path on; client_max_body_size 0;
    dav_access user:rw group:r all:r;
  }}
  server {{ listen 127.0.0.1:{tls} ssl http2; {secure} }}
  server {{ listen 127.0.0.1:{mutual} ssl http2; {secure} ssl_client_certificate {client}; ssl_verify_client on; }}
  server {{ listen 127.0.0.1:{locked}; auth_basic x; auth_basic_user_file {home}/users; }}
  limit_req_zone $server_port zone=strict:1m rate=50r/s; limit_req_status 429;
  server {{ listen 127.0.0.1:{strict}; limit_req zone=strict burst=5 nodelay; }}
}}
"""
    )
    with waiting_for([program, "-c", home / "conf"], tls, home / "out"):
        yield Nginx(
            root,
            plain=f"http://127.0.0.1:{plain}",
            tls=f"https://127.0.0.1:{tls}",
            bare=f"http://127.0.0.1:{bare}",
            certificate=home / "cert.pem",
            writable=f"http://127.0.0.1:{writable}",
            mutual=f"https://127.0.0.1:{mutual}",
            locked=f"http://127.0.0.1:{locked}",
            strict=f"http://127.0.0.1:{strict}",
        )


@contextmanager
def chunk_server(program: str, store: Path, log: Path) -> Iterator[str]:
    """desync's chunk-server over a directory, which may be written to; its URL."""
    with _desync(program, "chunk-server", store, log) as url:
        yield url


@contextmanager
def index_server(program: str, directory: Path, log: Path) -> Iterator[str]:
    """desync's index-server over a directory, which may be written to; its URL."""
    with _desync(program, "index-server", directory, log) as url:
        yield url


@contextmanager
def _desync(program: str, verb: str, directory: Path, log: Path) -> Iterator[str]:
    port = free_port()
    command = [program, verb, "-w", "-s", str(directory), "-l", f"127.0.0.1:{port}"]
    with waiting_for(command, port, log):
        yield f"http://127.0.0.1:{port}"
