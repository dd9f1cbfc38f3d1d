"""Contents of an image's files on their way to a fresh tree. Which files there are is the business of `oci.rootfs`."""

from __future__ import annotations

import os
from collections.abc import Iterator

from casync_compat.oci.image.tree import ImageTree
from casync_compat.oci.rootfs.mergedtree import Inode, MergedTree
from casync_compat.progress import Reporter

__all__ = ["Filler", "regular_files"]


def regular_files(tree: MergedTree) -> Iterator[Inode]:
    """The files with something in them, each once, in the order in which they are written."""
    seen: set[Inode] = set()
    for _, inode in tree.walk():
        if inode is None or not inode.parts:
            continue
        if inode.links > 1:
            if inode in seen:
                continue
            seen.add(inode)
        yield inode


class Filler:
    """Writes contents from an image to files, and keeps the progress."""

    def __init__(self, image: ImageTree, reporter: Reporter) -> None:
        self._image = image
        self._reporter = reporter

    def __call__(self, fd: int, inode: Inode, path: bytes) -> None:
        end = 0
        for offset, data in self._image.read(inode):
            view = memoryview(data)
            while view:
                done = os.pwrite(fd, view, offset)
                view = view[done:]
                offset += done
            end = offset
            self.advance(len(data))
        if end < inode.size:
            os.ftruncate(fd, inode.size)

    def advance(self, count: int) -> None:
        """Note bytes as done."""
        self._reporter.state.done += count
        if self._reporter.due:
            self._reporter.report()

    def entry(self, path: bytes) -> None:
        """Note an entry as begun."""
        self._reporter.state.entries += 1
        self._reporter.state.path = path
