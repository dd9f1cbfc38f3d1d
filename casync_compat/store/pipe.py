"""One side of casync's protocol over two descriptors that were opened by somebody else: standard input and output.

Nothing blocks: while there is much to write, what comes is read all the same, unless the caller has enough of it. What
is held is a message that comes, and what was said and is not written yet. `protocol` knows what may be said.

    >>> pipe = Pipe(0, 1, Terms.READABLE_STORE)
    >>> while pipe.turn():
    ...     for message in pipe.messages():
    ...         pipe.say(answer(message))
"""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from casync_compat.closing import Closing
from casync_compat.errors import FileError, FormatError, RemoteError
from casync_compat.net.limiter import Limiter
from casync_compat.protocol import Abort, Connection, Message, Terms

__all__ = ["OTHER_SIDE", "Pipe"]

OTHER_SIDE = "the other side"
"""What messages call whoever is at the other end."""
_PIECE = 256 << 10
_WIDE = 1 << 20
_LAST_WORDS = 10.0
"""Seconds for which an end is tried to be said."""
_SAID = 1000
"""Bytes of a reason."""


class Pipe(Closing):
    """A conversation, begun with what is offered.

    :param source: descriptor to read
    :param sink: descriptor to write
    :param offered: what this side has
    :param limiter: of bytes a second that are written
    """

    def __init__(self, source: int, sink: int, offered: Terms, limiter: Limiter | None = None) -> None:
        self._in, self._out = source, sink
        self._connection = Connection(offered)
        self._queue: deque[memoryview] = deque()
        self.queued = 0
        """Bytes that were said and are not written yet."""
        self.gone = False
        """Whether nobody reads any more what is written."""
        self._limiter = limiter
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._blocking = {fd: os.get_blocking(fd) for fd in (source, sink)}
        for fd in self._blocking:
            os.set_blocking(fd, False)
        _widen(source, sink)
        self.say(self._connection.hello)

    def close(self) -> None:
        """Leave the descriptors as they were."""
        if self._wake < 0:
            return
        for fd, blocking in self._blocking.items():
            with suppress(OSError):
                os.set_blocking(fd, blocking)
        os.close(self._wake)
        self._wake = -1

    @property
    def wanted(self) -> Terms | None:
        """What the other side offers and wants; None until it has said so."""
        return self._connection.theirs

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self._connection.ended

    # ---- speaking

    def say(self, message: Message) -> None:
        """Have a message written behind all others."""
        data = self._connection.send(message)
        if not self.gone:
            self._queue.append(memoryview(data))
            self.queued += len(data)

    def wake(self) -> None:
        """Let `turn` return; may be called by any thread."""
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)

    def turn(self, *, read: bool = True, wait: bool = True) -> None:
        """Write what can be written and read what has come, once something can be.

        :param read: whether more is to be read
        :param wait: whether to wait for that, or a `wake`
        """
        owed = 0.0 if self._limiter is None else self._limiter.owed()
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if read and not self.ended:
            poll.register(self._in, select.POLLIN)
        if self._queue and not owed:
            poll.register(self._out, select.POLLOUT)
        timeout = (owed * 1000 + 1 if self._queue and owed else None) if wait else 0
        ready = {fd for fd, _ in poll.poll(timeout)}
        if self._wake in ready:
            with suppress(BlockingIOError):
                os.eventfd_read(self._wake)
        if self._queue and not owed:
            self._write()
        if read and self._in in ready and not self.ended:
            self._read()

    def _read(self) -> None:
        try:
            data = os.read(self._in, _PIECE)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        except OSError as error:
            raise FileError("standard input", "read", error) from error
        self._connection.receive(data)

    def _write(self) -> None:
        limiter = self._limiter
        try:
            while self._queue:
                if limiter is None:
                    written = os.writev(self._out, [*islice(self._queue, 64)])
                elif limiter.owed():
                    return
                else:
                    written = os.write(self._out, self._queue[0][: limiter.piece])
                    limiter.spend(written)
                self._written(written)
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionError):
            self.gone = True
            self._queue.clear()
            self.queued = 0
        except OSError as error:
            raise FileError("standard output", "write", error) from error

    def _written(self, size: int) -> None:
        self.queued -= size
        while size:
            first = self._queue.popleft()
            if len(first) > size:
                self._queue.appendleft(first[size:])
                return
            size -= len(first)

    # ---- listening

    def messages(self) -> Iterator[Message]:
        """What has come.

        :raises RemoteError: the other side says what it may not, or gives up
        """
        while True:
            try:
                message = self._connection.next_message()
            except FormatError as error:
                raise RemoteError(OTHER_SIDE, "go on", error.reason) from None
            if message is None:
                return
            if isinstance(message, Abort):
                why = message.reason.decode("utf-8", "backslashreplace") or f"error {message.error}"
                raise RemoteError(OTHER_SIDE, "go on", f"it gave up: {why}")
            yield message

    # ---- the end

    def finish(self) -> None:
        """Wait until all is written, or nobody reads it."""
        while self._queue:
            self.turn(read=False)

    def abort(self, number: int, reason: str) -> None:
        """Say that this side gives up, as far as somebody still listens.

        :param number: an error number
        """
        import time

        printable = "".join(c if c.isprintable() else "?" for c in reason)
        with suppress(Exception):
            self.say(Abort(number, printable.encode("utf-8", "backslashreplace")[:_SAID]))
            deadline = time.monotonic() + _LAST_WORDS
            while self._queue and time.monotonic() < deadline:
                poll = select.poll()
                poll.register(self._out, select.POLLOUT)
                poll.poll(100)
                self._write()


def _widen(*pipes: int) -> None:
    """Let pipes hold more, so that fewer switches move as much."""
    import fcntl

    for fd in pipes:
        with suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _WIDE)
