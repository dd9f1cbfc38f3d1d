"""The root of an image, mounted by the kernel: metadata in an EROFS image, files in a store that all images share.

    >>> result = mount_root(image, b"/srv/files", b"/mnt", RootOptions(upper=b"/var/app"))

Files, their blocks and their page cache are one for all trees that have them, whatever their layers. The store must
outlast the mount, and what is in it must be left alone: its files are not checked again while they are read, but where
the file system has fs-verity, which the kernel is told to insist on then. An image that was mounted before is mounted
again by its digest alone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from casync_compat.errors import FileError
from casync_compat.fs.losses import LeftOutKind
from casync_compat.oci.image.metadata import stored_metadata
from casync_compat.oci.image.tree import ImageTree
from casync_compat.oci.rootfs.filestore import FileStore
from casync_compat.oci.rootfs.keptroots import KeptRoot, KeptRoots
from casync_compat.oci.rootfs.kernelmount import Overlay, check_kernel, check_upper, mount
from casync_compat.oci.rootfs.mergedtree import Inode
from casync_compat.oci.rootfs.metadata import Metadata
from casync_compat.oci.rootfs.shared import FILES
from casync_compat.oci.spec.descriptor import BlobDigest
from casync_compat.progress import ProgressCallback, Reporter

__all__ = ["RootOptions", "RootResult", "mount_root", "mount_root_again"]

_VERSION = 1
"""Of the rules by which images of metadata are made: those that were kept by others are not found."""


@dataclass(frozen=True, slots=True)
class RootOptions:
    """How to mount.

    :ivar upper: directory that takes what is written; None for a root that is only read
    :ivar acls: have ACLs that layers have as text
    :ivar verify: hash the store's files rather than trust their times, and compare layers with the diff ids
    :ivar strict: fail at the first attribute or entry that an EROFS image cannot hold, rather than leave it out
    """

    upper: bytes | None = None
    acls: bool = False
    verify: bool = False
    strict: bool = False


@dataclass(frozen=True, slots=True)
class RootResult:
    """What a run did.

    :ivar entries: names in the tree
    :ivar size: bytes of its files, without holes
    :ivar files: files of the store that it leads to; `stored` of them are new
    :ivar fetched: bytes of contents that had to be fetched
    :ivar metadata: bytes of the EROFS image
    :ivar verity: whether the kernel checks the files
    :ivar left_out: what the image has and an EROFS image cannot hold
    """

    entries: int
    size: int
    files: int
    stored: int
    fetched: int
    metadata: int
    verity: bool
    left_out: tuple[LeftOutKind, ...] = ()


def _check(options: RootOptions) -> None:
    """See, before anything is fetched, whether the kernel can, and whether what is written has a place."""
    check_kernel()
    if options.upper is not None:
        check_upper(options.upper)


def _make_upper(path: bytes, metadata: Metadata, root: Inode) -> None:
    """Make what takes the writes, when it is not there: it looks like the image's root, whose place it takes."""
    upper, work = (os.path.join(path, name) for name in (b"upper", b"work"))
    try:
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        with suppress(FileExistsError):
            os.mkdir(work, 0o700)
        try:
            os.mkdir(upper, 0o700)
        except FileExistsError:
            return
        fd = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise FileError(path, "use for what is written", error) from error
    try:
        metadata.apply(fd, root)
    except (OSError, ValueError) as error:
        raise metadata.failure(path, error) from error
    finally:
        os.close(fd)


def _key(digest: BlobDigest, options: RootOptions) -> str:
    """What an image of metadata is kept by: all that it depends on."""
    return hashlib.sha256(f"{_VERSION} {digest} {options.acls:d}".encode()).hexdigest()


def mount_root_again(
    digest: BlobDigest, where: str, store: bytes, target: bytes, options: RootOptions
) -> RootResult | None:
    """Mount the tree of an image that was mounted before, if all that it takes is still in the store.

    :param digest: as `ImageTree.digest`
    :param where: the image as a user would name it
    :returns: None where `mount_root` has to do it
    :raises CasyncError: nothing is mounted then
    """
    _check(options)
    if options.verify:
        return None
    roots = KeptRoots(store)
    key = _key(digest, options)
    kept = roots.find(key)
    if kept is None:
        return None
    if options.upper is not None:
        _make_upper(options.upper, Metadata(strict=options.strict, warn=lambda text: None), kept.root)
    how = Overlay(where, options.upper, kept.verity)
    mount(roots.image(key), os.path.join(store, FILES), target, how)
    return RootResult(kept.entries, kept.size, len(kept.files), 0, 0, kept.metadata, kept.verity)


def mount_root(
    image: ImageTree,
    store: bytes,
    target: bytes,
    options: RootOptions | None = None,
    *,
    warn: Callable[[str], None] = lambda text: None,
    progress: ProgressCallback | None = None,
) -> RootResult:
    """Mount the tree of an image on a directory, which must be there.

    :param store: the directory of the file store; made when it is missing
    :raises CasyncError: nothing is mounted then; what was stored stays
    """
    options = options or RootOptions()
    _check(options)
    if options.verify:
        image.verify()
    reporter = Reporter(progress)
    reporter.state.total = image.tree.size
    metadata = Metadata(acls=options.acls, strict=options.strict, warn=warn)
    with FileStore(store, metadata, verify=options.verify) as files:
        made = stored_metadata(image, files, metadata, reporter)
        temporary = os.path.join(store, b"tmp", os.urandom(12).hex().encode())
        try:
            try:
                with open(temporary, "xb") as out:
                    out.write(made.data)
            except OSError as error:
                raise FileError(temporary, "write", error) from error
            if options.upper is not None:
                _make_upper(options.upper, metadata, image.tree.root)
            how = Overlay(image.where, options.upper, made.sealed)
            mount(temporary, os.path.join(store, FILES), target, how)
            if not metadata.left_out.kinds:  # which would have to be told again
                kept = KeptRoot(
                    image.tree.entries,
                    image.tree.size,
                    len(made.data),
                    hashlib.sha256(made.data).hexdigest(),
                    made.sealed,
                    replace(image.tree.root, children={}, xattrs=metadata.attributes(image.tree.root)),
                    made.stamps,
                )
                KeptRoots(store).keep(_key(image.digest, options), temporary, kept)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
    return RootResult(
        image.tree.entries,
        image.tree.size,
        made.files,
        made.stored,
        made.fetched,
        len(made.data),
        made.sealed,
        metadata.left_out.kinds,
    )
