"""Check an image out to a directory whose files are shared with other checkouts, through a store of whole files.

    >>> with ImageTree.open(place, "debian", where=name) as image:
    ...     checkout(image, b"root", b"/srv/files", CheckoutOptions(link=Link.AUTO))

The tree is what `unpack` writes, byte for byte, but without set-user-id bits on files that do not get their owner. With
reflinks its files share blocks with the store and are otherwise their own. With hard links they share inodes, and so
the page cache: the tree is for reading then (as a lower layer of an overlay, say), because what is written to a file is
written to all trees that have it. Empty files are never shared, and files with more than 64 MiB of holes are not
stored.

Which contents a file has is known from the chunks it is made of, so that what the store has is not fetched again, even
from another image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from casync_compat.errors import UsageError, show_path
from casync_compat.fs.freshdir import FreshDirectory
from casync_compat.fs.losses import LeftOutKind
from casync_compat.ids import Digest
from casync_compat.oci.image.filler import Filler, regular_files
from casync_compat.oci.image.tree import ImageTree
from casync_compat.oci.rootfs.filestore import FileStore
from casync_compat.oci.rootfs.mergedtree import Inode
from casync_compat.oci.rootfs.metadata import Metadata
from casync_compat.oci.rootfs.shared import Kept
from casync_compat.oci.rootfs.writer import RootWriter
from casync_compat.oci.spec.errors import CannotShare
from casync_compat.progress import ProgressCallback, Reporter

__all__ = ["CheckoutOptions", "CheckoutResult", "Link", "checkout"]

_MOST_HOLES = 64 << 20
"""Bytes of zeros in holes that are worth hashing."""


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
        work = _Checkout(image, files, metadata, link, Filler(image, reporter))
        work.collect()
        with RootWriter(temporary, metadata, target) as writer:
            writer.write(tree, work.fill, work.place, work.filler.entry)
    if files.replaced:
        warn(f"{files.replaced} files in {show_path(store)} had been modified and were replaced")
    if failure := writer.together.failure():
        raise failure
    return CheckoutResult(
        link,
        tree.entries,
        tree.size,
        len(work.kept),
        files.added,
        work.fetched,
        files.replaced,
        metadata.left_out.kinds,
    )


class _Checkout:
    """The files of one checkout."""

    def __init__(
        self, image: ImageTree, files: FileStore, metadata: Metadata, link: Link, filler: Filler
    ) -> None:
        self.kept: dict[Inode, Kept] = {}
        self.fetched = 0
        self.filler = filler
        self._image = image
        self._files = files
        self._metadata = metadata
        self._link = link

    def collect(self) -> None:
        """Have the store hold every file that is to be shared."""
        missing: list[tuple[Inode, bytes]] = []
        alone: list[Inode] = []
        for inode in regular_files(self._image.tree):
            if not self._is_shared(inode):
                alone.append(inode)
                continue
            origin = _origin(self._image, inode)
            found = self._find(inode, origin)
            if found is None:
                missing.append((inode, origin))
            else:
                self.kept[inode] = found
                self.filler.advance(inode.stored)
        self._image.plan(inode for inode, _ in missing)
        for inode, origin in missing:
            # What was stored meanwhile, a second file of the same contents for example, is there already.
            found = self._find(inode, origin)
            if found is None:
                pieces = self._image.read(inode)
                found = self._files.add(pieces, inode.size, self._identity(inode), origin)
                self.fetched += inode.stored
            self.kept[inode] = found
            self.filler.advance(inode.stored)
        self._image.plan(alone)

    def _identity(self, inode: Inode) -> Inode | None:
        """Metadata that a stored file must have."""
        return inode if self._link is Link.HARDLINK else None

    def _is_shared(self, inode: Inode) -> bool:
        if inode.size - inode.stored > _MOST_HOLES:
            return False
        # The store could not read it to check it.
        unreadable = not self._metadata.privileged and not inode.mode & 0o400
        return not (unreadable and self._link is Link.HARDLINK)

    def _find(self, inode: Inode, origin: bytes) -> Kept | None:
        content = self._files.known(origin)
        if content is None:
            return None
        identity = self._identity(inode)
        found = self._files.find(content, identity)
        if found is None and (other := self._files.find_content(content)) is not None:
            if other.stamp.size != inode.size:
                return None
            found = self._files.add(self._files.pieces(other), inode.size, identity)
        # What the store remembers is a hint, which may be wrong.
        right = found is not None and found.stamp.size == inode.size and found.content == content
        return found if right else None

    def place(self, directory: int, name: bytes, inode: Inode, path: bytes) -> bool:
        """Link a file from the store."""
        kept = self.kept.get(inode)
        if kept is None or self._link is not Link.HARDLINK or not kept.has_metadata:
            return False
        return self._files.link_to(kept, directory, name)

    def fill(self, fd: int, inode: Inode, path: bytes) -> None:
        """Write a file's contents, from the store if they are there."""
        kept = self.kept.get(inode)
        if kept is None:
            self.filler(fd, inode, path)
        else:
            self._files.copy_to(kept, fd, share=self._link is Link.REFLINK)


def _origin(image: ImageTree, inode: Inode) -> bytes:
    hasher = Digest.BLAKE3.new()
    for part in image.origin(inode):
        hasher.update(b"%d:" % len(part))
        hasher.update(part)
    return hasher.digest()


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
