"""Stretches of a stream that its reader will most likely pass over, so that nothing in them is fetched ahead.

    >>> gaps = Gaps([(100, 200), (200, 300)])
    >>> gaps.begin(); gaps.stop(50)
    100

Whether they are passed over turns out when reading stops there. Who reads on has them all the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from casync_compat.index import IndexChunk

__all__ = ["Gaps"]


class Gaps:
    """Offsets where stretches start and end, in their order."""

    def __init__(self, stretches: Iterable[tuple[int, int]] = ()) -> None:
        self._left = deque(stretches)
        self._ahead: deque[tuple[int, int]] = deque()

    def __bool__(self) -> bool:
        return bool(self._left)

    def begin(self) -> None:
        """What `has` is asked next comes in order again, from anywhere."""
        self._ahead.clear()
        for start, end in self._left:
            if self._ahead and self._ahead[-1][1] == start:  # a chunk may lie in both
                start = self._ahead.pop()[0]
            self._ahead.append((start, end))

    def has(self, chunk: IndexChunk) -> bool:
        """Whether a chunk lies wholly in one, or in several that follow each other. To be asked in order."""
        ahead = self._ahead
        while ahead and ahead[0][1] <= chunk.start:
            ahead.popleft()
        return bool(ahead) and ahead[0][0] <= chunk.start and chunk.end <= ahead[0][1]

    def stop(self, at: int) -> int | None:
        """Where the next one starts behind an offset; None when there is none."""
        while self._left and self._left[0][0] <= at:
            self._left.popleft()
        return self._left[0][0] if self._left else None

    def starts_at(self, at: int) -> bool:
        """Whether one starts at an offset; those before it are over."""
        while self._left and self._left[0][0] < at:
            self._left.popleft()
        return bool(self._left) and self._left[0][0] == at

    def clear(self) -> None:
        """They are not what is passed over."""
        self._left.clear()
        self._ahead.clear()
