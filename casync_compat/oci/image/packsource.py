"""Chunks out of packs: one by one by range, or many at once with as few requests as make sense.

    >>> source = PackSource(layout, wrapper.packs, pack_index)
    >>> source.prefetch(index.ids())            # from far away: coalesced ranges, or whole packs, in parallel
    >>> source.get(chunk_id, digest, limit)

Where a chunk lies is what the pack index says; that it is the chunk is checked against its id, each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from casync_compat.closing import Closing
from casync_compat.compression import CompressionError, decompress
from casync_compat.errors import ChunkCorrupt, ChunkMissing
from casync_compat.ids import ChunkId, Digest
from casync_compat.oci.spec.blobs import BlobSource
from casync_compat.oci.spec.descriptor import Descriptor
from casync_compat.oci.spec.errors import BlobCorrupt
from casync_compat.oci.spec.packindex import ChunkPlace, PackIndex
from casync_compat.spool import Spool
from casync_compat.store.base import checked
from casync_compat.streams.transfer import OrderedPool

__all__ = ["Fetch", "PackSource", "plan_fetches"]

_GAP = 64 << 10
"""Bytes between two chunks that are fetched along rather than asked around: measured to halve the requests of an update
for a tenth more bytes."""
_LARGEST_RANGE = 8 << 20
_WHOLE_SHARE = 0.6
"""A pack of which more than this is wanted is fetched whole, and its digest checked."""
_PARALLEL = 8
_PIECE = 1 << 20


@dataclass(slots=True)
class Fetch:
    """One request: a range of a pack, or all of it.

    :ivar start: offset in the pack of its first byte
    :ivar end: offset after its last
    :ivar places: the chunks that are wanted of it
    """

    pack: int
    start: int
    end: int
    places: list[tuple[ChunkId, ChunkPlace]] = field(default_factory=list)


def plan_fetches(wanted: Iterable[tuple[ChunkId, ChunkPlace]], pack_sizes: Sequence[int]) -> list[Fetch]:
    """The requests that get these chunks, in the order of packs and offsets."""
    fetches: list[Fetch] = []
    by_pack: dict[int, list[tuple[ChunkId, ChunkPlace]]] = {}
    for id_, at in wanted:
        by_pack.setdefault(at.pack, []).append((id_, at))
    for pack in sorted(by_pack):
        places = sorted(by_pack[pack], key=lambda one: one[1].offset)
        if sum(at.stored for _, at in places) > _WHOLE_SHARE * pack_sizes[pack]:
            fetches.append(Fetch(pack, 0, pack_sizes[pack], places))
            continue
        current: Fetch | None = None
        for id_, at in places:
            end = at.offset + at.stored
            if (
                current is None
                or at.offset - current.end > _GAP
                or max(end, current.end) - current.start > _LARGEST_RANGE
            ):
                current = Fetch(pack, at.offset, end)
                fetches.append(current)
            current.end = max(current.end, end)
            current.places.append((id_, at))
    return fetches


class PackSource(Closing):
    """A ChunkSource over the packs of an image.

    :param source: where the packs are
    :param packs: their descriptors, in the order of the index
    """

    def __init__(self, source: BlobSource, packs: Sequence[Descriptor], index: PackIndex) -> None:
        self.name = source.name
        self.index = index
        self._source = source
        self._packs = packs
        self._near = source.near
        self._cached: dict[bytes, tuple[int, int]] = {}
        self._spool: Spool | None = None

    def close(self) -> None:
        """Let go of what was fetched ahead."""
        spool, self._spool = self._spool, None
        self._cached = {}
        if spool is not None:
            spool.close()

    def has(self, id: ChunkId) -> bool:
        return self.index.find(id) is not None

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        place = self.index.find(id)
        if place is None:
            raise ChunkMissing(id, self.name)
        if place.raw > limit:
            raise ChunkCorrupt(id, self.name, f"it has {place.raw} bytes, the limit is {limit}")
        return self._open(id, self._frame(id, place), place, digest)

    def _open(self, id: ChunkId, frame: bytes, place: ChunkPlace, digest: Digest) -> bytes:
        try:
            raw = decompress(frame, place.raw)
        except CompressionError as error:
            raise ChunkCorrupt(id, self.name, str(error)) from error
        if len(raw) != place.raw:
            raise ChunkCorrupt(id, self.name, f"it has {len(raw)} bytes, but the pack index says {place.raw}")
        return checked(id, digest, raw, self.name)

    def frame(self, id: ChunkId, digest: Digest | None) -> bytes:
        """A chunk as it lies in its pack, checked all the same.

        :param digest: None for a chunk that is read once more
        :raises StoreError: it is missing or corrupt
        """
        place = self.index.find(id)
        if place is None:
            raise ChunkMissing(id, self.name)
        frame = self._frame(id, place)
        if digest is not None:
            self._open(id, frame, place, digest)
        return frame

    def _frame(self, id: ChunkId, place: ChunkPlace) -> bytes:
        cached = self._cached.get(id)
        if cached is None or self._spool is None:
            return self._source.read_range(self._packs[place.pack], place.offset, place.stored)
        return self._spool.read_at(*cached)

    # ---- many at once

    def wanted(self, ids: Iterable[ChunkId]) -> list[tuple[ChunkId, ChunkPlace]]:
        """Those of the chunks, each once, that the packs have and that were not fetched yet."""
        return [
            (id_, place)
            for id_ in dict.fromkeys(ids)
            if id_ not in self._cached and (place := self.index.find(id_)) is not None
        ]

    def fetches(self, ids: Iterable[ChunkId]) -> list[Fetch]:
        """The requests that would get these chunks."""
        return plan_fetches(self.wanted(ids), [size for _, size in self.index.packs])

    def prefetch(self, ids: Iterable[ChunkId], on_bytes: Callable[[int], None] | None = None) -> None:
        """Fetch chunks that will be asked for, into a spool; nothing for a source where that gains nothing.

        :param on_bytes: called with the size of each piece fetched
        :raises BlobError: a pack is missing or corrupt
        """
        if self._near:
            return
        fetches = self.fetches(ids)
        if len(fetches) == 1 and fetches[0].end - fetches[0].start <= _GAP:
            return
        if not fetches:
            return
        spool = self._spool = self._spool or Spool("packs")
        with OrderedPool[None](_PARALLEL, 2 * _PARALLEL) as pool:
            for fetch in fetches:
                pool.submit(self._fetch, fetch, spool, on_bytes)
            for _ in pool.drain():
                pass

    def _fetch(self, fetch: Fetch, spool: Spool, on_bytes: Callable[[int], None] | None) -> None:
        """Runs on a worker."""
        at = base = spool.reserve(fetch.end - fetch.start)
        for piece in self._pieces(fetch):
            spool.write_at(at, piece)
            at += len(piece)
            if on_bytes is not None:
                on_bytes(len(piece))
        for id_, place in fetch.places:
            self._cached[id_] = (base + place.offset - fetch.start, place.stored)

    def _pieces(self, fetch: Fetch) -> Iterator[bytes]:
        pack = self._packs[fetch.pack]
        if fetch.end - fetch.start < pack.size:
            yield self._source.read_range(pack, fetch.start, fetch.end - fetch.start)
            return
        with self._source.open(pack) as stream:
            while piece := stream.read(_PIECE):
                yield piece

    def get_all(self, ids: Iterable[ChunkId], digest: Digest, use: Callable[[ChunkId, bytes], None]) -> int:
        """Fetch chunks request by request and hand each to `use`, on a worker; nothing is kept.

        :returns: bytes fetched
        :raises StoreError: a chunk is corrupt, or the packs do not have it
        """
        fetches = self.fetches(ids)
        with OrderedPool[None](_PARALLEL, 2 * _PARALLEL) as pool:
            for fetch in fetches:
                pool.submit(self._use, fetch, digest, use)
            for _ in pool.drain():
                pass
        return sum(fetch.end - fetch.start for fetch in fetches)

    def _use(self, fetch: Fetch, digest: Digest, use: Callable[[ChunkId, bytes], None]) -> None:
        """Runs on a worker."""
        pending = iter(fetch.places)
        id_, place = next(pending)
        held = bytearray()
        begin = fetch.start
        for piece in self._pieces(fetch):
            held += piece
            while place.offset + place.stored <= begin + len(held):
                frame = bytes(held[place.offset - begin : place.offset - begin + place.stored])
                use(id_, self._open(id_, frame, place, digest))
                following = next(pending, None)
                if following is None:
                    return
                id_, place = following
            drop = min(max(place.offset - begin, 0), len(held))
            del held[:drop]
            begin += drop
        raise BlobCorrupt(str(self._packs[fetch.pack].digest), self.name, "it ends before its last chunk")
