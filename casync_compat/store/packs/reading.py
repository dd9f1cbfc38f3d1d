"""Packs read: chunks found by the index, fetched by ranges, and checked, each by its id.

Readers that find a pack gone, or no chunk, look at the head once more before they say so. Writing is
`store.packs.packed`, which builds on this.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

from casync_compat.closing import Closing
from casync_compat.compression import CompressionError, decompress
from casync_compat.errors import ChunkCorrupt, ChunkMissing, FormatError
from casync_compat.ids import ChunkId, Digest
from casync_compat.store.base import checked
from casync_compat.store.files import Can
from casync_compat.store.finding import Answer, Wanted, look_for
from casync_compat.store.packs.place import PackPlace, View
from casync_compat.store.packs.ranges import PackGone, Ranges
from casync_compat.store.packs.repacking import is_chunk
from casync_compat.store.packs.segment import PackedPlace

__all__ = ["PackedReader"]

_FRESH = 1.0
"""Seconds for which a head that was read is believed when a chunk is not in it."""


class PackedReader(Closing):
    """A ChunkSource and BatchSource of packs.

    :ivar place: where they are
    :ivar far: whether each look is a request
    :ivar eager: whether `begin` asks at once; where it does not, threads that wait read ahead for one another
    :ivar name: the place for messages
    """

    def __init__(self, place: PackPlace) -> None:
        self.place = place
        self.name = place.name
        self.far = not place.files.near
        self.eager = place.files.eager and Can.RANGE in place.files.can
        self._ranges = Ranges(place)
        self._lock = threading.RLock()
        self._view: View | None = None
        self._looked = 0.0

    @property
    def own_paths(self) -> tuple[bytes, ...]:
        """Directories of this machine that the packs lie in, so that a scan can leave them out."""
        return self.place.files.own_paths

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def close(self) -> None:
        """Let go of what is held open. The store stays usable."""
        self._ranges.forget()
        self.place.files.close()

    # ---- the index

    def view(self) -> View:
        """The index as it was read last. :raises FileDamaged: it is not what it should be"""
        with self._lock:
            if self._view is None:
                self._use(self.place.load())
            assert self._view is not None
            return self._view

    def _use(self, view: View) -> None:
        with self._lock:
            self._looked = time.monotonic()
            if view is not self._view:
                self._view = view
                self._ranges.use(view)

    def reload(self, *, patient: bool = False) -> bool:
        """Read the head again; whether it is another than before.

        :param patient: not when that was done just now
        """
        with self._lock:
            before = self._view
            if patient and before is not None and time.monotonic() - self._looked < _FRESH:
                return False
            self._use(self.place.load(before))
            return self._view is not before

    def _find(self, id: bytes) -> PackedPlace | None:
        """Where a chunk is; None when the index does not have it. :raises ChunkCorrupt: it cannot be there"""
        try:
            return self.view().find(id)
        except FormatError as error:
            raise ChunkCorrupt(id, self.name, error.reason) from error

    def _unwritten(self, id: ChunkId) -> bytes | None:
        """A chunk as it is stored, in a pack that is not yet written."""
        return None

    def _is_removed(self, id: bytes) -> bool:
        """Whether a chunk was taken out, though the index does not say so yet."""
        return False

    # ---- reading

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        for last in (False, True):
            frame = self._unwritten(id)
            place = None if frame is not None else self._find(id)
            if frame is None and place is None:
                if not last and not self._is_removed(id) and self.reload(patient=True):
                    continue
                break
            if place is not None:
                if place.raw > limit:
                    raise ChunkCorrupt(id, self.name, f"it has {place.raw} bytes, the limit is {limit}")
                try:
                    frame = self._ranges.read([place])[0]
                except PackGone as gone:
                    if not last and self.reload():
                        continue
                    raise ChunkCorrupt(
                        id, self.name, "its pack is gone, or cut", self._path(gone.sha256)
                    ) from None
            assert frame is not None
            return self._opened(id, frame, place, digest, limit)
        raise ChunkMissing(id, self.name)

    def _opened(
        self, id: ChunkId, frame: bytes, place: PackedPlace | None, digest: Digest, limit: int
    ) -> bytes:
        file = "" if place is None else self._path(place.pack)
        try:
            raw = decompress(frame, limit if place is None else place.raw)
        except CompressionError as error:
            raise ChunkCorrupt(id, self.name, str(error), file) from error
        if place is not None and len(raw) != place.raw:
            raise ChunkCorrupt(id, self.name, f"it has {len(raw)} bytes, the index says {place.raw}", file)
        return checked(id, digest, raw, self.name, file)

    def _path(self, pack: bytes) -> str:
        return f"{self.name}/{self.place.pack_name(pack).decode('ascii')}"

    def get_many(self, wanted: Wanted, digest: Digest) -> list[bytes]:
        return self.begin(wanted, digest)()

    def begin(self, wanted: Wanted, digest: Digest) -> Callable[[], list[bytes]]:
        answers = self.begin_finding(wanted, digest)
        return lambda: [
            one if isinstance(one, bytes) else self.get(id, digest, limit)
            for one, (id, limit) in zip(answers(), wanted, strict=True)
        ]

    def begin_finding(self, wanted: Wanted, digest: Digest) -> Callable[[], list[Answer]]:
        if not self.eager:
            return lambda: self.find_many(wanted, digest)
        places = self._places_of(wanted)
        frames = self._ranges.begin(list(places.values()))
        return lambda: self._found(wanted, digest, places, frames)

    def find_many(self, wanted: Wanted, digest: Digest) -> list[Answer]:
        """For each chunk its bytes, verified, or what `get` would raise."""
        places = self._places_of(wanted)
        return self._found(wanted, digest, places, lambda: self._ranges.read(list(places.values())))

    def _places_of(self, wanted: Wanted) -> dict[int, PackedPlace]:
        """Where chunks are, by their number; not of those that need another look."""
        return {
            number: place
            for number, (id, limit) in enumerate(wanted)
            if self._unwritten(id) is None and (place := self._place(id)) is not None and place.raw <= limit
        }

    def _found(
        self,
        wanted: Wanted,
        digest: Digest,
        places: Mapping[int, PackedPlace],
        read: Callable[[], list[bytes]],
    ) -> list[Answer]:
        """:param read: gives what is at those places, as it is stored"""
        found: list[bytes | None] = [None] * len(wanted)
        try:
            frames = read() if places else []
        except PackGone:
            frames = []
        for number, frame in zip(places, frames, strict=False):
            with suppress(CompressionError):
                found[number] = decompress(frame, places[number].raw)
        ids = iter(digest.of_many([raw for raw in found if raw is not None]))
        # Anything strange is left to `get`, which says what is wrong.
        return [
            raw if raw is not None and next(ids) == id else look_for(self, id, digest, limit)
            for raw, (id, limit) in zip(found, wanted, strict=True)
        ]

    def _place(self, id: ChunkId) -> PackedPlace | None:
        with suppress(ChunkCorrupt):
            return self._find(id)
        return None

    def stored_size(self, id: ChunkId) -> int | None:
        """Bytes of the chunk as stored; None when it is not there."""
        frame = self._unwritten(id)
        place = None if frame is not None else self._find(id)
        return len(frame) if frame is not None else None if place is None else place.stored

    def has(self, id: ChunkId) -> bool:
        return self._unwritten(id) is not None or self._find(id) is not None

    # ---- as they lie

    def in_packs(self, most: int) -> Iterator[list[ChunkId]]:
        """The ids of all chunks in the index, so many at a time, as they lie in packs."""
        for segment in self.view().segments.values():
            for rows in segment.by_pack():
                for at in range(0, len(rows), most):
                    yield [segment.row(number).id for number in rows[at : at + most]]

    def frames(self, ids: Sequence[ChunkId]) -> list[bytes | None]:
        """Chunks as they are stored, checked by any digest; None for those that are damaged."""
        out: list[bytes | None] = []
        for id in ids:
            place = self._place(id)
            frame = None
            if place is not None:
                with suppress(PackGone):
                    frame = self._ranges.read([place])[0]
            out.append(frame if frame and place and is_chunk(id, frame, place.raw) else None)
        return out
