"""A converted image, opened: its documents read and checked against each other, its layers at any offset.

    >>> with WrappedImage.open(place, descriptor, "docker://host/debian:12") as image:
    ...     for member in members(image.tar(0)): print(member.path)
    ...     for piece in image.rebuild(0): out.write(piece)     # the layer's tar, checked at its end

Nothing is fetched before it is needed: opening reads manifest and config. Chunks come from packs by range, or from a
chunk store that is asked first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import cached_property

from casync_compat.closing import Closing
from casync_compat.errors import FormatError
from casync_compat.ids import ChunkId
from casync_compat.index import Index, file_size
from casync_compat.oci.image.packsource import PackSource
from casync_compat.oci.spec.blobs import MANIFEST_LIMIT, BlobSource, Place
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.spec.manifest import ImageConfig, ImageManifest
from casync_compat.oci.spec.packindex import MAX_CHUNKS, PACK_INDEX_LIMIT, PackIndex
from casync_compat.oci.spec.wrapper import Wrapper, WrapperConfig
from casync_compat.oci.tar.recipe import Recipe, rebuild_checked
from casync_compat.oci.tar.view import TarView
from casync_compat.store.base import ChunkSource
from casync_compat.store.layered import Layered
from casync_compat.streams.assemble import ChunkFetcher, ChunkStream, IndexReader
from catar.archive import RandomAccess

__all__ = ["INDEX_LIMIT", "RECIPE_LIMIT", "WrappedImage"]

INDEX_LIMIT = file_size(MAX_CHUNKS)
"""Bytes of the largest layer index."""
RECIPE_LIMIT = 512 << 20
"""Bytes of the largest recipe, as stored: they take some 20 bytes a file."""


class WrappedImage(Closing):
    """A converted image.

    :param source: where its blobs are
    :param where: the image as a user would name it, for messages
    :param store: asked for chunks before the packs are

    :ivar config: how it was converted
    """

    def __init__(
        self,
        source: BlobSource,
        wrapper: Wrapper,
        config: WrapperConfig,
        where: str,
        store: ChunkSource | None = None,
    ) -> None:
        self.source = source
        self.wrapper = wrapper
        self.config = config
        self.where = where
        self._store = store
        self._indexes: dict[int, Index] = {}
        self._recipes: dict[int, Recipe] = {}

    @classmethod
    def open(
        cls, place: Place, descriptor: Descriptor, where: str, store: ChunkSource | None = None
    ) -> WrappedImage:
        """
        :param descriptor: of its manifest
        :raises ImageError: it is malformed, or no converted image
        :raises BlobError: a blob is missing or corrupt
        """
        data = place.read_manifest(descriptor)
        wrapper = Wrapper.of(ImageManifest.parse(data, where, descriptor.media_type), where)
        config = WrapperConfig.parse(place.read(wrapper.config), f"{where}, config")
        config.check(wrapper, where)
        return cls(place, wrapper, config, where, store)

    def close(self) -> None:
        """Let go of what was fetched ahead."""
        if "packs" in self.__dict__:
            self.packs.close()

    # ---- documents

    @cached_property
    def source_manifest(self) -> ImageManifest:
        """The manifest that the image was made from."""
        data = self.source.read(self.wrapper.source_manifest)
        return ImageManifest.parse(
            data, f"{self.where}, source manifest", self.config.source_manifest.media_type
        )

    @cached_property
    def source_config(self) -> bytes:
        """The image config, verbatim."""
        return self.source.read(self.wrapper.source_config, MANIFEST_LIMIT)

    def check_source(self) -> None:
        """That the source manifest, the image config and the layers here are of one image.

        :raises ImageError: they are not, so that it cannot be given back
        """
        config = ImageConfig.parse(self.source_config, f"{self.where}, image config")
        if config.platform != self.config.platform:
            raise ImageError(
                self.where, f"its image config is for {config.platform}, and it says {self.config.platform}"
            )
        manifest = self.source_manifest
        if self.wrapper.squashed:
            return
        theirs = self.wrapper.source_config
        if (manifest.config.digest, manifest.config.size) != (theirs.digest, theirs.size):
            raise ImageError(self.where, "the source manifest has another config than the image")
        if config.diff_ids != tuple(layer.diff_id for layer in self.config.layers):
            raise ImageError(self.where, "its layers are not those that the image config names")
        if len(manifest.layers) != len(self):
            raise ImageError(
                self.where, f"the source manifest has {len(manifest.layers)} layers, and it has {len(self)}"
            )
        for number, (blob, layer) in enumerate(zip(manifest.layers, self.config.layers, strict=True)):
            if (blob.digest, blob.size) != (layer.source.digest, layer.source.size):
                raise ImageError(self.label(number), "the source manifest names another blob for it")

    @cached_property
    def pack_index(self) -> PackIndex:
        """Where each chunk is."""
        data = self.source.read(self.wrapper.pack_index, PACK_INDEX_LIMIT)
        index = PackIndex.parse(data, self.where)
        index.check_packs(self.wrapper.packs, self.where)
        return index

    @cached_property
    def packs(self) -> PackSource:
        """The packs as a source of chunks."""
        return PackSource(self.source, self.wrapper.packs, self.pack_index)

    @cached_property
    def chunks(self) -> ChunkSource:
        """Where chunks come from."""
        return Layered(self._store, self.packs) if self._store is not None else self.packs

    # ---- layers

    def __len__(self) -> int:
        """Layers."""
        return len(self.config.layers)

    def diff_id(self, layer: int) -> BlobDigest:
        """Digest of a layer's tar."""
        return self.config.layers[layer].diff_id

    def label(self, layer: int) -> str:
        """A layer as a user would name it."""
        return f"{self.where}, layer {layer}"

    def index(self, layer: int) -> Index:
        """The index of a layer. :raises ImageError: it is malformed, or not what the config says"""
        found = self._indexes.get(layer)
        if found is None:
            found = self._indexes[layer] = self._read_index(layer)
        return found

    def _read_index(self, layer: int) -> Index:
        config = self.config.layers[layer]
        data = self.source.read(self.wrapper.layers[layer].index, INDEX_LIMIT)
        where = self.label(layer)
        try:
            index = Index.parse(data)
        except FormatError as error:
            raise ImageError(where, f"its index is malformed: {error}") from error
        if index.digest is not self.config.digest or index.sizes != self.config.sizes:
            raise ImageError(
                where, "its index was made with other chunk sizes or digest than the config says"
            )
        if index.size != config.stream_size:
            raise ImageError(
                where, f"its index is about {index.size} bytes, but the config says {config.stream_size}"
            )
        return index

    def recipe(self, layer: int) -> Recipe | None:
        """The recipe of a layer; None for one that is a tar cut into chunks."""
        blob = self.wrapper.layers[layer].recipe
        if blob is None:
            return None
        found = self._recipes.get(layer)
        if found is None:
            where = self.label(layer)
            found = Recipe.parse(self.source.read(blob, RECIPE_LIMIT), where)
            config = self.config.layers[layer]
            if (found.diff_id, found.tar_size, found.catar_size) != (
                config.diff_id,
                config.tar_size,
                config.stream_size,
            ):
                raise ImageError(where, "its recipe is for another tar or archive than the config says")
            self._recipes[layer] = found
        return found

    def fetcher(self, layer: int) -> ChunkFetcher:
        """Gets the chunks of a layer."""
        return ChunkFetcher(self.index(layer), self.chunks)

    def stream(self, layer: int) -> IndexReader:
        """What a layer's index describes, at any offset: an archive, or for a `.caibx` the tar."""
        return IndexReader(self.fetcher(layer))

    def tar(self, layer: int) -> RandomAccess:
        """A layer's tar at any offset, made as it is read. Headers cost no chunks."""
        recipe = self.recipe(layer)
        stream = self.stream(layer)
        return stream if recipe is None else TarView(recipe, stream)

    def missing(self, layer: int) -> Iterator[ChunkId]:
        """The chunks of a layer that the store does not have, each once."""
        for id_ in dict.fromkeys(self.index(layer).ids()):
            if self._store is None or not self._store.has(id_):
                yield id_

    def prefetch(self, layer: int, on_bytes: Callable[[int], None] | None = None) -> None:
        """Fetch all chunks of a layer with few requests, if they are far away."""
        self.packs.prefetch(self.missing(layer), on_bytes)

    def rebuild(self, layer: int) -> Iterator[bytes]:
        """A layer's tar in pieces, the last only when the whole had the right digest.

        :raises ImageError: it had not
        :raises StoreError: a chunk is missing or corrupt
        """
        recipe = self.recipe(layer)
        if recipe is not None:
            yield from rebuild_checked(recipe, self.stream(layer), self.label(layer))
            return
        diff_id = self.diff_id(layer)
        hasher = hashlib.new(diff_id.algorithm)
        held = b""
        with ChunkStream(self.fetcher(layer)) as stream:
            while piece := stream.read():
                hasher.update(piece)
                if held:
                    yield held
                held = piece
        if hasher.hexdigest() != diff_id.hex:
            raise ImageError(self.label(layer), f"what its index describes has not the diff id {diff_id}")
        if held:
            yield held
