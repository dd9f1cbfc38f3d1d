"""Chunks of a source as answers of casync's protocol, each checked before it is sent.

What lies near as a compressed file is sent as it is stored; everything else - plain files, packs, what is encrypted or
far away - is had from the source, which checks it, and compressed anew. Where no index says which digest ids are made
with, the chunk tells.

    >>> Sender(store).replies([id])
    [ChunkReply(...)]
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from casync_compat import _layouts
from casync_compat.compression import Compression, CompressionError, compress, decompress
from casync_compat.errors import ChunkMissing, FileError
from casync_compat.ids import ChunkId, Digest
from casync_compat.protocol import ChunkAbsent, ChunkReply
from casync_compat.store.anydigest import AnyDigest
from casync_compat.store.base import ChunkSource
from casync_compat.store.chunkfiles import LARGEST
from casync_compat.store.chunks import ChunkStore
from casync_compat.store.files import FileDamaged

__all__ = ["Sender"]

_HEAD = next(smallest for name, _, smallest, *_ in _layouts.RECORDS if name == "CHUNK") - 1
_MOST = (16 << 20) - _HEAD
"""Bytes of a chunk's data that fit into a message."""


class Sender:
    """May be used by several threads at once.

    :param source: where chunks are
    :param digest: that ids are made with; None where nobody says
    """

    def __init__(self, source: ChunkSource, digest: Digest | None = None) -> None:
        self._source = AnyDigest(source) if digest is None else AnyDigest(source, (digest,))
        self._files = source if isinstance(source, ChunkStore) and source.files.near else None
        if self._files is not None and self._files.given_key:
            self._files = None

    def replies(self, ids: Sequence[ChunkId]) -> list[ChunkReply | ChunkAbsent]:
        """The answers for chunks, in their order.

        :raises ChunkCorrupt: one is damaged
        :raises FileError: one is too large for a message, or the store cannot be read
        """
        stored = [self._stored(id) for id in ids]
        found = [raw for _, raw in stored if raw]
        digest = self._source.likeliest
        checked = iter(digest.of_many(found)) if found else iter(())
        return [
            ChunkReply(id, data, compressed=True)
            if raw and next(checked) == id and len(data) <= _MOST
            else self._fetched(id)
            for id, (data, raw) in zip(ids, stored, strict=True)
        ]

    def _stored(self, id: ChunkId) -> tuple[bytes, bytes]:
        """A compressed file that lies near, and what is in it, unchecked; both empty where there is none."""
        if self._files is None:
            return b"", b""
        _, packed = self._files.forms(id)
        try:
            data = self._files.files.read(packed.name, _MOST)
            return (data, decompress(data, LARGEST)) if data else (b"", b"")
        except (CompressionError, FileDamaged):
            return b"", b""

    def _fetched(self, id: ChunkId) -> ChunkReply | ChunkAbsent:
        """What the source says of a chunk."""
        try:
            raw = self._source.get(id, LARGEST)
        except ChunkMissing:
            return ChunkAbsent(id)
        data = compress(Compression.ZSTD, raw)
        if len(data) > _MOST:
            raise FileError(f"chunk {id}", "send", OSError(errno.EFBIG, os.strerror(errno.EFBIG)))
        return ChunkReply(id, data, compressed=True)
