"""OCI image layouts: directories of blobs with an `index.json` that names the images (image-spec `image-layout.md`).

    >>> layout = Layout(b"images")
    >>> layout.resolve("debian")
    Descriptor(media_type='application/vnd.oci.image.index.v1+json', …)

Blobs appear by a rename, whole and synced. `index.json` is replaced by a rename too, under a lock, and only the entries
of one tag in it are touched. So several programs may write to a layout at the same moment; a garbage collection is kept
out by a lock that writers share (`writing`) and it wants alone.

What a layout has besides is left as it is. What this does not do: signatures, external blob stores, `urls`.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from casync_compat.errors import FileError
from casync_compat.fs.atomic import AtomicFile
from casync_compat.fs.readers import open_regular
from casync_compat.oci.places.blobfile import FileStream
from casync_compat.oci.places.blobfiles import STAGING_PREFIX
from casync_compat.oci.places.layoutblobs import LayoutBlobs
from casync_compat.oci.places.layoutindex import index_entries, load_index, resolve_entry, tags_of
from casync_compat.oci.spec import media
from casync_compat.oci.spec.blobs import MANIFEST_LIMIT
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.spec.manifest import parse_document

__all__ = ["STAGING_PREFIX", "FileStream", "Layout"]


class Layout(LayoutBlobs):
    """A BlobSink and Tags over a directory, which the first write makes if it is not there.

    :ivar name: as skopeo writes it, for messages
    """

    def index(self) -> list[Descriptor]:
        """What `index.json` names. :raises ImageError: it is malformed, or missing"""
        return index_entries(self._load(), self.name)

    def _load(self) -> dict[str, Any]:
        path = os.path.join(self.path, b"index.json")
        if not self.exists:
            raise ImageError(self.name, "there is no image layout here")
        try:
            with open(open_regular(path), "rb") as file:
                data = file.read(MANIFEST_LIMIT + 1)
        except OSError as error:
            raise FileError(path, "read", error) from error
        return load_index(data, self.name)

    def resolve(self, reference: str | None) -> Descriptor:
        found = resolve_entry(self.index(), reference, self.name, "oci:DIRECTORY:TAG")
        return self._untagged(BlobDigest.parse(reference, self.name)) if found is None else found

    def resolve_or_none(self, reference: str | None) -> Descriptor | None:
        """Like `resolve`; None when there is no such image, or no layout yet."""
        if not self.exists or (reference is not None and reference not in self.tags()):
            return None
        return self.resolve(reference) if self.index() else None

    def _untagged(self, digest: BlobDigest) -> Descriptor:
        """A manifest that is only named by another, by its digest."""
        try:
            size = os.stat(self.blob_path(digest)).st_size
        except OSError:
            raise ImageError(self.name, f"there is no image {digest}") from None
        descriptor = Descriptor(media.OCI_MANIFEST, digest, size)
        document = parse_document(self.read(descriptor), f"{self.name}@{digest}")
        return Descriptor(document.media_type, digest, size)

    def read_manifest(self, descriptor: Descriptor) -> bytes:
        return self.read(descriptor, MANIFEST_LIMIT)

    def put_manifest(self, descriptor: Descriptor, data: bytes) -> None:
        self.put(descriptor, [data])

    def assume(self, descriptors: Iterable[Descriptor]) -> None:
        """Nothing: whether a blob is there costs a layout nothing to find out."""

    def tag(self, name: str, descriptor: Descriptor) -> None:
        self.retag({name: descriptor})

    def put_tagged(self, name: str, descriptor: Descriptor, data: bytes) -> None:
        """Store a manifest and let a tag name it."""
        self.put_manifest(descriptor, data)
        self.tag(name, descriptor)

    put_beside = put_tagged

    def swap_tag(self, name: str, descriptor: Descriptor, expected: Descriptor | None) -> bool:
        """Let a tag name another manifest, if it still names `expected`. Returns False, and does nothing, if not."""
        return self.retag({name: descriptor}, expected)

    def retag(self, names: Mapping[str, Descriptor | None], *expected: Descriptor | None) -> bool:
        """Let tags name other manifests, or nothing (None), all in one step.

        :param expected: nothing is done unless one of the tags names this now
        :returns: whether it was done
        """
        self.writing()
        with self._index_lock():
            document = self._load()
            if expected:
                now = {
                    entry.digest for entry in self.index() if entry.annotations.get(media.REF_NAME) in names
                }
                if now != {one.digest for one in expected if one is not None}:
                    return False
            notes: dict[str, dict[str, str]] = {}
            if expected:  # the same images in another form: what is noted beside the tag stays true
                for entry in self.index():
                    notes.setdefault(entry.annotations.get(media.REF_NAME, ""), {}).update(entry.annotations)
            kept = [
                entry
                for entry in document["manifests"]
                if not (isinstance(entry, dict) and _ref_name(entry) in names)
            ]
            for name, descriptor in names.items():
                if descriptor is not None:
                    kept.append(
                        {
                            "mediaType": descriptor.media_type,
                            "digest": str(descriptor.digest),
                            "size": descriptor.size,
                            "annotations": {**notes.get(name, {}), media.REF_NAME: name},
                        }
                    )
            document["manifests"] = kept
            text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            with AtomicFile(os.path.join(self.path, b"index.json")) as out:
                out.write(text.encode())
        return True

    @contextmanager
    def _index_lock(self) -> Iterator[None]:
        # On the one file of a layout that nobody ever replaces.
        path = os.path.join(self.path, b"oci-layout")
        fd = open_regular(path, "open")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def tags(self) -> list[str]:
        return tags_of(self.index())


def _ref_name(entry: Mapping[str, Any]) -> str | None:
    notes = entry.get("annotations")
    return notes.get(media.REF_NAME) if isinstance(notes, dict) else None
