"""Making an update file: the chunks that one index has and others have not, for whoever has those others.

    >>> made = make_delta(b"b.caidx", [b"a.caidx"], b"b.patch", LocalStore(b"default.castr"))
    >>> made.chunks, made.size
    (12, 40448)

The form of the file is `streams.patch`'s business, using it that of `verbs.apply`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

from casync_compat.batches import batches
from casync_compat.compression import Compression, compress
from casync_compat.errors import UsageError, show_path
from casync_compat.fs.atomic import AtomicFile
from casync_compat.index import Index, IndexChunk
from casync_compat.kinds import Kind
from casync_compat.packtable import PackRow
from casync_compat.progress import ProgressCallback, Reporter
from casync_compat.store.base import ChunkSource, Measured
from casync_compat.streams.assemble import ChunkFetcher, Fetch
from casync_compat.streams.patch import PatchHead, PatchWriter, name_index
from casync_compat.streams.transfer import OrderedPool

__all__ = ["DeltaResult", "estimate_delta", "make_delta"]

_BATCH = 1 << 20


@dataclass(frozen=True, slots=True)
class DeltaResult:
    """What an update has in it, or would have. Chunks are counted once, their sizes are those before compression.

    :ivar chunks: that are new
    :ivar chunk_bytes: their size
    :ivar target_chunks: of the whole target
    :ivar target_bytes: their size
    :ivar stored_bytes: what the new ones take in the store, or in the update file; None when nobody knows
    :ivar size: bytes of the update file; None when none was made
    """

    chunks: int
    chunk_bytes: int
    target_chunks: int
    target_bytes: int
    stored_bytes: int | None = None
    size: int | None = None


def _new_chunks(target: Index, bases: Sequence[Index]) -> list[IndexChunk]:
    """The chunks that only the target has, each once, in its order."""
    known = {bytes(id_) for base in bases for id_ in base.ids()}
    new = []
    for chunk in target:
        id_ = bytes(chunk.id)
        if id_ not in known:
            known.add(id_)
            new.append(chunk)
    return new


def _count(target: Index, new: Sequence[IndexChunk]) -> DeltaResult:
    sizes = {bytes(chunk.id): chunk.size for chunk in target}
    return DeltaResult(len(new), sum(chunk.size for chunk in new), len(sizes), sum(sizes.values()))


def _check_bases(target: Index, bases: Sequence[Index]) -> None:
    for base in bases:
        if len(base) and base.digest is not target.digest:
            raise UsageError(
                f"a base has {base.digest.value} ids and the target {target.digest.value} ids, so that they share no "
                "chunks; make one of them anew with `convert-index`"
            )


def estimate_delta(target: Index, bases: Sequence[Index], store: ChunkSource | None = None) -> DeltaResult:
    """What an update would have in it, from the indexes alone.

    :param store: asked what the new chunks take in it, where it can tell; None asks nobody
    :raises UsageError: the indexes have different digests
    :raises FileError: the store cannot be read
    """
    _check_bases(target, bases)
    new = _new_chunks(target, bases)
    stored = 0
    for chunk in new:
        size = store.stored_size(chunk.id) if isinstance(store, Measured) else None
        if size is None:
            return _count(target, new)
        stored += size
    return replace(_count(target, new), stored_bytes=stored)


def make_delta(
    target: tuple[bytes, Index],
    bases: Sequence[tuple[bytes, Index]],
    output: bytes,
    store: ChunkSource,
    *,
    jobs: int | None = None,
    progress: ProgressCallback | None = None,
) -> DeltaResult:
    """Write an update file.

    :param target: name and index of what it leads to; the name's suffix says its kind
    :param bases: those of what is there where it will be used
    :param output: the file to make; it appears when it is complete
    :param store: where the new chunks are
    :raises UsageError: the indexes have different digests, or are not named as such
    :raises CasyncError: nothing appears at `output` then
    """
    name, index = target
    kind = Kind.of_suffix(name)
    if kind is None or not kind.is_index:
        raise UsageError(f"{show_path(name)}: an update leads to an index, a .caidx or .caibx file")
    _check_bases(index, [base for _, base in bases])
    new = _new_chunks(index, [base for _, base in bases])
    counted = _count(index, new)
    head = PatchHead(
        kind,
        index.digest,
        tuple(name_index(*base) for base in bases),
        name_index(name, index),
        len(new),
    )
    reporter = Reporter(progress)
    reporter.state.total = counted.chunk_bytes
    fetcher = ChunkFetcher(index, store, name)
    stored = 0
    jobs = jobs or fetcher.threads

    def frames(batch: list[IndexChunk], fetch: Fetch) -> list[tuple[IndexChunk, bytes]]:
        """Runs on a worker."""
        found = fetch()
        return [(each, compress(Compression.ZSTD, raw)) for each, raw in zip(batch, found, strict=True)]

    with AtomicFile(output) as out, OrderedPool[list[tuple[IndexChunk, bytes]]](jobs, 2 * jobs) as pool:
        writer = PatchWriter(out, head, index)

        def write(ready: list[tuple[IndexChunk, bytes]]) -> int:
            for chunk, frame in ready:
                writer.add(PackRow(chunk.id, len(frame), chunk.size), frame)
                reporter.state.done += chunk.size
                reporter.state.chunks += 1
                reporter.state.new_chunks += 1
            if reporter.due:
                reporter.report()
            return sum(len(frame) for _, frame in ready)

        for batch in batches(new, _BATCH, attrgetter("size")):
            for ready in pool.submit(frames, batch, fetcher.begin(batch)):
                stored += write(ready)
        for ready in pool.drain():
            stored += write(ready)
        writer.finish()
    return replace(counted, stored_bytes=stored, size=writer.size)
