"""Write an image's metadata as an EROFS image, for whoever mounts it.

    >>> with ImageTree.open(place, "debian", where=name) as image:
    ...     write_erofs(image, b"debian.erofs")

Without a store it is the very image that `mkcomposefs` makes of the image unpacked: files are named by their fs-verity
digests, and its own digest is what one would pin. With a store of files it leads to the names of that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from casync_compat.fs.atomic import AtomicFile
from casync_compat.fs.losses import LeftOutKind
from casync_compat.oci.erofs.fsverity import verity_digest
from casync_compat.oci.image.metadata import named_metadata, stored_metadata
from casync_compat.oci.image.tree import ImageTree
from casync_compat.oci.rootfs.filestore import FileStore
from casync_compat.oci.rootfs.metadata import Metadata
from casync_compat.progress import ProgressCallback, Reporter

__all__ = ["ErofsResult", "write_erofs"]


@dataclass(frozen=True, slots=True)
class ErofsResult:
    """What was written.

    :ivar entries: names in the tree
    :ivar size: bytes of the image
    :ivar files: files that it leads to
    :ivar digest: its fs-verity digest, which composefs knows it by
    :ivar left_out: what the image has and an EROFS image cannot hold
    """

    entries: int
    size: int
    files: int
    digest: bytes
    left_out: tuple[LeftOutKind, ...] = ()


def write_erofs(
    image: ImageTree,
    output: bytes | None,
    store: bytes | None = None,
    *,
    verify: bool = False,
    strict: bool = False,
    warn: Callable[[str], None] = lambda text: None,
    progress: ProgressCallback | None = None,
) -> ErofsResult:
    """Write a file.

    :param output: its path; None to write nothing and only see what it would be
    :param store: a store of files, which is filled with those of the image
    :param verify: hash the store's files rather than trust their times, and compare layers with the diff ids
    :raises CasyncError: nothing is written then
    """
    if verify:
        image.verify()
    reporter = Reporter(progress)
    reporter.state.total = image.tree.size
    metadata = Metadata(strict=strict, warn=warn)
    if store is None:
        made = named_metadata(image, metadata, reporter)
    else:
        with FileStore(store, metadata, verify=verify) as files:
            made = stored_metadata(image, files, metadata, reporter, digests=True)
    if output is not None:
        with AtomicFile(output) as out:
            out.write(made.data)
    digest = verity_digest([(0, bytes(made.data))], len(made.data))
    return ErofsResult(image.tree.entries, len(made.data), made.files, digest, metadata.left_out.kinds)
