"""Parts of packs, read in few requests: neighbours merged, and more ahead where reading goes straight on.

Chunks that are asked for together are read as ranges, with what lies in small gaps between them. Who reads a pack from
one end to the other, as an extraction does, is noticed by the share that was asked for; then whole blocks are read,
each once and ahead of need, so that a line is full whatever its latency: all at once where the place can do that,
else by those who would wait for one, who read the next ones meanwhile. Who says long before what he needs (`begin`) has
exactly that asked for, and nothing is guessed. No threads of its own.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, pairwise

from casync_compat.store.files import Can
from casync_compat.store.packs.place import PackPlace, View
from casync_compat.store.packs.segment import PackedPlace

__all__ = ["PackGone", "Ranges", "plan"]

_GAP = 64 << 10
"""Bytes between two chunks that are read along: measured to halve the requests of an update for a tenth more bytes."""
_LARGEST = 8 << 20
_AHEAD = 12 << 20
"""Bytes of blocks under way at most; at first, it is twice what was read."""
_KEPT = 2
"""Times as many in memory at most, those under way included."""
_FIRST = 8
"""Blocks ahead when reading begins to go straight on."""
_BLOCK = 2 << 20
_EAGER_BLOCK = 256 << 10
"""Of a place that is asked for many at once: more connections reach their speed sooner."""
_DENSE = 3
"""A pack is read straight on if one byte of so many was asked for."""
_LOOKS = 3
"""Times that a pack must have been read from, before it is known how."""

_Block = tuple[bytes, int]
"""A pack's sha256, and the number of the block in it."""


class _Begun:
    """A block that was asked for, and is taken by the first who needs it."""

    def __init__(self, answer: Callable[[], list[bytes | None]]) -> None:
        self._answer: Callable[[], list[bytes | None]] | None = answer
        self._lock = threading.Lock()
        self._data: bytes | None = None

    def take(self) -> bytes | None:
        """Its content, waited for; None if there is no such block."""
        with self._lock:
            if self._answer is not None:
                self._data = self._answer()[0]
                self._answer = None
            return self._data


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


def _cut(
    places: Sequence[PackedPlace], ranges: Sequence[tuple[bytes, int, int]], parts: Sequence[bytes]
) -> list[bytes]:
    """Chunks out of the ranges that were planned for them, in the order of `places`."""
    found: dict[tuple[bytes, int], bytes] = {}
    wanted = sorted(places, key=lambda at: (at.pack, at.offset))
    at = 0
    for (pack, begin, end), part in zip(ranges, parts, strict=True):
        data = memoryview(part)
        while at < len(wanted) and wanted[at].pack == pack and wanted[at].offset < end:
            offset, stored = wanted[at].offset, wanted[at].stored
            found[pack, offset] = bytes(data[offset - begin : offset - begin + stored])
            at += 1
    return [found[place.pack, place.offset] for place in places]


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
        return self.looks >= _LOOKS and _DENSE * self.asked >= self.end - self.begin


class Ranges:
    """Reads from the packs of a place. May be used from several threads.

    :param place: of the packs
    """

    def __init__(self, place: PackPlace) -> None:
        self._place = place
        self._near = place.files.near
        self._whole = Can.RANGE not in place.files.can
        self._eager = place.files.eager and not self._whole
        self._block_size = 1 << 40 if self._whole else _EAGER_BLOCK if self._eager else _BLOCK
        self._most_ahead = 1 if self._whole else _AHEAD // self._block_size
        self._most = _KEPT * self._most_ahead
        self._changed = threading.Condition()
        self._blocks: OrderedDict[_Block, bytes | _Begun | None] = OrderedDict()
        """Contents, the least used first; None for those that somebody reads."""
        self._taken = 0
        """Blocks that were read since reading goes straight on."""
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
            for key in [key for key, data in self._blocks.items() if isinstance(data, bytes)]:
                del self._blocks[key]

    def read(self, places: Sequence[PackedPlace]) -> list[bytes]:
        """Chunks as they are stored, in the order of `places`.

        :raises PackGone: a pack is not there as it should be
        """
        if len(places) == 1:
            pack, begin, stored, _ = places[0]
            return [self._range(pack, begin, begin + stored)]
        ranges = plan(places)
        return _cut(places, ranges, [self._range(*one) for one in ranges])

    def begin(self, places: Sequence[PackedPlace]) -> Callable[[], list[bytes]]:
        """`read`, of a place that is eager: all is asked for at once, and what is returned waits for it.

        :raises PackGone: from what is returned
        """
        ranges = plan(places)
        wanted = [(self._place.pack_name(pack), begin, end - begin) for pack, begin, end in ranges]
        answers = self._place.files.begin_ranges(wanted)

        def collect() -> list[bytes]:
            parts = []
            for data, (pack, begin, end) in zip(answers(), ranges, strict=True):
                if data is None or len(data) != end - begin:
                    raise PackGone(pack)
                parts.append(data)
            return _cut(places, ranges, parts)

        return collect

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
        size = self._block_size
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
                if straight and not self._straight:
                    self._taken = 0
                self._straight = straight
            there = all(
                (pack, number) in self._blocks for number in range(begin // size, (end - 1) // size + 1)
            )
            return straight or there

    # ---- blocks

    def _block(self, wanted: _Block) -> bytes:
        """A block, read once for all who want it."""
        while True:
            with self._changed:
                data = self._blocks.get(wanted, b"")
                if data and isinstance(data, bytes):
                    self._blocks.move_to_end(wanted)
                    return data
                begun = self._ask(wanted) if self._eager else None
                key: _Block | None = None
                if begun is None:
                    key = wanted if data is not None else self._unread_after(wanted)
                    if key is None:
                        self._changed.wait()
                        continue
                    self._blocks[key] = None
            if begun is not None or key is None:
                assert begun is not None
                return self._taken_from(wanted, begun)
            try:  # who would only wait for it reads another meanwhile
                self._fetch(key)
            except Exception:
                if key == wanted:
                    raise

    def _fetch(self, key: _Block) -> None:
        data: bytes | None = None
        try:
            if self._whole:
                pack = key[0]
                data = self._place.files.read(self._place.pack_name(pack), self._sizes.get(pack, 0))
            else:
                pack, begin, size = self._extent(key)
                data = self._read(pack, begin, size) if size > 0 else None
            if not data:
                raise PackGone(pack)
        finally:
            self._settle(key, data)

    def _settle(self, key: _Block, data: bytes | None) -> None:
        """Keep a block that has come; None for one that has not."""
        with self._changed:
            if data:
                if not isinstance(self._blocks.get(key), bytes):
                    self._taken += 1
                self._blocks[key] = data
                self._blocks.move_to_end(key)
                self._drop()
            else:
                self._blocks.pop(key, None)
            self._changed.notify_all()

    def _extent(self, key: _Block) -> tuple[bytes, int, int]:
        """A block's pack, its offset there and its size."""
        pack, number = key
        begin = number * self._block_size
        return pack, begin, min(self._block_size, self._sizes.get(pack, 0) - begin)

    def _drop(self) -> None:
        if len(self._blocks) > self._most:
            old = next((key for key, data in self._blocks.items() if isinstance(data, bytes)), None)
            if old is not None:
                del self._blocks[old]

    def _ahead(self) -> int:
        """How many blocks to have under way."""
        return min(self._most_ahead, _FIRST + 2 * self._taken)

    def _following(self, wanted: _Block) -> Iterator[_Block]:
        """The blocks behind one, in packs that follow one another."""
        pack, number = wanted
        while True:
            number += 1
            if number * self._block_size >= self._sizes.get(pack, 0):
                following = self._next.get(pack)
                if following is None:
                    return
                pack, number = following, 0
            yield pack, number

    def _unread_after(self, wanted: _Block) -> _Block | None:
        """The first block after one that nobody reads yet; None when enough are under way."""
        if self._whole or sum(data is None for data in self._blocks.values()) >= self._ahead():
            return None
        near = islice(self._following(wanted), self._ahead())
        return next((key for key in near if key not in self._blocks), None)

    # ---- blocks of a place that is eager

    def _ask(self, wanted: _Block) -> _Begun:
        """Ask for a block, and for those behind it."""
        begun = self._blocks.get(wanted)
        if not isinstance(begun, _Begun):
            begun = self._begin(wanted)
        waiting = [key for key, data in self._blocks.items() if isinstance(data, _Begun)]
        for key in waiting[: max(0, len(waiting) - self._most_ahead)]:
            if key != wanted:  # reading went on elsewhere
                del self._blocks[key]
        room = self._ahead() - len(waiting)
        for key in islice(self._following(wanted), self._ahead()):
            if room <= 0:
                break
            if key not in self._blocks:
                self._begin(key)
                room -= 1
        return begun

    def _begin(self, key: _Block) -> _Begun:
        pack, offset, size = self._extent(key)
        if size <= 0:
            raise PackGone(pack)
        name = self._place.pack_name(pack)
        begun = self._blocks[key] = _Begun(self._place.files.begin_ranges([(name, offset, size)]))
        return begun

    def _taken_from(self, key: _Block, begun: _Begun) -> bytes:
        data: bytes | None = None
        pack, _, size = self._extent(key)
        try:
            data = begun.take()
            if data is None or len(data) != size:
                data = None
                raise PackGone(pack)
            return data
        finally:
            self._settle(key, data)
