"""A scanner that knows what was there before, and passes over what is still the same.

    >>> scanner = ReusingScanner(b"/etc", flags.DEFAULT, before=snapshot)
    >>> for step in scanner.steps():
    ...     if type(step) is Reused: print(step.name, step.start, step.size)

What it tells about each directory, when it has come to its end, is what the next scan is to know. A file is looked at
before its contents are read, so that what changes meanwhile is not taken for the same by the next scan.
"""

from __future__ import annotations

import os
import stat
import struct
import time
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from casync_compat.fs.exclude import EXCLUDE_NAME, Rule
from casync_compat.fs.identity import (
    IDENTITY_SIZE,
    KEEPS_CHANGE_TIMES,
    SETTLED,
    WRITES_BACK,
    WRITTEN_BACK,
    identities,
    identity,
    is_settled,
    mode_of,
)
from casync_compat.fs.losses import Losses
from casync_compat.fs.owners import IdShift
from casync_compat.fs.scan.directory import ScannedDirectory
from casync_compat.fs.scan.inspect import FileSystem, RawFile
from casync_compat.fs.scan.scanner import Scanner
from catar.records import Node

__all__ = ["Before", "DirectoryContent", "KnownDirectory", "Reused", "ReusingScanner"]

_NOTHING = bytes(IDENTITY_SIZE)
_DEVICE_AND_CHANGE = struct.Struct("=Q32xQ16x")  # of an identity


@dataclass(frozen=True, slots=True)
class KnownDirectory:
    """What was in a directory.

    :ivar number: of the directory among all
    :ivar names: each with a NUL behind it
    :ivar identities: a row for each, see `fs.identity`; zeros for what had changed just before
    :ivar starts: where each began in the archive, from where the directory began; and where the last ended
    """

    number: int
    names: bytes
    identities: memoryview
    starts: memoryview


class Before(Protocol):
    """What was there before."""

    def directory(self, path: bytes) -> KnownDirectory | None:
        """A directory by its path from the top."""

    def is_same(self, directory: KnownDirectory) -> bool:
        """Whether everything in it, to any depth, is the same."""


@dataclass(frozen=True, slots=True)
class DirectoryContent:
    """What is in a directory, as the next scan is to know it.

    :ivar names: what is archived, each with a NUL behind it
    :ivar identities: a row for each, zeros for what cannot be told to be unchanged
    :ivar complete: whether nothing was left out and no exclude rules were in force
    """

    path: bytes
    names: bytes
    identities: bytes
    complete: bool


class Reused(Node):
    """A node that is as it was, with everything in it; of a node's fields it has only the name.

    :ivar begin: where it began in the archive that it was in
    :ivar length: bytes that it takes in an archive
    :ivar directory: what is known of it, if it is a directory
    """

    def __init__(self, name: bytes, begin: int, length: int, directory: KnownDirectory | None) -> None:
        super().__init__(name, 0)
        self.begin = begin
        self.length = length
        self.directory = directory


class _Frame:
    """A directory under way.

    :ivar doubtful: names of what was not read as it was
    :ivar known: what was in it before, None when there was no such directory or nothing of it may be used
    :ivar begin: where that began in the archive
    :ivar numbers: of the names in `known`
    :ivar rows: identities of `names`, fresh
    """

    __slots__ = (
        "begin",
        "complete",
        "directory",
        "doubtful",
        "known",
        "left_out",
        "names",
        "numbers",
        "rows",
    )

    def __init__(self, directory: ScannedDirectory, known: KnownDirectory | None, begin: int) -> None:
        self.directory = directory
        self.known = known
        self.begin = begin
        self.numbers: dict[bytes, int] = {}
        self.names: list[bytes] = []
        self.rows = b""
        self.left_out: set[bytes] = set()
        self.doubtful: set[bytes] = set()
        self.complete = True

    def same(self, name: bytes, row: bytes) -> int | None:
        """The number in `known` of a name that stands for what it stood for, None for others."""
        number = self.numbers.get(name)
        if number is None or self.known is None:
            return None
        at = number * IDENTITY_SIZE
        return number if self.known.identities[at : at + IDENTITY_SIZE] == row else None


class ReusingScanner(Scanner):
    """A `Scanner` that gives `Reused` nodes for what has not changed.

    :param before: what was there before; None for nothing
    :param certain: whether the next scan is to believe only what cannot have changed unseen, see `fs.identity`
    """

    def __init__(
        self,
        root: bytes,
        feature_flags: int,
        *,
        shift: IdShift | None = None,
        skip: Iterable[tuple[int, int]] = (),
        before: Before | None = None,
        certain: bool = False,
        losses: Losses | None = None,
    ) -> None:
        super().__init__(root, feature_flags, shift=shift, skip=skip, losses=losses)
        # Taken before anything is looked at: what changes from here on must not be believed.
        self._settled_before = time.time_ns() - (WRITTEN_BACK if certain else SETTLED)
        self._believed = WRITES_BACK if certain else KEEPS_CHANGE_TIMES
        self._known = before
        self._frames: list[_Frame] = []
        self.root_identity = _NOTHING
        """Identity of the top directory."""

    @property
    def names(self) -> dict[str, dict[str, str | None]]:
        """Names of users and groups that nodes were made with, by kind and id."""
        return self._inspector.names.answers()

    def leave(self) -> DirectoryContent:
        """What is in the directory that has just come to its end. To be called at every end."""
        frame = self._frames.pop()
        directory = frame.directory
        names, rows = frame.names, self._settled(frame)
        if frame.left_out:
            kept = [number for number, name in enumerate(names) if name not in frame.left_out]
            names = [names[number] for number in kept]
            rows = b"".join(rows[n * IDENTITY_SIZE : (n + 1) * IDENTITY_SIZE] for n in kept)
        complete = frame.complete and not frame.left_out
        return DirectoryContent(directory.path, b"".join(name + b"\0" for name in names), rows, complete)

    def _settled(self, frame: _Frame) -> bytes:
        """The identities of what is in a directory, zeros for those that another change might leave as they are."""
        fs, before, rows = frame.directory.fs, self._settled_before, frame.rows
        if fs.magic not in self._believed:
            return bytes(len(rows))
        doubtful = [
            number
            for number, (device, changed) in enumerate(_DEVICE_AND_CHANGE.iter_unpack(rows))
            if changed >= before or device != fs.device
        ]
        if frame.doubtful:
            doubtful += [number for number, name in enumerate(frame.names) if name in frame.doubtful]
        if not doubtful:
            return rows
        out = bytearray(rows)
        for number in doubtful:
            out[number * IDENTITY_SIZE : (number + 1) * IDENTITY_SIZE] = _NOTHING
        return bytes(out)

    # Hooks into the scanner

    def _lost(self, kind: str, path: bytes, text: str) -> None:
        super()._lost(kind, path, text)
        if not self._frames:
            self._settled_before = 0  # the top directory itself: nothing of this run is believed
        elif path == (frame := self._frames[-1]).directory.path:
            frame.complete = False
        else:
            frame.doubtful.add(path.rpartition(b"/")[2])

    def _leave_out(self, error: OSError) -> None:
        super()._leave_out(error)
        self._frames[-1].left_out.add(self.path.rpartition(b"/")[2])

    def _enter(self, fd: int, path: bytes, fs: FileSystem, rules: list[Rule]) -> None:
        super()._enter(fd, path, fs, rules)
        directory = self._stack[-1]
        known = self._known.directory(path) if self._known is not None else None
        begin = 0
        if self._frames:
            parent = self._frames[-1]
            number = parent.numbers.get(path.rpartition(b"/")[2])
            if number is None or parent.known is None:
                known = None
            else:
                begin = parent.begin + parent.known.starts[number]
        elif fs.magic in self._believed:
            row = identity(os.fstat(fd))
            if is_settled(row, self._settled_before):
                self.root_identity = row
        self._frames.append(_Frame(directory, known, begin))

    def _fill(self, directory: ScannedDirectory) -> bytes:
        listing = super()._fill(directory)
        frame = self._frames[-1]
        frame.names = [marked[1:] for marked in listing.split(b"\0")[:-1]]
        frame.rows = identities(directory.fd, b"".join(name + b"\0" for name in frame.names))
        if directory.rules or not self._submounts:
            # What rules say, and what is a mount point, is not in any identity.
            frame.complete = False
            frame.known = None
        elif self._exclude_files and EXCLUDE_NAME in frame.names:
            frame.complete = False
        if frame.known is not None:
            frame.numbers = {name: n for n, name in enumerate(frame.known.names.split(b"\0")[:-1])}
            directory.in_runs = False
            directory.run_wanted = 0
        return listing

    def _visit(
        self, parent: ScannedDirectory, name: bytes, mark: int, *, certain: bool = False
    ) -> Node | None:
        frame = self._frames[-1]
        if frame.known is not None:
            reused = self._reused(frame, name)
            if reused is not None:
                return reused
        node = super()._visit(parent, name, mark, certain=certain)
        if node is None:
            frame.left_out.add(name)
        return node

    def _take(self, parent: ScannedDirectory, name: bytes, raw: RawFile) -> Node | None:
        frame = self._frames[-1]
        node = super()._take(parent, name, raw)
        if node is None:
            frame.left_out.add(name)
        return node

    def _reused(self, frame: _Frame, name: bytes) -> Reused | None:
        at = bisect_left(frame.names, name) * IDENTITY_SIZE
        number = frame.same(name, frame.rows[at : at + IDENTITY_SIZE])
        if number is None or frame.known is None:
            return None
        starts = frame.known.starts
        within = None
        if stat.S_ISDIR(mode_of(frame.rows, at)):
            assert self._known is not None
            within = self._known.directory(frame.directory.path_of(name))
            if within is None or not self._known.is_same(within):
                return None
        begin = starts[number]
        return Reused(name, frame.begin + begin, starts[number + 1] - begin, within)
