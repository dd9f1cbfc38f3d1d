"""Object stores on loopback, started by the tests: SeaweedFS, versitygw, Azurite, and a stub of Google's.

def test_something(seaweed: Bucket) -> None:
    open_store(seaweed.locator("default.castr"), Settings(environ=seaweed.environ))
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

import pycurl
import pytest
from filesystems import lacking
from interop.registries import free_port
from interop.tools import ROOT

__all__ = ["Bucket", "azurite", "gcs", "running_seaweed", "seaweed", "versitygw"]

KEY, SECRET = "pycasync", "not so secret"
_REGION = "us-east-1"
_AZURE = "devstoreaccount1"
_AZURE_KEY = base64.b64encode(b"a key that everybody may know!!!").decode()


@dataclass(frozen=True)
class Bucket:
    """A bucket of a service that runs.

    :ivar root: its locator
    :ivar environ: variables by which it is reached
    :ivar endpoint: the URL of the service
    """

    root: str
    environ: Mapping[str, str] = field(repr=False)
    endpoint: str

    def locator(self, path: str) -> str:
        """Of something in it."""
        return f"{self.root}/{path}"

    def desync(self, path: str) -> str:
        """The same for desync, which reaches it with the same variables."""
        return f"s3+{self.endpoint}/{self.root.removeprefix('s3://')}/{path}?lookup=path"


@contextmanager
def _listening(
    command: Sequence[str | Path], port: int, log: Path, environ: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run a server until the block ends, from when it listens on. It ends by SIGKILL, which SeaweedFS needs."""
    with open(log, "wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=log.parent,
            env={**os.environ, **(environ or {})},
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"{command[0]} does not start: {log.read_text()[-2000:]}") from None
                time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait(30)


def _s3(endpoint: str, bucket: str) -> Bucket:
    environ = {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": _REGION,
        "AWS_ENDPOINT_URL": endpoint,
        "S3_ACCESS_KEY": KEY,
        "S3_SECRET_KEY": SECRET,
        "S3_REGION": _REGION,
    }
    return Bucket(f"s3://{bucket}", environ, endpoint)


def _make_bucket(url: str) -> None:
    """Ask an S3 service for a bucket, until it is ready to make one."""
    for _ in range(100):
        handle = pycurl.Curl()
        handle.setopt(pycurl.URL, url)
        handle.setopt(pycurl.CUSTOMREQUEST, "PUT")
        handle.setopt(pycurl.AWS_SIGV4, f"aws:amz:{_REGION}:s3")
        handle.setopt(pycurl.USERPWD, f"{KEY}:{SECRET}")
        handle.setopt(pycurl.HTTPHEADER, [f"x-amz-content-sha256: {hashlib.sha256().hexdigest()}"])
        handle.setopt(pycurl.NOPROXY, "*")
        handle.setopt(pycurl.TIMEOUT, 20)
        handle.setopt(pycurl.WRITEFUNCTION, lambda data: None)
        try:
            handle.perform()
            if handle.getinfo(pycurl.RESPONSE_CODE) == 200:
                return
        except pycurl.error:
            pass
        finally:
            handle.close()
        time.sleep(0.1)
    raise AssertionError(f"{url} cannot be made")


@contextmanager
def running_seaweed(home: Path) -> Iterator[Bucket]:
    """SeaweedFS, with one bucket."""
    found = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if found is None:
        lacking("SeaweedFS is not installed; .ci/setup installs it")
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identity = {
        "name": KEY,
        "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": actions,
    }
    config = home / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}))
    (home / "data").mkdir()
    ports = {name: free_port() for name in ("s3.port", "master.port", "volume.port", "filer.port")}
    grpc = {
        name: free_port()
        for name in ("s3.port.grpc", "master.port.grpc", "volume.port.grpc", "filer.port.grpc")
    }
    command = [
        *(found, "server", f"-dir={home / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3"),
        *(f"-s3.config={config}", "-s3.port.lance=0", "-s3.port.iceberg=0", "-master.volumeSizeLimitMB=256"),
        *(f"-{name}={port}" for name, port in {**ports, **grpc}.items()),
    ]
    with _listening(command, ports["s3.port"], home / "log"):
        bucket = _s3(f"http://127.0.0.1:{ports['s3.port']}", "bucket")
        _make_bucket(f"{bucket.endpoint}/bucket")
        yield bucket


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    """One SeaweedFS for all tests; each has its own prefix."""
    with running_seaweed(tmp_path_factory.mktemp("seaweed")) as bucket:
        yield bucket


@pytest.fixture(scope="session")
def versitygw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    """One versitygw for all tests: S3 over a directory."""
    program = ROOT / ".peers" / "bin" / "versitygw"
    if not program.exists():
        lacking("versitygw is not built; .ci/setup builds it")
    home = tmp_path_factory.mktemp("versitygw")
    (home / "data").mkdir()
    port = free_port()
    command = [program, "--port", f"127.0.0.1:{port}", "--region", _REGION, "posix", home / "data"]
    secrets = {"ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET}
    with _listening(command, port, home / "log", secrets):
        bucket = _s3(f"http://127.0.0.1:{port}", "bucket")
        _make_bucket(f"{bucket.endpoint}/bucket")
        yield bucket


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    """One Azurite for all tests."""
    program = ROOT / ".peers" / "npm" / "node_modules" / ".bin" / "azurite-blob"
    if not program.exists():
        lacking("Azurite is not installed; .ci/setup installs it")
    home = tmp_path_factory.mktemp("azurite")
    port = free_port()
    command = [
        *(program, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence"),
        *("--skipApiVersionCheck", "--disableTelemetry", "--silent"),
    ]
    with _listening(command, port, home / "log", {"AZURITE_ACCOUNTS": f"{_AZURE}:{_AZURE_KEY}"}):
        endpoint = f"http://127.0.0.1:{port}/{_AZURE}"
        _make_container(endpoint, "bucket")
        account = f"AccountName={_AZURE};AccountKey={_AZURE_KEY}"
        connection = f"DefaultEndpointsProtocol=http;{account};BlobEndpoint={endpoint};"
        yield Bucket("az://bucket", {"AZURE_STORAGE_CONNECTION_STRING": connection}, endpoint)


def _make_container(endpoint: str, name: str) -> None:
    """Ask Azurite for a container: Azure's "Shared Key" over an empty request."""
    date, version = formatdate(usegmt=True), "2021-12-02"
    resource = f"/{_AZURE}/{_AZURE}/{name}\nrestype:container"
    signed = f"PUT{12 * chr(10)}x-ms-date:{date}\nx-ms-version:{version}\n{resource}"
    digest = hmac.new(base64.b64decode(_AZURE_KEY), signed.encode(), hashlib.sha256).digest()
    request = urllib.request.Request(
        f"{endpoint}/{name}?restype=container",
        method="PUT",
        headers={
            "x-ms-date": date,
            "x-ms-version": version,
            "Authorization": f"SharedKey {_AZURE}:{base64.b64encode(digest).decode()}",
        },
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as answer:
        assert answer.status == 201


@pytest.fixture(scope="session")
def gcs() -> Iterator[Bucket]:
    """A stub of Google Cloud Storage's XML interface, in this process."""
    from gcsstub import gcs_stub

    with gcs_stub() as endpoint:
        yield Bucket("gs://bucket", {"STORAGE_EMULATOR_HOST": endpoint}, endpoint)
