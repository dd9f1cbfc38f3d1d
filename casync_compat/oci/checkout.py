"""Check an image out to a directory whose files are shared with other checkouts, through a store of whole files.

    >>> with ImageTree.open(place, "debian", where=name) as image:
    ...     checkout(image, b"root", b"/srv/files", CheckoutOptions(link=Link.AUTO))

The tree is what `unpack` writes, byte for byte, but without set-user-id bits on files that do not get their owner. With
reflinks its files share blocks with the store and are otherwise their own. With hard links they share inodes, and so
the page cache: the tree is for reading then (as a lower layer of an overlay, say), because what is written to a file is
written to all trees that have it. Empty files are never shared, and files with more than 64 MiB of holes are not
stored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from casync_compat.errors import UsageError, show_path
from casync_compat.fs.freshdir import FreshDirectory
from casync_compat.fs.losses import LeftOutKind
from casync_compat.oci.image.filler import Filler
from casync_compat.oci.image.storing import StoredFiles
from casync_compat.oci.image.tree import ImageTree
from casync_compat.oci.rootfs.filestore import FileStore
from casync_compat.oci.rootfs.mergedtree import Inode
from casync_compat.oci.rootfs.metadata import Metadata
from casync_compat.oci.rootfs.shared import Kept
from casync_compat.oci.rootfs.writer import RootWriter
from casync_compat.oci.spec.errors import CannotShare
from casync_compat.progress import ProgressCallback, Reporter

__all__ = ["CheckoutOptions", "CheckoutResult", "Link", "checkout"]


class Link(Enum):
    """How files are shared."""

    AUTO = "auto"
    REFLINK = "reflink"
    HARDLINK = "hardlink"
    COPY = "copy"

    @classmethod
    def parse(cls, text: str) -> Link:
        """:raises UsageError: it is none of the four"""
        try:
            return cls(text)
        except ValueError:
            raise UsageError(f"{text!r} is no way to link; choose auto, reflink, hardlink or copy") from None


@dataclass(frozen=True, slots=True)
class CheckoutOptions:
    """How to check out.

    :ivar link: `AUTO` takes the first of reflinks, hard links and copies that works
    :ivar rootless: without owners, devices and privileged attributes, as always for everybody but root
    :ivar verify: hash the store's files rather than trust their times, and compare layers with the diff ids
    :ivar strict: fail at the first attribute or entry that the target cannot hold, rather than leave it out
    """

    link: Link = Link.AUTO
    rootless: bool = False
    verify: bool = False
    strict: bool = False


@dataclass(frozen=True, slots=True)
class CheckoutResult:
    """What a run did.

    :ivar link: how files are shared
    :ivar entries: names in the tree
    :ivar size: bytes of its files, without holes
    :ivar files: files that the store has now; `stored` of them are new
    :ivar fetched: bytes of contents that had to be fetched
    :ivar replaced: stored files that had been modified
    :ivar left_out: what the image has and the target cannot hold
    """

    link: Link
    entries: int
    size: int
    files: int
    stored: int
    fetched: int
    replaced: int
    left_out: tuple[LeftOutKind, ...] = ()


def checkout(
    image: ImageTree,
    target: bytes,
    store: bytes,
    options: CheckoutOptions | None = None,
    *,
    warn: Callable[[str], None] = lambda text: None,
    progress: ProgressCallback | None = None,
) -> CheckoutResult:
    """Write the tree of an image.

    :param target: a directory; nothing may be there, or an empty one
    :param store: the directory of the file store; made when it is missing
    :raises CasyncError: nothing is left at `target` then, but where names fell together: all the rest is there; what
        was stored stays
    """
    options = options or CheckoutOptions()
    if options.verify:
        image.verify()
    tree = image.tree
    reporter = Reporter(progress)
    reporter.state.total = tree.size
    metadata = Metadata(rootless=options.rootless, keep_setid=False, strict=options.strict, warn=warn)
    with FreshDirectory(target) as temporary, FileStore(store, metadata, verify=options.verify) as files:
        link = _choose(files, temporary, target, options.link)
        filler = Filler(image, reporter)
        stored = StoredFiles(image, files, metadata, filler, inodes=link is Link.HARDLINK)
        stored.collect()
        work = _Checkout(files, stored.kept, link, filler)
        with RootWriter(temporary, metadata, target) as writer:
            writer.write(tree, work.fill, work.place, filler.entry)
    if files.replaced:
        warn(f"{files.replaced} files in {show_path(store)} had been modified and were replaced")
    if failure := writer.together.failure():
        raise failure
    return CheckoutResult(
        link,
        tree.entries,
        tree.size,
        len(stored.kept),
        files.added,
        stored.fetched,
        files.replaced,
        metadata.left_out.kinds,
    )


class _Checkout:
    """Gives files of the store to the writer of a tree."""

    def __init__(self, files: FileStore, kept: dict[Inode, Kept], link: Link, filler: Filler) -> None:
        self._files = files
        self._kept = kept
        self._link = link
        self._filler = filler

    def place(self, directory: int, name: bytes, inode: Inode, path: bytes) -> bool:
        """Link a file from the store."""
        kept = self._kept.get(inode)
        if kept is None or self._link is not Link.HARDLINK or not kept.has_metadata:
            return False
        return self._files.link_to(kept, directory, name)

    def fill(self, fd: int, inode: Inode, path: bytes) -> None:
        """Write a file's contents, from the store if they are there."""
        kept = self._kept.get(inode)
        if kept is None:
            self._filler(fd, inode, path)
        else:
            self._files.copy_to(kept, fd, share=self._link is Link.REFLINK)


def _choose(files: FileStore, directory: bytes, target: bytes, link: Link) -> Link:
    """The first way that works between the store and an empty directory.

    :param target: the directory's name to be, for messages
    :raises CannotShare: the one that was asked for does not
    """
    if link is Link.COPY:
        return link
    ways = (Link.REFLINK, Link.HARDLINK) if link is Link.AUTO else (link,)
    for way in ways:
        if files.can_share(directory, reflink=way is Link.REFLINK):
            return way
    if link is Link.AUTO:
        return Link.COPY
    what = "share blocks" if link is Link.REFLINK else "have hard links"
    why = f"it cannot {what} with {show_path(files.path)}; keep both on one file system"
    raise CannotShare(target, "check out", why)
