"""Manifests, indexes and image configs: read as they are, refused where they could be read in two ways."""

from __future__ import annotations

import json
from typing import Any

import pytest

from casync_compat.oci.spec import media
from casync_compat.oci.spec.descriptor import Descriptor, Platform
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.spec.manifest import ImageConfig, ImageIndex, ImageManifest, parse_document

CONFIG = Descriptor.of(media.OCI_CONFIG, b"config")
LAYER = Descriptor.of(media.OCI_LAYER_GZIP, b"layer")
MANIFEST: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": media.OCI_MANIFEST,
    "config": CONFIG.to_json(),
    "layers": [LAYER.to_json()],
}
INDEX: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": media.OCI_INDEX,
    "manifests": [Descriptor.of(media.OCI_MANIFEST, b"x").to_json()],
}


def test_what_is_built_is_read_again() -> None:
    """A manifest that was built reads as what it was built of."""
    built = ImageManifest.build(CONFIG, [LAYER], artifact_type="a/b", annotations={"k": "v"})
    assert ImageManifest.parse(built.raw, "x") == built
    index = ImageIndex.build([built.descriptor], annotations={"k": "v"})
    assert parse_document(index.raw, "x") == index


def test_the_bytes_are_kept() -> None:
    """The digest is that of the bytes that were read, however they are spaced."""
    data = json.dumps(MANIFEST, indent=3).encode()
    assert ImageManifest.parse(data, "x").raw == data
    assert ImageManifest.parse(data, "x").descriptor == Descriptor.of(media.OCI_MANIFEST, data)


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        (MANIFEST, ImageManifest),
        ({**MANIFEST, "mediaType": media.DOCKER_MANIFEST}, ImageManifest),
        ({k: v for k, v in MANIFEST.items() if k != "mediaType"}, ImageManifest),
        (INDEX, ImageIndex),
        ({**INDEX, "mediaType": media.DOCKER_INDEX}, ImageIndex),
        ({k: v for k, v in INDEX.items() if k != "mediaType"}, ImageIndex),
    ],
)
def test_kinds(members: dict[str, Any], kind: type) -> None:
    """The media type tells what it is, and where that is missing the members do."""
    assert type(parse_document(json.dumps(members).encode(), "x")) is kind


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({**MANIFEST, "manifests": []}, "both layers and manifests"),
        ({**INDEX, "config": CONFIG.to_json()}, "both layers and manifests"),
        ({**MANIFEST, "schemaVersion": 1}, "schema 1 are not supported"),
        ({**MANIFEST, "mediaType": "application/vnd.docker.distribution.manifest.v1+prettyjws"}, "schema 1"),
        ({**MANIFEST, "schemaVersion": 2.0}, "schemaVersion is not 2"),
        ({**MANIFEST, "schemaVersion": None}, "schemaVersion is not 2"),
        ({**MANIFEST, "mediaType": "text/plain"}, "no image manifest"),
        ({**MANIFEST, "mediaType": 3}, "mediaType must be a string"),
        ({**MANIFEST, "config": None}, "must be an object"),
        ({**MANIFEST, "layers": 0}, "list of descriptors"),
        ({**MANIFEST, "layers": [{}]}, "layers\\[0\\]: a descriptor has the bad media type"),
        ({**MANIFEST, "annotations": {"a": 1}}, "annotations"),
        ({**INDEX, "manifests": {}}, "list of descriptors"),
        ([], "not an object"),
    ],
)
def test_refused(members: object, says: str) -> None:
    """What is malformed or ambiguous is refused, and the message says what it is."""
    with pytest.raises(ImageError, match=says):
        parse_document(json.dumps(members).encode(), "oci:x")


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        ({**MANIFEST, "layers": None}, ImageManifest),
        ({k: v for k, v in MANIFEST.items() if k != "layers"}, ImageManifest),
        ({"schemaVersion": 2, "config": CONFIG.to_json()}, ImageManifest),
        ({"schemaVersion": 2, "config": CONFIG.to_json(), "layers": None, "manifests": None}, ImageManifest),
        ({**INDEX, "manifests": None}, ImageIndex),
        ({k: v for k, v in INDEX.items() if k != "manifests"}, ImageIndex),
        ({"schemaVersion": 2, "manifests": None}, ImageIndex),
        ({"schemaVersion": 2, "manifests": None, "mediaType": None, "annotations": None}, ImageIndex),
    ],
)
def test_empty_lists_as_go_writes_them(members: dict[str, Any], kind: type) -> None:
    """A list that is null or not there is empty, as it is for every tool written in Go."""
    document = parse_document(json.dumps(members).encode(), "x")
    assert type(document) is kind
    assert (document.layers if isinstance(document, ImageManifest) else document.manifests) == ()


def test_other_than_announced() -> None:
    """A document of another type than its descriptor says is refused: digests are of types, too."""
    with pytest.raises(ImageError, match="announced as"):
        parse_document(json.dumps(MANIFEST).encode(), "x", media.DOCKER_MANIFEST)


def test_an_index_is_no_manifest() -> None:
    """Where a manifest is needed, an index will not do."""
    with pytest.raises(ImageError, match="this is an image index"):
        ImageManifest.parse(json.dumps(INDEX).encode(), "x")


def test_artifacts() -> None:
    """Images are told by their config, and ours by their artifact type or config."""
    assert ImageManifest.build(CONFIG, [LAYER]).is_image
    artifact = ImageManifest.build(Descriptor.of(media.OCI_EMPTY, b"{}"), [], artifact_type="a/b")
    assert not artifact.is_image
    assert not artifact.is_wrapper
    assert ImageManifest.build(CONFIG, [], artifact_type=media.ARTIFACT_TYPE).is_wrapper


def test_blobs_are_named_once() -> None:
    """A layer that stands twice is one blob."""
    assert ImageManifest.build(CONFIG, [LAYER, LAYER]).blobs == (CONFIG, LAYER)


def config(**members: object) -> bytes:
    digest = str(LAYER.digest)
    base = {"os": "linux", "architecture": "arm", "rootfs": {"type": "layers", "diff_ids": [digest]}}
    return json.dumps({**base, **members}).encode()


def test_image_config() -> None:
    """Platform and diff ids are read; the rest stays in the bytes."""
    parsed = ImageConfig.parse(config(variant="v7", other=1.5), "x")
    assert parsed.platform == Platform("linux", "arm", "v7")
    assert parsed.diff_ids == (LAYER.digest,)
    assert parsed.raw == config(variant="v7", other=1.5)
    assert ImageConfig.parse(config(rootfs={"type": "layers", "diff_ids": None}), "x").diff_ids == ()


@pytest.mark.parametrize(
    "members",
    [
        {"rootfs": None},
        {"rootfs": {"type": "x", "diff_ids": []}},
        {"rootfs": {"type": "layers", "diff_ids": {}}},
        {"rootfs": {"type": "layers", "diff_ids": ["md5:00"]}},
        {"os": 3},
    ],
)
def test_bad_image_configs(members: dict[str, object]) -> None:
    """A config without usable diff ids is refused."""
    with pytest.raises(ImageError):
        ImageConfig.parse(config(**members), "x")
