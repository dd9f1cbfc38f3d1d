"""The same content under another index: other chunk sizes, another digest.

A store that was filled fast with `--digest=blake3` or fixed sizes is for pycasync alone; this makes the index and
chunks that casync and desync read. An archive's entries carry the digest in their feature flags, so an archive is
encoded anew on the way; a blob's bytes stay as they are.
"""

from __future__ import annotations

from casync_compat.chunker import ChunkSizes
from casync_compat.errors import UsageError
from casync_compat.fs.atomic import AtomicFile
from casync_compat.ids import Digest
from casync_compat.index import digest_bits
from casync_compat.kinds import Kind
from casync_compat.progress import ProgressCallback, Reporter
from casync_compat.store.base import ChunkSink, ChunkSource
from casync_compat.streams.assemble import ChunkFetcher, ChunkStream
from casync_compat.streams.sinks import ChunkingSink, Sink
from casync_compat.streams.trees import Tree, load_index
from casync_compat.verbs.make import MakeResult
from catar.encoder import Encoder
from catar.flags import FeatureFlags
from catar.records import Node

__all__ = ["convert_index"]

_DIGESTS = int(FeatureFlags.SHA512_256 | FeatureFlags.BLAKE3)


def convert_index(
    kind: Kind,
    source: bytes,
    output: bytes,
    chunks: ChunkSource,
    store: ChunkSink,
    *,
    digest: Digest = Digest.SHA512_256,
    sizes: ChunkSizes | None = None,
    jobs: int | None = None,
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
    :raises CasyncError: or `catar.CatarError`; nothing appears at `output` then
    """
    if not kind.is_index:
        raise UsageError(f"a {kind.value} is not an index")
    index = load_index(source)
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
                entries = _encode_again(tree, features, sink, reporter)
        else:
            with ChunkStream(ChunkFetcher(index, chunks, source), jobs=jobs) as stream:
                while data := stream.read():
                    sink.write(data)
                    _tell(reporter, sink)
        sink.finish()
        made = sink.index
        out.write(made.to_bytes())
    return MakeResult(sink.digest, sink.written, entries, sink.counts, made)


def _encode_again(tree: Tree, features: int, sink: Sink, reporter: Reporter) -> int:
    encoder = Encoder(features)
    stream = tree.stream()
    entries = 0
    for step in stream:
        if type(step) is not Node:
            sink.write(encoder.end_directory())
            continue
        entries += 1
        sink.write(encoder.begin(step))
        for piece in stream.payload():
            sink.write(piece)
            encoder.advance(len(piece))
        _tell(reporter, sink)
    return entries


def _tell(reporter: Reporter, sink: Sink) -> None:
    if reporter.due:
        reporter.state.done = sink.written
        reporter.report()
