"""Names of images are read as skopeo and docker read them."""

from __future__ import annotations

import pytest

from casync_compat.errors import UsageError
from casync_compat.oci.spec.descriptor import BlobDigest
from casync_compat.oci.spec.reference import Reference, parse_reference

DIGEST = BlobDigest("sha256", "ab" * 32)

CASES = {
    "oci:/srv/images": Reference("oci", "/srv/images"),
    "oci:images:12": Reference("oci", "images", tag="12"),
    "oci:lay:docker.io/library/alpine:3.20": Reference("oci", "lay", tag="docker.io/library/alpine:3.20"),
    "oci:/srv/lay:localhost:5000/a/b:1": Reference("oci", "/srv/lay", tag="localhost:5000/a/b:1"),
    "oci:./lay:a:b:c": Reference("oci", "./lay", tag="a:b:c"),
    f"oci:lay:docker.io/a@{DIGEST}": Reference("oci", "lay", tag=f"docker.io/a@{DIGEST}"),
    "oci:user@host:12": Reference("oci", "user@host", tag="12"),
    f"oci:images@{DIGEST}": Reference("oci", "images", digest=DIGEST),
    "docker-archive:saved.tar": Reference("docker-archive", "saved.tar"),
    "docker-archive:saved.tar:debian:12": Reference("docker-archive", "saved.tar", tag="debian:12"),
    "docker://localhost:5000/base/debian:12": Reference("docker", "localhost:5000", "base/debian", "12"),
    "docker://localhost/a": Reference("docker", "localhost", "a"),
    f"docker://registry.example/a/b@{DIGEST}": Reference("docker", "registry.example", "a/b", digest=DIGEST),
    f"docker://registry.example/a:1@{DIGEST}": Reference("docker", "registry.example", "a", "1", DIGEST),
    "docker://[::1]:5000/a:1": Reference("docker", "[::1]:5000", "a", "1"),
}


@pytest.mark.parametrize("text", CASES)
def test_parts(text: str) -> None:
    """Each form gives its parts, and its parts give the same name again."""
    reference = parse_reference(text)
    assert reference == CASES[text]
    assert str(reference) == text


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("docker://debian", "docker://docker.io/library/debian"),
        ("docker://debian:12", "docker://docker.io/library/debian:12"),
        ("docker://user/app", "docker://docker.io/user/app"),
        ("docker://docker.io/debian", "docker://docker.io/library/debian"),
    ],
)
def test_docker_hub_is_meant_without_a_host(short: str, long: str) -> None:
    """A name without a host is one of Docker Hub, and one word there is an official image."""
    assert parse_reference(short) == parse_reference(long)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("/srv/images", "oci:DIRECTORY"),
        ("directory:/srv/images", "oci:DIRECTORY"),
        ("oci:", "the path is missing"),
        ("docker-archive:", "the path is missing"),
        ("docker:debian", "oci:DIRECTORY"),
        ("docker://", "no repository name"),
        ("docker://registry.example/Upper", "no repository name"),
        ("docker://registry.example/a//b", "no repository name"),
        ("docker://registry.example/../b", "no repository name"),
        ("docker://registry.example/a:-1", "no tag"),
        ("docker://registry.example/a:" + "x" * 129, "no tag"),
        ("docker://bad_host.example/a", "no host name"),
        ("docker://registry.example/a@sha256:abc", "64 lower-case"),
        ("docker://registry.example/a@md5:abc", "only sha256 and sha512"),
        ("oci:images:a b", "no tag"),
        ("oci:images:", "no tag"),
        ("oci::12", "the path is missing"),
    ],
)
def test_wrong_names_are_refused(text: str, why: str) -> None:
    """What is no name of an image is refused with the name and what is wrong with it."""
    with pytest.raises(UsageError) as caught:
        parse_reference(text)
    assert text[:30] in str(caught.value)
    assert why in str(caught.value)


def test_target() -> None:
    """A digest counts more than a tag, as with docker pull."""
    assert parse_reference(f"docker://r.example/a:1@{DIGEST}").target == str(DIGEST)
    assert parse_reference("docker://r.example/a:1").target == "1"
    assert parse_reference("docker://r.example/a").target is None
