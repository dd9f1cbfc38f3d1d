"""Archives through fsspec: what its users ask of any file system, and chunks fetched only for what is read."""

from __future__ import annotations

import os
import pickle
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from test_oci import rawtar
from test_oci.images import build, layout_at
from test_oci.opened import BOTH, NESTED, converted, tar
from trees import content

import casync_compat as casync

fsspec = pytest.importorskip("fsspec")

from casync_compat.errors import CasyncError, UsageError  # noqa: E402
from casync_compat.fsspec import ArchiveFileSystem, InRegistry  # noqa: E402
from casync_compat.ids import ChunkId, Digest  # noqa: E402

DATA = content(2 << 20)


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with x.caidx and x.catar of a tree."""
    base = tmp_path_factory.mktemp("fsspec")
    tree = base / "tree"
    (tree / "sub" / "deep").mkdir(parents=True)
    (tree / "sub" / "data.bin").write_bytes(DATA)
    (tree / "sub" / "deep" / "lines.txt").write_bytes(b"one\ntwo\nthree\n")
    (tree / "link").symlink_to("sub/data.bin")
    (tree / "broken").symlink_to("nowhere")
    os.utime(tree / "sub" / "data.bin", ns=(0, 1_500_000_000_500_000_000))
    casync.make(base / "x.caidx", tree)
    casync.make(base / "x.catar", tree)
    return base


@pytest.fixture(params=["x.caidx", "x.catar"])
def fs(request: pytest.FixtureRequest, at: Path) -> ArchiveFileSystem:
    return ArchiveFileSystem(str(at / request.param), skip_instance_cache=True)


def test_names(fs: ArchiveFileSystem) -> None:
    """ls, find, glob, walk, exists and isdir see the tree as it was archived."""
    assert fs.ls("", detail=False) == ["broken", "link", "sub"]
    assert fs.ls("/sub", detail=False) == ["sub/data.bin", "sub/deep"]
    assert fs.ls("sub/data.bin", detail=False) == ["sub/data.bin"]
    assert fs.glob("**/*.txt") == ["sub/deep/lines.txt"]
    assert fs.find("sub") == ["sub/data.bin", "sub/deep/lines.txt"]
    assert [path for path, _, _ in fs.walk("")] == ["", "sub", "sub/deep"]
    assert fs.exists("sub/deep")
    assert fs.isdir("sub")
    assert not fs.exists("sub/none")
    with pytest.raises(FileNotFoundError):
        fs.info("none")
    with pytest.raises(FileNotFoundError):
        fs.ls("none")


def test_info(fs: ArchiveFileSystem) -> None:
    """Sizes, times and kinds come out; a symlink tells what it leads to, and one that leads nowhere says so."""
    info = fs.info("pycasync://sub/data.bin")
    assert (info["size"], info["type"], info["mtime"]) == (len(DATA), "file", 1_500_000_000.5)
    assert fs.modified("sub/data.bin") == datetime.fromtimestamp(1_500_000_000.5, UTC)
    link = fs.info("link")
    assert (link["type"], link["size"], link["islink"], link["destination"]) == (
        "file",
        len(DATA),
        True,
        "sub/data.bin",
    )
    assert fs.info("broken")["type"] == "link"
    assert stat.S_ISDIR(fs.info("sub")["mode"])


def test_contents(fs: ArchiveFileSystem) -> None:
    """Files are read whole, in parts, from their ends, as text and line by line; nothing can be written."""
    assert fs.cat_file("sub/data.bin", -100, -50) == DATA[-100:-50]
    assert fs.cat("link") == DATA
    parts = fs.cat_ranges(["sub/data.bin", "sub/deep/lines.txt", "none"], [5, 0, 0], [70_000, None, 9])
    assert parts[:2] == [DATA[5:70_000], b"one\ntwo\nthree\n"]
    assert isinstance(parts[2], FileNotFoundError)
    with fs.open("sub/data.bin") as file:
        assert (file.size, file.seek(-10, 2), file.read(), file.read()) == (
            len(DATA),
            len(DATA) - 10,
            DATA[-10:],
            b"",
        )
        buffer = bytearray(20)
        assert (file.seek(7), file.readinto(buffer), file.tell(), bytes(buffer)) == (7, 20, 27, DATA[7:27])
    with fs.open("sub/deep/lines.txt", "r") as file:
        assert list(file) == ["one\n", "two\n", "three\n"]
    with fs.open("sub/deep/lines.txt") as file:
        assert file.readline() == b"one\n"
    for words in (("sub/new", "wb"), ("sub", "rb"), ("broken", "rb")):
        with pytest.raises(OSError, match=r"."):
            fs.open(*words)


def test_chained_urls(at: Path) -> None:
    """`pycasync://` is known to fsspec where the package is installed; the archive stands behind it."""
    fsspec.register_implementation("pycasync", ArchiveFileSystem, clobber=True)
    with fsspec.open(f"pycasync://sub/deep/lines.txt::file://{at}/x.caidx", "rt") as file:
        assert file.readline() == "one\n"


def test_pickles_for_workers(at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that was sent to another process, which is elsewhere, reads there."""
    monkeypatch.chdir(at)
    sent = pickle.dumps(ArchiveFileSystem("x.caidx"))
    program = (
        "import pickle, sys; sys.stdout.buffer.write(pickle.load(sys.stdin.buffer).cat('sub/deep/lines.txt'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=sent, capture_output=True, cwd=at, timeout=60, check=True
    )
    assert done.stdout == b"one\ntwo\nthree\n"


def test_threads_that_share_a_file(fs: ArchiveFileSystem) -> None:
    """Each has a position of its own, so that seek and read belong together; a new one begins where the file stands."""
    with fs.open("sub/data.bin") as file:
        start = threading.Barrier(4)

        def read(number: int) -> bool:
            start.wait(20)
            for turn in range(200):
                at = (number * 500_000 + turn * 997) % len(DATA)
                file.seek(at)
                if file.read(100) != DATA[at : at + 100]:
                    return False
            return True

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(read, range(4))) == [True] * 4
        file.seek(1000)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(file.read, 10).result(20) == DATA[1000:1010]


LAYERS = [*NESTED, tar(rawtar.file(b"data.bin", DATA), rawtar.symlink(b"link", b"/data.bin"))]


def image_at(path: Path, thin: bool = True) -> str:
    """A name for an image of these layers."""
    if thin:
        converted(path / "images", LAYERS, "app")
    else:
        with layout_at(path / "images") as layout:
            build(layout, "app", LAYERS)
    return f"oci:{path}/images:app"


@BOTH
def test_images(tmp_path: Path, thin: bool) -> None:
    """An image is its layers merged: names, links, times, whole files, parts, and and holes as zeros."""
    fs = ArchiveFileSystem(image_at(tmp_path, thin), skip_instance_cache=True)
    assert fs.ls("etc", detail=False) == ["etc/empty", "etc/new", "etc/passwd", "etc/sparse"]
    assert fs.glob("**/tool*") == ["usr/bin/tool", "usr/bin/tool2"]
    info = fs.info("link")
    assert (info["type"], info["size"], info["islink"]) == ("file", len(DATA), True)
    assert fs.modified("etc/new") == datetime.fromtimestamp(88, UTC)
    assert fs.cat_file("bin/link") == b"root:x:0:0:root:/root:/bin/sh\n"
    assert fs.cat_file("etc/empty") == b""
    assert fs.cat_file("etc/sparse", 4090, 4110) == bytes(6) + b"middle" + bytes(8)
    parts = fs.cat_ranges(["link", "etc/new", "none", "etc"], [70_000, 0, 0, 0], [1_070_000, None, 9, 9])
    assert parts[:2] == [DATA[70_000:1_070_000], b"new"]
    assert isinstance(parts[2], FileNotFoundError)
    assert isinstance(parts[3], CasyncError)
    with fs.open("data.bin") as file:
        assert (file.seek(-10, 2), file.read(), file.read()) == (len(DATA) - 10, DATA[-10:], b"")
    with pytest.raises(OSError, match="only read"):
        fs.open("etc/new", "wb")


def test_names_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images stand behind `::` as they are named elsewhere, by relative paths too; a file of such a name is a file."""
    fsspec.register_implementation("pycasync", ArchiveFileSystem, clobber=True)
    image = image_at(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in (image, "oci:images:app"):
        with fsspec.open(f"pycasync://etc/new::{name}") as file:
            assert file.read() == b"new"
    (tmp_path / "oci:x.catar").write_bytes(b"no archive")
    with pytest.raises(CasyncError):
        ArchiveFileSystem("oci:x.catar").ls("")
    for words, error in (("oci:images:none", CasyncError), ("docker://no host/x", UsageError)):
        with pytest.raises(error):
            ArchiveFileSystem(words)
    with pytest.raises(CasyncError):
        ArchiveFileSystem("oci:images:app", platform="linux")


def test_images_in_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """`docker://` is known to fsspec where the package is installed, and what stands behind it is a name there."""
    fsspec.register_implementation("pycasync", ArchiveFileSystem, clobber=True)
    fsspec.register_implementation("docker", InRegistry, clobber=True)
    with pytest.raises(CasyncError, match=r"127\.0\.0\.1:1: cannot reach"):
        fsspec.open("pycasync://etc/new::docker://127.0.0.1:1/base/app:2", insecure=True).open()
    with pytest.raises(UsageError, match="pycasync://PATH"):
        InRegistry().ls("docker://host/app")


def test_images_for_workers(tmp_path: Path) -> None:
    """A file system of an image that was sent to another process reads there."""
    sent = pickle.dumps(ArchiveFileSystem(image_at(tmp_path)))
    program = "import pickle, sys; sys.stdout.buffer.write(pickle.load(sys.stdin.buffer).cat('etc/new'))"
    done = subprocess.run(
        [sys.executable, "-c", program], input=sent, capture_output=True, timeout=60, check=True
    )
    assert done.stdout == b"new"


def test_chunks_of_images_from_a_store(tmp_path: Path) -> None:
    """A store that is given is asked for an image's chunks before its packs are."""
    asked: list[ChunkId] = []

    class Asked(casync.MemoryStore):
        def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
            asked.append(id)
            return super().get(id, digest, limit)

    fs = ArchiveFileSystem(image_at(tmp_path), store=Asked(), skip_instance_cache=True)
    assert asked == []
    assert fs.cat_file("etc/new") == b"new"
    assert len(asked) == 1
