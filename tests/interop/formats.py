"""A reader of index files for tests that is not the one under test: a page of struct, written from the layout."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

_HEADER = struct.Struct("<8Q")
_ITEM = struct.Struct("<Q32s")


@dataclass(frozen=True, slots=True)
class Index:
    """What an index says: flags, the three chunk sizes, and (end offset, id) of every chunk in order."""

    flags: int
    sizes: tuple[int, int, int]
    chunks: tuple[tuple[int, str], ...]

    @property
    def ids(self) -> list[str]:
        """Chunk ids in order, as hexadecimal text."""
        return [chunk for _, chunk in self.chunks]

    @property
    def lengths(self) -> list[int]:
        """Length of every chunk, in bytes."""
        ends = [end for end, _ in self.chunks]
        return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def read_index(path: Path) -> Index:
    """Read a `.caidx` or `.caibx` file that is known to be good."""
    data = path.read_bytes()
    fields = _HEADER.unpack_from(data)
    items = tuple((end, raw.hex()) for end, raw in _ITEM.iter_unpack(data[64:-40]))
    return Index(fields[2], fields[3:6], items)
