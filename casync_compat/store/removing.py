"""Chunks that go, many at a time, where a request takes as long for one as for a thousand.

How large files are is known from a listing, so that none of them is asked about. Which chunks may go, and that nobody
writes meanwhile, is not known here (`verbs.gc`, `streams.leasing`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from casync_compat.ids import ChunkId
from casync_compat.store.chunknames import ChunkNames
from casync_compat.store.files import Files, Listed

__all__ = ["Before", "remove_chunks"]

Before: TypeAlias = Callable[[Sequence[ChunkId]], None]
"""Called with chunks that go next; may raise, and they stay."""

_TOGETHER = 1000
"""Chunks that go at once; what S3 takes in a request."""


def remove_chunks(files: Files, names: ChunkNames, ids: Sequence[ChunkId], before: Before) -> int:
    """Remove chunks from a place.

    :param ids: in ascending order, each once
    :returns: bytes freed
    :raises CasyncError: the place could not be read or changed; some chunks may have gone
    """
    together = 1 if files.near else _TOGETHER
    listing = _Listing(files, names) if files.paged and ids else None
    freed = 0
    for start in range(0, len(ids), together):
        some = ids[start : start + together]
        before(some)
        freed += files.remove_many(
            [Listed(name) for id in some for name in names.all_of(id)]
            if listing is None
            else listing.of(some)
        )
    return freed


class _Listing:
    """The files of chunks, as a listing of the whole place gives them, a page after the other."""

    def __init__(self, files: Files, names: ChunkNames) -> None:
        self._found: Iterator[tuple[ChunkId, Listed]] = (
            (id, file) for file in files.list(under=names.under) if (id := names.id_of(file.name)) is not None
        )
        self._ahead = next(self._found, None)

    def of(self, ids: Sequence[ChunkId]) -> list[Listed]:
        """The files of these chunks, which follow those that were asked for before."""
        wanted, last = frozenset(ids), ids[-1]
        found: list[Listed] = []
        while self._ahead is not None and self._ahead[0] <= last:
            if self._ahead[0] in wanted:
                found.append(self._ahead[1])
            self._ahead = next(self._found, None)
        return found
