"""Names that fall together: README and readme where a file system ignores case, two spellings of é where it normalises.

    >>> together = FallenTogether(warn)
    >>> together.add(b"/target/readme", b"/target/README")      # a warning that names both
    >>> failure = together.failure()                            # the error to end with; None where nothing fell

The first of them stays; the other is not written, but for what is in it where both are directories. That they fall
together is seen by device and inode, or by what is in a directory that nobody else can reach; which file systems do
that is not known here. Nothing is written here, but for a moment in `folds`.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import TypeAlias

from casync_compat.errors import FileError, show_path

__all__ = ["FallenTogether", "InodeKey", "Written", "folds", "key_of", "shown_name"]

InodeKey: TypeAlias = tuple[int, int]
"""Device and inode."""

_SHOWN = 20
_PROBE = "K\u00e9".encode()
_OTHER_SPELLINGS = ("k\u00e9".encode(), "Ke\u0301".encode())


class FallenTogether:
    """Collects names that fell together.

    :param warn: takes a line for each, up to twenty
    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._count = 0
        self._first: tuple[bytes, bytes] | None = None

    def add(self, path: bytes, first: bytes, *, merged: bool = False) -> None:
        """A name is not to be had, because another of the same run has it.

        :param first: the path of that one
        :param merged: both are directories, and what is in them goes into one
        """
        self._count += 1
        if self._first is None:
            self._first = (path, first)
        if self._count <= _SHOWN:
            then = "what is in them goes into one directory" if merged else "only the first is restored"
            self._warn(f"{show_path(first)} and {show_path(path)} are one name on this file system; {then}")

    def failure(self) -> FileError | None:
        """The error that says what fell together; None where nothing did."""
        if self._first is None:
            return None
        path, first = self._first
        more = f"; {self._count - 1} more like it" if self._count > 1 else ""
        return FileError(
            path, "restore", f"on this file system it is the same name as {show_path(first)}{more}"
        )


def key_of(directory_fd: int, name: bytes) -> tuple[InodeKey, os.stat_result] | None:
    """Which inode has a name; None where there is none."""
    try:
        st = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
    except OSError:
        return None
    return (st.st_dev, st.st_ino), st


class Written:
    """What was written into a directory, by inode and by name.

    What the kernel says of a name may be old where a file system is served over FUSE or a network (lowntfs-3g forgets
    but one spelling of what is replaced), so that names that differ in case or in form only are looked at twice.

    :ivar merged: a second directory is written into the same one, so that equal names count, too
    """

    __slots__ = ("_folded", "_names", "merged")

    def __init__(self) -> None:
        self.merged = False
        self._names: dict[InodeKey, bytes] = {}
        self._folded: dict[bytes, bytes] = {}

    @classmethod
    def of(cls, directory_fd: int) -> Written:
        """All that is in a directory."""
        written = cls()
        for name in map(os.fsencode, os.listdir(directory_fd)):
            written.add(_key(directory_fd, name), name)
        return written

    def add(self, key: InodeKey | None, name: bytes) -> None:
        """An entry was written, or left as it is because it is right.

        :param key: None where it cannot be found out
        """
        if key is not None:
            self._names[key] = name
        self._folded.setdefault(_folded(name), name)

    def add_alone(self, key: InodeKey, name: bytes) -> bool:
        """As `add`, where nothing was added that may be the same by another name. :returns: whether it was so"""
        folded = _folded(name)
        if key in self._names or folded in self._folded:
            return False
        self._names[key] = name
        self._folded[folded] = name
        return True

    def first(self, directory_fd: int, name: bytes, ignores_case: Callable[[], bool]) -> bytes | None:
        """The name of what was written and has another name as well; None where there is no such thing.

        Hard links have names of their own, and do not count.

        :param ignores_case: tells whether the file system does; asked where that is of interest
        """
        if not self._folded:
            return None
        found = key_of(directory_fd, name)
        if found is not None and (stat.S_ISDIR(found[1].st_mode) or found[1].st_nlink == 1):
            first = self._names.get(found[0])
            if first is not None and first != name:
                return first
        first = self._folded.get(_folded(name))
        if first is None or first == name:
            return first if self.merged else None
        listed = set(map(os.fsencode, os.listdir(directory_fd)))
        if first in listed and name in listed:
            return None
        if os.fsdecode(first).lower() == os.fsdecode(name).lower() and ignores_case():
            return first
        return first if found is not None and _is_one(listed, first, name) else None

    def like(self, name: bytes) -> bytes | None:
        """The first of the names that were added and differ in case or form only."""
        return self._folded.get(_folded(name))

    def lists(self, directory_fd: int, listed: Collection[bytes], name: bytes) -> bool:
        """Whether an entry of a directory was written, though not under the name by which it is listed.

        :param listed: all names in the directory
        """
        if not self._folded:
            return False
        found = key_of(directory_fd, name)
        first = self._names.get(found[0]) if found is not None else None
        if first is not None and first not in listed:
            return True
        first = self._folded.get(_folded(name))
        return first is not None and first != name and _is_one(listed, first, name)


def _folded(name: bytes) -> bytes:
    if name.isascii():
        return name.lower()
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", os.fsdecode(name)).casefold())
    return text.encode(errors="surrogateescape")


def _is_one(listed: Collection[bytes], one: bytes, other: bytes) -> bool:
    """Whether a directory lists two names that differ in case or form as one."""
    if one in listed and other in listed:
        return False
    folded = _folded(one)
    return sum(_folded(each) == folded for each in listed) == 1


def shown_name(directory_fd: int, name: bytes) -> bytes:
    """How a directory lists what is to be had by a name; the name itself where that cannot be found out."""
    found = key_of(directory_fd, name)
    with suppress(OSError):
        names = sorted(map(os.fsencode, os.listdir(directory_fd)))
        if found is not None and name not in names:
            same = [each for each in names if _key(directory_fd, each) == found[0]]
            return next((each for each in same if _folded(each) == _folded(name)), same[0] if same else name)
    return name


def _key(directory_fd: int, name: bytes) -> InodeKey | None:
    found = key_of(directory_fd, name)
    return None if found is None else found[0]


def folds(directory_fd: int, temporary: bytes) -> bool:
    """Whether names fall together in a directory that nobody else can reach.

    :param temporary: the begin of a name that nothing has; a directory is made there and removed
    """
    probe = temporary + _PROBE
    try:  # a signal may come as soon as it is made
        os.mkdir(probe, dir_fd=directory_fd)
        return any(key_of(directory_fd, temporary + spelling) is not None for spelling in _OTHER_SPELLINGS)
    except (OSError, ValueError):
        return False
    finally:
        with suppress(OSError):
            os.rmdir(probe, dir_fd=directory_fd)
