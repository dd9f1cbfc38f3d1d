"""The image index that a converted image's was made of, kept beside it as a note: a signature may be of its very bytes.

    >>> notes = note_of(index, None, digests)
    >>> noted_index(entry.annotations)

The bytes of what wrote an index cannot be made again. So they stand in an annotation of the converted image's entry, in
base64, where the images and attestations that will be given back are all that the index names.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping

from casync_compat.oci.spec import media
from casync_compat.oci.spec.descriptor import BlobDigest
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.spec.manifest import ImageIndex, parse_document

__all__ = ["names_only", "note_of", "noted_index"]

_MOST = 64 << 10
"""Bytes of an index that is kept: the one that has the note must not become too large for registries."""


def names_only(index: ImageIndex, digests: Iterable[BlobDigest]) -> bool:
    """Whether these are all that an index names."""
    return {entry.digest for entry in index.manifests} == set(digests)


def note_of(
    index: ImageIndex | None, noted: ImageIndex | None, digests: Iterable[BlobDigest]
) -> dict[str, str]:
    """The annotations that keep an index; none where it is not worth it.

    :param noted: what was noted beside it before, which goes on
    :param digests: what will be given back: images, and attestations of them
    """
    digests = list(digests)
    for one in (noted, index):
        if one is not None and len(one.raw) <= _MOST and names_only(one, digests):
            return {media.NOTE_INDEX: base64.b64encode(one.raw).decode()}
    return {}


def noted_index(notes: Mapping[str, str]) -> ImageIndex | None:
    """The index in an entry's annotations; None where there is none, or something else."""
    try:
        raw = base64.b64decode(notes.get(media.NOTE_INDEX, ""), validate=True)
        found = parse_document(raw, "the noted image index")
    except (ValueError, ImageError):
        return None
    return found if isinstance(found, ImageIndex) else None
