"""desync's artifacts: one chunk, or one index, as a manifest with one blob.

The forms are those of desync (github.com/folbricht/desync: chunks since 1.1.0, indexes since pull request 396), to the
byte: members in the order in which Go writes them, so that both programs make the same manifest of the same chunk file.
Pure: bytes in, bytes out.

    >>> chunk_manifest("44…13.cacnk", blob)
    b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/vnd.des…
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from casync_compat.index import Index
from casync_compat.oci.spec.descriptor import Descriptor, parse_json
from casync_compat.oci.spec.errors import ImageError

__all__ = [
    "BLOB_TYPE",
    "CHUNKS",
    "CHUNK_TYPE",
    "EMPTY_CONFIG",
    "EMPTY_CONFIG_DATA",
    "INDEXES",
    "INDEX_TYPE",
    "MANIFEST_TYPE",
    "Artifact",
    "artifact_blob",
    "chunk_manifest",
    "index_manifest",
]

CHUNK_TYPE = "application/vnd.desync.chunk.v1"
INDEX_TYPE = "application/vnd.desync.index.v1"
BLOB_TYPE = "application/octet-stream"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
EMPTY_CONFIG_DATA = b"{}"
EMPTY_CONFIG = Descriptor.of("application/vnd.oci.empty.v1+json", EMPTY_CONFIG_DATA)
_TITLE = "org.opencontainers.image.title"


def chunk_manifest(tag: str, blob: Descriptor) -> bytes:
    """The manifest of the chunk whose file is `blob`.

    :param tag: the chunk's id and the suffix of its form; also the manifest's tag
    """
    return _manifest(CHUNK_TYPE, blob, {_TITLE: tag})


def index_manifest(name: str, blob: Descriptor, index: Index) -> bytes:
    """The manifest of an index, with what it holds noted down.

    :param name: the index's file name; also the manifest's tag
    :param blob: the index file
    """
    sizes = index.sizes
    return _manifest(
        INDEX_TYPE,
        blob,
        {
            _TITLE: name,
            "vnd.desync.index.blob-size": str(index.size),
            "vnd.desync.index.chunk-size": f"{sizes.min}:{sizes.avg}:{sizes.max}",
            "vnd.desync.index.chunks": str(len(index)),
        },
    )


@dataclass(frozen=True, slots=True)
class Artifact:
    """A kind of artifact.

    :ivar type: its media type
    :ivar manifest: the manifest of a file, of its name, its blob and its content
    """

    type: str
    manifest: Callable[[str, Descriptor, bytes], bytes]


def _chunk(name: str, blob: Descriptor, data: bytes) -> bytes:
    return chunk_manifest(name, blob)


def _index(name: str, blob: Descriptor, data: bytes) -> bytes:
    return index_manifest(name, blob, Index.parse(data, name.encode()))


CHUNKS = Artifact(CHUNK_TYPE, _chunk)
INDEXES = Artifact(INDEX_TYPE, _index)
"""What is no index is refused with `FormatError`."""


def _manifest(artifact_type: str, blob: Descriptor, annotations: dict[str, str]) -> bytes:
    def described(descriptor: Descriptor) -> dict[str, object]:
        return {
            "mediaType": descriptor.media_type,
            "digest": str(descriptor.digest),
            "size": descriptor.size,
        }

    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": artifact_type,
        "config": described(EMPTY_CONFIG),
        "layers": [described(blob)],
        "annotations": annotations,
    }
    return json.dumps(manifest, separators=(",", ":")).encode()


def artifact_blob(manifest: bytes, artifact_type: str, where: str) -> Descriptor | None:
    """The one blob of an artifact; None if the manifest is something else, which happens to have such a tag.

    :raises ImageError: it is of the type, but malformed
    """
    try:
        document = parse_json(manifest, where)
    except ImageError:
        return None
    if document.get("artifactType") != artifact_type:
        return None
    layers = document.get("layers")
    if not isinstance(layers, list) or len(layers) != 1:
        raise ImageError(where, "an artifact of desync has exactly one layer, and this one has not")
    return Descriptor.from_json(layers[0], where)
