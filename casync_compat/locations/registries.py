"""Chunk stores and indexes in registries, as desync uses them.

Imported when a locator names one, as is all that knows registries.
"""

from __future__ import annotations

import os

from casync_compat.errors import UsageError
from casync_compat.locations.settings import Settings
from casync_compat.oci.registry import artifacts, chunkstore
from casync_compat.oci.registry.client import RegistryClient, Repository
from casync_compat.store.chunks import ChunkStore
from casync_compat.store.files import Files

__all__ = ["fetch_index", "index_files", "open_store"]


def open_store(where: str, settings: Settings) -> ChunkStore:
    """The chunk store in a repository."""
    username, password = _login(where, settings)
    return chunkstore.open_chunk_store(
        where,
        _client(settings),
        username=username,
        password=password,
        compression=settings.compression,
        suffix=os.fsdecode(settings.suffix),
    )


def index_files(where: str, settings: Settings) -> tuple[Files, bytes]:
    """The place of files that an index is in, and its name there."""
    repository, tag = _index(where, settings)
    return chunkstore.RegistryFiles(repository, artifacts.INDEXES), tag.encode()


def fetch_index(where: str, settings: Settings) -> bytes:
    """The path of a temporary file with the index, which goes at exit."""
    repository, name = _index(where, settings)
    return settings.shared.keep(name.encode(), chunkstore.fetch_index(repository, name))


def _index(where: str, settings: Settings) -> tuple[Repository, str]:
    username, password = _login(where, settings)
    return chunkstore.open_index(where, _client(settings), username=username, password=password)


def _client(settings: Settings) -> RegistryClient:
    shared = settings.shared
    if shared.client is None:
        shared.client = RegistryClient(
            environ=settings.environ,
            warn=lambda text: settings.warn(f"the registry says: {text}"),
            limiter=settings.limiter,
        )
    return shared.client


def _login(where: str, settings: Settings) -> tuple[str | None, str | None]:
    """desync's variables, else what is configured; without either the files of docker and podman are looked at."""
    environ = settings.environ
    username, password = environ.get("DESYNC_OCI_USERNAME"), environ.get("DESYNC_OCI_PASSWORD")
    if password and not username:
        raise UsageError("DESYNC_OCI_PASSWORD is set, but DESYNC_OCI_USERNAME is not")
    if not username:
        options = settings.said_of(where)
        username, password = options.username, options.password
    return (username, password or "") if username else (None, None)
