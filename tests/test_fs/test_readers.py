"""Archive files and streams as sources of bytes."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from casync_compat.errors import FileError, FormatError
from casync_compat.fs.readers import FileReader, StreamSource, read_whole


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def pipe_with(data: bytes) -> int:
    """The reading end of a pipe that holds these bytes and ends."""
    inlet, outlet = os.pipe()
    os.write(outlet, data)
    os.close(outlet)
    return inlet


# ---- FileReader


def test_reading_at_offsets(tmp_path: Path) -> None:
    """Any range can be read, in any order; past the end there is nothing."""
    data = Random(1).randbytes(100_000)
    (tmp_path / "f").write_bytes(data)
    before = open_files()
    with FileReader(os.fsencode(tmp_path / "f")) as file:
        assert file.seekable
        assert file.size == len(data)
        for at, size in ((0, 10), (99_990, 10), (50_000, 50_000), (0, 100_000), (99_990, 100), (100_000, 5)):
            assert file.read_at(at, size) == data[at : at + size]
        assert file.read_at(1 << 40, 1) == b""
    assert open_files() == before
    file.close()


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: None])
def test_files_that_cannot_be_read(tmp_path: Path, make: object) -> None:
    """Directories and missing files are errors that name them, and nothing stays open."""
    make(tmp_path / "f")  # type: ignore[operator]
    before = open_files()
    with pytest.raises(FileError) as caught:
        FileReader(os.fsencode(tmp_path / "f"))
    assert caught.value.path == os.fsencode(tmp_path / "f")
    assert open_files() == before


def test_a_fifo_does_not_block_the_open(tmp_path: Path) -> None:
    """Opening a fifo that nobody writes returns; it is not seekable."""
    os.mkfifo(tmp_path / "p")
    with FileReader(os.fsencode(tmp_path / "p")) as file:
        assert not file.seekable
        assert file.size == 0
        assert os.get_blocking(file.fd)


def test_a_read_error_names_the_file(tmp_path: Path) -> None:
    """What the kernel refuses to read is an error with the path."""
    (tmp_path / "f").write_bytes(b"x")
    with FileReader(os.fsencode(tmp_path / "f")) as file:
        directory = os.open(tmp_path, os.O_RDONLY)
        os.dup2(directory, file.fd)
        os.close(directory)
        with pytest.raises(FileError, match="f: cannot read: Is a directory"):
            file.read_at(0, 100)


# ---- StreamSource


@pytest.mark.parametrize("skip", [0, 1, 5, 100_000])
def test_streams(tmp_path: Path, skip: int) -> None:
    """A file and a pipe give the same bytes, whether some are skipped or not; passing the end is no error."""
    data = bytes(range(256)) * 200
    (tmp_path / "f").write_bytes(data)
    for fd in (os.open(tmp_path / "f", os.O_RDONLY), pipe_with(data)):
        try:
            source = StreamSource(fd, b"name")
            source.skip(skip)
            got = b""
            while piece := source.read():
                got += piece
            assert got == data[skip:]
            assert source.read() == b""
            os.fstat(fd)  # the descriptor is still the caller's
        finally:
            os.close(fd)


def test_stream_errors_carry_the_name(tmp_path: Path) -> None:
    """A stream that cannot be read is named as the caller said."""
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(FileError, match="that one: cannot read: Is a directory"):
            StreamSource(fd, b"that one").read()
    finally:
        os.close(fd)


# ---- read_whole


def test_whole_files(tmp_path: Path) -> None:
    """All bytes, up to the limit."""
    (tmp_path / "f").write_bytes(b"x" * 5000)
    assert read_whole(os.fsencode(tmp_path / "f"), 5000) == b"x" * 5000
    (tmp_path / "f").write_bytes(b"")
    assert read_whole(os.fsencode(tmp_path / "f"), 5000) == b""


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    """More than the limit is an error, found without reading the rest: a sparse file of a terabyte costs nothing."""
    with open(tmp_path / "f", "wb") as file:
        file.truncate(1 << 40)
    before = open_files()
    with pytest.raises(FormatError, match="larger than 5000 bytes") as caught:
        read_whole(os.fsencode(tmp_path / "f"), 5000)
    assert caught.value.path == os.fsencode(tmp_path / "f")
    assert open_files() == before


def test_whole_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing files and directories are errors that name them."""
    for path, reason in ((tmp_path / "no", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(FileError, match=reason) as caught:
            read_whole(os.fsencode(path), 10)
        assert caught.value.path == os.fsencode(path)


def test_an_open_file_whole(tmp_path: Path) -> None:
    """A descriptor is read to its end, stays open, and is called what one likes."""
    inlet = pipe_with(b"index")
    try:
        assert read_whole(inlet, 5) == b"index"
        assert read_whole(inlet, 5) == b""
    finally:
        os.close(inlet)
    with open("/dev/zero", "rb") as zeros, pytest.raises(FormatError, match="zeros: larger than 10 bytes"):
        read_whole(zeros.fileno(), 10, b"zeros")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(FileError, match="rules: cannot read: Is a directory"):
            read_whole(fd, 10, b"rules")
    finally:
        os.close(fd)
