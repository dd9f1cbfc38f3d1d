"""Errors of the archive format.

    CatarError
    ├── UsageError     the caller asked wrongly: a record out of order, a value no archive can hold
    ├── NotFound       the archive has no node at a path
    └── FormatError    the bytes are bad, at a known offset

Every error is one sentence. `FormatError.offset` counts bytes from the start of the stream that was decoded.
"""

from __future__ import annotations


class CatarError(Exception):
    """Root of all errors that this package raises on purpose."""


class UsageError(CatarError):
    """The caller asked for something the format cannot express, or in an order it forbids."""


class NotFound(CatarError):
    """The archive has no node at this path.

    :ivar path: as it was asked for
    """

    def __init__(self, path: bytes) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"no such path in the archive: {self.path.decode('utf-8', 'backslashreplace')}"


class FormatError(CatarError):
    """The bytes given to a decoder are not a valid archive.

    :ivar reason: what is wrong, without the offset
    :ivar offset: offset in bytes of the record (or byte) at fault, from the start of the stream
    """

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason, offset)
        self.reason = reason
        self.offset = offset

    def __str__(self) -> str:
        return f"{self.reason} (at byte {self.offset})"
