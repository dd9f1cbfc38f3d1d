"""A web server on loopback for tests: files of a dictionary, and answers as a test wants them, faults too."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

__all__ = ["Reply", "WebServer", "web_server"]

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass
class Reply:
    """An answer.

    :ivar length: what Content-Length says; None for the truth, -1 for none and a closed connection at the end
    :ivar reset: break the connection off instead of ending the body
    """

    status: int = 200
    body: bytes = b""
    fields: list[tuple[str, str]] = field(default_factory=list)
    length: int | None = None
    reset: bool = False


@dataclass
class WebServer:
    """What the server has, and what it was asked.

    :ivar files: by path, with the leading slash
    :ivar special: tried before `files`; None goes on
    :ivar asked: method, path and header fields of each request
    :ivar ranges: whether ranges are given
    :ivar most: how many requests were under way at once
    """

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    special: Callable[[str, str, dict[str, str], bytes], Reply | None] = lambda method, path, fields, body: (
        None
    )
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    ranges: bool = True
    most: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            yield
        finally:
            with self._lock:
                self._now -= 1

    def answer(self, method: str, target: str, fields: dict[str, str], body: bytes) -> Reply:
        self.asked.append((method, target, fields))
        special = self.special(method, target, fields, body)
        if special is not None:
            return special
        path = unquote(target.partition("?")[0])
        if method == "PUT":
            self.files[path] = body
            return Reply(201, fields=[("ETag", f'"{hash(body)}"')])
        if method == "DELETE":
            return Reply(204 if self.files.pop(path, None) is not None else 404)
        content = self.files.get(path)
        if content is None:
            return Reply(404, b"nothing")
        tag = [("ETag", f'"{hash(content)}"'), ("Last-Modified", formatdate(usegmt=True))]
        match = _RANGE.fullmatch(fields.get("range", ""))
        if match and self.ranges:
            start = int(match[1])
            end = min(int(match[2] or len(content)) + 1, len(content))
            if start >= len(content):
                return Reply(416, fields=[("Content-Range", f"bytes */{len(content)}")])
            where = f"bytes {start}-{end - 1}/{len(content)}"
            return Reply(206, content[start:end], [*tag, ("Content-Range", where)])
        return Reply(200, content, tag)


def _handler(server: WebServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_any(self) -> None:
            size = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(size)
            fields = {name.lower(): value for name, value in self.headers.items()}
            with server.counted():
                reply = server.answer(self.command, self.path, fields, body)
            self.send_response_only(reply.status)
            for name, value in reply.fields:
                self.send_header(name, value)
            if reply.length != -1:
                self.send_header(
                    "Content-Length", str(len(reply.body) if reply.length is None else reply.length)
                )
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)
            whole = reply.length is None or reply.length == len(reply.body)
            if reply.reset:
                self.wfile.flush()
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = self.close_connection or reply.reset or not whole

        do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = handle_any

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):
                super().handle()

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def shutdown_request(self, request: object) -> None:
        # Without a shutdown first, so that a connection can be reset.
        request.close()  # type: ignore[attr-defined]


@contextlib.contextmanager
def web_server() -> Iterator[WebServer]:
    """A server that runs as long as the block."""
    state = WebServer("")
    with _Server(("127.0.0.1", 0), _handler(state)) as server:
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
