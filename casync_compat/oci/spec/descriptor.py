"""Digests, platforms and descriptors: how OCI documents point at blobs. Pure values, no IO.

    >>> d = Descriptor.of("application/vnd.oci.empty.v1+json", b"{}")
    >>> str(d.digest)[:20], d.size
    ('sha256:44136fa355b36', 2)

Rules are those of the OCI image specification 1.1 (`descriptor.md`). Only sha256 is written, because registries and
tools rely on nothing else; sha512 is read. JSON is written in the form of RFC 8785 (sorted keys, no white space), so
that the same values always make the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from casync_compat.oci.spec.errors import ImageError

if TYPE_CHECKING:
    from hashlib import _Hash

    from _typeshed import ReadableBuffer

__all__ = ["BlobDigest", "Descriptor", "Platform", "canonical_json", "parse_annotations", "parse_json"]

_HEX_LENGTH = {"sha256": 64, "sha512": 128}
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}")
_MAX_SIZE = 1 << 50


@dataclass(frozen=True, slots=True, order=True)
class BlobDigest:
    """The digest of a blob. Chunk ids are another thing (`casync_compat.ids.ChunkId`): never mix them.

    :ivar algorithm: `sha256` or `sha512`
    :ivar hex: the hash in lower-case hexadecimal digits
    """

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: object, where: str = "digest") -> BlobDigest:
        """:raises ImageError: `text` is not a digest of a supported algorithm"""
        if not isinstance(text, str):
            raise ImageError(where, f"a digest must be a string, not {type(text).__name__}")
        algorithm, _, digits = text.partition(":")
        length = _HEX_LENGTH.get(algorithm)
        if length is None:
            raise ImageError(where, f"digest {text[:100]!r}: only sha256 and sha512 are supported")
        if len(digits) != length or not re.fullmatch("[0-9a-f]+", digits):
            raise ImageError(where, f"digest {text[:150]!r} is not {length} lower-case hexadecimal digits")
        return cls(algorithm, digits)

    @classmethod
    def of(cls, data: ReadableBuffer) -> BlobDigest:
        """The sha256 digest of `data`."""
        return cls("sha256", hashlib.sha256(data).hexdigest())

    def new(self) -> _Hash:
        """A fresh hash object of this digest's algorithm."""
        return hashlib.new(self.algorithm)

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on (image-spec `image-index.md`)."""

    os: str
    architecture: str
    variant: str = ""
    other: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @classmethod
    def parse(cls, text: str) -> Platform:
        """`os/architecture[/variant]`, as docker and skopeo write it.

        :raises ImageError: it is not of this form
        """
        parts = text.split("/")
        if len(parts) not in (2, 3) or not all(parts):
            raise ImageError("platform", f"{text!r} is not OS/ARCHITECTURE[/VARIANT], say linux/arm64")
        return cls(parts[0], parts[1], parts[2] if len(parts) == 3 else "")

    @classmethod
    def from_json(cls, value: object, where: str) -> Platform:
        """:raises ImageError: it is not a platform object"""
        if not isinstance(value, dict):
            raise ImageError(where, "a platform must be an object")
        # Go reads null as a member that is not there.
        texts = ["" if value.get(key) is None else value[key] for key in ("os", "architecture", "variant")]
        if not all(isinstance(text, str) for text in texts):
            raise ImageError(where, "the members of a platform must be strings")
        known = {"os", "architecture", "variant"}
        return cls(
            texts[0], texts[1], texts[2], {key: member for key, member in value.items() if key not in known}
        )

    def to_json(self) -> dict[str, Any]:
        """The JSON object."""
        out = {**self.other, "architecture": self.architecture, "os": self.os}
        if self.variant:
            out["variant"] = self.variant
        return out

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What points at a blob: its type, digest and size, and notes on it.

    :ivar size: in bytes
    :ivar other: members this version does not know, kept so that reading and writing lose nothing
    """

    media_type: str
    digest: BlobDigest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None
    other: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, media_type: str, data: ReadableBuffer, annotations: Mapping[str, str] | None = None
    ) -> Descriptor:
        """The descriptor of `data`."""
        return cls(media_type, BlobDigest.of(data), memoryview(data).nbytes, annotations or {})

    @classmethod
    def from_json(cls, value: object, where: str) -> Descriptor:
        """:raises ImageError: it is not a descriptor"""
        if not isinstance(value, dict):
            raise ImageError(where, "a descriptor must be an object")
        media_type = value.get("mediaType")
        if not isinstance(media_type, str) or not _MEDIA_TYPE.fullmatch(media_type):
            raise ImageError(where, f"a descriptor has the bad media type {str(media_type)[:100]!r}")
        size = value.get("size")
        if type(size) is not int or not 0 <= size <= _MAX_SIZE:
            raise ImageError(where, f"a descriptor has the bad size {str(size)[:100]}")
        annotations = parse_annotations(value, where)
        platform = value.get("platform")
        known = {"mediaType", "digest", "size", "annotations", "platform"}
        return cls(
            media_type,
            BlobDigest.parse(value.get("digest"), where),
            size,
            annotations,
            Platform.from_json(platform, where) if platform is not None else None,
            {key: member for key, member in value.items() if key not in known},
        )

    def to_json(self) -> dict[str, Any]:
        """The JSON object; empty annotations are left out."""
        out: dict[str, Any] = dict(self.other)
        out.update(mediaType=self.media_type, digest=str(self.digest), size=self.size)
        if self.annotations:
            out["annotations"] = dict(self.annotations)
        if self.platform is not None:
            out["platform"] = self.platform.to_json()
        return out


def parse_annotations(document: Mapping[str, Any], where: str) -> dict[str, str]:
    """The annotations of a document or descriptor; null is nothing, as Go reads it.

    :raises ImageError: they are no object of strings
    """
    found = document.get("annotations") or {}
    if not isinstance(found, dict) or not all(isinstance(text, str | None) for text in found.values()):
        raise ImageError(where, "annotations must be an object of strings")
    return {key: text or "" for key, text in found.items()}


def canonical_json(value: object) -> bytes:
    """JSON as RFC 8785 writes it, for strings, integers, booleans, lists and objects with plain keys.

    :raises TypeError: a float is in it, whose canonical form this does not know
    """
    _refuse_floats(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _refuse_floats(value: object) -> None:
    if isinstance(value, float):
        raise TypeError("no floats in canonical JSON")
    if isinstance(value, dict):
        for member in value.values():
            _refuse_floats(member)
    elif isinstance(value, (list, tuple)):
        for member in value:
            _refuse_floats(member)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a member occurs twice in one object")
    return out


def parse_json(data: bytes, where: str) -> dict[str, Any]:
    """An object from JSON; a member that occurs twice is refused (RFC 7493).

    :raises ImageError: it is not JSON, or no object
    """
    try:
        value = json.loads(data, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ImageError(where, f"it is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ImageError(where, "it is JSON, but not an object")
    return cast("dict[str, Any]", value)
