"""Docker archives: what `docker save` and skopeo's `docker-archive:` write, read in place and written anew.

    >>> archive = DockerArchive(b"debian.tar")
    >>> archive.resolve("debian:12")

An archive is a tar of layers, configs and one `manifest.json` that says what belongs together. It has no manifests in
the sense of OCI, except those that docker 25 and later put beside it as a layout; where there is none, one is made of
config and layers, the same every time. Nothing is unpacked: members are read where they lie.

Not here: how the tar is read (`casync_compat.oci.places.archivefile`).
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from casync_compat.errors import show_path
from casync_compat.fs.atomic import AtomicFile
from casync_compat.oci.places.archivefile import GZIP_MAGIC, ZSTD_MAGIC, ArchiveFile
from casync_compat.oci.places.blobranges import Range
from casync_compat.oci.spec import media
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor, canonical_json, parse_json
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.spec.manifest import ImageConfig, ImageManifest, parse_document

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["ArchiveImage", "DockerArchive", "write_docker_archive"]

_PIECE = 1 << 20
_INDEX_DEPTH = 4


class DockerArchive(ArchiveFile):
    """A BlobSource and Tags (to read) over a docker archive.

    :ivar name: as skopeo writes it, for messages
    """

    def __init__(self, path: bytes) -> None:
        """
        :raises FileError: the file cannot be read
        :raises ImageError: it is no docker archive
        """
        self._images: list[tuple[Descriptor, list[str]]] = []
        super().__init__(path, "docker-archive")

    # ---- what is in it

    def _read_names(self) -> None:
        if "manifest.json" not in self._members and "oci-layout" in self._members:
            where = show_path(self.path)
            raise ImageError(self.name, f"this is an archive of an OCI layout; name it oci-archive:{where}")
        # parse_json takes objects, and this is a list of them.
        text = self._read_small("manifest.json")
        images = parse_json(b'{"images":' + text + b"}", f"{self.name}, manifest.json")["images"]
        if not isinstance(images, list) or not images:
            raise ImageError(self.name, "manifest.json is not a list of images")
        originals = self._originals()
        for number, image in enumerate(images):
            where = f"{self.name}, manifest.json[{number}]"
            if not isinstance(image, dict):
                raise ImageError(where, "an image must be an object")
            self._add_image(image, where, originals)

    def _add_image(
        self, image: dict[str, Any], where: str, originals: dict[BlobDigest, ImageManifest]
    ) -> None:
        config_name, layers, tags = image.get("Config"), image.get("Layers"), image.get("RepoTags") or []
        if not isinstance(config_name, str) or not _strings(layers) or not _strings(tags):
            raise ImageError(where, "Config must be a string, Layers and RepoTags lists of strings")
        data = self._read_small(config_name)
        config = ImageConfig.parse(data, f"{where}, config")
        layers = layers or []
        if len(layers) != len(config.diff_ids):
            raise ImageError(
                where, f"there are {len(layers)} layers, but the config says {len(config.diff_ids)}"
            )
        digest = BlobDigest.of(data)
        self._blobs[digest] = data
        manifest = originals.get(digest)
        if manifest is None:
            manifest = ImageManifest.build(
                Descriptor.of(media.OCI_CONFIG, data),
                [self._layer(name, id_) for name, id_ in zip(layers, config.diff_ids, strict=True)],
            )
        self._blobs[manifest.descriptor.digest] = manifest.raw
        self._images.append((manifest.descriptor, tags))

    def _layer(self, name: str, diff_id: BlobDigest) -> Descriptor:
        """The descriptor of a layer's file; an uncompressed one is taken to be what the config says, and checked when
        it is read."""
        at = self._member(name)
        magic = self._pread(at.offset, min(4, at.size), name)
        media_type, digest = media.OCI_LAYER, diff_id
        if magic.startswith(GZIP_MAGIC) or magic == ZSTD_MAGIC:
            media_type = media.OCI_LAYER_ZSTD if magic == ZSTD_MAGIC else media.OCI_LAYER_GZIP
            digest = self._digest(at, name)
        self._blobs[digest] = at
        return Descriptor(media_type, digest, at.size)

    def _digest(self, at: Range, name: str) -> BlobDigest:
        hasher = hashlib.sha256()
        for offset in range(0, at.size, _PIECE):
            hasher.update(self._pread(at.offset + offset, min(_PIECE, at.size - offset), name))
        return BlobDigest("sha256", hasher.hexdigest())

    def _originals(self) -> dict[BlobDigest, ImageManifest]:
        """Manifests of a layout within the archive whose layers are all there, by the digest of their config."""
        if "oci-layout" not in self._members or "index.json" not in self._members:
            return {}
        found: dict[BlobDigest, ImageManifest] = {}
        todo = [(parse_document(self._read_small("index.json"), f"{self.name}, index.json"), 0)]
        while todo:
            document, depth = todo.pop()
            if isinstance(document, ImageManifest):
                if document.is_image and all(map(self._adopt, document.layers)):
                    found.setdefault(document.config.digest, document)
                continue
            if depth >= _INDEX_DEPTH:
                raise ImageError(self.name, "image indexes are nested too deeply")
            for entry in document.manifests:
                name = _blob_name(entry.digest)
                if name in self._members and entry.media_type in media.MANIFEST_TYPES | media.INDEX_TYPES:
                    todo.append((parse_document(self._read_small(name), f"{self.name}, {name}"), depth + 1))
        return found

    def _adopt(self, descriptor: Descriptor) -> bool:
        at = self._members.get(_blob_name(descriptor.digest))
        if at is None or at.size != descriptor.size:
            return False
        self._blobs[descriptor.digest] = at
        return True

    # ---- Tags

    def resolve(self, reference: str | None) -> Descriptor:
        if reference is not None and reference.startswith("@"):
            return self._numbered(reference)
        found = [image for image, tags in self._images if reference is None or reference in tags]
        if not found and reference is not None:
            found = [image for image, _ in self._images if str(image.digest) == reference]
        if not found:
            known = ", ".join(self.tags()[:20]) or "no tags at all"
            raise ImageError(self.name, f"there is no image {reference!r}; there are: {known}")
        if reference is None and len({image.digest for image in found}) > 1:
            raise ImageError(
                self.name,
                f"there are several images; say which of {', '.join(self.tags()[:20]) or '@0, @1, ...'}",
            )
        return found[0]

    def _numbered(self, reference: str) -> Descriptor:
        """An image by its place in the archive, `@0`, as skopeo has it: images need not have names."""
        digits = reference[1:]
        if not digits.isascii() or not digits.isdigit() or int(digits) >= len(self._images):
            raise ImageError(
                self.name, f"there is no image {reference}; the last is @{len(self._images) - 1}"
            )
        return self._images[int(digits)][0]

    def tags(self) -> list[str]:
        """The names of all images, sorted."""
        return sorted({tag for _, tags in self._images for tag in tags})


def _strings(value: object) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(one, str) for one in value))


def _blob_name(digest: BlobDigest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


@dataclass(frozen=True, slots=True)
class ArchiveImage:
    """An image to write to an archive.

    :ivar config: the image config's bytes
    :ivar layers: of each, from the base upwards: diff id, size in bytes, and the uncompressed tar in pieces
    :ivar tags: such as `debian:12`
    """

    config: bytes
    layers: Sequence[tuple[BlobDigest, int, Iterable[ReadableBuffer]]]
    tags: Sequence[str]


def write_docker_archive(path: bytes, image: ArchiveImage) -> None:
    """Write a docker archive, as skopeo names things in it; the same image gives the same bytes.

    :raises FileError: the file cannot be written; nothing is left of it
    :raises ImageError: a layer has not the size that was announced
    """
    config_name = f"{BlobDigest.of(image.config).hex}.json"
    names = [f"{diff_id.hex}.tar" for diff_id, _, _ in image.layers]
    entry = {"Config": config_name, "RepoTags": list(image.tags), "Layers": names}
    manifest = canonical_json([entry])
    seen: set[str] = set()
    with AtomicFile(path) as out:
        for name, (_, size, pieces) in zip(names, image.layers, strict=True):
            if name in seen:
                continue
            seen.add(name)
            out.write(_header(name, size))
            for piece in _exactly(pieces, size, name):
                out.write(piece)
            out.write(_padding(size))
        for name, data in ((config_name, image.config), ("manifest.json", manifest)):
            out.write(_header(name, len(data)) + data + _padding(len(data)))
        out.write(bytes(1024))


def _exactly(pieces: Iterable[ReadableBuffer], size: int, name: str) -> Iterator[ReadableBuffer]:
    done = 0
    for piece in pieces:
        done += memoryview(piece).nbytes
        yield piece
    if done != size:
        raise ImageError(name, f"the layer has {done} bytes, not {size}")


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % 512)
