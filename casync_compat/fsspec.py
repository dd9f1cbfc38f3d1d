"""Archives as file systems of fsspec, for pandas, pyarrow, DuckDB, Dask and whatever else reads through it.

    >>> fs = fsspec.filesystem("pycasync", fo="https://host/data.caidx")
    >>> pandas.read_parquet(fs.open("2026/sales.parquet"))
    >>> fsspec.open("pycasync://2026/sales.parquet::https://host/data.caidx")

Only what is read is fetched, each chunk checked. Nothing can be written. Names that are not UTF-8 come as Python's own
functions have them (`os.fsdecode`). fsspec itself is no requirement of this package, but of this module: the extra
`pycasync[fsspec]`.
"""

from __future__ import annotations

import io
import os
import stat
import threading
import weakref
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fsspec.spec import AbstractFileSystem

from casync_compat.api.given import SourceLocation, open_tree, tree_kind
from casync_compat.errors import CasyncError, FileError, UsageError, naming
from casync_compat.kinds import Kind
from casync_compat.locations import is_remote
from casync_compat.streams.filetree import ArchiveFiles, FileStat, regular
from casync_compat.streams.lookahead import KEPT
from catar.archive import Expecting, RandomAccess

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["ArchiveFileSystem", "InsideFile"]

_AHEAD = 64 << 10
_TYPES = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}


class ArchiveFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """What is in an archive, read through an index and a store, or from a .catar file.

    :param fo: the archive or index: a path, or a locator as command lines take it
    :param store: where an index's chunks are, or several such places; None for `default.castr` beside it
    :param target_protocol: of `fo`, where fsspec took it off, as in chained URLs
    :param kept: bytes of chunks to keep
    :raises CasyncError: from every method; also a `FileNotFoundError`, or another `OSError`, where files are concerned
    """

    protocol = "pycasync"
    root_marker = ""

    def __init__(
        self,
        fo: str | os.PathLike[str],
        store: SourceLocation | None = None,
        *,
        target_protocol: str | None = None,
        target_options: dict[str, Any] | None = None,
        kept: int = KEPT,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        where = os.fspath(fo)
        if target_protocol not in (None, "file", "local") and "://" not in where:
            where = f"{target_protocol}://{where}"
        where = where if is_remote(where) else os.path.abspath(where)  # workers may be elsewhere
        kind = tree_kind(where, None)
        if kind is Kind.DIRECTORY:
            raise UsageError(f"{where}: a directory is read without this")
        tree = open_tree(where, kind, store)
        self._closer = weakref.finalize(self, tree.close)
        with naming(os.fsencode(where)):
            self._archive = tree.archive(keep=kept)
        self._files = ArchiveFiles(self._archive, os.fsencode(where))
        self._where = where
        self._index = tree.index

    @property
    def fsid(self) -> str:
        """What is the same for the same archive."""
        return f"pycasync-{self._where}"

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """What is known of a path; of a symlink, what it leads to, and `islink`."""
        return self._described(self._files.stat(_bytes(self._strip_protocol(path)), follow=False))

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        """What is in a directory, or the file itself."""
        raw = _bytes(self._strip_protocol(path))
        found = self._files.stat(raw)
        entries = (
            [self._described(each) for each in self._files.children(raw)]
            if found.is_dir
            else [self.info(path)]
        )
        return entries if detail else [each["name"] for each in entries]

    def modified(self, path: str) -> datetime:
        """When a file was changed last, before it was archived."""
        return datetime.fromtimestamp(self.info(path)["mtime"], UTC)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        """A file's contents, or a part; numbers below zero count from its end."""
        reader, at, size = self._contents(path)
        begin, stop, _ = slice(start, end).indices(size)
        return reader.read_at(at + begin, max(stop - begin, 0))

    def cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        on_error: str = "return",
        **options: Any,
    ) -> list[Any]:
        """Parts of files, all of which are asked for at once."""
        if not isinstance(paths, list):
            raise TypeError("paths must be a list")
        begins: Sequence[int | None] = starts if isinstance(starts, list) else [starts] * len(paths)
        stops: Sequence[int | None] = ends if isinstance(ends, list) else [ends] * len(paths)
        if not len(paths) == len(begins) == len(stops):
            raise ValueError("there must be as many starts and ends as paths")
        known: dict[str, tuple[RandomAccess, int, int] | CasyncError] = {}
        for path in paths:
            if path not in known:
                try:
                    known[path] = self._contents(path)
                except CasyncError as error:
                    known[path] = error
        wanted = []
        for path, start, end in zip(paths, begins, stops, strict=True):
            found = known[path]
            if not isinstance(found, CasyncError):
                begin, stop, _ = slice(start, end).indices(found[2])
                wanted.append((found[1] + begin, max(stop - begin, 0)))
        reader = self._archive.reader
        if isinstance(reader, Expecting):
            reader.expect(wanted)
        out: list[Any] = []
        for path, start, end in zip(paths, begins, stops, strict=True):
            try:
                out.append(self.cat_file(path, start, end))
            except Exception as error:
                if on_error != "return":
                    raise
                out.append(error)
        return out

    def _open(self, path: str, mode: str = "rb", **options: Any) -> InsideFile:
        if mode != "rb":
            raise FileError(self._where, f"write {path} in", "archives are only read")
        return InsideFile(self, path, *self._contents(path))

    def _contents(self, path: str) -> tuple[RandomAccess, int, int]:
        """What holds a file's contents, from which offset on, and how many bytes."""
        with naming(os.fsencode(self._where)):
            found = regular(self._files, _bytes(self._strip_protocol(path)))
            node = self._archive.node(found.path)
        return self._archive.reader, node.payload_offset, node.size

    def _described(self, entry: FileStat) -> dict[str, Any]:
        meant = entry
        if entry.kind == stat.S_IFLNK:
            try:
                meant = self._files.stat(entry.path)
            except FileError:  # leads nowhere
                meant = entry
        described: dict[str, Any] = {
            "name": os.fsdecode(entry.path),
            "size": meant.size,
            "type": _TYPES.get(meant.kind, "other"),
            "mtime": meant.mtime / 1e9,
            "mode": meant.kind | meant.mode,
            "uid": meant.uid,
            "gid": meant.gid,
            "islink": entry.kind == stat.S_IFLNK,
        }
        if entry.kind == stat.S_IFLNK:
            described["destination"] = os.fsdecode(entry.target)
        return described


class _Position(threading.local):
    """Where each thread is."""

    at: int | None = None


class InsideFile(io.RawIOBase):
    """A file in an archive: read-only, seekable, and without a buffer, since chunks are kept below.

    Threads may share one: each has a position of its own, and begins where the file was moved to last.
    """

    mode = "rb"

    def __init__(self, fs: ArchiveFileSystem, path: str, reader: RandomAccess, start: int, size: int) -> None:
        super().__init__()
        self.fs = fs
        self.path = path
        self.size = size
        self._reader = reader
        self._start = start
        self._last = 0
        self._own = _Position()

    @property
    def details(self) -> dict[str, Any]:
        """What `fs.info` says of it."""
        return self.fs.info(self.path)

    def info(self) -> dict[str, Any]:
        """The same."""
        return self.details

    def readable(self) -> bool:
        self._check()
        return True

    def seekable(self) -> bool:
        self._check()
        return True

    def tell(self) -> int:
        self._check()
        return self._last if self._own.at is None else self._own.at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self.size}
        if whence not in base:
            raise ValueError(f"invalid whence {whence}")
        if base[whence] + offset < 0:
            raise ValueError("negative seek position")
        return self._move(base[whence] + offset)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self._at(self.tell(), len(view))
        view[: len(data)] = data
        self._move(self.tell() + len(data))
        return len(data)

    def read(self, size: int | None = -1, /) -> bytes:
        at = self.tell()
        data = self._at(at, self.size if size is None or size < 0 else size)
        self._move(at + len(data))
        return data

    def readall(self) -> bytes:
        return self.read()

    def read1(self, size: int = -1, /) -> bytes:
        """As `read`, but not all at once where no size is given."""
        return self.read(size if size >= 0 else _AHEAD)

    def peek(self, size: int = 0, /) -> bytes:
        """Bytes that come next; the position stays."""
        return self._at(self.tell(), max(size, _AHEAD))

    def _at(self, at: int, size: int) -> bytes:
        size = min(size, self.size - at)
        return self._reader.read_at(self._start + at, size) if size > 0 else b""

    def _move(self, at: int) -> int:
        self._own.at = self._last = at
        return at

    def _check(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")


def _bytes(path: str) -> bytes:
    return os.fsencode(path)
