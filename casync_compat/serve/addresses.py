"""Where a server listens, as a value, and the socket that is listened on there."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from casync_compat.errors import UsageError

__all__ = ["BACKLOG", "UNIX", "Address", "listening"]

BACKLOG = 1024
"""Clients that may wait to be taken."""

UNIX = "unix:"
"""What the name of a Unix socket begins with."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen.

    :ivar host: an address of this machine, not a name; of a Unix socket, which is inherited, `unix:` and its path
    :ivar fd: of a socket that is listened on already; None where that is to be done
    """

    host: str
    port: int
    fd: int | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """``127.0.0.1:8080``, ``[::1]:8080`` or ``:8080``.

        :raises UsageError: it is no such address
        """
        host, colon, port = text.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535 or len(port) > 5:
            raise UsageError(f"{text!r} is no address to listen on; write ADDRESS:PORT, as 127.0.0.1:8080")
        host = host.removeprefix("[").removesuffix("]")
        try:
            found = socket.getaddrinfo(
                host or "0.0.0.0", int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except OSError as error:
            raise UsageError(f"{text!r} is no address to listen on: {error.strerror}") from error
        return cls(str(found[0][4][0]), int(port))

    def taken(self, one: socket.socket) -> Address:
        """The same, with the port that a socket has which is bound to it."""
        return self if self.fd is not None else Address(self.host, int(one.getsockname()[1]))

    def __str__(self) -> str:
        if self.host.startswith(UNIX):
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listening(address: Address) -> socket.socket:
    """A socket that is listened on.

    :raises UsageError: it cannot be had
    """
    if address.fd is not None:
        return socket.socket(fileno=socket.dup(address.fd))
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # With its protocol: asyncio has what is written sent at once (TCP_NODELAY) only where the socket says that.
    one = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((address.host, address.port))
        one.listen(BACKLOG)
    except OSError as error:
        one.close()
        raise UsageError(f"cannot listen on {address}: {error.strerror}") from error
    return one
