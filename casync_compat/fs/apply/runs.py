"""Runs of ordinary nodes written at once, by `_runs.c`, into directories that this run of the program has made.

    >>> writer = RunWriter(placer, pool)
    >>> if writer.takes(stack):
    ...     cursor = writer.write(run, 0, len(run), stack)   # a row later, or as far as it got
    >>> writer.drain()

Its directories are made at once, files are written on the pool's threads, and a directory is completed when everything
before its end has been written. Nobody else can reach into a fresh directory, so that files are made there under their
final names, which saves renaming them; until it is complete, a file has mode 0200, which nobody but root can read, and
the directories above it admit nobody but their owner.

What is not ordinary is left to the caller. What fails is tried again the slow way, by `FileWriter` and its like, which
either works or says what is wrong: no error is reported from here.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from casync_compat import _layouts
from casync_compat.fs.apply.placing import Placer
from casync_compat.fs.apply.regular import FileWriter
from casync_compat.fs.apply.special import SpecialWriter
from casync_compat.fs.apply.target import Directory
from catar.flags import FeatureFlags
from catar.records import Node
from catar.runs import Run, node_of_row
from catar.structs import Fields

try:
    from casync_compat.fs.apply import _runs
except ImportError:  # built without a C compiler
    _runs = None  # type: ignore[assignment]

__all__ = ["Owners", "Pool", "RunWriter"]

_SYMLINKS = int(FeatureFlags.SYMLINKS)
_MOST_DIRECTORIES = 48
"""Directories that one plan opens; they are open at the same time."""
_MOST_OPEN = 256
"""Directories that all plans under way opened: few enough for the usual limit of 1024 descriptors."""
_MOST_OWNERS = 64
_PLACE = Fields(*_layouts.PLACE, order="=")
_read_place = _PLACE.reader("fd", "row")

_Owner: TypeAlias = tuple[int, int, bytes, bytes, int, int]
_FilesCall: TypeAlias = tuple[Any, ...]
_Written: TypeAlias = tuple[int, int, int, tuple[int, int]]


class Pool(Protocol):
    """Threads that run calls, whose results are taken in the order in which they were started."""

    def start(self, call: Callable[..., Any], /, *args: Any) -> None: ...

    def take(self) -> Any: ...


class _Inline:
    """A `Pool` without threads: calls run when they are started."""

    def __init__(self) -> None:
        self._results: deque[Any] = deque()

    def start(self, call: Callable[..., Any], /, *args: Any) -> None:
        self._results.append(call(*args))

    def take(self) -> Any:
        return self._results.popleft()


@dataclass(slots=True)
class _Plan:
    """Rows that were planned together.

    :ivar first: the first of them
    :ivar places: for each, what `_runs.c` calls a place
    :ivar paths: of the directory in which it begins, the last, and of those above
    :ivar owner: user and group id that new inodes get
    :ivar made: directories that it opened
    :ivar ends: directories from before that end in it
    :ivar closed: the first row whose directory, if it ends one, is not complete yet
    """

    run: Run
    first: int
    places: bytes
    paths: list[bytes]
    owner: tuple[int, int]
    made: int
    ends: deque[Directory] = field(default_factory=deque)
    closed: int = 0

    @property
    def end(self) -> int:
        return self.first + len(self.places) // _PLACE.size

    def place(self, number: int) -> tuple[int, int]:
        """Descriptor that a row goes into, opens or ends, and the row that opened it when it ends one, else -1."""
        at = (number - self.first) * _PLACE.size
        fd, opener = _read_place(self.places, at)
        return fd, opener

    def path(self, number: int) -> bytes:
        """Path of the directory in which a row stands."""
        paths = list(self.paths)
        for i in range(self.first, number):
            node = node_of_row(self.run, i)
            if node is None:
                paths.pop()
            elif node.is_dir:
                paths.append(os.path.join(paths[-1], node.name))
        return paths[-1]

    def directory(self, fd: int, path: bytes, node: Node | None) -> Directory:
        """One of the directories that it made, or that it writes into."""
        directory = Directory(fd, os.fstat(fd), path, node.name if node is not None else b"", node)
        directory.fresh = True
        directory.owner = self.owner
        return directory


class Owners:
    """What owners of an archive are on disk, as `_runs.c` and `_updates.c` want to know it.

    :ivar rows: for each ids and names in the archive, and ids on disk
    """

    def __init__(self, placer: Placer) -> None:
        self.rows: list[_Owner] = []
        self._restorer = placer.restorer

    def learn(self, run: Run, number: int) -> bool:
        """Add the owner of a row. :returns: False when there is something wrong about it"""
        node = node_of_row(run, number)
        assert node is not None, "the end of a directory has no owner"
        try:
            ids = self._restorer.owner(node)
        except ValueError:
            return False
        if len(self.rows) >= _MOST_OWNERS:
            self.rows.clear()
        self.rows.append((node.uid, node.gid, node.user or b"", node.group or b"", *ids))
        return True


class RunWriter:
    """Writes runs for one `TreeWriter`.

    :param complete: restores the metadata of a directory whose children are complete, and closes it
    :param pool: where files are written; None for the caller's thread
    :param depth: most plans under way
    """

    def __init__(
        self,
        placer: Placer,
        complete: Callable[[Directory], None],
        pool: Pool | None = None,
        depth: int = 1,
    ) -> None:
        self._placer = placer
        self._complete = complete
        self._pool: Pool = pool if pool is not None else _Inline()
        self._depth = depth
        self._pending: deque[_Plan] = deque()
        self._made = 0
        self._current: _Plan | None = None
        self.owners = Owners(placer)
        """Of the archive."""
        self._symlinks = bool(placer.restorer.features & _SYMLINKS)

    @property
    def busy(self) -> bool:
        """Whether something is under way."""
        return bool(self._pending)

    def takes(self, directory: Directory) -> bool:
        """Whether ordinary nodes in a directory can be written here."""
        return (
            directory.fresh
            and _runs is not None
            and directory.temp is None
            and directory.written is None
            and directory.owner is not None
            and not directory.inherits_acl
            and not directory.child_flags
            and self._placer.restorer.is_exact
            and not self._placer.restorer.umask & 0o700  # takes what the owner needs from new directories
            and not self._placer.has_fat(directory)
        )

    def write(self, run: Run, begin: int, end: int, stack: list[Directory]) -> int:
        """Start to write rows of a run, and have `stack` follow.

        :param begin: the first row, as `end` is the one behind the last
        :param stack: open directories, the innermost last, of which `takes` takes at least that
        :returns: the first row that was not taken; `begin` when the caller is to see to that one itself
        """
        top = stack[-1]
        assert top.owner is not None, "takes() says so"
        base = len(stack) - 1
        while base and stack[base - 1].owner == top.owner and self.takes(stack[base - 1]):
            base -= 1
        fds = [directory.fd for directory in stack[base:]]
        stop, places, closed, opened, made = self._plan(run, begin, end, fds, top.owner)
        if stop > begin:
            paths = [directory.path for directory in stack]
            plan = _Plan(run, begin, places, paths, top.owner, made, closed=begin)
            for _ in range(closed):
                plan.ends.append(stack.pop())
            for number, fd in opened:
                node = node_of_row(run, number)
                assert node is not None, "a directory begins here"
                stack.append(plan.directory(fd, os.path.join(stack[-1].path, node.name), node))
            self._start(plan)
        return stop

    def _plan(
        self, run: Run, begin: int, end: int, fds: list[int], owner: tuple[int, int]
    ) -> tuple[int, bytes, int, list[tuple[int, int]], int]:
        privileged = self._placer.restorer.left_out.privileged
        while True:
            stop, unknown, places, closed, opened, made = _runs.open_directories(
                run.buffer,
                run.rows,
                begin,
                end,
                _MOST_DIRECTORIES,
                fds,
                self.owners.rows,
                *owner,
                privileged,
                self._symlinks,
            )
            if not unknown or stop > begin or not self.owners.learn(run, stop):
                return stop, places, closed, opened, made

    def _start(self, plan: _Plan) -> None:
        self._placer.has_company = True
        self._pending.append(plan)  # at once, so that `abort` knows of it
        self._made += plan.made
        while len(self._pending) > self._depth or (self._made > _MOST_OPEN and len(self._pending) > 1):
            self._collect()
        self._pool.start(*self._files(plan, plan.first))

    def _files(self, plan: _Plan, begin: int) -> _FilesCall:
        """The call that writes the files of a plan from a row on."""
        run, restorer = plan.run, self._placer.restorer
        how = (self._placer.options.punch_holes, restorer.wants_times, restorer.time_samples)
        return _runs.write_files, run.buffer, run.rows, plan.places, plan.first, begin, *how

    def defer(self, directory: Directory) -> None:
        """Complete a directory when everything that is under way is written."""
        self._pending[-1].ends.append(directory)

    def drain(self) -> None:
        """Return when nothing is under way. :raises FileError: when something could not be written"""
        while self._pending:
            self._collect()

    def abort(self) -> None:
        """Wait for what is under way and close what is open; never raises."""
        plans = list(self._pending)
        self._pending.clear()
        for _ in plans:
            with suppress(Exception):
                self._pool.take()
        if self._current is not None:
            plans.append(self._current)
            self._current = None
        for plan in plans:
            for number in range(plan.closed, plan.end):
                fd, opener = plan.place(number)
                if opener >= 0:
                    with suppress(OSError):
                        os.close(fd)
            for directory in plan.ends:
                with suppress(OSError):
                    directory.close()

    # What was written

    def _collect(self) -> None:
        result: _Written = self._pool.take()
        plan = self._current = self._pending.popleft()
        self._made -= plan.made
        while self._wants_more(plan, *result):
            call, *args = self._files(plan, result[0] + 1)
            result = call(*args)
        self._close(plan)
        while plan.ends:
            self._complete(plan.ends[0])
            plan.ends.popleft()
        self._current = None

    def _wants_more(self, plan: _Plan, stop: int, error: int, rounded: int, samples: tuple[int, int]) -> bool:
        """Take what a call that wrote files says. :returns: whether one was tried again, and others follow"""
        self._placer.restorer.sampled(samples, bool(rounded))
        if error:
            self._again(plan, stop)
        return bool(error)

    def _again(self, plan: _Plan, number: int) -> None:
        """Write a file or symlink the slow way, which says what is wrong."""
        node = node_of_row(plan.run, number)
        assert node is not None, "the end of a directory is not written"
        fd, _ = plan.place(number)
        parent = plan.directory(fd, plan.path(number), None)
        if node.is_symlink:
            try:
                SpecialWriter(self._placer).make(parent, node)
            except OSError as error:
                path = os.path.join(parent.path, node.name)
                raise self._placer.restorer.left_out.failure(path, error) from error
            return
        writer = FileWriter(self._placer)
        try:
            writer.start(parent, node, b"")
            if node.size:
                begin = node.payload_offset - plan.run.base
                writer.write(memoryview(plan.run.buffer)[begin : begin + node.size])
        except BaseException:
            writer.abort()
            raise

    def _close(self, plan: _Plan) -> None:
        run, times = plan.run, self._placer.restorer.wants_times
        while plan.closed < plan.end:
            stop, error = _runs.close_directories(
                run.buffer, run.rows, plan.places, plan.first, plan.closed, times
            )
            plan.closed = stop
            if error:
                fd, opener = plan.place(stop)
                node = node_of_row(run, opener)
                assert node is not None, "a directory begins here"
                self._complete(plan.directory(fd, os.path.join(plan.path(opener), node.name), node))
                plan.closed = stop + 1
