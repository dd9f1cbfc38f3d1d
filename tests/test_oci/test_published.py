"""Registries that fail while an image is converted into them, pushed or pulled: a right result, or no tag at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from test_oci.fake_registry import FakeRegistry, Seen
from test_oci.images import build, build_index, layer, layout_at, noise

from casync_compat.chunker.params import ChunkSizes
from casync_compat.errors import CasyncError
from casync_compat.oci.convert import ConvertOptions, convert
from casync_compat.oci.copy import copy_image
from casync_compat.oci.export import ExportOptions, export
from casync_compat.oci.places.layout import Layout
from casync_compat.oci.places.selection import look_up
from casync_compat.oci.spec.descriptor import Platform
from casync_compat.oci.spec.errors import ArtifactsRefused, ImageError
from casync_compat.oci.verify import verify_image

DUAL = ConvertOptions(sizes=ChunkSizes(1024, 4096, 16384), jobs=2)
THIN = replace(DUAL, thin=True)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Layout]:
    with layout_at(tmp_path / "source") as layout:
        build(layout, "plain", [layer({f"usr/{n}": noise(150_000, n) for n in range(9)}), layer({"b": b"b"})])
        convert(layout, "plain", layout, "x", DUAL)
        yield layout


def whole(fake: FakeRegistry, tmp_path: Path) -> None:
    """What the tag names is complete, and gives an image back."""
    assert verify_image(fake.open(), "1").problems == []
    with layout_at(tmp_path / "back") as back:
        export(fake.open(), "1", back, "y", ExportOptions(rebuild=True))


Go = Callable[[Layout, FakeRegistry], object]
BOTH = pytest.mark.parametrize(
    "go",
    [
        lambda source, fake: convert(source, "plain", fake.open(), "1", DUAL),
        lambda source, fake: copy_image(source, "x", fake.open(), "1"),
    ],
    ids=["convert", "push"],
)

FAULTS: dict[str, dict[str, object]] = {
    "no ranges": {"ranges": False},
    "no digest header": {"head_digest": False},
    "relative Location": {"relative": True},
    "202 on mount": {"mount": 202},
    "another host": {"redirect": True},
    "413": {"upload_limit": 1_100_000},
    "500 in an upload": {"upload_faults": [500, 500]},
    "429": {"statuses": [None, None, (429, {"Retry-After": "3"}), None, (503, {})]},
}


@BOTH
@pytest.mark.parametrize("fault", FAULTS)
def test_registries_that_are_difficult(source: Layout, tmp_path: Path, go: Go, fault: str) -> None:
    """Whatever a registry lacks or wants once more, the image gets there and back."""
    fake = FakeRegistry(**{k: list(v) if isinstance(v, list) else v for k, v in FAULTS[fault].items()})  # type: ignore[arg-type]
    go(source, fake)
    whole(fake, tmp_path)
    if fault == "another host":
        away = [seen for seen in fake.seen if seen.host != fake.seen[0].host]
        assert away
        assert not any("Authorization" in seen.headers for seen in away)


@BOTH
@pytest.mark.parametrize("kind", ["blobs/uploads", "manifests"])
def test_registries_that_refuse(source: Layout, go: Go, kind: str) -> None:
    """Wherever it is refused - at the first request that writes, the second, and so on - there is no tag."""
    fake = FakeRegistry()
    go(source, fake)
    writes = [
        seen for seen in fake.seen if seen.method in ("PUT", "POST", "PATCH") and f"/{kind}" in seen.path
    ]
    assert writes
    for number in range(len(writes)):
        fake = FakeRegistry()
        left = [number]

        def refuse(seen: Seen, left: list[int] = left, fake: FakeRegistry = fake) -> None:
            if seen.method in ("PUT", "POST", "PATCH") and f"/{kind}" in seen.path:
                left[0] -= 1
            # What comes after that is refused for good.
            fake.statuses[:] = [(403, {})] if left[0] < 0 and seen.method != "DELETE" else []

        # The hook runs before the status is taken.
        fake.before = refuse
        with pytest.raises(CasyncError) as caught:
            go(source, fake)
        assert "\n" not in str(caught.value)
        fake.before = lambda seen: None
        fake.statuses.clear()
        assert fake.open().resolve_or_none("1") is None, f"refused at write {number}"


def test_somebody_else_moves_the_tag(tmp_path: Path) -> None:
    """Two people add their platform's converted image to one tag: the second one is told, and nothing is lost."""
    fake = FakeRegistry(etags=True)
    with layout_at(tmp_path / "source") as source:
        images = [
            build(source, None, [layer({"n": n})], architecture=n.decode()) for n in (b"amd64", b"arm64")
        ]
        build_index(source, "multi", list(zip(images, ["linux/amd64", "linux/arm64"], strict=True)))
        copy_image(source, "multi", fake.open(), "1")
        other = build(source, "other", [layer({"other": b"x"})])
        moved: list[bool] = []

        def move(seen: Seen) -> None:
            if seen.method == "PUT" and "/manifests/" in seen.path and not moved:
                moved.append(True)
                copy_image(source, "other", fake.open(), "1")

        fake.before = move
        with pytest.raises(ImageError, match="somebody else moved the tag meanwhile; convert again"):
            repository = fake.open()
            convert(repository, "1", repository, "1", replace(DUAL, platform=Platform("linux", "arm64")))
        assert fake.open().resolve("1").digest == other.descriptor.digest
        fake.before = lambda seen: None
        copy_image(source, "multi", fake.open(), "1")
        for name in ("arm64", "amd64"):
            repository = fake.open()
            convert(repository, "1", repository, "1", replace(DUAL, platform=Platform("linux", name)))
        found = look_up(fake.open(), "1")
        assert (len(found.plain), len(found.wrappers)) == (2, 2)


@pytest.mark.parametrize("damage", ["flipped", "truncated"])
def test_registries_that_lie(source: Layout, tmp_path: Path, damage: str) -> None:
    """A registry that serves a blob with one bit wrong, or cut short, gives an error and no tag in the layout."""
    fake = FakeRegistry()
    copy_image(source, "x", fake.open(), "1", thin=True)
    for number, digest in enumerate(fake.store().blobs):
        setattr(fake, damage, {digest})
        with layout_at(tmp_path / str(number)) as target:
            with pytest.raises(CasyncError):
                copy_image(fake.open(), "1", target, "1")
            assert target.resolve_or_none("1") is None
    setattr(fake, damage, set())
    with layout_at(tmp_path / damage) as target:
        copy_image(fake.open(), "1", target, "1")
        assert verify_image(target, "1").problems == []


@pytest.mark.parametrize("thin", [True, False])
@pytest.mark.parametrize("layers", [4, 8])
def test_requests_of_a_second_push(tmp_path: Path, thin: bool, layers: int) -> None:
    """The next version, one layer changed: of a layer that is taken over its index is read, nothing looked for."""
    options = THIN if thin else DUAL
    tars = [layer({f"f{n}": noise(60_000, n)}) for n in range(layers)]
    with layout_at(tmp_path / "versions") as versions:
        build(versions, "1", tars)
        build(versions, "2", [*tars[:-1], layer({"new": noise(60_000, 99)})])
        fake = FakeRegistry()
        convert(versions, "1", fake.open(), "v", options)
        first = len(fake.seen)
        made = convert(versions, "2", fake.open(), "v", options)
    assert made.images[0].reused_layers == layers - 1
    methods = Counter(seen.method for seen in fake.seen[first:])
    # Looked for: the new pack, the image's config, its new layer. Read: tag, plain manifest, config, packs' index, and
    # the base's layer indexes. Sent: new layer, pack, index, recipe, packs' index, two configs, the source manifest.
    assert methods["HEAD"] == (2 if thin else 3)
    assert methods["GET"] == layers - 1 + (3 if thin else 5)
    assert methods["POST"] == (7 if thin else 8)
    assert verify_image(fake.open(), "v").problems == []


def test_requests_of_a_second_copy(tmp_path: Path) -> None:
    """The same for a layout's image that is pushed: only blobs that the registry lacks cost requests."""
    tars = [layer({f"f{n}": noise(60_000, n)}) for n in range(6)]
    with layout_at(tmp_path / "versions") as versions:
        build(versions, "1", tars)
        build(versions, "2", [*tars[:-1], layer({"new": noise(60_000, 99)})])
        convert(versions, "1", versions, "c", DUAL)
        fake = FakeRegistry()
        copy_image(versions, "c", fake.open(), "v")
        first = len(fake.seen)
        convert(versions, "2", versions, "c", DUAL)
        copied = copy_image(versions, "c", fake.open(), "v")
    methods = Counter(seen.method for seen in fake.seen[first:])
    assert methods["HEAD"] == 0
    assert methods["POST"] == copied.moved == 8


@pytest.mark.parametrize(
    "answer",
    [
        (400, "MANIFEST_INVALID", "unknown media type: a/b"),
        (415, "", ""),
        (405, "UNSUPPORTED", ""),
        (422, "OTHER", ""),
    ],
    ids=str,
)
@BOTH
def test_a_registry_that_takes_no_artifacts(go: Go, source: Layout, answer: tuple[int, str, str]) -> None:
    """It is said to be one, with its own words; the tag is not touched."""
    fake = FakeRegistry(no_artifacts=answer)
    with pytest.raises(ArtifactsRefused, match="takes no artifacts, which converted images") as caught:
        go(source, fake)
    assert answer[2] in str(caught.value)
    assert fake.store().tags == {}


@pytest.mark.parametrize(
    "code", ["MANIFEST_BLOB_UNKNOWN", "NAME_INVALID", "TAG_INVALID", "DENIED", "QUOTA_EXCEEDED"]
)
def test_other_faults_of_a_manifest(source: Layout, code: str) -> None:
    """What is wrong for another reason is not put down to that."""
    fake = FakeRegistry(no_artifacts=(400, code, ""))
    with pytest.raises(CasyncError, match=code) as caught:
        copy_image(source, "x", fake.open(), "1")
    assert "artifacts" not in str(caught.value)
