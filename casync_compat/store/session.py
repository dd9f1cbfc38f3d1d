"""A conversation with a casync at the other end of a program's pipes: indexes, archives and chunks, both ways.

`protocol` knows what may be said, `store.program` how bytes get there; here is what is said in answer. May be used by
several threads at once where chunks are asked for; an index or an archive is read, or sent, by one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from casync_compat.closing import Closing
from casync_compat.compression import file_limit
from casync_compat.errors import FormatError, RemoteError, show_path
from casync_compat.ids import ChunkId
from casync_compat.protocol import (
    Abort,
    ArchiveEnd,
    ArchivePart,
    ChunkAbsent,
    ChunkReply,
    ChunkRequest,
    Connection,
    Farewell,
    IndexEnd,
    IndexPart,
    Message,
    Terms,
)
from casync_compat.store.program import Program

__all__ = ["Session", "Way"]

_PART = 64 << 10
"""Bytes in one part of an index or archive, as casync sends them."""
_AHEAD = 4 << 20
"""Bytes that may wait to be written before more is made."""
_ABSENT_ERRORS = (2, 123)
"""ENOENT, and ENOMEDIUM, by which casync's helpers say that a server has no such file."""
_SPEAK = "speak with the casync there"


@dataclass(slots=True)
class _Answer:
    """What is known of a chunk that was asked for.

    :ivar limit: the most bytes that its data may have
    :ivar users: threads that wait for it
    """

    limit: int
    users: int = 0
    come: bool = False
    reply: ChunkReply | None = None


class Way(Protocol):
    """How a casync is reached."""

    @property
    def name(self) -> str:
        """The other end as a user would name it."""

    def argv(self, verb: str, archive: str, index: str, store: str) -> Sequence[str]:
        """What to start.

        :param verb: "pull" or "push"
        :param archive: path there, "-" for none; `index` and `store` alike
        """


class Session(Closing):
    """A conversation with one casync.

    :param argv: what to start
    :param where: what messages call the other end
    :param terms: what is wanted of it
    :param on_line: gets what it says on standard error
    :param silence: as of `Program`
    """

    def __init__(
        self,
        argv: Sequence[str],
        where: str,
        terms: Terms,
        *,
        on_line: Callable[[str], None] = lambda line: None,
        silence: float | None = None,
    ) -> None:
        self.where = where
        self.absent = False
        """Whether the other end has said that there is no such file."""
        self._connection = Connection(terms)
        self._parts: deque[bytes] = deque()
        self._whole = False
        self._answers: dict[ChunkId, _Answer] = {}
        self._asked: set[ChunkId] = set()
        self._wanted: deque[ChunkId] = deque()
        self._farewell = False
        self._program = Program(argv, where, self._receive, on_line=on_line, silence=silence)
        self._program.send(self._connection.send(self._connection.hello))

    def close(self) -> None:
        self._program.close()

    # ---- what comes

    def _receive(self, data: bytes) -> None:
        connection = self._connection
        connection.receive(data)
        try:
            while (message := connection.next_message()) is not None:
                self._take(message)
        except FormatError as error:
            raise self._program.fail(_SPEAK, error.reason) from None

    def _take(self, message: Message) -> None:
        match message:
            case IndexPart(data) | ArchivePart(data):
                self._parts.append(data)
            case IndexEnd() | ArchiveEnd():
                self._whole = True
            case ChunkReply() as reply:
                answer = self._answers[reply.id]
                answer.come = True
                if len(reply.data) <= answer.limit:
                    answer.reply = reply
                else:  # what is too large need not be kept to be refused
                    answer.reply = ChunkReply(reply.id, b"", compressed=False)
            case ChunkAbsent(id):
                self._answers[id].come = True
            case ChunkRequest(ids):
                self._wanted.extend(ids)
            case Farewell():
                self._farewell = True
            case Abort(error, reason):
                self.absent = error in _ABSENT_ERRORS
                why = show_path(reason) or f"it gave up with error {error}"
                raise self._program.fail(_SPEAK, why)
            case _:
                pass

    def _agreed(self, op: str) -> None:
        self._program.wait(lambda: self._connection.theirs is not None, op)

    def _say(self, message: Message) -> None:
        self._program.send(self._connection.send(message))

    # ---- pulling

    def pieces(self, op: str) -> Iterator[bytes] | None:
        """The index or archive that this conversation is about, piece by piece; None when there is none.

        :param op: what is being done, for messages
        """
        try:
            self._program.wait(lambda: bool(self._parts) or self._whole, op)
        except RemoteError as error:
            agreed = self._connection.theirs is not None
            if self.absent or (agreed and error.why.endswith(": No such file or directory")):
                return None
            raise
        return self._pieces(op)

    def _pieces(self, op: str) -> Iterator[bytes]:
        while True:
            self._program.wait(lambda: bool(self._parts) or self._whole, op)
            with self._program.lock:
                parts = list(self._parts)
                self._parts.clear()
                last = self._whole
            yield from parts
            if last:
                return

    def chunks(self, wanted: Sequence[tuple[ChunkId, int]]) -> dict[ChunkId, ChunkReply | None]:
        """What the other end has for chunks; None for each that it has not, no data for what is larger than allowed.

        casync sends a chunk once in a conversation, and whoever asks again waits for ever (`src/caremote.c`,
        `ca_remote_enqueue_request`): those that came before, and are not under way, are left out.

        :param wanted: for each its id, and the most bytes that it may have, uncompressed
        """
        op = f"read chunk {wanted[0][0]}" if len(wanted) == 1 else f"read {len(wanted)} chunks"
        self._agreed(op)
        program, known = self._program, self._answers
        answers: dict[ChunkId, _Answer] = {}
        with program.lock:
            ask = [id for id in dict(wanted) if id not in self._asked]
            for id, limit in dict(wanted).items():
                if id in known or id not in self._asked:
                    answers[id] = known.setdefault(id, _Answer(file_limit(limit)))
                    answers[id].users += 1
            self._asked.update(ask)
        try:
            if ask:  # a message for each: desync (`protocol.go`) looks at the first id of a message alone
                send, urgent = self._connection.send, True
                self._program.send(b"".join(send(ChunkRequest((id,), urgent)) for id in ask))
            program.wait(lambda: all(answer.come for answer in answers.values()), op)
        finally:
            with program.lock:
                for id, answer in answers.items():
                    answer.users -= 1
                    if not answer.users:
                        known.pop(id, None)
        return {id: answer.reply for id, answer in answers.items()}

    # ---- pushing

    def push(
        self,
        data: memoryview,
        op: str,
        *,
        archive: bool,
        chunk: Callable[[ChunkId], ChunkReply | None],
        on_chunk: Callable[[ChunkReply], None] = lambda reply: None,
    ) -> None:
        """Send an index or an archive, and the chunks that the other end asks for, until it has all it wants.

        :param op: what is being done, for messages
        :param chunk: gives a chunk that it asks for
        :param on_chunk: told of each that was sent
        :raises RemoteError: it did not take all
        """
        self._agreed(op)
        for at in range(0, len(data), _PART):
            part = bytes(data[at : at + _PART])
            self._say(ArchivePart(part) if archive else IndexPart(part))
            self._program.wait(lambda: self._program.queued < _AHEAD, op)
        self._say(ArchiveEnd() if archive else IndexEnd())
        while True:
            self._program.wait(lambda: bool(self._wanted) or self._farewell, op)
            if not self._wanted:
                break
            with self._program.lock:
                id = self._wanted.popleft()
            reply = chunk(id)
            if reply is None:
                self._say(ChunkAbsent(id))
                raise RemoteError(self.where, op, f"it asks for chunk {id}, which the index does not need")
            self._say(reply)
            on_chunk(reply)
            self._program.wait(lambda: self._program.queued < _AHEAD, op)
        self._program.finish()
        status = self._program.status()
        if status != 0:
            raise self._program.fail(op, f"the program there ended with status {status}")
