"""A web server that a bad network lies before: what `webserver` answers, spoiled as a script says, over TCP or TLS.

What is spoiled depends on a seed, the method, the path and how often it was asked for, never on time or on the order
in which threads come: a run can be repeated.

    >>> with fault_proxy(files, seeded(1, 0.2, Reset(0.5), Status(503))) as proxy:
    ...     proxy.url, proxy.asked
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.client import responses
from pathlib import Path
from typing import BinaryIO

from webserver import Reply, WebServer

__all__ = [
    "Cut",
    "Endless",
    "Fault",
    "FaultProxy",
    "Flip",
    "Heads",
    "Length",
    "Loris",
    "Moved",
    "OtherRange",
    "Reset",
    "Slow",
    "Status",
    "always",
    "fault_proxy",
    "first",
    "seeded",
]

_LONGEST = 30.0
"""Seconds after which nobody is kept waiting any more, whatever the script says."""


@dataclass(frozen=True)
class Reset:
    """The connection is reset in mid-body, after this share of it; 1.0 after all but the last byte."""

    share: float


@dataclass(frozen=True)
class Cut:
    """The connection ends in mid-body with a right Content-Length, as `Reset`."""

    share: float


@dataclass(frozen=True)
class Status:
    """Another status, with Retry-After if it is given."""

    code: int
    retry_after: str | None = None


@dataclass(frozen=True)
class Flip:
    """One bit of the body is another."""


@dataclass(frozen=True)
class OtherRange:
    """A range begins elsewhere than was asked for, and says so, or not."""

    honest: bool


@dataclass(frozen=True)
class Loris:
    """After so many bytes of the answer no more come, or one every so many seconds."""

    after: int
    every: float | None = None


@dataclass(frozen=True)
class Slow:
    """The answer comes so many seconds later."""

    seconds: float


@dataclass(frozen=True)
class Length:
    """Content-Length is so many bytes more than there are, or less."""

    more: int


@dataclass(frozen=True)
class Endless:
    """The body has no end."""


@dataclass(frozen=True)
class Heads:
    """So many bytes of header fields."""

    size: int


@dataclass(frozen=True)
class Moved:
    """A redirect to the same path below another URL."""

    url: str
    status: int = 302


Fault = Reset | Cut | Status | Flip | OtherRange | Loris | Slow | Length | Endless | Heads | Moved
Script = Callable[[str, str, int], Fault | None]
"""What befalls a request: its method, its path, and how often the two were asked for before."""


def always(fault: Fault, *, paths: str = "") -> Script:
    """Each request whose path has `paths` in it."""
    return lambda method, path, before: fault if paths in path else None


def first(fault: Fault, times: int = 1, *, paths: str = "") -> Script:
    """Each request for the first so many times."""
    return lambda method, path, before: fault if before < times and paths in path else None


def seeded(seed: int, share: float, *faults: Fault) -> Script:
    """This share of all requests, by a seed."""

    def script(method: str, path: str, before: int) -> Fault | None:
        key = f"{seed} {method} {path} {before}".encode()
        number = int.from_bytes(hashlib.sha256(key).digest()[:8], "big")
        return faults[number % len(faults)] if number / 2**64 < share else None

    return script


@dataclass
class FaultProxy:
    """What it was asked, and what it gives.

    :ivar server: answers, before anything is spoiled; its `asked` are the requests
    :ivar whole: how often each method and path was answered with nothing spoiled
    :ivar tls: contexts for connections in turn, the last of them for all further ones; none for plain HTTP
    """

    server: WebServer
    script: Script
    tls: Sequence[ssl.SSLContext] = ()
    whole: Counter[tuple[str, str]] = field(default_factory=Counter)
    url: str = ""
    _before: Counter[tuple[str, str]] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _connections: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        scheme = "https" if self.tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._ended.set()
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError, ValueError), contextlib.ExitStack() as stack:
            stack.callback(connection.close)
            if self.tls:
                with self._lock:
                    number, self._connections = self._connections, self._connections + 1
                context = self.tls[min(number, len(self.tls) - 1)]
                connection = stack.enter_context(context.wrap_socket(connection, server_side=True))
            stream = stack.enter_context(connection.makefile("rb"))
            while self._answer(connection, stream):
                pass

    def _answer(self, connection: socket.socket, stream: BinaryIO) -> bool:
        """One request and its answer. Whether the connection goes on."""
        words = stream.readline().decode("latin-1").split()
        if len(words) != 3:
            return False
        method, path, _ = words
        fields = {}
        while line := stream.readline().decode("latin-1").strip():
            name, _, value = line.partition(":")
            fields[name.lower()] = value.strip()
        body = stream.read(int(fields.get("content-length", 0)))
        with self._lock:
            before = self._before[method, path]
            self._before[method, path] += 1
        fault = self.script(method, path, before)
        reply = self._spoiled(fault, method, path, fields, body)
        if fault is None:
            self.whole[method, path] += 1
        return self._send(connection, reply, fault, bodiless=method == "HEAD")

    def _spoiled(
        self, fault: Fault | None, method: str, path: str, fields: dict[str, str], body: bytes
    ) -> Reply:
        match fault:
            case Status(code, retry_after):
                self.server.asked.append((method, path, fields))
                return Reply(code, b"", [("Retry-After", retry_after)] if retry_after is not None else [])
            case Moved(url, status):
                self.server.asked.append((method, path, fields))
                return Reply(status, b"", [("Location", url + path)])
            case Slow(seconds):
                self._ended.wait(min(seconds, _LONGEST))
        reply = self.server.answer(method, path, fields, body)
        match fault:
            case Flip() if reply.body:
                middle = len(reply.body) // 2
                reply.body = reply.body[:middle] + bytes([reply.body[middle] ^ 1]) + reply.body[middle + 1 :]
            case OtherRange(honest) if reply.status == 206:
                where = dict(reply.fields)["Content-Range"]
                start = int(where.split()[1].split("-")[0])
                other = f"bytes {start + 1}-{start + len(reply.body)}/*"
                reply.fields = [("Content-Range", other if honest else where)]
                reply.body = reply.body[1:] + b"\0"
            case Length(more):
                reply.length = max(0, len(reply.body) + more)
            case Endless():
                reply.length = -1
            case Heads(size):
                line = ("X-Filler", "x" * 1000)
                reply.fields = [*reply.fields, *[line] * (size // 1000)]
        return reply

    def _send(self, connection: socket.socket, reply: Reply, fault: Fault | None, *, bodiless: bool) -> bool:
        lines = [f"HTTP/1.1 {reply.status} {responses.get(reply.status, '')}"]
        lines += [f"{name}: {value}" for name, value in reply.fields]
        if reply.length != -1:
            lines.append(f"Content-Length: {len(reply.body) if reply.length is None else reply.length}")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        body = b"" if bodiless else reply.body
        match fault:
            case Reset(share) | Cut(share) if body:
                connection.sendall(head + body[: min(int(share * len(body)), len(body) - 1)])
                if isinstance(fault, Reset):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
            case Loris(after, every):
                self._trickle(connection, head + body, after, every)
                return False
            case Endless():
                connection.sendall(head + body)
                deadline = time.monotonic() + _LONGEST
                while time.monotonic() < deadline and not self._ended.is_set():
                    connection.sendall(bytes(1 << 16))
                return False
        connection.sendall(head + body)
        return reply.length is None

    def _trickle(self, connection: socket.socket, data: bytes, after: int, every: float | None) -> None:
        connection.sendall(data[:after])
        deadline = time.monotonic() + _LONGEST
        while time.monotonic() < deadline and not self._ended.wait(every or _LONGEST):
            connection.sendall(data[after : after + 1])
            after += 1


@contextlib.contextmanager
def fault_proxy(
    files: dict[str, bytes], script: Script, *, certificates: Sequence[Path] = ()
) -> Iterator[FaultProxy]:
    """A proxy that runs as long as the block.

    :param files: by path, with the leading slash
    :param certificates: PEM files with key, for connections in turn; with any it speaks TLS
    """
    contexts = []
    for path in certificates:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        contexts.append(context)
    proxy = FaultProxy(WebServer("", files), script, contexts)
    try:
        yield proxy
    finally:
        proxy.close()
