"""The index of a packed store made anew from the tables at the ends of its packs, when its head is lost or damaged."""

from __future__ import annotations

import time
from collections.abc import Callable

from casync_compat.errors import CasyncError, FormatError
from casync_compat.store.files import FileDamaged
from casync_compat.store.packs.filling import Written, with_packs
from casync_compat.store.packs.place import PackPlace, View
from casync_compat.store.packs.segment import PackedRow

__all__ = ["rebuild"]


def rebuild(place: PackPlace, tell: Callable[[str], None]) -> View:
    """Make segments and head of all packs that are there, those that were removed but not yet deleted included.

    :param tell: called with a line about each pack that cannot be read, and is left out
    :raises FileChanged: somebody else has changed the head meanwhile
    """
    written: list[Written] = []
    for pack, _ in place.pack_files():
        try:
            written.append((pack, [PackedRow(*row) for row in place.rows(pack)]))
        except FileDamaged as error:
            tell(str(error))
    try:
        generation = place.load().head.generation
    except (CasyncError, FormatError):
        generation = 0
    # Higher than any there was: the old one may not be readable, and a head in a second is more than anybody makes.
    return place.replace(max(generation, int(time.time())) + 1, with_packs(written))
