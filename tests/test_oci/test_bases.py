"""A base is built upon, and never believed: what it says of its layers is made anew unless this program made it."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_oci.images import build, layer, layout_at, noise

from casync_compat.chunker.params import ChunkSizes
from casync_compat.oci.convert import ConvertOptions, convert
from casync_compat.oci.export import ExportOptions, export
from casync_compat.oci.image.basepacks import packs_key
from casync_compat.oci.image.converted import ConvertedLayers
from casync_compat.oci.image.wrapped import WrappedImage
from casync_compat.oci.places.layout import Layout
from casync_compat.oci.places.selection import look_up
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor
from casync_compat.oci.spec.packindex import PackIndex
from casync_compat.oci.verify import verify_image

OURS = layer({"bin/sh": noise(20_000)})


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Layout]:
    with layout_at(tmp_path / "source") as found:
        yield found


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Layout]:
    with layout_at(tmp_path / "target") as found:
        yield found


def fresh(**members: Any) -> ConvertOptions:
    """Options of a run that remembers nothing."""
    return replace(
        ConvertOptions(thin=True, sizes=ChunkSizes(1024, 4096, 16384), jobs=1, memory=ConvertedLayers()),
        **members,
    )


def evil_tar() -> bytes:
    """A tar that is kept as it is, since a tree cannot hold two files of one name."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for data in (b"evil", b"more evil"):
            member = tarfile.TarInfo("bin/sh")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def forge(target: Layout, tag: str, claims: str) -> None:
    """Let a converted image say that its one layer is the layer `claims`."""
    root = target.resolve(tag)
    manifest = target.read_manifest(root)
    document = json.loads(manifest)
    old = document["config"]
    config = target.read(Descriptor(old["mediaType"], BlobDigest.parse(old["digest"]), old["size"]))
    diff_id = json.loads(config)["layers"][0]["diffId"]
    lie = config.replace(diff_id.encode(), claims.encode())
    new = Descriptor.of(old["mediaType"], lie)
    target.put(new, [lie])
    document["config"] = new.to_json()
    text = json.dumps(document).replace(diff_id, claims).encode()
    made = Descriptor.of(root.media_type, text)
    target.put_manifest(made, text)
    target.tag(tag, made)


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("extra", [[], [layer({"etc/x": b"y"})]])
def test_a_lying_base_gives_nothing(
    source: Layout, target: Layout, tmp_path: Path, named: bool, extra: list[bytes]
) -> None:
    """A base whose layer is another than it says, in the target's tag or named, does not get into our image."""
    image = build(source, "ours", [OURS, *extra])
    build(source, "evil", [evil_tar()])
    convert(source, "evil", target, "x", fresh())
    forge(target, "x", f"sha256:{BlobDigest.of(OURS).hex}")
    with WrappedImage.open(target, target.resolve("x"), "x") as forged:
        assert forged.diff_id(0) == BlobDigest.of(OURS)
    tag = "y" if named else "x"
    result = convert(source, "ours", target, tag, fresh(), base=(target, "x") if named else None)
    assert result.images[0].reused_layers == 0
    with layout_at(tmp_path / "back") as back:
        assert export(target, tag, back, "z", ExportOptions(rebuild=True)).image_ids == (image.image_id,)


def test_what_was_made_here_is_taken_over_unread(source: Layout, target: Layout, tmp_path: Path) -> None:
    """A layer that an earlier run converted is taken over without being read, from a file that it remembered it in."""
    image = build(source, "x", [OURS])
    path = os.fsencode(tmp_path / "cache" / "layers")
    convert(source, "x", target, "x", fresh(memory=ConvertedLayers(path)))
    blob = Path(os.fsdecode(source.blob_path(image.manifest.layers[0].digest)))
    blob.rename(tmp_path / "away")
    result = convert(source, "x", target, "x", fresh(memory=ConvertedLayers(path)))
    assert result.images[0].reused_layers == 1
    (tmp_path / "away").rename(blob)
    assert convert(source, "x", target, "x", fresh()).images[0].reused_layers == 1


@pytest.mark.parametrize("kind", ["writable", "link", "fifo", "directory", "garbage"])
def test_a_memory_of_somebody_else_is_not_believed(
    source: Layout, target: Layout, tmp_path: Path, kind: str
) -> None:
    """A file that others may write, or that is no plain file, is done without, and nothing hangs."""
    build(source, "x", [OURS])
    good, path = tmp_path / "good", tmp_path / "layers"
    convert(source, "x", target, "x", fresh(memory=ConvertedLayers(os.fsencode(good))))
    key = good.read_text().split()[0]
    if kind == "writable":
        path.write_bytes(good.read_bytes())
        path.chmod(0o666)
    elif kind == "link":
        path.symlink_to(good)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.write_bytes(b"\xff" * 200)
    memory = ConvertedLayers(os.fsencode(path))
    assert not memory.has(key)
    convert(source, "x", target, "x", fresh(memory=memory))
    assert memory.has(key)
    assert len(look_up(target, "x").wrappers) == 1


# Packs of a base that lie


def replace_blob(target: Layout, tag: str, old: Descriptor, data: bytes) -> Descriptor:
    """Let a converted image's manifest name another blob in the place of one. Returns what the tag names then."""
    new = Descriptor.of(old.media_type, data)
    target.put(new, [data])
    document = json.loads(target.read_manifest(target.resolve(tag)))
    for one in (document["config"], *document["layers"]):
        if one["digest"] == str(old.digest):
            one.update(digest=str(new.digest), size=new.size)
    text = json.dumps(document).encode()
    made = Descriptor.of(target.resolve(tag).media_type, text)
    target.put_manifest(made, text)
    target.tag(tag, made)
    return new


def poison(target: Layout, tag: str, how: str) -> None:
    """Let a base say that chunks are where they are not."""
    with WrappedImage.open(target, target.resolve(tag), tag) as image:
        old, packs = image.wrapper.pack_index, image.wrapper.packs
        rows = list(image.pack_index)
        pack = target.read(packs[0], 1 << 30)
    if how == "no index":
        replace_blob(target, tag, old, b"no pack index")
        return
    if how == "other pack":  # of garbage, with a digest of its own
        new = replace_blob(target, tag, packs[0], bytes(len(pack)))
        index = PackIndex.build([(new.digest, new.size)], rows)
    elif how == "one chunk":
        end = rows[0][1].offset + rows[0][1].stored
        spoiled = pack[: rows[0][1].offset] + bytes(rows[0][1].stored) + pack[end:]
        new = replace_blob(target, tag, packs[0], spoiled)
        index = PackIndex.build([(new.digest, new.size)], rows)
    else:  # places of other chunks
        places = [place for _, place in rows]
        ids = [id_ for id_, _ in rows]
        moved = zip(ids, [*places[1:], places[0]], strict=True)
        index = PackIndex.build([(packs[0].digest, packs[0].size)], list(moved))
    replace_blob(target, tag, old, index.raw)


@pytest.mark.parametrize("how", ["no index", "other pack", "one chunk", "moved"])
@pytest.mark.parametrize("remembers", [False, True])
@pytest.mark.parametrize("far", [False, True])
def test_packs_of_a_base_are_looked_through(
    source: Layout, target: Layout, tmp_path: Path, how: str, remembers: bool, far: bool
) -> None:
    """Chunks that a base only says that it has are stored: what is published can be read, to the bit."""
    memory = ConvertedLayers(os.fsencode(tmp_path / "memory") if remembers else None)
    build(source, "ours", [layer({f"f{n}": noise(20_000, n) for n in range(9)})])
    convert(source, "ours", target, "x", fresh(memory=memory))
    poison(target, "x", how)
    image = build(source, "next", [layer({f"f{n}": noise(20_000, n) for n in range(10)})])
    target.near = not far
    convert(source, "next", target, "x", fresh(memory=memory))
    target.near = True
    assert verify_image(target, "x").problems == []
    with layout_at(tmp_path / "back") as back:
        assert export(target, "x", back, "z", ExportOptions(rebuild=True)).image_ids == (image.image_id,)


def test_good_packs_of_a_stranger_are_built_upon(source: Layout, target: Layout, tmp_path: Path) -> None:
    """Who remembers nothing looks once, and stores new chunks only; what was looked at is remembered."""
    memory = ConvertedLayers(os.fsencode(tmp_path / "memory"))
    build(source, "ours", [layer({f"f{n}": noise(20_000, n) for n in range(9)})])
    convert(source, "ours", target, "x", fresh())
    build(source, "next", [layer({f"f{n}": noise(20_000, n) for n in range(10)})])
    result = convert(source, "next", target, "y", fresh(memory=memory), base=(target, "x"))
    assert 0 < result.images[0].new_bytes < 60_000
    with WrappedImage.open(target, target.resolve("x"), "x") as base:
        assert memory.has(packs_key(base.wrapper.pack_index.digest, base.config.digest.value))
