"""Converting in place takes nothing from a tag: whatever its index led to is there afterwards, member for member."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_oci.images import Built, build, layer, layout_at

from casync_compat.chunker.params import ChunkSizes
from casync_compat.oci.convert import ConvertOptions, convert
from casync_compat.oci.places.layout import Layout
from casync_compat.oci.places.selection import look_up
from casync_compat.oci.repack import repack
from casync_compat.oci.spec import media
from casync_compat.oci.spec.descriptor import Descriptor, Platform
from casync_compat.oci.spec.manifest import ImageIndex, ImageManifest

OPTIONS = ConvertOptions(sizes=ChunkSizes(1024, 4096, 16384), jobs=2)
THIN = replace(OPTIONS, thin=True)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Layout]:
    with layout_at(tmp_path / "source") as found:
        yield found


def rich_index(place: Layout, tag: str, *more: Descriptor) -> tuple[list[Built], list[Descriptor]]:
    """An index of two platforms with notes and members of others, and `more`."""
    images = [
        build(place, None, [layer({"arch": name.encode()})], architecture=name) for name in ("amd64", "arm64")
    ]
    entries = [
        replace(
            image.descriptor,
            annotations={"org.example.build": str(number)},
            platform=Platform("linux", name, "", {"os.version": "1.2"}),
            other={"artifactType": "a/b", "org.example.member": [number]},
        )
        for number, (image, name) in enumerate(zip(images, ("amd64", "arm64"), strict=True))
    ]
    index = ImageIndex.build([*entries, *more], annotations={"k": "v"})
    place.put_manifest(index.descriptor, index.raw)
    place.tag(tag, index.descriptor)
    return images, entries


def raw_index(place: Layout, tag: str) -> dict[str, Any]:
    found = json.loads(place.read_manifest(place.resolve(tag)))
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("platform", ["linux/amd64", "linux/arm64", None])
def test_in_place_every_entry_stays(source: Layout, platform: str | None) -> None:
    """Converting in place adds entries, and changes not one member of those that are there."""
    rich_index(source, "x")
    before = raw_index(source, "x")
    options = replace(
        OPTIONS, platform=Platform.parse(platform) if platform else None, all_platforms=platform is None
    )
    convert(source, "x", source, "x", options)
    after = raw_index(source, "x")
    assert after["manifests"][:2] == before["manifests"]
    assert after["annotations"] == before["annotations"]
    assert len(after["manifests"]) == (3 if platform else 4)
    root = source.resolve("x")
    convert(source, "x", source, "x", options)
    assert source.resolve("x") == root


@pytest.mark.parametrize("thin", [False, True])
@pytest.mark.parametrize("depth", [1, 2])
def test_in_place_nested_indexes_stay(source: Layout, depth: int, thin: bool) -> None:
    """An image found in a nested index is converted beside it; the nested index is named as before, to the byte."""
    images, _ = rich_index(source, "nested")
    inner = source.resolve("nested")
    for number in range(depth):
        notes = {"org.example.level": str(number)}
        outer = ImageIndex.build([Descriptor(inner.media_type, inner.digest, inner.size, notes)])
        source.put_manifest(outer.descriptor, outer.raw)
        inner = outer.descriptor
    source.tag("x", inner)
    before = raw_index(source, "x")
    options = replace(OPTIONS, thin=thin)
    convert(source, "x", source, "x", replace(options, platform=Platform("linux", "arm64")))
    assert raw_index(source, "x")["manifests"][0] == before["manifests"][0]
    assert [one.descriptor.digest for one in look_up(source, "x").plain] == [
        image.descriptor.digest for image in images
    ]
    convert(source, "x", source, "x", replace(options, platform=Platform("linux", "amd64")))
    found = look_up(source, "x")
    assert {one.of for one in found.wrappers} == {str(image.descriptor.digest) for image in images}
    assert len(found.plain) == 2


def test_in_place_thin_takes_only_its_own(source: Layout) -> None:
    """A thin conversion in place leaves the other platforms, converted or not, and artifacts where they are."""
    artifact = ImageManifest.build(Descriptor.of(media.OCI_EMPTY, b"{}"), [], artifact_type="a/b")
    source.put(artifact.config, [b"{}"])
    source.put_manifest(artifact.descriptor, artifact.raw)
    images, _ = rich_index(source, "x", replace(artifact.descriptor, platform=Platform("unknown", "unknown")))
    convert(source, "x", source, "x", replace(THIN, platform=Platform("linux", "arm64")))
    found = look_up(source, "x")
    assert [one.descriptor.digest for one in found.plain] == [images[0].descriptor.digest]
    assert (len(found.wrappers), len(found.others)) == (1, 1)
    result = convert(source, "x", source, "x", replace(THIN, platform=Platform("linux", "amd64")))
    found = look_up(source, "x")
    assert (len(found.plain), len(found.wrappers), len(found.others)) == (0, 2, 1)
    assert result.left_out == ()


def test_in_place_notes_on_the_tag_stay(source: Layout) -> None:
    """What a layout notes beside a tag is there after its image was converted in place."""
    image = build(source, "x", [layer({"a": b"b"})])
    path = Path(os.fsdecode(source.path)) / "index.json"
    document = json.loads(path.read_bytes())
    document["manifests"][0]["annotations"]["io.containerd.image.name"] = "docker.io/library/x:1"
    path.write_text(json.dumps(document))
    convert(source, "x", source, "x", OPTIONS)
    (entry,) = json.loads(path.read_bytes())["manifests"]
    assert entry["annotations"] == {
        "io.containerd.image.name": "docker.io/library/x:1",
        "org.opencontainers.image.ref.name": "x",
    }
    assert look_up(source, "x").plain[0].descriptor.digest == image.descriptor.digest


def test_repacked_entries_keep_their_notes(source: Layout) -> None:
    """Repacking names new manifests, and leaves everything else of the index as it is."""
    rich_index(source, "x")
    convert(source, "x", source, "x", replace(OPTIONS, platform=Platform("linux", "arm64")))
    document = raw_index(source, "x")
    document["org.example.top"] = ["kept"]
    data = json.dumps(document).encode()
    source.put_manifest(Descriptor.of(media.OCI_INDEX, data), data)
    source.tag("x", Descriptor.of(media.OCI_INDEX, data))
    repack(source, "x")
    after = raw_index(source, "x")
    assert after["manifests"][:2] == document["manifests"][:2]
    assert after["org.example.top"] == ["kept"]
