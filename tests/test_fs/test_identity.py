"""Identities: what tells that a file changed, whoever asks."""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from casync_compat.fs import identity as module
from casync_compat.fs.identity import IDENTITY_SIZE, SETTLED, identities, identity, is_settled, mode_of

TWINS = pytest.mark.parametrize(
    "ask",
    [
        module._identities_python,
        pytest.param(
            identities,
            marks=pytest.mark.skipif(
                identities is module._identities_python, reason="the kernel is not compiled"
            ),
        ),
    ],
    ids=["python", "native"],
)
Ask = Callable[[int, bytes], bytes]


def names_in(directory: Path) -> bytes:
    return b"".join(os.fsencode(name) + b"\0" for name in sorted(os.listdir(directory)))


def look(ask: Ask, directory: Path, names: bytes) -> bytes:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return ask(fd, names)
    finally:
        os.close(fd)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with one file of each type, and names that are not text."""
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        fd = os.open(tmp_path, os.O_PATH)
        server.bind(f"/proc/self/fd/{fd}/socket")
        os.close(fd)
    (tmp_path / os.fsdecode(b"\xff\n")).write_bytes(b"")
    os.utime(tmp_path / "file", ns=(0, -5_000_000_001))
    os.utime(tmp_path / "directory", ns=(0, 13_000_000_000_123_456_789))
    return tmp_path


@TWINS
def test_rows_are_those_of_stat(ask: Ask, place: Path) -> None:
    """For files of every type, symlinks themselves, and times before 1970 and far ahead."""
    rows = look(ask, place, names_in(place))
    expected = [identity((place / name).lstat()) for name in sorted(os.listdir(place))]
    assert rows == b"".join(expected)
    modes = [mode_of(rows, at) for at in range(0, len(rows), IDENTITY_SIZE)]
    assert modes == [(place / name).lstat().st_mode for name in sorted(os.listdir(place))]


@TWINS
def test_what_is_not_there_is_zeros(ask: Ask, place: Path) -> None:
    """Missing names, names that are too long and paths through files do not disturb the others."""
    names = [b"missing", b"file", b"x" * 300, b"file/inside", b"link"]
    rows = look(ask, place, b"".join(name + b"\0" for name in names))
    nothing = bytes(IDENTITY_SIZE)
    one, two = identity((place / "file").lstat()), identity((place / "link").lstat())
    assert rows == nothing + one + nothing + nothing + two


@TWINS
def test_no_names(ask: Ask, place: Path) -> None:
    """Nothing was asked, nothing is answered; names that do not end are refused."""
    assert look(ask, place, b"") == b""
    with pytest.raises(ValueError, match="NUL"):
        look(ask, place, b"file\0link")


def rewrite(path: Path) -> None:
    before = path.stat()
    path.write_bytes(b"CONTENT")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path: Path) -> None:
    before = path.stat()
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.rename(other, path)


@pytest.mark.parametrize(
    "change",
    [
        rewrite,
        replace,
        lambda path: path.write_bytes(b"more content"),
        lambda path: path.chmod(0o600),
        lambda path: os.utime(path, ns=(0, 1)),
        lambda path: os.setxattr(path, "user.x", b"y"),
        lambda path: os.rename(path, path.with_name("other")) or path.mkdir(),
    ],
)
def test_every_change_shows(change: Callable[[Path], object], place: Path) -> None:
    """Content with the times set back, another file of the same look, mode, times, attributes, type."""
    path = place / "file"
    before = look(identities, place, b"file\0")
    time.sleep(0.03)  # more than a tick, without which a change may leave no trace
    change(path)
    assert look(identities, place, b"file\0") != before


def test_reading_is_no_change(place: Path) -> None:
    """A file that is read, listed and looked at stays the same."""
    before = look(identities, place, names_in(place))
    (place / "file").read_bytes()
    os.listdir(place / "directory")
    assert stat.S_ISLNK((place / "link").lstat().st_mode)
    assert look(identities, place, names_in(place)) == before


def test_settled_is_a_matter_of_change_time(place: Path) -> None:
    """A file that has just changed is not settled, whatever its modification time says."""
    path = place / "file"
    os.utime(path, ns=(0, 1))
    row = identity(path.lstat())
    now = time.time_ns()
    assert not is_settled(row, now - SETTLED)
    assert is_settled(row, now + SETTLED)
