"""The original image again: layer tars made of chunks and recipes, each checked against its diff id.

    >>> export(source, "debian", sink, "debian", ExportOptions())
    >>> export_archive(source, "debian", b"debian.tar", ["debian:12"], ExportOptions())

Diff ids, config and image id are those of the original, always. Its manifest digest is too where no layer had been
compressed, or where the compressed blobs are to be had, at the destination or beside the converted image: compressed
bytes cannot be made again in general, since every gzip writes other ones. Otherwise layers are compressed anew, or not
at all, and the manifest names those.
"""

from __future__ import annotations

import enum
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from casync_compat.errors import CasyncError
from casync_compat.oci.image.layertar import LAYER_LIMIT, LayerTar, open_layer_tar
from casync_compat.oci.image.wrapped import WrappedImage
from casync_compat.oci.places.attached import attestations, copy_attached, copy_beneath, find_attached
from casync_compat.oci.places.docker_archive import ArchiveImage, write_docker_archive
from casync_compat.oci.places.originalindex import names_only
from casync_compat.oci.places.selection import Found, look_up
from casync_compat.oci.spec import media
from casync_compat.oci.spec.blobs import Place, WritablePlace
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor, Platform
from casync_compat.oci.spec.errors import BlobError, ImageError
from casync_compat.oci.spec.manifest import ImageConfig, ImageIndex, ImageManifest
from casync_compat.progress import ProgressCallback, Reporter
from casync_compat.store.base import ChunkSource

__all__ = ["ExportOptions", "ExportResult", "LayerCompression", "export", "export_archive"]

_PIECE = 1 << 20
_GZIP_LEVEL = 6


class LayerCompression(enum.Enum):
    """How layers that are made again are stored."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


_SUFFIX = {LayerCompression.NONE: "", LayerCompression.GZIP: "+gzip", LayerCompression.ZSTD: "+zstd"}
_DOCKER_SUFFIX = {LayerCompression.NONE: "", LayerCompression.GZIP: ".gzip", LayerCompression.ZSTD: ".zstd"}


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How to export.

    :ivar rebuild: make layers again even where the original blobs are to be had
    :ivar store: asked for chunks before packs are
    """

    platform: Platform | None = None
    all_platforms: bool = False
    compression: LayerCompression = LayerCompression.NONE
    rebuild: bool = False
    layer_limit: int = LAYER_LIMIT
    store: ChunkSource | None = None


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What a run gave.

    :ivar descriptor: of the manifest or index; None for a docker archive
    :ivar image_ids: digest of each image's config
    :ivar original: whether manifests are the original ones, to the bit
    :ivar rebuilt: layers that were made of chunks
    """

    descriptor: Descriptor | None
    image_ids: tuple[BlobDigest, ...]
    original: bool
    rebuilt: int


def _open(
    source: Place, found: Found, options: ExportOptions, everything: bool, warn: Callable[[str], None]
) -> Iterator[WrappedImage]:
    for choice in found.choose_wrappers(options.platform, everything, warn):
        with WrappedImage.open(source, choice.descriptor, found.where, options.store) as image:
            _check(image, options)
            yield image


def _check(image: WrappedImage, options: ExportOptions) -> None:
    """:raises ImageError: the image cannot be had back, or contradicts itself"""
    if image.wrapper.squashed:
        raise ImageError(image.where, "its layers were merged when it was converted: there is no way back")
    config = ImageConfig.parse(image.source_config, f"{image.where}, image config")
    ours = tuple(layer.diff_id for layer in image.config.layers)
    if config.diff_ids != ours:
        raise ImageError(image.where, "its layers are not those that the image config names")
    manifest = image.source_manifest
    if manifest.config.digest != image.wrapper.source_config.digest or len(manifest.layers) != len(ours):
        raise ImageError(image.where, "its source manifest is about another image")
    for number, layer in enumerate(image.config.layers):
        if layer.tar_size > options.layer_limit:
            raise ImageError(image.label(number), f"the layer is larger than {options.layer_limit} bytes")


def export(
    source: Place,
    reference: str | None,
    sink: WritablePlace,
    tag: str,
    options: ExportOptions,
    *,
    progress: ProgressCallback | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> ExportResult:
    """Give images back to a layout or registry, and let `tag` name them.

    :raises ImageError: it is no converted image, or does not give the original
    :raises StoreError: a chunk is missing or corrupt
    """
    found = look_up(source, reference)
    reporter = Reporter(progress)
    runs: list[_Export] = []
    for image in _open(source, found, options, options.all_platforms, warn):
        run = _Export(image, sink, options, reporter)
        run.run()
        runs.append(run)
    given = [run.manifest.descriptor.digest for run in runs]
    about = attestations(found, given)
    copy_beneath(source, about, sink)
    original = found.noted
    if original is not None and names_only(original, [*given, *(one.digest for one in about)]):
        root = original.descriptor
        sink.put_manifest(root, original.raw)
    elif len(runs) == 1 and not options.all_platforms and not about:
        root = runs[0].manifest.descriptor
    else:
        images = [replace(run.manifest.descriptor, platform=run.platform) for run in runs]
        index = ImageIndex.build([*images, *about])
        root = index.descriptor
        sink.put_manifest(root, index.raw)
    attached = find_attached(source, [root.digest, *given], warn)
    if attached and source is not sink:
        if sink.roomy:
            copy_attached(source, attached, sink, warn)
        else:
            warn(
                f"{sink.name}: there is no room for the {len(attached)} signatures or attestations of the image"
            )
    _tell_lost(source, found, runs, warn)
    sink.tag(tag, root)
    return ExportResult(
        root,
        tuple(run.image_id for run in runs),
        all(run.original for run in runs),
        sum(run.rebuilt for run in runs),
    )


def _tell_lost(source: Place, found: Found, runs: Sequence[_Export], warn: Callable[[str], None]) -> None:
    """Warn of what is attached to an image that was not given back to the bit."""
    for run in runs:
        if not run.original:
            digest = run.source_digest
            if attestations(found, [digest]) or find_attached(source, [digest]):
                warn(
                    f"what is attached to {digest} (signatures, attestations) does not hold for what was given back, "
                    f"{run.manifest.descriptor.digest}, whose layers are compressed in another way"
                )


class _Export:
    """One image being given back.

    :ivar manifest: what names it at the destination
    """

    def __init__(
        self, image: WrappedImage, sink: WritablePlace, options: ExportOptions, reporter: Reporter
    ) -> None:
        self._image = image
        self._sink = sink
        self._options = options
        self._reporter = reporter
        self._done: dict[BlobDigest, Descriptor] = {}
        self.manifest = image.source_manifest
        self.source_digest = image.source_manifest.descriptor.digest
        image.check_source()
        self.platform = image.config.platform
        self.image_id = image.wrapper.source_config.digest
        self.original = True
        self.rebuilt = 0

    def run(self) -> None:
        """Store blobs and manifest."""
        source = self._image.source_manifest
        layers = []
        for number, blob in enumerate(source.layers):
            config = self._image.config.layers[number]
            if config.source.digest != blob.digest:
                raise ImageError(self._image.label(number), "the source manifest names another blob for it")
            if blob.digest not in self._done:
                self._done[blob.digest] = self._layer(number, blob)
            layers.append(self._done[blob.digest])
        self._sink.borrow(source.config, self._image.source)
        self.original = all(
            ours.digest == theirs.digest for ours, theirs in zip(layers, source.layers, strict=True)
        )
        if not self.original:
            self.manifest = ImageManifest.build(
                source.config, layers, media_type=source.media_type, annotations=source.annotations
            )
        self._sink.put_manifest(self.manifest.descriptor, self.manifest.raw)

    def _layer(self, number: int, blob: Descriptor) -> Descriptor:
        """Have a layer at the destination: the original blob where it can be had."""
        diff_id = self._image.diff_id(number)
        if not self._options.rebuild:
            if self._sink.has(blob) and self._is_sound(blob):
                return blob
            if self._has_original(blob):
                self._sink.borrow(blob, self._image.source)
                return blob
        self.rebuilt += 1
        self._image.prefetch(number)
        pieces = _reported(self._image.rebuild(number), self._reporter)
        if blob.digest == diff_id:
            self._sink.put(blob, pieces)
            return blob
        return self._rebuilt(number, blob, pieces)

    def _is_sound(self, blob: Descriptor) -> bool:
        """Whether a blob at the destination is what it should be, as far as that costs nothing to find out."""
        if not self._sink.near:
            return True
        try:
            with self._sink.open(blob) as stream:
                while stream.read(_PIECE):
                    pass
        except BlobError:
            return False
        return True

    def _has_original(self, blob: Descriptor) -> bool:
        try:
            return self._image.source.has(blob)
        except CasyncError:
            return False  # a repository that may not be asked

    def _rebuilt(self, number: int, blob: Descriptor, pieces: Iterator[bytes]) -> Descriptor:
        compression = self._options.compression
        media_type = _layer_type(self._image.source_manifest.media_type, compression)
        if compression is LayerCompression.NONE:
            config = self._image.config.layers[number]
            descriptor = Descriptor(media_type, config.diff_id, config.tar_size, blob.annotations)
            self._sink.put(descriptor, pieces)
            return descriptor
        with self._sink.stage() as staged:
            for piece in _compressed(pieces, compression):
                staged.write(piece)
            return staged.commit(media_type, blob.annotations)


def _layer_type(manifest_type: str, compression: LayerCompression) -> str:
    if manifest_type == media.DOCKER_MANIFEST:
        return media.DOCKER_LAYER + _DOCKER_SUFFIX[compression]
    return media.OCI_LAYER + _SUFFIX[compression]


def _compressed(pieces: Iterator[bytes], compression: LayerCompression) -> Iterator[bytes]:
    """The same bytes for the same tar: zlib and not isal, no time and no name in the header."""
    if compression is LayerCompression.GZIP:
        # What Python's gzip module would write with mtime=0, but for the operating system: "unknown", as Go has it.
        yield b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
        deflate = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        crc = size = 0
        for piece in pieces:
            crc = zlib.crc32(piece, crc)
            size += len(piece)
            if data := deflate.compress(piece):
                yield data
        yield deflate.flush() + crc.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")
        return
    import zstandard  # lazily: few runs write such layers

    stream = zstandard.ZstdCompressor(level=3).compressobj()
    for piece in pieces:
        if data := stream.compress(piece):
            yield data
    yield stream.flush()


def _reported(pieces: Iterator[bytes], reporter: Reporter) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        reporter.state.done += len(piece)
        if reporter.due:
            reporter.report()


def export_archive(
    source: Place,
    reference: str | None,
    path: bytes,
    tags: Sequence[str],
    options: ExportOptions,
    *,
    progress: ProgressCallback | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> ExportResult:
    """Give one image back as a docker archive, whose layers are uncompressed: of a converted image the original, else
    the image itself.

    :param path: the file; it appears whole or not at all
    :param tags: names of the image in it
    """
    found = look_up(source, reference)
    reporter = Reporter(progress)
    if not found.wrappers:
        (choice,) = found.choose_plain(options.platform, warn=warn)
        return _plain_archive(source, found, choice.descriptor, path, tags, options.layer_limit, reporter)
    image_ids = []
    rebuilt = 0
    for image in _open(source, found, options, False, warn):
        layers = [
            (image.diff_id(number), image.config.layers[number].tar_size, _Lazy(image, number, reporter))
            for number in range(len(image))
        ]
        write_docker_archive(path, ArchiveImage(image.source_config, layers, tags))
        image_ids.append(image.wrapper.source_config.digest)
        rebuilt = len(layers)
    return ExportResult(None, tuple(image_ids), False, rebuilt)


def _plain_archive(
    source: Place,
    found: Found,
    descriptor: Descriptor,
    path: bytes,
    tags: Sequence[str],
    limit: int,
    reporter: Reporter,
) -> ExportResult:
    manifest = ImageManifest.parse(source.read_manifest(descriptor), found.where, descriptor.media_type)
    raw = source.read(manifest.config)
    config = ImageConfig.parse(raw, f"{found.where}, config")
    if len(config.diff_ids) != len(manifest.layers):
        raise ImageError(
            found.where, f"it has {len(manifest.layers)} layers, but its config names {len(config.diff_ids)}"
        )
    with (
        ExitStack() as stack
    ):  # sizes stand before what they are of, so that all layers are decompressed first
        layers = []
        for number, (blob, diff_id) in enumerate(zip(manifest.layers, config.diff_ids, strict=True)):
            where = f"{found.where}, layer {number}"
            tar = stack.enter_context(open_layer_tar(source, blob, diff_id, where=where, limit=limit))
            layers.append((diff_id, tar.size, _reported(_read_all(tar), reporter)))
        write_docker_archive(path, ArchiveImage(raw, layers, tags))
    return ExportResult(None, (manifest.config.digest,), False, 0)


def _read_all(tar: LayerTar) -> Iterator[bytes]:
    for offset in range(0, tar.size, _PIECE):
        yield tar.view.read_at(offset, min(_PIECE, tar.size - offset))


class _Lazy:
    """A layer's tar that is made when somebody reads it."""

    def __init__(self, image: WrappedImage, number: int, reporter: Reporter) -> None:
        self._image = image
        self._number = number
        self._reporter = reporter

    def __iter__(self) -> Iterator[bytes]:
        self._image.prefetch(self._number)
        return _reported(self._image.rebuild(self._number), self._reporter)
