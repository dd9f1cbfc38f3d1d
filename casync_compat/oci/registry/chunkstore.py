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

from casync_compat.compression import Compression, CompressionError, compress, decompress
from casync_compat.errors import ChunkCorrupt, ChunkMissing, UsageError
from casync_compat.ids import ChunkId, Digest
from casync_compat.index import Index
from casync_compat.oci.registry.artifacts import (
    BLOB_TYPE,
    CHUNK_TYPE,
    EMPTY_CONFIG,
    EMPTY_CONFIG_DATA,
    INDEX_TYPE,
    MANIFEST_TYPE,
    artifact_blob,
    chunk_manifest,
    index_manifest,
)
from casync_compat.oci.registry.client import RegistryClient, Repository
from casync_compat.oci.spec.blobs import check_blob
from casync_compat.oci.spec.descriptor import Descriptor
from casync_compat.oci.spec.errors import BlobCorrupt, BlobMissing, ImageError
from casync_compat.oci.spec.reference import Reference, parse_reference
from casync_compat.store.base import Put, checked

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = [
    "RegistryChunkStore",
    "fetch_index",
    "is_registry_locator",
    "open_chunk_store",
    "open_index",
    "publish_index",
]

_LOCATOR = re.compile(r"oci\+(https?)://((?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?)/([^?#]+)")
_PREFIXES = ("oci+https://", "oci+http://")
_INDEX_LIMIT = 1 << 30
_TAG = re.compile(r"[0-9a-f]{64}")


class RegistryChunkStore:
    """A ChunkSource, ChunkSink and Prunable in a repository.

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
        self.name = name or repository.name
        self.compression = compression
        self._repository = repository
        self._suffix = suffix
        # What is written is what is usually there: ask for that form first.
        self._forms = ("", suffix) if compression is Compression.NONE else (suffix, "")
        self._config_lock = threading.Lock()
        self._config_stored = False

    def close(self) -> None:
        """Let go of connections, if the repository has its own."""
        self._repository.close()

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        for form in self._forms:
            try:
                blob = self._find(id, form)
                if blob is None:
                    continue
                stored = self._read(id, blob, limit if not form else limit + limit // 8 + (64 << 10))
                return checked(id, digest, decompress(stored, limit) if form else stored, self.name)
            except BlobMissing:
                continue  # a manifest without its blob: as good as none, so that other stores are asked
            except CompressionError as error:
                raise ChunkCorrupt(id, self.name, str(error)) from error
            except (BlobCorrupt, ImageError) as error:
                raise ChunkCorrupt(id, self.name, error.why) from error
        raise ChunkMissing(id, self.name)

    def _read(self, id: ChunkId, blob: Descriptor, most: int) -> bytes:
        if blob.size > most:
            raise ChunkCorrupt(
                id, self.name, f"its blob has {blob.size} bytes, more than the {most} it may have"
            )
        return self._repository.read(blob, most)

    def _find(self, id: ChunkId, form: str) -> Descriptor | None:
        """The blob with the chunk in this form; None if there is none, or another artifact under its tag."""
        manifest = self._repository.resolve_or_none(f"{id}{form}")
        if manifest is None or manifest.media_type != MANIFEST_TYPE:
            return None
        data = self._repository.read_manifest(manifest)
        return artifact_blob(data, CHUNK_TYPE, f"{self.name}: chunk {id}")

    def has(self, id: ChunkId) -> bool:
        try:
            return any(self._find(id, form) is not None for form in self._forms)
        except ImageError:
            return False

    def put(self, id: ChunkId, data: ReadableBuffer) -> Put:
        if memoryview(data).nbytes == 0:
            raise UsageError("a chunk has at least one byte")
        form = self._forms[0]
        if self._holds(id, form):
            return Put(False, 0)
        content = compress(self.compression, data) if form else bytes(data)
        self._store_config()
        blob = Descriptor.of(BLOB_TYPE, content)
        self._repository.put(blob, [content], look=False)
        tag = f"{id}{form}"
        manifest = chunk_manifest(tag, blob)
        self._repository.put_tagged(tag, Descriptor.of(MANIFEST_TYPE, manifest), manifest)
        return Put(True, len(content))

    def _holds(self, id: ChunkId, form: str) -> bool:
        try:
            return self._find(id, form) is not None
        except ImageError:
            return False  # malformed: replaced by a good one

    def _store_config(self) -> None:
        with self._config_lock:
            if not self._config_stored:
                self._repository.put(EMPTY_CONFIG, [EMPTY_CONFIG_DATA])
                self._config_stored = True

    def sync(self) -> None:
        """Does nothing: what a registry has accepted is its responsibility."""

    def ids(self) -> Iterator[ChunkId]:
        found = set()
        for tag in self._repository.iter_tags():
            text = tag.removesuffix(self._suffix)
            if _TAG.fullmatch(text):
                found.add(bytes.fromhex(text))
        return map(ChunkId, sorted(found))

    def remove(self, id: ChunkId) -> int:
        freed = 0
        for form in self._forms:
            try:
                blob = self._find(id, form)
            except ImageError:
                continue  # not as desync makes them, so perhaps not a chunk at all
            if blob is not None:
                manifest = self._repository.resolve_or_none(f"{id}{form}")
                if manifest is not None and self._repository.delete_manifest(manifest):
                    freed += blob.size
        return freed

    def directories(self) -> int:
        """None: tags lie in none."""
        return 0

    def clean(self, before: int) -> int:
        """Nothing: what was uploaded in part is the registry's to forget."""
        return 0


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
    index = Index.parse(data, name.encode())
    blob = Descriptor.of(BLOB_TYPE, data)
    check_blob(blob, data, name)
    repository.put(EMPTY_CONFIG, [EMPTY_CONFIG_DATA])
    repository.put(blob, [data])
    manifest = index_manifest(name, blob, index)
    repository.put_tagged(name, Descriptor.of(MANIFEST_TYPE, manifest), manifest)


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
