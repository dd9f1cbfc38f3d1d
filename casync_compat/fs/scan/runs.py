"""Runs of ordinary files and symlinks, read in one call right to where the archive is being collected.

A `RunReader` is given the room that whoever takes the archive hands out, and leaves in it, before the contents of each
file, as many bytes free as its records take; `catar.Encoder.fill` writes those. What is ordinary is told here: no
attributes, flags or project id, a known owner, the file system of its directory. Anything else ends a run.

The reader is native (`_system.c`), with a twin in Python (`system.py`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable

from casync_compat.fs.scan.inspect import Inspector, RawFile
from catar.filling import Owners
from catar.layouts import FILE_ROW

try:
    from casync_compat.fs._system import read_run
except ImportError:  # built without a C compiler
    from casync_compat.fs.system import read_run

__all__ = ["FileRun", "RunReader"]

_MOST = 1024


class FileRun:
    """Nodes that lie in a buffer, all but their records.

    :ivar room: the buffer; the first node begins at its start
    :ivar names: each followed by a NUL
    :ivar rows: a row a node, see `catar.filling`
    :ivar owners: the owners of these nodes
    """

    __slots__ = ("names", "owners", "room", "rows")

    def __init__(self, room: memoryview, names: bytes, rows: bytes, owners: Owners) -> None:
        self.room = room
        self.names = names
        self.rows = rows
        self.owners = owners

    def __len__(self) -> int:
        return len(self.rows) // FILE_ROW.size


class RunReader:
    """Reads runs for one scan.

    :param inspector: says what is asked about each file, and knows the owners
    :param skip: `(device, inode)` of files that are never ordinary
    :param room: hands out free room of the archive
    """

    def __init__(
        self, inspector: Inspector, skip: Iterable[tuple[int, int]], room: Callable[[], memoryview]
    ) -> None:
        self._owners = inspector.owners
        self._odd_flags = inspector.odd_flags
        self._room = room
        self._skip: dict[int, bytes] = {}
        for device, inode in skip:
            self._skip[device] = self._skip.get(device, b"") + struct.pack("=Q", inode)

    def read(
        self, directory_fd: int, listing: bytes, at: int, device: int, wanted: int
    ) -> tuple[FileRun | None, int, RawFile | None]:
        """Read a run.

        :param listing: of `list_names`
        :param at: offset in it of the first file
        :param device: that the directory is on
        :param wanted: of `Inspector.run_wanted`
        :returns: the run, None when the first file is not an ordinary one; the offset in the listing behind it; and
            about a last file behind the run that was looked at and is not ordinary, see `fs.system.read_run`
        """
        room = self._room()
        owners = self._owners
        names, rows, at, odd = read_run(
            directory_fd,
            listing,
            at,
            _MOST,
            wanted,
            device,
            self._odd_flags,
            self._skip.get(device, b""),
            room,
            Owners.HEAD,
            owners.gaps,
        )
        return FileRun(room, names, rows, owners) if rows else None, at, odd
