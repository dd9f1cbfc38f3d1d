"""As in a container: the first process there, on a root that cannot be written, as somebody without a name."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

PROGRAM = f"{sys.executable} -m casync_compat"


def in_container(script: str, place: Path, user: int = 65534) -> subprocess.Popen[bytes]:
    """A shell script in namespaces of its own, whose last command is process 1; only `place` can be written."""
    inside = (
        f"mount --make-rprivate / && {_reachable(place)}"
        "mount --bind {place} {place} && mount -o remount,ro,bind / && "
        "exec setpriv --reuid={user} --regid={user} --clear-groups sh -c 'cd {place} && {script}'"
    )
    command = inside.format(place=place, user=user, script=script)
    return subprocess.Popen(
        ["unshare", "-pmf", "--kill-child", "--mount-proc", "sh", "-c", command],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "TMPDIR": str(place), "PYTHONSAFEPATH": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _reachable(place: Path) -> str:
    """Commands that let everybody in to the interpreter where it lies below a home that others may not enter."""
    wanted: dict[Path, set[Path]] = {}
    for path in (Path(sys.prefix), Path(sys.base_prefix).resolve()):
        above = [*reversed(path.parents), path]
        for parent, child in pairwise(above):
            if not parent.stat().st_mode & stat.S_IXOTH:
                wanted.setdefault(parent, set()).add(child)
                break
    words = ""
    for number, (hidden, children) in enumerate(wanted.items()):
        held = place.parent / f"held{number}"
        words += f"mkdir -p {held} && mount --rbind {hidden} {held} && mount -t tmpfs -o mode=755 none {hidden} && "
        for child in children:
            words += f"mkdir {child} && mount --rbind {held / child.name} {child} && "
    return words


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory that everybody may write to."""
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    tmp_path.chmod(0o777)
    return tmp_path


def test_archives_are_made_and_extracted(place: Path) -> None:
    """Without a home, a name or a root that can be written."""
    script = (
        f"mkdir tree && echo text >tree/file && {PROGRAM} make x.caidx tree && "
        f"{PROGRAM} extract x.caidx copy && cat copy/file"
    )
    said, complaints = in_container(script, place).communicate(timeout=120)
    assert said.splitlines()[-1:] == [b"text"], complaints


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_process_ends_when_told(place: Path, number: signal.Signals) -> None:
    """What `docker stop` sends ends it at once, though a signal's own action would not; nothing is left."""
    running = in_container(f"echo $$ && exec {PROGRAM} make x.caibx -", place)
    assert running.stdin is not None
    assert running.stdout is not None
    assert running.stdout.readline() == b"1\n"
    # What waits for standard input has its handlers; unshare's child is the first process in there.
    for _ in range(600):
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        caught = int(_status(children[0], "SigCgt"), 16)
        if caught >> (signal.SIGTERM - 1) & 1 and _status(children[0], "Name") != "sh":
            break
        signal.sigtimedwait([], 0.05)
    os.kill(int(children[0]), number)
    _, complaints = running.communicate(timeout=60)
    assert running.returncode == 128 + number, complaints
    assert b"Got exit signal, quitting." in complaints
    assert os.listdir(place) == []


def _status(process: str, key: str) -> str:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return value.strip()
    raise AssertionError(f"{key} is missing")
