"""The tar of a layer at any offset: in place where it lies uncompressed in a file, else decompressed to a spool.

    >>> with open_layer_tar(source, descriptor, diff_id, where="layer 0") as tar:
    ...     plan_layer(tar.view)

Either way every byte was hashed before anybody is given the tar, so what follows works on the layer that the image
config names and on no other. The spool is a file without a name in the directory for temporary files; nothing is
unpacked.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

from casync_compat.closing import Closing
from casync_compat.errors import FileError
from casync_compat.oci.places.docker_archive import DockerArchive
from casync_compat.oci.places.layout import Layout
from casync_compat.oci.spec.blobs import BlobSource
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.tar.decompress import decompressed
from casync_compat.oci.views import FileView
from casync_compat.streams.transfer import Sequencer

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["LAYER_LIMIT", "LayerTar", "RangeView", "make_spool", "open_layer_tar", "write_spool"]

LAYER_LIMIT = 64 << 30
"""Bytes that a layer may have when decompressed, if nobody says otherwise: a gzip bomb must end somewhere."""


def make_spool(what: str) -> int:
    """A file descriptor of a temporary file without a name. :raises FileError: it cannot be made"""
    try:
        with tempfile.TemporaryFile(prefix="pycasync-") as file:
            return os.dup(file.fileno())
    except OSError as error:
        raise FileError(tempfile.gettempdir(), f"make a temporary file for {what}", error) from error


class RangeView:
    """A range of an open file as a `catar.archive.RandomAccess`.

    :param fd: stays the caller's
    """

    def __init__(self, fd: int, offset: int, size: int, name: bytes) -> None:
        self._view = FileView(fd, offset + size, name)
        self._offset = offset
        self.size = size

    def read_at(self, offset: int, size: int) -> bytes:
        """The bytes from `offset` on, `size` of them or as many as there are."""
        return self._view.read_at(self._offset + offset, min(size, self.size - offset))

    def read_into(self, offset: int, buffer: WriteableBuffer) -> int:
        """Fill a buffer, or its beginning, with the bytes from `offset` on. Returns how many; 0 at the end."""
        view = memoryview(buffer).cast("B")[: max(self.size - offset, 0)]
        return self._view.read_into(self._offset + offset, view) if len(view) else 0


class LayerTar(Closing):
    """A layer's tar.

    :ivar view: the tar, to be read in any order until `close`
    """

    def __init__(self, fd: int, offset: int, size: int, name: str) -> None:
        self._fd = fd
        self.size = size
        self.view = RangeView(fd, offset, size, name.encode())

    def close(self) -> None:
        """Close the file, and take away the spool."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def open_layer_tar(
    source: BlobSource, layer: Descriptor, diff_id: BlobDigest, *, where: str, limit: int = LAYER_LIMIT
) -> LayerTar:
    """The tar in a layer blob, which has been checked to be what the image config says.

    :param limit: the most bytes that the tar may have
    :raises ImageError: it has another digest, or is too large, or cannot be decompressed
    :raises BlobError: the blob is missing or corrupt
    """
    if layer.digest == diff_id and isinstance(source, Layout | DockerArchive):
        if layer.size > limit:
            raise _too_large(where, limit)
        found = source.open_range(layer)
        if found is not None:
            tar = LayerTar(*found, layer.size, where)
            try:
                with source.open(layer) as stream:
                    while stream.read(1 << 20):
                        pass
            except BaseException:
                tar.close()
                raise
            return tar
    fd = make_spool(where)
    try:
        return LayerTar(fd, 0, _fill(fd, source, layer, diff_id, where, limit), where)
    except BaseException:
        os.close(fd)
        raise


def _too_large(where: str, limit: int) -> ImageError:
    return ImageError(
        where, f"the layer is larger than {limit} bytes when decompressed; raise the limit if that is right"
    )


def _fill(fd: int, source: BlobSource, layer: Descriptor, diff_id: BlobDigest, where: str, limit: int) -> int:
    """Write the tar to the spool and return its size."""
    hasher = diff_id.new()
    size = 0
    hashing = Sequencer()  # beside decompression and writing
    try:
        with source.open(layer) as stream:
            for piece in decompressed(stream, where):
                size += len(piece)
                if size > limit:
                    raise _too_large(where, limit)
                hashing.submit(hasher.update, piece)
                write_spool(fd, piece)
        hashing.wait()
    finally:
        hashing.close()
    found = BlobDigest(diff_id.algorithm, hasher.hexdigest())
    if found != diff_id:
        raise ImageError(where, f"the layer has the diff id {found}, but the image config says {diff_id}")
    return size


def write_spool(fd: int, data: bytes) -> None:
    """Append all of `data` to a file of `make_spool`. :raises FileError: when that fails"""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError as error:
        raise FileError(tempfile.gettempdir(), "write a temporary file", error) from error
