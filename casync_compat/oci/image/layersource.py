"""The layers of an image, converted or plain, as tars whose bytes are known by where they come from."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from casync_compat.closing import Closing
from casync_compat.ids import ChunkId
from casync_compat.oci.image.layertar import LayerTar
from casync_compat.oci.image.wrapped import WrappedImage
from casync_compat.oci.tar.view import Extent, TarView
from casync_compat.store.base import ChunkSource
from casync_compat.streams.assemble import ChunkFetcher, IndexReader
from catar.archive import Expecting, RandomAccess

__all__ = ["LayerSource", "MakeReader", "PlainLayer", "WrappedLayer"]

MakeReader = Callable[[ChunkFetcher], RandomAccess]
_PIECE = 1 << 20


class LayerSource(Protocol):
    """A layer's tar and where its bytes are from."""

    @property
    def label(self) -> str: ...
    @property
    def view(self) -> RandomAccess: ...
    def origin(self, offset: int, length: int) -> Sequence[bytes]:
        """Byte strings that determine the bytes of a range of the tar, and are the same for the same range."""

    def chunks(self, offset: int, length: int) -> Iterator[tuple[int, ChunkId, int]]:
        """Number, id and size of each chunk that a range of the tar is in; nothing for a plain tar."""

    def expect(self, ranges: Sequence[tuple[int, int]]) -> None:
        """What will be read soon of the tar, an offset and a size each."""


class _LazyStream(Closing):
    """What a layer's index describes; the index is fetched with the first byte."""

    def __init__(
        self, image: WrappedImage, layer: int, source: Callable[[], ChunkSource], reader: MakeReader
    ) -> None:
        self._image = image
        self._layer = layer
        self._source = source
        self._make = reader
        self._reader: RandomAccess | None = None
        self._lock = threading.Lock()
        self.size = image.config.layers[layer].stream_size

    def read_at(self, offset: int, size: int) -> bytes:
        return self._opened().read_at(offset, size)

    def expect(self, ranges: Sequence[tuple[int, int]]) -> None:
        reader = self._opened()
        if isinstance(reader, Expecting):
            reader.expect(ranges)

    def _opened(self) -> RandomAccess:
        with self._lock:
            if self._reader is None:
                self._reader = self._make(ChunkFetcher(self._image.index(self._layer), self._source()))
            return self._reader

    def close(self) -> None:
        with self._lock:
            reader, self._reader = self._reader, None
        if isinstance(reader, Closing):
            reader.close()


class WrappedLayer:
    """A layer of a converted image.

    :param source: gives the source of its chunks, when they are needed
    :param reader: makes what reads the stream of its index; only one reader at a time may use that by default
    """

    def __init__(
        self,
        image: WrappedImage,
        layer: int,
        source: Callable[[], ChunkSource],
        reader: MakeReader = IndexReader,
    ) -> None:
        self.label = image.label(layer)
        self._image = image
        self._layer = layer
        self._stream = stream = _LazyStream(image, layer, source, reader)
        recipe = image.recipe(layer)
        self._tar = TarView(recipe, stream) if recipe is not None else None
        self.view: RandomAccess = stream if self._tar is None else self._tar

    def close(self) -> None:
        """Let go of what reads it."""
        self._stream.close()

    def _extents(self, offset: int, length: int) -> Iterable[Extent]:
        """Where a range of the tar is in what the index describes."""
        return [Extent(offset, length, offset)] if self._tar is None else self._tar.extents(offset, length)

    def origin(self, offset: int, length: int) -> Sequence[bytes]:
        index = self._image.index(self._layer)
        found: list[bytes] = []
        for at, size, start in self._extents(offset, length):
            if start is None:
                firsts = range(at, at + size, _PIECE)
                found += [
                    b"bytes " + self.view.read_at(first, min(_PIECE, at + size - first)) for first in firsts
                ]
            else:
                found += [
                    b"chunk %d %d %b" % (first, last, id_)
                    for id_, first, last in index.spans(start, start + size)
                ]
        return found

    def chunks(self, offset: int, length: int) -> Iterator[tuple[int, ChunkId, int]]:
        index = self._image.index(self._layer)
        for _, size, start in self._extents(offset, length):
            if start is None or not size:
                continue
            for number in range(index.at(start), len(index)):
                chunk = index[number]
                if chunk.start >= start + size:
                    break
                yield number, chunk.id, chunk.size

    def expect(self, ranges: Sequence[tuple[int, int]]) -> None:
        found = (extent for each in ranges for extent in self._extents(*each))
        wanted = [(start, size) for _, size, start in found if start is not None and size]
        if wanted:
            self._stream.expect(wanted)


class PlainLayer:
    """A layer of a plain image, as a tar that was compared with its diff id."""

    def __init__(self, tar: LayerTar, diff_id: str, label: str) -> None:
        self.label = label
        self.view: RandomAccess = tar.view
        self._diff_id = diff_id

    def origin(self, offset: int, length: int) -> Sequence[bytes]:
        return [b"tar %b %d %d" % (self._diff_id.encode(), offset, length)]

    def chunks(self, offset: int, length: int) -> Iterator[tuple[int, ChunkId, int]]:
        yield from ()

    def expect(self, ranges: Sequence[tuple[int, int]]) -> None:
        """It is all here."""
