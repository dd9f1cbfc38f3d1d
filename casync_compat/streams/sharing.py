"""What extracted files share with seeds: whole files by hard links, parts of them by blocks.

    >>> sharing = BlockSharing(index, seeds)
    >>> writer = TreeWriter(target, None, warn=print, on_payload=sharing.on_payload, links=HardLinks(seeds, prepare))

Both take nodes and payloads as `casync_compat.fs.apply.tree` gives them. What is linked or shared is what
`casync_compat.streams.seeds` found; nothing is searched here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from casync_compat.fs.reflink import BLOCK, BlockSharer
from casync_compat.ids import Digest, Hasher
from casync_compat.index import Index, digest_of_flags
from casync_compat.streams.seeds import SeedSource
from catar.encoder import Encoder
from catar.records import Node

__all__ = ["BlockSharing", "HardLinks"]


class HardLinks:
    """Finds, for each file that was extracted, an identical one to link to instead.

    Files are told by casync's hard link digest: over everything from the ENTRY to the end of the payload.

    :param prepare: called with the archive's feature flags, before the first node; may add seeds
    """

    def __init__(self, seeds: SeedSource, prepare: Callable[[int], None]) -> None:
        self._seeds = seeds
        self._prepare = prepare
        self._features = 0
        self._digest = Digest.SHA512_256
        self._hasher: Hasher | None = None

    def open(self, feature_flags: int) -> None:
        """Hear the archive's feature flags, which say the digest."""
        self._features = feature_flags
        self._digest = digest_of_flags(feature_flags)
        self._prepare(feature_flags)

    def begin(self, node: Node) -> None:
        """Hear of a node that begins."""
        self._hasher = None
        if node.is_regular:
            top = replace(node, name=b"")
            self._hasher = self._digest.new()
            self._hasher.update(Encoder(self._features, any_top=True).begin(top))

    def update(self, piece: memoryview) -> None:
        """Take the next bytes of its payload."""
        if self._hasher is not None:
            self._hasher.update(piece)

    def candidate(self, node: Node, path: bytes) -> bytes | None:
        """An identical file in a seed, once the payload is complete."""
        return self._seeds.link_target(self._hasher.digest()) if self._hasher is not None else None


class BlockSharing:
    """Shares the blocks of extracted files with the seeds that their chunks came from."""

    def __init__(self, index: Index, seeds: SeedSource) -> None:
        self._sharer = BlockSharer()
        self._index = index
        self._seeds = seeds

    @property
    def shared(self) -> int:
        """Bytes that share blocks with a seed."""
        return self._sharer.shared

    def on_payload(self, fd: int, node: Node, path: bytes) -> None:
        """Share what a complete file has in common with seeds; `fd` is its descriptor."""
        if not self._seeds.used or node.size < BLOCK:
            return
        begin, end = node.payload_offset, node.payload_offset + node.size
        for chunk in self._index.chunks(self._index.at(begin)):
            if chunk.start >= end:
                break
            first, last = max(chunk.start, begin), min(chunk.end, end)
            for part in self._seeds.parts(chunk.id, first - chunk.start, last - chunk.start):
                at = chunk.start + part.at - begin
                self._sharer.add(part.path, part.offset, fd, at, part.size)
        self._sharer.flush()
