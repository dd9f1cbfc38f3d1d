"""A server without TLS at one address: a socket that is listened on, and its connections."""

from __future__ import annotations

import asyncio
import resource
import socket

from casync_compat.errors import UsageError
from casync_compat.serve.addresses import Address
from casync_compat.serve.application import Application
from casync_compat.serve.connections import Connections

__all__ = ["PlainServer", "listening"]

_BACKLOG = 1024
_CONNECTIONS = 20_000
"""That may be open at once, of a server."""
_SPARE = 256
"""Descriptors that are left for files."""


def listening(address: Address) -> socket.socket:
    """A socket that is listened on.

    :raises UsageError: it cannot be had
    """
    if address.fd is not None:
        return socket.socket(fileno=socket.dup(address.fd))
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((address.host, address.port))
        one.listen(_BACKLOG)
    except OSError as error:
        one.close()
        raise UsageError(f"cannot listen on {address}: {error.strerror}") from error
    return one


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
        self._connections = Connections(application, most)
        self._stopped = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self._serve(one))

    async def _serve(self, one: socket.socket) -> None:
        one.setblocking(False)
        server = await asyncio.get_running_loop().create_server(self._connections, sock=one, backlog=_BACKLOG)
        try:
            await self._stopped.wait()
        finally:
            server.close()
        self._connections.end()
        try:
            await self._connections.ended()
        finally:
            self._connections.abort()

    def stop(self) -> None:
        """Take nothing new, and end when what runs is done."""
        self._stopped.set()
