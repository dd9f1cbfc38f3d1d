"""Repack a converted image: all its chunks anew into full packs, none of them dead weight.

    >>> repack(layout, "debian", None)

Thin packs leave behind chunks that only earlier versions used. Chunks move as they lie, without being compressed again,
each checked on the way; indexes, recipes and config stay what they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

from casync_compat.compression import Compression
from casync_compat.oci.image.chunkspool import ChunkSpool
from casync_compat.oci.image.packwriter import BasePacks, write_packs
from casync_compat.oci.image.wrapped import WrappedImage
from casync_compat.oci.places.selection import look_up
from casync_compat.oci.spec import media
from casync_compat.oci.spec.blobs import WritablePlace
from casync_compat.oci.spec.descriptor import Descriptor
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.spec.wrapper import Wrapper
from casync_compat.progress import ProgressCallback, Reporter

__all__ = ["Repacked", "repack"]


@dataclass(frozen=True, slots=True)
class Repacked:
    """What became of an image's packs: how many, and their size in bytes, before and after."""

    descriptor: Descriptor
    packs_before: int
    bytes_before: int
    packs_after: int
    bytes_after: int


def repack(
    place: WritablePlace,
    tag: str,
    on_image: Callable[[Repacked], None] | None = None,
    *,
    progress: ProgressCallback | None = None,
) -> Descriptor:
    """Repack all converted images that a tag leads to, and let it name the new ones.

    :returns: what the tag names now
    :raises StoreError: a chunk is missing or corrupt
    """
    found = look_up(place, tag)
    if not found.wrappers:
        raise ImageError(found.where, "it is not a converted image; there is nothing to repack")
    new: dict[str, Descriptor] = {}
    reporter = Reporter(progress)
    for choice in found.wrappers:
        with WrappedImage.open(place, choice.descriptor, found.where) as image:
            done = _repack(place, image, reporter)
        new[str(choice.descriptor.digest)] = done.descriptor
        if on_image is not None:
            on_image(done)
    if found.index is None:
        root = next(iter(new.values()))
    else:
        entries = []
        for entry in found.index.entries():
            moved = new.get(entry["digest"])
            members = {"digest": str(moved.digest), "size": moved.size} if moved is not None else {}
            entries.append({**entry, **members})
        index = found.index.spliced(entries, found.where)
        root = index.descriptor
        place.put_manifest(root, index.raw)
    if root.digest != found.root.digest and not place.swap_tag(tag, root, found.root):
        raise ImageError(found.where, "somebody else moved the tag meanwhile; repack again")
    return root


def _repack(place: WritablePlace, image: WrappedImage, reporter: Reporter) -> Repacked:
    old = image.wrapper
    with ChunkSpool(Compression.ZSTD, lambda _: True) as nothing_new:
        packed = write_packs(
            chain.from_iterable(image.index(number).ids() for number in range(len(image))),
            nothing_new,
            place,
            digest=image.config.digest,
            media_type=media.PACK_ZSTD
            if all(pack.media_type == media.PACK_ZSTD for pack in old.packs)
            else media.PACK,
            base=BasePacks(place, old.packs, image.packs),
            repack=True,
            progress=reporter,
        )
    pack_index = Descriptor.of(media.PACK_INDEX, packed.index.raw)
    place.put(pack_index, [packed.index.raw])
    wrapper = Wrapper.build(
        old.config,
        old.source_config,
        old.source_manifest,
        pack_index,
        [(blobs, image.diff_id(number)) for number, blobs in enumerate(old.layers)],
        packed.packs,
        squashed=old.squashed,
    )
    place.put_manifest(wrapper.manifest.descriptor, wrapper.manifest.raw)
    return Repacked(
        wrapper.manifest.descriptor,
        len(old.packs),
        sum(pack.size for pack in old.packs),
        len(packed.packs),
        sum(pack.size for pack in packed.packs),
    )
