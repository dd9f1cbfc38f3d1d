"""A stub of Google Cloud Storage's XML interface on loopback: objects with generations, and listings in pages.

Requests and answers are those of https://cloud.google.com/storage/docs/xml-api/reference-methods. No server that
could be had speaks it well enough for obstore, so this stands in; it knows one bucket, and believes everybody.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

__all__ = ["gcs_stub"]

BUCKET = "bucket"
_PAGE = 50


class _Objects:
    """What is stored: content, generation and date by key."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.objects: dict[str, tuple[bytes, int, float]] = {}
        self.generation = 1000


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stored: ClassVar[_Objects]

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, body: bytes = b"", **fields: str) -> None:
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _fail(self, status: int, code: str) -> None:
        self._answer(status, f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>".encode())

    @property
    def _key(self) -> str | None:
        """The key of the object that is asked for, None when it is in another bucket."""
        bucket, _, key = unquote(urlsplit(self.path).path).lstrip("/").partition("/")
        return key if bucket == BUCKET else None

    @staticmethod
    def _fields(content: bytes, generation: int, date: float) -> dict[str, str]:
        return {
            "ETag": f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"',
            "x_goog_generation": str(generation),
            "Last_Modified": formatdate(date, usegmt=True),
        }

    def do_GET(self) -> None:
        key = self._key
        if key is None:
            self._fail(404, "NoSuchBucket")
        elif not key:
            self._list()
        elif key not in self.stored.objects:
            self._fail(404, "NoSuchKey")
        else:
            self._give(*self.stored.objects[key])

    def _give(self, content: bytes, generation: int, date: float) -> None:
        fields = self._fields(content, generation, date)
        wanted = self.headers.get("Range")
        if wanted is None or self.command == "HEAD":
            self.send_response(200)
            for name, value in fields.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)
            return
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        begin, end = int(first), min(int(last or len(content)), len(content) - 1)
        if begin >= len(content):
            self._fail(416, "InvalidRange")
            return
        self._answer(
            206, content[begin : end + 1], **fields, Content_Range=f"bytes {begin}-{end}/{len(content)}"
        )

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        key, asked = self._key, self.headers.get("x-goog-if-generation-match")
        if not key:
            self._fail(404, "NoSuchBucket")
            return
        with self.stored.lock:
            found = self.stored.objects.get(key)
            matches = asked is None or int(asked) == (0 if found is None else found[1])
            if matches:
                self.stored.generation += 1
                found = self.stored.objects[key] = content, self.stored.generation, time.time()
        if matches and found is not None:
            self._answer(200, **self._fields(*found))
        else:
            self._fail(412, "PreconditionFailed")

    def do_DELETE(self) -> None:
        with self.stored.lock:
            found = self.stored.objects.pop(self._key or "", None)
        if found is None:
            self._fail(404, "NoSuchKey")
        else:
            self._answer(204)

    def _list(self) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        after = query.get("continuation-token", query.get("start-after", ""))
        with self.stored.lock:
            found = sorted(
                (key, *value)
                for key, value in self.stored.objects.items()
                if key.startswith(query.get("prefix", "")) and key > after
            )
        page = found[:_PAGE]
        more = len(found) > _PAGE
        items = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(content)}</Size><Generation>{generation}</Generation>"
            f"<LastModified>{time.strftime('%Y-%m-%dT%H:%M:%S.000Z', time.gmtime(date))}</LastModified>"
            f"<ETag>{self._fields(content, generation, date)['ETag']}</ETag></Contents>"
            for key, content, generation, date in page
        )
        token = f"<NextContinuationToken>{escape(page[-1][0])}</NextContinuationToken>" if more else ""
        body = (
            f"<?xml version='1.0'?><ListBucketResult><Name>{BUCKET}</Name>"
            f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{token}{items}</ListBucketResult>"
        )
        self._answer(200, body.encode(), Content_Type="application/xml")


class _Server(ThreadingHTTPServer):
    request_queue_size = 256  # as many as are asked for at once


@contextmanager
def gcs_stub() -> Iterator[str]:
    """The URL of a stub that runs until the block ends."""
    handler = type("Handler", (_Handler,), {"stored": _Objects()})
    with _Server(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
