"""Media types and annotation keys: those of OCI and docker that are read, and our own that are written.

Names follow RFC 6838 section 4.2. Ours stay out of `application/vnd.oci.image.layer.*`, which container runtimes take
for layers that they can unpack, whatever follows.
"""

from __future__ import annotations

__all__ = [
    "ARTIFACT_TYPE",
    "BLOB_INDEX",
    "CONFIG_TYPES",
    "DOCKER_CONFIG",
    "DOCKER_INDEX",
    "DOCKER_LAYER",
    "DOCKER_LAYER_GZIP",
    "DOCKER_MANIFEST",
    "INDEX_TYPES",
    "LAYER_TYPES",
    "MANIFEST_TYPES",
    "NOTE_ABOUT",
    "NOTE_FORMAT",
    "NOTE_INDEX",
    "NOTE_LAYER",
    "NOTE_LAYER_DIFF_ID",
    "NOTE_OF",
    "NOTE_PLATFORM",
    "NOTE_SQUASHED",
    "NOTE_TYPE",
    "OCI_CONFIG",
    "OCI_EMPTY",
    "OCI_INDEX",
    "OCI_LAYER",
    "OCI_LAYER_GZIP",
    "OCI_LAYER_ZSTD",
    "OCI_MANIFEST",
    "PACK",
    "PACK_INDEX",
    "PACK_TYPES",
    "PACK_ZSTD",
    "RECIPE",
    "REF_NAME",
    "SOURCE_MANIFEST",
    "TREE_INDEX",
    "TYPE_IMAGE",
    "WRAPPER_CONFIG",
]

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = OCI_LAYER + "+gzip"
OCI_LAYER_ZSTD = OCI_LAYER + "+zstd"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = DOCKER_LAYER + ".gzip"

MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_INDEX})
CONFIG_TYPES = frozenset({OCI_CONFIG, DOCKER_CONFIG})
LAYER_TYPES = frozenset(
    {
        *(OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD),
        *(DOCKER_LAYER, DOCKER_LAYER_GZIP, DOCKER_LAYER + ".zstd"),
        # image-spec `layer.md`: deprecated, and the same as the others to whoever holds the blob.
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    }
)

REF_NAME = "org.opencontainers.image.ref.name"
"""The annotation that is a layout's tag (image-spec `image-layout.md`)."""

NOTE_ABOUT = "vnd.docker.reference.digest"
"""The annotation by which buildkit says in an index which image of it an attestation is about."""

ARTIFACT_TYPE = "application/vnd.pycasync.image.v1"
WRAPPER_CONFIG = "application/vnd.pycasync.image.config.v1+json"
TREE_INDEX = "application/vnd.pycasync.layer.v1.caidx"
BLOB_INDEX = "application/vnd.pycasync.layer.v1.caibx"
RECIPE = "application/vnd.pycasync.tar-recipe.v1+zstd"
PACK_INDEX = "application/vnd.pycasync.pack-index.v1"
SOURCE_MANIFEST = "application/vnd.pycasync.source-manifest.v1+json"
PACK_ZSTD = "application/vnd.pycasync.pack.v1+zstd"
PACK = "application/vnd.pycasync.pack.v1"
"""A pack whose chunks are not, or not all, zstd frames."""
PACK_TYPES = frozenset({PACK_ZSTD, PACK})

NOTE_FORMAT = "dev.pycasync.format"
NOTE_LAYER = "dev.pycasync.layer"
NOTE_LAYER_DIFF_ID = "dev.pycasync.layer.diff-id"
NOTE_SQUASHED = "dev.pycasync.squashed"
NOTE_INDEX = "dev.pycasync.index"
"""Of a converted image's entry in an index: the bytes of the index that this one was made of, in base64."""
NOTE_TYPE = "dev.pycasync.type"
NOTE_PLATFORM = "dev.pycasync.platform"
NOTE_OF = "dev.pycasync.of"
TYPE_IMAGE = "image.v1"
"""The value of `NOTE_TYPE`: an index names our manifests by this note, since tools drop `artifactType` from there."""
