"""casync's protocol with pycasync at the other end: real casync and desync as clients, through a real sshd.

The steps are those that casync's own tests take over ssh: archives, indexes of trees and of blobs, made there and read
from there.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from compare import assert_same, snapshot
from grounds import Forest
from interop.sshservers import Sshd, sshd  # noqa: F401 - a fixture
from interop.tools import PYCASYNC, Pair, Tool, better_than_casync
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
