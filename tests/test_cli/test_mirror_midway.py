"""`mirror` and `copy` where something is half done: at the destination, at the source, or by a run that was killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from webserver import web_server

from casync_compat.index import Index
from casync_compat.store.local import LocalFiles

from .conftest import Run

Fails = Callable[..., str]


@pytest.fixture
def origin(ok: Run, tmp_path: Path) -> Path:
    """A place with two blobs, and an archive of more than a piece."""
    place = tmp_path / "origin"
    place.mkdir()
    random = Random(1)
    for name in ("v1", "v2"):
        (tmp_path / name).write_bytes(random.randbytes(60_000))
        ok("make", "--chunk-size=256:1024:4096", place / f"{name}.caibx", name)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "file").write_bytes(random.randbytes(3 << 20))
    ok("make", place / "tree.catar", "src")
    return place


def same(name: str) -> bool:
    """Whether a file is at the edge as at the origin."""
    return Path("edge", name).read_bytes() == Path("origin", name).read_bytes()


@pytest.mark.parametrize("left", [b"", b"half", b"whole, but of something else", None])
def test_what_lies_at_the_destination(ok: Run, origin: Path, left: bytes | None) -> None:
    """Whatever is under the name of an index or archive, is replaced by it; temporary files bother nobody."""
    for directory in ("edge", "edge/default.castr", "edge/default.castr/abcd"):
        Path(directory).mkdir()
    for name in ("v1.caibx", "tree.catar"):
        content = Path("origin", name).read_bytes()
        Path("edge", name).write_bytes(content[: len(content) // 2] if left is None else left)
        os.utime(Path("edge", name), (1, 1))
    Path(f"edge/default.castr/abcd/abcd{'0' * 60}.cacnk.0123456789abcdef.tmp").write_bytes(b"half")
    Path("edge/v2.caibx.0123456789abcdef.tmp").write_bytes(b"half")
    ok("mirror", "origin", "edge", "*.caibx", "*.catar")
    assert all(map(same, ("v1.caibx", "v2.caibx", "tree.catar")))
    assert b"all good" in ok("verify", "edge/v1.caibx").out


def test_a_directory_is_in_the_way(run: Run, origin: Path) -> None:
    """It stays, the others come, and the status says that one has not."""
    Path("edge/v1.caibx").mkdir(parents=True)
    Path("edge/v1.caibx/file").touch()
    left = run("mirror", "origin", "edge")
    assert left.status == 1
    assert b"v1.caibx is not copied" in left.err
    assert same("v2.caibx")
    assert b"Traceback" not in left.err
    assert Path("edge/v1.caibx/file").exists()


@pytest.mark.parametrize("name", ["v1.caibx", "tree.catar"])
def test_onto_itself(ok: Run, origin: Path, name: str) -> None:
    """A place is equal to itself, and a copy onto its source changes nothing."""
    before = Path("origin", name).stat()
    ok("mirror", "origin", "origin", name)
    ok("copy", f"origin/{name}", f"origin/{name}")
    after = Path("origin", name).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("size", [0, 16, 47, 100, -1])
def test_an_index_that_is_still_written(ok: Run, run: Run, origin: Path, size: int) -> None:
    """What is no whole index is not copied, nor does it replace the one that is there; others come."""
    ok("mirror", "origin", "edge", "v1.caibx")
    whole = Path("origin/v1.caibx").read_bytes()
    Path("origin/v1.caibx").write_bytes(whole[:size])
    left = run("mirror", "origin", "edge")
    assert left.status == 1
    assert b"v1.caibx is not copied" in left.err
    assert Path("edge/v1.caibx").read_bytes() == whole
    assert same("v2.caibx")


@pytest.mark.parametrize("grows", [True, False])
def test_an_archive_that_changes_meanwhile(
    run: Run, origin: Path, monkeypatch: pytest.MonkeyPatch, grows: bool
) -> None:
    """No mixture of the old and the new comes to the destination."""
    Path("edge").mkdir()
    Path("edge/tree.catar").write_bytes(b"before")
    os.utime("edge/tree.catar", (1, 1))
    read = LocalFiles.pieces

    def changing(self: LocalFiles, name: bytes) -> Iterator[bytes] | None:
        pieces = read(self, name)
        assert pieces is not None
        yield next(pieces)
        with Path("origin/tree.catar").open("r+b") as file:
            file.seek(0, os.SEEK_END if grows else os.SEEK_SET)
            file.write(b"new")
        yield from pieces

    monkeypatch.setattr(LocalFiles, "pieces", changing)
    left = run("mirror", "origin", "edge", "tree.catar")
    assert left.status == 1
    assert b"tree.catar" in left.err
    assert b"chang" in left.err
    assert [path.name for path in Path("edge").iterdir() if path.is_file()] == ["tree.catar"]
    assert Path("edge/tree.catar").read_bytes() == b"before"


def test_killed_midway(ok: Run, origin: Path) -> None:
    """A run that is killed leaves no index without its chunks, and the next one fetches only what is missing."""
    with web_server() as server:
        for path in sorted(origin.rglob("*")):
            if path.is_file():
                server.files[f"/at/{path.relative_to(origin)}"] = path.read_bytes()
        words = ["mirror", "--jobs=1", f"{server.url}/at", "edge", "v1.caibx", "v2.caibx"]
        with subprocess.Popen(
            [sys.executable, "-m", "casync_compat", *words], stderr=subprocess.DEVNULL
        ) as process:
            while process.poll() is None and not list(Path("edge").rglob("*.cacnk")):
                pass
            process.kill()
        for index in Path("edge").glob("*.caibx"):
            assert b"all good" in ok("verify", index).out
        there = len(list(Path("edge").rglob("*.cacnk")))
        needed = {id_ for path in origin.glob("*.caibx") for id_ in Index.load(bytes(path)).ids()}
        server.asked.clear()
        ok(*words)
        asked = {path for _, path, _ in server.asked if path.endswith(".cacnk")}
    assert len(asked) == len(needed) - there
    assert same("v1.caibx")
    assert same("v2.caibx")
    assert b"all good" in ok("verify", "edge/v2.caibx").out
