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
from dataclasses import dataclass, field

from casync_compat.cache.archive import Job, archive_with_cache
from casync_compat.chunker import ChunkSizes
from casync_compat.errors import FileError, UsageError
from casync_compat.fs.atomic import AtomicFile
from casync_compat.fs.blob import BlobInput
from casync_compat.fs.losses import LeftOutKind, Losses
from casync_compat.fs.owners import IdShift
from casync_compat.fs.scan.scanner import Scanner
from casync_compat.fs.standard import StandardOutput
from casync_compat.ids import ChunkId, Digest
from casync_compat.index import Index, digest_of_flags
from casync_compat.progress import ProgressCallback, Reporter, Warn, no_warning
from casync_compat.store.base import ChunkSink, Keeping
from casync_compat.store.dry import DryStore
from casync_compat.store.files import StoredFile
from casync_compat.streams.archive import Archiver, MakeResult, report
from casync_compat.streams.chunking import ChunkCounts, ChunkingSink
from casync_compat.streams.inputs import Input, open_stored
from casync_compat.streams.leasing import Lease
from casync_compat.streams.sinks import DigestSink, FileSink, Sink
from catar.flags import DEFAULT, select

__all__ = [
    "BLOB_FLAGS",
    "MakeOptions",
    "MakeResult",
    "digest_blob",
    "digest_tree",
    "make_archive",
    "make_archive_index",
    "make_blob_index",
]


_PIECE = 256 << 10

BLOB_FLAGS = select(default=0)
"""Feature flags of a blob index by default: 0xb000000000000000."""


@dataclass(frozen=True, slots=True)
class MakeOptions:
    """What is made, and how. A plain archive has no chunks: what is said of chunks is ignored there.

    :ivar feature_flags: what to record, normalised (`catar.flags.select`); they also say which digest is made. None for
        casync's default, for trees or for blobs
    :ivar sizes: chunk sizes
    :ivar shift: how owners are stored
    :ivar stream_digest: whether to hash the whole archive or blob
    :ivar jobs: threads that hash and compress, None for one a processor
    :ivar skip: paths that are not archived although they lie in the tree, say the store; one that is missing is made a
        directory, since a file is told by its inode
    :ivar strict: whether to fail at the first thing that cannot be read as it was; else the rest is archived
    :ivar cache: directory of caches of trees that are made indexes of, from which to learn what need not be read again;
        it is not archived. The stream is then not hashed
    :ivar cache_certain: whether to read again, too, what may have changed unseen: through a mapping, within two minutes
        before the run that the cache is of, or on tmpfs
    :ivar dry_run: write nothing, neither output nor chunks nor cache; the counts say what would be written
    """

    feature_flags: int | None = None
    sizes: ChunkSizes = field(default_factory=ChunkSizes)
    shift: IdShift = field(default_factory=IdShift)
    stream_digest: bool = True
    jobs: int | None = None
    skip: Sequence[bytes] = ()
    cache: bytes | None = None
    cache_certain: bool = False
    strict: bool = False
    dry_run: bool = False

    @property
    def tree_flags(self) -> int:
        """`feature_flags` for a tree."""
        return DEFAULT if self.feature_flags is None else self.feature_flags

    @property
    def blob_flags(self) -> int:
        """`feature_flags` for a blob."""
        return BLOB_FLAGS if self.feature_flags is None else self.feature_flags

    def losses(self, warn: Warn | None) -> Losses | None:
        """A place for what cannot be read as it was; None where nothing may be lost."""
        return None if self.strict else Losses(warn)


_DEFAULT = MakeOptions()


def _kinds(losses: Losses | None) -> tuple[LeftOutKind, ...]:
    return () if losses is None else losses.kinds


def _output(path: bytes | None, mode: int, options: MakeOptions) -> AtomicFile | StandardOutput:
    if options.dry_run:
        return AtomicFile(os.fsencode(os.devnull))
    return StandardOutput() if path is None else AtomicFile(path, mode & 0o666)


def _skip(out: AtomicFile | StandardOutput) -> Callable[[int], None] | None:
    """How zeros are passed over; None where each is to be written."""
    return out.skip if isinstance(out, AtomicFile) and out.new else None


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


def make_archive(
    output: bytes | None,
    source: bytes,
    options: MakeOptions = _DEFAULT,
    *,
    warn: Warn | None = None,
    progress: ProgressCallback | None = None,
) -> MakeResult:
    """Write a directory as an archive (.catar).

    :param output: path of the archive, None for standard output
    :param source: the directory
    :param warn: called with one line about each thing that is not archived as it was
    :raises FileError: naming the file that could not be read or written
    """
    mode = _directory_mode(source)
    flags = options.tree_flags
    digest = digest_of_flags(flags) if options.stream_digest else None
    losses = options.losses(warn)
    with _output(output, mode, options) as out, FileSink(out.write, digest, _skip(out)) as sink:
        skip = _identity([output]) + _file_identity(out)
        with Scanner(source, flags, shift=options.shift, skip=skip, losses=losses) as scanner:
            scanner.runs_into(sink.room)
            entries = Archiver(scanner, sink, flags, Reporter(progress)).run()
        sink.finish()
    return MakeResult(sink.digest, sink.written, entries, left_out=_kinds(losses), excluded=scanner.excluded)


def _file_identity(out: AtomicFile | StandardOutput) -> list[tuple[int, int]]:
    st = os.fstat(out.fd)
    return [(st.st_dev, st.st_ino)] if stat.S_ISREG(st.st_mode) else []


def make_archive_index(
    output: bytes | None,
    source: bytes,
    store: ChunkSink,
    options: MakeOptions = _DEFAULT,
    *,
    lease: Lease | None = None,
    warn: Warn | None = None,
    progress: ProgressCallback | None = None,
) -> MakeResult:
    """Write a directory as an archive cut into chunks: an index (.caidx), and chunks in a store.

    :param output: path of the index, None for standard output
    :param store: takes the chunks; they are durable before the index appears
    :param lease: of the store (`streams.leasing.writing`), until the index is in place
    :param warn: called with one line about each thing that is not archived as it was, and when the cache is damaged,
        which is then made anew
    :raises UsageError: when the store cannot be used with a cache
    :raises FileError: naming the file that could not be read or written
    """
    mode = _directory_mode(source)
    reporter = Reporter(progress)
    flags, sizes, cache = options.tree_flags, options.sizes, options.cache
    losses = options.losses(warn)
    with _output(output, mode, options) as out:
        for path in [*options.skip, *([cache] if cache is not None else [])]:
            if options.dry_run:
                break
            with suppress(OSError):  # it is there, or whoever needs it will say why it cannot be made
                os.mkdir(path)
        skipped = _identity([output, *options.skip, cache]) + _file_identity(out)
        if cache is not None and not options.dry_run:
            if not isinstance(store, Keeping):
                raise UsageError("this kind of store cannot be used with a cache")
            job = Job(
                source,
                store,
                flags,
                sizes,
                options.shift,
                skipped,
                options.jobs,
                losses,
                options.cache_certain,
            )
            run = archive_with_cache(cache, job, reporter, warn or no_warning)
            _keep(lease, run.index)
            out.write(run.index.to_bytes())
            size, left_out = run.index.size, _kinds(losses)
            return MakeResult(
                None, size, run.entries, run.counts, run.index, run.hits, left_out, run.excluded
            )
        with _chunking(store, flags, options) as sink:
            with Scanner(source, flags, shift=options.shift, skip=skipped, losses=losses) as scanner:
                scanner.runs_into(sink.room)
                entries = Archiver(scanner, sink, flags, reporter, sink.counts).run()
            sink.finish()
            index = sink.index
            _keep(lease, index)
            out.write(index.to_bytes())
    left_out, excluded = _kinds(losses), scanner.excluded
    return MakeResult(
        sink.digest, sink.written, entries, sink.counts, index, left_out=left_out, excluded=excluded
    )


def _keep(lease: Lease | None, index: Index) -> None:
    if lease is not None:
        lease.keep(index)


def _chunking(store: ChunkSink, flags: int, options: MakeOptions) -> ChunkingSink:
    if options.dry_run and not isinstance(store, DryStore):
        store = DryStore(store)
    return ChunkingSink(store, options.sizes, flags, stream_digest=options.stream_digest, jobs=options.jobs)


def make_blob_index(
    output: bytes | None,
    source: bytes | None,
    store: ChunkSink,
    options: MakeOptions = _DEFAULT,
    *,
    lease: Lease | None = None,
    warn: Warn | None = None,
    progress: ProgressCallback | None = None,
) -> MakeResult:
    """Write a file, block device or stream as chunks: an index (.caibx), and chunks in a store.

    :param source: a regular file or block device; None for standard input, which may be a pipe
    :param lease: as for `make_archive_index`
    :param warn: called with one line when it is not read as it was
    :raises FileError: naming the file that could not be read or written
    """
    reporter = Reporter(progress)
    losses = options.losses(warn)
    with (
        BlobInput(source, losses) as blob,
        _output(output, blob.mode, options) as out,
        _chunking(store, options.blob_flags, options) as sink,
    ):
        reporter.state.total = blob.size
        _read_blob(blob, sink, reporter, sink.counts)
        sink.finish()
        index = sink.index
        _keep(lease, index)
        out.write(index.to_bytes())
    return MakeResult(sink.digest, sink.written, 0, sink.counts, index, left_out=_kinds(losses))


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
            report(reporter, sink.written, blob.path, counts=counts)
    blob.check()


def digest_tree(
    source: bytes,
    options: MakeOptions = _DEFAULT,
    *,
    losses: Losses | None = None,
    progress: ProgressCallback | None = None,
) -> ChunkId:
    """Digest of the archive that a directory would make.

    :param losses: told of what is not read as it was; None fails at the first
    :raises FileError: naming the file that could not be read
    """
    _directory_mode(source)
    flags = options.tree_flags
    with (
        DigestSink(digest_of_flags(flags)) as sink,
        Scanner(source, flags, shift=options.shift, losses=losses) as scanner,
    ):
        scanner.runs_into(sink.room)
        Archiver(scanner, sink, flags, Reporter(progress)).run()
        sink.finish()
        return _known(sink.digest)


def digest_blob(
    source: Input | None,
    digest: Digest,
    *,
    losses: Losses | None = None,
    progress: ProgressCallback | None = None,
) -> ChunkId:
    """Digest of a file, block device or stream.

    :param losses: told when it is not read as it was; None fails then
    :raises FileError: naming the file that could not be read
    """
    reporter = Reporter(progress)
    if isinstance(source, StoredFile):
        with open_stored(source, pages=True) as file, DigestSink(digest) as sink:
            while piece := file.read(_PIECE):
                sink.write(piece)
                if reporter.due:
                    report(reporter, sink.written, source.shown)
            sink.finish()
            return _known(sink.digest)
    with BlobInput(source, losses) as blob, DigestSink(digest) as sink:
        reporter.state.total = blob.size
        _read_blob(blob, sink, reporter)
        sink.finish()
        return _known(sink.digest)


def _known(digest: ChunkId | None) -> ChunkId:
    assert digest is not None
    return digest
