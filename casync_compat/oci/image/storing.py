"""Has a store of files hold the files of an image, each fetched only when the store does not have it.

    >>> collected = StoredFiles(image, files, metadata, filler)
    >>> collected.collect()
    >>> collected.kept[inode].name

Which contents a file has is known from the chunks it is made of, so that what the store has is not fetched again, even
from another image. What becomes of the files is the business of `oci.checkout` and `oci.image.kernelroot`.
"""

from __future__ import annotations

from casync_compat.ids import Digest
from casync_compat.oci.image.filler import Filler, regular_files
from casync_compat.oci.image.tree import ImageTree
from casync_compat.oci.rootfs.filestore import FileStore
from casync_compat.oci.rootfs.mergedtree import Inode
from casync_compat.oci.rootfs.metadata import Metadata
from casync_compat.oci.rootfs.shared import Kept

__all__ = ["StoredFiles"]

_MOST_HOLES = 64 << 20
"""Bytes of zeros in holes that are worth hashing."""


class StoredFiles:
    """The files of one image in a store.

    :param filler: is told the progress
    :param inodes: store files with their metadata, for hard links, rather than contents alone
    :param holes: bytes of zeros in holes of a file that is still stored

    :ivar kept: what the store has, by inode
    :ivar fetched: bytes of contents that had to be fetched
    """

    def __init__(
        self,
        image: ImageTree,
        files: FileStore,
        metadata: Metadata,
        filler: Filler,
        *,
        inodes: bool = False,
        holes: int = _MOST_HOLES,
    ) -> None:
        self.kept: dict[Inode, Kept] = {}
        self.fetched = 0
        self._filler = filler
        self._image = image
        self._files = files
        self._metadata = metadata
        self._inodes = inodes
        self._holes = holes

    def collect(self) -> None:
        """Have the store hold every file that is to be shared.

        :raises CasyncError: one cannot be had, or stored
        """
        missing: list[tuple[Inode, bytes]] = []
        alone: list[Inode] = []
        inodes = list(regular_files(self._image.tree))
        self._files.expect(len(inodes))
        for inode in inodes:
            if not self._is_shared(inode):
                alone.append(inode)
                continue
            origin = _origin(self._image, inode)
            found = self._find(inode, origin)
            if found is None:
                missing.append((inode, origin))
            else:
                self.kept[inode] = found
                self._filler.advance(inode.stored)
        self._image.plan(inode for inode, _ in missing)
        for inode, origin in missing:
            # What was stored meanwhile, a second file of the same contents for example, is there already.
            found = self._find(inode, origin)
            if found is None:
                pieces = self._image.read(inode)
                found = self._files.add(pieces, inode.size, self._identity(inode), origin)
                self.fetched += inode.stored
            self.kept[inode] = found
            self._filler.advance(inode.stored)
        self._image.plan(alone)

    def _identity(self, inode: Inode) -> Inode | None:
        """Metadata that a stored file must have."""
        return inode if self._inodes else None

    def _is_shared(self, inode: Inode) -> bool:
        if inode.size - inode.stored > self._holes:
            return False
        # The store could not read it to check it.
        unreadable = not self._metadata.privileged and not inode.mode & 0o400
        return not (unreadable and self._inodes)

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


def _origin(image: ImageTree, inode: Inode) -> bytes:
    return Digest.BLAKE3.of(b"".join([b"%d:%b" % (len(part), part) for part in image.origin(inode)]))
