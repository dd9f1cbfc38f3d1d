"""Digests of archives and blobs that are already there, whole or in part."""

from __future__ import annotations

from casync_compat.ids import ChunkId, Digest
from casync_compat.index import Index, digest_of_flags
from casync_compat.progress import ProgressCallback, Reporter
from casync_compat.store.base import ChunkSource
from casync_compat.streams.assemble import ChunkFetcher, ChunkStream
from casync_compat.streams.transfer import Sequencer
from casync_compat.streams.trees import Tree
from catar.decoder import END, NEED_DATA
from catar.errors import CatarError

__all__ = ["digest_index", "digest_tree_part"]

_PIECE = 256 << 10
_WHOLE = 1 << 20
"""Bytes of an archive file to read at a time: the fewer pieces, the less there is to do between them."""


class _Hashing:
    """Hashes pieces in order, on a thread of its own."""

    def __init__(self, digest: Digest, progress: ProgressCallback | None, total: int | None) -> None:
        self._hasher = digest.new()
        self._sequencer = Sequencer(depth=16)
        self._reporter = Reporter(progress)
        self._reporter.state.total = total

    def update(self, data: bytes | memoryview) -> None:
        self._sequencer.submit(self._hasher.update, data)
        self._reporter.state.done += len(data)
        if self._reporter.due:
            self._reporter.report()

    def finish(self) -> ChunkId:
        self._sequencer.wait()
        return ChunkId(self._hasher.digest())

    def close(self) -> None:
        self._sequencer.close()


def digest_index(
    index: Index,
    store: ChunkSource,
    digest: Digest,
    *,
    path: bytes | None = None,
    progress: ProgressCallback | None = None,
) -> ChunkId:
    """Digest of the stream that an index describes.

    :param path: of the index file, for messages
    :raises StoreError: when a chunk cannot be had
    """
    hashing = _Hashing(digest, progress, index.size)
    try:
        with ChunkStream(ChunkFetcher(index, store, path)) as stream:
            while data := stream.read():
                hashing.update(data)
        return hashing.finish()
    finally:
        hashing.close()


def digest_tree_part(
    tree: Tree, inside: bytes = b"", *, progress: ProgressCallback | None = None
) -> tuple[ChunkId, Digest]:
    """Digest of an archive, or of what stands at a path in it: a file's contents, a directory's serialisation.

    The archive is checked on the way, and bytes after its end do not count.

    :returns: the digest, and the algorithm, which the archive says
    :raises FormatError: when the archive is malformed
    """
    if not inside.strip(b"/"):
        return _digest_nodes(tree, None, progress)
    archive = tree.archive()
    where = archive.locate(inside)
    node = archive.node_at(where)
    if node.is_dir:
        return _digest_nodes(tree, inside, progress)
    if not node.is_regular:
        raise CatarError("neither a regular file nor a directory, so it has no digest")
    digest = digest_of_flags(archive.feature_flags)
    hashing = _Hashing(digest, progress, node.size)
    try:
        with archive.open(inside) as file:
            while piece := file.read(_PIECE):
                hashing.update(piece)
        return hashing.finish(), digest
    finally:
        hashing.close()


def _digest_nodes(
    tree: Tree, inside: bytes | None, progress: ProgressCallback | None
) -> tuple[ChunkId, Digest]:
    where = tree.locate(inside) if inside is not None else None
    decoder, source = tree.decoder(where), tree.bytes(where, piece=_WHOLE)
    digest: Digest | None = None
    hashing: _Hashing | None = None
    # The decoder asks for more only when it has used up what it was given, so only the last piece can run past the end.
    held: list[bytes] = []
    try:
        while True:
            event = decoder.next_run() or decoder.next_event()
            if hashing is None and decoder.feature_flags is not None:
                digest = digest_of_flags(decoder.feature_flags)
                hashing = _Hashing(digest, progress, tree.size)
            if event is NEED_DATA:
                if hashing is not None:
                    for piece in held:
                        hashing.update(piece)
                    held.clear()
                data = source.read()
                if data:
                    held.append(data)
                decoder.receive(data)
            elif event is END:
                break
        assert hashing is not None
        assert digest is not None
        rest = b"".join(held)
        hashing.update(rest[: len(rest) - len(decoder.trailing_data)])
        return hashing.finish(), digest
    finally:
        if hashing is not None:
            hashing.close()
