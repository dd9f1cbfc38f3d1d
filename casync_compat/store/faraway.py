"""Chunks put into a place of files that is far away: many at once, and without a question for each.

Whoever fills a store must know what is there already. Where one request lists a thousand files, a run lists the store
while it works, a page for every few chunks, and asks only about what the listing has not reached. What it says is
believed as long as nobody removes chunks: within a run that holds a lease (`streams.leasing`).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence

from casync_compat.store.base import Put
from casync_compat.store.files import Files, Listed

__all__ = ["Survey", "put_together"]

_PAGE = 1000
_WORTH = 16
"""Questions that a page of a listing may cost."""
_MOST = 100_000
"""Names that are kept; 12 MB."""


class Survey:
    """What a listing says of a place, as far as it has come.

    :param under: the directories that matter
    """

    def __init__(self, files: Files, under: re.Pattern[bytes]) -> None:
        self._files = files
        self._under = under
        self._lock = threading.Lock()
        self._listing: Iterator[Listed] | None = None
        self._names: set[bytes] = set()
        self._reached: bytes | None = b""
        """Up to this name all is known; None for to the end."""
        self._asked = 0
        self._pages = 0

    def has(self, name: bytes) -> bool | None:
        """Whether there is such a file, with something in it; None when that is not known.

        :raises CasyncError: the place cannot be listed
        """
        with self._lock:
            self._asked += 1
            if (
                self._reached is not None
                and self._pages <= self._asked // _WORTH
                and len(self._names) < _MOST
            ):
                self._turn()
            if name in self._names:
                return True
            return False if self._reached is None or name <= self._reached else None

    def add(self, name: bytes) -> None:
        """Know of a file that was written."""
        with self._lock:
            self._names.add(name)

    def _turn(self) -> None:
        """Read a page."""
        if self._listing is None:
            self._listing = self._files.list(under=self._under)
        self._pages += 1
        for _ in range(_PAGE):
            file = next(self._listing, None)
            if file is None:
                self._reached = None
                return
            self._reached = file.name
            if file.size != 0:
                self._names.add(file.name)


def put_together(
    files: Files, survey: Survey | None, chunks: Sequence[tuple[bytes, Callable[[], memoryview]]]
) -> list[Put]:
    """Write files that are not there.

    :param chunks: for each its name, and what gives its content
    """
    first: dict[bytes, int] = {}  # a run of zeros is one chunk again and again
    for number, (name, _) in enumerate(chunks):
        first.setdefault(name, number)
    there = [
        True if first[name] != number else None if survey is None else survey.has(name)
        for number, (name, _) in enumerate(chunks)
    ]
    unclear = [number for number, known in enumerate(there) if known is None]
    found = files.stat_many([chunks[number][0] for number in unclear])
    for number, status in zip(unclear, found, strict=True):
        there[number] = status is not None and status.size > 0
    written = [
        None if known else (name, content()) for known, (name, content) in zip(there, chunks, strict=True)
    ]
    files.write_many([one for one in written if one is not None])
    if survey is not None:
        for one in filter(None, written):
            survey.add(one[0])
    return [Put(False, 0) if one is None else Put(True, one[1].nbytes) for one in written]
