"""Locations - what a user gives for a file, store or index - told apart and opened.

A location is an object that is open already, a path (`bytes` or `os.PathLike`), or a locator (`str`). Locators follow
casync's rules (`src/calocator.c`): an URL has a scheme; `HOST:PATH` goes through ssh; all else is a local path, and
`./a:b` writes one that looks like the former. This is the only place that knows which stores exist.

It reads no environment: what a command line or a program knows is passed in, as `Settings`.

    >>> settings = Settings(environ=os.environ)
    >>> index = open_index("oci+https://ghcr.io/me/store/disk.caibx", settings)
    >>> store = open_store("oci+https://ghcr.io/me/store", settings)
"""

from __future__ import annotations

import enum
import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, TypeVar, overload

from casync_compat.compression import Compression
from casync_compat.errors import NotFound, UsageError
from casync_compat.index import MAX_INDEX_SIZE, Index
from casync_compat.store.base import ChunkSource, Store
from casync_compat.store.chunks import ChunkStore
from casync_compat.store.files import Files
from casync_compat.store.layered import Layered
from casync_compat.store.local import LocalFiles, LocalStore
from casync_compat.streams.trees import load_index

if TYPE_CHECKING:
    from casync_compat.net.exchange import Exchange
    from casync_compat.oci.registry.client import RegistryClient, Repository
    from casync_compat.store.http import HttpFiles

__all__ = [
    "IndexPlace",
    "PathType",
    "Scheme",
    "Settings",
    "Shared",
    "classify",
    "default_store",
    "in_registry",
    "index_location",
    "index_output",
    "input_path",
    "is_remote",
    "local_path",
    "name_of",
    "on_web",
    "open_index",
    "open_local_store",
    "open_source",
    "open_store",
]

PathType: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]
"""What names a place: a locator if it is a `str`, a local path if it is anything else."""

IndexPlace: TypeAlias = PathType | tuple[Files, bytes]
"""What names an index: a path or locator, or a place of files and the name in it."""

S = TypeVar("S", bound=ChunkSource)

_URL = r"[a-z][a-z0-9+.-]*://[A-Za-z0-9._@:\[\]-]+(?:[/;?]|$)"
_FILE_URL = r"file://(?:localhost)?(/[^?;]*)"
_SSH = r"(?:[A-Za-z0-9._-]+@)?[A-Za-z0-9._-]+:(?s:.+)"


class Scheme(enum.Enum):
    """What a locator is."""

    LOCAL = "local path"
    URL = "URL"
    SSH = "ssh location"


class Shared:
    """What all that is opened with the same settings has in common: one client for registries, fetched indexes.

    :param client: the client to use; None for one made when it is needed
    """

    def __init__(self, client: RegistryClient | None = None) -> None:
        self.client = client
        self.exchange: Exchange | None = None
        self.fetched: dict[str, bytes] = {}
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
            import atexit  # lazily, these three: only indexes in registries need them
            import shutil
            import tempfile

            self._directory = tempfile.mkdtemp(prefix=b"pycasync-")
            atexit.register(shutil.rmtree, self._directory, ignore_errors=True)
        return self._directory


def _ignore(text: str) -> None:
    """No warnings wanted."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is known beyond a location.

    :ivar environ: environment variables: `CASYNC_STORE`, `CASYNC_COMPRESSED_CHUNK_SUFFIX`, desync's login, and what the
        HTTP engine and credential helpers look at; empty for none
    :ivar compression: how new chunks are written
    :ivar warn: called with each warning
    :ivar shared: what stays open between calls; the same when settings are copied by `dataclasses.replace`
    """

    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    compression: Compression = Compression.ZSTD
    warn: Callable[[str], None] = _ignore
    shared: Shared = field(default_factory=Shared, compare=False, repr=False)

    @property
    def suffix(self) -> bytes:
        """What the names of compressed chunks end in."""
        return os.fsencode(self.environ.get("CASYNC_COMPRESSED_CHUNK_SUFFIX") or ".cacnk")


# ---- told apart


def classify(locator: str) -> Scheme:
    """What a locator is, by its form alone."""
    if ":" not in locator or locator.startswith(("/", "./")) or re.match(_FILE_URL, locator):
        return Scheme.LOCAL
    if re.match(_URL, locator):
        return Scheme.URL
    return Scheme.SSH if re.fullmatch(_SSH, locator) else Scheme.LOCAL


def local_path(where: PathType) -> bytes:
    """The path of a local location.

    :raises UsageError: for an empty one, and for remote ones, which this version cannot open
    """
    if not isinstance(where, str):
        return os.fsencode(where)
    if not where:
        raise UsageError("an empty path was given")
    scheme = classify(where)
    if scheme is not Scheme.LOCAL:
        raise UsageError(
            f"{where}: this is read as {'an' if scheme is Scheme.SSH else 'a'} {scheme.value}, and remote locations "
            f"are not supported yet; write ./{where} for a local file of that name"
        )
    match = where.startswith("file:") and re.match(_FILE_URL, where)
    if match:
        from urllib.parse import unquote_to_bytes  # lazily: 4 ms, for the few who write file:// URLs

        return unquote_to_bytes(match[1])
    return os.fsencode(where)


def in_registry(where: object) -> bool:
    """Whether a location is a locator that names a chunk store, or an index, in a registry."""
    return isinstance(where, str) and where.startswith(("oci+https://", "oci+http://"))


def on_web(where: object) -> bool:
    """Whether a location is a locator of something on a web server."""
    return isinstance(where, str) and where.startswith(("https://", "http://"))


def is_remote(where: object) -> bool:
    """Whether a location is a locator of something that is not on this machine, and can be opened."""
    return in_registry(where) or on_web(where)


def name_of(where: PathType) -> bytes:
    """What a location ends in tells what it is; for local paths, registries and web servers alike."""
    if isinstance(where, str) and on_web(where):
        return os.fsencode(_without_query(where))
    return os.fsencode(where) if in_registry(where) else local_path(where)


def default_store(index: PathType | None, settings: Settings) -> PathType:
    """Where chunks are when nobody says: $CASYNC_STORE, else default.castr beside the index (or here)."""
    configured = settings.environ.get("CASYNC_STORE")
    if configured:
        return configured
    if index is None:
        return "default.castr"
    if not isinstance(index, str):
        return os.path.join(os.path.dirname(os.fsencode(index)), b"default.castr")
    if in_registry(index):
        return index.rpartition("/")[0]  # chunks and indexes share a repository
    if on_web(index):  # casync's rule (`src/caremote.c`): the last part and what follows it give way
        return f"{_without_query(index).rpartition('/')[0]}/default.castr"
    directory, slash, _ = index.rpartition("/")
    return f"{directory}{slash}default.castr"


# ---- stores


def open_local_store(where: PathType, settings: Settings) -> LocalStore:
    """A store in a local directory.

    :raises UsageError: the location is not one of a local directory
    """
    return LocalStore(local_path(where), compression=settings.compression, suffix=settings.suffix)


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
    if isinstance(where, str) and on_web(where):
        return ChunkStore(
            _web_files(where, settings), compression=settings.compression, suffix=settings.suffix
        )
    if not isinstance(where, str) or not in_registry(where):
        return open_local_store(where, settings)
    from casync_compat.oci.registry import chunkstore  # lazily, as is all that knows registries

    username, password = _registry_login(settings.environ)
    return chunkstore.open_chunk_store(
        where,
        _registry_client(settings),
        username=username,
        password=password,
        compression=settings.compression,
        suffix=os.fsdecode(settings.suffix),
    )


def open_source(
    where: PathType | ChunkSource, extra: Iterable[PathType | ChunkSource], settings: Settings
) -> ChunkSource:
    """A store and further ones, to read from: the first that has a chunk gives it."""
    first: ChunkSource = open_store(where, settings)
    others: list[ChunkSource] = [open_store(other, settings) for other in extra]
    return Layered(first, *others) if others else first


# ---- indexes


def index_location(where: IndexPlace, settings: Settings) -> tuple[Files, bytes]:
    """An index's location taken apart: a place of files, and the name in it.

    :raises UsageError: the location is malformed, or of a kind that this version cannot open
    """
    if isinstance(where, tuple):
        return where
    if isinstance(where, str) and on_web(where):
        url, file = _split_url(where)
        return _web_files(url, settings), file
    if not isinstance(where, str) or not in_registry(where):
        directory, name = os.path.split(local_path(where))
        return LocalFiles(directory or b".", what="index"), name
    from casync_compat.oci.registry import artifacts, chunkstore

    repository, tag = _index_in_registry(where, settings)
    return chunkstore.RegistryFiles(repository, artifacts.INDEXES), tag.encode()


def open_index(where: IndexPlace | Index, settings: Settings) -> Index:
    """The index at a location. One that was read already is given back.

    :raises CasyncError: it cannot be read, or is no index
    """
    if isinstance(where, Index):
        return where
    if isinstance(where, tuple):
        return Index.parse(_content(*where), where[1])
    return load_index(input_path(where, settings))


def input_path(where: IndexPlace, settings: Settings) -> bytes:
    """The path of a file to read. An index that is no local file is fetched into a temporary one, which goes at exit.

    :raises CasyncError: it cannot be fetched
    """
    if isinstance(where, tuple):
        return settings.shared.keep(os.path.basename(where[1]), _content(*where))
    if not isinstance(where, str) or not is_remote(where):
        return local_path(where)
    fetched = settings.shared.fetched
    if where not in fetched and on_web(where):
        fetched[where] = _from_web(where, settings)
    elif where not in fetched:
        from casync_compat.oci.registry import chunkstore

        repository, name = _index_in_registry(where, settings)
        fetched[where] = settings.shared.keep(name.encode(), chunkstore.fetch_index(repository, name))
    return fetched[where]


def _from_web(where: str, settings: Settings) -> bytes:
    """Fetch a file from a web server into a temporary one, whose path is returned."""
    directory, name = _split_url(where)
    pieces = _web_files(directory, settings).pieces(name)
    if pieces is None:
        raise NotFound(os.fsencode(where), "open", FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))
    path = settings.shared.keep(os.path.basename(name), b"")
    with open(path, "wb") as file:
        for piece in pieces:
            file.write(piece)
    return path


def _content(files: Files, name: bytes) -> bytes:
    data = files.read(name, MAX_INDEX_SIZE)
    if data is None:
        where = os.fsencode(files.name) + b"/" + name
        raise NotFound(where, "open", FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))
    return data


@contextmanager
def index_output(where: IndexPlace | None, settings: Settings) -> Iterator[bytes | None]:
    """The path to write an index to. One that is no local file is sent when the block has ended without an error.

    :param where: None for standard output, which has no path
    :raises UsageError: the location is malformed
    """
    if where is None or not (isinstance(where, tuple) or is_remote(where)):
        yield None if where is None else local_path(where)
        return
    files, name = index_location(where, settings)
    path = settings.shared.keep(os.path.basename(name), b"")
    yield path
    with open(path, "rb") as file:
        files.write(name, file.read())
    files.sync()


# ---- web servers


def _without_query(where: str) -> str:
    return where.partition("?")[0].partition(";")[0]


def _split_url(where: str) -> tuple[str, bytes]:
    """The URL of the directory that a file is in, with the query of the file's, and the file's name.

    :raises UsageError: it has no name
    """
    from urllib.parse import unquote_to_bytes, urlsplit  # lazily: 4 ms

    parts = urlsplit(where)
    path, _, name = parts.path.rpartition("/")
    if not name:
        raise UsageError(f"{where} names a directory, not a file")
    return parts._replace(path=path, fragment="").geturl(), unquote_to_bytes(name)


def _web_files(where: str, settings: Settings) -> HttpFiles:
    from casync_compat.net.exchange import Clock, Exchange  # lazily, as all that knows HTTP
    from casync_compat.store.http import HttpFiles

    shared = settings.shared
    if shared.exchange is None:
        from casync_compat.net.transport import CurlTransport

        transport = CurlTransport(settings.environ, "pycasync")
        shared.exchange = Exchange(
            transport, Clock(), warn=lambda text: settings.warn(f"the server says: {text}")
        )
    return HttpFiles(where, shared.exchange)


# ---- registries, as desync uses them


def _registry_client(settings: Settings) -> RegistryClient:
    shared = settings.shared
    if shared.client is None:
        from casync_compat.oci.registry.client import RegistryClient

        shared.client = RegistryClient(
            environ=settings.environ, warn=lambda text: settings.warn(f"the registry says: {text}")
        )
    return shared.client


def _index_in_registry(where: str, settings: Settings) -> tuple[Repository, str]:
    from casync_compat.oci.registry import chunkstore

    username, password = _registry_login(settings.environ)
    return chunkstore.open_index(where, _registry_client(settings), username=username, password=password)


def _registry_login(environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    """desync's variables; without them the files of docker and podman are looked at."""
    username, password = environ.get("DESYNC_OCI_USERNAME"), environ.get("DESYNC_OCI_PASSWORD")
    if password and not username:
        raise UsageError("DESYNC_OCI_PASSWORD is set, but DESYNC_OCI_USERNAME is not")
    return (username, password or "") if username else (None, None)
