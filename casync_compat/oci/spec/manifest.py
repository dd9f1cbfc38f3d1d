"""Image manifests, indexes and configs of OCI and docker: parsed with their raw bytes beside them, and built.

    >>> manifest = ImageManifest.parse(data, "oci:dir:tag")
    >>> manifest.config.digest, [layer.size for layer in manifest.layers]

What a digest was made of is never written anew: `raw` is what goes on. Rules are those of the OCI image specification
1.1 (`manifest.md`, `image-index.md`, `config.md`) and of docker's schema 2. Manifests of docker's schema 1, which have
no image config, are refused. No IO.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from casync_compat.oci.spec import media
from casync_compat.oci.spec.descriptor import (
    BlobDigest,
    Descriptor,
    Platform,
    canonical_json,
    parse_annotations,
    parse_json,
)
from casync_compat.oci.spec.errors import ImageError

__all__ = ["ImageConfig", "ImageIndex", "ImageManifest", "parse_document"]

_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+"


def _descriptors(value: object, where: str, member: str) -> tuple[Descriptor, ...]:
    if value is None:
        return ()  # Go writes an empty list so, and reads a member that is not there as one
    if not isinstance(value, list):
        raise ImageError(where, f"{member} must be a list of descriptors")
    return tuple(Descriptor.from_json(one, f"{where}, {member}[{n}]") for n, one in enumerate(value))


def _text(document: Mapping[str, Any], member: str, where: str) -> str:
    found = document.get(member)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise ImageError(where, f"{member} must be a string")
    return found


@dataclass(frozen=True, slots=True)
class ImageManifest:
    """A manifest: a config and layers, of an image or of an artifact.

    :ivar raw: its bytes, of which the digest is made
    :ivar artifact_type: empty when there is none
    """

    raw: bytes
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: bytes, where: str, media_type: str = "") -> ImageManifest:
        """:raises ImageError: it is no manifest"""
        document = parse_document(data, where, media_type)
        if not isinstance(document, cls):
            raise ImageError(where, "this is an image index where a manifest was expected")
        return document

    @classmethod
    def build(
        cls,
        config: Descriptor,
        layers: Iterable[Descriptor],
        *,
        media_type: str = media.OCI_MANIFEST,
        artifact_type: str = "",
        annotations: Mapping[str, str] | None = None,
    ) -> ImageManifest:
        """A manifest in canonical form."""
        layers = tuple(layers)
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": config.to_json(),
            "layers": [layer.to_json() for layer in layers],
        }
        if artifact_type:
            document["artifactType"] = artifact_type
        if annotations:
            document["annotations"] = dict(annotations)
        raw = canonical_json(document)
        return cls(raw, media_type, config, layers, artifact_type, dict(annotations or {}))

    @property
    def descriptor(self) -> Descriptor:
        """What points at it."""
        return Descriptor.of(self.media_type, self.raw)

    @property
    def is_image(self) -> bool:
        """Whether it is a container image: an artifact has a config of another type."""
        return self.config.media_type in media.CONFIG_TYPES

    @property
    def is_wrapper(self) -> bool:
        """Whether it is an image that was converted to casync indexes."""
        return self.artifact_type == media.ARTIFACT_TYPE or self.config.media_type == media.WRAPPER_CONFIG

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Config and layers, each once."""
        return tuple({blob.digest: blob for blob in (self.config, *self.layers)}.values())


@dataclass(frozen=True, slots=True)
class ImageIndex:
    """An image index: manifests, for several platforms say.

    :ivar raw: its bytes, of which the digest is made
    """

    raw: bytes
    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def build(
        cls,
        manifests: Iterable[Descriptor],
        *,
        media_type: str = media.OCI_INDEX,
        annotations: Mapping[str, str] | None = None,
    ) -> ImageIndex:
        """An index in canonical form."""
        manifests = tuple(manifests)
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "manifests": [manifest.to_json() for manifest in manifests],
        }
        if annotations:
            document["annotations"] = dict(annotations)
        return cls(canonical_json(document), media_type, manifests, dict(annotations or {}))

    def entries(self) -> list[dict[str, Any]]:
        """The entries as they stand in it, with every member that anybody gave them."""
        return list(parse_json(self.raw, "image index").get("manifests") or ())

    def spliced(self, entries: list[dict[str, Any]], where: str) -> ImageIndex:
        """This index with other entries, all else in it as it stands; itself, to the byte, when they are the same.

        :raises ImageError: something in it cannot be written again as it was
        """
        if entries == self.entries():
            return self
        document = parse_json(self.raw, where)
        document.update(schemaVersion=2, mediaType=media.OCI_INDEX, manifests=entries)
        try:
            raw = canonical_json(document)
        except (TypeError, ValueError) as error:
            raise ImageError(
                where, f"its image index cannot be written again as it stands: {error}"
            ) from error
        index = parse_document(raw, where)
        assert isinstance(index, ImageIndex)
        return index

    @property
    def descriptor(self) -> Descriptor:
        """What points at it."""
        return Descriptor.of(self.media_type, self.raw)


def parse_document(data: bytes, where: str, media_type: str = "") -> ImageManifest | ImageIndex:
    """A manifest or an image index, whichever it is.

    :param where: what it is, for messages
    :param media_type: what the descriptor or the registry said; empty when nobody said anything
    :raises ImageError: it is neither, or not what `media_type` says. A document that could be read as both is refused
        (CVE-2021-41190), so that nobody sees another image under the same digest
    """
    document = parse_json(data, where)
    said = _text(document, "mediaType", where)
    if document.get("schemaVersion") == 1 or said.startswith(_SCHEMA_1):
        raise ImageError(where, "docker manifests of schema 1 are not supported; push the image anew")
    if type(document.get("schemaVersion")) is not int or document["schemaVersion"] != 2:
        raise ImageError(where, "it is no image manifest or index: schemaVersion is not 2")
    if said and media_type and said != media_type:
        raise ImageError(where, f"it says that it is {said}, but was announced as {media_type}")
    has_layers = any(document.get(member) is not None for member in ("layers", "config"))
    has_manifests = document.get("manifests") is not None
    if has_layers and has_manifests:
        raise ImageError(where, "it has both layers and manifests, so that it could be read as two things")
    kind = said or media_type
    if not kind:
        kind = media.OCI_INDEX if "manifests" in document and not has_layers else media.OCI_MANIFEST
    if kind in media.INDEX_TYPES:
        found = _descriptors(document.get("manifests"), where, "manifests")
        return ImageIndex(data, kind, found, parse_annotations(document, where))
    if kind not in media.MANIFEST_TYPES:
        raise ImageError(where, f"{kind} is no image manifest or index")
    return ImageManifest(
        data,
        kind,
        Descriptor.from_json(document.get("config"), f"{where}, config"),
        _descriptors(document.get("layers"), where, "layers"),
        _text(document, "artifactType", where),
        parse_annotations(document, where),
    )


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What is read of an image config; everything else in it stays in `raw`.

    :ivar diff_ids: digests of the uncompressed layers, from the base upwards
    """

    raw: bytes
    platform: Platform
    diff_ids: tuple[BlobDigest, ...]

    @classmethod
    def parse(cls, data: bytes, where: str) -> ImageConfig:
        """:raises ImageError: it is no image config"""
        document = parse_json(data, where)
        texts = [_text(document, member, where) for member in ("os", "architecture", "variant")]
        rootfs = document.get("rootfs")
        if not isinstance(rootfs, dict) or rootfs.get("type") != "layers":
            raise ImageError(where, "it is no image config: rootfs is missing, or does not consist of layers")
        diff_ids = rootfs.get("diff_ids")
        if diff_ids is None:
            diff_ids = []  # Go writes an empty list so
        if not isinstance(diff_ids, list):
            raise ImageError(where, "rootfs.diff_ids must be a list")
        parsed = tuple(
            BlobDigest.parse(one, f"{where}, rootfs.diff_ids[{n}]") for n, one in enumerate(diff_ids)
        )
        return cls(data, Platform(texts[0] or "linux", texts[1] or "unknown", texts[2]), parsed)
