"""A repository as a place of blobs and tags: reads are checked, writes are whole, whatever the registry does."""

from __future__ import annotations

import json
import threading

import pytest
from test_oci.fake_registry import HOST, FakeRegistry, digest

from casync_compat.errors import AccessDenied, CasyncError, RemoteError, UsageError
from casync_compat.net.http import TransportError
from casync_compat.oci.registry.client import RegistryClient, open_repository
from casync_compat.oci.registry.manifests import MANIFEST_TYPES
from casync_compat.oci.spec.descriptor import Descriptor, canonical_json
from casync_compat.oci.spec.errors import BlobCorrupt, BlobMissing, ImageError
from casync_compat.oci.spec.reference import Reference, parse_reference

DATA = bytes(range(256)) * 4000
BLOB = Descriptor.of("application/octet-stream", DATA)
KEY = str(BLOB.digest)
MANIFEST, INDEX = MANIFEST_TYPES[:2]


def with_blob(data: bytes = DATA, **faults: object) -> FakeRegistry:
    fake = FakeRegistry(**faults)  # type: ignore[arg-type]
    fake.store().blobs[digest(data)] = data
    return fake


def manifest_of(*blobs: Descriptor, note: str = "") -> tuple[Descriptor, bytes]:
    data = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": blobs[0].to_json(),
            "layers": [blob.to_json() for blob in blobs],
            "annotations": {"note": note},
        }
    )
    return Descriptor.of(MANIFEST, data), data


class TestReading:
    """Blobs come whole and right, or as one clear error."""

    @pytest.mark.parametrize(
        "faults",
        [{}, {"redirect": True}, {"head_digest": False}, {"whole_length": False}, {"relative": True}],
        ids=str,
    )
    def test_whole(self, faults: dict[str, object]) -> None:
        """Whatever the registry's ways, the bytes are the blob's."""
        fake = with_blob(**faults)
        repository = fake.open()
        assert repository.has(BLOB)
        assert repository.read(BLOB, len(DATA)) == DATA

    @pytest.mark.parametrize("cuts", [[0], [1], [500_000], [1, 2, 3, 4], [10] * 20, [len(DATA)]], ids=str)
    @pytest.mark.parametrize("ranges", [True, False])
    def test_broken_connections(self, cuts: list[int], ranges: bool) -> None:
        """A download goes on where it broke off; without ranges it begins again and skips what is known."""
        fake = with_blob(cuts=list(cuts), ranges=ranges)
        repository = fake.open()
        if len(cuts) > 5 and not ranges:
            with pytest.raises(RemoteError, match="connection reset"):
                repository.read(BLOB, len(DATA))
            return
        assert repository.read(BLOB, len(DATA)) == DATA
        asked = [seen.headers.get("Range") for seen in fake.seen]
        assert asked[0] is None
        if cuts == [500_000]:
            assert asked[1:] == [f"bytes=500000-{len(DATA) - 1}"]

    @pytest.mark.parametrize("fault", ["flipped", "truncated"])
    @pytest.mark.parametrize("whole_length", [True, False])
    def test_corrupt(self, fault: str, whole_length: bool) -> None:
        """Other bytes than the descriptor's are never given out to the end, not even to who reads just its size."""
        fake = with_blob(whole_length=whole_length, **{fault: {KEY}})
        with pytest.raises(BlobCorrupt) as caught:
            fake.open().read(BLOB, len(DATA))
        assert KEY in str(caught.value)
        got = b""
        with pytest.raises(BlobCorrupt), fake.open().open(BLOB) as stream:
            while len(got) < len(DATA):
                got += stream.read(len(DATA) - len(got))
        assert len(got) < len(DATA)

    def test_longer(self) -> None:
        """More bytes than the descriptor says are an error, too."""
        short = Descriptor(BLOB.media_type, BLOB.digest, len(DATA) - 1)
        for whole_length in (True, False):
            with pytest.raises(BlobCorrupt):
                with_blob(whole_length=whole_length).open().read(short, len(DATA))

    def test_missing(self) -> None:
        """What is not there says so, by every way of asking."""
        repository = FakeRegistry().open()
        assert not repository.has(BLOB)
        for ask in (
            lambda: repository.read(BLOB, len(DATA)),
            lambda: repository.open(BLOB),
            lambda: repository.read_range(BLOB, 0, 1),
            lambda: repository.read_manifest(BLOB),
        ):
            with pytest.raises(BlobMissing, match=r"docker://registry\.test/a/b"):
                ask()

    def test_limit(self) -> None:
        """A blob that is too large is refused before it is asked for."""
        fake = with_blob()
        with pytest.raises(ImageError, match="more than"):
            fake.open().read(BLOB, len(DATA) - 1)
        assert fake.seen == []

    def test_has_with_another_size(self) -> None:
        """A blob of another size under the digest is not the blob."""
        fake = with_blob()
        fake.store().blobs[KEY] = DATA[:-1]
        assert not fake.open().has(BLOB)

    def test_has_is_asked_once(self) -> None:
        """What is known to be there is not looked for again; what is not, is."""
        fake = with_blob()
        repository = fake.open()
        other = Descriptor.of("a/b", b"x")
        for _ in range(3):
            assert repository.has(BLOB)
            assert not repository.has(other)
        assert len(fake.seen) == 1 + 3
        repository.assume([other])
        assert repository.has(other)

    def test_empty_blob(self) -> None:
        """A blob of no bytes can be read."""
        empty = Descriptor.of("a/b", b"")
        assert with_blob(b"").open().read(empty) == b""


class TestRanges:
    """Parts of blobs."""

    @pytest.mark.parametrize(
        ("offset", "size"), [(0, 1), (5, 300_000), (len(DATA) - 1, 1), (0, len(DATA)), (7, 0)]
    )
    @pytest.mark.parametrize("faults", [{}, {"ranges": False}, {"redirect": True}], ids=str)
    def test_exact(self, offset: int, size: int, faults: dict[str, object]) -> None:
        """Exactly the bytes asked for."""
        assert with_blob(**faults).open().read_range(BLOB, offset, size) == DATA[offset : offset + size]

    def test_only_what_was_asked_for_moves(self) -> None:
        """With ranges, bytes of no interest stay where they are."""
        repository = with_blob().open()
        repository.read_range(BLOB, 1000, 50)
        assert repository.traffic.bytes_down == 50

    def test_without_ranges_the_blob_comes_once(self) -> None:
        """A server without ranges sends the blob once, and a second blob once, however many parts are read."""
        fake = with_blob(ranges=False)
        other = bytes(reversed(DATA))
        fake.store().blobs[digest(other)] = other
        repository = fake.open()
        for data in (DATA, other):
            blob = Descriptor.of("a/b", data)
            for offset in range(0, len(data) - 10, 100_000):
                assert repository.read_range(blob, offset, 10) == data[offset : offset + 10]
        assert len(fake.seen) == 2
        assert repository.traffic.bytes_down == 2 * len(DATA)
        repository.close()

    def test_without_ranges_and_threads(self) -> None:
        """Threads that want parts of one blob share one download."""
        fake = with_blob(ranges=False)
        repository = fake.open()
        repository.read_range(BLOB, 3, 3)
        fake.seen.clear()
        other = bytes(reversed(DATA))
        fake.store().blobs[digest(other)] = other
        blob = Descriptor.of("a/b", other)
        got: list[bytes] = []
        threads = [
            threading.Thread(target=lambda: got.append(repository.read_range(blob, 10, 10))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert got == [other[10:20]] * 8
        assert len(fake.seen) == 1

    def test_whole_blobs_are_checked(self) -> None:
        """A whole blob that came instead of a part is checked, and not kept if it is bad."""
        fake = with_blob(ranges=False, flipped={KEY})
        repository = fake.open()
        for _ in range(2):
            with pytest.raises(BlobCorrupt):
                repository.read_range(BLOB, 5, 5)
        fake.flipped.clear()
        assert repository.read_range(BLOB, 5, 5) == DATA[5:10]

    def test_broken_off(self) -> None:
        """A part that breaks off is completed."""
        fake = with_blob(cuts=[10, 0, 300])
        assert fake.open().read_range(BLOB, 100, 1000) == DATA[100:1100]
        assert [seen.headers["Range"] for seen in fake.seen] == [
            "bytes=100-1099",
            "bytes=110-1099",
            "bytes=110-1099",
            "bytes=410-1099",
        ]

    @pytest.mark.parametrize(("offset", "size"), [(0, len(DATA) + 1), (len(DATA), 1), (-1, 5), (5, -1)])
    def test_outside(self, offset: int, size: int) -> None:
        """Bytes beyond the descriptor's size are not asked for."""
        fake = with_blob()
        with pytest.raises(BlobCorrupt):
            fake.open().read_range(BLOB, offset, size)
        assert fake.seen == []

    @pytest.mark.parametrize("status", [400, 405, 416, 501])
    def test_ranges_refused(self, status: int) -> None:
        """A server that refuses a range that there is has the whole blob asked of it, once."""
        fake = with_blob(no_range=status)
        repository = fake.open()
        assert repository.read_range(BLOB, 5, 10) == DATA[5:15]
        assert repository.read_range(BLOB, len(DATA) - 3, 3) == DATA[-3:]
        assert len(fake.seen) == 2
        fake.cuts = [10]
        with fake.open().open(BLOB) as stream:
            assert b"".join(iter(lambda: stream.read(1000), b"")) == DATA

    def test_ranges_refused_elsewhere(self) -> None:
        """A store of objects behind the registry may call a range forbidden that its signature does not name."""
        fake = with_blob(no_range=403, redirect=True)
        assert fake.open().read_range(BLOB, 5, 10) == DATA[5:15]
        with pytest.raises(AccessDenied):
            with_blob(no_range=403).open().read_range(BLOB, 5, 10)

    def test_less_than_asked_for(self) -> None:
        """A server may give less of a range at once; the rest is asked for."""
        fake = with_blob(most_range=100)
        assert fake.open().read_range(BLOB, 50, 350) == DATA[50:400]
        assert len(fake.seen) == 4

    def test_another_range(self) -> None:
        """Bytes from elsewhere are not taken for those that were asked for."""
        fake = with_blob(other_range=True)
        assert fake.open().read_range(BLOB, 50, 350) == DATA[50:400]

    def test_shorter_than_it_should_be(self) -> None:
        """A blob that ends before the part asked for, or within, is corrupt."""
        fake = with_blob(truncated={KEY})
        for offset, size in [(len(DATA) - 1, 1), (len(DATA) - 5, 5), (0, 10)]:
            with pytest.raises(BlobCorrupt):
                fake.open().read_range(BLOB, offset, size)


class TestManifests:
    """Manifests and tags."""

    def test_there_and_back(self) -> None:
        """A manifest is stored by digest, then tagged, then read by either; nothing is fetched twice."""
        fake = with_blob()
        descriptor, data = manifest_of(BLOB)
        repository = fake.open()
        repository.put_manifest(descriptor, data)
        assert fake.store().tags == {}
        repository.tag("v1", descriptor)
        assert fake.asked() == [
            f"PUT /v2/a/b/manifests/{descriptor.digest}",
            "PUT /v2/a/b/manifests/v1",
        ]
        reader = fake.open()
        fake.seen.clear()
        assert reader.resolve("v1") == descriptor
        assert reader.read_manifest(descriptor) == data
        assert len(fake.seen) == 1
        assert reader.resolve(str(descriptor.digest)) == descriptor
        assert reader.tags() == ["v1"]

    def test_no_such_image(self) -> None:
        """A tag that is not there is named; without one it is `latest`."""
        repository = FakeRegistry().open()
        assert repository.resolve_or_none("v1") is None
        with pytest.raises(ImageError, match=r"docker://registry\.test/a/b:v1: there is no such image"):
            repository.resolve("v1")
        with pytest.raises(ImageError, match=":latest: "):
            repository.resolve(None)
        assert repository.tags() == []

    @pytest.mark.parametrize("head_digest", [True, False])
    def test_corrupt(self, head_digest: bool) -> None:
        """A manifest with other bytes than its digest's is refused, by tag as far as the registry says the digest."""
        fake = with_blob(head_digest=head_digest)
        descriptor, data = manifest_of(BLOB)
        repository = fake.open()
        repository.put_manifest(descriptor, data)
        repository.tag("v1", descriptor)
        fake.flipped.add(str(descriptor.digest))
        with pytest.raises(BlobCorrupt):
            fake.open().read_manifest(descriptor)
        with pytest.raises(BlobCorrupt):
            fake.open().resolve(str(descriptor.digest))
        if head_digest:
            with pytest.raises(BlobCorrupt):
                fake.open().resolve("v1")

    def test_broken_off(self) -> None:
        """A manifest whose download breaks is fetched again."""
        fake = with_blob()
        descriptor, data = manifest_of(BLOB)
        fake.open().put_manifest(descriptor, data)
        fake.cuts = [5, 0]
        assert fake.open().read_manifest(descriptor) == data

    @pytest.mark.parametrize(
        ("content_type", "document", "expected"),
        [
            (MANIFEST, {"mediaType": MANIFEST}, MANIFEST),
            (f"{MANIFEST}; charset=utf-8", {}, MANIFEST),
            ("application/json", {"manifests": []}, INDEX),
            ("text/plain", {"config": {}}, MANIFEST),
            (INDEX, {"mediaType": MANIFEST}, "says it is"),
            ("text/html", {}, "neither a manifest nor an index"),
            ("application/vnd.docker.distribution.manifest.v1+prettyjws", {}, "old format"),
            (MANIFEST, {"mediaType": 7}, "not a string"),
        ],
    )
    def test_media_types(self, content_type: str, document: object, expected: str) -> None:
        """The type is what manifest and registry agree on; where they do not, it is refused."""
        fake = FakeRegistry()
        data = json.dumps(document).encode()
        fake.before = lambda seen: None
        fake.statuses = []
        fake._manifest = lambda *_: _answer(content_type, data)  # type: ignore[method-assign,assignment]
        if expected in MANIFEST_TYPES:
            assert fake.open().resolve("x").media_type == expected
        else:
            with pytest.raises(ImageError, match=expected):
                fake.open().resolve("x")

    def test_too_large(self) -> None:
        """Manifests of more than 4 MiB are not read to their end."""
        fake = FakeRegistry()
        fake._manifest = lambda *_: _answer(MANIFEST, bytes(5 << 20))  # type: ignore[method-assign,assignment]
        with pytest.raises(ImageError, match="more than the 4194304 bytes"):
            fake.open().resolve("x")

    def test_refused(self) -> None:
        """What the registry says against a manifest comes through, and no tag is there afterwards."""
        descriptor, data = manifest_of(BLOB)
        fake = FakeRegistry()
        with pytest.raises(RemoteError, match="MANIFEST_BLOB_UNKNOWN: blob unknown"):
            fake.open().put_tagged("v1", descriptor, data)
        fake = with_blob(manifest_limit=10)
        with pytest.raises(RemoteError, match=r"too large.*HTTP 413"):
            fake.open().put_tagged("v1", descriptor, data)
        assert fake.store().tags == {}

    def test_not_the_descriptors(self) -> None:
        """A manifest that is not its descriptor's is not sent."""
        fake = with_blob()
        descriptor, data = manifest_of(BLOB)
        with pytest.raises(BlobCorrupt):
            fake.open().put_manifest(descriptor, data + b" ")
        assert fake.seen == []

    @pytest.mark.parametrize("name", ["", "a/b", "../x", "a:b", "-x", "x" * 129, "ü"])
    def test_bad_tags(self, name: str) -> None:
        """What is no tag is not sent."""
        fake = with_blob()
        descriptor, data = manifest_of(BLOB)
        repository = fake.open()
        repository.put_manifest(descriptor, data)
        fake.seen.clear()
        with pytest.raises(UsageError, match="is no tag"):
            repository.tag(name, descriptor)
        assert fake.seen == []

    @pytest.mark.parametrize("etags", [True, False])
    def test_swap(self, etags: bool) -> None:
        """A tag moves only from where it was seen."""
        fake = with_blob(etags=etags)
        (one, one_data), (two, two_data) = manifest_of(BLOB, note="1"), manifest_of(BLOB, note="2")
        repository = fake.open()
        repository.put_manifest(one, one_data)
        repository.put_manifest(two, two_data)
        assert not repository.swap_tag("v", one, two)
        assert repository.swap_tag("v", one, None)
        assert not repository.swap_tag("v", two, None)
        assert repository.swap_tag("v", two, one)
        assert fake.store().tags == {"v": str(two.digest)}

    def test_swap_lost_race(self) -> None:
        """With ETags, a change between looking and writing is noticed by the registry."""
        fake = with_blob(etags=True)
        manifests = [manifest_of(BLOB, note=str(i)) for i in range(3)]
        repository = fake.open()
        for descriptor, data in manifests:
            repository.put_manifest(descriptor, data)
        repository.tag("v", manifests[0][0])

        def interfere(seen: object) -> None:
            if str(seen).startswith("PUT"):
                fake.store().tags["v"] = str(manifests[2][0].digest)

        fake.before = interfere
        assert not repository.swap_tag("v", manifests[1][0], manifests[0][0])
        assert fake.store().tags == {"v": str(manifests[2][0].digest)}

    def test_delete(self) -> None:
        """A deleted manifest is gone with its tags; one that was not there is said not to have been."""
        fake = with_blob()
        descriptor, data = manifest_of(BLOB)
        repository = fake.open()
        repository.put_tagged("v", descriptor, data)
        assert repository.delete_manifest(descriptor)
        assert not repository.delete_manifest(descriptor)
        assert repository.resolve_or_none("v") is None
        repository.put_tagged("v", descriptor, data)
        fake.deletes = False
        with pytest.raises(RemoteError, match="cannot delete"):
            repository.delete_manifest(descriptor)


def _answer(content_type: str, data: bytes) -> object:
    from test_oci.fake_registry import FakeResponse

    return FakeResponse(200, {"Content-Type": content_type}, data)


class TestTags:
    """Listing."""

    @pytest.mark.parametrize("page", [1, 2, 7, 1000])
    def test_pages(self, page: int) -> None:
        """All tags, whatever the size of a page."""
        fake = FakeRegistry(page=page)
        fake.store().tags = {f"t{i}": "x" for i in range(7)}
        assert fake.open().tags() == [f"t{i}" for i in range(7)]
        assert len(fake.seen) == -(-7 // page)

    def test_page_elsewhere(self) -> None:
        """A next page on another host is not followed: it would be asked with credentials, or trusted without."""
        fake = FakeRegistry(extra={"Link": '<https://evil.test/next>; rel="next"'})
        fake.store().tags = {"x": "y"}
        with pytest.raises(RemoteError, match="elsewhere"):
            fake.open().tags()

    def test_endless(self) -> None:
        """A list that leads back to itself ends in an error."""
        fake = FakeRegistry(extra={"Link": '</v2/a/b/tags/list?n=5>; rel="next"'})
        fake.store().tags = {"x": "y"}
        with pytest.raises(RemoteError, match="does not end"):
            fake.open().tags()

    @pytest.mark.parametrize("body", [b"{", b"[]", b'{"tags": 5}', b'{"tags": [5]}'])
    def test_malformed(self, body: bytes) -> None:
        """A list that is none is an error."""
        fake = FakeRegistry()
        fake._list = lambda *_: _answer("application/json", body)  # type: ignore[method-assign,assignment]
        with pytest.raises(CasyncError):
            fake.open().tags()


def test_docker_hub() -> None:
    """docker.io is reached under its other name."""
    fake = FakeRegistry()
    client = fake.client()
    repository = client.repository(parse_reference("docker://debian"))
    assert repository.resolve_or_none("x") is None
    assert fake.seen[0].url == "https://registry-1.docker.io/v2/library/debian/manifests/x"
    assert repository.name == "docker://docker.io/library/debian"


def test_wrong_use() -> None:
    """Half of the credentials, or a layout's name, are refused."""
    client = FakeRegistry().client()
    with pytest.raises(UsageError, match="together"):
        client.repository(Reference("docker", HOST, "a"), username="joe")
    with pytest.raises(UsageError, match="not in a registry"):
        client.repository(parse_reference("oci:dir"))


def test_a_client_of_its_own_is_closed() -> None:
    """open_repository closes what it opened."""
    closed = []

    class Transport(FakeRegistry):
        def close(self) -> None:
            closed.append(True)

    with open_repository(Reference("docker", HOST, "a"), environ={}, transport=Transport()) as repository:
        assert repository.tags() == []
        assert not closed
    assert closed == [True]


def test_progress() -> None:
    """Bytes that move are told as they move."""
    fake = with_blob()
    moved: list[int] = []
    client = RegistryClient(environ={}, transport=fake, on_bytes=moved.append)
    repository = client.repository(Reference("docker", HOST, "a/b"))
    repository.read(BLOB, len(DATA))
    assert sum(moved) == len(DATA)
    assert len(moved) > 1


def test_errors_are_one_line() -> None:
    """What a hostile registry says is shown in bounded, printable text."""
    body = json.dumps({"errors": [{"code": "X", "message": "a\nb\x1b[0m" + "long" * 1000}]}).encode()

    class Rude(FakeRegistry):
        def _route(self, *_: object) -> object:  # type: ignore[override]
            from test_oci.fake_registry import FakeResponse

            return FakeResponse(400, body=body)

    with pytest.raises(RemoteError) as caught:
        Rude().open().tags()
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 500


def test_broken_error_answer() -> None:
    """An error whose explanation breaks off is still that error."""
    fake = FakeRegistry()
    fake._list = lambda *_: _broken()  # type: ignore[method-assign,assignment]
    with pytest.raises(RemoteError) as caught:
        fake.open().tags()
    assert caught.value.status == 418


def _broken() -> object:
    from test_oci.fake_registry import FakeResponse

    response = FakeResponse(418, body=b"xxxx", cut=1)
    assert TransportError
    return response
