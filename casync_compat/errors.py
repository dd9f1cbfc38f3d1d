"""Errors of everything above the archive format.

    CasyncError
    ├── UsageError         asked wrongly: an option value, the wrong kind of input
    ├── FormatError        an index, an archive or a chunk file is malformed
    ├── StoreError
    │   ├── ChunkMissing   no store has the chunk
    │   └── ChunkCorrupt   a store has it, but its bytes do not match its id
    ├── RemoteError        a server refused, or could not be reached
    │   └── AccessDenied   it wants (other) credentials
    └── FileError          a system call failed on a named file

`str()` of each is the one line that a user is shown: what, where, and what to do where there is something to do.
Paths are bytes below the command line and are shown with undecodable bytes escaped.
"""

from __future__ import annotations

import os

__all__ = [
    "AccessDenied",
    "CasyncError",
    "ChunkCorrupt",
    "ChunkMissing",
    "FileError",
    "FormatError",
    "RemoteError",
    "StoreError",
    "UsageError",
    "show_path",
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
    """None of the stores asked has the chunk."""

    def __str__(self) -> str:
        return f"chunk {self.id.hex()} is missing from {self.where}; add the store that has it with --extra-store"


class ChunkCorrupt(StoreError):
    """The store holds bytes under this id that are not this chunk."""

    def __str__(self) -> str:
        return f"chunk {self.id.hex()} in {self.where} is corrupt: {self.why}; delete it and store it again"


class FileError(CasyncError):
    """A system call on a named file failed.

    :ivar path: the file
    :ivar op: what was being done, as a verb phrase ("read", "create directory")
    :ivar errno: the error number, 0 when there is none
    """

    def __init__(self, path: bytes | str, op: str, cause: OSError | str) -> None:
        super().__init__(path, op, cause)
        self.path = os.fsencode(path)
        self.op = op
        self.errno = cause.errno or 0 if isinstance(cause, OSError) else 0
        self.cause = cause

    def __str__(self) -> str:
        if isinstance(self.cause, OSError):
            why = os.strerror(self.cause.errno) if self.cause.errno else str(self.cause)
        else:
            why = self.cause
        return f"{show_path(self.path)}: cannot {self.op}: {why}"


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
    """Credentials are missing, wrong, or not enough."""
