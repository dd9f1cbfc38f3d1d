"""Which manifests a tag leads to: plain images, converted ones, and what else an image index names.

    >>> found = look_up(place, "debian")
    >>> found.choose_plain(Platform.parse("linux/amd64"))

A tag names a manifest, or an index of several. In an index, a converted image is known by its annotations and never by
`artifactType`, which older tools drop when they copy.
"""

from __future__ import annotations

import platform as machine
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from casync_compat.errors import AccessDenied
from casync_compat.oci.places.originalindex import noted_index
from casync_compat.oci.spec import media
from casync_compat.oci.spec.blobs import Place, WritablePlace
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor, Platform
from casync_compat.oci.spec.errors import BlobError, ImageError, NoSuchPlatform
from casync_compat.oci.spec.manifest import ImageConfig, ImageIndex, ImageManifest, parse_document
from casync_compat.oci.spec.platforms import kernel_named, normalized, runnable
from casync_compat.oci.spec.wrapper import Wrapper, WrapperConfig

__all__ = ["Choice", "Found", "host_platform", "look_into", "look_up", "named_before"]

Warn = Callable[[str], None]
_DEPTH = 4
_MOST = 1000
_ARM = re.compile(r"armv([5-8])\w*")


def host_platform() -> Platform:
    """The platform that this program runs on."""
    name = machine.machine()
    arm = _ARM.fullmatch(name)
    found = Platform("linux", "arm", f"v{arm[1]}") if arm else kernel_named(Platform("linux", name))
    return normalized(found)


def _silent(text: str) -> None:
    pass


class _TooMany(ImageError):
    """Nobody goes through all that."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A manifest that a tag leads to.

    :ivar descriptor: as the index has it, or as the tag resolved
    :ivar platform: None when nobody says; an image without one in its index has that of its config
    :ivar of: for a converted image, the digest of the plain one as text, if that is noted
    """

    descriptor: Descriptor
    platform: Platform | None
    of: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """What a tag leads to.

    :ivar place: where it is
    :ivar root: the manifest or index that the tag names
    :ivar index: the index, None when the tag names a manifest
    :ivar plain: images, in the order of the index
    :ivar wrappers: converted images
    :ivar others: artifacts such as attestations
    """

    place: Place
    where: str
    root: Descriptor
    index: ImageIndex | None
    plain: tuple[Choice, ...]
    wrappers: tuple[Choice, ...]
    others: tuple[Descriptor, ...]

    @property
    def noted(self) -> ImageIndex | None:
        """The index that converted images were made of, where it is kept."""
        return next(filter(None, (noted_index(one.descriptor.annotations) for one in self.wrappers)), None)

    @property
    def subjects(self) -> list[BlobDigest]:
        """What others may be about: the root, the images beneath it, and those that converted ones were made of."""
        found = [self.root.digest, *(one.descriptor.digest for one in (*self.plain, *self.wrappers))]
        if self.noted is not None:
            found.append(self.noted.descriptor.digest)
        for one in self.wrappers:
            with suppress(ImageError):
                found.append(BlobDigest.parse(one.of))
        return list(dict.fromkeys(found))

    def choose_plain(
        self, wanted: Platform | None, everything: bool = False, warn: Warn = _silent
    ) -> list[Choice]:
        """The plain images asked for: all, that of a platform, or the only one, or that of this machine.

        :param warn: told that another platform was asked for than that of an image which is in no index
        :raises ImageError: there is none, or several and none for this machine, or an index has none for the platform
        """
        return self._chosen(self.plain, wanted, everything, "image", warn)

    def choose_wrappers(
        self, wanted: Platform | None, everything: bool = False, warn: Warn = _silent
    ) -> list[Choice]:
        """The converted images asked for, in the same way. One for which no index names a platform has that of its
        config, which is read if it counts."""
        if not self.wrappers:
            raise ImageError(
                self.where, "it is not a converted image; convert it with `pycasync oci convert`"
            )
        choices = self.wrappers
        if not everything and (wanted is not None or len(choices) > 1):
            choices = tuple(map(self._with_platform, choices))
        return self._chosen(choices, wanted, everything, "converted image", warn)

    def _chosen(
        self, choices: Sequence[Choice], wanted: Platform | None, everything: bool, what: str, warn: Warn
    ) -> list[Choice]:
        if self.index is None and wanted is not None and not everything:
            for one in choices:
                if one.platform is not None and not runnable(wanted, [one.platform]):
                    warn(
                        f"{self.where}: this is an image for {one.platform} and the only one, not one for {wanted}"
                    )
                return [one]
        return _choose(choices, wanted, everything, self.where, what)

    def _with_platform(self, choice: Choice) -> Choice:
        if choice.platform is not None:
            return choice
        try:
            data = self.place.read_manifest(choice.descriptor)
            manifest = ImageManifest.parse(data, self.where, choice.descriptor.media_type)
            config = Wrapper.of(manifest, self.where).config
            platform = WrapperConfig.parse(self.place.read(config), f"{self.where}, config").platform
        except (BlobError, ImageError):
            return choice  # what is wrong with it is told if it is chosen
        return replace(choice, platform=platform)


def _choose(
    choices: Sequence[Choice], wanted: Platform | None, everything: bool, where: str, what: str
) -> list[Choice]:
    if not choices:
        raise ImageError(where, f"there is no {what} in it")
    if everything or (wanted is None and len(choices) == 1):
        return list(choices)
    target = wanted or host_platform()
    runs = runnable(target, [choice.platform for choice in choices])
    if runs:
        return [choices[runs[0]]]
    if wanted is not None and len(choices) == 1 and choices[0].platform is None:
        return list(choices)
    known = ", ".join(str(choice.platform or "") or "one that names none" for choice in choices[:20])
    raise NoSuchPlatform(where, f"there is no {what} for {target}; there are: {known}")


def look_up(place: Place, reference: str | None) -> Found:
    """Follow a tag or digest.

    :raises ImageError: there is no such image, or something in it is malformed
    """
    return look_into(place, place.resolve(reference), reference)


def named_before(sink: WritablePlace, tag: str) -> Descriptor | None:
    """What a tag names that is about to be written; None when that is nothing.

    A repository that is yet to be made may not be read, say some registries (quay, Artifactory). Whoever may not write
    either is told so by the first blob.
    """
    try:
        return sink.resolve_or_none(tag)
    except AccessDenied:
        return None


def look_into(
    place: Place, root: Descriptor, reference: str | None = None, *, tolerant: bool = False
) -> Found:
    """What a manifest or index leads to.

    :param tolerant: take nested indexes that cannot be looked into for something else
    """
    where = place.name if reference is None else f"{place.name}:{reference}"
    document = parse_document(place.read_manifest(root), where, root.media_type)
    # What a layout notes beside a tag is about the tag.
    root = Descriptor(root.media_type, root.digest, root.size)
    if isinstance(document, ImageManifest):
        if document.is_wrapper:
            of = next(
                (str(one.digest) for one in document.layers if one.media_type == media.SOURCE_MANIFEST), ""
            )
            return Found(place, where, root, None, (), (Choice(root, None, of),), ())
        if document.is_image:
            config = ImageConfig.parse(place.read(document.config), f"{where}, config")
            return Found(place, where, root, None, (Choice(root, config.platform),), (), ())
        return Found(place, where, root, None, (), (), (root,))
    plain: list[Choice] = []
    wrappers: list[Choice] = []
    others: list[Descriptor] = []
    _sort(place, document, where, (plain, wrappers, others), 0, tolerant)
    return Found(place, where, root, document, tuple(plain), tuple(wrappers), tuple(others))


def _sort(
    place: Place,
    index: ImageIndex,
    where: str,
    into: tuple[list[Choice], list[Choice], list[Descriptor]],
    depth: int,
    tolerant: bool,
) -> None:
    plain, wrappers, others = into
    deeper: list[Choice] = []  # a converted image that was spliced in above counts more
    for entry in index.manifests:
        if len(plain) + len(wrappers) + len(deeper) + len(others) >= _MOST:
            raise _TooMany(where, f"the image index names more than {_MOST} manifests")
        platform = entry.platform
        if entry.annotations.get(media.NOTE_TYPE) == media.TYPE_IMAGE:
            noted = entry.annotations.get(media.NOTE_PLATFORM)
            wrappers.append(
                Choice(
                    entry, Platform.parse(noted) if noted else None, entry.annotations.get(media.NOTE_OF, "")
                )
            )
        elif entry.media_type in media.INDEX_TYPES:
            before = [len(found) for found in (plain, deeper, others)]
            try:
                if depth >= _DEPTH:
                    raise ImageError(where, "image indexes are nested too deeply")
                nested = parse_document(place.read_manifest(entry), where, entry.media_type)
                if isinstance(nested, ImageIndex):
                    _sort(place, nested, where, (plain, deeper, others), depth + 1, tolerant)
            except _TooMany:
                raise
            except (BlobError, ImageError):
                if not tolerant:
                    raise
                del plain[before[0] :], deeper[before[1] :], others[before[2] :]
                others.append(entry)
        elif entry.media_type in media.MANIFEST_TYPES and platform is None:
            _sort_unnamed(place, entry, where, (plain, wrappers, others))
        elif entry.media_type in media.MANIFEST_TYPES and platform is not None and platform.os != "unknown":
            plain.append(Choice(entry, platform))
        else:
            others.append(entry)
    wrappers.extend(deeper)


def _sort_unnamed(
    place: Place,
    entry: Descriptor,
    where: str,
    into: tuple[list[Choice], list[Choice], list[Descriptor]],
) -> None:
    """A manifest for which the index names no platform: only its own text tells an image from an artifact."""
    plain, wrappers, others = into
    try:
        manifest = ImageManifest.parse(place.read_manifest(entry), where, entry.media_type)
        if manifest.is_wrapper:
            wrappers.append(Choice(entry, None))
        elif manifest.is_image:
            config = ImageConfig.parse(place.read(manifest.config), f"{where}, config")
            plain.append(Choice(entry, config.platform))
        else:
            others.append(entry)
    except (BlobError, ImageError):
        plain.append(Choice(entry, None))  # what is wrong with it is told if it is chosen
