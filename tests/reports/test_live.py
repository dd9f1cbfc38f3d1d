"""Reports of live systems: files that change, shrink, grow, vanish or may not be read while an archive is made."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from filesystems import IS_ROOT, lacking
from reports.trying import said
from robustness.running import COMMAND, environment, everything, fails, run, start, works

MIB = 1 << 20
LARGE = random.Random(1).randbytes(MIB) * 24
"""More than any pipe, buffer or look-ahead holds, so that the run waits in the middle of it."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A tree whose first file is large, and whose last is far behind it."""
    at = tmp_path / "src"
    (at / "later").mkdir(parents=True)
    (at / "a-large").write_bytes(LARGE)
    for name in ("one", "two"):
        (at / "later" / name).write_bytes(name.encode() * 100)
    return at


def made_while(source: Path, change: Callable[[], object], *options: str) -> tuple[int, str, Path]:
    """Archive a tree that is changed when the first bytes of the archive are out.

    :returns: the status, what was said, and the archive
    """
    at = source.parent
    process = start("make", "--what=archive", *options, "-", "src", cwd=at)
    assert process.stdout is not None
    first = os.read(process.stdout.fileno(), 1)
    change()
    rest, err = process.communicate(timeout=200)
    (at / "x.catar").write_bytes(first + rest)
    text = err.decode("utf-8", "surrogateescape")
    assert "Traceback" not in text
    assert "internal error" not in text
    return process.returncode, text, at / "x.catar"


def test_restic_604(source: Path, tmp_path: Path) -> None:
    """Of a file that shrinks while it is read the archive has what was read, and zeros up to the promised size."""
    size = 20 * MIB
    status, text, archive = made_while(source, lambda: os.truncate(source / "a-large", size))
    assert status == 3
    assert "a-large" in text
    works("extract", archive, "out", cwd=tmp_path)
    data = (tmp_path / "out" / "a-large").read_bytes()
    assert len(data) == len(LARGE)
    assert data[:size] == LARGE[:size]
    assert data[size:].strip(b"\0") == b""
    assert everything(tmp_path / "out" / "later") == everything(source / "later")


def test_restic_1708(source: Path, tmp_path: Path) -> None:
    """Of a log that grows the archive has the part that was there first; the log is named, and the status is 3."""

    def grow() -> None:
        with open(source / "a-large", "ab") as log:
            log.write(b"another line\n" * 1000)

    status, text, archive = made_while(source, grow)
    assert status == 3
    assert "a-large" in text
    works("extract", archive, "out", cwd=tmp_path)
    assert (tmp_path / "out" / "a-large").read_bytes() == LARGE
    assert run("digest", archive, cwd=tmp_path).status == 0
    (tmp_path / "x.catar").unlink()
    status, _, _ = made_while(source, grow, "--strict")
    assert status == 1


def test_restic_3098(source: Path, tmp_path: Path) -> None:
    """What vanishes is left out and named; the rest is a whole archive."""
    many = [source / f"tmp{number}" for number in range(8)]  # in the directory that is being read
    for path in many:
        path.write_bytes(LARGE[:40_000])

    def vanish() -> None:
        for path in many:
            path.unlink()

    status, text, archive = made_while(source, vanish)
    assert status == 3
    assert all(path.name in text for path in many)
    assert "vanished entries (8" in text
    works("extract", archive, "out", cwd=tmp_path)
    assert (tmp_path / "out" / "a-large").read_bytes() == LARGE
    assert (tmp_path / "out" / "later" / "two").read_bytes() == b"two" * 100
    assert not (tmp_path / "out" / "tmp7").exists()
    assert {path.name for path in (tmp_path / "out" / "later").iterdir()} == {"one", "two"}


def without_rights() -> list[str]:
    """The command as a user who is bound by modes, whoever runs the tests."""
    if not IS_ROOT:
        return list(COMMAND)
    program = shutil.which("setpriv") or lacking("setpriv")
    return [program, "--bounding-set=-dac_override,-dac_read_search", *COMMAND]


def test_borg_2092(tmp_path: Path) -> None:
    """A file that may not be read is left out under each of its names, and named; nothing refers to it."""
    source = tmp_path / "src"
    source.mkdir()
    (source / "hl1").write_bytes(b"secret")
    os.link(source / "hl1", source / "hl2")
    (source / "open").write_bytes(b"o")
    os.chmod(source / "hl1", 0)
    done = subprocess.run(
        [*without_rights(), "make", "x.caidx", "src"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 3, done
    for name in (b"hl1", b"hl2"):
        assert name in done.stderr
    works("extract", "x.caidx", "out", cwd=tmp_path)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["open"]
    assert "Traceback" not in said(run("verify", "x.caidx", "src", cwd=tmp_path))
    os.chmod(source / "hl1", 0o600)
    assert fails("extract", "x.caidx", "two", "hl1", cwd=tmp_path)
