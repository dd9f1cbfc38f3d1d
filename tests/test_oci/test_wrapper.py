"""The manifest and config of a converted image: what is built is read again, what contradicts itself is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from casync_compat.chunker.params import ChunkSizes
from casync_compat.compression import Compression
from casync_compat.ids import Digest
from casync_compat.oci.spec import media
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor, Platform
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.spec.manifest import ImageManifest
from casync_compat.oci.spec.wrapper import LayerBlobs, LayerConfig, Wrapper, WrapperConfig


def blob(media_type: str, name: str = "") -> Descriptor:
    return Descriptor.of(media_type, (name or media_type).encode())


TREE = LayerBlobs(blob(media.TREE_INDEX), blob(media.RECIPE))
TAR = LayerBlobs(blob(media.BLOB_INDEX), None)
DIFF_IDS = [BlobDigest.of(b"0"), BlobDigest.of(b"1")]
LAYERS = (
    LayerConfig(
        "caidx",
        TREE.index.digest,
        blob(media.RECIPE).digest,
        DIFF_IDS[0],
        900,
        1000,
        0x1C,
        2,
        blob(media.OCI_LAYER),
    ),
    LayerConfig("caibx", TAR.index.digest, None, DIFF_IDS[1], 10, 10, 0, 0, blob(media.OCI_LAYER, "1")),
)
CONFIG = WrapperConfig(
    Platform("linux", "arm64", "v8"),
    ChunkSizes(),
    Digest.SHA256,
    Compression.XZ,
    "keep",
    7,
    LAYERS,
    replace(blob(media.SOURCE_MANIFEST), media_type=media.DOCKER_MANIFEST),
    blob(media.OCI_CONFIG),
)  # fmt: skip


def wrapper() -> Wrapper:
    return Wrapper.build(
        Descriptor.of(media.WRAPPER_CONFIG, CONFIG.to_bytes()),
        blob(media.OCI_CONFIG),
        blob(media.SOURCE_MANIFEST),
        blob(media.PACK_INDEX),
        list(zip([TREE, TAR], DIFF_IDS, strict=True)),
        [blob(media.PACK_ZSTD), blob(media.PACK)],
    )


def test_round_trip() -> None:
    """Manifest and config are read as what they were built of, and fit each other."""
    built = wrapper()
    assert Wrapper.of(ImageManifest.parse(built.manifest.raw, "x"), "x") == built
    assert WrapperConfig.parse(CONFIG.to_bytes(), "x") == CONFIG
    CONFIG.check(built, "x")
    assert [layer.is_tree for layer in built.layers] == [True, False]


def test_order_of_blobs() -> None:
    """The order of blobs is fixed: config, manifest, pack index, layers from the base upwards, packs."""
    assert [layer.media_type for layer in wrapper().manifest.layers] == [
        *(media.OCI_CONFIG, media.SOURCE_MANIFEST, media.PACK_INDEX),
        *(media.TREE_INDEX, media.RECIPE, media.BLOB_INDEX, media.PACK_ZSTD, media.PACK),
    ]


def test_never_an_image_to_others() -> None:
    """Neither config type nor layer types are those of a container image, so that no runtime unpacks it."""
    manifest = wrapper().manifest
    assert manifest.artifact_type == media.ARTIFACT_TYPE
    assert manifest.config.media_type not in media.CONFIG_TYPES
    assert not {layer.media_type for layer in manifest.layers} & media.LAYER_TYPES


def rebuilt(change: Callable[[dict[str, Any]], object]) -> ImageManifest:
    document = json.loads(wrapper().manifest.raw)
    change(document)
    return ImageManifest.parse(json.dumps(document).encode(), "x")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d["layers"].pop(0), "the image config is not where it should be"),
        (lambda d: d["layers"].pop(1), "the source manifest is not"),
        (lambda d: d["layers"].pop(2), "the pack index is not"),
        (lambda d: d["layers"].pop(4), "a recipe is not"),
        (lambda d: d["layers"].pop(3), "where a pack should be"),
        (lambda d: d["layers"].reverse(), "the image config is not"),
        (lambda d: d["layers"].append(blob(media.OCI_LAYER).to_json()), "where a pack should be"),
        (lambda d: d["layers"][3]["annotations"].update({media.NOTE_LAYER: "1"}), "noted as another's"),
        (
            lambda d: d["annotations"].update({media.NOTE_FORMAT: "2"}),
            "format \\(2\\) that this version cannot",
        ),
        (lambda d: d.pop("annotations"), "format \\(None\\)"),
        (lambda d: d.update(artifactType="a/b"), "cannot read"),
        (lambda d: d.update(config=blob(media.OCI_CONFIG).to_json()), "its config has the type"),
    ],
)
def test_bad_manifests(change: Callable[[dict[str, Any]], object], says: str) -> None:
    """A manifest whose blobs are not what and where they should be is refused."""
    with pytest.raises(ImageError, match=says):
        Wrapper.of(rebuilt(change), "x")


def test_other_artifacts() -> None:
    """An artifact of somebody else is not taken for ours."""
    other = ImageManifest.build(blob(media.OCI_EMPTY), [], artifact_type="a/b")
    with pytest.raises(ImageError, match="not a converted image; convert it"):
        Wrapper.of(other, "x")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(version=2), "version 2 is later"),
        (lambda d: d["chunker"].update(name="fastcdc"), "chunker 'fastcdc' is not supported"),
        (lambda d: d["chunker"].update(min=0), "bad chunk sizes"),
        (lambda d: d["chunker"].update(min="1"), "min must be a number"),
        (lambda d: d["chunker"].update(max=True), "max must be a number"),
        (lambda d: d.update(chunkDigest="md5"), "unknown digest"),
        (lambda d: d.update(chunkCompression="lz4"), "unknown compression"),
        (lambda d: d["catar"].update(mtime="x"), "neither epoch nor keep"),
        (lambda d: d.update(layers={}), "layers must be a list"),
        (lambda d: d["layers"][0].update(kind="tar"), "no kind of layer"),
        (lambda d: d["layers"][0].update(catarSize=-1), "catarSize must be"),
        (lambda d: d["layers"][0].update(whiteouts="overlayfs"), "whiteouts of the form 'overlayfs'"),
        (lambda d: d["layers"][0].update(featureFlags="1c"), "hexadecimal"),
        (lambda d: d["layers"][0].pop("recipe"), "a digest must be a string"),
        (lambda d: d["layers"].pop(), "contradict each other"),
        (lambda d: d["rootfs"]["diff_ids"].reverse(), "contradict each other"),
        (lambda d: d.pop("source"), "an object is missing"),
    ],
)
def test_bad_configs(change: Callable[[dict[str, Any]], object], says: str) -> None:
    """A config with something missing, unknown or impossible is refused."""
    document = json.loads(CONFIG.to_bytes())
    change(document)
    with pytest.raises(ImageError, match=says):
        WrapperConfig.parse(json.dumps(document).encode(), "x")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (replace(CONFIG, layers=LAYERS[:1]), "not those that its config describes"),
        (replace(CONFIG, layers=LAYERS[::-1]), "not those that its config describes"),
        (replace(CONFIG, source_config=blob("a/b")), "source config is not the one"),
        (replace(CONFIG, source_manifest=blob("a/b")), "source manifest is not the one"),
    ],
)
def test_config_of_another_image(config: WrapperConfig, says: str) -> None:
    """A config that describes other blobs than the manifest has is refused."""
    with pytest.raises(ImageError, match=says):
        config.check(wrapper(), "x")
