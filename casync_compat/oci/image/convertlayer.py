"""One layer's tar into chunks: as an archive with a recipe where that can hold it, else as the tar itself.

Either way the tar is made again from the chunks just stored, and compared by its digest, before anybody is told that
the layer was converted. An archive that fails this becomes a plain tar of chunks too: never a wrong answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from casync_compat.chunker.params import ChunkSizes
from casync_compat.ids import Digest
from casync_compat.index import Index, digest_bits
from casync_compat.oci.image.chunkspool import ChunkSpool
from casync_compat.oci.image.layertar import LayerTar
from casync_compat.oci.spec.descriptor import BlobDigest
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.tar.plan import Unrepresentable, plan_layer, verify
from casync_compat.streams.assemble import ChunkFetcher, ChunkStream, IndexReader
from casync_compat.streams.chunking import ChunkingSink
from catar.flags import select

__all__ = ["LayerOptions", "LayerResult", "convert_layer"]


@dataclass(frozen=True, slots=True)
class LayerOptions:
    """What decides the bytes of a converted layer, besides its tar.

    :ivar mtime: whether archives carry the times of the tar; without them a change of times changes no chunk
    :ivar epoch: the latest time that archives carry, in seconds
    """

    sizes: ChunkSizes
    digest: Digest = Digest.SHA512_256
    mtime: Literal["epoch", "keep"] = "epoch"
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class LayerResult:
    """A layer as it was converted.

    :ivar recipe: None when the index is over the tar itself
    :ivar reason: why it is so, empty for an archive
    """

    index: Index
    recipe: bytes | None
    stream_size: int
    tar_size: int
    feature_flags: int
    hardlink_groups: int
    reason: str = ""


def convert_layer(
    tar: LayerTar,
    diff_id: BlobDigest,
    spool: ChunkSpool,
    options: LayerOptions,
    *,
    where: str,
    jobs: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> LayerResult:
    """Convert a layer whose tar was checked against its diff id.

    :param spool: gets the chunks
    :param jobs: threads; None for one a processor
    :param progress: told now and then how many bytes of the stream are done
    :raises ImageError: the chunks do not give the tar again, in either form
    """
    try:
        return _as_tree(tar, diff_id, spool, options, where, jobs, progress)
    except Unrepresentable as error:
        reason = error.why
    return _as_blob(tar, diff_id, spool, options, where, jobs, progress, reason)


def _as_tree(
    tar: LayerTar,
    diff_id: BlobDigest,
    spool: ChunkSpool,
    options: LayerOptions,
    where: str,
    jobs: int | None,
    progress: Callable[[int], None] | None,
) -> LayerResult:
    if diff_id.algorithm != "sha256":
        raise Unrepresentable(where, f"recipes know sha256 only, and its diff id is {diff_id.algorithm}")
    plan = plan_layer(
        tar.view,
        where=where,
        mtime=options.mtime,
        epoch=options.epoch,
        digest_bits=digest_bits(options.digest),
    )
    with ChunkingSink(spool, options.sizes, plan.feature_flags, stream_digest=False, jobs=jobs) as sink:
        plan.write(sink, progress)
        sink.finish()
        index = sink.index
    recipe = plan.recipe(diff_id)
    try:
        verify(recipe, IndexReader(ChunkFetcher(index, spool)), where)
    except ImageError as error:
        raise Unrepresentable(where, f"the archive does not give the tar again: {error.why}") from error
    return LayerResult(index, recipe, plan.catar_size, tar.size, plan.feature_flags, plan.hardlink_groups)


def _as_blob(
    tar: LayerTar,
    diff_id: BlobDigest,
    spool: ChunkSpool,
    options: LayerOptions,
    where: str,
    jobs: int | None,
    progress: Callable[[int], None] | None,
    reason: str,
) -> LayerResult:
    flags = select(default=0, digest_bits=digest_bits(options.digest))
    with ChunkingSink(spool, options.sizes, flags, stream_digest=False, jobs=jobs) as sink:
        at = 0
        while at < tar.size:
            done = tar.view.read_into(at, sink.room())
            if not done:
                raise ImageError(where, f"its tar became shorter while it was read (at byte {at})")
            sink.advance(done)
            at += done
            if progress is not None:
                progress(at)
        sink.finish()
        index = sink.index
    hasher = diff_id.new()
    with ChunkStream(ChunkFetcher(index, spool), jobs=jobs) as stream:
        while piece := stream.read():
            hasher.update(piece)
    if hasher.hexdigest() != diff_id.hex:
        raise ImageError(where, "its chunks do not give its tar again; please report this")
    return LayerResult(index, None, tar.size, tar.size, 0, 0, reason)
