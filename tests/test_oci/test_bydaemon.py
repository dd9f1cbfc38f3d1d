"""Images of podman and docker, copied by a stand-in for skopeo, or given by one for docker's daemon."""

from __future__ import annotations

import os
import socket
import socketserver
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from test_oci.images import Built, build, layer, layout_at

from casync_compat.errors import UsageError
from casync_compat.oci.places.docker_archive import ArchiveImage, write_docker_archive
from casync_compat.oci.places.opened import Places
from casync_compat.oci.spec.descriptor import BlobDigest
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.spec.reference import parse_reference

SKOPEO = """#!/bin/sh
echo "$3" >>{place}/asked
case $3 in *gone*) echo "level=fatal msg=no such image" >&2; exit 1;; esac
case $4 in
oci:*) target=${{4#oci:}}; cp -r {place}/images "${{target%:image}}";;
docker-archive:*) target=${{4#docker-archive:}}; cp {place}/app.tar "${{target%:image:image}}";;
esac
"""


@pytest.fixture
def image(tmp_path: Path) -> Built:
    """What the stand-in gives, in both forms; it is in tmp_path/bin."""
    tars = [layer({"etc/app": b"1" * 500})]
    with layout_at(tmp_path / "images") as layout:
        built = build(layout, "image", tars)
    layers = [(BlobDigest.of(tar), len(tar), [tar]) for tar in tars]
    write_docker_archive(bytes(tmp_path / "app.tar"), ArchiveImage(built.config, layers, ["app:1"]))
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "skopeo"
    program.write_text(SKOPEO.format(place=tmp_path))
    program.chmod(0o755)
    return built


def environ(tmp_path: Path) -> dict[str, str]:
    return {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "DOCKER_HOST": "tcp://nowhere"}


@pytest.mark.parametrize("name", ["containers-storage:localhost/app:1", "docker-daemon:app:1"])
def test_an_image_is_read(image: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """By its name there, and nothing is left of the copy."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    with Places(environ=environ(tmp_path)) as places:
        place = places.readable(parse_reference(name))
        manifest = place.read_manifest(place.resolve(None))
        assert str(BlobDigest.of(image.config)).encode() in manifest
    assert (tmp_path / "asked").read_text() == f"{name}\n"
    assert not os.listdir(tmp_path / "tmp")


def test_what_cannot_be_read(image: Built, tmp_path: Path) -> None:
    """What skopeo says is told; where it is not, what to do."""
    says = r"skopeo cannot read it: .*no such image"
    with Places(environ=environ(tmp_path)) as places, pytest.raises(ImageError, match=says):
        places.readable(parse_reference("containers-storage:gone"))
    with Places(environ={"PATH": "/nowhere", "DOCKER_HOST": "unix:///nowhere"}) as places:
        with pytest.raises(UsageError, match="install skopeo"):
            places.readable(parse_reference("docker-daemon:app:1"))
        with pytest.raises(UsageError, match="not written; export to docker-archive:"):
            places.writable(parse_reference("docker-daemon:app:1"))


# ---- docker's daemon


class Daemon(BaseHTTPRequestHandler):
    """Gives `app.tar` for `app:1` and `host/app:latest`, half of it for `half:1`, and knows nothing else."""

    protocol_version = "HTTP/1.1"
    archive = b""

    def do_GET(self) -> None:
        if self.path in ("/images/app:1/get", "/images/host/app:latest/get", "/images/half:1/get"):
            half = self.path == "/images/half:1/get"
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            data = self.archive[: len(self.archive) // 2] if half else self.archive
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            if not half:
                self.wfile.write(b"0\r\n\r\n")
            self.close_connection = True
            return
        body = b'{"message":"No such image: gone:1"}' if "gone" in self.path else b"?"
        self.send_response(404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        pass


class DaemonServer(socketserver.ThreadingUnixStreamServer):
    request_queue_size = 256
    daemon_threads = True


@pytest.fixture
def daemon(image: Built, tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment in which docker's daemon listens, and there is no skopeo."""
    handler = type("Handler", (Daemon,), {"archive": (tmp_path / "app.tar").read_bytes()})
    with tempfile.TemporaryDirectory() as short, DaemonServer(f"{short}/docker.sock", handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield {"PATH": "/nowhere", "DOCKER_HOST": f"unix://{short}/docker.sock"}
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["app:1", "host/app"])
def test_the_daemon_gives_an_image(image: Built, daemon: dict[str, str], name: str) -> None:
    """Without skopeo; a name without a tag is that of the latest."""
    with Places(environ=daemon) as places:
        place = places.readable(parse_reference(f"docker-daemon:{name}"))
        assert str(BlobDigest.of(image.config)).encode() in place.read_manifest(place.resolve(None))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gone:1", "does not give it: No such image"),
        ("odd:1", "status 404"),
        ("half:1", "stopped in the middle"),
    ],
)
def test_the_daemon_does_not_give(daemon: dict[str, str], name: str, says: str) -> None:
    """What it says is told."""
    with Places(environ=daemon) as places, pytest.raises(ImageError, match=says):
        places.readable(parse_reference(f"docker-daemon:{name}"))


def test_a_daemon_that_is_gone(tmp_path: Path) -> None:
    """A socket to which nobody listens: what else there is to do."""
    with tempfile.TemporaryDirectory() as short:
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(f"{short}/docker.sock")
        gone = {"PATH": "/nowhere", "DOCKER_HOST": f"unix://{short}/docker.sock"}
        with Places(environ=gone) as places, pytest.raises(UsageError, match="use docker save"):
            places.readable(parse_reference("docker-daemon:app:1"))
