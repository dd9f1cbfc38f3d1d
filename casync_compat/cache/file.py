"""The cache on disk: one file for each tree and set of options, written anew by every run that found a change.

Three sections behind one header: directories (each after those in it), the table of the index, and a description as
JSON. A checksum over all of it stands in the header, so that what is torn or damaged is noticed; and everything is
compared with the tree before it is believed.

A directory's record holds its path, the names in it, their identities (`fs.identity`) and where they begin in the
archive. Offsets count from where the directory begins, so that a record stays as it is when the directory's place
changes. No content of files is in it, but names: it is written with mode 0600. The file's modification time says when
the chunks were last made durable.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import struct
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from casync_compat import _layouts
from casync_compat.chunker import ChunkSizes
from casync_compat.errors import FileError, FormatError
from casync_compat.fs.atomic import AtomicFile
from casync_compat.fs.identity import IDENTITY_SIZE
from casync_compat.fs.owners import IdShift
from casync_compat.fs.readers import open_regular
from casync_compat.fs.scan.reusing import DirectoryContent, KnownDirectory
from casync_compat.index import Index
from catar.structs import Fields

__all__ = [
    "CacheFile",
    "CacheKey",
    "CacheWriter",
    "CachedDirectory",
    "Description",
]

_HEADER = Fields(*_layouts.CACHE_HEADER)
_DIRECTORY = Fields(*_layouts.CACHE_DIRECTORY)
_SIZES = struct.Struct("<3Q")
_SECTIONS = ("directories_size", "table_size", "description_size")

_pack_header = _HEADER.writer("checksum", *_SECTIONS)
_read_header = _HEADER.reader("checksum", *_SECTIONS)
_pack_directory = _DIRECTORY.writer("path_size", "entries", "names_size", "complete")
_read_directory = _DIRECTORY.reader("path_size", "entries", "names_size", "complete")
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class CacheKey:
    """What a cache is for: other options, or another tree, have another cache.

    :ivar text: all of it, as it stands in the file
    """

    text: str

    @classmethod
    def of(
        cls, source: bytes, feature_flags: int, sizes: ChunkSizes, shift: IdShift, certain: bool = False
    ) -> CacheKey:
        """The key of a run. Flags say what is recorded, what is left out and what chunk ids are made with.

        :param certain: what was remembered with less certainty is of no use to such a run
        """
        return cls(
            json.dumps(
                {
                    "source": os.fsdecode(os.path.realpath(source)),
                    "flags": int(feature_flags),
                    "sizes": [sizes.min, sizes.avg, sizes.max, sizes.fixed],
                    "shift": [shift.shift, shift.range_, shift.enabled],
                    **({"certain": True} if certain else {}),
                },
                sort_keys=True,
            )
        )

    def path_in(self, directory: bytes) -> bytes:
        """Path of the file."""
        name = hashlib.blake2b(self.text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
        return os.path.join(directory, name.encode() + b".cache")


@dataclass(frozen=True, slots=True)
class Description:
    """What a whole run had.

    :ivar root: identity of the top directory
    :ivar names: user and group names that were looked up, by kind and id, as text
    """

    root: bytes
    names: dict[str, dict[str, str | None]]


@dataclass(frozen=True, slots=True)
class CachedDirectory:
    """One directory's record.

    :ivar complete: whether names and identities are all that its content in the archive depends on
    :ivar first: number of the first record of what is in it, itself included
    :ivar offset: of the record within the section
    """

    path: bytes
    known: KnownDirectory
    complete: bool
    first: int
    offset: int


class CacheFile:
    """A cache that was read. Its parts are looked at where they lie.

    :ivar table: of the index
    :ivar synced: when the store began to make durable all chunks of it, in nanoseconds since 1970
    """

    def __init__(self, path: bytes, data: mmap.mmap, synced: int) -> None:
        self.path = path
        self.synced = synced
        view = memoryview(data)
        at = _HEADER.size
        sections = []
        for size in _read_header(view, 0)[1:]:
            sections.append(view[at : at + size])
            at += size
        self._records, self.table, text = sections
        described = json.loads(bytes(text))
        self.key = CacheKey(described["key"])
        self.description = Description(bytes.fromhex(described["root"]), described["names"])

    @classmethod
    def load(cls, path: bytes, key: CacheKey) -> CacheFile | None:
        """The cache in a file, None when there is none yet.

        :raises FormatError: when the file is damaged, or is no cache, or one for something else
        :raises FileError: when it cannot be read
        """
        try:
            with open(open_regular(path, "use as a cache"), "rb") as file:
                st = os.fstat(file.fileno())
                size = st.st_size
                if size < _HEADER.size:
                    raise FormatError("too short for a cache", path, 0)
                data = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise FileError(path, "read", error) from error
        _check(data, path)
        try:
            cache = cls(path, data, st.st_mtime_ns)
        except (ValueError, KeyError, TypeError, struct.error) as error:
            raise FormatError(f"not a cache that this version wrote: {error}", path, 0) from error
        if cache.key != key:
            raise FormatError("it belongs to another tree or other options", path, 0)
        return cache

    def mark_synced(self, moment: int) -> None:
        """Note that the chunks were made durable, from that moment on."""
        with suppress(OSError):  # the next run then does it again
            os.utime(self.path, ns=(moment, moment))

    def directories(self) -> Iterator[CachedDirectory]:
        """All directories, each after those in it."""
        view = self._records
        under_way: list[tuple[bytes, int]] = []  # directories whose parents are still to come
        at = number = 0
        while at < len(view):
            offset = at
            path_size, count, names_size, complete = _read_directory(view, at)
            names_at = at + _DIRECTORY.size + path_size
            rows_at = names_at + names_size
            starts_at = rows_at + count * IDENTITY_SIZE
            at = starts_at + 8 * (count + 1)
            path = bytes(view[names_at - path_size : names_at])
            first = number
            inside = path + b"/" if path else b""
            while under_way and under_way[-1][0].startswith(inside):
                first = under_way.pop()[1]
            under_way.append((path, first))
            known = KnownDirectory(
                number,
                bytes(view[names_at:rows_at]),
                view[rows_at:starts_at],
                view[starts_at:at].cast("Q"),
            )
            yield CachedDirectory(path, known, bool(complete), first, offset)
            number += 1

    def records(self, begin: int, end: int) -> memoryview:
        """The records of directories, by offsets in their section."""
        return self._records[begin:end]


def _check(data: mmap.mmap, path: bytes) -> None:
    checksum, *sizes = _read_header(data, 0)
    if not _HEADER.has_constants(data, 0):
        raise FormatError("not a cache that this version wrote", path, 0)
    if _HEADER.size + sum(sizes) != len(data):
        raise FormatError("it is cut short or has bytes after its end", path, len(data))
    with memoryview(data) as view, view[_HEADER.size :] as sections:
        hasher = _hasher()
        hasher.update(sections)
        hasher.update(_SIZES.pack(*sizes))
    if hasher.digest() != checksum:
        raise FormatError("its checksum is wrong", path, _HEADER.at("checksum"))


def _hasher() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=32)


class CacheWriter:
    """Writes a cache while a tree is archived; a context manager. The file appears at the end, if `finish` was called.

    :param path: of the file; its directory is made if it is not there
    :raises FileError: when it cannot be written, from every method
    """

    def __init__(self, path: bytes, key: CacheKey) -> None:
        self._key = key
        self._path = path
        self._file = AtomicFile(path, 0o600)
        self._hasher = _hasher()
        self._sizes: list[int] = []
        self._size = 0
        self._buffer = bytearray(_HEADER.size)
        self._finished = False

    def __enter__(self) -> Self:
        directory = os.path.dirname(self._path)
        try:
            os.makedirs(directory, 0o700, exist_ok=True)
        except OSError as error:
            raise FileError(directory, "make the cache directory", error) from error
        self._file.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._finished:
            kind = kind or FileError  # leaves no file behind
        self._file.__exit__(kind, error, trace)

    def add_directory(self, content: DirectoryContent, starts: array[int]) -> None:
        """Add a directory, after those in it.

        :param starts: where each child begins in the archive and where the last ends, from where the directory begins
        """
        count = len(starts) - 1
        head = _pack_directory(len(content.path), count, len(content.names), content.complete)
        self._put(head + content.path + content.names + content.identities + starts.tobytes())

    def copy(self, records: memoryview) -> None:
        """Add directories as they stand in an old cache."""
        for at in range(0, len(records), _PIECE):
            self._put(records[at : at + _PIECE])

    def finish(self, description: Description, index: Index, synced: int) -> None:
        """Add all the rest. The file appears when the block is left.

        :param synced: when the store began to make durable all chunks of the index, in nanoseconds since 1970
        """
        self._end_section()
        self._put(index.table)
        self._end_section()
        self._put(_describe(self._key, description))
        self._end_section()
        self._flush()
        self._hasher.update(_SIZES.pack(*self._sizes))
        header = _pack_header(self._hasher.digest(), *self._sizes)
        try:
            os.pwrite(self._file.fd, header, 0)
            os.utime(self._file.fd, ns=(synced, synced))
        except OSError as error:
            raise FileError(self._path, "write", error) from error
        self._finished = True

    def _put(self, data: bytes | memoryview) -> None:
        self._hasher.update(data)
        self._size += len(data)
        self._buffer += data
        if len(self._buffer) >= _PIECE:
            self._flush()

    def _end_section(self) -> None:
        self._sizes.append(self._size)
        self._size = 0

    def _flush(self) -> None:
        self._file.write(self._buffer)
        self._buffer = bytearray()


def _describe(key: CacheKey, description: Description) -> bytes:
    fields = {"key": key.text, "root": description.root.hex(), "names": description.names}
    return json.dumps(fields).encode()
