"""What a set of images shares, counted: layers, files and chunks that occur more than once. Pure counting, no IO.

    >>> sharing = Sharing(chunkings=["64 KiB"])
    >>> sharing.begin("debian:12")
    >>> if sharing.layer("sha256:…", size):          # False when the layer was counted before
    ...     sharing.file(digest, size); sharing.chunk(0, digest, size, stored)
    >>> sharing.levels()[0].size

The levels are those of the measurement by Felix Abecassis (github.com/flx42/layer-dedup-test): everything as it stands,
identical layers once, identical files once, identical chunks once. Digests are cut to 16 bytes: among 10^12 of them,
two are the same by chance with a likelihood of 10^-15.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["ImageShare", "Level", "Sharing"]

_KEPT = 16


@dataclass(frozen=True, slots=True)
class Level:
    """How large all images are together when what is equal is kept once.

    :ivar name: `images`, `layers`, `files`, or `chunks` with their average size
    :ivar size: in bytes, before compression
    :ivar stored: in bytes, compressed; None where that was not measured
    :ivar objects: how many different ones there are
    """

    name: str
    size: int
    stored: int | None
    objects: int


@dataclass(slots=True)
class ImageShare:
    """One image: its size, and what of it no image before it had.

    :ivar size: of all its layers, in bytes
    :ivar new_layers: bytes of layers that are new
    :ivar new_files: bytes of files that are new, with what is not file contents
    :ivar new_chunks: bytes of chunks that are new, for each chunking
    """

    name: str
    size: int = 0
    new_layers: int = 0
    new_files: int = 0
    new_chunks: list[int] = field(default_factory=list)


class Sharing:
    """Counts images, one after the other.

    :param chunkings: names of the ways of cutting that are compared
    """

    def __init__(self, chunkings: Sequence[str]) -> None:
        self.chunkings = list(chunkings)
        self.images: list[ImageShare] = []
        self._layers: dict[str, int] = {}
        self._files: set[bytes] = set()
        self._file_bytes = 0
        self._chunks: list[set[bytes]] = [set() for _ in self.chunkings]
        self._chunk_bytes = [0] * len(self.chunkings)
        self._chunk_stored: list[int | None] = [0] * len(self.chunkings)

    def begin(self, name: str) -> None:
        """What follows belongs to the image `name`."""
        self.images.append(ImageShare(name, new_chunks=[0] * len(self.chunkings)))

    def layer(self, diff_id: str, size: int) -> bool:
        """Count a layer of the current image.

        :param size: of the uncompressed tar, in bytes
        :returns: whether it is new, so that its files and chunks are to be counted
        """
        image = self.images[-1]
        image.size += size
        if diff_id in self._layers:
            return False
        self._layers[diff_id] = size
        image.new_layers += size
        return True

    def layer_size(self, diff_id: str) -> int | None:
        """The size of a layer that was counted before; None for a new one."""
        return self._layers.get(diff_id)

    def file(self, digest: bytes, size: int) -> None:
        """Count the contents of a regular file of a new layer."""
        key = digest[:_KEPT]
        if key not in self._files:
            self._files.add(key)
            self._count_file(size)

    def metadata(self, size: int) -> None:
        """Count bytes of a new layer that are no file's contents; they are kept with each layer."""
        self._count_file(size)

    def _count_file(self, size: int) -> None:
        self._file_bytes += size
        self.images[-1].new_files += size

    def has_chunk(self, chunking: int, digest: bytes) -> bool:
        """Whether a chunk was counted before."""
        return digest[:_KEPT] in self._chunks[chunking]

    def chunk(self, chunking: int, digest: bytes, size: int, stored: int | None) -> None:
        """Count a chunk of a new layer.

        :param chunking: number of the way of cutting
        :param stored: its size compressed, None when that is not measured
        """
        chunks = self._chunks[chunking]
        key = digest[:_KEPT]
        if key in chunks:
            return
        chunks.add(key)
        self._chunk_bytes[chunking] += size
        self.images[-1].new_chunks[chunking] += size
        total = self._chunk_stored[chunking]
        self._chunk_stored[chunking] = None if stored is None or total is None else total + stored

    def levels(self) -> list[Level]:
        """All levels, from nothing shared to the smallest chunks."""
        images = sum(image.size for image in self.images)
        layers = sum(self._layers.values())
        out = [
            Level("images", images, None, len(self.images)),
            Level("layers", layers, None, len(self._layers)),
            Level("files", self._file_bytes, None, len(self._files)),
        ]
        for number, name in enumerate(self.chunkings):
            chunks = self._chunks[number]
            out.append(
                Level(f"chunks {name}", self._chunk_bytes[number], self._chunk_stored[number], len(chunks))
            )
        return out
