"""The registry client against distribution (Debian's docker-registry), skopeo and desync."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import shutil
import threading
from pathlib import Path

import pytest
from filesystems import lacking
from interop.registries import PASSWORD, USER, RunningRegistry
from interop.tools import Tool, better_than_casync

from casync_compat.errors import AccessDenied, ChunkMissing, RemoteError
from casync_compat.ids import ChunkId, Digest
from casync_compat.oci.registry.chunkstore import (
    RegistryChunkStore,
    fetch_index,
    open_chunk_store,
    open_index,
)
from casync_compat.oci.registry.client import RegistryClient
from casync_compat.oci.registry.repository import Repository
from casync_compat.oci.spec.descriptor import Descriptor, canonical_json
from casync_compat.oci.spec.errors import BlobCorrupt, BlobMissing
from casync_compat.oci.spec.reference import Reference

pytestmark = better_than_casync

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture(scope="session")
def skopeo(tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """skopeo."""
    path = shutil.which("skopeo")
    if path is None:
        lacking("skopeo is not installed; .ci/setup installs it")
    return Tool("skopeo", (path, "--insecure-policy"), tmp_path_factory.mktemp("tmp-skopeo"))


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def push_artifact(repository: Repository, tag: str, *blobs: bytes) -> Descriptor:
    """An artifact of a made-up type, as converted images are."""
    layers = []
    for blob in blobs:
        with repository.stage() as staging:
            staging.write(blob)
            layers.append(staging.commit("application/vnd.example.thing.v1"))
    with repository.stage() as staging:
        staging.write(b"{}")
        config = staging.commit("application/vnd.oci.empty.v1+json")
    data = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": "application/vnd.example.v1",
            "config": config.to_json(),
            "layers": [layer.to_json() for layer in layers],
        }
    )
    descriptor = Descriptor.of(MANIFEST, data)
    repository.put_manifest(descriptor, data)
    repository.tag(tag, descriptor)
    return descriptor


@pytest.mark.parametrize("size", [1, 4096, 3_000_000])
@pytest.mark.parametrize("parts", [True, False])
def test_blobs(registry: RunningRegistry, size: int, parts: bool) -> None:
    """Blobs go up, in one request or in parts, and come back whole or in ranges."""
    repository = registry.open("blobs")
    data = noise(size, size + parts)
    blob = Descriptor.of("application/octet-stream", data)
    if parts:
        repository._uploads._whole_limit, repository._uploads._chunk = 0, 1 << 20
    assert not repository.has(blob)
    with pytest.raises(BlobMissing):
        repository.read(blob, size)
    assert repository.put(blob, [data])
    again = registry.open("blobs")
    assert again.has(blob)
    assert again.read(blob, size) == data
    assert again.read_range(blob, size // 3, size // 2) == data[size // 3 : size // 3 + size // 2]
    traffic = again.traffic
    again.read_range(blob, size - 1, 1)
    assert (again.traffic - traffic).bytes_down == 1
    with pytest.raises(BlobCorrupt):
        again.read_range(Descriptor(blob.media_type, blob.digest, size + 5), size + 1, 1)


def test_resume_in_the_middle(registry: RunningRegistry) -> None:
    """After a part that was lost on the way, the real registry says where to go on."""
    repository = registry.open("resume")
    data = noise(3 << 20)
    blob = Descriptor.of("application/octet-stream", data)
    repository._uploads._whole_limit, repository._uploads._chunk = 0, 1 << 20
    send = repository._access.exchange._transport.send
    failed = []

    def unreliable(request: object, *, verify: bool) -> object:
        answer = send(request, verify=verify)  # type: ignore[arg-type]
        if request.method == "PATCH" and len(failed) < 2:  # type: ignore[attr-defined]
            from casync_compat.net.http import TransportError

            failed.append(answer)
            answer.close()
            raise TransportError("the cable was pulled")
        return answer

    repository._access.exchange._transport.send = unreliable  # type: ignore[method-assign,assignment]
    assert repository.put(blob, [data])
    assert len(failed) == 2
    assert registry.open("resume").read(blob, len(data)) == data


def test_mount(registry: RunningRegistry) -> None:
    """Between repositories of one registry, no byte moves."""
    with RegistryClient(environ={}) as client:
        source, target = (
            client.repository(Reference("docker", registry.host, name)) for name in ("mount/from", "mount/to")
        )
        data = noise(100_000)
        blob = Descriptor.of("application/octet-stream", data)
        source.put(blob, [data])
        before = client.traffic
        assert not target.borrow(blob, source)
        used = client.traffic - before
        assert (used.requests, used.bytes_up, used.bytes_down) == (2, 0, 0)
        assert target.read(blob) == data


def test_tags_and_manifests(registry: RunningRegistry) -> None:
    """Manifests by digest and tag, lists of tags, deletion."""
    repository = registry.open("tags")
    assert repository.tags() == []
    one, two = push_artifact(repository, "v1", b"one"), push_artifact(repository, "v2", b"two")
    reader = registry.open("tags")
    assert reader.resolve("v1") == one
    assert reader.resolve(str(two.digest)) == two
    assert reader.tags() == ["v1", "v2"]
    assert reader.swap_tag("v1", two, one)
    assert not reader.swap_tag("v1", one, one)
    assert registry.open("tags").resolve("v1") == two
    assert reader.delete_manifest(two)
    assert registry.open("tags").tags() == []
    assert registry.open("tags").resolve_or_none("v2") is None


def test_a_manifest_comes_last(registry: RunningRegistry) -> None:
    """The real registry refuses a manifest whose blobs it lacks, and there is no tag then."""
    repository = registry.open("last")
    blob = Descriptor.of("application/octet-stream", b"nowhere")
    data = canonical_json(
        {"schemaVersion": 2, "mediaType": MANIFEST, "config": blob.to_json(), "layers": [blob.to_json()]}
    )
    with pytest.raises(RemoteError, match="MANIFEST_BLOB_UNKNOWN"):
        repository.put_tagged("v1", Descriptor.of(MANIFEST, data), data)
    assert repository.tags() == []


def test_many_threads(registry: RunningRegistry) -> None:
    """One repository serves many threads at once."""
    repository = registry.open("threads")
    blobs = [noise(50_000 + i, i) for i in range(24)]
    errors: list[BaseException] = []

    def work(mine: list[bytes]) -> None:
        try:
            for data in mine:
                blob = Descriptor.of("application/octet-stream", data)
                repository.put(blob, [data])
                assert repository.read_range(blob, 100, 1000) == data[100:1100]
                assert repository.read(blob) == data
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(blobs[i::6] + blobs[:2],)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


class TestAccess:
    """Passwords."""

    def test_basic(self, private_registry: RunningRegistry) -> None:
        """With the password everything works; without, or with another, the error says what to do."""
        descriptor = push_artifact(private_registry.open("p", login=True), "v1", b"secret things")
        with pytest.raises(AccessDenied, match="pycasync oci login"):
            private_registry.open("p").resolve("v1")
        assert private_registry.open("p", login=True).resolve("v1") == descriptor

    def test_from_a_file(self, private_registry: RunningRegistry, tmp_path: Path) -> None:
        """A file as `docker login` writes it is found, and named when its password is wrong."""
        path = tmp_path / "config.json"
        environ = {"DOCKER_CONFIG": str(tmp_path)}
        for password, right in ((PASSWORD, True), ("wrong", False)):
            auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
            path.write_text(json.dumps({"auths": {private_registry.host: {"auth": auth}}}))
            repository = private_registry.open("q", environ=environ)
            if right:
                push_artifact(repository, "v1", b"x")
            else:
                with pytest.raises(AccessDenied, match=str(path)):
                    repository.tags()

    def test_helper(self, private_registry: RunningRegistry, tmp_path: Path) -> None:
        """A credential helper on the path is asked."""
        helper = tmp_path / "docker-credential-test"
        answer = json.dumps({"ServerURL": "x", "Username": USER, "Secret": PASSWORD})
        helper.write_text(
            f'#!/bin/sh\nread host\ntest "$host" = "{private_registry.host}" && echo \'{answer}\'\n'
        )
        helper.chmod(0o755)
        (tmp_path / "config.json").write_text(json.dumps({"credsStore": "test"}))
        path = f"{tmp_path}:{os.defpath}"
        os.environ["PATH"], saved = path, os.environ["PATH"]
        try:
            repository = private_registry.open("r", environ={"DOCKER_CONFIG": str(tmp_path), "PATH": path})
            push_artifact(repository, "v1", b"x")
        finally:
            os.environ["PATH"] = saved

    def test_skopeo_logs_in(self, private_registry: RunningRegistry, skopeo: Tool, tmp_path: Path) -> None:
        """What `skopeo login` has written is understood."""
        file = tmp_path / "auth.json"
        skopeo(
            *("login", "--authfile", file, "--tls-verify=false", "-u", USER, "-p", PASSWORD),
            private_registry.host,
        )
        push_artifact(private_registry.open("s", environ={"REGISTRY_AUTH_FILE": str(file)}), "v1", b"x")


class TestTls:
    """Certificates."""

    def test_untrusted(self, tls_registry: RunningRegistry) -> None:
        """A certificate that nobody vouches for is refused, in one line that says what to do."""
        with pytest.raises(RemoteError) as caught:
            tls_registry.open("a").tags()
        assert "certificate is not trusted" in str(caught.value)
        assert "SSL_CERT_FILE" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_trusted(self, tls_registry: RunningRegistry) -> None:
        """With its authority in SSL_CERT_FILE, or with --insecure, it is accepted."""
        environ = {"SSL_CERT_FILE": str(tls_registry.directory / "certificate.pem")}
        push_artifact(tls_registry.open("a", environ=environ), "v1", noise(200_000))
        with RegistryClient(environ={}, insecure=True) as client:
            repository = client.repository(Reference("docker", tls_registry.host, "a"))
            assert repository.tags() == ["v1"]

    def test_other_name(self, tls_registry: RunningRegistry) -> None:
        """A certificate for another name is refused."""
        environ = {"SSL_CERT_FILE": str(tls_registry.directory / "certificate.pem")}
        with RegistryClient(environ=environ) as client:
            port = tls_registry.host.rpartition(":")[2]
            repository = client.repository(Reference("docker", f"127.0.0.2:{port}", "a"))
            with pytest.raises(RemoteError):
                repository.tags()

    def test_oci_https_does_not_fall_back(self, registry: RunningRegistry) -> None:
        """`oci+https://` means TLS, even on loopback."""
        with RegistryClient(environ={}) as client:
            store = open_chunk_store(f"oci+https://{registry.host}/a", client)
            with pytest.raises(RemoteError, match="TLS"):
                store.has(Digest.SHA256.of(b"x"))


def test_nobody_listens() -> None:
    """A wrong port is said at once."""
    with RegistryClient(environ={}) as client:
        repository = client.repository(Reference("docker", "127.0.0.1:1", "a"))
        with pytest.raises(RemoteError, match="nobody listens"):
            repository.tags()


class TestSkopeo:
    """skopeo and we read one another's images."""

    def test_copies_ours(self, registry: RunningRegistry, skopeo: Tool, tmp_path: Path) -> None:
        """An artifact that we pushed is copied by skopeo to a layout and back without a change of its digest."""
        pushed = push_artifact(registry.open("sk/ours"), "v1", noise(100_000), noise(50_000, 2))
        layout = tmp_path / "layout"
        skopeo("copy", "--src-tls-verify=false", f"{registry.reference('sk/ours')}:v1", f"oci:{layout}:v1")
        index = json.loads((layout / "index.json").read_text())
        assert [entry["digest"] for entry in index["manifests"]] == [str(pushed.digest)]
        skopeo("copy", "--dest-tls-verify=false", f"oci:{layout}:v1", f"{registry.reference('sk/back')}:v2")
        assert registry.open("sk/back").resolve("v2") == pushed

    def test_reads_what_it_pushed(self, registry: RunningRegistry, skopeo: Tool, tmp_path: Path) -> None:
        """An image that skopeo pushed is read by us, to its last blob."""
        layout = tmp_path / "layout"
        config = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"config":{}}'
        blobs = {config: "application/vnd.oci.image.config.v1+json"}
        manifest = canonical_json(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": Descriptor.of(blobs[config], config).to_json(),
                "layers": [],
            }
        )
        entry = Descriptor.of(MANIFEST, manifest, {"org.opencontainers.image.ref.name": "v1"})
        (layout / "blobs/sha256").mkdir(parents=True)
        for blob in (config, manifest):
            (layout / "blobs/sha256" / hashlib.sha256(blob).hexdigest()).write_bytes(blob)
        (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        (layout / "index.json").write_bytes(
            canonical_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry.to_json()]})
        )
        skopeo("copy", "--dest-tls-verify=false", f"oci:{layout}:v1", f"{registry.reference('sk/theirs')}:v1")
        repository = registry.open("sk/theirs")
        found = repository.resolve("v1")
        assert found.digest == entry.digest
        document = json.loads(repository.read_manifest(found))
        assert repository.read(Descriptor.from_json(document["config"], "config")) == config


class TestDesync:
    """desync and we share chunk stores in a registry."""

    @pytest.fixture
    def client(self) -> RegistryClient:
        return RegistryClient(environ={})

    def store(self, registry: RunningRegistry, client: RegistryClient, name: str) -> RegistryChunkStore:
        return open_chunk_store(f"oci+http://{registry.host}/{name}", client)

    def test_we_read_theirs(
        self, registry: RunningRegistry, client: RegistryClient, desync: Tool, tmp_path: Path
    ) -> None:
        """Chunks that desync stored are found, read, listed and removed."""
        blob = tmp_path / "blob"
        blob.write_bytes(noise(500_000) + bytes(200_000))
        locator = f"oci+http://{registry.host}/desync/theirs"
        desync("make", "-s", locator, tmp_path / "blob.caibx", blob)
        wanted = [
            ChunkId.from_hex(line) for line in desync("list-chunks", tmp_path / "blob.caibx").decode().split()
        ]
        store = self.store(registry, client, "desync/theirs")
        assert list(store.ids()) == sorted(set(wanted))
        content = b"".join(store.get(id, Digest.SHA512_256, 1 << 20) for id in wanted)
        assert content == blob.read_bytes()
        assert store.remove(wanted[0]) > 0
        with pytest.raises(ChunkMissing):
            store.get(wanted[0], Digest.SHA512_256, 1 << 20)
        assert desync.run("extract", "-s", locator, tmp_path / "blob.caibx", tmp_path / "out").status == 1

    def test_they_read_ours(
        self, registry: RunningRegistry, client: RegistryClient, desync: Tool, tmp_path: Path
    ) -> None:
        """Chunks that we stored are read, counted and pruned by desync."""
        blob = tmp_path / "blob"
        blob.write_bytes(noise(500_000, 7))
        locator = f"oci+http://{registry.host}/desync/ours"
        desync("make", tmp_path / "blob.caibx", blob)
        store = self.store(registry, client, "desync/ours")
        at = 0
        for line in desync("chunk", blob).decode().splitlines():
            start, size, hexid = line.split()
            raw = blob.read_bytes()[int(start) : int(start) + int(size)]
            assert store.put(ChunkId.from_hex(hexid), raw).new
            at += len(raw)
        assert at == 500_000
        extra = Digest.SHA512_256.of(b"extra")
        store.put(extra, b"extra")
        desync("extract", "-s", locator, tmp_path / "blob.caibx", tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == blob.read_bytes()
        info = json.loads(desync("info", "-s", locator, tmp_path / "blob.caibx"))
        assert info["in-store"] == info["unique"]
        desync("prune", "-y", "-s", locator, tmp_path / "blob.caibx")
        left = list(self.store(registry, client, "desync/ours").ids())
        assert extra not in left
        assert len(left) == info["unique"]

    def test_same_manifests(
        self, registry: RunningRegistry, client: RegistryClient, desync: Tool, tmp_path: Path
    ) -> None:
        """Stored plain, where no compressor makes a difference, a chunk has the same manifest from both."""
        from casync_compat.compression import Compression

        blob = tmp_path / "blob"
        blob.write_bytes(noise(10_000, 3))
        theirs, ours = (f"oci+http://{registry.host}/desync/plain-{who}" for who in ("theirs", "ours"))
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"store-options": {theirs: {"uncompressed": True}}}))
        desync("--config", config, "make", "-s", theirs, tmp_path / "blob.caibx", blob)
        id = Digest.SHA512_256.of(blob.read_bytes())
        open_chunk_store(ours, client, compression=Compression.NONE).put(id, blob.read_bytes())
        repositories = [
            client.repository(Reference("docker", registry.host, f"desync/plain-{who}"), scheme="http")
            for who in ("theirs", "ours")
        ]
        assert repositories[0].resolve(str(id)) == repositories[1].resolve(str(id))
        assert repositories[0].tags() == repositories[1].tags() == [str(id)]


class TestCommandLine:
    """The usual verbs with a registry for a store, and for indexes."""

    def test_there_and_back(self, registry: RunningRegistry, pycasync: Tool, tmp_path: Path) -> None:
        """make, info, list and extract with chunks in a registry."""
        tree = tmp_path / "tree"
        tree.mkdir()
        (tree / "a").write_bytes(noise(300_000))
        (tree / "b").write_bytes(b"small")
        store = f"--store=oci+http://{registry.host}/cli/store"
        digest = pycasync("make", store, tmp_path / "t.caidx", tree)
        assert not (tmp_path / "default.castr").exists()
        assert b"in the store" in pycasync("info", store, tmp_path / "t.caidx")
        assert pycasync("list", store, tmp_path / "t.caidx").split() == pycasync("list", tree).split()
        pycasync("extract", store, tmp_path / "t.caidx", tmp_path / "out")
        assert (tmp_path / "out/a").read_bytes() == (tree / "a").read_bytes()
        assert pycasync("digest", tmp_path / "out") == digest

    def test_index_in_the_registry(self, registry: RunningRegistry, pycasync: Tool, tmp_path: Path) -> None:
        """An index is made right in the registry, beside its chunks, and used from there."""
        blob = tmp_path / "blob"
        blob.write_bytes(noise(400_000))
        locator = f"oci+http://{registry.host}/cli/all/disk.caibx"
        pycasync("make", locator, blob)
        pycasync("extract", locator, tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == blob.read_bytes()
        with RegistryClient(environ={}) as client:
            repository, name = open_index(locator, client)
            (tmp_path / "disk.caibx").write_bytes(fetch_index(repository, name))
        pycasync("make", f"--store={tmp_path / 'local.castr'}", tmp_path / "local.caibx", blob)
        assert (tmp_path / "disk.caibx").read_bytes() == (tmp_path / "local.caibx").read_bytes()
        assert b"in the store" in pycasync("info", locator)

    def test_gc(self, registry: RunningRegistry, pycasync: Tool, tmp_path: Path) -> None:
        """Chunks that no index names are removed from the registry."""
        store = f"--store=oci+http://{registry.host}/cli/gc"
        for name, seed in (("one", 1), ("two", 2)):
            (tmp_path / name).write_bytes(noise(200_000, seed))
            pycasync("make", store, tmp_path / f"{name}.caibx", tmp_path / name)
        pycasync("gc", store, tmp_path / "two.caibx")
        pycasync("extract", store, tmp_path / "two.caibx", tmp_path / "out")
        failed = pycasync.run("extract", store, tmp_path / "one.caibx", tmp_path / "out1")
        assert failed.status == 1
        assert b"missing" in failed.err

    def test_errors(self, registry: RunningRegistry, pycasync: Tool, tmp_path: Path) -> None:
        """One line each."""
        for arguments, says in [
            (("extract", f"oci+http://{registry.host}/cli/none.caibx", "out"), b"no such image"),
            (("extract", f"oci+http://{registry.host}/x.caibx", "out"), b"REPOSITORY/NAME"),
            (("make", "--store=oci+http://127.0.0.1:1/a", "x.caibx", "/bin/sh"), b"nobody listens"),
            (("make", "--store=oci+http://127.0.0.1:1/UPPER", "x.caibx", "/bin/sh"), b"no repository name"),
        ]:
            outcome = pycasync.run(*arguments, cwd=tmp_path)
            assert outcome.status == 1
            assert says in outcome.err, outcome
            assert outcome.err.count(b"\n") == 1, outcome
            assert not (tmp_path / "x.caibx").exists()
