"""Using an update file for images: what is new goes to where the base is, and a tag names the new image in the end.

    >>> applied = apply_delta(b"app.patch", layout, "2")
    >>> applied.root
    sha256:…

Before anything is written, every blob of the file is read and checked, and the place is asked for all others that the
image needs. The image that results has the digest that it had where the file was made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from casync_compat.oci.places.graph import Graph, walk
from casync_compat.oci.places.oci_archive import OciArchive
from casync_compat.oci.spec.blobs import WritablePlace
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor
from casync_compat.oci.spec.errors import BlobError, ImageError
from casync_compat.streams.patch import HEAD_NAME, PATCH_VERSION
from casync_compat.streams.transfer import OrderedPool

__all__ = ["AppliedDelta", "BaseBlobMissing", "apply_delta"]

_PARALLEL = 4
_PIECE = 1 << 20


class BaseBlobMissing(BlobError):
    """A place lacks blobs of an image that an update builds upon.

    :ivar digest: of the first of them
    :ivar count: how many
    """

    def __init__(self, digest: str, where: str, count: int, patch: str, bases: Sequence[str]) -> None:
        super().__init__(digest, where)
        self.args = (digest, where, count, patch, bases)
        self.count = count
        self.patch = patch
        self.bases = bases

    def __str__(self) -> str:
        blobs = "a blob that it needs is" if self.count == 1 else f"{self.count} blobs that it needs are"
        upon = f"it builds upon {', '.join(self.bases)}" if self.bases else "it builds upon nothing"
        return f"{self.patch}: {blobs} missing from {self.where}, the first is {self.digest}; {upon}"


@dataclass(frozen=True, slots=True)
class AppliedDelta:
    """What a run did.

    :ivar root: digest of the image
    :ivar blobs: in the file
    :ivar new: those of them that the place did not have
    :ivar new_bytes: their size
    """

    root: BlobDigest
    blobs: int
    new: int
    new_bytes: int


class _Delta(OciArchive):
    """An update file.

    :ivar bases: what it builds upon, for people
    :ivar root: digest of the image that it leads to
    """

    def _read_names(self) -> None:
        super()._read_names()
        if HEAD_NAME not in self._members:
            raise ImageError(self.name, "it is no update of an image: it has no " + HEAD_NAME)
        try:
            head = json.loads(self._read_small(HEAD_NAME))
            version = head["version"]
            if version != PATCH_VERSION or head["kind"] != "image":
                raise ImageError(self.name, f"it is an update file of another version ({str(version)[:20]})")
            self.bases = [str(base["name"])[:255] for base in head["bases"]]
            self.root = BlobDigest.parse(head["target"]["digest"], self.name)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ImageError(self.name, f"its {HEAD_NAME} is malformed") from error


def apply_delta(
    patch: bytes,
    sink: WritablePlace,
    tag: str,
    *,
    dry: bool = False,
    on_blob: Callable[[Descriptor], None] | None = None,
) -> AppliedDelta:
    """Copy what is in an update file to where its base is.

    :param sink: the place, a layout or a repository
    :param tag: what the image is to be called there
    :param dry: write nothing, and tell what would be done
    :param on_blob: told each blob that is there
    :raises BaseBlobMissing: the place lacks what the update builds upon; nothing is written then
    :raises BlobError: the file is damaged; nothing is written then
    :raises ImageError: the same, or it is no such file
    """
    with _Delta(patch) as archive:
        root = archive.resolve(str(archive.root))
        graph = walk(archive, root)
        carried = [blob for blob in graph.blobs.values() if archive.has(blob)]
        _check_base(archive, graph, sink)
        _check_blobs(archive, carried)
        new = [blob for blob in carried if not sink.has(blob)] if dry else []
        if dry:
            return AppliedDelta(root.digest, len(carried), len(new), sum(blob.size for blob in new))
        for blob in carried:
            if sink.borrow(blob, archive):
                new.append(blob)
            if on_blob is not None:
                on_blob(blob)
        top = graph.manifests.pop(root.digest)
        for descriptor, data in graph.manifests.values():
            sink.put_manifest(descriptor, data)
        sink.put_tagged(tag, *top)
        return AppliedDelta(root.digest, len(carried), len(new), sum(blob.size for blob in new))


def _check_base(archive: _Delta, graph: Graph, sink: WritablePlace) -> None:
    """:raises BaseBlobMissing: blobs are neither in the file nor in the place"""
    missing = [blob for blob in graph.blobs.values() if not archive.has(blob) and not sink.has(blob)]
    if missing:
        first = str(missing[0].digest)
        raise BaseBlobMissing(first, sink.name, len(missing), archive.name.partition(":")[2], archive.bases)


def _check_blobs(archive: _Delta, blobs: Sequence[Descriptor]) -> None:
    """:raises BlobCorrupt: one has another digest than its name"""

    def check(blob: Descriptor) -> None:
        """Runs on a worker."""
        with archive.open(blob) as stream:
            while stream.read(_PIECE):
                pass

    with OrderedPool[None](_PARALLEL, 2 * _PARALLEL) as pool:
        for blob in blobs:
            pool.submit(check, blob)
        for _ in pool.drain():
            pass
