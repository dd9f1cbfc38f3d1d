"""What a tag leads to: all manifests beneath it, and the blobs that they name. Only manifests are read."""

from __future__ import annotations

from dataclasses import dataclass

from casync_compat.oci.spec import media
from casync_compat.oci.spec.blobs import Place
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.spec.manifest import ImageManifest, parse_document

__all__ = ["Graph", "collect", "walk"]

_DEPTH = 4
_MOST_MANIFESTS = 1000


@dataclass(slots=True)
class Graph:
    """Everything that a manifest or index leads to.

    :ivar manifests: with their bytes, children before parents
    :ivar blobs: configs and layers
    """

    manifests: dict[BlobDigest, tuple[Descriptor, bytes]]
    blobs: dict[BlobDigest, Descriptor]


def walk(place: Place, root: Descriptor, known: Graph | None = None) -> Graph:
    """Read all manifests beneath `root`.

    :param known: manifests that need not be looked into
    :raises ImageError: one is malformed, or there are far too many
    :raises BlobMissing: one is missing
    """
    graph = Graph({}, {})
    collect(place, root, graph, known, 0)
    return graph


def collect(place: Place, at: Descriptor, graph: Graph, known: Graph | None, depth: int) -> None:
    """Add to `graph` what is beneath `at`, which is `depth` manifests below the first; see `walk`."""
    if at.digest in graph.manifests or (known is not None and at.digest in known.manifests):
        return
    if depth > _DEPTH or len(graph.manifests) >= _MOST_MANIFESTS:
        raise ImageError(place.name, "there are too many manifests in it, or they are nested too deeply")
    data = place.read_manifest(at)
    document = parse_document(data, f"{place.name}@{at.digest}", at.media_type)
    if isinstance(document, ImageManifest):
        for blob in document.blobs:
            graph.blobs.setdefault(blob.digest, blob)
    else:
        for child in document.manifests:
            if child.media_type in media.MANIFEST_TYPES | media.INDEX_TYPES:
                collect(place, child, graph, known, depth + 1)
            else:
                graph.blobs.setdefault(child.digest, child)
    graph.manifests[at.digest] = (at, data)
