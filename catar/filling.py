"""Runs of ordinary nodes on their way into an archive: whoever reads files leaves room for the records before each, and
they are written there in one call.

An ordinary node is a regular file or symlink with nothing but an ENTRY, perhaps USER and GROUP, and its tail. Its bytes
are `Owners.HEAD`, the name, the owner's records, and the contents (of a symlink its target and a NUL); what stands
before the contents is written by `fill`.

    >>> owners = Owners(features)
    >>> owners.add(0, 0, 0, 0, None, None)
    >>> room[114 + 3 : 114 + 3 + 5] = b"hello"  # of "abc"

`fill` here is the Python twin of that in `_encode.c`. Nothing here reads files, and what makes a node
ordinary is for its reader to say; `fill` refuses what could not stand in an archive.
"""

from __future__ import annotations

import stat
import struct
from array import array

from siphashc import siphash

from catar import layouts
from catar.grammar import check_entry, check_name

__all__ = ["COLUMNS", "Owners", "fill"]

COLUMNS = 6
"""Numbers in a row of a run: mode, uid, gid, time in nanoseconds modulo 2^64, size, offset of the contents in the room;
each 64 bits in the machine's byte order. Size and contents of a symlink are those of its target with a NUL."""

_ROW = struct.Struct("=6Q")
_FILE_MODE = stat.S_IFREG | 0o644
_LONGEST_NAME = 255
_LINK = stat.S_IFLNK | 0o777
_TARGET_MAX = 4095
_MOST_OWNERS = 32


class Owners:
    """How the owners of files stand in one archive.

    :ivar rows: for each, ids of the file, ids as stored, and USER and GROUP records
    :ivar gaps: for each, ids of the file and length of those records, as 64-bit numbers in the machine's byte order
    """

    HEAD = layouts.HEADER.size + 1 + layouts.ENTRY.head.size + layouts.HEADER.size
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
                if b"\0" in name or not layout.smallest <= len(record) <= layout.largest:
                    return
                records += record
        # Replaced and never changed, because a run that was read by the old table is filled by it.
        self.rows = [*self.rows[1 - _MOST_OWNERS :], (uid, gid, stored_uid, stored_gid, records)]
        self.gaps = b"".join(struct.pack("=3Q", *row[:2], len(row[4])) for row in self.rows)


def fill(
    room: bytearray | memoryview,
    begin: int,
    base: int,
    names: bytes,
    rows: bytes,
    features: int,
    granularity: int,
    owners: list[tuple[int, int, int, int, bytes]],
    types: tuple[int, int, int, int],
    last_name: bytes,
    key: bytes,
    /,
) -> tuple[int, bytes, bytes, bytes]:
    """Write the records of a run of nodes before the contents of each.

    :param room: holds the contents, one node behind the other, each with room for its records before it
    :param begin: offset in `room` of the first node
    :param base: offset of that node in the archive
    :param names: each followed by a NUL
    :param rows: see `COLUMNS`
    :param features: the feature flag word
    :param granularity: of times, in nanoseconds; 0 stores none
    :param owners: `Owners.rows`
    :param types: of FILENAME, ENTRY, PAYLOAD and SYMLINK, the last 0 where the archive has no symlinks
    :param last_name: of the node before, in the same directory
    :param key: of the names' hashes
    :returns: offset in `room` behind the last node; for each node its offset in the archive, and the hash of its name,
        as 64-bit numbers in the machine's byte order; the last name
    :raises ValueError: when a node cannot stand there
    """
    view = memoryview(room)
    stored = {row[:2]: row[2:] for row in owners}
    filename, entry, payload, symlink = types
    starts, hashes = array("Q"), array("Q")
    at = begin
    for name, row in zip(names.split(b"\0")[:-1], _ROW.iter_unpack(rows), strict=True):
        mode, uid, gid, mtime, size, place = row
        if len(name) > _LONGEST_NAME or check_name(name):
            raise ValueError("a file name is not allowed")
        if name <= last_name:
            raise ValueError("names must rise")
        if (uid, gid) not in stored or (mode & ~0o7777 != stat.S_IFREG and (mode != _LINK or not symlink)):
            raise ValueError("a node is not an ordinary one")
        stored_uid, stored_gid, records = stored[uid, gid]
        if place != at + Owners.HEAD + len(name) + len(records) or size > len(view) - place:
            raise ValueError("contents are not where they should be")
        if mode == _LINK and not _is_target(view[place : place + size]):
            raise ValueError("a symlink target cannot be stored")
        time = mtime - mtime % granularity if granularity else 0
        view[at:place] = (
            layouts.HEADER.pack(17 + len(name), filename)
            + name
            + b"\0"
            + layouts.ENTRY.head.pack(64, entry, features, mode, 0, stored_uid, stored_gid, time)
            + records
            + layouts.HEADER.pack(16 + size, symlink if mode == _LINK else payload)
        )
        starts.append(base + at - begin)
        hashes.append(siphash(key, name))
        at = place + size
        last_name = name
    return at, starts.tobytes(), hashes.tobytes(), last_name


def _is_target(content: memoryview) -> bool:
    target = bytes(content)
    return 1 < len(target) <= _TARGET_MAX + 1 and target.find(0) == len(target) - 1
