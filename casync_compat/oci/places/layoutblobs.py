"""The blobs of an OCI layout, and the locks that its writers and its garbage collection share.

Blobs appear by a rename, whole and synced, and are taken over from another layout by a reflink or a hard link where the
file system can. Manifests and tags are the business of `casync_compat.oci.places.layout`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from casync_compat.closing import Closing
from casync_compat.errors import FileError, UsageError, show_path
from casync_compat.fs import ioctls
from casync_compat.fs.atomic import AtomicFile
from casync_compat.fs.readers import NotRegular, open_regular
from casync_compat.oci.spec.blobs import MANIFEST_LIMIT, BlobSource, Check
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor
from casync_compat.oci.spec.errors import BlobCorrupt, BlobMissing, ImageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
from casync_compat.oci.places.blobfile import FileStream, StagedFile
from casync_compat.oci.places.layoutindex import check_version

__all__ = ["STAGING_PREFIX", "LayoutBlobs"]

_PIECE = 1 << 20
STAGING_PREFIX = b".pycasync-"
"""What the names of blobs being written begin with; they stand beside `index.json`, out of the way of other tools."""
_LOCK = b".pycasync.lock"


class LayoutBlobs(Closing):
    """A BlobSink and Tags over a directory, which the first write makes if it is not there.

    :ivar name: as skopeo writes it, for messages
    """

    near = True
    """Reading a range costs nothing worth saving."""

    def __init__(self, path: bytes) -> None:
        """:raises ImageError: the directory is there and is something else"""
        if not path or b"\0" in path:
            raise UsageError("the path of an OCI layout is empty or has a NUL in it")
        self.path = path
        self.name = f"oci:{show_path(path)}"
        self._lock = threading.Lock()
        self._writers_fd = -1
        self._made: set[str] = set()
        self._seen: dict[BlobDigest, tuple[int, int, int, int]] = {}
        self.exists = self._look()

    def _look(self) -> bool:
        try:
            with open(open_regular(os.path.join(self.path, b"oci-layout")), "rb") as file:
                data = file.read(4096)
        except FileNotFoundError:
            with suppress(FileNotFoundError):
                names = os.listdir(self.path)
                if names and _LOCK not in names:  # or else another process is just making it
                    raise ImageError(
                        self.name, "the directory has things in it, but no oci-layout file"
                    ) from None
            return False
        except FileError as error:
            if error.errno == errno.ENOTDIR:
                why = f"this is no directory; an archive of a layout is named oci-archive:{show_path(self.path)}"
                raise ImageError(self.name, why) from None
            raise
        check_version(data, self.name)
        return True

    def close(self) -> None:
        """Let go of the lock that says that it is being written."""
        fd, self._writers_fd = self._writers_fd, -1
        if fd >= 0:
            os.close(fd)

    # ---- reading blobs

    def blob_path(self, digest: BlobDigest) -> bytes:
        """The file of a blob."""
        return os.path.join(self.path, b"blobs", digest.algorithm.encode(), digest.hex.encode())

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

    # ---- writing blobs

    def staging_path(self) -> bytes:
        """A fresh name for a blob being written; the directory is there afterwards."""
        self.writing()
        return os.path.join(self.path, STAGING_PREFIX + os.urandom(8).hex().encode() + b".tmp")

    def writing(self) -> None:
        """Make the layout if it is not there, and keep garbage collections out until `close`.

        :raises FileError: it cannot be written
        """
        with self._lock:
            if self._writers_fd >= 0:
                return
            fresh = not os.path.lexists(self.path)
            try:
                os.makedirs(self.path, exist_ok=True)
                fd = os.open(os.path.join(self.path, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
                self._writers_fd = fd
                fcntl.flock(fd, fcntl.LOCK_SH)
                os.makedirs(os.path.join(self.path, b"blobs", b"sha256"), exist_ok=True)
                if not os.path.exists(os.path.join(self.path, b"oci-layout")):
                    self._begin()
            except BaseException as error:
                if fresh:
                    self._take_back()
                if isinstance(error, OSError):
                    raise FileError(self.path, "write to the layout", error) from error
                raise
            self.exists = True

    def _begin(self) -> None:
        """Make what a layout needs; `oci-layout` comes last, for then it is one."""
        self._make_once(b"index.json", b'{"schemaVersion":2,"manifests":[]}')
        self._make_once(b"oci-layout", b'{"imageLayoutVersion":"1.0.0"}')

    def _take_back(self) -> None:
        """Remove what was made of a layout that is none yet, unless somebody else is making it."""
        fd, self._writers_fd = self._writers_fd, -1
        try:
            if fd >= 0:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(os.path.join(self.path, b"oci-layout")):
                return
            for name in (b"index.json", _LOCK):
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(self.path, name))
            for parts in ((b"blobs", b"sha256"), (b"blobs",), ()):
                with suppress(FileNotFoundError):
                    os.rmdir(os.path.join(self.path, *parts))
        except OSError:
            pass  # somebody else is at it, or has put something there
        finally:
            if fd >= 0:
                os.close(fd)

    def _make_once(self, name: bytes, data: bytes) -> None:
        """Make a file unless it is there, whole. Other processes may do so at the same time: nothing is replaced."""
        fresh = os.path.join(self.path, STAGING_PREFIX + os.urandom(8).hex().encode() + b".tmp")
        try:
            with AtomicFile(fresh) as out:
                out.write(data)
            try:
                os.link(fresh, os.path.join(self.path, name))
            except FileExistsError:
                pass
            except OSError:  # a file system without links: then the later of two processes wins
                os.rename(fresh, os.path.join(self.path, name))
        finally:
            with suppress(FileNotFoundError):
                os.unlink(fresh)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody writes to the layout within the block (as far as they use this lock).

        :raises UsageError: somebody does
        """
        path = os.path.join(self.path, _LOCK)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise FileError(path, "open", error) from error
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"{self.name} is being written to; try again when that is done") from None
            yield
        finally:
            os.close(fd)

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
        if digest.algorithm not in self._made:
            directory = os.path.dirname(self.blob_path(digest))
            try:
                os.makedirs(directory, exist_ok=True)
            except OSError as error:
                raise FileError(directory, "create", error) from error
            self._made.add(digest.algorithm)

    def borrow(self, descriptor: Descriptor, source: BlobSource) -> bool:
        if self.sound(descriptor):
            return False
        if isinstance(source, LayoutBlobs) and self._share(descriptor, source):
            return True
        with source.open(descriptor) as stream:
            return self.put(descriptor, iter(lambda: stream.read(_PIECE), b""))

    def _share(self, descriptor: Descriptor, source: LayoutBlobs) -> bool:
        """Take over the file of another layout by a reflink or a hard link; False where neither can be had."""
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
