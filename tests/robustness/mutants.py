"""Changed inputs, a real command on each, and what may become of it."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from fuzz.mutator import mutate

from .running import Outcome, Word, run

TIMES = float(os.environ.get("PYCASYNC_TEST_FAULTS", "1"))
"""How much of everything that is tried at random: 1 in CI, more by hand."""
MEMORY = 300 << 20
"""Bytes that no run on a small input may have."""


def times(count: int) -> int:
    """So many, or as many more or less as were asked for."""
    return max(1, round(count * TIMES))


def changed(
    data: bytes, seed: str, count: int, *, others: Sequence[bytes] = (), tokens: Sequence[bytes] = ()
) -> Iterator[bytes]:
    """So many inputs changed from one, the same for the same seed."""
    for number in range(times(count)):
        yield mutate(data, random.Random(f"{seed} {number}"), others=others, tokens=tokens, largest=1 << 20)


def judged(*words: Word, cwd: Path, quiet: bool = False, stdin: Path | None = None) -> Outcome:
    """Run a command that may fail, but only as it should: it ends, says why line by line, and takes little memory.

    :param quiet: whether a failure may be told on standard output alone, as by `verify`
    """
    outcome = run(*words, cwd=cwd, stdin=stdin)
    assert outcome.status in (0, 1, 3), outcome
    assert outcome.peak < MEMORY, outcome
    said = outcome.err.decode().splitlines()
    assert words[0] == "oci" or all(line.startswith("pycasync: ") for line in said), outcome
    assert not any(word in line for line in said for word in ("internal error", "Traceback")), outcome
    assert outcome.status == 0 or said or (quiet and outcome.out), outcome
    return outcome


def fresh(at: Path) -> Path:
    """The path, with nothing there."""
    if at.is_symlink() or at.is_file():
        at.unlink()
    elif at.exists():
        for path in at.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)
        shutil.rmtree(at)
    return at
