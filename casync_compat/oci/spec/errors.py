"""Errors of images, beneath the one root of this package.

CasyncError
├── BlobError
│   ├── BlobMissing     no such blob or manifest
│   └── BlobCorrupt     its bytes have another digest or size than its descriptor says
└── ImageError          a manifest, config, pack index or recipe is malformed or contradicts another
    ├── ImageTooLarge   its files take more than the limit
    └── NoSuchPlatform  none of its images is for the platform

CannotShare, a FileError: a tree and a store of files cannot have the same files
ArtifactsRefused, a RemoteError: a registry takes plain images only
"""

from __future__ import annotations

from casync_compat.errors import CasyncError, FileError, RemoteError

__all__ = [
    "ArtifactsRefused",
    "BlobCorrupt",
    "BlobError",
    "BlobMissing",
    "CannotShare",
    "ImageError",
    "ImageTooLarge",
    "NoSuchPlatform",
]


class BlobError(CasyncError):
    """A blob could not be had.

    :ivar digest: of the blob, as text (`sha256:…`)
    :ivar where: the layout, archive or repository, as a user would name it
    """

    def __init__(self, digest: str, where: str, why: str = "") -> None:
        super().__init__(digest, where, why)
        self.digest = digest
        self.where = where
        self.why = why


class BlobMissing(BlobError):
    """The place does not have the blob."""

    def __str__(self) -> str:
        what = f" ({self.why})" if self.why else ""
        return f"{self.where}: blob {self.digest} is missing{what}; the image is incomplete: push or copy it again"


class BlobCorrupt(BlobError):
    """The place has other bytes under this digest."""

    def __str__(self) -> str:
        return f"{self.where}: blob {self.digest} is corrupt: {self.why}; delete it and push or copy it again"


class ImageError(CasyncError):
    """A document of an image is malformed, or not what this version understands.

    :ivar where: the image or blob, as a user would name it
    """

    def __init__(self, where: str, why: str) -> None:
        super().__init__(where, why)
        self.where = where
        self.why = why

    def __str__(self) -> str:
        return f"{self.where}: {self.why}"


class ImageTooLarge(ImageError):
    """The files of an image take more than what was allowed."""


class NoSuchPlatform(ImageError):
    """None of the images that are there is for the platform that was asked for, or for this machine's."""


class CannotShare(FileError):
    """Files of a tree cannot be shared with a store of files in the way that was asked for."""


class ArtifactsRefused(RemoteError):
    """A registry has all blobs, but will not have a manifest whose types it does not know."""
