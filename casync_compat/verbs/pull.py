"""Serving casync's protocol to who reads: an index or archive goes out, and the chunks that are asked for.

    >>> with Pipe(0, 1, offered(archive=None, index=b"x.caidx", store=store)) as pipe:
    ...     serve_pull(pipe, index=b"x.caidx", source=store)

Chunks are read on several threads, and checked, before they go; the conversation itself is one loop. What is held is
bounded, whatever the other side asks for and however slowly it reads.
"""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack
from typing import BinaryIO

from casync_compat.closing import Closing
from casync_compat.errors import FileError, FormatError
from casync_compat.ids import ChunkId
from casync_compat.index import IndexInbox
from casync_compat.protocol import (
    ArchiveEnd,
    ArchivePart,
    ChunkAbsent,
    ChunkReply,
    ChunkRequest,
    Farewell,
    IndexEnd,
    IndexPart,
    RequestQueue,
    Terms,
)
from casync_compat.store.base import ChunkSource, far_source
from casync_compat.store.files import StoredFile
from casync_compat.store.pipe import Pipe
from casync_compat.store.sending import Sender
from casync_compat.streams.inputs import Input, open_stored, path_of
from casync_compat.streams.transfer import OrderedPool, jobs_at
from catar.layouts import ENTRY, HEADER

__all__ = ["offered", "serve_pull"]

_PART = 64 << 10
"""Bytes in one part of an index or archive, as casync sends them."""
_AHEAD = 4 << 20
"""Bytes that may wait to be written before more is made."""
_TOGETHER = 8
"""Chunks that are read at once, unless the other side waits for one."""


def offered(*, archive: object, index: object, store: object) -> Terms:
    """What a server offers that has these; None for what it has not."""
    terms = Terms(0)
    for thing, term in (
        (archive, Terms.READABLE_ARCHIVE),
        (index, Terms.READABLE_INDEX),
        (store, Terms.READABLE_STORE),
    ):
        if thing is not None:
            terms |= term
    return terms


def serve_pull(
    pipe: Pipe,
    *,
    archive: Input | None = None,
    index: Input | None = None,
    source: ChunkSource | None = None,
    jobs: int | None = None,
) -> None:
    """Answer until the other side has all it wants.

    :param pipe: which has offered just this
    :param archive: an archive to send, if it is asked for; `index` alike
    :param source: where chunks are
    :param jobs: threads that read chunks; None for what is usual
    :raises NotFound: there is no such file
    :raises FormatError: the file is no index, or no archive
    :raises StoreError: a chunk is damaged
    :raises RemoteError: the other side says what it may not, or gives up
    """
    with _Server(pipe, archive, index, source, jobs) as server:
        server.run()


class _Server(Closing):
    def __init__(
        self,
        pipe: Pipe,
        archive: Input | None,
        index: Input | None,
        source: ChunkSource | None,
        jobs: int | None,
    ) -> None:
        self._pipe = pipe
        self._files = ExitStack()
        self._queue = RequestQueue()
        self._file: BinaryIO | None = None
        self._is_index = index is not None
        self._head = b""
        self._sender: Sender | None = None
        self._pool: OrderedPool[list[ChunkReply | ChunkAbsent]] | None = None
        self._depth = 1
        digest = None
        if index is not None:
            self._file = self._files.enter_context(_opened(index))
            reader = IndexInbox(path_of(index))
            self._head = self._file.read(_PART)
            reader.receive(self._head)
            reader.check_begun()
            digest = reader.digest
        elif archive is not None:
            self._file = self._files.enter_context(_opened(archive))
            self._head = self._file.read(_PART)
            if self._head[: HEADER.size] != HEADER.pack(ENTRY.smallest, ENTRY.type):
                _check_index(self._head, path_of(archive))
        if source is not None:
            far = far_source(source) is not None
            jobs = jobs or jobs_at(source)
            self._depth = 2 * jobs
            self._together = 1 if far else _TOGETHER
            self._sender = Sender(source, digest)
            self._pool = OrderedPool(jobs, self._depth)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()
        self._files.close()

    def run(self) -> None:
        pipe, wait = self._pipe, True
        while not pipe.gone:
            pipe.turn(read=not self._queue.full, wait=wait)
            for message in pipe.messages():
                if isinstance(message, ChunkRequest):
                    self._queue.add(message)
                elif isinstance(message, Farewell):
                    return  # it has all it wants
            wait = not self._work()
            if pipe.ended and wait and not (self._pool or pipe.queued):
                return  # so does who just goes

    def _work(self) -> bool:
        """Do what can be done now; whether there was anything."""
        pipe = self._pipe
        if pipe.wanted is None or pipe.queued >= _AHEAD:
            return False
        done = self._collect()
        if self._file is not None and not self._queue.urgent:
            self._part()
            done = True
        return self._begin() or done

    def _part(self) -> None:
        """Send the next part of the index or archive."""
        file, pipe, wanted = self._file, self._pipe, self._pipe.wanted
        assert file is not None
        assert wanted is not None
        if not wanted & (Terms.PULL_INDEX if self._is_index else Terms.PULL_ARCHIVE):
            self._file = None
            return
        part, self._head = self._head, b""
        if part := part or file.read(_PART):
            pipe.say(IndexPart(part) if self._is_index else ArchivePart(part))
        else:
            pipe.say(IndexEnd() if self._is_index else ArchiveEnd())
            self._file = None

    def _collect(self) -> bool:
        """Send the chunks that were read."""
        pool, found = self._pool, False
        while pool is not None and pool.ready and self._pipe.queued < _AHEAD:
            for reply in pool.take():
                self._pipe.say(reply)
            found = True
        return found

    def _begin(self) -> bool:
        """Read chunks that were asked for."""
        pool, sender, queue, begun = self._pool, self._sender, self._queue, False
        if pool is None or sender is None:
            return False
        while queue.length and len(pool) < self._depth:
            ids: list[ChunkId] = []
            most = 1 if queue.urgent else self._together
            while len(ids) < most and (id := queue.next()) is not None:
                ids.append(id)
            pool.start(sender.replies, ids)
            pool.newest.add_done_callback(lambda _: self._pipe.wake())
            begun = True
        return begun


def _check_index(head: bytes, path: bytes | None) -> None:
    """Be sure that what is read as an archive is an index at least, which our own client reads so where it wants no
    chunks.

    :raises FormatError: it is not
    """
    try:
        inbox = IndexInbox(path)
        inbox.receive(head)
        inbox.check_begun()
    except FormatError:
        raise FormatError("not an archive", path, 0) from None


def _opened(where: Input) -> BinaryIO:
    """A file to read from front to back; only what is a regular file.

    :raises FileError: it cannot be opened
    """
    if isinstance(where, StoredFile):
        return open_stored(where)
    try:
        fd = os.open(where, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        file = open(fd, "rb")  # noqa: SIM115 - the caller closes it
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            file.close()
            raise FileError(where, "read", "it is no regular file")
    except OSError as error:
        raise FileError(where, "open", error) from error
    return file
