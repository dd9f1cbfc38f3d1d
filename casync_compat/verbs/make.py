"""Making archives and indexes: a tree or a blob in, a file (and chunks in a store) out.

    >>> result = make_archive_index(b"etc.caidx", b"/etc", LocalStore(b"default.castr"))
    >>> print(result.digest)

An output file appears only when it is whole, and an index only after every chunk that it names is durable. The bytes
are casync's; the order of work is ours: reading, cutting, hashing and compressing overlap on all processors.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from casync_compat.cache.archive import Job, KeepingStore, archive_with_cache
from casync_compat.chunker import ChunkSizes
from casync_compat.errors import FileError, UsageError
from casync_compat.fs.atomic import AtomicFile
from casync_compat.fs.blob import BlobInput
from casync_compat.fs.owners import IdShift
from casync_compat.fs.scan.runs import FileRun
from casync_compat.fs.scan.scanner import Scanner
from casync_compat.fs.standard import StandardOutput
from casync_compat.ids import ChunkId, Digest
from casync_compat.index import Index, digest_of_flags
from casync_compat.progress import ProgressCallback, Reporter
from casync_compat.store.base import ChunkSink
from casync_compat.streams.sinks import ChunkCounts, ChunkingSink, DigestSink, FileSink, Sink
from catar.encoder import Encoder
from catar.errors import CatarError
from catar.flags import DEFAULT, select
from catar.records import Node

__all__ = [
    "BLOB_FLAGS",
    "MakeResult",
    "digest_blob",
    "digest_tree",
    "make_archive",
    "make_archive_index",
    "make_blob_index",
]

BLOB_FLAGS = select(default=0)
"""Feature flags of a blob index by default: 0xb000000000000000."""


@dataclass(frozen=True, slots=True)
class MakeResult:
    """What a run made.

    :ivar digest: of the archive's or blob's bytes; None when it was left out
    :ivar size: of the archive or blob, in bytes
    :ivar entries: nodes archived; 0 for a blob
    :ivar chunks: counts, None for a plain archive
    :ivar index: the index written, None for a plain archive
    :ivar cached: chunks known from a cache, which nobody looked at; None without a cache
    """

    digest: ChunkId | None
    size: int
    entries: int
    chunks: ChunkCounts | None = None
    index: Index | None = None
    cached: int | None = None


def _output(path: bytes | None, mode: int) -> AtomicFile | StandardOutput:
    return StandardOutput() if path is None else AtomicFile(path, mode & 0o666)


def _identity(paths: Iterable[bytes | None]) -> list[tuple[int, int]]:
    """`(device, inode)` of those paths that exist."""
    out = []
    for path in paths:
        if path is not None:
            try:
                st = os.stat(path)
            except OSError:
                continue
            out.append((st.st_dev, st.st_ino))
    return out


def _directory_mode(source: bytes) -> int:
    try:
        st = os.stat(source)
    except OSError as error:
        raise FileError(source, "open", error) from error
    if not stat.S_ISDIR(st.st_mode):
        raise FileError(source, "archive", "it is not a directory; a file or device makes a .caibx")
    return st.st_mode


def _encode(scanner: Scanner, sink: Sink, reporter: Reporter, counts: ChunkCounts | None = None) -> int:
    """Feed a tree through an encoder into a sink. Returns the number of nodes."""
    encoder = Encoder(scanner.feature_flags)
    begin, advance, end_directory = encoder.begin, encoder.advance, encoder.end_directory
    entries = 0
    scanner.runs_into(sink.room)
    for step in scanner.steps():
        if type(step) is FileRun:
            entries += _fill(step, encoder, scanner, sink)
            if reporter.due:
                _report(reporter, sink, entries, scanner.path, counts)
            continue
        if type(step) is not Node:
            sink.write(end_directory())
            continue
        try:
            sink.write(begin(step))
        except CatarError as error:
            raise FileError(scanner.full_path, "archive", str(error)) from error
        entries += 1
        if step.size:
            ready = scanner.take_ready()
            if ready is not None:
                sink.write(ready)
                advance(len(ready))
            else:
                while count := scanner.payload_into(sink.room()):
                    sink.advance(count)
                    advance(count)
                    if reporter.due:
                        _report(reporter, sink, entries, scanner.path, counts)
        if reporter.due:
            _report(reporter, sink, entries, scanner.path, counts)
    return entries


def _fill(run: FileRun, encoder: Encoder, scanner: Scanner, sink: Sink) -> int:
    """Complete a run of files that lie in the sink's room. Returns their number."""
    try:
        size = encoder.fill(run.room, 0, run.names, run.rows, run.owners)
    except CatarError as error:
        raise FileError(scanner.full_path, "archive", str(error)) from error
    sink.advance(size)
    return len(run)


def _report(reporter: Reporter, sink: Sink, entries: int, path: bytes, counts: ChunkCounts | None) -> None:
    state = reporter.state
    state.done = sink.written
    state.entries = entries
    state.path = path
    if counts is not None:
        state.chunks = counts.total
        state.new_chunks = counts.new
    reporter.report()


def make_archive(
    output: bytes | None,
    source: bytes,
    *,
    feature_flags: int = DEFAULT,
    shift: IdShift | None = None,
    stream_digest: bool = True,
    progress: ProgressCallback | None = None,
) -> MakeResult:
    """Write a directory as an archive (.catar).

    :param output: path of the archive, None for standard output
    :param source: the directory
    :param feature_flags: what to record, normalised; they also say which digest is made
    :param stream_digest: whether to hash the archive
    :raises FileError: naming the file that could not be read or written
    """
    mode = _directory_mode(source)
    digest = digest_of_flags(feature_flags) if stream_digest else None
    reporter = Reporter(progress)
    with _output(output, mode) as out, FileSink(out.write, digest) as sink:
        skip = _identity([output]) + _file_identity(out)
        with Scanner(source, feature_flags, shift=shift, skip=skip) as scanner:
            entries = _encode(scanner, sink, reporter)
        sink.finish()
    return MakeResult(sink.digest, sink.written, entries)


def _file_identity(out: AtomicFile | StandardOutput) -> list[tuple[int, int]]:
    st = os.fstat(out.fd)
    return [(st.st_dev, st.st_ino)] if stat.S_ISREG(st.st_mode) else []


def make_archive_index(
    output: bytes | None,
    source: bytes,
    store: ChunkSink,
    *,
    feature_flags: int = DEFAULT,
    sizes: ChunkSizes | None = None,
    shift: IdShift | None = None,
    stream_digest: bool = True,
    jobs: int | None = None,
    skip: Sequence[bytes] = (),
    cache: bytes | None = None,
    warn: Callable[[str], None] | None = None,
    progress: ProgressCallback | None = None,
) -> MakeResult:
    """Write a directory as an archive cut into chunks: an index (.caidx), and chunks in a store.

    :param output: path of the index, None for standard output
    :param store: takes the chunks; they are durable before the index appears
    :param sizes: chunk sizes; None for casync's default
    :param jobs: threads that hash and compress, None for one a processor
    :param skip: paths that are not archived although they lie in `source`, say the store; one that is missing is made
        a directory, since a file is told by its inode
    :param cache: directory of caches, from which to learn what need not be read again; it is not archived. The stream
        is then not hashed
    :param warn: called with one line when the cache is damaged; it is then made anew
    :raises UsageError: when the store cannot be used with a cache
    :raises FileError: naming the file that could not be read or written
    """
    mode = _directory_mode(source)
    reporter = Reporter(progress)
    sizes = sizes or ChunkSizes()
    with _output(output, mode) as out:
        for path in [*skip, *([cache] if cache is not None else [])]:
            with suppress(OSError):  # it is there, or whoever needs it will say why it cannot be made
                os.mkdir(path)
        skipped = _identity([output, *skip, cache]) + _file_identity(out)
        if cache is not None:
            if not isinstance(store, KeepingStore):
                raise UsageError("this kind of store cannot be used with a cache")
            job = Job(source, store, feature_flags, sizes, shift or IdShift(), skipped, jobs)
            run = archive_with_cache(cache, job, reporter, warn or _no_warning)
            out.write(run.index.to_bytes())
            return MakeResult(None, run.index.size, run.entries, run.counts, run.index, run.hits)
        with ChunkingSink(store, sizes, feature_flags, stream_digest=stream_digest, jobs=jobs) as sink:
            with Scanner(source, feature_flags, shift=shift, skip=skipped) as scanner:
                entries = _encode(scanner, sink, reporter, sink.counts)
            sink.finish()
            index = sink.index
            out.write(index.to_bytes())
    return MakeResult(sink.digest, sink.written, entries, sink.counts, index)


def _no_warning(text: str) -> None:
    pass


def make_blob_index(
    output: bytes | None,
    source: bytes | None,
    store: ChunkSink,
    *,
    feature_flags: int = BLOB_FLAGS,
    sizes: ChunkSizes | None = None,
    stream_digest: bool = True,
    jobs: int | None = None,
    progress: ProgressCallback | None = None,
) -> MakeResult:
    """Write a file, block device or stream as chunks: an index (.caibx), and chunks in a store.

    :param source: a regular file or block device; None for standard input, which may be a pipe
    :raises FileError: naming the file that could not be read or written
    """
    reporter = Reporter(progress)
    with (
        BlobInput(source) as blob,
        _output(output, blob.mode) as out,
        ChunkingSink(
            store, sizes or ChunkSizes(), feature_flags, stream_digest=stream_digest, jobs=jobs
        ) as sink,
    ):
        reporter.state.total = blob.size
        _read_blob(blob, sink, reporter, sink.counts)
        sink.finish()
        index = sink.index
        out.write(index.to_bytes())
    return MakeResult(sink.digest, sink.written, 0, sink.counts, index)


def _read_blob(blob: BlobInput, sink: Sink, reporter: Reporter, counts: ChunkCounts | None = None) -> None:
    while True:
        hole = blob.take_hole()
        if hole:
            sink.write_zeros(hole)
        elif count := blob.read_into(sink.room()):
            sink.advance(count)
        else:
            break
        if reporter.due:
            _report(reporter, sink, 0, blob.path, counts)


def digest_tree(
    source: bytes,
    *,
    feature_flags: int = DEFAULT,
    shift: IdShift | None = None,
    progress: ProgressCallback | None = None,
) -> ChunkId:
    """Digest of the archive that a directory would make.

    :raises FileError: naming the file that could not be read
    """
    _directory_mode(source)
    with (
        DigestSink(digest_of_flags(feature_flags)) as sink,
        Scanner(source, feature_flags, shift=shift) as scanner,
    ):
        _encode(scanner, sink, Reporter(progress))
        sink.finish()
        return _known(sink.digest)


def digest_blob(source: bytes | None, digest: Digest, *, progress: ProgressCallback | None = None) -> ChunkId:
    """Digest of a file, block device or stream.

    :raises FileError: naming the file that could not be read
    """
    with BlobInput(source) as blob, DigestSink(digest) as sink:
        reporter = Reporter(progress)
        reporter.state.total = blob.size
        _read_blob(blob, sink, reporter)
        sink.finish()
        return _known(sink.digest)


def _known(digest: ChunkId | None) -> ChunkId:
    assert digest is not None
    return digest
