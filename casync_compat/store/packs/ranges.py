"""Parts of packs, read in few requests: neighbours merged, and more ahead where reading goes straight on.

Chunks that are asked for together are read as ranges, with what lies in small gaps between them. Who reads a pack from
one end to the other, as an extraction does, is noticed by the share that was asked for; then whole blocks are read,
each once, and those who would wait for one read the next ones meanwhile, so that a line is full whatever its latency.
No threads of its own.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import pairwise

from casync_compat.store.files import Can
from casync_compat.store.packs.place import PackPlace, View
from casync_compat.store.packs.segment import PackedPlace

__all__ = ["PackGone", "Ranges", "plan"]

_GAP = 64 << 10
"""Bytes between two chunks that are read along: measured to halve the requests of an update for a tenth more bytes."""
_LARGEST = 8 << 20
_BLOCK = 2 << 20
_AHEAD = 12
"""Blocks under way at most."""
_KEPT = 24
"""Blocks in memory at most, those under way included."""
_LOOKS = 3
"""Times that a pack must have been read from, before it is known how."""

_Block = tuple[bytes, int]
"""A pack's sha256, and the number of the block in it."""


class PackGone(Exception):
    """A pack that was to be read is not there, or shorter than it should be.

    :ivar sha256: the pack
    """

    def __init__(self, sha256: bytes) -> None:
        super().__init__(sha256)
        self.sha256 = sha256


def plan(places: Iterable[PackedPlace]) -> list[tuple[bytes, int, int]]:
    """The ranges, as pack, begin and end, that these chunks are to be read by; in the order of packs and offsets."""
    out: list[tuple[bytes, int, int]] = []
    for place in sorted(places, key=lambda at: (at.pack, at.offset)):
        end = place.offset + place.stored
        if out:
            pack, begin, last = out[-1]
            if pack == place.pack and place.offset - last <= _GAP and max(last, end) - begin <= _LARGEST:
                out[-1] = (pack, begin, max(last, end))
                continue
        out.append((place.pack, place.offset, end))
    return out


class _Habit:
    """How a pack is read: how often, how many bytes, and between which offsets."""

    __slots__ = ("asked", "begin", "end", "looks")

    def __init__(self) -> None:
        self.looks, self.asked, self.begin, self.end = 0, 0, 1 << 62, 0

    def add(self, begin: int, end: int) -> bool:
        """Whether it is read straight on."""
        self.looks += 1
        self.asked += end - begin
        self.begin, self.end = min(self.begin, begin), max(self.end, end)
        return self.looks >= _LOOKS and 2 * self.asked >= self.end - self.begin


class Ranges:
    """Reads from the packs of a place. May be used from several threads.

    :param place: of the packs
    """

    def __init__(self, place: PackPlace) -> None:
        self._place = place
        self._near = place.files.near
        self._whole = Can.RANGE not in place.files.can
        self._block_size = 1 << 40 if self._whole else _BLOCK
        self._most = 2 if self._whole else _KEPT
        self._changed = threading.Condition()
        self._blocks: OrderedDict[_Block, bytes | None] = OrderedDict()
        """Contents, the least used first; None for those under way."""
        self._under_way = 0
        self._habits: dict[bytes, _Habit] = {}
        self._straight = False
        self._sizes: dict[bytes, int] = {}
        self._next: dict[bytes, bytes] = {}

    def use(self, view: View) -> None:
        """Take over which packs there are."""
        sizes = view.packs()
        following = dict(pairwise(sizes))
        with self._changed:
            self._sizes, self._next = sizes, following

    def forget(self) -> None:
        """Let go of what is kept."""
        with self._changed:
            self._habits.clear()
            for key in [key for key, data in self._blocks.items() if data is not None]:
                del self._blocks[key]

    def read(self, places: Sequence[PackedPlace]) -> list[bytes]:
        """Chunks as they are stored, in the order of `places`.

        :raises PackGone: a pack is not there as it should be
        """
        if len(places) == 1:
            pack, begin, stored, _ = places[0]
            return [self._range(pack, begin, begin + stored)]
        found: dict[tuple[bytes, int], bytes] = {}
        wanted = sorted(places, key=lambda at: (at.pack, at.offset))
        at = 0
        for pack, begin, end in plan(wanted):
            data = memoryview(self._range(pack, begin, end))
            while at < len(wanted) and wanted[at].pack == pack and wanted[at].offset < end:
                offset, stored = wanted[at].offset, wanted[at].stored
                found[pack, offset] = bytes(data[offset - begin : offset - begin + stored])
                at += 1
        return [found[place.pack, place.offset] for place in places]

    def _range(self, pack: bytes, begin: int, end: int) -> bytes:
        if not self._whole and (self._near or not self._is_straight(pack, begin, end)):
            return self._read(pack, begin, end - begin)
        parts = []
        size = self._block_size
        for number in range(begin // size, (end - 1) // size + 1):
            block = self._block((pack, number))
            base = number * size
            parts.append(block[max(begin - base, 0) : end - base])
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        if len(data) != end - begin:
            raise PackGone(pack)
        return data

    def _read(self, pack: bytes, begin: int, size: int) -> bytes:
        data = self._place.files.read_range(self._place.pack_name(pack), begin, size)
        if data is None or len(data) != size:
            raise PackGone(pack)
        return data

    def _is_straight(self, pack: bytes, begin: int, end: int) -> bool:
        with self._changed:
            habit = self._habits.get(pack)
            if habit is None:
                habit = self._habits[pack] = _Habit()
                if len(self._habits) > 1024:
                    del self._habits[next(iter(self._habits))]
            straight = habit.add(begin, end)
            if habit.looks <= _LOOKS and not straight:
                straight = self._straight and habit.begin < _BLOCK  # as the pack before was read
            else:
                self._straight = straight
            return straight

    # ---- blocks

    def _block(self, wanted: _Block) -> bytes:
        """A block, read once for all who want it; who waits for it reads those that follow."""
        while True:
            with self._changed:
                data = self._blocks.get(wanted, b"")
                if data:
                    self._blocks.move_to_end(wanted)
                    return data
                key = wanted if data is not None else self._ahead(wanted)
                if key is None:
                    self._changed.wait()
                    continue
                self._blocks[key] = None
                self._under_way += 1
            try:
                self._fetch(key)
            except Exception:
                if key == wanted:
                    raise

    def _fetch(self, key: _Block) -> None:
        data: bytes | None = None
        pack, number = key
        try:
            if self._whole:
                data = self._place.files.read(self._place.pack_name(pack), self._sizes.get(pack, 0))
            else:
                begin = number * self._block_size
                size = min(self._block_size, self._sizes.get(pack, 0) - begin)
                data = self._read(pack, begin, size) if size > 0 else None
            if not data:
                raise PackGone(pack)
        finally:
            with self._changed:
                self._under_way -= 1
                if data:
                    self._blocks[key] = data
                    self._blocks.move_to_end(key)
                    self._drop()
                else:
                    self._blocks.pop(key, None)
                self._changed.notify_all()

    def _drop(self) -> None:
        if len(self._blocks) > self._most:
            old = next((key for key, data in self._blocks.items() if data is not None), None)
            if old is not None:
                del self._blocks[old]

    def _ahead(self, wanted: _Block) -> _Block | None:
        """The first block after one that nobody reads yet; None when enough are under way."""
        if self._whole or self._under_way >= _AHEAD:
            return None
        pack, number = wanted
        for _ in range(_AHEAD):
            number += 1
            if number * self._block_size >= self._sizes.get(pack, 0):
                following = self._next.get(pack)
                if following is None:
                    return None
                pack, number = following, 0
            if (pack, number) not in self._blocks:
                return pack, number
        return None
