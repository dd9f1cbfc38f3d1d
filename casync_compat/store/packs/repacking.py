"""Chunks taken out of a packed store, and the room that they took won back.

A pack of which less than half lives is dropped, and what lives in it moves to a new one as it lies; so do packs that
are small, when there are many of them. First the new packs are durable, then the head names them and says which packs
it no longer has, and only then their files go: at once where reading is near, else after ten minutes. Whoever reads one
that has gone looks at the head again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from operator import attrgetter

from casync_compat.batches import batches
from casync_compat.compression import CompressionError, decompress
from casync_compat.ids import ChunkId, Digest, DigestUnavailable
from casync_compat.store.packs.filling import PACK_SIZE, Filling, Written, with_packs
from casync_compat.store.packs.head import MAX_REMOVED, Removed
from casync_compat.store.packs.place import Draft, PackPlace, View
from casync_compat.store.packs.ranges import PackGone, Ranges
from casync_compat.store.packs.segment import PackedRow, Segment, merged

__all__ = ["clean", "is_chunk", "repack", "without"]

_LIVE_SHARE = 0.5
_SMALL = PACK_SIZE // 4
_MOST_SMALL = 8
"""Packs that may be small before they are put together."""
_GRACE = 600
"""Seconds, as long as a lease lives, after which the file of a pack goes that readers far away may still look for."""
_BATCH = 4 << 20

Change = Callable[[View], Draft | None]


def without(
    dead: Collection[bytes],
    known: View,
    *,
    packs: Collection[bytes] = (),
    then: Change = lambda view: None,
    moment: int | None = None,
    forgotten: Collection[bytes] = (),
) -> Change:
    """The change of a head by which chunks, and whole packs, are no longer in the index.

    :param known: what was looked at; chunks in packs that came since are somebody's who is at work, and stay
    :param packs: these go, whatever is in them
    :param then: what is changed besides, after it
    :param moment: of now, in seconds since 1970
    :param forgotten: packs whose files have gone already, and need not be remembered
    """
    going, old, gone = frozenset(dead), frozenset(known.packs()), frozenset(packs)

    def lives(row: PackedRow) -> bool:
        return row.place.pack not in gone and (row.id not in going or row.place.pack not in old)

    def change(view: View) -> Draft | None:
        generation = view.head.generation + 1
        segments: dict[bytes, Segment] = {}
        for name, segment in view.segments.items():
            if gone.isdisjoint(pack.sha256 for pack in segment.packs) and going.isdisjoint(segment.ids()):
                segments[name] = segment
                continue
            rows = [row for row in segment if lives(row)]
            used = {row.place.pack for row in rows}
            if rows:
                packs_ = [pack for pack in segment.packs if pack.sha256 in used]
                segments[b"%d" % len(segments)] = Segment.build(packs_, rows, generation)
        removed = [one for one in view.head.removed if one.sha256 not in forgotten]
        draft = then(View(view.head, view.version, segments)) or Draft(list(segments.values()), removed)
        left = {pack.sha256 for segment in draft.segments for pack in segment.packs}
        when = int(time.time()) if moment is None else moment
        lost = [Removed(name, size, when) for name, size in view.packs().items() if name not in left]
        removed = [one for one in removed if one.sha256 not in left] + lost
        if list(draft.segments) == list(view.segments.values()) and removed == list(view.head.removed):
            return None
        return Draft(draft.segments, removed[-MAX_REMOVED:], True)

    return change


def repack(
    place: PackPlace,
    view: View,
    ranges: Ranges,
    dead: Collection[bytes],
    check: Callable[[], None],
    force: Collection[bytes] = (),
) -> tuple[View, int]:
    """Take chunks out, and win back the room of packs that hold little else.

    :param check: called before anything is changed for good
    :param force: packs that are to go, if what lives in them can be moved
    :returns: what is there then, and bytes freed
    """
    view = place.load(view)
    grace = 0 if place.files.near else _GRACE
    now = int(time.time())
    due = {one.sha256 for one in view.head.removed if now - one.moment >= grace} - view.packs().keys()
    victims = _victims(view, dead) | (view.packs().keys() & set(force))
    moved, victims = _move(place, view, ranges, dead, victims)
    check()
    for sha256 in due:
        place.remove_pack(sha256)
    change = without(dead, view, packs=victims, then=with_packs(moved), moment=now, forgotten=due)
    after = place.swap(change)
    lost = {one.sha256: one.size for one in after.head.removed if one.sha256 in view.packs()}
    if not grace:
        for sha256 in lost:
            check()
            place.remove_pack(sha256)
    return after, sum(lost.values()) - sum(pack.size for pack, _ in moved)


def _victims(view: View, dead: Collection[bytes]) -> set[bytes]:
    """The packs that are to go."""
    live: Counter[bytes] = Counter()
    for row in merged(list(view.segments.values())):
        if row.id not in dead:
            live[row.place.pack] += row.place.stored
    packs = view.packs()
    out = {name for name, size in packs.items() if live[name] < _LIVE_SHARE * size}
    small = {name for name, size in packs.items() if live[name] < _SMALL}
    return out | small if len(small) >= _MOST_SMALL else out


def _move(
    place: PackPlace, view: View, ranges: Ranges, dead: Collection[bytes], victims: set[bytes]
) -> tuple[list[Written], set[bytes]]:
    """Write what lives in some packs to new ones.

    :returns: these, and the packs that may go now; one with a chunk that is damaged stays, for whoever can mend it
    """
    order = {name: number for number, name in enumerate(view.packs())}
    rows = [
        row
        for row in merged(list(view.segments.values()))
        if row.place.pack in victims and row.id not in dead
    ]
    rows.sort(key=lambda row: (order[row.place.pack], row.place.offset))
    written: list[Written] = []
    good = set(victims)
    filling = Filling()
    for batch in batches(rows, _BATCH, attrgetter("place.stored")):
        for row, frame in zip(batch, _frames(ranges, batch), strict=True):
            if frame is None or not is_chunk(row.id, frame, row.place.raw):
                good.discard(row.place.pack)
            elif filling.add(row.id, frame, row.place.raw):
                written.append(_written(place, filling))
                filling = Filling()
    if filling.ids:
        written.append(_written(place, filling))
    return written, good


def _written(place: PackPlace, filling: Filling) -> Written:
    pack = place.write_pack(filling.content())
    return pack, filling.rows(pack)


def _frames(ranges: Ranges, rows: Sequence[PackedRow]) -> list[bytes] | list[bytes | None]:
    try:
        return ranges.read([row.place for row in rows])
    except PackGone:
        return [_frame(ranges, row) for row in rows]


def _frame(ranges: Ranges, row: PackedRow) -> bytes | None:
    try:
        return ranges.read([row.place])[0]
    except PackGone:
        return None


def is_chunk(id: ChunkId, frame: bytes, size: int) -> bool:
    """Whether a chunk as it is stored is the one of this id, by any digest, and of this size."""
    try:
        raw = decompress(frame, size)
    except CompressionError:
        return False
    return len(raw) == size and any(_has_id(digest, raw, id) for digest in Digest)


def _has_id(digest: Digest, raw: bytes, id: ChunkId) -> bool:
    try:
        return digest.of(raw) == id
    except DigestUnavailable:
        return False


def clean(place: PackPlace, before: int) -> int:
    """Remove packs and segments that no head names, if they were written before a moment; how many.

    :param before: nanoseconds since 1970
    """
    view = place.load()
    known = view.packs().keys() | {one.sha256 for one in view.head.removed}
    count = 0
    for pack, modified in list(place.pack_files()):
        if pack.sha256 not in known and modified is not None and modified < before:
            count += place.remove_pack(pack.sha256) > 0
    for sha256, modified in list(place.segment_files()):
        if sha256 not in view.segments and modified is not None and modified < before:
            count += place.files.remove(place.segment_name(sha256)) > 0
    return count
