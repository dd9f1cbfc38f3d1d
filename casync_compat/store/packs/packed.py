"""The chunk store of packs over any place of files that has ranges, lists, writes and conditional writes.

Chunks go into packs of 16 MiB in the order in which they come, so that what is read together lies together: a request
for some seven hundred chunks instead of one for each. They are in the index after `sync`. Two who write at once lose
nothing, whoever is first (`store.packs.place`); readers who find a pack gone look at the head once more. PACKS in
README.md beside this has the format. Not here: taking packs out (`store.packs.repacking`), and stores that have chunk
files besides (`store.packs.mixed`).

    >>> store = PackedStore(PackPlace(files))
    >>> store.put(id, raw)
    Put(new=True, stored=1482)
    >>> store.sync()
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING

from casync_compat.compression import Compression, compress
from casync_compat.errors import ChunkCorrupt, ChunkMissing, UsageError
from casync_compat.ids import ChunkId, Digest
from casync_compat.store.base import Put
from casync_compat.store.files import Can, Files
from casync_compat.store.packs.filling import Filling, Written, with_packs
from casync_compat.store.packs.place import PackPlace
from casync_compat.store.packs.reading import PackedReader
from casync_compat.store.packs.repacking import clean, repack, without
from casync_compat.store.packs.segment import PackedPlace

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["PackedStore"]

_WRITERS = 2
"""Packs that are written at a time, and held in memory meanwhile."""
_EARLY = 64
"""Packs after which they are made part of the index, so that a run that breaks off has not worked for nothing."""
_LEASES = Can.LIST | Can.WRITE | Can.SWAP | Can.DATES


class PackedStore(PackedReader):
    """A ChunkSource, BatchSource, ChunkSink, Keeping and Prunable of packs.

    :ivar verify_reused: whether `put` and `keep` read a chunk that is there, to see that it is the right one
    :param compression: of new chunks; NONE is taken for zstd, since chunks in packs are compressed
    """

    verify_reused: bool = False

    def __init__(self, place: PackPlace, *, compression: Compression = Compression.ZSTD) -> None:
        super().__init__(place)
        self._compression = Compression.ZSTD if compression is Compression.NONE else compression
        self._filling = Filling()
        self._under_way: list[Filling] = []
        self._written: list[Written] = []
        self._places: dict[ChunkId, PackedPlace] = {}
        """Of chunks in packs that are written, and not yet in the index."""
        self._writers = threading.Semaphore(_WRITERS)
        self._idle = threading.Condition(self._lock)
        self._failed: BaseException | None = None
        self._syncing = threading.Lock()
        self._removed: set[bytes] = set()
        self._relied = bytearray()
        """Ids of chunks that `put` and `keep` found there, since the last `sync`."""
        self._collections: int | None = None
        """How often chunks had been taken out when the first of them was found."""
        self._dates: dict[bytes, int | None] = {}

    def leases(self) -> Files | None:
        """Where writers and collectors leave word for one another; None where files cannot be what that takes."""
        return self.place.files if _LEASES in self.place.files.can else None

    def _find(self, id: bytes) -> PackedPlace | None:
        """Where a chunk is that the index has, or will have."""
        place = self._places.get(ChunkId(id))
        return super()._find(id) if place is None and id not in self._removed else place

    def _is_removed(self, id: bytes) -> bool:
        return id in self._removed

    def _unwritten(self, id: ChunkId) -> bytes | None:
        """A chunk in a pack that is not yet written."""
        with self._lock:
            for filling in (self._filling, *self._under_way):
                frame = filling.frame(id)
                if frame is not None:
                    return frame
        return None

    def keep(self, id: ChunkId, durable_before: int = 0) -> bool:
        """Whether the chunk is there; if so, after `sync` it is as durable as one that was just put.

        :param durable_before: of no use here: what the index has is durable
        """
        if self._unwritten(id) is None:
            place = self._find(id)
            if place is None or (self.verify_reused and not self._is_right(id, None)):
                return False
            self._rely(id)
        return True

    def _is_right(self, id: ChunkId, data: memoryview | None) -> bool:
        """Whether what is stored is the very chunk."""
        for digest in Digest:
            try:
                raw = self.get(id, digest, 256 << 20)
            except (ChunkCorrupt, ChunkMissing):
                continue
            return data is None or data == memoryview(raw)
        return False

    def _rely(self, id: ChunkId) -> None:
        with self._lock:
            if self._collections is None and self._view is not None:
                self._collections = self._view.head.collections
            self._relied += id

    # ---- writing

    def put(self, id: ChunkId, data: ReadableBuffer) -> Put:
        view = memoryview(data).cast("B")
        if view.nbytes == 0:
            raise UsageError("a chunk has at least one byte")
        if self._is_there(id, view):
            return Put(False, 0)
        return self._add(id, compress(self._compression, view), view.nbytes)

    def adopt(self, id: ChunkId, frame: bytes, raw: int) -> Put:
        """Store a chunk that is compressed already, as `put` does; that it is the chunk is the caller's promise.

        :param raw: bytes of the chunk itself
        """
        if self._unwritten(id) is not None or self._find(id) is not None:
            return Put(False, 0)
        return self._add(id, frame, raw)

    def _add(self, id: ChunkId, frame: bytes, raw: int) -> Put:
        with self._idle:
            # Where packs come faster than they are written, whoever has chunks waits: memory is for so many packs.
            self._idle.wait_for(lambda: len(self._under_way) < _WRITERS)
            if self._unwritten(id) is not None or id in self._places:
                return Put(False, 0)
            filling = self._filling if self._filling.add(id, frame, raw) else None
            if filling is not None:
                self._start(filling)
        if filling is not None:
            self._write(filling)
        return Put(True, len(frame))

    def _is_there(self, id: ChunkId, data: memoryview) -> bool:
        if self._unwritten(id) is not None or id in self._places:
            return True
        if self._find(id) is None or (self.verify_reused and not self._is_right(id, data)):
            return False
        self._rely(id)
        return True

    def _start(self, filling: Filling) -> None:
        self._under_way.append(filling)
        self._filling = Filling()

    def _write(self, filling: Filling) -> None:
        """Write a pack that is in `_under_way`."""
        try:
            with self._writers:
                pack = self.place.write_pack(filling.content())
            rows = filling.rows(pack)
            with self._lock:
                self._written.append((pack, rows))
                self._places.update((row.id, row.place) for row in rows)
        except BaseException as error:
            with self._lock:
                self._failed = error  # others were told that their chunks are in it
            raise
        finally:
            with self._idle:
                self._under_way.remove(filling)
                self._idle.notify_all()

    def flush(self) -> None:
        """Make full packs part of the index when there are many: what `sync` is too dear for, again and again."""
        if len(self._written) >= _EARLY:
            with self._syncing:
                self._publish()

    def sync(self) -> None:
        with (
            self._syncing
        ):  # to the end: a second caller must not return before the first one's chunks are down
            with self._lock:
                filling = self._filling if self._filling.ids else None
                if filling is not None:
                    self._start(filling)
                before = list(self._under_way)
            if filling is not None:
                self._write(filling)
            with self._idle:
                self._idle.wait_for(lambda: not any(one in self._under_way for one in before))
            self._publish()
            if self._removed:
                self.repack()

    def _publish(self) -> None:
        """Make what is written part of the index."""
        if self._failed is not None:
            raise self._failed
        with self._lock:
            written = list(self._written)
            removed = self._removed.intersection(id for _, rows in written for id, _ in rows)
            relied, self._relied = self._relied, bytearray()
            since, self._collections = self._collections, None
        if not written:
            if relied:
                self.reload()
                self._check(relied, since)
            return
        change = with_packs(written)
        view = self.place.swap(without(removed, self.view(), then=change) if removed else change)
        with self._lock:
            self._use(view)
            self._written = [one for one in self._written if one not in written]
            self._removed -= removed
            for _, rows in written:
                for id, _ in rows:
                    self._places.pop(id, None)
        self._check(relied, since)

    def _check(self, relied: bytearray, since: int | None) -> None:
        """See that chunks that were there are there still. :raises ChunkMissing: somebody collected one meanwhile"""
        if self.view().head.collections == since:
            return
        for at in range(0, len(relied), 32):
            id = ChunkId(relied[at : at + 32])
            if id not in self._removed and self._find(id) is None:
                raise ChunkMissing(id, self.name)

    # ---- listing and removing

    def ids(self) -> Iterator[ChunkId]:
        self.reload()
        with self._lock:
            new = {*self._filling.ids, *self._places}.union(*(one.ids for one in self._under_way))
            gone = self._removed - new
        last = b""
        for id in heapq.merge(sorted(new), *(segment.ids() for segment in self.view().segments.values())):
            if id != last and id not in gone:
                yield id
            last = id

    def remove(self, id: ChunkId) -> int:
        """Take a chunk out of the index at the next `repack` or `sync`; it is gone for this object at once."""
        if self._unwritten(id) is not None or id in self._places:
            self.sync()
        place = self._find(id)
        if place is None:
            return 0
        with self._lock:
            self._removed.add(id)
        return place.stored

    def younger(self, id: ChunkId, moment: int) -> bool:
        """Whether the pack of the chunk was written after a moment; where nobody knows, it was."""
        place = self._find(id)
        if place is None:
            return self._unwritten(id) is not None
        if place.pack not in self._dates:
            status = self.place.files.stat(self.place.pack_name(place.pack))
            self._dates[place.pack] = None if status is None else status.modified
        date = self._dates[place.pack]
        return date is None or date > moment

    def repack(self, check: Callable[[], None] = lambda: None, force: Collection[bytes] = ()) -> int:
        """Take out what was removed, write packs anew of which little lives, and remove files nobody needs any more.

        :param check: called before anything is changed for good; may raise
        :param force: sha256 of packs that are written anew however much lives in them
        :returns: bytes freed beyond what `remove` said, less than 0 if it was less
        """
        dead = frozenset(self._removed)
        before = self.view()
        view, freed = repack(self.place, before, self._ranges, dead, check, force)
        told = sum(place.stored for id in dead if (place := before.find(id)) is not None)
        with self._lock:
            self._use(view)
            self._removed -= dead
            self._dates.clear()
        return freed - told

    def end(self) -> None:
        """Remove the head, when nothing is in the index any more and nobody has changed it."""
        self.place.drop(self.view())
        with self._lock:
            self._view = None

    def directories(self) -> int:
        """None: what packs lie in is not counted."""
        return 0

    def clean(self, before: int) -> int:
        """Remove what runs left behind that were killed, if it was written before a moment."""
        return clean(self.place, before)
