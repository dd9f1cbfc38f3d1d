"""An image, converted or plain, as one tree whose files can be read: what `unpack`, `checkout`, `ls` and `cat` work on.

    >>> with ImageTree.open(place, "debian", where="oci:images:debian") as image:
    ...     inode = image.tree.find(b"/etc/os-release")
    ...     for offset, data in image.read(inode): ...

The tree comes from the tar headers, and so from the recipes of a converted image, which hold all of them: none of its
chunks is fetched for it. Lookup tables in the archives would cost more requests and know less: neither hard links to
files of lower layers nor whether a directory is only implied are in an archive. Layers of plain images are decompressed
to temporary files without a name.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial

from casync_compat.closing import Closing
from casync_compat.ids import ChunkId
from casync_compat.oci.image.ahead import Ahead
from casync_compat.oci.image.layersource import LayerSource, PlainLayer, WrappedLayer
from casync_compat.oci.image.layertar import LayerTar, open_layer_tar
from casync_compat.oci.image.severalpacked import SeveralPacked
from casync_compat.oci.image.wrapped import WrappedImage
from casync_compat.oci.places.selection import Found, look_up
from casync_compat.oci.rootfs.merge import MergeLimits, Merger
from casync_compat.oci.rootfs.mergedtree import Inode, MergedTree
from casync_compat.oci.spec.blobs import MANIFEST_LIMIT, Place
from casync_compat.oci.spec.descriptor import BlobDigest, Platform
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.spec.manifest import ImageConfig, ImageManifest
from casync_compat.oci.tar.reader import members
from casync_compat.store.base import ChunkSource
from casync_compat.store.cached import Cached, ChunkCache
from casync_compat.store.layered import Layered
from casync_compat.streams.assemble import ChunkFetcher, IndexReader
from casync_compat.streams.lookahead import KEPT, SharedReader
from casync_compat.streams.transfer import OrderedPool

__all__ = ["ImageTree"]

_PIECE = 1 << 20
_LEAST = 16 << 20
"""Bytes of chunks that are kept of each layer, however many there are."""
_PARALLEL = 8
_SEGMENT = 4096
"""Chunks that are fetched from far away before the first of them is used: some 256 MiB when decompressed."""
_RECENT = 32
"""Chunks that are surely still in a reader's cache, and not worth fetching again."""


class ImageTree(Closing):
    """An image as a tree; make one with `open`.

    :ivar where: the image as a user would name it
    :ivar digest: of its manifest, on which all that is in it depends
    """

    def __init__(
        self,
        where: str,
        digest: BlobDigest,
        config: Callable[[], bytes],
        wrapped: WrappedImage | None,
        *,
        store: ChunkSource | None = None,
        limits: MergeLimits | None,
        warn: Callable[[str], None],
        jobs: int | None,
        shared: bool = False,
        cache: ChunkCache | None = None,
    ) -> None:
        self.where = where
        self.digest = digest
        self._read_config = config
        self._wrapped = wrapped
        self._store = store
        self._cache = cache
        self._limits = limits
        self._warn = warn
        self._jobs = jobs
        self._shared = shared
        self._layers: list[LayerSource] = []
        self._tars: list[LayerTar] = []
        self._ahead: Ahead | None = None
        if wrapped is not None:
            reader = partial(SharedReader, kept=max(KEPT // len(wrapped), _LEAST)) if shared else IndexReader
            self._layers = [
                WrappedLayer(wrapped, number, self._chunk_source, reader) for number in range(len(wrapped))
            ]

    @classmethod
    def open(
        cls,
        place: Place,
        reference: str | None,
        *,
        where: str,
        platform: Platform | None = None,
        store: ChunkSource | None = None,
        limits: MergeLimits | None = None,
        warn: Callable[[str], None] = lambda text: None,
        jobs: int | None = None,
        shared: bool = False,
        cache: ChunkCache | None = None,
    ) -> ImageTree:
        """Open an image: the converted one where a tag leads to both.

        :param store: asked for chunks before the packs are
        :param jobs: threads that fetch, None for one a processor
        :param shared: files will be read by several threads, in any order, rather than as `plan` says
        :param cache: takes the chunks that are read where files are `shared`, and is asked for them first
        :raises CasyncError: it is not there, or malformed
        """
        found = look_up(place, reference)
        if not found.wrappers:
            return cls._open_plain(place, found, platform, where, limits, warn, jobs)
        choice = found.choose_wrappers(platform, warn=warn)[0]
        wrapped = WrappedImage.open(place, choice.descriptor, where, store)
        with OrderedPool[object](_PARALLEL, _PARALLEL) as pool:  # not one journey after the other
            for number in range(len(wrapped)):
                pool.submit(wrapped.recipe, number)
            for _ in pool.drain():
                pass
        return cls(
            where,
            choice.descriptor.digest,
            lambda: wrapped.source_config,
            wrapped,
            store=store,
            limits=limits,
            warn=warn,
            jobs=jobs,
            shared=shared,
            cache=cache,
        )

    @staticmethod
    def look_up(place: Place, reference: str | None, platform: Platform | None = None) -> BlobDigest:
        """The digest that the image would have which `open` opens.

        :raises CasyncError: it is not there
        """
        found = look_up(place, reference)
        choices = found.choose_wrappers(platform) if found.wrappers else found.choose_plain(platform)
        return choices[0].descriptor.digest

    @classmethod
    def _open_plain(
        cls,
        place: Place,
        found: Found,
        platform: Platform | None,
        where: str,
        limits: MergeLimits | None,
        warn: Callable[[str], None],
        jobs: int | None,
    ) -> ImageTree:
        descriptor = found.choose_plain(platform, warn=warn)[0].descriptor
        manifest = ImageManifest.parse(place.read_manifest(descriptor), where, descriptor.media_type)
        raw = place.read(manifest.config, MANIFEST_LIMIT)
        config = ImageConfig.parse(raw, f"{where}, config")
        if len(config.diff_ids) != len(manifest.layers):
            raise ImageError(
                where, f"it has {len(manifest.layers)} layers, but its config {len(config.diff_ids)} diff ids"
            )
        image = cls(where, descriptor.digest, lambda: raw, None, limits=limits, warn=warn, jobs=jobs)
        try:
            for number, (layer, diff_id) in enumerate(zip(manifest.layers, config.diff_ids, strict=True)):
                label = f"{where}, layer {number}"
                tar = open_layer_tar(place, layer, diff_id, where=label)
                image._tars.append(tar)
                image._layers.append(PlainLayer(tar, str(diff_id), label))
        except BaseException:
            image.close()
            raise
        return image

    def close(self) -> None:
        """Let go of files and threads. The place stays open."""
        if self._ahead is not None:
            self._ahead.close()
        for layer in self._layers:
            if isinstance(layer, WrappedLayer):
                layer.close()
        while self._tars:
            self._tars.pop().close()
        if self._wrapped is not None:
            self._wrapped.close()

    @property
    def is_converted(self) -> bool:
        """Whether its layers are archives in chunks."""
        return self._wrapped is not None

    @property
    def far(self) -> bool:
        """Whether contents come from another machine when they are read."""
        return self._wrapped is not None and not self._wrapped.source.near

    def fetchers(self) -> Iterator[ChunkFetcher]:
        """What gets the chunks of one layer after the other; of a plain image nothing, which is here when it is open.

        :raises CasyncError: an index cannot be had
        """
        for layer in range(len(self._wrapped) if self._wrapped is not None else 0):
            assert self._wrapped is not None
            yield ChunkFetcher(self._wrapped.index(layer), self._chunk_source())

    def _chunk_source(self) -> ChunkSource:
        assert self._wrapped is not None
        if self._shared:
            packs = SeveralPacked(self._wrapped.packs, self.far)
            source = packs if self._store is None else Layered(self._store, packs)
            return source if self._cache is None else Cached(source, self._cache)
        if self._ahead is None:
            self._ahead = Ahead(self._wrapped.chunks, self._wrapped.config.digest, self._jobs)
        return self._ahead

    @cached_property
    def config(self) -> bytes:
        """The image config, verbatim."""
        return self._read_config()

    @cached_property
    def tree(self) -> MergedTree:
        """All layers merged.

        :raises ImageError: a layer is malformed, or a limit is exceeded
        """
        merger = Merger(self.where, self._limits, self._warn)
        for layer in self._layers:
            merger.apply(members(layer.view, layer.label))
        return merger.finish()

    def verify(self) -> None:
        """Make each layer's tar again and compare it with its diff id; those of plain images always were.

        :raises CasyncError: one is another
        """
        if self._wrapped is not None:
            for layer in range(len(self._wrapped)):
                self._wrapped.prefetch(layer)
                for _ in self._wrapped.rebuild(layer):
                    pass

    # Contents

    def read(self, inode: Inode) -> Iterator[tuple[int, bytes]]:
        """The contents of a regular file in pieces, each with its offset; what is not given is a hole.

        :raises CasyncError: they cannot be had
        """
        for offset, at, length in inode.parts:
            done = 0
            while done < length:
                data = self._piece(inode, at + done, min(_PIECE, length - done))
                yield offset + done, data
                done += len(data)

    def read_range(self, inode: Inode, offset: int, size: int) -> list[bytes]:
        """The bytes of a regular file from `offset` on, as many as there are, in pieces; holes are zeros.

        :raises CasyncError: they cannot be had
        """
        end = min(offset + size, inode.size)
        first = max(bisect_right(inode.parts, offset, key=lambda part: part[0]) - 1, 0)
        pieces: list[bytes] = []
        for start, at, length in inode.parts[first:]:
            if start >= end:
                break
            if start > offset:
                pieces.append(bytes(start - offset))
                offset = start
            until = min(start + length, end)
            while offset < until:
                piece = self._piece(inode, at + offset - start, until - offset)
                pieces.append(piece)
                offset += len(piece)
        if offset < end:
            pieces.append(bytes(end - offset))
        return pieces

    def expect(self, wanted: Iterable[tuple[Inode, int, int]]) -> None:
        """Say what will be read soon of which files, an offset and a size each, where the image was opened as `shared`.

        :raises CasyncError: an index cannot be had
        """
        ranges: dict[int, list[tuple[int, int]]] = {}
        for inode, offset, size in wanted:
            for start, at, length in inode.parts:
                first, end = max(start, offset), min(start + length, offset + size)
                if first < end:
                    ranges.setdefault(inode.layer, []).append((at + first - start, end - first))
        for layer, each in ranges.items():
            self._layers[layer].expect(each)

    def _piece(self, inode: Inode, at: int, size: int) -> bytes:
        layer = self._layers[inode.layer]
        data = layer.view.read_at(at, size)
        if not data:
            raise ImageError(layer.label, f"the tar ends within a file, at byte {at}")
        return data

    def origin(self, inode: Inode) -> Sequence[bytes]:
        """Byte strings that, in their order, determine the contents of a regular file: ids of chunks, mostly.

        Two files with the same have the same contents; the reverse does not hold.
        """
        found = [b"size %d" % inode.size]
        layer = self._layers[inode.layer]
        for offset, at, length in inode.parts:
            found.append(b"part %d %d" % (offset, length))
            found += layer.origin(at, length)
        return found

    def plan(self, inodes: Iterable[Inode]) -> None:
        """Say which files will be read, in order, so that their chunks are fetched ahead.

        :raises CasyncError: an index cannot be had
        """
        if self._wrapped is None or self._shared:
            return
        wanted = list(self._wanted(inodes))
        if wanted:
            source = self._chunk_source()
            assert isinstance(source, Ahead)
            source.plan(self._fetched(wanted))

    def _fetched(self, wanted: list[tuple[ChunkId, int]]) -> Iterator[tuple[ChunkId, int]]:
        """Chunks, each once it is near: what is far away is fetched in few large requests."""
        assert self._wrapped is not None
        store = self._store
        for first in range(0, len(wanted), _SEGMENT):
            part = wanted[first : first + _SEGMENT]
            self._wrapped.packs.prefetch(id_ for id_, _ in part if store is None or not store.has(id_))
            yield from part

    def _wanted(self, inodes: Iterable[Inode]) -> Iterator[tuple[ChunkId, int]]:
        recent: OrderedDict[tuple[int, int], None] = OrderedDict()
        for inode in inodes:
            for _, at, length in inode.parts:
                for number, id_, size in self._layers[inode.layer].chunks(at, length):
                    key = (inode.layer, number)
                    if key not in recent:
                        yield id_, size
                    recent[key] = None
                    recent.move_to_end(key)
                    if len(recent) > _RECENT:
                        recent.popitem(last=False)
