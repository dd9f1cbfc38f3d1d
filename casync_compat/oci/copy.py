"""Copy images as they are between layouts and registries: the same bytes, the same digests, only what is not there yet.

    >>> copied = copy_image(layout, "debian", repository, "12")
    >>> copied.moved, copied.moved_bytes

What the tag named before is read first: the blobs of a manifest that is there are there too, so nobody asks for each of
them. Children come before what names them, and the tag moves last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from casync_compat.ids import ChunkId
from casync_compat.oci.image.wrapped import WrappedImage
from casync_compat.oci.places.attached import Attached, attestations, copy_attached, find_attached
from casync_compat.oci.places.directory import ImageDirectory
from casync_compat.oci.places.graph import Graph, collect, walk
from casync_compat.oci.places.selection import Found, look_up, named_before
from casync_compat.oci.spec import media
from casync_compat.oci.spec.blobs import Place, WritablePlace
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.spec.manifest import ImageIndex
from casync_compat.store.base import Store
from casync_compat.streams.leasing import Lease
from casync_compat.streams.transfer import OrderedPool

__all__ = ["Copied", "copy_image", "fetch_chunks"]

_PARALLEL = 8
_SMALL = 1 << 20


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy did.

    :ivar descriptor: what the tag names now
    :ivar blobs: blobs that the image has
    :ivar moved: blobs that were not there yet; `moved_bytes` is their size
    :ivar chunks: chunks that went into a chunk store; `chunk_bytes` were fetched for them
    :ivar attached: signatures, attestations and the like that are there, too
    :ivar unfit: digests that some of those are about and the tag does not lead to
    """

    descriptor: Descriptor
    blobs: int
    moved: int
    moved_bytes: int
    chunks: int = 0
    chunk_bytes: int = 0
    attached: int = 0
    unfit: tuple[BlobDigest, ...] = ()


def copy_image(
    source: Place,
    reference: str | None,
    sink: WritablePlace,
    tag: str,
    *,
    thin: bool = False,
    store: Store | None = None,
    lease: Lease | None = None,
    on_plan: Callable[[int], None] | None = None,
    on_start: Callable[[Descriptor], None] | None = None,
    on_blob: Callable[[Descriptor, bool], None] | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> Copied:
    """Copy an image, or an index with all that it names.

    :param thin: only the converted images
    :param store: takes the chunks instead of packs; implies `thin`. The copy is whole only together with this store
    :param lease: of `store` (`streams.leasing.writing`), until this is done
    :param on_plan: told, before anything moves, how many bytes the blobs have that may have to move
    :param on_start: told each blob before it moves, on the thread that will move it
    :param on_blob: told each blob, and whether bytes were moved for it, on the caller's thread
    :param warn: told what of that which is attached to the image could not be copied
    :raises BlobError: a blob is missing or corrupt
    """
    found = look_up(source, reference)
    if isinstance(source, ImageDirectory) and (own := source.signatures()):
        warn(f"{source.name}: the signatures of skopeo's own kind in it ({', '.join(own[:5])}) are left out")
    root, made = _root(found, thin or store is not None)
    before = named_before(sink, tag)
    there = Graph({}, {})
    if before is not None and not sink.near:
        there = walk(sink, before)
        sink.assume(there.blobs.values())
    graph = Graph({}, {})
    if made is None:
        graph = walk(source, root, there)
    else:
        for descriptor in (*(choice.descriptor for choice in found.wrappers), *_about(found)):
            collect(source, descriptor, graph, there, 1)
        graph.manifests[root.digest] = (root, made.raw)
    packs = _packs(graph) if store is not None else set()
    blobs = [
        blob for digest, blob in graph.blobs.items() if digest not in packs and digest not in there.blobs
    ]
    if on_plan is not None:
        on_plan(sum(blob.size for blob in blobs))
    moved = _move(source, sink, blobs, on_start, on_blob, update=bool(there.blobs))
    chunks = _chunks(source, found, store, lease) if store is not None else (0, 0)
    attached = find_attached(source, found.subjects, warn)
    if attached and not sink.roomy:
        warn(f"{sink.name}: there is no room for the {len(attached)} signatures or attestations of the image")
        attached = []
    carried = copy_attached(source, attached, sink, warn)
    gone = () if made is None and root.digest == found.root.digest else _not_there(attached, root, made)
    top = graph.manifests.pop(root.digest, None)
    for descriptor, data in graph.manifests.values():
        sink.put_manifest(descriptor, data)
    if before is None or before.digest != root.digest:
        if top is not None:
            sink.put_tagged(tag, root, top[1])
        else:
            sink.tag(tag, root)  # a manifest that was there as a child of another
    elif sink.near and top is not None:
        sink.put_manifest(root, top[1])  # a tag may name a damaged one
    return Copied(
        root, len(graph.blobs), len(moved), sum(blob.size for blob in moved), *chunks, carried, gone
    )


def _not_there(attached: list[Attached], root: Descriptor, made: ImageIndex | None) -> tuple[BlobDigest, ...]:
    there = {root.digest, *(one.digest for one in (made.manifests if made is not None else ()))}
    there.update(one.descriptor.digest for one in attached)
    return tuple(dict.fromkeys(one.subject for one in attached if one.subject not in there))


def _root(found: Found, thin: bool) -> tuple[Descriptor, ImageIndex | None]:
    """What the tag will name, and an index that is to be made for it."""
    if not thin or (found.index is None and found.wrappers):
        return found.root, None
    if not found.wrappers:
        raise ImageError(found.where, "it is not a converted image; convert it with `pycasync oci convert`")
    about = _about(found)
    if len(found.wrappers) == 1 and not about:
        only = found.wrappers[0].descriptor
        return Descriptor(only.media_type, only.digest, only.size), None
    index = ImageIndex.build([*(choice.descriptor for choice in found.wrappers), *about])
    return index.descriptor, index


def _about(found: Found) -> list[Descriptor]:
    """The attestations of the images that converted ones were made of."""
    return attestations(found, (choice.of for choice in found.wrappers))


def _packs(graph: Graph) -> set[BlobDigest]:
    return {digest for digest, blob in graph.blobs.items() if blob.media_type in media.PACK_TYPES}


def _move(
    source: Place,
    sink: WritablePlace,
    blobs: list[Descriptor],
    on_start: Callable[[Descriptor], None] | None,
    on_blob: Callable[[Descriptor, bool], None] | None,
    update: bool,
) -> list[Descriptor]:
    """Copy blobs.

    :param update: the place has another version, which lacks these blobs. So it hardly has them, and small ones are
        sent without asking
    """
    moved: list[Descriptor] = []

    def take(blob: Descriptor) -> tuple[Descriptor, bool]:
        """Runs on a worker."""
        if on_start is not None:
            on_start(blob)
        if update and blob.size <= _SMALL:
            return blob, sink.put(blob, [source.read(blob)], look=False)
        return blob, sink.borrow(blob, source)

    def note(blob: Descriptor, new: bool) -> None:
        if new:
            moved.append(blob)
        if on_blob is not None:
            on_blob(blob, new)

    with OrderedPool[tuple[Descriptor, bool]](_PARALLEL, 2 * _PARALLEL) as pool:
        for blob in blobs:
            for done in pool.submit(take, blob):
                note(*done)
        for done in pool.drain():
            note(*done)
    return moved


def _chunks(source: Place, found: Found, store: Store, lease: Lease | None) -> tuple[int, int]:
    chunks = size = 0
    for choice in found.wrappers:
        with WrappedImage.open(source, choice.descriptor, found.where) as image:
            got, fetched = fetch_chunks(image, store)
            chunks += got
            size += fetched
            if lease is not None:
                for number in range(len(image)):
                    lease.keep(image.index(number))
    return chunks, size


def fetch_chunks(image: WrappedImage, store: Store) -> tuple[int, int]:
    """Put those chunks of an image into a store that it does not have.

    :returns: chunks stored, and bytes fetched for them
    :raises StoreError: a chunk is missing or corrupt
    """
    wanted = list(
        dict.fromkeys(
            id_ for number in range(len(image)) for id_ in image.index(number).ids() if not store.has(id_)
        )
    )
    for id_ in wanted:
        if not image.packs.has(id_):
            raise ImageError(image.where, f"its pack index lacks chunk {id_}")

    def put(id: ChunkId, data: bytes) -> None:
        store.put(id, data)

    fetched = image.packs.get_all(wanted, image.config.digest, put)
    store.sync()
    return len(wanted), fetched
