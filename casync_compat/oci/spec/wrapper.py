"""The manifest and config of a converted image: which blob is what, checked against each other. Bytes are in README.md.

    >>> wrapper = Wrapper.of(ImageManifest.parse(data, where), where)
    >>> config = WrapperConfig.parse(config_bytes, where)
    >>> config.check(wrapper, where)

No IO: blobs are fetched by `casync_compat.oci.image.wrapped`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from casync_compat.chunker.params import ChunkSizes
from casync_compat.compression import Compression
from casync_compat.errors import UsageError
from casync_compat.ids import Digest
from casync_compat.oci.spec import media
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor, Platform, canonical_json, parse_json
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.spec.manifest import ImageManifest

__all__ = ["LayerBlobs", "LayerConfig", "Wrapper", "WrapperConfig"]

_FORMAT = "1"
_CHUNKER = "casync-buzhash"
_WINDOW = 48
_MAX_INT = 1 << 53  # what JSON numbers hold exactly (RFC 7493)
_MTIMES = ("epoch", "keep")


@dataclass(frozen=True, slots=True)
class LayerBlobs:
    """The blobs of one layer.

    :ivar index: a `.caidx` over the layer as an archive, or a `.caibx` over the tar itself
    :ivar recipe: what makes the tar of the archive again; None beside a `.caibx`
    """

    index: Descriptor
    recipe: Descriptor | None

    @property
    def is_tree(self) -> bool:
        """Whether the layer is an archive of a tree, rather than a tar cut into chunks."""
        return self.index.media_type == media.TREE_INDEX


@dataclass(frozen=True, slots=True)
class Wrapper:
    """The manifest of a converted image, its descriptors told apart.

    :ivar layers: from the base upwards
    :ivar packs: in the order in which the layers first use them
    """

    manifest: ImageManifest
    source_config: Descriptor
    source_manifest: Descriptor
    pack_index: Descriptor
    layers: tuple[LayerBlobs, ...]
    packs: tuple[Descriptor, ...]

    @property
    def config(self) -> Descriptor:
        """The descriptor of the `WrapperConfig`."""
        return self.manifest.config

    @classmethod
    def of(cls, manifest: ImageManifest, where: str) -> Wrapper:
        """:raises ImageError: it is not the manifest of a converted image, or of a later version"""
        if not manifest.is_wrapper:
            raise ImageError(where, "it is not a converted image; convert it with `pycasync oci convert`")
        version = manifest.annotations.get(media.NOTE_FORMAT)
        if manifest.artifact_type != media.ARTIFACT_TYPE or version != _FORMAT:
            raise ImageError(where, f"it was converted in a format ({version}) that this version cannot read")
        if manifest.config.media_type != media.WRAPPER_CONFIG:
            raise ImageError(where, f"its config has the type {manifest.config.media_type}")
        rest = list(manifest.layers)
        source_config = _take(rest, media.CONFIG_TYPES, where, "the image config")
        source_manifest = _take(rest, {media.SOURCE_MANIFEST}, where, "the source manifest")
        pack_index = _take(rest, {media.PACK_INDEX}, where, "the pack index")
        layers: list[LayerBlobs] = []
        while rest and rest[0].media_type in (media.TREE_INDEX, media.BLOB_INDEX):
            index = rest.pop(0)
            recipe = None
            if index.media_type == media.TREE_INDEX:
                recipe = _take(rest, {media.RECIPE}, where, "a recipe")
            if any(
                blob is not None and blob.annotations.get(media.NOTE_LAYER) != str(len(layers))
                for blob in (index, recipe)
            ):
                raise ImageError(where, f"the index or recipe of layer {len(layers)} is noted as another's")
            layers.append(LayerBlobs(index, recipe))
        for blob in rest:
            if blob.media_type not in media.PACK_TYPES:
                raise ImageError(where, f"there is a blob of type {blob.media_type} where a pack should be")
        return cls(manifest, source_config, source_manifest, pack_index, tuple(layers), tuple(rest))

    @classmethod
    def build(
        cls,
        config: Descriptor,
        source_config: Descriptor,
        source_manifest: Descriptor,
        pack_index: Descriptor,
        layers: Iterable[tuple[LayerBlobs, BlobDigest]],
        packs: Iterable[Descriptor],
        *,
        squashed: bool = False,
    ) -> Wrapper:
        """The manifest for these blobs.

        :param layers: each with its diff id
        """
        noted = []
        for number, (blobs, diff_id) in enumerate(layers):
            note = {media.NOTE_LAYER: str(number)}
            index = replace(blobs.index, annotations={**note, media.NOTE_LAYER_DIFF_ID: str(diff_id)})
            recipe = replace(blobs.recipe, annotations=note) if blobs.recipe is not None else None
            noted.append(LayerBlobs(index, recipe))
        packs = tuple(packs)
        blobs_ = [source_config, source_manifest, pack_index]
        for layer in noted:
            blobs_ += [layer.index] if layer.recipe is None else [layer.index, layer.recipe]
        notes = {media.NOTE_FORMAT: _FORMAT}
        if squashed:
            notes[media.NOTE_SQUASHED] = "true"
        manifest = ImageManifest.build(
            config, [*blobs_, *packs], artifact_type=media.ARTIFACT_TYPE, annotations=notes
        )
        return cls(manifest, source_config, source_manifest, pack_index, tuple(noted), packs)

    @property
    def squashed(self) -> bool:
        """Whether layers were merged, so that the image it was made from cannot be had back."""
        return self.manifest.annotations.get(media.NOTE_SQUASHED) == "true"


def _take(rest: list[Descriptor], types: Iterable[str], where: str, what: str) -> Descriptor:
    if not rest or rest[0].media_type not in types:
        raise ImageError(where, f"{what} is not where it should be among the blobs of a converted image")
    return rest.pop(0)


@dataclass(frozen=True, slots=True)
class LayerConfig:
    """What is known of one layer.

    :ivar kind: `caidx` or `caibx`
    :ivar recipe: None for a `caibx`
    :ivar diff_id: digest of the uncompressed tar
    :ivar stream_size: bytes of what the index describes: the archive, or the tar
    :ivar tar_size: bytes of the uncompressed tar
    :ivar feature_flags: of the archive; 0 for a `caibx`
    :ivar hardlink_groups: files with several names in this layer
    :ivar source: the layer blob that it was made from
    """

    kind: str
    index: BlobDigest
    recipe: BlobDigest | None
    diff_id: BlobDigest
    stream_size: int
    tar_size: int
    feature_flags: int
    hardlink_groups: int
    source: Descriptor

    def to_json(self) -> dict[str, Any]:
        """The JSON object."""
        out: dict[str, Any] = {
            "kind": self.kind,
            "index": str(self.index),
            "diffId": str(self.diff_id),
            "tarSize": self.tar_size,
            "source": self.source.to_json(),
        }
        if self.recipe is not None:
            out["recipe"] = str(self.recipe)
            out["catarSize"] = self.stream_size
            out["featureFlags"] = f"{self.feature_flags:#x}"
            out["hardlinkGroups"] = self.hardlink_groups
            out["whiteouts"] = "oci"
        return out

    @classmethod
    def from_json(cls, value: object, where: str) -> LayerConfig:
        """:raises ImageError: it is not such an object"""
        layer = _object(value, where)
        kind = layer.get("kind")
        if kind not in ("caidx", "caibx"):
            raise ImageError(where, f"{str(kind)[:40]!r} is no kind of layer that this version knows")
        tar_size = _number(layer, "tarSize", where)
        tree = kind == "caidx"
        if tree and layer.get("whiteouts") != "oci":
            raise ImageError(where, f"whiteouts of the form {layer.get('whiteouts')!r} are not supported")
        return cls(
            kind,
            BlobDigest.parse(layer.get("index"), where),
            BlobDigest.parse(layer.get("recipe"), where) if tree else None,
            BlobDigest.parse(layer.get("diffId"), where),
            _number(layer, "catarSize", where) if tree else tar_size,
            tar_size,
            _hexadecimal(layer.get("featureFlags"), where) if tree else 0,
            _number(layer, "hardlinkGroups", where) if tree else 0,
            Descriptor.from_json(layer.get("source"), f"{where}, source"),
        )


@dataclass(frozen=True, slots=True)
class WrapperConfig:
    """How an image was converted, and from what.

    :ivar mtime: whether archives carry the times of the tar (`keep`) or none (`epoch`)
    :ivar epoch: the latest time that archives may carry, in seconds since 1970; times in them are not later
    :ivar source_manifest: the manifest the image was made from, which is stored verbatim
    """

    platform: Platform
    sizes: ChunkSizes
    digest: Digest
    compression: Compression
    mtime: str
    epoch: int
    layers: tuple[LayerConfig, ...]
    source_manifest: Descriptor
    source_config: Descriptor

    def to_bytes(self) -> bytes:
        """The JSON document, in canonical form."""
        platform = {"os": self.platform.os, "architecture": self.platform.architecture}
        if self.platform.variant:
            platform["variant"] = self.platform.variant
        return canonical_json(
            {
                "version": 1,
                **platform,
                "chunker": {
                    "name": _CHUNKER,
                    "window": _WINDOW,
                    "min": self.sizes.min,
                    "avg": self.sizes.avg,
                    "max": self.sizes.max,
                },
                "chunkDigest": self.digest.value,
                "chunkCompression": self.compression.value,
                "catar": {"mtime": self.mtime, "epoch": self.epoch, "userNames": False},
                "rootfs": {"type": "layers", "diff_ids": [str(layer.diff_id) for layer in self.layers]},
                "layers": [layer.to_json() for layer in self.layers],
                "source": {
                    "manifest": self.source_manifest.to_json(),
                    "config": self.source_config.to_json(),
                },
            }
        )

    @classmethod
    def parse(cls, data: bytes, where: str) -> WrapperConfig:
        """:raises ImageError: it is no config of a converted image, or of a later version"""
        document = parse_json(data, where)
        if document.get("version") != 1:
            raise ImageError(
                where, f"version {str(document.get('version'))[:20]} is later than this program's"
            )
        chunker = _object(document.get("chunker"), f"{where}, chunker")
        catar = _object(document.get("catar"), f"{where}, catar")
        source = _object(document.get("source"), f"{where}, source")
        if chunker.get("name") != _CHUNKER or chunker.get("window") != _WINDOW:
            raise ImageError(where, f"the chunker {str(chunker.get('name'))[:40]!r} is not supported")
        if catar.get("mtime") not in _MTIMES:
            raise ImageError(where, "catar.mtime is neither epoch nor keep")
        layers = document.get("layers")
        if not isinstance(layers, list):
            raise ImageError(where, "layers must be a list")
        try:
            sizes = ChunkSizes(*(_number(chunker, member, where) for member in ("min", "avg", "max")))
            digest = Digest.parse(str(document.get("chunkDigest")))
            compression = Compression.parse(str(document.get("chunkCompression")))
        except UsageError as error:
            raise ImageError(where, str(error)) from error
        config = cls(
            Platform.from_json(
                {k: document[k] for k in ("os", "architecture", "variant") if k in document}, where
            ),
            sizes,
            digest,
            compression,
            catar["mtime"],
            _number(catar, "epoch", where),
            tuple(LayerConfig.from_json(one, f"{where}, layers[{n}]") for n, one in enumerate(layers)),
            Descriptor.from_json(source.get("manifest"), f"{where}, source"),
            Descriptor.from_json(source.get("config"), f"{where}, source"),
        )
        rootfs = _object(document.get("rootfs"), f"{where}, rootfs")
        if rootfs.get("diff_ids") != [str(layer.diff_id) for layer in config.layers]:
            raise ImageError(where, "rootfs.diff_ids and layers contradict each other")
        return config

    def check(self, wrapper: Wrapper, where: str) -> None:
        """:raises ImageError: it describes other blobs than the manifest has"""
        named = [(layer.index, layer.recipe) for layer in self.layers]
        stored = [
            (blobs.index.digest, blobs.recipe.digest if blobs.recipe is not None else None)
            for blobs in wrapper.layers
        ]
        if named != stored or any(
            (layer.kind == "caidx") != blobs.is_tree
            for layer, blobs in zip(self.layers, wrapper.layers, strict=True)
        ):
            raise ImageError(where, "the manifest's layers are not those that its config describes")
        for what, ours, theirs in (
            ("config", self.source_config, wrapper.source_config),
            ("manifest", self.source_manifest, wrapper.source_manifest),
        ):
            if (ours.digest, ours.size) != (theirs.digest, theirs.size):
                raise ImageError(where, f"the source {what} is not the one that its config describes")


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ImageError(where, "an object is missing, or is something else")
    return value


def _number(value: Mapping[str, Any], member: str, where: str) -> int:
    found = value.get(member)
    if type(found) is not int or not 0 <= found < _MAX_INT:
        raise ImageError(where, f"{member} must be a number from 0 to 2**53")
    return found


def _hexadecimal(value: object, where: str) -> int:
    if not isinstance(value, str) or not value.startswith("0x") or len(value) > 18:
        raise ImageError(where, "featureFlags must be a hexadecimal number like 0x1c")
    try:
        return int(value, 16)
    except ValueError:
        raise ImageError(where, "featureFlags must be a hexadecimal number like 0x1c") from None
