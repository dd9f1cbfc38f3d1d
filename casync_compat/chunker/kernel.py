"""The cut finder in Python: reference and stand-in for the compiled ``_kernel``, with the same signature.

It does not know averages or fixed sizes; :class:`casync_compat.chunker.Chunker` does.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from casync_compat.chunker.table import BUZHASH_TABLE, WINDOW_SIZE

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["buzhash", "roll", "scan"]

_MASK = 0xFFFFFFFF


def _rol(word: int, count: int) -> int:
    return (word << count | word >> (32 - count)) & _MASK


# A byte leaves the hash after WINDOW_SIZE rotations, and 48 rotations of 32 bits are 16.
_LEAVING = tuple(_rol(word, WINDOW_SIZE % 32) for word in BUZHASH_TABLE)


def buzhash(window: ReadableBuffer) -> int:
    """The hash of a window of 48 bytes, from nothing."""
    value = 0
    for byte in memoryview(window):
        value = _rol(value, 1) ^ BUZHASH_TABLE[byte]
    return value


def roll(value: int, leaving: int, entering: int) -> int:
    """The hash of the window one byte further on."""
    return _rol(value, 1) ^ _LEAVING[leaving] ^ BUZHASH_TABLE[entering]


def scan(
    buffer: ReadableBuffer, begin: int, scanned: int, end: int, min: int, max: int, discriminator: int, /
) -> list[int]:
    """Where the chunks in ``buffer[begin:end]`` end, the first of them starting at `begin`; offsets in bytes.

    A chunk ends at the first length of at least `min` and 48 at which the hash of its last 48 bytes leaves the
    remainder ``discriminator - 1``, or else at length `max`. Ends up to `scanned` are known not to be cuts.

    :raises ValueError: an argument is out of range
    """
    view = memoryview(buffer).cast("B")
    _check(len(view), begin, scanned, end, min, max, discriminator)
    cuts: list[int] = []
    shortest = min if min > WINDOW_SIZE else WINDOW_SIZE
    while end - begin >= shortest:
        first = begin + shortest
        if first <= scanned:
            first = scanned + 1
        forced = end - begin >= max
        last = begin + max if forced else end
        cut = _find(view, first, last, discriminator) or (last if forced else 0)
        if not cut:
            break
        cuts.append(cut)
        begin = cut
    return cuts


def _check(size: int, begin: int, scanned: int, end: int, min: int, max: int, discriminator: int) -> None:
    if not 0 <= begin <= end <= size:
        raise ValueError("begin and end must lie within the buffer, in that order")
    if min < 1 or max < min or max < WINDOW_SIZE:
        raise ValueError("min must be at least 1, max at least min and 48")
    if any(not -sys.maxsize - 1 <= number <= sys.maxsize for number in (scanned, max, discriminator)):
        raise ValueError("a number does not fit the machine")
    if scanned > end or scanned - begin >= max:
        raise ValueError("scanned must not lie behind end, nor behind the longest chunk")
    if not 1 <= discriminator <= _MASK:
        raise ValueError("discriminator must be within 1 and 4294967295")


def _find(view: memoryview, first: int, last: int, discriminator: int) -> int:
    """The first of the ends first .. last where the hash says cut, or 0. Reads from 48 bytes before first."""
    if first > last:
        return 0
    table, leaving, remainder = BUZHASH_TABLE, _LEAVING, discriminator - 1
    value = buzhash(view[first - WINDOW_SIZE : first])
    if value % discriminator == remainder:
        return first
    pairs = zip(view[first - WINDOW_SIZE : last - WINDOW_SIZE], view[first:last], strict=True)
    # roll(), written out: a call a byte would halve the speed.
    for position, (out, entering) in enumerate(pairs, first + 1):
        value = ((value << 1 | value >> 31) & _MASK) ^ leaving[out] ^ table[entering]
        if value % discriminator == remainder:
            return position
    return 0
