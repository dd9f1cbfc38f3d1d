"""Blobs as files of a directory, read with their check and written whole: what layouts and `dir:` have in common.

Blobs appear by a rename, whole and synced, and are taken over from another directory by a reflink or a hard link where
the file system can. How the files are called, and what else there is, is the business of those that are made of this.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from casync_compat.closing import Closing
from casync_compat.errors import FileError, show_path
from casync_compat.fs import ioctls
from casync_compat.fs.readers import NotRegular, open_regular
from casync_compat.oci.places.blobfile import FileStream, StagedFile
from casync_compat.oci.spec.blobs import MANIFEST_LIMIT, BlobSource, Check
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor
from casync_compat.oci.spec.errors import BlobCorrupt, BlobMissing, ImageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["STAGING_PREFIX", "BlobFiles"]

_PIECE = 1 << 20
STAGING_PREFIX = b".pycasync-"
"""What the names of blobs being written begin with; they stand in the directory itself, where others do not look."""


class BlobFiles(Closing):
    """A BlobSink over a directory.

    :param path: of the directory
    :param transport: how names of such images begin, say `oci`

    :ivar name: as skopeo writes it, for messages
    """

    near = True
    """Reading a range costs nothing worth saving."""
    roomy = True
    """More than one image can be there."""

    def __init__(self, path: bytes, transport: str) -> None:
        self.path = path
        self.name = f"{transport}:{show_path(path)}"
        self._made: set[bytes] = set()
        self._seen: dict[BlobDigest, tuple[int, int, int, int]] = {}

    # ---- reading blobs

    def blob_path(self, digest: BlobDigest) -> bytes:
        """The file of a blob."""
        raise NotImplementedError

    def open_file(self, descriptor: Descriptor) -> int:
        """A file descriptor of a blob's file, whose content nobody has checked; the caller closes it.

        :raises BlobMissing: it is not there
        :raises BlobCorrupt: it has another size
        """
        try:
            fd = open_regular(self.blob_path(descriptor.digest), "open")
        except FileNotFoundError:
            raise BlobMissing(str(descriptor.digest), self.name) from None
        except NotRegular:
            raise BlobCorrupt(str(descriptor.digest), self.name, "it is not a regular file") from None
        status = os.fstat(fd)
        if status.st_size == descriptor.size:
            return fd
        os.close(fd)
        raise BlobCorrupt(
            str(descriptor.digest), self.name, f"its file has {status.st_size} bytes, not {descriptor.size}"
        )

    def open_range(self, descriptor: Descriptor) -> tuple[int, int]:
        """A file descriptor, which the caller closes, and the offset of a blob in it; the content is unchecked."""
        return self.open_file(descriptor), 0

    def has(self, descriptor: Descriptor) -> bool:
        path = self.blob_path(descriptor.digest)
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise FileError(path, "look for a blob", error) from error
        return stat.S_ISREG(status.st_mode) and status.st_size == descriptor.size

    def sound(self, descriptor: Descriptor) -> bool:
        """Whether the blob is there with its content: what a tag is to name is read once, and not taken for granted
        because a file of its name and size is there."""
        try:
            fd = self.open_file(descriptor)
        except (BlobMissing, BlobCorrupt):
            return False
        status = os.fstat(fd)
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if self._seen.get(descriptor.digest) == stamp:
            os.close(fd)
            return True
        try:
            with FileStream(fd, descriptor, self.name) as stream:
                while stream.read(_PIECE):
                    pass
        except BlobCorrupt:
            return False
        self._seen[descriptor.digest] = stamp
        return True

    def open(self, descriptor: Descriptor) -> FileStream:
        return FileStream(self.open_file(descriptor), descriptor, self.name)

    def read(self, descriptor: Descriptor, limit: int = MANIFEST_LIMIT) -> bytes:
        if descriptor.size > limit:
            raise ImageError(
                self.name, f"blob {descriptor.digest} has {descriptor.size} bytes; the limit is {limit}"
            )
        parts = []
        with self.open(descriptor) as stream:
            while data := stream.read(_PIECE):
                parts.append(data)
        return b"".join(parts)

    def read_range(self, descriptor: Descriptor, offset: int, size: int) -> bytes:
        fd = self.open_file(descriptor)
        try:
            data = os.pread(fd, size, offset)
        except OSError as error:
            raise FileError(self.blob_path(descriptor.digest), "read", error) from error
        finally:
            os.close(fd)
        if len(data) != size:
            raise BlobCorrupt(str(descriptor.digest), self.name, f"it ends before byte {offset + size}")
        return data

    def referrers(self, subject: BlobDigest) -> None:
        """Nothing: there is no list of them."""

    # ---- writing blobs

    def staging_path(self) -> bytes:
        """A fresh name for a blob being written; the directory is there afterwards."""
        self.writing()
        return os.path.join(self.path, STAGING_PREFIX + os.urandom(8).hex().encode() + b".tmp")

    def writing(self) -> None:
        """Make the directory if it is not there, and be its writer until `close`.

        :raises FileError: it cannot be written
        """
        raise NotImplementedError

    def stage(self) -> StagedFile:
        return StagedFile(self)

    def put(self, descriptor: Descriptor, data: Iterable[ReadableBuffer], *, look: bool = True) -> bool:
        if self.sound(descriptor):  # whatever `look` says: it costs little here
            return False
        self._make_room(descriptor.digest)
        check = Check(descriptor, self.name)
        with StagedFile(self) as staged:
            for piece in data:
                check.update(piece)
                staged.write(piece)
            staged.publish_checked(check, descriptor)
        return True

    def _make_room(self, digest: BlobDigest) -> None:
        self.writing()
        directory = os.path.dirname(self.blob_path(digest))
        if directory not in self._made:
            try:
                os.makedirs(directory, exist_ok=True)
            except OSError as error:
                raise FileError(directory, "create", error) from error
            self._made.add(directory)

    def borrow(self, descriptor: Descriptor, source: BlobSource) -> bool:
        if self.sound(descriptor):
            return False
        if isinstance(source, BlobFiles) and self._share(descriptor, source):
            return True
        with source.open(descriptor) as stream:
            return self.put(descriptor, iter(lambda: stream.read(_PIECE), b""))

    def _share(self, descriptor: Descriptor, source: BlobFiles) -> bool:
        """Take over the file of another directory by a reflink or a hard link; False where neither can be had."""
        with source.open(descriptor) as stream:  # a link to a damaged blob would be a second damaged blob
            while stream.read(_PIECE):
                pass
        self._make_room(descriptor.digest)
        target = self.blob_path(descriptor.digest)
        path = self.staging_path()
        theirs = source.open_file(descriptor)
        try:
            if not _reflink(theirs, path):
                os.link(source.blob_path(descriptor.digest), path)
            os.rename(path, target)
            return True
        except OSError as error:
            # Another file system, a file of somebody else, too many links, a file system without links: it is copied.
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise FileError(target, "store a blob", error) from error
            return False
        finally:
            os.close(theirs)
            # rename() of two names of one file does nothing and leaves both.
            with suppress(OSError):
                os.unlink(path)


def _reflink(source: int, path: bytes) -> bool:
    """Make `path` a file that shares its blocks with `source`; False where the file system cannot."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        fcntl.ioctl(fd, ioctls.FICLONE, source)
        os.fsync(fd)
        return True
    except OSError:
        os.unlink(path)
        return False
    finally:
        os.close(fd)
