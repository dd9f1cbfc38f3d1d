"""How much a set of images shares, measured: identical layers, files, and chunks of several sizes at once.

    >>> sharing = measure([(place, "debian:12"), (place, "debian:13")], [ChunkSizes()])
    >>> print("\\n".join(table(sharing)))

Every layer is read once, however many images have it. Its files are hashed whole; the archive that it would be
converted to is cut with each of the chunk sizes, so that the numbers are those that a conversion would give, and not
those of a tar, whose headers stand between the files. Images that are converted already are measured in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from casync_compat.chunker import Chunker, ChunkSizes
from casync_compat.closing import Closing
from casync_compat.compression import Compression, compress
from casync_compat.ids import Digest
from casync_compat.oci.image.layertar import open_layer_tar
from casync_compat.oci.image.wrapped import WrappedImage
from casync_compat.oci.places.selection import look_up
from casync_compat.oci.sharing import Sharing
from casync_compat.oci.spec.blobs import Place
from casync_compat.oci.spec.descriptor import BlobDigest, Platform
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.spec.manifest import ImageConfig, ImageManifest
from casync_compat.oci.tar.plan import Unrepresentable, plan_layer
from casync_compat.oci.tar.reader import members
from casync_compat.progress import ProgressCallback, Reporter, human_size
from casync_compat.streams.slabs import Slab, SlabWriter
from casync_compat.streams.transfer import Sequencer
from catar.archive import RandomAccess

__all__ = ["measure", "table", "to_json"]

_SLAB = 2 << 20
_PIECE = 1 << 20


class _Cutting:
    """Cuts a stream with one of the chunk sizes, and counts its chunks; on a thread of its own."""

    def __init__(self, number: int, sizes: ChunkSizes, sharing: Sharing, compressed: bool) -> None:
        self._number = number
        self._chunker = Chunker(sizes)
        self._sharing = sharing
        self._compressed = compressed
        self._carry = b""
        self.thread = Sequencer()

    def take(self, piece: memoryview, last: bool) -> None:
        """The next bytes of the stream."""
        data = self._carry + piece if self._carry else bytes(piece)
        begin = 0
        view = memoryview(data)
        for end in self._chunker.cuts(data, 0, len(data), len(self._carry)):
            self._count(view[begin:end])
            begin = end
        self._carry = data[begin:]
        if last and self._carry:
            self._count(memoryview(self._carry))
            self._carry = b""

    def _count(self, chunk: memoryview) -> None:
        digest = Digest.BLAKE3.of(chunk)
        if not self._sharing.has_chunk(self._number, digest):
            stored = len(compress(Compression.ZSTD, chunk)) if self._compressed else None
            self._sharing.chunk(self._number, digest, len(chunk), stored)


class _CuttingSink(Closing):
    """A `casync_compat.streams.sinks.Sink` that counts chunks of several sizes and stores none."""

    def __init__(self, cutters: list[_Cutting]) -> None:
        self._cutters = cutters
        self._slabs = SlabWriter(_SLAB, 3, self._consume)
        self.write = self._slabs.write
        self.room = self._slabs.room
        self.advance = self._slabs.advance

    @property
    def written(self) -> int:
        """Bytes taken so far."""
        return self._slabs.written

    def write_zeros(self, count: int) -> None:
        """Append `count` zero bytes."""
        zeros = bytes(min(count, _PIECE))
        while count > 0:
            self._slabs.write(zeros[:count])
            count -= len(zeros)

    def _consume(self, slab: Slab, begin: int, seen: int, end: int, last: bool) -> int:
        for cutter in self._cutters:
            slab.users.append(cutter.thread.submit(cutter.take, slab.view[seen:end], last))
        return end

    def finish(self) -> None:
        """Count what is left."""
        self._slabs.finish()
        for cutter in self._cutters:
            cutter.thread.wait()

    def close(self) -> None:
        """Let go of the buffers."""
        self._slabs.close()


def measure(
    images: Sequence[tuple[Place, str | None]],
    sizes: Sequence[ChunkSizes],
    *,
    platform: Platform | None = None,
    all_platforms: bool = False,
    compressed: bool = False,
    progress: ProgressCallback | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> Sharing:
    """Count what images share.

    :param images: places, and the tag or digest there
    :param sizes: chunk sizes to compare
    :param compressed: whether to compress each new chunk, to know what it takes in a store; this takes most of the time
    :raises ImageError: an image or a layer of it is malformed
    :raises BlobError: a blob is missing or corrupt
    """
    sharing = Sharing([human_size(one.avg) for one in sizes])
    reporter = Reporter(progress)
    cutters = [_Cutting(number, one, sharing, compressed) for number, one in enumerate(sizes)]
    try:
        for place, reference in images:
            for name, layers in _images(place, reference, platform, all_platforms, warn):
                sharing.begin(name)
                for diff_id, size, opened in layers:
                    _layer(sharing, diff_id, size, opened, cutters, reporter)
    finally:
        for cutter in cutters:
            cutter.thread.close()
    return sharing


_Layers = Iterator[tuple[BlobDigest, int | None, AbstractContextManager[RandomAccess]]]


def _images(
    place: Place,
    reference: str | None,
    platform: Platform | None,
    everything: bool,
    warn: Callable[[str], None],
) -> Iterator[tuple[str, _Layers]]:
    """The images that a name stands for, each with its layers from the base upwards."""
    found = look_up(place, reference)
    if found.plain:
        for choice in found.choose_plain(platform, everything, warn):
            raw = place.read_manifest(choice.descriptor)
            manifest = ImageManifest.parse(raw, found.where, choice.descriptor.media_type)
            yield _label(found.where, choice.platform, everything), _plain(place, manifest, found.where)
        return
    for choice in found.choose_wrappers(platform, everything, warn):
        with WrappedImage.open(place, choice.descriptor, found.where) as image:
            yield _label(found.where, choice.platform, everything), _converted(image)


def _label(where: str, platform: Platform | None, everything: bool) -> str:
    return f"{where} ({platform})" if everything and platform is not None else where


def _plain(place: Place, manifest: ImageManifest, where: str) -> _Layers:
    config = ImageConfig.parse(place.read(manifest.config), f"{where}, config")
    if len(config.diff_ids) != len(manifest.layers):
        raise ImageError(
            where, f"it has {len(manifest.layers)} layers, but its config names {len(config.diff_ids)}"
        )
    for number, (layer, diff_id) in enumerate(zip(manifest.layers, config.diff_ids, strict=True)):

        @contextmanager
        def opened(
            layer: Any = layer, diff_id: Any = diff_id, number: int = number
        ) -> Iterator[RandomAccess]:
            with open_layer_tar(place, layer, diff_id, where=f"{where}, layer {number}") as tar:
                yield tar.view

        yield diff_id, None, opened()


def _converted(image: WrappedImage) -> _Layers:
    for number in range(len(image)):

        @contextmanager
        def opened(number: int = number) -> Iterator[RandomAccess]:
            image.prefetch(number)
            yield image.tar(number)

        yield image.diff_id(number), image.config.layers[number].tar_size, opened()


def _layer(
    sharing: Sharing,
    diff_id: BlobDigest,
    size: int | None,
    opened: AbstractContextManager[RandomAccess],
    cutters: list[_Cutting],
    reporter: Reporter,
) -> None:
    known = sharing.layer_size(str(diff_id))
    if known is not None:
        sharing.layer(str(diff_id), known)
        return
    with ExitStack() as stack:
        tar = stack.enter_context(opened)
        sharing.layer(str(diff_id), tar.size)
        sink = stack.enter_context(_CuttingSink(cutters))
        _files(sharing, tar, reporter)
        try:
            plan_layer(tar, where=f"layer {diff_id}").write(sink)
        except Unrepresentable:
            _copy(tar, sink)
        sink.finish()


def _files(sharing: Sharing, tar: RandomAccess, reporter: Reporter) -> None:
    """Hash each regular file of a layer."""
    contents = 0
    for member in members(tar):
        if not member.size:
            continue
        hasher = Digest.BLAKE3.new()
        stored = 0
        for logical, offset, length in member.ranges():
            hasher.update(b"%d %d\n" % (logical, length) if member.sparse is not None else b"")
            stored += length
            at = 0
            while at < length:
                piece = tar.read_at(offset + at, min(_PIECE, length - at))
                if not piece:
                    raise ImageError(
                        "stats", f"a layer became shorter while it was read (at byte {offset + at})"
                    )
                hasher.update(piece)
                at += len(piece)
        contents += stored
        sharing.file(hasher.digest(), stored)
        reporter.state.entries += 1
        reporter.state.done += stored
        reporter.state.path = member.path
        if reporter.due:
            reporter.report()
    sharing.metadata(tar.size - contents)


def _copy(tar: RandomAccess, sink: _CuttingSink) -> None:
    at = 0
    while at < tar.size:
        piece = tar.read_at(at, _PIECE)
        if not piece:
            raise ImageError("stats", f"a layer became shorter while it was read (at byte {at})")
        sink.write(piece)
        at += len(piece)


def table(sharing: Sharing) -> list[str]:
    """The measurement as lines of text."""
    levels = sharing.levels()
    everything = levels[0].size or 1
    lines = [f"{'level':<18} {'size':>11} {'share':>8} {'zstd':>11} {'objects':>10}"]
    for level in levels:
        stored = "" if level.stored is None else human_size(level.stored)
        lines.append(
            f"{level.name:<18} {human_size(level.size):>11} {100 * level.size / everything:>6.1f} % {stored:>11} "
            f"{level.objects:>10,}"
        )
    lines += ["", f"{'new in':<40} {'size':>11} {'layers':>11} {'files':>11}" + _headings(sharing)]
    for image in sharing.images:
        columns = [image.size, image.new_layers, image.new_files, *image.new_chunks]
        lines.append(f"{image.name:<40} " + " ".join(f"{human_size(one):>11}" for one in columns))
    return lines


def _headings(sharing: Sharing) -> str:
    return "".join(f" {name:>11}" for name in sharing.chunkings)


def to_json(sharing: Sharing) -> dict[str, Any]:
    """The measurement as a value for JSON; sizes in bytes."""
    return {
        "levels": [
            {"name": one.name, "size": one.size, "stored": one.stored, "objects": one.objects}
            for one in sharing.levels()
        ],
        "images": [
            {
                "name": image.name,
                "size": image.size,
                "new_layers": image.new_layers,
                "new_files": image.new_files,
                "new_chunks": dict(zip(sharing.chunkings, image.new_chunks, strict=True)),
            }
            for image in sharing.images
        ],
    }
