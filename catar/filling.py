"""Runs of ordinary nodes on their way into an archive: whoever reads files leaves room for the records before each, and
they are written there in one call.

An ordinary node is a regular file or symlink with nothing but an ENTRY, perhaps USER and GROUP, and its tail. Its bytes
are `Owners.HEAD`, the name, the owner's records, and the contents (of a symlink its target and a NUL); what stands
before the contents is written by `fill`.

    >>> owners = Owners(features)
    >>> owners.add(0, 0, 0, 0, None, None)
    >>> room[114 + 3 : 114 + 3 + 5] = b"hello"  # of "abc"

A row (`FILE_ROW` in `catar.schema`) says of a node what ENTRY does not get from its owner, and where its contents lie.
`fill` here is the Python twin of that in `_filling.c`. Nothing here reads files, and what makes a node
ordinary is for its reader to say; `fill` refuses what could not stand in an archive.
"""

from __future__ import annotations

import stat
from array import array

from siphashc import siphash

from catar import layouts
from catar.grammar import check_entry, check_name
from catar.layouts import FILE_ROW, GAP_ROW, ORDINARY_NAME_MAX

__all__ = ["Owners", "fill"]

_FILE_MODE = stat.S_IFREG | 0o644
_LINK = stat.S_IFLNK | 0o777
_MOST_OWNERS = 32

_rows = FILE_ROW.row_reader("mode", "uid", "gid", "mtime", "size", "place")
_pack_gap = GAP_ROW.writer("uid", "gid", "length")
_pack_header = layouts.HEADER.writer("size", "type")
_pack_entry = layouts.ENTRY.head.writer("feature_flags", "mode", "flags", "uid", "gid", "mtime")


class Owners:
    """How the owners of files stand in one archive.

    :ivar rows: for each, ids of the file, ids as stored, and USER and GROUP records
    :ivar gaps: a row (`GAP_ROW`) for each: ids of the file and length of those records
    """

    HEAD = layouts.FILENAME.head.size + 1 + layouts.ENTRY.head.size + layouts.PAYLOAD.head.size
    """Bytes before a node's contents beside its name and its owner's records."""

    def __init__(self, features: int) -> None:
        self._features = features
        self.rows: list[tuple[int, int, int, int, bytes]] = []
        self.gaps = b""

    def has(self, uid: int, gid: int) -> bool:
        """Whether an owner is known."""
        return any(row[0] == uid and row[1] == gid for row in self.rows)

    def add(
        self, uid: int, gid: int, stored_uid: int, stored_gid: int, user: bytes | None, group: bytes | None
    ) -> None:
        """Note an owner. One that cannot be stored is left out: the node says what is wrong when it is encoded alone.

        Few are kept, the latest, so that looking one up stays cheap.
        """
        if check_entry(_FILE_MODE, 0, stored_uid, stored_gid, 0, self._features):
            return
        records = b""
        for layout, name in ((layouts.USER, user), (layouts.GROUP, group)):
            if name is not None:
                record = layout.pack(tail=name + b"\0")
                if b"\0" in name or not layout.accepts(len(record)):
                    return
                records += record
        # Replaced and never changed, because a run that was read by the old table is filled by it.
        self.rows = [*self.rows[1 - _MOST_OWNERS :], (uid, gid, stored_uid, stored_gid, records)]
        self.gaps = b"".join(_pack_gap(*row[:2], len(row[4])) for row in self.rows)


def fill(
    room: bytearray | memoryview,
    begin: int,
    base: int,
    names: bytes,
    rows: bytes,
    features: int,
    granularity: int,
    owners: list[tuple[int, int, int, int, bytes]],
    symlinks: bool,
    last_name: bytes,
    key: bytes,
    /,
) -> tuple[int, bytes, bytes, bytes]:
    """Write the records of a run of nodes before the contents of each.

    :param room: holds the contents, one node behind the other, each with room for its records before it
    :param begin: offset in `room` of the first node
    :param base: offset of that node in the archive
    :param names: each followed by a NUL
    :param rows: a `FILE_ROW` for each
    :param features: the feature flag word
    :param granularity: of times, in nanoseconds; 0 stores none
    :param owners: `Owners.rows`
    :param symlinks: whether the archive has any
    :param last_name: of the node before, in the same directory
    :param key: of the names' hashes
    :returns: offset in `room` behind the last node; for each node its offset in the archive, and the hash of its name,
        as 64-bit numbers in the machine's byte order; the last name
    :raises ValueError: when a node cannot stand there
    """
    if not 0 <= granularity < 1 << 64:
        raise ValueError("an argument is out of bounds")
    view = memoryview(room)
    stored = {row[:2]: row[2:] for row in owners}
    starts, hashes = array("Q"), array("Q")
    at = begin
    for name, row in zip(names.split(b"\0")[:-1], _rows(rows), strict=True):
        mode, uid, gid, mtime, size, place = row
        if len(name) > ORDINARY_NAME_MAX or check_name(name):
            raise ValueError("a file name is not allowed")
        if name <= last_name:
            raise ValueError("names must rise")
        if (uid, gid) not in stored or (mode & ~0o7777 != stat.S_IFREG and (mode != _LINK or not symlinks)):
            raise ValueError("a node is not an ordinary one")
        stored_uid, stored_gid, records = stored[uid, gid]
        if place != at + Owners.HEAD + len(name) + len(records) or size > len(view) - place:
            raise ValueError("contents are not where they should be")
        if mode == _LINK and not _is_target(view[place : place + size]):
            raise ValueError("a symlink target cannot be stored")
        tail = layouts.SYMLINK if mode == _LINK else layouts.PAYLOAD
        time = mtime - mtime % granularity if granularity else 0
        view[at:place] = (
            layouts.FILENAME.pack(tail=name + b"\0")
            + _pack_entry(features, mode, 0, stored_uid, stored_gid, time)
            + records
            + _pack_header(tail.head.size + size, tail.type)
        )
        starts.append(base + at - begin)
        hashes.append(siphash(key, name))
        at = place + size
        last_name = name
    return at, starts.tobytes(), hashes.tobytes(), last_name


def _is_target(content: memoryview) -> bool:
    target = bytes(content)
    return (
        layouts.SYMLINK.accepts(layouts.SYMLINK.head.size + len(target)) and target.find(0) == len(target) - 1
    )
