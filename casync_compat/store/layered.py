"""Several chunk sources behind one name: the first that has a chunk gives it.

This is the ``--store`` and ``--extra-store`` of the command line. It neither copies chunks between its layers (that is
a cache) nor skips a layer that cannot be reached (that is failover).
"""

from __future__ import annotations

from casync_compat.errors import ChunkCorrupt, ChunkMissing
from casync_compat.ids import ChunkId, Digest
from casync_compat.store.base import ChunkSource, Measured, OnDisk

__all__ = ["Layered"]


class Layered:
    """A ChunkSource that asks its layers in order.

    A layer with a damaged chunk is passed over as long as a later one has it whole; the damage is reported only when
    nobody has. Any other error of a layer is the caller's at once: a chunk missing because a store could not be read
    must not look like a chunk that is gone.
    """

    def __init__(self, first: ChunkSource, *others: ChunkSource) -> None:
        self.layers: tuple[ChunkSource, ...] = (first, *others)
        self.name = ", ".join(layer.name for layer in self.layers)

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        damage: ChunkCorrupt | None = None
        for layer in self.layers:
            try:
                return layer.get(id, digest, limit)
            except ChunkMissing:
                continue
            except ChunkCorrupt as e:
                damage = damage or e
        if damage is not None:
            try:
                raise damage
            finally:
                del damage  # or the error and this frame, buffers and all, keep each other alive
        raise ChunkMissing(id, self.name)

    @property
    def own_paths(self) -> tuple[bytes, ...]:
        """Directories of this machine that any layer lies in."""
        return tuple(path for layer in self.layers if isinstance(layer, OnDisk) for path in layer.own_paths)

    def has(self, id: ChunkId) -> bool:
        return any(layer.has(id) for layer in self.layers)

    def stored_size(self, id: ChunkId) -> int | None:
        """What the chunk takes in the first layer that can tell."""
        for layer in self.layers:
            size = layer.stored_size(id) if isinstance(layer, Measured) else None
            if size is not None:
                return size
        return None
