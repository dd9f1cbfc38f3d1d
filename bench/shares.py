"""Where the time of each job goes, by the kind of code it is spent in: what a target that is not met is bound by.

    python bench/shares.py --report bench/reports/shares     # needs perf; takes the tree of run.py if it is there

Samples of all threads are counted by the library they fell into. Shares are of CPU time, not of wall time.
"""

from __future__ import annotations

import argparse
import collections
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import inputs
from measure import ENVIRONMENT, remove

KINDS = (
    ("kernel.kallsyms", "kernel"),
    ("[kernel", "kernel"),
    ("backend_c", "zstd"),
    ("zstd", "zstd"),
    ("libcrypto", "SHA (OpenSSL)"),
    ("_sha512", "SHA of chunks (ours)"),
    ("blake3", "blake3"),
    ("_kernel.abi3", "cutting"),
    ("_system.abi3", "our C: nodes and files"),
    ("_decoder.abi3", "our C: nodes and files"),
    ("_writer.abi3", "our C: nodes and files"),
    ("_filling.abi3", "our C: nodes and files"),
    ("_goodbye.abi3", "our C: nodes and files"),
    ("_listing.abi3", "our C: nodes and files"),
    ("_identity.abi3", "our C: nodes and files"),
    ("libpython", "Python"),
    ("python3", "Python"),
    ("libc.so", "libc (memory, copies)"),
    ("ld-linux", "loading libraries"),
)


def kind(library: str) -> str:
    return next((name for sign, name in KINDS if sign in library), "other")


def shares(command: list[str], data: Path) -> dict[str, float]:
    """Per cent of the samples, by kind."""
    record = ["perf", "record", "-q", "-F", "997", "-o", str(data), "--", *command]
    subprocess.run(record, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    report = ["perf", "report", "-i", str(data), "--stdio", "-q", "--sort", "dso"]
    text = subprocess.run(report, capture_output=True, text=True, check=True).stdout
    found: dict[str, float] = collections.defaultdict(float)
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0].endswith("%"):
            found[kind(words[-1])] += float(words[0][:-1])
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("/dev/shm/pycasync-bench"))
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--pycasync", default=f"{sys.executable} -m casync_compat")
    parser.add_argument("--report", type=Path, default=Path("bench/reports/shares"))
    options = parser.parse_args()
    if not shutil.which("perf"):
        parser.error("perf is not installed")
    work, py = options.work, options.pycasync.split()
    work.mkdir(parents=True, exist_ok=True)
    tree = str(inputs.tree(work / "tree", options.files))
    store, index, archive, out = (work / f"profile.{end}" for end in ("castr", "caidx", "catar", "out"))
    remove(store, index, archive, out)
    jobs = {
        "make tree, empty store": ["make", f"--store={store}", str(index), tree],
        "make tree, all chunks present": ["make", f"--store={store}", str(index), tree],
        "make catar": ["make", str(archive), tree],
        "extract tree": ["extract", f"--store={store}", str(index), str(out)],
        "mtree catar": ["mtree", str(archive)],
        "digest catar": ["digest", str(archive)],
        "digest caidx": ["digest", f"--store={store}", str(index)],
        "list catar": ["list", str(archive)],
    }
    lines = [
        "# Where the time goes",
        "",
        f"* date: {time.strftime('%Y-%m-%d')}",
        f"* machine: {platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}",
        f"* input: tree of {options.files} files, in {work}",
        "",
        "Shares of CPU time in per cent, of all threads together.",
        "",
        "| job | shares |",
        "|---|---|",
    ]
    for name, arguments in jobs.items():
        found = shares([*py, *arguments], work / "perf.data")
        told = ", ".join(f"{what} {share:.0f}" for what, share in found.items() if share >= 1)
        lines.append(f"| {name} | {told} |")
        print(lines[-1], flush=True)
    remove(store, index, archive, out)
    options.report.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
