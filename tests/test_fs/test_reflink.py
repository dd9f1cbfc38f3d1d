"""Sharing blocks: only what is equal is shared, and where nothing can be shared nothing happens."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from grounds import Grounds

from casync_compat.fs.reflink import BlockSharer

BLOCK = 4096
DATA = Random(1).randbytes(64 * BLOCK)


@contextmanager
def target(path: Path, data: bytes) -> Iterator[int]:
    """A file with these bytes, open for writing."""
    path.write_bytes(data)
    fd = os.open(path, os.O_RDWR)
    try:
        yield fd
    finally:
        os.close(fd)


def share(at: Path, old: bytes, new: bytes, *ranges: tuple[int, int, int]) -> int:
    """Share ranges `(source offset, target offset, size)` of two files; how much was shared. Contents must stay."""
    (at / "old").write_bytes(old)
    sharer = BlockSharer()
    with target(at / "new", new) as fd:
        for source_offset, offset, size in ranges:
            sharer.add(os.fsencode(at / "old"), source_offset, fd, offset, size)
        sharer.flush()
    assert (at / "new").read_bytes() == new
    assert (at / "old").read_bytes() == old
    return sharer.shared


@pytest.fixture(params=["btrfs", "xfs"])
def at(request: pytest.FixtureRequest, ground: Grounds) -> Path:
    """A directory on a file system that shares blocks."""
    return ground("reflink", request.param)


@pytest.mark.root
def test_equal_blocks_are_shared(at: Path) -> None:
    """A whole file, and a part of it at another offset that is a multiple of a block away."""
    assert share(at, DATA, DATA, (0, 0, len(DATA))) == len(DATA)
    moved = bytes(BLOCK) + DATA[: 8 * BLOCK]
    assert share(at, DATA, moved, (0, BLOCK, 8 * BLOCK)) == 8 * BLOCK


@pytest.mark.root
def test_ranges_that_touch_are_joined(at: Path) -> None:
    """Chunks have odd sizes: together they cover whole blocks."""
    cuts = [0, 5000, 17_000, 17_001, 60_000, len(DATA)]
    ranges = [(a, a, b - a) for a, b in itertools.pairwise(cuts)]
    assert share(at, DATA, DATA, *ranges) == len(DATA)


@pytest.mark.root
def test_partial_blocks_are_left(at: Path) -> None:
    """Only whole blocks inside a range are shared."""
    assert share(at, DATA, DATA, (100, 100, 3 * BLOCK)) == 2 * BLOCK
    assert share(at, DATA, DATA, (100, 100, BLOCK)) == 0
    assert share(at, DATA, DATA[:BLOCK], (0, 0, BLOCK - 1)) == 0


@pytest.mark.root
def test_odd_distances_cannot_be_shared(at: Path) -> None:
    """Blocks that lie differently in both files are not tried."""
    assert share(at, DATA, b"x" + DATA, (0, 1, len(DATA))) == 0


@pytest.mark.root
def test_different_bytes_are_never_shared(at: Path) -> None:
    """A seed that has changed meanwhile does not change what was extracted."""
    changed = DATA[:BLOCK] + bytes([DATA[BLOCK] ^ 1]) + DATA[BLOCK + 1 :]
    assert share(at, changed, DATA, (0, 0, len(DATA))) < len(DATA)


@pytest.mark.root
def test_a_seed_that_is_shorter_now(at: Path) -> None:
    """Asking for bytes behind its end does nothing."""
    assert share(at, DATA[:BLOCK], DATA, (8 * BLOCK, 8 * BLOCK, 8 * BLOCK)) == 0


def test_where_nothing_can_be_shared(tmp_path: Path) -> None:
    """On other file systems, and for seeds that are gone, links or fifos, contents stay and nothing fails or waits."""
    with target(tmp_path / "plain", DATA):
        pass
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("plain")
    sharer = BlockSharer()
    with target(tmp_path / "new", DATA) as fd:
        for name in ("plain", "plain", "fifo", "link", "gone"):
            sharer.add(os.fsencode(tmp_path / name), 0, fd, 0, len(DATA))
            sharer.flush()
        sharer.flush()
    assert (tmp_path / "new").read_bytes() == DATA


@pytest.mark.root
def test_across_file_systems(ground: Grounds) -> None:
    """Files on different file systems share nothing."""
    at, other = ground("here", "btrfs"), ground("there", "xfs")
    (other / "old").write_bytes(DATA)
    sharer = BlockSharer()
    with target(at / "new", DATA) as fd:
        sharer.add(os.fsencode(other / "old"), 0, fd, 0, len(DATA))
        sharer.flush()
    assert sharer.shared == 0
    assert (at / "new").read_bytes() == DATA
