"""A tree as a cache remembers it, compared with the tree as it is: one look at every name, and none at any content.

A directory that did not change has the names that it had; so its names come from the cache, and only what they stand
for is asked about, a directory at once and on several threads.

    >>> snapshot = Snapshot.of(cache, b"/etc", jobs=2)
    >>> snapshot.all_same
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate

from casync_compat.cache.file import CachedDirectory, CacheFile
from casync_compat.fs.identity import IDENTITY_SIZE, identities, identity
from casync_compat.fs.owners import Names
from casync_compat.fs.scan.reusing import KnownDirectory
from casync_compat.streams.transfer import OrderedPool

__all__ = ["Snapshot", "names_now"]

_BATCH = 2000
"""Names that are asked about in one go."""
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Snapshot:
    """A tree as it was, and how much of it is the same. It is the `Before` of a `ReusingScanner`.

    :ivar all_same: whether the whole tree is
    """

    def __init__(
        self, cache: CacheFile, directories: list[CachedDirectory], same: bytes, root_same: bool
    ) -> None:
        self._cache = cache
        self._directories = directories
        self._by_path = {directory.path: directory for directory in directories}
        # How many of the records before each number are not the same, so that a range is told by a difference.
        self._changed = array("Q", accumulate((not one for one in same), initial=0))
        self._entries = array("Q", accumulate((len(d.known.starts) - 1 for d in directories), initial=0))
        self.all_same = root_same and not self._changed[-1]

    @classmethod
    def of(cls, cache: CacheFile, source: bytes, jobs: int) -> Snapshot:
        """Compare.

        :param source: the top directory, which is there
        """
        directories = list(cache.directories())
        top = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            root_same = identity(os.fstat(top)) == cache.description.root
            same = b"".join(_compare(top, directories, jobs))
        finally:
            os.close(top)
        return cls(cache, directories, same, root_same)

    def mentions(self, files: Collection[tuple[int, int]]) -> bool:
        """Whether any of some files, by device and inode, is among those archived and settled."""
        inodes = {inode for _, inode in files}
        for directory in self._directories:
            words = directory.known.identities.cast("Q")
            found = words[1 :: IDENTITY_SIZE // 8].tolist()
            if not inodes.isdisjoint(found):
                devices = words[:: IDENTITY_SIZE // 8].tolist()
                if not set(files).isdisjoint(zip(devices, found, strict=True)):
                    return True
        return False

    @property
    def names(self) -> dict[str, dict[str, str | None]]:
        """Names of users and groups that it depends on."""
        return self._cache.description.names

    @property
    def entries(self) -> int:
        """Nodes in the whole tree."""
        return self._entries[-1] + 1

    def directory(self, path: bytes) -> KnownDirectory | None:
        """What was in a directory."""
        found = self._by_path.get(path)
        return None if found is None else found.known

    def is_same(self, directory: KnownDirectory) -> bool:
        """Whether all that is in a directory is the same."""
        first = self._directories[directory.number].first
        return self._changed[directory.number + 1] == self._changed[first]

    def entries_in(self, directory: KnownDirectory) -> int:
        """Nodes in a directory, to any depth."""
        return self._entries[directory.number + 1] - self._entries[self._directories[directory.number].first]

    def records_of(self, directory: KnownDirectory) -> memoryview:
        """The records of a directory and all in it."""
        following = directory.number + 1
        begin = self._directories[self._directories[directory.number].first].offset
        end = self._directories[
            following
        ].offset  # the top directory's record is the last, and never asked for
        return self._cache.records(begin, end)


def names_now(before: dict[str, dict[str, str | None]]) -> dict[str, dict[str, str | None]]:
    """The names that the same users and groups have now."""
    names = Names()
    for uid in before["users"]:
        names.user(int(uid))
    for gid in before["groups"]:
        names.group(int(gid))
    return names.answers()


def _compare(top: int, directories: list[CachedDirectory], jobs: int) -> Iterator[bytes]:
    """For each directory, in order, 1 when it is the same."""
    batches = list(_batches(directories))
    if len(batches) == 1 or jobs == 1:
        for batch in batches:
            yield _same(top, batch)
        return
    with OrderedPool[bytes](jobs, 4 * jobs) as pool:
        for batch in batches:
            yield from pool.submit(_same, top, batch)
        yield from pool.drain()


def _batches(directories: list[CachedDirectory]) -> Iterator[list[CachedDirectory]]:
    begin = size = 0
    for number, directory in enumerate(directories):
        size += len(directory.known.starts)
        if size >= _BATCH:
            yield directories[begin : number + 1]
            begin, size = number + 1, 0
    yield directories[begin:]


def _same(top: int, directories: Sequence[CachedDirectory]) -> bytes:
    """Runs on a worker."""
    return bytes(directory.complete and _is_same(top, directory) for directory in directories)


def _is_same(top: int, directory: CachedDirectory) -> bool:
    if not directory.known.names:
        return True  # its own identity stands with its parent's
    try:
        fd = os.open(directory.path, _OPEN, dir_fd=top) if directory.path else os.dup(top)
    except OSError:
        return False
    try:
        return identities(fd, directory.known.names) == directory.known.identities
    finally:
        os.close(fd)
