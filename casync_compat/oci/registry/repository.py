"""One repository of a registry: a place for blobs, and manifests by digest and tag (the protocols of `blobs`).

    >>> with open_repository(parse_reference("docker://localhost:5000/a"), environ=os.environ) as repository:
    ...     manifest = repository.resolve("latest")
    ...     repository.read_manifest(manifest)

What is known to be there is remembered, so that nothing is asked twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

from casync_compat.closing import Closing
from casync_compat.errors import AccessDenied
from casync_compat.net.traffic import Traffic
from casync_compat.oci.registry.download import Downloads, RegistryStream
from casync_compat.oci.registry.endpoint import Access
from casync_compat.oci.registry.manifests import ManifestStore
from casync_compat.oci.registry.upload import Uploads
from casync_compat.oci.registry.uploadcontent import UploadContent, UploadSpool, content_of
from casync_compat.oci.spec.blobs import MANIFEST_LIMIT, BlobSource
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor
from casync_compat.oci.spec.errors import BlobCorrupt, ImageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["Repository"]


class Repository(ManifestStore, Closing):
    """A BlobSink, and Tags, in a registry. May be used from several threads at once.

    :ivar name: `docker://HOST/REPOSITORY`
    :ivar near: False, since each request goes a long way
    :param on_close: called when it is closed, say to close the client that was made for it
    """

    near = False
    roomy = True

    def __init__(self, access: Access, on_close: Callable[[], None] | None = None) -> None:
        super().__init__(access)
        self._on_close = on_close
        self._downloads = Downloads(access)
        self._uploads = Uploads(access, self._look)
        self._there: set[BlobDigest] = set()

    def close(self) -> None:
        self._downloads.close()
        if self._on_close is not None:
            self._on_close()

    @property
    def traffic(self) -> Traffic:
        """What has moved so far to and from the registries of this repository's client."""
        return self._access.exchange.traffic

    # ---- blobs, reading

    def assume(self, descriptors: Iterable[Descriptor]) -> None:
        """Take these blobs to be there, because a manifest in this repository lists them."""
        with self._lock:
            self._there.update(descriptor.digest for descriptor in descriptors)

    def has(self, descriptor: Descriptor) -> bool:
        return descriptor.digest in self._there or self._look(descriptor)

    def _look(self, descriptor: Descriptor) -> bool:
        op = f"look for blob {descriptor.digest}"
        try:
            answer = self._access.call("HEAD", f"blobs/{descriptor.digest}", op=op)
            if answer.status not in (200, 404):
                raise self._access.failed(answer, op)
        except AccessDenied:
            # Of a repository that is yet to be made, some say that it may not be read.
            if self.was_read:
                raise
            return False
        self.was_read = True
        if answer.status == 404:
            answer.drain()
            return False
        size = answer.headers.number("Content-Length")
        answer.drain()
        if size is not None and size != descriptor.size:
            return False
        self.assume([descriptor])
        return True

    def open(self, descriptor: Descriptor) -> RegistryStream:
        return self._downloads.open(descriptor)

    def read(self, descriptor: Descriptor, limit: int = MANIFEST_LIMIT) -> bytes:
        if descriptor.size > limit:
            raise ImageError(
                self.name,
                f"blob {descriptor.digest} has {descriptor.size} bytes, more than the {limit} it may have",
            )
        pieces = []
        with self.open(descriptor) as stream:
            while piece := stream.read(1 << 18):
                pieces.append(piece)
        return b"".join(pieces)

    def read_range(self, descriptor: Descriptor, offset: int, size: int) -> bytes:
        return self._downloads.read_range(descriptor, offset, size)

    # ---- blobs, writing

    def stage(self) -> Staging:
        return Staging(self)

    def put(self, descriptor: Descriptor, data: Iterable[ReadableBuffer], *, look: bool = True) -> bool:
        """As `BlobSink.put`.

        :param look: whether to ask first if it is there; False saves a request for what surely is not
        """
        if self.has(descriptor) if look else descriptor.digest in self._there:
            return False
        with UploadSpool(descriptor.digest.algorithm) as spool:
            for piece in data:
                spool.write(piece)
                if spool.size > descriptor.size:
                    break
            self._check_spool(descriptor, spool)
            self._upload(spool.content(descriptor))
        return True

    def _check_spool(self, descriptor: Descriptor, spool: UploadSpool) -> None:
        if spool.size != descriptor.size:
            what = "more" if spool.size > descriptor.size else str(spool.size)
            raise BlobCorrupt(
                str(descriptor.digest), "what is to be stored", f"it has {what} bytes, not {descriptor.size}"
            )
        if spool.digest != descriptor.digest:
            raise BlobCorrupt(
                str(descriptor.digest), "what is to be stored", f"its content has the digest {spool.digest}"
            )

    def _upload(self, content: UploadContent, session: str | None = None) -> None:
        self._uploads.upload(content, session)
        self.assume([content.descriptor])

    def borrow(self, descriptor: Descriptor, source: BlobSource) -> bool:
        if self.has(descriptor):
            return False
        session: str | None = ""
        if isinstance(source, Repository) and self._is_sibling(source):
            session = self._uploads.mount(descriptor, source._access)
            if session is None:
                self.assume([descriptor])
                return False
        if not isinstance(source, Repository):
            # Local bytes can be read again from any place, should the sending be interrupted.
            self._upload(content_of(source, descriptor), session)
            return True
        with UploadSpool() as spool, source.open(descriptor) as stream:
            while piece := stream.read(1 << 18):
                spool.write(piece)
            self._upload(spool.content(descriptor), session)
        return True

    def _is_sibling(self, other: Repository) -> bool:
        return (
            self._access.endpoint.host == other._access.endpoint.host
            and self._access.repository != other._access.repository
        )

    def delete_manifest(self, descriptor: Descriptor) -> bool:
        found = super().delete_manifest(descriptor)
        with self._lock:
            self._there.clear()  # what only this manifest has named may be collected now
        return found


class Staging(Closing):
    """A blob being written whose digest is not known yet (a `BlobStaging`); it is sent at `commit`."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._stack = ExitStack()
        self._spool = self._stack.enter_context(UploadSpool())

    def write(self, data: ReadableBuffer, /) -> None:
        self._spool.write(data)

    @property
    def size(self) -> int:
        return self._spool.size

    def commit(self, media_type: str, annotations: Mapping[str, str] | None = None) -> Descriptor:
        descriptor = Descriptor(media_type, self._spool.digest, self._spool.size, annotations or {})
        if not self._repository.has(descriptor):
            self._repository._upload(self._spool.content(descriptor))
        return descriptor

    def close(self) -> None:
        self._stack.close()
