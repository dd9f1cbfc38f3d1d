"""Update files for images: an archive of a layout with only those blobs that other images have not.

    >>> made = make_delta(Named(layout, "app:2", "2"), [Named(layout, "app:1", "1")], b"app.patch", "2")
    >>> made.blobs, made.size
    (5, 1830912)

The file is what other tools know as an oci-archive, incomplete, with one member more: `pycasync-delta.json` (version,
names and digests of the bases and the target). Its manifests are all there; of packs and other blobs those that no base
has. An image that was converted upon its base shares packs with it, which is what makes the file small. Using it is the
business of `oci.apply`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from casync_compat.fs.atomic import AtomicFile
from casync_compat.oci.places.graph import walk
from casync_compat.oci.places.layouttar import LayoutTar
from casync_compat.oci.spec.blobs import Place
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor
from casync_compat.streams.patch import HEAD_NAME, PATCH_VERSION

__all__ = ["ImageDelta", "Named", "make_delta"]


@dataclass(frozen=True, slots=True)
class Named:
    """An image.

    :ivar place: where it is
    :ivar name: as the user wrote it
    :ivar reference: tag or digest in the place; None for the only one
    """

    place: Place
    name: str
    reference: str | None


@dataclass(frozen=True, slots=True)
class ImageDelta:
    """What an update has in it, or would have.

    :ivar root: digest of the image that it leads to
    :ivar blobs: those that are new; manifests are not among them
    :ivar blob_bytes: their size
    :ivar all_blobs: of the whole image
    :ivar all_bytes: their size
    :ivar size: bytes of the file; None when none was made
    """

    root: BlobDigest
    blobs: int
    blob_bytes: int
    all_blobs: int
    all_bytes: int
    size: int | None = None


def make_delta(
    target: Named,
    bases: Sequence[Named],
    output: bytes | None,
    tag: str,
    *,
    on_blob: Callable[[Descriptor], None] | None = None,
) -> ImageDelta:
    """Write an update file.

    :param target: the image that it leads to
    :param bases: those that are there where it will be used
    :param output: the file, which appears when it is complete; None only counts
    :param tag: the name that the image has in the file
    :param on_blob: told each blob that was written
    :raises BlobError: a blob is missing or corrupt
    :raises FileError: the file cannot be written
    """
    root = target.place.resolve(target.reference)
    root = Descriptor(root.media_type, root.digest, root.size)
    graph = walk(target.place, root)
    there: set[BlobDigest] = set()
    said = []
    for base in bases:
        at = base.place.resolve(base.reference)
        there.update(walk(base.place, at).blobs)
        said.append({"name": base.name, "digest": str(at.digest)})
    new = [blob for digest, blob in graph.blobs.items() if digest not in there]
    counted = ImageDelta(
        root.digest,
        len(new),
        sum(blob.size for blob in new),
        len(graph.blobs),
        sum(blob.size for blob in graph.blobs.values()),
    )
    if output is None:
        return counted
    head = {
        "version": PATCH_VERSION,
        "kind": "image",
        "bases": said,
        "target": {"name": target.name, "digest": str(root.digest)},
    }
    with AtomicFile(output) as out:
        tar = LayoutTar(out)
        tar.add(HEAD_NAME, json.dumps(head, indent=1).encode() + b"\n")
        tar.begin_layout({tag: root})
        for descriptor, data in graph.manifests.values():
            tar.blob(descriptor, data)
        for blob in new:
            tar.copy(blob, target.place)
            if on_blob is not None:
                on_blob(blob)
        tar.end()
    return replace(counted, size=tar.size)
