"""Runs commands alternately, checks their results before any time counts, and keeps wall time, CPU time and memory.

Only public tools: `/usr/bin/time` gives all three.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
    "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
}


@dataclass
class Sample:
    """One run of one command.

    :ivar wall: seconds
    :ivar cpu: seconds, user and system together
    :ivar peak_kib: most memory resident at once
    """

    wall: float
    cpu: float
    peak_kib: int


@dataclass
class Job:
    """One thing to do, by several tools; the first is pycasync.

    :ivar commands: tool -> command line
    :ivar before: run before each command, not timed, with the tool's name
    :ivar check: called after the first round; returns "" or what differs
    :ivar repeat: commands that take less than the clock shows are run so many times in one measurement
    """

    name: str
    commands: dict[str, list[str]]
    before: Callable[[str], None] = lambda tool: None
    check: Callable[[], str] = lambda: ""
    repeat: int = 1
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def median(self, tool: str, what: str = "wall") -> float:
        """The median of a tool's samples."""
        return statistics.median(getattr(sample, what) for sample in self.samples[tool])


def run(command: list[str], log: Path, repeat: int = 1) -> Sample:
    """Run a command and say what it took; stops the program when it fails."""
    if repeat > 1:
        command = ["sh", "-c", f'for i in $(seq {repeat}); do "$@" || exit 1; done', "sh", *command]
    timed = ["/usr/bin/time", "-o", str(log), "-f", "%e %U %S %M", *command]
    done = subprocess.run(timed, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr.decode()}")
    wall, user, system, peak = log.read_text().split()
    return Sample(float(wall) / repeat, (float(user) + float(system)) / repeat, int(peak))


def measure(job: Job, rounds: int, log: Path) -> None:
    """Run a job's commands in turn, `rounds` times."""
    for number in range(rounds):
        for tool, command in job.commands.items():
            job.before(tool)
            os.sync()
            job.samples.setdefault(tool, []).append(run(command, log, job.repeat))
        if number == 0:
            verdict = job.check()
            if verdict:
                raise SystemExit(f"{job.name}: {verdict}")
    print(f"{job.name}: " + ", ".join(f"{t} {job.median(t):.3f} s" for t in job.commands), flush=True)


def remove(*paths: Path) -> None:
    """Remove files and trees, those that are there."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def output_digest(command: list[str]) -> str:
    """SHA-256 of what a command prints."""
    done = subprocess.run(command, env=ENVIRONMENT, stdout=subprocess.PIPE, check=True)
    return hashlib.sha256(done.stdout).hexdigest()


def store_names(path: Path) -> list[str]:
    """Names of all files beneath a directory."""
    return sorted(name for _, _, names in os.walk(path) for name in names)
