"""Chunk ids and the hash functions that make them.

A chunk's id is the digest of its uncompressed bytes. casync knows SHA-512/256 (its default) and SHA-256, and an index
says which of the two by one feature bit. BLAKE3 is an extension of ours, which casync cannot read.

Deliberately not here: the feature bit (``catar.flags``), and reading files or chunks.

    >>> str(Digest.SHA256.of(b""))[:16]
    'e3b0c44298fc1c14'
    >>> Digest.parse("default") is Digest.SHA512_256
    True
"""

from __future__ import annotations

import enum
import functools
from typing import TYPE_CHECKING, Protocol

from casync_compat.errors import CasyncError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from _typeshed import ReadableBuffer

__all__ = ["CHUNK_ID_SIZE", "ChunkId", "Digest", "DigestUnavailable", "Hasher"]

CHUNK_ID_SIZE = 32
"""Bytes in a raw chunk id, whatever the digest (casync: ``CA_CHUNK_ID_SIZE``)."""


class ChunkId(bytes):
    """A raw chunk id: 32 bytes that print as lower-case hexadecimal.

    Building one from bytes checks nothing, because an index of a million chunks builds a million of them; the length
    is the reader's business. Equal to, and hashes like, the same plain bytes.
    """

    __slots__ = ()

    @classmethod
    def from_hex(cls, text: str) -> ChunkId:
        """The id written as 64 hexadecimal digits, in either case.

        :raises UsageError: anything else
        """
        try:
            raw = bytes.fromhex(text)
        except ValueError:
            raw = b""
        # fromhex() skips white space, so the length of the text has to be looked at as well.
        if len(raw) != CHUNK_ID_SIZE or len(text) != 2 * CHUNK_ID_SIZE:
            raise UsageError(f"not a chunk id: {text!r}; it takes {2 * CHUNK_ID_SIZE} hexadecimal digits")
        return cls(raw)

    def __str__(self) -> str:
        return self.hex()

    def __repr__(self) -> str:
        return f"ChunkId.from_hex({self.hex()!r})"


class DigestUnavailable(CasyncError):
    """This Python was built without the hash function."""


class Hasher(Protocol):
    """What is used of a ``hashlib`` object; ``blake3.blake3`` has it too."""

    def update(self, data: ReadableBuffer, /) -> object: ...
    def digest(self) -> bytes: ...
    def hexdigest(self) -> str: ...
    def copy(self) -> Hasher: ...


class Digest(enum.Enum):
    """A hash function; the value is its name."""

    SHA512_256 = "sha512-256"
    SHA256 = "sha256"
    BLAKE3 = "blake3"

    @classmethod
    def parse(cls, text: str) -> Digest:
        """The digest of that name; ``default`` is SHA-512/256. Case matters, as observed with casync 2.

        :raises UsageError: no digest has that name
        """
        if text == "default":
            return cls.SHA512_256
        try:
            return cls(text)
        except ValueError:
            names = ", ".join(digest.value for digest in cls)
            raise UsageError(f"unknown digest {text!r}; use one of: default, {names}") from None

    def new(self) -> Hasher:
        """A fresh hash object, with nothing hashed yet.

        :raises CasyncError: this Python lacks the function
        """
        return _template(self).copy()

    def of(self, buffer: ReadableBuffer) -> ChunkId:
        """The id of the bytes in `buffer` (contiguous). Lets other threads run while it hashes more than 2 KiB.

        :raises CasyncError: this Python lacks the function
        """
        hasher = _template(self).copy()
        hasher.update(buffer)
        return ChunkId(hasher.digest())

    def of_many(self, buffers: Sequence[ReadableBuffer]) -> list[ChunkId]:
        """The ids of several buffers, in order. Lets other threads run meanwhile.

        Where the processor can hash several at once, SHA-512/256 of a dozen chunks takes two thirds of the time with
        AVX2, a third with AVX-512.

        :raises CasyncError: this Python lacks the function
        """
        if self is Digest.SHA512_256 and (together := _together()) is not None:
            sizes = [memoryview(buffer).nbytes for buffer in buffers]
            if sum(sizes) >= _WORTHWHILE * max(sizes, default=1):
                return [ChunkId(digest) for digest in together(buffers)]
        return [self.of(buffer) for buffer in buffers]


_WORTHWHILE = 3
"""Bytes of all buffers for each byte of the longest from which hashing them together is faster than one by one:
four lanes do 1.2 to 1.7 times as much as one of OpenSSL's, eight three times, but one of them alone does half."""


@functools.cache
def _together() -> Callable[[Sequence[ReadableBuffer]], list[bytes]] | None:
    try:
        from casync_compat import _sha512  # lazily: many runs make no ids
    except ImportError:  # built without a C compiler: `sha512` does no more at once than `of`
        return None
    return _sha512.sha512_256 if _sha512.LANES > 1 else None


@functools.cache
def _template(digest: Digest) -> Hasher:
    # Copying an empty hash object costs 0.3 µs; hashlib.new("sha512_256") looks the name up each time, 1-3.6 µs.
    if digest is Digest.BLAKE3:
        return _blake3()
    return _openssl(digest.value.replace("-", "_"))


def _openssl(name: str) -> Hasher:
    import hashlib  # lazily: it loads OpenSSL, 4 ms that listing an archive does not need

    try:
        return hashlib.new(name)
    except ValueError as e:
        raise DigestUnavailable(f"this Python's OpenSSL does not offer {name}") from e


def _blake3() -> Hasher:
    try:
        from blake3 import blake3  # lazily: few runs need this shared object
    except ImportError as e:
        raise CasyncError("the blake3 digest needs the Python package blake3; install it") from e
    return blake3()
