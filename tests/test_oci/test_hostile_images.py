"""Converted images made to harm, all their digests being right: errors of ours, never others, and never another tar."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_oci.images import build, layer, layout_at, noise

from casync_compat.chunker.params import ChunkSizes
from casync_compat.errors import CasyncError
from casync_compat.oci.convert import ConvertOptions, convert
from casync_compat.oci.export import ExportOptions, export
from casync_compat.oci.image.wrapped import WrappedImage
from casync_compat.oci.inspect import inspect_image
from casync_compat.oci.places.layout import Layout
from casync_compat.oci.places.selection import look_up
from casync_compat.oci.repack import repack
from casync_compat.oci.spec import media
from casync_compat.oci.spec.descriptor import Descriptor
from casync_compat.oci.verify import verify_image
from catar.errors import CatarError

OPTIONS = ConvertOptions(sizes=ChunkSizes(256, 1024, 4096), jobs=1, thin=True)
TARS = [layer({"a": noise(9000), "d/b": bytes(3000)}, links={"c": "a"}), b"not a tar" * 500]


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    with layout_at(tmp_path_factory.mktemp("hostile") / "layout") as found:
        build(found, "plain", TARS, "none")
        convert(found, "plain", found, "good", OPTIONS)
        yield found


def blobs(layout: Layout) -> list[Descriptor]:
    with WrappedImage.open(layout, layout.resolve("good"), "x") as image:
        return [image.wrapper.config, *image.wrapper.manifest.layers]


def planted(layout: Layout, number: int, data: bytes) -> None:
    """Tag `bad` an image with other bytes for one blob, and every digest and size of it put right everywhere."""
    old = blobs(layout)[number]
    new = Descriptor.of(old.media_type, data)
    layout.put(new, [data])
    manifest = json.loads(layout.read_manifest(layout.resolve("good")))
    config = layout.read(blobs(layout)[0])
    if number == 0:
        manifest["config"].update(digest=str(new.digest), size=new.size)
    else:
        for entry in manifest["layers"]:
            if entry["digest"] == str(old.digest):
                entry.update(digest=str(new.digest), size=new.size)
        document = json.loads(config.replace(str(old.digest).encode(), str(new.digest).encode()))
        for entry in document["source"].values():
            if entry["digest"] == str(new.digest):
                entry["size"] = new.size
        text = json.dumps(document).encode()
        manifest["config"].update(digest=f"sha256:{hashlib.sha256(text).hexdigest()}", size=len(text))
        layout.put(Descriptor.of(media.WRAPPER_CONFIG, text), [text])
    text = json.dumps(manifest).encode()
    descriptor = Descriptor.of(media.OCI_MANIFEST, text)
    layout.put_manifest(descriptor, text)
    layout.tag("bad", descriptor)


def caught(call: Callable[[], object]) -> str:
    """The one line that it failed with, in one of the ways in which it may; empty when it did not."""
    try:
        call()
    except (CasyncError, CatarError) as error:
        text = str(error)
    else:
        return ""
    assert "\n" not in text
    return text


def harmless(layout: Layout, out: Path) -> None:
    """Everything that reads an image either gives the right thing, or one of our errors."""
    with layout_at(out) as back:
        if caught(lambda: export(layout, "bad", back, "y", ExportOptions(rebuild=True))):
            assert back.resolve_or_none("y") is None
        else:
            found = look_up(back, "y")
            assert len(found.plain) == 1
            for path in (out / "blobs/sha256").iterdir():
                assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    for read in (verify_image, inspect_image, repack):
        caught(lambda read=read: read(layout, "bad"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes(layout: Layout, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Some bytes of one of the documents are others, or missing, or there twice."""
    all_blobs = blobs(layout)
    number = data.draw(st.integers(0, len(all_blobs) - 1), label="blob")
    content = bytearray(layout.read(all_blobs[number]))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, max(len(content) - 1, 0)), label="at")
        how = data.draw(st.sampled_from(["set", "insert", "cut", "double", "integer"]), label="how")
        if how == "set":
            content[at : at + 1] = data.draw(st.binary(min_size=1, max_size=1))
        elif how == "insert":
            content[at:at] = data.draw(st.binary(max_size=9))
        elif how == "cut":
            del content[at : at + data.draw(st.integers(1, 64))]
        elif how == "double":
            content[at:at] = content[at : at + 47]
        else:
            value = data.draw(st.sampled_from([0, 1, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, (1 << 63) - 1]))
            content[at : at + 8] = value.to_bytes(8, "little")
    planted(layout, number, bytes(content))
    harmless(layout, tmp_path_factory.mktemp("out") / "back")


ODD = [1 << 31, 1 << 40, 1 << 53, 1 << 63, 1 << 70, None, True, "1", 1.5, [], {}]
NUMBERS = st.one_of(st.integers(-2, 70_000), st.sampled_from(ODD))


def places(value: object, path: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    """Where in a JSON document something can be replaced."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, member in value.items():
            yield from places(member, (*path, key))
    elif isinstance(value, list):
        for number, member in enumerate(value):
            yield from places(member, (*path, number))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_values(layout: Layout, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Any member of our config, or of the source manifest or image config, has another value or type."""
    number = data.draw(st.integers(0, 2), label="blob")
    document = json.loads(layout.read(blobs(layout)[number]))
    *path, last = data.draw(st.sampled_from(list(places(document))), label="where")
    at = document
    for step in path:
        at = at[step]  # type: ignore[index]
    at[last] = data.draw(st.one_of(NUMBERS, st.text(max_size=5)), label="value")
    planted(layout, number, json.dumps(document).encode())
    harmless(layout, tmp_path_factory.mktemp("out") / "back")


def test_the_helper_is_right(layout: Layout, tmp_path: Path) -> None:
    """An image planted with the same bytes is as good as it was, so that what the tests above plant is looked at."""
    for number in range(len(blobs(layout))):
        planted(layout, number, layout.read(blobs(layout)[number]))
        assert verify_image(layout, "bad").problems == []
        with layout_at(tmp_path / str(number)) as back:
            assert export(layout, "bad", back, "y", replace(ExportOptions(), rebuild=True)).original
