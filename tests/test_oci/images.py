"""Small images for tests: layers from dicts, put together in a layout.

>>> image = build(layout, "app", [layer({"etc/hostname": b"x"})])
"""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import zstandard

from casync_compat.oci.places.layout import Layout
from casync_compat.oci.spec import media
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor, Platform, canonical_json
from casync_compat.oci.spec.manifest import ImageIndex, ImageManifest

__all__ = ["Built", "blob_file", "build", "build_index", "flip", "layer", "layout_at", "noise"]


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that do not compress, the same every time."""
    return random.Random(seed).randbytes(size)


def layer(
    files: Mapping[str, bytes | None], *, links: Mapping[str, str] | None = None, mtime: int = 0
) -> bytes:
    """A tar; None makes a directory, `links` are hard links."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.mtime = mtime
            if content is None:
                info.type = tarfile.DIRTYPE
                info.mode = 0o755
            else:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content or b""))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type = tarfile.LNKTYPE
            info.linkname = target
            tar.addfile(info)
    return out.getvalue()


def layout_at(path: Path) -> Layout:
    return Layout(bytes(path))


@dataclass(frozen=True)
class Built:
    """An image in a layout."""

    manifest: ImageManifest
    config: bytes
    tars: tuple[bytes, ...]

    @property
    def descriptor(self) -> Descriptor:
        return self.manifest.descriptor

    @property
    def image_id(self) -> BlobDigest:
        return BlobDigest.of(self.config)


def _compressed(tar: bytes, how: str) -> bytes:
    if how == "gzip":
        return gzip.compress(tar, 1, mtime=0)
    return zstandard.ZstdCompressor().compress(tar) if how == "zstd" else tar


def build(
    layout: Layout,
    tag: str | None,
    tars: Sequence[bytes],
    how: str = "gzip",
    *,
    docker: bool = False,
    architecture: str = "amd64",
    diff_ids: Sequence[bytes] | None = None,
) -> Built:
    """Put an image into a layout.

    :param diff_ids: tars whose digests the config names, where it is to lie
    """
    config = canonical_json(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["/bin/true"]},
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in diff_ids or tars],
            },
        }
    )
    kinds = {"gzip": media.OCI_LAYER_GZIP, "zstd": media.OCI_LAYER_ZSTD, "none": media.OCI_LAYER}
    if docker:
        kinds = {"gzip": media.DOCKER_LAYER_GZIP, "none": media.DOCKER_LAYER}
    layers = []
    for tar in tars:
        data = _compressed(tar, how)
        layers.append(Descriptor.of(kinds[how], data))
        layout.put(layers[-1], [data])
    described = Descriptor.of(media.DOCKER_CONFIG if docker else media.OCI_CONFIG, config)
    layout.put(described, [config])
    manifest = ImageManifest.build(
        described, layers, media_type=media.DOCKER_MANIFEST if docker else media.OCI_MANIFEST
    )
    layout.put_manifest(manifest.descriptor, manifest.raw)
    if tag is not None:
        layout.tag(tag, manifest.descriptor)
    return Built(manifest, config, tuple(tars))


def build_index(layout: Layout, tag: str, images: Sequence[tuple[Built, str]]) -> ImageIndex:
    """Put an index of images for several platforms into a layout."""
    entries = [
        Descriptor(
            image.manifest.media_type,
            image.descriptor.digest,
            image.descriptor.size,
            platform=Platform.parse(platform),
        )
        for image, platform in images
    ]
    index = ImageIndex.build(entries)
    layout.put_manifest(index.descriptor, index.raw)
    layout.tag(tag, index.descriptor)
    return index


def blob_file(layout: Layout, descriptor: Descriptor) -> Path:
    """The file of a blob."""
    return Path(layout.blob_path(descriptor.digest).decode())


def flip(path: Path, offset: int, bit: int = 1) -> None:
    """Change one bit of a file, whatever its mode."""
    data = bytearray(path.read_bytes())
    data[offset] ^= bit
    path.chmod(0o644)
    path.write_bytes(data)
