"""Directories of one image, skopeo's `dir:`: what is in them, what replaces what, and what is left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from test_oci.images import Built, build, build_index, layer, layout_at, noise

from casync_compat.cli import main
from casync_compat.errors import FileError, UsageError
from casync_compat.oci.places.directory import ImageDirectory
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor
from casync_compat.oci.spec.errors import BlobCorrupt, BlobMissing, ImageError
from casync_compat.oci.spec.reference import Reference, parse_reference

Says = Callable[..., str]


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Built:
    """oci:images:app, oci:images:arm, and both in oci:images:multi."""
    monkeypatch.chdir(tmp_path)
    with layout_at(Path("images")) as layout:
        app = build(
            layout, "app", [layer({"etc/app": b"1", "bin/large": noise(80_000)}), layer({"etc/b": b"2"})]
        )
        arm = build(layout, "arm", [layer({"etc/app": b"3"})], architecture="arm64")
        build_index(layout, "multi", [(app, "linux/amd64"), (arm, "linux/arm64")])
        return app


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Says:
    def run(*words: str) -> str:
        assert main(["oci", *words]) != 0
        return capsys.readouterr().err

    return run


def names(path: str) -> list[str]:
    return sorted(file.name for file in Path(path).iterdir())


def copy(source: str, target: str) -> None:
    assert main(["oci", "copy", source, target]) == 0


def test_name() -> None:
    """All of it is the path, as skopeo has it."""
    assert parse_reference("dir:a:b") == Reference("dir", "a:b")
    with pytest.raises(UsageError, match="the path is missing"):
        parse_reference("dir:")


def test_files(app: Built) -> None:
    """They are called as skopeo calls them; manifests are the image's to the byte."""
    copy("oci:images:app", "dir:out")
    blobs = [blob.digest.hex for blob in app.manifest.blobs]
    assert names("out") == sorted([*blobs, "manifest.json", "version"])
    assert Path("out/version").read_bytes() == b"Directory Transport Version: 1.1\n"
    assert Path("out/manifest.json").read_bytes() == app.manifest.raw
    copy("dir:out", "oci:back:app")
    with layout_at(Path("back")) as back:
        assert back.resolve("app").digest == app.descriptor.digest


def test_index(app: Built) -> None:
    """What an index names stands beside it; an image by its digest is found, too."""
    copy("oci:images:multi", "dir:out")
    assert f"{app.descriptor.digest.hex}.manifest.json" in names("out")
    with ImageDirectory(b"out") as place:
        assert place.tags() == []
        assert place.resolve(str(app.descriptor.digest)).digest == app.descriptor.digest
        assert place.resolve("any").digest == place.resolve(None).digest != app.descriptor.digest
        with pytest.raises(ImageError, match="there is no image sha256:"):
            place.resolve(f"sha256:{'0' * 64}")


def test_another_takes_its_place(app: Built) -> None:
    """The files of the old image go, and nothing else."""
    copy("oci:images:multi", "dir:out")
    for name in ("README", "signature-1", ".pycasync-1.tmp", "abc.manifest.json"):
        Path("out", name).write_bytes(b"")
    copy("oci:images:app", "dir:out")
    blobs = [blob.digest.hex for blob in app.manifest.blobs]
    assert names("out") == sorted([*blobs, "manifest.json", "version", "README", "abc.manifest.json"])
    Path("out/signature-1").write_bytes(b"of this image")
    copy("oci:images:app", "dir:out")
    assert "signature-1" in names("out")


def test_converted_in_place_and_back(app: Built) -> None:
    """Converting, repacking, checking and giving back."""
    copy("oci:images:app", "dir:out")
    assert main(["oci", "convert", "--thin", "dir:out", "dir:out"]) == 0
    assert main(["oci", "repack", "dir:out"]) == 0
    assert main(["oci", "verify", "dir:out"]) == 0
    assert main(["oci", "export", "dir:out", "dir:back"]) == 0
    with ImageDirectory(b"back") as back:
        config = app.manifest.config
        assert BlobDigest.of(back.read(config)) == config.digest


def test_left_alone(app: Built, fails: Says) -> None:
    """What is no such directory is not written to, nor one that somebody writes to."""
    Path("mine").mkdir()
    Path("mine/thesis").write_text("x")
    assert "has other things in it" in fails("copy", "oci:images:app", "dir:mine")
    assert names("mine") == ["thesis"]
    Path("mine/version").write_text("3.0\n")
    assert "not that of an image" in fails("copy", "oci:images:app", "dir:mine")
    with ImageDirectory(b"busy") as busy:
        busy.writing()
        busy.writing()
        assert "is being written to" in fails("copy", "oci:images:app", "dir:busy")
    copy("oci:images:app", "dir:busy")
    Path("file").write_text("x")
    assert "this is no directory" in fails("copy", "oci:images:app", "dir:file")
    assert "is one image; remove it with rm -r" in fails("delete", "dir:busy")
    assert "that is the converted image itself" in fails("export", "dir:busy", "dir:busy")


def test_nothing_there(app: Built, fails: Says) -> None:
    """The message says what is there instead."""
    Path("empty").mkdir()
    assert "no manifest.json" in fails("ls", "dir:empty")
    assert "there is no such directory" in fails("ls", "dir:gone")
    assert "this is a layout; name it oci:images" in fails("ls", "dir:images")
    Path("odd/manifest.json").mkdir(parents=True)
    assert "not a regular file" in fails("ls", "dir:odd")
    Path("odd/manifest.json").rmdir()
    Path("odd/manifest.json").write_bytes(bytes((4 << 20) + 1))
    assert "is larger than" in fails("ls", "dir:odd")
    with pytest.raises(UsageError):
        ImageDirectory(b"")


def test_damage(app: Built) -> None:
    """Missing and changed manifests are noticed; a tag is moved from what it was only."""
    copy("oci:images:multi", "dir:out")
    path = Path(f"out/{app.descriptor.digest.hex}.manifest.json")
    with ImageDirectory(b"out") as place:
        root = place.resolve(None)
        assert not place.swap_tag("x", app.descriptor, app.descriptor)
        assert not place.swap_tag("x", app.descriptor, None)
        with pytest.raises(BlobCorrupt):
            place.put_manifest(app.descriptor, b"{}")
        path.write_bytes(path.read_bytes() + b" ")
        with pytest.raises(BlobCorrupt):
            place.read_manifest(app.descriptor)
        path.unlink()
        with pytest.raises(BlobMissing):
            place.read_manifest(app.descriptor)
        place.put_tagged("x", root, place.read_manifest(root))  # whose sweep finds an image that is not whole
        assert place.has(app.manifest.config)
        assert place.swap_tag("x", root, root)


def test_no_room(app: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the system names the directory."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.listdir", full)
    with ImageDirectory(b"out") as place, pytest.raises(FileError, match="out"):
        place.put(Descriptor.of("x", b"x"), [b"x"])
