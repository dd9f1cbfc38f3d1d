"""Convert images: layers become casync indexes over chunks in packs, in an artifact beside the image or instead of it.

    >>> result = convert(source, "debian", sink, "debian", ConvertOptions(thin=True))

The order of things is what keeps a failure harmless: layers are checked before they are used, converted ones before
they are stored, blobs are there before a manifest names them, and the tag moves last. Whatever is left by a run that
failed is named by nothing, and garbage collection takes it away.

The same image gives the same bytes, with any number of threads and on any machine with the same zstd. With a base (what
the tag named before) only chunks that it has not are stored; then packs also depend on the base.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from casync_compat.oci.image.conversion import Conversion, Converted, ConvertOptions
from casync_compat.oci.image.wrapped import WrappedImage
from casync_compat.oci.places.attached import attestations, copy_attached, copy_beneath, find_attached
from casync_compat.oci.places.originalindex import note_of
from casync_compat.oci.places.selection import Choice, Found, look_into, look_up, named_before
from casync_compat.oci.spec import media
from casync_compat.oci.spec.blobs import Place, WritablePlace
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor, Platform
from casync_compat.oci.spec.errors import BlobError, ImageError
from casync_compat.oci.spec.manifest import ImageIndex, ImageManifest
from casync_compat.oci.spec.platforms import normalized
from casync_compat.progress import ProgressCallback, Reporter

__all__ = ["ConvertOptions", "ConvertResult", "Converted", "convert"]


@dataclass(frozen=True, slots=True)
class ConvertResult:
    """What a run made.

    :ivar descriptor: what the tag names now
    :ivar left_out: artifacts beside the image that were not taken along, being about none of the images
    :ivar attached: signatures, attestations and the like that are there, too
    :ivar unfit: digests that some of those are about and the tag does not lead to
    """

    descriptor: Descriptor
    images: tuple[Converted, ...]
    left_out: tuple[Descriptor, ...]
    attached: int = 0
    unfit: tuple[BlobDigest, ...] = ()


def convert(
    source: Place,
    reference: str | None,
    sink: WritablePlace,
    tag: str,
    options: ConvertOptions,
    *,
    base: tuple[Place, str | None] | None = None,
    progress: ProgressCallback | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> ConvertResult:
    """Convert an image, or an index of several, and let `tag` name the result.

    :param base: another image to build upon than what the tag names now
    :param warn: told what is not as it was asked for
    :raises ImageError: the image is malformed, or contradicts itself
    :raises BlobError: a blob is missing or corrupt
    """
    found = look_up(source, reference)
    if not found.plain and found.wrappers:
        raise ImageError(found.where, "it is converted already; use `pycasync oci push` or `pull` to copy it")
    choices = found.choose_plain(options.platform, options.all_platforms, warn)
    before = named_before(sink, tag)
    now = _look(sink, before)
    reporter = Reporter(progress)
    with ExitStack() as stack:
        bases = _open_bases(stack, sink, now, base, options)
        there = _manifests(sink, now)
        if not options.thin:
            _assume_plain(sink, now, choices)
        runs = [Conversion(source, sink, choice, options, bases, there, reporter) for choice in choices]
        made = [(run.run(), run.raw) for run in runs]
    stays = now if now is not None and _leads_to(now, made) else None
    plain = [choice.descriptor.digest for choice in choices]
    about = attestations(found, plain)
    copy_beneath(source, about, sink)
    attached = find_attached(source, [found.root.digest, *plain], warn)
    if attached and not sink.roomy:
        warn(f"{sink.name}: there is no room for the {len(attached)} signatures or attestations of the image")
        attached = []
    carried = len(attached) if source is sink else copy_attached(source, attached, sink, warn)
    note = note_of(found.index, found.noted, [*plain, *(one.digest for one in about)])
    root = _publish(sink, tag, before, now, stays, made, _Beside(about, note), options)
    kept = {one.digest for one in (*about, *(stays.others if stays is not None else ()))}
    left_out = tuple(one for one in found.others if one.digest not in kept)
    holds = {root.digest, *(one.descriptor.digest for one in attached), *(() if options.thin else plain)}
    unfit = tuple(dict.fromkeys(one.subject for one in attached if one.subject not in holds))
    return ConvertResult(root, tuple(image for image, _ in made), left_out, carried, unfit)


def _look(sink: WritablePlace, before: Descriptor | None) -> Found | None:
    """What the tag leads to now; None when that is nothing, or too broken to be built upon."""
    try:
        return look_into(sink, before, tolerant=True) if before is not None else None
    except (ImageError, BlobError):
        return None


def _manifests(sink: WritablePlace, found: Found | None) -> frozenset[BlobDigest]:
    """The manifests that the tag's index names: a registry that took it has them, and their blobs."""
    if found is None or found.index is None or sink.near:
        return frozenset()
    return frozenset(entry.digest for entry in found.index.manifests)


def _assume_plain(sink: WritablePlace, now: Found | None, choices: Sequence[Choice]) -> None:
    """What the tag's plain images of the same platforms have is there: nobody needs to look for each layer."""
    if now is None or sink.near:
        return
    platforms = {normalized(one.platform) for one in choices if one.platform is not None}
    for old in now.plain:
        if old.platform is not None and normalized(old.platform) in platforms:
            with suppress(ImageError, BlobError):
                data = sink.read_manifest(old.descriptor)
                sink.assume(ImageManifest.parse(data, now.where, old.descriptor.media_type).blobs)


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


def wrapper_entry(image: Converted, notes: Mapping[str, str]) -> Descriptor:
    """How an index names a converted image: no runtime takes it for one that it could run."""
    return Descriptor(
        image.descriptor.media_type,
        image.descriptor.digest,
        image.descriptor.size,
        {
            media.NOTE_TYPE: media.TYPE_IMAGE,
            media.NOTE_PLATFORM: str(image.platform),
            media.NOTE_OF: str(image.plain.digest),
            **notes,
        },
        Platform("unknown", "unknown"),
    )


@dataclass(frozen=True, slots=True)
class _Beside:
    """What stands beside images in an index.

    :ivar about: attestations that the source's index names, and that are there
    :ivar note: annotations that keep the source's index, for one of the converted images
    """

    about: Sequence[Descriptor]
    note: Mapping[str, str]

    def entries(self, images: Sequence[Converted]) -> dict[str, Descriptor]:
        """How the index names converted images, by the digests of those that they were made of."""
        notes = [self.note, *({} for _ in images[1:])]
        return {
            str(image.plain.digest): wrapper_entry(image, note)
            for image, note in zip(images, notes, strict=True)
        }


def _publish(
    sink: WritablePlace,
    tag: str,
    before: Descriptor | None,
    now: Found | None,
    stays: Found | None,
    made: list[tuple[Converted, bytes]],
    beside: _Beside,
    options: ConvertOptions,
) -> Descriptor:
    """Let the tag name the images.

    :param now: what it leads to
    :param stays: the same where that is these very images, and nothing may be taken from it
    :param made: what is known of each, and its manifest
    """
    unchanged = now.root.digest if now is not None and not sink.near else None
    images = [image for image, _ in made]
    if stays is not None and stays.index is not None:
        entries = _entries(stays, stays.index, images, beside.entries(images), options.thin)
        there = {entry["digest"] for entry in entries}
        entries += [one.to_json() for one in beside.about if str(one.digest) not in there]
        index = stays.index.spliced(entries, stays.where)
    else:
        plain = [] if options.thin else [image.plain for image in images]
        index = ImageIndex.build([*plain, *beside.entries(images).values(), *beside.about])
    root, raw = index.descriptor, index.raw
    rest = made
    if options.thin and _is_only(index, images):
        root, raw, rest = images[0].descriptor, made[0][1], []
    if root.digest == unchanged:
        return root  # a registry that has it has what it names
    for image, data in rest:
        sink.put_manifest(image.descriptor, data)
    if stays is None:
        sink.put_tagged(tag, root, raw)
        return root
    sink.put_manifest(root, raw)
    if not sink.swap_tag(tag, root, before):
        raise ImageError(f"{sink.name}:{tag}", "somebody else moved the tag meanwhile; convert again")
    return root


def _leads_to(now: Found, made: list[tuple[Converted, bytes]]) -> bool:
    """Whether the tag leads to one of these very images, plain or converted, at any depth."""
    ours = {str(image.plain.digest) for image, _ in made}
    return any(str(one.descriptor.digest) in ours for one in now.plain) or any(
        one.of in ours for one in now.wrappers
    )


def _is_only(index: ImageIndex, images: list[Converted]) -> bool:
    """Whether an index says nothing but that there is this one converted image."""
    digests = [entry.digest for entry in index.manifests]
    return digests == [image.descriptor.digest for image in images[:1]] and not index.annotations


def _entries(
    now: Found, old: ImageIndex, images: list[Converted], named: Mapping[str, Descriptor], thin: bool
) -> list[dict[str, Any]]:
    """The entries of the tag's index with the images' converted forms among them. What else is there stays as it is:
    other images, nested indexes, artifacts, and every note on any of them. Without `thin` nothing is taken away but
    converted forms that are replaced; with it also the plain images' own entries."""
    new = {str(image.plain.digest): image for image in images}
    out: list[dict[str, Any]] = []
    placed: set[str] = set()
    for entry in old.entries():
        notes = entry.get("annotations") or {}
        of = notes.get(media.NOTE_OF, "")
        if notes.get(media.NOTE_TYPE) == media.TYPE_IMAGE and of in new and of not in placed:
            placed.add(of)
            if entry["digest"] != str(new[of].descriptor.digest):
                ours = named[of].to_json()
                entry = {**entry, **ours, "annotations": {**notes, **ours["annotations"]}}
            out.append(entry)
        elif not (thin and entry["digest"] in new):
            out.append(entry)
    there = {str(choice.descriptor.digest) for choice in (*now.plain, *now.wrappers)}
    for of, image in new.items():
        if of not in placed and str(image.descriptor.digest) not in there:
            out.append(named[of].to_json())
    if thin:
        return out
    return [image.plain.to_json() for of, image in new.items() if of not in there] + out
