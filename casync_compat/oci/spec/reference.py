"""Names of images, as skopeo writes them: `oci:DIR[:NAME]`, `docker://HOST/REPO[:TAG]`, a directory of one image,
`dir:DIR`, two kinds of archives, `oci-archive:FILE[:NAME]` and `docker-archive:FILE[:NAME]`, and what podman and docker
have on this machine, `containers-storage:NAME` and `docker-daemon:NAME`.

    >>> parse_reference("docker://localhost:5000/base/debian:12")
    Reference(transport='docker', place='localhost:5000', repository='base/debian', tag='12', digest=None)

Pure text: nothing is opened here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from casync_compat.errors import UsageError
from casync_compat.oci.spec.descriptor import BlobDigest
from casync_compat.oci.spec.errors import ImageError

__all__ = ["LOCAL", "Reference", "parse_reference", "parse_registry"]

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
# distribution-spec, "Pulling manifests".
_REPOSITORY = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
_HOST = re.compile(r"([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
LOCAL = ("containers-storage", "docker-daemon")
"""Where podman and docker keep images on this machine."""
_DOCKER_HUB = "docker.io"


@dataclass(frozen=True, slots=True)
class Reference:
    """Where an image is.

    :ivar transport: `oci`, `dir`, `oci-archive`, `docker-archive`, `docker`, `containers-storage` or `docker-daemon`
    :ivar place: a directory, a file, a registry's host and port, or an image's name where podman or docker keep it
    :ivar repository: in a registry; empty otherwise
    :ivar tag: None when none was given
    :ivar digest: None when none was given
    """

    transport: str
    place: str
    repository: str = ""
    tag: str | None = None
    digest: BlobDigest | None = None

    @property
    def target(self) -> str | None:
        """What to resolve: the digest, or else the tag, or else None."""
        return str(self.digest) if self.digest is not None else self.tag

    def __str__(self) -> str:
        if self.transport == "docker":
            text = f"docker://{self.place}/{self.repository}"
        else:
            text = f"{self.transport}:{self.place}"
        if self.tag is not None:
            text += f":{self.tag}"
        if self.digest is not None:
            text += f"@{self.digest}"
        return text


def parse_reference(text: str) -> Reference:
    """Take a name of an image apart.

    :raises UsageError: it has none of these forms
    """
    transport, colon, rest = text.partition(":")
    if colon and transport in ("oci", "oci-archive"):
        return _layout(transport, rest, text)
    if colon and transport == "docker-archive":
        return _archive(rest, text)
    if colon and transport in (*LOCAL, "dir"):  # all of it is the name, colons too, as skopeo has it
        return Reference(transport, _some(rest, text))
    if colon and transport == "docker" and rest.startswith("//"):
        return _registry(rest[2:], text)
    raise UsageError(
        f"{text}: an image is named oci:DIRECTORY[:TAG], dir:DIRECTORY, oci-archive:FILE[:TAG], "
        "docker-archive:FILE[:NAME:TAG], docker://HOST/REPOSITORY[:TAG|@DIGEST], containers-storage:NAME or "
        "docker-daemon:NAME"
    )


def parse_registry(text: str) -> str:
    """The host of a registry, with its port, as it stands in names of images.

    :raises UsageError: it is none
    """
    if not _HOST.fullmatch(text) or not ("." in text or ":" in text or text == "localhost"):
        raise UsageError(f"{text}: a registry is named HOST[:PORT], as in names of images")
    return text


def _layout(transport: str, rest: str, text: str) -> Reference:
    # As skopeo and umoci do it: the directory ends at the first colon, and image names with colons are names.
    place, colon, tag = rest.partition(":")
    if not colon:
        return Reference(transport, _some(rest, text))
    if place.endswith("@sha256"):
        return Reference(
            transport, _some(place.removesuffix("@sha256"), text), digest=_digest("sha256:" + tag, text)
        )
    # The image-spec allows more in ref.name than a registry does in a tag.
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@:/+-]*|[A-Za-z0-9_][A-Za-z0-9._-]*", tag):
        raise UsageError(f"{text}: {tag!r} is no tag")
    return Reference(transport, _some(place, text), tag=tag)


def _archive(rest: str, text: str) -> Reference:
    # docker-archive:FILE or docker-archive:FILE:NAME:TAG; a file name with a colon cannot be told from that.
    place, colon, name = rest.partition(":")
    return Reference("docker-archive", _some(place, text), tag=name if colon and name else None)


def _registry(rest: str, text: str) -> Reference:
    name, at, digest_text = rest.partition("@")
    digest = _digest(digest_text, text) if at else None
    tag = None
    if ":" in name.rpartition("/")[2] and "/" in name:
        name, _, tag = name.rpartition(":")
        if not _TAG.fullmatch(tag):
            raise UsageError(f"{text}: {tag!r} is no tag (letters, digits, '_', '.', '-', at most 128)")
    host, slash, repository = name.partition("/")
    # As docker does it: what has neither a dot nor a colon and is not localhost is no host but part of the name.
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        host, repository = _DOCKER_HUB, name
        if tag is None and ":" in repository:
            repository, _, tag = repository.rpartition(":")
            if not _TAG.fullmatch(tag):
                raise UsageError(f"{text}: {tag!r} is no tag")
    if host == _DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    if not _HOST.fullmatch(host):
        raise UsageError(f"{text}: {host!r} is no host name")
    if not _REPOSITORY.fullmatch(repository):
        raise UsageError(
            f"{text}: {repository!r} is no repository name (lower-case letters, digits, '.', '_', '-', '/')"
        )
    return Reference("docker", host, repository, tag, digest)


def _digest(text: str, whole: str) -> BlobDigest:
    try:
        return BlobDigest.parse(text, whole)
    except ImageError as error:
        raise UsageError(str(error)) from error


def _some(place: str, text: str) -> str:
    if not place:
        raise UsageError(f"{text}: the path is missing")
    return place
