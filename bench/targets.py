"""What the project set out to reach: each target a ratio of medians of one run on two processors."""

from __future__ import annotations

from dataclasses import dataclass

from measure import Job


@dataclass(frozen=True)
class Target:
    """One line of the table.

    :ivar job: name of a job
    :ivar peer: the tool that pycasync is compared with
    :ivar ratio: the peer's time over pycasync's, at least
    :ivar ours: which of pycasync's commands; None for the first
    """

    job: str
    peer: str
    ratio: float
    ours: str | None = None


NO_DIGEST = "pycasync, no stream digest"
"""casync prints a digest of the whole stream, desync does not: each is compared with a run that does as it does."""


TARGETS = [
    Target("make tree, empty store", "casync", 2.3),
    Target("make tree, all chunks present", "casync", 2.0),
    Target("make tree, cache, nothing changed", "casync", 8.0),
    Target("make catar", "casync", 2.0),
    Target("make blob, empty store", "casync", 2.4),
    Target("make blob, empty store", "desync", 2.0, NO_DIGEST),
    Target("index only, blob", "desync", 1.2),
    Target("extract tree", "casync", 2.2),
    Target("extract blob", "casync", 1.6),
    Target("extract blob", "desync", 1.4),
    Target("list catar", "casync", 0.5),
    Target("mtree catar", "casync", 1.8),
    Target("digest catar", "casync", 1.8),
    Target("digest caidx", "casync", 1.8),
]

LIMITS = {"pycasync --version": 0.060, "list a small archive": 0.150}
"""Seconds of wall time at most."""

PEAK_MIB = 150
FLOOR_FACTOR = 1.25


def lines(jobs: list[Job], floors: dict[str, float]) -> list[str]:
    """The table of targets, for those jobs that were run."""
    by_name = {job.name: job for job in jobs}
    out = ["| job | against | target | measured | CPU | |", "|---|---|---|---|---|---|"]

    def row(job: str, against: str, target: str, measured: str, cpu: str, met: bool) -> None:
        out.append(
            f"| {job} | {against} | {target} | {measured} | {cpu} | {'met' if met else '**not met**'} |"
        )

    for target in TARGETS:
        job = by_name.get(target.job)
        if job is None or target.peer not in job.samples:
            continue
        ours = target.ours or next(iter(job.commands))
        ratio = job.median(target.peer) / job.median(ours)
        cpu = job.median(target.peer, "cpu") / max(job.median(ours, "cpu"), 1e-9)
        what = target.job + (", no stream digest" if target.ours else "")
        row(what, target.peer, f"≥ {target.ratio}", f"{ratio:.2f}", f"{cpu:.2f}", ratio >= target.ratio)
    for name, limit in LIMITS.items():
        if name in by_name:
            job = by_name[name]
            wall = job.median(next(iter(job.commands)))
            row(name, "", f"≤ {limit * 1000:.0f} ms", f"{wall * 1000:.0f} ms", "", wall <= limit)
    for name, seconds in floors.items():
        if name in by_name:
            job = by_name[name]
            for ours in (tool for tool in job.commands if tool.startswith("pycasync")):
                factor = job.median(ours) / seconds
                what = name + (", no stream digest" if ours == NO_DIGEST else "")
                row(what, "the floor", f"≤ {FLOOR_FACTOR}", f"{factor:.2f}", "", factor <= FLOOR_FACTOR)
    if jobs:
        peak = max(s.peak_kib for job in jobs for s in job.samples[next(iter(job.commands))]) / 1024
        row("peak memory", "", f"< {PEAK_MIB} MiB", f"{peak:.0f} MiB", "", peak < PEAK_MIB)
    return out
