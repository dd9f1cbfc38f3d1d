"""An archive of a layout that is being made: skopeo's `oci-archive:`, written anew.

    >>> with NewOciArchive(b"debian.tar") as archive:
    ...     archive.put(layer, pieces)
    ...     archive.put_tagged("debian", root, manifest)

Blobs are set aside in a temporary file as they come, in any order and from several threads, and the archive is written
when a tag is put, its blobs in the order of their digests: the same image gives the same bytes. It appears whole or not
at all, in place of what was there. Reading such archives is the business of `oci_archive`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from casync_compat.closing import Closing
from casync_compat.errors import UsageError
from casync_compat.fs.atomic import AtomicFile
from casync_compat.oci.places.blobranges import BlobRanges, Range
from casync_compat.oci.places.layouttar import LayoutTar
from casync_compat.oci.spec.blobs import BlobSource, Check
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor
from casync_compat.oci.spec.errors import ImageError
from casync_compat.spool import Spool

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["NewOciArchive"]

_PIECE = 1 << 20
_ANY = "application/octet-stream"


class NewOciArchive(BlobRanges):
    """A WritablePlace that becomes a file.

    :raises UsageError: it would be standard output
    """

    roomy = True

    def __init__(self, path: bytes) -> None:
        super().__init__(path, "oci-archive")
        if path == b"-":
            raise UsageError(f"{self.name}: an archive is written to a file; name one")
        self._lock = threading.Lock()
        self._named: dict[str, Descriptor] = {}
        self._spool = Spool("an archive of images")
        self._fd = self._spool.descriptor()

    def close(self) -> None:
        super().close()
        self._spool.close()

    # ---- blobs

    def put(self, descriptor: Descriptor, data: Iterable[ReadableBuffer], *, look: bool = True) -> bool:
        if self.has(descriptor):
            return False
        at = offset = self._spool.reserve(descriptor.size)
        check = Check(descriptor, self.name)
        for piece in data:
            check.update(piece)
            self._spool.write_at(at, piece)
            at += memoryview(piece).nbytes
        check.finish()
        with self._lock:
            self._blobs[descriptor.digest] = Range(offset, descriptor.size)
        return True

    def borrow(self, descriptor: Descriptor, source: BlobSource) -> bool:
        if self.has(descriptor):
            return False
        with source.open(descriptor) as stream:
            return self.put(descriptor, iter(lambda: stream.read(_PIECE), b""))

    def stage(self) -> _Staging:
        return _Staging(self)

    # ---- manifests

    def put_manifest(self, descriptor: Descriptor, data: bytes) -> None:
        self.put(descriptor, [data])

    def resolve(self, reference: str | None) -> Descriptor:
        found = self.resolve_or_none(reference)
        if found is None:
            raise ImageError(self.name, "the archive is being made, and this image is not in it")
        return found

    def resolve_or_none(self, reference: str | None) -> Descriptor | None:
        """What was named so far; what the file had before counts for nothing."""
        with self._lock:
            if reference is None:
                return next(iter(self._named.values()), None)
            return self._named.get(reference)

    def tags(self) -> list[str]:
        return sorted(self._named)

    def assume(self, descriptors: Iterable[Descriptor]) -> None:
        """Nothing: what is there is known."""

    def tag(self, name: str, descriptor: Descriptor) -> None:
        """Name an image, and write the archive."""
        with self._lock:
            self._named[name] = descriptor
        self._write()

    def put_tagged(self, name: str, descriptor: Descriptor, data: bytes) -> None:
        self.put_manifest(descriptor, data)
        self.tag(name, descriptor)

    def put_beside(self, name: str, descriptor: Descriptor, data: bytes) -> None:
        self.put_manifest(descriptor, data)
        with self._lock:
            self._named[name] = descriptor

    def swap_tag(self, name: str, descriptor: Descriptor, expected: Descriptor | None) -> bool:
        """As `tag`: nobody else can have moved it."""
        self.tag(name, descriptor)
        return True

    def _write(self) -> None:
        with AtomicFile(self.path) as out:
            tar = LayoutTar(out)
            tar.begin_layout(self._named)
            for digest, at in sorted(self._blobs.items(), key=lambda one: str(one[0])):
                size = at.size if isinstance(at, Range) else len(at)
                tar.copy(Descriptor(_ANY, digest, size), self)
            tar.end()


class _Staging(Closing):
    """A blob being written whose digest is not known yet (a `BlobStaging`)."""

    def __init__(self, archive: NewOciArchive) -> None:
        self._archive = archive
        self._spool = Spool("a blob", _PIECE)
        self._hash = BlobDigest.of(b"").new()

    def write(self, data: ReadableBuffer, /) -> None:
        self._hash.update(data)
        self._spool.append(data)

    @property
    def size(self) -> int:
        return self._spool.size

    def commit(self, media_type: str, annotations: Mapping[str, str] | None = None) -> Descriptor:
        digest = BlobDigest("sha256", self._hash.hexdigest())
        descriptor = Descriptor(media_type, digest, self.size, annotations or {})
        self._archive.put(descriptor, (self._spool.read_at(at, _PIECE) for at in range(0, self.size, _PIECE)))
        return descriptor

    def close(self) -> None:
        self._spool.close()
