"""Extracting: an archive to a directory, a blob index to a file, block device or standard output.

    >>> extract_archive(Kind.ARCHIVE_INDEX, b"etc.caidx", b"/tmp/etc", LocalStore(b"default.castr"))

Chunks come from seeds first, then from the stores; every one is checked against its id before a byte of it is written.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from typing import Any

from casync_compat.errors import CasyncError, FileError, UsageError, show_path
from casync_compat.fs.apply.payload import PayloadWriter
from casync_compat.fs.apply.tree import ApplyOptions, TreeWriter
from casync_compat.fs.atomic import AtomicFile
from casync_compat.fs.blob import device_size
from casync_compat.fs.reflink import BLOCK, BlockSharer
from casync_compat.fs.standard import StandardOutput
from casync_compat.ids import Hasher
from casync_compat.index import Index, IndexChunk, digest_of_flags
from casync_compat.kinds import Kind
from casync_compat.progress import ProgressCallback, Reporter
from casync_compat.store.base import ChunkSource
from casync_compat.store.layered import Layered
from casync_compat.streams.assemble import ChunkFetcher, ChunkStream, place_chunks
from casync_compat.streams.seeds import BlobSeed, SeedSource, TreeSeed
from casync_compat.streams.transfer import OrderedPool, default_jobs
from casync_compat.streams.trees import Tree, load_index
from catar.encoder import Encoder
from catar.records import DirectoryEnd, Node
from catar.runs import Run, count_nodes, run_paths
from catar.walker import TreeStream, Walker

__all__ = ["ExtractOptions", "ExtractResult", "extract_archive", "extract_blob"]

Warn = Callable[[str], None]

_PIECE = 1 << 20
"""Bytes to read of an archive file at a time; smaller archives are extracted without threads."""
_WAITING = 2
"""Runs of files that wait to be written, beside those that threads are writing."""


def _no_warning(text: str) -> None:
    return None


@dataclass(frozen=True, slots=True)
class ExtractOptions:
    """How extraction goes about it.

    :ivar apply: how the tree is written
    :ivar seeds: files (for blobs) or directories (for archives) to take unchanged data from
    :ivar seed_output: use the output as it was as a seed too
    :ivar reflink: share blocks with seeds where the file system can
    :ivar hardlink: hard-link files that are the same in a seed, metadata included
    :ivar jobs: threads that fetch and decompress, None for one a processor
    """

    apply: ApplyOptions = field(default_factory=ApplyOptions)
    seeds: tuple[bytes, ...] = ()
    seed_output: bool = True
    reflink: bool = True
    hardlink: bool = False
    jobs: int | None = None


@dataclass(frozen=True, slots=True)
class ExtractResult:
    """What a run did.

    :ivar entries: nodes written; 0 for a blob
    :ivar size: bytes of the archive or blob that were read
    :ivar chunks: chunks used; those `from_seeds` are among them
    :ivar shared: bytes that share blocks with a seed
    """

    entries: int
    size: int
    chunks: int = 0
    from_seeds: int = 0
    seed_bytes: int = 0
    shared: int = 0


class _Counter:
    """Keeps the progress of a run."""

    def __init__(self, progress: ProgressCallback | None, total: int | None, seeds: SeedSource) -> None:
        self.reporter = Reporter(progress)
        self.reporter.state.total = total
        self._seeds = seeds
        self.chunks = 0
        self.entries = 0

    def on_step(self, step: Node | DirectoryEnd | Run, path: bytes) -> None:
        """A step of a tree was written."""
        self.entries += count_nodes(step) if isinstance(step, Run) else isinstance(step, Node)
        self.reporter.state.entries = self.entries
        self.reporter.state.path = path

    def on_piece(self, step: Node | DirectoryEnd | Run) -> None:
        """A piece of a file's payload, or a run of files, was written, of an archive that has no chunks to count."""
        if self.reporter.due:
            if isinstance(step, Node):
                self.reporter.state.done = step.payload_offset
            elif isinstance(step, Run):
                self.reporter.state.done = step.base
            self.reporter.report()

    def on_chunk(self, chunk: IndexChunk) -> None:
        self.chunks += 1
        state = self.reporter.state
        state.done = chunk.end
        if self.reporter.due:
            state.chunks = self.chunks
            # Seeds are asked ahead of what was handed out, so the difference is a lower bound, and may shrink.
            state.new_chunks = max(self.chunks - self._seeds.used, state.new_chunks)
            self.reporter.report()


# Trees


def _tree_seeds(
    index: Index | None,
    features: int,
    output: bytes,
    options: ExtractOptions,
    seeds: SeedSource,
    warn: Warn,
) -> None:
    """Read the seeds of a tree. One that was asked for must be there; the output need not."""
    links = digest_of_flags(features) if options.hardlink else None
    if index is None and links is None:
        return

    def read(path: bytes) -> None:
        seeds.add(TreeSeed(path, index, features, shift=options.apply.shift, links=links, jobs=options.jobs))

    for path in options.seeds:
        if not os.path.isdir(path):
            raise FileError(path, "use as a seed", "it is not a directory, and archives need one")
        read(path)
    if options.seed_output and index is not None and _has_entries(output):
        try:
            read(output)
        except CasyncError as error:
            warn(f"{show_path(output)} is not used as a seed: {error}")


def _has_entries(path: bytes) -> bool:
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is not None
    except OSError:
        return False


class _Links:
    """Finds, for each file that was extracted, an identical one to link to instead.

    Files are told by casync's hard link digest: over everything from the ENTRY to the end of the payload.
    """

    def __init__(self, features: int, seeds: SeedSource) -> None:
        self._features = features
        self._digest = digest_of_flags(features)
        self._seeds = seeds
        self._hasher: Hasher | None = None

    def begin(self, node: Node) -> None:
        self._hasher = None
        if node.is_regular:
            top = replace(node, name=b"")
            self._hasher = self._digest.new()
            self._hasher.update(Encoder(self._features, any_top=True).begin(top))

    def update(self, piece: memoryview) -> None:
        if self._hasher is not None:
            self._hasher.update(piece)

    def candidate(self, node: Node, path: bytes) -> bytes | None:
        return self._seeds.link_target(self._hasher.digest()) if self._hasher is not None else None


class _Sharing:
    """Shares the blocks of extracted files with the seeds that their chunks came from."""

    def __init__(self, index: Index, seeds: SeedSource) -> None:
        self.sharer = BlockSharer()
        self._index = index
        self._seeds = seeds

    def on_payload(self, fd: int, node: Node, path: bytes) -> None:
        if not self._seeds.used or node.size < BLOCK:
            return
        begin, end = node.payload_offset, node.payload_offset + node.size
        for chunk in self._index.chunks(self._index.at(begin)):
            if chunk.start >= end:
                break
            first, last = max(chunk.start, begin), min(chunk.end, end)
            for part in self._seeds.parts(chunk.id, first - chunk.start, last - chunk.start):
                at = chunk.start + part.at - begin
                self.sharer.add(part.path, part.offset, fd, at, part.size)
        self.sharer.flush()


class _Restoring:
    """Takes a stream's nodes to a `TreeWriter`, which is made when the archive's feature flags are known.

    :param sharing: shares blocks with seeds; None for nobody
    :param pool: threads to write files on; None for the caller's
    :param name: write the top node as this entry of `output`
    """

    def __init__(
        self,
        output: bytes,
        options: ExtractOptions,
        links: Callable[[int], _Links] | None,
        sharing: _Sharing | None,
        pool: OrderedPool[Any] | None,
        warn: Warn,
        name: bytes | None,
    ) -> None:
        self._output = output
        self._options = options
        self._make_links = links
        self._sharing = sharing
        self._pool = pool
        self._warn = warn
        self._name = name
        self._links: _Links | None = None
        self._writer: TreeWriter | None = None

    def steps(self, stream: TreeStream) -> Iterator[Node | DirectoryEnd | Run]:
        """The stream's steps, in runs unless somebody wants to see every single file."""
        if isinstance(stream, Walker) and self._sharing is None and self._make_links is None:
            return stream.runs()
        return iter(stream)

    def take(self, step: Node | DirectoryEnd | Run, stream: TreeStream) -> None:
        """Write a step, all but the payload that is still in the stream."""
        writer = self._writer or self._begin(stream.feature_flags)
        if isinstance(step, Run):
            writer.feed_run(step)
            return
        if self._links is not None and isinstance(step, Node):
            self._links.begin(step)
        writer.feed(step, stream.path)

    def payload(self, stream: TreeStream) -> Iterator[None]:
        """Write the payload that is still in the stream; pauses after each piece."""
        writer = self._writer
        if writer is None or not writer.wants_payload:
            return
        for piece in stream.payload():
            if self._links is not None:
                self._links.update(piece)
            writer.write(piece)
            yield

    def _begin(self, features: int) -> TreeWriter:
        self._links = self._make_links(features) if self._make_links is not None else None
        self._writer = TreeWriter(
            self._output,
            features,
            self._options.apply,
            warn=self._warn,
            name=self._name,
            on_payload=self._sharing.on_payload if self._sharing is not None else None,
            link_candidate=self._links.candidate if self._links is not None else None,
            pool=self._pool,
            depth=_WAITING + (self._options.jobs or default_jobs()),
        )
        return self._writer

    def finish(self) -> None:
        if self._writer is not None:
            self._writer.finish()

    def abort(self) -> None:
        if self._writer is not None:
            self._writer.abort()


def _paths(step: Node | DirectoryEnd | Run, path: bytes) -> Iterator[bytes]:
    """The paths of the nodes that begin with a step."""
    if isinstance(step, Run):
        yield from run_paths(step, path)
    elif isinstance(step, Node):
        yield path


def extract_archive(
    kind: Kind,
    source: bytes | None,
    output: bytes,
    store: ChunkSource | None = None,
    *,
    inside: bytes = b"",
    options: ExtractOptions | None = None,
    warn: Warn = _no_warning,
    on_node: Callable[[bytes], None] | None = None,
    progress: ProgressCallback | None = None,
) -> ExtractResult:
    """Restore an archive, or one node of it, to a directory.

    :param kind: `ARCHIVE` or `ARCHIVE_INDEX`
    :param source: the archive or index file; None for standard input
    :param output: the directory; made when it is missing, updated in place when it is there
    :param store: where an index's chunks are
    :param inside: path in the archive: that node alone is restored, as `output`/NAME
    :param warn: called with each warning, one line
    :param on_node: called with the path of each node when it begins
    :raises CasyncError: or `catar.CatarError`; what was complete until then stays, nothing half-written does
    """
    options = options or ExtractOptions()
    index = load_index(source) if kind is Kind.ARCHIVE_INDEX else None
    with ExitStack() as stack:
        seeds = stack.enter_context(SeedSource())
        if index is not None:
            _tree_seeds(index, index.feature_flags, output, options, seeds, warn)
            if store is None:
                raise UsageError("an index needs a chunk store")
            store = Layered(seeds, store) if seeds.seeds else store
        tree = stack.enter_context(Tree(kind, source, store, index=index, jobs=options.jobs))
        counter = _Counter(progress, tree.size, seeds)
        sharing = _Sharing(index, seeds) if index is not None and options.reflink and seeds.seeds else None
        pool: OrderedPool[Any] | None = None
        if tree.size is None or tree.size > _PIECE:  # no threads for small archives
            pool = stack.enter_context(OrderedPool(options.jobs or default_jobs(), depth=1))

        def links(features: int) -> _Links:
            if index is None:
                _tree_seeds(None, features, output, options, seeds, warn)
            return _Links(features, seeds)

        name = inside.strip(b"/").rpartition(b"/")[2] or None
        hardlinks = links if options.hardlink else None
        restoring = _Restoring(output, options, hardlinks, sharing, pool, warn, name)
        stream = tree.stream(inside, on_chunk=counter.on_chunk, piece=_PIECE)
        try:
            for step in restoring.steps(stream):
                if on_node is not None:
                    for path in _paths(step, stream.path):
                        on_node(path)
                restoring.take(step, stream)
                for _ in restoring.payload(stream):
                    if index is None:
                        counter.on_piece(step)
                counter.on_step(step, stream.path)
                if index is None and isinstance(step, Run):
                    counter.on_piece(step)
            restoring.finish()
        except BaseException:
            restoring.abort()
            raise
        shared = sharing.sharer.shared if sharing is not None else 0
        return ExtractResult(
            counter.entries, tree.size or 0, counter.chunks, seeds.used, seeds.used_bytes, shared
        )


# Blobs


def extract_blob(
    source: bytes | None,
    output: bytes | None,
    store: ChunkSource,
    *,
    options: ExtractOptions | None = None,
    warn: Warn = _no_warning,
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
    with ExitStack() as stack:
        seeds = stack.enter_context(SeedSource())
        _blob_seeds(index, output, options, seeds, warn)
        fetcher = ChunkFetcher(index, Layered(seeds, store) if seeds.seeds else store, source)
        counter = _Counter(progress, index.size, seeds)
        sharer = BlockSharer() if options.reflink and seeds.seeds else None
        out = _open_output(stack, output)
        regular = stat.S_ISREG(os.fstat(out.fd).st_mode) and output is not None
        if output is not None and not regular:
            _check_room(out.fd, output, index.size)
        if regular:
            _write_file(out, fetcher, options, counter, seeds, sharer)
        else:
            stream = stack.enter_context(ChunkStream(fetcher, jobs=options.jobs, on_chunk=counter.on_chunk))
            while data := stream.read():
                out.write(data)
            if output is not None and stat.S_ISBLK(os.fstat(out.fd).st_mode):
                os.fsync(out.fd)
        shared = sharer.shared if sharer is not None else 0
        return ExtractResult(0, index.size, counter.chunks, seeds.used, seeds.used_bytes, shared)


def _open_output(stack: ExitStack, output: bytes | None) -> AtomicFile | StandardOutput:
    if output is None:
        return stack.enter_context(StandardOutput())
    return stack.enter_context(AtomicFile(output))


def _blob_seeds(
    index: Index, output: bytes | None, options: ExtractOptions, seeds: SeedSource, warn: Warn
) -> None:
    for path in options.seeds:
        seeds.add(BlobSeed(path, index, jobs=options.jobs))
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


def _check_room(fd: int, output: bytes, size: int) -> None:
    if stat.S_ISBLK(os.fstat(fd).st_mode):
        there = device_size(fd)
        if there < size:
            raise FileError(output, "write", f"the device has {there} bytes, the blob {size}")


def _write_file(
    out: AtomicFile | StandardOutput,
    fetcher: ChunkFetcher,
    options: ExtractOptions,
    counter: _Counter,
    seeds: SeedSource,
    sharer: BlockSharer | None,
) -> None:
    """Write an empty regular file, from whatever thread has the next chunks."""
    size = fetcher.index.size

    def put(offset: int, pieces: list[bytes]) -> None:
        payload = PayloadWriter(out.fd, size, options.apply.punch_holes, offset)
        for piece in pieces:
            if fetcher.is_zeros(piece):
                payload.skip_zeros(len(piece))
            else:
                payload.write(memoryview(piece))

    try:
        os.ftruncate(out.fd, size)
        with closing(place_chunks(fetcher, put, jobs=options.jobs)) as placed:
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
