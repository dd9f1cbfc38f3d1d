"""One file that says that a run is at work in a store: a lease, or the lock of a collection.

It is written, renewed, asked for and taken away here. When that is to be done, and what follows from the files of
others, is the business of `casync_compat.store.leases`.
"""

from __future__ import annotations

import os
from contextlib import suppress

from casync_compat.errors import CasyncError
from casync_compat.store.files import FileChanged, FileDamaged, Files, Version
from casync_compat.store.pace import Pace
from casync_compat.store.processes import this_process

__all__ = ["LEASES", "LOCK", "WHO", "Mark"]

LOCK = b".pycasync/gc"
"""The name of the lock."""
LEASES = b".pycasync/leases/"
"""What names of leases begin with."""
WHO = 4096
"""Bytes of such a file that are read."""


class Mark:
    """A file that says that a run is at work: a lease, or the lock.

    :ivar name: in its place
    :ivar held: whether it is there; found out when it is renewed
    """

    def __init__(self, files: Files, name: bytes, what: str, pace: Pace) -> None:
        self.name = name
        self.held = False
        self._files = files
        self._pace = pace
        self._renewed = 0.0
        said = f"{what} on {os.uname().nodename}, process {os.getpid()}\n"
        lines = (said.encode(errors="replace").strip(), os.urandom(8).hex().encode(), this_process())
        self._content = b"".join(line + b"\n" for line in lines if line)

    def place(self, *, over: Version | None = None) -> None:
        """Write the file.

        :param over: a version of it that may be there, and must be
        :raises FileChanged: it is not as it should be
        """
        begin = self._pace.clock()
        self._files.write(
            self.name, self._content, if_absent=over is None and self.name == LOCK, if_version=over
        )
        self._renewed, self.held = begin, True

    @property
    def due(self) -> bool:
        """Whether it is to be renewed."""
        return self.held and self._pace.clock() - self._renewed >= self._pace.renew

    def renew(self) -> None:
        """Give it the date of now, or find out that somebody took it for dead."""
        if not self.held:
            return
        begin = self._pace.clock()
        if self._touched():
            self._renewed = begin
        else:
            self.held = False

    def _touched(self) -> bool:
        if self._files.near:
            return self._is_ours() and self._files.touch(self.name)
        # Versions of objects are digests of what is in them: whoever thinks it dead must see that it is another now.
        status = self._files.stat(self.name)
        if status is None or not self._is_ours():
            return False
        content = self._content + os.urandom(8).hex().encode() + b"\n"
        try:
            self._files.write(self.name, content, if_version=status.version)
        except FileChanged:
            return False
        return True

    def _is_ours(self) -> bool:
        try:
            return (self._files.read(self.name, WHO) or b"").startswith(self._content)
        except FileDamaged:
            return False

    def check(self) -> bool:
        """Whether nobody can have taken it for dead; asks the store only when it has not been renewed for long."""
        if self.held and self._pace.clock() - self._renewed > self._pace.dead / 2:
            self.renew()
        return self.held

    def remove(self) -> None:
        """Take it away, if it is still there; what cannot be taken away will be dead."""
        with suppress(CasyncError):
            if self.name != LOCK or self._is_ours():
                self._files.remove(self.name)
        self.held = False
