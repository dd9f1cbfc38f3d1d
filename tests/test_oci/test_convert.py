"""Images converted and given back: the same to the bit, deterministic, and nothing half-published when it fails."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_oci.fake_registry import FakeRegistry
from test_oci.images import Built, blob_file, build, build_index, flip, layer, layout_at, noise
from test_oci.strategies import any_tars, broken_tars

from casync_compat.chunker.params import ChunkSizes
from casync_compat.compression import Compression
from casync_compat.errors import CasyncError
from casync_compat.ids import Digest
from casync_compat.index import Index
from casync_compat.oci.convert import ConvertOptions, ConvertResult, convert
from casync_compat.oci.export import ExportOptions, LayerCompression, export, export_archive
from casync_compat.oci.image import convertlayer
from casync_compat.oci.image.wrapped import WrappedImage
from casync_compat.oci.places.docker_archive import DockerArchive
from casync_compat.oci.places.layout import Layout
from casync_compat.oci.places.selection import look_up
from casync_compat.oci.spec import media
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor, Platform
from casync_compat.oci.spec.errors import BlobCorrupt, BlobMissing, ImageError
from casync_compat.oci.spec.manifest import ImageIndex, ImageManifest, parse_document
from casync_compat.progress import Progress, Reporter
from casync_compat.store.memory import MemoryStore

SMALL = ChunkSizes(1024, 4096, 16384)
OPTIONS = ConvertOptions(sizes=SMALL, jobs=2)
THIN = replace(OPTIONS, thin=True)
REBUILD = ExportOptions(rebuild=True)

BASE = {"etc": None, "etc/hostname": b"box\n", "usr/data": noise(100_000), "usr/zeros": bytes(50_000)}
TARS = [
    layer(BASE, links={"usr/link": "usr/data", "etc/other": "etc/hostname"}),
    layer(
        {"etc/.wh.hostname": b"", "usr/more": noise(30_000, 1), "usr/data": noise(100_000)},
        mtime=1_700_000_000,
    ),
]


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Layout]:
    with layout_at(tmp_path / "source") as found:
        yield found


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Layout]:
    with layout_at(tmp_path / "target") as found:
        yield found


def files(layout: Layout) -> dict[str, bytes]:
    """Everything in a layout."""
    root = Path(os.fsdecode(layout.path))
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def open_image(layout: Layout, tag: str = "x") -> WrappedImage:
    found = look_up(layout, tag)
    return WrappedImage.open(layout, found.choose_wrappers(None)[0].descriptor, found.where)


def check_back(layout: Layout, image: Built, tmp_path: Path, name: str = "back") -> None:
    """The image comes back from chunks: tars, config and image id."""
    with layout_at(tmp_path / name) as back:
        result = export(layout, "x", back, "y", REBUILD)
        assert result.image_ids == (image.image_id,)
        manifest = ImageManifest.parse(back.read_manifest(back.resolve("y")), "x")
        assert back.read(manifest.config) == image.config
        assert tuple(back.read(one, 1 << 30) for one in manifest.layers) == image.tars


@pytest.mark.parametrize(
    ("how", "docker"), [("gzip", False), ("zstd", False), ("none", False), ("gzip", True), ("none", True)]
)
def test_there_and_back(source: Layout, target: Layout, tmp_path: Path, how: str, docker: bool) -> None:
    """Whatever layers are compressed with, and whoever made the manifest, the image comes back."""
    image = build(source, "x", TARS, how, docker=docker)
    result = convert(source, "x", target, "x", THIN)
    assert result.images[0].tars == []
    assert target.resolve("x").digest == result.descriptor.digest
    check_back(target, image, tmp_path)
    with layout_at(tmp_path / "original") as back:
        original = export(target, "x", back, "y", ExportOptions())
        # An uncompressed layer is made again, so its manifest is the original's as well.
        assert (back.resolve("y").digest == image.descriptor.digest) == (how == "none") == original.original


def test_dual(source: Layout, target: Layout, tmp_path: Path) -> None:
    """With the plain image beside it, runtimes see that one first, and the export is the original manifest."""
    image = build(source, "x", TARS)
    result = convert(source, "x", target, "x", OPTIONS)
    index = parse_document(target.read_manifest(target.resolve("x")), "x")
    assert isinstance(index, ImageIndex)
    plain, wrapper = index.manifests
    assert plain.digest == image.descriptor.digest
    assert plain.platform == Platform("linux", "amd64")
    assert wrapper.digest == result.images[0].descriptor.digest
    assert wrapper.platform == Platform("unknown", "unknown"), "no runtime may select it"
    assert wrapper.annotations[media.NOTE_OF] == str(image.descriptor.digest)
    assert "artifactType" not in wrapper.to_json(), "old skopeo drops it, and the digest with it"
    for blob in image.manifest.blobs:
        assert target.has(blob)
    check_back(target, image, tmp_path)
    with layout_at(tmp_path / "original") as back:
        assert export(target, "x", back, "y", ExportOptions()).rebuilt == 0
        assert back.resolve("y").digest == image.descriptor.digest


def test_original_blobs_at_the_destination(source: Layout, target: Layout, tmp_path: Path) -> None:
    """Where the destination has the compressed layers already, the manifest is the original one."""
    image = build(source, "x", TARS)
    convert(source, "x", target, "x", THIN)
    result = export(target, "x", source, "again", ExportOptions())
    assert (result.original, result.rebuilt) == (True, 0)
    assert source.resolve("again").digest == image.descriptor.digest


@pytest.mark.parametrize("how", list(LayerCompression))
def test_compressed_anew(source: Layout, target: Layout, tmp_path: Path, how: LayerCompression) -> None:
    """Layers may be compressed anew; the same tar gives the same blob, and converts to the same chunks."""
    build(source, "x", TARS)
    convert(source, "x", target, "x", THIN)
    options = ExportOptions(rebuild=True, compression=how)
    with (
        layout_at(tmp_path / "a") as one,
        layout_at(tmp_path / "b") as two,
        layout_at(tmp_path / "c") as three,
    ):
        export(target, "x", one, "x", options)
        export(target, "x", two, "x", options)
        assert files(one) == files(two)
        convert(one, "x", three, "x", THIN)
        with open_image(target) as ours, open_image(three) as theirs:
            assert [layer.index for layer in ours.config.layers] == [
                layer.index for layer in theirs.config.layers
            ]


def test_docker_archives(source: Layout, target: Layout, tmp_path: Path) -> None:
    """An archive converts to what the layout converts to, and an exported archive is the image again."""
    image = build(source, "x", TARS, "none")
    convert(source, "x", target, "x", THIN)
    path = tmp_path / "x.tar"
    export_archive(target, "x", bytes(path), ["app:1"], REBUILD)
    with DockerArchive(bytes(path)) as archive, layout_at(tmp_path / "again") as again:
        convert(archive, "app:1", again, "x", THIN)
        check_back(again, image, tmp_path)
        with open_image(target) as ours, open_image(again) as theirs:
            assert ours.wrapper.packs == theirs.wrapper.packs


def test_deterministic(source: Layout, tmp_path: Path) -> None:
    """The same image gives the same bytes, whatever the number of threads."""
    build(source, "x", TARS)
    found = []
    for jobs in (1, 2, 5):
        with layout_at(tmp_path / str(jobs)) as target:
            convert(source, "x", target, "x", replace(OPTIONS, jobs=jobs))
            found.append(files(target))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    "options",
    [
        replace(THIN, digest=Digest.SHA256),
        replace(THIN, compression=Compression.XZ),
        replace(THIN, compression=Compression.GZIP),
        replace(THIN, mtime="keep"),
        replace(THIN, epoch=1_000_000_000),
        replace(THIN, sizes=ChunkSizes(4096, 4096, 4096)),
    ],
)
def test_options(source: Layout, target: Layout, tmp_path: Path, options: ConvertOptions) -> None:
    """However it is converted, the image comes back; the config says how it was done."""
    image = build(source, "x", TARS)
    convert(source, "x", target, "x", options)
    check_back(target, image, tmp_path)
    with open_image(target) as opened:
        config = opened.config
    assert (config.sizes, config.digest, config.compression) == (
        options.sizes,
        options.digest,
        options.compression,
    )
    assert (config.mtime, config.epoch) == (options.mtime, options.epoch)


def test_progress(source: Layout, target: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """How much there is in all is guessed by the layer that is at work, and not far off."""
    monkeypatch.setattr(Reporter, "due", True)
    tars = [layer({name: noise(100_000, number)}) for number, name in enumerate("ab")]
    build(source, "x", tars)
    told: list[Progress] = []
    convert(source, "x", target, "x", ConvertOptions(), progress=told.append)
    size = sum(map(len, tars))
    assert all(one.total is not None and 0 < one.done <= one.total for one in told)
    assert all(one.total is not None and abs(one.total - size) < size / 20 for one in told)
    assert told[-1].done > size * 0.9


def test_same_layer_twice(source: Layout, target: Layout, tmp_path: Path) -> None:
    """A layer that stands twice is converted once and given back twice."""
    image = build(source, "x", [TARS[0], TARS[1], TARS[0]])
    convert(source, "x", target, "x", THIN)
    check_back(target, image, tmp_path)
    with open_image(target) as opened:
        assert opened.wrapper.layers[0].index.digest == opened.wrapper.layers[2].index.digest


@pytest.mark.parametrize("tar", [bytes(1024), b"", layer({})])
def test_empty_layers(source: Layout, target: Layout, tmp_path: Path, tar: bytes) -> None:
    """A layer with nothing in it is a layer all the same."""
    image = build(source, "x", [TARS[0], tar])
    convert(source, "x", target, "x", THIN)
    check_back(target, image, tmp_path)


def test_no_layers(source: Layout, target: Layout, tmp_path: Path) -> None:
    """So is an image without layers an image."""
    image = build(source, "x", [])
    assert convert(source, "x", target, "x", THIN).images[0].packs == 0
    check_back(target, image, tmp_path)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tars=st.lists(st.one_of(any_tars(), any_tars(), broken_tars()), min_size=1, max_size=3), data=st.data()
)
def test_any_tars(tmp_path_factory: pytest.TempPathFactory, tars: list[bytes], data: st.DataObject) -> None:
    """Whatever a tar is like, it comes back to the bit: as a tree where that can be, else as a tar of chunks."""
    path = tmp_path_factory.mktemp("any")
    how = data.draw(st.sampled_from(["gzip", "none"]))
    with layout_at(path / "source") as source, layout_at(path / "target") as target:
        image = build(source, "x", tars, how)
        convert(source, "x", target, "x", replace(THIN, jobs=1))
        check_back(target, image, path)


def test_what_a_tree_cannot_hold(source: Layout, target: Layout, tmp_path: Path) -> None:
    """What is no tar at all is kept as it is, in chunks; the reason is told."""
    image = build(source, "x", [b"no tar" * 10_000])
    result = convert(source, "x", target, "x", THIN)
    assert result.images[0].tars[0][0] == 0
    check_back(target, image, tmp_path)
    with open_image(target) as opened:
        assert opened.config.layers[0].kind == "caibx"
        assert opened.recipe(0) is None
        assert opened.tar(0).read_at(0, 12) == b"no tarno tar"


def test_a_recipe_that_fails(
    source: Layout, target: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If an archive does not give the tar again, the layer becomes a tar of chunks: never a wrong answer."""

    def verify(recipe: bytes, catar: object, where: str) -> None:
        raise ImageError(where, "planted")

    image = build(source, "x", TARS)
    monkeypatch.setattr(convertlayer, "verify", verify)
    result = convert(source, "x", target, "x", THIN)
    assert [number for number, _ in result.images[0].tars] == [0, 1]
    assert "planted" in result.images[0].tars[0][1]
    check_back(target, image, tmp_path)


# ---- bases


def changed(seed: int) -> bytes:
    return layer({**BASE, "usr/new": noise(5000, seed)})


def test_only_new_chunks(source: Layout, target: Layout, tmp_path: Path) -> None:
    """A new version on the same tag stores its new chunks alone, and both versions can be had."""
    build(source, "1", [layer(BASE), TARS[1]])
    image = build(source, "2", [changed(7), TARS[1]])
    first = convert(source, "1", target, "x", THIN)
    second = convert(source, "2", target, "x", THIN).images[0]
    assert second.reused_layers == 1
    assert second.new_packs == 1
    assert second.new_bytes < first.images[0].new_bytes / 5
    check_back(target, image, tmp_path)


def test_again(source: Layout, target: Layout) -> None:
    """The same image on the same tag changes nothing at all."""
    build(source, "x", TARS)
    convert(source, "x", target, "x", OPTIONS)
    before = files(target)
    result = convert(source, "x", target, "x", OPTIONS).images[0]
    assert files(target) == before
    assert (result.reused_layers, result.new_packs) == (2, 0)


def test_named_base(source: Layout, target: Layout, tmp_path: Path) -> None:
    """Another image can be the base, somewhere else too: its packs come along."""
    build(source, "1", [layer(BASE)])
    image = build(source, "2", [changed(7)])
    convert(source, "1", target, "one", THIN)
    with layout_at(tmp_path / "third") as third:
        result = convert(source, "2", third, "x", THIN, base=(target, "one")).images[0]
        assert result.new_bytes < result.pack_bytes / 5
        check_back(third, image, tmp_path)
        fresh = convert(source, "2", third, "y", replace(THIN, base=False)).images[0]
        assert fresh.new_bytes == fresh.pack_bytes
    with pytest.raises(ImageError, match="the base is not a converted image"):
        convert(source, "2", target, "x", THIN, base=(source, "1"))


def test_base_of_other_make(source: Layout, target: Layout, tmp_path: Path) -> None:
    """A base with other sizes gives what it can; one with another digest, or a plain image, gives nothing."""
    image = build(source, "x", TARS)
    convert(source, "x", target, "x", replace(THIN, digest=Digest.SHA256))
    assert convert(source, "x", target, "x", THIN).images[0].reused_layers == 0
    assert convert(source, "x", target, "x", replace(THIN, sizes=ChunkSizes(512, 2048, 8192))).images[0].packs
    check_back(target, image, tmp_path)
    convert(source, "x", source, "x", THIN)
    with pytest.raises(ImageError, match="it is converted already"):
        convert(source, "x", target, "x", THIN)


@pytest.mark.parametrize("gone", ["index", "wrapper", "config"])
def test_over_a_broken_tag(source: Layout, target: Layout, tmp_path: Path, gone: str) -> None:
    """What the tag named before may be broken: then it is no base, and is replaced."""
    image = build(source, "x", TARS)
    convert(source, "x", target, "x", OPTIONS)
    found = look_up(target, "x")
    with open_image(target) as opened:
        blobs = {
            "index": found.root,
            "wrapper": found.wrappers[0].descriptor,
            "config": opened.wrapper.config,
        }
    blob_file(target, blobs[gone]).unlink()
    assert convert(source, "x", target, "x", OPTIONS).images[0].reused_layers == 0
    check_back(target, image, tmp_path)


def test_store(source: Layout, target: Layout) -> None:
    """A store beside it gets every chunk of every layer, also where a base has them."""
    build(source, "x", TARS)
    convert(source, "x", target, "x", THIN)
    store = MemoryStore()
    seen: list[tuple[int, Index, bool]] = []
    options = replace(
        THIN, store=store, on_index=lambda platform, number, index, tree: seen.append((number, index, tree))
    )
    convert(source, "x", target, "x", options)
    assert [(number, tree) for number, _, tree in seen] == [(0, True), (1, True)]
    for _, index, _ in seen:
        for chunk in index:
            assert len(store.get(chunk.id, index.digest, 1 << 20)) == chunk.size


# ---- several platforms


def platforms(source: Layout) -> list[Built]:
    images = [
        build(source, None, [layer({"arch": name.encode()}), TARS[1]], architecture=name)
        for name in ("amd64", "arm64")
    ]
    build_index(source, "multi", [(image, f"linux/{image.config[17:22].decode()}") for image in images])
    return images


@pytest.mark.parametrize("thin", [False, True])
def test_all_platforms(source: Layout, target: Layout, tmp_path: Path, thin: bool) -> None:
    """An index of images becomes one of converted images, with the plain ones before them unless it is thin."""
    images = platforms(source)
    options = replace(OPTIONS, all_platforms=True, thin=thin)
    convert(source, "multi", target, "x", options)
    found = look_up(target, "x")
    assert [str(choice.platform) for choice in found.wrappers] == ["linux/amd64", "linux/arm64"]
    assert [choice.descriptor.digest for choice in found.plain] == (
        [] if thin else [image.descriptor.digest for image in images]
    )
    with layout_at(tmp_path / "back") as back:
        result = export(target, "x", back, "y", replace(REBUILD, all_platforms=True))
        assert result.image_ids == tuple(image.image_id for image in images)
        assert len(look_up(back, "y").plain) == 2
    with layout_at(tmp_path / "one") as back:
        result = export(target, "x", back, "y", replace(REBUILD, platform=Platform("linux", "arm64")))
        assert result.image_ids == (images[1].image_id,)


def test_one_platform(source: Layout, target: Layout) -> None:
    """One platform of several can be converted; a second one joins it in the index."""
    images = platforms(source)
    for name in ("arm64", "amd64"):
        convert(source, "multi", target, "x", replace(OPTIONS, platform=Platform("linux", name)))
    assert [c.descriptor.digest for c in look_up(target, "x").plain] == [images[0].descriptor.digest]
    with pytest.raises(ImageError, match=r"no image for linux/s390x; there are: linux/amd64, linux/arm64"):
        convert(source, "multi", target, "x", replace(OPTIONS, platform=Platform("linux", "s390x")))


def test_what_stands_beside(source: Layout, target: Layout) -> None:
    """Entries of the tag's index that are not ours stay when the same image is converted there."""
    image = build(source, None, TARS)
    attestation = ImageManifest.build(Descriptor.of(media.OCI_EMPTY, b"{}"), [], artifact_type="a/b")
    source.put(attestation.config, [b"{}"])
    source.put_manifest(attestation.descriptor, attestation.raw)
    entries = [
        replace(image.descriptor, platform=Platform("linux", "amd64")),
        replace(attestation.descriptor, platform=Platform("unknown", "unknown")),
    ]
    index = ImageIndex.build(entries, annotations={"k": "v"})
    source.put_manifest(index.descriptor, index.raw)
    source.tag("x", index.descriptor)
    result = convert(source, "x", target, "x", OPTIONS)
    assert [one.digest for one in result.left_out] == [attestation.descriptor.digest]
    convert(source, "x", source, "x", OPTIONS)
    found = look_up(source, "x")
    assert len(found.plain) == len(found.wrappers) == len(found.others) == 1
    assert found.index is not None
    assert found.index.annotations == {"k": "v"}


# ---- faults


def fails(source: Layout, target: Layout, says: str, options: ConvertOptions = OPTIONS) -> None:
    """Conversion fails with one clear line, and the tag stays what it was."""
    old = target.resolve("x") if target.exists and "x" in target.tags() else None
    with pytest.raises(CasyncError, match=says) as caught:
        convert(source, "x", target, "x", options)
    assert "\n" not in str(caught.value)
    assert target.resolve_or_none("x") == old
    assert not [name for name in (files(target) if target.exists else {}) if name.endswith(".tmp")]


@pytest.mark.parametrize("tagged", [False, True])
def test_damaged_sources(source: Layout, target: Layout, tagged: bool) -> None:
    """A damaged, short or missing blob of the source publishes nothing."""
    if tagged:
        build(source, "x", [layer({"old": b"old"})])
        convert(source, "x", target, "x", OPTIONS)
    image = build(source, "x", TARS)
    path = blob_file(source, image.manifest.layers[1])
    data = path.read_bytes()
    flip(path, len(data) // 2)
    fails(source, target, "is corrupt|is damaged|cut short|diff id")
    path.write_bytes(data[:-1])
    fails(source, target, "is corrupt")
    path.unlink()
    fails(source, target, "is missing")
    path.write_bytes(data)
    blob_file(source, image.manifest.config).unlink()
    fails(source, target, "is missing")


def test_a_lying_config(source: Layout, target: Layout) -> None:
    """A layer that is not what the image config says is not converted."""
    build(source, "x", TARS, diff_ids=[TARS[0], TARS[0]])
    fails(source, target, "layer 1: the layer has the diff id sha256:.*, but the image config says sha256:")
    build(source, "x", TARS, diff_ids=TARS[:1])
    fails(source, target, "the manifest has 2 layers, but the config has 1 diff ids")
    build(source, "x", TARS, "none", diff_ids=[TARS[0], TARS[0]])
    fails(source, target, "has the diff id")


@pytest.mark.parametrize("how", ["gzip", "none"])
def test_bombs(source: Layout, target: Layout, how: str) -> None:
    """A layer that becomes larger than it may be is stopped, and told."""
    build(source, "x", [layer({"zeros": bytes(20 << 20)})], how)
    fails(
        source, target, "larger than 1048576 bytes when decompressed", replace(OPTIONS, layer_limit=1 << 20)
    )


def test_other_layers(source: Layout, target: Layout) -> None:
    """Layers of a kind that nobody here can read, and artifacts, are refused."""
    image = build(source, "x", TARS)
    for media_type in ("application/vnd.oci.image.layer.v1.tar+encrypted", media.TREE_INDEX):
        odd = ImageManifest.build(
            image.manifest.config, [replace(one, media_type=media_type) for one in image.manifest.layers]
        )
        source.put_manifest(odd.descriptor, odd.raw)
        source.tag("x", odd.descriptor)
        fails(source, target, "are not supported")
    artifact = ImageManifest.build(Descriptor.of(media.OCI_EMPTY, b"{}"), [], artifact_type="a/b")
    source.put_manifest(artifact.descriptor, artifact.raw)
    source.tag("x", artifact.descriptor)
    fails(source, target, "there is no image in it")


def test_a_full_disk(source: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a blob cannot be stored there is no tag."""
    build(source, "x", TARS)
    with layout_at(tmp_path / "target") as target:
        stage = target.stage

        def broken() -> object:
            staged = stage()
            os.close(staged._fd)
            staged._fd = os.open("/dev/full", os.O_RDWR)
            return staged

        monkeypatch.setattr(target, "stage", broken)
        fails(source, target, "No space left")


# ---- giving back what is damaged


def export_fails(target: Layout, tmp_path: Path, *kinds: type[Exception], says: str | None = None) -> None:
    """Export fails, and leaves no tag, no layer that is wrong and no archive."""
    with layout_at(tmp_path / "broken") as back:
        with pytest.raises(kinds or CasyncError, match=says):
            export(target, "x", back, "y", REBUILD)
        assert back.resolve_or_none("y") is None
        for name, data in files(back).items():
            if name.startswith("blobs/"):
                assert hashlib.sha256(data).hexdigest() == name.rpartition("/")[2]
    with pytest.raises(kinds or CasyncError):
        export_archive(target, "x", bytes(tmp_path / "broken.tar"), [], REBUILD)
    assert not (tmp_path / "broken.tar").exists()


def converted(source: Layout, target: Layout) -> ConvertResult:
    build(source, "x", TARS)
    return convert(source, "x", target, "x", THIN)


def test_damaged_packs(source: Layout, target: Layout, tmp_path: Path) -> None:
    """A flipped bit in a pack, a pack cut short, a pack that is gone."""
    converted(source, target)
    with open_image(target) as image:
        path = blob_file(target, image.wrapper.packs[0])
    data = path.read_bytes()
    flip(path, len(data) // 3)
    export_fails(target, tmp_path)
    path.write_bytes(data[:-1])
    export_fails(target, tmp_path, BlobCorrupt)
    path.unlink()
    export_fails(target, tmp_path, BlobMissing, says="is missing")


@pytest.mark.parametrize("number", range(5))
def test_damaged_documents(source: Layout, target: Layout, tmp_path: Path, number: int) -> None:
    """A flipped bit in config, manifest, pack index, index or recipe."""
    converted(source, target)
    with open_image(target) as image:
        flip(blob_file(target, image.wrapper.manifest.layers[number]), 30)
    export_fails(target, tmp_path, BlobCorrupt)


def replaced(target: Layout, old: Descriptor, data: bytes) -> None:
    """Another blob in the place of one, with a manifest and a tag that say so: a lie with good digests."""
    root = target.resolve("x")
    document = json.loads(target.read_manifest(root))
    new = Descriptor.of(old.media_type, data)
    target.put(new, [data])
    for entry in (document["config"], *document["layers"]):
        if entry["digest"] == str(old.digest):
            entry.update(digest=str(new.digest), size=new.size)
    text = json.dumps(document).encode()
    manifest = Descriptor.of(root.media_type, text)
    target.put_manifest(manifest, text)
    target.tag("x", manifest)


def test_lies(source: Layout, target: Layout, tmp_path: Path) -> None:
    """Documents that fit their digests and yet contradict each other give an error, never another image."""
    converted(source, target)
    root = target.resolve("x")
    with open_image(target) as image:
        layers, config = image.wrapper.manifest.layers, image.wrapper.config
        other = target.read(layers[5])
        index = bytearray(target.read(layers[3]))
        texts = json.loads(target.read(config))
        pack_index = target.read(layers[2])
    replaced(target, layers[3], other)
    export_fails(target, tmp_path, ImageError)
    target.tag("x", root)
    index[48 + 16] ^= 1
    texts["layers"][0]["index"] = str(BlobDigest.of(index))
    replaced(target, layers[3], bytes(index))
    replaced(target, config, json.dumps(texts).encode())
    export_fails(target, tmp_path)
    target.tag("x", root)
    texts = json.loads(target.read(config))
    for member in ("tarSize", "catarSize"):
        changed = json.loads(json.dumps(texts))
        changed["layers"][0][member] += 1
        replaced(target, config, json.dumps(changed).encode())
        export_fails(target, tmp_path, ImageError, says="than the config says|says")
        target.tag("x", root)
    replaced(target, layers[2], pack_index[:-47])
    export_fails(target, tmp_path, ImageError)
    target.tag("x", root)
    other_image = build(target, None, TARS, "none")
    replaced(
        target, layers[1], other_image.manifest.raw.replace(other_image.image_id.hex.encode(), b"0" * 64)
    )
    texts = json.loads(target.read(config))
    changed = Descriptor.of(
        media.SOURCE_MANIFEST, other_image.manifest.raw.replace(other_image.image_id.hex.encode(), b"0" * 64)
    )
    texts["source"]["manifest"].update(digest=str(changed.digest), size=changed.size)
    replaced(target, config, json.dumps(texts).encode())
    export_fails(target, tmp_path, ImageError, says="about another image")


def test_too_large_to_give_back(source: Layout, target: Layout, tmp_path: Path) -> None:
    """A layer that says it is larger than it may be is not begun."""
    converted(source, target)
    with layout_at(tmp_path / "back") as back, pytest.raises(ImageError, match="larger than 1000 bytes"):
        export(target, "x", back, "y", replace(REBUILD, layer_limit=1000))


def test_plain_images_are_not_exported(source: Layout, target: Layout) -> None:
    """What was never converted is told how to become so."""
    build(source, "x", TARS)
    with pytest.raises(ImageError, match="convert it with `pycasync oci convert`"):
        export(source, "x", target, "y", REBUILD)


# ---- registries


def test_straight_to_a_registry(source: Layout, tmp_path: Path) -> None:
    """Converted into a registry and exported from it, by ranges or without them."""
    image = build(source, "x", TARS)
    for faults in ({}, {"ranges": False}):
        fake = FakeRegistry(**faults)
        repository = fake.open()
        convert(source, "x", repository, "x", OPTIONS)
        with layout_at(tmp_path / f"back{len(faults)}") as back:
            result = export(repository, "x", back, "y", REBUILD)
            assert result.image_ids == (image.image_id,)


def test_a_new_version_in_a_registry(source: Layout) -> None:
    """A second conversion reads what is there and sends only what is new; a third sends nothing."""
    build(source, "1", [layer(BASE), TARS[1]])
    build(source, "2", [changed(7), TARS[1]])
    fake = FakeRegistry()
    convert(source, "1", fake.open(), "x", THIN)
    sent = sum(seen.size for seen in fake.seen)
    fake.seen.clear()
    convert(source, "2", fake.open(), "x", THIN)
    assert sum(seen.size for seen in fake.seen) < sent / 3
    assert len(fake.seen) < 35
    fake.seen.clear()
    convert(source, "2", fake.open(), "x", THIN)
    assert not [seen for seen in fake.seen if seen.method not in ("GET", "HEAD")]
