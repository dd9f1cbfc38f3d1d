"""Measures `pycasync mount` beside `casync mount` (trees) and `desync mount-index` (blobs).

    python bench/mount.py --pycasync .venv/bin/pycasync --report bench/reports/mount      # 2 minutes, 1 GiB

Each job runs in a mount of its own, so that no page cache helps, the tools in turn. What was read is compared before
any time counts. It wants /dev/fuse.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

BIG = 128 << 20
FILES, DIRECTORIES = 5_000, 50
READS = 2000
TIME_LIMIT = 120


def build(at: Path) -> None:
    """A file of 128 MiB of which half can be compressed, and 5,000 small files."""
    rng = random.Random(5)
    at.mkdir()
    with open(at / "big", "wb") as file:
        for _ in range(BIG >> 13):
            piece = rng.randbytes(4096)
            file.write(piece + piece[::-1][:64] * 64)
    for number in range(FILES):
        directory = at / f"directory-{number % DIRECTORIES:03}"
        directory.mkdir(exist_ok=True)
        (directory / f"file-{number:05}").write_bytes(rng.randbytes(rng.randrange(4000)))


def sequential(path: Path) -> str:
    """All of a file, a MiB at a time."""
    digest = hashlib.blake2b()
    with open(path, "rb", buffering=0) as file:
        while data := file.read(1 << 20):
            digest.update(data[:1])
            size = len(data)
            digest.update(data[size // 2 : size // 2 + 1])
    return digest.hexdigest()


def random_reads(path: Path) -> str:
    """4 KiB each at places all over a file."""
    rng = random.Random(7)
    digest = hashlib.blake2b()
    fd = os.open(path, os.O_RDONLY)
    try:
        for _ in range(READS):
            digest.update(os.pread(fd, 4096, rng.randrange(BIG >> 12) << 12))
    finally:
        os.close(fd)
    return digest.hexdigest()


def find(path: Path) -> str:
    """Names and sizes of all there is."""
    out = subprocess.run(
        ["find", ".", "-printf", "%p %s %m %T@\n"],
        cwd=path,
        capture_output=True,
        check=True,
        timeout=TIME_LIMIT,
    ).stdout
    return hashlib.blake2b(
        b"\n".join(sorted(line for line in out.splitlines() if line[:2] != b". "))
    ).hexdigest()


def tar(path: Path) -> str:
    """A tar of all there is; names and contents of small files are compared."""
    with subprocess.Popen(
        ["tar", "-c", "--sort=name", "--format=gnu", "--owner=0", "--group=0", "--exclude=./big", "."],
        cwd=path,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        digest = hashlib.file_digest(process.stdout, "sha256")
    assert process.returncode == 0
    return digest.hexdigest()


@contextmanager
def mounted(command: list[str], at: Path) -> Iterator[Path]:
    """A mount by a process of its own."""
    at.mkdir(exist_ok=True)
    with subprocess.Popen(
        [*command, str(at)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            until = time.monotonic() + 20
            while not os.path.ismount(at):
                assert process.poll() is None, command
                assert time.monotonic() < until, command
                time.sleep(0.01)
            yield at
        finally:
            subprocess.run(["fusermount3", "-u", "-z", str(at)], check=False, timeout=20)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pycasync", default=".venv/bin/pycasync")
    parser.add_argument("--casync", default="casync")
    parser.add_argument("--desync", default=".peers/bin/desync")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--report", type=Path, help="write PATH.json and PATH.md")
    options = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="bench-mount-"))
    try:
        rows = measure(options, base)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    lines = [
        "# Mounting, beside casync and desync",
        "",
        f"Commit {commit or 'unknown'}, {platform.machine()}, {os.cpu_count()} processors, Linux {platform.release()}, "
        f"{options.rounds} rounds, medians. A mount is fresh for each job.",
        "",
        "| job | pycasync, s | peer | peer, s | ratio |",
        "|---|---|---|---|---|",
    ]
    lines += ["| {job} | {ours:.3f} | {peer} | {theirs:.3f} | {ratio:.2f} |".format(**row) for row in rows]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.report:
        options.report.with_suffix(".md").write_text(text)
        options.report.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")


def measure(options: argparse.Namespace, base: Path) -> list[dict[str, object]]:
    """The rows of the table."""
    tree = base / "tree"
    build(tree)
    ours = os.path.abspath(options.pycasync)
    subprocess.run(
        [ours, "make", base / "x.caidx", tree, "--no-progress"],
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=TIME_LIMIT,
    )
    subprocess.run(
        [ours, "make", base / "big.caibx", tree / "big", "--no-progress"],
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=TIME_LIMIT,
    )
    store = base / "default.castr"
    of_trees = {
        "pycasync": [ours, "mount", str(base / "x.caidx")],
        "casync": [options.casync, "mount", f"--store={store}", str(base / "x.caidx")],
    }
    of_blobs = {
        "pycasync": [ours, "mount", str(base / "big.caibx")],
        "desync": [os.path.abspath(options.desync), "mount-index", "-s", str(store), str(base / "big.caibx")],
    }
    jobs: list[tuple[str, dict[str, list[str]], str, Callable[[Path], str]]] = [
        ("read a file of 128 MiB", of_trees, "big", sequential),
        (f"{READS} reads of 4 KiB", of_trees, "big", random_reads),
        (f"find over {FILES} files", of_trees, "", find),
        (f"tar of {FILES} small files", of_trees, "", tar),
        ("read a blob of 128 MiB", of_blobs, "big", sequential),
        (f"{READS} reads of 4 KiB of a blob", of_blobs, "big", random_reads),
    ]
    rows: list[dict[str, object]] = []
    for job, tools, inside, work in jobs:
        times: dict[str, list[float]] = {tool: [] for tool in tools}
        answers = {}
        for number in range(options.rounds):
            for tool, command in tools.items():
                with mounted(command, base / f"mount-{len(rows)}-{number}-{tool}") as at:
                    path = at / inside
                    if inside and not path.exists():  # desync names the file as it likes
                        (path,) = at.iterdir()
                    begin = time.monotonic()
                    answers[tool] = work(path)
                    times[tool].append(time.monotonic() - begin)
        assert len(set(answers.values())) == 1, (job, answers)
        (peer,) = tools.keys() - {"pycasync"}
        mine, theirs = statistics.median(times["pycasync"]), statistics.median(times[peer])
        rows.append(
            {"job": job, "ours": mine, "peer": peer, "theirs": theirs, "ratio": theirs / mine, "times": times}
        )
    return rows


if __name__ == "__main__":
    main()
