"""Docker archives: read in place, with links and repeated layers, and written so that they read the same."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import threading
from pathlib import Path

import pytest
import zstandard
from test_oci.images import Built, build, layer, layout_at

from casync_compat.cli import main
from casync_compat.oci.convert import ConvertOptions, convert
from casync_compat.oci.places.docker_archive import ArchiveImage, DockerArchive, write_docker_archive
from casync_compat.oci.spec import media
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor
from casync_compat.oci.spec.errors import BlobCorrupt, BlobMissing, ImageError
from casync_compat.oci.spec.manifest import ImageManifest

TARS = [layer({"a": b"one"}), layer({"b": b"two" * 1000})]


def image_of(tmp_path: Path, tars: list[bytes] = TARS) -> Built:
    with layout_at(tmp_path / "from") as layout:
        return build(layout, "x", tars, "none")


def write(path: Path, files: dict[str, bytes], links: dict[str, tuple[bytes, str]] | None = None) -> Path:
    """A tar, its links given as (type, target)."""
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name, (kind, target) in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            tar.addfile(info)
    return path


def manifest_json(config: str, layers: list[str], tags: list[str] | None = None) -> bytes:
    return json.dumps([{"Config": config, "RepoTags": tags, "Layers": layers}]).encode()


def read_all(archive: DockerArchive, tag: str | None = None) -> tuple[bytes, list[bytes]]:
    manifest = ImageManifest.parse(archive.read_manifest(archive.resolve(tag)), "x")
    return archive.read(manifest.config), [archive.read(one) for one in manifest.layers]


def test_written_and_read(tmp_path: Path) -> None:
    """What was written is read: config and layers, by the tag and without one; and the bytes are the same each time."""
    image = image_of(tmp_path, [*TARS, TARS[0]])
    for name in ("1.tar", "2.tar"):
        layers = [(BlobDigest.of(tar), len(tar), [tar[:100], tar[100:]]) for tar in image.tars]
        write_docker_archive(bytes(tmp_path / name), ArchiveImage(image.config, layers, ["app:1"]))
    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()
    with DockerArchive(bytes(tmp_path / "1.tar")) as archive:
        assert archive.tags() == ["app:1"]
        assert read_all(archive) == (image.config, list(image.tars))
        assert read_all(archive, "app:1") == (image.config, list(image.tars))
        with pytest.raises(ImageError, match="no image 'app:2'; there are: app:1"):
            archive.resolve("app:2")
    with tarfile.open(tmp_path / "1.tar") as tar:
        assert len(tar.getnames()) == 4, "a layer that is there twice is stored once"


def test_layer_of_another_size(tmp_path: Path) -> None:
    """A layer that turns out to have another size leaves no archive."""
    image = ArchiveImage(b"{}", [(BlobDigest.of(b"x"), 5, [b"123"])], [])
    with pytest.raises(ImageError, match="has 3 bytes, not 5"):
        write_docker_archive(bytes(tmp_path / "x.tar"), image)
    assert list(tmp_path.iterdir()) == []


def test_links_and_directories(tmp_path: Path) -> None:
    """As old docker wrote it: a directory a layer, where a layer that is there already is a link."""
    image = image_of(tmp_path, [TARS[0], TARS[1], TARS[0]])
    path = write(
        tmp_path / "x.tar",
        {
            "c.json": image.config,
            "1/layer.tar": TARS[0],
            "2/layer.tar": TARS[1],
            "manifest.json": manifest_json("c.json", ["1/layer.tar", "4/layer.tar", "3/layer.tar"]),
        },
        {
            "3/layer.tar": (tarfile.SYMTYPE, "../1/layer.tar"),
            "4/layer.tar": (tarfile.LNKTYPE, "2/layer.tar"),
        },
    )
    with DockerArchive(bytes(path)) as archive:
        assert read_all(archive) == (image.config, list(image.tars))


def test_ranges(tmp_path: Path) -> None:
    """Layers are read where they lie, at any offset; nothing outside of them is."""
    image = image_of(tmp_path, TARS[:1])
    path = write(
        tmp_path / "x.tar",
        {"c.json": image.config, "l": TARS[0], "manifest.json": manifest_json("c.json", ["l"])},
    )
    with DockerArchive(bytes(path)) as archive:
        blob = Descriptor(media.OCI_LAYER, BlobDigest.of(TARS[0]), len(TARS[0]))
        config = Descriptor.of(media.OCI_CONFIG, image.config)
        assert archive.has(blob)
        assert archive.read_range(blob, 500, 100) == TARS[0][500:600]
        assert archive.read_range(config, 2, 5) == image.config[2:7]
        with pytest.raises(BlobCorrupt, match="ends before"):
            archive.read_range(blob, len(TARS[0]) - 1, 2)
        with pytest.raises(BlobMissing):
            archive.open(Descriptor.of("a/b", b"no"))


def test_a_layout_within(tmp_path: Path) -> None:
    """As docker 25 writes it: the image's own manifest is found, so that its digest is kept."""
    with layout_at(tmp_path / "from") as layout:
        image = build(layout, "x", TARS, "gzip")
        files = {}
        for blob in (image.descriptor, *image.manifest.blobs):
            files[f"blobs/sha256/{blob.digest.hex}"] = layout.read(blob)
        files["index.json"] = json.dumps(
            {"schemaVersion": 2, "manifests": [image.descriptor.to_json()]}
        ).encode()
        files["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
        files["manifest.json"] = manifest_json(
            f"blobs/sha256/{image.image_id.hex}",
            [f"blobs/sha256/{blob.digest.hex}" for blob in image.manifest.layers],
            ["app:1"],
        )
    with DockerArchive(bytes(write(tmp_path / "x.tar", files))) as archive:
        assert archive.resolve("app:1").digest == image.descriptor.digest
        del files["index.json"]
    with DockerArchive(bytes(write(tmp_path / "y.tar", files))) as archive:
        manifest = ImageManifest.parse(archive.read_manifest(archive.resolve(None)), "x")
        assert [one.digest for one in manifest.layers] == [one.digest for one in image.manifest.layers]
        assert {one.media_type for one in manifest.layers} == {media.OCI_LAYER_GZIP}


def test_a_layer_that_is_another(tmp_path: Path) -> None:
    """A layer that is not what the config says is noticed when it is read."""
    image = image_of(tmp_path)
    path = write(
        tmp_path / "x.tar",
        {
            "c.json": image.config,
            "1": TARS[1] + bytes(len(TARS[0])),
            "2": TARS[1],
            "manifest.json": manifest_json("c.json", ["1", "2"]),
        },
    )
    with DockerArchive(bytes(path)) as archive, pytest.raises(BlobCorrupt):
        read_all(archive)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"x": b""}, r"manifest\.json is missing"),
        ({"manifest.json": b"x"}, "not JSON"),
        ({"manifest.json": b"[]"}, "not a list of images"),
        ({"manifest.json": b'[],"x":[]'}, "not a list of images"),
        ({"manifest.json": b"[3]"}, "must be an object"),
        ({"manifest.json": b'[{"Config":3}]'}, "Config must be a string"),
        ({"manifest.json": manifest_json("c", ["l"])}, "c is missing"),
        ({"manifest.json": manifest_json("c", ["l"]), "c": b"{}"}, "no image config"),
        (
            {
                "manifest.json": manifest_json("c", ["l"]),
                "c": b'{"rootfs":{"type":"layers","diff_ids":[]}}',
            },
            "there are 1 layers, but the config says 0",
        ),
        (
            {
                "manifest.json": manifest_json("c", ["l"]),
                "c": b'{"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' % (b"0" * 64),
            },
            "l is missing",
        ),
    ],
)
def test_bad_archives(tmp_path: Path, files: dict[str, bytes], says: str) -> None:
    """What is missing or makes no sense is told when the archive is opened."""
    with pytest.raises(ImageError, match=says):
        DockerArchive(bytes(write(tmp_path / "x.tar", files)))


def write_image(tmp_path: Path) -> Path:
    image = image_of(tmp_path)
    layers = [(BlobDigest.of(tar), len(tar), [tar]) for tar in image.tars]
    write_docker_archive(bytes(tmp_path / "x.tar"), ArchiveImage(image.config, layers, ["app:1"]))
    return tmp_path / "x.tar"


def compressed(data: bytes, how: str) -> bytes:
    if how == "zstd":
        return zstandard.compress(data)
    return gzip.compress(data) if how == "gzip" else data


@pytest.mark.parametrize("how", ["gzip", "zstd"])
def test_compressed(tmp_path: Path, how: str) -> None:
    """`docker save | gzip` is read like the archive itself."""
    plain = write_image(tmp_path)
    packed = tmp_path / "x.tar.gz"
    packed.write_bytes(compressed(plain.read_bytes(), how))
    with DockerArchive(bytes(plain)) as one, DockerArchive(bytes(packed)) as other:
        assert other.tags() == one.tags() == ["app:1"]
        assert other.resolve(None) == one.resolve(None)
        read_all(other)


@pytest.mark.parametrize("how", ["plain", "gzip"])
def test_pipe(tmp_path: Path, how: str) -> None:
    """An archive comes through a pipe, as `docker save |` gives it."""
    plain = write_image(tmp_path)
    data = compressed(plain.read_bytes(), how)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    with DockerArchive(bytes(pipe)) as archive:
        assert archive.tags() == ["app:1"]
        read_all(archive)
    writer.join()


@pytest.mark.parametrize(
    ("data", "says"), [(b"", "nothing came"), (gzip.compress(bytes(5000), mtime=0)[:-9], "cut short")]
)
def test_a_pipe_that_ends_too_soon(tmp_path: Path, data: bytes, says: str) -> None:
    """Nothing, and what is cut off, is told as that."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    with pytest.raises(ImageError, match=says):
        DockerArchive(bytes(pipe))
    writer.join()


def test_an_image_by_its_place(tmp_path: Path) -> None:
    """`@0` is the first image of an archive, which need not have a name."""
    with DockerArchive(bytes(write_image(tmp_path))) as archive:
        assert archive.resolve("@0") == archive.resolve("app:1")
        for wrong in ("@1", "@x", "@"):
            with pytest.raises(ImageError, match="the last is @0"):
                archive.resolve(wrong)


def test_a_circle_of_links(tmp_path: Path) -> None:
    """Links that lead to each other end."""
    path = write(
        tmp_path / "x.tar",
        {"x": b""},
        {"manifest.json": (tarfile.SYMTYPE, "a"), "a": (tarfile.SYMTYPE, "manifest.json")},
    )
    with pytest.raises(ImageError, match="missing from the archive"):
        DockerArchive(bytes(path))


@pytest.mark.parametrize("verb", ["copy", "export"])
@pytest.mark.parametrize("how", ["gzip", "zstd", "none"])
def test_a_plain_image_becomes_an_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, how: str
) -> None:
    """Its layers are decompressed, the image id stays; a converted one gives the same archive."""
    monkeypatch.chdir(tmp_path)
    with layout_at(Path("images")) as layout:
        built = build(layout, "app", [layer({"etc/app": b"1" * 3_000_000}), layer({"b": b"2"})], how)
        convert(layout, "app", layout, "thin", ConvertOptions(thin=True))
    assert main(["oci", verb, "oci:images:app", "docker-archive:plain.tar:app:1"]) == 0
    assert main(["oci", verb, "oci:images:thin", "docker-archive:thin.tar:app:1"]) == 0
    assert Path("plain.tar").read_bytes() == Path("thin.tar").read_bytes()
    with DockerArchive(b"plain.tar") as archive:
        assert archive.tags() == ["app:1"]
        assert str(built.image_id) in archive.read_manifest(archive.resolve("app:1")).decode()


def test_copied_into_an_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The digest is that of what the archive then names; there is no room for indexes of casync, and none of it stays
    where a layer is not what the config says."""
    monkeypatch.chdir(tmp_path)
    with layout_at(Path("images")) as layout:
        build(layout, "app", [layer({"a": b"1"})])
        build(layout, "lies", [layer({"a": b"1"})], diff_ids=[layer({"a": b"2"})])
        build(layout, "more", [layer({"a": b"1"})], diff_ids=[layer({"a": b"1"}), layer({"a": b"2"})])
    assert main(["oci", "pull", "--json", "oci:images:app", "docker-archive:x.tar"]) == 0
    with DockerArchive(b"x.tar") as archive:
        assert json.loads(capsys.readouterr().out)["digest"] == str(archive.resolve(None).digest)
    assert main(["oci", "copy", "--thin", "oci:images:app", "docker-archive:y.tar"]) == 2
    assert main(["oci", "copy", "oci:images:lies", "docker-archive:y.tar"]) == 1
    assert main(["oci", "copy", "oci:images:more", "docker-archive:y.tar"]) == 1
    assert not Path("y.tar").exists()
