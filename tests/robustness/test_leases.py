"""Real processes over one store: killed, told to end, and several at once. Nothing is lost, nothing is left."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .running import COMMAND, environment, everything, fails, start, works

ROUNDS = 3


def chunks(store: Path) -> int:
    return sum(1 for _ in store.rglob("*.cacnk"))


def wait_for(path: Path, pattern: str) -> Path:
    """The first path that appears of this pattern."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        for found in path.glob(pattern):
            return found
        time.sleep(0.005)
    raise AssertionError(f"no {pattern} in {path}")


@pytest.fixture
def at(tmp_path: Path) -> Path:
    """A store with chunks that no index names, and an index."""
    (tmp_path / "src").mkdir()
    for number in range(2):
        (tmp_path / "src" / "one").write_bytes(random.Random(number).randbytes(300_000))
        works("make", "x.caidx", "src", cwd=tmp_path)
    return tmp_path


@contextmanager
def making(at: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A run that has stored something and waits for more to read, and its lease."""
    before = chunks(at / "default.castr")
    process = start("make", "y.caibx", "-", cwd=at, stdin=subprocess.PIPE)
    try:
        assert process.stdin is not None
        process.stdin.write(random.Random(9).randbytes(20 << 20))
        process.stdin.flush()
        lease = wait_for(at / "default.castr", ".pycasync/leases/*")
        end = time.monotonic() + 120
        while chunks(at / "default.castr") == before and time.monotonic() < end:
            time.sleep(0.005)
        yield process, lease
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_told_to_end(at: Path, number: signal.Signals) -> None:
    """A run that is told to end takes its lease with it."""
    with making(at) as (process, _):
        process.send_signal(number)
        process.wait(120)
    assert not (at / "default.castr/.pycasync").exists()


def on_another_machine(mark: Path) -> None:
    """Let a lease or lock be one of a run elsewhere, of which nobody here knows whether it lives."""
    dates = mark.stat()
    mark.write_bytes(mark.read_bytes().replace(b"boot=", b"boot=of-another-machine-"))
    os.utime(mark, ns=(dates.st_atime_ns, dates.st_mtime_ns))


@pytest.mark.parametrize("elsewhere", [False, True])
def test_killed_while_making(at: Path, elsewhere: bool) -> None:
    """What a killed run had stored is garbage at once where it ran; elsewhere it is kept for ten minutes."""
    with making(at) as (process, lease):
        process.kill()
        process.wait(120)
        there = chunks(at / "default.castr")
        if not elsewhere:
            works("gc", "--wait=0", "x.caidx", cwd=at)
            assert chunks(at / "default.castr") < there
            assert not (at / "default.castr/.pycasync").exists()
            return
        on_another_machine(lease)
        assert "in use by make on" in fails("gc", "--wait=0", "x.caidx", cwd=at)
        assert chunks(at / "default.castr") == there
        os.utime(lease, (time.time() - 601,) * 2)
        works("gc", "--wait=0", "x.caidx", cwd=at)
    assert chunks(at / "default.castr") < there
    assert not (at / "default.castr/.pycasync").exists()
    works("verify", "x.caidx", cwd=at)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_killed_while_collecting(at: Path, elsewhere: bool) -> None:
    """A killed collection holds up nobody where it ran; others for ten minutes."""
    os.mkfifo(at / "out")
    reader = os.open(at / "out", os.O_RDONLY | os.O_NONBLOCK)
    store = at / "default.castr"
    for number in range(3000):  # more lines than a pipe holds
        name = f"{number:064x}"
        (store / name[:4]).mkdir(exist_ok=True)
        (store / name[:4] / f"{name}.cacnk").write_bytes(b"x")
    with open(at / "out", "wb") as out:
        process = subprocess.Popen((*COMMAND, "gc", "-v", "x.caidx"), cwd=at, stdout=out)
    lock = wait_for(store, ".pycasync/gc")
    time.sleep(0.2)
    process.kill()
    process.wait(120)
    os.close(reader)
    if elsewhere:
        on_another_machine(lock)
        assert "in use by gc on" in fails("make", "--wait=0", "z.caidx", "src", cwd=at)
        assert not (at / "z.caidx").exists()
        os.utime(lock, (time.time() - 601,) * 2)
    works("make", "--wait=0", "z.caidx", "src", cwd=at)
    works("verify", "z.caidx", cwd=at)
    assert not (store / ".pycasync").exists()


def start_of_all(at: Path) -> subprocess.Popen[bytes]:
    """Begin a collection that is told of all indexes that are there."""
    script = 'exec "$@" gc --yes -- *.caidx'
    return subprocess.Popen(
        ("sh", "-c", script, "sh", *COMMAND),
        cwd=at,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("trees", [("a", "b"), ("a", "a")], ids=["different", "the same"])
def test_all_at_once(tmp_path: Path, trees: tuple[str, str]) -> None:
    """Two runs that make, one that collects and one that extracts, begun at one time: each index is whole in the end.

    What the runs make is half new and half there, as garbage of what was made before; the collection is told of what is
    there when it begins: by a shell that becomes it, so that nothing can appear in between.
    """
    chance = random.Random(5)
    old = [chance.randbytes(60_000) for _ in range(20)]
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_bytes(chance.randbytes(500_000))
    works("make", "kept.caidx", "kept", cwd=tmp_path)
    for number in range(ROUNDS):
        (tmp_path / "garbage").mkdir()
        for name, content in enumerate(old):
            (tmp_path / "garbage" / str(name)).write_bytes(content)
        works("make", "garbage.caidx", "garbage", cwd=tmp_path)
        (tmp_path / "garbage.caidx").unlink()
        shutil.rmtree(tmp_path / "garbage")
        for tree in set(trees):
            shutil.rmtree(tmp_path / tree, ignore_errors=True)
            (tmp_path / tree).mkdir()
            for name, content in enumerate(old):
                new = chance.random() < 0.3
                (tmp_path / tree / str(name)).write_bytes(chance.randbytes(60_000) if new else content)
        commands = [
            ("make", f"{number}-1.caidx", trees[0]),
            ("gc",),
            ("make", f"{number}-2.caidx", trees[1]),
            ("extract", "kept.caidx", "back", "--delete=yes"),
        ]
        chance.shuffle(commands)
        processes = []
        for words in commands:
            processes.append(start_of_all(tmp_path) if words[0] == "gc" else start(*words, cwd=tmp_path))
            time.sleep(chance.uniform(0, 0.1))
        for process in processes:
            out, err = process.communicate(timeout=200)
            assert process.returncode == 0, (process.args, out, err)
        for index, tree in zip(("1", "2"), trees, strict=True):
            works("extract", f"{number}-{index}.caidx", f"copy{number}{index}", cwd=tmp_path)
            assert everything(tmp_path / f"copy{number}{index}") == everything(tmp_path / tree)
        assert everything(tmp_path / "back") == everything(tmp_path / "kept")
        assert not (tmp_path / "default.castr/.pycasync").exists()
