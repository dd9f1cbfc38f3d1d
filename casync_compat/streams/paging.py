"""A file in a place of files at any offset: pages of it, kept; whoever reads straight on has the next ones under way.

    >>> with PagedFile(where, where.files.open_file(where.name, 1 << 16)) as file:
    ...     file.read_at(file.size - 40, 40)

What counts is how often the place is asked, since each time costs a way there and back. So a little more is read than
was asked for; neighbours are read together; and what is known to be needed (`expect`) is asked for at once.
All parts are of one and the same content of the file: where it changes meanwhile, that is an error.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from casync_compat.closing import Closing
from casync_compat.store.files import FileDamaged, Opened, StoredFile
from casync_compat.streams.transfer import OrderedPool

__all__ = ["PAGE", "PagedFile"]

PAGE = 16 << 10
"""Bytes of a page: what is read and kept is whole ones."""

_KEPT = (32 << 20) // PAGE
_BEFORE, _BEHIND = 1, 3
"""Pages to read beside those asked for: tables stand in front of where they are looked up, nodes behind their names."""
_FIRST, _MOST = (128 << 10) // PAGE, (4 << 20) // PAGE
"""Pages to read at once while reading goes straight on: at first, and at most."""
_UNDER_WAY = 4
_SMALL = (512 << 10) // PAGE
"""A file of no more pages is read whole when anything behind its beginning is asked for."""
_GAP = (64 << 10) // PAGE
"""Pages that are read though nobody wants them, so that two parts become one."""
_THREADS = 16

_Pages = dict[int, bytes]


class PagedFile(Closing):
    """A file in a place that gives parts (a `catar.archive.Expecting`). May be used from several threads.

    :param opened: what its beginning was read with
    :raises FileChanged: from `read_at` and `expect`, when it is not the file any more that was opened
    :raises FileDamaged: from the same, when the place gives less of it than there is
    """

    def __init__(self, where: StoredFile, opened: Opened) -> None:
        self._where = where
        self._status = opened.status
        self._size = opened.status.size
        self._count = -(-self._size // PAGE)
        self._lock = threading.Lock()  # of what is kept, and of `_end`
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._end = 0  # the page behind those that were read last
        self._reading = threading.Lock()  # of what follows
        self._pool: OrderedPool[_Pages] | None = None
        self._due = 0  # the first page under way
        self._scheduled = 0  # the first page that is not under way
        self._step = 0
        self._depth = 0
        whole = len(opened.head) if len(opened.head) == self._size else len(opened.head) // PAGE * PAGE
        begun = _cut(0, opened.head[:whole])
        self._keep(begun)
        self._head = self._end = len(begun)

    def close(self) -> None:
        """End what is under way."""
        if self._pool is not None:
            self._pool.discard()
            self._pool.close()
            self._pool = None

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self._size

    def read_at(self, offset: int, size: int) -> bytes:
        """The bytes from `offset` on, `size` of them or as many as there are."""
        size = min(size, self._size - offset)
        if size <= 0:
            return b""
        first, last = offset // PAGE, (offset + size - 1) // PAGE
        pages = self._known(range(first, last + 1))
        missing = [number for number in range(first, last + 1) if number not in pages]
        if missing:
            pages.update(self._load(missing[0], missing[-1]))
        data = pages[first] if first == last else b"".join(pages[n] for n in range(first, last + 1))
        start = offset - first * PAGE
        return data if size == len(data) else data[start : start + size]

    def expect(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Read what will be asked for, an offset and a size each: neighbours together, and all at once."""
        wanted = {
            page
            for offset, size in ranges
            for page in range(offset // PAGE, -(-min(offset + size, self._size) // PAGE))
        }
        missing = sorted(wanted.difference(self._known(wanted)))[: _KEPT // 2]
        parts = _merged(missing)
        if len(parts) == 1:
            self._keep(self._fetch(*parts[0]))
        elif parts:
            with OrderedPool[_Pages](min(len(parts), _THREADS), len(parts)) as pool:
                for part in parts:
                    pool.start(self._fetch, *part)
                for pages in pool.drain():
                    self._keep(pages)

    def _known(self, numbers: Iterable[int]) -> _Pages:
        found = {}
        with self._lock:
            for number in numbers:
                if number in self._kept:
                    found[number] = self._kept[number]
                    self._kept.move_to_end(number)
        return found

    def _keep(self, pages: _Pages) -> None:
        with self._lock:
            self._kept.update(pages)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)

    def _fetch(self, first: int, count: int) -> _Pages:
        where, start = self._where, first * PAGE
        size = min(count * PAGE, self._size - start)
        data = where.files.read_part(where.name, start, size, self._status)
        if len(data) != size:
            raise FileDamaged(where.name, where.files.name, "the server gives less of it than was asked for")
        return _cut(first, data)

    def _load(self, first: int, last: int) -> _Pages:
        """Pages that are not there, and some more."""
        with self._lock:
            straight = first == self._end
        if straight:
            with self._reading:
                pages = self._read_on(first, last)
        else:
            begin, end = max(first - _BEFORE, 0), min(last + 1 + _BEHIND, self._count)
            if self._count <= _SMALL:
                begin, end = min(self._head, first), self._count
            pages = self._fetch(begin, end - begin)
        self._keep(pages)
        with self._lock:
            self._end = max(pages) + 1
        return pages

    def _read_on(self, first: int, last: int) -> _Pages:
        """Pages from what is under way, and more under way behind them."""
        if self._pool is None:
            self._pool = OrderedPool(_UNDER_WAY, _UNDER_WAY)
        if first != self._due:
            self._pool.discard()
            self._due = self._scheduled = first
            self._step, self._depth = _FIRST, 1
        pages: _Pages = {}
        while self._due <= last:
            while len(self._pool) < self._depth and self._scheduled < self._count:
                count = min(self._step, self._count - self._scheduled)
                self._pool.start(self._fetch, self._scheduled, count)
                self._scheduled += count
                self._step = min(2 * self._step, _MOST)
            pages.update(self._pool.take())
            self._due = max(pages) + 1
            self._depth = min(2 * self._depth, _UNDER_WAY)
        return pages


def _cut(first: int, data: bytes) -> _Pages:
    return {first + at // PAGE: data[at : at + PAGE] for at in range(0, len(data), PAGE)}


def _merged(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Runs of pages, each its first and how many, where neighbours that are near have become one."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number - sum(runs[-1]) < _GAP and number - runs[-1][0] < _MOST:
            runs[-1] = (runs[-1][0], number + 1 - runs[-1][0])
        else:
            runs.append((number, 1))
    return runs
