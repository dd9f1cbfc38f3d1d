"""Locators - what a user writes for a file, store or index - told apart and opened.

casync's rules (`src/calocator.c`): an URL has a scheme; `HOST:PATH` goes through ssh; all else is a local path, and
`./a:b` writes one that looks like the former. This is the only place that knows which stores exist.
"""

from __future__ import annotations

import enum
import os
import re

from casync_compat.compression import Compression
from casync_compat.errors import UsageError
from casync_compat.store.base import ChunkSource
from casync_compat.store.layered import Layered
from casync_compat.store.local import LocalStore

__all__ = ["Scheme", "classify", "default_store", "local_path", "open_source", "open_store"]

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
    directory, slash, _ = index.rpartition("/")
    return f"{directory}{slash}default.castr"


def _suffix() -> bytes:
    return os.fsencode(os.environ.get("CASYNC_COMPRESSED_CHUNK_SUFFIX") or ".cacnk")


def open_store(locator: str, compression: Compression = Compression.ZSTD) -> LocalStore:
    """A store to write to."""
    return LocalStore(local_path(locator), compression=compression, suffix=_suffix())


def open_source(locator: str, extra: list[str]) -> ChunkSource:
    """The primary store and further ones, to read from."""
    first = open_store(locator)
    return Layered(first, *map(open_store, extra)) if extra else first
