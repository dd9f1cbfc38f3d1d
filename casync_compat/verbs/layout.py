"""A store's chunks put into packs, and taken out of them again, as they are stored: nothing is compressed anew.

    >>> result = pack_store(store, indexes)
    >>> result.moved

First everything is copied, then made durable and part of the store, and only then is removed where it was. A run that
breaks off leaves every chunk in one place at least, and the next one goes on. Nobody else writes meanwhile; who reads
may miss what moves just then, and finds it when run again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from casync_compat.chunker import MAX_CHUNK_SIZE
from casync_compat.compression import Compression, CompressionError, compress, decompress, file_limit
from casync_compat.errors import ChunkCorrupt, ChunkMissing
from casync_compat.ids import ChunkId, Digest, DigestUnavailable
from casync_compat.index import Index
from casync_compat.progress import ProgressCallback, Reporter
from casync_compat.store.chunkfiles import ChunkFile
from casync_compat.store.chunks import ChunkStore
from casync_compat.store.files import FileDamaged, Listed
from casync_compat.store.packs.mixed import MixedStore
from casync_compat.store.packs.packed import PackedStore
from casync_compat.store.packs.rebuilding import rebuild
from casync_compat.streams.leasing import collecting
from casync_compat.streams.transfer import OrderedPool, default_jobs

__all__ = ["Moved", "explode_store", "pack_store", "rebuild_store"]

_DIRECTORIES = re.compile(rb"[0-9a-f]{4}")
_BATCH = 64
_FLUSH = 256 << 20
"""Bytes after which what was copied becomes part of the store, and goes where it was."""


@dataclass(slots=True)
class Moved:
    """What a run did.

    :ivar moved: chunks
    :ivar size: their bytes as stored
    :ivar left: chunks that are damaged, and stay where they are
    """

    moved: int = 0
    size: int = 0
    left: int = 0


def _nobody(text: str) -> None:
    """Tells nobody."""


def pack_store(
    store: MixedStore,
    indexes: Iterable[Index] = (),
    *,
    wait: float | None = None,
    jobs: int | None = None,
    tell: Callable[[str], None] = _nobody,
    progress: ProgressCallback | None = None,
) -> Moved:
    """Put all chunks of a store that have files of their own into packs.

    :param indexes: their chunks come first, in their order, so that they are read in few requests; the rest follows by
        the dates of the files
    :param wait: seconds to wait for others who write; None for a minute
    :param tell: called with a line about each chunk that is damaged
    :raises StoreBusy: others write, and do not end
    :raises CasyncError: the store cannot be read or changed; what was moved stays moved
    """
    result = Moved()
    reporter = Reporter(progress)
    count = jobs or default_jobs()
    with collecting(store, wait=wait, tell=tell) as collection:
        packs = store.packed()
        waiting: list[bytes] = []
        size = 0

        def settle() -> None:
            nonlocal size
            packs.sync()
            collection.check()
            store.files.remove_many(list(map(Listed, waiting)))
            waiting.clear()
            size = 0

        with OrderedPool[_Read](count, 4 * count) as pool:

            def take(found: Iterable[_Read]) -> None:
                nonlocal size
                for id, name, frame, raw in found:
                    if frame is None:
                        result.left += 1
                        tell(f"{store.name}/{name.decode()} is damaged, and stays")
                        continue
                    if not packs.adopt(id, frame, raw).new and not _is_in(packs, id, raw):
                        packs.remove(id)
                        packs.adopt(id, frame, raw)
                    waiting.append(name)
                    result.moved += 1
                    result.size += len(frame)
                    size += len(frame)
                    reporter.state.done += len(frame)
                    if reporter.due:
                        reporter.report()
                if size >= _FLUSH:
                    settle()

            for file in _in_order(store, indexes):
                take(pool.submit(_frame, store, file))
            take(pool.drain())
        settle()
    return result


_Read = tuple[ChunkId, bytes, bytes | None, int]
"""A chunk, the name of its file, what goes into a pack, and the size of what is in that."""


def _in_order(store: ChunkStore, indexes: Iterable[Index]) -> Iterator[ChunkFile]:
    """All chunk files, in the order in which they are to lie in packs."""
    dates = {file.name: file.modified or 0 for file in store.files.list(under=_DIRECTORIES)}
    for index in indexes:
        for id in index.ids():
            for file in store.forms(id):
                if dates.pop(file.name, None) is not None:
                    yield file
    left = [file for file in store.chunk_files() if file.name in dates and file.placed]
    left.sort(key=lambda file: dates[file.name])
    yield from left


def _frame(store: ChunkStore, file: ChunkFile) -> _Read:
    """Runs on a worker."""
    try:
        stored = store.files.read(file.name, file_limit(MAX_CHUNK_SIZE))
        if stored:
            raw = decompress(stored, MAX_CHUNK_SIZE) if file.packed else stored
            if _is(raw, file.id):
                frame = stored if file.packed else compress(Compression.ZSTD, raw)
                return file.id, file.name, frame, len(raw)
    except (CompressionError, FileDamaged):
        pass
    return file.id, file.name, None, 0


def _is_in(packs: PackedStore, id: ChunkId, size: int) -> bool:
    """Whether packs have a chunk, and have it whole."""
    for digest in Digest:
        with suppress(ChunkCorrupt, ChunkMissing, DigestUnavailable):
            return len(packs.get(id, digest, size)) == size
    return False


def _is(raw: bytes, id: ChunkId) -> bool:
    for digest in Digest:
        try:
            if digest.of(raw) == id:
                return True
        except DigestUnavailable:
            continue
    return False


def explode_store(
    store: MixedStore,
    *,
    wait: float | None = None,
    jobs: int | None = None,
    tell: Callable[[str], None] = _nobody,
    progress: ProgressCallback | None = None,
) -> Moved:
    """Give each chunk of a packed store a file of its own, as casync and desync have them. Parameters as before."""
    result = Moved()
    reporter = Reporter(progress)
    with collecting(store, wait=wait, tell=tell) as collection:
        packs = store.packs()
        if packs is None:
            return result
        packs.reload()
        with OrderedPool[Sequence[tuple[ChunkId, int]]](jobs or default_jobs(), 4) as pool:
            moved: list[ChunkId] = []

            def take(batches: Iterable[Sequence[tuple[ChunkId, int]]]) -> None:
                for batch in batches:
                    for id, size in batch:
                        if not size:
                            result.left += 1
                            tell(f"chunk {id} in {store.name} is damaged, and stays in its pack")
                            continue
                        moved.append(id)
                        result.moved += 1
                        result.size += size
                        reporter.state.done += size
                    if reporter.due:
                        reporter.report()

            for rows in packs.in_packs(_BATCH):
                take(pool.submit(_unpack, store, packs, rows))
            take(pool.drain())
        store.files.sync()
        collection.check()
        for id in moved:
            packs.remove(id)
        packs.repack(collection.check)
        if not result.left:
            packs.end()
    return result


def _unpack(store: ChunkStore, packs: PackedStore, rows: Sequence[ChunkId]) -> Sequence[tuple[ChunkId, int]]:
    """Runs on a worker: for each chunk the bytes of its file; 0 for one that is damaged."""
    out = []
    for id, frame in zip(rows, packs.frames(rows), strict=True):
        if frame is not None:
            _, file = store.forms(id)
            if store.files.stat(file.name) is None or _frame(store, file)[2] is None:
                store.files.write(file.name, frame)
        out.append((id, 0 if frame is None else len(frame)))
    return out


def rebuild_store(
    store: MixedStore, *, wait: float | None = None, tell: Callable[[str], None] = _nobody
) -> int:
    """Make the head and index of a packed store anew from its packs; how many chunks it has then.

    :param tell: called with a line about each pack that is left out, since it cannot be read
    """
    with collecting(store, wait=wait, tell=tell):
        place = store.packed_place()
        return rebuild(place, tell).head.chunks
