"""What the target's own exclude files and the nodump flag keep out of archives, so that no archive can have it.

    >>> excluded = Excluded(archive.feature_flags)
    >>> excluded.enter(fd, b"/target")            # before anything in it is written
    >>> rules = excluded.rules(fd, b"/target")    # when all is written
    >>> excluded.keeps(fd, b"core.1234", b"/target", rules)

It is asked only about what an update would delete. An archive that was made without obeying them wants all of it gone.
Exclude files count as they were before the update, and as they are afterwards: what either keeps out stays. Those that
the archive brings count for the directories below them as soon as they are written, which is not so for names that are
smaller than theirs.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from casync_compat.errors import FileError, FormatError
from casync_compat.fs import inode_flags
from casync_compat.fs.exclude import EXCLUDE_NAME, MAX_FILE_SIZE, Rule, decide, parse_rules, read_rules
from casync_compat.fs.remove import OPEN_DIR
from catar.flags import FeatureFlags

__all__ = ["ExcludeRules", "Excluded"]

_NODUMP = int(FeatureFlags.FLAG_NODUMP)
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_EVERYTHING = parse_rules(b"*\n.*\n", EXCLUDE_NAME)
"""Where rules cannot be read, nothing can be said to be wanted."""


class ExcludeRules(NamedTuple):
    """The rules of a directory, inherited ones included."""

    was: Sequence[Rule]
    now: Sequence[Rule]

    def keep_out(self, name: bytes, is_dir: bool) -> bool:
        """Whether a child is kept out by them as they were, or as they are."""
        if decide(self.was, name, is_dir)[0]:
            return True
        return self.now is not self.was and decide(self.now, name, is_dir)[0]

    def below(self, name: bytes) -> ExcludeRules:
        """What a directory inherits."""
        was = decide(self.was, name, True)[1]
        return ExcludeRules(was, was if self.now is self.was else decide(self.now, name, True)[1])

    def and_own(self, own: Sequence[Rule]) -> ExcludeRules:
        """With what the directory's own file says."""
        was = [*self.was, *own]
        return ExcludeRules(was, was if self.now is self.was else [*self.now, *own])


_NONE = ExcludeRules((), ())


@dataclass(slots=True)
class _Level:
    """A directory under way.

    :ivar fd: open as long as this is here
    :ivar own: what its exclude file says now
    :ivar stamp: which file that is; None for none
    :ivar rules: all of them
    :ivar above: what `rules.now` was made of, beside `own`: the rules of the directory above
    :ivar brought: whether `own` is what the archive will write, and the file is not to be read any more
    """

    fd: int
    own: list[Rule]
    stamp: tuple[int, ...] | None
    rules: ExcludeRules
    above: Sequence[Rule]
    brought: bool = False


class Excluded:
    """Knows the rules of the directories that are under way.

    :param feature_flags: of the archive; they say what whoever made it obeyed
    :ivar obeys_files: whether that were exclude files
    """

    def __init__(self, feature_flags: int) -> None:
        self.obeys_files = bool(feature_flags & FeatureFlags.EXCLUDE_FILE)
        self._nodump = bool(feature_flags & FeatureFlags.EXCLUDE_NODUMP)
        self._levels: dict[bytes, _Level] = {}
        self._own: set[bytes] = set()

    def enter(self, directory_fd: int, path: bytes) -> None:
        """Read the rules of a directory, before anything is changed in it; those above it were entered before.

        :param directory_fd: stays open until it is left
        """
        if not self.obeys_files:
            return
        path = _clean(path)
        above = self.rules(os.path.dirname(path))
        inherited = above.below(os.path.basename(path))
        stamp = _stamp(directory_fd)
        own = self._read(directory_fd, path) if stamp is not None else []
        self._levels[path] = _Level(directory_fd, own, stamp, inherited.and_own(own), above.now)

    def bring(self, path: bytes, content: bytes) -> None:
        """Say what is in the exclude file that a directory is to have, instead of writing it."""
        level = self._levels.get(_clean(path))
        if level is not None:
            level.own, level.brought = [], True
            with suppress(FormatError):  # as below; so is one that is too large
                level.own = (
                    []
                    if len(content) > MAX_FILE_SIZE
                    else parse_rules(content, os.path.join(path, EXCLUDE_NAME))
                )
            self._renew(level, _clean(path))

    def _read(self, directory_fd: int, path: bytes) -> list[Rule]:
        try:
            rules = read_rules(directory_fd, os.path.join(path, EXCLUDE_NAME))
        except FileNotFoundError:
            return []
        except FormatError:
            return []  # with it, no archive can be made, and nothing is kept out of any
        except FileError as error:
            rules = _EVERYTHING if error.errno else []
        if rules:
            self._own.add(path)
        return rules

    def rules(self, path: bytes) -> ExcludeRules:
        """The rules of a directory, as they were and as they are."""
        path = _clean(path)
        level = self._levels.get(path)
        if level is None:
            return _NONE
        above = self.rules(os.path.dirname(path))
        stamp = level.stamp if level.brought else _stamp(level.fd)
        if stamp != level.stamp or above.now is not level.above:
            if stamp != level.stamp:
                level.own, level.stamp = self._read(level.fd, path), stamp
            self._renew(level, path)
        return level.rules

    def _renew(self, level: _Level, path: bytes) -> None:
        level.above = self.rules(os.path.dirname(path)).now
        now = [*decide(level.above, os.path.basename(path), True)[1], *level.own]
        level.rules = ExcludeRules(level.rules.was, now)

    def leave(self, path: bytes) -> None:
        """Forget a directory."""
        self._levels.pop(_clean(path), None)
        self._own.discard(_clean(path))

    def keeps(self, directory_fd: int, name: bytes, path: bytes, rules: ExcludeRules) -> bool:
        """Whether an entry is kept out of archives; so is a file with rules that are obeyed here.

        :param path: of the directory
        """
        if name == EXCLUDE_NAME and _clean(path) in self._own:
            return True
        if not (rules.was or rules.now or self._nodump):
            return False
        try:
            mode = os.stat(name, dir_fd=directory_fd, follow_symlinks=False).st_mode
        except OSError:
            return False
        if rules.keep_out(name, stat.S_ISDIR(mode)):
            return True
        return self._nodump and (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) and _is_nodump(directory_fd, name)

    def holds(self, directory_fd: int, name: bytes, rules: ExcludeRules) -> bool:
        """Whether a directory has something in it, to any depth, that is kept out of archives."""
        if not (self.obeys_files or self._nodump):
            return False
        left = [(name, rules.below(name))]
        while left:
            path, inherited = left.pop()
            try:
                fd = os.open(path, OPEN_DIR, dir_fd=directory_fd)
            except OSError:
                continue  # no directory
            try:
                if self.obeys_files:
                    inherited = inherited.and_own(self._read(fd, path))
                    self._own.discard(path)
                with os.scandir(fd) as entries:
                    for entry in entries:
                        inner = os.fsencode(entry.name)
                        if self.keeps(fd, inner, b"", inherited):
                            return True
                        if entry.is_dir(follow_symlinks=False):
                            left.append((os.path.join(path, inner), inherited.below(inner)))
            except OSError:
                continue
            finally:
                os.close(fd)
        return False


def _clean(path: bytes) -> bytes:
    return path.rstrip(b"/") or path


def _stamp(directory_fd: int) -> tuple[int, ...] | None:
    """What tells whether the exclude file of a directory is another by now; None where there is none."""
    try:
        st = os.stat(EXCLUDE_NAME, dir_fd=directory_fd, follow_symlinks=False)
    except OSError as error:
        return None if isinstance(error, FileNotFoundError) else (-1,)
    return st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns


def _is_nodump(directory_fd: int, name: bytes) -> bool:
    try:
        fd = os.open(name, _OPEN, dir_fd=directory_fd)
    except OSError:
        return False
    try:
        return bool(inode_flags.get_flags(fd) & _NODUMP)
    except OSError:
        return False
    finally:
        os.close(fd)
