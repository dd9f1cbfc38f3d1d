"""Files of a directory, read as far as no disk is needed for them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from casync_compat.errors import FileError
from casync_compat.store.files import FileStatus
from casync_compat.store.local import LocalFiles

CONTENT = bytes(range(256)) * 256


@pytest.fixture
def place(tmp_path: Path) -> LocalFiles:
    """A directory with one file, which was just written."""
    place = LocalFiles(bytes(tmp_path))
    place.write(b"x", CONTENT)
    return place


def test_as_far_as_it_is_wanted(place: LocalFiles) -> None:
    """With what `stat` tells; nothing of what is not there."""
    assert place.in_memory(b"x", 1 << 20) == (place.stat(b"x"), CONTENT)
    assert place.in_memory(b"x", 10) == (place.stat(b"x"), CONTENT[:10])
    assert place.in_memory(b"y", 10) is None


def read(place: LocalFiles) -> tuple[FileStatus, bytes] | int | None:
    """The file, or why not."""
    try:
        return place.in_memory(b"x", 1 << 20)
    except FileError as error:
        return error.errno


def test_what_is_on_the_disk_only(place: LocalFiles, tmp_path: Path) -> None:
    """It is told that; or, where the file system cannot tell, or has kept it nonetheless, it is read."""
    with open(tmp_path / "x", "rb") as file:
        os.fsync(file)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    found = read(place)
    assert found == errno.EAGAIN or (isinstance(found, tuple) and CONTENT.startswith(found[1]))


def test_a_file_system_that_cannot_tell(place: LocalFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is read as ever."""
    preadv = os.preadv

    def unable(fd: int, into: tuple[bytearray], offset: int, flags: int = 0) -> int:
        if flags:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return preadv(fd, into, offset)

    monkeypatch.setattr(os, "preadv", unable)
    assert read(place) == (place.stat(b"x"), CONTENT)
