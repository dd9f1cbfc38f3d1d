"""Chunks of one store, in the form that a client's suffix asks for, each checked before it is given.

What lies near in the wanted form is given as it is stored: such a file is read whole and checked once, and again when
it has changed. What is known to be right, and in memory, is read in the loop's own thread. All else - the other form, a
store that is far away, one of packs, a composition - is had from the source, which checks it, and compressed anew; who
asks for the same chunk meanwhile waits for that one.

Nothing here knows HTTP but the tag of a body.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from typing import NamedTuple

from casync_compat.compression import Compression, CompressionError, compress, decompress, file_limit
from casync_compat.errors import FileError
from casync_compat.ids import ChunkId
from casync_compat.serve.routes import Form
from casync_compat.store.anydigest import AnyDigest
from casync_compat.store.base import ChunkSource, Measured
from casync_compat.store.cached import Cached
from casync_compat.store.chunkfiles import LARGEST, is_chunk
from casync_compat.store.chunks import ChunkStore
from casync_compat.store.files import FileDamaged, FileStatus
from casync_compat.store.layered import Layered
from casync_compat.store.local import LocalFiles

__all__ = ["Busy", "ChunkBody", "ServedChunks", "directories", "is_near"]

_USUAL = 256 << 10
"""Bytes of a chunk file that are read at once; few have more."""
_REMEMBERED = 1 << 17
"""Files that are known to be right; each costs some 250 bytes."""
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_COMPRESSIONS = {Form.ZSTD: Compression.ZSTD, Form.XZ: Compression.XZ, Form.GZIP: Compression.GZIP}


class Busy(Exception):
    """Too many wait already."""


class ChunkBody(NamedTuple):
    """A chunk in one of its forms.

    :ivar tag: which changes with its bytes
    :ivar hit: whether it lay near
    """

    data: bytes
    tag: bytes
    hit: bool


class _Near:
    """A store of chunk files on this machine.

    :ivar right: versions of files, by their names, that hold what their names say
    :ivar quick: the files, once some are known, where no network can be between
    """

    def __init__(self, store: ChunkStore) -> None:
        self.store = store
        self.right: dict[bytes, int] = {}
        self.quick: LocalFiles | None = None

    def remember(self, name: bytes, version: int) -> None:
        """Take note of a file that is right."""
        if not self.right and isinstance(self.store.files, LocalFiles) and self.store.files.one_kernel:
            self.quick = self.store.files
        if len(self.right) >= _REMEMBERED:
            with suppress(StopIteration, KeyError, RuntimeError):  # another thread was quicker
                del self.right[next(iter(self.right))]
        self.right[name] = version


class ServedChunks:
    """One store.

    :param name: that it is served under
    :param source: the store, or a composition
    :param near: threads that read what is near
    :param threads: threads that wait for the source; the same where that is near
    :param waiting: how many may wait for them
    :param tell: called with what is wrong with near files, once each
    :ivar cache: in front of the source; None for none
    :ivar upstream: seconds that the source was waited for, on the whole
    """

    def __init__(
        self,
        name: str,
        source: ChunkSource,
        near: Executor,
        threads: Executor,
        waiting: int,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.name = name
        self.source = source
        self.upstream = 0.0
        self.fetched = 0
        self.cache = source.cache if isinstance(source, Cached) else None
        self._near_threads = near
        self._threads = threads
        self._waiting = waiting
        self._tell = tell
        self._near = [_Near(store) for store in _near(source)]
        self._under_way: dict[tuple[ChunkId, Form], asyncio.Task[ChunkBody]] = {}
        self._any = AnyDigest(source)

    @property
    def waiting(self) -> int:
        """How many different chunks are waited for."""
        return len(self._under_way)

    def at_once(self, id: ChunkId, form: Form) -> ChunkBody | None:
        """A chunk that lies near in the wanted form, and is known to be right; None for any other."""
        if form is not Form.ZSTD and form is not Form.PLAIN:
            return None
        for near in self._near:
            name = near.store.names.of(id)[form is Form.ZSTD]
            version = near.right.get(name)
            if version is None:
                continue
            if near.quick is None:
                return None
            try:
                found = near.quick.in_memory(name, _USUAL)
            except FileError:
                return None
            if found is None or len(found[1]) != found[0].size or _version(found[0]) != version:
                return None
            if self.cache is not None and self.cache.is_old(found[0]):
                return None
            return ChunkBody(found[1], b'"%x"' % version, True)
        return None

    async def get(self, id: ChunkId, form: Form) -> ChunkBody:
        """A chunk.

        :raises Busy: too many wait already
        :raises ChunkMissing: there is none; and other errors of `ChunkSource.get`
        """
        key = id, form
        task = self._under_way.get(key)
        if task is None:
            if len(self._under_way) >= self._waiting:
                raise Busy
            task = self._under_way[key] = asyncio.create_task(self._produced(id, form))
            task.add_done_callback(lambda done: self._done(key, done))
        return await asyncio.shield(task)

    def _done(self, key: tuple[ChunkId, Form], task: asyncio.Task[ChunkBody]) -> None:
        self._under_way.pop(key, None)
        if not task.cancelled():
            task.exception()  # is looked at, also where everybody who asked has gone

    async def _produced(self, id: ChunkId, form: Form) -> ChunkBody:
        run = asyncio.get_running_loop().run_in_executor
        if self._threads is self._near_threads:
            return await run(
                self._threads, lambda: self._out_of_near(id, form) or self._out_of_source(id, form)
            )
        if self._near and (body := await run(self._near_threads, self._out_of_near, id, form)) is not None:
            return body
        return await run(self._threads, self._out_of_source, id, form)

    def _out_of_near(self, id: ChunkId, form: Form) -> ChunkBody | None:
        """Runs on a thread."""
        for near in self._near:
            if (body := self._stored(near, id, form)) is not None:
                return body
        return None

    def _out_of_source(self, id: ChunkId, form: Form) -> ChunkBody:
        """Runs on a thread."""
        began = time.perf_counter()
        raw = self._any.get(id, LARGEST)
        self.upstream += time.perf_counter() - began
        self.fetched += 1
        return self._encoded(raw, form, hit=False)

    def _stored(self, near: _Near, id: ChunkId, form: Form) -> ChunkBody | None:
        """A chunk out of its near file; None where there is none that is right."""
        store = near.store
        plain, packed = store.names.of(id)
        for name in (plain, packed) if form is Form.PLAIN else (packed, plain):
            try:
                found = _whole(store, name)
                if found is None or not found[1]:
                    continue
                status, data = found
                version = _version(status)
                if form is (Form.ZSTD if name is packed else Form.PLAIN) and near.right.get(name) == version:
                    return self._given(name, status, data)
                raw = decompress(data, LARGEST) if name is packed else data
            except (CompressionError, FileDamaged) as error:
                self._tell(str(error))
                continue
            if not is_chunk(raw, id, None):
                self._tell(f"{store.name}/{name.decode()} is not the chunk that its name says")
                continue
            if (name is packed and form is Form.ZSTD and data.startswith(_ZSTD_MAGIC)) or (
                name is plain and form is Form.PLAIN
            ):
                near.remember(name, version)
                return self._given(name, status, data)
            self._renew(name, status)
            return self._encoded(raw, form, hit=True)
        return None

    def _given(self, name: bytes, status: FileStatus, data: bytes) -> ChunkBody:
        self._renew(name, status)
        return ChunkBody(data, b'"%x"' % _version(status), True)

    def _renew(self, name: bytes, status: FileStatus) -> None:
        if self.cache is not None and self.cache.is_old(status):
            self.cache.renew(name)

    def _encoded(self, raw: bytes, form: Form, *, hit: bool) -> ChunkBody:
        data = raw if form is Form.PLAIN else compress(_COMPRESSIONS[form], raw)
        return ChunkBody(data, b'"%x-%x"' % (len(data), zlib.crc32(data)), hit)

    async def look(self, id: ChunkId, form: Form) -> tuple[bool, int | None, bytes | None]:
        """Whether there is a chunk, and the size and tag of its body where they are known without reading it.

        :raises CasyncError: the source could not be asked
        """
        for near in self._near:
            name = near.store.names.of(id)[form is not Form.PLAIN]
            version = near.right.get(name)
            if version is None or near.quick is None or form is Form.XZ or form is Form.GZIP:
                continue
            status = near.quick.stat(name)
            if status is not None and _version(status) == version:
                return True, status.size, b'"%x"' % version
        run = asyncio.get_running_loop().run_in_executor
        there = bool(self._near) and await run(self._near_threads, self._has_near, id)
        return there or await run(self._threads, self.source.has, id), None, None

    def _has_near(self, id: ChunkId) -> bool:
        """Runs on a thread."""
        return any(near.store.has(id) for near in self._near)

    def stored_size(self, id: ChunkId) -> int | None:
        """What a chunk takes, where the store can tell."""
        return self.source.stored_size(id) if isinstance(self.source, Measured) else None


def is_near(source: ChunkSource) -> bool:
    """Whether all of a source is on this machine."""
    if isinstance(source, Layered):
        return all(map(is_near, source.layers))
    return isinstance(source, ChunkStore) and not source.far


def directories(source: ChunkSource) -> Iterator[bytes]:
    """Those on this machine that a source reads, there or not."""
    if isinstance(source, Layered):
        for layer in source.layers:
            yield from directories(layer)
    elif isinstance(source, ChunkStore):
        yield from source.files.own_paths


def _near(source: ChunkSource) -> Iterator[ChunkStore]:
    """The stores of chunk files on this machine that are asked before all others."""
    if isinstance(source, Cached):
        yield source.cache.store
    elif isinstance(source, Layered):
        for layer in source.layers:
            if not isinstance(layer, ChunkStore) or not is_near(layer):
                return
            yield layer
    elif isinstance(source, ChunkStore) and is_near(source):
        yield source


def _whole(store: ChunkStore, name: bytes) -> tuple[FileStatus, bytes] | None:
    found = store.files.peek(name, _USUAL)
    if found is None or len(found[1]) == found[0].size:
        return found
    data = store.files.read(name, file_limit(LARGEST))
    return None if data is None else (found[0], data)


def _version(status: FileStatus) -> int:
    """A number that changes when a file is replaced, or written to."""
    return hash((status.version, status.size, status.modified, status.arrived)) & (1 << 64) - 1
