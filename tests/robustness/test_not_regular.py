"""What should be a regular file is a FIFO, a socket, a directory or a device: a clear error at once, no waiting."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path

import pytest
from test_oci.images import build, layer, layout_at, noise

from casync_compat.oci.convert import ConvertOptions, convert

from .running import fails, run, works

KINDS = ("fifo", "socket", "directory", "device")
READING = (
    "inspect oci:lay:x",
    "ls oci:lay:x",
    "cat oci:lay:x etc/file",
    "verify oci:lay:x",
    "stats oci:lay:x",
    "export oci:lay:x oci:new:x",
    "unpack oci:lay:x bundle",
    "checkout oci:lay:x root --file-store=files",
    "pull oci:lay:x oci:new:x",
    "convert oci:lay:plain oci:new:x",
    "gc oci:lay",
)
WRITING = ("convert oci:other:plain oci:lay:y", "push oci:other:plain oci:lay:y")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout with a plain and a converted image, and another one."""
    at = tmp_path_factory.mktemp("made")
    for name in ("lay", "other"):
        with layout_at(at / name) as place:
            build(place, "plain", [layer({"etc/file": noise(5000)})])
            convert(place, "plain", place, "x", ConvertOptions(thin=True))
    return at


def put(path: Path, kind: str) -> None:
    """Something else than a regular file, in the place of what is there."""
    if path.exists():
        path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "device":
        os.mknod(path, 0o666 | 0o020000, os.makedev(1, 3)) if os.geteuid() == 0 else path.symlink_to(
            "/dev/null"
        )
    else:
        with socket.socket(socket.AF_UNIX) as made_socket:
            here = os.open(path.parent, os.O_RDONLY)
            try:
                made_socket.bind(f"/proc/self/fd/{here}/{path.name}")
            finally:
                os.close(here)


@pytest.fixture
def at(made: Path, tmp_path: Path) -> Path:
    for name in ("lay", "other"):
        shutil.copytree(made / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("name", ["index.json", "oci-layout"])
@pytest.mark.parametrize(
    ("kind", "words"),
    [*(("fifo", words) for words in (*READING, *WRITING)), *((kind, READING[0]) for kind in KINDS[1:])],
)
def test_files_of_a_layout(at: Path, name: str, kind: str, words: str) -> None:
    """`index.json` or `oci-layout`: no verb waits for a writer, and none writes."""
    put(at / "lay" / name, kind)
    said = fails("oci", *words.split(), cwd=at)
    assert name in said
    assert not (at / "root").exists()


@pytest.mark.parametrize(
    ("kind", "words"),
    [*(("fifo", words) for words in READING[:-2]), *((kind, READING[0]) for kind in KINDS[1:])],
)
def test_blobs_of_a_layout(at: Path, kind: str, words: str) -> None:
    """Any blob: where it is needed it is corrupt, as one of another size is."""
    with layout_at(at / "lay") as place:
        manifest = place.resolve("x").digest
    put(at / "lay" / "blobs" / "sha256" / manifest.hex, kind)
    assert "not a regular file" in fails("oci", *words.split(), cwd=at)


@pytest.mark.parametrize("kind", KINDS)
def test_blobs_that_are_written(at: Path, kind: str) -> None:
    """At the destination it is replaced, but for a directory."""
    with layout_at(at / "other") as place:
        manifest = place.read_manifest(place.resolve("plain"))
        digest = json.loads(manifest)["layers"][0]["digest"].partition(":")[2]
    put(at / "lay" / "blobs" / "sha256" / digest, kind)
    words = ("oci", "push", "oci:other:plain", "oci:lay:y")
    if kind == "directory":
        fails(*words, cwd=at)
        return
    assert run(*words, cwd=at).status == 0
    works("oci", "ls", "oci:lay:y", cwd=at)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_stores_memory(at: Path, kind: str) -> None:
    """The memory of a file store is only a memory: the checkout does without."""
    works("oci", "checkout", "oci:lay:x", "one", "--file-store=files", cwd=at)
    assert (at / "files" / "cache.sqlite").exists()
    put(at / "files" / "cache.sqlite", kind)
    works("oci", "checkout", "oci:lay:x", "two", "--file-store=files", cwd=at)
    assert (at / "two/etc/file").read_bytes() == noise(5000)


@pytest.mark.parametrize("kind", KINDS)
def test_docker_archives(tmp_path: Path, kind: str) -> None:
    """An archive is read in any order, which only a regular file can be."""
    put(tmp_path / "x.tar", kind)
    fails("oci", "ls", "docker-archive:x.tar", cwd=tmp_path)
