"""The bytes of a tar recipe that its writer and its reader agree on: head, numbers, kinds of splices, limits.

README.md, "The recipe", explains them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

__all__ = [
    "COPY",
    "FRAME",
    "HEAD",
    "LITERAL",
    "LITERALS_MAX",
    "MAGIC",
    "SKIPPABLE",
    "VERSION",
    "ZEROS",
    "RecipeLimits",
    "Varints",
    "put_varint",
    "zigzag",
]

SKIPPABLE = 0x184D2A5C
"""A frame that zstd decoders pass over (RFC 8878 section 3.1.2), so that the whole blob stays a zstd stream."""
MAGIC = b"tarcatar"
VERSION = 1
HEAD = struct.Struct("<II8sIIQQ32sQQII")
"""Frame magic, size of the rest, magic, version, size of a literal frame, of the tar, of the catar, sha256 of the tar,
bytes of literals, number of splices, compressed size of their list, number of literal frames."""
FRAME = 1 << 20
"""Bytes of literals in a frame of their own, decompressed."""

LITERAL, COPY, ZEROS = 0, 1, 2
"""Kinds of splices."""

LITERALS_MAX = 1 << 32
"""The most bytes that a recipe holds itself: headers of some five million members."""


@dataclass(frozen=True, slots=True)
class RecipeLimits:
    """What a recipe may hold at most; all in bytes.

    :ivar tar: of the tar
    :ivar splices: of the list of splices, decompressed; four million members need some 50 MiB
    :ivar literals: of its own bytes, decompressed; they are never in memory as a whole
    """

    tar: int = 1 << 44
    splices: int = 256 << 20
    literals: int = LITERALS_MAX


def zigzag(value: int) -> int:
    """A signed number as an unsigned one that is small when it is near zero."""
    return value << 1 if value >= 0 else ~(value << 1)


def put_varint(out: bytearray, value: int) -> None:
    """Append a number, seven bits a byte, the lowest first."""
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


class Varints:
    """Reads what `put_varint` wrote."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at

    def next(self) -> int:
        """:raises ValueError: the data end, or the number is beyond 64 bits"""
        data, at = self.data, self.at
        if at >= len(data):
            raise ValueError("its list of splices is cut short")
        value = data[at]
        at += 1
        if value > 0x7F:
            value &= 0x7F
            shift = 7
            while True:
                if at >= len(data) or shift > 63:
                    raise ValueError("its list of splices is cut short or has too large a number")
                byte = data[at]
                at += 1
                value |= (byte & 0x7F) << shift
                if byte <= 0x7F:
                    break
                shift += 7
        self.at = at
        return value
