"""What could not be restored: data first, so that one attribute does not cost the rest of a tree.

What the target, the kernel or the privileges cannot hold is counted by kind and told in the end. What an ordinary user
can never have (files of others, devices) is told in a line of its own, because nobody expects it. `LeftOut` is the
place that knows the difference. It also remembers which operation is under way, so that one handler around all of them
can name it.

    >>> left_out = LeftOut(tolerant=True)
    >>> left_out.op, left_out.features = "set ACL of", int(FeatureFlags.ACL)
    >>> left_out.directory, left_out.name = b"/target", b"hosts"
    >>> try: os.fchown(fd, uid, gid)
    ... except OSError as error: left_out.skip("owners", error)     # raises again unless it may be left out
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from casync_compat.errors import FileError, show_path
from casync_compat.fs.losses import LeftOutKind

__all__ = ["PRIVILEGES", "LeftOut", "Refused"]

_DENIED = (errno.EPERM, errno.EACCES)
_OPTION_HELPS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS, errno.EINVAL})
_UNKNOWN_THERE = frozenset({errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS, errno.EINVAL})
"""How a file system says that it has no such thing."""
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.E2BIG, errno.ERANGE, errno.ENAMETOOLONG})
_CANNOT_HOLD = frozenset(_DENIED) | _UNKNOWN_THERE | _NO_ROOM
_CANNOT_MAKE = _UNKNOWN_THERE | {errno.EPERM}  # EACCES is about the directory
_CANNOT_LINK = _CANNOT_MAKE | {errno.EMLINK}
_TAKES_ROOT = frozenset(
    {
        "owners",
        "device nodes",
        "trusted attributes",
        "security attributes",
        "file capabilities",
        "immutable and append-only flags",
        "SELinux labels",
        "quota project ids",
    }
)


PRIVILEGES = -1
"""In place of feature flags: what is done only as root."""


class Refused(FileError):
    """Something that an archive has cannot be had here, and can be left out.

    :ivar features: the feature flags that it is recorded for, or `PRIVILEGES`
    """

    def __init__(self, path: bytes, op: str, cause: OSError | str, features: int = 0) -> None:
        super().__init__(path, op, cause)
        self.features = features
        self.args = (*self.args, features)


class LeftOut:
    """Collects what was left out, by category.

    :param tolerant: go on without what the target cannot hold; else only without what takes root
    :ivar tolerant: the same
    :ivar euid: who this is
    :ivar privileged: whether this is root, who can do what an ordinary user cannot
    :ivar op: what is being done, as a verb phrase that a file name follows
    :ivar features: the feature flags without which it would not be done; 0 when there are none, `PRIVILEGES` when it
        takes root
    :ivar directory: path of the directory whose entry is being restored
    :ivar name: of the entry; empty for the directory itself
    """

    def __init__(self, *, tolerant: bool = False) -> None:
        self.euid = os.geteuid()
        self.privileged = self.euid == 0
        self.op = ""
        self.features = 0
        self.directory = b""
        self.name = b""
        self.tolerant = tolerant
        self._takes_root: dict[str, int] = {}
        self._missing: dict[str, tuple[int, bytes]] = {}
        self._foreign: dict[str, tuple[int, bytes]] = {}

    def skip(self, category: str, error: OSError) -> None:
        """Go on without an attribute.

        :raises OSError: `error`, when it has to be there or the refusal has another reason
        """
        self._skip(category, error, _CANNOT_HOLD)

    def skip_entry(self, category: str, error: OSError) -> None:
        """Go on without a whole entry, of a type that the target does not have.

        :raises OSError: as `skip`
        """
        self._skip(category, error, _CANNOT_MAKE)

    def skip_link(self, category: str, error: OSError) -> None:
        """Go on without a hard link, which the target does not have, or not as many.

        :raises OSError: as `skip`
        """
        self._skip(category, error, _CANNOT_LINK)

    def _skip(self, category: str, error: OSError, numbers: frozenset[int]) -> None:
        denied = error.errno in _DENIED
        if not self.privileged and denied and (category in _TAKES_ROOT or not self.tolerant):
            self._takes_root[category] = self._takes_root.get(category, 0) + 1
        elif self.tolerant and error.errno in numbers:
            self._note(self._missing, category)
        else:
            raise error

    def skip_foreign(self, category: str, error: OSError, *, named: bool) -> None:
        """Go on without what belongs to another kind of file system, which says nothing about this restore.

        :param named: it was asked for by name, so that it counts like anything else
        :raises OSError: as `skip`
        """
        if named or error.errno not in _UNKNOWN_THERE:
            self.skip(category, error)
        else:
            self._note(self._foreign, category)

    def _note(self, counts: dict[str, tuple[int, bytes]], category: str) -> None:
        count, first = counts.get(category, (0, b""))
        if not count:
            first = os.path.join(self.directory, self.name) if self.name else self.directory
        counts[category] = (count + 1, first)

    def failure(self, path: bytes, error: OSError | ValueError) -> FileError:
        """The error for the operation under way, with the features that it is for where these can be left out."""
        if isinstance(error, ValueError):
            return FileError(path, self.op, str(error))
        if isinstance(error, FileError):
            return error  # it knows better what failed
        helps = _DENIED if self.features == PRIVILEGES else _OPTION_HELPS
        if self.features and error.errno in helps:
            return Refused(path, self.op, error, self.features)
        return FileError(path, self.op, error)

    @property
    def kinds(self) -> tuple[LeftOutKind, ...]:
        """What the archive has and the target has not, for which the run is not complete."""
        return tuple(LeftOutKind(kind, count, first) for kind, (count, first) in self._missing.items())

    def back_to(self, kinds: tuple[LeftOutKind, ...]) -> None:
        """Forget what was left out since `kinds` was this: it is made anew, or not needed."""
        self._missing = {each.kind: (each.count, each.first) for each in kinds}

    def tell(self, warn: Callable[[str], None]) -> None:
        """Say in a line each what takes root, what is foreign and what the target cannot hold, where there is any."""
        for line in (self.summary(), self.foreign(), self.missing()):
            if line is not None:
                warn(line)

    def summary(self) -> str | None:
        """One line about everything that takes root; None when that is nothing."""
        if not self._takes_root:
            return None
        parts = [f"{category} ({count})" for category, count in self._takes_root.items()]
        return "not restored, which takes root: " + ", ".join(parts)

    def foreign(self) -> str | None:
        """One line about what belongs to other kinds of file systems; None when that is nothing."""
        return _listed("not restored, as the target is another kind of file system: ", self._foreign)

    def missing(self) -> str | None:
        """One line about `kinds`; None when there are none."""
        return _listed("not restored, as the target cannot hold it: ", self._missing)


def _listed(begin: str, counts: dict[str, tuple[int, bytes]]) -> str | None:
    parts = [f"{kind} ({count}, first {show_path(first)})" for kind, (count, first) in counts.items()]
    return begin + ", ".join(parts) if parts else None
