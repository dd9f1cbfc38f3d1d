"""Tars made by hand, header by header, so that every oddity can be asked for; and bytes as views and sinks.

>>> tar = file(b"a", b"hello") + END
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["END", "BytesView", "MemorySink", "header", "padded"]

BLOCK = 512
END = bytes(2 * BLOCK)
USTAR = b"ustar\x0000"
GNU = b"ustar  \0"
V7 = bytes(8)


@dataclass
class BytesView:
    """Bytes at any offset. `reads` counts the calls."""

    data: bytes
    reads: int = 0

    @property
    def size(self) -> int:
        return len(self.data)

    def read_at(self, offset: int, size: int) -> bytes:
        self.reads += 1
        return self.data[offset : offset + size]


@dataclass
class MemorySink:
    """Keeps a stream. Its room is small, so that writers must ask again."""

    data: bytearray = field(default_factory=bytearray)
    buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(100_000)))

    @property
    def written(self) -> int:
        return len(self.data)

    def write(self, data: bytes | memoryview) -> None:
        self.data += data

    def room(self) -> memoryview:
        return self.buffer

    def advance(self, count: int) -> None:
        self.data += self.buffer[:count]

    def write_zeros(self, count: int) -> None:
        self.data += bytes(count)


def padded(data: bytes) -> bytes:
    """Data and zeros up to a whole block."""
    return data + bytes(-len(data) % BLOCK)


def octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)


def base_256(value: int, width: int) -> bytes:
    raw = bytearray((value % (1 << 8 * width)).to_bytes(width, "big"))
    raw[0] |= 0x80
    if value >= 0:
        raw[0] &= 0xBF
    return bytes(raw)


def numeric(value: int, width: int) -> bytes:
    """Octal where it fits, as GNU tar does it."""
    return octal(value, width) if 0 <= value < 8 ** (width - 1) else base_256(value, width)


def header(
    name: bytes,
    size: int = 0,
    typeflag: bytes = b"0",
    *,
    magic: bytes = USTAR,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    mtime: int = 0,
    linkname: bytes = b"",
    device: tuple[int, int] = (0, 0),
    prefix: bytes = b"",
    owner: bytes = b"",
    signed: bool = False,
    fields: Mapping[int, bytes] | None = None,
) -> bytes:
    """One header block.

    :param fields: bytes to put at offsets, after all else but before the checksum
    :param signed: sum up signed bytes, as some old programs do
    """
    block = bytearray(BLOCK)

    def put(at: int, data: bytes) -> None:
        block[at : at + len(data)] = data

    put(0, name[:100])
    put(100, numeric(mode, 8))
    put(108, numeric(uid, 8))
    put(116, numeric(gid, 8))
    put(124, numeric(size, 12))
    put(136, numeric(mtime, 12))
    put(148, b" " * 8)
    put(156, typeflag)
    put(157, linkname[:100])
    put(257, magic)
    if magic != V7:
        put(265, owner[:32])
        put(297, owner[:32])
        put(329, numeric(device[0], 8))
        put(337, numeric(device[1], 8))
        if prefix:
            put(345, prefix[:155])
    for at, data in (fields or {}).items():
        put(at, data)
    total = sum(byte - 256 if signed and byte > 127 else byte for byte in block)
    put(148, b"%06o\0 " % (total % 0o777777))
    return bytes(block)


def file(name: bytes, data: bytes = b"", **options: object) -> bytes:
    return header(name, len(data), **options) + padded(data)  # type: ignore[arg-type]


def directory(name: bytes, **options: object) -> bytes:
    return header(name, 0, b"5", **{"mode": 0o755, **options})  # type: ignore[arg-type]


def symlink(name: bytes, target: bytes, **options: object) -> bytes:
    return header(name, 0, b"2", linkname=target, **{"mode": 0o777, **options})  # type: ignore[arg-type]


def hard_link(name: bytes, target: bytes, **options: object) -> bytes:
    return header(name, 0, b"1", linkname=target, **options)  # type: ignore[arg-type]


def pax_record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest


def pax(records: Iterable[tuple[bytes, bytes]], typeflag: bytes = b"x") -> bytes:
    """An extended header."""
    data = b"".join(pax_record(key, value) for key, value in records)
    return header(b"PaxHeaders/x", len(data), typeflag) + padded(data)


def gnu_long(name: bytes, typeflag: bytes = b"L") -> bytes:
    """A GNU header for a long name (L) or a long link name (K)."""
    data = name + b"\0"
    return header(b"././@LongLink", len(data), typeflag, magic=GNU) + padded(data)


def xattr(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    return b"SCHILY.xattr." + name, value


def libarchive_xattr(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    return b"LIBARCHIVE.xattr." + name, base64.b64encode(value).rstrip(b"=")


# Sparse files. `parts` is a list of (offset, data).

Parts = Sequence[tuple[int, bytes]]


def sparse_old(name: bytes, size: int, parts: Parts, **options: object) -> bytes:
    """The old GNU format: the map in the header and in blocks after it."""
    pairs = [numeric(at, 12) + numeric(len(data), 12) for at, data in parts]
    stored = b"".join(data for _, data in parts)
    first, rest = pairs[:4], pairs[4:]
    fields = {386: b"".join(first), 482: b"\1" if rest else b"\0", 483: numeric(size, 12)}
    out = header(name, len(stored), b"S", magic=GNU, fields=fields, **options)  # type: ignore[arg-type]
    while rest:
        some, rest = rest[:21], rest[21:]
        out += b"".join(some).ljust(504, b"\0") + (b"\1" if rest else b"\0") + bytes(7)
    return out + padded(stored)


def sparse_00(name: bytes, size: int, parts: Parts, **options: object) -> bytes:
    records = [(b"GNU.sparse.size", b"%d" % size), (b"GNU.sparse.numblocks", b"%d" % len(parts))]
    for at, data in parts:
        records += [(b"GNU.sparse.offset", b"%d" % at), (b"GNU.sparse.numbytes", b"%d" % len(data))]
    return pax(records) + file(name, b"".join(data for _, data in parts), **options)


def sparse_01(name: bytes, size: int, parts: Parts, **options: object) -> bytes:
    numbers = b",".join(b"%d,%d" % (at, len(data)) for at, data in parts)
    records = [
        (b"GNU.sparse.size", b"%d" % size),
        (b"GNU.sparse.numblocks", b"%d" % len(parts)),
        (b"GNU.sparse.map", numbers),
        (b"GNU.sparse.name", name),
    ]
    return pax(records) + file(b"GNUSparseFile.0/x", b"".join(data for _, data in parts), **options)


def sparse_10(name: bytes, size: int, parts: Parts, **options: object) -> bytes:
    numbers = [len(parts)]
    for at, data in parts:
        numbers += [at, len(data)]
    found = padded(b"".join(b"%d\n" % number for number in numbers))
    records = [
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", name),
        (b"GNU.sparse.realsize", b"%d" % size),
    ]
    return pax(records) + file(b"GNUSparseFile.0/x", found + b"".join(data for _, data in parts), **options)


SPARSE = {"old": sparse_old, "0.0": sparse_00, "0.1": sparse_01, "1.0": sparse_10}
