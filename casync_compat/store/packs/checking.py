"""Packs read as a whole and compared with their names, their tables, the index, and every chunk with its id."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from casync_compat.errors import FormatError
from casync_compat.ids import ChunkId
from casync_compat.packtable import parse_pack_table
from casync_compat.store.files import FileDamaged
from casync_compat.store.packs.packed import PackedStore
from casync_compat.store.packs.repacking import is_chunk
from casync_compat.store.packs.segment import Pack, PackedRow

__all__ = ["PackChecked", "PackFault", "check_pack", "packs_of"]


class PackFault(NamedTuple):
    """Something that is wrong.

    :ivar id: of the chunk; None for the pack as a whole
    :ivar kind: a word, as `verify` has them
    """

    id: ChunkId | None
    kind: str
    why: str


class PackChecked(NamedTuple):
    """What came of a look at a pack.

    :ivar file: its name, with the store's
    :ivar sizes: of the chunks in it that the index knows
    """

    pack: Pack
    file: str
    sizes: list[int]
    faults: list[PackFault]


def packs_of(store: PackedStore) -> Iterator[tuple[Pack, list[PackedRow]]]:
    """All packs that the index knows, and those of its rows that are about each."""
    store.reload()
    for segment in store.view().segments.values():
        for pack, rows in zip(segment.packs, segment.by_pack(), strict=True):
            yield pack, [segment.row(number) for number in rows]


def check_pack(store: PackedStore, pack: Pack, rows: Sequence[PackedRow]) -> PackChecked:
    """Read a pack and check all of it. May run on any thread."""
    name = store.place.pack_name(pack.sha256)
    file = f"{store.name}/{name.decode()}"
    sizes = [row.place.raw for row in rows]
    try:
        content = store.place.files.read(name, pack.size)
    except FileDamaged as error:
        return PackChecked(pack, file, sizes, [PackFault(None, "too-large", error.why)])
    if content is None:
        faults = [PackFault(row.id, "missing", f"chunk {row.id} is missing with its pack") for row in rows]
        return PackChecked(pack, file, sizes, faults)
    faults = []
    view = memoryview(content)
    for row in rows:
        frame = bytes(view[row.place.offset : row.place.offset + row.place.stored])
        if not is_chunk(row.id, frame, row.place.raw):
            faults.append(PackFault(row.id, "corrupt", f"chunk {row.id} in it is not what its id says"))
    if hashlib.sha256(content).digest() != pack.sha256:
        faults.append(PackFault(None, "corrupt", "its content is not what its name says"))
    else:
        try:
            parse_pack_table(content, pack.size)
        except FormatError as error:
            faults.append(PackFault(None, "corrupt", error.reason))
    return PackChecked(pack, file, sizes, faults)
