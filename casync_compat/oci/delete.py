"""Delete an image: a tag of a layout, or a manifest of a registry with every tag that names it.

Blobs stay: `casync_compat.oci.gc` takes them from layouts, registries collect their own.
"""

from __future__ import annotations

from casync_compat.errors import UsageError
from casync_compat.oci.places.layout import Layout
from casync_compat.oci.registry.repository import Repository
from casync_compat.oci.spec.blobs import WritablePlace
from casync_compat.oci.spec.descriptor import Descriptor
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.spec.reference import Reference

__all__ = ["delete_image"]


def delete_image(place: WritablePlace, reference: Reference, *, dry_run: bool = False) -> Descriptor:
    """Delete what a reference names.

    :returns: what it named
    :raises ImageError: there is no such image, or it has other tags in the registry, which would go with it
    :raises RemoteError: the registry does not allow it
    :raises UsageError: a layout's image is named by its digest, or the place is of another kind
    """
    found = place.resolve(reference.target)
    if isinstance(place, Layout):
        if reference.tag is None:
            raise UsageError(f"{reference}: a layout loses tags; name the tag")
        if not dry_run and not place.retag({reference.tag: None}, found):
            raise ImageError(place.name, f"somebody else changed {reference.tag!r} at the same time")
        return found
    if not isinstance(place, Repository):
        raise UsageError(f"{reference}: images of layouts and registries can be deleted")
    if reference.digest is None:
        same = [tag for tag in place.tags() if tag != reference.tag and _names(place, tag, found)]
        if same:
            raise ImageError(
                str(reference),
                f"{', '.join(map(repr, same[:5]))} would go, too, being the same image; name it by its digest, "
                f"@{found.digest}, to delete all",
            )
    if not dry_run and not place.delete_manifest(found):
        raise ImageError(str(reference), "somebody else deleted it at the same time")
    return found


def _names(place: WritablePlace, tag: str, descriptor: Descriptor) -> bool:
    other = place.resolve_or_none(tag)
    return other is not None and other.digest == descriptor.digest
