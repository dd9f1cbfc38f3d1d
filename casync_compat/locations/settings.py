"""What is known beyond a location: the environment, options of stores, what stays open between calls.

No environment is read here: what a command line or a program knows is passed in.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from casync_compat.compression import Compression
from casync_compat.net.limiter import Limiter
from casync_compat.store.files import Files
from casync_compat.store.options import NOTHING_SAID, StoreOptions
from casync_compat.store.packs.layout import StoreLayout

if TYPE_CHECKING:
    from casync_compat.net.exchange import Exchange
    from casync_compat.net.loop import Loop
    from casync_compat.oci.registry.client import RegistryClient
    from casync_compat.store.cached import ChunkCache
    from casync_compat.store.channel import Server
    from casync_compat.store.peer import Peer

__all__ = ["IndexPlace", "PathType", "Settings", "Shared"]

PathType: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]
"""What names a place: a locator if it is a `str`, a local path if it is anything else."""

IndexPlace: TypeAlias = PathType | tuple[Files, bytes]
"""What names an index: a path or locator, or a place of files and the name in it."""


class Shared:
    """What all that is opened with the same settings has in common: one client for registries, fetched files.

    :param client: the client to use; None for one made when it is needed
    """

    def __init__(self, client: RegistryClient | None = None) -> None:
        self.client = client
        self.exchanges: dict[object, Exchange] = {}
        self.loop: Loop | None = None
        self.peers: dict[str, Peer] = {}
        self.servers: dict[tuple[str, ...], Server] = {}
        self.fetched: dict[str, bytes] = {}
        self.caches: dict[bytes, ChunkCache] = {}
        self._directory: bytes | None = None
        self._kept = 0

    def keep(self, name: bytes, content: bytes) -> bytes:
        """Write a temporary file, which goes at exit, and return its path; its last part is `name`."""
        self._kept += 1
        path = os.path.join(self._temporary(), b"%d" % self._kept, name)
        os.mkdir(os.path.dirname(path))
        with open(path, "wb") as file:
            file.write(content)
        return path

    def _temporary(self) -> bytes:
        if self._directory is None:
            import atexit  # lazily, these three: only files from elsewhere need them
            import shutil
            import tempfile

            self._directory = tempfile.mkdtemp(prefix=b"pycasync-")
            atexit.register(shutil.rmtree, self._directory, ignore_errors=True)
        return self._directory


def _ignore(text: str) -> None:
    """No warnings wanted."""


def _nothing_said(where: str) -> StoreOptions:
    return NOTHING_SAID


def _not_configured(key: str) -> None:
    """Nothing is."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is known beyond a location.

    :ivar environ: environment variables: `CASYNC_STORE`, `CASYNC_COMPRESSED_CHUNK_SUFFIX`, desync's login, and what the
        HTTP engine and credential helpers look at; empty for none
    :ivar compression: how new chunks are written
    :ivar warn: called with each warning
    :ivar options: what is said of the store at a locator or path; asked without the login in an URL
    :ivar network: what is said of every store, by the command line for one; it goes before `options`
    :ivar general: what is configured of no store in particular: `chunk-cache` and `chunk-cache-size`
    :ivar chunk_cache: a directory to keep chunks in; None for what is configured
    :ivar chunk_cache_size: bytes that it may have; None for what is configured
    :ivar limiter: of bytes a second over all connections; None for no limit
    :ivar layout: how chunks are written to a store, if it has none that are written otherwise; None for what is usual
        there
    :ivar shared: what stays open between calls; the same when settings are copied by `dataclasses.replace`
    """

    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    compression: Compression = Compression.ZSTD
    warn: Callable[[str], None] = _ignore
    options: Callable[[str], StoreOptions] = field(default=_nothing_said, repr=False)
    network: StoreOptions = NOTHING_SAID
    general: Callable[[str], str | int | None] = field(default=_not_configured, repr=False)
    chunk_cache: str | None = None
    chunk_cache_size: int | None = None
    limiter: Limiter | None = field(default=None, compare=False, repr=False)
    layout: StoreLayout | None = None
    shared: Shared = field(default_factory=Shared, compare=False, repr=False)

    def said_of(self, where: str) -> StoreOptions:
        """All that is said of the store at a locator or path."""
        return self.network.completed(self.options(where))

    @property
    def suffix(self) -> bytes:
        """What the names of compressed chunks end in."""
        return os.fsencode(self.environ.get("CASYNC_COMPRESSED_CHUNK_SUFFIX") or ".cacnk")
