"""Images of podman and docker, copied by a stand-in for skopeo."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from test_oci.images import Built, build, layer, layout_at

from casync_compat.errors import UsageError
from casync_compat.oci.places.docker_archive import ArchiveImage, write_docker_archive
from casync_compat.oci.places.opened import Places
from casync_compat.oci.spec.descriptor import BlobDigest
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.spec.reference import parse_reference

SKOPEO = """#!/bin/sh
echo "$3" >>{place}/asked
case $3 in *gone*) echo "level=fatal msg=no such image" >&2; exit 1;; esac
case $4 in
oci:*) target=${{4#oci:}}; cp -r {place}/images "${{target%:image}}";;
docker-archive:*) target=${{4#docker-archive:}}; cp {place}/app.tar "${{target%:image:image}}";;
esac
"""


@pytest.fixture
def image(tmp_path: Path) -> Built:
    """What the stand-in gives, in both forms; it is in tmp_path/bin."""
    tars = [layer({"etc/app": b"1" * 500})]
    with layout_at(tmp_path / "images") as layout:
        built = build(layout, "image", tars)
    layers = [(BlobDigest.of(tar), len(tar), [tar]) for tar in tars]
    write_docker_archive(bytes(tmp_path / "app.tar"), ArchiveImage(built.config, layers, ["app:1"]))
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "skopeo"
    program.write_text(SKOPEO.format(place=tmp_path))
    program.chmod(0o755)
    return built


def environ(tmp_path: Path) -> dict[str, str]:
    return {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}


@pytest.mark.parametrize("name", ["containers-storage:localhost/app:1", "docker-daemon:app:1"])
def test_an_image_is_read(image: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """By its name there, and nothing is left of the copy."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    with Places(environ=environ(tmp_path)) as places:
        place = places.readable(parse_reference(name))
        manifest = place.read_manifest(place.resolve(None))
        assert str(BlobDigest.of(image.config)).encode() in manifest
    assert (tmp_path / "asked").read_text() == f"{name}\n"
    assert not os.listdir(tmp_path / "tmp")


def test_what_cannot_be_read(image: Built, tmp_path: Path) -> None:
    """What skopeo says is told; where it is not, what to do."""
    says = r"skopeo cannot read it: .*no such image"
    with Places(environ=environ(tmp_path)) as places, pytest.raises(ImageError, match=says):
        places.readable(parse_reference("containers-storage:gone"))
    with Places(environ={"PATH": "/nowhere"}) as places:
        with pytest.raises(UsageError, match="install skopeo"):
            places.readable(parse_reference("docker-daemon:app:1"))
        with pytest.raises(UsageError, match="not written; export to docker-archive:"):
            places.writable(parse_reference("docker-daemon:app:1"))
