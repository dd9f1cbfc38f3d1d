"""Images in plain directories: what skopeo calls `dir:`, the files of one image with nothing around them.

    >>> directory = ImageDirectory(b"app")
    >>> directory.resolve(None)
    Descriptor(media_type='application/vnd.oci.image.manifest.v1+json', …)

`version` says what it is, `manifest.json` is the image or index, `<hex>.manifest.json` are the manifests that an index
names, and configs and layers are called by the hexadecimal digits of their digests alone. There are no tags: a name
that is asked for is taken for the one image. A new image takes the place of the old, whose files go when the new one is
whole; only files with such names do. What has other things in it, and no `version`, is never written to.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import threading
from collections.abc import Iterable
from contextlib import suppress

from casync_compat.errors import FileError, UsageError, show_path
from casync_compat.fs.atomic import AtomicFile
from casync_compat.fs.readers import open_regular
from casync_compat.oci.places.blobfiles import STAGING_PREFIX, BlobFiles
from casync_compat.oci.places.graph import walk
from casync_compat.oci.spec.blobs import MANIFEST_LIMIT, check_blob
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor
from casync_compat.oci.spec.errors import BlobError, BlobMissing, ImageError
from casync_compat.oci.spec.manifest import parse_document

__all__ = ["ImageDirectory"]

_STEM = b"Directory Transport Version: "
_VERSION = _STEM + b"1.1\n"
_TOP = b"manifest.json"
_SUFFIX = b".manifest.json"
_OURS = re.compile(
    rb"(?P<hex>[0-9a-f]{64}|[0-9a-f]{128})(?P<manifest>\.manifest\.json)?"
    rb"|([0-9a-f]{64}\.|[0-9a-f]{128}\.)?(?P<signature>signature-[0-9]+)"
)


class ImageDirectory(BlobFiles):
    """A WritablePlace of one image, which the first write makes if it is not there.

    :raises UsageError: that can be the path of nothing
    """

    roomy = False

    def __init__(self, path: bytes) -> None:
        if not path or b"\0" in path:
            raise UsageError("the path of a directory of an image is empty or has a NUL in it")
        super().__init__(path, "dir")
        self._lock = threading.Lock()
        self._writers_fd = -1

    def close(self) -> None:
        """Let others write."""
        fd, self._writers_fd = self._writers_fd, -1
        if fd >= 0:
            os.close(fd)

    # ---- files

    def blob_path(self, digest: BlobDigest) -> bytes:
        return os.path.join(self.path, digest.hex.encode())

    def _manifest_path(self, digest: BlobDigest) -> bytes:
        return self.blob_path(digest) + _SUFFIX

    def writing(self) -> None:
        with self._lock:
            if self._writers_fd >= 0:
                return
            try:
                os.makedirs(self.path, exist_ok=True)
                self._writers_fd = self._locked()
            except FileError:
                raise
            except OSError as error:
                raise FileError(self.path, "write to the directory", error) from error

    def _locked(self) -> int:
        """A descriptor of `version`, whose lock says that one process writes."""
        path = os.path.join(self.path, b"version")
        if os.listdir(self.path) and not os.path.lexists(path):
            raise ImageError(self.name, "the directory has other things in it, which are left alone")
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"{self.name} is being written to; try again when that is done") from None
            said = os.read(fd, len(_VERSION))
            if said and not said.startswith(_STEM):
                raise ImageError(
                    self.name, "its file version is not that of an image; nothing is written there"
                )
            if not said:
                os.write(fd, _VERSION)
        except BaseException:
            os.close(fd)
            raise
        return fd

    # ---- manifests

    def resolve(self, reference: str | None) -> Descriptor:
        found = self.resolve_or_none(reference)
        if found is not None:
            return found
        if reference is not None and os.path.exists(os.path.join(self.path, _TOP)):
            raise ImageError(self.name, f"there is no image {reference}")
        why = "there is no image in this directory, which has no manifest.json"
        if os.path.exists(os.path.join(self.path, b"oci-layout")):
            why = f"this is a layout; name it oci:{show_path(self.path)}"
        elif not os.path.isdir(self.path):
            why = "there is no such directory"
        raise ImageError(self.name, why)

    def resolve_or_none(self, reference: str | None) -> Descriptor | None:
        """The image, whatever it is called; None where there is none, or none with this digest."""
        wanted = None
        if reference is not None and reference.startswith("sha256:"):
            wanted = BlobDigest.parse(reference, self.name)
        for name in (_TOP, *([wanted.hex.encode() + _SUFFIX] if wanted is not None else [])):
            data = self._read(name)
            if data is not None and (wanted is None or BlobDigest.of(data) == wanted):
                document = parse_document(data, f"{self.name}, {name.decode()}")
                return Descriptor(document.media_type, BlobDigest.of(data), len(data))
        return None

    def _read(self, name: bytes) -> bytes | None:
        path = os.path.join(self.path, name)
        try:
            with open(open_regular(path, "open"), "rb") as file:
                data = file.read(MANIFEST_LIMIT + 1)
        except OSError as error:
            if error.errno == errno.ENOTDIR:
                raise ImageError(self.name, "this is no directory") from error
            if error.errno == errno.ENOENT:
                return None
            raise error if isinstance(error, FileError) else FileError(path, "read", error) from error
        if len(data) > MANIFEST_LIMIT:
            raise ImageError(self.name, f"{name.decode()} is larger than {MANIFEST_LIMIT} bytes")
        return data

    def read_manifest(self, descriptor: Descriptor) -> bytes:
        top = self._read(_TOP)
        if top is not None:
            with suppress(BlobError):
                check_blob(descriptor, top, self.name)
                return top
        data = self._read(descriptor.digest.hex.encode() + _SUFFIX)
        if data is None:
            raise BlobMissing(str(descriptor.digest), self.name, "a manifest")
        check_blob(descriptor, data, self.name)
        return data

    def put_manifest(self, descriptor: Descriptor, data: bytes) -> None:
        check_blob(descriptor, data, "the manifest to be stored")
        self.writing()
        if self._read(descriptor.digest.hex.encode() + _SUFFIX) != data:
            with AtomicFile(self._manifest_path(descriptor.digest)) as out:
                out.write(data)

    def tag(self, name: str, descriptor: Descriptor) -> None:
        """Let the directory be this image. :param name: is not kept"""
        self._become(descriptor, self.read_manifest(descriptor))

    def put_tagged(self, name: str, descriptor: Descriptor, data: bytes) -> None:
        """Let the directory be this image. :param name: is not kept"""
        check_blob(descriptor, data, "the manifest to be stored")
        self._become(descriptor, data)

    def put_beside(self, name: str, descriptor: Descriptor, data: bytes) -> None:
        """:raises ImageError: always: there is one image"""
        raise ImageError(self.name, "there is room for one image in such a directory")

    def swap_tag(self, name: str, descriptor: Descriptor, expected: Descriptor | None) -> bool:
        """Let the directory be this image, if it still is `expected`."""
        self.writing()
        now = self.resolve_or_none(None)
        if (now.digest if now else None) != (expected.digest if expected else None):
            return False
        self.tag(name, descriptor)
        return True

    def tags(self) -> list[str]:
        """None: there is one image, without a name."""
        return []

    def signatures(self) -> list[str]:
        """The names of skopeo's own signatures, which only such directories have room for."""
        try:
            names = os.listdir(self.path)
        except OSError as error:
            raise FileError(self.path, "list", error) from error
        return sorted(
            os.fsdecode(name) for name in names if (ours := _OURS.fullmatch(name)) and ours["signature"]
        )

    def assume(self, descriptors: Iterable[Descriptor]) -> None:
        """Nothing: whether a blob is there costs a directory nothing to find out."""

    def _become(self, root: Descriptor, data: bytes) -> None:
        self.writing()
        before = self._read(_TOP)
        if before != data:
            with AtomicFile(os.path.join(self.path, _TOP)) as out:
                out.write(data)
        with suppress(ImageError, BlobError):  # a part of it is elsewhere, and nobody knows what it needs
            self._sweep(root, before == data)

    def _sweep(self, root: Descriptor, same: bool) -> None:
        """Remove what other images left. :param same: signatures are of this very image"""
        graph = walk(self, root)
        blobs = {digest.hex.encode() for digest in graph.blobs}
        manifests = {digest.hex.encode() for digest in graph.manifests if digest != root.digest}
        for name in os.listdir(self.path):
            ours = _OURS.fullmatch(name)
            if ours is None:
                stale = name.startswith(STAGING_PREFIX) and name.endswith(b".tmp")
            elif ours["signature"]:
                stale = not same
            else:
                stale = ours["hex"] not in (manifests if ours["manifest"] else blobs)
            if stale:
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(self.path, name))
