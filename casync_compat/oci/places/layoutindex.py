"""What is written in a layout's own files, `oci-layout` and `index.json`. Bytes and values, no files.

>>> entries = index_entries(load_index(data, "oci:images"), "oci:images")
>>> resolve_entry(entries, "debian", "oci:images", "oci:DIRECTORY:TAG")
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from casync_compat.oci.spec import media
from casync_compat.oci.spec.blobs import MANIFEST_LIMIT
from casync_compat.oci.spec.descriptor import Descriptor, parse_json
from casync_compat.oci.spec.errors import ImageError

__all__ = ["check_version", "index_entries", "load_index", "resolve_entry", "tags_of"]

_VERSION = "1.0.0"


def check_version(data: bytes, name: str) -> None:
    """That `oci-layout` is of a version that is known.

    :raises ImageError: it is not, or malformed
    """
    version = parse_json(data, f"{name}, oci-layout").get("imageLayoutVersion")
    if version != _VERSION:
        raise ImageError(name, f"image layouts of version {str(version)[:20]} are not supported")


def load_index(data: bytes, name: str) -> dict[str, Any]:
    """`index.json` as JSON, with a list of manifests.

    :raises ImageError: it is malformed
    """
    if len(data) > MANIFEST_LIMIT:
        raise ImageError(name, f"index.json is larger than {MANIFEST_LIMIT} bytes")
    document = parse_json(data, f"{name}, index.json")
    if document.get("manifests") is None:
        document["manifests"] = []  # Go writes an empty list as null, `umoci init` for one
    if not isinstance(document["manifests"], list):
        raise ImageError(name, "index.json has no list of manifests")
    return document


def index_entries(document: dict[str, Any], name: str) -> list[Descriptor]:
    """What it names. :raises ImageError: an entry is malformed"""
    return [Descriptor.from_json(entry, f"{name}, index.json") for entry in document["manifests"]]


def tags_of(entries: Sequence[Descriptor]) -> list[str]:
    """The names of all images, sorted."""
    names = (entry.annotations.get(media.REF_NAME) for entry in entries)
    return sorted({name for name in names if name})


def resolve_entry(
    entries: Sequence[Descriptor], reference: str | None, name: str, form: str
) -> Descriptor | None:
    """The entry that a tag or digest means, or the only one; None for a digest that is not among them.

    :param form: how an image's name is written here, for a message
    :raises ImageError: there is no such tag, or several images have it
    """
    if reference is None:
        found = list(entries)
        if not found:
            raise ImageError(name, "there are no images in it")
    elif reference.startswith("sha256:"):
        found = [entry for entry in entries if str(entry.digest) == reference]
        if not found:
            return None
    else:
        found = [entry for entry in entries if entry.annotations.get(media.REF_NAME) == reference]
        if not found:
            known = ", ".join(tags_of(entries)[:20]) or "no tags at all"
            raise ImageError(name, f"there is no image tagged {reference!r}; there are: {known}")
    if len({entry.digest for entry in found}) > 1:
        which = f"tagged {reference!r}" if reference is not None else "in it"
        raise ImageError(name, f"there are several images {which}; say which with {form}")
    return found[0]
