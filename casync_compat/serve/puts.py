"""PUT: a chunk is checked before it is kept, an index is kept only when its chunks are there, and durable.

A chunk that was taken is whole in the store, or not in it; it is durable when an index that needs it was taken. A
server that is killed has no chunk that lies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack
from typing import NamedTuple

from casync_compat.compression import CompressionError, decompress
from casync_compat.errors import FormatError
from casync_compat.ids import ChunkId
from casync_compat.index import Index
from casync_compat.serve.files import file_tag
from casync_compat.serve.replies import Reply, is_other, not_modified, text
from casync_compat.serve.routes import ChunkRoute, FileRoute, Form
from casync_compat.serve.settings import FILES, Limits
from casync_compat.serve.threads import Pools
from casync_compat.store.base import ChunkSink, Keeping
from casync_compat.store.chunkfiles import is_chunk
from casync_compat.store.files import Can, FileChanged, Files, Version
from casync_compat.streams.leasing import writing

__all__ = ["Puts"]

_WAIT = 20.0
"""Seconds that an index waits for a collection of garbage; its client may come back."""


_CONDITIONS = frozenset({b"if-match", b"if-none-match", b"if-unmodified-since"})


class _Condition(NamedTuple):
    """What was there under the name of an index, when it was looked."""

    absent: bool
    version: Version | None


class Puts:
    """What clients put.

    :param sinks: stores by name
    :param files: where indexes go; None where they are not taken
    :param pools: gives threads that write, for each its own
    """

    def __init__(
        self, sinks: Mapping[str, ChunkSink], files: Files | None, pools: Pools, limits: Limits
    ) -> None:
        self._sinks = sinks
        self._files = files
        names = [*sinks, FILES]
        self._threads = {name: pools.writing(name) for name in names}
        self._slots = {name: asyncio.Semaphore(limits.uploads) for name in names}
        self._limits = limits

    def takes(self, route: ChunkRoute | FileRoute) -> bool:
        """Whether such a thing can be put at all."""
        if isinstance(route, ChunkRoute):
            return route.store in self._sinks
        return self._files is not None and route.kind.is_index

    def limit(self, route: ChunkRoute | FileRoute) -> int:
        """The most bytes that its body may have."""
        return self._limits.chunk if isinstance(route, ChunkRoute) else self._limits.index

    def slot(self, route: ChunkRoute | FileRoute) -> asyncio.Semaphore:
        """What is to be held while a body is read and put."""
        return self._slots[route.store if isinstance(route, ChunkRoute) else FILES]

    async def put(
        self, route: ChunkRoute | FileRoute, body: bytes, fields: Mapping[bytes, bytes] | None = None
    ) -> Reply:
        """Take a body that is whole.

        :param fields: of the request, of which an index minds what has to be there already, or not; a chunk is what it
            is
        :raises CasyncError: it could not be written
        """
        loop = asyncio.get_running_loop()
        if isinstance(route, ChunkRoute):
            return await loop.run_in_executor(self._threads[route.store], self._put_chunk, route, body)
        return await loop.run_in_executor(self._threads[FILES], self._put_index, route, body, fields or {})

    def _put_chunk(self, route: ChunkRoute, body: bytes) -> Reply:
        """Runs on a thread."""
        try:
            raw = body if route.form is Form.PLAIN else decompress(body, self._limits.chunk)
        except CompressionError as error:
            return text(415, f"this is no compressed chunk: {error}", store=route.store)
        if not is_chunk(raw, route.id, None):
            return text(415, f"this is not the chunk {route.id}", store=route.store)
        self._sinks[route.store].put(route.id, raw)
        return Reply(200, size=0, store=route.store)

    def _put_index(self, route: FileRoute, body: bytes, fields: Mapping[bytes, bytes]) -> Reply:
        """Runs on a thread."""
        assert self._files is not None
        condition = None
        if not _CONDITIONS.isdisjoint(fields):
            there = self._files.stat(route.name)
            tag, modified = (None, None) if there is None else (file_tag(there), there.modified)
            known = b"if-none-match" in fields and there is not None and not_modified(fields, tag, None)
            if known or is_other(fields, tag, modified, there=there is not None):
                return text(412, "what is here under this name is not what it should be", store=FILES)
            condition = _Condition(there is None, None if there is None else there.version)
        try:
            index = Index.parse(body)
        except FormatError as error:
            return text(415, f"invalid index: {error}", store=FILES)
        with ExitStack() as held:
            leases = [held.enter_context(writing(sink, "serve", wait=_WAIT)) for sink in self._sinks.values()]
            missing = self._missing(index)
            if missing:
                why = f"{len(missing)} of its chunks are not here, {missing[0]} for one; put them first"
                return text(409, why, store=FILES)
            for sink in self._sinks.values():
                sink.sync()
            for lease in leases:
                lease.keep(index)
            try:
                if condition is None or Can.SWAP not in self._files.can:
                    self._files.write(route.name, body)
                elif condition.absent:
                    self._files.write(route.name, body, if_absent=True)
                else:
                    self._files.write(route.name, body, if_version=condition.version)
            except FileChanged:
                return text(412, "another one has come under this name meanwhile", store=FILES)
            self._files.sync()
        return Reply(200, size=0, store=FILES)

    def _missing(self, index: Index) -> list[ChunkId]:
        """The chunks that no store has."""
        left = list(dict.fromkeys(index.ids()))
        for sink in self._sinks.values():
            if isinstance(sink, Keeping):
                left = [id for id in left if not sink.keep(id)]
        return left
