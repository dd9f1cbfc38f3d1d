"""Owners: user and group names of ids, and the shift between ids on disk and ids in an archive.

Rules of casync 2 (`src/caencoder.c`, `src/cautil.c` `uid_is_valid`): root has no name in an archive, and the ids 65535
and 2^32-1 mean "none" to one kernel interface or another, so that no archive may hold them.

This module does not change the owner of anything.
"""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass

from catar import layouts

__all__ = ["BadShift", "IdShift", "IdTooLarge", "Names"]

_INVALID = (layouts.ID16_INVALID, layouts.ID_INVALID)


class Names:
    """User and group names of the running system, each looked up once."""

    def __init__(self) -> None:
        self._users: dict[int, bytes | None] = {0: None}
        self._groups: dict[int, bytes | None] = {0: None}
        self._uids: dict[bytes, int | None] = {}
        self._gids: dict[bytes, int | None] = {}

    def user(self, uid: int) -> bytes | None:
        """The name of a user; None for root and for ids without one."""
        if uid not in self._users:
            try:
                self._users[uid] = os.fsencode(pwd.getpwuid(uid).pw_name)
            except (KeyError, OverflowError):
                self._users[uid] = None
        return self._users[uid]

    def group(self, gid: int) -> bytes | None:
        """The name of a group; None for gid 0 and for ids without one."""
        if gid not in self._groups:
            try:
                self._groups[gid] = os.fsencode(grp.getgrgid(gid).gr_name)
            except (KeyError, OverflowError):
                self._groups[gid] = None
        return self._groups[gid]

    def answers(self) -> dict[str, dict[str, str | None]]:
        """What `user` and `group` answered so far: names by id, as text, under `users` and `groups`."""
        kinds = {"users": self._users, "groups": self._groups}
        return {
            kind: {str(id_): None if name is None else os.fsdecode(name) for id_, name in known.items()}
            for kind, known in kinds.items()
        }

    def uid(self, name: bytes) -> int | None:
        """The id of a user; None when the system does not know the name."""
        if name not in self._uids:
            try:
                self._uids[name] = pwd.getpwnam(os.fsdecode(name)).pw_uid
            except (KeyError, ValueError):
                self._uids[name] = None
        return self._uids[name]

    def gid(self, name: bytes) -> int | None:
        """The id of a group; None when the system does not know the name."""
        if name not in self._gids:
            try:
                self._gids[name] = grp.getgrnam(os.fsdecode(name)).gr_gid
            except (KeyError, ValueError):
                self._gids[name] = None
        return self._gids[name]


class BadShift(ValueError):
    """An id cannot be shifted as it should be."""


class IdTooLarge(ValueError):
    """An id does not fit the 16 bits that it is to be recorded with."""


@dataclass(frozen=True, slots=True)
class IdShift:
    """How ids on disk and ids in an archive differ (`--uid-shift`, `--uid-range`).

    :ivar shift: what is subtracted from an id when it is stored and added when it is restored
    :ivar range_: ids are stored modulo this; 0 is the full range of 2^32
    :ivar enabled: whether the two have any effect
    :ivar for_listing: nodes are listed and not stored: an owner that becomes 0 and is not root has the empty name
    """

    shift: int = 0
    range_: int = 0
    enabled: bool = False
    for_listing: bool = False

    def encode(self, id_: int) -> int:
        """The id to store for an id on disk.

        :raises ValueError: when no archive can hold it
        """
        if id_ in _INVALID:
            raise ValueError(f"owner id {id_} is not valid in an archive; change the owner of the file")
        if not self.enabled:
            return id_
        if id_ < self.shift:
            raise BadShift(f"owner id {id_} is below the shift of {self.shift}")
        stored = id_ - self.shift
        if self.range_:
            stored %= self.range_
        if stored in _INVALID:
            raise ValueError(
                f"owner id {id_} becomes {stored} when shifted, which is not valid in an archive"
            )
        return stored

    def decode(self, id_: int) -> int:
        """The id on disk for a stored id.

        :raises ValueError: when there is none
        """
        if not self.enabled:
            return id_
        shifted = (id_ % self.range_ if self.range_ else id_) + self.shift
        if shifted >= layouts.ID_INVALID:
            raise BadShift(f"owner id {id_} is too large for a shift of {self.shift}")
        return shifted
