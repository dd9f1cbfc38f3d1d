"""Locations of chunk stores, opened."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar, overload

from casync_compat.compression import Compression
from casync_compat.errors import UsageError, show_path
from casync_compat.locations.forms import group_members, in_files, in_peer, in_registry, local_path
from casync_compat.locations.remote import BUCKETS, open_files
from casync_compat.locations.settings import PathType, Settings
from casync_compat.locations.shown import shown
from casync_compat.logs import Log
from casync_compat.store.base import ChunkSource, OnDisk, Store, far_source
from casync_compat.store.cached import Cached, ChunkCache
from casync_compat.store.chunks import ChunkStore
from casync_compat.store.failover import FailoverGroup
from casync_compat.store.files import Can
from casync_compat.store.layered import Layered
from casync_compat.store.local import LocalStore
from casync_compat.store.packs.layout import StoreLayout
from casync_compat.store.packs.mixed import MixedLocalStore, MixedStore, Mixing
from casync_compat.store.packs.place import BUCKET, LOCAL

__all__ = ["layout_of", "open_local_store", "open_mixed", "open_source", "open_store"]

_LOG = Log(__name__)

if TYPE_CHECKING:
    from casync_compat.store.cipher import Cipher

S = TypeVar("S", bound=ChunkSource)


def open_local_store(where: PathType, settings: Settings) -> LocalStore:
    """A store in a local directory.

    :raises UsageError: the location is not one of a local directory
    """
    path = local_path(where)
    compression = _compression(os.fsdecode(path), settings)
    cipher = _cipher(os.fsdecode(path), settings)
    packs = os.path.join(path, LOCAL.rstrip(b"/"))
    if settings.layout is StoreLayout.PACKS or os.path.exists(os.path.join(packs, b"head")):
        _refuse_packs(cipher, show_path(path))
        return MixedLocalStore.at(path, Mixing(settings.layout), compression, settings.suffix)
    if os.path.isdir(os.path.join(packs, b"packs")):
        settings.warn(
            f"{show_path(path)} has packs, but its head is missing; `pycasync store pack --rebuild` makes it anew"
        )
    store = LocalStore(path, compression=compression, suffix=settings.suffix)
    if cipher is not None:
        store.encrypt(cipher)
    return store


def _refuse_packs(cipher: Cipher | None, where: str) -> None:
    if cipher is not None:
        raise UsageError(f"{where}: packs cannot be encrypted; use --layout=objects, or leave out encryption")


def _cipher(where: str, settings: Settings) -> Cipher | None:
    """What chunks of a store are encrypted with; None where nobody says that they are.

    :raises UsageError: a key is missing, or not one
    """
    said = settings.said_of(where)
    if not said.encryption:
        return None
    key = said.encryption_key or settings.environ.get("DESYNC_ENCRYPTION_KEY")
    if not key:
        raise UsageError(
            f"{shown(where)}: chunks are to be encrypted, but no key is given; set DESYNC_ENCRYPTION_KEY"
        )
    from casync_compat.store.cipher import Cipher  # lazily: few stores are encrypted

    return Cipher.of(said.encryption_algorithm, key)


def layout_of(store: object) -> StoreLayout:
    """How new chunks are written to a store.

    :raises UsageError: that was said, and is not how those are that are there
    """
    return store.layout() if isinstance(store, MixedStore) else StoreLayout.OBJECTS


def _compression(where: str, settings: Settings) -> Compression:
    """How chunks are written to a store, of which may be said that they are plain where nobody wants a compression."""
    said = settings.compression
    if said is Compression.ZSTD and settings.said_of(where).uncompressed:
        return Compression.NONE
    return said


@overload
def open_store(where: PathType, settings: Settings) -> Store: ...
@overload
def open_store(where: S, settings: Settings) -> S: ...
def open_store(where: PathType | ChunkSource, settings: Settings) -> ChunkSource:
    """A store to read and write, wherever it is. One that is open already is given back.

    :raises UsageError: the location is malformed, or of a kind that this version cannot open
    """
    if not isinstance(where, (str, bytes, os.PathLike)):
        return where
    if isinstance(where, str) and len(group_members(where)) > 1:
        raise UsageError(f"{shown(where)}: this is a failover group, which is only read from; name one store")
    store = _open(where, settings)
    _LOG.info("store: %s", store.name)
    if isinstance(store, ChunkStore) and store.far and (cache := chunk_cache(settings)) is not None:
        store.also = cache.keep
    return store


def _open(where: PathType, settings: Settings) -> Store:
    if isinstance(where, str) and in_files(where):
        return _in_files(where, settings)
    if isinstance(where, str) and in_peer(where):
        from casync_compat.locations import peers  # lazily, as all that starts programs

        if _cipher(where, settings) is not None:
            raise UsageError(f"{shown(where)}: casync's protocol knows no encrypted chunks")
        return peers.open_store(where, settings)
    if not isinstance(where, str) or not in_registry(where):
        return open_local_store(where, settings)
    from casync_compat.locations import registries  # lazily, as is all that knows registries

    store = registries.open_store(where, settings)
    if (cipher := _cipher(where, settings)) is not None:
        store.encrypt(cipher)
    return store


def open_mixed(where: PathType, settings: Settings) -> MixedStore:
    """A store that may have packs beside chunk files, though neither is there yet.

    :raises UsageError: it is of a kind that has no packs
    """
    if isinstance(where, str) and in_files(where):
        _refuse_packs(_cipher(where, settings), shown(where))
        return _mixed_in_files(where, settings)
    if isinstance(where, str) and in_registry(where):
        raise UsageError(f"{where}: a store in a registry has no packs")
    path = local_path(where)
    _refuse_packs(_cipher(os.fsdecode(path), settings), show_path(path))
    compression = _compression(os.fsdecode(path), settings)
    return MixedLocalStore.at(path, Mixing(settings.layout), compression, settings.suffix)


def _in_files(where: str, settings: Settings) -> ChunkStore:
    """A store in a place of files that is not on this machine."""
    cipher = _cipher(where, settings)
    if cipher is None:
        return _mixed_in_files(where, settings)
    if settings.layout is StoreLayout.PACKS:
        _refuse_packs(cipher, shown(where))
    store = ChunkStore(
        open_files(where, settings), compression=_compression(where, settings), suffix=settings.suffix
    )
    store.encrypt(cipher)
    return store


def _mixed_in_files(where: str, settings: Settings) -> MixedStore:
    bucket = where.partition("://")[0] in BUCKETS
    usual = StoreLayout.PACKS if bucket else StoreLayout.OBJECTS
    store = MixedStore(
        open_files(where, settings), compression=_compression(where, settings), suffix=settings.suffix
    )
    path, mark, query = where.partition("?")
    directory, _, name = path.rstrip("/").rpartition("/")
    if Can.LIST in store.files.can and store.files.paged and name and not directory.endswith("/"):
        store.around = lambda: open_files(f"{directory}{mark}{query}", settings)
    return store.mixed(Mixing(settings.layout, usual, BUCKET if bucket else LOCAL))


def open_source(
    where: PathType | ChunkSource, extra: Iterable[PathType | ChunkSource], settings: Settings
) -> ChunkSource:
    """A store and further ones, to read from: the first that has a chunk gives it. Each may be a failover group.

    :raises UsageError: a location is malformed, or of a kind that this version cannot open
    """
    first = _open_group(where, settings)
    others = [_open_group(other, settings) for other in extra]
    source = Layered(first, *others, warn=settings.warn) if others else first
    _LOG.info("chunks come from %s", ", ".join(each.name for each in (first, *others)))
    far = far_source(source) is not None
    cache = chunk_cache(settings) if far or settings.chunk_cache is not None else None
    return source if cache is None or _is_in(cache, source) else Cached(source, cache)


def chunk_cache(settings: Settings) -> ChunkCache | None:
    """Where chunks from far away are kept for the next time; None where nobody wants that.

    :raises UsageError: what is configured is malformed, or no local directory
    """
    directory = settings.chunk_cache or settings.general("chunk-cache")
    if not isinstance(directory, str):
        return None
    path = local_path(directory)
    caches = settings.shared.caches
    if path not in caches:
        size = settings.chunk_cache_size
        configured = settings.general("chunk-cache-size")
        if size is None and isinstance(configured, int):
            size = configured
        plain = settings.said_of(os.fsdecode(path)).uncompressed
        compression = Compression.NONE if plain else Compression.ZSTD
        store = LocalStore(path, compression=compression, suffix=settings.suffix)
        if (cipher := _cipher(os.fsdecode(path), settings)) is not None:
            store.encrypt(cipher)
        caches[path] = ChunkCache(store, size, settings.warn)
    return caches[path]


def _is_in(cache: ChunkCache, source: ChunkSource) -> bool:
    """Whether a cache is nothing but the store itself."""
    paths = source.own_paths if isinstance(source, OnDisk) else ()
    return os.path.realpath(cache.store.path) in map(os.path.realpath, paths)


def _open_group(where: PathType | ChunkSource, settings: Settings) -> ChunkSource:
    """A store, or desync's ``a|b|c``, whose members stand in for one another."""
    members = group_members(where) if isinstance(where, str) else [where]
    if len(members) == 1:
        return open_store(where, settings)
    return FailoverGroup(*(open_store(member, settings) for member in members), warn=settings.warn)
