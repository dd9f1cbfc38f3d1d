"""What an update in place leaves alone although the archive does not have it: what is in use, mounted, or excluded.

    >>> spared = Spared(b"/target", [b"/target/backup/etc.caidx", b"/target/backup/default.castr"])
    >>> delete(directory_fd, b"/target", {b"etc"}, spared, remove)
    >>> spared.warnings()

Files are told by device and inode, whatever names lead to them. Nothing is removed here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterable, Sequence

from casync_compat.errors import FileError, show_path
from casync_compat.fs.apply.excluded import Excluded, ExcludeRules
from casync_compat.fs.mounts import mount_points
from casync_compat.fs.remove import OPEN_DIR
from casync_compat.fs.together import InodeKey, Written

__all__ = ["Deleted", "Spared", "delete", "deleted_text", "names_below"]

_SHOWN = 3
_DEEPEST = 200
"""Levels down to which other names are looked for."""


class Deleted:
    """Counts what was deleted.

    :ivar count: entries, each with all that was below it
    :ivar first: paths of the first three of them, from the target
    """

    def __init__(self, target: bytes) -> None:
        self.count = 0
        self.first: list[bytes] = []
        self._target = target

    def add(self, path: bytes) -> None:
        """An entry was deleted."""
        self.count += 1
        if len(self.first) < _SHOWN:
            self.first.append(os.path.relpath(path, self._target))


def deleted_text(count: int, first: Sequence[bytes]) -> str:
    """What was deleted, in one line."""
    entries = "1 entry" if count == 1 else f"{count} entries"
    more = ", ..." if count > len(first) else ""
    return f"deleted {entries} that the archive does not have: {', '.join(map(show_path, first))}{more}"


def _key(path: bytes) -> InodeKey | None:
    try:
        st = os.stat(path)
    except OSError:
        return None
    return st.st_dev, st.st_ino


def _link_key(path: bytes | str, directory_fd: int | None = None) -> InodeKey | None:
    try:
        st = os.stat(path, dir_fd=directory_fd, follow_symlinks=False)
    except OSError:
        return None
    return st.st_dev, st.st_ino


def _linked(path: bytes) -> set[InodeKey]:
    """The key of a regular file that has several names."""
    try:
        st = os.stat(path)
    except OSError:
        return set()
    return {(st.st_dev, st.st_ino)} if stat.S_ISREG(st.st_mode) and st.st_nlink > 1 else set()


def _parents(path: bytes) -> Iterable[bytes]:
    while path != (path := os.path.dirname(path)):
        yield path


def _spellings(path: bytes) -> tuple[bytes, bytes]:
    """A path as it was said, and as it is without symlinks."""
    return os.path.abspath(path), os.path.realpath(path)


def names_below(target: bytes, paths: Iterable[bytes]) -> list[bytes]:
    """Where, from the target, any of the paths lie, or the symlinks that were said to lead there."""
    top = os.path.realpath(target)
    candidates = []
    for path in paths:
        said, real = _spellings(path)
        candidates += [os.path.join(os.path.realpath(os.path.dirname(said)), os.path.basename(said)), real]
    below = {each for each in candidates if each.startswith(os.path.join(top, b"")) and os.path.lexists(each)}
    return sorted(os.path.relpath(each, top) for each in below)


class Spared:
    """What is left alone in one target.

    :param target: the directory that is updated
    :param in_use: files and directories that this run uses; those that are not there are ignored
    :param feature_flags: of the archive, which say whether it could have had what is excluded
    :ivar excluded: what no archive of the target would have
    """

    def __init__(self, target: bytes, in_use: Iterable[bytes], feature_flags: int = 0) -> None:
        self.excluded = Excluded(feature_flags)
        self.failure: FileError | None = None
        """The error to end with: the first entry that was not written for the sake of what is in use."""
        self._used: set[InodeKey] = set()
        self._linked: set[InodeKey] = set()  # files among them that have other names, who knows where
        self._mounts: set[InodeKey] = set()
        self._above_used: set[InodeKey] = set()
        self._above: set[InodeKey] = set()
        self._found: dict[str, list[bytes]] = {"whole": [], "used": [], "mount": [], "excluded": []}
        top = os.path.realpath(target)
        for path in in_use:
            for each in _spellings(path):
                self._used |= {key for key in (_key(each), _link_key(each)) if key is not None}
                self._linked |= _linked(each)
                self._above_used |= {key for parent in _parents(each) if (key := _key(parent)) is not None}
        for mount in mount_points():
            if mount.startswith(os.path.join(top, b"")) and (key := _key(mount)) is not None:
                self._mounts.add(key)
                self._above |= {key for parent in _parents(mount) if (key := _key(parent)) is not None}
        self._above |= self._above_used
        self.everything = any(_key(each) in self._used for each in (top, *_parents(top)))
        """Whether the target is, or lies in, something that is in use, so that nothing in it is to be deleted."""
        if self.everything:
            self._found["whole"].append(target)

    def keeps(self, directory_fd: int, name: bytes, path: bytes) -> bool:
        """Whether an entry is left alone, which is noted then."""
        key = _link_key(name, directory_fd)
        if key in self._used:
            self._found["used"].append(path)
            return True
        if key in self._mounts:
            self._found["mount"].append(path)
            return True
        return False

    def keeps_excluded(self, directory_fd: int, name: bytes, path: bytes, rules: ExcludeRules) -> bool:
        """The same for what is kept out of archives. :param path: of the entry"""
        kept = self.excluded.keeps(directory_fd, name, os.path.dirname(path), rules)
        if kept:
            self._found["excluded"].append(path)
        return kept

    def is_above(self, directory_fd: int, name: bytes) -> bool:
        """Whether an entry is a directory that has to stay for what is in it."""
        return _link_key(name, directory_fd) in self._above

    def has_inside(self, directory_fd: int, name: bytes, depth: int = 0) -> bool:
        """Whether another name of a file that is in use lies anywhere in a directory."""
        if not self._linked or depth > _DEEPEST:
            return False
        try:
            fd = os.open(name, OPEN_DIR, dir_fd=directory_fd)
        except OSError:
            return False
        try:
            for each in map(os.fsencode, os.listdir(fd)):
                if _link_key(each, fd) in self._linked or self.has_inside(fd, each, depth + 1):
                    return True
            return False
        finally:
            os.close(fd)

    def refuses(
        self, parent: os.stat_result, directory_fd: int, name: bytes, is_dir: bool, path: bytes
    ) -> bool:
        """Whether an entry is not to be written, because it would take the place of something that is in use.

        That is noted in `failure`.

        :param parent: of the directory that it is written into
        :param is_dir: whether it is a directory itself
        """
        if (parent.st_dev, parent.st_ino) not in self._above_used:
            return False
        key = _link_key(name, directory_fd)
        if key in self._used:
            why = "it is in use: the archive is read from it"
        elif key in self._above_used and not is_dir:
            why = "something in it is in use: the archive is read from there"
        else:
            return False
        self.failure = self.failure or FileError(path, "replace", why)
        return True

    def warnings(self) -> list[str]:
        """What the user should know, a line a kind."""
        texts = (
            ("whole", "in use, and nothing in it deleted"),
            ("used", "in use, and not deleted"),
            ("mount", "a mount point, and left alone"),
            ("excluded", "kept out of archives by .caexclude or the nodump flag, and not deleted"),
        )
        return [_named(self._found[kind], text) for kind, text in texts if self._found[kind]]


def _named(paths: list[bytes], text: str) -> str:
    shown = ", ".join(map(show_path, paths[:_SHOWN]))
    return f"{text}: {shown}" + (f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else "")


def delete(
    directory_fd: int,
    path: bytes,
    names: Collection[bytes],
    spared: Spared,
    remove: Callable[[int, bytes, bytes], None],
    written: Written | None = None,
) -> None:
    """Have all removed that is in a directory and has none of the names, but for what is spared.

    :param path: of the directory, for messages
    :param remove: removes an entry of an open directory, which has a path for messages
    :param written: what this run wrote, which the directory may list under another name
    :raises OSError: a directory cannot be read, and whatever `remove` raises
    """
    excluded = spared.excluded
    rules = excluded.rules(path)
    listed = set(map(os.fsencode, os.listdir(directory_fd)))
    for name in sorted(listed):
        if name in names:
            continue
        inner = os.path.join(path, name)
        if written is not None and written.lists(directory_fd, listed, name):
            continue
        if spared.keeps(directory_fd, name, inner):
            continue
        if spared.keeps_excluded(directory_fd, name, inner, rules):
            continue
        stays = spared.is_above(directory_fd, name) or spared.has_inside(directory_fd, name)
        if not (stays or excluded.holds(directory_fd, name, rules)):
            remove(directory_fd, name, inner)
            continue
        fd = os.open(name, OPEN_DIR, dir_fd=directory_fd)
        try:
            excluded.enter(fd, inner)
            delete(fd, inner, (), spared, remove)
        finally:
            os.close(fd)
    excluded.leave(path)
