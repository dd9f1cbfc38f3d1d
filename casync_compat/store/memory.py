"""Places of files and of chunks in dictionaries, for tests and for programs that need no files.

>>> store = MemoryStore()
>>> id = Digest.SHA512_256.of(b"hello")
>>> store.put(id, b"hello")
Put(new=True, stored=5)
>>> store.get(id, Digest.SHA512_256, limit=1024)
b'hello'
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from casync_compat.closing import Closing
from casync_compat.errors import ChunkCorrupt, ChunkMissing, UsageError
from casync_compat.ids import ChunkId, Digest
from casync_compat.store.base import Put, checked
from casync_compat.store.files import (
    Can,
    FileChanged,
    FileDamaged,
    Files,
    FileStatus,
    Listed,
    Version,
    check_name,
)

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["MemoryFiles", "MemoryStore"]


class MemoryFiles(Files):
    """Files that are forgotten with the process.

    :ivar name: what messages call the place
    :ivar contents: content by name; changing it changes the files, but not their dates and versions
    """

    can = Can.RANGE | Can.LIST | Can.WRITE | Can.SWAP | Can.DATES
    near = True
    name: str = ""

    def __init__(self, name: str = "memory") -> None:
        self.name = name
        self.contents: dict[bytes, bytes] = {}
        self._written: dict[bytes, tuple[int, int]] = {}
        self._count = 0
        self._lock = threading.Lock()

    def read(self, name: bytes, limit: int) -> bytes | None:
        content = self.contents.get(name)
        if content is not None and len(content) > limit:
            raise FileDamaged(
                name, self.name, f"it has {len(content)} bytes, more than the {limit} it may have"
            )
        return content

    def read_range(self, name: bytes, offset: int, size: int) -> bytes | None:
        content = self.contents.get(name)
        return None if content is None else content[offset : offset + size]

    def stat(self, name: bytes) -> FileStatus | None:
        content = self.contents.get(name)
        if content is None:
            return None
        modified, count = self._written.get(name, (0, 0))
        return FileStatus(len(content), modified, (count,), modified)

    def write(
        self, name: bytes, data: ReadableBuffer, *, if_absent: bool = False, if_version: Version | None = None
    ) -> Version:
        check_name(name)
        content = bytes(data)
        with self._lock:
            if if_absent or if_version is not None:
                found = self.stat(name)
                if if_version != (None if found is None else found.version):
                    raise FileChanged(name, self.name)
            self._count += 1
            self._written[name] = (time.time_ns(), self._count)
            self.contents[name] = content
            return (self._count,)

    def list(
        self, prefix: bytes = b"", *, under: re.Pattern[bytes] | None = None, details: bool = True
    ) -> Iterator[Listed]:
        for name in sorted(self.contents):
            if name.startswith(prefix) and (under is None or under.fullmatch(name.rpartition(b"/")[0])):
                status = self.stat(name)
                if status is not None:
                    yield Listed(name, status.size, status.modified)

    def remove(self, name: bytes) -> int:
        return len(self.contents.pop(name, b""))

    def sync(self, *, others: bool = False) -> None:
        """Does nothing: memory is as durable as it gets."""


class MemoryStore(Closing):
    """A ChunkSource, ChunkSink and Prunable that forgets everything with the process.

    :ivar name: what messages call it
    :ivar chunks: the raw chunks by id; changing it changes the store
    """

    own_paths: tuple[bytes, ...] = ()

    def __init__(self, name: str = "memory") -> None:
        self.name = name
        self.chunks: dict[ChunkId, bytes] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {len(self.chunks)} chunks>"

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        raw = self.chunks.get(id)
        if raw is None:
            raise ChunkMissing(id, self.name)
        if len(raw) > limit:
            raise ChunkCorrupt(id, self.name, f"it has {len(raw)} bytes, the limit is {limit}")
        return checked(id, digest, raw, self.name)

    def has(self, id: ChunkId) -> bool:
        return id in self.chunks

    def keep(self, id: ChunkId, durable_before: int = 0) -> bool:
        """As `has`; nothing here is durable."""
        return self.has(id)

    def put(self, id: ChunkId, data: ReadableBuffer) -> Put:
        raw = bytes(data)
        if not raw:
            raise UsageError("a chunk has at least one byte")
        with self._lock:
            if id in self.chunks:
                return Put(False, 0)
            self.chunks[id] = raw
        return Put(True, len(raw))

    def sync(self) -> None:
        """Does nothing: memory is as durable as it gets."""

    def ids(self) -> Iterator[ChunkId]:
        return iter(sorted(self.chunks))

    def remove(self, id: ChunkId) -> int:
        return len(self.chunks.pop(id, b""))

    def directories(self) -> int:
        """None."""
        return 0

    def clean(self, before: int) -> int:
        """Nothing is ever left over."""
        return 0

    def close(self) -> None:
        """Does nothing."""
