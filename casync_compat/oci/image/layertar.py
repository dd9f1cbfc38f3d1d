"""The tar of a layer at any offset: in place where it lies uncompressed in a file, else decompressed to a spool.

    >>> with open_layer_tar(source, descriptor, diff_id, where="layer 0") as tar:
    ...     plan_layer(tar.view)

Either way every byte was hashed before anybody is given the tar, so what follows works on the layer that the image
config names and on no other. Nothing is unpacked.
"""

from __future__ import annotations

import os

from casync_compat.closing import Closing
from casync_compat.fs.readers import FillingAccess, RangeView
from casync_compat.oci.places.blobfiles import BlobFiles
from casync_compat.oci.places.blobranges import BlobRanges
from casync_compat.oci.spec.blobs import BlobSource
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.tar.decompress import decompressed
from casync_compat.spool import Spool
from casync_compat.streams.transfer import Sequencer

__all__ = ["LAYER_LIMIT", "LayerTar", "open_layer_tar"]

LAYER_LIMIT = 64 << 30
"""Bytes that a layer may have when decompressed, if nobody says otherwise: a gzip bomb must end somewhere."""


class LayerTar(Closing):
    """A layer's tar.

    :param held: the spool that it lies in, or the descriptor of the file; closed with it
    :ivar view: the tar, to be read in any order until `close`
    """

    def __init__(self, view: FillingAccess, held: Spool | int) -> None:
        self.view = view
        self._held = held

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.view.size

    def close(self) -> None:
        """Close the file, or take away the spool."""
        held, self._held = self._held, -1
        if isinstance(held, Spool):
            held.close()
        elif held >= 0:
            os.close(held)


def open_layer_tar(
    source: BlobSource, layer: Descriptor, diff_id: BlobDigest, *, where: str, limit: int = LAYER_LIMIT
) -> LayerTar:
    """The tar in a layer blob, which has been checked to be what the image config says.

    :param limit: the most bytes that the tar may have
    :raises ImageError: it has another digest, or is too large, or cannot be decompressed
    :raises BlobError: the blob is missing or corrupt
    """
    if layer.digest == diff_id and isinstance(source, BlobFiles | BlobRanges):
        if layer.size > limit:
            raise _too_large(where, limit)
        found = source.open_range(layer)
        if found is not None:
            fd, offset = found
            tar = LayerTar(RangeView(fd, offset, layer.size, where.encode()), fd)
            try:
                with source.open(layer) as stream:
                    while stream.read(1 << 20):
                        pass
            except BaseException:
                tar.close()
                raise
            return tar
    spool = Spool(where)
    try:
        _fill(spool, source, layer, diff_id, where, limit)
        return LayerTar(spool, spool)
    except BaseException:
        spool.close()
        raise


def _too_large(where: str, limit: int) -> ImageError:
    return ImageError(
        where, f"the layer is larger than {limit} bytes when decompressed; raise the limit if that is right"
    )


def _fill(
    spool: Spool, source: BlobSource, layer: Descriptor, diff_id: BlobDigest, where: str, limit: int
) -> None:
    """Write the tar to the spool."""
    hasher = diff_id.new()
    hashing = Sequencer()  # beside decompression and writing
    try:
        with source.open(layer) as stream:
            for piece in decompressed(stream, where):
                if spool.size + len(piece) > limit:
                    raise _too_large(where, limit)
                hashing.submit(hasher.update, piece)
                spool.append(piece)
        hashing.wait()
    finally:
        hashing.close()
    found = BlobDigest(diff_id.algorithm, hasher.hexdigest())
    if found != diff_id:
        raise ImageError(where, f"the layer has the diff id {found}, but the image config says {diff_id}")
