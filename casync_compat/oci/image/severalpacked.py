"""Packs as a source that gives several chunks for as few requests as make sense, to several threads at once.

`packsource` is for those who know beforehand all that they will read; here nobody does, as where an image is mounted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from casync_compat.errors import ChunkCorrupt
from casync_compat.ids import ChunkId, Digest
from casync_compat.oci.image.packsource import PackSource

__all__ = ["SeveralPacked"]


class SeveralPacked:
    """Packs of an image (a `store.base.FarSource`).

    :param packs: which stay the caller's to close
    :ivar far: whether each request goes a long way
    """

    eager = False

    def __init__(self, packs: PackSource, far: bool) -> None:
        self.name = packs.name
        self.far = far
        self._packs = packs

    def has(self, id: ChunkId) -> bool:
        """See `ChunkSource.has`."""
        return self._packs.has(id)

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        """See `ChunkSource.get`."""
        return self._packs.get(id, digest, limit)

    def get_many(self, wanted: Sequence[tuple[ChunkId, int]], digest: Digest) -> list[bytes]:
        """See `BatchSource.get_many`."""
        found: dict[ChunkId, bytes] = {}
        if self.far and len(wanted) > 1:
            self._packs.get_all([id_ for id_, _ in wanted], digest, found.__setitem__)
        return [self._one(found, id_, digest, limit) for id_, limit in wanted]

    def begin(self, wanted: Sequence[tuple[ChunkId, int]], digest: Digest) -> Callable[[], list[bytes]]:
        """See `FarSource.begin`."""
        return lambda: self.get_many(wanted, digest)

    def _one(self, found: dict[ChunkId, bytes], id_: ChunkId, digest: Digest, limit: int) -> bytes:
        data = found.get(id_)
        if data is None:
            return self._packs.get(id_, digest, limit)
        if len(data) > limit:
            raise ChunkCorrupt(id_, self.name, f"it has {len(data)} bytes, the limit is {limit}")
        return data
