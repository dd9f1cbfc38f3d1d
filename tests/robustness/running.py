"""The real command, run from the outside: what it says, what it leaves, what it costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from builds import coverage_variables

Word = str | bytes | Path
COMMAND = (sys.executable, "-m", "casync_compat")
SECONDS = 20
"""What a run may take before it is taken to hang, and is ended by SIGALRM."""


def environment() -> dict[str, str]:
    """Nothing that changes defaults; the directory a test runs in is no place to import from."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONSAFEPATH": "1",
        "HOME": "/nonexistent",
        **coverage_variables(),
    }


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run left.

    :ivar peak: most memory that was resident at once, in bytes
    """

    words: tuple[Word, ...]
    status: int
    out: bytes
    err: bytes
    peak: int


def start(*words: Word, cwd: Path, stdin: int | None = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """Begin a run; both streams are pipes."""
    return subprocess.Popen(
        (*COMMAND, *words),
        cwd=cwd,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        umask=0o022,
    )


class _Nursery:
    """Where runs are forked, started when the first is wanted. See `nursery.py`.

    :param environ: of the runs
    """

    def __init__(self, environ: dict[str, str]) -> None:
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None
        self._mounts = ""

    def run(self, job: dict[str, object]) -> tuple[int, int]:
        """Exit status and peak memory of one run."""
        mounts = os.readlink("/proc/self/ns/mnt")
        if self._process is None or mounts != self._mounts:  # it must see what the tests mount
            self.close()
            self._mounts = mounts
            program = (sys.executable, str(Path(__file__).with_name("nursery.py")))
            self._process = subprocess.Popen(
                program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self._environ, cwd="/"
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(job).encode() + b"\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            self.close()
            raise AssertionError("the process that forks the runs has ended")
        answer = json.loads(line)
        return answer["status"], answer["peak"] * 1024

    def close(self) -> None:
        """Let it end."""
        process, self._process = self._process, None
        if process is not None:
            process.communicate()


_nursery = _Nursery(environment())
# Not measured: coverage writes a file of its own at the end, which has the limits of the run, too.
_limited = _Nursery(
    {name: value for name, value in environment().items() if name not in coverage_variables()}
)


def run(
    *words: Word,
    cwd: Path,
    stdin: Path | None = None,
    stdout: Path | None = None,
    limits: Sequence[tuple[int, int]] = (),
    environ: Mapping[str, str] = MappingProxyType({}),
) -> Outcome:
    """Run to the end. Output goes through files, so that its amount does not matter.

    :param limits: numbers of `resource` and their values; of memory, what may be had beyond what an idle run has
    :param environ: further variables
    """
    out, err = stdout or cwd.parent / f"{cwd.name}.out", cwd.parent / f"{cwd.name}.err"
    job = {"stdin": str(stdin or os.devnull), "stdout": str(out), "stderr": str(err), "cwd": str(cwd)}
    status, peak = (_limited if limits else _nursery).run(
        {
            **job,
            "seconds": SECONDS,
            "limits": list(limits),
            "environ": dict(environ),
            "words": [os.fsdecode(word) for word in words],
        }
    )
    return Outcome(words, status, out.read_bytes() if stdout is None else b"", err.read_bytes(), peak)


def works(
    *words: Word, cwd: Path, stdin: Path | None = None, environ: Mapping[str, str] = MappingProxyType({})
) -> Outcome:
    """A run that must succeed, and have nothing to complain about; it may say what it deleted."""
    outcome = run(*words, cwd=cwd, stdin=stdin, environ=environ)
    assert outcome.status == 0, outcome
    assert [line for line in outcome.err.splitlines() if not line.startswith(b"pycasync: deleted ")] == [], (
        outcome
    )
    return outcome


def fails(
    *words: Word,
    cwd: Path,
    stdin: Path | None = None,
    memory: int = 1 << 40,
    environ: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """A run that must fail as it should: status 1, one line on standard error. Returns the line.

    :param memory: what it may have resident at most, in bytes
    """
    outcome = run(*words, cwd=cwd, stdin=stdin, environ=environ)
    assert outcome.status == 1, outcome
    assert outcome.peak < memory, outcome
    line = outcome.err.decode()
    assert line.count("\n") == 1, outcome
    assert line.startswith("pycasync: "), outcome
    assert "internal error" not in line, outcome
    return line.removeprefix("pycasync: ").rstrip("\n")


def everything(at: Path) -> dict[bytes, object]:
    """Every path below a directory with its mode, time and contents."""
    found: dict[bytes, object] = {}
    top = os.fsencode(at)
    for parent, directories, files in os.walk(top):
        for name in directories + files:
            path = os.path.join(parent, name)
            st = os.lstat(path)
            content: object = None
            if os.path.islink(path):
                content = os.readlink(path)
            elif os.path.isfile(path):
                with open(path, "rb") as file:
                    content = file.read()
            found[os.path.relpath(path, top)] = (st.st_mode, st.st_mtime_ns, content)
    return found


def temporary_files(at: Path) -> list[str]:
    """Temporary files of any kind below a directory."""
    return [str(p) for p in at.rglob("*") if p.name.startswith(".#") or p.name.endswith(".tmp")]


def build_tree(at: Path, *, seed: int = 1, files: int = 40, size: int = 20_000) -> None:
    """A directory with some files of some size, links and directories; the same every time."""
    import random

    chance = random.Random(seed)
    for i in range(files):
        parent = at / f"d{i % 5}" / f"e{i % 3}"
        parent.mkdir(parents=True, exist_ok=True)
        (parent / f"f{i:03}").write_bytes(chance.randbytes(chance.randrange(2 * size)))
        (parent / f"l{i:03}").symlink_to(f"f{i:03}")
    for path in sorted(at.rglob("*"), reverse=True):
        os.utime(path, ns=(0, 1_500_000_000_000_000_000 + chance.randrange(10**9)), follow_symlinks=False)
    os.utime(at, ns=(0, 1_500_000_000_000_000_001))
