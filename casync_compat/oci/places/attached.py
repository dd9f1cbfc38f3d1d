"""What is said of an image elsewhere than in it: signatures, attestations, bills of material, which travel along.

    >>> found = find_attached(source, [root.digest])
    >>> copy_attached(source, found, sink)

Two ways are in use. cosign names its manifests by tags made of the image's digest: `sha256-<hex>.sig`, `.att`, `.sbom`.
OCI 1.1 has manifests with a `subject`, which a registry lists (distribution-spec, "Listing Referrers"); where it does
not, and in layouts, the tag `sha256-<hex>` names an index of them. What they say is nobody's business here, and whether
a signature is right is asked of the program that made it. Attestations of buildkit are in the image's own index.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, runtime_checkable

from casync_compat.errors import RemoteError
from casync_compat.oci.places.graph import Graph, walk
from casync_compat.oci.places.selection import Found
from casync_compat.oci.spec import media
from casync_compat.oci.spec.blobs import Place, WritablePlace
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor
from casync_compat.oci.spec.errors import BlobError, ImageError
from casync_compat.oci.spec.manifest import ImageIndex, parse_document

__all__ = ["Attached", "attestations", "copy_attached", "copy_beneath", "find_attached"]

_MOST_TAGS = 10_000
_MOST = 500
_SUFFIXES = ("", ".sig", ".att", ".sbom")
_NAME = re.compile(r"(sha256-[0-9a-f]{64}|sha512-[0-9a-f]{128})(\.[a-z][a-z0-9]*)?")


@dataclass(frozen=True, slots=True)
class Attached:
    """A manifest that is about another one.

    :ivar subject: digest of the other one
    :ivar tag: that names it; empty for a referrer
    """

    subject: BlobDigest
    descriptor: Descriptor
    tag: str = ""


@runtime_checkable
class _Paged(Protocol):
    def iter_tags(self) -> Iterator[str]: ...


def find_attached(
    place: Place, subjects: Iterable[BlobDigest], warn: Callable[[str], None] = lambda text: None
) -> list[Attached]:
    """What is attached to manifests, and to that in turn.

    A registry that does not list its tags is asked for those of the first subject alone.

    :param warn: told that a registry fails when it is asked; the image is whole without it
    """
    todo = list(dict.fromkeys(subjects))
    known = set(todo)
    tags = _tags(place)
    found: list[Attached] = []
    for subject in todo:  # grows meanwhile
        some = tags if tags is not None else _guesses(subject, subject == todo[0])
        try:
            for one in _of(place, subject, some):
                if len(found) >= _MOST:
                    return found
                found.append(one)
                if one.descriptor.digest not in known:
                    known.add(one.descriptor.digest)
                    todo.append(one.descriptor.digest)
        except RemoteError as error:
            warn(f"signatures and attestations of {subject} cannot be looked for: {error}")
            break
    return found


def _tags(place: Place) -> frozenset[str] | None:
    """All tags that may matter; None where nobody knows them."""
    try:
        names = list(islice(place.iter_tags() if isinstance(place, _Paged) else place.tags(), _MOST_TAGS + 1))
    except RemoteError:
        return None
    return frozenset(filter(_NAME.fullmatch, names)) if len(names) <= _MOST_TAGS else None


def _guesses(subject: BlobDigest, likely: bool) -> frozenset[str]:
    return frozenset(_stem(subject) + suffix for suffix in _SUFFIXES if likely)


def _stem(subject: BlobDigest) -> str:
    return f"{subject.algorithm}-{subject.hex}"


def _of(place: Place, subject: BlobDigest, tags: frozenset[str]) -> Iterator[Attached]:
    stem = _stem(subject)
    for tag in sorted(tags):
        if tag.startswith(f"{stem}."):
            try:
                yield Attached(subject, _bare(place.resolve(tag)), tag)
            except ImageError:
                continue  # there is none
    listed = place.referrers(subject)
    if listed is None:
        listed = _listed(place, stem) if stem in tags else ()
    for descriptor in listed:
        yield Attached(subject, descriptor)


def _bare(descriptor: Descriptor) -> Descriptor:
    return Descriptor(descriptor.media_type, descriptor.digest, descriptor.size)


def _listed(place: Place, tag: str) -> Sequence[Descriptor]:
    """What a tag in place of a registry's list names."""
    try:
        at = place.resolve(tag)
        document = parse_document(place.read_manifest(at), f"{place.name}:{tag}", at.media_type)
    except (ImageError, BlobError):
        return ()
    return document.manifests if isinstance(document, ImageIndex) else ()


def copy_attached(
    source: Place,
    found: Sequence[Attached],
    sink: WritablePlace,
    warn: Callable[[str], None] = lambda text: None,
) -> int:
    """Copy what is attached, and attach it again.

    :param warn: told what cannot be had or is not taken; the image is whole without it
    :returns: how many are there now
    """
    done = 0
    by_subject: dict[BlobDigest, list[Descriptor]] = {}
    for one in found:
        try:
            graph = walk(source, one.descriptor)
            top = graph.manifests.pop(one.descriptor.digest)
            _copy(source, graph, sink)
            if one.tag:
                sink.put_beside(one.tag, *top)
            else:
                sink.put_manifest(*top)
                by_subject.setdefault(one.subject, []).append(one.descriptor)
        except (BlobError, ImageError, RemoteError) as error:
            warn(f"what is attached to {one.subject} is left out: {error}")
            continue
        done += 1
    for subject, descriptors in by_subject.items():
        if sink.referrers(subject) is None:
            _list(sink, subject, descriptors)
    return done


def attestations(found: Found, images: Iterable[BlobDigest | str]) -> list[Descriptor]:
    """The attestations of some images that stand in their index, as buildkit puts them there."""
    wanted = {str(digest) for digest in images}
    return [one for one in found.others if one.annotations.get(media.NOTE_ABOUT) in wanted]


def copy_beneath(source: Place, roots: Iterable[Descriptor], sink: WritablePlace) -> None:
    """Copy manifests with all that they name.

    :raises BlobError: something is missing or corrupt
    """
    if source is sink:
        return
    for root in roots:
        _copy(source, walk(source, root), sink)


def _copy(source: Place, graph: Graph, sink: WritablePlace) -> None:
    for blob in graph.blobs.values():
        sink.borrow(blob, source)
    for descriptor, data in graph.manifests.values():
        sink.put_manifest(descriptor, data)


def _list(sink: WritablePlace, subject: BlobDigest, new: Sequence[Descriptor]) -> None:
    """Name referrers by a tag, where no registry lists them."""
    tag = _stem(subject)
    there = _listed(sink, tag) if sink.resolve_or_none(tag) is not None else ()
    known = {one.digest for one in there}
    missing = [one for one in new if one.digest not in known]
    if missing:
        index = ImageIndex.build([*there, *missing])
        sink.put_beside(tag, index.descriptor, index.raw)
