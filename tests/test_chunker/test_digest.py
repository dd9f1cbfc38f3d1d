from __future__ import annotations

import hashlib
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casync_compat import ids as digest
from casync_compat.errors import CasyncError, UsageError
from casync_compat.ids import ChunkId, Digest

EMPTY = {
    Digest.SHA512_256: "c672b8d1ef56ed28ab87c3622c5114069bdd3ad7b8f9737498d0c01ecef0967a",
    Digest.SHA256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    Digest.BLAKE3: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
}


@pytest.mark.parametrize("kind", Digest, ids=lambda kind: kind.value)
def test_of_nothing(kind: Digest) -> None:
    """Each digest gives the published value for no data."""
    assert str(kind.of(b"")) == EMPTY[kind]


def test_ids_are_casyncs() -> None:
    """The first chunk of casync's test blob has the id that casync 2 wrote."""
    blob = b"".join(hashlib.sha256(i.to_bytes(4, "little")).digest() for i in range(1024))[:31199]
    assert (
        str(Digest.SHA512_256.of(blob)) == "9ec5b1a42d0f297a95e75ad1324db3577f5be5b5988da6f47588b924d9bc2f35"
    )


@pytest.mark.parametrize("kind", Digest, ids=lambda kind: kind.value)
@given(data=st.binary(max_size=300), cut=st.integers(0, 300))
def test_in_pieces_as_at_once(kind: Digest, data: bytes, cut: int) -> None:
    """Hash objects start empty each time, take pieces, and agree with the id of the whole."""
    hasher = kind.new()
    hasher.update(data[:cut])
    hasher.copy().update(b"a copy is independent")
    hasher.update(memoryview(data)[cut:])
    assert hasher.digest() == kind.of(bytearray(data))
    assert hasher.hexdigest() == str(kind.of(data))


@pytest.mark.parametrize("kind", Digest, ids=lambda kind: kind.value)
@pytest.mark.parametrize(
    "sizes", [[], [5], [300] * 9, [2000, 1, 1, 1], [0] * 4, [7000, 6000, 5000, 9000, 4000]]
)
def test_many_as_one_by_one(kind: Digest, sizes: list[int]) -> None:
    """Several ids made together are those of each alone, whether lengths are alike or not."""
    buffers = [memoryview(bytes(range(256)) * 36)[:size] for size in sizes]
    ids = kind.of_many(buffers)
    assert ids == [kind.of(buffer) for buffer in buffers]
    assert all(type(id_) is ChunkId for id_ in ids)


def test_many_without_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it was not compiled, or the processor is too old, hashlib makes the same ids."""
    buffers = [bytes([n]) * 500 for n in range(9)]
    expected = Digest.SHA512_256.of_many(buffers)
    monkeypatch.setattr(digest, "_together", lambda: None)
    assert Digest.SHA512_256.of_many(buffers) == expected


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("default", Digest.SHA512_256),
        ("sha512-256", Digest.SHA512_256),
        ("sha256", Digest.SHA256),
        ("blake3", Digest.BLAKE3),
    ],
)
def test_names(name: str, kind: Digest) -> None:
    """The names are the ones casync takes, and blake3."""
    assert Digest.parse(name) is kind


@pytest.mark.parametrize("name", ["", "SHA256", "sha512_256", "sha512", "SHA512_256"])
def test_other_names_are_refused_with_the_list(name: str) -> None:
    """What casync 2 does not take is not taken, and the error says what is."""
    with pytest.raises(UsageError, match="default, sha512-256, sha256, blake3"):
        Digest.parse(name)


def test_a_missing_hash_function_is_one_clear_error() -> None:
    """A Python whose OpenSSL lacks a function says so, instead of an "unsupported hash type" from below."""
    with pytest.raises(CasyncError, match=r"OpenSSL does not offer sha512_257$"):
        digest._openssl("sha512_257")


@given(st.binary(min_size=32, max_size=32))
def test_ids_print_as_they_are_read(raw: bytes) -> None:
    """An id is its bytes, prints as lower-case hexadecimal, and is read back from either case."""
    chunk_id = ChunkId(raw)
    assert chunk_id == raw
    assert {raw: 1}[chunk_id] == 1
    assert str(chunk_id) == f"{chunk_id}" == raw.hex()
    assert ChunkId.from_hex(str(chunk_id)) == ChunkId.from_hex(raw.hex().upper()) == raw
    assert eval(repr(chunk_id), {"ChunkId": ChunkId}) == chunk_id
    assert type(pickle.loads(pickle.dumps(chunk_id))) is ChunkId


@pytest.mark.parametrize(
    "text", ["", "ab", "g" * 64, "a" * 63, "a" * 65, "a" * 66, "ab " + "a" * 61, " " + "a" * 64, "ａ" * 64]
)
def test_what_is_not_an_id_is_refused(text: str) -> None:
    """Only 64 hexadecimal digits are an id; white space is not skipped."""
    with pytest.raises(UsageError, match="64 hexadecimal digits"):
        ChunkId.from_hex(text)


def test_ids_carry_nothing_but_their_bytes() -> None:
    """Millions of ids fit in memory: no instance dictionary."""
    assert not hasattr(ChunkId(bytes(32)), "__dict__")
