"""Archives and indexes as verbs are given them: a file of this machine, one in a place of files, or standard input.

    >>> index = load_index(StoredFile(files, b"etc.caidx"))
    >>> archive = StoredArchive(StoredFile(files, b"etc.catar"))

A file that is elsewhere is read in parts where its place gives parts, and once from front to back where it does not.
What is at a locator is for `casync_compat.locations` to find out.
"""

from __future__ import annotations

import io
import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, BinaryIO, TypeAlias, cast

from casync_compat.closing import Closing
from casync_compat.errors import FileError, FormatError, NotFound
from casync_compat.index import Index
from casync_compat.kinds import Kind
from casync_compat.spool import Spool
from casync_compat.store.base import ChunkSource, prepare
from casync_compat.store.files import Opened, StoredFile
from casync_compat.streams.paging import PagedFile

if TYPE_CHECKING:
    from catar.archive import RandomAccess
    from catar.walker import ByteSource

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["Input", "StoredArchive", "kind_of", "load_index", "open_stored", "path_of"]

Input: TypeAlias = bytes | StoredFile
"""A file to read: the path of a local one, or one in a place of files."""

_HEAD = 64 << 10
"""Bytes to begin with of a file that is read in parts."""
_LOOKED_AT = 256
_PAGES = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")
"""What errors, listings and pages of logins begin with, that come in place of a file."""


def path_of(where: Input | None) -> bytes | None:
    """What messages call an input; None for standard input."""
    return where.shown if isinstance(where, StoredFile) else where


def kind_of(path: bytes) -> Kind | None:
    """What kind of input is at a path: a directory whatever its name, else what its suffix stands for, if anything.

    Nothing is read; a file that does not exist is told by its suffix, too.
    """
    return Kind.DIRECTORY if os.path.isdir(path) else Kind.of_suffix(path)


def load_index(where: Input | None, store: ChunkSource | None = None) -> Index:
    """Read an index file, or standard input when `where` is None.

    :param store: that its chunks are going to be read from, which may prepare meanwhile
    :raises NotFound: there is none
    :raises FileError: when it cannot be read
    :raises FormatError: when it is no index; not more is read than shows that
    """
    prepare(store)
    if isinstance(where, StoredFile):
        with open_stored(where) as file:
            return Index.load(file, where.shown)
    if where is not None:
        return Index.load(where)
    try:
        with open(0, "rb", closefd=False) as standard:
            return Index.load(standard, b"standard input")
    except OSError as error:
        raise FileError(b"standard input", "read", error) from error


def open_stored(where: StoredFile, *, pages: bool = False) -> BinaryIO:
    """A file in a place of files as a binary file that is read once, from front to back; close it.

    :param pages: whether it may be a web page; else one came in place of what was asked for
    :raises NotFound: there is none
    :raises FormatError: it is a web page, and may not be
    """
    return cast(BinaryIO, io.BufferedReader(_Front(_Whole(where, pages=pages)), _HEAD))


def _begun(where: StoredFile, head: int | None, *, pages: bool = False) -> Opened:
    """A file that is begun, `head` never empty but where all of it is."""
    opened = where.files.open_file(where.name, head)
    if opened is None:
        raise NotFound.at(where.shown)
    if opened.rest is not None and not opened.head:
        opened = opened._replace(head=next(opened.rest, b""))
    if not pages and opened.head[:_LOOKED_AT].lstrip().lower().startswith(_PAGES):
        _let_go(opened.rest)
        raise FormatError("a web page, or an error in XML, came in place of the file", where.shown)
    return opened


def _let_go(pieces: Iterator[bytes] | None) -> None:
    if isinstance(pieces, Generator):
        pieces.close()


class _Whole(Closing):
    """A file in a place of files from front to back (a `catar.walker.ByteSource`).

    :ivar size: in bytes; None when the place does not say
    """

    def __init__(self, where: StoredFile, *, pages: bool = False) -> None:
        opened = _begun(where, None, pages=pages)
        self.size = opened.size
        self._next = opened.head
        self._rest = opened.rest

    def close(self) -> None:
        """Let go of the connection."""
        _let_go(self._rest)
        self._next = b""
        self._rest = None

    def read(self) -> bytes:
        """The next piece; empty at the end."""
        data, self._next = self._next, b""
        return data or (next(self._rest, b"") if self._rest is not None else b"")

    def skip(self, count: int) -> None:
        """Pass over `count` bytes."""
        while count > 0 and (data := self.read()):
            self._next = data[count:]
            count -= len(data)


class _Front(io.RawIOBase):
    """The same as a file."""

    def __init__(self, whole: _Whole) -> None:
        super().__init__()
        self._whole = whole
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        if not self._left:
            self._left = memoryview(self._whole.read())
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._left))
        view[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def close(self) -> None:
        self._whole.close()
        super().close()


class StoredArchive(Closing):
    """A plain archive in a place of files: as a stream, or at any offset.

    Nothing is asked for before it is used. What is read at any offset from a place that gives no parts comes once, into
    a temporary file.
    """

    def __init__(self, where: StoredFile) -> None:
        self._where = where
        self._stack = ExitStack()
        self._reader: RandomAccess | None = None
        self._whole: _Whole | None = None
        self._streamed = False
        self._size: int | None = None

    def close(self) -> None:
        """Let go of the connection, and of what was kept."""
        self._stack.close()

    @property
    def size(self) -> int | None:
        """In bytes; None when the place does not say. What is not open yet is opened to be read as a stream."""
        if self._reader is None and not self._streamed:
            self._opened()
        return self._reader.size if self._reader is not None else self._size

    def reader(self) -> RandomAccess:
        """It at any offset.

        :raises NotFound: there is none
        """
        if self._reader is None:
            opened = _begun(self._where, _HEAD)
            if opened.rest is None:
                self._reader = self._stack.enter_context(PagedFile(self._where, opened))
            else:
                spool = self._stack.enter_context(Spool("an archive", memory=_HEAD))
                spool.append(opened.head)
                for piece in opened.rest:
                    spool.append(piece)
                self._reader = spool
        return self._reader

    def source(self) -> ByteSource:
        """All of it as a stream. :raises NotFound: there is none"""
        if isinstance(self._reader, Spool):
            from catar.archive import RangeSource  # lazily: indexes are read with nothing of archives

            return RangeSource(self._reader, 0, self._reader.size)
        whole, self._whole = self._opened(), None
        self._streamed = True
        return whole

    def _opened(self) -> _Whole:
        if self._whole is None:
            self._whole = self._stack.enter_context(_Whole(self._where))
            self._size = self._whole.size
        return self._whole
