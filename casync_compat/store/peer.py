"""Indexes, archives and chunks where another casync is: through ssh, or a helper program that speaks casync's protocol.

casync keeps chunks only together with an index that needs them: it asks for those that the index names and it has not.
So chunks that are put are set aside in a temporary file, and go with the index when that is written
(`PeerFiles.write`). An index without chunks goes as an archive would, since casync never answers who pushes one alone.
Afterwards a second look tells whether all is there.

Nothing there can be listed or removed, and no lease be left.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from casync_compat.closing import Closing
from casync_compat.compression import Compression, CompressionError, compress, decompress
from casync_compat.errors import ChunkCorrupt, ChunkMissing, RemoteError, UsageError
from casync_compat.ids import ChunkId, Digest
from casync_compat.index import MAX_INDEX_SIZE, Index
from casync_compat.protocol import ChunkReply, Terms
from casync_compat.spool import Spool
from casync_compat.store.base import Put, checked
from casync_compat.store.files import Can, FileDamaged, Files, FileStatus, Listed, Opened, Version
from casync_compat.store.session import Session, Way

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["Peer", "PeerFiles", "PeerStore"]

_PULL_BOTH = Terms.PULL_INDEX | Terms.PULL_CHUNKS
_PUSH_BOTH = Terms.PUSH_INDEX | Terms.PUSH_CHUNKS | Terms.PUSH_INDEX_CHUNKS
_LARGEST = 15 << 20
"""Bytes of a chunk whose size nobody says; no larger one goes through a message."""
_LOOKED_AT = 16
"""Chunks that are fetched again after they were pushed."""
_COMPARED = 64 << 10
"""Bytes of an archive that are fetched again after it was pushed."""


@dataclass(frozen=True, slots=True)
class _Aside:
    """Where a chunk lies that was set aside."""

    offset: int
    size: int
    compressed: bool


class Peer:
    """A casync at another end, and what was begun with it. May be used from several threads at once.

    :param way: how it is reached
    :param on_line: gets what it says on standard error
    :param silence: seconds without a byte after which it is given up; None for 60, 0 for never
    """

    def __init__(
        self,
        way: Way,
        *,
        on_line: Callable[[str], None] = lambda line: None,
        silence: float | None = None,
    ) -> None:
        self.way = way
        self.filled: PeerStore | None = None
        """The store with chunks that wait for their index."""
        self.index_wanted = False
        """Whether an index is going to be written there."""
        self._on_line = on_line
        self._silence = silence
        self._sessions: dict[tuple[str, bool], Session] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.way.name}>"

    def begin(
        self, verb: str, terms: Terms, *, archive: str = "-", index: str = "-", store: str = "-"
    ) -> Session:
        """A conversation of its own."""
        argv = self.way.argv(verb, archive, index, store)
        return Session(argv, self.way.name, terms, on_line=self._on_line, silence=self._silence)

    def pull_index(self, index: str, store: str) -> Session:
        """A conversation in which the index comes, and then chunks of a store."""
        with self._lock:
            self._drop((store, False))
            session = self.begin("pull", _PULL_BOTH, index=index, store=store)
            self._sessions[store, False] = session
            return session

    def chunks_of(self, store: str, again: bool = False) -> Session:
        """The conversation in which chunks of a store come.

        :param again: another one, for those that came in that one
        """
        key = (store, again)
        with self._lock:
            if key not in self._sessions:
                self._sessions[key] = self.begin("pull", Terms.PULL_CHUNKS, store=store)
            return self._sessions[key]

    def _drop(self, key: tuple[str, bool]) -> None:
        session = self._sessions.pop(key, None)
        if session is not None:
            session.close()

    def close(self) -> None:
        """End all that was begun. Something new can be begun afterwards."""
        with self._lock:
            for key in list(self._sessions):
                self._drop(key)


class PeerStore(Closing):
    """A chunk store where another casync is.

    :param path: of the store, as that casync takes it
    :param name: of the store, for messages

    :ivar compression: how chunks are sent
    """

    own_paths: tuple[bytes, ...] = ()

    def __init__(
        self, peer: Peer, path: str, name: str, *, compression: Compression = Compression.ZSTD
    ) -> None:
        self.name = name
        self.path = path
        self.compression = compression
        self._peer = peer
        self._lock = threading.Lock()
        self._aside: dict[ChunkId, _Aside] = {}
        self._spool: Spool | None = None
        self._again = threading.Lock()
        self._repeated: dict[ChunkId, _Aside | None] = {}
        self._repeats: Spool | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def close(self) -> None:
        self._peer.close()

    # ---- reading

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        return self.get_many([(id, limit)], digest)[0]

    def get_many(self, wanted: Sequence[tuple[ChunkId, int]], digest: Digest) -> list[bytes]:
        replies = self._replies(wanted)
        return [self._raw(replies[id], id, digest, limit) for id, limit in wanted]

    def _replies(self, wanted: Sequence[tuple[ChunkId, int]]) -> dict[ChunkId, ChunkReply | None]:
        """What the store has; chunks that are wanted for the second time are kept for the third."""
        found = self._peer.chunks_of(self.path).chunks(wanted)
        if any(id not in found for id, _ in wanted):
            with self._again:
                left = [(id, limit) for id, limit in wanted if id not in found and id not in self._repeated]
                if left:
                    self._keep(self._peer.chunks_of(self.path, again=True).chunks(left))
                found.update((id, self._kept(id)) for id, _ in wanted if id not in found)
        return found

    def _keep(self, replies: dict[ChunkId, ChunkReply | None]) -> None:
        if self._repeats is None:
            self._repeats = Spool("chunks that come again")
        for id, reply in replies.items():
            self._repeated[id] = None
            if reply is not None:
                at = self._repeats.append(reply.data)
                self._repeated[id] = _Aside(at, len(reply.data), reply.compressed)

    def _kept(self, id: ChunkId) -> ChunkReply | None:
        aside = self._repeated[id]
        if aside is None or self._repeats is None:
            return None
        return ChunkReply(id, self._repeats.read_at(aside.offset, aside.size), aside.compressed)

    def _raw(self, reply: ChunkReply | None, id: ChunkId, digest: Digest, limit: int) -> bytes:
        if reply is None:
            raise ChunkMissing(id, self.name)
        raw = reply.data
        if reply.compressed:
            try:
                raw = decompress(raw, limit)
            except CompressionError as error:
                raise ChunkCorrupt(id, self.name, str(error)) from None
        if not raw or len(raw) > limit:
            raise ChunkCorrupt(id, self.name, f"it has more than the {limit} bytes it may have")
        return checked(id, digest, raw, self.name)

    def has(self, id: ChunkId) -> bool:
        """Whether the store has the chunk. There is no way to ask but to fetch it."""
        return self._replies([(id, _LARGEST)])[id] is not None

    # ---- writing

    def keep(self, id: ChunkId, durable_before: int = 0) -> bool:
        """Whether the chunk is among those put: what the store has is known only once it sees the index."""
        return id in self._aside

    def put(self, id: ChunkId, data: ReadableBuffer) -> Put:
        """Set a chunk aside until its index is written.

        :raises UsageError: `data` is empty or cannot be sent, or no index goes to the same place
        """
        if not memoryview(data).nbytes:
            raise UsageError("a chunk has at least one byte")
        if not self._peer.index_wanted:
            raise UsageError(
                f"{self.name}: casync takes chunks only together with their index, so the index must be written to "
                f"{self._peer.way.name} too; or reach the store through sftp://"
            )
        if id in self._aside:
            return Put(False, 0)
        plain = self.compression is Compression.NONE
        stored = bytes(data) if plain else compress(self.compression, data)
        if len(stored) > _LARGEST:
            raise UsageError(f"chunk {id} has {len(stored)} bytes, more than casync's protocol can carry")
        with self._lock:
            if id in self._aside:
                return Put(False, 0)
            if self._spool is None:
                self._spool = Spool("chunks to be sent")
            self._aside[id] = _Aside(self._spool.append(stored), len(stored), not plain)
            self._peer.filled = self
        return Put(True, len(stored))

    def sync(self) -> None:
        """Chunks are kept there when their index is; that casync does not wait for the disk."""

    def aside(self, id: ChunkId) -> ChunkReply | None:
        """A chunk that was put, as a message; None for any other."""
        found = self._aside.get(id)
        if found is None or self._spool is None:
            return None
        data = self._spool.read_at(found.offset, found.size)
        return ChunkReply(id, data, found.compressed)

    def sent(self) -> None:
        """Forget what was set aside."""
        with self._lock:
            self._aside.clear()
            spool, self._spool = self._spool, None
        if spool is not None:
            spool.close()
        self._peer.filled = None

    # ---- what cannot be done

    def ids(self) -> Iterator[ChunkId]:
        """:raises UsageError: always"""
        raise UsageError(f"{self.name}: casync's protocol cannot list chunks")

    def remove(self, id: ChunkId) -> int:
        """:raises UsageError: always"""
        raise UsageError(f"{self.name}: casync's protocol cannot remove chunks")

    def directories(self) -> int:
        """Nobody knows."""
        return 0

    def clean(self, before: int) -> int:
        """Nothing of ours is left over there."""
        return 0


class PeerFiles(Files):
    """Indexes and archives where another casync is: read as a whole, and written as a whole.

    :param before: what comes before a name in a path there
    :param after: what comes behind it
    :param store: path of the store that chunks of an index are going to be read from; None when that is elsewhere
    """

    can = Can.NOTHING

    def __init__(
        self, peer: Peer, name: str, *, before: str, after: str = "", store: str | None = None
    ) -> None:
        self._name = name
        self._peer = peer
        self._before = before
        self._after = after
        self._store = store
        self._known: dict[bytes, bytes] = {}

    @property
    def name(self) -> str:
        return self._name

    def _path(self, name: bytes) -> str:
        return f"{self._before}{name.decode(errors='surrogateescape')}{self._after}"

    def pieces(self, name: bytes) -> Iterator[bytes] | None:
        op = f"read {_shown(name)}"
        path = self._path(name)
        if _is_index(name) and self._store is not None:
            found = self._peer.pull_index(path, self._store).pieces(op)
            if found is None:
                self._peer.close()
            return found
        if _is_index(name):
            session = self._peer.begin("pull", Terms.PULL_INDEX, index=path)
        else:
            session = self._peer.begin("pull", Terms.PULL_ARCHIVE, archive=path)
        found = session.pieces(op)
        if found is None:
            session.close()
            return None
        return _closing(session, found)

    def open_file(self, name: bytes, head: int | None = None) -> Opened | None:
        """See `Files.open_file`. There are no parts, and nobody tells the size."""
        pieces = self.pieces(name)
        return None if pieces is None else Opened(None, FileStatus(0), b"", pieces)

    def read(self, name: bytes, limit: int) -> bytes | None:
        pieces = self.pieces(name)
        if pieces is None:
            return None
        content = bytearray()
        for piece in pieces:
            content += piece
            if len(content) > limit:
                self._peer.close()
                raise FileDamaged(
                    name, self.name, f"the casync there sends more than the {limit} bytes it may have"
                )
        return bytes(content)

    def read_range(self, name: bytes, offset: int, size: int) -> bytes | None:
        """Of no use for more than the beginning: all before it comes, too."""
        pieces = self.pieces(name)
        if pieces is None:
            return None
        content = b""
        for piece in pieces:
            content += piece
            if len(content) >= offset + size:
                break
        self._peer.close()
        return content[offset : offset + size]

    def stat(self, name: bytes) -> FileStatus | None:
        """:raises UsageError: for archives; an index is read for it"""
        if not _is_index(name):
            raise UsageError(f"{self.name}: casync's protocol does not tell the size of an archive")
        content = self.read(name, MAX_INDEX_SIZE)
        return None if content is None else FileStatus(len(content))

    def expect(self, name: bytes) -> None:
        self._peer.index_wanted = True

    def write(
        self, name: bytes, data: ReadableBuffer, *, if_absent: bool = False, if_version: Version | None = None
    ) -> None:
        """Write an index, with the chunks that were put into the store there, or an archive.

        :raises RemoteError: something did not arrive
        """
        if if_absent or if_version is not None:
            raise UsageError(f"{self.name}: casync's protocol cannot write on a condition")
        view, path = memoryview(data).cast("B"), self._path(name)
        store = self._peer.filled if _is_index(name) else None
        if store is None:
            self._push_alone(name, view)
            return
        sent: list[ChunkId] = []
        with self._peer.begin("push", _PUSH_BOTH, index=path, store=store.path) as session:
            session.push(
                view,
                f"write {_shown(name)}",
                archive=False,
                chunk=store.aside,
                on_chunk=lambda reply: sent.append(reply.id),
            )
        self._look_again(name, view, store, sent)
        store.sent()

    def _push_alone(self, name: bytes, view: memoryview) -> None:
        path = self._path(name)
        with self._peer.begin("push", Terms.PUSH_ARCHIVE, archive=path) as session:
            session.push(view, f"write {_shown(name)}", archive=True, chunk=lambda id: None)
        with self._peer.begin("pull", Terms.PULL_ARCHIVE, archive=path) as session:
            at = 0
            for piece in session.pieces("look for what was written") or ():
                if view[at : at + len(piece)] != piece:
                    break
                at += len(piece)
                if at >= min(len(view), _COMPARED):
                    return
        raise RemoteError(self.name, "write", "what is there afterwards is not what was sent")

    def _look_again(self, name: bytes, view: memoryview, store: PeerStore, sent: list[ChunkId]) -> None:
        """Be sure that the index is there, and chunks that were sent."""
        step = max(1, len(sent) // _LOOKED_AT)
        index = Index.parse(bytes(view), name)
        with self._peer.begin("pull", _PULL_BOTH, index=self._path(name), store=store.path) as session:
            pieces = session.pieces("look for what was written")
            if pieces is None or b"".join(pieces) != view:
                raise RemoteError(
                    self.name, "write", "the index there afterwards is not the one that was sent"
                )
            looked_at = [(id, index.sizes.max) for id in sent[::step]]
            for id, reply in (session.chunks(looked_at) if looked_at else {}).items():
                if reply is None:
                    raise RemoteError(self.name, "write", f"chunk {id} was sent and is not there")

    def list(
        self, prefix: bytes = b"", *, under: re.Pattern[bytes] | None = None, details: bool = True
    ) -> Iterator[Listed]:
        raise UsageError(f"{self.name}: casync's protocol cannot list files")

    def remove(self, name: bytes) -> int:
        raise UsageError(f"{self.name}: casync's protocol cannot remove files")

    def sync(self, *, others: bool = False) -> None:
        """What was written was looked at again; that casync does not wait for the disk."""

    def close(self) -> None:
        self._peer.close()


def _closing(session: Session, pieces: Iterator[bytes]) -> Iterator[bytes]:
    with session:
        yield from pieces


def _is_index(name: bytes) -> bool:
    return name.endswith((b".caidx", b".caibx"))


def _shown(name: bytes) -> str:
    return name.decode(errors="replace")
