"""Which chunks of a base may stand for our own: those of packs that this program wrote, or looked through.

    >>> chunks = BaseChunks(base, memory)
    >>> chunks.has(id)                  # False where the base only says so

A base says where each chunk lies, and anybody who may write its tag can say so of chunks that are not there, or are
others. A new image that is built upon such packs cannot be read by anybody. So a pack counts when the pack index is
remembered to be one of ours, or when every chunk that it places there was read and has its id; of any other its chunks
are stored anew. What a layer's index and recipe say is not looked at here.
"""

from __future__ import annotations

import hashlib
import threading
from functools import cached_property

from casync_compat.errors import CasyncError
from casync_compat.ids import ChunkId
from casync_compat.oci.image.converted import ConvertedLayers
from casync_compat.oci.image.wrapped import WrappedImage
from casync_compat.oci.spec.descriptor import BlobDigest
from casync_compat.oci.spec.packindex import PackIndex

__all__ = ["BaseChunks", "packs_key"]


def packs_key(pack_index: BlobDigest, digest: str) -> str:
    """What stands for packs all of whose chunks are what their ids say.

    :param digest: the name of what ids are made by
    """
    return hashlib.sha256(f"packs {pack_index} {digest}".encode()).hexdigest()


class BaseChunks:
    """The chunks of a base that were found right. Methods may be called by several threads.

    :param memory: of pack indexes that were written, or looked through, before; told of those that are now
    """

    def __init__(self, base: WrappedImage, memory: ConvertedLayers) -> None:
        self._base = base
        self._memory = memory
        self._key = packs_key(base.wrapper.pack_index.digest, base.config.digest.value)
        self._lock = threading.Lock()
        self._good: dict[int, bool] = {}

    @cached_property
    def _index(self) -> PackIndex | None:
        try:
            return self._base.pack_index
        except CasyncError:
            return None  # a base that cannot be read is none

    @property
    def can_be_read(self) -> bool:
        """Whether there is a pack index at all."""
        return self._index is not None

    @cached_property
    def _remembered(self) -> bool:
        return self._memory.has(self._key)

    def has(self, id: ChunkId) -> bool:
        """Whether the base has a chunk, for sure."""
        with self._lock:
            place = self._index.find(id) if self._index is not None else None
            if place is None:
                return False
            if self._remembered:
                return True
            if place.pack not in self._good:
                self._good[place.pack] = self._is_right(place.pack)
                if len(self._good) == len(self._base.wrapper.packs) and all(self._good.values()):
                    self._memory.add(self._key)
            return self._good[place.pack]

    @cached_property
    def _by_pack(self) -> list[list[ChunkId]]:
        found: list[list[ChunkId]] = [[] for _ in self._base.wrapper.packs]
        for id_, place in self._index or ():
            found[place.pack].append(id_)
        return found

    def _is_right(self, pack: int) -> bool:
        try:
            self._base.packs.get_all(self._by_pack[pack], self._base.config.digest, lambda *_: None)
        except CasyncError:
            return False
        return True
