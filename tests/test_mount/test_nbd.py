"""A blob as a network block device: what a client of the protocol gets to see."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from casync_compat.errors import ChunkMissing, FileError
from casync_compat.mount.nbd import NbdServer

DATA = bytes(range(256)) * 9 + b"end"
SIZE = 2560
"""Whole sectors."""
FLAGS = 0x103


class Blob:
    size = len(DATA)
    away = False

    def read_at(self, offset: int, size: int) -> bytes:
        if self.away:
            raise ChunkMissing(bytes(32), "the store")
        return DATA[offset : offset + size]


class Client:
    """One connection, after the greeting."""

    def __init__(self, path: Path, flags: int = 3) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(str(path))
        assert self.take(">8s8sH") == (b"NBDMAGIC", b"IHAVEOPT", 3)
        self.socket.sendall(struct.pack(">I", flags))

    def take(self, layout: str) -> tuple[int | bytes, ...]:
        return struct.unpack(layout, self.take_bytes(struct.calcsize(layout)))

    def take_bytes(self, size: int) -> bytes:
        data = self.socket.recv(size, socket.MSG_WAITALL) if size else b""
        assert len(data) == size
        return data

    def option(self, number: int, data: bytes = b"") -> None:
        self.socket.sendall(struct.pack(">8sII", b"IHAVEOPT", number, len(data)) + data)

    def answer(self) -> tuple[int, bytes]:
        magic, _, kind, size = self.take(">QIII")
        assert magic == 0x3E889045565A9
        assert isinstance(kind, int)
        assert isinstance(size, int)
        return kind, self.take_bytes(size)

    def ask(self, kind: int, offset: int, length: int, data: bytes = b"") -> tuple[int, bytes]:
        self.socket.sendall(struct.pack(">IHHQQI", 0x25609513, 0, kind, 7, offset, length) + data)
        magic, error, cookie = self.take(">IIQ")
        assert (magic, cookie) == (0x67446698, 7)
        assert isinstance(error, int)
        return error, self.take_bytes(length if kind == 0 and not error else 0)

    @property
    def is_closed(self) -> bool:
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


@pytest.fixture
def blob() -> Blob:
    return Blob()


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def server(blob: Blob, told: list[str], tmp_path: Path) -> Iterator[Path]:
    with NbdServer(blob, os.fsencode(tmp_path / "s"), told.append):
        yield tmp_path / "s"


@pytest.mark.parametrize("flags", [1, 3])
def test_an_old_handshake(server: Path, flags: int) -> None:
    """A client that only names an export gets the size in whole sectors, and the device is only read."""
    client = Client(server, flags)
    client.option(1, b"any")
    assert client.take(">QH") == (SIZE, FLAGS)
    if flags == 1:
        assert client.take_bytes(124) == bytes(124)
    assert client.ask(0, 0, SIZE) == (0, DATA + bytes(SIZE - len(DATA)))
    assert client.ask(0, 2300, 100) == (0, DATA[2300:] + bytes(100 - len(DATA[2300:])))


def test_a_new_handshake(server: Path) -> None:
    """Options that are not known are refused one by one; asking for the list, for information and to go on works."""
    client = Client(server)
    client.option(8)
    assert client.answer() == (0x80000001, b"")
    client.option(3)
    assert [client.answer() for _ in range(2)] == [(2, bytes(4)), (1, b"")]
    client.option(6, b"x")
    assert client.answer() == (0x80000003, b"")
    for number in (6, 7):
        client.option(number, struct.pack(">I3sH", 3, b"any", 0))
        assert client.answer() == (3, struct.pack(">HQH", 0, SIZE, FLAGS))
        assert client.answer() == (1, b"")
    assert client.ask(0, 512, 10) == (0, DATA[512:522])
    other = Client(server)
    other.option(2)
    assert other.answer() == (1, b"")
    assert other.is_closed


def test_what_cannot_be_done(server: Path, blob: Blob, told: list[str]) -> None:
    """Writes, reads behind the end and other requests are errors, as is a chunk that is away until it is back."""
    client = Client(server)
    client.option(1)
    client.take(">QH")
    assert client.ask(1, 0, 4, b"data")[0] == errno.EPERM
    assert client.ask(0, SIZE, 1)[0] == errno.EINVAL
    assert client.ask(3, 0, 0)[0] == errno.EINVAL
    blob.away = True
    assert client.ask(0, 0, 10)[0] == errno.EIO
    assert told == [f"chunk {'00' * 32} is missing from the store"]
    blob.away = False
    assert client.ask(0, 0, 10) == (0, DATA[:10])
    client.socket.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 2, 7, 0, 0))
    assert client.is_closed


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", struct.pack(">8sII", b"IHAVEOPT", 3, 1 << 30)])
def test_what_is_no_client(server: Path, data: bytes) -> None:
    """What does not speak the protocol, or names megabytes of an option, is hung up on."""
    client = Client(server)
    client.socket.sendall(data)
    assert client.is_closed


def test_a_socket_that_was_left(blob: Blob, tmp_path: Path) -> None:
    """What a server left that was killed is taken away; whatever else is there stays, and the error says what it is."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with NbdServer(blob, os.fsencode(path), print):
        Client(path).socket.close()
        with pytest.raises(FileError, match="another server listens there"):
            NbdServer(blob, os.fsencode(path), print)
    path.write_bytes(b"mine")
    with pytest.raises(FileError, match="something else is there"):
        NbdServer(blob, os.fsencode(path), print)
    assert path.read_bytes() == b"mine"


def test_a_socket_with_a_long_name(blob: Blob, tmp_path: Path) -> None:
    """A path that no socket can have is told so."""
    with pytest.raises(FileError, match="107 bytes at most"):
        NbdServer(blob, os.fsencode(tmp_path / ("n" * 100)), print)


def test_the_socket(blob: Blob, tmp_path: Path) -> None:
    """It is only for its owner, and goes away at the end; what is in its place stays, and is told."""
    path = tmp_path / "s"
    with NbdServer(blob, os.fsencode(path), print) as server:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
        assert not server.wait(0)
        server.stop()
        assert server.wait(20)
        with pytest.raises(FileError):
            NbdServer(blob, os.fsencode(path), print)
        assert path.exists()
    assert not path.exists()
