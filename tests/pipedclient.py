"""A client of casync's protocol that does as a test says, and the server that it speaks with, over two pipes."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from casync_compat.protocol import Connection, Message, MessageReader, Terms, encode
from casync_compat.store.pipe import Pipe

__all__ = ["Client"]

LIMIT = 30
"""Seconds after which a test has failed."""


class Client:
    """A conversation.

    :param serve: the server, run in a thread
    :param offered: what it offers
    :param terms: what is wanted of it

    :ivar error: what the server raised
    """

    def __init__(self, serve: Callable[[Pipe], None], offered: Terms, terms: Terms) -> None:
        there, self.out = os.pipe()
        self.source, back = os.pipe()
        self.error: BaseException | None = None
        self.connection = Connection(terms)
        self._reader = MessageReader()
        self._thread = threading.Thread(target=self._serve, args=(serve, there, back, offered), daemon=True)
        self._thread.start()
        self.fds = {self.out, self.source}

    def _serve(self, serve: Callable[[Pipe], None], source: int, sink: int, offered: Terms) -> None:
        try:
            with Pipe(source, sink, offered) as pipe:
                try:
                    serve(pipe)
                except BaseException as error:
                    self.error = error
                    pipe.abort(errno.EIO, str(error))
        finally:
            os.close(source)
            os.close(sink)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hang_up()
        self._close(self.source)
        self.join()

    def _close(self, fd: int) -> None:
        if fd in self.fds:
            self.fds.remove(fd)
            os.close(fd)

    def hang_up(self) -> None:
        """Say nothing more."""
        self._close(self.out)

    def join(self) -> BaseException | None:
        """Wait for the server; returns what it raised."""
        self._thread.join(LIMIT)
        assert not self._thread.is_alive(), "the server does not end"
        return self.error

    def greet(self) -> None:
        """Say what is wanted."""
        self.send(encode(self.connection.hello))

    def say(self, *messages: Message) -> None:
        """Say something, allowed or not."""
        for message in messages:
            self.send(encode(message))

    def send(self, data: bytes) -> None:
        """Send bytes, as far as somebody reads them."""
        with suppress(BrokenPipeError):
            while data:
                data = data[os.write(self.out, data) :]

    def hear(self) -> Message | None:
        """The next that the server says; None when it says nothing more."""
        while (message := self._reader.next_message()) is None:
            if self._reader.ended:
                return None
            self._reader.receive(os.read(self.source, 1 << 16))
        return message

    def hear_all(self) -> list[Message]:
        """All that it says from now on."""
        found = []
        while (message := self.hear()) is not None:
            found.append(message)
        return found
