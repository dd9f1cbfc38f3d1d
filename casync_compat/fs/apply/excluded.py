"""What the target's own exclude files and the nodump flag keep out of archives, so that no archive can have it.

    >>> excluded = Excluded(archive.feature_flags)
    >>> excluded.enter(fd, b"/target")            # before anything in it is written
    >>> rules = excluded.rules(fd, b"/target")    # when all is written
    >>> excluded.keeps(fd, b"core.1234", rules)

It is asked only about what an update would delete. An archive that was made without obeying them wants all of it gone.
The exclude file counts as it was before the update, and as it is afterwards.
"""

from __future__ import annotations

import os
import stat

from casync_compat.errors import FileError, FormatError
from casync_compat.fs import inode_flags
from casync_compat.fs.exclude import EXCLUDE_NAME, Rule, decide, parse_rules, read_rules
from casync_compat.fs.remove import OPEN_DIR
from catar.flags import FeatureFlags

__all__ = ["Excluded"]

_NODUMP = int(FeatureFlags.FLAG_NODUMP)
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_EVERYTHING = parse_rules(b"*\n.*\n", EXCLUDE_NAME)
"""Where rules cannot be read, nothing can be said to be wanted."""


class Excluded:
    """Knows the rules of the directories that are under way.

    :param feature_flags: of the archive; they say what whoever made it obeyed
    """

    def __init__(self, feature_flags: int) -> None:
        self._files = bool(feature_flags & FeatureFlags.EXCLUDE_FILE)
        self._nodump = bool(feature_flags & FeatureFlags.EXCLUDE_NODUMP)
        self._rules: dict[bytes, list[Rule]] = {}
        self._own: set[bytes] = set()

    def enter(self, directory_fd: int, path: bytes) -> None:
        """Read the rules of a directory, before anything is changed in it; those above it were entered before."""
        path = _clean(path)
        if self._files:
            above = self._rules.get(_clean(os.path.dirname(path)), [])
            inherited = decide(above, os.path.basename(path), True)[1]
            self._rules[path] = inherited + self._read(directory_fd, path)

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

    def rules(self, directory_fd: int, path: bytes) -> list[Rule]:
        """The rules of a directory, as they were and as they are."""
        if not self._files:
            return []
        path = _clean(path)
        rules = self._rules.setdefault(path, [])
        rules += self._read(directory_fd, path)
        return rules

    def leave(self, path: bytes) -> None:
        """Forget a directory."""
        self._rules.pop(_clean(path), None)
        self._own.discard(_clean(path))

    def keeps(self, directory_fd: int, name: bytes, path: bytes, rules: list[Rule]) -> bool:
        """Whether an entry is kept out of archives; so is a file with rules that are obeyed here.

        :param path: of the directory
        """
        if name == EXCLUDE_NAME and _clean(path) in self._own:
            return True
        if not (rules or self._nodump):
            return False
        try:
            mode = os.stat(name, dir_fd=directory_fd, follow_symlinks=False).st_mode
        except OSError:
            return False
        if rules and decide(rules, name, stat.S_ISDIR(mode))[0]:
            return True
        return self._nodump and (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) and _is_nodump(directory_fd, name)

    def holds(self, directory_fd: int, name: bytes, rules: list[Rule]) -> bool:
        """Whether a directory has something in it, to any depth, that is kept out of archives."""
        if not (self._files or self._nodump):
            return False
        left = [(name, decide(rules, name, True)[1])]
        while left:
            path, inherited = left.pop()
            try:
                fd = os.open(path, OPEN_DIR, dir_fd=directory_fd)
            except OSError:
                continue  # no directory
            try:
                if self._files:
                    inherited = inherited + self._read(fd, path)
                    self._own.discard(path)
                with os.scandir(fd) as entries:
                    for entry in entries:
                        inner = os.fsencode(entry.name)
                        if self.keeps(fd, inner, b"", inherited):
                            return True
                        if entry.is_dir(follow_symlinks=False):
                            left.append((os.path.join(path, inner), decide(inherited, inner, True)[1]))
            except OSError:
                continue
            finally:
                os.close(fd)
        return False


def _clean(path: bytes) -> bytes:
    return path.rstrip(b"/") or path


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
