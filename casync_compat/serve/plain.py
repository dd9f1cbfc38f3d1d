"""A server without TLS at one address: uvicorn, embedded, on a socket that is listened on."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from uvicorn import Server

from casync_compat.serve.addresses import BACKLOG
from casync_compat.serve.application import Application
from casync_compat.serve.http1 import ClientConnection, HttpConfig, connections_of

__all__ = ["PlainServer"]

_CONNECTIONS = 20_000
"""That may be open at once, of a server."""
_SPARE = 256
"""Descriptors that are left for files."""
_QUIET = 30.0
"""Seconds in which the whole head of a request has to come."""
_LOOK_EVERY = 1.0


class _Embedded(Server):
    """uvicorn's, for whom signals are somebody else's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class PlainServer:
    """One at work.

    :param one: that is listened on; it is closed at the end
    :ivar task: which ends when the last client has gone after `stop`
    """

    def __init__(self, application: Application, one: socket.socket) -> None:
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = (
            _CONNECTIONS
            if files == resource.RLIM_INFINITY
            else min(_CONNECTIONS, max(files - _SPARE, files // 2))
        )
        self._server = _Embedded(HttpConfig(application, most, _QUIET, BACKLOG))
        self.task = asyncio.get_running_loop().create_task(self._serve(one))

    @property
    def connections(self) -> list[ClientConnection]:
        """Clients that are there."""
        return connections_of(self._server.server_state)

    async def _serve(self, one: socket.socket) -> None:
        one.setblocking(False)
        looking = asyncio.get_running_loop().create_task(self._look())
        try:
            await self._server.serve(sockets=[one])
        finally:
            looking.cancel()
            one.close()
            for connection in self.connections:
                connection.transport.abort()

    async def _look(self) -> None:
        """Send those away that do nothing."""
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            now = monotonic()
            for connection in self.connections:
                connection.look(now)

    def stop(self) -> None:
        """Take nothing new, and end when what runs is done."""
        self._server.should_exit = True
