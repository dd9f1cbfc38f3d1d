"""Extracting a blob index to a file, a block device or standard output.

    >>> extract_blob(b"disk.caibx", b"/tmp/disk.img", LocalStore(b"default.castr"))

Chunks come from seeds first, then from the stores; every one is checked against its id before a byte of it is written.
Trees are the business of `casync_compat.verbs.extract`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import ExitStack, closing
from dataclasses import replace

from casync_compat.errors import CasyncError, FileError, RemoteError, StoreError, show_path
from casync_compat.fs.apply.changes import Change, OnChange
from casync_compat.fs.apply.payload import PayloadWriter
from casync_compat.fs.atomic import AtomicFile
from casync_compat.fs.blob import device_size
from casync_compat.fs.inplace import InPlaceFile, check_room
from casync_compat.fs.partial import PartialFile, open_partial
from casync_compat.fs.reflink import BlockSharer
from casync_compat.fs.standard import StandardOutput
from casync_compat.ids import ChunkId
from casync_compat.index import Index
from casync_compat.progress import ProgressCallback, Warn, no_warning
from casync_compat.store.base import ChunkSource
from casync_compat.store.files import StoredFile
from casync_compat.streams.assemble import ChunkFetcher, ChunkStream, place_chunks
from casync_compat.streams.extraction import (
    ExtractCounter,
    ExtractOptions,
    ExtractResult,
    UnusedSeeds,
)
from casync_compat.streams.inplace import HOLE, IN_PLACE, chunks_in_place
from casync_compat.streams.inputs import Input, load_index, path_of
from casync_compat.streams.seedfiles import SeedCache, file_seeds
from casync_compat.streams.seeds import BlobSeed, Seeded, SeedSource, SourceSeed

__all__ = ["extract_blob"]


def extract_blob(
    source: Input | None,
    output: bytes | None,
    store: ChunkSource,
    *,
    options: ExtractOptions | None = None,
    warn: Warn = no_warning,
    progress: ProgressCallback | None = None,
) -> ExtractResult:
    """Restore a blob from its index.

    :param source: the index file; None for standard input
    :param output: a file, which is replaced as a whole once the new one is complete, or a block device, which is
        written in place; None for standard output, which may be a pipe
    :raises CasyncError: an existing file is then as it was
    """
    options = options or ExtractOptions()
    index = load_index(source, store)
    if output is not None and not isinstance(source, StoredFile):
        _check_output(source, output)
    unused = UnusedSeeds(warn)
    if options.on_change is not None:
        with closing(SeedSource()) as seeds:
            return _preview(index, output, options, options.on_change, seeds, unused, warn)
    with unused.told(), ExitStack() as stack:
        seeds = stack.enter_context(SeedSource())
        counter = ExtractCounter(progress, index.size, seeds, len(index))
        out = _open_output(stack, output, index, options)
        there = _look(out, index, options)
        if there is not None:
            counter.keep(there.count(IN_PLACE), _size_of(index, there))
        if there is None or there.count(IN_PLACE) < len(index):
            _blob_seeds(index, output, options, seeds, unused, warn)
        fetcher = ChunkFetcher(index, Seeded(seeds, store) if seeds.seeds else store, path_of(source))
        mode = os.fstat(out.fd).st_mode
        if output is None or not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            stream = stack.enter_context(ChunkStream(fetcher, jobs=options.jobs, on_chunk=counter.on_chunk))
            while data := stream.read():
                out.write(data)
            return counter.result(index.size)
        shares = options.reflink and seeds.seeds and isinstance(out, AtomicFile)
        sharer = BlockSharer() if shares else None
        _write_file(out, fetcher, options, counter, seeds, sharer, there)
        shared = sharer.shared if sharer is not None else 0
        return counter.result(index.size, shared=shared)


def _size_of(index: Index, there: bytearray) -> int:
    return sum(chunk.size for chunk, what in zip(index, there, strict=True) if what == IN_PLACE)


def _look(
    out: AtomicFile | InPlaceFile | StandardOutput, index: Index, options: ExtractOptions
) -> bytearray | None:
    """What of the blob is in its place; None where nobody needs to look."""
    if isinstance(out, InPlaceFile):
        if not options.seed_output:
            return bytearray(len(index))
    elif not isinstance(out, PartialFile) or not out.taken_up:
        return None
    return chunks_in_place(out.fd, out.size, index, jobs=options.jobs)


def _preview(
    index: Index,
    output: bytes | None,
    options: ExtractOptions,
    on_change: OnChange,
    seeds: SeedSource,
    unused: UnusedSeeds,
    warn: Warn,
) -> ExtractResult:
    """What would become of the output, and where its chunks would come from. No chunk is fetched for that."""
    exists, same, kept = _look_ahead(index, output, options)
    if not same:
        _blob_seeds(index, output, options, seeds, unused, warn)
    result = _sources(index, kept, seeds)
    if output is None:
        return result
    if not same:
        on_change(Change("change" if exists else "create", output, False))
    return replace(
        result, created=int(not exists), updated=int(exists and not same), unchanged=int(exists and same)
    )


def _look_ahead(
    index: Index, output: bytes | None, options: ExtractOptions
) -> tuple[bool, bool, bytearray | None]:
    """Whether there is an output, whether it is the blob, and what of it would be kept, as `chunks_in_place` says."""
    if output is None:
        return False, False, None
    try:
        fd = os.open(output, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        try:
            os.stat(os.path.dirname(output) or b".")
        except OSError as error:
            raise FileError(output, "create", error) from error
        return False, False, _left(index, output, options)
    except OSError as error:
        raise FileError(output, "open", error) from error
    try:
        st = os.fstat(fd)
        if stat.S_ISDIR(st.st_mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        check_room(fd, output, index.size)
        device = stat.S_ISBLK(st.st_mode)
        in_place = device or (options.in_place and stat.S_ISREG(st.st_mode))
        if in_place or (stat.S_ISREG(st.st_mode) and st.st_size == index.size):
            found = chunks_in_place(fd, device_size(fd) if device else st.st_size, index, jobs=options.jobs)
            same = found.count(IN_PLACE) == len(index) and (device or st.st_size == index.size)
            if same or (in_place and options.seed_output):
                return True, same, found
    except OSError as error:
        raise FileError(output, "read", error) from error
    finally:
        os.close(fd)
    return True, False, _left(index, output, options)


def _left(index: Index, output: bytes, options: ExtractOptions) -> bytearray | None:
    """What an earlier run left that would be taken up again."""
    fd = open_partial(output, _identity(index)) if options.resume else None
    if fd is None:
        return None
    try:
        return chunks_in_place(fd, os.fstat(fd).st_size, index, jobs=options.jobs)
    finally:
        os.close(fd)


def _sources(index: Index, kept: bytearray | None, seeds: SeedSource) -> ExtractResult:
    """Where chunks would come from; what would be fetched is counted once."""
    fetched = dict[ChunkId, int]()
    in_place = in_place_bytes = from_seeds = seed_bytes = 0
    for number, chunk in enumerate(index):
        if kept is not None and kept[number] == IN_PLACE:
            in_place += 1
            in_place_bytes += chunk.size
        elif seeds.has(chunk.id):
            from_seeds += 1
            seed_bytes += chunk.size
        else:
            fetched[chunk.id] = chunk.size
    return ExtractResult(
        0,
        index.size,
        in_place + from_seeds + len(fetched),
        from_seeds,
        seed_bytes,
        in_place=in_place,
        in_place_bytes=in_place_bytes,
        fetched_bytes=sum(fetched.values()),
    )


def _open_output(
    stack: ExitStack, output: bytes | None, index: Index, options: ExtractOptions
) -> AtomicFile | InPlaceFile | StandardOutput:
    if output is None:
        return stack.enter_context(StandardOutput())
    try:
        mode = os.stat(output).st_mode
    except OSError:
        mode = stat.S_IFREG
    if stat.S_ISBLK(mode) or (options.in_place and stat.S_ISREG(mode)):
        return stack.enter_context(InPlaceFile(output, index.size))
    if options.resume and stat.S_ISREG(mode):
        return stack.enter_context(PartialFile(output, _identity(index), _can_go_on))
    return stack.enter_context(AtomicFile(output))


def _identity(index: Index) -> str:
    return hashlib.sha256(index.to_bytes()).hexdigest()[:16]


def _can_go_on(error: Exception) -> bool:
    """Whether what stopped a run may be gone when it is run again."""
    return isinstance(error, (StoreError, RemoteError))


def _check_output(source: bytes | None, output: bytes) -> None:
    """Refuse what nobody can have meant. :raises FileError: saying so"""
    if output.endswith(b"/") and not os.path.isdir(output):
        raise FileError(output, "create", "a name that ends in / is a directory's, and this is a file")
    try:
        same = source is not None and os.path.samefile(source, output)
    except OSError:
        same = False
    if same:
        raise FileError(output, "write", "it is the index itself")


def _blob_seeds(
    index: Index,
    output: bytes | None,
    options: ExtractOptions,
    seeds: SeedSource,
    unused: UnusedSeeds,
    warn: Warn,
) -> None:
    cache = SeedCache(options.seed_cache, look=options.on_change is not None)
    for path in options.seeds:
        try:
            for seed in file_seeds(path, index, jobs=options.jobs, cache=cache):
                seeds.add(seed)
        except CasyncError as error:
            unused.add(path, error)
    for source in options.seed_sources:
        seeds.add(SourceSeed(source, index))
    if options.seed_output and output is not None and _holds_data(output):
        try:
            seeds.add(BlobSeed(output, index, jobs=options.jobs))
        except CasyncError as error:
            warn(f"{show_path(output)} is not used as a seed: {error}")


def _holds_data(path: bytes) -> bool:
    try:
        st = os.stat(path)
    except OSError:
        return False
    return (stat.S_ISREG(st.st_mode) and st.st_size > 0) or stat.S_ISBLK(st.st_mode)


def _write_file(
    out: AtomicFile | InPlaceFile | StandardOutput,
    fetcher: ChunkFetcher,
    options: ExtractOptions,
    counter: ExtractCounter,
    seeds: SeedSource,
    sharer: BlockSharer | None,
    there: bytearray | None,
) -> None:
    """Write a file or a device, from whatever thread has the next chunks.

    :param there: what is in place; None for an empty file
    """
    index = fetcher.index
    size = index.size

    def in_holes(offset: int, count: int) -> bool:
        """Whether what is not written will read as zeros."""
        first = 0 if there is None else index.at(offset)
        return there is None or there[first : first + count] == bytes((HOLE,)) * count

    def put(offset: int, pieces: list[bytes]) -> None:
        holes = options.apply.punch_holes and in_holes(offset, len(pieces))
        payload = PayloadWriter(out.fd, size, holes, offset)
        for piece in pieces:
            if fetcher.is_zeros(piece):
                payload.skip_zeros(len(piece))
            else:
                payload.write(memoryview(piece))

    rest = None if there is None else (c for c, what in zip(index, there, strict=True) if what != IN_PLACE)
    try:
        if not isinstance(out, InPlaceFile):
            os.ftruncate(out.fd, size)
        with closing(place_chunks(fetcher, put, chunks=rest, jobs=options.jobs)) as placed:
            for chunk in placed:
                counter.on_chunk(chunk)
                if isinstance(out, AtomicFile):
                    out.written_to(chunk.end)
                if sharer is not None:
                    for part in seeds.parts(chunk.id):
                        sharer.add(part.path, part.offset, out.fd, chunk.start + part.at, part.size)
        if sharer is not None:
            sharer.flush()
    except OSError as error:
        raise FileError(out.path, "write", error) from error
