"""Fuzzes for as long as one likes: `python tests/fuzz [TARGET...] [--seconds N] [--inputs N] [--seed N] [--jobs N]`.

    python tests/fuzz --seconds 100              every target in turn, all together 100 seconds
    python tests/fuzz --inputs 10000             so many for each target and job, the same on every machine
    python tests/fuzz decoder --seconds 3600     one of them for an hour
    python tests/fuzz decoder --replay FILE      what one input does

Each job is a process of its own with a seed of its own, a bound on its memory and on the time that one input may take:
an input that kills the process, hangs it or fills the memory is found as well. What is found is made shorter, written
to `.fuzz/TARGET-HASH` and shown; the exit status is then 1. An input whose error was mended moves to `corpus/TARGET/`.
"""

from __future__ import annotations

import argparse
import hashlib
import mmap
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz.engine import Finding, attempt, inputs, minimise
from fuzz.targets import TARGETS, Target

FOUND = Path(".fuzz")
SLOWEST = 20.0
"""Seconds that one input may take."""
MEMORY = 2 << 30
"""Bytes that a job may have."""
NOTED = 1 << 20
"""Bytes that are kept of the input that is tried, for when trying it ends the process."""


class Hangs(Exception):
    """An input took longer than any may."""


def _hang(number: int, frame: object) -> None:
    raise Hangs(f"it takes more than {SLOWEST} s")


def _job(target: Target, seed: int, most: int | None, until: float, notes: mmap.mmap) -> int:
    """Try inputs until there were `most` or the time has come; the exit status of its process."""
    if "libasan" not in os.environ.get("LD_PRELOAD", ""):  # which maps terabytes
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, _hang)

    def note(data: bytes) -> None:
        notes[:8] = min(len(data), len(notes) - 16).to_bytes(8, "little")
        notes[16 : 16 + len(data)] = data[: len(notes) - 16]
        signal.setitimer(signal.ITIMER_REAL, SLOWEST)

    for count, said in enumerate(inputs(target, seed, note), 1):
        signal.setitimer(signal.ITIMER_REAL, 0)
        if isinstance(said, Finding):
            _report(said if isinstance(said.error, Hangs) else minimise(target, said))
            return 1
        notes[8:16] = count.to_bytes(8, "little")
        if count == most or time.monotonic() > until:
            return 0
    return 0


def _report(found: Finding) -> None:
    FOUND.mkdir(exist_ok=True)
    path = FOUND / f"{found.target}-{hashlib.sha256(found.data).hexdigest()[:12]}"
    path.write_bytes(found.data)
    traceback.print_exception(found.error)
    print(
        f"found: {path}: {len(found.data)} bytes; python tests/fuzz {found.target} --replay {path}",
        flush=True,
    )


def _fuzz(target: Target, seeds: Sequence[int], most: int | None, seconds: float) -> bool:
    """Run a job for each seed; whether all went well."""
    began = time.monotonic()
    until = began + seconds
    jobs = []
    for seed in seeds:
        notes = mmap.mmap(-1, NOTED)
        pid = os.fork()
        if not pid:
            status = 2
            try:
                status = _job(target, seed, most, until, notes)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        jobs.append((pid, notes))
    well = True
    tried = 0
    for pid, notes in jobs:
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        tried += int.from_bytes(notes[8:16], "little")
        if status not in (0, 1):  # it was killed, and with it what it knew
            size = int.from_bytes(notes[:8], "little")
            _report(
                Finding(target.name, notes[16 : 16 + size], RuntimeError(f"the process ended with {status}"))
            )
        well = well and not status
    print(
        f"{target.name}: {tried} inputs in {time.monotonic() - began:.0f} s, seeds {seeds[0]} to {seeds[-1]}",
        flush=True,
    )
    return well


def main() -> int:
    """Parse arguments, fuzz, and say how it went by the exit status."""
    parser = argparse.ArgumentParser(prog="python tests/fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; default: all")
    parser.add_argument("--seconds", type=float, default=100, help="for all targets together (default 100)")
    parser.add_argument("--inputs", type=int, metavar="N", help="at most so many for each target and job")
    parser.add_argument("--seed", type=int, default=0, help="another one takes another way (default 0)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a processor)"
    )
    parser.add_argument(
        "--replay", type=Path, metavar="FILE", help="give the targets this input and nothing else"
    )
    options = parser.parse_args()
    if unknown := [name for name in options.targets if name not in TARGETS]:
        parser.error(f"no target {', '.join(unknown)}")
    targets = [TARGETS[name] for name in options.targets or TARGETS]
    well = True
    for target in targets:
        if options.replay is not None:
            said = attempt(target, options.replay.read_bytes())
            if isinstance(said, Finding):
                well = False
                traceback.print_exception(said.error)
            else:
                print(f"{target.name}: {said}")
            continue
        seeds = range(options.seed, options.seed + max(options.jobs, 1))
        well = _fuzz(target, seeds, options.inputs, options.seconds / len(targets)) and well
    return 0 if well else 1


sys.exit(main())
