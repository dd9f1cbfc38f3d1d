"""What writing a tree would do to a directory, said and not done: a `TreeWriter` that only looks.

    >>> writer = PreviewWriter(b"/target", options, warn=print, on_change=print)
    >>> apply_tree(walker, writer)

Contents are compared only where nothing else tells that a file changes; other payloads are not asked for. It knows what
is there now, and not what the target can hold. Nothing is written, made or locked, and what is looked at keeps its
times as far as looking allows.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from casync_compat.errors import FileError, FormatError, UsageError
from casync_compat.fs import inode_flags
from casync_compat.fs.apply.changes import Change, OnChange, Verb
from casync_compat.fs.apply.options import ApplyOptions
from casync_compat.fs.apply.restore import Restorer
from casync_compat.fs.apply.sparing import Deleted, Spared, delete
from casync_compat.fs.apply.uptodate import Current, Old, Tally
from casync_compat.fs.exclude import EXCLUDE_NAME, MAX_FILE_SIZE
from casync_compat.fs.remove import OPEN_DIR
from casync_compat.fs.together import FallenTogether, Written
from catar.grammar import NODE_FEATURES
from catar.records import DirectoryEnd, Node
from catar.runs import Run

__all__ = ["PreviewWriter"]

_OPEN_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEPEST = 200
"""Levels down to which is listed what would be deleted."""
_DEVICES = (stat.S_IFCHR, stat.S_IFBLK)


@dataclass(slots=True)
class _Level:
    """A directory under way.

    :ivar fd: -1 where it is not there yet
    :ivar path: from the target
    :ivar names: entries that the archive has; None where nothing is deleted
    :ivar first: path of the directory that this one has fallen together with
    """

    fd: int
    path: bytes
    names: set[bytes] | None
    written: Written
    first: bytes | None = None

    def path_below(self, target: bytes) -> bytes:
        """Its path, from where the target's is."""
        return os.path.join(target, self.path)


class PreviewWriter:
    """Says what writing a tree would do. See `TreeWriter` for the parameters and methods that they have in common.

    :param on_change: is told every entry that would be created, changed, replaced or deleted, when it comes to it
    """

    def __init__(
        self,
        target: bytes,
        options: ApplyOptions,
        *,
        warn: Callable[[str], None],
        on_change: OnChange,
        name: bytes | None = None,
    ) -> None:
        self.target = target
        self.begun = False
        self.deleted = Deleted(target)
        self.tally = Tally()
        self.created = 0
        self._options = options
        self._warn = warn
        self._on_change = on_change
        self._name = name
        self._together = FallenTogether(warn)
        self._archived = 0
        self._spared: Spared | None = None
        self._in_the_way: list[bytes] = []
        self._stack: list[_Level] = []
        self._skipping = 0
        self._started = False
        self._old: Old | None = None
        self._file = b""
        self._exclude_file: bytearray | None = None
        self._restorer: Restorer
        self._current: Current

    def begin(self, feature_flags: int) -> None:
        """Say the archive's feature flags, before the first node."""
        self._archived = feature_flags
        self._restorer = Restorer(feature_flags, self._options, self._warn)
        self._current = Current(self._restorer)
        self.begun = True

    @property
    def has_hooks(self) -> bool:
        """Yes: nodes must come one by one."""
        return True

    @property
    def wants_payload(self) -> bool:
        """Whether the contents of the current file tell whether it changes."""
        return self._old is not None or self._exclude_file is not None

    def feed(self, step: Node | DirectoryEnd, path: bytes) -> None:
        """Take the next node, or the end of the innermost directory."""
        self._settle()
        try:
            if self._skipping:
                self._skipping += step.is_dir if isinstance(step, Node) else -1
            elif not isinstance(step, Node):
                self._leave()
            elif self._started:
                self._child(self._stack[-1], step)
            else:
                self._top(step)
        except OSError as error:
            where = self._stack[-1].path if self._stack else b""
            raise FileError(os.path.join(self.target, where), "look at", error) from error

    def feed_run(self, run: Run) -> None:
        """Never called, since nodes come one by one."""
        raise AssertionError("a preview takes single nodes")

    def write(self, view: memoryview) -> None:
        """Compare the next bytes of the current file."""
        if self._exclude_file is not None and len(self._exclude_file) <= MAX_FILE_SIZE:
            self._exclude_file += view
        if self._old is not None and not self._old.has(view):
            self._close_old()
            self.tally.updated += 1
            self._tell("change", self._file)

    def finish(self) -> None:
        """As `TreeWriter.finish`. :raises FileError: what would be the error in the end"""
        self._settle()
        if self._skipping or len(self._stack) != (0 if self._name is None else 1):
            raise FormatError("the tree ends in the middle of a directory or file", self.target)
        self.abort()
        for warning in self._spared.warnings() if self._spared is not None else ():
            self._warn(warning)
        if self._in_the_way:
            why = "it is a directory with something in it, and nothing is to be deleted"
            raise FileError(self._in_the_way[0], "replace", why)
        failure = self._together.failure() or (self._spared.failure if self._spared is not None else None)
        if failure is not None:
            raise failure

    def abort(self, error: BaseException | None = None) -> None:
        """Close everything; never raises."""
        self._close_old()
        while self._stack:
            level = self._stack.pop()
            if level.fd >= 0:
                with suppress(OSError):
                    os.close(level.fd)

    # Changes

    def _tell(self, verb: Verb, path: bytes, is_dir: bool = False) -> None:
        self._on_change(Change(verb, path or b".", is_dir))

    def _settle(self) -> None:
        """The contents of the last file were all the same, or there were none to compare."""
        if self._old is not None:
            self._close_old()
            self.tally.unchanged += 1
        rules, self._exclude_file = self._exclude_file, None
        if rules is not None and self._spared is not None:
            self._spared.excluded.bring(self._stack[-1].path_below(self.target), bytes(rules))

    def _close_old(self) -> None:
        old, self._old = self._old, None
        if old is not None:
            old.close()

    def _metadata(self, item: int | bytes, st: os.stat_result, node: Node) -> bool:
        """Whether the metadata is as recorded."""
        on_fat = isinstance(item, int) and self._restorer.wants_fat and inode_flags.has_fat(item)
        return not self._current.wrong(item, st, node, on_fat=on_fat)

    def _count(self, same: bool, path: bytes, is_dir: bool = False) -> None:
        if same:
            self.tally.unchanged += 1
        else:
            self.tally.updated += 1
            self._tell("change", path, is_dir)

    def _create(self, path: bytes, is_dir: bool) -> None:
        self.created += 1
        self._tell("create", path, is_dir)

    # Nodes

    def _top(self, node: Node) -> None:
        if self._name is None and not node.is_dir:
            raise UsageError("only a directory can be written as the target itself")
        self._started = True
        try:
            fd = os.open(self.target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            os.stat(os.path.dirname(self.target.rstrip(b"/")) or b".")  # one level is made
            fd = -1
            self._create(b"", True)
        level = _Level(fd, b"", None, Written())
        self._stack.append(level)
        if fd >= 0 and (self._options.delete or self._options.in_use):
            self._spared = Spared(self.target, self._options.in_use, self._archived)
        if self._name is None:
            if fd >= 0:
                self._count(self._metadata(fd, os.fstat(fd), node), b"", True)
            self._watch_names(level)
        else:
            node.name = self._name
            self._child(level, node)

    def _watch_names(self, level: _Level) -> None:
        if level.fd >= 0 and self._options.delete and self._spared is not None:
            level.names = None if self._spared.everything else set()
            self._spared.excluded.enter(level.fd, level.path_below(self.target))

    def _child(self, parent: _Level, node: Node) -> None:
        path = os.path.join(parent.path, node.name)
        if parent.names is not None:
            parent.names.add(node.name)
        if self._spared is not None and parent.fd >= 0:
            full = os.path.join(self.target, path)
            if self._spared.refuses(os.fstat(parent.fd), parent.fd, node.name, node.is_dir, full):
                self._skipping = int(node.is_dir)
                return
        if node.name == EXCLUDE_NAME and parent.names is not None and self._spared is not None:
            # What it will say counts as soon as it is there.
            self._exclude_file = (
                bytearray() if self._spared.excluded.obeys_files and node.is_regular else None
            )
        needs = NODE_FEATURES[node.kind]
        if needs and not self._restorer.features & needs:
            return
        st = self._status(parent, node.name)
        if st is None:
            self._create(path, node.is_dir)
            if node.is_dir:
                self._stack.append(_Level(-1, path, None, Written()))
            return
        first = parent.written.first(parent.fd, node.name, lambda: False)
        if first is not None:
            self._fell(parent, node, st, path, first)
            return
        parent.written.add((st.st_dev, st.st_ino), node.name)
        if stat.S_IFMT(st.st_mode) != node.kind:
            self._replace(parent, node, path, st)
        elif node.is_dir:
            self._directory(parent, node, path)
        elif node.is_regular:
            self._regular(parent, node, path, st)
        else:
            self._special(parent, node, path, st)

    def _fell(self, parent: _Level, node: Node, st: os.stat_result, path: bytes, first: bytes) -> None:
        """Two entries have one name; of two directories what is in them goes into one."""
        merged = node.is_dir and stat.S_ISDIR(st.st_mode)
        where = os.path.join(parent.path if parent.first is None else parent.first, first)
        paths = os.path.join(self.target, path), os.path.join(self.target, where)
        self._together.add(*paths, merged=merged)
        if not merged:
            self._skipping = int(node.is_dir)
            return
        fd = os.open(node.name, OPEN_DIR, dir_fd=parent.fd)
        level = _Level(fd, path, None, Written.of(fd), where)
        level.written.merged = True
        self._stack.append(level)

    def _status(self, parent: _Level, name: bytes) -> os.stat_result | None:
        if parent.fd < 0:
            return None
        try:
            return os.stat(name, dir_fd=parent.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def _replace(self, parent: _Level, node: Node, path: bytes, st: os.stat_result) -> None:
        if stat.S_ISDIR(st.st_mode):
            inside = list(_everything(parent.fd, node.name, path))
            if inside and not self._options.delete:
                self._in_the_way.append(os.path.join(self.target, path))
                return
            self._told_replaced(path, node)
            for each, is_dir in inside:
                self._tell("delete", each, is_dir)
        else:
            self._told_replaced(path, node)
        if node.is_dir:
            self._stack.append(_Level(-1, path, None, Written()))

    def _told_replaced(self, path: bytes, node: Node) -> None:
        self.tally.updated += 1
        self._tell("replace", path, node.is_dir)

    def _directory(self, parent: _Level, node: Node, path: bytes) -> None:
        fd = os.open(node.name, OPEN_DIR, dir_fd=parent.fd)
        level = _Level(fd, path, None, Written())
        self._stack.append(level)
        self._count(self._metadata(fd, os.fstat(fd), node), path, True)
        self._watch_names(level)

    def _regular(self, parent: _Level, node: Node, path: bytes, st: os.stat_result) -> None:
        old = Old.open(parent.fd, node.name) if st.st_size == node.size else None
        if old is None or not self._metadata(old.fd, old.st, node):
            if old is not None:
                old.close()
            self._count(False, path)
            return
        if not node.size or (self._options.compare == "metadata" and self._current.looks_same(old.st, node)):
            old.close()
            self._count(True, path)
            return
        self._old, self._file = old, path

    def _special(self, parent: _Level, node: Node, path: bytes, st: os.stat_result) -> None:
        same = node.kind not in _DEVICES or (
            node.device is not None and st.st_rdev == os.makedev(*node.device)
        )
        if node.is_symlink:
            same = os.readlink(node.name, dir_fd=parent.fd) == (node.target or b"")
        if same:
            fd = os.open(node.name, _OPEN_PATH, dir_fd=parent.fd)
            try:
                same = self._metadata(b"/proc/self/fd/%d" % fd, os.fstat(fd), node)
            finally:
                os.close(fd)
        self._count(same, path)

    def _leave(self) -> None:
        level = self._stack[-1]
        if level.names is not None and self._spared is not None:
            path = level.path_below(self.target)
            delete(level.fd, path, level.names, self._spared, self._delete, level.written)
        self._stack.pop()
        if level.fd >= 0:
            os.close(level.fd)

    def _delete(self, directory_fd: int, name: bytes, path: bytes) -> None:
        self.deleted.add(path)
        path = os.path.relpath(path, self.target)
        st = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
        self._tell("delete", path, stat.S_ISDIR(st.st_mode))
        if stat.S_ISDIR(st.st_mode):
            for each, is_dir in _everything(directory_fd, name, path):
                self._tell("delete", each, is_dir)


def _everything(directory_fd: int, name: bytes, path: bytes, depth: int = 0) -> Iterator[tuple[bytes, bool]]:
    """All that is below an entry of a directory, with whether it is a directory.

    What cannot be read is passed over, and so is what lies very deep.
    """
    if depth > _DEEPEST:
        return
    try:
        fd = os.open(name, OPEN_DIR, dir_fd=directory_fd)
    except OSError:
        return
    try:
        for each in sorted(map(os.fsencode, os.listdir(fd))):
            inner = os.path.join(path, each)
            is_dir = stat.S_ISDIR(os.stat(each, dir_fd=fd, follow_symlinks=False).st_mode)
            yield inner, is_dir
            if is_dir:
                yield from _everything(fd, each, inner, depth + 1)
    finally:
        os.close(fd)
