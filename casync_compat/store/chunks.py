"""The chunk store over any place of files: names, forms, limits, and the check of every chunk, in one place for all.

A chunk is the file ``<first 4 hex digits of its id>/<64 hex digits>.cacnk``, compressed, or the same name without
suffix, uncompressed. Both forms may lie side by side, written by different programs. Names and lookup order are those
of casync 2 (casync `src/castore.c`); stricter, on purpose, in these places:

* a file that is empty, cut or not a chunk does not count as there (`store.framing`): the next `put` replaces it;
* the size of a file is checked before it is read.

Not here: how files are read and written (`store.files`, and each kind of place), verifying or repairing a whole store,
and deciding what may be removed (``gc``). What is damaged inside is reported by `get`, and replaced by `put` only when
`verify_reused` is set.

    >>> store = ChunkStore(MemoryFiles())
    >>> store.put(id, raw)
    Put(new=True, stored=1482)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from casync_compat.closing import Closing
from casync_compat.compression import Compression, CompressionError, compress, decompress, file_limit
from casync_compat.errors import ChunkCorrupt, ChunkLocked, ChunkMissing, UsageError
from casync_compat.ids import ChunkId, Digest
from casync_compat.store.base import Put, checked
from casync_compat.store.chunkfiles import LARGEST, ChunkFile, is_chunk
from casync_compat.store.chunknames import ChunkNames, key_ids
from casync_compat.store.encrypted import EncryptedFiles
from casync_compat.store.faraway import Survey, put_together
from casync_compat.store.files import Can, FileDamaged, Files, FileStatus
from casync_compat.store.finding import Answer, Wanted, look_for
from casync_compat.store.framing import HEAD, looks_whole
from casync_compat.store.removing import Before, remove_chunks

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from casync_compat.store.cipher import Cipher

__all__ = ["ChunkStore"]

_LEASES = Can.LIST | Can.WRITE | Can.SWAP | Can.DATES


class ChunkStore(Closing):
    """A ChunkSource, ChunkSink and Prunable over `Files`.

    :ivar files: the place
    :ivar name: the same for messages
    :ivar far: whether each look is a request
    :ivar eager: whether `begin` asks at once
    :ivar compression: how new chunks are written; whatever is there is read
    :ivar also: called with each chunk that was written, to remember it
    :ivar given_key: which key encrypts; empty for none
    :ivar verify_reused: whether `put` and `keep` read a chunk that is there, to see that it is the right one
    """

    verify_reused: bool = False
    given_key: str = ""
    _looked = False
    _overhead = 0
    also: Callable[[ChunkId, ReadableBuffer], object] | None = None

    def __init__(
        self,
        files: Files,
        *,
        compression: Compression = Compression.ZSTD,
        suffix: bytes = b".cacnk",
        name: str | None = None,
        flat: bool = False,
    ) -> None:
        """
        :param suffix: what compressed chunk files end in; casync has `CASYNC_COMPRESSED_CHUNK_SUFFIX` for it
        :param name: None for that of `files`
        :param flat: whether names have no directory in front
        :raises UsageError: `suffix` cannot be used
        """
        self.names = ChunkNames(suffix, flat=flat)
        self._names = self.names.of
        self.files = files
        self.far, self.eager = not files.near, files.eager
        self.name = name if name is not None else files.name
        self.compression = compression
        self._mostly_packed = compression is not Compression.NONE
        self._lock = threading.Lock()
        self._found_unsynced = False
        self._survey: Survey | None = None

    @property
    def own_paths(self) -> tuple[bytes, ...]:
        """Directories of this machine that the chunks lie in, so that a scan can leave them out."""
        return self.files.own_paths

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def close(self) -> None:
        """Let go of what is held open. The store stays usable."""
        self.files.close()

    def leases(self) -> Files | None:
        """Where writers and collectors leave word for one another; None where files cannot be what that takes."""
        return self.files if _LEASES in self.files.can else None

    # ---- reading

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        damage: ChunkCorrupt | None = None
        plain, packed = self._names(id)
        # Near, as casync: the plain form costs no decompression. Far, what is likely: each look is a request.
        for name in (plain, packed) if self.files.near else self._likely(plain, packed):
            try:
                raw = self._read(name, name is packed, limit)
                if raw:
                    return checked(id, digest, raw, self.name, self._path(name))
            except (CompressionError, FileDamaged) as e:
                why = e.why if isinstance(e, FileDamaged) else str(e)
                damage = damage or ChunkCorrupt(id, self.name, why, self._path(name))
            except ChunkCorrupt as e:
                damage = damage or e
        if damage is not None:
            try:
                raise damage
            finally:
                del damage  # or the error and this frame, buffers and all, keep each other alive
        raise self._missing(id)

    def _missing(self, id: ChunkId) -> ChunkMissing:
        """That a chunk is not there; or that it is, but encrypted with another key. Far away, the first time tells."""
        if self.files.near or (Can.LIST in self.files.can and (self.names.locked or not self._looked)):
            self._looked = True
            name = self._names(id)[0]
            seen = (file.name for file in self.files.list(name, under=self.names.under, details=False))
            if locked := self.names.locked_for(id, seen):
                return ChunkLocked(id, self.name, key_ids(locked), self.given_key)
        return ChunkMissing(id, self.name, self.given_key)

    def encrypt(self, cipher: Cipher) -> None:
        """Read what is encrypted with a key, too, and write everything so."""
        self.files = EncryptedFiles(self.files, cipher)
        self.given_key = key_ids({cipher.suffix})
        self._overhead = cipher.overhead

    def get_many(self, wanted: Wanted, digest: Digest) -> list[bytes]:
        return self.begin(wanted, digest)()

    def begin(self, wanted: Wanted, digest: Digest) -> Callable[[], list[bytes]]:
        answers = self.begin_finding(wanted, digest)
        # Anything strange is left to `get`, which looks at every form of the chunk before it complains.
        return lambda: [
            answer if isinstance(answer, bytes) else self.get(id, digest, limit)
            for answer, (id, limit) in zip(answers(), wanted, strict=True)
        ]

    def begin_finding(self, wanted: Wanted, digest: Digest) -> Callable[[], list[Answer]]:
        if self.files.near:
            return lambda: self._verified(
                [self._unchecked(id, limit) for id, limit in wanted], wanted, digest
            )
        likely = self._mostly_packed
        stored = self.files.begin(self._asked(wanted, likely))
        return lambda: self._verified(self._far_away(wanted, likely, stored), wanted, digest)

    def _verified(self, found: list[bytes | None], wanted: Wanted, digest: Digest) -> list[Answer]:
        """:param found: None for what is not there, empty for what is of no good form"""
        ids = iter(digest.of_many([raw for raw in found if raw]))
        return [
            ChunkMissing(id, self.name)
            if raw is None
            else raw
            if raw and next(ids) == id
            else look_for(self, id, digest, limit)
            for raw, (id, limit) in zip(found, wanted, strict=True)
        ]

    def _unchecked(self, id: ChunkId, limit: int) -> bytes | None:
        """The content of a chunk in the form that is likely; empty for one of no good form, None for none."""
        plain, packed = self._names(id)
        try:
            for name in self._likely(plain, packed):
                raw = self._read(name, name is packed, limit)
                if raw:
                    self._mostly_packed = name is packed
                    return raw
        except (CompressionError, FileDamaged):
            return b""
        return None

    def _asked(self, wanted: Wanted, packed: bool) -> list[tuple[bytes, int]]:
        return [(self._names(id)[packed], file_limit(limit) if packed else limit) for id, limit in wanted]

    def _far_away(
        self,
        wanted: Wanted,
        packed: bool,
        likely: Callable[[], list[bytes | None]],
    ) -> list[bytes | None]:
        """As `_unchecked`, for several chunks with as few waits; None also for those that are too large.

        :param packed: whether the likely form, which was asked for, is the compressed one
        """
        found = [
            self._unpacked(stored, packed, limit) for stored, (_, limit) in zip(likely(), wanted, strict=True)
        ]
        left = [number for number, raw in enumerate(found) if not raw]
        others = [wanted[number] for number in left]
        content = self.files.read_many(self._asked(others, not packed)) if left else ()
        for number, stored in zip(left, content, strict=True):
            other = self._unpacked(stored, not packed, wanted[number][1])
            found[number] = found[number] if other is None else other
        return found

    def _unpacked(self, stored: bytes | None, packed: bool, limit: int) -> bytes | None:
        if not stored:
            return None
        try:
            raw = decompress(stored, limit) if packed else stored
        except CompressionError:
            return b""
        self._mostly_packed = packed
        return raw

    def _read(self, name: bytes, packed: bool, limit: int) -> bytes | None:
        """What a file of a chunk holds, unchecked; empty or None when it counts as missing."""
        stored = self.files.read(name, file_limit(limit) if packed else limit)
        return decompress(stored, limit) if stored and packed else stored

    def has(self, id: ChunkId) -> bool:
        return self._look(id) is not None

    def stored_size(self, id: ChunkId) -> int | None:
        """Bytes of the chunk's file; None when there is none."""
        status = self._look(id)
        return None if status is None else status.size

    def keep(self, id: ChunkId, durable_before: int = 0) -> bool:
        """Whether the chunk is there and whole; if so, after `sync` it is as durable as one that was just put.

        :param durable_before: nanoseconds since 1970; what was there before that moment is durable already, and whole
        """
        plain, packed = self._names(id)
        for name in self._likely(plain, packed):
            try:
                status = self.files.stat(name)
            except FileDamaged:
                continue
            if status is None or status.size == 0:
                continue
            fresh = status.arrived is None or status.arrived >= durable_before
            if self.verify_reused or (fresh and self.files.near):
                file = ChunkFile(name, id, name is packed, True)
                if not (self._is_whole(file, None) if fresh else self._is_right(file, None)):
                    continue
            if fresh:
                self._found_unsynced = True  # as in `put`: whoever wrote it may not have synced
            return True
        return False

    def _look(self, id: ChunkId) -> FileStatus | None:
        """About a file of a chunk, None if there is none."""
        for name in self._likely(*self._names(id)):
            try:
                status = self.files.stat(name)
            except FileDamaged:
                continue
            if status is not None and status.size > 0:
                return status
        return None

    def _is_written(self, id: ChunkId, name: bytes, data: memoryview) -> tuple[bool, list[bytes]]:
        """Whether `put` has nothing to do; and if not, the damaged files that it is to replace.

        Far away, it asks one question a chunk: whether the form is there that it writes, and that others of us wrote.
        """
        damaged: list[bytes] = []
        for file in self._in_order(id):
            if not self.files.near and file.name != name:
                continue
            try:
                whole = self._is_whole(file, data)
            except FileDamaged:
                continue  # replaced by a good one
            if whole:
                return True, []
            if whole is not None:
                damaged.append(file.name)
        return False, damaged

    def is_whole(self, id: ChunkId, data: ReadableBuffer) -> bool:
        """Whether `put` would have nothing to do. :raises FileError: the store could not be read"""
        return self._is_written(id, self._written_name(id), memoryview(data).cast("B"))[0]

    def _is_whole(self, file: ChunkFile, data: memoryview | None) -> bool | None:
        """Whether a file is the chunk, as far as is to be looked; None if there is none.

        :param data: the chunk, if it is known
        """
        if self.far:  # each look is a request
            status = self.files.stat(file.name)
            if status is None or not status.size or not self.verify_reused:
                return None if status is None else status.size > 0
            return self._is_right(file, data)
        if (found := self.files.peek(file.name, HEAD)) is None:
            return None
        stored = found[0].size
        if not stored or self.verify_reused:
            return stored > 0 and self._is_right(file, data)
        size = None if data is None else data.nbytes
        read = partial(self.files.read_range, file.name)
        whole = looks_whole(found[1], read, stored, size, packed=file.packed)
        return self._is_right(file, data) if whole is None else whole

    def _is_right(self, file: ChunkFile, data: memoryview | None) -> bool:
        """Whether a file holds the very chunk."""
        try:
            raw = self._read(file.name, file.packed, LARGEST if data is None else data.nbytes)
        except (CompressionError, FileDamaged):
            return False
        return raw is not None and is_chunk(raw, file.id, data)

    def _in_order(self, id: ChunkId) -> tuple[ChunkFile, ChunkFile]:
        """The files that a chunk may be in, the likely one first."""
        plain, packed = self.forms(id)
        return (packed, plain) if self._mostly_packed else (plain, packed)

    def _path(self, name: bytes) -> str:
        return f"{self.files.name}/{name.decode('ascii', 'replace')}"

    def _likely(self, plain: bytes, packed: bytes) -> tuple[bytes, bytes]:
        """Both names, the one that is likely to be there first."""
        return (packed, plain) if self._mostly_packed else (plain, packed)

    # ---- writing

    def _written_name(self, id: ChunkId) -> bytes:
        plain, packed = self._names(id)
        return plain if self.compression is Compression.NONE else packed

    def _encoded(self, data: ReadableBuffer) -> memoryview:
        """A chunk in the form that this store writes."""
        if self.compression is Compression.NONE:
            return memoryview(data).cast("B")
        return memoryview(compress(self.compression, data))

    def put(self, id: ChunkId, data: ReadableBuffer) -> Put:
        if memoryview(data).nbytes == 0:
            raise UsageError("a chunk has at least one byte")
        if self.far and not self.verify_reused:
            return self._put_far([(id, data)])[0]
        name = self._written_name(id)
        there, damaged = self._is_written(id, name, memoryview(data).cast("B"))
        if there:
            self._found_unsynced = True  # whoever wrote it, a run that was killed say, may not have synced
            return Put(False, 0)
        content = self._encoded(data)
        self.files.write(name, content)
        for other in filter(name.__ne__, damaged):  # casync would read it first
            self.files.remove(other)
        if self.also is not None:
            self.also(id, data)
        return Put(True, content.nbytes + self._overhead)

    def put_many(self, chunks: Sequence[tuple[ChunkId, ReadableBuffer]]) -> list[Put]:
        if not self.far or self.verify_reused:
            return [self.put(*chunk) for chunk in chunks]
        return self._put_far(chunks)

    def _put_far(self, chunks: Sequence[tuple[ChunkId, ReadableBuffer]]) -> list[Put]:
        given = [(self._written_name(id), partial(self._encoded, data)) for id, data in chunks]
        puts = put_together(self.files, self._survey, given)
        for put, (id, data) in zip(puts, chunks, strict=True):
            if put.new and self.also is not None:
                self.also(id, data)
        return [put._replace(stored=put.stored + self._overhead) if put.new else put for put in puts]

    @contextmanager
    def surveyed(self) -> Iterator[None]:
        self._survey = Survey(self.files, self.names.under) if self.files.paged else None
        try:
            yield
        finally:
            self._survey = None

    def sync(self) -> None:
        with self._lock:  # to the end: a second caller must not return before the first one's writes are down
            others, self._found_unsynced = self._found_unsynced, False
            self.files.sync(others=others)

    # ---- every file, for whoever checks a whole store

    def chunk_files(self) -> Iterator[ChunkFile]:
        """Every file that has the name of a chunk, in ascending order; both forms of a chunk are listed."""
        for file in self.files.list(under=self.names.under, details=False):
            found = self.names.read(file.name)
            if found is not None:
                yield found

    def forms(self, id: ChunkId) -> tuple[ChunkFile, ChunkFile]:
        """The files that a chunk may be in, whether there or not: the plain form and the compressed one."""
        return self.names.forms(id)

    def content(self, file: ChunkFile, limit: int) -> bytes | None:
        """What a chunk file holds, decompressed, its id unchecked; empty for an empty file, None if there is none.

        :raises CompressionError: it is not one good frame
        :raises FileDamaged: it is too large, or no regular file
        """
        return self._read(file.name, file.packed, limit)

    def replace(self, file: ChunkFile, data: ReadableBuffer) -> None:
        """Put the chunk `data` in the place of a damaged file."""
        good = self._written_name(file.id)
        self.files.write(good, self._encoded(data))
        if file.name != good:
            self.files.remove(file.name)

    # ---- listing and removing

    def ids(self) -> Iterator[ChunkId]:
        """The ids of all chunks, also of those that are encrypted with a key that nobody gave."""
        return self.names.ids_of(file.name for file in self.files.list(under=self.names.under, details=False))

    def remove(self, id: ChunkId) -> int:
        return sum(map(self.files.remove, self.names.all_of(id)))

    def remove_many(self, ids: Sequence[ChunkId], before: Before) -> int:
        return remove_chunks(self.files, self.names, ids, before)

    def younger(self, id: ChunkId, moment: int) -> bool:
        """Whether a file of the chunk was written, or came here, after a moment; where nobody knows, it was."""
        for name in self.names.all_of(id):
            status = self.files.stat(name)
            if status is not None and (
                status.modified is None or max(status.modified, status.arrived or 0) > moment
            ):
                return True
        return False

    def directories(self) -> int:
        return self.files.directories(self.names.under)

    def clean(self, before: int) -> int:
        return self.files.clean(self.names.under, before)
