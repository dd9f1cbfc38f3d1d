"""Packets of SFTP, version 3, and of OpenSSH's extensions to it. Sans-IO.

Version 3 is draft-ietf-secsh-filexfer-02, which every server speaks; the extensions are in OpenSSH's `PROTOCOL`.
Numbers are big-endian here, unlike anywhere else in this package.

    >>> reader = PacketReader()
    >>> reader.receive(packet(PacketKind.VERSION, number(3)))
    >>> reader.next_packet()
    Packet(kind=<PacketKind.VERSION: 2>, body=b'\\x00\\x00\\x00\\x03')
"""

from __future__ import annotations

import enum
import stat
import struct
from typing import NamedTuple

from casync_compat.errors import FormatError, show_path
from catar.inbox import Inbox

__all__ = [
    "Attributes",
    "Open",
    "Packet",
    "PacketBody",
    "PacketKind",
    "PacketReader",
    "Status",
    "long",
    "number",
    "packet",
    "permissions",
    "string",
]

_HEAD = struct.Struct(">IB")
_NUMBER = struct.Struct(">I")
_LONG = struct.Struct(">Q")
_MOST = 1 << 20
"""Bytes of a packet; OpenSSH sends at most 256 KiB (`SFTP_MAX_MSG_LENGTH`)."""
_SHOWN = 60


class PacketKind(enum.IntEnum):
    """What a packet is (`SSH_FXP_…`)."""

    INIT = 1
    VERSION = 2
    OPEN = 3
    CLOSE = 4
    READ = 5
    WRITE = 6
    FSTAT = 8
    OPENDIR = 11
    READDIR = 12
    REMOVE = 13
    MKDIR = 14
    RMDIR = 15
    STAT = 17
    RENAME = 18
    STATUS = 101
    HANDLE = 102
    DATA = 103
    NAME = 104
    ATTRS = 105
    EXTENDED = 200
    EXTENDED_REPLY = 201


class Status(enum.IntEnum):
    """How a request ended (`SSH_FX_…`); others are failures, too."""

    OK = 0
    EOF = 1
    NO_SUCH_FILE = 2
    PERMISSION_DENIED = 3
    FAILURE = 4


class Open(enum.IntFlag):
    """How a file is opened (`SSH_FXF_…`)."""

    READ = 1
    WRITE = 2
    CREATE = 8
    EXCLUSIVE = 32


class Packet(NamedTuple):
    """A packet; its number, where it has one, is the first of the body."""

    kind: PacketKind
    body: bytes


class Attributes(NamedTuple):
    """What is known of a file; None for what was not said.

    :ivar modified: in seconds since 1970
    """

    size: int | None
    mode: int | None
    modified: int | None

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file; one that is said nothing of is."""
        return self.mode is None or not stat.S_IFMT(self.mode) or stat.S_ISREG(self.mode)

    @property
    def is_directory(self) -> bool:
        return self.mode is not None and stat.S_ISDIR(self.mode)


def number(value: int) -> bytes:
    """A number of 32 bits."""
    return _NUMBER.pack(value)


def long(value: int) -> bytes:
    """A number of 64 bits."""
    return _LONG.pack(value)


def string(value: bytes | memoryview) -> bytes:
    """Bytes, with how many they are."""
    return b"".join((_NUMBER.pack(len(value)), value))


def permissions(mode: int) -> bytes:
    """Attributes that say nothing but permissions."""
    return number(_PERMISSIONS) + number(mode)


def packet(kind: PacketKind, body: bytes) -> bytes:
    """A packet as bytes."""
    return _HEAD.pack(1 + len(body), kind) + body


_SIZE, _OWNER, _PERMISSIONS, _TIMES, _EXTENDED = 1, 2, 4, 8, 1 << 31


class PacketBody:
    """The body of a packet, read from its beginning.

    :raises FormatError: from every method, where it is too short
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def _take(self, layout: struct.Struct) -> int:
        try:
            (value,) = layout.unpack_from(self._data, self._at)
        except struct.error:
            raise FormatError("a packet is too short") from None
        self._at += layout.size
        return int(value)

    def number(self) -> int:
        """A number of 32 bits."""
        return self._take(_NUMBER)

    def long(self) -> int:
        """A number of 64 bits."""
        return self._take(_LONG)

    def string(self) -> bytes:
        """Bytes."""
        size = self._take(_NUMBER)
        found = self._data[self._at : self._at + size]
        if len(found) != size:
            raise FormatError("a packet is too short")
        self._at += size
        return found

    @property
    def left(self) -> int:
        """Bytes that were not read."""
        return len(self._data) - self._at

    def attributes(self) -> Attributes:
        """What is known of a file."""
        flags = self.number()
        size = self.long() if flags & _SIZE else None
        if flags & _OWNER:
            self.long()
        mode = self.number() if flags & _PERMISSIONS else None
        modified = None
        if flags & _TIMES:
            self.number()
            modified = self.number()
        if flags & _EXTENDED:
            for _ in range(2 * min(self.number(), _MOST)):
                self.string()
        return Attributes(size, mode, modified)


class PacketReader:
    """Makes packets of bytes that come in any pieces."""

    def __init__(self) -> None:
        self._inbox = Inbox(0)

    def receive(self, data: bytes) -> None:
        """Add bytes; none says that there are no more."""
        self._inbox.receive(data)

    def next_packet(self) -> Packet | None:
        """The next packet; None when it is not there whole.

        :raises FormatError: there is something else
        """
        inbox = self._inbox
        if not inbox.has(_HEAD.size):
            return None
        size, code = _HEAD.unpack_from(inbox.data, inbox.pos)
        try:
            kind = PacketKind(code)
        except ValueError:
            kind = None
        if kind is None or not 5 <= size <= _MOST:
            raise FormatError(f"this is no packet of SFTP: {show_path(inbox.rest()[:_SHOWN])}")
        if not inbox.has(4 + size):
            return None
        body = inbox.data[inbox.pos + _HEAD.size : inbox.pos + 4 + size]
        inbox.pos += 4 + size
        return Packet(kind, body)
