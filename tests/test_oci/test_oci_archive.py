"""Archives of OCI layouts are read as layouts are, in place; what is no such archive is told apart."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from test_oci.images import build, layer, layout_at, noise

from casync_compat.cli import main
from casync_compat.errors import UsageError
from casync_compat.oci.convert import ConvertOptions, convert
from casync_compat.oci.copy import copy_image
from casync_compat.oci.places.docker_archive import DockerArchive
from casync_compat.oci.places.layout import Layout
from casync_compat.oci.places.oci_archive import OciArchive
from casync_compat.oci.places.opened import Places
from casync_compat.oci.spec.descriptor import Descriptor
from casync_compat.oci.spec.errors import BlobCorrupt, BlobMissing, ImageError
from casync_compat.oci.spec.reference import Reference, parse_reference
from casync_compat.oci.verify import verify_image

FILES = {"etc/motd": b"hello", "bin/large": noise(80_000)}
NAME = "docker.io/library/alpine:3.20"


def pack(at: Path, path: Path, *, prefix: str = "", leave_out: str = "?") -> Path:
    """A tar of a directory's files."""
    with tarfile.open(path, "w") as tar:
        for file in sorted(at.rglob("*")):
            name = str(file.relative_to(at))
            if file.is_file() and not file.name.startswith(".") and leave_out not in name:
                tar.add(file, prefix + name)
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A plain image, and a converted one of a name with colons."""
    with layout_at(tmp_path / "layout") as layout:
        build(layout, "plain", [layer(dict(FILES))])
        convert(layout, "plain", layout, NAME, ConvertOptions())
    return pack(tmp_path / "layout", tmp_path / "x.tar", prefix="./")


def test_names() -> None:
    """The file ends at the first colon, as skopeo has it."""
    assert parse_reference(f"oci-archive:a/x.tar:{NAME}") == Reference("oci-archive", "a/x.tar", tag=NAME)
    assert parse_reference("oci-archive:x.tar") == Reference("oci-archive", "x.tar")
    with pytest.raises(UsageError, match="the path is missing"):
        parse_reference("oci-archive:")


def test_it_is_the_layout(tmp_path: Path, archive: Path) -> None:
    """Tags, descriptors and blobs are those of the layout that was packed."""
    with OciArchive(bytes(archive)) as found, layout_at(tmp_path / "layout") as layout:
        assert found.tags() == layout.tags() == [NAME, "plain"]
        for tag in found.tags():
            assert found.resolve(tag) == layout.resolve(tag)
        digest = str(found.resolve("plain").digest)
        assert found.resolve(digest).digest == layout.resolve(digest).digest
        assert verify_image(found, NAME).problems == []
        with layout_at(tmp_path / "copy") as copy:
            copy_image(found, NAME, copy, "c")
            assert verify_image(copy, "c").problems == []


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        (None, "several images in it"),
        ("x", "no image tagged 'x'; there are: "),
        (f"sha256:{'0' * 64}", "no image"),
    ],
)
def test_images_that_are_not_there(archive: Path, reference: str | None, says: str) -> None:
    """As of a layout."""
    with OciArchive(bytes(archive)) as found, pytest.raises(ImageError, match=says):
        found.resolve(reference)


@pytest.mark.parametrize(
    "words",
    [
        "ls {}",
        "cat {} etc/motd",
        "inspect {}",
        "verify {}",
        "stats {}",
        "unpack --rootless {} {at}/bundle",
        "checkout --rootless {} {at}/root --file-store={at}/files",
        "export {} oci:{at}/out:x",
        "export {} docker-archive:{at}/out.tar",
        "pull {} oci:{at}/out",
    ],
)
def test_verbs(archive: Path, tmp_path: Path, words: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Every verb that reads images reads these."""
    assert main(["oci", *words.format(f"oci-archive:{archive}:{NAME}", at=tmp_path).split()]) == 0
    if words.startswith("cat"):
        assert capfd.readouterr().out == "hello"
    if words.startswith("pull"):
        assert Layout(bytes(tmp_path / "out")).tags() == [NAME]


def test_standard_input(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """`-` is standard input, a file that is compressed as well."""
    import gzip
    import os

    packed = tmp_path / "packed.tar.gz"
    packed.write_bytes(gzip.compress(archive.read_bytes()))
    saved = os.dup(0)
    try:
        with open(packed, "rb") as file:
            os.dup2(file.fileno(), 0)
        assert main(["oci", "cat", f"oci-archive:-:{NAME}", "etc/motd"]) == 0
    finally:
        os.dup2(saved, 0)
        os.close(saved)
    assert capfd.readouterr().out == "hello"


def test_convert(archive: Path, tmp_path: Path) -> None:
    """And so does convert, whose result keeps the image's name."""
    assert main(["oci", "convert", f"oci-archive:{archive}:plain", f"oci:{tmp_path}/out"]) == 0
    assert Layout(bytes(tmp_path / "out")).tags() == ["plain"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x.tar", r"an image is named .*oci-archive:FILE"),
        ("docker-archive:x.tar", r"archive of an OCI layout; name it oci-archive:\S*x.tar$"),
        ("oci:x.tar", r"no directory; an archive of a layout is named oci-archive:\S*x.tar$"),
        ("oci-archive:layout", r"this is a directory; name a layout oci:\S*layout$"),
        ("oci-archive:docker.tar", r"no oci-layout in the archive; name a docker archive docker-archive:"),
        ("oci-archive:other.tar", r"no oci-layout in the archive$"),
        ("oci-archive:gone.tar", "No such file"),
    ],
)
def test_what_is_something_else(
    archive: Path, text: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message says what it is, and how that is named."""
    import re

    monkeypatch.chdir(archive.parent)
    for name, member in (("docker.tar", "manifest.json"), ("other.tar", "x")):
        with tarfile.open(name, "w") as tar:
            tar.addfile(tarfile.TarInfo(member), io.BytesIO())
    assert main(["oci", "ls", text]) == (
        2 if text == "x.tar" else 1
    )  # the words alone are wrong, or files are
    assert re.search(says, capsys.readouterr().err.strip()), says


@pytest.mark.parametrize("words", ["export oci:layout:{}", "convert oci:layout:plain", "push oci:layout:{}"])
def test_output(archive: Path, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are written whole in place of what was there, the same image to the same bytes, and are read again."""
    monkeypatch.chdir(archive.parent)
    words = words.format(NAME)
    assert main(["oci", *words.split(), "oci-archive:x.tar:y"]) == 0
    assert (
        main(["oci", *words.split(), "oci-archive:z.tar:y", "-j1"][: -1 if "convert" not in words else None])
        == 0
    )
    assert archive.read_bytes() == Path("z.tar").read_bytes()
    with OciArchive(bytes(archive)) as written:
        assert written.tags() == ["y"]
    assert main(["oci", "copy", "oci-archive:x.tar:y", "oci:again:y"]) == 0
    with layout_at(Path("again")) as layout, OciArchive(bytes(archive)) as written:
        assert written.resolve("y").digest == layout.resolve("y").digest
        assert not verify_image(layout, "y").problems if "export" not in words else layout.tags() == ["y"]


def test_output_that_fails(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file stays as it was, and nothing is beside it."""
    monkeypatch.chdir(archive.parent)
    before, files = archive.read_bytes(), sorted(archive.parent.iterdir())
    with layout_at(Path("layout")) as layout:
        manifest = json.loads(layout.read_manifest(layout.resolve("plain")))
    blob = Path("layout/blobs/sha256", manifest["layers"][0]["digest"][7:])
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    assert main(["oci", "copy", "oci:layout:plain", "oci-archive:x.tar"]) == 1
    assert archive.read_bytes() == before
    assert sorted(archive.parent.iterdir()) == files


def test_output_onto_itself(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive is converted in place: what is read is the old file until the new one is whole."""
    monkeypatch.chdir(archive.parent)
    assert main(["oci", "convert", "oci-archive:x.tar:plain", "oci-archive:x.tar:plain"]) == 0
    with OciArchive(bytes(archive)) as written:
        assert written.tags() == ["plain"]
        assert verify_image(written, "plain").problems == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("repack oci-archive:x.tar:plain", "archives are written anew, not changed"),
        ("delete oci-archive:x.tar:plain", "archives are written anew, not changed"),
        ("copy oci:layout:plain oci-archive:-", "an archive is written to a file"),
        ("export oci-archive:x.tar:plain oci-archive:x.tar", "that is the converted image itself"),
    ],
)
def test_no_output(
    archive: Path, words: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be done leaves the file alone."""
    monkeypatch.chdir(archive.parent)
    before = archive.read_bytes()
    assert main(["oci", *words.split()]) in (1, 2)
    assert says in capsys.readouterr().err
    assert archive.read_bytes() == before


def test_damage(archive: Path, tmp_path: Path) -> None:
    """A blob that is missing, or has other contents, is noticed; so is a layout of an unknown version."""
    with layout_at(tmp_path / "layout") as layout:
        manifest = layout.resolve("plain")
        blob = json.loads(layout.read_manifest(manifest))["layers"][0]
    with OciArchive(
        bytes(pack(tmp_path / "layout", tmp_path / "y.tar", leave_out=blob["digest"][7:]))
    ) as lacking:
        descriptor = Descriptor.from_json(blob, "x")
        assert not lacking.has(descriptor)
        with pytest.raises(BlobMissing):
            lacking.read(descriptor)
    data = archive.read_bytes()
    at = data.index((tmp_path / "layout" / "blobs/sha256" / blob["digest"][7:]).read_bytes())
    archive.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with OciArchive(bytes(archive)) as damaged, pytest.raises(BlobCorrupt):
        damaged.read(descriptor)
    (tmp_path / "layout/oci-layout").write_text('{"imageLayoutVersion":"2.0.0"}')
    with pytest.raises(ImageError, match=r"version 2\.0\.0"):
        OciArchive(bytes(pack(tmp_path / "layout", tmp_path / "z.tar")))


def test_docker_archives_stay_what_they_are(archive: Path) -> None:
    """One that has both forms, as docker writes it, is either."""
    with tarfile.open(archive, "a") as tar:
        text = b"[]"
        info = tarfile.TarInfo("manifest.json")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
    with pytest.raises(ImageError, match="not a list of images"):
        DockerArchive(bytes(archive))
    with Places(environ={}) as places:
        assert places.readable(parse_reference(f"oci-archive:{archive}:plain")).tags() == [NAME, "plain"]
