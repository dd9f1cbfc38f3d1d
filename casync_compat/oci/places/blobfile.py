"""Blobs as files of a layout or parts of a docker archive: read with their check, written under a temporary name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from casync_compat.errors import FileError
from casync_compat.oci.spec.blobs import Check
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["FileStream", "StagedFile", "StagesFiles"]


class StagesFiles(Protocol):
    """Where a file is to become a blob."""

    def staging_path(self) -> bytes:
        """A fresh name for it; the directory is there."""

    def blob_path(self, digest: BlobDigest) -> bytes:
        """Its name as a blob."""

    def sound(self, descriptor: Descriptor) -> bool:
        """Whether the blob is there already."""


class FileStream:
    """A blob that is a range of a file, read front to back and checked (a `BlobStream`). It owns the descriptor."""

    def __init__(self, fd: int, descriptor: Descriptor, where: str, offset: int = 0) -> None:
        self._fd = fd
        self._at = offset
        self._left = descriptor.size
        self._check: Check | None = Check(descriptor, where)
        self._where = where

    def read(self, size: int, /) -> bytes:
        try:
            data = os.pread(self._fd, min(size, self._left), self._at)
        except OSError as error:
            raise FileError(self._where, "read", error) from error
        self._at += len(data)
        self._left -= len(data)
        if self._check is not None:
            self._check.update(data)
            if not data or not self._left:
                check, self._check = self._check, None
                check.finish()
        return data

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class StagedFile:
    """A blob being written to a layout (a `BlobStaging`)."""

    def __init__(self, layout: StagesFiles) -> None:
        self._layout = layout
        self._hash = hashlib.sha256()
        self._path = b""
        self._fd = -1
        self.size = 0
        self._path = layout.staging_path()
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise FileError(self._path, "create", error) from error

    def write(self, data: ReadableBuffer, /) -> None:
        view = memoryview(data).cast("B")
        self._hash.update(view)
        self.size += view.nbytes
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            raise FileError(self._path, "write", error) from error

    def commit(self, media_type: str, annotations: Mapping[str, str] | None = None) -> Descriptor:
        digest = BlobDigest("sha256", self._hash.hexdigest())
        descriptor = Descriptor(media_type, digest, self.size, annotations or {})
        if not self._layout.sound(descriptor):
            self._publish(descriptor)
        return descriptor

    def _publish(self, descriptor: Descriptor) -> None:
        try:
            os.fsync(self._fd)
            os.rename(self._path, self._layout.blob_path(descriptor.digest))
            self._path = b""
        except OSError as error:
            raise FileError(self._path, "store a blob", error) from error

    def publish_checked(self, check: Check, descriptor: Descriptor) -> None:
        """Store it under the digest that `check` saw. :raises BlobCorrupt: it is another blob"""
        check.finish()
        self._publish(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._discard()

    def __del__(self) -> None:
        # For a signal that arrives between two lines, where no block has begun or ended.
        self._discard()

    def _discard(self) -> None:
        """Close the file, and take it away where it has not become a blob."""
        if self._fd >= 0:
            with suppress(OSError):
                os.close(self._fd)
            self._fd = -1
        if self._path:
            with suppress(OSError):
                os.unlink(self._path)
            self._path = b""
