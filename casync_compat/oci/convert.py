"""Convert images: layers become casync indexes over chunks in packs, in an artifact beside the image or instead of it.

    >>> result = convert(source, "debian", sink, "debian", ConvertOptions(thin=True))

The order of things is what keeps a failure harmless: layers are checked before they are used, converted ones before
they are stored, blobs are there before a manifest names them, and the tag moves last. Whatever is left by a run that
failed is named by nothing, and garbage collection takes it away.

The same image gives the same bytes, with any number of threads and on any machine with the same zstd. With a base (what
the tag named before) only chunks that it has not are stored; then packs also depend on the base.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from casync_compat.oci.image.conversion import Conversion, Converted, ConvertOptions
from casync_compat.oci.image.wrapped import WrappedImage
from casync_compat.oci.places.selection import Found, look_into, look_up
from casync_compat.oci.spec import media
from casync_compat.oci.spec.blobs import Place, WritablePlace
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor, Platform
from casync_compat.oci.spec.errors import BlobError, ImageError
from casync_compat.oci.spec.manifest import ImageIndex
from casync_compat.progress import ProgressCallback, Reporter

__all__ = ["ConvertOptions", "ConvertResult", "Converted", "convert"]


@dataclass(frozen=True, slots=True)
class ConvertResult:
    """What a run made.

    :ivar descriptor: what the tag names now
    :ivar left_out: artifacts beside the image, such as attestations, that were not taken along
    """

    descriptor: Descriptor
    images: tuple[Converted, ...]
    left_out: tuple[Descriptor, ...]


def convert(
    source: Place,
    reference: str | None,
    sink: WritablePlace,
    tag: str,
    options: ConvertOptions,
    *,
    base: tuple[Place, str | None] | None = None,
    progress: ProgressCallback | None = None,
) -> ConvertResult:
    """Convert an image, or an index of several, and let `tag` name the result.

    :param base: another image to build upon than what the tag names now
    :raises ImageError: the image is malformed, or contradicts itself
    :raises BlobError: a blob is missing or corrupt
    """
    found = look_up(source, reference)
    if not found.plain and found.wrappers:
        raise ImageError(found.where, "it is converted already; use `pycasync oci push` or `pull` to copy it")
    choices = found.choose_plain(options.platform, options.all_platforms)
    before = sink.resolve_or_none(tag)
    now = _look(sink, before)
    reporter = Reporter(progress)
    with ExitStack() as stack:
        bases = _open_bases(stack, sink, now, base, options)
        there = _manifests(sink, now)
        runs = [Conversion(source, sink, choice, options, bases, there, reporter) for choice in choices]
        made = [(run.run(), run.raw) for run in runs]
    root = _publish(sink, tag, before, now, made, options)
    return ConvertResult(root, tuple(image for image, _ in made), found.others)


def _look(sink: WritablePlace, before: Descriptor | None) -> Found | None:
    """What the tag leads to now; None when that is nothing, or too broken to be built upon."""
    try:
        return look_into(sink, before) if before is not None else None
    except (ImageError, BlobError):
        return None


def _manifests(sink: WritablePlace, found: Found | None) -> frozenset[BlobDigest]:
    """The manifests that the tag's index names: a registry that took it has them, and their blobs."""
    if found is None or found.index is None or sink.near:
        return frozenset()
    return frozenset(entry.digest for entry in found.index.manifests)


def _open_bases(
    stack: ExitStack,
    sink: WritablePlace,
    now: Found | None,
    base: tuple[Place, str | None] | None,
    options: ConvertOptions,
) -> list[tuple[Platform, WrappedImage]]:
    """The images that may be built upon."""
    place: Place
    if base is not None:
        place, found = base[0], look_up(*base)
        if not found.wrappers:
            raise ImageError(found.where, "the base is not a converted image")
    elif options.base and now is not None:
        place, found = sink, now
    else:
        return []
    out = []
    for choice in found.wrappers:
        try:
            image = stack.enter_context(WrappedImage.open(place, choice.descriptor, found.where))
        except (ImageError, BlobError):
            if base is not None:
                raise
            continue  # of another version, or broken: the new image does without
        if image.config.digest is options.digest:
            out.append((image.config.platform, image))
    return out


# ---- what the tag names


def wrapper_entry(image: Converted) -> Descriptor:
    """How an index names a converted image: no runtime takes it for one that it could run."""
    return Descriptor(
        image.descriptor.media_type,
        image.descriptor.digest,
        image.descriptor.size,
        {
            media.NOTE_TYPE: media.TYPE_IMAGE,
            media.NOTE_PLATFORM: str(image.platform),
            media.NOTE_OF: str(image.plain.digest),
        },
        Platform("unknown", "unknown"),
    )


def _publish(
    sink: WritablePlace,
    tag: str,
    before: Descriptor | None,
    now: Found | None,
    made: list[tuple[Converted, bytes]],
    options: ConvertOptions,
) -> Descriptor:
    """Let the tag name the images.

    :param made: what is known of each, and its manifest
    """
    unchanged = now.root.digest if now is not None and not sink.near else None
    if options.thin and len(made) == 1:
        image, raw = made[0]
        if image.descriptor.digest != unchanged:
            sink.put_tagged(tag, image.descriptor, raw)
        return image.descriptor
    images = [image for image, _ in made]
    entries = [] if options.thin else [image.plain for image in images]
    index, spliced = _index(now, entries + [wrapper_entry(image) for image in images], options)
    root = index.descriptor
    if root.digest == unchanged:
        return root  # a registry that has it has what it names
    for image, raw in made:
        sink.put_manifest(image.descriptor, raw)
    if not spliced:
        sink.put_tagged(tag, root, index.raw)
        return root
    sink.put_manifest(root, index.raw)
    if not sink.swap_tag(tag, root, before):
        raise ImageError(f"{sink.name}:{tag}", "somebody else moved the tag meanwhile; convert again")
    return root


def _index(now: Found | None, entries: list[Descriptor], options: ConvertOptions) -> tuple[ImageIndex, bool]:
    """The index of what was made, and whether entries of the tag's index for other platforms are in it too."""
    old = now.index if now is not None and not options.thin else None
    ours = {str(entry.digest) for entry in entries}
    if old is None or not any(str(entry.digest) in ours for entry in old.manifests):
        return ImageIndex.build(entries), False
    # The tag had this very image: only its converted form is spliced in, all else stays as it is.
    kept = [
        entry
        for entry in old.manifests
        if str(entry.digest) not in ours and entry.annotations.get(media.NOTE_OF) not in ours
    ]
    plain = [entry for entry in entries if media.NOTE_TYPE not in entry.annotations]
    wrappers = [entry for entry in entries if media.NOTE_TYPE in entry.annotations]
    others = [entry for entry in kept if media.NOTE_TYPE not in entry.annotations]
    theirs = [entry for entry in kept if media.NOTE_TYPE in entry.annotations]
    index = ImageIndex.build([*plain, *others, *wrappers, *theirs], annotations=old.annotations)
    return index, bool(kept)
