"""A registry as a chunk store in desync's layout keeps the contract of all stores, and desync's forms to the byte."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from test_oci.fake_registry import FakeRegistry, digest
from test_store.contract import LIMIT, D, PrunableContract, StoreRig, text
from test_store.contract_files import FilesContract

from casync_compat.chunker import ChunkSizes
from casync_compat.compression import Compression, compress
from casync_compat.errors import AccessDenied, ChunkCorrupt, ChunkMissing, FormatError, UsageError
from casync_compat.ids import ChunkId
from casync_compat.index import IndexBuilder
from casync_compat.oci.registry.artifacts import CHUNKS
from casync_compat.oci.registry.chunkstore import (
    RegistryChunkStore,
    RegistryFiles,
    fetch_index,
    is_registry_locator,
    open_chunk_store,
    open_index,
    publish_index,
)
from casync_compat.oci.spec.errors import BlobMissing, ImageError
from casync_compat.store.files import Files
from catar.flags import DEFAULT

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
EMPTY = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def artifact(blob: bytes, title: str, kind: str = "application/vnd.desync.chunk.v1") -> bytes:
    """A chunk's manifest, written down from desync's documentation."""
    return (
        b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"%s",'
        b'"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"%s","size":2},'
        b'"layers":[{"mediaType":"application/octet-stream","digest":"%s","size":%d}],'
        b'"annotations":{"org.opencontainers.image.title":"%s"}}'
        % (kind.encode(), EMPTY.encode(), digest(blob).encode(), len(blob), title.encode())
    )


def plant(fake: FakeRegistry, tag: str, blob: bytes, manifest: bytes | None = None) -> None:
    """Put an artifact there, past the store."""
    data = artifact(blob, tag) if manifest is None else manifest
    fake.store().blobs[digest(blob)] = blob
    fake.store().blobs[EMPTY] = b"{}"
    fake.store().manifests[digest(data)] = (MANIFEST, data)
    fake.store().tags[tag] = digest(data)


def open_store(fake: FakeRegistry, compression: Compression = Compression.ZSTD) -> RegistryChunkStore:
    return open_chunk_store("oci+https://registry.test/a/b", fake.client(), compression=compression)


class RegistryContract(PrunableContract):
    """The contract, over a registry that behaves in some way."""

    compression = Compression.ZSTD

    def faults(self) -> dict[str, object]:
        return {}

    @pytest.fixture
    def rig(self) -> StoreRig:
        fake = FakeRegistry(**self.faults())  # type: ignore[arg-type]
        store = open_store(fake, self.compression)

        def stored(raw: bytes) -> bytes:
            return raw if self.compression is Compression.NONE else compress(self.compression, raw)

        def fill(raw: bytes) -> ChunkId:
            store.put(D.of(raw), raw)
            return D.of(raw)

        def damage(id: ChunkId, raw: bytes) -> None:
            suffix = "" if self.compression is Compression.NONE else ".cacnk"
            plant(fake, f"{id}{suffix}", stored(raw))

        return StoreRig(store, fill, damage, store)


class TestCompressed(RegistryContract):
    """As desync writes them by default."""


class TestPlain(RegistryContract):
    """Without compression."""

    compression = Compression.NONE


class TestAwkward(RegistryContract):
    """In a registry with small pages, relative locations, blobs elsewhere, and no digests in its answers."""

    def faults(self) -> dict[str, object]:
        return {"page": 7, "relative": True, "redirect": True, "head_digest": False, "whole_length": False}


class TestFiles(FilesContract):
    """The contract of places of files, over the artifacts of a repository."""

    names = (b"a", b"abc", b"ab.y", b"b-d", b"_0123")

    @pytest.fixture
    def files(self) -> Files:
        return RegistryFiles(FakeRegistry().open(), CHUNKS)


def test_form_of_a_chunk() -> None:
    """Manifest, tag and blob are desync's, to the byte."""
    fake = FakeRegistry()
    raw = text(5000)
    id = D.of(raw)
    open_store(fake).put(id, raw)
    blob = compress(Compression.ZSTD, raw)
    data = artifact(blob, f"{id}.cacnk")
    assert fake.store().tags == {f"{id}.cacnk": digest(data)}
    assert fake.store().manifests == {digest(data): (MANIFEST, data)}
    assert fake.store().blobs == {EMPTY: b"{}", digest(blob): blob}


def test_requests() -> None:
    """Reading takes two requests, looking one, writing four; the shared blob is stored once."""
    fake = FakeRegistry()
    store = open_store(fake)
    store.put(D.of(b"first"), b"first")
    fake.seen.clear()
    store.put(D.of(b"second"), b"second")
    assert [seen.method for seen in fake.seen] == ["GET", "POST", "PUT", "PUT"]
    other = open_store(fake)
    fake.seen.clear()
    assert other.has(D.of(b"second"))
    assert len(fake.seen) == 1
    other.get(D.of(b"second"), D, LIMIT)
    assert len(fake.seen) == 3


@pytest.mark.parametrize("status", [401, 403])
def test_a_repository_yet_to_be_made(status: int) -> None:
    """Where nothing is yet, some say that it may not be read: the first chunks go in, and missing ones are refused."""
    fake = FakeRegistry(missing=status)
    store = open_chunk_store("oci+https://registry.test/a/b", fake.client(), username="joe", password="x")
    for data in (b"first", b"second"):
        assert store.put(D.of(data), data)
    assert open_store(fake).get(D.of(b"second"), D, LIMIT) == b"second"
    with pytest.raises(AccessDenied):
        open_store(fake).get(D.of(b"third"), D, LIMIT)


def test_both_forms_are_read() -> None:
    """A store reads compressed and plain chunks, whichever it writes; pruning removes both."""
    for own in (Compression.ZSTD, Compression.NONE):
        fake = FakeRegistry()
        store = open_store(fake, own)
        id, other = D.of(b"one"), D.of(b"two")
        plant(fake, str(id), b"one")
        plant(fake, f"{other}.cacnk", compress(Compression.ZSTD, b"two"))
        assert store.get(id, D, LIMIT) == b"one"
        assert store.get(other, D, LIMIT) == b"two"
        assert list(store.ids()) == sorted([id, other])
        assert store.remove(id) == 3
        assert list(store.ids()) == [other]


@pytest.mark.parametrize(
    "manifest",
    [
        b'{"schemaVersion":2,"config":{"digest":"%s"},"layers":[]}' % EMPTY.encode(),
        artifact(b"x", "t", "application/vnd.other"),
        b"{}",
        b"no json",
    ],
    ids=["image", "other type", "empty", "no json"],
)
def test_foreign_artifacts(manifest: bytes) -> None:
    """What only looks like a chunk by its tag is missing, and is never pruned."""
    fake = FakeRegistry()
    id = D.of(b"chunk")
    for tag in (str(id), f"{id}.cacnk"):
        plant(fake, tag, b"x", manifest)
    fake.store().tags["latest"] = fake.store().tags[f"{id}.cacnk.xchacha20-poly1305-01020304"] = "x"
    before = dict(fake.store().tags)
    store = open_store(fake)
    if manifest not in (b"{}", b"no json"):
        assert not store.has(id)
        with pytest.raises(ChunkMissing):
            store.get(id, D, LIMIT)
        for found in store.ids():
            assert store.remove(found) == 0
    assert fake.store().tags == before


def test_manifest_without_its_blob() -> None:
    """A chunk whose blob is gone is missing, so that another store is asked."""
    fake = FakeRegistry()
    store = open_store(fake)
    store.put(D.of(b"x"), b"x")
    fake.store().blobs.clear()
    with pytest.raises(ChunkMissing):
        store.get(D.of(b"x"), D, LIMIT)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["layers"].append(m["layers"][0]),
        lambda m: m["layers"].clear(),
        lambda m: m["layers"][0].update(size=-1),
        lambda m: m["layers"][0].update(size=1 << 40),
        lambda m: m["layers"][0].update(digest="md5:00"),
    ],
)
def test_malformed_artifacts(change: Callable[[dict[str, object]], None]) -> None:
    """A chunk's manifest that is not as it should be is a corrupt chunk; putting the chunk again repairs it."""
    fake = FakeRegistry()
    raw = text(1000)
    id = D.of(raw)
    blob = compress(Compression.ZSTD, raw)
    manifest = json.loads(artifact(blob, f"{id}.cacnk"))
    change(manifest)
    plant(fake, f"{id}.cacnk", blob, json.dumps(manifest).encode())
    store = open_store(fake)
    with pytest.raises(ChunkCorrupt) as caught:
        store.get(id, D, LIMIT)
    assert "\n" not in str(caught.value)
    if manifest["layers"] == [] or len(manifest["layers"]) == 2:
        assert store.put(id, raw).new
        assert store.get(id, D, LIMIT) == raw


def test_flipped_blob() -> None:
    """A blob with another digest than the manifest's is corrupt before it is decompressed."""
    fake = FakeRegistry()
    store = open_store(fake)
    store.put(D.of(b"x"), b"x")
    fake.flipped = set(fake.store().blobs)
    with pytest.raises(ChunkCorrupt):
        store.get(D.of(b"x"), D, LIMIT)


def index_of(*raws: bytes) -> bytes:
    builder = IndexBuilder(DEFAULT, ChunkSizes())
    for raw in raws:
        builder.append(D.of(raw), len(raw))
    return builder.build().to_bytes()


class TestIndexes:
    """Indexes as artifacts."""

    def test_form(self) -> None:
        """Manifest, annotations and blob are desync's, to the byte."""
        fake = FakeRegistry()
        repository, name = open_index("oci+https://registry.test/a/b/disk.caibx", fake.client())
        data = index_of(text(20000), text(30000))
        publish_index(repository, name, data)
        expected = artifact(data, "disk.caibx", "application/vnd.desync.index.v1").replace(
            b'"disk.caibx"}',
            b'"disk.caibx","vnd.desync.index.blob-size":"50000",'
            b'"vnd.desync.index.chunk-size":"16384:65536:262144","vnd.desync.index.chunks":"2"}',
        )
        assert fake.store().tags == {"disk.caibx": digest(expected)}
        assert fake.store().manifests[digest(expected)] == (MANIFEST, expected)
        assert fetch_index(repository, name) == data

    def test_replaced(self) -> None:
        """A second index of the same name takes the place of the first."""
        fake = FakeRegistry()
        repository, name = open_index("oci+https://registry.test/a/b/disk.caibx", fake.client())
        for raw in (b"one", b"two"):
            publish_index(repository, name, index_of(raw))
            assert fetch_index(fake.open(), name) == index_of(raw)

    def test_no_index(self) -> None:
        """What is no index is neither stored nor read as one."""
        fake = FakeRegistry()
        repository = fake.open()
        with pytest.raises(FormatError):
            publish_index(repository, "x.caibx", b"rubbish")
        assert fake.seen == []
        with pytest.raises(ImageError, match="no such image"):
            fetch_index(repository, "x.caibx")
        plant(fake, "x.caibx", b"chunk")
        with pytest.raises(ImageError, match="not an index of desync"):
            fetch_index(repository, "x.caibx")
        publish_index(repository, "y.caibx", index_of(b"x"))
        del fake.store().blobs[digest(index_of(b"x"))]
        with pytest.raises(BlobMissing):
            fetch_index(repository, "y.caibx")

    def test_pruning_leaves_indexes(self) -> None:
        """An index in the same repository, even one named like a chunk, is no chunk."""
        fake = FakeRegistry()
        store, repository = open_store(fake), fake.open()
        name = str(D.of(b"x"))
        publish_index(repository, name, index_of(b"x"))
        for id in store.ids():
            assert store.remove(id) == 0
        assert fake.store().tags.keys() == {name}


@pytest.mark.parametrize(
    ("locator", "says"),
    [
        ("oci+https://registry.test", "is oci\\+https://HOST/REPOSITORY"),
        ("oci+https://registry.test/", "is oci\\+https://HOST/REPOSITORY"),
        ("oci+https://joe:secret@registry.test/a", "is oci\\+https://HOST/REPOSITORY"),
        ("oci+https://registry.test/a?x", "is oci\\+https://HOST/REPOSITORY"),
        ("oci+https://registry.test/Upper", "'Upper' is no repository name"),
        ("oci+https://registry.test/a:tag", "'a:tag' is no repository name"),
        ("oci+https://registry.test/a//b", "no repository name"),
        ("oci+ftp://registry.test/a", "is oci\\+https://HOST/REPOSITORY"),
    ],
)
def test_bad_locators(locator: str, says: str) -> None:
    """What names no repository is refused, with the form that would."""
    with pytest.raises(UsageError, match=says):
        open_chunk_store(locator, FakeRegistry().client())


@pytest.mark.parametrize("name", ["a", "a/.hidden", "a/-x", "a/" + "x" * 129, "a/ü"])
def test_bad_index_names(name: str) -> None:
    """An index's name must be a tag."""
    with pytest.raises(UsageError, match="REPOSITORY"):
        open_index(f"oci+https://registry.test/{name}", FakeRegistry().client())


def test_locators() -> None:
    """Schemes are told apart, and say whether TLS is spoken; a short host name is a host."""
    assert is_registry_locator("oci+https://h/r")
    assert is_registry_locator("oci+http://h/r")
    assert not is_registry_locator("https://h/r")
    assert not is_registry_locator("oci:dir")
    fake = FakeRegistry(tls=False)
    store = open_chunk_store("oci+http://registry/a/b/", fake.client())
    assert not store.has(D.of(b"x"))
    assert fake.seen[0].url.startswith("http://registry/v2/a/b/manifests/")


def test_bad_suffix() -> None:
    """Suffixes must fit into tags."""
    with pytest.raises(UsageError, match="suffix"):
        open_chunk_store("oci+https://h.test/r", FakeRegistry().client(), suffix="/x")
