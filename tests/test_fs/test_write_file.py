"""Payloads with holes: the same bytes always, and zeros take no space."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from compare import holes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from casync_compat.fs.apply.payload import BLOCK, PayloadWriter


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def write(fd: int, pieces: list[bytes], *, punch_holes: bool = True) -> None:
    os.ftruncate(fd, 0)
    writer = PayloadWriter(fd, sum(map(len, pieces)), punch_holes)
    for piece in pieces:
        writer.write(memoryview(piece))
    writer.finish()


def contents(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size + 1, 0)


LENGTHS = [0, 1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 5000]
RUNS = st.lists(st.tuples(st.sampled_from(LENGTHS), st.sampled_from([0, 0, 0, 1])), max_size=8)


@given(st.lists(RUNS, max_size=6), st.booleans())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_contents_are_exact(fd: int, runs: list[list[tuple[int, int]]], punch_holes: bool) -> None:
    """However zeros and piece borders fall, the file holds what was given."""
    pieces = [b"".join(bytes([byte]) * size for size, byte in piece) for piece in runs]
    write(fd, pieces, punch_holes=punch_holes)
    assert contents(fd) == b"".join(pieces)


@pytest.mark.parametrize("piece", [BLOCK, 10_000, 65_536, 1 << 20])
def test_aligned_zero_blocks_are_holes(fd: int, tmp_path: Path, piece: int) -> None:
    """Runs of zero blocks take no space, whatever pieces they come in, at the end of the file too."""
    data = random.Random(1).randbytes(BLOCK)
    whole = data + bytes(40 * BLOCK) + data + bytes(BLOCK) + data * 3 + bytes(9 * BLOCK)
    write(fd, [whole[at : at + piece] for at in range(0, len(whole), piece)])
    assert contents(fd) == whole
    assert holes(tmp_path / "file") == [
        (BLOCK, 41 * BLOCK),
        (42 * BLOCK, 43 * BLOCK),
        (46 * BLOCK, 55 * BLOCK),
    ]


def test_zeros_are_written_on_request(fd: int, tmp_path: Path) -> None:
    """--punch-holes=no writes every byte."""
    write(fd, [bytes(20 * BLOCK)], punch_holes=False)
    assert holes(tmp_path / "file") == []
    assert os.fstat(fd).st_size == 20 * BLOCK


def test_files_of_zeros_only(fd: int, tmp_path: Path) -> None:
    """A file that is one hole has its size."""
    write(fd, [bytes(65536)] * 16)
    assert os.fstat(fd).st_size == 1 << 20
    assert holes(tmp_path / "file") == [(0, 1 << 20)]


def test_small_files_have_no_holes(fd: int, tmp_path: Path) -> None:
    """Less than a block of zeros is written."""
    write(fd, [bytes(BLOCK - 1)])
    assert os.fstat(fd).st_blocks > 0


@pytest.mark.parametrize("pieces", [[b"abc"], [b"ab", b"cd", b"e"], [bytes(5)]])
def test_size_is_checked(fd: int, pieces: list[bytes]) -> None:
    """Neither fewer nor more bytes than announced are taken."""
    writer = PayloadWriter(fd, 4, True)
    with pytest.raises(ValueError, match="payload"):
        for piece in pieces:
            writer.write(memoryview(piece))
        writer.finish()
