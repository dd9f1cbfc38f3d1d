"""A limit on bytes a second, shared by all that moves any: who has moved some waits until they are paid for.

It knows nothing of connections: `loop` asks it before it looks at a socket, so that what is not read waits at the other
end, as TCP has it.

    >>> limiter = Limiter(1 << 20)
    >>> limiter.spend(len(data))
    >>> time.sleep(limiter.owed())
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["Limiter"]

_SAVED_SECONDS = 0.1
"""What was not used in so short a time may be used afterwards; not what was not used in hours."""

_PIECES = 16
_SMALLEST, _LARGEST = 1 << 10, 1 << 14


class Limiter:
    """May be used from several threads at once.

    :param rate: bytes a second, in both directions together
    :param clock: seconds, that never go back
    """

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        if rate < 1:
            raise ValueError(f"{rate} bytes a second are none")
        self.rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._paid = clock()

    def spend(self, size: int) -> None:
        """So many bytes were moved."""
        with self._lock:
            self._paid = max(self._paid, self._clock() - _SAVED_SECONDS) + size / self.rate

    def owed(self) -> float:
        """Seconds until the next byte may be moved; 0 for at once."""
        with self._lock:
            return max(0.0, self._paid - self._clock())

    @property
    def piece(self) -> int:
        """Bytes to move at once, so that it goes smoothly."""
        return min(max(self.rate // _PIECES, _SMALLEST), _LARGEST)

    @property
    def requests(self) -> int:
        """How many requests there may be at once, so that each of them has its turn before it seems dead."""
        return min(max(self.rate // _LARGEST, 1), _PIECES)
