"""Reports of registries that are peculiar: rights, redirects, ranges, uploads in parts, connections that break."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_oci.fake_registry import STORAGE, FakeRegistry, FakeResponse, Seen
from test_oci.images import build, layer, layout_at, noise

from casync_compat.chunker.params import ChunkSizes
from casync_compat.errors import CasyncError
from casync_compat.net.http import TransportError
from casync_compat.oci.convert import ConvertOptions, convert
from casync_compat.oci.copy import copy_image
from casync_compat.oci.export import ExportOptions, export
from casync_compat.oci.places.layout import Layout
from casync_compat.oci.registry.repository import Repository
from casync_compat.oci.verify import verify_image

OPTIONS = ConvertOptions(sizes=ChunkSizes(1024, 4096, 16384), jobs=2, thin=True)
BROKEN = TransportError("connection reset")


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Layout]:
    """A layout with an image, `plain`, and what a conversion made of it, `thin`."""
    with layout_at(tmp_path / "source") as layout:
        build(layout, "plain", [layer({f"usr/{n}": noise(100_000, n) for n in range(6)}), layer({"b": b"b"})])
        convert(layout, "plain", layout, "thin", OPTIONS)
        yield layout


def pushed(source: Layout, fake: FakeRegistry, tag: str = "thin", **members: object) -> FakeRegistry:
    """A registry that has the image now, in peace; only then it gets its traits."""
    copy_image(source, tag, fake.open(), "1")
    for name, value in members.items():
        setattr(fake, name, value)
    fake.seen.clear()
    return fake


def same(source: Layout, repository: Repository, tmp_path: Path) -> None:
    """What the registry's tag names gives the original image, bit for bit."""
    with layout_at(tmp_path / "back") as back:
        ids = export(repository, "1", back, "x", ExportOptions(rebuild=True)).image_ids
    with layout_at(tmp_path / "direct") as direct:
        assert export(source, "thin", direct, "x", ExportOptions(rebuild=True)).image_ids == ids


def in_parts(repository: Repository) -> Repository:
    """The same repository, made to send blobs in parts of 100,000 bytes."""
    repository._uploads._whole_limit = 0
    repository._uploads._chunk = 100_000
    return repository


def test_stargz_167(source: Layout, tmp_path: Path) -> None:
    """Where blobs are redirected to an address that is good for one GET, and for no HEAD, everything is read."""
    fake = pushed(source, FakeRegistry(), redirect=True)
    good: list[str] = []
    lock = threading.Lock()

    def once(seen: Seen) -> None:
        digest = seen.path.rpartition("/")[2]
        with lock:
            if seen.host != STORAGE and "/blobs/" in seen.path and seen.method == "GET":
                good.append(digest)
            elif seen.host == STORAGE and seen.method == "GET" and digest in good:
                good.remove(digest)
            elif seen.host == STORAGE:
                fake.statuses.insert(0, (403, {}))

    fake.before = once
    with fake.open() as repository:
        same(source, repository, tmp_path)
        assert verify_image(repository, "1").problems == []
    assert sum(seen.host == STORAGE for seen in fake.seen) > 3
    assert not any("Authorization" in seen.headers for seen in fake.seen if seen.host == STORAGE)


@pytest.mark.parametrize("status", [400, 416, 501])
def test_crfs_plugin_1(source: Layout, tmp_path: Path, status: int) -> None:
    """A registry that refuses ranges is asked for whole blobs, and the image is not called corrupt."""
    same(source, pushed(source, FakeRegistry(), no_range=status).open(), tmp_path)


def test_stargz_350(source: Layout, tmp_path: Path) -> None:
    """A registry that answers a range with everything gives what was asked for all the same."""
    fake = pushed(source, FakeRegistry(), ranges=False)
    assert verify_image(fake.open(), "1").problems == []
    same(source, fake.open(), tmp_path)


@pytest.mark.parametrize("says", ["first", "length", "part", "none"])
@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_containers_roadmap_2831(source: Layout, says: str, status: int) -> None:
    """Blobs in parts arrive whole where the registry confirms a part with another status, or counts it otherwise."""
    fake = FakeRegistry(part_status=status, part_range=says)
    copy_image(source, "thin", in_parts(fake.open()), "1")
    assert verify_image(fake.open(), "1").problems == []
    assert sum(seen.method == "PATCH" for seen in fake.seen) > 3


def test_apple_container_1895(source: Layout) -> None:
    """An upload that broke goes on where the registry stands, not at the beginning, and not behind it."""
    fake = FakeRegistry(upload_faults=[BROKEN, BROKEN, 500, BROKEN])
    copy_image(source, "thin", in_parts(fake.open()), "1")
    assert fake.upload_faults == []
    assert verify_image(fake.open(), "1").problems == []


class ReadsFreely(FakeRegistry):
    """Wants credentials of writers alone."""

    def _unauthorized(self, seen: Seen) -> FakeResponse | None:
        return None if seen.method in ("GET", "HEAD") else super()._unauthorized(seen)


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_container_libs_1009(source: Layout, auth: str) -> None:
    """A registry that lets everybody read, and asks who one is only at the first write, is written to."""
    fake = ReadsFreely(auth=auth)
    copy_image(source, "thin", fake.open(login=True), "1")
    assert verify_image(fake.open(), "1").problems == []
    with pytest.raises(CasyncError):
        copy_image(source, "plain", fake.open(), "2")
    assert "2" not in fake.store().tags


def test_containerd_1318(source: Layout, tmp_path: Path) -> None:
    """A token is asked for what is about to be done: reading first does not spoil writing, and readers do not ask
    for more than to read."""
    fake = FakeRegistry(auth="bearer")
    repository = fake.open(login=True)
    with pytest.raises(CasyncError):
        repository.resolve("1")
    copy_image(source, "thin", repository, "1")
    fake.seen.clear()
    same(source, fake.open(login=True), tmp_path)
    scopes = [seen.url for seen in fake.seen if "token" in seen.path]
    assert scopes
    assert not any("push" in scope for scope in scopes)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_helm_12491(source: Layout, status: int) -> None:
    """What is not there yet may read as forbidden; a first push succeeds all the same."""
    fake = FakeRegistry(missing=status, auth="bearer")
    copy_image(source, "thin", fake.open(login=True), "1")
    fake.missing = 404
    assert verify_image(fake.open(login=True), "1").problems == []


def test_buildah_2234(source: Layout) -> None:
    """A registry that does not say where an upload goes is an error in one line, and no tag appears."""
    fake = FakeRegistry()

    def forget(seen: Seen) -> None:
        if seen.method == "POST":
            fake.statuses.insert(0, (202, {}))

    fake.before = forget
    with pytest.raises(CasyncError, match=r"Location|location") as caught:
        copy_image(source, "thin", fake.open(), "1")
    assert "registry.test" in str(caught.value)
    assert fake.store().tags == {}


@pytest.mark.parametrize("after", [1, 2, 3])
def test_moby_32170(source: Layout, tmp_path: Path, after: int) -> None:
    """A pull that breaks off leaves no tag; the next one completes it, and fetches no layer twice that was whole."""
    fake = pushed(source, FakeRegistry(), "plain")
    manifest = source.read_manifest(source.resolve("plain"))
    with layout_at(tmp_path / "near") as near:
        fake.before = lambda seen: fake.statuses.append(BROKEN) if len(fake.seen) > after else None
        with pytest.raises(CasyncError):
            copy_image(fake.open(), "1", near, "x")
        with pytest.raises(CasyncError):
            near.resolve("x")
        fake.before = lambda seen: None
        fake.statuses.clear()
        fake.seen.clear()
        layers = {entry["digest"].partition(":")[2] for entry in json.loads(manifest)["layers"]}
        whole = layers & {path.name for path in (tmp_path / "near" / "blobs" / "sha256").glob("*")}
        copy_image(fake.open(), "1", near, "x")
        asked = {seen.path.rpartition(":")[2] for seen in fake.seen if "/blobs/" in seen.path}
        assert not asked & whole
        assert verify_image(near, "x").problems == []
        assert near.resolve("x").digest == source.resolve("plain").digest
