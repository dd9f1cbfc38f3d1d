"""Garbage collection of a layout: blobs that nothing in `index.json` leads to, and what dead writers left.

    >>> collect(layout, dry_run=True).removed

Marking is generous: every digest that stands anywhere in a manifest or index counts as used, whatever the member is
called. When a manifest cannot be read, nothing is removed. Nothing is removed either while somebody writes: ours are
told by a lock, other tools by the temporary names that they use.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from casync_compat.errors import FileError, UsageError
from casync_compat.oci.places.layout import STAGING_PREFIX, Layout
from casync_compat.oci.spec import media
from casync_compat.oci.spec.blobs import MANIFEST_LIMIT
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor, parse_json
from casync_compat.oci.spec.errors import ImageError

__all__ = ["Collected", "collect", "reachable"]

_HEX = re.compile(r"[0-9a-f]{64}|[0-9a-f]{128}")
_FOREIGN = (b"oci-put-blob", b".umoci-", b".#")
"""Temporary names of skopeo and umoci, and of a file that is about to be replaced."""
_OLD = 3600.0
"""Seconds after which a temporary file of another tool is taken to be left behind."""
_MOST = 100_000


@dataclass(frozen=True, slots=True)
class Collected:
    """What was removed, or would be.

    :ivar removed: blobs; `freed` is their size in bytes
    :ivar kept: blobs that stay
    :ivar leftovers: temporary files that were taken away
    """

    removed: int
    freed: int
    kept: int
    leftovers: int


def collect(
    layout: Layout, *, dry_run: bool = False, on_blob: Callable[[BlobDigest, int], None] | None = None
) -> Collected:
    """Remove what is not needed.

    :param on_blob: told digest and size of each blob that goes
    :raises UsageError: somebody writes to the layout
    :raises ImageError: a manifest cannot be read, so that nobody can say what is needed
    """
    if not layout.exists:
        raise ImageError(layout.name, "there is no image layout here")
    with layout.alone():
        leftovers = list(_leftovers(layout))
        used = reachable(layout)
        removed = freed = kept = 0
        for digest, path, size in _blobs(layout):
            if digest in used:
                kept += 1
                continue
            if on_blob is not None:
                on_blob(digest, size)
            if not dry_run:
                _remove(path)
            removed += 1
            freed += size
        if not dry_run:
            for path in leftovers:
                _remove(path)
    return Collected(removed, freed, kept, len(leftovers))


def _remove(path: bytes) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise FileError(path, "remove", error) from error


def _leftovers(layout: Layout) -> Iterator[bytes]:
    """Temporary files of writers that are dead. :raises UsageError: one looks alive"""
    now = time.time()
    for name in sorted(os.listdir(layout.path)):
        path = os.path.join(layout.path, name)
        if name.startswith(STAGING_PREFIX) and name.endswith(b".tmp"):
            yield path  # its writer would hold the lock that we hold now
        elif name.startswith(_FOREIGN):
            with suppress(FileNotFoundError):
                status = os.lstat(path)
                if now - status.st_mtime < _OLD:
                    raise UsageError(
                        f"{layout.name} is being written to by another program; try again when that is done"
                    )
                if os.path.isfile(path):
                    yield path


def _blobs(layout: Layout) -> Iterator[tuple[BlobDigest, bytes, int]]:
    """All blobs, each with its file and size; files with other names are left alone."""
    for algorithm, length in (("sha256", 64), ("sha512", 128)):
        directory = os.path.join(layout.path, b"blobs", algorithm.encode())
        try:
            names = sorted(os.listdir(directory))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise FileError(directory, "list", error) from error
        for name in names:
            text = name.decode("ascii", "replace")
            if len(text) == length and _HEX.fullmatch(text):
                path = os.path.join(directory, name)
                yield BlobDigest(algorithm, text), path, os.lstat(path).st_size


def reachable(layout: Layout) -> set[BlobDigest]:
    """Digests of all blobs that `index.json` leads to.

    :raises ImageError: a manifest is malformed
    :raises BlobError: a manifest is missing or corrupt
    """
    used: set[BlobDigest] = set()
    looked_into: set[BlobDigest] = set()
    todo = list(layout.index())
    while todo:
        descriptor = todo.pop()
        used.add(descriptor.digest)
        if descriptor.digest in looked_into or not _has_children(descriptor):
            continue
        looked_into.add(descriptor.digest)
        if len(looked_into) > _MOST:
            raise ImageError(layout.name, f"there are more than {_MOST} manifests in it")
        document = parse_json(layout.read(descriptor, MANIFEST_LIMIT), f"{layout.name}@{descriptor.digest}")
        for value in _objects(document):
            with suppress(ImageError):
                used.add(BlobDigest.parse(value.get("digest")))
                todo.append(Descriptor.from_json(value, layout.name))
    return used


def _has_children(descriptor: Descriptor) -> bool:
    return descriptor.media_type in media.MANIFEST_TYPES | media.INDEX_TYPES


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """All objects within a document that have a digest."""
    todo = [value]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            if "digest" in value:
                yield value
            todo += value.values()
        elif isinstance(value, list):
            todo += value
