"""Locations of chunk stores, opened."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeVar, overload

from casync_compat.compression import Compression
from casync_compat.errors import UsageError
from casync_compat.locations.forms import group_members, in_files, in_peer, in_registry, local_path
from casync_compat.locations.remote import open_files
from casync_compat.locations.settings import PathType, Settings
from casync_compat.locations.shown import shown
from casync_compat.store.base import ChunkSource, Store
from casync_compat.store.chunks import ChunkStore
from casync_compat.store.failover import FailoverGroup
from casync_compat.store.layered import Layered
from casync_compat.store.local import LocalStore

__all__ = ["open_local_store", "open_source", "open_store"]

S = TypeVar("S", bound=ChunkSource)


def open_local_store(where: PathType, settings: Settings) -> LocalStore:
    """A store in a local directory.

    :raises UsageError: the location is not one of a local directory
    """
    path = local_path(where)
    return LocalStore(path, compression=_compression(os.fsdecode(path), settings), suffix=settings.suffix)


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
    if isinstance(where, str) and in_files(where):
        return ChunkStore(
            open_files(where, settings), compression=_compression(where, settings), suffix=settings.suffix
        )
    if isinstance(where, str) and in_peer(where):
        from casync_compat.locations import peers  # lazily, as all that starts programs

        return peers.open_store(where, settings)
    if not isinstance(where, str) or not in_registry(where):
        return open_local_store(where, settings)
    from casync_compat.locations import registries  # lazily, as is all that knows registries

    return registries.open_store(where, settings)


def open_source(
    where: PathType | ChunkSource, extra: Iterable[PathType | ChunkSource], settings: Settings
) -> ChunkSource:
    """A store and further ones, to read from: the first that has a chunk gives it. Each may be a failover group.

    :raises UsageError: a location is malformed, or of a kind that this version cannot open
    """
    first = _open_group(where, settings)
    others = [_open_group(other, settings) for other in extra]
    return Layered(first, *others, warn=settings.warn) if others else first


def _open_group(where: PathType | ChunkSource, settings: Settings) -> ChunkSource:
    """A store, or desync's ``a|b|c``, whose members stand in for one another."""
    members = group_members(where) if isinstance(where, str) else [where]
    if len(members) == 1:
        return open_store(where, settings)
    return FailoverGroup(*(open_store(member, settings) for member in members), warn=settings.warn)
