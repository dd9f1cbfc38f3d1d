"""Packs: the chunks of an image in the order in which its layers first use them, and the index that finds them.

    >>> packed = write_packs(ids, spool, sink, digest=Digest.SHA512_256, base=base)
    >>> packed.packs, packed.index

Packs of a base image are listed again instead of written again, so that a new version stores only new chunks (a thin
pack). A base pack of which less than half is still used is not: its live chunks move to a new one, as they lie. Where
one pack ends is told by sizes alone, so the same chunks always give the same packs, whatever the number of threads.
What goes far away is sent right out of the spool.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from casync_compat.errors import ChunkMissing
from casync_compat.ids import ChunkId, Digest
from casync_compat.oci.image.chunkspool import ChunkSpool
from casync_compat.oci.image.packsource import PackSource
from casync_compat.oci.image.packview import PackView
from casync_compat.oci.spec import media
from casync_compat.oci.spec.blobs import BlobSink, BlobSource
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor
from casync_compat.oci.spec.packindex import ChunkPlace, PackIndex, PackRow
from casync_compat.progress import Reporter
from casync_compat.streams.transfer import OrderedPool

__all__ = ["PACK_SIZE", "BasePacks", "Packed", "pack_size", "write_packs"]

PACK_SIZE = 16 << 20
MOST_NEW_PACKS = 64
"""Packs are made larger, by powers of two, rather than more: tools are slow with hundreds of blobs."""
MOST_PACKS = 100
LIVE_SHARE = 0.5
_PARALLEL = 4


@dataclass(frozen=True, slots=True)
class BasePacks:
    """The packs of an image that a new one may build upon.

    :ivar source: where they are
    """

    source: BlobSource
    packs: tuple[Descriptor, ...]
    chunks: PackSource


@dataclass(frozen=True, slots=True)
class Packed:
    """The packs of an image.

    :ivar packs: in the order in which layers first use them
    :ivar new: those of them that were written now
    :ivar kept: those that a base image had
    """

    packs: tuple[Descriptor, ...]
    index: PackIndex
    new: tuple[Descriptor, ...]
    kept: tuple[Descriptor, ...]


@dataclass(slots=True)
class _Pack:
    """A pack that is planned: the chunks, whence they come, and where they will lie."""

    rows: list[PackRow] = field(default_factory=list)
    size: int = 0


def pack_size(total: int, most: int = MOST_NEW_PACKS) -> int:
    """The size in bytes at which a pack is full, when there are `total` bytes to pack."""
    size = PACK_SIZE
    while total > size * most:
        size *= 2
    return size


def write_packs(
    ids: Iterable[ChunkId],
    spool: ChunkSpool,
    sink: BlobSink,
    *,
    digest: Digest,
    media_type: str = media.PACK_ZSTD,
    base: BasePacks | None = None,
    repack: bool = False,
    progress: Reporter | None = None,
) -> Packed:
    """Store the packs that these chunks need.

    :param ids: all chunks of the image, in the order of their use; repeated ones do no harm
    :param spool: has those that the base has not
    :param repack: write everything anew, all packs full
    :param progress: told of the bytes that go into new packs
    :raises StoreError: a chunk of the base is missing or corrupt
    """
    order = list(dict.fromkeys(ids))
    places: dict[ChunkId, ChunkPlace] = {}
    if base is not None:
        for id_ in order:
            if spool.sizes(id_) is None:
                place = base.chunks.index.find(id_)
                if place is None:  # an index of the base that its pack index does not fit
                    raise ChunkMissing(id_, base.source.name)
                places[id_] = place
    dropped = _dropped(places, base, repack)
    kept = {id_: at for id_, at in places.items() if at.pack not in dropped}
    planned = _plan(
        [id_ for id_ in order if id_ not in kept], spool, places, len({p.pack for p in kept.values()})
    )
    if base is not None:
        base.chunks.prefetch(id_ for id_ in places if id_ not in kept)
    new = _write_all(planned, spool, sink, digest, media_type, base, progress or Reporter(None))
    return _number(order, kept, planned, new, base)


def _dropped(places: dict[ChunkId, ChunkPlace], base: BasePacks | None, repack: bool) -> set[int]:
    """Numbers of base packs that are not worth keeping."""
    if base is None:
        return set()
    live: dict[int, int] = {}
    for at in places.values():
        live[at.pack] = live.get(at.pack, 0) + at.stored
    if repack or len(live) > MOST_PACKS:
        return set(live)
    return {pack for pack, used in live.items() if used < LIVE_SHARE * base.packs[pack].size}


def _plan(ids: list[ChunkId], spool: ChunkSpool, places: dict[ChunkId, ChunkPlace], kept: int) -> list[_Pack]:
    rows = []
    for id_ in ids:
        sizes = spool.sizes(id_)
        if sizes is None:
            sizes = (places[id_].stored, places[id_].raw)
        rows.append(PackRow(id_, *sizes))
    full = pack_size(sum(row.stored for row in rows), max(MOST_NEW_PACKS - kept, 8))
    packs: list[_Pack] = []
    for row in rows:
        if not packs or packs[-1].size >= full:
            packs.append(_Pack())
        packs[-1].rows.append(row)
        packs[-1].size += row.stored
    return packs


def _write_all(
    planned: list[_Pack],
    spool: ChunkSpool,
    sink: BlobSink,
    digest: Digest,
    media_type: str,
    base: BasePacks | None,
    reporter: Reporter,
) -> list[Descriptor]:
    checked: set[ChunkId] = set()
    written: set[ChunkId] = set()
    lock = threading.Lock()
    state = reporter.state
    state.total = (state.total or state.done) + sum(pack.size for pack in planned)

    def told(row: PackRow) -> bytes:
        """A frame, which may be asked for again: to hash it, and to send it."""
        found = frame(row)
        with lock:
            if row.id not in written:
                written.add(row.id)
                state.done += row.stored
                if reporter.due:
                    reporter.report()
        return found

    def frame(row: PackRow) -> bytes:
        if spool.sizes(row.id) is not None or base is None:
            return spool.frame(row.id)
        found = base.chunks.frame(row.id, None if row.id in checked else digest)
        checked.add(row.id)
        return found

    def write(pack: _Pack) -> Descriptor:
        """Runs on a worker."""
        view = PackView(pack.rows, told, "the new packs")
        if sink.near:
            with sink.stage() as staged:
                for piece in view.frames():
                    staged.write(piece)
                return staged.commit(media_type)
        descriptor = view.descriptor(media_type)
        sink.borrow(descriptor, view)
        return descriptor

    done: list[Descriptor] = []
    with OrderedPool[Descriptor](_PARALLEL, _PARALLEL) as pool:
        for pack in planned:
            done += pool.submit(write, pack)
        done += pool.drain()
    return done


def _number(
    order: Sequence[ChunkId],
    kept: dict[ChunkId, ChunkPlace],
    planned: list[_Pack],
    new: list[Descriptor],
    base: BasePacks | None,
) -> Packed:
    """Put packs in the order of their first use, and say where each chunk is."""
    fresh: dict[ChunkId, tuple[int, int, PackRow]] = {}
    for number, pack in enumerate(planned):
        offset = 0
        for row in pack.rows:
            fresh[row.id] = (number, offset, row)
            offset += row.stored
    packs: dict[BlobDigest, Descriptor] = {}
    numbers: dict[BlobDigest, int] = {}
    chunks: list[tuple[ChunkId, ChunkPlace]] = []
    for id_ in order:
        place = kept.get(id_)
        if place is not None and base is not None:
            descriptor = base.packs[place.pack]
        else:
            at, offset, row = fresh[id_]
            descriptor = new[at]
            place = ChunkPlace(0, offset, row.stored, row.raw)
        number = numbers.setdefault(descriptor.digest, len(numbers))
        packs.setdefault(descriptor.digest, descriptor)
        chunks.append((id_, ChunkPlace(number, place.offset, place.stored, place.raw)))
    ordered = tuple(packs.values())
    index = PackIndex.build([(pack.digest, pack.size) for pack in ordered], chunks)
    written = {pack.digest for pack in new}
    return Packed(
        ordered,
        index,
        tuple(pack for pack in ordered if pack.digest in written),
        tuple(pack for pack in ordered if pack.digest not in written),
    )
