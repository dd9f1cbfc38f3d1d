"""Ordinary nodes in runs: the same tree as from nodes that come one by one, and the same errors."""

from __future__ import annotations

import gc
import os
import resource
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import applying
import pytest
from applying import FLAGS, SECOND, Item, Pieces, Steps, apply, archive, d, f, leftovers, link, listing
from compare import assert_same, snapshot
from filesystems import FileSystems

from casync_compat.errors import FileError
from casync_compat.fs.apply import runs
from casync_compat.fs.apply.runs import Pool
from casync_compat.fs.apply.tree import ApplyOptions, TreeWriter, apply_tree
from casync_compat.streams.transfer import OrderedPool
from catar.flags import FeatureFlags
from catar.records import Node, stored_time
from catar.runs import Run, count_nodes, node_of_row, run_paths
from catar.walker import Walker

F = FeatureFlags

pytestmark = pytest.mark.skipif(runs._runs is None, reason="built without a C compiler")


@pytest.fixture(autouse=True)
def comes_in_runs(in_runs: None) -> None:
    """`apply` takes nodes in runs here."""
    applying.in_runs = True


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def limited(what: int, soft: int) -> Iterator[None]:
    """A resource limit for as long as the block lasts."""
    old = resource.getrlimit(what)
    resource.setrlimit(what, (soft, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, old)


class Meddling:
    """A pool without threads that does something else before each call."""

    def __init__(self, meddle: Callable[[], None]) -> None:
        self.meddle = meddle
        self.results: list[Any] = []

    def start(self, call: Callable[..., Any], /, *args: Any) -> None:
        self.meddle()
        self.results.append(call(*args))

    def take(self) -> Any:
        return self.results.pop(0)


def varied() -> Item:
    """All that is ordinary, at any depth, and some things that are not in between."""
    zeros = bytes(20_000)
    return d(
        b"",
        f(b"a", b"alpha", mode=0o4755),
        d(
            b"b",
            d(b"empty", mode=0o500),
            f(b"none"),
            f(b"secret", b"s" * 5000, mode=0o0),
            link(b"to", b"../a"),
        ),
        d(b"c", *(f(b"f%03d" % i, b"%d" % i * 700, mode=0o600 + i % 64) for i in range(150)), mode=0o2711),
        d(b"deep", d(b"er", d(b"est", f(b"bottom", b"x"), d(b"more")), f(b"z", b"z"))),
        f(b"holes-1", b"x" + zeros + b"y"),
        f(b"holes-2", zeros + b"end" + zeros),
        f(b"holes-3", zeros),
        f(b"holes-4", b"\0" * 4096 + b"x" * 4096 + b"\0" * 100),
        f(b"large", b"0123456789abcdef" * 10_000),
        d(b"odd", f(b"fifo-before"), mode=0o777),
        f(b"time-1", b"t", mtime=stored_time(-1, 1)),
        f(b"time-2", b"t", mtime=stored_time(-3 * SECOND - 1, 1)),
        f(b"time-3", b"t", mtime=stored_time(-(1 << 31) * SECOND, 1)),
        f(b"time-4", b"t", mtime=0),
        f(b"time-5", b"t", mtime=(1 << 33) * SECOND + 5),
        d(b"times", link(b"l", b"x", mtime=stored_time(-2 * SECOND - 7, 1)), mtime=1),
    )


def extract(target: Path, data: bytes, piece: int, **threads: Any) -> list[str]:
    warnings: list[str] = []
    writer = TreeWriter(os.fsencode(target), None, ApplyOptions(), warn=warnings.append, **threads)
    apply_tree(Walker(Pieces(data, piece)), writer)
    return warnings


@pytest.fixture
def wanted(tmp_path: Path) -> Any:
    """What nodes that come one by one make of `varied()`."""
    writer = TreeWriter(os.fsencode(tmp_path / "wanted"), FLAGS, warn=print)
    apply_tree(Steps(varied(), FLAGS), writer)
    return snapshot(tmp_path / "wanted")


@pytest.mark.parametrize("piece", [1 << 20, 100_000, 8191, 700, 64])
@pytest.mark.parametrize("jobs", [0, 1, 3])
def test_the_same_tree_however_it_comes(tmp_path: Path, wanted: Any, piece: int, jobs: int) -> None:
    """Contents, holes, modes, times and all else are the same, wherever pieces end and whoever writes the files."""
    data = archive(varied(), FLAGS)
    before = open_files()
    if jobs:
        with OrderedPool[Any](jobs, depth=4) as pool:
            warnings = extract(tmp_path / "out", data, piece, pool=pool, depth=2 * jobs)
    else:
        warnings = extract(tmp_path / "out", data, piece)
    assert warnings == []
    assert_same(wanted, snapshot(tmp_path / "out"))
    assert open_files() == before


def test_into_a_directory_that_is_there(tmp_path: Path, wanted: Any) -> None:
    """What stood there is replaced or goes, and what is new below it is the same, too."""
    out = tmp_path / "out"
    (out / "b").mkdir(parents=True)
    (out / "b" / "none").mkdir()
    (out / "b" / "stays-not").write_bytes(b"old")
    (out / "c").write_bytes(b"in the way of a directory")
    (out / "large").symlink_to("/nowhere")
    extract(out, archive(varied(), FLAGS), 50_000)
    assert_same(wanted, snapshot(out))


def test_files_of_an_existing_directory_are_replaced_at_once(tmp_path: Path) -> None:
    """Where others may look, a file changes from old to new in one step: the old inode is never written to."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "f").write_bytes(b"old")
    with open(out / "f", "rb") as old:
        extract(out, archive(d(b"", f(b"f", b"new")), FLAGS), 1 << 20)
        assert old.read() == b"old"
    assert (out / "f").read_bytes() == b"new"


@pytest.mark.root
def test_owners(tmp_path: Path) -> None:
    """Every node gets its own owner, and keeps set-id bits, which a change of owner would clear."""
    names = [b"n%02d" % i for i in range(90)]
    tree = d(
        b"",
        *(f(name, b"x", mode=0o6755, uid=i, gid=100 + i) for i, name in enumerate(names)),
        d(b"sub", link(b"l", b"t", uid=7, gid=8), uid=5, gid=6, mode=0o2755),
    )
    apply(tmp_path / "out", tree)
    for i, name in enumerate(names):
        st = os.lstat(tmp_path / "out" / os.fsdecode(name))
        assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (i, 100 + i, 0o6755)
    assert [os.lstat(tmp_path / "out" / name).st_uid for name in ("sub", "sub/l")] == [5, 7]
    assert [os.lstat(tmp_path / "out" / name).st_gid for name in ("sub", "sub/l")] == [6, 8]


@pytest.mark.parametrize("left_out", [F.SYMLINKS, F.NSEC_TIME, F.PERMISSIONS | F.ACL])
def test_what_is_masked_stays_out(tmp_path: Path, left_out: int) -> None:
    """`--without` holds for runs as for single nodes."""
    for name, by_runs in (("nodes", False), ("runs", True)):
        applying.in_runs = by_runs
        apply(tmp_path / name, varied(), mask=~int(left_out) & (1 << 64) - 1)
    one, other = snapshot(tmp_path / "nodes"), snapshot(tmp_path / "runs")
    if left_out & F.NSEC_TIME:
        one, other = ({path: {**node, "mtime": None} for path, node in tree.items()} for tree in (one, other))
    assert_same(one, other)


def test_more_directories_than_may_be_open(tmp_path: Path) -> None:
    """Wide trees need few descriptors, and directories that end late are completed all the same."""
    tree = d(b"", *(d(b"d%04d" % i, d(b"in", f(b"f", b"x"))) for i in range(600)))
    with limited(resource.RLIMIT_NOFILE, open_files() + 300), OrderedPool[Any](2, depth=4) as pool:
        apply(tmp_path / "out", tree, pool=pool)
    assert len(list((tmp_path / "out").glob("*/in/f"))) == 600


def test_no_descriptor_left_for_a_directory(tmp_path: Path) -> None:
    """When descriptors run out all the same, the directory is named, and the limit is what is complained about."""
    tree = f(b"f")
    for number in range(60):  # as deep as may be: other threads may let go of some meanwhile
        tree = d(b"%d" % number, tree)
    gc.collect()
    used = {int(name) for name in os.listdir("/proc/self/fd")}
    free = [number for number in range(len(used) + 4) if number not in used]
    with (
        limited(
            resource.RLIMIT_NOFILE, free[3]
        ),  # the limit is on numbers, of which not all below are in use
        pytest.raises(FileError, match="Too many open files"),
    ):
        apply(tmp_path / "out", d(b"", tree))


@pytest.mark.parametrize("threads", [False, True])
def test_a_file_that_cannot_be_written(tmp_path: Path, threads: bool) -> None:
    """The error names the file and what failed; nothing of that file stays, nor is anything left open."""
    tree = d(b"", d(b"sub", f(b"a", b"good"), f(b"b", b"x" * 100_000), f(b"c", b"later")))
    before = open_files()
    with limited(resource.RLIMIT_FSIZE, 65_536), pytest.raises(FileError, match="File too large") as caught:
        if threads:
            with OrderedPool[Any](2, depth=2) as pool:
                apply(tmp_path / "out", tree, pool=pool)
        else:
            apply(tmp_path / "out", tree)
    assert caught.value.path == os.fsencode(tmp_path / "out" / "sub" / "b")
    assert "write" in str(caught.value)
    assert not (tmp_path / "out/sub/b").exists()
    assert (tmp_path / "out/sub/a").read_bytes() == b"good"
    assert leftovers(tmp_path) == []
    assert open_files() == before


def test_something_else_took_the_name(tmp_path: Path) -> None:
    """What appears in a directory of ours meanwhile is replaced by what the archive has, and never written to."""
    other = tmp_path / "other"
    other.write_bytes(b"untouched")

    def meddle() -> None:
        if not (tmp_path / "out/sub/b").exists():
            os.link(other, tmp_path / "out/sub/b")
            (tmp_path / "out/sub/c").symlink_to(other)

    tree = d(b"", d(b"sub", f(b"a", b"1"), f(b"b", b"2"), f(b"c", b"3"), f(b"d", b"4")))
    apply(tmp_path / "out", tree, pool=Meddling(meddle))
    assert listing(tmp_path / "out/sub") == {"a": "1", "b": "2", "c": "3", "d": "4"}
    assert other.read_bytes() == b"untouched"


def test_a_link_whose_name_is_taken(tmp_path: Path) -> None:
    """The symlink is named by the error."""

    def meddle() -> None:
        (tmp_path / "out/sub/l").write_bytes(b"")

    with pytest.raises(FileError, match="create symlink") as caught:
        apply(tmp_path / "out", d(b"", d(b"sub", link(b"l", b"t"))), pool=Meddling(meddle))
    assert caught.value.path == os.fsencode(tmp_path / "out/sub/l")


@pytest.mark.parametrize("pool", [None, Meddling(lambda: None)])
def test_giving_up_closes_everything(tmp_path: Path, pool: Pool | None) -> None:
    """After a stream that breaks off nothing is open, and what was complete is whole."""
    data = archive(varied(), FLAGS)
    before = open_files()
    for cut in range(1000, len(data) - 1, 9000):
        writer = TreeWriter(os.fsencode(tmp_path / "out"), None, warn=print, pool=pool, depth=3)
        with pytest.raises(Exception, match="truncated"):
            apply_tree(Walker(Pieces(data[:cut], 4000)), writer)
        assert open_files() == before
        assert leftovers(tmp_path) == []
    assert (tmp_path / "out/a").read_bytes() == b"alpha"


def test_interrupted_by_a_signal_anywhere(tmp_path: Path) -> None:
    """Ctrl-C at whatever moment leaves whole files only, though other threads were writing."""
    tree = d(b"", *(d(b"d%d" % i, *(f(b"f%d" % j, b"x" * 5000) for j in range(20))) for i in range(40)))
    interrupted = 0
    old = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for round_ in range(30):
            target = tmp_path / f"out{round_}"
            try:
                with OrderedPool[Any](2, depth=1) as pool:
                    signal.setitimer(signal.ITIMER_REAL, 0.001 + round_ * 0.0007)
                    apply(target, tree, pool=pool)
            except KeyboardInterrupt:
                interrupted += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            for path in target.rglob("f*"):
                assert path.stat().st_size == 5000
                assert stat.S_IMODE(path.stat().st_mode) == 0o644
    finally:
        signal.signal(signal.SIGALRM, old)
    assert interrupted


def test_on_file_systems(tmp_path: Path, filesystems: FileSystems, ground: Any, wanted: Any) -> None:
    """The result is as on the temporary directory's."""
    extract(ground("runs") / "out", archive(varied(), FLAGS), 30_000)
    assert_same(wanted, snapshot(ground.made[-1] / "out"))


def first_run(tree: Item) -> tuple[Run, bytes]:
    walker = Walker(Pieces(archive(tree, FLAGS)))
    for step in walker.runs():
        if isinstance(step, Run):
            return step, walker.path
    raise AssertionError("there is a run")


def test_rows_are_the_nodes() -> None:
    """A row as a node is what the decoder makes of it alone, and paths are its paths."""
    run, path = first_run(varied())
    nodes: list[Node] = []
    paths: list[bytes] = []
    walker = Walker(Pieces(archive(varied(), FLAGS)))
    for step in walker:
        if isinstance(step, Node):
            nodes.append(step)
            paths.append(walker.path)
    rows = [node for number in range(len(run)) if (node := node_of_row(run, number)) is not None]
    assert rows == nodes[1:]
    assert count_nodes(run) == len(rows)
    assert list(run_paths(run, path)) == paths[1:]
