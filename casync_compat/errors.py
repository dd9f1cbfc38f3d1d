"""Errors of everything above the archive format.

    CasyncError
    ├── UsageError         asked wrongly: an option value, the wrong kind of input
    │   └── ClosedError    of something that was closed; also a `ValueError`, as of Python's files
    ├── FormatError        an index, an archive or a chunk file is malformed
    ├── StoreError
    │   ├── ChunkMissing   no store has the chunk
    │   └── ChunkCorrupt   a store has it, but its bytes do not match its id
    ├── RemoteError        a server refused, or could not be reached
    │   └── AccessDenied   it wants (other) credentials
    └── FileError          a system call failed on a named file; also an `OSError`
        └── NotFound       there is no such file, or no such path in an archive; also a `FileNotFoundError`

What the package `catar` raises is turned into these in one place, `translated`, which knows the file's name.

`str()` of each is the one line that a user is shown: what, where, and what to do where there is something to do.
Paths are bytes below the command line and are shown with undecodable bytes escaped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOENT
from typing import Any, Self

from catar.errors import CatarError
from catar.errors import FormatError as CatarFormatError
from catar.errors import NotFound as CatarNotFound

__all__ = [
    "AccessDenied",
    "CasyncError",
    "ChunkCorrupt",
    "ChunkLocked",
    "ChunkMissing",
    "ClosedError",
    "FileError",
    "FormatError",
    "NotFound",
    "RemoteError",
    "StoreError",
    "UsageError",
    "naming",
    "show_path",
    "translated",
]


def show_path(path: bytes | str) -> str:
    """A path as text for a message: UTF-8 where it is, ``\\xNN`` for bytes that are not, control characters escaped."""
    raw = os.fsencode(path)
    text = raw.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class CasyncError(Exception):
    """Root of all errors that this package raises on purpose."""


class UsageError(CasyncError):
    """The request itself is wrong, whatever the data."""


class ClosedError(UsageError, ValueError):
    """Something was asked for what it held, after it was closed."""


class FormatError(CasyncError):
    """Stored data is malformed.

    :ivar reason: what is wrong
    :ivar path: the file, or None for a stream without a name
    :ivar offset: offset in bytes, or None where it does not apply
    """

    def __init__(self, reason: str, path: bytes | None = None, offset: int | None = None) -> None:
        super().__init__(reason, path, offset)
        self.reason = reason
        self.path = path
        self.offset = offset

    def __str__(self) -> str:
        where = f"{show_path(self.path)}: " if self.path is not None else ""
        at = f" (at byte {self.offset})" if self.offset is not None else ""
        return f"{where}{self.reason}{at}"


class StoreError(CasyncError):
    """A chunk could not be had from, or put into, a store.

    :ivar id: the raw chunk id (32 bytes)
    :ivar where: the store, as a user would name it
    """

    def __init__(self, id: bytes, where: str, why: str = "") -> None:
        super().__init__(id, where, why)
        self.id = id
        self.where = where
        self.why = why


class ChunkMissing(StoreError):
    """None of the stores asked has the chunk.

    :ivar why: id of the key that was tried as well; empty for none
    """

    def __str__(self) -> str:
        tried = f", also encrypted with the key {self.why}" if self.why else ""
        return f"chunk {self.id.hex()} is missing from {self.where}{tried}"


class ChunkLocked(ChunkMissing):
    """The store has the chunk, but encrypted with a key that was not given.

    :ivar keys: ids of the keys that it is encrypted with
    :ivar given: id of the key that was given; empty for none
    """

    def __init__(self, id: bytes, where: str, keys: str, given: str) -> None:
        super().__init__(id, where)
        self.args = (id, where, keys, given)
        self.keys = keys
        self.given = given

    def __str__(self) -> str:
        given = f"the key given is {self.given}" if self.given else "no key was given"
        return f"chunk {self.id.hex()} in {self.where} is encrypted with the key {self.keys}, but {given}"


class ChunkCorrupt(StoreError):
    """The store holds bytes under this id that are not this chunk.

    :ivar file: where in the store, for the message; empty where chunks have no files of their own
    """

    def __init__(self, id: bytes, where: str, why: str = "", file: str = "") -> None:
        super().__init__(id, where, why)
        self.args = (id, where, why, file)
        self.file = file

    def __str__(self) -> str:
        where = self.file or self.where
        return f"chunk {self.id.hex()} in {where} is corrupt: {self.why}; delete it and store it again"


class FileError(CasyncError, OSError):
    """A system call on a named file failed.

    :param cause: what the system said, or a sentence of our own. A `FileError` is passed on as it is, since it knows
        better what failed; and where nothing is there, the error is a `NotFound`, whoever made it

    :ivar path: the file
    :ivar op: what was being done, as a verb phrase ("read", "create directory")
    :ivar errno: the error number, 0 when there is none
    :ivar filename: the file as `str`, as functions of `os` have it
    :ivar strerror: why
    """

    path: bytes
    op: str
    cause: OSError | str
    errno: int  # no None, as an OSError may have

    def __new__(cls, path: bytes | str, op: str, cause: OSError | str, *rest: Any) -> Self:
        number, why = _number_and_reason(cause)
        # As `OSError` itself does: the class follows from the number.
        made: Any = NotFound if cls is FileError and number == ENOENT else cls
        if isinstance(cause, FileError):
            path = cause.path
        new: Self = OSError.__new__(made, number, why, os.fsdecode(path))
        return new

    def __init__(self, path: bytes | str, op: str, cause: OSError | str) -> None:
        if isinstance(cause, FileError):
            path, op, cause = cause.path, cause.op, cause.cause
        self.path = os.fsencode(path)
        self.op = op
        self.cause = cause
        self.args = (path, op, cause)

    def __str__(self) -> str:
        return f"{show_path(self.path)}: cannot {self.op}: {_number_and_reason(self.cause)[1]}"


def _number_and_reason(cause: OSError | str) -> tuple[int, str]:
    if isinstance(cause, str):
        return 0, cause
    if isinstance(cause, FileError):
        return cause.errno, cause.strerror or ""
    return cause.errno or 0, os.strerror(cause.errno) if cause.errno else str(cause)


class NotFound(FileError, FileNotFoundError):
    """There is no such file; or there is, but the archive in it has no such path.

    :ivar inside: the path that an archive does not have; None when the file itself is missing
    """

    inside: bytes | None

    def __init__(self, path: bytes | str, op: str, cause: OSError | str, inside: bytes | None = None) -> None:
        super().__init__(path, op, cause)
        self.inside = cause.inside if isinstance(cause, NotFound) else inside
        if self.inside is not None:
            self.args = (*self.args, self.inside)
            self.filename = os.fsdecode(self.inside)

    @classmethod
    def at(cls, path: bytes | str, op: str = "open") -> Self:
        """There is no such file, say those who have looked for it.

        :param op: what was to be done with it, as a verb
        """
        return cls(path, op, FileNotFoundError(ENOENT, os.strerror(ENOENT)))

    @classmethod
    def in_archive(cls, path: bytes, inside: bytes) -> NotFound:
        """The archive at `path` has no node at the path `inside`."""
        return cls(path, "find", FileNotFoundError(ENOENT, os.strerror(ENOENT)), inside)

    def __str__(self) -> str:
        if self.inside is None:
            return super().__str__()
        return f"{show_path(self.path)}: no such path in the archive: {show_path(self.inside)}"


class RemoteError(CasyncError):
    """A server did not do what was asked, or could not be reached.

    :ivar where: the server, registry or repository, as a user would name it
    :ivar op: what was being done, as a verb phrase ("upload blob sha256:…")
    :ivar status: the HTTP status, 0 when there was no answer
    """

    def __init__(self, where: str, op: str, why: str, status: int = 0) -> None:
        super().__init__(where, op, why, status)
        self.where = where
        self.op = op
        self.why = why
        self.status = status

    def __str__(self) -> str:
        status = f" (HTTP {self.status})" if self.status else ""
        return f"{self.where}: cannot {self.op}: {self.why}{status}"


class AccessDenied(RemoteError):
    """Credentials are missing, wrong, or not enough.

    :ivar anonymous: none were given
    :ivar registry: it is a registry that wants them
    """

    anonymous = False
    registry = False


def translated(error: CatarError | FormatError, path: bytes | None) -> CasyncError:
    """An error that does not know its file as one that names it.

    :param path: the file; None for standard input
    """
    name = b"standard input" if path is None else path
    if isinstance(error, (CatarFormatError, FormatError)):
        return FormatError(error.reason, name, error.offset)
    if isinstance(error, CatarNotFound):
        return NotFound.in_archive(name, error.path)
    return UsageError(f"{show_path(name)}: {error}")


@contextmanager
def naming(path: bytes | None) -> Iterator[None]:
    """Errors of the archive format, and those that miss a name, leave the block `translated`."""
    try:
        yield
    except CatarError as error:
        raise translated(error, path) from error
    except FormatError as error:
        if error.path is not None:
            raise
        raise translated(error, path) from error
