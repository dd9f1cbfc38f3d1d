"""The ASGI application: how a request finds its way from credentials and path to an answer, and what becomes of errors.

It needs no server library: call it with a scope, `receive` and `send`.

    >>> application = Application(Served({"default": store}, LocalFiles(b"/srv")))
    >>> await application({"type": "http", "method": "GET", "path": "/healthz", "headers": []}, receive, send)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Protocol

from casync_compat.errors import CasyncError, ChunkCorrupt, ChunkMissing, RemoteError
from casync_compat.serve.access import NOTHING, Grant, Rules
from casync_compat.serve.chunks import Busy, ChunkBody, ServedChunks, is_near
from casync_compat.serve.files import ServedFiles
from casync_compat.serve.log import AccessLog
from casync_compat.serve.metrics import Metrics
from casync_compat.serve.pace import Paces
from casync_compat.serve.puts import Puts
from casync_compat.serve.replies import BINARY, Field, Reply, is_other, not_modified, text, wanted_range
from casync_compat.serve.requests import BodyLost, BodyTooLarge, BodyTooSlow, Receive, Scope, Send, WebRequest
from casync_compat.serve.routes import (
    ChunkRoute,
    FileRoute,
    NoRoute,
    OperatorRoute,
    OtherRoute,
    chunk_route,
    route,
)
from casync_compat.serve.settings import FILES, Limits, Served
from casync_compat.serve.threads import Pools
from casync_compat.store.leases import StoreBusy

__all__ = ["Application", "Pages"]

_ALLOW = (b"allow", b"GET, HEAD, PUT")
_LOGIN = (b"www-authenticate", b'Basic realm="pycasync", charset="UTF-8"')
_PUBLIC = (b"cache-control", b"public, max-age=31536000, immutable")
_PRIVATE = (b"cache-control", b"private, max-age=31536000, immutable")
_RANGES = (b"accept-ranges", b"bytes")
_ROUTES = 1 << 14
"""Paths whose meaning is remembered; each costs some 500 bytes."""
_NOT_STORED = (b"cache-control", b"no-store")


class Pages(Protocol):
    """What answers those who want to look around."""

    async def answer(self, request: WebRequest, path: bytes, grant: Grant) -> Reply | None:
        """The page at a path; None where there is none. It shows nothing beyond what may be read.

        :param path: decoded
        :raises CasyncError: what it takes could not be read
        """


class Application:
    """The server, but for sockets.

    :param pages: what is shown in a browser; None for nothing
    :param log: None for no access log
    :param tell: called with a line when something is wrong that no client is told in full
    :ivar access: who may do what; may be replaced while it runs
    """

    def __init__(
        self,
        served: Served,
        limits: Limits | None = None,
        access: Rules | None = None,
        pages: Pages | None = None,
        log: AccessLog | None = None,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.served = served
        self.limits = limits or Limits()
        self.access = access or Rules()
        self.metrics = Metrics()
        self.pages = pages
        self._log = log
        self._routes: dict[bytes, ChunkRoute] = {}
        self._tell = tell
        self._pools = pools = Pools(self.limits)
        self.stores: dict[str, ServedChunks] = {}
        for name, source in served.stores.items():
            threads = pools.reading(name, far=not is_near(source))
            waiting = self.limits.waiting
            self.stores[name] = ServedChunks(name, source, pools.near, threads, waiting, tell)
        files = served.files
        self.files = None
        if files is not None:
            self.files = ServedFiles(files, pools.reading(FILES, far=not files.near))
        self._uploads = Puts(served.sinks, files if served.writable else None, pools, self.limits)
        self._paces = None if self.limits.rate is None else Paces(self.limits.rate)

    def close(self) -> None:
        """End its threads."""
        self._pools.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        began = time.perf_counter()
        request = WebRequest.of(scope, receive)
        self.metrics.running += 1
        sent = 0
        answer = Reply(500)
        try:
            answer = self.at_once(request) or await self._answer(request)
            sent = await self._send(request, answer, send)
        except CasyncError as error:
            self._tell(str(error))  # the status is sent already, and only a broken connection can say it
            raise
        finally:
            self.metrics.running -= 1
            self.done(request, answer, sent, time.perf_counter() - began)

    def done(self, request: WebRequest, answer: Reply, sent: int, seconds: float) -> None:
        """Take note of a request that was answered.

        :param sent: bytes of the body that went out
        """
        received = (request.length() or 0) if request.method == "PUT" and answer.status < 300 else 0
        self.metrics.count(request.method, answer, sent, received, seconds)
        if self._log is not None:
            self._log.add(request, answer, sent, seconds)

    def at_once(self, request: WebRequest) -> Reply | None:
        """The answer where nothing has to be waited for: for a chunk that is in memory, and known to be right. None
        for all else; it does not say that there is none, or that it may not be had."""
        if request.method != "GET":
            return None
        where = self._routes.get(request.path) or chunk_route(request.path, self.stores)
        if where is None:
            return None
        grant = self.access.grant(request.fields.get(b"authorization"))
        if grant is None or not grant.may_read(where.store):
            return None
        body = self.stores[where.store].at_once(where.id, where.form)
        if body is None:
            return None
        if len(self._routes) >= _ROUTES:
            self._routes.clear()
        self._routes[request.path] = where
        if self._paces is not None and not self._paces.passes(request.client):
            return _too_many()
        answer = _given(request, body, self._kept(where))
        answer.store = where.store
        return answer

    async def _send(self, request: WebRequest, answer: Reply, send: Send) -> int:
        fields = answer.fields
        empty = answer.pieces is None and not answer.body and request.method != "HEAD"
        size = 0 if empty and answer.size is None else answer.size
        if size is not None and answer.status != 304:
            fields.append((b"content-length", b"%d" % size))
        if answer.status >= 400 and b"expect" in request.fields and request.version.startswith("1."):
            fields.append((b"connection", b"close"))  # it may send its body still, or not at all
        await send({"type": "http.response.start", "status": answer.status, "headers": fields})
        if request.method == "HEAD" or answer.pieces is None:
            body = b"" if request.method == "HEAD" else answer.body
            await send({"type": "http.response.body", "body": body})
            return len(body)
        sent = await self._send_pieces(request, answer.pieces, answer.threads or self._pools.pages, send)
        await send({"type": "http.response.body", "body": b""})
        return sent

    async def _send_pieces(
        self, request: WebRequest, pieces: Iterator[bytes], threads: Executor, send: Send
    ) -> int:
        sent = 0
        loop = asyncio.get_running_loop()
        gone = loop.create_task(request.gone())  # of which `send` tells nothing
        try:
            while not gone.done() and (piece := await loop.run_in_executor(threads, next, pieces, b"")):
                async with asyncio.timeout(self.limits.receive):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                sent += len(piece)
        finally:
            gone.cancel()
        return sent

    async def _answer(self, request: WebRequest) -> Reply:
        try:
            if self._paces is not None and not self._paces.passes(request.client):
                return _too_many()
            return await self._routed(request)
        except ChunkMissing as error:
            return text(404, f"chunk {error.id.hex()} not found")
        except Busy:
            return text(503, "too many requests are waiting", (b"retry-after", b"1"))
        except StoreBusy as error:
            return text(503, str(error), (b"retry-after", b"20"))
        except ChunkCorrupt as error:
            self._tell(str(error))
            return text(500, "the chunk is damaged here")
        except RemoteError as error:
            self._tell(str(error))
            return text(502, "a store behind this server does not answer as it should")
        except (CasyncError, OSError) as error:
            self._tell(str(error))
            return text(500, "this server cannot read or write what it needs")
        except Exception as error:
            self._tell(f"internal error: {type(error).__name__}: {error}")
            return text(500, "internal error")

    async def _routed(self, request: WebRequest) -> Reply:
        grant = self.access.grant(request.fields.get(b"authorization"))
        where = route(request.path, self.stores)
        if isinstance(where, OperatorRoute) and where.what == "healthz":
            return text(200, "ok", _NOT_STORED)
        if grant is None:
            return _denied(NOTHING)
        if request.method not in ("GET", "HEAD", "PUT"):
            return text(405, "only GET, PUT and HEAD are supported", _ALLOW)
        if isinstance(where, NoRoute):
            return text(400, where.why) if grant.known or self.access.is_open else _denied(grant)
        if request.method == "PUT":
            return await self._put(request, where, grant)
        if isinstance(where, ChunkRoute):
            if not grant.may_read(where.store):
                return _denied(grant)
            answer = await self._chunk(request, where)
            answer.store = where.store
            return answer
        if isinstance(where, FileRoute):
            if not grant.may_read(FILES):
                return _denied(grant)
            if self.files is None:
                return text(404, "there are no indexes here", store=FILES)
            head = request.method == "HEAD"
            return await self.files.get(where.name, where.kind, request.fields, head=head)
        if isinstance(where, OperatorRoute):
            if not grant.may_read("metrics"):
                return _denied(grant)
            return await self._metrics()
        return await self._other(request, where, grant)

    async def _chunk(self, request: WebRequest, where: ChunkRoute) -> Reply:
        chunks = self.stores[where.store]
        if request.method == "HEAD":
            there, size, tag = await chunks.look(where.id, where.form)
            if not there:
                return text(404, f"chunk {where.id} not found")
            tagged = [] if tag is None else [(b"etag", tag)]
            return Reply(200, [BINARY, self._kept(where), _RANGES, *tagged], size=size)
        body = await chunks.get(where.id, where.form)
        return _given(request, body, self._kept(where))

    def _kept(self, where: ChunkRoute) -> Field:
        return _PUBLIC if self.access.anybody.may_read(where.store) else _PRIVATE

    async def _put(
        self, request: WebRequest, where: ChunkRoute | FileRoute | OperatorRoute | OtherRoute, grant: Grant
    ) -> Reply:
        if not isinstance(where, (ChunkRoute, FileRoute)):
            return text(400, "only chunks and indexes can be put")
        name = where.store if isinstance(where, ChunkRoute) else FILES
        if not self._uploads.takes(where):
            what = "chunk" if isinstance(where, ChunkRoute) else "index"
            return text(400, f"writing to the {what} store is not enabled", store=name)
        if not grant.may_write(name):
            return _denied(grant, name)
        try:
            if (request.length() or 0) > self._uploads.limit(where):
                raise BodyTooLarge
            async with self._uploads.slot(where):
                body = await request.body(self._uploads.limit(where), self.limits)
                return await self._uploads.put(where, body, request.fields)
        except BodyTooLarge:
            return text(413, f"more than {self._uploads.limit(where)} bytes are not taken", store=name)
        except BodyTooSlow:
            return text(408, "the body does not come", (b"connection", b"close"), store=name)
        except BodyLost:
            return text(400, "the body ended before its end", store=name)

    async def _other(self, request: WebRequest, where: OtherRoute, grant: Grant) -> Reply:
        if self.pages is not None:
            answer = await self.pages.answer(request, where.path, grant)
            if answer is not None:
                return answer
        if not grant.known and not self.access.is_open:
            return _denied(grant)
        return text(404, "there is nothing at this path")

    async def _metrics(self) -> Reply:
        run = asyncio.get_running_loop().run_in_executor
        caches = {chunks.cache for chunks in self.stores.values() if chunks.cache is not None}
        sizes = [(await run(self._pools.near, cache.used), cache.size) for cache in caches]
        body = self.metrics.text(self._gauges(sizes)).encode()
        kind = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
        return Reply(200, [kind, _NOT_STORED], body)

    def _gauges(self, caches: Sequence[tuple[int, int | None]]) -> Iterator[tuple[str, str, str, float]]:
        yield "requests_running", "Requests under way.", "", self.metrics.running
        if caches:
            yield (
                "cache_bytes",
                "Bytes of files in the chunk cache, about.",
                "",
                sum(used for used, _ in caches),
            )
        if limits := [size for _, size in caches if size is not None]:
            yield "cache_limit_bytes", "Bytes that the chunk cache may have.", "", sum(limits)
        for name, chunks in self.stores.items():
            labels = f'{{store="{name}"}}'
            yield "chunks_waiting", "Different chunks that are waited for.", labels, chunks.waiting
        for name, chunks in self.stores.items():
            labels = f'{{store="{name}"}}'
            yield "upstream_seconds_total", "Seconds that stores were waited for.", labels, chunks.upstream
        for name, chunks in self.stores.items():
            labels = f'{{store="{name}"}}'
            yield "upstream_chunks_total", "Chunks that stores behind gave.", labels, chunks.fetched


def _too_many() -> Reply:
    return text(429, "too many requests", (b"retry-after", b"1"))


def _denied(grant: Grant, name: str = "") -> Reply:
    if grant.known:
        return text(403, "Forbidden", store=name)
    return text(401, "Unauthorized", _LOGIN, store=name)


def _given(request: WebRequest, body: ChunkBody, kept: Field) -> Reply:
    fields = [BINARY, kept, _RANGES, (b"etag", body.tag)]
    wanted = request.fields
    if b"if-match" in wanted and is_other(wanted, body.tag, None):
        return text(412, "this is another one")
    if b"if-none-match" in wanted and not_modified(wanted, body.tag, None):
        return Reply(304, fields, hit=body.hit)
    data = body.data
    part = wanted_range(wanted, len(data), body.tag) if b"range" in wanted else None
    if part is None:
        return Reply(200, fields, data, None, len(data), "", body.hit)
    if part.start == part.stop:
        return text(416, "there is nothing of it in that range", part.told(len(data)))
    return Reply(206, [*fields, part.told(len(data))], data[part.start : part.stop], hit=body.hit)
