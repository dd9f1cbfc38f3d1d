"""Chunks of a source where nobody says which digest made their ids: it is found by trying, that of the last one first.

>>> AnyDigest(store).get(id, 256 << 10)
b'…'
"""

from __future__ import annotations

from collections.abc import Sequence

from casync_compat.errors import ChunkCorrupt
from casync_compat.ids import ChunkId, Digest, DigestUnavailable
from casync_compat.store.base import ChunkSource

__all__ = ["AnyDigest"]


class AnyDigest:
    """May be used by several threads at once, if the source may.

    :param source: where chunks are
    :param digests: that may have been used
    """

    def __init__(self, source: ChunkSource, digests: Sequence[Digest] = tuple(Digest)) -> None:
        self.source = source
        self._digests = tuple(digests)

    @property
    def likeliest(self) -> Digest:
        """The digest that is tried first; a source is mostly of one kind."""
        return self._digests[0]

    def get(self, id: ChunkId, limit: int) -> bytes:
        """The bytes of a chunk. :param limit: the most it may have

        :raises ChunkCorrupt: it is what no digest says; and other errors of `ChunkSource.get`
        :raises DigestUnavailable: none can be computed here
        """
        wrong: ChunkCorrupt | DigestUnavailable | None = None
        for digest in self._digests:
            try:
                raw = self.source.get(id, digest, limit)
            except ChunkCorrupt as error:
                wrong = wrong if isinstance(wrong, ChunkCorrupt) else error
            except DigestUnavailable as error:
                wrong = wrong or error
            else:
                self._digests = (digest, *(other for other in self._digests if other is not digest))
                return raw
        assert wrong is not None
        raise wrong
