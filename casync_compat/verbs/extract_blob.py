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
from casync_compat.fs.apply.payload import PayloadWriter
from casync_compat.fs.apply.preview import Change, OnChange
from casync_compat.fs.atomic import AtomicFile
from casync_compat.fs.inplace import InPlaceFile, check_room
from casync_compat.fs.partial import PartialFile
from casync_compat.fs.reflink import BlockSharer
from casync_compat.fs.standard import StandardOutput
from casync_compat.index import Index, digest_of_flags
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
from casync_compat.streams.seeds import BlobSeed, Seeded, SeedSource

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
    index = load_index(source)
    if output is not None and not isinstance(source, StoredFile):
        _check_output(source, output)
    unused = UnusedSeeds(warn)
    if options.on_change is not None:
        return _preview(index, output, options.on_change)
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


def _preview(index: Index, output: bytes | None, on_change: OnChange) -> ExtractResult:
    """What would become of the output, from its contents and the index alone."""
    result = ExtractResult(0, index.size)
    if output is None:
        return result
    try:
        fd = os.open(output, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        try:
            os.stat(os.path.dirname(output) or b".")
        except OSError as error:
            raise FileError(output, "create", error) from error
        on_change(Change("create", output, False))
        return replace(result, created=1)
    except OSError as error:
        raise FileError(output, "open", error) from error
    try:
        check_room(fd, output, index.size)
        same = _has_chunks(fd, index)
    except OSError as error:
        raise FileError(output, "read", error) from error
    finally:
        os.close(fd)
    if not same:
        on_change(Change("change", output, False))
    return replace(result, updated=int(not same), unchanged=int(same))


def _has_chunks(fd: int, index: Index) -> bool:
    """Whether a file, or the begin of a device, is the blob."""
    st = os.fstat(fd)
    if stat.S_ISDIR(st.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not (stat.S_ISBLK(st.st_mode) or (stat.S_ISREG(st.st_mode) and st.st_size == index.size)):
        return False
    digest = digest_of_flags(index.feature_flags)
    for chunk in index:
        data = b""
        while len(data) < chunk.size and (
            more := os.pread(fd, chunk.size - len(data), chunk.start + len(data))
        ):
            data += more
        if digest.of(data) != chunk.id:
            return False
    return True


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
        identity = hashlib.sha256(index.to_bytes()).hexdigest()[:16]
        return stack.enter_context(PartialFile(output, identity, _can_go_on))
    return stack.enter_context(AtomicFile(output))


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
    cache = SeedCache(options.seed_cache)
    for path in options.seeds:
        try:
            for seed in file_seeds(path, index, jobs=options.jobs, cache=cache):
                seeds.add(seed)
        except CasyncError as error:
            unused.add(path, error)
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
