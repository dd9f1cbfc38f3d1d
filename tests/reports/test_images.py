"""Reports of images as a whole: platforms, annotations, artifacts, copies that must be the same bytes, false claims."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from robustness.running import fails, works
from test_oci import rawtar
from test_oci.fake_registry import FakeRegistry
from test_oci.images import Built, build, build_index, layer, layout_at, noise
from test_oci.test_bases import OURS, evil_tar, forge

from casync_compat.chunker.params import ChunkSizes
from casync_compat.oci.convert import ConvertOptions, convert
from casync_compat.oci.copy import copy_image
from casync_compat.oci.export import ExportOptions, export
from casync_compat.oci.image.converted import ConvertedLayers
from casync_compat.oci.places.layout import Layout
from casync_compat.oci.spec import media
from casync_compat.oci.spec.descriptor import Descriptor, Platform
from casync_compat.oci.spec.manifest import ImageIndex, ImageManifest

OPTIONS = ConvertOptions(sizes=ChunkSizes(1024, 4096, 16384), jobs=2)


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    with layout_at(tmp_path / "layout") as found:
        yield found


def document(layout: Layout, tag: str) -> dict[str, Any]:
    found = json.loads(layout.read_manifest(layout.resolve(tag)))
    assert isinstance(found, dict)
    return found


def platforms(layout: Layout, *names: str) -> list[Built]:
    """A tag `x` with an image for each platform, whose one file has the platform's name."""
    images = [
        build(layout, None, [layer({"which": name.encode()})], architecture=name.split("/")[1])
        for name in names
    ]
    build_index(layout, "x", list(zip(images, names, strict=True)))
    return images


def which(tmp_path: Path, platform: str) -> bytes:
    """The platform whose image is taken for one that is asked for."""
    return works("oci", "cat", f"--platform={platform}", "oci:layout:x", "which", cwd=tmp_path).out


def test_containers_image_898(layout: Layout, tmp_path: Path) -> None:
    """An arm64 machine of version 8 takes an image that names no version, and the other way round."""
    platforms(layout, "linux/amd64", "linux/arm64")
    assert which(tmp_path, "linux/arm64/v8") == which(tmp_path, "linux/aarch64") == b"linux/arm64"
    platforms(layout, "linux/amd64", "linux/arm64/v8")
    assert which(tmp_path, "linux/arm64") == b"linux/arm64/v8"


@pytest.mark.parametrize("order", [1, -1])
def test_moby_37647(layout: Layout, tmp_path: Path, order: int) -> None:
    """A machine gets no image for a newer processor than its own, in whatever order they are listed."""
    platforms(layout, *["linux/arm/v5", "linux/arm/v7"][::order])
    assert which(tmp_path, "linux/arm/v6") == b"linux/arm/v5"
    assert which(tmp_path, "linux/arm/v7") == b"linux/arm/v7"
    platforms(layout, "linux/arm/v7", "linux/amd64")
    line = fails("oci", "cat", "--platform=linux/arm/v6", "oci:layout:x", "which", cwd=tmp_path)
    assert "linux/arm/v7" in line


def test_moby_52773(layout: Layout, tmp_path: Path) -> None:
    """A newer machine takes the best image that it can run; a plain one never takes what it cannot."""
    platforms(layout, "linux/amd64/v2", "linux/amd64/v3")
    assert which(tmp_path, "linux/amd64/v4") == b"linux/amd64/v3"
    assert which(tmp_path, "linux/amd64/v2") == b"linux/amd64/v2"
    fails("oci", "cat", "--platform=linux/amd64", "oci:layout:x", "which", cwd=tmp_path)


def test_containerd_2991(layout: Layout, tmp_path: Path) -> None:
    """Every verb chooses the same image of an index; one for another platform may be missing."""
    images = platforms(layout, "linux/arm/v6", "linux/arm/v7")
    for blob in images[0].manifest.layers:
        Path(layout.blob_path(blob.digest).decode()).unlink()
    words = ("--platform=linux/arm/v7", "oci:layout:x")
    assert works("oci", "cat", *words, "which", cwd=tmp_path).out == b"linux/arm/v7"
    works("oci", "unpack", "--rootless", "--no-progress", *words, "bundle", cwd=tmp_path)
    assert (tmp_path / "bundle" / "rootfs" / "which").read_bytes() == b"linux/arm/v7"
    works("oci", "convert", "--thin", "--no-progress", *words, "oci:layout:thin", cwd=tmp_path)
    assert works("oci", "cat", "--platform=linux/arm/v7", "oci:layout:thin", "which", cwd=tmp_path).out


def rich(layout: Layout, *more: Descriptor) -> Descriptor:
    """An index of two platforms, with notes at every place that may have them, under the tag `x`."""
    entries = []
    for name in ("amd64", "arm64"):
        image = build(layout, None, [layer({"arch": name.encode()})], architecture=name)
        noted = ImageManifest.build(
            image.manifest.config,
            [replace(image.manifest.layers[0], annotations={"org.example.layer": name})],
            annotations={"org.example.image": name},
        )
        layout.put_manifest(noted.descriptor, noted.raw)
        entries.append(
            replace(
                noted.descriptor, platform=Platform("linux", name), annotations={"org.example.entry": name}
            )
        )
    index = ImageIndex.build([*entries, *more], annotations={"org.example.index": "yes"})
    layout.put_manifest(index.descriptor, index.raw)
    layout.tag("x", index.descriptor)
    return index.descriptor


def test_skopeo_2784(layout: Layout, tmp_path: Path) -> None:
    """An image pulled to a layout has its platforms and all its annotations."""
    rich(layout)
    fake = FakeRegistry()
    copy_image(layout, "x", fake.open(), "1")
    with layout_at(tmp_path / "pulled") as pulled:
        copy_image(fake.open(), "1", pulled, "y")
        assert document(pulled, "y") == document(layout, "x")
        assert [entry["platform"]["architecture"] for entry in document(pulled, "y")["manifests"]] == [
            "amd64",
            "arm64",
        ]


def test_skopeo_2686(layout: Layout) -> None:
    """Annotations of layers reach the registry; no digest changes on the way."""
    root = rich(layout)
    fake = FakeRegistry()
    copy_image(layout, "x", fake.open(), "1")
    assert fake.store().tags["1"] == str(root.digest)
    stored = [json.loads(data) for _, data in fake.store().manifests.values()]
    notes = [found["layers"][0]["annotations"] for found in stored if "layers" in found]
    assert sorted(note["org.example.layer"] for note in notes) == ["amd64", "arm64"]


def test_skopeo_1907(layout: Layout, tmp_path: Path) -> None:
    """What an index names beside images, such as attestations, is copied with it, there and back."""
    blob = Descriptor.of("application/vnd.in-toto+json", b'{"predicate": {}}')
    empty = Descriptor.of(media.OCI_EMPTY, b"{}")
    for descriptor, data in ((blob, b'{"predicate": {}}'), (empty, b"{}")):
        layout.put(descriptor, [data])
    proof = ImageManifest.build(empty, [blob], artifact_type="application/vnd.example.attestation")
    layout.put_manifest(proof.descriptor, proof.raw)
    root = rich(layout, replace(proof.descriptor, platform=Platform("unknown", "unknown")))
    fake = FakeRegistry()
    copy_image(layout, "x", fake.open(), "1")
    assert str(proof.descriptor.digest) in fake.store().manifests
    assert str(blob.digest) in fake.store().blobs
    with layout_at(tmp_path / "pulled") as pulled:
        copy_image(fake.open(), "1", pulled, "y")
        assert pulled.resolve("y").digest == root.digest
        assert pulled.read(blob) == b'{"predicate": {}}'


def test_skopeo_2882(layout: Layout) -> None:
    """Work on one platform of a tag takes nothing from it: the other's entry stays, whole."""
    rich(layout)
    before = document(layout, "x")
    convert(layout, "x", layout, "x", replace(OPTIONS, platform=Platform.parse("linux/arm64")))
    after = document(layout, "x")
    assert after["manifests"][:2] == before["manifests"]
    assert after["annotations"] == before["annotations"]
    assert len(after["manifests"]) == 3
    fake = FakeRegistry()
    copy_image(layout, "x", fake.open(), "1")
    for entry in after["manifests"]:
        assert entry["digest"] in fake.store().manifests


ENDS = {
    "usual": rawtar.END,
    "none": b"",
    "one block": bytes(512),
    "a record": bytes(10240),
    "garbage": rawtar.END + noise(700),
    "odd": bytes(1024 + 77),
}


def test_storage_1771(layout: Layout, tmp_path: Path) -> None:
    """A layer comes back with the end that it had: zeros more or fewer, or something behind them."""
    member = rawtar.file(b"f", noise(3000))
    for name, end in ENDS.items():
        image = build(layout, name.replace(" ", "-"), [member + end])
        tag = f"{name.replace(' ', '-')}-thin"
        convert(layout, name.replace(" ", "-"), layout, tag, replace(OPTIONS, thin=True))
        with layout_at(tmp_path / tag) as back:
            assert export(layout, tag, back, "y", ExportOptions(rebuild=True)).image_ids == (image.image_id,)
            digest = hashlib.sha256(member + end).hexdigest()
            assert (tmp_path / tag / "blobs" / "sha256" / digest).read_bytes() == member + end


def test_moby_42766(layout: Layout, tmp_path: Path) -> None:
    """The same image is the same archive, byte for byte, at any time and place."""
    build(layout, "plain", [layer({"a": noise(5000)}), layer({"b": b"b"}), layer({"a": noise(5000)})])
    convert(layout, "plain", layout, "thin", replace(OPTIONS, thin=True))
    for name in ("one", "two"):
        words = ("oci", "export", "--no-progress", "oci:layout:thin", f"docker-archive:{name}.tar:app:1")
        works(*words, cwd=tmp_path)
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as archive:
        assert {member.mtime for member in archive} == {0}


def docker_save(path: Path, layers: Sequence[bytes], links: dict[int, int]) -> None:
    """An archive as `docker save` made it long: a directory a layer, and links where layers are the same."""
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in layers],
            },
        }
    ).encode()
    names = [f"{number:064x}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": "c.json", "RepoTags": ["app:1"], "Layers": names}]
    with tarfile.open(path, "w") as archive:

        def add(name: str, data: bytes) -> None:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))

        add("c.json", config)
        for number, data in enumerate(layers):
            if number in links:
                info = tarfile.TarInfo(names[number])
                info.type = tarfile.SYMTYPE
                info.linkname = f"../{names[links[number]]}"
                archive.addfile(info)
            else:
                add(names[number], data)
        add("manifest.json", json.dumps(manifest).encode())


def test_moby_24951(tmp_path: Path) -> None:
    """Layers that an archive has as links to others, before or behind them, are read."""
    one, two = layer({"one": noise(3000)}), layer({"two": b"2"})
    docker_save(tmp_path / "app.tar", [one, two, one, two], {2: 0, 1: 3})
    works("oci", "convert", "--thin", "--no-progress", "docker-archive:app.tar", "oci:out:x", cwd=tmp_path)
    assert works("oci", "cat", "oci:out:x", "one", cwd=tmp_path).out == noise(3000)
    assert works("oci", "cat", "oci:out:x", "two", cwd=tmp_path).out == b"2"
    works("oci", "verify", "oci:out:x", cwd=tmp_path)


def test_storage_1627(layout: Layout, tmp_path: Path) -> None:
    """A layer is not what somebody says it is: nothing of a false one gets into another image."""
    ours = build(layout, "ours", [OURS])
    build(layout, "evil", [evil_tar()])
    with layout_at(tmp_path / "target") as target:
        convert(layout, "evil", target, "x", replace(OPTIONS, thin=True, memory=ConvertedLayers()))
        forge(target, "x", f"sha256:{hashlib.sha256(OURS).hexdigest()}")
        convert(layout, "ours", target, "x", replace(OPTIONS, thin=True, memory=ConvertedLayers()))
        with layout_at(tmp_path / "back") as back:
            assert export(target, "x", back, "y", ExportOptions(rebuild=True)).image_ids == (ours.image_id,)


def test_skopeo_1366(layout: Layout, tmp_path: Path) -> None:
    """Several images live in one directory by whole names, with slashes and colons, as other tools have them."""
    for number in (7, 8):
        build(layout, f"plain{number}", [layer({"version": b"%d" % number})])
        name = f"oci:layout:docker.io/library/centos:{number}"
        works("oci", "convert", "--thin", "--no-progress", f"oci:layout:plain{number}", name, cwd=tmp_path)
    for number in (7, 8):
        name = f"oci:layout:docker.io/library/centos:{number}"
        assert works("oci", "cat", name, "version", cwd=tmp_path).out == b"%d" % number
    found = [
        entry["annotations"]["org.opencontainers.image.ref.name"]
        for entry in json.loads((tmp_path / "layout" / "index.json").read_bytes())["manifests"]
    ]
    assert {f"docker.io/library/centos:{number}" for number in (7, 8)} <= set(found)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["layout"]
