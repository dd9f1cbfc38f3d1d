"""Descriptors, digests, platforms, and JSON whose bytes never vary."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casync_compat.oci.spec.blobs import Check, check_blob
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor, Platform, canonical_json, parse_json
from casync_compat.oci.spec.errors import BlobCorrupt, ImageError

EMPTY = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
"""The empty JSON object's digest, as the image specification gives it."""

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 53), 1 << 53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def valid() -> dict[str, Any]:
    return {"mediaType": "application/vnd.oci.empty.v1+json", "digest": EMPTY, "size": 2}


def test_the_empty_descriptor() -> None:
    """`{}` has the digest that the specification says."""
    descriptor = Descriptor.of("application/vnd.oci.empty.v1+json", b"{}")
    assert descriptor.to_json() == valid()


def test_what_is_unknown_is_kept() -> None:
    """Reading and writing a descriptor loses no member, in the platform neither."""
    value = valid() | {
        "urls": ["https://example.org/x"],
        "data": "e30=",
        "annotations": {"a": "b"},
        "platform": {"os": "linux", "architecture": "arm", "variant": "v7", "os.version": "1"},
    }
    assert Descriptor.from_json(value, "here").to_json() == value


@pytest.mark.parametrize(
    "change",
    [
        {"mediaType": None},
        {"mediaType": "no-slash"},
        {"mediaType": "application/" + "x" * 200},
        {"digest": "sha256:abc"},
        {"digest": "sha256:" + "AB" * 32},
        {"digest": "md5:" + "ab" * 16},
        {"digest": 7},
        {"size": -1},
        {"size": "2"},
        {"size": True},
        {"size": 1 << 60},
        {"annotations": {"a": 1}},
        {"annotations": ["a"]},
        {"platform": "linux"},
        {"platform": {"os": 1}},
    ],
)
def test_malformed(change: dict[str, Any]) -> None:
    """A malformed descriptor is refused, and the message says in which document."""
    with pytest.raises(ImageError, match="the manifest"):
        Descriptor.from_json(valid() | change, "the manifest")


@given(VALUES)
def test_canonical_json_is_json(value: Any) -> None:
    """Canonical JSON reads back as what was written."""
    assert json.loads(canonical_json(value)) == value


def test_canonical_json_does_not_vary() -> None:
    """The order in which members were added does not show, nor is there white space."""
    assert canonical_json({"b": 1, "a": {"d": [], "c": "é"}}) == '{"a":{"c":"é","d":[]},"b":1}'.encode()


def test_floats_have_no_place() -> None:
    """Numbers with fractions are refused: their canonical form is another matter."""
    with pytest.raises(TypeError):
        canonical_json({"a": [1.5]})


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"a":1,"a":2}', b"\xff{}", b"[" * 100_000, b"7"])
def test_bad_json(data: bytes) -> None:
    """What is no JSON object, or names a member twice, is refused."""
    with pytest.raises(ImageError, match="the config"):
        parse_json(data, "the config")


@pytest.mark.parametrize("text", ["linux", "linux/", "/amd64", "linux/arm/v7/x", ""])
def test_bad_platform(text: str) -> None:
    """A platform is two or three words."""
    with pytest.raises(ImageError):
        Platform.parse(text)


def test_platform() -> None:
    """A platform is written as it is read."""
    assert str(Platform.parse("linux/arm/v7")) == "linux/arm/v7"
    assert Platform.parse("linux/amd64") == Platform("linux", "amd64")


@pytest.mark.parametrize(
    ("data", "why"), [(b"{", "1 bytes"), (b"{}}", "more than"), (b"[]", "digest sha256:")]
)
def test_check(data: bytes, why: str) -> None:
    """A blob that is short, long or other is found, whole or in pieces."""
    descriptor = Descriptor.of("application/json", b"{}")
    check_blob(descriptor, b"{}", "here")
    with pytest.raises(BlobCorrupt, match=why):
        check_blob(descriptor, data, "here")
    with pytest.raises(BlobCorrupt, match=why):
        check = Check(descriptor, "here")
        for byte in data:
            check.update(bytes([byte]))
        check.finish()


def test_sha512_is_read() -> None:
    """Blobs named by sha512 are checked by sha512."""
    digest = BlobDigest.parse("sha512:" + "0" * 128)
    assert digest.new().name == "sha512"
