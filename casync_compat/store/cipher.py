"""Encryption of chunk files as desync does it: an AEAD with a nonce in front, a key of 256 bits, nothing else bound in.

The name of an encrypted file ends in ``.<algorithm>-<first 8 hex digits of the key's SHA-256>``, so that files of
several keys can lie side by side; ids stay those of the content. Libraries are imported when the first key is used. No
IO.

    >>> cipher = Cipher.of("aes-256-gcm", "6368616e676520746869732070617373776f726420746f206120736563726574")
    >>> cipher.suffix
    b'.aes-256-gcm-50d64035'
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from casync_compat.errors import UsageError

__all__ = ["ALGORITHMS", "Cipher"]

_TAG = 16
_Crypt = Callable[[bytes, bytes], bytes]
"""From a nonce and what it is applied to."""


def _needs(library: str) -> UsageError:
    return UsageError(f"encrypted stores need the package {library}; install pycasync[encryption]")


def _xchacha20_poly1305(key: bytes) -> tuple[_Crypt, _Crypt]:
    try:
        from nacl import bindings
        from nacl.exceptions import CryptoError
    except ImportError:
        raise _needs("PyNaCl") from None

    def encrypt(nonce: bytes, data: bytes) -> bytes:
        return bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(data, None, nonce, key)

    def decrypt(nonce: bytes, data: bytes) -> bytes:
        try:
            return bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(data, None, nonce, key)
        except CryptoError as error:
            raise ValueError from error

    return encrypt, decrypt


def _aes_256_gcm(key: bytes) -> tuple[_Crypt, _Crypt]:
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise _needs("cryptography") from None
    aead = AESGCM(key)

    def encrypt(nonce: bytes, data: bytes) -> bytes:
        return aead.encrypt(nonce, data, None)

    def decrypt(nonce: bytes, data: bytes) -> bytes:
        try:
            return aead.decrypt(nonce, data, None)
        except InvalidTag as error:
            raise ValueError from error

    return encrypt, decrypt


ALGORITHMS = {"xchacha20-poly1305": (24, _xchacha20_poly1305), "aes-256-gcm": (12, _aes_256_gcm)}
"""For each its nonce's size, and what makes its functions of a key; the first is the default."""


@dataclass(frozen=True, slots=True)
class Cipher:
    """An algorithm with a key. May be used from several threads.

    :ivar algorithm: its name
    :ivar key_id: that tells the key from others, and gives nothing of it away
    :ivar overhead: bytes by which files become larger
    """

    algorithm: str
    key_id: str
    overhead: int
    _crypt: tuple[_Crypt, _Crypt] = field(repr=False, compare=False)

    @classmethod
    def of(cls, algorithm: str | None, key: str) -> Cipher:
        """The cipher of a key.

        :param algorithm: None for the default
        :param key: 64 hexadecimal digits
        :raises UsageError: there is no such algorithm, the key is none, or a library is not installed
        """
        name = algorithm or next(iter(ALGORITHMS))
        if name not in ALGORITHMS:
            raise UsageError(f"unknown encryption algorithm {name!r}; known are {', '.join(ALGORITHMS)}")
        try:
            raw = bytes.fromhex(key)
        except ValueError:
            raw = b""
        if len(raw) != 32:
            raise UsageError("an encryption key must be 64 hexadecimal digits (256 bits)")
        nonce, make = ALGORITHMS[name]
        return cls(name, hashlib.sha256(raw).hexdigest()[:8], nonce + _TAG, make(raw))

    @property
    def suffix(self) -> bytes:
        """What names of files end in."""
        return f".{self.algorithm}-{self.key_id}".encode("ascii")

    def encrypt(self, data: bytes) -> bytes:
        """What is stored of a file's content."""
        nonce = os.urandom(self.overhead - _TAG)
        return nonce + self._crypt[0](nonce, data)

    def decrypt(self, stored: bytes) -> bytes | None:
        """The content; None if it was changed, or encrypted with another key."""
        size = self.overhead - _TAG
        if len(stored) < self.overhead:
            return None
        try:
            return self._crypt[1](stored[:size], stored[size:])
        except ValueError:
            return None
