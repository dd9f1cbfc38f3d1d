"""Update files: what an index has and others have not, in one file that is carried to where those others are.

    an uncompressed tar of three members, in this order
        pycasync-delta.json   version, digests of the indexes, how many chunks there are
        target.caidx          the index that the update leads to; target.caibx for a blob
        chunks.pack           its chunks that none of the others has: a pack as images have them

Nothing of this is believed: numbers are checked against the file's size and against the index, and each chunk against
its id. Members that are no regular files, or have other names, or come in another order, are refused. Here is the form;
making such files and using them are `verbs.delta` and `verbs.apply`.

    >>> with PatchFile(b"b.patch") as patch:
    ...     patch.head.target.name, len(patch.rows)
    ('b.caidx', 12)
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, BinaryIO, cast

from casync_compat.closing import Closing
from casync_compat.compression import CompressionError, decompress, file_limit
from casync_compat.errors import FileError, FormatError, show_path
from casync_compat.fs.atomic import AtomicFile
from casync_compat.fs.readers import FileView, open_regular
from casync_compat.ids import ChunkId, Digest
from casync_compat.index import MAX_INDEX_SIZE, Index
from casync_compat.kinds import Kind
from casync_compat.packtable import (
    FOOTER_SIZE,
    PackRow,
    pack_table,
    parse_pack_table,
    table_size,
    table_size_of,
)

__all__ = [
    "HEAD_NAME",
    "PATCH_VERSION",
    "IndexName",
    "PatchFile",
    "PatchHead",
    "PatchWriter",
    "name_index",
    "tar_header",
]

PATCH_VERSION = 1
HEAD_NAME = "pycasync-delta.json"
_HEAD_LIMIT = 1 << 20
_TARGETS = {Kind.ARCHIVE_INDEX: "target.caidx", Kind.BLOB_INDEX: "target.caibx"}
_PACK = "chunks.pack"
_BLOCK = 512
_BATCH = 1 << 20
_BATCH_RAW = 4 << 20


@dataclass(frozen=True, slots=True)
class IndexName:
    """An index, as an update file names it.

    :ivar name: the last part of its path, for people
    :ivar digest: of the index file: `sha256:` and hex digits
    :ivar size: bytes of the index file
    """

    name: str
    digest: str
    size: int


def name_index(path: bytes, index: Index) -> IndexName:
    """How an index is named. :param path: its path or locator"""
    content = index.to_bytes()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return IndexName(show_path(path.rpartition(b"/")[2]), digest, len(content))


@dataclass(frozen=True, slots=True)
class PatchHead:
    """What an update file says of itself.

    :ivar kind: `ARCHIVE_INDEX` or `BLOB_INDEX`
    :ivar digest: of chunk ids
    :ivar bases: the indexes that are needed where it is applied
    :ivar target: the one that it leads to
    :ivar chunks: how many are in it
    """

    kind: Kind
    digest: Digest
    bases: tuple[IndexName, ...]
    target: IndexName
    chunks: int

    def to_json(self) -> bytes:
        """As it is written."""
        data = {
            "version": PATCH_VERSION,
            "kind": self.kind.value,
            "digest": self.digest.value,
            "bases": [asdict(base) for base in self.bases],
            "target": asdict(self.target),
            "chunks": self.chunks,
        }
        return json.dumps(data, indent=1).encode() + b"\n"

    @classmethod
    def parse(cls, data: bytes) -> PatchHead:
        """:raises FormatError: it is malformed, or of a later version"""
        try:
            found = json.loads(data)
            version = found["version"]
            if version != PATCH_VERSION:
                raise FormatError(
                    f"it is an update file of version {str(version)[:20]!r}, not {PATCH_VERSION}"
                )
            bases, target = tuple(map(_index_name, found["bases"])), _index_name(found["target"])
            return cls(Kind(found["kind"]), Digest(found["digest"]), bases, target, _count(found["chunks"]))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise FormatError(f"its {HEAD_NAME} is malformed") from error


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError
    return value


def _index_name(found: dict[str, Any]) -> IndexName:
    name, digest = found["name"], found["digest"]
    if not isinstance(name, str) or not isinstance(digest, str):
        raise TypeError
    return IndexName(name[:255], digest, _count(found["size"]))


def tar_header(name: str, size: int) -> bytes:
    """The header of a regular file in a tar, the same every time."""
    from tarfile import GNU_FORMAT, TarInfo  # lazily: 10 ms

    info = TarInfo(name)
    info.size = size
    return info.tobuf(GNU_FORMAT)


class PatchWriter:
    """Writes an update file.

    :param out: where to, in its block; a regular file
    :param index: the target
    :raises FileError: it cannot be written
    """

    def __init__(self, out: AtomicFile, head: PatchHead, index: Index) -> None:
        if not stat.S_ISREG(os.fstat(out.fd).st_mode):
            raise FileError(out.path, "write", "an update file must be a regular file")
        self._out = out
        self._rows: list[PackRow] = []
        self.size = 0
        """Bytes so far."""
        for name, content in ((HEAD_NAME, head.to_json()), (_TARGETS[head.kind], index.to_bytes())):
            self._write(tar_header(name, len(content)) + content)
            self._pad()
        self._pack_header = self.size
        self._write(tar_header(_PACK, 0))
        self._pack = self.size

    def _write(self, data: bytes) -> None:
        self._out.write(data)
        self.size += len(data)

    def _pad(self) -> None:
        self._write(bytes(-self.size % _BLOCK))

    def add(self, row: PackRow, frame: bytes) -> None:
        """Append a chunk, compressed."""
        self._rows.append(row)
        self._write(frame)

    def finish(self) -> None:
        """Write what follows the last chunk."""
        self._write(pack_table(self._rows))
        size = self.size - self._pack
        self._pad()
        self._write(bytes(2 * _BLOCK))
        try:
            os.pwrite(self._out.fd, tar_header(_PACK, size), self._pack_header)
        except OSError as error:
            raise FileError(self._out.path, "write", error) from error


class _Window:
    """Some bytes of a file, front to back: what `Index.load` reads."""

    def __init__(self, view: FileView, offset: int, size: int) -> None:
        self._view = view
        self._at = offset
        self._end = offset + size

    def read(self, size: int) -> bytes:
        data = self._view.read_at(self._at, min(size, self._end - self._at))
        self._at += len(data)
        return data


class PatchFile(Closing):
    """An update file, opened; everything but its chunks was read and checked.

    :param path: the file
    :ivar index: the target
    :ivar rows: its chunks, in order
    :raises FileError: it cannot be read
    :raises FormatError: it is malformed, or contradicts itself
    """

    def __init__(self, path: bytes) -> None:
        self.path = path
        self._fd = open_regular(path, "open")
        self._view = FileView(self._fd, name=path)
        try:
            self._read()
        except FormatError as error:
            self.close()
            raise FormatError(error.reason, path) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _read(self) -> None:
        at, size = self._member(0, HEAD_NAME, _HEAD_LIMIT)
        self.head = head = PatchHead.parse(self._view.read_at(at, size))
        if head.kind not in _TARGETS:
            raise FormatError(f"it leads to a {head.kind.value}, which is no index")
        at, size = self._member(_padded(at + size), _TARGETS[head.kind], MAX_INDEX_SIZE)
        self.index = Index.load(cast(BinaryIO, _Window(self._view, at, size)))
        if name_index(b"", self.index).digest != head.target.digest or self.index.digest is not head.digest:
            raise FormatError("the index in it is not the one that it is about")
        at, size = self._member(_padded(at + size), _PACK, self._view.size)
        end = self._view.read_at(_padded(at + size), 2 * _BLOCK)
        if len(end) < 2 * _BLOCK:
            raise FormatError("it is cut short")
        if any(end):
            raise FormatError("there is more in it than an update file has")
        self._pack = at
        self.rows = self._read_table(at, size)

    def _member(self, at: int, name: str, limit: int) -> tuple[int, int]:
        """Offset and size of what a member of the tar holds."""
        from tarfile import REGTYPE, HeaderError, TarInfo

        block = self._view.read_at(at, _BLOCK)
        if len(block) < _BLOCK:
            raise FormatError("it is cut short" if at else "this is no update file")
        try:
            info = TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except HeaderError:
            raise FormatError("it is damaged" if at else "this is no update file") from None
        if info.type != REGTYPE or info.name != name:
            raise FormatError(f"it has something else where {name} should be")
        if not 0 <= info.size <= limit:
            raise FormatError(f"{name} in it has an impossible size")
        if at + _BLOCK + info.size > self._view.size:
            raise FormatError("it is cut short")
        return at + _BLOCK, info.size

    def _read_table(self, at: int, size: int) -> list[PackRow]:
        footer = min(FOOTER_SIZE, size)
        table = min(table_size_of(self._view.read_at(at + size - footer, footer)), size)
        if table > table_size(len(self.index)):
            raise FormatError("the table in it is larger than it can be")
        rows = parse_pack_table(self._view.read_at(at + size - table, table), size)
        sizes = {bytes(chunk.id): chunk.size for chunk in self.index}
        for row in rows:
            if sizes.pop(bytes(row.id), None) != row.raw or not 0 < row.stored <= file_limit(row.raw):
                raise FormatError(f"chunk {row.id} in it is not one that its index needs")
        if len(rows) != self.head.chunks:
            raise FormatError(f"it has {len(rows)} chunks, not {self.head.chunks}")
        return rows

    def batches(self) -> Iterator[tuple[int, list[PackRow]]]:
        """Its chunks, some at a time, with the offset in the file of the first."""
        at, batch, raw = self._pack, list[PackRow](), 0
        start = at
        for row in self.rows:
            if batch and (at + row.stored - start > _BATCH or raw + row.raw > _BATCH_RAW):
                yield start, batch
                start, batch, raw = at, [], 0
            batch.append(row)
            at += row.stored
            raw += row.raw
        if batch:
            yield start, batch

    def read(self, start: int, batch: Sequence[PackRow]) -> list[bytes]:
        """The raw chunks of a batch, verified. May be called from several threads.

        :raises FormatError: one is damaged
        """
        data = memoryview(self._view.read_at(start, sum(row.stored for row in batch)))
        found = []
        at = 0
        for row in batch:
            try:
                raw = decompress(data[at : at + row.stored], row.raw)
            except CompressionError as error:
                raise self._damaged(row.id, error.reason) from error
            found.append(raw)
            at += row.stored
        for row, raw, id_ in zip(batch, found, self.head.digest.of_many(found), strict=True):
            if id_ != row.id or len(raw) != row.raw:
                raise self._damaged(row.id, f"its content has the id {id_.hex()}")
        return found

    def _damaged(self, id_: ChunkId, why: str) -> FormatError:
        return FormatError(f"chunk {id_} in it is damaged: {why}", self.path)

    def needed(self) -> list[ChunkId]:
        """The chunks of the target that are not in it, each once."""
        has = {bytes(row.id) for row in self.rows}
        return [id_ for id_ in dict.fromkeys(chain(self.index.ids())) if bytes(id_) not in has]


def _padded(offset: int) -> int:
    return offset + -offset % _BLOCK
