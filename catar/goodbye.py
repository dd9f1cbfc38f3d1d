"""The GOODBYE record: a directory's lookup table, an implicit binary search tree over hashes of its names.

Items are sorted by (hash, offset) and stored in level order of the left-complete tree: item i has its children at
2i + 1 and 2i + 2. Since all offsets count backwards from the record, a directory's bytes do not depend on where it
stands in the archive. Source: casync `src/caformat.h` (`CaFormatGoodbye`), `src/camakebst.c` (permutation); the hash is
SipHash-2-4 with casync's fixed key.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterator
from functools import lru_cache

from siphashc import siphash

from catar.layouts import GOODBYE, GOODBYE_ITEM, GOODBYE_TAIL, HEADER

try:
    from catar._goodbye import goodbye_items
except ImportError:  # built without a C compiler
    goodbye_items = None  # type: ignore[assignment]

__all__ = ["HASH_KEY", "ChildTable", "find", "hash_name", "level_order", "parse_tail", "record_size"]

HASH_KEY = bytes.fromhex("b3841d0f2b447485c12ec2d130ed3627")
"""`CA_FORMAT_GOODBYE_HASH_KEY`."""

_HEAD_SIZE = GOODBYE.head.size
ITEM_SIZE = GOODBYE_ITEM.size
TAIL_SIZE = GOODBYE_TAIL.size

_pack_header = HEADER.writer("size", "type")
_pack_item = GOODBYE_ITEM.writer("offset", "size", "hash")
_read_item = GOODBYE_ITEM.reader("offset", "size", "hash")
_pack_tail = GOODBYE_TAIL.writer("entry_offset", "size")
_read_tail = GOODBYE_TAIL.reader("entry_offset", "size")
_CACHED_ORDERS = 256


def hash_name(name: bytes) -> int:
    """SipHash-2-4 of a file name, without its NUL."""
    return siphash(HASH_KEY, name)


def record_size(count: int) -> int:
    """Size in bytes of the GOODBYE record of a directory with `count` children."""
    return _HEAD_SIZE + ITEM_SIZE * count + TAIL_SIZE


def _level_order(count: int) -> array[int]:
    """For each array position, the rank of the item that belongs there."""
    order = array("Q", bytes(8 * count))
    rank = 0
    stack: list[int] = []
    node = 0
    while stack or node < count:
        while node < count:
            stack.append(node)
            node = 2 * node + 1
        node = stack.pop()
        order[node] = rank
        rank += 1
        node = 2 * node + 2
    return order


_small_order = lru_cache(maxsize=_CACHED_ORDERS)(_level_order)


def level_order(count: int) -> array[int]:
    """Ranks in level order of the left-complete binary search tree with `count` items."""
    return _small_order(count) if count < _CACHED_ORDERS else _level_order(count)


class ChildTable:
    """The children of one open directory, collected while it is written or read.

    Sixteen bytes a child: a directory of a million names stays small.
    """

    __slots__ = ("entry_offset", "hashes", "last_name", "names_seen", "starts")

    def __init__(self, entry_offset: int) -> None:
        """:param entry_offset: offset of the directory's ENTRY record"""
        self.entry_offset = entry_offset
        self.starts = array("Q")
        self.hashes = array("Q")
        self.last_name = b""
        self.names_seen: set[int] | None = None

    def __len__(self) -> int:
        return len(self.starts)

    def add(self, name: bytes, start: int) -> None:
        """Note a child whose FILENAME record is at offset `start`; it ends where the next one, or GOODBYE, begins."""
        self.starts.append(start)
        self.hashes.append(siphash(HASH_KEY, name))
        self.last_name = name

    def add_hashed(self, name: bytes, start: int, hash_: int) -> None:
        """As `add`, when the hash of the name is known."""
        self.starts.append(start)
        self.hashes.append(hash_)
        self.last_name = name

    def is_duplicate(self, name: bytes) -> bool:
        """Whether `name` was added before. Free while names rise; else told by hash alone."""
        if self.names_seen is None:
            if name > self.last_name:
                return False
            self.names_seen = set(self.hashes)
        known = siphash(HASH_KEY, name)
        if known in self.names_seen:
            return True
        self.names_seen.add(known)
        return False

    def add_run(self, starts: bytes, hashes: bytes, last_name: bytes) -> None:
        """Note several children: their offsets and the hashes of their names as `array("Q")` holds them."""
        self.starts.frombytes(starts)
        self.hashes.frombytes(hashes)
        self.last_name = last_name

    def record(self, offset: int) -> bytes:
        """The whole GOODBYE record, when it stands at `offset`."""
        count = len(self.starts)
        size = record_size(count)
        tail = _pack_tail(offset - self.entry_offset, size)
        head = _pack_header(size, GOODBYE.type)
        if not count:
            return head + tail
        if count == 1:
            back = offset - self.starts[0]
            return head + _pack_item(back, back, self.hashes[0]) + tail
        if goodbye_items is not None:
            return head + goodbye_items(offset, self.starts, self.hashes) + tail
        return head + self._items(offset, count) + tail

    def _items(self, offset: int, count: int) -> bytes:
        starts, hashes = self.starts, self.hashes
        # sorted() is stable and offsets rise, so equal hashes stay in order of offset.
        by_hash = sorted(range(count), key=hashes.__getitem__)
        table = array("Q", bytes(ITEM_SIZE * count))
        first, second, third = (GOODBYE_ITEM.column(name) for name in ("offset", "size", "hash"))
        step = len(GOODBYE_ITEM.names)
        for at, rank in enumerate(level_order(count)):
            child = by_hash[rank]
            start = starts[child]
            end = starts[child + 1] if child + 1 < count else offset
            table[step * at + first] = offset - start
            table[step * at + second] = end - start
            table[step * at + third] = hashes[child]
        if sys.byteorder == "big":
            table.byteswap()
        return table.tobytes()


def parse_tail(data: bytes) -> tuple[int, int] | None:
    """`(entry_offset, record size)` from the last bytes of a GOODBYE record, None when they are no such tail."""
    entry_offset, size = _read_tail(data, 0)
    known = GOODBYE_TAIL.has_constants(data, 0)
    if not known or size < record_size(0) or (size - record_size(0)) % ITEM_SIZE:
        return None
    return entry_offset, size


def find(read_item: Callable[[int], bytes], count: int, name: bytes) -> Iterator[tuple[int, int]]:
    """`(offset, size)` of every item whose hash is that of `name`; the caller confirms the name itself.

    :param read_item: gives the bytes of the item at a position, so that no table has to be loaded whole
    :param count: items in the table
    """
    wanted = siphash(HASH_KEY, name)
    stack = [0]
    while stack:
        i = stack.pop()
        if i >= count:
            continue
        offset, size, known = _read_item(read_item(i), 0)
        if known == wanted:
            yield offset, size
            stack += (2 * i + 2, 2 * i + 1)
        else:
            stack.append(2 * i + 1 if wanted < known else 2 * i + 2)
