"""The temporary file: what is set aside comes back, and whatever is wrong with its directory is one error."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casync_compat.errors import FileError
from casync_compat.spool import Appender, Spool, SpoolError

MEMORY = pytest.mark.parametrize("memory", [0, 10, 1000])


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@MEMORY
@given(pieces=st.lists(st.binary(max_size=20), max_size=8), at=st.integers(0, 100), size=st.integers(0, 100))
def test_what_is_appended_is_read(memory: int, pieces: list[bytes], at: int, size: int) -> None:
    """In memory or in a file, at any offset, as much as there is."""
    whole = b"".join(pieces)
    with Spool("a test", memory) as spool:
        for number, piece in enumerate(pieces):
            assert spool.append(piece) == len(b"".join(pieces[:number]))
        assert spool.size == len(whole)
        assert spool.read_at(at, size) == whole[at : at + size]
        room = bytearray(size)
        assert room[: spool.read_into(at, room)] == whole[at : at + size]


def test_room_is_filled_in_any_order() -> None:
    """Who writes from several threads reserves room first."""
    with Spool("a test") as spool:
        first, second = spool.reserve(3), spool.reserve(4)
        spool.write_at(second, b"last")
        spool.write_at(first, b"one")
        assert spool.append(b"!") == 7
        assert spool.read_at(0, 100) == b"onelast!"


def test_small_pieces_are_collected() -> None:
    """They are there after a flush, in order."""
    with Spool("a test") as spool:
        spool.append(b"before")
        appender = Appender(spool)
        for number in range(100_000):
            appender.append(b"%06d" % number)
        appender.flush()
        assert appender.size == spool.size == 600_006
        assert spool.read_at(6 + 6 * 4321, 6) == b"004321"


@MEMORY
def test_it_has_no_name(memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is seen in the directory for temporary files, and closing it lets go of its descriptor."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = os.listdir("/proc/self/fd")
    with Spool("a test", memory) as spool:
        spool.append(bytes(5000))
        assert os.listdir(tmp_path) == []
    assert os.listdir("/proc/self/fd") == before


@MEMORY
def test_a_full_disk(memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the directory, what there was no room for, and what to set."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Spool("chunks", memory) as spool, files_end_at(4096), pytest.raises(SpoolError) as caught:
        spool.append(bytes(5000))
    assert caught.value.errno == errno.EFBIG
    assert str(caught.value).startswith(
        f"{tmp_path}: cannot write a temporary file for chunks (TMPDIR says where): "
    )


def test_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that is not there is said as any file that cannot be made."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "no"))
    with pytest.raises(FileError, match="cannot make a temporary file for packs"):
        Spool("packs")
