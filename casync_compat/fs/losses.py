"""What could not be read as it was: a live system goes on changing while it is archived, and that costs no archive.

What vanished or may not be read is left out, what shrank is filled up with zeros; each is told by name, as long as
there are not too many, and counted by kind. Without a `Losses`, whoever reads fails at the first.

    >>> losses = Losses(print)
    >>> try: fd = os.open(path, os.O_RDONLY)
    ... except OSError as error:
    ...     if is_ours(error): raise   # it is no fault of the file
    ...     losses.note(UNREADABLE, path, error.strerror)
    >>> losses.kinds

It decides nothing about the archive: `fs.scan` and `fs.blob` do.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass

from casync_compat.errors import show_path

__all__ = [
    "ATTRIBUTES",
    "CHANGED",
    "DAMAGED",
    "LACKING",
    "RULES",
    "UNREADABLE",
    "VANISHED",
    "LeftOutKind",
    "Losses",
    "is_ours",
    "leaving_out",
    "listed",
]

VANISHED = "vanished entries"
UNREADABLE = "unreadable entries"
CHANGED = "files changed while being read"
DAMAGED = "files read in part"
ATTRIBUTES = "unreadable attributes"
RULES = "unreadable exclude rules"

_NAMED = 10
"""Entries of a kind that are told by name."""
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ESTALE})
LACKING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""What this process, or the system, has too little of; nothing is said of a file by it."""
_OURS = LACKING | {0, errno.ENOBUFS, errno.EBADF, errno.EFAULT}
"""Failures that say nothing about the file: of this process, of the whole system, or texts of our own."""


@dataclass(frozen=True, slots=True)
class LeftOutKind:
    """What of one kind was left out, of a target or of an archive.

    :ivar kind: what it is, in the plural
    :ivar count: of how many entries, or attributes
    :ivar first: the path of the first, as it is on disk
    """

    kind: str
    count: int
    first: bytes


def listed(kinds: tuple[LeftOutKind, ...]) -> str:
    """The kinds in one line."""
    return ", ".join(f"{each.kind} ({each.count}, first {show_path(each.first)})" for each in kinds)


class Losses:
    """Collects what was not read as it was.

    :param warn: called with a line about each of the first of a kind; None tells nobody
    """

    def __init__(self, warn: Callable[[str], None] | None = None) -> None:
        self._warn = warn
        self._counts: dict[str, tuple[int, bytes]] = {}

    def note(self, kind: str, path: bytes, text: str) -> None:
        """Count something.

        :param path: for messages
        :param text: what happened to it, and what becomes of it
        """
        count, first = self._counts.get(kind, (0, path))
        self._counts[kind] = (count + 1, first)
        if self._warn is not None and count <= _NAMED:
            self._warn(f"{show_path(path)}: {text}" if count < _NAMED else f"{kind}: more are only counted")

    def forget(self) -> None:
        """Begin anew: everything is read once more."""
        self._counts.clear()

    @property
    def kinds(self) -> tuple[LeftOutKind, ...]:
        """What there was, in the order of the first of each kind."""
        return tuple(LeftOutKind(kind, count, first) for kind, (count, first) in self._counts.items())

    def summary(self) -> str | None:
        """One line about everything; None when that is nothing."""
        return f"not read as it was: {listed(self.kinds)}" if self._counts else None


def is_ours(error: OSError) -> bool:
    """Whether a failure says nothing about the file that was asked for, so that nothing is left out for it."""
    return (error.errno or 0) in _OURS


def leaving_out(error: OSError) -> tuple[str, str]:
    """What is noted of an entry that cannot be looked at, and will not be in the archive: kind and text."""
    if error.errno in _GONE:
        return VANISHED, "it vanished before it was read, and is left out"
    return UNREADABLE, f"it cannot be read ({error.strerror}), and is left out"
