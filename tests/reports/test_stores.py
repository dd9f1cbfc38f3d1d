"""Reports of chunk stores and indexes: damage, loss, several writers, interrupted runs, collected chunks, caches."""

from __future__ import annotations

import io
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import zstandard
from filesystems import FileSystems
from reports.trying import complete, said
from robustness.running import (
    COMMAND,
    build_tree,
    environment,
    everything,
    fails,
    run,
    start,
    temporary_files,
    works,
)
from trees import SECOND

MIB = 1 << 20


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def chunks(store: Path) -> list[Path]:
    """Every chunk file, compressed or not."""
    return sorted(path for path in store.glob("[0-9a-f]*/*") if not path.name.startswith("."))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory of 40 files, 800 KB."""
    (tmp_path / "src").mkdir()
    build_tree(tmp_path / "src")
    return tmp_path / "src"


def test_casync_272(tmp_path: Path) -> None:
    """A file that is updated in place, being its own seed, is what the index says: shorter, longer, and back."""
    old = noise(1_500_000)
    versions = [
        old,
        noise(70_000, 2) + old[:900_000] + noise(10_000, 3) + old[800_000:],
        old[300_000:1_000_001],
    ]
    for number, data in enumerate(versions):
        (tmp_path / f"v{number}").write_bytes(data)
        works("make", f"v{number}.caibx", f"v{number}", cwd=tmp_path)
    for number in (0, 1, 2, 1, 0, 2, 0):
        works("extract", "--reflink=no", f"v{number}.caibx", "out", cwd=tmp_path)
        assert (tmp_path / "out").read_bytes() == versions[number]


def test_casync_218(tmp_path: Path) -> None:
    """A file that is there already is extracted over, as often as one likes, and keeps its mode."""
    (tmp_path / "image").write_bytes(noise(400_000))
    works("make", "image.caibx", "image", cwd=tmp_path)
    (tmp_path / "out").write_bytes(noise(400_000, 9))
    os.chmod(tmp_path / "out", 0o640)
    for _ in range(3):
        works("extract", "image.caibx", "out", cwd=tmp_path)
        assert (tmp_path / "out").read_bytes() == noise(400_000)
        assert (tmp_path / "out").stat().st_mode & 0o777 == 0o640


def test_casync_249(tmp_path: Path, tree: Path) -> None:
    """Nothing is left in the temporary directory, the store or the target, whether a run succeeds or fails."""
    (tmp_path / "tmp").mkdir()
    works("make", "x.caidx", "src", cwd=tmp_path)
    shutil.copytree(tmp_path / "default.castr", tmp_path / "cut.castr")
    chunks(tmp_path / "cut.castr")[-1].unlink()
    for words, status in (
        (("x.caidx", "out", "--seed=src", "--extra-store=cut.castr"), 0),
        (("x.caidx", "fails", "--store=cut.castr"), 1),
    ):
        done = subprocess.run(
            [*COMMAND, "extract", *words],
            cwd=tmp_path,
            env={**environment(), "TMPDIR": str(tmp_path / "tmp")},
            capture_output=True,
            check=False,
        )
        assert done.returncode == status, done
        assert os.listdir(tmp_path / "tmp") == []
        assert temporary_files(tmp_path) == []


def test_casync_201(tmp_path: Path) -> None:
    """Where no temporary file can be had, as in an initial RAM disk, a blob is extracted all the same."""
    (tmp_path / "image").write_bytes(noise(400_000))
    works("make", "image.caibx", "image", cwd=tmp_path)
    (tmp_path / "out").write_bytes(noise(200_000) + noise(10, 1) + noise(200_000))
    done = subprocess.run(
        [*COMMAND, "extract", "image.caibx", "out"],
        cwd=tmp_path,
        env={**environment(), "TMPDIR": "/proc/nowhere"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done
    assert b"Traceback" not in done.stderr
    assert (tmp_path / "out").read_bytes() == noise(400_000)


def test_casync_43(tmp_path: Path) -> None:
    """Collecting removes what only the forgotten archive needs, tells how much, and the others stay whole."""
    for name, seeds in (("one", (1, 2)), ("two", (2, 3))):
        (tmp_path / name).mkdir()
        for seed in seeds:
            (tmp_path / name / f"f{seed}").write_bytes(noise(300_000, seed))
        works("make", f"{name}.caidx", name, cwd=tmp_path)
    before = len(chunks(tmp_path / "default.castr"))
    (tmp_path / "one.caidx").unlink()
    outcome = run("gc", "two.caidx", cwd=tmp_path)
    assert outcome.status == 0
    assert outcome.out + outcome.err != b""
    assert len(chunks(tmp_path / "default.castr")) < before
    works("extract", "two.caidx", "out", cwd=tmp_path)
    assert everything(tmp_path / "out") == everything(tmp_path / "two")
    works("verify", "two.caidx", cwd=tmp_path)


def plain(chunk: Path) -> None:
    """Store a chunk uncompressed, beside its compressed form."""
    data = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(chunk.read_bytes())).read()
    chunk.with_suffix("").write_bytes(data)


def test_casync_87(tmp_path: Path, tree: Path) -> None:
    """A chunk that is stored twice, compressed and not, is one chunk: read once, and removed in both forms."""
    works("make", "x.caidx", "src", cwd=tmp_path)
    store = tmp_path / "default.castr"
    for chunk in chunks(store):
        plain(chunk)
    works("extract", "x.caidx", "out", cwd=tmp_path)
    assert everything(tmp_path / "out") == everything(tree)
    (tmp_path / "empty").mkdir()
    works("make", "empty.caidx", "empty", cwd=tmp_path)
    complete("gc", "--yes", "empty.caidx", cwd=tmp_path)
    assert len(chunks(store)) == 1


def test_desync_298(tmp_path: Path, tree: Path) -> None:
    """In a store of mixed forms each chunk is found in the form it has."""
    works("make", "x.caidx", "src", cwd=tmp_path)
    store = tmp_path / "default.castr"
    for chunk in chunks(store)[::2]:
        plain(chunk)
        chunk.unlink()
    works("extract", "x.caidx", "out", cwd=tmp_path)
    assert everything(tmp_path / "out") == everything(tree)
    works("verify", "x.caidx", cwd=tmp_path)


def test_desync_37(tmp_path: Path, tree: Path) -> None:
    """Damaged chunks are found and named, never restored as if they were good, and another make mends them."""
    works("make", "x.caidx", "src", cwd=tmp_path)
    store = chunks(tmp_path / "default.castr")
    damaged = store[::5]
    for number, chunk in enumerate(damaged):
        data = bytearray(chunk.read_bytes())
        if number % 2:
            data[len(data) // 2] ^= 1
        else:
            del data[len(data) // 2 :]
        os.chmod(chunk, 0o644)
        chunk.write_bytes(data)
    found = run("verify", "default.castr", cwd=tmp_path)
    assert found.status == 1
    for chunk in store:
        assert (chunk.stem in (found.out + found.err).decode()) == (chunk in damaged)
    assert run("extract", "x.caidx", "out", cwd=tmp_path).status == 1
    works("make", "--verify-reused", "x.caidx", "src", cwd=tmp_path)
    works("verify", "default.castr", cwd=tmp_path)
    works("extract", "x.caidx", "out", cwd=tmp_path)
    assert everything(tmp_path / "out") == everything(tree)


def test_desync_92(tmp_path: Path, tree: Path) -> None:
    """An index whose store lost chunks is told from a whole one before anybody restores it."""
    works("make", "x.caidx", "src", cwd=tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "f").write_bytes(noise(200_000, 77))
    works("make", "other.caidx", "other", cwd=tmp_path)
    works("verify", "x.caidx", cwd=tmp_path)
    lost = chunks(tmp_path / "default.castr")[3]
    lost.unlink()
    outcomes = {name: run("verify", f"{name}.caidx", cwd=tmp_path) for name in ("x", "other")}
    assert sorted(outcome.status for outcome in outcomes.values()) == [0, 1]
    bad = next(outcome for outcome in outcomes.values() if outcome.status == 1)
    assert lost.stem in (bad.out + bad.err).decode()


def test_desync_96(tmp_path: Path, tree: Path) -> None:
    """Several makes into one store at once disturb each other in nothing."""
    running = [
        start("make", f"x{number}.caidx", "src", "--store=s.castr", cwd=tmp_path) for number in range(4)
    ]
    for process in running:
        _, err = process.communicate(timeout=100)
        assert process.returncode == 0, err
    assert len({(tmp_path / f"x{number}.caidx").read_bytes() for number in range(4)}) == 1
    works("verify", "s.castr", cwd=tmp_path)
    works("extract", "--store=s.castr", "x3.caidx", "out", cwd=tmp_path)
    assert everything(tmp_path / "out") == everything(tree)


def test_restic_686(tmp_path: Path) -> None:
    """A make that is interrupted leaves no index that could be taken for a whole one."""
    process = start("make", "x.caibx", "-", cwd=tmp_path, stdin=subprocess.PIPE)
    assert process.stdin is not None
    data = noise(8 * MIB)
    process.stdin.write(data)
    process.stdin.flush()
    until = time.monotonic() + 60
    while not chunks(tmp_path / "default.castr"):
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.wait(60)
    process.stdin.close()
    assert process.returncode != 0
    assert not (tmp_path / "x.caibx").exists()
    assert temporary_files(tmp_path) == []
    (tmp_path / "image").write_bytes(data)
    works("make", "x.caibx", "image", cwd=tmp_path)
    works("verify", "x.caibx", "image", cwd=tmp_path)


def test_borg_10387(tmp_path: Path, tree: Path) -> None:
    """An extraction that failed half-way is completed by the same command, once what it lacked is there."""
    works("make", "x.caidx", "src", cwd=tmp_path)
    lost = chunks(tmp_path / "default.castr")[7]
    shutil.move(lost, tmp_path / "kept")
    fails("extract", "x.caidx", "out", cwd=tmp_path)
    shutil.move(tmp_path / "kept", lost)
    works("extract", "x.caidx", "out", cwd=tmp_path)
    assert everything(tmp_path / "out") == everything(tree)
    assert temporary_files(tmp_path) == []


def test_borg_9748(tmp_path: Path, tree: Path) -> None:
    """What a cache remembers of a store is not believed: chunks that were lost are stored again."""
    works("make", "--cache=cache", "x.caidx", "src", cwd=tmp_path)
    for chunk in chunks(tmp_path / "default.castr")[::3]:
        chunk.unlink()
    complete("make", "--cache=cache", "x.caidx", "src", cwd=tmp_path)
    works("verify", "x.caidx", cwd=tmp_path)
    works("extract", "x.caidx", "out", cwd=tmp_path)
    assert everything(tmp_path / "out") == everything(tree)


def change(path: Path, data: bytes) -> None:
    """Other contents of the same size, with the old modification time."""
    before = path.stat()
    with open(path, "r+b") as file:
        assert file.write(data) == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_borg_3730(tmp_path: Path) -> None:
    """A change that hides behind an old modification time and the same size is archived, with a cache too."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "container").write_bytes(noise(100_000))
    os.utime(tmp_path / "src" / "container", ns=(0, 1_500_000_000 * SECOND))
    time.sleep(2.1)  # by now the cache trusts what it sees
    works("make", "--cache=cache", "x.caidx", "src", cwd=tmp_path)
    change(tmp_path / "src" / "container", noise(100_000, 5))
    works("make", "--cache=cache", "x.caidx", "src", cwd=tmp_path)
    works("extract", "x.caidx", "out", cwd=tmp_path)
    assert (tmp_path / "out" / "container").read_bytes() == noise(100_000, 5)


def test_borg_3536(tmp_path: Path) -> None:
    """A file written within the clock's grain of being read is read again by the next run with a cache."""
    (tmp_path / "src").mkdir()
    for number in range(5):
        (tmp_path / "src" / f"f{number}").write_bytes(noise(3000, number))
        works("make", "--cache=cache", "x.caidx", "src", cwd=tmp_path)
        change(tmp_path / "src" / f"f{number}", noise(3000, 100 + number))
    works("make", "--cache=cache", "x.caidx", "src", cwd=tmp_path)
    works("extract", "x.caidx", "out", cwd=tmp_path)
    for number in range(5):
        assert (tmp_path / "out" / f"f{number}").read_bytes() == noise(3000, 100 + number)


@pytest.fixture
def small(filesystems: FileSystems, tmp_path: Path) -> Path:
    """A file system of 2 MiB, in the mount namespace of the tests; it goes with them."""
    filesystems.directory("tmpfs")
    at = tmp_path / "small"
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(at)], check=True)
    return at


@pytest.mark.root
def test_borg_3574(tmp_path: Path, small: Path) -> None:
    """A restore that runs out of room fails, names the file, and goes on where it stopped once there is room."""
    (tmp_path / "src").mkdir()
    for number in range(5):
        (tmp_path / "src" / f"f{number}").write_bytes(noise(MIB, number))
    works("make", "x.caidx", "src", cwd=tmp_path)
    outcome = run("extract", "x.caidx", small / "out", cwd=tmp_path)
    assert outcome.status == 1
    assert "No space left" in said(outcome)
    for path in (small / "out").rglob("f*"):
        if path.stat().st_mode & 0o777 == 0o644:  # what looks finished is
            assert path.read_bytes() == noise(MIB, int(path.name[1:]))
    subprocess.run(["mount", "-o", "remount,size=20m", str(small)], check=True)
    works("extract", "x.caidx", small / "out", cwd=tmp_path)
    assert everything(small / "out") == everything(tmp_path / "src")


@pytest.mark.root
def test_borg_9573(tmp_path: Path, small: Path) -> None:
    """When the disk of the store fills up, the old index and all its chunks are as they were."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "old").write_bytes(noise(200_000))
    works("make", small / "x.caidx", "src", cwd=tmp_path)
    before = (small / "x.caidx").read_bytes()
    (tmp_path / "src" / "new").write_bytes(noise(4 * MIB, 2))
    fails("make", small / "x.caidx", "src", cwd=tmp_path)
    assert (small / "x.caidx").read_bytes() == before
    assert temporary_files(small) == []
    works("verify", small / "x.caidx", cwd=tmp_path)
    works("extract", small / "x.caidx", "out", cwd=tmp_path)
    assert (tmp_path / "out" / "old").read_bytes() == noise(200_000)
    complete("gc", small / "x.caidx", cwd=tmp_path)
    assert (small / "x.caidx").read_bytes() == before


def test_restic_1141(tmp_path: Path) -> None:
    """Collecting while a make runs takes nothing from it, neither what it has stored nor what it found there."""
    reused, new = noise(2 * MIB), noise(2 * MIB, 2)
    (tmp_path / "old").write_bytes(reused)
    (tmp_path / "keep").write_bytes(b"kept")
    works("make", "--store=s.castr", "old.caibx", "old", cwd=tmp_path)
    (tmp_path / "named").mkdir()
    works("make", "--store=s.castr", "named/keep.caibx", "keep", cwd=tmp_path)
    (tmp_path / "old.caibx").unlink()  # from now on nobody names those chunks but the make that is under way
    process = start("make", "--store=s.castr", "x.caibx", "-", cwd=tmp_path, stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(reused + new)
    process.stdin.flush()
    before = len(chunks(tmp_path / "s.castr"))
    until = time.monotonic() + 100
    while len(chunks(tmp_path / "s.castr")) == before:
        assert time.monotonic() < until
        time.sleep(0.01)
    waiting = run("gc", "--wait=0", "--store=s.castr", "named/keep.caibx", cwd=tmp_path)
    assert waiting.status == 1
    collector = start("gc", "--store=s.castr", "named/keep.caibx", "x.caibx", cwd=tmp_path)
    process.stdin.write(noise(MIB, 3))
    process.stdin.close()
    process.stdin = None
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    collector.communicate(timeout=200)
    works("verify", "--store=s.castr", "x.caibx", cwd=tmp_path)
    works("extract", "--store=s.castr", "x.caibx", "out", cwd=tmp_path)
    assert (tmp_path / "out").read_bytes() == reused + new + noise(MIB, 3)
    complete("gc", "--store=s.castr", "named/keep.caibx", "x.caibx", cwd=tmp_path)
    works("verify", "--store=s.castr", "x.caibx", cwd=tmp_path)
