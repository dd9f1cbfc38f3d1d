"""Verification: a whole image passes, and whatever is damaged is named; describing, repacking, collecting garbage."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_oci.fake_registry import FakeRegistry
from test_oci.images import blob_file, build, flip, layer, layout_at, noise

from casync_compat.chunker.params import ChunkSizes
from casync_compat.errors import UsageError
from casync_compat.oci.convert import ConvertOptions, convert
from casync_compat.oci.copy import copy_image
from casync_compat.oci.export import ExportOptions, export
from casync_compat.oci.gc import collect
from casync_compat.oci.image import packwriter
from casync_compat.oci.image.wrapped import WrappedImage
from casync_compat.oci.inspect import inspect_image
from casync_compat.oci.places.graph import walk
from casync_compat.oci.places.layout import Layout
from casync_compat.oci.places.selection import look_up
from casync_compat.oci.repack import repack
from casync_compat.oci.spec import media
from casync_compat.oci.spec.descriptor import Descriptor
from casync_compat.oci.spec.errors import BlobCorrupt, BlobError, ImageError
from casync_compat.oci.spec.manifest import ImageManifest
from casync_compat.oci.spec.packindex import ChunkPlace, PackIndex
from casync_compat.oci.verify import verify_image
from casync_compat.progress import Progress, Reporter
from casync_compat.store.memory import MemoryStore

DUAL = ConvertOptions(sizes=ChunkSizes(1024, 4096, 16384), jobs=2)
THIN = replace(DUAL, thin=True)
FILES = {f"usr/{n}": noise(20_000, n) for n in range(10)}


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Layout]:
    """A layout with the plain image `plain` and the converted one `x`, in several packs."""
    monkeypatch.setattr(packwriter, "PACK_SIZE", 50_000)
    with layout_at(tmp_path / "layout") as found:
        build(found, "plain", [layer(FILES, links={"a": "usr/1"}), layer({"etc/app": b"1"}), b"no tar" * 999])
        convert(found, "plain", found, "x", DUAL)
        yield found


def wrapper(layout: Layout, tag: str = "x") -> WrappedImage:
    return WrappedImage.open(layout, look_up(layout, tag).wrappers[0].descriptor, "x")


def test_all_good(layout: Layout) -> None:
    """Nothing is wrong with an image that was just made, here or in a registry."""
    report = verify_image(layout, "x")
    assert report.problems == []
    with wrapper(layout) as image:
        assert (report.packs, report.chunks, report.layers) == (
            len(image.wrapper.packs),
            len(image.pack_index),
            3,
        )
    fake = FakeRegistry()
    copy_image(layout, "x", fake.open(), "1")
    assert verify_image(fake.open(), "1").problems == []
    assert verify_image(layout, "plain").problems == []


@pytest.mark.parametrize("far", [False, True])
def test_progress(layout: Layout, monkeypatch: pytest.MonkeyPatch, far: bool) -> None:
    """Bytes of blobs are told with how many there are, as they are fetched, then those of layers; and of what."""
    monkeypatch.setattr(Reporter, "due", True)
    told: list[Progress] = []
    fake = FakeRegistry()
    if far:
        copy_image(layout, "x", fake.open(), "x")
    verify_image(fake.open() if far else layout, "x", progress=told.append)
    assert told[0].path.startswith(b"blob ")
    of_blobs = [one for one in told if one.total is not None]
    assert of_blobs[-1].done == of_blobs[-1].total
    assert told[-1].path.startswith(b"layer ")
    assert told[-1].done > of_blobs[-1].done
    assert [one.done for one in told] == sorted(one.done for one in told)


def test_every_blob_counts(layout: Layout) -> None:
    """A flipped bit, or a missing file, is found in whichever blob it is; and the blob is named."""
    for blob in walk(layout, layout.resolve("x")).blobs.values():
        path = blob_file(layout, blob)
        data = path.read_bytes()
        for offset in (0, len(data) // 2, len(data) - 1):
            flip(path, offset, 4)
            problems = verify_image(layout, "x").problems
            assert any(blob.digest.hex in line for line in problems), blob
            assert all("\n" not in line for line in problems)
            path.write_bytes(data)
        path.unlink()
        assert any(blob.digest.hex in line for line in verify_image(layout, "x").problems), blob
        path.write_bytes(data)
    assert verify_image(layout, "x").problems == []


def test_all_that_is_wrong_is_listed(layout: Layout) -> None:
    """Verification does not stop at the first problem."""
    with wrapper(layout) as image:
        for pack in image.wrapper.packs[:2]:
            flip(blob_file(layout, pack), 100)
        (bad, worse) = image.wrapper.packs[:2]
    text = "\n".join(verify_image(layout, "x").problems)
    assert bad.digest.hex in text
    assert worse.digest.hex in text


def with_pack_index(layout: Layout, index: PackIndex) -> None:
    """Let the tag name an image with another pack index, all digests being right."""
    with wrapper(layout) as image:
        old = image.wrapper.manifest
    new = Descriptor.of(media.PACK_INDEX, index.raw)
    layout.put(new, [index.raw])
    layers = [new if blob.media_type == media.PACK_INDEX else blob for blob in old.layers]
    manifest = ImageManifest.build(
        old.config, layers, artifact_type=old.artifact_type, annotations=old.annotations
    )
    layout.put_manifest(manifest.descriptor, manifest.raw)
    layout.tag("x", manifest.descriptor)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda at: replace(at, raw=at.raw + 1), "says the pack index|lies elsewhere"),
        (lambda at: replace(at, offset=at.offset + 1), "lies elsewhere"),
        (lambda at: replace(at, stored=at.stored - 1), "lies elsewhere"),
        (lambda at: replace(at, pack=(at.pack + 1) % 4, offset=0, stored=1), "is not in it"),
        (lambda at: None, "lacks chunk"),
    ],
)
def test_a_lying_pack_index(layout: Layout, change: object, says: str) -> None:
    """A pack index that says something else than its packs is found out."""
    with wrapper(layout) as image:
        chunks: dict[object, ChunkPlace | None] = dict(image.pack_index)
        packs = image.pack_index.packs
    id_ = next(iter(chunks))
    chunks[id_] = change(chunks[id_])  # type: ignore[operator]
    kept = [(one, at) for one, at in chunks.items() if at is not None]
    with_pack_index(layout, PackIndex.build(packs, kept))  # type: ignore[arg-type]
    problems = verify_image(layout, "x").problems
    assert any(re.search(says, line) for line in problems), problems


def test_with_a_store(layout: Layout, tmp_path: Path) -> None:
    """An image whose chunks are in a store is whole with it, and not without."""
    store = MemoryStore()
    with layout_at(tmp_path / "other") as other:
        copy_image(layout, "x", other, "x", store=store)
        assert verify_image(other, "x", store=store).problems == []
        assert verify_image(other, "x").problems != []


# ---- inspect


def test_description(layout: Layout) -> None:
    """Sizes and counts are those of what is there."""
    info = inspect_image(layout, "x")
    (image,) = info.images
    (plain,) = info.plain
    assert plain.digest == str(layout.resolve("plain").digest)
    with wrapper(layout) as opened:
        assert image.chunks == len(opened.pack_index)
        assert [one.digest for one in image.packs] == [str(one.digest) for one in opened.wrapper.packs]
        assert [one.kind for one in image.layers] == ["caidx", "caidx", "caibx"]
        assert image.tar_size == sum(one.tar_size for one in opened.config.layers)
    assert sum(one.chunks for one in image.packs) == image.chunks
    assert all(0 < one.live_size < one.size for one in image.packs)
    assert info.to_json()["images"][0]["layers"][0]["hardlink_groups"] == 1
    assert inspect_image(layout, "plain").images == ()


# ---- repack


def test_repack(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packs are written anew and full; everything else stays; the image is the same."""
    before = inspect_image(layout, "x")
    old = layout.resolve("x")
    monkeypatch.setattr(packwriter, "PACK_SIZE", 1 << 20)
    told: list[Progress] = []
    monkeypatch.setattr(Reporter, "due", True)
    root = repack(layout, "x", progress=told.append)
    assert told[-1].done == told[-1].total
    assert told[-1].done > told[0].done > 0
    assert layout.resolve("x").digest == root.digest != old.digest
    after = inspect_image(layout, "x")
    assert len(after.images[0].packs) == 1 < len(before.images[0].packs)
    assert after.images[0].layers == before.images[0].layers
    assert after.plain == before.plain
    assert verify_image(layout, "x").problems == []
    assert repack(layout, "x").digest == root.digest, "a second time changes nothing"
    with pytest.raises(ImageError, match="nothing to repack"):
        repack(layout, "plain")


def test_repack_of_damage(layout: Layout) -> None:
    """A damaged pack is not copied into a new one, and the tag stays."""
    with wrapper(layout) as image:
        flip(blob_file(layout, image.wrapper.packs[0]), 100)
    old = layout.resolve("x")
    with pytest.raises(Exception, match="corrupt"):
        repack(layout, "x")
    assert layout.resolve("x").digest == old.digest


# ---- gc


def blobs(layout: Layout) -> set[str]:
    return {path.name for path in Path(os.fsdecode(layout.path), "blobs").rglob("*") if path.is_file()}


def test_garbage(layout: Layout) -> None:
    """What no tag leads to goes, and nothing else does."""
    with layout.stage() as staged:
        staged.write(b"nobody names this")
        orphan = staged.commit("a/b")
    kept = blobs(layout) - {orphan.digest.hex}
    layout.close()
    told: list[str] = []
    done = collect(layout, dry_run=True, on_blob=lambda digest, size: told.append(digest.hex))
    assert (done.removed, done.freed, done.kept) == (1, 17, len(kept))
    assert told == [orphan.digest.hex]
    assert orphan.digest.hex in blobs(layout)
    assert collect(layout).removed == 1
    assert blobs(layout) == kept
    assert verify_image(layout, "x").problems == []


def test_garbage_of_a_tag(layout: Layout) -> None:
    """When a tag goes, only what it alone needed goes."""
    layout.retag({"x": None})
    layout.close()
    assert collect(layout).removed > 5
    assert verify_image(layout, "plain").problems == []
    export_source = layout.resolve("plain")
    assert layout.tags() == ["plain"]
    assert layout.has(export_source)


def test_after_repack(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old packs are garbage after repacking, and what is left gives the image back."""
    monkeypatch.setattr(packwriter, "PACK_SIZE", 1 << 20)
    packs = len(inspect_image(layout, "x").images[0].packs)
    repack(layout, "x")
    layout.close()
    assert collect(layout).removed == packs + 3  # and pack index, manifest, image index
    with layout_at(tmp_path / "back") as back:
        export(layout, "x", back, "y", ExportOptions(rebuild=True))


def test_no_garbage_is_collected_blindly(layout: Layout) -> None:
    """When a manifest cannot be read, nothing is removed."""
    with layout.stage() as staged:
        staged.write(b"nobody names this")
        staged.commit("a/b")
    flip(blob_file(layout, look_up(layout, "x").wrappers[0].descriptor), 5)
    layout.close()
    before = blobs(layout)
    with pytest.raises(BlobError):
        collect(layout)
    assert blobs(layout) == before


def test_not_while_somebody_writes(layout: Layout) -> None:
    """A layout being written to is left alone, whoever writes."""
    with pytest.raises(UsageError, match="is being written to"):
        collect(layout)
    layout.close()
    root = Path(os.fsdecode(layout.path))
    foreign = root / "oci-put-blob12345"
    foreign.write_bytes(b"skopeo")
    with pytest.raises(UsageError, match="by another program"):
        collect(layout)
    old = time.time() - 7200
    os.utime(foreign, (old, old))
    stale = root / ".pycasync-0123.tmp"
    stale.write_bytes(b"left by a run that was killed")
    done = collect(layout)
    assert done.leftovers == 2
    assert not foreign.exists()
    assert not stale.exists()


def test_members_of_later_versions(layout: Layout) -> None:
    """A blob that a manifest names in a member which nobody knows today is kept."""
    data = b"a signature, say"
    extra = Descriptor.of("a/b", data)
    layout.put(extra, [data])
    raw = layout.read_manifest(layout.resolve("plain"))
    changed = raw[:-1] + b',"later":{"deep":[' + json.dumps(extra.to_json()).encode() + b"]}}"
    manifest = Descriptor.of(media.OCI_MANIFEST, changed)
    layout.put_manifest(manifest, changed)
    layout.tag("plain", manifest)
    layout.close()
    collect(layout)
    assert layout.has(extra)


def test_corrupt_blobs_do_not_hide(layout: Layout) -> None:
    """Reading past a flipped bit never gives the end of a blob."""
    with wrapper(layout) as image:
        pack = image.wrapper.packs[0]
        flip(blob_file(layout, pack), 3)
        with pytest.raises(BlobCorrupt):
            layout.read(pack, 1 << 30)


def pointing_elsewhere(value: object, old: str, new: Descriptor) -> object:
    """A JSON value in which what points at one blob points at another."""
    if isinstance(value, list):
        return [pointing_elsewhere(one, old, new) for one in value]
    if not isinstance(value, dict):
        return str(new.digest) if value == old else value
    found = {key: pointing_elsewhere(one, old, new) for key, one in value.items()}
    return {**found, "size": new.size} if value.get("digest") == old else found


def with_source_manifest(layout: Layout, change: Callable[[dict[str, Any]], None]) -> None:
    """Let the tag name an image that says to have been made from another manifest, all digests being right."""
    with wrapper(layout) as image:
        source = json.loads(image.source_manifest.raw)
        old = image.wrapper
    change(source)

    def put(media_type: str, document: object) -> Descriptor:
        data = json.dumps(document).encode()
        made = Descriptor.of(media_type, data)
        layout.put(made, [data])
        return made

    new = put(media.SOURCE_MANIFEST, source)
    text = json.loads(layout.read(old.config))
    config = put(old.config.media_type, pointing_elsewhere(text, str(old.source_manifest.digest), new))
    document = pointing_elsewhere(json.loads(old.manifest.raw), str(old.source_manifest.digest), new)
    document = pointing_elsewhere(document, str(old.config.digest), config)
    layout.tag("x", put(old.manifest.media_type, document))


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest["layers"].reverse(),
        lambda manifest: manifest["layers"].pop(),
        lambda manifest: manifest["layers"].append(manifest["layers"][0]),
        lambda manifest: manifest["layers"][1].update(size=7),
        lambda manifest: manifest["layers"][1].update(digest="sha256:" + "0" * 64),
        lambda manifest: manifest["config"].update(size=7),
    ],
    ids=["other order", "one less", "one more", "size", "digest", "config"],
)
def test_a_source_manifest_of_another_image(
    layout: Layout, tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    """What export refuses, verification does not call good: the source manifest is that of this config and layers."""
    with_source_manifest(layout, change)
    assert verify_image(layout, "x").problems != []
    with layout_at(tmp_path / "back") as back, pytest.raises(ImageError):
        export(layout, "x", back, "y", ExportOptions())


def test_a_damaged_blob_at_the_destination(layout: Layout, tmp_path: Path) -> None:
    """A file of the right name and size with wrong contents is noticed and replaced before a tag names it."""
    with wrapper(layout) as image:
        blobs = [*image.source_manifest.blobs, image.wrapper.pack_index, *image.wrapper.packs]
    for number, use in enumerate(("convert", "copy", "export", "rebuild")):
        with layout_at(tmp_path / f"target{number}") as target:
            for blob in blobs:
                target.put(blob, [layout.read(blob, 1 << 30)])
                flip(blob_file(target, blob), blob.size // 2)
            if use == "convert":
                convert(layout, "plain", target, "t", DUAL)
            elif use == "copy":
                copy_image(layout, "x", target, "t")
            else:
                export(layout, "x", target, "t", ExportOptions(rebuild=use == "rebuild"))
            assert verify_image(target, "t").problems == []


def test_a_damaged_blob_in_place(layout: Layout) -> None:
    """Converting in place over a damaged blob fails, and the tag stays."""
    image = look_up(layout, "plain").plain[0]
    manifest = ImageManifest.parse(layout.read_manifest(image.descriptor), "plain")
    flip(blob_file(layout, manifest.layers[0]), 30)
    before = layout.resolve("plain")
    with pytest.raises(BlobCorrupt):
        convert(layout, "plain", layout, "plain", DUAL)
    assert layout.resolve("plain") == before
