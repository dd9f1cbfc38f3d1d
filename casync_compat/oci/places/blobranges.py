"""Blobs as ranges of one file: of an archive that is read, or of one that is being made.

What is where is said by those that are made of this, in `_blobs`.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass

from casync_compat.closing import Closing
from casync_compat.errors import FileError, show_path
from casync_compat.oci.places.blobfile import FileStream
from casync_compat.oci.spec.blobs import MANIFEST_LIMIT
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor
from casync_compat.oci.spec.errors import BlobCorrupt, BlobMissing, ImageError

__all__ = ["BlobRanges", "Range"]

_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Range:
    """Where a blob lies in the file."""

    offset: int
    size: int


class BlobRanges(Closing):
    """A BlobSource over a file, as far as `_blobs` says what is where.

    :param path: the archive
    :param transport: how names of such images begin, say `docker-archive`

    :ivar name: as skopeo writes it, for messages
    """

    near = True
    """Reading a range costs nothing worth saving."""

    def __init__(self, path: bytes, transport: str) -> None:
        self.path = path
        self.name = f"{transport}:{show_path(path)}"
        self._fd = -1
        self._blobs: dict[BlobDigest, Range | bytes] = {}

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _pread(self, offset: int, size: int, what: str) -> bytes:
        try:
            data = os.pread(self._fd, size, offset)
        except OSError as error:
            raise FileError(self.path, "read", error) from error
        if len(data) != size:
            raise BlobCorrupt(what, self.name, "the archive ends before its end")
        return data

    def _find(self, descriptor: Descriptor) -> Range | bytes:
        found = self._blobs.get(descriptor.digest)
        if found is None:
            raise BlobMissing(str(descriptor.digest), self.name)
        size = len(found) if isinstance(found, bytes) else found.size
        if size != descriptor.size:
            raise BlobCorrupt(
                str(descriptor.digest), self.name, f"it has {size} bytes, not {descriptor.size}"
            )
        return found

    def has(self, descriptor: Descriptor) -> bool:
        found = self._blobs.get(descriptor.digest)
        return found is not None and (
            (len(found) if isinstance(found, bytes) else found.size) == descriptor.size
        )

    def open(self, descriptor: Descriptor) -> FileStream | io.BytesIO:
        found = self._find(descriptor)
        if isinstance(found, bytes):
            return io.BytesIO(found)  # made here, and named by its digest: nothing to check
        return FileStream(os.dup(self._fd), descriptor, self.name, found.offset)

    def open_range(self, descriptor: Descriptor) -> tuple[int, int] | None:
        """A descriptor of the archive's file, which the caller closes, and the offset of a blob in it."""
        found = self._find(descriptor)
        return None if isinstance(found, bytes) else (os.dup(self._fd), found.offset)

    def read(self, descriptor: Descriptor, limit: int = MANIFEST_LIMIT) -> bytes:
        if descriptor.size > limit:
            raise ImageError(
                self.name, f"blob {descriptor.digest} has {descriptor.size} bytes; the limit is {limit}"
            )
        with self.open(descriptor) as stream:
            return b"".join(iter(lambda: stream.read(_PIECE), b""))

    def read_range(self, descriptor: Descriptor, offset: int, size: int) -> bytes:
        found = self._find(descriptor)
        if offset + size > descriptor.size:
            raise BlobCorrupt(str(descriptor.digest), self.name, f"it ends before byte {offset + size}")
        if isinstance(found, bytes):
            return found[offset : offset + size]
        return self._pread(found.offset + offset, size, str(descriptor.digest))

    def read_manifest(self, descriptor: Descriptor) -> bytes:
        return self.read(descriptor)

    def referrers(self, subject: BlobDigest) -> None:
        """Nothing: there is no list of them."""
