"""`casync_compat.locations` with what a command line knows: the environment, and where warnings go."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import replace

from casync_compat import locations
from casync_compat.cli._log import warn
from casync_compat.compression import Compression
from casync_compat.errors import UsageError
from casync_compat.locations import (
    Configuration,
    PathType,
    Settings,
    is_remote,
    layout_of,
    local_path,
    name_of,
    shown_name,
)
from casync_compat.locations.configfiles import read_key_file
from casync_compat.locations.settings import Shared
from casync_compat.net.limiter import Limiter
from casync_compat.store.base import ChunkSource, Store
from casync_compat.store.cached import ChunkCache
from casync_compat.store.files import Files
from casync_compat.store.local import LocalStore
from casync_compat.store.options import StoreOptions
from casync_compat.store.packs.layout import StoreLayout
from casync_compat.store.packs.mixed import MixedStore
from casync_compat.streams.inputs import Input

__all__ = [
    "CONFIGURATION",
    "SETTINGS",
    "cache_home",
    "connect",
    "default_store",
    "disconnect",
    "index_location",
    "index_output",
    "input_path",
    "inside",
    "is_remote",
    "layout_of",
    "local_path",
    "name_of",
    "open_cache",
    "open_chunk_store",
    "open_directory",
    "open_input",
    "open_mixed",
    "open_source",
    "open_store",
    "shown_name",
    "side_store",
    "warn",
]


CONFIGURATION = Configuration(os.environ, warn)
SETTINGS = Settings(environ=os.environ, warn=warn, options=CONFIGURATION, general=CONFIGURATION.general)


_BEFORE: list[Settings] = []
"""What `SETTINGS` were before a command line was taken in."""


def disconnect() -> None:
    """Forget what an earlier command line of this process said of connections."""
    global SETTINGS
    if _BEFORE:
        SETTINGS = _BEFORE.pop()


def connect(options: argparse.Namespace) -> None:
    """Take in what a command line says of all connections."""
    global SETTINGS
    disconnect()
    _BEFORE.append(SETTINGS)
    network = StoreOptions(
        ca_cert=options.ca_cert,
        client_cert=options.client_cert,
        client_key=options.client_key,
        trust_insecure=options.trust_insecure,
        encryption=bool(options.encryption_key_file or options.encryption_algorithm),
        encryption_key=read_key_file(options.encryption_key_file) if options.encryption_key_file else None,
        encryption_algorithm=options.encryption_algorithm,
    )
    limiter = Limiter(options.rate_limit_bps) if options.rate_limit_bps else None
    SETTINGS = replace(
        SETTINGS,
        network=network,
        limiter=limiter,
        chunk_cache=options.chunk_cache,
        chunk_cache_size=options.chunk_cache_size,
        shared=Shared(),
    )


def cache_home() -> bytes | None:
    """The user's directory for what runs remember for the next ones; None without a home directory."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    if not home.startswith("/"):  # the XDG specification has relative ones ignored
        home = os.path.expanduser("~/.cache")
    return os.fsencode(os.path.join(home, "pycasync")) if home.startswith("/") else None


def default_store(index: str | None) -> str:
    """Where chunks are when nobody says: $CASYNC_STORE, else default.castr beside the index (or here)."""
    return os.fsdecode(locations.default_store(index, SETTINGS))


def side_store(where: str) -> str:
    """Where the chunks of one of two places are when nobody says: $CASYNC_STORE is of what is on this machine."""
    settings = SETTINGS
    if is_remote(where):
        environ = {name: value for name, value in os.environ.items() if name != "CASYNC_STORE"}
        settings = replace(SETTINGS, environ=environ)
    return os.fsdecode(locations.default_store(where, settings))


def inside(where: str, name: str) -> str:
    """The location of a file in a place."""
    return os.fsdecode(locations.inside(where, name))


def index_location(where: str) -> tuple[Files, bytes]:
    """A file's location taken apart: a place of files, and the name in it."""
    return locations.index_location(where, SETTINGS)


def open_store(locator: str, compression: Compression = Compression.ZSTD) -> LocalStore:
    """A store in a local directory."""
    return locations.open_local_store(locator, replace(SETTINGS, compression=compression))


def open_chunk_store(
    locator: str, compression: Compression = Compression.ZSTD, layout: str | None = None
) -> Store:
    """A store to write to, wherever it is.

    :raises UsageError: `layout` is given, and not how the chunks are that are there
    """
    wanted = None if layout is None else StoreLayout.parse(layout)
    store = locations.open_store(locator, replace(SETTINGS, compression=compression, layout=wanted))
    if wanted is not None and locations.layout_of(store) is not wanted:
        raise UsageError(f"{store.name}: chunks are not written as {wanted.value} there")
    return store


def open_mixed(locator: str) -> MixedStore:
    """A store that may have packs beside chunk files, wherever it is.

    :raises UsageError: it is of a kind that has no packs
    """
    return locations.open_mixed(locator, SETTINGS)


def open_cache(directory: str) -> ChunkCache:
    """A directory to keep chunks in."""
    cache = locations.chunk_cache(replace(SETTINGS, chunk_cache=directory))
    assert cache is not None
    return cache


def open_source(locator: str, extra: Iterable[str]) -> ChunkSource:
    """The primary store and further ones, to read from."""
    return locations.open_source(locator, extra, SETTINGS)


def input_path(locator: PathType) -> bytes:
    """The path of a file to read; an index in a registry is fetched first."""
    return locations.input_path(locator, SETTINGS)


def open_input(locator: PathType) -> Input:
    """A file to read, an index or an archive, wherever it is."""
    return locations.open_input(locator, SETTINGS)


def open_directory(locator: PathType) -> Files:
    """A directory of indexes and archives, wherever it is."""
    return locations.open_directory(locator, SETTINGS)


def index_output(locator: str | None) -> AbstractContextManager[bytes | None]:
    """The path to write an index to; one for a registry is sent there at the end."""
    return locations.index_output(locator, SETTINGS)
