"""SHA-512/256 of several buffers: the Python twin of `_sha512.c`, one buffer after the other with hashlib."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["LANES", "sha512_256"]

LANES = 1
"""Buffers that are hashed at the same time."""


def sha512_256(buffers: Iterable[ReadableBuffer], /) -> list[bytes]:
    """The digests of several buffers, in order.

    :raises ValueError: this Python's OpenSSL lacks the function
    """
    return [hashlib.new("sha512_256", buffer).digest() for buffer in buffers]
