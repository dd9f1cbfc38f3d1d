"""Tars of layouts, as they are written: what other tools call an oci-archive.

>>> tar = LayoutTar(out)
>>> tar.begin_layout({"debian": root})
>>> tar.copy(blob, place)
>>> tar.end()
"""

from __future__ import annotations

from collections.abc import Mapping

from casync_compat.fs.atomic import AtomicFile
from casync_compat.oci.spec import media
from casync_compat.oci.spec.blobs import BlobSource
from casync_compat.oci.spec.descriptor import Descriptor, canonical_json
from casync_compat.streams.patch import tar_header

__all__ = ["LayoutTar"]

_BLOCK = 512
_PIECE = 1 << 20


class LayoutTar:
    """A tar that is being written; the same members give the same bytes.

    :ivar size: bytes so far
    """

    def __init__(self, out: AtomicFile) -> None:
        self.size = 0
        self._out = out

    def begin_layout(self, named: Mapping[str, Descriptor]) -> None:
        """Write what makes it a layout.

        :param named: the images by their names
        """
        entries = [
            {
                "mediaType": one.media_type,
                "digest": str(one.digest),
                "size": one.size,
                "annotations": {media.REF_NAME: name},
            }
            for name, one in named.items()
        ]
        self.add("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        index = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": entries}
        self.add("index.json", canonical_json(index))

    def add(self, name: str, content: bytes) -> None:
        """Write a member."""
        self._write(tar_header(name, len(content)) + content)
        self._pad()

    def blob(self, descriptor: Descriptor, content: bytes) -> None:
        """Write a blob that is at hand."""
        self.add(_path(descriptor), content)

    def copy(self, descriptor: Descriptor, source: BlobSource) -> None:
        """Write a blob from where it is.

        :raises BlobError: it is missing or corrupt there
        """
        self._write(tar_header(_path(descriptor), descriptor.size))
        with source.open(descriptor) as stream:
            while piece := stream.read(_PIECE):
                self._write(piece)
        self._pad()

    def end(self) -> None:
        """That was all."""
        self._write(bytes(2 * _BLOCK))

    def _write(self, data: bytes) -> None:
        self._out.write(data)
        self.size += len(data)

    def _pad(self) -> None:
        self._write(bytes(-self.size % _BLOCK))


def _path(descriptor: Descriptor) -> str:
    return f"blobs/{descriptor.digest.algorithm}/{descriptor.digest.hex}"
