"""Archives of OCI layouts: what skopeo's and podman's `oci-archive:` write, read in place.

    >>> archive = OciArchive(b"debian.tar")
    >>> archive.resolve("debian:12")

Such an archive is a tar of a layout: `oci-layout`, `index.json` and blobs, each a member. Not here: how the tar is read
(`casync_compat.oci.places.archivefile`), and writing such archives.
"""

from __future__ import annotations

from casync_compat.errors import show_path
from casync_compat.oci.places.archivefile import ArchiveFile
from casync_compat.oci.places.layoutindex import (
    check_version,
    index_entries,
    load_index,
    resolve_entry,
    tags_of,
)
from casync_compat.oci.spec import media
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.spec.manifest import parse_document

__all__ = ["OciArchive"]


class OciArchive(ArchiveFile):
    """A BlobSource and Tags (to read) over an archive of a layout.

    :ivar name: as skopeo writes it, for messages
    """

    def __init__(self, path: bytes) -> None:
        """
        :raises FileError: the file cannot be read
        :raises ImageError: it is no archive of a layout
        """
        self._entries: list[Descriptor] = []
        super().__init__(path, "oci-archive")

    def _read_names(self) -> None:
        if "oci-layout" not in self._members:
            docker = "manifest.json" in self._members
            hint = f"; name a docker archive docker-archive:{show_path(self.path)}" if docker else ""
            raise ImageError(self.name, f"there is no oci-layout in the archive{hint}")
        check_version(self._read_small("oci-layout"), self.name)
        self._entries = index_entries(load_index(self._read_small("index.json"), self.name), self.name)
        for name in [*self._members, *self._links]:
            top, _, rest = name.partition("/")
            algorithm, _, digits = rest.partition("/")
            if top == "blobs":
                try:
                    digest = BlobDigest.parse(f"{algorithm}:{digits}")
                except ImageError:
                    continue  # not a blob, or of an algorithm that nobody here can ask for
                self._blobs[digest] = self._member(name)

    def resolve(self, reference: str | None) -> Descriptor:
        found = resolve_entry(self._entries, reference, self.name, "oci-archive:FILE:NAME")
        if found is not None:
            return found
        digest = BlobDigest.parse(reference, self.name)
        at = self._blobs.get(digest)
        if at is None or isinstance(at, bytes):
            raise ImageError(self.name, f"there is no image {digest}")
        document = parse_document(
            self.read(Descriptor(media.OCI_MANIFEST, digest, at.size)), f"{self.name}@{digest}"
        )
        return Descriptor(document.media_type, digest, at.size)

    def tags(self) -> list[str]:
        """The names of all images, sorted."""
        return tags_of(self._entries)
