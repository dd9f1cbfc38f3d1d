"""A cache of chunks in front of a store that is far away: read through, written through, and kept to a size.

The cache is a store in a local directory, in casync's layout, so that casync and desync can use it as well. Several
processes may share it, without a lock: each counts what it writes, and looks at the whole directory when that may be
too much; then what was used longest ago goes, by the files' dates, which a hit renews. What goes while another process
wants it is fetched again.

A cache costs no run: what cannot be read or written there is told once, and the store behind it serves alone. What is
damaged in it is fetched again and replaced. Nobody collects its garbage, and nobody leaves leases in it.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from casync_compat.errors import FileError, StoreError
from casync_compat.ids import ChunkId, Digest
from casync_compat.store.base import ChunkSource, Measured, OnDisk, prepare
from casync_compat.store.failover import all_eager, any_far
from casync_compat.store.files import FileStatus
from casync_compat.store.finding import Answer, Finder, Finding, Wanted, find_in
from casync_compat.store.local import LocalStore

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["Cached", "ChunkCache"]

_DIRECTORIES = re.compile(rb"[0-9a-f]{4}")
_CHUNK = re.compile(rb"[0-9a-f]{64}(?:\..*)?")
_FRESH = 3600 * 10**9
"""Nanoseconds for which a file's date need not be renewed."""
_KEPT = 0.9
"""The part of the size that is left after a look at the whole directory, so that the next one is not due at once."""


def _ignore(text: str) -> None:
    """No warnings wanted."""


class ChunkCache:
    """Chunks in a local directory that may go at any time. May be used from several threads.

    :param store: the directory
    :param size: bytes of files to keep at most, about; None for no limit
    :param warn: told once when it cannot be used
    :param clock: nanoseconds since 1970
    """

    def __init__(
        self,
        store: LocalStore,
        size: int | None = None,
        warn: Callable[[str], None] = _ignore,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.store = store
        self.size = size
        self._warn = warn
        self._clock = clock
        self._lock = threading.Lock()
        self._works = True
        self._made = False
        self._total: int | None = None

    def has(self, id: ChunkId) -> bool:
        """Whether it has a chunk, perhaps a damaged one."""
        try:
            return self._works and self.store.has(id)
        except FileError as error:
            self._give_up(error)
            return False

    def find(self, wanted: Wanted, digest: Digest) -> list[bytes | None]:
        """The chunks that it has, verified. What is damaged is thrown away."""
        if not self._works or not wanted:
            return [None] * len(wanted)
        try:
            return [
                self._used(id, answer) if isinstance(answer, bytes) else self._thrown_away(id)
                for answer, (id, _) in zip(find_in(self.store, wanted, digest), wanted, strict=True)
            ]
        except FileError as error:
            self._give_up(error)
            return [None] * len(wanted)

    def _used(self, id: ChunkId, raw: bytes) -> bytes:
        if self.size is not None:
            for file in self.store.forms(id):
                status = self.store.files.stat(file.name)
                if status is not None and self.is_old(status):
                    self.store.files.touch(file.name)
        return raw

    def is_old(self, status: FileStatus) -> bool:
        """Whether the date of a file that is used should be renewed."""
        if self.size is None or status.modified is None:
            return False
        return self._clock() - status.modified > _FRESH

    def renew(self, name: bytes) -> None:
        """Give a file, which was used, the date of now."""
        try:
            self.store.files.touch(name)
        except FileError as error:
            self._give_up(error)

    def _thrown_away(self, id: ChunkId) -> bytes | None:
        self.store.remove(id)
        return None

    def keep(self, id: ChunkId, data: ReadableBuffer) -> None:
        """Remember a chunk."""
        if not self._works or (self.size is not None and memoryview(data).nbytes > self.size):
            return
        try:
            if not self._made:
                self._made = True
                os.makedirs(self.store.path, exist_ok=True)
            self._count(self.store.put(id, data).stored)
        except OSError as error:
            self._give_up(
                error if isinstance(error, FileError) else FileError(self.store.path, "create", error)
            )

    def used(self) -> int:
        """Bytes of its files, about: as many as there were when it was looked first, and what came in since."""
        with self._lock:
            if self._total is not None:
                return self._total
        try:
            measured = self._measured()
        except FileError as error:
            self._give_up(error)
            return 0
        with self._lock:
            if self._total is None:
                self._total = measured
            return self._total

    def _count(self, stored: int) -> None:
        """Some bytes came in: throw away what there is no room for."""
        with self._lock:
            if self._total is not None:
                self._total += stored
            if self.size is None:
                return
            if self._total is None:
                self._total = self._measured()
            if self._total > self.size:
                self._total = self._shrunk(self.size)

    def _measured(self) -> int:
        return sum(size for _, size, _ in self._files())

    def _files(self) -> list[tuple[int, int, bytes]]:
        """When each file was used, its size and name."""
        return [
            (file.modified or 0, file.size or 0, file.name)
            for file in self.store.files.list(under=_DIRECTORIES)
            if _CHUNK.fullmatch(file.name.rpartition(b"/")[2])
        ]

    def _shrunk(self, most: int) -> int:
        """Remove what was used longest ago. Returns the bytes that are left."""
        files = sorted(self._files())
        total = sum(size for _, size, _ in files)
        if total <= most:  # others have been at it
            return total
        for _, size, name in files:
            if total <= most * _KEPT:
                break
            self.store.files.remove(name)
            total -= size
        return total

    def _give_up(self, error: Exception) -> None:
        with self._lock:
            works, self._works = self._works, False
        if works:
            self._warn(f"{error}; going on without the chunk cache")


class Cached(Finder):
    """A ChunkSource with a cache in front.

    :param source: the store behind it
    """

    def __init__(self, source: ChunkSource, cache: ChunkCache) -> None:
        self.source = source
        self.cache = cache
        self.name = source.name
        self.far = any_far([source])

    @property
    def eager(self) -> bool:
        """Whether `begin` asks at once."""
        return all_eager([self.source])

    @property
    def own_paths(self) -> tuple[bytes, ...]:
        """Directories of this machine that the store or the cache lies in."""
        behind = self.source.own_paths if isinstance(self.source, OnDisk) else ()
        return (*behind, *self.cache.store.own_paths)

    def prepare(self) -> None:
        prepare(self.source)

    @property
    def behind(self) -> tuple[ChunkSource, ...]:
        return (self.source,)

    def begin_finding(self, wanted: Wanted, digest: Digest) -> Callable[[], list[Answer]]:
        here = [number for number, (id, _) in enumerate(wanted) if self.cache.has(id)]
        others = sorted(set(range(len(wanted))).difference(here))
        begun: Callable[[], list[Answer]] | None = None
        if others and self.eager and isinstance(self.source, Finding):
            begun = self.source.begin_finding([wanted[number] for number in others], digest)
        return lambda: self._find(wanted, digest, here, others, begun)

    def _find(
        self,
        wanted: Wanted,
        digest: Digest,
        here: list[int],
        others: list[int],
        begun: Callable[[], list[Answer]] | None,
    ) -> list[Answer]:
        cached = self.cache.find([wanted[number] for number in here], digest)
        found: dict[int, Answer] = {
            number: raw for number, raw in zip(here, cached, strict=True) if raw is not None
        }
        fetched = dict(zip(others, begun(), strict=True)) if begun is not None else {}
        left = [number for number in range(len(wanted)) if number not in found and number not in fetched]
        if left:
            answers = find_in(self.source, [wanted[number] for number in left], digest)
            fetched.update(zip(left, answers, strict=True))
        for number, answer in fetched.items():
            if not isinstance(answer, StoreError):
                self.cache.keep(wanted[number][0], answer)
        found.update(fetched)
        return [found[number] for number in range(len(wanted))]

    def has(self, id: ChunkId) -> bool:
        return self.cache.has(id) or self.source.has(id)

    def stored_size(self, id: ChunkId) -> int | None:
        """What the chunk takes in the store behind."""
        return self.source.stored_size(id) if isinstance(self.source, Measured) else None
