"""The bytes of a tar recipe that its writer and its reader agree on: head, numbers, kinds of splices, limits.

`casync_compat.schema` declares the former, README.md, "The recipe", explains all of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from casync_compat import _layouts
from catar.structs import Fields

__all__ = [
    "COPY",
    "FRAME",
    "HEAD",
    "LITERAL",
    "LITERALS_MAX",
    "SIZE",
    "ZEROS",
    "RecipeLimits",
    "Varints",
    "put_varint",
    "zigzag",
]

HEAD = Fields(*_layouts.RECIPE_HEAD)
SIZE = Fields(*_layouts.RECIPE_FRAME)
"""Of a literal frame, compressed."""
FRAME = int(HEAD.constants["literal_frame"])
"""Bytes of literals in a frame of their own, decompressed."""

LITERAL, COPY, ZEROS = _layouts.RECIPE_LITERAL, _layouts.RECIPE_COPY, _layouts.RECIPE_ZEROS
"""Kinds of splices."""
LITERALS_MAX = _layouts.RECIPE_LITERALS_MAX


@dataclass(frozen=True, slots=True)
class RecipeLimits:
    """What a recipe may hold at most; all in bytes.

    :ivar tar: of the tar
    :ivar splices: of the list of splices, decompressed; four million members need some 50 MiB
    :ivar literals: of its own bytes, decompressed; they are never in memory as a whole
    """

    tar: int = _layouts.RECIPE_TAR_MAX
    splices: int = _layouts.RECIPE_LIST_MAX
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
