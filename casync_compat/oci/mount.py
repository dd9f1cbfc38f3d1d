"""Have the kernel mount an image on a directory, and take mounts of images away.

    >>> with ImageTree.open(place, "debian", where=name) as image:
    ...     mount(image, b"root", b"/srv/files")
    >>> unmount(b"root")

`casync_compat.oci.image.kernelroot` says what is mounted. By FUSE it is `casync_compat.oci.image.mounted` that
`casync_compat.verbs.mount` mounts, as it does everything else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from casync_compat.errors import FileError
from casync_compat.mount import session
from casync_compat.mount.session import check_mountpoint
from casync_compat.oci.image.kernelroot import RootOptions, RootResult, mount_root, mount_root_again
from casync_compat.oci.image.tree import ImageTree
from casync_compat.oci.rootfs import kernelmount
from casync_compat.oci.rootfs.kernelmount import check_kernel
from casync_compat.oci.spec.descriptor import BlobDigest
from casync_compat.progress import ProgressCallback

__all__ = ["RootOptions", "RootResult", "mount", "mount_again", "unmount"]


def mount(
    image: ImageTree,
    target: bytes,
    store: bytes,
    options: RootOptions | None = None,
    *,
    warn: Callable[[str], None] = lambda text: None,
    progress: ProgressCallback | None = None,
) -> RootResult:
    """Mount an image.

    :param target: a directory; it is made when it is missing
    :param store: the directory of the file store; made when it is missing
    :raises CasyncError: nothing is mounted then
    """
    with _directory(target, store):
        return mount_root(image, store, target, options, warn=warn, progress=progress)


def mount_again(
    digest: BlobDigest, where: str, target: bytes, store: bytes, options: RootOptions
) -> RootResult | None:
    """Mount an image that was mounted before, without opening it. See `mount_root_again`."""
    with _directory(target, store):
        return mount_root_again(digest, where, store, target, options)


@contextmanager
def _directory(target: bytes, store: bytes) -> Iterator[None]:
    """A directory to mount on; if it was made, it is gone again after an error."""
    check_kernel()
    made = False
    try:
        with suppress(FileExistsError):
            os.mkdir(target)
            made = True
    except OSError as error:
        raise FileError(target, "make", error) from error
    try:
        check_mountpoint(target, [store])
        yield
    except BaseException:
        if made:
            with suppress(OSError):
                os.rmdir(target)
        raise


def unmount(target: bytes) -> None:
    """Take away the mount on a directory: root any, by the kernel or by FUSE, and others their own by FUSE.

    :raises CasyncError: there is none, or it is in use
    """
    if os.geteuid() == 0:
        kernelmount.unmount(target)
    else:
        session.unmount(target)
