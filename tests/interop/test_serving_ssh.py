"""casync's protocol with pycasync at the other end: real casync and desync as clients, through a real sshd.

The steps are those that casync's own tests take over ssh: archives, indexes of trees and of blobs, made there and read
from there.
"""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from compare import assert_same, snapshot
from grounds import Forest
from interop.sshservers import Sshd, sshd  # noqa: F401 - a fixture
from interop.tools import PYCASYNC, Pair, Tool, better_than_casync, leftovers
from trees import content

pytestmark = better_than_casync


@pytest.fixture
def remote(tmp_path: Path) -> str:
    """What clients start at the other end."""
    script = tmp_path / "remote-pycasync"
    script.write_text(f'#!/bin/sh\nexport PYTHONSAFEPATH=1\nexec {shlex.join(PYCASYNC)} "$@"\n')
    script.chmod(0o755)
    return str(script)


@pytest.fixture(params=["casync", "pycasync"])
def client(request: pytest.FixtureRequest, pair: Pair, sshd: Sshd, remote: str) -> Tool:  # noqa: F811
    """A client of either kind."""
    tool: Tool = getattr(pair, request.param)
    return tool.given(CASYNC_SSH_PATH=sshd.ssh, CASYNC_REMOTE_PATH=remote)


@pytest.fixture
def at(tmp_path: Path, sshd: Sshd) -> str:  # noqa: F811
    """A directory at the other end, as a location."""
    return f"{sshd.host}:{tmp_path}"


@pytest.mark.parametrize("name", ["tree.caidx", "tree.catar"])
def test_reading_trees(client: Tool, pair: Pair, forest: Forest, tmp_path: Path, at: str, name: str) -> None:
    """A tree is listed, digested and extracted from there as it is from the file."""
    source = forest.get("small")
    pair.casync("make", f"--store={tmp_path}/default.castr", tmp_path / "tree.caidx", source)
    pair.casync("make", tmp_path / "tree.catar", source)
    for verb in ("list", "mtree", "digest"):
        assert client(verb, f"{at}/{name}") == pair.casync(verb, tmp_path / name)
    client("extract", f"{at}/{name}", pair.base / "out")
    assert_same(snapshot(pair.base / "out"), snapshot(source))


def test_reading_blobs(client: Tool, pair: Pair, tmp_path: Path, at: str) -> None:
    """A blob comes from there: index and store, or the store alone; chunks that repeat come, too."""
    piece = content(1 << 19, 7)
    (pair.base / "blob").write_bytes(piece + content(1 << 19, 8) + piece + piece)
    index = tmp_path / "b.caibx"
    pair.casync("make", "--chunk-size=8192", f"--store={tmp_path}/default.castr", index, pair.base / "blob")
    client("extract", f"{at}/b.caibx", pair.base / "one")
    client("extract", f"--store={at}/default.castr", index, pair.base / "two")
    for name in ("one", "two"):
        assert (pair.base / name).read_bytes() == (pair.base / "blob").read_bytes()
    assert client("digest", f"{at}/b.caibx") == pair.casync("digest", index)


def test_reading_packs(client: Tool, pair: Pair, tmp_path: Path, at: str) -> None:
    """A store that casync itself could not read is read through us."""
    (pair.base / "blob").write_bytes(content(3 << 20, 9))
    store = tmp_path / "default.castr"
    pair.pycasync("make", "--layout=packs", f"--store={store}", tmp_path / "b.caibx", pair.base / "blob")
    assert not list(store.glob("????/*"))
    client("extract", f"{at}/b.caibx", pair.base / "out")
    assert (pair.base / "out").read_bytes() == (pair.base / "blob").read_bytes()


def test_what_is_missing(client: Tool, pair: Pair, forest: Forest, tmp_path: Path, at: str) -> None:
    """What is not there ends the client with its error, and without a wait."""
    pair.casync("make", f"--store={tmp_path}/default.castr", tmp_path / "x.caidx", forest.get("small"))
    for chunk in (tmp_path / "default.castr").glob("*/*.cacnk"):
        chunk.unlink()
    for name in ("none.caidx", "none.catar"):
        outcome = client.run("list", f"{at}/{name}")
        assert outcome.status == 1
        assert b"No such file or directory" in outcome.err
    assert client.run("extract", f"{at}/x.caidx", pair.base / "out").status == 1


def test_desync(pair: Pair, desync: Tool, sshd: Sshd, remote: str, tmp_path: Path) -> None:  # noqa: F811
    """desync reads chunks in the same protocol, over many connections, and chunks that repeat."""
    piece = content(1 << 20, 5)
    (pair.base / "blob").write_bytes(piece + content(1 << 20, 6) + piece)
    pair.casync("make", f"--store={tmp_path}/default.castr", tmp_path / "b.caibx", pair.base / "blob")
    client = desync.given(CASYNC_SSH_PATH=sshd.ssh, CASYNC_REMOTE_PATH=remote)
    store = f"ssh://{sshd.host}{tmp_path}/default.castr"
    client("extract", "-n", "3", "-s", store, tmp_path / "b.caibx", pair.base / "out")
    assert (pair.base / "out").read_bytes() == (pair.base / "blob").read_bytes()
    (pair.base / "cache").mkdir()
    client("cache", "-n", "2", "-s", store, "-c", pair.base / "cache", tmp_path / "b.caibx")


@pytest.mark.parametrize("name", ["x.caidx", "x.catar"])
def test_writing_trees(client: Tool, pair: Pair, forest: Forest, tmp_path: Path, at: str, name: str) -> None:
    """What is written there is what casync makes, and casync extracts it; again it is written over."""
    source = forest.get("small")
    for _ in range(2):
        digest = client("make", f"{at}/{name}", source)
        assert digest == pair.casync("digest", tmp_path / name)
    pair.casync("make", pair.base / name, source)
    assert (tmp_path / name).read_bytes() == (pair.base / name).read_bytes()
    pair.casync("extract", tmp_path / name, pair.base / "out")
    assert_same(snapshot(pair.base / "out"), snapshot(source))
    assert not leftovers(tmp_path)


def test_writing_blobs(client: Tool, pair: Pair, tmp_path: Path, at: str) -> None:
    """A large blob goes there; one that differs little sends little, and the index names all of it."""
    data = content(3 << 20, 3)
    for name, blob in (("a", data), ("b", data[: 1 << 20] + b"changed" + data[1 << 20 :])):
        (pair.base / name).write_bytes(blob)
        client("make", f"{at}/{name}.caibx", pair.base / name)
        pair.casync("extract", tmp_path / f"{name}.caibx", pair.base / f"{name}-out")
        assert (pair.base / f"{name}-out").read_bytes() == blob


def test_index_there_and_store_here(
    client: Tool, pair: Pair, forest: Forest, tmp_path: Path, at: str
) -> None:
    """An index is taken alone, at which casync's own server never ends."""
    source, store = forest.get("small"), pair.base / "store.castr"
    client("make", f"--store={store}", f"{at}/x.caidx", source)
    pair.casync("extract", f"--store={store}", tmp_path / "x.caidx", pair.base / "out")
    assert_same(snapshot(pair.base / "out"), snapshot(source))


def test_key_that_reads(pair: Pair, forest: Forest, sshd: Sshd, remote: str, tmp_path: Path) -> None:  # noqa: F811
    """A key of authorized_keys reads beneath a directory, by absolute and relative paths, and does nothing else."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    for directory in (root, outside):
        directory.mkdir()
        pair.casync("make", directory / "x.caidx", forest.get("small"))
    (root / "way-out").symlink_to(outside)
    end = sshd.restricted(f"{remote} pull --root={root}")
    for tool in (pair.casync, pair.pycasync):
        client = tool.given(CASYNC_SSH_PATH=end.ssh)
        listing = pair.casync("list", root / "x.caidx")
        assert client("list", f"{end.host}:{root}/x.caidx") == listing
        assert client("list", f"{end.host}:x.caidx") == listing
        for path in (
            f"{outside}/x.caidx",
            f"{root}/../outside/x.caidx",
            "../outside/x.caidx",
            "way-out/x.caidx",
        ):
            outcome = client.run("list", f"{end.host}:{path}")
            assert outcome.status == 1
            assert f"not beneath {root}".encode() in outcome.err
        outcome = client.run("make", f"{end.host}:{root}/new.caidx", forest.get("small"))
        assert outcome.status == 1
        assert b"Read-only file system" in outcome.err
        assert not (root / "new.caidx").exists()
    other = subprocess.run([end.ssh, end.host, "cat", "/etc/passwd"], capture_output=True, timeout=60)
    assert other.returncode == 1
    assert other.stdout == b""
    assert b"this key is for casync's protocol alone" in other.stderr


def test_key_that_writes(pair: Pair, forest: Forest, sshd: Sshd, remote: str, tmp_path: Path) -> None:  # noqa: F811
    """A key may write and read beneath a directory; with --read-only the same form only reads."""
    root, source = tmp_path / "root", forest.get("small")
    (root / "deep").mkdir(parents=True)
    (tmp_path / "victim.caidx").write_bytes(b"precious")
    (root / "way-out.caidx").symlink_to(tmp_path / "victim.caidx")
    end = sshd.restricted(f"{remote} push --root={root}")
    for tool in (pair.casync, pair.pycasync):
        client = tool.given(CASYNC_SSH_PATH=end.ssh)
        place = f"{end.host}:{root}/deep/{tool.name}.caidx"
        client("make", place, source)
        assert client("digest", place) == pair.casync("digest", source)
        for path in (f"{tmp_path}/victim.caidx", f"{root}/way-out.caidx"):
            assert client.run("make", f"{end.host}:{path}", source).status == 1
    assert (tmp_path / "victim.caidx").read_bytes() == b"precious"
    end = sshd.restricted(f"{remote} push --read-only --root={root}")
    client = pair.casync.given(CASYNC_SSH_PATH=end.ssh)
    assert client("list", f"{end.host}:deep/casync.caidx")
    assert client.run("make", f"{end.host}:deep/casync.caidx", source).status == 1


KILLED = """
import os, signal, sys
from casync_compat.cli import main
from casync_compat.store import local

written, write_all = [], local.write_all

def half(fd, content):
    written.append(fd)
    if len(written) == 20:
        write_all(fd, content[: len(content) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    write_all(fd, content)

local.write_all = half
sys.exit(main())
"""


def test_killed_in_the_middle_of_a_chunk(client: Tool, tmp_path: Path, pair: Pair, at: str) -> None:
    """SIGKILL while a chunk is written: the client fails, no index and no part of a chunk is there, and what is there
    is right; the next push completes it."""
    killed = tmp_path / "killed"
    killed.write_text(f'#!/bin/sh\nexec {shlex.join([PYCASYNC[0], "-c", KILLED])} "$@"\n')
    killed.chmod(0o755)
    (pair.base / "blob").write_bytes(content(4 << 20, 9))
    assert (
        client.given(CASYNC_REMOTE_PATH=str(killed)).run("make", f"{at}/b.caibx", pair.base / "blob").status
    )
    store = tmp_path / "default.castr"
    assert 19 - 4 <= len(list(store.rglob("*.cacnk"))) < 40
    assert not (tmp_path / "b.caibx").exists()
    assert not leftovers(tmp_path)
    pair.pycasync("verify", store)
    client("make", f"{at}/b.caibx", pair.base / "blob")
    pair.casync("extract", tmp_path / "b.caibx", pair.base / "out")
    assert (pair.base / "out").read_bytes() == (pair.base / "blob").read_bytes()
