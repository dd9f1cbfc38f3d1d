"""One image being converted: its layers into chunks, chunks into packs, and the documents that name them.

    >>> conversion = Conversion(source, sink, choice, options, bases, reporter)
    >>> conversion.run()                 # stores blobs; conversion.raw is the manifest, which nobody has stored yet

Layers are checked before they are used, converted ones before they are stored, and blobs are stored before they are
named. Which images are converted, and what the tag names in the end, is the business of `casync_compat.oci.convert`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Literal, TypeAlias

from casync_compat.chunker.params import ChunkSizes
from casync_compat.compression import Compression
from casync_compat.ids import ChunkId, Digest
from casync_compat.index import Index
from casync_compat.oci.image.basepacks import BaseChunks, packs_key
from casync_compat.oci.image.chunkspool import ChunkSpool
from casync_compat.oci.image.converted import ConvertedLayers, layer_key, source_key
from casync_compat.oci.image.convertlayer import LayerOptions, LayerResult, convert_layer
from casync_compat.oci.image.layertar import LAYER_LIMIT, LayerTar, open_layer_tar
from casync_compat.oci.image.packwriter import BasePacks, write_packs
from casync_compat.oci.image.squash import squash
from casync_compat.oci.image.wrapped import WrappedImage
from casync_compat.oci.places.selection import Choice
from casync_compat.oci.spec import media
from casync_compat.oci.spec.blobs import Place, WritablePlace
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor, Platform
from casync_compat.oci.spec.errors import BlobError, ImageError
from casync_compat.oci.spec.manifest import ImageConfig, ImageManifest
from casync_compat.oci.spec.platforms import normalized
from casync_compat.oci.spec.wrapper import LayerBlobs, LayerConfig, Wrapper, WrapperConfig
from casync_compat.progress import Reporter
from casync_compat.store.base import ChunkSink
from casync_compat.streams.transfer import OrderedPool

__all__ = ["Conversion", "ConvertOptions", "Converted"]

_PARALLEL = 8


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """How to convert.

    :ivar thin: store no plain image beside the converted one
    :ivar squash: merge all layers to one; the image cannot be given back then
    :ivar base: whether to build upon what the tag names now, when no base is given
    :ivar layer_limit: the most bytes that a layer may decompress to
    :ivar store: gets all chunks too
    :ivar memory: layers that were converted before; a base's layer that is not among them is made anew
    :ivar on_index: told each layer: the image's platform, its number and index, and whether that is of a tree
    """

    thin: bool = False
    squash: bool = False
    platform: Platform | None = None
    all_platforms: bool = False
    sizes: ChunkSizes = field(default_factory=ChunkSizes)
    digest: Digest = Digest.SHA512_256
    compression: Compression = Compression.ZSTD
    mtime: Literal["epoch", "keep"] = "epoch"
    epoch: int = 0
    base: bool = True
    jobs: int | None = None
    layer_limit: int = LAYER_LIMIT
    store: ChunkSink | None = None
    memory: ConvertedLayers = field(default_factory=ConvertedLayers)
    on_index: Callable[[Platform, int, Index, bool], None] | None = None


@dataclass(slots=True)
class Converted:
    """One image as it was converted.

    :ivar descriptor: of its manifest
    :ivar plain: of the image's own manifest
    :ivar tar_bytes: size of its layers' tars
    :ivar chunks: different chunks in it
    :ivar new_packs: packs written now; `new_bytes` is their size
    :ivar pack_bytes: size of all packs
    :ivar reused_layers: layers that are as in the base: taken over, or the same when made anew
    :ivar tars: layers that are kept as tars of chunks, each with the reason
    """

    descriptor: Descriptor
    plain: Descriptor
    platform: Platform
    layers: int = 0
    tar_bytes: int = 0
    chunks: int = 0
    packs: int = 0
    pack_bytes: int = 0
    new_packs: int = 0
    new_bytes: int = 0
    reused_layers: int = 0
    tars: list[tuple[int, str]] = field(default_factory=list)


_Layer: TypeAlias = tuple[LayerConfig, LayerBlobs, Index]


class Conversion:
    """One image being converted.

    :param bases: images that may be built upon, with their platforms
    :param there: manifests that the sink has, blobs and all

    :ivar raw: its new manifest, after `run`; storing it is left to whoever moves the tag
    """

    def __init__(
        self,
        source: Place,
        sink: WritablePlace,
        choice: Choice,
        options: ConvertOptions,
        bases: list[tuple[Platform, WrappedImage]],
        there: frozenset[BlobDigest],
        reporter: Reporter,
    ) -> None:
        self._source = source
        self._sink = sink
        self._options = options
        self._there = there
        self._reporter = reporter
        self._where = f"{source.name}@{choice.descriptor.digest}"
        self._manifest = ImageManifest.parse(
            source.read_manifest(choice.descriptor), self._where, choice.descriptor.media_type
        )
        if not self._manifest.is_image:
            raise ImageError(self._where, "this is an artifact, not a container image")
        self._config = ImageConfig.parse(source.read(self._manifest.config), f"{self._where}, config")
        self._plain = replace(
            choice.descriptor,
            media_type=self._manifest.media_type,
            platform=choice.platform or self._config.platform,
        )
        self._check_layers()
        same = [
            image for platform, image in bases if normalized(platform) == normalized(self._config.platform)
        ]
        self._base = same[0] if same else None
        self._chunks = BaseChunks(same[0], options.memory) if same else None
        self.raw = b""
        self._layer_options = LayerOptions(options.sizes, options.digest, options.mtime, options.epoch)

    def _check_layers(self) -> None:
        layers, diff_ids = self._manifest.layers, self._config.diff_ids
        if len(layers) != len(diff_ids):
            raise ImageError(
                self._where,
                f"the manifest has {len(layers)} layers, but the config has {len(diff_ids)} diff ids",
            )
        for layer in layers:
            if layer.media_type not in media.LAYER_TYPES:
                raise ImageError(self._where, f"layers of type {layer.media_type} are not supported")

    def run(self) -> Converted:
        """Convert the image, store its blobs, and return what to name."""
        base = self._base
        if base is not None and base.source is self._sink:
            self._sink.assume([base.wrapper.config, *base.wrapper.manifest.layers])
        with ChunkSpool(self._options.compression, self._known, self._options.store) as spool:
            result = Converted(self._plain, self._plain, self._config.platform)
            layers = self._squashed(spool, result) if self._options.squash else self._layers(spool, result)
            for number, (_, blobs, index) in enumerate(layers):
                if self._options.on_index is not None:
                    self._options.on_index(self._config.platform, number, index, blobs.is_tree)
            self._store(layers, spool, result)
        return result

    def _known(self, id: ChunkId) -> bool:
        return self._chunks is not None and self._chunks.has(id)

    # ---- layers

    def _layers(self, spool: ChunkSpool, result: Converted) -> list[_Layer]:
        done: dict[BlobDigest, _Layer] = {}
        checked: set[tuple[BlobDigest, BlobDigest]] = set()
        layers = []
        for number, (blob, diff_id) in enumerate(
            zip(self._manifest.layers, self._config.diff_ids, strict=True)
        ):
            if diff_id not in done:
                done[diff_id] = self._layer(number, blob, diff_id, spool, result)
            elif (blob.digest, diff_id) not in checked:
                self._open(number, blob, diff_id).close()
            checked.add((blob.digest, diff_id))
            config, blobs, index = done[diff_id]
            layers.append((replace(config, source=_bare(blob)), blobs, index))
        return layers

    def _squashed(self, spool: ChunkSpool, result: Converted) -> list[_Layer]:
        """All layers as one."""
        with ExitStack() as stack:
            tars = [
                stack.enter_context(self._open(number, blob, diff_id))
                for number, (blob, diff_id) in enumerate(
                    zip(self._manifest.layers, self._config.diff_ids, strict=True)
                )
            ]
            tar, diff_id = squash([one.view for one in tars], self._where, self._options.layer_limit)
            stack.enter_context(tar)
            converted = self._convert(0, tar, diff_id, spool, result)
            source = Descriptor(media.OCI_LAYER, diff_id, tar.size)
            return [self._store_layer(converted, source, diff_id)]

    def _layer(
        self, number: int, blob: Descriptor, diff_id: BlobDigest, spool: ChunkSpool, result: Converted
    ) -> _Layer:
        reused = self._from_base(number, blob, diff_id, result)
        if reused is not None:
            return reused
        self._reporter.state.path = f"layer {number}".encode()
        with self._open(number, blob, diff_id) as tar:
            converted = self._convert(number, tar, diff_id, spool, result)
        made = self._store_layer(converted, blob, diff_id)
        key = layer_key(made[0], self._layer_options)
        self._options.memory.add(key, source_key(blob.digest, diff_id))
        if self._base is not None and key in self._keys_of_base():
            result.reused_layers += 1
        return made

    def _keys_of_base(self) -> list[str]:
        if self._base is None or not self._made_alike(self._base):
            return []
        return [layer_key(layer, self._layer_options) for layer in self._base.config.layers]

    def _made_alike(self, base: WrappedImage) -> bool:
        theirs, ours = base.config, self._options
        return (theirs.sizes, theirs.mtime, theirs.epoch) == (ours.sizes, ours.mtime, ours.epoch)

    def _convert(
        self, number: int, tar: LayerTar, diff_id: BlobDigest, spool: ChunkSpool, result: Converted
    ) -> LayerResult:
        converted = convert_layer(
            tar,
            diff_id,
            spool,
            self._layer_options,
            where=self._label(number),
            jobs=self._options.jobs,
            progress=self._progress(number, tar.size),
        )
        if converted.reason:
            result.tars.append((number, converted.reason))
        result.tar_bytes += converted.tar_size
        return converted

    def _label(self, number: int) -> str:
        return f"{self._where}, layer {number}"

    def _open(self, number: int, blob: Descriptor, diff_id: BlobDigest) -> LayerTar:
        """A layer's tar, checked against what the image config says."""
        limit = self._options.layer_limit
        return open_layer_tar(self._source, blob, diff_id, where=self._label(number), limit=limit)

    def _progress(self, number: int, size: int) -> Callable[[int], None]:
        """What hears how much of a layer's tar is done. How large those of later ones are is guessed by this one."""
        begin = self._reporter.state.done
        layers = () if self._options.squash else self._manifest.layers[number:]
        later = sum(layer.size for layer in layers[1:])
        self._reporter.state.total = begin + size + (later * size // max(layers[0].size, 1) if layers else 0)

        def report(done: int) -> None:
            self._reporter.state.done = begin + done
            if self._reporter.due:
                self._reporter.report()

        return report

    def _store_layer(self, converted: LayerResult, blob: Descriptor, diff_id: BlobDigest) -> _Layer:
        tree = converted.recipe is not None
        index = self._stage(converted.index.to_bytes(), media.TREE_INDEX if tree else media.BLOB_INDEX)
        recipe = self._stage(converted.recipe, media.RECIPE) if converted.recipe is not None else None
        config = LayerConfig(
            "caidx" if tree else "caibx",
            index.digest,
            recipe.digest if recipe is not None else None,
            diff_id,
            converted.stream_size,
            converted.tar_size,
            converted.feature_flags,
            converted.hardlink_groups,
            _bare(blob),
        )
        return config, LayerBlobs(index, recipe), converted.index

    def _from_base(
        self, number: int, blob: Descriptor, diff_id: BlobDigest, result: Converted
    ) -> _Layer | None:
        """A layer that the base has already, converted in the same way: nothing of it needs to be read, if this program
        made it so before. What a base says of itself is no reason to believe it."""
        base, memory = self._base, self._options.memory
        if base is None or self._options.store is not None:
            return None
        for at, key in enumerate(self._keys_of_base()):
            layer = base.config.layers[at]
            if layer.diff_id == diff_id and memory.has(key):
                borrowed = self._borrow_layer(base, at)
                if borrowed is None:
                    continue
                checked = source_key(blob.digest, diff_id)
                if not memory.has(checked):
                    self._open(number, blob, diff_id).close()
                    memory.add(checked)
                result.reused_layers += 1
                result.tar_bytes += layer.tar_size
                return layer, *borrowed
        return None

    def _borrow_layer(self, base: WrappedImage, number: int) -> tuple[LayerBlobs, Index] | None:
        """:returns: None when not all of its chunks are there"""
        blobs = base.wrapper.layers[number]
        try:
            index = base.index(number)
        except (ImageError, BlobError):
            return None
        if not all(map(self._known, set(index.ids()))):
            return None
        for blob in (blobs.index, blobs.recipe):
            if blob is not None:
                self._sink.borrow(blob, base.source)
        return blobs, index

    # ---- blobs

    def _stage(self, data: bytes, media_type: str) -> Descriptor:
        descriptor = Descriptor.of(media_type, data)
        # What a new version adds to an old one, the place hardly has already.
        self._sink.put(descriptor, [data], look=not self._updates())
        return descriptor

    def _updates(self) -> bool:
        return self._base is not None and self._base.source is self._sink

    def _store(
        self,
        layers: list[_Layer],
        spool: ChunkSpool,
        result: Converted,
    ) -> None:
        base = self._base if self._chunks is not None and self._chunks.can_be_read else None
        packed = write_packs(
            chain.from_iterable(index.ids() for _, _, index in layers),
            spool,
            self._sink,
            digest=self._options.digest,
            media_type=media.PACK_ZSTD if self._options.compression is Compression.ZSTD else media.PACK,
            base=BasePacks(base.source, base.wrapper.packs, base.packs) if base is not None else None,
        )
        if base is not None:
            for pack in packed.kept:
                self._sink.borrow(pack, base.source)
        pack_index = self._stage(packed.index.raw, media.PACK_INDEX)
        self._options.memory.add(packs_key(pack_index.digest, self._options.digest.value))
        source_config = _bare(self._manifest.config)
        self._sink.borrow(source_config, self._source)
        source_manifest = self._stage(self._manifest.raw, media.SOURCE_MANIFEST)
        config = WrapperConfig(
            self._config.platform,
            self._options.sizes,
            self._options.digest,
            self._options.compression,
            self._options.mtime,
            self._options.epoch,
            tuple(config for config, _, _ in layers),
            replace(source_manifest, media_type=self._manifest.media_type),
            source_config,
        )
        wrapper = Wrapper.build(
            self._stage(config.to_bytes(), media.WRAPPER_CONFIG),
            source_config,
            source_manifest,
            pack_index,
            [(blobs, config.diff_id) for config, blobs, _ in layers],
            packed.packs,
            squashed=self._options.squash,
        )
        if not self._options.thin:
            self._borrow_plain()
        self.raw = wrapper.manifest.raw
        result.descriptor = wrapper.manifest.descriptor
        result.layers = len(layers)
        result.chunks = len(packed.index)
        result.packs = len(packed.packs)
        result.pack_bytes = sum(pack.size for pack in packed.packs)
        result.new_packs = len(packed.new)
        result.new_bytes = sum(pack.size for pack in packed.new)

    def _borrow_plain(self) -> None:
        """Have the plain image there as well, its blobs as they are."""
        if self._plain.digest in self._there:
            return
        with OrderedPool[bool](_PARALLEL, 2 * _PARALLEL) as pool:
            for blob in self._manifest.blobs:
                pool.submit(self._sink.borrow, blob, self._source)
            for _ in pool.drain():
                pass
        self._sink.put_manifest(self._plain, self._manifest.raw)


def _bare(descriptor: Descriptor) -> Descriptor:
    """A descriptor without notes, which say nothing about the blob itself."""
    return Descriptor(descriptor.media_type, descriptor.digest, descriptor.size)
