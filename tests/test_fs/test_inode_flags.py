"""Inode attributes behind ioctls, compared with a second implementation (`tests/inodes.py`)."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import inodes
import pytest
from grounds import Grounds

from casync_compat.fs import inode_flags
from catar.flags import CHATTR, FeatureFlags

F = FeatureFlags
ROOT = pytest.mark.root


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


PAIRS = [
    (inodes.APPEND, F.FLAG_APPEND),
    (inodes.DIRSYNC, F.FLAG_DIRSYNC),
    (inodes.IMMUTABLE, F.FLAG_IMMUTABLE),
    (inodes.NOATIME, F.FLAG_NOATIME),
    (inodes.NODUMP, F.FLAG_NODUMP),
    (inodes.SYNC, F.FLAG_SYNC),
]


@ROOT
@pytest.mark.parametrize(("disk", "flag"), PAIRS)
def test_every_flag_both_ways(ground: Grounds, disk: int, flag: int) -> None:
    """Each chattr flag is read as the feature flag that records it, and set by it."""
    at = ground("flags")
    with opened(at) as fd:
        inodes.set_flags(at, disk)
        assert inode_flags.get_flags(fd) == flag
        inode_flags.set_flags(fd, 0, CHATTR)
        assert inodes.flags(at) & inodes.ARCHIVED == 0
        inode_flags.set_flags(fd, int(flag), int(flag))
        assert inodes.flags(at) & inodes.ARCHIVED == disk
        inode_flags.set_flags(fd, 0, CHATTR)


@ROOT
def test_flags_outside_the_mask_stay(ground: Grounds) -> None:
    """A masked write changes only what the mask names, and never what no archive holds."""
    at = ground("masked")
    other = inodes.flags(at)
    inodes.set_flags(at, inodes.NODUMP | inodes.NOATIME)
    with opened(at) as fd:
        inode_flags.set_flags(fd, CHATTR, int(F.FLAG_SYNC))
        inode_flags.set_flags(fd, 0, int(F.FLAG_NOATIME))
    assert inodes.flags(at) == other | inodes.NODUMP | inodes.SYNC


@ROOT
@pytest.mark.parametrize(
    ("disk", "flag"),
    [(inodes.COMPR, F.FLAG_COMPR), (inodes.NOCOMP, F.FLAG_NOCOMP), (inodes.NOCOW, F.FLAG_NOCOW)],
)
def test_flags_of_btrfs(ground: Grounds, disk: int, flag: int) -> None:
    """The flags that only btrfs has."""
    at = ground("btrfs-flags", "btrfs")
    with opened(at) as fd:
        inode_flags.set_flags(fd, int(flag), CHATTR)
        assert inodes.flags(at) & inodes.ARCHIVED == disk
        assert inode_flags.get_flags(fd) == flag


def test_without_support_there_are_none() -> None:
    """Where there are no flags, ids or attributes, reading gives 0 and setting nothing is no error."""
    with opened(Path("/proc/self/status")) as fd:
        assert inode_flags.get_flags(fd) == 0
        assert inode_flags.get_fat(fd) == 0
        assert inode_flags.get_projid(fd) == 0
        assert not inode_flags.has_fat(fd)
        inode_flags.set_flags(fd, 0, CHATTR)
        inode_flags.set_fat(fd, 0, int(F.FLAG_HIDDEN))
        assert not inode_flags.set_projid(fd, 5)
        with pytest.raises(OSError, match=r"."):
            inode_flags.set_flags(fd, int(F.FLAG_NODUMP), CHATTR)
        with pytest.raises(OSError, match=r"."):
            inode_flags.set_fat(fd, int(F.FLAG_HIDDEN), int(F.FLAG_HIDDEN))


def test_file_system_types() -> None:
    """procfs and sysfs are virtual, what the tests run on is not."""
    with opened(Path("/proc")) as fd:
        assert inode_flags.fs_magic(fd) == 0x9FA0
        assert inode_flags.fs_magic(fd) in inode_flags.VIRTUAL_MAGICS
    with opened(Path("/dev")) as fd:
        assert inode_flags.fs_magic(fd) not in inode_flags.VIRTUAL_MAGICS


@ROOT
@pytest.mark.parametrize(
    ("kind", "magic"),
    [
        ("ext4", inode_flags.EXT4_MAGIC),
        ("xfs", inode_flags.XFS_MAGIC),
        ("btrfs", inode_flags.BTRFS_MAGIC),
        ("tmpfs", inode_flags.TMPFS_MAGIC),
        ("vfat", inode_flags.MSDOS_MAGIC),
    ],
)
def test_magic_of_each(ground: Grounds, kind: str, magic: int) -> None:
    """Each file system is told by its number."""
    with opened(ground("magic", kind)) as fd:
        assert inode_flags.fs_magic(fd) == magic
        assert inode_flags.has_fat(fd) == (kind == "vfat")


@ROOT
def test_project_ids(ground: Grounds) -> None:
    """Project ids are read and set as another program does it."""
    at = ground("projid", "xfs")
    with opened(at) as fd:
        assert inode_flags.set_projid(fd, 77)
        assert inodes.project(at) == 77
        inodes.set_project(at, 78)
        assert inode_flags.get_projid(fd) == 78


@ROOT
def test_subvolumes(ground: Grounds) -> None:
    """btrfs subvolumes are created, and made read-only and writable again."""
    at = ground("subvolume", "btrfs")
    with opened(at) as fd:
        inode_flags.create_subvolume(fd, b"sub")
    assert inodes.subvolume(at / "sub") == "subvolume"
    assert (at / "sub").stat().st_ino == inode_flags.BTRFS_SUBVOLUME_INO
    with opened(at / "sub") as fd:
        assert not inode_flags.is_subvolume_read_only(fd)
        inode_flags.set_subvolume_read_only(fd, True)
        assert inodes.subvolume(at / "sub") == "subvolume-ro"
        assert inode_flags.is_subvolume_read_only(fd)
        inode_flags.set_subvolume_read_only(fd, False)
    assert inodes.subvolume(at / "sub") == "subvolume"


def test_subvolumes_need_btrfs(tmp_path: Path) -> None:
    """Elsewhere creating one is an OSError, as is a name that is too long."""
    with opened(tmp_path) as fd:
        for name in (b"x", b"n" * 5000):
            with pytest.raises(OSError, match=r"."):
                inode_flags.create_subvolume(fd, name)


@ROOT
def test_threads_do_not_mix_their_answers(ground: Grounds) -> None:
    """Many threads read different flags at once, and each gets its own."""
    at = ground("threads")
    wrong = []

    def read(number: int) -> None:
        path = at / str(number)
        path.touch()
        inodes.set_flags(path, inodes.NODUMP if number % 2 else 0)
        expected = F.FLAG_NODUMP if number % 2 else 0
        with opened(path) as fd:
            found = {inode_flags.get_flags(fd) for _ in range(2000)}
        if found != {expected}:
            wrong.append(number)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
