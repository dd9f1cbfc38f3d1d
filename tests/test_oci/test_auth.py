"""Authorization: challenges, tokens and their lives, and where secrets must not go."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_oci.fake_registry import TOKENS, FakeRegistry
from test_oci.test_credentials import entry, write

from casync_compat.errors import AccessDenied, RemoteError
from casync_compat.net.authorizer import Challenge, parse_challenges
from casync_compat.oci.spec.descriptor import Descriptor

DATA = b"some bytes"
BLOB = Descriptor.of("application/octet-stream", DATA)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (['Basic realm="x"'], [("basic", {"realm": "x"})]),
        (
            ['Bearer realm="https://a/t?x=1,2",service=s , scope="repository:a:pull,push repository:b:pull"'],
            [
                (
                    "bearer",
                    {
                        "realm": "https://a/t?x=1,2",
                        "service": "s",
                        "scope": "repository:a:pull,push repository:b:pull",
                    },
                )
            ],
        ),
        (
            ['Basic realm="say \\"hi\\"", Bearer realm="y"'],
            [("basic", {"realm": 'say "hi"'}), ("bearer", {"realm": "y"})],
        ),
        (["Negotiate", "BASIC Realm=x"], [("negotiate", {}), ("basic", {"realm": "x"})]),
        (['Bearer realm="never ends'], [("bearer", {})]),
        ([""], []),
        (["="], []),
    ],
)
def test_challenges(fields: list[str], expected: list[tuple[str, dict[str, str]]]) -> None:
    """Several challenges, quoted strings with commas and escapes, in one field or in more."""
    assert parse_challenges(fields) == [Challenge(scheme, parameters) for scheme, parameters in expected]


def test_basic() -> None:
    """After the first refusal every request carries the credentials."""
    fake = FakeRegistry(auth="basic")
    repository = fake.open(login=True)
    assert repository.put(BLOB, [DATA])
    assert repository.read(BLOB) == DATA
    assert ["Authorization" in seen.headers for seen in fake.seen] == [False] + [True] * (len(fake.seen) - 1)


def test_token_for_reading_without_credentials() -> None:
    """Anonymous tokens are fetched for what may be read by all, and used again."""
    fake = FakeRegistry(auth="bearer")
    fake.store().blobs[str(BLOB.digest)] = DATA
    repository = fake.open()
    for _ in range(3):
        assert repository.read(BLOB) == DATA
    assert [seen.host for seen in fake.seen].count(TOKENS) == 1
    with pytest.raises(AccessDenied, match=r"`pycasync oci login registry\.test` or `skopeo login`"):
        repository.put(Descriptor.of("a/b", b"x"), [b"x"])
    assert fake.store().blobs.keys() == {str(BLOB.digest)}


def test_token_for_writing() -> None:
    """A wider token is fetched when it is needed, and then serves for reading too."""
    fake = FakeRegistry(auth="bearer")
    repository = fake.open(login=True)
    assert repository.put(BLOB, [DATA])
    fake.seen.clear()
    assert repository.put(Descriptor.of("a/b", b"x"), [b"x"])
    assert repository.read(BLOB) == DATA
    assert not [seen for seen in fake.seen if seen.host == TOKENS]


@pytest.mark.parametrize(("seconds", "good_for"), [(300, 300), (None, 60), (20, 20)])
def test_tokens_end(seconds: float | None, good_for: float) -> None:
    """A token is replaced before it has expired; without a word on that it is good for a minute."""
    fake = FakeRegistry(auth="bearer", token_seconds=seconds)
    fake.store().blobs[str(BLOB.digest)] = DATA
    repository = fake.open()
    repository.read(BLOB)
    fake.seen.clear()
    fake.time.time += good_for * 0.7
    repository.read(BLOB)
    assert len(fake.seen) == 1
    fake.time.time += good_for * 0.29
    repository.read(BLOB)
    assert [seen.host == TOKENS for seen in fake.seen] == [False, True, False]


def test_token_revoked() -> None:
    """A token that is refused although it is still good is replaced once, and a second refusal is final."""
    fake = FakeRegistry(auth="bearer")
    fake.store().blobs[str(BLOB.digest)] = DATA
    repository = fake.open()
    repository.read(BLOB)
    fake.tokens.clear()
    assert repository.read(BLOB) == DATA
    fake.tokens.clear()
    fake.before = lambda seen: fake.tokens.clear()
    fake.seen.clear()
    with pytest.raises(AccessDenied):
        repository.read(BLOB)
    assert len([seen for seen in fake.seen if seen.host != TOKENS]) == 2


def test_forbidden_is_final() -> None:
    """403 is not tried again, with whatever token."""
    fake = FakeRegistry(auth="bearer")
    fake.store().blobs[str(BLOB.digest)] = DATA
    repository = fake.open(login=True)
    repository.read(BLOB)
    fake.seen.clear()
    fake.statuses = [(403, {})]
    with pytest.raises(AccessDenied, match=r"do not allow it.*HTTP 403"):
        repository.read(BLOB)
    assert len(fake.seen) == 1


@pytest.mark.parametrize("post", [True, False])
def test_identity_tokens(tmp_path: Path, post: bool) -> None:
    """An identity token goes to the token server by POST, or where that is unknown, in place of a password."""
    path = write(tmp_path / "auth.json", {"auths": {"registry.test": {"identitytoken": "identity-token"}}})
    fake = FakeRegistry(auth="bearer", token_post=post)
    repository = fake.open(environ={"REGISTRY_AUTH_FILE": path})
    assert repository.put(BLOB, [DATA])
    assert all("identity-token" not in str(seen.headers) for seen in fake.seen)
    assert {seen.method for seen in fake.seen if seen.host == TOKENS} == (
        {"POST"} if post else {"POST", "GET"}
    )


def test_wrong_password(tmp_path: Path) -> None:
    """The error says where the credentials are from, and not what they are."""
    path = write(tmp_path / "auth.json", {"auths": {"registry.test": entry("joe", "TOPSECRET")}})
    for auth in ("basic", "bearer"):
        fake = FakeRegistry(auth=auth)
        with pytest.raises(AccessDenied) as caught:
            fake.open(environ={"REGISTRY_AUTH_FILE": path}).tags()
        assert path in str(caught.value)
        assert "TOPSECRET" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_realm_without_tls() -> None:
    """Credentials go to no token server by plain HTTP, unless the user said --insecure."""
    challenge = {"WWW-Authenticate": 'Bearer realm="http://auth.test/token",service="fake"'}
    fake = FakeRegistry()
    fake.statuses = [(401, challenge)]
    with pytest.raises(AccessDenied, match="not https"):
        fake.open(login=True).tags()
    assert len(fake.seen) == 1
    fake.statuses = [(401, challenge)] * 2
    with pytest.raises(RemoteError):  # the fake has no token server there, but it was asked
        fake.open(login=True, insecure=True).tags()


@pytest.mark.parametrize(
    "answer", [b"", b"[]", b'{"token": 1}', b'{"token": "a\\r\\nX: y"}', b'{"token": "SECRET'], ids=repr
)
def test_bad_answers_of_token_servers(answer: bytes) -> None:
    """Whatever is no token is an error without the answer in it."""
    fake = FakeRegistry(auth="bearer")
    fake._token = lambda seen, body: _answer(answer)  # type: ignore[assignment,method-assign]
    with pytest.raises(RemoteError) as caught:
        fake.open().tags()
    assert "SECRET" not in str(caught.value)


def _answer(body: bytes) -> object:
    from test_oci.fake_registry import FakeResponse

    return FakeResponse(200, body=body)


def test_no_secret_in_any_repr() -> None:
    """Requests and authorizers can be printed without giving anything away."""
    fake = FakeRegistry(auth="bearer")
    repository = fake.open(login=True)
    repository.put(BLOB, [DATA])
    access = repository._access
    text = repr(access._authorizer._tokens) + repr(access._authorizer.credential)
    assert "secret" not in text
    assert not any(token in text for token in fake.tokens)
    assert json.dumps(fake.asked())


def test_identity_tokens_are_not_redirected(tmp_path: Path) -> None:
    """A token server that redirects to another host does not get an identity token sent there."""
    path = write(tmp_path / "auth.json", {"auths": {"registry.test": {"identitytoken": "identity-token"}}})
    fake = FakeRegistry(auth="bearer")
    fake.statuses = [None, (307, {"Location": "https://evil.test/token"})]
    with pytest.raises(RemoteError, match="redirects elsewhere"):
        fake.open(environ={"REGISTRY_AUTH_FILE": path}).tags()
    assert {seen.host for seen in fake.seen} == {"registry.test", TOKENS}


def test_passwords_are_not_redirected() -> None:
    """Nor does another host get the password, when a token server redirects there."""
    fake = FakeRegistry(auth="bearer")
    fake.statuses = [None, (307, {"Location": "https://storage.test/token"})]
    with pytest.raises(RemoteError):
        fake.open(login=True).tags()
    assert [seen.host for seen in fake.seen if "Authorization" in seen.headers] == [TOKENS]
