"""Describe images: layers, chunks, packs, and what is shared between layers.

>>> inspect_image(place, "debian").to_json()
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from casync_compat.oci.image.wrapped import WrappedImage
from casync_compat.oci.places.selection import look_up
from casync_compat.oci.spec.blobs import Place
from casync_compat.oci.spec.descriptor import Platform
from casync_compat.oci.spec.manifest import ImageManifest

__all__ = [
    "ImageInfo",
    "LayerInfo",
    "PackInfo",
    "PlainInfo",
    "TagInfo",
    "config_of",
    "inspect_image",
    "manifest_of",
]


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """A layer. Sizes are in bytes.

    :ivar kind: `caidx` for an archive, `caibx` for a tar cut into chunks
    :ivar unique_chunks: different chunks; `shared_chunks` of them are in a lower layer too
    :ivar source_size: of the blob that it was made from
    """

    diff_id: str
    kind: str
    tar_size: int
    stream_size: int
    index_size: int
    recipe_size: int
    chunks: int
    unique_chunks: int
    shared_chunks: int
    hardlink_groups: int
    source_size: int
    source_type: str


@dataclass(frozen=True, slots=True)
class PackInfo:
    """A pack. `live_size` bytes of it are chunks that this image uses."""

    digest: str
    size: int
    chunks: int
    live_size: int


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """A converted image.

    :ivar stored_size: all its blobs, plain layers apart
    :ivar unique_size: its different chunks before compression
    """

    digest: str
    platform: str
    image_id: str
    source_manifest: str
    squashed: bool
    chunk_sizes: str
    chunk_digest: str
    compression: str
    mtime: str
    layers: tuple[LayerInfo, ...]
    packs: tuple[PackInfo, ...]
    chunks: int
    unique_size: int
    tar_size: int
    source_size: int
    stored_size: int


@dataclass(frozen=True, slots=True)
class PlainInfo:
    """An image as it was, which stands beside."""

    digest: str
    platform: str
    size: int


@dataclass(frozen=True, slots=True)
class TagInfo:
    """What a tag leads to."""

    name: str
    digest: str
    media_type: str
    images: tuple[ImageInfo, ...]
    plain: tuple[PlainInfo, ...]

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)


def inspect_image(place: Place, reference: str | None) -> TagInfo:
    """Read the documents of what a tag leads to; no chunk is read.

    :raises ImageError: there is no such image, or it is malformed
    """
    found = look_up(place, reference)
    images = []
    for choice in found.wrappers:
        with WrappedImage.open(place, choice.descriptor, found.where) as image:
            images.append(_image(image))
    plain = []
    for choice in found.plain:
        manifest = ImageManifest.parse(place.read_manifest(choice.descriptor), found.where)
        plain.append(
            PlainInfo(
                str(choice.descriptor.digest),
                str(choice.platform or ""),
                sum(blob.size for blob in manifest.blobs),
            )
        )
    return TagInfo(found.where, str(found.root.digest), found.root.media_type, tuple(images), tuple(plain))


def manifest_of(place: Place, reference: str | None) -> bytes:
    """The manifest or image index that a tag names, as it is.

    :raises ImageError: there is no such image
    """
    return place.read_manifest(place.resolve(reference))


def config_of(
    place: Place,
    reference: str | None,
    platform: Platform | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> bytes:
    """An image's configuration as it is; of a converted image that of the image that it was made from.

    :param platform: of several images; None: this machine's
    :param warn: told that the only image is for another one
    :raises ImageError: there is no such image, or it is malformed
    """
    found = look_up(place, reference)
    if not found.plain:
        (choice,) = found.choose_wrappers(platform, warn=warn)
        with WrappedImage.open(place, choice.descriptor, found.where) as image:
            return place.read(image.wrapper.source_config)
    (choice,) = found.choose_plain(platform, warn=warn)
    return place.read(ImageManifest.parse(place.read_manifest(choice.descriptor), found.where).config)


def _image(image: WrappedImage) -> ImageInfo:
    wrapper, config = image.wrapper, image.config
    live = [0] * len(wrapper.packs)
    counts = [0] * len(wrapper.packs)
    unique_size = 0
    for _, at in image.pack_index:
        live[at.pack] += at.stored
        counts[at.pack] += 1
        unique_size += at.raw
    return ImageInfo(
        str(wrapper.manifest.descriptor.digest),
        str(config.platform),
        str(wrapper.source_config.digest),
        str(wrapper.source_manifest.digest),
        wrapper.squashed,
        str(config.sizes),
        config.digest.value,
        config.compression.value,
        config.mtime,
        tuple(_layers(image)),
        tuple(
            PackInfo(str(pack.digest), pack.size, counts[number], live[number])
            for number, pack in enumerate(wrapper.packs)
        ),
        len(image.pack_index),
        unique_size,
        sum(layer.tar_size for layer in config.layers),
        sum({layer.source.digest: layer.source.size for layer in config.layers}.values()),
        sum(blob.size for blob in wrapper.manifest.blobs),
    )


def _layers(image: WrappedImage) -> list[LayerInfo]:
    below: set[bytes] = set()
    layers = []
    for number, layer in enumerate(image.config.layers):
        blobs = image.wrapper.layers[number]
        index = image.index(number)
        ids: set[bytes] = set(index.ids())
        layers.append(
            LayerInfo(
                str(layer.diff_id),
                layer.kind,
                layer.tar_size,
                layer.stream_size,
                blobs.index.size,
                blobs.recipe.size if blobs.recipe is not None else 0,
                len(index),
                len(ids),
                len(ids & below),
                layer.hardlink_groups,
                layer.source.size,
                layer.source.media_type,
            )
        )
        below |= ids
    return layers
