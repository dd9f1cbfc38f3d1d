"""What a place of named files is - a directory, a bucket, a web server - as one small protocol.

Chunk stores and indexes are kept in such places; what their names and contents mean is not known here (`store.chunks`
knows chunks). A transport is written once, as a class of this protocol, and can then hold both. Names are relative,
with `/` between their parts; no part is empty, `.` or `..`. No IO.

    >>> files.write(b"head", b"1", if_version=files.stat(b"head").version)
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from casync_compat.errors import CasyncError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = [
    "Can",
    "FileChanged",
    "FileDamaged",
    "FileStatus",
    "Files",
    "Listed",
    "Opened",
    "StoredFile",
    "Version",
    "check_name",
]

Version: TypeAlias = str | tuple[int, ...]
"""What changes whenever a file is replaced. To be compared for equality, and with versions of the same name only."""


ONLY_HERE = re.compile(b"")
"""For `Files.list`: only files that are in no directory."""

_PIECE = 8 << 20
"""Bytes of a large file that are asked for at once."""


class Can(enum.Flag):
    """What a place of files can do beyond reading whole files."""

    NOTHING = 0
    RANGE = enum.auto()
    """`read_range` transfers not much more than what it was asked for."""
    LIST = enum.auto()
    """`list`."""
    WRITE = enum.auto()
    """`write` and `remove`."""
    SWAP = enum.auto()
    """`write` keeps its conditions, whoever else writes at the same time."""
    DATES = enum.auto()
    """`stat` and `list` say when a file was modified."""


class FileStatus(NamedTuple):
    """What is known of a file.

    :ivar size: in bytes
    :ivar modified: when its content was written, in nanoseconds since 1970; None when the place does not say
    :ivar version: None when the place has none
    :ivar arrived: when it came to lie here under this name, as `modified`; later than that for what was copied with its
        date
    """

    size: int
    modified: int | None = None
    version: Version | None = None
    arrived: int | None = None

    def is_of_same(self, other: FileStatus) -> bool:
        """Whether both are of one content of a file: by the version where both have one, else by the date."""
        if self.version is not None and other.version is not None:
            return (self.size, self.version) == (other.size, other.version)
        return (self.size, self.modified) == (other.size, other.modified)


class Opened(NamedTuple):
    """A file that is begun to be read.

    :ivar size: in bytes; None when the place does not say
    :ivar status: what `Files.read_part` compares with; its size counts only where `size` is known
    :ivar head: its first bytes
    :ivar rest: all that follows, to be read once and front to back; None where parts are to be had by `Files.read_part`
    """

    size: int | None
    status: FileStatus
    head: bytes
    rest: Iterator[bytes] | None


class Listed(NamedTuple):
    """A file in a listing.

    :ivar size: in bytes; None if it was not asked for, or would cost a request for each file
    :ivar modified: as in `FileStatus`; None as for `size`
    """

    name: bytes
    size: int | None = None
    modified: int | None = None


class FileDamaged(CasyncError):
    """A file is there, but not as it may be: larger than allowed, or not what its place says it is.

    :ivar where: the place, as a user would name it
    :ivar why: what is wrong
    :cvar kind: the same in a word
    """

    kind = "too-large"

    def __init__(self, name: bytes, where: str, why: str) -> None:
        super().__init__(name, where, why)
        self.name = name
        self.where = where
        self.why = why

    def __str__(self) -> str:
        return f"{self.name.decode(errors='replace')} in {self.where} is damaged: {self.why}"


class FileChanged(CasyncError):
    """A file is not what it was: somebody wrote it before a `write` with a condition, or between two `read_part`."""

    def __init__(self, name: bytes, where: str) -> None:
        super().__init__(name, where)
        self.name = name
        self.where = where

    def __str__(self) -> str:
        return f"{self.name.decode(errors='replace')} in {self.where} was changed by somebody else meanwhile"


class Files(Protocol):
    """A place of files. All methods may be called from several threads at once.

    Errors not named here are `FileError` where a system call failed and `RemoteError` where a server did.

    :cvar can: what it can do; methods for the rest raise `UsageError`
    :cvar near: whether asking costs next to nothing, so that nobody need think before he asks
    :cvar paged: whether a request lists many hundred files, whatever directories they are in
    :cvar eager: whether `begin` asks at once, and as often as it is called, without a thread for each that waits
    """

    can: Can = Can.NOTHING
    near: bool = False
    eager: bool = False
    paged: bool = False

    @property
    def name(self) -> str:
        """The place as a user would name it, for messages."""

    @property
    def own_paths(self) -> tuple[bytes, ...]:
        """Directories of this machine that the files lie in, so that a scan can leave them out."""
        return ()

    @property
    def one_kernel(self) -> bool:
        """Whether no other machine can have the files open, so that whoever wrote one did so on this machine."""
        return False

    def read(self, name: bytes, limit: int) -> bytes | None:
        """The content of a file; None if there is none.

        :raises FileDamaged: it has more than `limit` bytes
        """

    def read_many(self, wanted: Sequence[tuple[bytes, int]]) -> list[bytes | None]:
        """The contents of several files, in less time than one by one where the place is far.

        :param wanted: for each its name, and the most bytes that it may have
        :returns: None for each that is not there, or larger
        """
        found: list[bytes | None] = []
        for name, limit in wanted:
            try:
                found.append(self.read(name, limit))
            except FileDamaged:
                found.append(None)
        return found

    def begin(self, wanted: Sequence[tuple[bytes, int]]) -> Callable[[], list[bytes | None]]:
        """`read_many`, begun at once where the place is far; what is returned waits for the contents."""
        return lambda: self.read_many(wanted)

    def begin_ranges(self, wanted: Sequence[tuple[bytes, int, int]]) -> Callable[[], list[bytes | None]]:
        """`read_range` of several parts, begun at once where the place is `eager`; what is returned waits for them.

        :param wanted: for each the name, the offset and the size
        """
        return lambda: [self.read_range(name, offset, size) for name, offset, size in wanted]

    def read_range(self, name: bytes, offset: int, size: int) -> bytes | None:
        """A part of a file, less at its end; None if there is no such file."""

    def open_file(self, name: bytes, head: int | None = None) -> Opened | None:
        """Begin to read a file that may be large, in as few steps as the place allows; None if there is none.

        :param head: bytes of the beginning to have at once, where the rest is wanted in parts; None for one who reads
            all of it, front to back
        """
        if head is not None and Can.RANGE in self.can:
            found = self.peek(name, head)
            return None if found is None else Opened(found[0].size, found[0], found[1], None)
        status = self.stat(name)
        pieces = None if status is None else self.pieces(name)
        return None if status is None or pieces is None else Opened(status.size, status, b"", pieces)

    def read_part(self, name: bytes, offset: int, size: int, status: FileStatus) -> bytes:
        """A part of a file that must still be what it was when it was begun.

        :raises FileChanged: it is not, or there is none any more
        """
        data = self.read_range(name, offset, size)
        now = None if data is None else self.stat(name)
        if data is None or now is None or not now.is_of_same(status):
            raise FileChanged(name, self.name)
        return data

    def pieces(self, name: bytes) -> Iterator[bytes] | None:
        """The content of a file that may be large, piece by piece; None if there is none.

        It may also break off between pieces, with the errors of `read_range`.
        """
        status = self.stat(name)
        return None if status is None else self._ranges(name, status.size)

    def _ranges(self, name: bytes, total: int) -> Iterator[bytes]:
        for start in range(0, total, _PIECE):
            size = min(_PIECE, total - start)
            piece = self.read_range(name, start, size)
            if piece is None or len(piece) != size:
                raise FileDamaged(name, self.name, "it became shorter while it was read")
            yield piece

    def stat(self, name: bytes) -> FileStatus | None:
        """What is known of a file; None if there is none."""

    def stat_many(self, names: Sequence[bytes]) -> list[FileStatus | None]:
        """`stat` for several files, in less time than one by one where the place is far; None for damaged ones."""
        found: list[FileStatus | None] = []
        for name in names:
            try:
                found.append(self.stat(name))
            except FileDamaged:
                found.append(None)
        return found

    def peek(self, name: bytes, size: int) -> tuple[FileStatus, bytes] | None:
        """`stat`, and at most so many bytes from the beginning, in less time than one by one; None if there is none."""
        status = self.stat(name)
        return None if status is None else (status, self.read_range(name, 0, size) or b"")

    def write(
        self, name: bytes, data: ReadableBuffer, *, if_absent: bool = False, if_version: Version | None = None
    ) -> Version | None:
        """Write a whole file, or replace one: it appears whole or not at all, and is durable after `sync`.

        :param if_absent: only if there is none
        :param if_version: only if there is one, of this version
        :returns: the version of what was written, None when the place has none
        :raises FileChanged: the condition does not hold
        """

    def expect(self, name: bytes) -> None:
        """Be told that a file, an index say, is going to be written when all that belongs to it is there."""
        return

    def write_many(self, files: Sequence[tuple[bytes, ReadableBuffer]]) -> None:
        """`write` several files, names and contents, in less time than one by one where the place is far.

        After an error some may have been written.
        """
        for name, data in files:
            self.write(name, data)

    def touch(self, name: bytes) -> bool:
        """Give a file the date of now by the place's own clock, its content as it is; False if there is none."""
        status = self.stat(name)
        content = None if status is None else self.read(name, status.size)
        if status is None or content is None:
            return False
        try:
            self.write(name, content, if_version=status.version)
        except FileChanged:
            return False
        return True

    def list(
        self, prefix: bytes = b"", *, under: re.Pattern[bytes] | None = None, details: bool = True
    ) -> Iterator[Listed]:
        """The files whose names begin with `prefix`, in ascending order.

        :param under: only those in directories whose whole name matches; no other needs to be looked into
        :param details: whether size and date are wanted
        """

    def remove(self, name: bytes) -> int:
        """Remove a file and return its size; 0 when there was none. Directories that become empty may go, too."""

    def remove_many(self, files: Sequence[Listed]) -> int:
        """`remove` several files, in less time than one by one where the place is far.

        After an error some may have been removed.

        :param files: as listed; a size that is known need not be asked for
        :returns: the bytes of those that were there
        """
        return sum(self.remove(file.name) for file in files)

    def sync(self, *, others: bool = False) -> None:
        """Return when all that was written before this call would survive a loss of power.

        :param others: also what others wrote
        """

    def directories(self, under: re.Pattern[bytes]) -> int:
        """How many directories with a matching name there are; 0 where there is no such thing."""
        return 0

    def clean(self, under: re.Pattern[bytes], before: int) -> int:
        """Remove temporary files of writers that were killed, if they were modified before a moment.

        :param under: the directories to look into
        :param before: nanoseconds since 1970
        :returns: how many were removed
        """
        return 0

    def close(self) -> None:
        """Let go of what is held open. The place stays usable."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in a place of files, there or not: what verbs take for an archive or index that is no local file."""

    files: Files
    name: bytes
    label: bytes | None = None

    @property
    def shown(self) -> bytes:
        """It, as a user would name it, for messages: the label, else by its place and name."""
        return self.label or self.files.name.encode(errors="surrogateescape") + b"/" + self.name


def check_name(name: bytes) -> bytes:
    """`name`, if it is one that `Files` takes.

    :raises ValueError: it is not
    """
    if any(part in (b"", b".", b"..") for part in name.split(b"/")) or b"\0" in name:
        raise ValueError(f"{name!r} is no name of a file in a store")
    return name
