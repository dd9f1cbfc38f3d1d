"""Archives of images: tars that are read in place, at any offset. What the members mean is their users' business.

Nothing is unpacked: members are read where they lie. Not here: compressed archives (which cannot be read at an offset),
and archives on standard input.
"""

from __future__ import annotations

import io
import os
import posixpath
import stat
from dataclasses import dataclass

from casync_compat.closing import Closing
from casync_compat.errors import FileError, show_path
from casync_compat.fs.readers import FileView, NotRegular, open_regular
from casync_compat.oci.places.blobfile import FileStream
from casync_compat.oci.spec.blobs import MANIFEST_LIMIT
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor
from casync_compat.oci.spec.errors import BlobCorrupt, BlobMissing, ImageError
from casync_compat.oci.tar.reader import HARD_LINK, members

__all__ = ["GZIP_MAGIC", "ZSTD_MAGIC", "ArchiveFile", "Range"]

_PIECE = 1 << 20
_LINKS = 8
GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, slots=True)
class Range:
    """Where a member's payload lies in the archive."""

    offset: int
    size: int


class ArchiveFile(Closing):
    """A BlobSource over a tar, as far as `_blobs` says what is where.

    :param transport: how names of such images begin, say `docker-archive`

    :ivar name: as skopeo writes it, for messages
    :raises FileError: the file cannot be read
    :raises ImageError: it is no archive of this kind
    """

    near = True
    """Reading a range costs nothing worth saving."""

    def __init__(self, path: bytes, transport: str) -> None:
        self.path = path
        self.name = f"{transport}:{show_path(path)}"
        self._fd = -1
        try:
            self._fd = open_regular(path, "open")
            magic = os.pread(self._fd, 4, 0)
        except NotRegular:
            what = "a docker archive" if transport == "docker-archive" else "an archive of a layout"
            why = f"{what} must be a regular file, since it is read in any order"
            if transport != "docker-archive" and os.path.isdir(path):
                why = f"this is a directory; name a layout oci:{show_path(path)}"
            raise ImageError(self.name, why) from None
        except OSError as error:
            raise FileError(path, "open", error) from error
        self._members: dict[str, Range] = {}
        self._links: dict[str, str] = {}
        self._blobs: dict[BlobDigest, Range | bytes] = {}
        try:
            if magic.startswith(GZIP_MAGIC) or magic == ZSTD_MAGIC:
                raise ImageError(self.name, "the archive is compressed; decompress it first")
            self._scan()
            self._read_names()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    # ---- what is in it

    def _scan(self) -> None:
        for member in members(FileView(self._fd, name=self.path), self.name):
            name = posixpath.normpath(os.fsdecode(member.path)).lstrip("/")
            target = os.fsdecode(member.linkname)
            if member.kind == stat.S_IFREG and member.sparse is None:
                self._members[name] = Range(member.data, member.size)
            elif member.kind == stat.S_IFLNK:
                self._links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
            elif member.kind == HARD_LINK:
                self._links[name] = posixpath.normpath(target).lstrip("/")

    def _member(self, name: str) -> Range:
        name = posixpath.normpath(name)
        for _ in range(_LINKS):
            found = self._members.get(name)
            if found is not None:
                return found
            if name not in self._links:
                break
            name = self._links[name]
        raise ImageError(self.name, f"{name[:200]} is missing from the archive")

    def _read_small(self, name: str) -> bytes:
        at = self._member(name)
        if at.size > MANIFEST_LIMIT:
            raise ImageError(self.name, f"{name[:200]} is larger than {MANIFEST_LIMIT} bytes")
        return self._pread(at.offset, at.size, name)

    def _pread(self, offset: int, size: int, what: str) -> bytes:
        try:
            data = os.pread(self._fd, size, offset)
        except OSError as error:
            raise FileError(self.path, "read", error) from error
        if len(data) != size:
            raise BlobCorrupt(what, self.name, "the archive ends before its end")
        return data

    def _read_names(self) -> None:
        """Find out which images there are, and fill `_blobs`."""
        raise NotImplementedError

    # ---- BlobSource

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
