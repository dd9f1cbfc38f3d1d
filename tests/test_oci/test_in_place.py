"""Converting in place takes nothing from a tag: whatever its index led to is there afterwards, member for member."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_oci.images import Built, build, layer, layout_at

from casync_compat.chunker.params import ChunkSizes
from casync_compat.errors import CasyncError
from casync_compat.oci.convert import ConvertOptions, convert
from casync_compat.oci.gc import collect
from casync_compat.oci.places.layout import Layout
from casync_compat.oci.places.selection import look_up
from casync_compat.oci.repack import repack
from casync_compat.oci.spec import media
from casync_compat.oci.spec.descriptor import Descriptor, Platform
from casync_compat.oci.spec.errors import ImageError
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


# Indexes that others wrote


def name_index(place: Layout, tag: str, document: dict[str, Any]) -> bytes:
    """Store an index as it is written, and let a tag name it."""
    raw = json.dumps(document, indent=3).encode()
    described = Descriptor.of(document["mediaType"], raw)
    place.put_manifest(described, raw)
    place.tag(tag, described)
    return raw


def foreign(place: Layout, **members: Any) -> dict[str, Any]:
    """An index of docker's kind, with members that nobody here knows, over two images."""
    images, _ = rich_index(place, "made")
    entries = [
        {
            **image.descriptor.to_json(),
            "platform": {"os": "linux", "architecture": name, "features": ["sse4"], "os.features": []},
            "urls": ["https://example.org/x"],
            "org.example": {"deep": [None, True, {"a": "ä\u2028"}]},
        }
        for image, name in zip(images, ("amd64", "arm64"), strict=True)
    ]
    return {
        "schemaVersion": 2,
        "mediaType": media.DOCKER_INDEX,
        "manifests": entries,
        "subject": images[0].descriptor.to_json(),
        "artifactType": "application/x.y",
        "annotations": {"ä": ""},
        "org.example.top": {"n": 1},
        **members,
    }


@pytest.mark.parametrize("thin", [False, True])
def test_in_place_docker_lists(source: Layout, thin: bool) -> None:
    """What docker wrote, and members that nobody here knows, are there afterwards."""
    document = foreign(source)
    name_index(source, "x", document)
    convert(source, "x", source, "x", replace(OPTIONS, thin=thin, platform=Platform("linux", "arm64")))
    after = raw_index(source, "x")
    assert after["manifests"][0] == document["manifests"][0]
    for member in ("subject", "artifactType", "annotations", "org.example.top"):
        assert after[member] == document[member]
    assert len(after["manifests"]) == (2 if thin else 3)


def test_in_place_one_image_twice(source: Layout) -> None:
    """An image that an index names twice, with other notes, is named twice afterwards, and converted once."""
    document = foreign(source)
    first = document["manifests"][0]
    document["manifests"].append({**first, "annotations": {"why": "again"}})
    name_index(source, "x", document)
    convert(source, "x", source, "x", replace(OPTIONS, platform=Platform("linux", "amd64")))
    after = raw_index(source, "x")["manifests"]
    assert after[:3] == document["manifests"]
    assert len(after) == 4


@pytest.mark.parametrize("thin", [False, True])
def test_in_place_sparse_indexes(source: Layout, thin: bool) -> None:
    """Of an index some of whose platforms were never copied here, the one that is here is converted, all named."""
    document = foreign(source)
    gone = document["manifests"][1]
    (Path(os.fsdecode(source.path)) / "blobs/sha256" / gone["digest"].split(":")[1]).unlink()
    name_index(source, "x", document)
    convert(source, "x", source, "x", replace(OPTIONS, thin=thin, platform=Platform("linux", "amd64")))
    assert gone in raw_index(source, "x")["manifests"]


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("what", ["missing", "damaged", "no index", "too deep"])
def test_in_place_what_cannot_be_looked_into(
    source: Layout, tmp_path: Path, what: str, elsewhere: bool
) -> None:
    """A nested index that cannot be read is named as before: it is converted beside it, or nothing is done."""
    _, entries = rich_index(source, "made")
    inner = source.resolve("made")
    if what == "too deep":
        for _ in range(6):
            outer = ImageIndex.build([inner])
            source.put_manifest(outer.descriptor, outer.raw)
            inner = outer.descriptor
    if what == "no index":
        inner = Descriptor.of(media.OCI_INDEX, b"[]")
        source.put_manifest(inner, b"[]")
    index = ImageIndex.build([replace(inner, annotations={"k": "v"}), entries[0]])
    source.put_manifest(index.descriptor, index.raw)
    source.tag("x", index.descriptor)
    blob = Path(os.fsdecode(source.blob_path(inner.digest)))
    if what == "missing":
        blob.unlink()
    if what == "damaged":
        blob.chmod(0o644)
        blob.write_bytes(blob.read_bytes().replace(b"linux", b"xunil"))
    place: Layout = source
    if elsewhere:
        place = layout_at(tmp_path / "elsewhere")
        build(place, "y", [layer({"arch": b"amd64"})], architecture="amd64")
    before = raw_index(source, "x")
    with suppress(CasyncError):
        convert(
            place, "y" if elsewhere else "x", source, "x", replace(THIN, platform=Platform("linux", "amd64"))
        )
    assert before["manifests"][0] in raw_index(source, "x")["manifests"]
    place.close()


@pytest.mark.parametrize("member", [None, []])
def test_in_place_nothing_but_a_note(source: Layout, member: Any) -> None:
    """An empty index, as some write it, is no image; converting it says so and leaves it."""
    raw = name_index(source, "x", {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": member})
    with pytest.raises(ImageError, match="there is no image in it"):
        convert(source, "x", source, "x", THIN)
    assert source.read_manifest(source.resolve("x")) == raw


def test_collecting_after_converting_in_place(source: Layout) -> None:
    """What nested indexes lead to, and what an index names of other kinds, is not garbage."""
    images, _ = rich_index(source, "nested")
    inner = source.resolve("nested")
    blob = Descriptor.of("application/x.data", b"data")
    source.put(blob, [b"data"])
    outer = ImageIndex.build([inner, blob])
    source.put_manifest(outer.descriptor, outer.raw)
    source.tag("x", outer.descriptor)
    source.retag({"nested": None})
    convert(source, "x", source, "x", replace(THIN, platform=Platform("linux", "amd64")))
    source.close()
    collect(source)
    assert source.read(blob) == b"data"
    for image in images:
        for one in (image.descriptor, *image.manifest.blobs):
            assert source.sound(one)
