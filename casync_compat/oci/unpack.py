"""Unpack an image to a runtime bundle: `rootfs`, all layers merged, and the `config.json` that runc starts.

    >>> with ImageTree.open(place, "debian", where=name) as image:
    ...     unpack(image, b"bundle")

The bundle appears under its name once it is complete. It belongs to its owner alone, since there are set-user-id
programs in it that have nothing to do with this host. Unlike umoci's bundles it cannot be packed again: it records no
mtree.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass

from casync_compat.errors import FileError, UsageError
from casync_compat.fs.atomic import AtomicFile
from casync_compat.fs.freshdir import FreshDirectory
from casync_compat.fs.losses import LeftOutKind
from casync_compat.oci.image.filler import Filler, regular_files
from casync_compat.oci.image.kernelroot import RootOptions, mount_root
from casync_compat.oci.image.tree import ImageTree
from casync_compat.oci.rootfs.kernelmount import check_kernel
from casync_compat.oci.rootfs.metadata import Metadata
from casync_compat.oci.rootfs.writer import RootWriter
from casync_compat.oci.spec.descriptor import parse_json
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.spec.runtime import Rootless, Users, runtime_config
from casync_compat.progress import ProgressCallback, Reporter

__all__ = ["UnpackOptions", "UnpackResult", "contents_of", "unpack"]

_USERS_LIMIT = 8 << 20
_RESOLV_CONF = b"/etc/resolv.conf"
# Mount flags that a user namespace may not drop (Linux fs/namespace.c, `MNT_LOCK_*`).
_LOCKED = (
    (os.ST_RDONLY, "ro"),
    (os.ST_NODEV, "nodev"),
    (os.ST_NOEXEC, "noexec"),
    (os.ST_NOSUID, "nosuid"),
    (os.ST_NOATIME, "noatime"),
    (os.ST_RELATIME, "relatime"),
    (os.ST_NODIRATIME, "nodiratime"),
)


@dataclass(frozen=True, slots=True)
class UnpackOptions:
    """How to unpack.

    :ivar rootless: without owners, devices and privileged attributes, and for a container in a user namespace; so it
        is for everybody but root in any case
    :ivar verify: make the layers' tars first and compare them with the diff ids
    :ivar acls: restore ACLs that layers have as text (`SCHILY.acl.*`), which umoci and runtimes do not
    :ivar strict: fail at the first attribute or entry that the target cannot hold, rather than leave it out
    :ivar kernel: a store of files: `rootfs` is not written but mounted by the kernel, over that store and, for what is
        written, `overlay` in the bundle
    """

    rootless: bool = False
    verify: bool = False
    acls: bool = False
    strict: bool = False
    kernel: bytes | None = None


@dataclass(frozen=True, slots=True)
class UnpackResult:
    """What a run made.

    :ivar entries: names in the tree
    :ivar size: bytes of its files, without holes
    :ivar left_out: what the image has and the target cannot hold
    """

    entries: int
    size: int
    left_out: tuple[LeftOutKind, ...] = ()


def unpack(
    image: ImageTree,
    bundle: bytes,
    options: UnpackOptions | None = None,
    *,
    warn: Callable[[str], None] = lambda text: None,
    progress: ProgressCallback | None = None,
) -> UnpackResult:
    """Make a bundle.

    :param bundle: a directory; nothing may be there, or an empty one
    :raises CasyncError: nothing is left there then, but where names fell together: all the rest is there
    """
    options = options or UnpackOptions()
    rootless = options.rootless or os.geteuid() != 0
    if options.kernel is not None:
        check_kernel()
        if rootless:
            raise UsageError("a root that the kernel mounts has its owners, which is not rootless")
    if options.verify:
        image.verify()
    tree = image.tree
    document = runtime_config(
        parse_json(image.config, f"{image.where}, config"),
        Users(contents_of(image, b"/etc/passwd"), contents_of(image, b"/etc/group")),
        image.where,
        _rootless() if rootless else None,
    )
    reporter = Reporter(progress)
    reporter.state.total = tree.size
    filler = Filler(image, reporter)
    with FreshDirectory(bundle) as temporary:
        with AtomicFile(os.path.join(temporary, b"config.json"), 0o644) as out:
            out.write(json.dumps(document, indent=2).encode() + b"\n")
        root = os.path.join(temporary, b"rootfs")
        if options.kernel is not None:
            # Last of all: what is mounted moves with the bundle, and is never in what is removed after a failure.
            os.mkdir(root, 0o755)
            upper = os.path.join(temporary, b"overlay")
            how = RootOptions(upper, acls=options.acls, strict=options.strict, verify=False)
            result = mount_root(image, options.kernel, root, how, warn=warn, progress=progress)
            return UnpackResult(result.entries, result.size, result.left_out)
        image.plan(regular_files(tree))
        metadata = Metadata(rootless=rootless, acls=options.acls, strict=options.strict, warn=warn)
        with RootWriter(root, metadata, os.path.join(bundle, b"rootfs")) as writer:
            writer.write(tree, filler, on_entry=filler.entry)
    if failure := writer.together.failure():
        raise failure
    return UnpackResult(tree.entries, tree.size, metadata.left_out.kinds)


def contents_of(image: ImageTree, path: bytes) -> bytes:
    """A small file of an image; empty when there is none."""
    try:
        inode = image.tree.find(path)
    except ImageError:
        return b""
    if inode.size > _USERS_LIMIT:
        raise ImageError(image.where, f"its {os.fsdecode(path)} has {inode.size} bytes")
    data = bytearray(inode.size)
    for offset, piece in image.read(inode):
        data[offset : offset + len(piece)] = piece
    return bytes(data)


def _rootless() -> Rootless:
    try:
        flags = os.statvfs(_RESOLV_CONF).f_flag
    except FileNotFoundError:
        return Rootless(os.geteuid(), os.getegid(), resolv_conf=False)
    except OSError as error:
        raise FileError(_RESOLV_CONF, "look at", error) from error
    locked = tuple(name for bit, name in _LOCKED if flags & bit)
    return Rootless(os.geteuid(), os.getegid(), True, locked)
