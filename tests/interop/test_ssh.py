"""casync's protocol with real casync at the other end: through a real sshd, and run here in place of ssh."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from compare import assert_same, snapshot
from grounds import Forest
from interop.sshservers import Sshd, here, sshd  # noqa: F401 - fixtures
from interop.tools import Pair, Tool, better_than_casync
from trees import content

pytestmark = better_than_casync


@pytest.fixture(params=["here", "sshd"])
def end(request: pytest.FixtureRequest) -> Sshd:
    """Both ways to another end."""
    found: Sshd = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def ours(pair: Pair, end: Sshd) -> Tool:
    return pair.pycasync.given(CASYNC_SSH_PATH=end.ssh)


@pytest.fixture
def at(tmp_path: Path, end: Sshd) -> str:
    """A directory at the other end, as a location."""
    return f"{end.host}:{tmp_path}"


@pytest.fixture
def tree(pair: Pair, forest: Forest, tmp_path: Path) -> Path:
    """A tree, archived by real casync into that directory: tree.caidx and tree.catar."""
    source = forest.get("small")
    pair.casync("make", f"--store={tmp_path}/default.castr", tmp_path / "tree.caidx", source)
    pair.casync("make", tmp_path / "tree.catar", source)
    return source


@pytest.mark.parametrize("name", ["tree.caidx", "tree.catar"])
def test_reading(ours: Tool, pair: Pair, tree: Path, tmp_path: Path, at: str, name: str) -> None:
    """What is said of an archive or index there is what is said of the file, and trees come back the same."""
    for verb in ("list", "mtree", "digest"):
        assert ours(verb, f"{at}/{name}") == pair.casync(verb, tmp_path / name)
    some = next(path for path in sorted(tree.rglob("*")) if path.is_file() and not path.is_symlink())
    assert ours("cat", f"{at}/{name}", str(some.relative_to(tree))) == some.read_bytes()
    ours("extract", f"{at}/{name}", pair.base / "ours")
    pair.casync("extract", tmp_path / name, pair.base / "theirs")
    assert_same(snapshot(pair.base / "ours"), snapshot(pair.base / "theirs"))


def test_urls(pair: Pair, sshd: Sshd, tree: Path, tmp_path: Path) -> None:  # noqa: F811
    """ssh:// names the same, with a port."""
    ours = pair.pycasync.given(CASYNC_SSH_PATH=sshd.ssh)
    assert ours("list", f"ssh://{sshd.host}:{sshd.port}{tmp_path}/tree.caidx") == pair.casync(
        "list", tmp_path / "tree.caidx"
    )


def test_many_chunks(ours: Tool, pair: Pair, tmp_path: Path, at: str) -> None:
    """A blob of some thousand chunks, from index and store there, and from an index here and a store there."""
    piece = content(2 << 20, 7)
    (pair.base / "blob").write_bytes(piece + content(2 << 20, 8) + piece + piece)
    index = tmp_path / "b.caibx"
    pair.casync("make", "--chunk-size=8192", f"--store={tmp_path}/default.castr", index, pair.base / "blob")
    ours("extract", f"{at}/b.caibx", pair.base / "one")
    ours("extract", f"--store={at}/default.castr", index, pair.base / "two")
    ours("extract", "--store=/nowhere.castr", f"--extra-store={at}/default.castr", index, pair.base / "three")
    for name in ("one", "two", "three"):
        assert (pair.base / name).read_bytes() == (pair.base / "blob").read_bytes()


@pytest.mark.parametrize("name", ["x.caidx", "x.catar"])
def test_writing_trees(ours: Tool, pair: Pair, forest: Forest, tmp_path: Path, at: str, name: str) -> None:
    """What is written there is what casync makes, and casync extracts it; again it is written over."""
    _write_twice(ours, pair, forest.get("small"), tmp_path, f"{at}/{name}")


def test_names_with_spaces(pair: Pair, sshd: Sshd, forest: Forest, tmp_path: Path) -> None:  # noqa: F811
    """The shell at the other end takes a name as one word."""
    ours = pair.pycasync.given(CASYNC_SSH_PATH=sshd.ssh)
    _write_twice(ours, pair, forest.get("small"), tmp_path, f"{sshd.host}:{tmp_path}/with space.caidx")


def _write_twice(ours: Tool, pair: Pair, source: Path, tmp_path: Path, where: str) -> None:
    name = Path(where).name
    for _ in range(2):
        digest = ours("make", where, source)
        assert digest == pair.casync("digest", tmp_path / name)
    pair.casync("make", pair.base / name, source)
    assert (tmp_path / name).read_bytes() == (pair.base / name).read_bytes()
    pair.casync("extract", tmp_path / name, pair.base / "out")
    assert_same(snapshot(pair.base / "out"), snapshot(source))


def test_writing_blobs(ours: Tool, pair: Pair, tmp_path: Path, at: str) -> None:
    """A large blob goes there; one that differs little sends little, and the index names all of it."""
    data = content(6 << 20, 3)
    for name, blob in (("a", data), ("b", data[: 3 << 20] + b"changed" + data[3 << 20 :])):
        (pair.base / name).write_bytes(blob)
        ours("make", f"{at}/{name}.caibx", pair.base / name)
        pair.casync("extract", tmp_path / f"{name}.caibx", pair.base / f"{name}-out")
        assert (pair.base / f"{name}-out").read_bytes() == blob


def test_index_there_and_store_here(ours: Tool, pair: Pair, forest: Forest, tmp_path: Path, at: str) -> None:
    """An index is written there alone, at which casync hangs; whoever has the store reads it."""
    source, store = forest.get("small"), pair.base / "store.castr"
    ours("make", f"--store={store}", f"{at}/x.caidx", source)
    pair.casync("extract", f"--store={store}", tmp_path / "x.caidx", pair.base / "out")
    assert_same(snapshot(pair.base / "out"), snapshot(source))
    assert not (tmp_path / "default.castr").exists()


def test_index_here_and_store_there(ours: Tool, pair: Pair, forest: Forest, tmp_path: Path, at: str) -> None:
    """casync loses all chunks then, and says nothing; it is refused, and nothing appears."""
    outcome = ours.run("make", f"--store={at}/s.castr", pair.base / "x.caidx", forest.get("small"))
    assert outcome.status == 1
    assert b"casync takes chunks only together with their index" in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert not (pair.base / "x.caidx").exists()
    assert not (tmp_path / "s.castr").exists()


def test_what_is_missing(ours: Tool, pair: Pair, tree: Path, tmp_path: Path, at: str) -> None:
    """An index, an archive, a directory or a chunk that is not there is named in one line."""
    for name in ("none.caidx", "none.catar"):
        outcome = ours.run("list", f"{at}/{name}")
        assert (outcome.status, len(outcome.err.splitlines())) == (1, 1)
        assert name.encode() in outcome.err
    outcome = ours.run("make", f"{at}/no/such/x.catar", tree)
    assert outcome.status == 1
    assert b"No such file or directory" in outcome.err
    chunk = sorted((tmp_path / "default.castr").glob("*/*.cacnk"))[0]
    chunk.unlink()
    outcome = ours.run("extract", f"{at}/tree.caidx", pair.base / "out")
    assert outcome.status == 1
    assert chunk.name.partition(".")[0].encode() in outcome.err


def test_damaged_chunk(ours: Tool, pair: Pair, tree: Path, tmp_path: Path, at: str) -> None:
    """A chunk that is not what its name says is not believed."""
    chunks = sorted((tmp_path / "default.castr").glob("*/*.cacnk"))
    chunks[0].chmod(0o644)
    chunks[0].write_bytes(chunks[1].read_bytes())
    outcome = ours.run("extract", f"{at}/tree.caidx", pair.base / "out")
    assert outcome.status == 1
    assert b"Bad message" in outcome.err  # casync looks before it sends
    assert len(outcome.err.splitlines()) == 1


def test_who_cannot_be_reached(pair: Pair, sshd: Sshd) -> None:  # noqa: F811
    """No key, no casync there, something that talks before casync does: one line each."""
    ours = pair.pycasync.given(CASYNC_SSH_PATH=sshd.ssh)
    for where, remote, says in (
        (f"nobody-here@{sshd.host}:/x.caidx", "casync", b"Permission denied"),
        (f"{sshd.host}:/x.caidx", "no-such-casync", b"was not found there"),
        (f"{sshd.host}:/x.caidx", "echo Welcome; casync", b"no message of casync's protocol: Welcome"),
        (f"{sshd.host}:/x.caidx", "exit 3;", b"ended before all was done"),
    ):
        outcome = ours.given(CASYNC_REMOTE_PATH=remote).run("list", where)
        assert outcome.status == 1
        assert says in outcome.err
        assert len(outcome.err.splitlines()) == 1


def test_desync_at_the_other_end(pair: Pair, desync: Tool, end: Sshd, tmp_path: Path, at: str) -> None:
    """desync serves chunks in the same protocol."""
    (pair.base / "blob").write_bytes(content(3 << 20, 5))
    pair.casync("make", f"--store={tmp_path}/default.castr", tmp_path / "b.caibx", pair.base / "blob")
    ours = pair.pycasync.given(CASYNC_SSH_PATH=end.ssh, CASYNC_REMOTE_PATH=desync.command[0])
    ours("extract", f"--store={at}/default.castr", tmp_path / "b.caibx", pair.base / "out")
    assert (pair.base / "out").read_bytes() == (pair.base / "blob").read_bytes()


def test_helper_program(pair: Pair, tree: Path, tmp_path: Path, casync: Tool) -> None:
    """An URL of an unknown scheme is read through a helper that speaks the protocol."""
    helper = pair.base / "casync-foo"
    helper.write_text(
        "#!/bin/sh\nfor word; do case $word in foo://host/*) word=/${word#foo://host/};; esac\n"
        'set -- "$@" "$word"; shift; done\nexec ' + shlex.join(casync.command) + ' "$@"\n'
    )
    helper.chmod(0o755)
    ours = pair.pycasync.given(CASYNC_PROTOCOL_PATH=str(pair.base))
    for name in ("tree.caidx", "tree.catar"):
        assert ours("list", f"foo://host{tmp_path}/{name}") == pair.casync("list", tmp_path / name)


def test_interrupted(pair: Pair, sshd: Sshd, tmp_path: Path) -> None:  # noqa: F811
    """SIGINT ends a run that waits for the other end, and what it has started."""
    environment = {
        **os.environ,
        "CASYNC_SSH_PATH": sshd.ssh,
        "CASYNC_REMOTE_PATH": "sleep 600;",
        "TMPDIR": str(pair.base),
    }
    run = subprocess.Popen(
        [sys.executable, "-m", "casync_compat", "list", f"{sshd.host}:{tmp_path}/x.caidx"],
        env=environment,
        stderr=subprocess.PIPE,
    )
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children")
    deadline = time.monotonic() + 30
    while not (started := children.read_text().split()) and time.monotonic() < deadline:
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=30)
    assert run.returncode != 0
    assert started
    while any(Path(f"/proc/{pid}").exists() for pid in started):
        assert time.monotonic() < deadline
        time.sleep(0.05)
