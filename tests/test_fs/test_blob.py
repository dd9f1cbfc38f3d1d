"""Blobs: files, devices and streams read front to back."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from filesystems import FileSystems

from casync_compat.errors import FileError
from casync_compat.fs.blob import BlobInput, file_system_size

Build = Callable[[bytearray], None]


def put(data: bytearray, at: int, layout: str, *values: int) -> None:
    struct.pack_into(layout, data, at, *values)


def squashfs(used: int) -> Build:
    def build(head: bytearray) -> None:
        head[:4] = b"hsqs"
        put(head, 40, "<Q", used)

    return build


def ext(blocks: int, log_size: int) -> Build:
    def build(head: bytearray) -> None:
        put(head, 1080, "<H", 0xEF53)
        put(head, 1028, "<I", blocks)
        put(head, 1048, "<I", log_size)

    return build


def fat(sector: int, few: int, many: int) -> Build:
    def build(head: bytearray) -> None:
        put(head, 510, "<H", 0xAA55)
        put(head, 11, "<H", sector)
        put(head, 19, "<H", few)
        put(head, 32, "<I", many)

    return build


def android(kernel: int, ramdisk: int, second: int, page: int) -> Build:
    def build(head: bytearray) -> None:
        head[:8] = b"ANDROID!"
        for at, value in ((8, kernel), (16, ramdisk), (24, second), (36, page)):
            put(head, at, "<I", value)

    return build


def both(*parts: Build) -> Build:
    def build(head: bytearray) -> None:
        for part in parts:
            part(head)

    return build


# Observed with casync 2 making indexes of loop devices of 1 MiB that begin so; None is the whole device.
SIZES: tuple[tuple[str, Build, int | None], ...] = (
    ("squashfs is rounded up to 4 KiB", squashfs(5000), 8192),
    ("squashfs that is even", squashfs(8192), 8192),
    ("ext with blocks of 1 KiB", ext(100, 0), 102_400),
    ("ext with blocks of 4 KiB", ext(50, 2), 204_800),
    ("ext with blocks of 128 KiB", ext(7, 7), 917_504),
    ("FAT with few sectors", fat(512, 1000, 0), 512_000),
    ("FAT with many sectors", fat(512, 0, 1500), 768_000),
    ("FAT with both numbers: the small one counts", fat(512, 700, 1500), 358_400),
    ("FAT with sectors of 4 KiB", fat(4096, 100, 0), 409_600),
    ("FAT with odd sectors is none", fat(500, 100, 0), None),
    ("FAT without sectors is none", fat(512, 0, 0), None),
    ("a boot sector without a sector size is none", fat(0, 100, 0), None),
    ("Android", android(5000, 3000, 0, 2048), 12_288),
    ("Android with a second stage", android(5000, 3000, 9, 4096), 20_480),
    ("Android without anything", android(0, 0, 0, 2048), 2048),
    ("Android with small pages", android(1000, 0, 0, 256), 1792),
    ("Android without a page size is none", android(100, 0, 0, 0), None),
    ("Android with odd pages is none", android(1000, 0, 0, 3000), None),
    ("FAT comes before ext", both(fat(512, 1000, 0), ext(100, 0)), 512_000),
    ("an empty FAT gives way to ext", both(fat(512, 0, 0), ext(100, 0)), 102_400),
    ("squashfs comes before FAT", both(squashfs(5000), fat(512, 1000, 0)), 8192),
    ("nothing", both(), None),
)


@pytest.mark.parametrize(("build", "size"), [row[1:] for row in SIZES], ids=[row[0] for row in SIZES])
def test_sizes_of_file_systems(build: Build, size: int | None) -> None:
    """The size in a superblock is what casync takes it to be."""
    head = bytearray(4096)
    build(head)
    assert file_system_size(bytes(head)) == size


@pytest.mark.parametrize("build", [squashfs(0), ext(0, 0)])
def test_empty_file_systems_are_none(build: Build) -> None:
    """A superblock that says 0 bytes does not make a device empty, which it would in casync: that would lose data."""
    head = bytearray(4096)
    build(head)
    assert not file_system_size(bytes(head))


def test_short_heads_are_no_file_system() -> None:
    """Less than a page says nothing."""
    head = bytearray(4095)
    squashfs(5000)(head)
    assert file_system_size(bytes(head)) is None


@pytest.mark.parametrize("seed", range(50))
def test_any_head_gives_a_size_or_none(seed: int) -> None:
    """Random bytes behind a magic never fail."""
    import random

    head = bytearray(random.Random(seed).randbytes(4096))
    for at, magic in ((0, (b"hsqs", b"ANDROID!", b"")[seed % 3]), (510, b"\x55\xaa"), (1080, b"\x53\xef")):
        head[at : at + len(magic)] = magic
    size = file_system_size(bytes(head))
    assert size is None or size >= 0


# ---- reading


def read_all(blob: BlobInput, piece: int = 1000) -> bytes:
    buffer = memoryview(bytearray(piece))
    out = b""
    while count := blob.read_into(buffer):
        out += buffer[:count]
    return out


def test_a_file(tmp_path: Path) -> None:
    """A file has a size and a mode, and comes whole."""
    data = Random(1).randbytes(12_345)
    (tmp_path / "blob").write_bytes(data)
    os.chmod(tmp_path / "blob", 0o640)
    with BlobInput(os.fsencode(tmp_path / "blob")) as blob:
        assert blob.size == len(data)
        assert blob.mode & 0o7777 == 0o640
        assert read_all(blob) == data
        assert blob.read_into(memoryview(bytearray(1))) == 0


def test_regular_files_are_never_shortened(tmp_path: Path) -> None:
    """The size in a superblock counts for devices only."""
    head = bytearray(20_000)
    ext(5, 0)(head)
    (tmp_path / "disk").write_bytes(head)
    with BlobInput(os.fsencode(tmp_path / "disk")) as blob:
        assert len(read_all(blob)) == 20_000


def test_what_is_appended_meanwhile_is_left(tmp_path: Path) -> None:
    """A file that grows is read to the size that it had."""
    path = tmp_path / "blob"
    path.write_bytes(b"x" * 2000)
    with BlobInput(os.fsencode(path)) as blob:
        blob.read_into(memoryview(bytearray(1000)))
        path.write_bytes(b"x" * 3000)
        assert len(read_all(blob)) == 1000


def test_a_file_that_shrinks(tmp_path: Path) -> None:
    """A file that turns out shorter is an error that names it."""
    path = tmp_path / "blob"
    path.write_bytes(b"x" * 2000)
    with pytest.raises(FileError) as caught, BlobInput(os.fsencode(path)) as blob:
        blob.read_into(memoryview(bytearray(1000)))
        os.truncate(path, 1500)
        read_all(blob)
    assert caught.value.path == os.fsencode(path)
    assert "shrank by 500 bytes" in str(caught.value)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    """A directory makes no blob; the error says what it makes, and nothing stays open."""
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileError, match=r"it is a directory; a tree makes a \.caidx or \.catar"):
        BlobInput(os.fsencode(tmp_path)).__enter__()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_missing_file(tmp_path: Path) -> None:
    """The error names it."""
    with pytest.raises(FileError, match="nowhere: cannot open: No such file"):
        BlobInput(os.fsencode(tmp_path / "nowhere")).__enter__()


@pytest.mark.root
def test_a_device_is_read_to_the_end_of_its_file_system(filesystems: FileSystems) -> None:
    """A block device with a file system has the size that the superblock says, and its bytes come from the device."""
    at = filesystems.directory("ext4")
    device = next(
        line.split()[0]
        for line in Path("/proc/self/mounts").read_text().splitlines()
        if line.split()[1] == str(at)
    )
    with open(device, "rb") as raw, BlobInput(os.fsencode(device)) as blob:
        head = raw.read(4096)
        assert blob.size == file_system_size(head)
        assert stat.S_ISBLK(blob.mode)
        buffer = memoryview(bytearray(4096))
        assert blob.read_into(buffer) == 4096
        assert bytes(buffer[1024:]) == head[1024:]


class _Stdin:
    """Puts a descriptor in the place of standard input for a while."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __enter__(self) -> None:
        self.old = os.dup(0)
        os.dup2(self.fd, 0)

    def __exit__(self, *error: object) -> None:
        os.dup2(self.old, 0)
        os.close(self.old)
        os.close(self.fd)


def test_a_pipe() -> None:
    """Standard input may be a pipe: there is no size, and everything up to its end is read."""
    inlet, outlet = os.pipe()
    os.write(outlet, b"through" * 1000)
    os.close(outlet)
    with _Stdin(inlet), BlobInput(None) as blob:
        assert blob.size is None
        assert read_all(blob) == b"through" * 1000
        assert blob.path == b"standard input"


def test_standard_input_from_where_it_stands(tmp_path: Path) -> None:
    """A file as standard input is read from its current offset, and left open."""
    (tmp_path / "blob").write_bytes(b"0123456789")
    fd = os.open(tmp_path / "blob", os.O_RDONLY)
    os.lseek(fd, 4, os.SEEK_SET)
    with _Stdin(fd):
        with BlobInput(None) as blob:
            assert blob.size == 6
            assert read_all(blob) == b"456789"
        assert os.fstat(0).st_size == 10


def test_a_directory_as_standard_input(tmp_path: Path) -> None:
    """It is refused, and standard input stays open."""
    with _Stdin(os.open(tmp_path, os.O_RDONLY)):
        with pytest.raises(FileError, match="standard input: cannot read: it is a directory"):
            BlobInput(None).__enter__()
        os.fstat(0)


def test_holes_are_told_from_data(tmp_path: Path) -> None:
    """Holes and data together are the file, and no hole is read."""
    path = tmp_path / "sparse"
    with open(path, "wb") as file:
        file.truncate(10 << 20)
        for at in (0, 3 << 20, (7 << 20) + 123):
            file.seek(at)
            file.write(b"data" * 1000)
    with BlobInput(os.fsencode(path)) as blob:
        out = bytearray()
        read = 0
        buffer = memoryview(bytearray(1 << 20))
        while True:
            hole = blob.take_hole()
            if hole:
                out += bytes(hole)
            elif count := blob.read_into(buffer):
                read += count
                out += buffer[:count]
            else:
                break
    assert out == path.read_bytes()
    assert read < 1 << 20


def test_files_without_holes_have_none(tmp_path: Path) -> None:
    """Zeros that are written are data."""
    path = tmp_path / "dense"
    path.write_bytes(bytes(100_000))
    with BlobInput(os.fsencode(path)) as blob:
        assert blob.take_hole() == 0
        assert read_all(blob) == bytes(100_000)
        assert blob.take_hole() == 0


@pytest.mark.parametrize("size", [0, 1 << 20, (8 << 20) - 1])
def test_a_sparse_file_that_shrinks(tmp_path: Path, size: int) -> None:
    """The room behind a new end is not taken for the rest of a hole: it is an error, as for any file."""
    path = tmp_path / "blob"
    path.write_bytes(b"x" * 4096)
    os.truncate(path, 8 << 20)
    with pytest.raises(FileError, match="shrank by"), BlobInput(os.fsencode(path)) as blob:
        blob.read_into(memoryview(bytearray(4096)))
        os.truncate(path, size)
        while blob.take_hole() or blob.read_into(memoryview(bytearray(65536))):
            pass
