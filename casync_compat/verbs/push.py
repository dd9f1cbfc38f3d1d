"""Serving casync's protocol to who writes: an archive comes, or an index and the chunks of it that are not here yet.

    >>> with Pipe(0, 1, Terms.WRITABLE_INDEX | Terms.WRITABLE_STORE) as pipe:
    ...     serve_push(pipe, index="x.caidx", store=store, settings=settings)

The last message says that all is durable: the chunks, then the index, which appears at once and whole. Nothing is kept
that was not asked for, or is not what its id says. What is held is bounded by the size that an index may have: no more
chunks are asked for than there is room for, and what comes is read only as fast as it can be stored.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import ParamSpec, TypeAlias

from casync_compat.closing import Closing
from casync_compat.compression import CompressionError, decompress
from casync_compat.errors import ChunkCorrupt, ChunkMissing, RemoteError, UsageError
from casync_compat.fs.atomic import AtomicFile
from casync_compat.ids import ChunkId
from casync_compat.index import Index, IndexInbox
from casync_compat.protocol import (
    ArchiveEnd,
    ArchivePart,
    ChunkAbsent,
    ChunkReply,
    ChunkRequest,
    Farewell,
    Hello,
    IndexEnd,
    IndexPart,
    Message,
    Terms,
)
from casync_compat.store.base import ChunkSource, Store, checked
from casync_compat.store.pipe import OTHER_SIDE, Pipe
from casync_compat.streams.leasing import writing
from casync_compat.streams.transfer import OrderedPool, jobs_at

__all__ = ["serve_push"]

_LOOKED_AT = 64
"""Chunks that are looked for at once."""
_ASKED = 4096
"""Chunks that are under way at most."""
_ROOM = 64 << 20
"""Bytes of them, uncompressed."""

_Ids: TypeAlias = list[ChunkId]
P = ParamSpec("P")


def serve_push(
    pipe: Pipe,
    output: Callable[[], AbstractContextManager[bytes | None]],
    *,
    store: Store | None = None,
    others: Sequence[ChunkSource] = (),
    jobs: int | None = None,
    wait: float | None = None,
    tell: Callable[[str], None] | None = None,
) -> None:
    """Take what the other side has, until all is durable, and say so.

    :param pipe: which has offered an archive or index to be written, and perhaps a store
    :param output: gives the path to write the archive or index to; what it stands for is in place when it is left
    :param store: takes chunks
    :param others: further stores, whose chunks need not come
    :param jobs: threads; None for what is usual
    :param wait: seconds to wait for a collection of garbage that is at work in the store; None for a minute
    :raises UsageError: chunks are to come without an index
    :raises FormatError: what comes is no index
    :raises StoreError: a chunk is not what was asked for, or the other side has it not
    :raises RemoteError: the other side says what it may not, or ends too early
    """
    listener = _Listener(pipe)
    wanted = listener.agreed()
    if wanted & Terms.PUSH_ARCHIVE:
        _take_archive(listener, output)
    elif wanted & Terms.PUSH_INDEX and not wanted & Terms.PUSH_INDEX_CHUNKS:
        with output() as path, _file(path) as out, _Arrival(listener, out, None, (), jobs) as arrival:
            arrival.run()
    elif wanted & Terms.PUSH_INDEX:
        assert store is not None  # or else nothing was agreed on
        with writing(store, "push", wait=wait, tell=tell) as lease, output() as path, _file(path) as out:
            with _Arrival(listener, out, store, others, jobs) as arrival:
                index = arrival.run()
            store.sync()
            lease.keep(index)
    else:
        raise UsageError("chunks are kept only together with an index that needs them; write that here, too")
    pipe.say(Farewell())
    pipe.finish()
    if pipe.gone:
        raise RemoteError(OTHER_SIDE, "be told that all is there", "it has gone")


def _file(path: bytes | None) -> AtomicFile:
    assert path is not None
    return AtomicFile(path)


class _Listener:
    """What the other side says, one after the other."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe
        self._waiting: deque[Message] = deque()

    def agreed(self) -> Terms:
        """What it wants. :raises RemoteError: it ends before it has said so"""
        message = self.next()
        assert isinstance(message, Hello)  # `Connection` passes nothing else on first
        return message.terms

    def take(self) -> Message | None:
        """The next message that is there already."""
        if not self._waiting:
            self._waiting.extend(self.pipe.messages())
        return self._waiting.popleft() if self._waiting else None

    def next(self) -> Message:
        """The next message. :raises RemoteError: there is none any more"""
        while (message := self.take()) is None:
            if self.pipe.ended:
                raise self.too_early()
            self.pipe.turn()
        return message

    @staticmethod
    def too_early() -> RemoteError:
        return RemoteError(OTHER_SIDE, "push", "it ended before all was there")


def _take_archive(listener: _Listener, output: Callable[[], AbstractContextManager[bytes | None]]) -> None:
    with output() as path, _file(path) as out:
        while not isinstance(message := listener.next(), ArchiveEnd):
            if not isinstance(message, ArchivePart):
                raise listener.too_early()
            out.write(message.data)


class _Arrival(Closing):
    """An index that comes, and its chunks.

    :param store: None where none come
    """

    def __init__(
        self,
        listener: _Listener,
        out: AtomicFile,
        store: Store | None,
        others: Sequence[ChunkSource],
        jobs: int | None,
    ) -> None:
        self._listener = listener
        self._pipe = listener.pipe
        self._out = out
        self._store = store
        self._others = others
        self._inbox = IndexInbox()
        self._ended = False
        self._looked = 0
        self._open: dict[ChunkId, int] = {}
        self._room = _ROOM
        jobs = jobs or jobs_at(store)
        self._depth = 2 * jobs
        self._pool: OrderedPool[tuple[_Ids, _Ids]] = OrderedPool(jobs, self._depth)

    def close(self) -> None:
        self._pool.close()

    def run(self) -> Index:
        """Take all. :returns: the index, of which every chunk is in the store"""
        pipe, pool = self._pipe, self._pool
        moved = True
        while not self._is_whole():
            pipe.turn(read=len(pool) < self._depth, wait=not moved)
            moved = self._collect()
            while len(pool) < self._depth and (message := self._listener.take()) is not None:
                self._take(message)
                moved = True
            moved = self._look() or moved
            if pipe.ended and not moved and not len(pool):
                raise self._listener.too_early()
        return self._inbox.finish()

    def _is_whole(self) -> bool:
        looked = self._store is None or self._looked == self._inbox.count
        return self._ended and looked and not self._open and not len(self._pool)

    def _take(self, message: Message) -> None:
        match message:
            case IndexPart(data):
                self._inbox.receive(data)
                self._out.write(data)
            case IndexEnd():
                self._inbox.finish()
                self._ended = True
            case ChunkReply(id):
                self._start(self._put, message, self._open[id])
            case ChunkAbsent(id):
                raise ChunkMissing(id, OTHER_SIDE)
            case _:
                raise self._listener.too_early()

    def _start(self, call: Callable[P, tuple[_Ids, _Ids]], *args: P.args, **kwargs: P.kwargs) -> None:
        self._pool.start(call, *args, **kwargs)
        self._pool.newest.add_done_callback(lambda _: self._pipe.wake())

    def _look(self) -> bool:
        """Look for the next chunks that the index needs; whether there are any, and room for them."""
        if self._store is None or len(self._pool) >= self._depth or len(self._open) >= _ASKED:
            return False
        rows = self._inbox.rows(self._looked, _LOOKED_AT)
        batch: list[ChunkId] = []
        for id, size in rows:
            if id not in self._open:
                if self._open and size > self._room:
                    break
                self._open[id] = size
                self._room -= size
                batch.append(id)
            self._looked += 1
        if batch:
            self._start(self._find, batch)
        return bool(batch)

    def _collect(self) -> bool:
        """Ask for what was looked for and is not there, and forget what is."""
        found = False
        while self._pool.ready:
            there, lacking = self._pool.take()
            for id in there:
                self._room += self._open.pop(id)
            if lacking:
                self._pipe.say(ChunkRequest(tuple(lacking)))
            found = True
        return found

    # ---- on other threads

    def _find(self, ids: _Ids) -> tuple[_Ids, _Ids]:
        """Which of some chunks are there, and which are not."""
        store = self._store
        assert store is not None
        there = [id for id in ids if store.keep(id) or any(other.has(id) for other in self._others)]
        known = set(there)
        return there, [id for id in ids if id not in known]

    def _put(self, reply: ChunkReply, size: int) -> tuple[_Ids, _Ids]:
        """Store a chunk, if it is what was asked for."""
        store, digest = self._store, self._inbox.digest
        assert store is not None
        assert digest is not None
        raw = reply.data
        if reply.compressed:
            try:
                raw = decompress(raw, size)
            except CompressionError as error:
                raise ChunkCorrupt(reply.id, OTHER_SIDE, str(error)) from None
        if len(raw) != size:
            raise ChunkCorrupt(reply.id, OTHER_SIDE, f"it has {len(raw)} bytes, and the index says {size}")
        store.put(reply.id, checked(reply.id, digest, raw, OTHER_SIDE))
        return [reply.id], []
