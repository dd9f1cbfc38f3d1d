"""The directory of an OCI layout: how its blobs are called, how it comes to be, and the locks that its writers and its
garbage collection share.

Manifests and tags are the business of `casync_compat.oci.places.layout`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from casync_compat.errors import FileError, UsageError, show_path
from casync_compat.fs.atomic import AtomicFile
from casync_compat.fs.readers import open_regular
from casync_compat.oci.places.blobfiles import STAGING_PREFIX, BlobFiles
from casync_compat.oci.places.layoutindex import check_version
from casync_compat.oci.spec.descriptor import BlobDigest
from casync_compat.oci.spec.errors import ImageError

__all__ = ["LayoutBlobs"]

_LOCK = b".pycasync.lock"


class LayoutBlobs(BlobFiles):
    """A BlobSink and Tags over a directory, which the first write makes if it is not there.

    :ivar name: as skopeo writes it, for messages
    """

    def __init__(self, path: bytes) -> None:
        """:raises ImageError: the directory is there and is something else"""
        if not path or b"\0" in path:
            raise UsageError("the path of an OCI layout is empty or has a NUL in it")
        super().__init__(path, "oci")
        self._lock = threading.Lock()
        self._writers_fd = -1
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

    def blob_path(self, digest: BlobDigest) -> bytes:
        return os.path.join(self.path, b"blobs", digest.algorithm.encode(), digest.hex.encode())

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
