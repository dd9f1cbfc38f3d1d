"""Locators - what a user writes for a file, store or index - told apart and opened.

casync's rules (`src/calocator.c`): an URL has a scheme; `HOST:PATH` goes through ssh; all else is a local path, and
`./a:b` writes one that looks like the former. This is the only place that knows which stores exist.
"""

from __future__ import annotations

import enum
import functools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from casync_compat.compression import Compression
from casync_compat.errors import UsageError
from casync_compat.store.base import ChunkSource
from casync_compat.store.layered import Layered
from casync_compat.store.local import LocalStore

if TYPE_CHECKING:
    from casync_compat.oci.registry.chunkstore import RegistryChunkStore
    from casync_compat.oci.registry.client import RegistryClient

__all__ = [
    "Scheme",
    "classify",
    "default_store",
    "in_registry",
    "index_output",
    "input_path",
    "local_path",
    "name_of",
    "open_chunk_store",
    "open_source",
    "open_store",
]

_URL = re.compile(r"[a-z][a-z0-9+.-]*://[A-Za-z0-9._@:\[\]-]+(?:[/;?]|$)")
_FILE_URL = re.compile(r"file://(?:localhost)?(/[^?;]*)")
_SSH = re.compile(r"(?:[A-Za-z0-9._-]+@)?[A-Za-z0-9._-]+:.+", re.DOTALL)


class Scheme(enum.Enum):
    """What a locator is."""

    LOCAL = "local path"
    URL = "URL"
    SSH = "ssh location"


def classify(locator: str) -> Scheme:
    """What a locator is, by its form alone."""
    if _FILE_URL.match(locator) or locator.startswith(("/", "./")) or locator in (".", ".."):
        return Scheme.LOCAL
    if _URL.match(locator):
        return Scheme.URL
    return Scheme.SSH if _SSH.fullmatch(locator) else Scheme.LOCAL


def local_path(locator: str) -> bytes:
    """The path of a local locator.

    :raises UsageError: for an empty one, and for remote ones, which this version cannot open
    """
    if not locator:
        raise UsageError("an empty path was given")
    scheme = classify(locator)
    if scheme is not Scheme.LOCAL:
        raise UsageError(
            f"{locator}: this is read as {'an' if scheme is Scheme.SSH else 'a'} {scheme.value}, and remote locations "
            f"are not supported yet; write ./{locator} for a local file of that name"
        )
    match = _FILE_URL.match(locator)
    if match:
        from urllib.parse import unquote_to_bytes  # lazily: 4 ms, for the few who write file:// URLs

        return unquote_to_bytes(match[1])
    return os.fsencode(locator)


def default_store(index: str | None) -> str:
    """Where chunks are when nobody says: $CASYNC_STORE, else default.castr beside the index (or here)."""
    configured = os.environ.get("CASYNC_STORE")
    if configured:
        return configured
    if index is None:
        return "default.castr"
    if in_registry(index):
        return index.rpartition("/")[0]  # chunks and indexes share a repository
    directory, slash, _ = index.rpartition("/")
    return f"{directory}{slash}default.castr"


def _suffix() -> bytes:
    return os.fsencode(os.environ.get("CASYNC_COMPRESSED_CHUNK_SUFFIX") or ".cacnk")


def open_store(locator: str, compression: Compression = Compression.ZSTD) -> LocalStore:
    """A store in a local directory."""
    return LocalStore(local_path(locator), compression=compression, suffix=_suffix())


def open_chunk_store(
    locator: str, compression: Compression = Compression.ZSTD
) -> LocalStore | RegistryChunkStore:
    """A store to write to, wherever it is."""
    if not in_registry(locator):
        return open_store(locator, compression)
    from casync_compat.oci.registry import chunkstore  # lazily, as is all that knows registries

    username, password = _registry_login()
    return chunkstore.open_chunk_store(
        locator,
        _registry_client(),
        username=username,
        password=password,
        compression=compression,
        suffix=os.fsdecode(_suffix()),
    )


def open_source(locator: str, extra: list[str]) -> ChunkSource:
    """The primary store and further ones, to read from."""
    first = open_chunk_store(locator)
    return Layered(first, *map(open_chunk_store, extra)) if extra else first


# ---- registries, as desync uses them


def in_registry(locator: str) -> bool:
    """Whether a locator names a chunk store, or an index, in a registry."""
    return locator.startswith(("oci+https://", "oci+http://"))


def name_of(locator: str) -> bytes:
    """What a locator ends in tells what it is; for local paths and registries alike."""
    return os.fsencode(locator) if in_registry(locator) else local_path(locator)


@functools.cache
def input_path(locator: str) -> bytes:
    """The path of a file to read. An index in a registry is fetched into a temporary file, which goes at exit.

    :raises CasyncError: it cannot be fetched
    """
    if not in_registry(locator):
        return local_path(locator)
    from casync_compat.oci.registry import chunkstore

    username, password = _registry_login()
    repository, name = chunkstore.open_index(
        locator, _registry_client(), username=username, password=password
    )
    path = os.path.join(_temporary_directory(), name)
    with open(path, "wb") as file:
        file.write(chunkstore.fetch_index(repository, name))
    return os.fsencode(path)


@contextmanager
def index_output(locator: str | None) -> Iterator[bytes | None]:
    """The path to write an index to. One for a registry is sent there when the block has ended without an error.

    :param locator: None for standard output, which has no path
    :raises UsageError: the locator is malformed
    """
    if locator is None or not in_registry(locator):
        yield None if locator is None else local_path(locator)
        return
    from casync_compat.oci.registry import chunkstore

    username, password = _registry_login()
    repository, name = chunkstore.open_index(
        locator, _registry_client(), username=username, password=password
    )
    path = os.path.join(_temporary_directory(), f"new-{name}")
    yield os.fsencode(path)
    with open(path, "rb") as file:
        chunkstore.publish_index(repository, name, file.read())


@functools.cache
def _registry_client() -> RegistryClient:
    from casync_compat.oci.registry.client import RegistryClient

    def warn(text: str) -> None:
        import sys

        print(f"pycasync: warning: the registry says: {text}", file=sys.stderr)

    return RegistryClient(environ=os.environ, warn=warn)


def _registry_login() -> tuple[str | None, str | None]:
    """desync's variables; without them the files of docker and podman are looked at."""
    username, password = os.environ.get("DESYNC_OCI_USERNAME"), os.environ.get("DESYNC_OCI_PASSWORD")
    if password and not username:
        raise UsageError("DESYNC_OCI_PASSWORD is set, but DESYNC_OCI_USERNAME is not")
    return (username, password or "") if username else (None, None)


@functools.cache
def _temporary_directory() -> str:
    import atexit
    import shutil
    import tempfile

    path = tempfile.mkdtemp(prefix="pycasync-")
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path
