"""Requests made to last: what is tried again, and how long that is waited for; where redirects may lead."""

from __future__ import annotations

import pytest
from test_oci.fake_registry import HOST, STORAGE, FakeRegistry

from casync_compat.errors import RemoteError
from casync_compat.net.http import TransportError, is_loopback
from casync_compat.oci.spec.descriptor import Descriptor

DATA = b"some bytes"
BLOB = Descriptor.of("application/octet-stream", DATA)


def with_blob(**faults: object) -> FakeRegistry:
    fake = FakeRegistry(**faults)  # type: ignore[arg-type]
    fake.store().blobs[str(BLOB.digest)] = DATA
    return fake


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_troubles(status: int) -> None:
    """What may pass is waited for, longer each time."""
    fake = with_blob(statuses=[(status, {})] * 4)
    assert fake.open().read(BLOB) == DATA
    assert fake.time.slept == [0.5, 1, 2, 4]


@pytest.mark.parametrize("status", [400, 403, 405, 409, 501])
def test_lasting_troubles(status: int) -> None:
    """What will not pass is an error at once."""
    fake = with_blob(statuses=[(status, {})])
    with pytest.raises(RemoteError) as caught:
        fake.open().read(BLOB)
    assert caught.value.status == status
    assert len(fake.seen) == 1


def test_it_gives_up() -> None:
    """After six attempts the trouble is told."""
    fake = with_blob(statuses=[(503, {})] * 6)
    with pytest.raises(RemoteError, match="it is not available"):
        fake.open().read(BLOB)
    assert len(fake.seen) == 6


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7), ("0", 0), ("Mon, 12 Jan 1970 13:46:50 GMT", 10), ("Mon, 12 Jan 1970 13:00:00 GMT", 0)],
)
def test_retry_after(value: str, seconds: float) -> None:
    """The pause that a server asks for is kept, in seconds or as a date."""
    fake = with_blob(statuses=[(429, {"Retry-After": value})])
    assert fake.open().read(BLOB) == DATA
    assert seconds <= fake.time.slept[0] <= seconds + 0.2


def test_asked_for_too_much_patience() -> None:
    """An hour is not waited for: the user may have other plans."""
    fake = with_blob(statuses=[(429, {"Retry-After": "3600"})])
    with pytest.raises(RemoteError, match="too many requests"):
        fake.open().read(BLOB)
    assert fake.time.slept == []


def test_connections_break() -> None:
    """A request that got no answer is sent again."""
    fake = with_blob(statuses=[TransportError("connection reset")] * 3)
    assert fake.open().read(BLOB) == DATA
    assert len(fake.seen) == 4


def test_nobody_there() -> None:
    """On first contact, a server that does not listen is a wrong name; later it is one that starts again."""
    gone = TransportError("nobody listens", absent=True)
    fake = with_blob(statuses=[gone])
    repository = fake.open()
    with pytest.raises(RemoteError, match="nobody listens"):
        repository.read(BLOB)
    assert repository.read(BLOB) == DATA
    fake.statuses = [gone, gone]
    assert repository.read(BLOB) == DATA


def test_redirects_leave_credentials_behind() -> None:
    """A blob served from another host is fetched without Authorization; the fake asserts it, and so does this."""
    fake = with_blob(redirect=True, auth="basic")
    assert fake.open(login=True).read(BLOB) == DATA
    assert fake.open(login=True).read_range(BLOB, 5, 3) == DATA[5:8]
    there = [seen for seen in fake.seen if seen.host == STORAGE]
    assert len(there) == 2
    assert all("Authorization" not in seen.headers for seen in there)
    assert there[0].url.endswith("?signature=x")


def test_refused_by_the_other_host() -> None:
    """A 401 from elsewhere is not answered with the registry's credentials."""
    fake = with_blob(redirect=True, auth="basic")
    repository = fake.open(login=True)
    repository.read(BLOB)
    fake.seen.clear()
    fake.statuses = [None, (401, {"WWW-Authenticate": 'Basic realm="gimme"'})]
    with pytest.raises(RemoteError) as caught:
        repository.read(BLOB)
    assert caught.value.status == 401
    assert len(fake.seen) == 2


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("http://registry.test/x", "from https to http"),
        ("ftp://registry.test/x", "cannot be used"),
        ("https://[x", "cannot be used"),
        (f"https://{HOST}/v2/a/b/blobs/{BLOB.digest}", "more than 10 times"),
    ],
)
def test_bad_redirects(location: str, says: str) -> None:
    """Redirects out of TLS, to nowhere, or without end are errors."""
    fake = with_blob(statuses=[(307, {"Location": location})] * 100)
    with pytest.raises(RemoteError, match=says):
        fake.open().read(BLOB)


def test_uploads_are_not_redirected_as_reads() -> None:
    """A POST that is answered with 302 must not become a GET."""
    fake = FakeRegistry(statuses=[None, *[(302, {"Location": "/elsewhere"})] * 100])
    with pytest.raises(RemoteError, match="redirects a POST"):
        fake.open().put(BLOB, [DATA])


def test_warnings_once() -> None:
    """What the registry says to the user comes through once, made printable."""
    fake = with_blob(extra={"Warning": '299 - "this registry \\"moves\\" \x1b[31msoon"'})
    repository = fake.open()
    for _ in range(3):
        repository.read(BLOB)
    assert fake.warnings == ['this registry "moves"  [31msoon']


def test_traffic() -> None:
    """Requests and bytes in both directions are counted."""
    fake = FakeRegistry()
    repository = fake.open()
    start = repository.traffic
    repository.put(BLOB, [DATA])
    repository.read(BLOB)
    used = repository.traffic - start
    assert (used.requests, used.bytes_up, used.bytes_down) == (4, len(DATA), len(DATA))


def test_plain_http() -> None:
    """Without TLS it works on loopback and with --insecure only."""
    fake = with_blob(tls=False)
    for host, insecure in [("localhost:5000", False), ("127.0.0.1", False), ("[::1]:5", False), (HOST, True)]:
        assert fake.open(host=host, insecure=insecure).read(BLOB) == DATA
    with pytest.raises(RemoteError):
        fake.open().read(BLOB)


def test_untrusted_certificates() -> None:
    """A certificate that is not trusted is an error, on loopback too, and never a reason to do without TLS."""
    fake = with_blob(trusted=False)
    for host in (HOST, "localhost:5000"):
        with pytest.raises(RemoteError, match="certificate is not trusted"):
            fake.open(host=host).read(BLOB)
    assert fake.seen == []
    assert fake.time.slept == []
    assert fake.open(insecure=True).read(BLOB) == DATA


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1:1", True),
        ("127.8.9.10", True),
        ("[::1]", True),
        ("127.0.0.1.evil.test", False),
        ("localhost.evil.test", False),
        ("127.evil.0.1", False),
        ("registry.test", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    """Only names that cannot be anybody else's."""
    assert is_loopback(host) is expected
