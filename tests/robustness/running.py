"""The real command, run from the outside: what it says, what it leaves, what it costs."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

Word = str | bytes | Path
COMMAND = (sys.executable, "-m", "casync_compat")


def environment() -> dict[str, str]:
    """Nothing that changes defaults; the directory a test runs in is no place to import from."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONSAFEPATH": "1",
        "HOME": "/nonexistent",
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


def run(*words: Word, cwd: Path, stdin: Path | None = None, stdout: Path | None = None) -> Outcome:
    """Run to the end. Output goes through files, so that its amount does not matter."""
    out, err = cwd.parent / f"{cwd.name}.out", cwd.parent / f"{cwd.name}.err"
    with open(stdin or os.devnull, "rb") as source, open(stdout or out, "wb") as o, open(err, "wb") as e:
        process = subprocess.Popen(
            (*COMMAND, *words), cwd=cwd, stdin=source, stdout=o, stderr=e, env=environment(), umask=0o022
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    written = out.read_bytes() if stdout is None else b""
    return Outcome(words, process.returncode, written, err.read_bytes(), usage.ru_maxrss * 1024)


def works(*words: Word, cwd: Path, stdin: Path | None = None) -> Outcome:
    """A run that must succeed, and have nothing to complain about."""
    outcome = run(*words, cwd=cwd, stdin=stdin)
    assert outcome.status == 0, outcome
    assert outcome.err == b"", outcome
    return outcome


def fails(*words: Word, cwd: Path, stdin: Path | None = None) -> str:
    """A run that must fail as it should: status 1, one line on standard error. Returns the line."""
    outcome = run(*words, cwd=cwd, stdin=stdin)
    assert outcome.status == 1, outcome
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
