"""Images that are on this machine as seeds: their packs, as sources of chunks.

    >>> with PackSeeds("oci:images:app") as seeds:
    ...     options = ExtractOptions(seed_sources=seeds.sources)

A chunk is a chunk, whatever it was cut of: what `oci convert --store` wrote an index of, or another archive that was
cut with the same sizes and digest, shares chunks with the image.
"""

from __future__ import annotations

import os

from casync_compat.closing import Closing
from casync_compat.errors import UsageError
from casync_compat.oci.image.wrapped import WrappedImage
from casync_compat.oci.places.directory import ImageDirectory
from casync_compat.oci.places.layout import Layout
from casync_compat.oci.places.oci_archive import OciArchive
from casync_compat.oci.places.selection import look_up
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.spec.reference import parse_reference
from casync_compat.store.base import ChunkSource

__all__ = ["PackSeeds"]

_PLACES: dict[str, type[Layout] | type[ImageDirectory] | type[OciArchive]] = {
    "oci": Layout,
    "dir": ImageDirectory,
    "oci-archive": OciArchive,
}


class PackSeeds(Closing):
    """The packs of the converted images that a name stands for.

    :param name: of an image in a layout or an archive of one
    :ivar path: of the layout or archive
    :raises UsageError: it is no such name
    :raises ImageError: there is no converted image
    """

    def __init__(self, name: str) -> None:
        reference = parse_reference(name)
        if reference.transport not in _PLACES:
            raise UsageError(f"{name}: an image that is a seed must be in a layout, as oci:DIRECTORY:TAG")
        self.path = os.fsencode(reference.place)
        self._images: list[WrappedImage] = []
        self._place = _PLACES[reference.transport](self.path)
        try:
            found = look_up(self._place, reference.target)
            if not found.wrappers:
                raise ImageError(found.where, "it is not a converted image, which alone has chunks")
            for choice in found.wrappers:
                self._images.append(WrappedImage.open(self._place, choice.descriptor, found.where))
            self.sources: tuple[ChunkSource, ...] = tuple(image.packs for image in self._images)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the place."""
        for image in self._images:
            image.close()
        self._place.close()
