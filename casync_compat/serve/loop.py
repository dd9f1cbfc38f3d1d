"""An event loop that other threads wake up once, however much they bring it.

asyncio's writes a byte to itself for every `call_soon_threadsafe`, of which a request takes two; where many requests
come at once, that is a tenth of the server's time.
"""

from __future__ import annotations

import asyncio

__all__ = ["ServerLoop"]


class ServerLoop(asyncio.SelectorEventLoop):
    """asyncio's loop. Where Python's own one has no such methods, it is that, unchanged."""

    _woken = False

    def _write_to_self(self) -> None:
        if not self._woken:
            self._woken = True
            super()._write_to_self()  # type: ignore[misc]  # private

    def _read_from_self(self) -> None:
        super()._read_from_self()  # type: ignore[misc]
        # Not before: a byte that is written meanwhile might have been read. What was brought meanwhile without one is
        # in the loop's list already, and that is looked at before the loop waits.
        self._woken = False
