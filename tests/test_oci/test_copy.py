"""Images copied as they are: the same digests, only what is missing, the tag last; chunks into a store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from test_oci.fake_registry import FakeRegistry
from test_oci.images import blob_file, build, flip, layer, layout_at, noise

from casync_compat.chunker.params import ChunkSizes
from casync_compat.errors import CasyncError
from casync_compat.oci.convert import ConvertOptions, convert
from casync_compat.oci.copy import copy_image
from casync_compat.oci.export import ExportOptions, export
from casync_compat.oci.image.wrapped import WrappedImage
from casync_compat.oci.places.graph import walk
from casync_compat.oci.places.layout import Layout
from casync_compat.oci.places.selection import look_up
from casync_compat.oci.spec import media
from casync_compat.oci.spec.errors import BlobMissing, ImageError
from casync_compat.store.memory import MemoryStore

DUAL = ConvertOptions(sizes=ChunkSizes(1024, 4096, 16384), jobs=2)
THIN = replace(DUAL, thin=True)
FILES = {f"usr/{n}": noise(20_000, n) for n in range(40)}


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Layout]:
    """A layout with a converted image `x`, its plain one beside it, and a new version `y` of which 2 % are new."""
    with layout_at(tmp_path / "source") as layout:
        build(layout, "1", [layer(FILES), layer({"etc/app": b"1"})])
        build(layout, "2", [layer({**FILES, "usr/7": noise(20_000, 99)}), layer({"etc/app": b"1"})])
        convert(layout, "1", layout, "x", DUAL)
        convert(layout, "1", layout, "1t", THIN)
        convert(layout, "2", layout, "y", THIN, base=(layout, "1t"))
        convert(layout, "2", layout, "2d", DUAL, base=(layout, "1t"))
        yield layout


def uploads(fake: FakeRegistry) -> list[str]:
    return [str(seen) for seen in fake.seen if seen.method not in ("GET", "HEAD")]


def test_there_and_back(source: Layout, tmp_path: Path) -> None:
    """Layout to registry to layout: the same digest, the same blobs, the same image."""
    fake = FakeRegistry()
    pushed = copy_image(source, "x", fake.open(), "1")
    assert pushed.descriptor.digest == source.resolve("x").digest
    with layout_at(tmp_path / "other") as other:
        pulled = copy_image(fake.open(), "1", other, "x")
        assert pulled.moved == pushed.blobs == pulled.blobs
        assert other.resolve("x").digest == source.resolve("x").digest
        graph = walk(other, other.resolve("x"))
        assert set(graph.blobs) == set(walk(source, source.resolve("x")).blobs)
        assert all(other.read(blob, 1 << 30) for blob in graph.blobs.values())
        assert export(other, "x", other, "back", ExportOptions(rebuild=True)).image_ids


def test_second_push(source: Layout) -> None:
    """Pushing the same image again sends nothing, and asks little."""
    fake = FakeRegistry()
    copy_image(source, "x", fake.open(), "1")
    fake.seen.clear()
    again = copy_image(source, "x", fake.open(), "1")
    assert again.moved == 0
    assert uploads(fake) == []
    assert len(fake.seen) < 8


def test_push_of_a_small_change(source: Layout) -> None:
    """A new version of which 2 % changed sends less than 5 % of the image, in less than 30 requests."""
    fake = FakeRegistry()
    copy_image(source, "1t", fake.open(), "1")
    whole = sum(seen.size for seen in fake.seen)
    fake.seen.clear()
    pushed = copy_image(source, "y", fake.open(), "1")
    sent = sum(seen.size for seen in fake.seen)
    assert pushed.moved == 7, (
        "pack, pack index, index, recipe, and the configs and manifest, which name those"
    )
    assert sent < whole / 15
    assert len(fake.seen) < 30


def test_another_tag_needs_no_blobs(source: Layout) -> None:
    """The same image under another tag asks for each blob, and sends none."""
    fake = FakeRegistry()
    copy_image(source, "x", fake.open(), "1")
    fake.seen.clear()
    assert copy_image(source, "x", fake.open(), "2").moved == 0
    assert {text.split()[0] for text in uploads(fake)} == {"PUT"}
    assert sorted(fake.open().tags()) == ["1", "2"]


def test_thin(source: Layout) -> None:
    """Without the plain image, the tag names the converted one itself."""
    fake = FakeRegistry()
    pushed = copy_image(source, "x", fake.open(), "1", thin=True)
    assert pushed.descriptor.media_type == media.OCI_MANIFEST
    found = look_up(fake.open(), "1")
    assert not found.plain
    assert len(found.wrappers) == 1
    with pytest.raises(ImageError, match="not a converted image"):
        copy_image(source, "1", fake.open(), "2", thin=True)


def test_plain_images_too(source: Layout, tmp_path: Path) -> None:
    """An image that was never converted is copied like any other."""
    with layout_at(tmp_path / "other") as other:
        copy_image(source, "1", other, "1")
        assert other.resolve("1").digest == source.resolve("1").digest


@pytest.mark.parametrize("damage", ["missing", "flipped"])
def test_a_failed_push(source: Layout, damage: str) -> None:
    """When a blob is missing or damaged there is neither manifest nor tag."""
    with WrappedImage.open(source, look_up(source, "1t").wrappers[0].descriptor, "x") as image:
        path = blob_file(source, image.wrapper.packs[0])
    if damage == "missing":
        path.unlink()
    else:
        flip(path, 1000)
    fake = FakeRegistry()
    with pytest.raises(CasyncError):
        copy_image(source, "1t", fake.open(), "1")
    assert fake.open().resolve_or_none("1") is None
    assert not fake.store().manifests


def test_a_child_that_is_missing(source: Layout, tmp_path: Path) -> None:
    """An index that names a manifest which is not there cannot be copied."""
    found = look_up(source, "x")
    blob_file(source, found.plain[0].descriptor).unlink()
    with layout_at(tmp_path / "other") as other, pytest.raises(BlobMissing):
        copy_image(source, "x", other, "x")


# ---- with a store


def test_pull_into_a_store(source: Layout, tmp_path: Path) -> None:
    """Chunks go into a store, only those it lacks; with it the image comes back, without packs in the layout."""
    fake = FakeRegistry()
    copy_image(source, "1t", fake.open(), "1")
    copy_image(source, "y", fake.open(), "2")
    store = MemoryStore()
    with layout_at(tmp_path / "other") as other:
        first = copy_image(fake.open(), "1", other, "1", store=store)
        assert first.chunks == len(list(store.ids()))
        fake.seen.clear()
        second = copy_image(fake.open(), "2", other, "2", store=store)
        assert second.chunk_bytes < first.chunk_bytes / 10
        assert 0 < second.chunks < first.chunks / 10
        kinds = {
            blob.media_type for blob in walk(other, other.resolve("2")).blobs.values() if other.has(blob)
        }
        assert not kinds & media.PACK_TYPES
        result = export(other, "2", other, "back", ExportOptions(rebuild=True, store=store))
        with layout_at(tmp_path / "plain") as plain:
            expected = export(source, "y", plain, "back", ExportOptions(rebuild=True))
        assert result.descriptor == expected.descriptor
        with pytest.raises(BlobMissing):
            export(other, "2", source, "no", ExportOptions(rebuild=True))


def test_nothing_is_left_behind(source: Layout) -> None:
    """No temporary files in a layout that was read and written."""
    assert not [name for name in os.listdir(source.path) if name.endswith(b".tmp")]
