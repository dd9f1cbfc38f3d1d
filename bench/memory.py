"""How much memory making and extracting takes: a huge blob, and a tree of very many files.

    python bench/memory.py                                     # 20 GiB and 300,000 files: 15 minutes, 1 GiB of disk
    python bench/memory.py --blob-size 1G --files 10000        # a try

Runs the installed command in processes of its own and takes the most memory that the kernel saw resident at once
(`ru_maxrss`). Prints a Markdown table, and writes it with `--report` beside a JSON file of the same numbers. It asserts
nothing: numbers are for reading.

The blob is sparse with 2 % data, most of which repeats, so that what is measured is the length of the stream and not
the disk; through a pipe, where there are no holes, every byte of it is cut and hashed. This program itself stays small,
since the kernel counts the memory of a process from before it became another program.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

LIMIT = 150 << 20
"""What the project promises to stay below, in bytes."""

MIB = 1 << 20
_COMMAND = (sys.executable, "-m", "casync_compat")
_FILES_IN_A_DIRECTORY = 1000
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True, slots=True)
class Measured:
    """One run.

    :ivar peak: most memory resident at once, in bytes
    :ivar seconds: wall clock
    """

    name: str
    peak: int
    seconds: float


def size(text: str) -> int:
    """A number with K, M or G behind it."""
    return int(float(text[:-1]) * _UNITS[text[-1]]) if text[-1] in _UNITS else int(text)


def build_blob(path: Path, total: int) -> None:
    """A sparse file with a MiB of data in every 50, one in ten of them new."""
    chance = random.Random(1)
    pieces = [chance.randbytes(MIB) for _ in range(3)]
    with open(path, "wb", buffering=0) as file:
        file.truncate(total)
        for number, at in enumerate(range(0, total - MIB, 50 * MIB)):
            file.seek(at)
            file.write(chance.randbytes(MIB) if number % 10 == 0 else pieces[number % 3])


def build_tree(at: Path, files: int) -> None:
    """Many small files, a thousand in each directory, of 0 to 300 bytes."""
    at.mkdir()
    for number in range(files):
        parent = at / f"d{number // _FILES_IN_A_DIRECTORY:04}"
        if number % _FILES_IN_A_DIRECTORY == 0:
            parent.mkdir()
        with open(parent / f"f{number:07}", "wb", buffering=0) as file:
            file.write(b"%d\n" % number * (number % 40))


def measure(name: str, *words: str | Path, piped: Path | None = None) -> Measured:
    """Run the command and say what it took. Stops the program when it fails.

    :param piped: a file whose contents come through a pipe to standard input, holes and all
    """
    print(name, "...", file=sys.stderr, flush=True)
    begin = time.monotonic()
    source = subprocess.Popen(("cat", piped), stdout=subprocess.PIPE) if piped is not None else None
    stdin = source.stdout if source is not None else subprocess.DEVNULL
    process = subprocess.Popen((*_COMMAND, *words), stdin=stdin, stdout=subprocess.DEVNULL)
    if source is not None and source.stdout is not None:
        source.stdout.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or (source is not None and source.wait()):
        sys.exit(f"{name}: exit status {process.returncode}")
    return Measured(name, usage.ru_maxrss * 1024, time.monotonic() - begin)


def blob_runs(at: Path, total: int) -> Iterator[Measured]:
    """Make and extract a blob."""
    blob, index, out = at / "blob", at / "blob.caibx", at / "restored"
    build_blob(blob, total)
    yield measure("make, blob", "make", index, blob)
    yield measure("make, blob through a pipe", "make", at / "piped.caibx", "-", piped=blob)
    if not same(index, at / "piped.caibx"):
        sys.exit("the index of the pipe differs")
    yield measure("extract, blob", "extract", index, out)
    yield measure("extract, blob, seed", "extract", f"--seed={blob}", index, out)
    if not same(blob, out):
        sys.exit("the restored blob differs")


def same(a: Path, b: Path) -> bool:
    """Whether two files have the same bytes."""
    if a.stat().st_size != b.stat().st_size:
        return False
    with open(a, "rb", buffering=0) as first, open(b, "rb", buffering=0) as second:
        while piece := first.read(MIB):
            if second.read(len(piece)) != piece:
                return False
    return True


def tree_runs(at: Path, files: int) -> Iterator[Measured]:
    """Make, list and extract a tree, into nothing and over itself."""
    tree, index, archive, out = at / "tree", at / "tree.caidx", at / "tree.catar", at / "out"
    build_tree(tree, files)
    yield measure("make, tree to archive", "make", archive, tree)
    yield measure("make, tree to index", "make", index, tree)
    yield measure("list, tree", "list", index)
    yield measure("extract, tree", "extract", index, out)
    yield measure("extract, tree, over itself", "extract", index, out)
    digests = [
        subprocess.run((*_COMMAND, "digest", path), capture_output=True, check=True).stdout
        for path in (tree, out)
    ]
    if digests[0] != digests[1]:
        sys.exit("the restored tree differs")


def table(results: list[Measured], about: dict[str, object]) -> str:
    """The report as Markdown."""
    lines = [
        "# Memory",
        "",
        f"`bench/memory.py` with a blob of {about['blob_size']:,} bytes (2 % data) and a tree of {about['files']:,} "
        f"files. Python {about['python']}, Linux {about['kernel']}, {about['processors']} processors. "
        f"The limit is {LIMIT // MIB} MiB.",
        "",
        "| run | peak resident | seconds |",
        "|---|---:|---:|",
    ]
    lines += [f"| {r.name} | {r.peak / MIB:.1f} MiB | {r.seconds:.0f} |" for r in results]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--blob-size", type=size, default=size("20G"), help="bytes, with K, M or G (default 20G)"
    )
    parser.add_argument("--files", type=int, default=300_000, help="files in the tree (default 300,000)")
    parser.add_argument("--directory", type=Path, help="where to work (default: a new temporary directory)")
    parser.add_argument("--report", type=Path, help="directory for memory.md and memory.json")
    options = parser.parse_args()
    about: dict[str, object] = {
        "blob_size": options.blob_size,
        "files": options.files,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "processors": os.cpu_count(),
        "limit": LIMIT,
    }
    at = Path(tempfile.mkdtemp(prefix="pycasync-memory-", dir=options.directory))
    try:
        results = [*blob_runs(at, options.blob_size)]
        for path in (at / "blob", at / "restored"):
            path.unlink()
        results += tree_runs(at, options.files)
    finally:
        shutil.rmtree(at, ignore_errors=True)
    text = table(results, about)
    print(text)
    if options.report is not None:
        options.report.mkdir(parents=True, exist_ok=True)
        (options.report / "memory.md").write_text(text)
        data = {**about, "runs": [asdict(result) for result in results]}
        (options.report / "memory.json").write_text(json.dumps(data, indent=2) + "\n")


if __name__ == "__main__":
    main()
