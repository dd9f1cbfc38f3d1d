"""Files, whole or in part, piece by piece; and indexes and archives out of a place of files."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from hashlib import sha256

from casync_compat.kinds import Kind
from casync_compat.serve.replies import Field, Reply, http_date, is_other, not_modified, text, wanted_range
from casync_compat.serve.settings import FILES
from casync_compat.store.files import Can, FileChanged, Files, FileStatus

__all__ = ["ServedFiles", "file_reply", "file_tag"]

_PIECE = 64 << 10
"""Bytes at a time: a client that does not read holds some of them."""
_SMALL = 1 << 20
"""Bytes that are read before the answer begins, so that what goes wrong can still be told."""
_TYPES = {
    Kind.ARCHIVE: b"application/vnd.casync.archive",
    Kind.ARCHIVE_INDEX: b"application/vnd.casync.index",
    Kind.BLOB_INDEX: b"application/vnd.casync.index",
}


def file_tag(status: FileStatus) -> bytes | None:
    """What changes with a file's content, with its quotes; None where nobody knows."""
    if status.version is None and status.modified is None:
        return None
    said = repr((status.version, status.size, status.modified, status.arrived))
    return b'"%s"' % sha256(said.encode()).hexdigest()[:24].encode()


def file_reply(
    fields: Mapping[bytes, bytes],
    told: list[Field],
    size: int,
    tag: bytes | None,
    modified: int | None,
    pieces: Callable[[int, int], Iterator[bytes]],
    *,
    head: bool,
) -> Reply:
    """The answer for a file, for the part of it that is asked for, or for who has it already.

    :param fields: of the request
    :param told: fields of the answer, whatever it is
    :param size: in bytes
    :param tag: which changes with its content, with its quotes
    :param modified: nanoseconds since 1970, as far as conditions may rely on it
    :param pieces: reads from one offset to another
    :param head: whether only its head is wanted
    :raises CasyncError: what is small could not be read
    """
    if is_other(fields, tag, modified):
        return text(412, "this is another one", store=FILES)
    if not_modified(fields, tag, modified):
        return Reply(304, told, store=FILES)
    told = [*told, (b"accept-ranges", b"bytes")]
    part = None if head else wanted_range(fields, size, tag, modified)
    if part is not None and part.start == part.stop:
        return text(416, "there is nothing of it in that range", part.told(size), store=FILES)
    start, stop = (0, size) if part is None else (part.start, part.stop)
    answer = Reply(200, told, size=stop - start, store=FILES)
    if part is not None:
        answer.status = 206
        told.append(part.told(size))
    if head:
        return answer
    if stop - start <= _SMALL:
        answer.body = b"".join(pieces(start, stop))
    else:
        answer.pieces = pieces(start, stop)
    return answer


class ServedFiles:
    """The files.

    :param files: where they are
    :param threads: that read them
    """

    def __init__(self, files: Files, threads: Executor) -> None:
        self.files = files
        self._threads = threads

    async def get(self, name: bytes, kind: Kind, fields: Mapping[bytes, bytes], *, head: bool) -> Reply:
        """The answer for a file.

        :param fields: of the request
        :param head: whether only its head is wanted
        :raises CasyncError: the place could not be read
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._get, name, kind, fields, head)

    def _get(self, name: bytes, kind: Kind, fields: Mapping[bytes, bytes], head: bool) -> Reply:
        """Runs on a thread."""
        status = self.files.stat(name)
        if status is None:
            return text(404, "index not found" if kind.is_index else "archive not found", store=FILES)
        tag = file_tag(status)
        told: list[Field] = [(b"content-type", _TYPES[kind]), (b"cache-control", b"no-cache")]
        if tag is not None:
            told.append((b"etag", tag))
        if status.modified is not None:
            told.append((b"last-modified", http_date(status.modified)))
        answer = file_reply(
            fields,
            told,
            status.size,
            tag,
            status.modified,
            lambda start, stop: self._parts(name, start, stop, status),
            head=head,
        )
        answer.threads = self._threads
        return answer

    def _parts(self, name: bytes, start: int, stop: int, status: FileStatus) -> Iterator[bytes]:
        """:raises FileChanged: it was replaced meanwhile"""
        if start == 0 and stop == status.size and Can.RANGE not in self.files.can:
            pieces = self.files.pieces(name)
            if pieces is None:
                raise FileChanged(name, self.files.name)
            yield from pieces
            return
        size = _PIECE if self.files.near else 64 * _PIECE
        for at in range(start, stop, size):
            wanted = min(size, stop - at)
            piece = self.files.read_part(name, at, wanted, status)
            if len(piece) != wanted:
                raise FileChanged(name, self.files.name)
            yield piece
