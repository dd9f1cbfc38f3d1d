"""How many requests an address may make: a bucket of tokens each. No IO but the clock it is given."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["Paces"]

_ADDRESSES = 10_000
"""Addresses that are remembered; of more, those go that asked longest ago."""


class Paces:
    """All addresses.

    :param rate: requests a second; as many may come at once, after a second without any
    :param clock: seconds, that only grow
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._most = max(1.0, rate)
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def passes(self, address: str) -> bool:
        """Whether a request may be made now; it is counted if so."""
        now = self._clock()
        left, since = self._left.pop(address, (self._most, now))
        left = min(self._most, left + (now - since) * self._rate)
        passes = left >= 1
        self._left[address] = (left - 1 if passes else left, now)
        if len(self._left) > _ADDRESSES:
            self._left.popitem(last=False)
        return passes
