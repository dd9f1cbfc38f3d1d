"""Two builds of pycasync beside each other: did a change make any job slower?

    .venv/bin/python bench/before_after.py --before ../old/.venv/bin/pycasync --after .venv/bin/pycasync \
        --report bench/reports/before_after

Each job runs with both, alternately, after one round that does not count; what counts is the median of the ratios of
neighbours, so that a machine that drifts does not decide. Results are compared before times are.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import inputs
from measure import Job, file_digest, measure, remove, store_names

BOUND = 1.03
"""The most that a job may take of what it took before."""


def jobs(at: Path, source: Path, programs: dict[str, list[str]]) -> list[Job]:
    """What is measured; each program has a directory of its own."""
    for name in programs:
        (at / name).mkdir(parents=True)
    blob = inputs.blob(at / "blob", source, 256 << 20)

    def both(*words: str) -> dict[str, list[str]]:
        return {name: [*program, *(w.format(at / name) for w in words)] for name, program in programs.items()}

    def drop(*names: str) -> dict[str, list[Path]]:
        return {tool: [at / tool / name for name in names] for tool in programs}

    def dropping(*names: str) -> Any:
        return lambda tool: remove(*drop(*names)[tool])

    def same(name: str, store: str | None = None) -> Any:
        def check() -> str:
            if len({file_digest(at / tool / name) for tool in programs}) != 1:
                return f"{name} differs"
            if store and len({tuple(store_names(at / tool / store)) for tool in programs}) != 1:
                return f"{store} differs"
            return ""

        return check

    make = both("make", "--store={}/store", "{}/x.caidx", str(source))
    return [
        Job("make tree, empty store", make, dropping("store", "x.caidx"), same("x.caidx", "store")),
        Job("make tree, all chunks present", make, dropping("x.caidx"), same("x.caidx")),
        Job(
            "make tree, cache, nothing changed",
            both("make", "--cache={}/cache", "--store={}/store", "{}/c.caidx", str(source)),
            repeat=5,
        ),
        Job("make catar", both("make", "{}/x.catar", str(source)), dropping("x.catar"), same("x.catar")),
        Job(
            "make blob, empty store",
            both("make", "--store={}/blobs", "{}/b.caibx", str(blob)),
            dropping("blobs", "b.caibx"),
            same("b.caibx", "blobs"),
        ),
        Job("extract tree", both("extract", "--store={}/store", "{}/x.caidx", "{}/out"), dropping("out")),
        Job("extract blob", both("extract", "--store={}/blobs", "{}/b.caibx", "{}/b"), dropping("b")),
        Job("list catar", both("list", "{}/x.catar"), repeat=3),
        Job("mtree catar", both("mtree", "{}/x.catar")),
        Job("digest caidx", both("digest", "--store={}/store", "{}/x.caidx")),
        Job("pycasync --version", both("--version"), repeat=20),
        Job("list of an empty archive", both("list", "{}/small.catar"), repeat=10),
    ]


def ratios(job: Job, what: str) -> list[float]:
    """After over before, pair by pair, without the first round."""
    pairs = list(zip(job.samples["before"], job.samples["after"], strict=True))[1:]
    return [getattr(after, what) / getattr(before, what) for before, after in pairs]


def main() -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(description="Two builds of pycasync beside each other.")
    parser.add_argument("--before", required=True, nargs="+", metavar="PROGRAM")
    parser.add_argument("--after", required=True, nargs="+", metavar="PROGRAM")
    parser.add_argument("--source", type=Path, default=Path("/usr/share"))
    parser.add_argument("--work", type=Path, default=Path("/dev/shm/pycasync-before-after"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    remove(options.work)
    programs = {"before": options.before, "after": options.after}
    todo = jobs(options.work, options.source, programs)
    (options.work / "empty").mkdir()
    for name, program in programs.items():
        small = str(options.work / name / "small.catar")
        subprocess.run(
            [*program, "make", small, str(options.work / "empty")], check=True, capture_output=True
        )
    for job in todo:
        measure(job, options.rounds + 1, options.work / "time")
    lines = [
        "# Before and after",
        "",
        f"* date: {datetime.now(UTC):%Y-%m-%d}",
        f"* source: {options.source}, {sum(1 for _ in options.source.rglob('*'))} entries",
        f"* machine: {platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}",
        f"* rounds: {options.rounds}, alternating; ratio: after over before, median of the pairs (least to most)",
        "",
        "| job | wall before, s | wall after, s | wall ratio | CPU ratio |",
        "|---|---|---|---|---|",
    ]
    rows = []
    for job in todo:
        wall, cpu = ratios(job, "wall"), ratios(job, "cpu")
        rows.append({"job": job.name, "wall": wall, "cpu": cpu})
        lines.append(
            f"| {job.name} | {job.median('before'):.3f} | {job.median('after'):.3f} "
            f"| {statistics.median(wall):.3f} ({min(wall):.3f} to {max(wall):.3f}) "
            f"| {statistics.median(cpu):.3f} ({min(cpu):.3f} to {max(cpu):.3f}) |"
        )
    print("\n".join(lines))
    if options.report is not None:
        options.report.with_suffix(".md").write_text("\n".join(lines) + "\n")
        options.report.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")
    remove(options.work)


if __name__ == "__main__":
    main()
