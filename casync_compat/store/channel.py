"""Many requests at a time to one SFTP server, through a program: `ssh -s HOST sftp`.

A task is a generator: it yields requests, is given the answers to all of them, and so on until it returns. Tasks run
side by side on whichever thread reads, so that a hundred files cost hardly more waits than one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from itertools import islice
from typing import Generic, TypeAlias, TypeVar

from casync_compat.closing import Closing
from casync_compat.errors import CasyncError, FormatError, RemoteError, show_path
from casync_compat.protocol.sftp import (
    Packet,
    PacketBody,
    PacketKind,
    PacketReader,
    Status,
    number,
    packet,
    string,
)
from casync_compat.store.program import Program

__all__ = ["Channel", "Request", "Run", "Server", "SftpAnswer", "Task", "check", "status_of"]

R = TypeVar("R")

Request: TypeAlias = tuple[PacketKind, bytes]
"""A packet without its number."""

Task: TypeAlias = Generator[list[Request], list["SftpAnswer"], R]

_SPEAK = "speak SFTP"
_LEAST = 32 << 10
"""Bytes that every server reads or writes at once."""
_MOST = 256 << 10


class SftpAnswer:
    """The answer to a request."""

    __slots__ = ("body", "kind")

    def __init__(self, kind: PacketKind, body: PacketBody) -> None:
        self.kind = kind
        self.body = body


def status_of(answer: SftpAnswer) -> tuple[int, str] | None:
    """Code and text, where an answer is a mere status."""
    if answer.kind is not PacketKind.STATUS:
        return None
    code = answer.body.number()
    text = show_path(answer.body.string()) if answer.body.left >= 4 else ""
    return code, text


def check(answer: SftpAnswer, kind: PacketKind, where: str, op: str) -> PacketBody:
    """What an answer of a kind has in it; of a status nothing.

    :raises RemoteError: it is another
    """
    if answer.kind is kind and kind is not PacketKind.STATUS:
        return answer.body
    found = status_of(answer)
    if found is None:
        raise RemoteError(where, op, "the answer is not to the question")
    code, text = found
    if code != Status.OK or kind is not PacketKind.STATUS:
        raise RemoteError(where, op, text or f"it failed with status {code}")
    return answer.body


class Run(Generic[R]):
    """Tasks under way, and what came of them, in order."""

    def __init__(self, tasks: Iterable[Task[R]]) -> None:
        self._tasks = enumerate(tasks)
        self.results: dict[int, R] = {}
        self.error: CasyncError | None = None
        self.active = 0

    def more(self, most: int) -> list[tuple[int, Task[R]]]:
        """Tasks to begin with now."""
        if self.error is not None:
            return []
        found = list(islice(self._tasks, max(0, most - self.active)))
        self.active += len(found)
        return found

    @property
    def done(self) -> bool:
        """Whether all have ended."""
        return not self.active


class _Place(Generic[R]):
    """Where a task stands."""

    __slots__ = ("answers", "index", "left", "run", "task")

    def __init__(self, run: Run[R], index: int, task: Task[R]) -> None:
        self.run = run
        self.index = index
        self.task = task
        self.answers: list[SftpAnswer] = []
        self.left = 0


class Channel(Closing):
    """A conversation with one server.

    :param argv: what to start
    :param where: what messages call the server
    :param on_line: gets what ssh says on standard error
    :param silence: as of `Program`
    :raises RemoteError: there is none

    :ivar extensions: what it offers beyond version 3
    :ivar most_read: bytes that it reads at once
    :ivar most_written: bytes that it writes at once
    """

    at_once = 64
    """Tasks of a run that are under way."""

    def __init__(
        self,
        argv: Sequence[str],
        where: str,
        *,
        on_line: Callable[[str], None] = lambda line: None,
        silence: float | None = None,
    ) -> None:
        self.where = where
        self.extensions: dict[bytes, bytes] = {}
        self.most_read = self.most_written = _LEAST
        self._reader = PacketReader()
        self._pending: dict[int, tuple[_Place[object], int] | None] = {}
        self._number = 0
        self._version: int | None = None
        self._program = Program(argv, where, self._receive, on_line=on_line, silence=silence)
        self._program.send(packet(PacketKind.INIT, number(3)))
        self._program.wait(lambda: self._version is not None, "begin")
        if b"limits@openssh.com" in self.extensions:
            self.run([self._limits()], "begin")

    def _limits(self) -> Task[None]:
        (answer,) = yield [(PacketKind.EXTENDED, string(b"limits@openssh.com"))]
        if answer.kind is PacketKind.EXTENDED_REPLY:
            largest, most_read, most_written, _ = (answer.body.long() for _ in range(4))
            self.most_read = min(_MOST, most_read or largest or _LEAST)
            self.most_written = min(_MOST, most_written or largest or _LEAST)

    @property
    def broke(self) -> bool:
        """Whether it had begun, and ended though nobody wanted that."""
        return self._program.broke

    def close(self) -> None:
        self._program.close()

    def start(self, tasks: Iterable[Task[R]]) -> Run[R]:
        """Begin with tasks; `wait` gives what comes of them."""
        run = Run(tasks)
        with self._program.lock:
            self._begin(run)
            self._program.flush()
        return run

    def wait(self, run: Run[R], op: str) -> list[R]:
        """What came of all tasks, in order.

        :raises CasyncError: what the first raised that failed; the others that had begun have ended
        """
        self._program.wait(lambda: run.done, op)
        if run.error is not None:
            raise run.error
        return [run.results[index] for index in sorted(run.results)]

    def run(self, tasks: Iterable[Task[R]], op: str) -> list[R]:
        """Both."""
        return self.wait(self.start(tasks), op)

    def post(self, kind: PacketKind, body: bytes) -> None:
        """Send a request whose answer is of no interest. Only within a task."""
        self._send(kind, body, None)

    # ---- with the lock

    def _begin(self, run: Run[R]) -> None:
        for index, task in run.more(self.at_once):
            self._advance(_Place(run, index, task), None)

    def _advance(self, place: _Place[R], answers: list[SftpAnswer] | None) -> None:
        run = place.run
        try:
            requests = next(place.task) if answers is None else place.task.send(answers)
        except StopIteration as stop:
            run.results[place.index] = stop.value
        except CasyncError as error:
            run.error = run.error or error
        else:
            place.answers = [SftpAnswer(PacketKind.STATUS, PacketBody(b""))] * len(requests)
            place.left = len(requests)
            for index, (kind, body) in enumerate(requests):
                self._send(kind, body, (place, index))
            return
        run.active -= 1
        self._begin(run)

    def _send(self, kind: PacketKind, body: bytes, pending: tuple[_Place[R], int] | None) -> None:
        self._number = (self._number + 1) & 0xFFFFFFFF
        self._pending[self._number] = pending  # type: ignore[assignment]
        self._program.queue(packet(kind, number(self._number) + body))

    def _receive(self, data: bytes) -> None:
        self._reader.receive(data)
        try:
            while (found := self._reader.next_packet()) is not None:
                self._take(found)
        except FormatError as error:
            raise self._program.fail(_SPEAK, error.reason) from None

    def _take(self, found: Packet) -> None:
        body = PacketBody(found.body)
        id = body.number()
        if found.kind is PacketKind.VERSION:
            if id < 3:
                raise FormatError(f"it speaks version {id}, which is too old")
            while body.left:
                name = body.string()
                self.extensions[name] = body.string()
            self._version = id
            return
        if id not in self._pending:
            raise FormatError("it answers what nobody asked")
        pending = self._pending.pop(id)
        if pending is not None:
            place, index = pending
            place.answers[index] = SftpAnswer(found.kind, body)
            place.left -= 1
            if not place.left:
                self._advance(place, place.answers)


class Server(Closing):
    """A server, and the channel to it while there is one. The parameters are those of `Channel`."""

    def __init__(
        self,
        argv: Sequence[str],
        where: str,
        *,
        on_line: Callable[[str], None] = lambda line: None,
        silence: float | None = None,
    ) -> None:
        self.argv = tuple(argv)
        self.where = where
        self._on_line = on_line
        self._silence = silence
        self._lock = threading.Lock()
        self._channel: Channel | None = None

    def channel(self) -> Channel:
        """The channel, begun when it is needed.

        :raises RemoteError: there is no such server
        """
        with self._lock:
            if self._channel is None:
                self._channel = Channel(self.argv, self.where, on_line=self._on_line, silence=self._silence)
            return self._channel

    def drop(self, channel: Channel) -> bool:
        """Have the next one begin another channel instead of this one; whether it broke, or else it stays."""
        if not channel.broke:
            return False
        with self._lock:
            if self._channel is channel:
                self._channel = None
        channel.close()
        return True

    def close(self) -> None:
        with self._lock:
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()
