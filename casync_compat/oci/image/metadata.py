"""An image's metadata as one EROFS image, its files in a store or named by their fs-verity digests.

    >>> made = stored_metadata(image, files, metadata, reporter)      # a `FileStore`, filled as needed
    >>> made = named_metadata(image, metadata, reporter)              # as mkcomposefs names objects
    >>> made.data

What goes into the image is what `oci unpack` would restore, as `casync_compat.oci.rootfs.metadata` has it; what an
EROFS image cannot hold is counted with the rest. `casync_compat.oci.image.kernelroot` mounts the result.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from casync_compat.errors import show_path
from casync_compat.oci.erofs.fsverity import verity_digest
from casync_compat.oci.erofs.image import write_image
from casync_compat.oci.erofs.overlay import INLINE_MAX, Backing, Contents, compose
from casync_compat.oci.image.filler import Filler, regular_files
from casync_compat.oci.image.storing import StoredFiles
from casync_compat.oci.image.tree import ImageTree
from casync_compat.oci.rootfs.filecache import Stamp
from casync_compat.oci.rootfs.filestore import FileStore
from casync_compat.oci.rootfs.mergedtree import Inode
from casync_compat.oci.rootfs.metadata import Metadata
from casync_compat.oci.rootfs.shared import FILES
from casync_compat.oci.spec.errors import ImageError
from casync_compat.progress import Reporter

__all__ = ["MetadataImage", "named_metadata", "stored_metadata"]

_MOST_HOLES = 4 << 30
"""Bytes of zeros in holes of a file with something else in it that are hashed; few files have a hundredth of that."""
_SEAL = b"1:"
"""Before a SHA-256 of fs-verity's (see `casync_compat.oci.rootfs.verity.measure`)."""


@dataclass(frozen=True, slots=True)
class MetadataImage:
    """An image of metadata.

    :ivar data: what the kernel mounts
    :ivar files: files that it leads to
    :ivar sealed: whether each of them has its fs-verity digest in it
    :ivar stored: files that are new in the store
    :ivar fetched: bytes of contents that had to be fetched
    :ivar stamps: how the store's files were that it leads to, by name
    """

    data: bytearray
    files: int
    sealed: bool
    stored: int
    fetched: int
    stamps: dict[bytes, Stamp] = field(default_factory=dict)


def stored_metadata(
    image: ImageTree,
    files: FileStore,
    metadata: Metadata,
    reporter: Reporter,
    *,
    digests: bool = False,
) -> MetadataImage:
    """Have a store hold all files of an image, and make an image of metadata that leads to them.

    :param digests: compute fs-verity digests, which means reading every file; else only those that the kernel knows
    :raises CasyncError: a file cannot be had, stored, or be in such an image
    """
    _check_holes(image)
    stored = StoredFiles(image, files, metadata, Filler(image, reporter), holes=_MOST_HOLES)
    stored.collect()
    known: dict[bytes, bytes] = {}
    led: dict[bytes, bytes] = {}
    stamps: dict[bytes, Stamp] = {}

    def contents(inode: Inode) -> Backing | bytes | None:
        kept = stored.kept.get(inode)
        if kept is None:
            return None if inode.size > INLINE_MAX else bytes(inode.size)
        if inode.size <= INLINE_MAX:
            return _together(files.pieces(kept), inode.size)
        name = kept.name.removeprefix(FILES + b"/")
        digest = kept.seal.removeprefix(_SEAL) if kept.seal.startswith(_SEAL) else b""
        if digests and not digest:
            digest = known.get(name) or verity_digest(files.pieces(kept), inode.size)
            known[name] = digest
        led[name] = digest
        stamps[name] = kept.stamp
        return Backing(name, digest)

    data = _written(image, metadata, contents)
    sealed = bool(led) and all(led.values())
    return MetadataImage(data, len(led), sealed, files.added, stored.fetched, stamps)


def named_metadata(image: ImageTree, metadata: Metadata, reporter: Reporter) -> MetadataImage:
    """Make an image of metadata for a store in which files are named by their fs-verity digests, as composefs' are.

    :raises CasyncError: a file cannot be had, or be in such an image
    """
    _check_holes(image)
    filler = Filler(image, reporter)
    files: set[bytes] = set()
    found: dict[Inode, Backing | bytes] = {}
    image.plan(regular_files(image.tree))
    for inode in regular_files(image.tree):
        if inode.size <= INLINE_MAX:
            found[inode] = _together(image.read(inode), inode.size)
        else:
            digest = verity_digest(image.read(inode), inode.size)
            digits = digest.hex().encode()
            found[inode] = Backing(digits[:2] + b"/" + digits[2:], digest)
            files.add(digest)
        filler.advance(inode.stored)
    data = _written(image, metadata, lambda inode: _of(found, inode))
    return MetadataImage(data, len(files), bool(files), 0, image.tree.size)


def _of(found: dict[Inode, Backing | bytes], inode: Inode) -> Backing | bytes | None:
    known = found.get(inode)
    return bytes(inode.size) if known is None and inode.size <= INLINE_MAX else known


def _together(pieces: Iterator[tuple[int, bytes]], size: int) -> bytes:
    data = bytearray(size)
    for offset, piece in pieces:
        data[offset : offset + len(piece)] = piece
    return bytes(data)


def _check_holes(image: ImageTree) -> None:
    for path, inode in image.tree.walk():
        if inode is not None and inode.parts and inode.size - inode.stored > _MOST_HOLES:
            why = f"{show_path(path)} has more than {_MOST_HOLES >> 30} GiB of holes; use oci unpack for it"
            raise ImageError(image.where, why)


def _written(image: ImageTree, metadata: Metadata, contents: Contents) -> bytearray:
    left_out = metadata.left_out
    left_out.directory = os.fsencode(image.where)

    def leave_out(path: bytes, what: str, why: str) -> None:
        left_out.name = path
        metadata.doing("hold all of")
        skip: Callable[[str, OSError], None] = left_out.skip
        skip(what, OSError(errno.EINVAL, why))

    try:
        root, version = compose(image.tree, contents, metadata.attributes, leave_out)
    except OSError as error:
        raise metadata.failure(os.path.join(left_out.directory, left_out.name), error) from error
    try:
        data = write_image(root, version)
    except ValueError as error:
        raise ImageError(image.where, str(error)) from None
    metadata.finish()
    return data
