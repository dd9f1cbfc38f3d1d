"""Sockets, TLS and signals around the application: for each address a server, uvicorn, over TLS granian, both embedded.

SIGTERM and SIGINT: nothing new is taken, what runs may end within a time. SIGHUP: tokens and certificates are read
again; for these the servers are begun anew while the old ones end what they have.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from casync_compat.errors import UsageError
from casync_compat.fs.notify import notify
from casync_compat.serve.addresses import BACKLOG, UNIX, Address, listening
from casync_compat.serve.application import Application

if TYPE_CHECKING:
    from granian.server.embed import Server

__all__ = ["Tls", "check_installed", "serve"]

_CONNECTIONS = 20_000
"""That may be open at once; more wait to be taken."""
_HEADERS = 64 << 10
_LOOK_AGAIN = 0.01
"""Seconds after which it is looked again whether a server listens."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificates.

    :ivar certificate: a file, in PEM
    :ivar key: of its key
    :ivar clients: a file of authorities, one of which clients' certificates must be of; None asks for none
    """

    certificate: str
    key: str
    clients: str | None = None


def check_installed(*, tls: bool) -> None:
    """:raises UsageError: a library is missing"""
    try:
        if tls:
            import granian  # noqa: F401
        else:
            import httptools  # noqa: F401
            import uvicorn  # noqa: F401
    except ImportError as error:
        what = "serving over TLS needs granian" if tls else "serving needs uvicorn and httptools"
        raise UsageError(f"{what}; install pycasync[serve]") from error


async def serve(
    application: Application,
    addresses: Sequence[Address],
    tls: Tls | None,
    ready: Callable[[Sequence[Address]], None],
    again: Callable[[], None],
    notified: str = "",
) -> None:
    """Serve until a signal ends it.

    :param ready: called when connections are taken, with the addresses, whose ports are known now
    :param again: called on SIGHUP: reads again what may have changed
    :param notified: the socket of systemd that is told when the server is ready; empty for none
    :raises UsageError: an address cannot be listened on, or the certificates cannot be used
    """
    _allow_connections()
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    renewed = asyncio.Event()

    def renew() -> None:
        again()
        renewed.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    loop.add_signal_handler(signal.SIGHUP, renew)
    where: list[Address] = []
    running: list[_Server] = []
    old: list[_Server] = []
    try:
        for address in addresses:
            if tls is None:
                one = listening(address)
                where.append(address.taken(one))
                running.append(_plain(application, one))
            else:
                where.append(_with_port(address))
                running.append(_Granian(application, where[-1], tls))
        if tls is not None:
            await _listening(where, running)
        ready(where)
        notify(notified, "READY=1")
        while not ended.is_set():
            waits = [loop.create_task(event.wait()) for event in (ended, renewed)]
            tasks = [each.task for each in running]
            await asyncio.wait([*waits, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            _check(running)
            if renewed.is_set():
                renewed.clear()
                if tls is not None:
                    old += running
                    running = [_Granian(application, address, tls) for address in where]
                    for each in old:
                        each.stop()
                    old = [each for each in old if not each.task.done()]
    finally:
        notify(notified, "STOPPING=1")
        for each in running:
            each.stop()
        await _drained([*running, *old], application.limits.drain)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)
        application.close()


def _allow_connections() -> None:
    """Have as many open files as this process may have, whatever it was given to begin with: mostly 1024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # a sandbox may forbid it
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class _Server(Protocol):
    """A server at work: its task, which ends after `stop`."""

    task: asyncio.Task[None]

    def stop(self) -> None: ...


class _Granian:
    """One over TLS."""

    def __init__(self, application: Application, address: Address, tls: Tls) -> None:
        self._server = _server(application, address, tls)
        self.task = asyncio.get_running_loop().create_task(self._server.serve())

    def stop(self) -> None:
        """Take nothing new, and end when what runs is done."""
        self._server.stop()


def _plain(application: Application, one: socket.socket) -> _Server:
    from casync_compat.serve.plain import PlainServer  # and with it uvicorn

    return PlainServer(application, one)


def _check(running: Sequence[_Server]) -> None:
    """:raises UsageError: one has ended by itself"""
    for each in running:
        if each.task.done():
            raise UsageError(f"the server has ended by itself: {each.task.exception()}")


async def _listening(where: Sequence[Address], running: Sequence[_Server]) -> None:
    """Return when connections are taken, which granian does not tell."""
    for address in where:
        if address.fd is not None:
            continue
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)
        while True:
            _check(running)
            try:
                _, writer = await asyncio.open_connection(host, address.port)
            except OSError:
                await asyncio.sleep(_LOOK_AGAIN)
            else:
                writer.close()
                break


async def _drained(running: Sequence[_Server], limit: float) -> None:
    if not running:
        return
    tasks = [each.task for each in running]
    _, left = await asyncio.wait(tasks, timeout=limit)
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=1)


def _server(application: Application, address: Address, tls: Tls) -> Server:
    from granian.constants import HTTPModes, Interfaces, SSLProtocols
    from granian.http import HTTP1Settings, HTTP2Settings
    from granian.server.embed import Server

    try:
        server = Server(
            application,
            address="127.0.0.1" if address.host.startswith(UNIX) else address.host,
            port=address.port,
            interface=Interfaces.ASGINL,
            http=HTTPModes.auto,
            websockets=False,
            backlog=BACKLOG,
            backpressure=_CONNECTIONS,
            http1_settings=HTTP1Settings(max_buffer_size=_HEADERS),
            http2_settings=HTTP2Settings(max_headers_size=_HEADERS),
            log_enabled=False,
            ssl_cert=Path(tls.certificate),
            ssl_key=Path(tls.key),
            ssl_protocol_min=SSLProtocols.tls12,
            ssl_ca=None if tls.clients is None else Path(tls.clients),
            ssl_client_verify=tls.clients is not None,
        )
    except OSError as error:
        raise UsageError(f"the certificate or its key cannot be used: {error}") from error
    if address.fd is not None:
        _hand_over(server, address.fd, unix=address.host.startswith(UNIX))
    return server


def _hand_over(server: Any, fd: int, *, unix: bool) -> None:
    """Have granian take a socket that it did not make. It has no other way than that by which it gives its own to its
    worker processes."""
    from granian import net

    try:
        holder: Any = net.SocketHolder  # type: ignore[attr-defined]  # exported, but not declared so
        assert callable(server._init_shared_socket)
    except AttributeError as error:
        raise UsageError(
            "this version of granian takes no sockets that are listened on already; use --listen"
        ) from error

    def take() -> None:
        taken = os.dup(fd)  # each server closes its own
        os.set_blocking(taken, False)
        server._ssp, server._shd = None, holder(taken, unix, BACKLOG)

    server._init_shared_socket = take


def _with_port(address: Address) -> Address:
    """The same, with a port that is free where none was said, and that can be listened on.

    :raises UsageError: it cannot
    """
    if address.fd is not None:
        return address
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((address.host, address.port))
        except OSError as error:
            raise UsageError(f"cannot listen on {address}: {error.strerror}") from error
        return address.taken(tried)
