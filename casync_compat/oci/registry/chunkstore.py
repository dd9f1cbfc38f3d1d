"""A repository of a registry as a chunk store, as desync lays it out: one tagged artifact a chunk; indexes beside it.

    >>> store = open_chunk_store("oci+https://ghcr.io/me/store", client)
    >>> store.put(id, raw)
    Put(new=True, stored=1482)

Reading a chunk takes two requests, looking for one takes one, writing one takes four. For images, packs need far fewer
(README.md); this is for living together with desync. Removing a chunk removes its manifest, if the registry allows it;
the blob goes with the registry's own garbage collection. Artifacts of other kinds in the repository are left alone.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from casync_compat.compression import Compression
from casync_compat.errors import AccessDenied, UsageError
from casync_compat.oci.registry.artifacts import (
    BLOB_TYPE,
    CHUNKS,
    EMPTY_CONFIG,
    EMPTY_CONFIG_DATA,
    INDEX_TYPE,
    INDEXES,
    MANIFEST_TYPE,
    Artifact,
    artifact_blob,
)
from casync_compat.oci.registry.client import RegistryClient, Repository
from casync_compat.oci.spec.descriptor import Descriptor
from casync_compat.oci.spec.errors import BlobCorrupt, BlobMissing, ImageError
from casync_compat.oci.spec.reference import Reference, parse_reference
from casync_compat.store.chunks import ChunkStore
from casync_compat.store.files import Can, FileDamaged, Files, FileStatus, Listed, Version

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = [
    "RegistryChunkStore",
    "RegistryFiles",
    "fetch_index",
    "is_registry_locator",
    "open_chunk_store",
    "open_index",
    "publish_index",
]

_LOCATOR = re.compile(r"oci\+(https?)://((?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?)/([^?#]+)")
_PREFIXES = ("oci+https://", "oci+http://")
_INDEX_LIMIT = 1 << 30
_TAG = re.compile(rb"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


class RegistryFiles(Files):
    """The artifacts of one kind in a repository as files: a file's name is its tag.

    Listing gives all tags, those of other artifacts too; sizes would cost a request each.

    :ivar name: the repository as a user would name it
    :param artifact: which kind
    """

    can = Can.LIST | Can.WRITE
    name: str = ""

    def __init__(self, repository: Repository, artifact: Artifact, name: str | None = None) -> None:
        self.name = name or repository.name
        self._repository = repository
        self._artifact = artifact
        self._config_lock = threading.Lock()
        self._config_stored = False

    def close(self) -> None:
        """Let go of connections, if the repository has its own."""
        self._repository.close()

    def _find(self, name: bytes) -> tuple[Descriptor, Descriptor] | None:
        """The manifest and the blob of a file; None if there is none, or another artifact under its tag.

        :raises FileDamaged: the artifact is malformed
        """
        if not _TAG.fullmatch(name):
            return None
        tag = name.decode("ascii")
        try:
            manifest = self._repository.resolve_or_none(tag)
            if manifest is None or manifest.media_type != MANIFEST_TYPE:
                return None
            data = self._repository.read_manifest(manifest)
            blob = artifact_blob(data, self._artifact.type, f"{self.name}:{tag}")
        except BlobMissing:
            return None
        except (BlobCorrupt, ImageError) as error:
            raise FileDamaged(name, self.name, error.why) from error
        return None if blob is None else (manifest, blob)

    def read(self, name: bytes, limit: int) -> bytes | None:
        found = self._find(name)
        if found is None:
            return None
        blob = found[1]
        if blob.size > limit:
            raise FileDamaged(
                name, self.name, f"its blob has {blob.size} bytes, more than the {limit} it may have"
            )
        try:
            return self._repository.read(blob, limit)
        except BlobMissing:
            return None  # a manifest without its blob: as good as none, so that other places are asked
        except (BlobCorrupt, ImageError) as error:
            raise FileDamaged(name, self.name, error.why) from error

    def read_range(self, name: bytes, offset: int, size: int) -> bytes | None:
        """A part of a file; the whole of it is read, since a part cannot be checked."""
        found = self._find(name)
        content = None if found is None else self.read(name, found[1].size)
        return None if content is None else content[offset : offset + size]

    def stat(self, name: bytes) -> FileStatus | None:
        try:
            found = self._find(name)
        except AccessDenied as error:
            # Who looks is about to write, and of a repository yet to be made some say that it may not be read.
            if self._repository.was_read or error.anonymous:
                raise
            return None
        return None if found is None else FileStatus(found[1].size, version=str(found[0].digest))

    def write(
        self, name: bytes, data: ReadableBuffer, *, if_absent: bool = False, if_version: Version | None = None
    ) -> Version:
        if if_absent or if_version is not None:
            raise UsageError(f"{self.name}: a registry cannot write on a condition")
        tag, content = name.decode("ascii"), bytes(data)
        blob = Descriptor.of(BLOB_TYPE, content)
        manifest = self._artifact.manifest(tag, blob, content)
        descriptor = Descriptor.of(MANIFEST_TYPE, manifest)
        with self._config_lock:
            if not self._config_stored:
                self._repository.put(EMPTY_CONFIG, [EMPTY_CONFIG_DATA])
                self._config_stored = True
        self._repository.put(blob, [content], look=False)
        self._repository.put_tagged(tag, descriptor, manifest)
        return str(descriptor.digest)

    def list(
        self, prefix: bytes = b"", *, under: re.Pattern[bytes] | None = None, details: bool = True
    ) -> Iterator[Listed]:
        if under is not None and not under.fullmatch(b""):
            return
        for name in sorted({tag.encode() for tag in self._repository.iter_tags()}):
            if name.startswith(prefix):
                yield Listed(name)

    def remove(self, name: bytes) -> int:
        try:
            found = self._find(name)
        except FileDamaged:
            return 0  # not as desync makes them, so perhaps not one of these at all
        if found is None or not self._repository.delete_manifest(found[0]):
            return 0
        return found[1].size

    def sync(self, *, others: bool = False) -> None:
        """Does nothing: what a registry has accepted is its responsibility."""


class RegistryChunkStore(ChunkStore):
    """A ChunkStore in a repository.

    :ivar name: `oci+https://HOST/REPOSITORY`
    :param compression: how new chunks are written; compressed ones and plain ones are both read
    :param suffix: what the tags of compressed chunks end in
    """

    def __init__(
        self,
        repository: Repository,
        *,
        name: str | None = None,
        compression: Compression = Compression.ZSTD,
        suffix: str = ".cacnk",
    ) -> None:
        if not re.fullmatch(r"\.[A-Za-z0-9._-]{1,60}", suffix):
            raise UsageError(f"{suffix!r} cannot be the suffix of compressed chunks in a registry")
        files = RegistryFiles(repository, CHUNKS, name)
        super().__init__(files, compression=compression, suffix=suffix.encode(), flat=True)


def is_registry_locator(locator: str) -> bool:
    """Whether a locator is of the form `oci+https://…` or `oci+http://…`."""
    return locator.startswith(_PREFIXES)


def open_chunk_store(
    locator: str,
    client: RegistryClient,
    *,
    username: str | None = None,
    password: str | None = None,
    compression: Compression = Compression.ZSTD,
    suffix: str = ".cacnk",
) -> RegistryChunkStore:
    """The chunk store `oci+https://HOST/REPOSITORY`.

    :raises UsageError: the locator is malformed
    """
    scheme, host, path = _parse(locator)
    repository = _repository(client, scheme, host, path, locator, username, password)
    return RegistryChunkStore(repository, name=locator, compression=compression, suffix=suffix)


def open_index(
    locator: str, client: RegistryClient, *, username: str | None = None, password: str | None = None
) -> tuple[Repository, str]:
    """The repository and the name in it of the index `oci+https://HOST/REPOSITORY/NAME`.

    :raises UsageError: the locator is malformed
    """
    scheme, host, path = _parse(locator)
    path, slash, name = path.rpartition("/")
    if not slash or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", name):
        raise UsageError(
            f"{locator}: an index in a registry is oci+https://HOST/REPOSITORY/NAME, with a name of letters, digits, "
            "'_', '.', '-', at most 128"
        )
    return _repository(client, scheme, host, path, locator, username, password), name


def fetch_index(repository: Repository, name: str) -> bytes:
    """An index file from a registry; whether it is one is for its reader to say.

    :raises ImageError: there is none of this name
    :raises BlobMissing: its manifest is there, but it is not
    """
    where = f"{repository.name}:{name}"
    manifest = repository.resolve(name)
    blob = artifact_blob(repository.read_manifest(manifest), INDEX_TYPE, where)
    if blob is None:
        raise ImageError(where, "this is not an index of desync")
    return repository.read(blob, _INDEX_LIMIT)


def publish_index(repository: Repository, name: str, data: bytes) -> None:
    """Store an index file; one of the same name is replaced in one step.

    :raises FormatError: it is no index
    """
    RegistryFiles(repository, INDEXES).write(name.encode(), data)


def _parse(locator: str) -> tuple[str, str, str]:
    match = _LOCATOR.fullmatch(locator)
    path = match[3].removesuffix("/") if match is not None else ""
    if match is None or not path:
        raise UsageError(f"{locator}: a chunk store in a registry is oci+https://HOST/REPOSITORY")
    return match[1], match[2], path


def _repository(
    client: RegistryClient,
    scheme: str,
    host: str,
    path: str,
    locator: str,
    username: str | None,
    password: str | None,
) -> Repository:
    try:
        known = parse_reference(f"docker://localhost/{path}")
    except UsageError:
        known = None
    if known is None or known.repository != path:
        raise UsageError(
            f"{locator}: {path!r} is no repository name (lower-case letters, digits, '.', '_', '-', '/')"
        )
    reference = Reference("docker", host, path)
    return client.repository(reference, username=username, password=password, scheme=scheme)
