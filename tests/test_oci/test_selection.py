"""Places by their names, and which manifests a tag leads to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from test_oci.images import Built, build, build_index, layer, layout_at

from casync_compat.errors import UsageError
from casync_compat.oci.convert import ConvertOptions, convert
from casync_compat.oci.places import selection
from casync_compat.oci.places.layout import Layout
from casync_compat.oci.places.opened import Places
from casync_compat.oci.places.selection import Found, host_platform, look_up
from casync_compat.oci.spec import media
from casync_compat.oci.spec.descriptor import Descriptor, Platform
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.spec.manifest import ImageIndex, ImageManifest
from casync_compat.oci.spec.reference import parse_reference


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    with layout_at(tmp_path / "layout") as found:
        yield found


def platforms(layout: Layout, *names: str) -> list[Built]:
    images = [build(layout, None, [layer({"n": name.encode()})]) for name in names]
    build_index(layout, "x", list(zip(images, names, strict=True)))
    return images


def chosen(found: Found, wanted: str | None, everything: bool = False) -> list[str]:
    platform = Platform.parse(wanted) if wanted else None
    return [str(choice.platform) for choice in found.choose_plain(platform, everything)]


def test_which_platform(layout: Layout) -> None:
    """By name, by name without the variant, all, or this machine's."""
    platforms(layout, "linux/arm/v6", "linux/arm/v7", "linux/riscv64")
    found = look_up(layout, "x")
    assert chosen(found, "linux/arm/v7") == ["linux/arm/v7"]
    assert chosen(found, "linux/arm") == ["linux/arm/v7"]
    assert chosen(found, "linux/arm/v8") == ["linux/arm/v7"]
    assert chosen(found, None, True) == ["linux/arm/v6", "linux/arm/v7", "linux/riscv64"]
    for wanted in ("linux/arm/v5", "windows/arm/v7", "linux/s390x"):
        with pytest.raises(ImageError, match=f"there is no image for {wanted}; there are: linux/arm/v6, "):
            chosen(found, wanted)


@pytest.mark.parametrize(
    ("wanted", "there", "found"),
    [
        ("linux/aarch64", "linux/amd64 linux/arm64/v8", "linux/arm64/v8"),
        ("linux/arm64/v8", "linux/amd64 linux/arm64", "linux/arm64"),
        ("linux/arm64", "linux/arm/v7 linux/arm64/v9 linux/aarch64", "linux/aarch64"),
        ("linux/arm64/v9", "linux/arm64 linux/arm64/v8.5 linux/arm/v8", "linux/arm64/v8.5"),
        ("linux/arm64", "linux/amd64 linux/arm/v6 linux/arm/v7", "linux/arm/v7"),
        ("linux/x86_64", "linux/amd64/v3 linux/amd64", "linux/amd64"),
        ("linux/amd64", "linux/amd64/v3 linux/amd64/v1", "linux/amd64/v1"),
        ("linux/amd64", "linux/amd64/v2 linux/386", "linux/386"),
        ("linux/amd64", "linux/amd64/v2 linux/amd64/v3", None),
        ("linux/amd64/v3", "linux/amd64 linux/amd64/v2 linux/amd64/v4", "linux/amd64/v2"),
        ("linux/arm/7", "linux/arm/v5 linux/arm/v6 linux/arm/v8", "linux/arm/v6"),
        ("linux/arm/v6", "linux/arm linux/arm/v7", None),
        ("linux/armhf", "linux/arm/v6 linux/arm", "linux/arm"),
        ("Linux/ARM64", "linux/arm64 linux/amd64", "linux/arm64"),
        ("linux/i686", "linux/amd64 linux/386", "linux/386"),
        ("linux/arm64/v9", "linux/arm64/v9.0 linux/arm64", "linux/arm64/v9.0"),
        ("linux/386", "linux/386/v1 linux/amd64", None),
        ("linux/arm64/own", "linux/arm64 linux/arm64/own", "linux/arm64/own"),
    ],
)
def test_platforms_as_containerd_matches_them(
    layout: Layout, wanted: str, there: str, found: str | None
) -> None:
    """One platform has several names, and runs what is made for lesser ones, never for greater ones."""
    platforms(layout, *there.split())
    if found is not None:
        assert chosen(look_up(layout, "x"), wanted) == [found]
        return
    with pytest.raises(ImageError, match=f"there is no image for {wanted}"):
        chosen(look_up(layout, "x"), wanted)


@pytest.mark.parametrize(
    ("machine", "platform"),
    [
        ("armv6l", "linux/arm/v6"),
        ("armv8l", "linux/arm/v8"),
        ("i686", "linux/386"),
        ("x86_64", "linux/amd64"),
    ],
)
def test_names_of_machines(monkeypatch: pytest.MonkeyPatch, machine: str, platform: str) -> None:
    """What the kernel calls a machine has another name among images."""
    monkeypatch.setattr(selection.machine, "machine", lambda: machine)
    assert str(host_platform()) == platform


def test_an_artifact_without_a_platform(layout: Layout) -> None:
    """An artifact in an index of images is not an image, also when the index names no platform for it; and an image
    for which it names none has the platform of its config."""
    image = build(layout, None, [layer({})], architecture="arm64")
    empty = Descriptor.of(media.OCI_EMPTY, b"{}")
    artifact = ImageManifest.build(empty, [], artifact_type="a/b")
    layout.put(empty, [b"{}"])
    layout.put_manifest(artifact.descriptor, artifact.raw)
    index(layout, artifact.descriptor, image.descriptor)
    found = look_up(layout, "x")
    assert chosen(found, None) == chosen(found, "linux/arm64") == ["linux/arm64"]
    assert [one.digest for one in found.others] == [artifact.descriptor.digest]
    with pytest.raises(ImageError, match=r"there are: linux/arm64$"):
        chosen(found, "linux/s390x")


def test_the_only_image_has_another_platform(layout: Layout) -> None:
    """An image that no index names is taken with a warning, plain or converted; an index is asked for what it has."""
    image = build(layout, "x", [layer({"a": b"1"})], architecture="arm64")
    convert(layout, "x", layout, "made", ConvertOptions(thin=True))
    wanted, said = Platform.parse("linux/s390x"), list[str]()
    (plain,) = look_up(layout, "x").choose_plain(wanted, warn=said.append)
    (made,) = look_up(layout, "made").choose_wrappers(wanted, warn=said.append)
    assert (plain.descriptor.digest, str(made.platform)) == (image.descriptor.digest, "linux/arm64")
    assert [text.partition(": ")[2] for text in said] == [
        "this is an image for linux/arm64 and the only one, not one for linux/s390x"
    ] * 2
    look_up(layout, "x").choose_plain(Platform.parse("linux/arm64/v8"), warn=said.append)
    assert len(said) == 2
    index(layout, replace(image.descriptor, platform=Platform("linux", "arm64")))
    with pytest.raises(ImageError, match=r"no image for linux/s390x; there are: linux/arm64$"):
        look_up(layout, "x").choose_plain(wanted, warn=said.append)


def test_no_message_says_none(layout: Layout) -> None:
    """An image that cannot be looked into has no platform, and is called so."""
    image = build(layout, None, [layer({})])
    gone = Descriptor.of(media.OCI_MANIFEST, b"gone")
    index(layout, gone, replace(image.descriptor, platform=Platform("linux", "s390x")))
    with pytest.raises(ImageError, match="there are: one that names none, linux/s390x"):
        chosen(look_up(layout, "x"), "linux/riscv64")


def test_this_machine(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody says anything: the image for this machine, or the only one."""
    monkeypatch.setattr(selection.machine, "machine", lambda: "aarch64")
    assert host_platform() == Platform("linux", "arm64")
    platforms(layout, "linux/amd64", "linux/arm64")
    assert chosen(look_up(layout, "x"), None) == ["linux/arm64"]
    platforms(layout, "linux/s390x")
    assert chosen(look_up(layout, "x"), None) == ["linux/s390x"]


@pytest.mark.parametrize("nested", [False, True])
def test_a_converted_image_alone(layout: Layout, tmp_path: Path, nested: bool) -> None:
    """A converted image for which no index names a platform is for that of its config, and for no other."""
    build(layout, "x", [layer({})], architecture="arm64")
    with layout_at(tmp_path / "thin") as thin:
        convert(layout, "x", thin, "x", ConvertOptions(thin=True))
        if nested:
            index(thin, thin.resolve("x"))
        found = look_up(thin, "x")
        wanted = Platform("linux", "aarch64")
        assert [str(one.platform) for one in found.choose_wrappers(wanted)] == ["linux/arm64"]
        assert len(found.choose_wrappers(None)) == 1
        if nested:  # else it is the only one, and there is a warning
            with pytest.raises(
                ImageError, match=r"no converted image for linux/amd64; there are: linux/arm64$"
            ):
                found.choose_wrappers(Platform("linux", "amd64"))


def test_an_image_alone(layout: Layout) -> None:
    """A tag that names a manifest has one image, whose config says its platform."""
    image = build(layout, "x", [layer({})], architecture="arm64")
    (choice,) = look_up(layout, "x").plain
    assert choice.platform == Platform("linux", "arm64")
    assert look_up(layout, str(image.descriptor.digest)).plain == (choice,)


def index(layout: Layout, *entries: Descriptor) -> Descriptor:
    made = ImageIndex.build(entries)
    layout.put_manifest(made.descriptor, made.raw)
    layout.tag("x", made.descriptor)
    return made.descriptor


def test_nested_indexes(layout: Layout) -> None:
    """Indexes within indexes are followed, to a depth."""
    image = build(layout, None, [layer({})])
    at = replace(image.descriptor, platform=Platform("linux", "amd64"))
    for depth in range(6):
        at = index(layout, at)
        if depth < 5:
            assert len(look_up(layout, "x").plain) == 1
    with pytest.raises(ImageError, match="nested too deeply"):
        look_up(layout, "x")


def test_what_is_no_image(layout: Layout) -> None:
    """Attestations and what nobody knows are others; an entry without a platform may be an image."""
    image = build(layout, None, [layer({})])
    unknown = replace(image.descriptor, platform=Platform("unknown", "unknown"))
    index(layout, image.descriptor, unknown, Descriptor.of("a/b", b"x"))
    found = look_up(layout, "x")
    assert (len(found.plain), len(found.others), len(found.wrappers)) == (1, 2, 0)
    with pytest.raises(ImageError, match="not a converted image"):
        found.choose_wrappers(None)


def test_too_many(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index with far too many entries is refused."""
    monkeypatch.setattr(selection, "_MOST", 3)
    image = build(layout, None, [layer({})])
    index(layout, *[image.descriptor] * 4)
    with pytest.raises(ImageError, match="more than 3 manifests"):
        look_up(layout, "x")


def test_converted_by_annotation(layout: Layout) -> None:
    """An index says by annotations what is a converted image, and for what platform."""
    image = build(layout, None, [layer({})])
    notes = {media.NOTE_TYPE: media.TYPE_IMAGE, media.NOTE_PLATFORM: "linux/arm64", media.NOTE_OF: "sha256:x"}
    index(layout, replace(image.descriptor, annotations=notes))
    (choice,) = look_up(layout, "x").wrappers
    assert (choice.platform, choice.of) == (Platform("linux", "arm64"), "sha256:x")


# ---- places


def test_places(tmp_path: Path) -> None:
    """One place is one object, however its tags differ; archives are not written to."""
    with Places(environ={}) as places:
        one = places.writable(parse_reference(f"oci:{tmp_path}/x:1"))
        assert places.readable(parse_reference(f"oci:{tmp_path}/x:2")) is one
        assert places.writable(parse_reference(f"oci:{tmp_path}/y:1")) is not one
        assert places.writable(parse_reference("docker://localhost:1/a:1")) is places.readable(
            parse_reference("docker://localhost:1/a:2")
        )
        assert places.traffic == (0, 0, 0)
        with pytest.raises(UsageError, match="has no room for casync indexes"):
            places.writable(parse_reference(f"docker-archive:{tmp_path}/x.tar"))
