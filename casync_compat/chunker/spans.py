"""One long buffer cut by several workers: each cuts a span as if a chunk began there, and the results are joined.

Where a chunk ends depends on nothing before its beginning. So once the serial cutter meets a cut that a worker found as
well, all cuts behind it in that span are the serial cutter's too. It meets one soon, because cuts lie where the content
says; where it does not (long runs of one byte), it cuts the span itself, and only time is lost.

    parts = spans(begin, end, 4)
    guesses = [chunker.cuts(buffer, start, stop) for start, stop in parts]       # each on a thread of its own
    assert join(chunker, buffer, begin, end, scanned, parts, guesses) == chunker.cuts(buffer, begin, end, scanned)

Deliberately not here: the threads.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING

from casync_compat.chunker.chunker import Chunker

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["join", "spans"]


def spans(begin: int, end: int, count: int) -> list[tuple[int, int]]:
    """`begin` to `end` in `count` parts of about one length, as `(start, stop)`."""
    length = -(-(end - begin) // count)
    return [(start, min(start + length, end)) for start in range(begin, end, length)] if length else []


def join(
    chunker: Chunker,
    buffer: ReadableBuffer,
    begin: int,
    end: int,
    scanned: int,
    parts: Sequence[tuple[int, int]],
    guesses: Sequence[Sequence[int]],
) -> list[int]:
    """What ``chunker.cuts(buffer, begin, end, scanned)`` gives, from what workers found.

    :param parts: spans in ascending order, within `begin` and `end`
    :param guesses: for each span, the cuts that a chunker with the same sizes found from its start to its stop
    :raises UsageError: as :meth:`Chunker.cuts`
    """
    cuts: list[int] = []
    at = begin
    step = chunker.sizes.max
    for (start, stop), guess in zip(parts, guesses, strict=True):
        looked = max(scanned, at)
        while at < stop:
            place = bisect_left(guess, at)
            if at == start or (place < len(guess) and guess[place] == at):
                rest = guess[place:] if at == start else guess[place + 1 :]
                cuts += rest
                at = rest[-1] if rest else at
                break  # the next cut from here on lies behind this span
            # On, no further than the one chunk that begins here can reach.
            reach = min(at + step, end)
            found = chunker.cuts(buffer, at, reach, min(looked, reach))
            if not found:
                break
            at = looked = found[0]
            cuts.append(at)
    # The unfinished chunk of the last span, and whatever no span covered.
    return cuts + chunker.cuts(buffer, at, end, max(scanned, at))
