"""The same content under another index: other chunk sizes, another digest.

A store that was filled fast with `--digest=blake3` or fixed sizes is for pycasync alone; this makes the index and
chunks that casync and desync read. An archive's entries carry the digest in their feature flags, so an archive is
encoded anew on the way; a blob's bytes stay as they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from casync_compat.chunker import ChunkSizes
from casync_compat.errors import UsageError
from casync_compat.fs.atomic import AtomicFile
from casync_compat.ids import Digest
from casync_compat.index import digest_bits
from casync_compat.kinds import Kind
from casync_compat.progress import ProgressCallback, Reporter
from casync_compat.store.base import ChunkSink, ChunkSource
from casync_compat.streams.archive import Archiver, MakeResult, report
from casync_compat.streams.assemble import ChunkFetcher, ChunkStream
from casync_compat.streams.chunking import ChunkingSink
from casync_compat.streams.inputs import Input, load_index, path_of
from casync_compat.streams.leasing import Lease
from casync_compat.streams.trees import Tree
from catar.flags import FeatureFlags
from catar.records import DirectoryEnd, Node
from catar.walker import TreeStream

__all__ = ["convert_index"]

_DIGESTS = int(FeatureFlags.SHA512_256 | FeatureFlags.BLAKE3)


def convert_index(
    kind: Kind,
    source: Input,
    output: bytes,
    chunks: ChunkSource,
    store: ChunkSink,
    *,
    digest: Digest = Digest.SHA512_256,
    sizes: ChunkSizes | None = None,
    jobs: int | None = None,
    lease: Lease | None = None,
    progress: ProgressCallback | None = None,
) -> MakeResult:
    """Write the content of an index as another index.

    :param kind: `ARCHIVE_INDEX` or `BLOB_INDEX`
    :param source: the index file that is there
    :param output: the index file to make; it appears when all its chunks are durable
    :param chunks: where the chunks of `source` are
    :param store: where the new ones go; may be the same store
    :param digest: of the new chunk ids
    :param sizes: of the new chunks; None for casync's default
    :param lease: of `store` (`streams.leasing.writing`), until the index is in place
    :raises CasyncError: or `catar.CatarError`; nothing appears at `output` then
    """
    if not kind.is_index:
        raise UsageError(f"a {kind.value} is not an index")
    index = load_index(source)
    path = path_of(source)
    assert path is not None
    features = index.feature_flags & ~_DIGESTS | digest_bits(digest)
    reporter = Reporter(progress)
    reporter.state.total = index.size
    with (
        AtomicFile(output, 0o666) as out,
        ChunkingSink(store, sizes or ChunkSizes(), features, jobs=jobs) as sink,
    ):
        entries = 0
        if kind is Kind.ARCHIVE_INDEX:
            with Tree(kind, source, chunks, index=index, jobs=jobs) as tree:
                nodes = _Decoded(tree.stream(), path)
                entries = Archiver(nodes, sink, features, reporter, sink.counts).run()
        else:
            with ChunkStream(ChunkFetcher(index, chunks, path), jobs=jobs) as stream:
                while data := stream.read():
                    sink.write(data)
                    if reporter.due:
                        report(reporter, sink.written, path, counts=sink.counts)
        sink.finish()
        made = sink.index
        if lease is not None:
            lease.keep(made)
        out.write(made.to_bytes())
    return MakeResult(sink.digest, sink.written, entries, sink.counts, made)


class _Decoded:
    """A decoded tree as what an `Archiver` takes.

    :param source: path of the index
    """

    def __init__(self, stream: TreeStream, source: bytes) -> None:
        self._stream = stream
        self._source = source
        self._payload: Iterator[memoryview] = iter(())
        self._piece = memoryview(b"")

    @property
    def path(self) -> bytes:
        return self._stream.path

    @property
    def full_path(self) -> bytes:
        return os.path.join(self._source, self._stream.path)

    def steps(self) -> Iterator[Node | DirectoryEnd]:
        for step in self._stream:
            self._payload = self._stream.payload()
            yield step

    def take_ready(self) -> None:
        """Nothing: payloads come in pieces."""

    def take_hole(self) -> int:
        """Chunks have no holes."""
        return 0

    def payload_into(self, buffer: memoryview, /) -> int:
        if not self._piece:
            self._piece = next(self._payload, self._piece)
        count = min(len(buffer), len(self._piece))
        buffer[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count
