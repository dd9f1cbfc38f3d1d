"""Verify images from end to end: every blob, every chunk of every pack, every layer's tar. All that is wrong is listed.

    >>> for problem in verify_image(place, "debian").problems: print(problem)

What is far away is fetched once, to a temporary layout. Plain images beside a converted one are checked by their blobs.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from casync_compat.compression import CompressionError, decompress
from casync_compat.errors import CasyncError, ChunkCorrupt
from casync_compat.ids import ChunkId, Digest
from casync_compat.oci.image.wrapped import WrappedImage
from casync_compat.oci.places.blobfile import FileStream
from casync_compat.oci.places.graph import walk
from casync_compat.oci.places.layout import Layout
from casync_compat.oci.places.selection import look_up
from casync_compat.oci.spec import media
from casync_compat.oci.spec.blobs import MANIFEST_LIMIT, BlobStream, Place
from casync_compat.oci.spec.descriptor import Descriptor
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.spec.packindex import ChunkPlace, PackIndex, parse_pack_table, table_size
from casync_compat.progress import ProgressCallback, Reporter
from casync_compat.store.base import ChunkSource, checked
from casync_compat.streams.transfer import OrderedPool
from catar.errors import CatarError

__all__ = ["Verified", "verify_image"]

_PIECE = 1 << 20


@dataclass(slots=True)
class Verified:
    """What was looked at, and what is wrong with it.

    :ivar problems: one line each
    """

    blobs: int = 0
    packs: int = 0
    chunks: int = 0
    layers: int = 0
    problems: list[str] = field(default_factory=list)

    @contextmanager
    def noting(self, what: str) -> Iterator[None]:
        """What goes wrong within the block is one of the problems."""
        try:
            yield
        except (CasyncError, CatarError) as error:
            text = str(error)
            self.problems.append(text if what in text else f"{what}: {text}")


class _NearCopy:
    """A place whose blobs are fetched to a temporary layout when they are first asked for."""

    near = True

    def __init__(self, place: Place, local: Layout, reporter: Reporter) -> None:
        self._reporter = reporter
        self.name = place.name
        self._place = place
        self._local = local
        self.resolve = place.resolve
        self.referrers = place.referrers
        self.read_manifest = place.read_manifest
        self.tags = place.tags

    def has(self, descriptor: Descriptor) -> bool:
        return self._local.has(descriptor) or self._place.has(descriptor)

    def _fetch(self, descriptor: Descriptor) -> None:
        if not self._local.has(descriptor):
            with self._place.open(descriptor) as stream:
                self._local.put(descriptor, self._pieces(stream))

    def _pieces(self, stream: BlobStream) -> Iterator[bytes]:
        while piece := stream.read(_PIECE):
            _count(self._reporter, self._reporter.state.done + len(piece))
            yield piece

    def open(self, descriptor: Descriptor) -> FileStream:
        self._fetch(descriptor)
        return self._local.open(descriptor)

    def read(self, descriptor: Descriptor, limit: int = MANIFEST_LIMIT) -> bytes:
        if descriptor.size <= limit:
            self._fetch(descriptor)
        return self._local.read(descriptor, limit)

    def read_range(self, descriptor: Descriptor, offset: int, size: int) -> bytes:
        self._fetch(descriptor)
        return self._local.read_range(descriptor, offset, size)


def _count(reporter: Reporter, done: int) -> None:
    """Report so many bytes, unless more were told already: of a blob while it was fetched."""
    reporter.state.done = max(reporter.state.done, done)
    if reporter.due:
        reporter.report()


def verify_image(
    place: Place,
    reference: str | None,
    *,
    store: ChunkSource | None = None,
    jobs: int | None = None,
    on_step: Callable[[str], None] | None = None,
    progress: ProgressCallback | None = None,
) -> Verified:
    """Look at everything that a tag leads to.

    :param store: has the chunks of packs that are not there
    :param jobs: threads; None for one a processor
    :param on_step: told what is looked at now
    :param progress: told now and then how many bytes were looked at, of blobs and then of layers, and of which
    :raises CasyncError: the place cannot be asked at all, or has no such image
    """
    report = Verified()
    found = look_up(place, reference)
    reporter = Reporter(progress)

    def step(what: str) -> None:
        reporter.state.path = what.encode()
        if reporter.due:
            reporter.report()
        if on_step is not None:
            on_step(what)

    with ExitStack() as stack:
        near = place
        if not place.near:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="pycasync-"))
            local = stack.enter_context(Layout(os.fsencode(directory)))
            near = _NearCopy(place, local, reporter)
        _verify_blobs(near, found.root, report, store is not None, step, reporter)
        for choice in found.wrappers:
            with report.noting(found.where):
                image = stack.enter_context(WrappedImage.open(near, choice.descriptor, found.where, store))
                if choice.of.startswith("sha256:") and choice.of != str(image.config.source_manifest.digest):
                    report.problems.append(f"{found.where}: the index says that it was made from {choice.of}")
                _verify_wrapper(image, report, store is not None, step, jobs, reporter)
    return report


def _verify_blobs(
    place: Place,
    root: Descriptor,
    report: Verified,
    in_store: bool,
    step: Callable[[str], None],
    reporter: Reporter,
) -> None:
    """Every blob that a manifest names, by its digest."""
    with report.noting(place.name):
        blobs = walk(place, root).blobs.values()
        reporter.state.total = sum(blob.size for blob in blobs)
        for blob in blobs:
            if in_store and blob.media_type in media.PACK_TYPES and not place.has(blob):
                continue
            step(f"blob {blob.digest.hex[:12]}")
            report.blobs += 1
            done = reporter.state.done
            with report.noting(str(blob.digest)), place.open(blob) as stream:
                while piece := stream.read(_PIECE):
                    done += len(piece)
                    _count(reporter, done)


def _verify_wrapper(
    image: WrappedImage,
    report: Verified,
    in_store: bool,
    step: Callable[[str], None],
    jobs: int | None,
    reporter: Reporter,
) -> None:
    _check_documents(image, report)
    with report.noting(image.where):
        by_pack: list[dict[bytes, ChunkPlace]] = [{} for _ in image.wrapper.packs]
        for id_, at in image.pack_index:
            by_pack[at.pack][id_] = at
        for pack, places in zip(image.wrapper.packs, by_pack, strict=True):
            if in_store and not image.source.has(pack):
                continue
            step(f"pack {pack.digest.hex[:12]}")
            report.packs += 1
            with report.noting(str(pack.digest)):
                report.problems += _verify_pack(image, pack, places, report, jobs)
    for number in range(len(image)):
        step(f"layer {number}")
        report.layers += 1
        with report.noting(image.label(number)):
            if not in_store:
                _check_index(image, number, image.pack_index)
            reporter.state.total = None  # of what layers have when they are put together
            for piece in image.rebuild(number):
                _count(reporter, reporter.state.done + len(piece))


def _check_documents(image: WrappedImage, report: Verified) -> None:
    with report.noting(f"{image.where}, source manifest"):
        image.check_source()


def _check_index(image: WrappedImage, number: int, packs: PackIndex) -> None:
    """All chunks of a layer are in the pack index, with the right size."""
    seen: set[bytes] = set()
    for chunk in image.index(number):
        if chunk.id in seen:
            continue
        seen.add(chunk.id)
        place = packs.find(chunk.id)
        if place is None:
            raise ImageError(image.label(number), f"the pack index lacks chunk {chunk.id}")
        if place.raw != chunk.size:
            raise ImageError(
                image.label(number),
                f"chunk {chunk.id} has {chunk.size} bytes, but {place.raw} says the pack index",
            )


def _verify_pack(
    image: WrappedImage,
    pack: Descriptor,
    places: dict[bytes, ChunkPlace],
    report: Verified,
    jobs: int | None,
) -> list[str]:
    """Every chunk in a pack, and that index and pack agree on where it is. Returns what is wrong."""
    source = image.source
    where = f"{source.name}: pack {pack.digest}"
    footer = table_size(0)
    size = min(pack.size, footer)
    tail = source.read_range(pack, pack.size - size, size)
    count = int.from_bytes(tail[8:12], "little") if size == footer else 0
    size = min(pack.size, table_size(count))
    rows = parse_pack_table(source.read_range(pack, pack.size - size, size), pack.size, where)
    problems: list[str] = []

    def check(frame: bytes, id_: bytes, raw: int) -> str:
        """Runs on a worker."""
        return _chunk_problem(frame, id_, raw, image.config.digest, where)

    offset = 0
    with OrderedPool[str](jobs or 2, 32) as pool:
        for row in rows:
            place = places.pop(row.id, None)
            if place is not None and (place.offset, place.stored, place.raw) != (offset, row.stored, row.raw):
                problems.append(f"{where}: chunk {row.id} lies elsewhere than the pack index says")
            frame = source.read_range(pack, offset, row.stored)
            offset += row.stored
            report.chunks += 1
            problems += filter(None, pool.submit(check, frame, row.id, row.raw))
        problems += filter(None, pool.drain())
    problems += [f"{where}: chunk {id_.hex()} is not in it, but in the pack index" for id_ in places]
    return problems


def _chunk_problem(frame: bytes, id: bytes, raw: int, digest: Digest, where: str) -> str:
    try:
        data = decompress(frame, max(raw, 1))
        checked(ChunkId(id), digest, data, where)
    except (CompressionError, ChunkCorrupt) as error:
        return f"{where}: chunk {id.hex()}: {error}" if isinstance(error, CompressionError) else str(error)
    return "" if len(data) == raw else f"{where}: chunk {id.hex()} has {len(data)} bytes, not {raw}"
