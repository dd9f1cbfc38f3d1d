"""A directory as a stream of nodes: what `casync make` sees of a tree, in the order it stores it.

    >>> scanner = Scanner(b"/etc", flags.DEFAULT)
    >>> for step in scanner:
    ...     if isinstance(step, Node): print(scanner.path, step.size)

Every file is opened once, relative to its directory's descriptor, without following symlinks; its type and metadata
are those of the descriptor that its contents are read from. Errors name the file. What changes while it is read never
makes a corrupt archive; where `Losses` are collected, the rest is archived, see there.

Runs of small regular files are opened, inspected and read in one call of the native reader (`_system.c`, twin
`system.py`); everything else, and every file in a directory with exclude rules, goes one by one. For whoever encodes
them, see `runs_into`, runs are read right to their place in the archive, and no `Node` is made of their files.

It does not write archives: `catar.Encoder` does, fed by `casync_compat.streams.archive`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from casync_compat.closing import Closing, weakly
from casync_compat.errors import FileError
from casync_compat.fs.exclude import EXCLUDE_NAME, Rule, decide, read_rules
from casync_compat.fs.losses import ATTRIBUTES, RULES, UNREADABLE, VANISHED, Losses, is_ours, leaving_out
from casync_compat.fs.owners import IdShift
from casync_compat.fs.scan.directory import KeptOut, ScannedDirectory, has_name, mount_id
from casync_compat.fs.scan.inspect import FileSystem, Inspector, RawFile
from casync_compat.fs.scan.payload import FilePayload, check_readable
from casync_compat.fs.scan.runs import FileRun, RunReader
from catar.flags import FeatureFlags
from catar.grammar import MAX_DEPTH
from catar.records import DirectoryEnd, Node

try:
    from casync_compat.fs._names import list_names
    from casync_compat.fs._system import open_directory, read_files
except ImportError:  # built without a C compiler
    from casync_compat.fs.names import list_names
    from casync_compat.fs.system import open_directory, read_files

__all__ = ["Scanner"]

F = FeatureFlags
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_OPEN_DIR = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
_ROOM = 1 << 20
_RUN = 128
_DIR, _REG, _LINK = b"dfl"
_NODUMP = int(F.FLAG_NODUMP)


class Scanner(Closing):
    """A `TreeStream` over a directory.

    :param root: the directory; may itself be a symlink to one
    :param feature_flags: what to record, normalised
    :param shift: how owner ids are stored
    :param skip: `(device, inode)` of files that are not to be archived: the output, when it lies in the tree
    :param contents: False when no payload will be asked for, so that nothing is read in advance
    :param losses: told of what cannot be read as it was; None fails at the first
    :raises FileError: from iteration, naming the file that could not be archived

    :ivar excluded: how many entries were kept out so far

    Close it, or use it as a context manager: it holds descriptors.
    """

    def __init__(
        self,
        root: bytes,
        feature_flags: int,
        *,
        shift: IdShift | None = None,
        skip: Iterable[tuple[int, int]] = (),
        contents: bool = True,
        losses: Losses | None = None,
    ) -> None:
        self.root = root
        self.path = b""
        self._features = int(feature_flags)
        self._losses = losses
        self._inspector = Inspector(
            self._features, shift or IdShift(), None if losses is None else weakly(self._attribute_lost)
        )
        self._skip = frozenset(skip)
        self.excluded = KeptOut()
        self._stack: list[ScannedDirectory] = []
        self._payload = FilePayload(root, None if losses is None else weakly(self._lost))
        self._contents = contents
        self._run: deque[RawFile] = deque()
        self._room = memoryview(b"")
        self._runs: RunReader | None = None
        self._submounts = not feature_flags & F.EXCLUDE_SUBMOUNTS
        self._exclude_files = bool(feature_flags & F.EXCLUDE_FILE)
        self._nodump = bool(feature_flags & F.EXCLUDE_NODUMP)

    @property
    def feature_flags(self) -> int:
        """The flag word that nodes are recorded with."""
        return self._features

    @property
    def full_path(self) -> bytes:
        """Path of the current node, from where the process stands."""
        return os.path.join(self.root, self.path) if self.path else self.root

    def runs_into(self, room: Callable[[], memoryview]) -> None:
        """Have runs of ordinary files read to where `room` says; iteration then gives `FileRun`s too, by `steps`.

        :param room: gives free room; it is asked again after each run, which begins where that room does
        """
        self._runs = RunReader(self._inspector, self._skip, room)

    def close(self) -> None:
        """Close every descriptor, and let go of what runs are read to, with the store that it may lead to."""
        self._payload.close()
        self._runs = None
        while self._run:
            fd = self._run.popleft()[0]
            if fd >= 0:
                os.close(fd)
        while self._stack:
            os.close(self._stack.pop().fd)

    # Iteration

    def __iter__(self) -> Iterator[Node | DirectoryEnd]:
        for step in self.steps():
            assert not isinstance(step, FileRun), "runs are given by steps()"
            yield step

    def steps(self) -> Iterator[Node | DirectoryEnd | FileRun]:
        """The nodes, and runs of files where `runs_into` was called. `path` is that of the last file of a run."""
        try:
            yield from self._iterate()
        except OSError as error:
            raise FileError(self.full_path, "archive", error) from error
        except ValueError as error:
            raise FileError(self.full_path, "archive", str(error)) from error
        finally:
            self.close()

    def _iterate(self) -> Iterator[Node | DirectoryEnd | FileRun]:
        yield self._visit_root()
        stack = self._stack
        while stack:
            directory = stack[-1]
            listing = directory.listing
            if listing is None:
                listing = self._fill(directory)
            if directory.at == len(listing):
                self.path = directory.path
                stack.pop()
                os.close(directory.fd)
                yield DirectoryEnd(0, 0, 0)
                continue
            mark = listing[directory.at]
            if directory.run_wanted and mark in (_REG, _LINK):
                run = self._read_run(directory, listing)
                if run is not None:
                    yield run
                    if not self._run:
                        continue
            try:
                child = self._next_child(directory, listing)
            except OSError as error:
                self._leave_out(error)
                continue
            if child is not None:
                yield child
                self._payload.finish()

    # What cannot be read as it was

    def _lost(self, kind: str, path: bytes, text: str) -> None:
        """Something is not archived as it was. :param path: from the root"""
        assert self._losses is not None
        self._losses.note(kind, os.path.join(self.root, path) if path else self.root, text)

    def _leave_out(self, error: OSError) -> None:
        """The current child cannot be looked at. :raises OSError: `error`, when that ends the run"""
        if self._losses is None or is_ours(error):
            raise error
        kind, text = leaving_out(error)
        self._lost(kind, self.path, text)

    def _attribute_lost(self, error: OSError) -> None:
        self._lost(ATTRIBUTES, self.path, f"an attribute cannot be read ({error.strerror}), and is left out")

    def _visit_root(self) -> Node:
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            st = os.fstat(fd)
            fs = self._inspector.file_system(fd, st.st_dev)
            node = self._inspector.node(b"", fd, st, fs, self._inspector.chattr_flags(fd))
        except BaseException:
            os.close(fd)
            raise
        self._enter(fd, b"", fs, [])
        return node

    def _next_child(self, directory: ScannedDirectory, listing: bytes) -> Node | None:
        at = directory.at
        end = listing.index(0, at)
        directory.at = end + 1
        mark, name = listing[at], listing[at + 1 : end]
        self.path = directory.path_of(name)
        if self._run:
            return self._take(directory, name, self._run.popleft())
        if directory.in_runs:
            if mark == _DIR and directory.opens_raw:
                return self._visit_directory(directory, name)
            if mark == _REG and not directory.run_wanted:
                return self._visit_in_run(directory, name)
        return self._visit(directory, name, mark)

    def _read_run(self, directory: ScannedDirectory, listing: bytes) -> FileRun | None:
        """Read a run; what was found out about the file behind it, which is the next child, is left in `_run`."""
        assert self._runs is not None
        fs = directory.fs
        run, behind, odd = self._runs.read(
            directory.fd, listing, directory.at, fs.device, directory.run_wanted
        )
        if odd is not None:
            self._run.append(odd)
            behind = listing.rfind(0, 0, behind - 1) + 1
        directory.at = behind
        if run is not None:
            self.path = directory.path_of(listing[listing.rfind(0, 0, behind - 1) + 2 : behind - 1])
        return run

    def _enter(self, fd: int, path: bytes, fs: FileSystem, rules: list[Rule]) -> None:
        directory = ScannedDirectory(fd, path, fs, rules)
        self._stack.append(directory)  # from here on `close` sees to the descriptor
        if len(self._stack) > MAX_DEPTH:
            raise FileError(
                self.full_path, "archive", f"directories nest deeper than {MAX_DEPTH} levels, casync's limit"
            )

    def _fill(self, directory: ScannedDirectory) -> bytes:
        """List a directory and read its rules: its own node has been handed out by then."""
        fd, fs = directory.fd, directory.fs
        directory.listing = b""
        if not self._submounts:
            directory.mount = mount_id(fd)
        if fs.is_virtual:
            return b""
        self.path = directory.path
        try:
            listing = directory.listing = list_names(fd)
        except OSError as error:
            if self._losses is None or is_ours(error):
                raise
            kind = VANISHED if error.errno == errno.ENOENT else UNREADABLE
            self._lost(
                kind, self.path, f"its entries cannot be listed ({error.strerror}): it is archived empty"
            )
            return b""
        if self._exclude_files and has_name(listing, EXCLUDE_NAME):
            directory.rules = directory.rules + self._rules(directory)
        directory.in_runs = (
            self._contents and self._submounts and not directory.rules and self._inspector.reads_raw(fs)
        )
        directory.opens_raw = directory.in_runs and self._inspector.opens_raw(fs)
        if directory.in_runs and self._runs is not None:
            directory.run_wanted = self._inspector.run_wanted(fs)
        return listing

    def _rules(self, directory: ScannedDirectory) -> list[Rule]:
        full = os.path.join(self.root, directory.path, EXCLUDE_NAME)
        try:
            return read_rules(directory.fd, full)
        except OSError as error:
            if self._losses is None or is_ours(error):
                raise
            if error.errno != errno.ENOENT:  # else it vanished, as will be found in its turn
                text = f"it cannot be read ({error.strerror}), so nothing is left out for it"
                self._lost(RULES, directory.path_of(EXCLUDE_NAME), text)
            return []

    # One child

    def _visit(
        self, parent: ScannedDirectory, name: bytes, mark: int, *, certain: bool = False
    ) -> Node | None:
        """Look at one child. `certain`: its type was asked for, not only read in the directory."""
        is_dir = mark == _DIR
        if not is_dir and mark != _REG:
            return self._visit_special(parent, name)
        inherited: list[Rule] = []
        if parent.rules:
            excluded, inherited = decide(parent.rules, name, is_dir)
            if excluded:
                self.excluded.exclude_file += 1
                return None
        if not self._submounts and mount_id(parent.fd, name) != parent.mount:
            self.excluded.submounts += 1
            return None
        try:
            fd = os.open(name, _OPEN_DIR if is_dir else _OPEN_FILE, dir_fd=parent.fd)
        except OSError as error:
            if not certain:
                return self._visit_special(parent, name)
            raise FileError(self.full_path, "open", error) from error
        keep = False
        try:
            st = os.fstat(fd)
            if stat.S_IFMT(st.st_mode) != (stat.S_IFDIR if is_dir else stat.S_IFREG):
                if not certain:
                    return self._visit_special(parent, name)
                if self._losses is None:
                    raise FileError(self.full_path, "archive", "it changed its type while being read")
                raise OSError(errno.ESTALE, "it changed its type while being read")
            # What is left out is not looked at any closer: only a file that is archived may stop the run.
            flags = self._inspector.chattr_flags(fd)
            if self._nodump and flags & _NODUMP:
                self.excluded.nodump += 1
                return None
            if self._skip and (st.st_dev, st.st_ino) in self._skip:
                return None
            fs = parent.fs
            if st.st_dev != fs.device:
                fs = self._inspector.file_system(fd, st.st_dev)
            if self._losses is not None and self._contents and not is_dir and not fs.is_virtual:
                check_readable(fd, st.st_size)
            node = self._inspector.node(name, fd, st, fs, flags)
            keep = True
        finally:
            if not keep:
                os.close(fd)
        if is_dir:
            self._enter(fd, self.path, fs, inherited)
        else:
            self._payload.open(self.path, fd, node.size, (st.st_size, st.st_mtime_ns))
        return node

    def _visit_in_run(self, parent: ScannedDirectory, name: bytes) -> Node | None:
        """Look at one regular file, and read in one call what comes behind it."""
        names = [name]
        listing, at = parent.listing or b"", parent.at
        while len(names) < _RUN and at < len(listing) and listing[at] == _REG:
            end = listing.index(0, at)
            names.append(listing[at + 1 : end])
            at = end + 1
        if not self._room:
            self._room = memoryview(bytearray(_ROOM))
        wanted = self._inspector.raw_wanted(parent.fs)
        self._run.extend(read_files(parent.fd, names, wanted, self._room))
        return self._take(parent, name, self._run.popleft())

    def _visit_directory(self, parent: ScannedDirectory, name: bytes) -> Node | None:
        """Look at one directory in one call of the native reader."""
        raw = open_directory(parent.fd, name, self._inspector.raw_wanted(parent.fs))
        fd, error, device, inode, chattr, listed = raw[0], raw[1], raw[7], raw[8], raw[9], raw[11]
        keep = False
        try:
            flags = self._inspector.from_disk(chattr)
            left_out = (self._nodump and flags & _NODUMP) or (self._skip and (device, inode) in self._skip)
            if error or device != parent.fs.device or left_out:
                return self._visit(parent, name, _DIR)
            node = self._inspector.of_raw(name, raw, flags)
            if listed:
                self._inspector.attributes(node, fd, parent.fs, is_dir=True)
            keep = True
        finally:
            if fd >= 0 and not keep:
                os.close(fd)
        self._enter(fd, self.path, parent.fs, [])
        return node

    def _take(self, parent: ScannedDirectory, name: bytes, raw: RawFile) -> Node | None:
        """Make a node of what the native reader found out about a file."""
        fd, error, mode, uid, gid, size, mtime, device, inode, chattr, _, listed, offset, count, stable = raw
        keep = False
        try:
            # An error may only be too many open files in one run. Another type or device: something is mounted on it.
            if error or mode & 0o170000 != stat.S_IFREG or device != parent.fs.device:
                return self._visit(parent, name, _REG)
            changed = not stable if count == size else fd < 0 or count > 0
            if changed and self._losses is not None:
                return self._visit(parent, name, _REG)  # once more; what it does then is told
            flags = self._inspector.from_disk(chattr)
            if self._nodump and flags & _NODUMP:
                self.excluded.nodump += 1
                return None
            if self._skip and (device, inode) in self._skip:
                return None
            node = self._inspector.of_raw(name, raw, flags)
            if listed:
                self._inspector.attributes(node, fd, parent.fs, is_dir=False)
            if count == size:
                if not stable:
                    raise FileError(self.full_path, "archive", "it changed while being read; try again")
                self._payload.hold(self.path, self._room[offset : offset + size])
            elif fd >= 0 and count <= 0:
                if self._losses is not None and self._contents:
                    check_readable(fd, size)
                self._payload.open(self.path, fd, size, (size, mtime))
                keep = True
            else:
                text = f"it shrank by {size - count} bytes while being read; try again"
                raise FileError(self.full_path, "read", text)
            if parent.run_wanted:
                self._inspector.note_owner(uid, gid)
        finally:
            if fd >= 0 and not keep:
                os.close(fd)
        return node

    def _visit_special(self, parent: ScannedDirectory, name: bytes) -> Node | None:
        """Look at a child that its directory does not call a file or directory, or calls so wrongly.

        It was replaced since, or the file system did not say what it is, or something else is mounted on it.
        """
        st = os.stat(name, dir_fd=parent.fd, follow_symlinks=False)
        kind = stat.S_IFMT(st.st_mode)
        if kind in (stat.S_IFREG, stat.S_IFDIR):
            return self._visit(parent, name, _DIR if kind == stat.S_IFDIR else _REG, certain=True)
        if not self._inspector.stores(kind):
            return None
        if not self._submounts and mount_id(parent.fd, name) != parent.mount:
            self.excluded.submounts += 1
            return None
        if parent.rules and decide(parent.rules, name, False)[0]:
            self.excluded.exclude_file += 1
            return None
        target = os.readlink(name, dir_fd=parent.fd) if kind == stat.S_IFLNK else None
        return self._inspector.special(name, parent.fd, st, target, self.full_path)

    def take_ready(self) -> memoryview | None:
        """The whole payload of the current file, when it is in memory already; valid until the next node."""
        return self._payload.take_ready()

    def take_hole(self) -> int:
        """Pass over the hole that the current file has next. :returns: its size; 0 when data is to be read"""
        return self._payload.take_hole()

    def payload_into(self, buffer: memoryview) -> int:
        """Read the next bytes of the current file; see `FilePayload.read_into`."""
        return self._payload.read_into(buffer)

    def payload(self) -> Iterator[memoryview]:
        """The pieces of the current file; each is valid until the next is asked for."""
        return self._payload.pieces()
