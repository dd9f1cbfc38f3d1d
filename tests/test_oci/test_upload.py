"""Uploads: in one request or in parts, through every interruption; a blob is there whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from test_oci.fake_registry import FakeRegistry

from casync_compat.errors import AccessDenied, RemoteError
from casync_compat.net.http import TransportError
from casync_compat.oci.places.selection import named_before
from casync_compat.oci.registry.repository import Repository
from casync_compat.oci.spec.blobs import BlobStream
from casync_compat.oci.spec.descriptor import Descriptor
from casync_compat.oci.spec.errors import BlobCorrupt, BlobMissing

MIB = 1 << 20
DATA = bytes(range(256)) * 4096 * 10  # 10 MiB
BLOB = Descriptor.of("application/octet-stream", DATA)
KEY = str(BLOB.digest)
BROKEN = TransportError("connection reset")


def pieces(data: bytes, size: int = 100_000) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def in_parts(repository: Repository, chunk: int = MIB) -> Repository:
    """The same repository, made to upload in parts."""
    repository._uploads._whole_limit = 0
    repository._uploads._chunk = chunk
    return repository


def stored(fake: FakeRegistry, name: str = "a/b") -> bool:
    """Whether the blob is there, right; and no session is left open."""
    assert fake.sessions == {}, "an upload was left unfinished"
    blobs = fake.store(name).blobs
    assert set(blobs) <= {KEY}
    assert blobs.get(KEY, DATA) == DATA
    return KEY in blobs


@dataclass
class LocalSource:
    """A place of blobs that is no registry."""

    data: bytes = DATA
    name: str = "oci:somewhere"
    reads: list[tuple[int, int]] = field(default_factory=list)
    near: bool = True

    def has(self, descriptor: Descriptor) -> bool:
        return True

    def open(self, descriptor: Descriptor) -> BlobStream:
        raise AssertionError("ranges are enough")

    def read(self, descriptor: Descriptor, limit: int = 0) -> bytes:
        raise AssertionError("ranges are enough")

    def read_range(self, descriptor: Descriptor, offset: int, size: int) -> bytes:
        self.reads.append((offset, size))
        return self.data[offset : offset + size]


@pytest.mark.parametrize("relative", [True, False])
def test_in_one(relative: bool) -> None:
    """A small blob takes three requests; one that is there takes one, and remembered none."""
    fake = FakeRegistry(relative=relative)
    repository = fake.open()
    assert repository.put(BLOB, pieces(DATA))
    assert stored(fake)
    assert [seen.method for seen in fake.seen] == ["HEAD", "POST", "PUT"]
    assert fake.seen[2].headers["Content-Type"] == "application/octet-stream"
    assert not repository.put(BLOB, pieces(DATA))
    assert len(fake.seen) == 3
    assert not fake.open().put(BLOB, pieces(DATA))
    assert len(fake.seen) == 4


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize(("chunk", "minimum", "count"), [(MIB, 0, 10), (3 * MIB, 0, 4), (MIB, 4 * MIB, 3)])
def test_in_parts(relative: bool, chunk: int, minimum: int, count: int) -> None:
    """A large blob goes in parts of the size that suits the registry."""
    fake = FakeRegistry(relative=relative, minimum=minimum)
    assert in_parts(fake.open(), chunk).put(BLOB, pieces(DATA))
    assert stored(fake)
    assert [seen.method for seen in fake.seen] == ["HEAD", "POST", *["PATCH"] * count, "PUT"]
    assert fake.seen[2].headers["Content-Range"] == f"0-{max(chunk, minimum) - 1}"
    assert fake.seen[-1].size == 0


@pytest.mark.parametrize("fault", [500, 503, 429, 408, BROKEN], ids=str)
@pytest.mark.parametrize("times", [1, 3])
def test_interrupted_in_one(fault: int | TransportError, times: int) -> None:
    """A request that ended half-way is not simply continued: its session is dropped, and another one begun."""
    fake = FakeRegistry(upload_faults=[fault] * times)
    assert fake.open().put(BLOB, pieces(DATA))
    assert stored(fake)


@pytest.mark.parametrize("fault", [500, 503, 429, BROKEN], ids=str)
@pytest.mark.parametrize("times", [1, 4])
def test_interrupted_in_parts(fault: int | TransportError, times: int) -> None:
    """A part that ended half-way is gone on with where the registry says that it is."""
    fake = FakeRegistry(upload_faults=[fault] * times)
    repository = in_parts(fake.open(), 4 * MIB)
    assert repository.put(BLOB, pieces(DATA))
    assert stored(fake)
    assert sum(seen.method == "POST" for seen in fake.seen) == 1
    assert sum(seen.method == "GET" for seen in fake.seen) == times
    assert sum(seen.size for seen in fake.seen) == len(DATA), "bytes were sent twice"


def test_never_ending_interruptions() -> None:
    """A registry that fails again and again gets no half blob, and the user one error."""
    for parts in (False, True):
        fake = FakeRegistry(upload_faults=[500] * 1000)
        repository = in_parts(fake.open()) if parts else fake.open()
        with pytest.raises(
            RemoteError, match=r"cannot upload blob sha256:.*: UNKNOWN: half of it \(HTTP 500\)"
        ):
            repository.put(BLOB, pieces(DATA))
        assert not stored(fake)


def test_lost_answer() -> None:
    """When only the answer to the last request is lost, the blob is found and nothing is sent again."""
    for parts in (False, True):
        fake = FakeRegistry()
        repository = in_parts(fake.open()) if parts else fake.open()
        lost = []

        def lose(seen: object, fake: FakeRegistry = fake, lost: list[object] = lost) -> None:
            if str(seen).startswith("PUT") and not lost:
                lost.append(seen)
                fake.store().blobs[KEY] = DATA
                fake.sessions.clear()
                raise BROKEN

        fake.before = lose
        assert repository.put(BLOB, pieces(DATA))
        assert stored(fake)
        assert sum(seen.method == "PUT" for seen in fake.seen) == 1


def test_session_is_gone() -> None:
    """A session that the registry forgot is begun anew."""
    fake = FakeRegistry()
    repository = in_parts(fake.open(), 4 * MIB)
    forgotten = []

    def forget(seen: object) -> None:
        if str(seen).startswith("PATCH") and not forgotten and fake.sessions and len(fake.seen) > 3:
            forgotten.append(seen)
            fake.sessions.clear()
            raise BROKEN

    fake.before = forget
    assert repository.put(BLOB, pieces(DATA))
    assert forgotten
    assert stored(fake)
    assert sum(seen.method == "POST" for seen in fake.seen) == 2


@pytest.mark.parametrize("limit", [3 * MIB, MIB])
def test_too_large_for_a_proxy(limit: int) -> None:
    """413 to one large request leads to parts that fit; the next blob begins with them."""
    fake = FakeRegistry(upload_limit=limit)
    repository = fake.open()
    assert repository.put(BLOB, pieces(DATA))
    assert stored(fake)
    other = DATA[::-1]
    fake.store().blobs.clear()
    fake.seen.clear()
    assert repository.put(Descriptor.of("a/b", other), pieces(other))
    assert all(seen.size <= limit for seen in fake.seen)


def test_too_large_altogether() -> None:
    """413 to the smallest parts is an error."""
    fake = FakeRegistry(upload_limit=1000)
    with pytest.raises(RemoteError, match="too large"):
        fake.open().put(BLOB, pieces(DATA))
    assert not stored(fake)


@pytest.mark.parametrize("wrong", [DATA[:-1], DATA + b"x", b"x" + DATA[1:], b""], ids=len)
def test_not_the_descriptors(wrong: bytes) -> None:
    """What is not the descriptor's blob is not even begun to be sent."""
    fake = FakeRegistry()
    with pytest.raises(BlobCorrupt, match="what is to be stored"):
        fake.open().put(BLOB, pieces(wrong))
    assert not stored(fake)
    assert [seen.method for seen in fake.seen] == ["HEAD"]


def test_refused_in_the_end() -> None:
    """A registry that does not accept what it got is believed, and the session cancelled."""
    fake = FakeRegistry(statuses=[None, None, (400, {})])
    with pytest.raises(RemoteError, match="it refused"):
        fake.open().put(BLOB, pieces(DATA))
    assert not stored(fake)
    assert fake.seen[-1].method == "DELETE"


def test_given_up_half_way() -> None:
    """When the user stops it, the session is cancelled."""
    fake = FakeRegistry()

    def stop(seen: object) -> None:
        if len(fake.seen) == 4:
            raise KeyboardInterrupt

    fake.before = stop
    with pytest.raises(KeyboardInterrupt):
        in_parts(fake.open()).put(BLOB, pieces(DATA))
    assert not stored(fake)


def test_stage() -> None:
    """Bytes of unknown digest are sent when they are all there; dropped, they never are."""
    fake = FakeRegistry()
    repository = fake.open()
    with repository.stage() as staging:
        for piece in pieces(DATA):
            staging.write(piece)
        assert staging.size == len(DATA)
        assert fake.seen == []
        found = staging.commit(BLOB.media_type, {"k": "v"})
    assert found == Descriptor(BLOB.media_type, BLOB.digest, BLOB.size, {"k": "v"})
    assert stored(fake)
    fake.seen.clear()
    with repository.stage() as staging:
        staging.write(b"never mind")
    assert fake.seen == []
    with repository.stage() as staging:
        staging.write(DATA)
        staging.commit(BLOB.media_type)
    assert fake.seen == []


class TestBorrow:
    """Blobs from another place."""

    def test_mount(self) -> None:
        """Between repositories of one registry nothing moves."""
        fake = FakeRegistry(auth="bearer")
        client = fake.client()
        source, target = (_login(client, name) for name in ("a/b", "c/d"))
        source.put(BLOB, pieces(DATA))
        start = client.traffic
        assert not target.borrow(BLOB, source)
        assert stored(fake, "c/d")
        assert (client.traffic - start).bytes_up == 0
        fake.seen.clear()
        assert not target.borrow(BLOB, source)
        assert fake.seen == []

    @pytest.mark.parametrize("parts", [True, False])
    def test_mount_not_done(self, parts: bool) -> None:
        """A registry that answers a mount with a session gets the bytes by it."""
        fake = FakeRegistry(mount=202)
        client = fake.client()
        source, target = (_login(client, name) for name in ("a/b", "c/d"))
        source.put(BLOB, pieces(DATA))
        if parts:
            in_parts(target)
        fake.seen.clear()
        assert target.borrow(BLOB, source)
        assert stored(fake, "c/d")
        assert sum(seen.method == "POST" for seen in fake.seen) == 1

    def test_mount_forbidden(self) -> None:
        """Where mounting is refused, the bytes are sent."""
        fake = FakeRegistry()
        client = fake.client()
        source, target = (_login(client, name) for name in ("a/b", "c/d"))
        source.put(BLOB, pieces(DATA))
        fake.statuses = [None, (403, {})]
        assert target.borrow(BLOB, source)
        assert stored(fake, "c/d")

    def test_missing(self) -> None:
        """What the source does not have is missing there."""
        client = FakeRegistry().client()
        with pytest.raises(BlobMissing, match="/a/b"):
            _login(client, "c/d").borrow(BLOB, _login(client, "a/b"))

    @pytest.mark.parametrize("parts", [True, False])
    @pytest.mark.parametrize("faults", [[], [500], [BROKEN, 503]], ids=str)
    def test_from_a_local_place(self, parts: bool, faults: list[int | TransportError]) -> None:
        """Local blobs are read as they are sent, from wherever it goes on, without a copy."""
        fake = FakeRegistry(upload_faults=list(faults))
        repository = in_parts(fake.open(), 4 * MIB) if parts else fake.open()
        source = LocalSource()
        assert repository.borrow(BLOB, source)
        assert stored(fake)

    @pytest.mark.parametrize("parts", [True, False])
    @pytest.mark.parametrize("wrong", [b"x" + DATA[1:], DATA[:-1] + b"x"], ids=["first", "last"])
    def test_from_a_local_place_that_is_damaged(self, parts: bool, wrong: bytes) -> None:
        """A damaged blob is noticed before its last byte is sent, and the source named."""
        fake = FakeRegistry()
        repository = in_parts(fake.open(), 4 * MIB) if parts else fake.open()
        with pytest.raises(BlobCorrupt, match="oci:somewhere"):
            repository.borrow(BLOB, LocalSource(wrong))
        assert not stored(fake)


def _login(client: object, name: str) -> Repository:
    from test_oci.fake_registry import HOST

    from casync_compat.oci.registry.client import RegistryClient
    from casync_compat.oci.spec.reference import Reference

    assert isinstance(client, RegistryClient)
    return client.repository(Reference("docker", HOST, name), username="joe", password="secret")


@pytest.mark.parametrize("status", [200, 201, 202, 204])
@pytest.mark.parametrize("says", ["all", "first", "length", "part", "more", "none"])
def test_answers_to_parts(status: int, says: str) -> None:
    """Registries answer a part with any of these, and say of it whatever they like; the blob arrives."""
    fake = FakeRegistry(part_status=status, part_range=says)
    assert in_parts(fake.open(), 3 * MIB).put(BLOB, pieces(DATA))
    assert stored(fake)
    assert [seen.method for seen in fake.seen] == ["HEAD", "POST", *["PATCH"] * 4, "PUT"]


@pytest.mark.parametrize("status", [200, 201, 202, 204])
@pytest.mark.parametrize("parts", [False, True])
def test_answers_to_the_end(status: int, parts: bool) -> None:
    """Nor do they agree on how to say that a blob is stored."""
    fake = FakeRegistry(last_status=status)
    repository = in_parts(fake.open(), 4 * MIB) if parts else fake.open()
    assert repository.put(BLOB, pieces(DATA))
    assert stored(fake)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("parts", [False, True])
def test_a_repository_yet_to_be_made(status: int, parts: bool) -> None:
    """What is not there yet may not be read either, says quay; the first push goes through, tag and all."""
    fake = FakeRegistry(missing=status)
    repository = in_parts(fake.open(), 4 * MIB) if parts else fake.open()
    assert named_before(repository, "x") is None
    assert repository.put(BLOB, pieces(DATA))
    assert stored(fake)
    for reads in (repository.resolve, repository.resolve_or_none):
        with pytest.raises(AccessDenied):
            reads("x")


@pytest.mark.parametrize("status", [401, 403])
def test_many_blobs_of_a_repository_yet_to_be_made(status: int) -> None:
    """That one blob has arrived does not make the next one readable; that something was read does."""
    fake = FakeRegistry(missing=status)
    repository = fake.open()
    for content in (b"one", b"two", b"three"):
        assert repository.put(Descriptor.of("a/b", content), [content])
    other = fake.open()
    assert other.has(Descriptor.of("a/b", b"one"))
    with pytest.raises(AccessDenied):
        other.has(Descriptor.of("a/b", b"four"))
