"""fs-verity digests, computed: what the kernel says of a file that it lets nobody change.

    >>> verity_digest([(0, b"hello")], size=5)

Of version 1, with SHA-256, blocks of 4096 bytes and no salt (Linux Documentation/filesystems/fsverity.rst, "Merkle
tree" and "fs-verity descriptor"), as composefs has them. `casync_compat.oci.rootfs.verity` asks the kernel for its own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from hashlib import sha256

__all__ = ["verity_digest"]

_BLOCK = 4096
_DESCRIPTOR = struct.Struct("<BBBBIQ64s176x")
_VERSION, _SHA256, _BLOCK_BITS = 1, 1, 12
_SIZE = 32
_ZERO = sha256(bytes(_BLOCK)).digest()


def verity_digest(pieces: Iterable[tuple[int, bytes]], size: int) -> bytes:
    """The SHA-256 by which fs-verity knows contents.

    :param pieces: with the offset of each, in order; what is not given is zeros
    :param size: of the contents, in bytes
    """
    level = b"".join(_hashes(pieces, size))
    while len(level) > _SIZE:
        blocks = (level[at : at + _BLOCK].ljust(_BLOCK, b"\0") for at in range(0, len(level), _BLOCK))
        level = b"".join(sha256(block).digest() for block in blocks)
    return sha256(_DESCRIPTOR.pack(_VERSION, _SHA256, _BLOCK_BITS, 0, 0, size, level)).digest()


def _hashes(pieces: Iterable[tuple[int, bytes]], size: int) -> Iterator[bytes]:
    """Hashes of all blocks, the last filled with zeros."""
    rest = bytearray()
    at = 0  # where `rest` begins
    for offset, data in pieces:
        gap = offset - at - len(rest)
        if gap:
            fill = min(gap, -len(rest) % _BLOCK)
            rest += bytes(fill)
            if gap > fill:
                yield from _whole(rest)
                at += len(rest)
                rest.clear()
                blocks, fill = divmod(gap - fill, _BLOCK)
                yield _ZERO * blocks
                at += blocks * _BLOCK
                rest += bytes(fill)
        rest += data
        whole = len(rest) // _BLOCK * _BLOCK
        yield from _whole(rest[:whole])
        del rest[:whole]
        at += whole
    if rest:
        rest += bytes(-len(rest) % _BLOCK)
        yield from _whole(rest)
        at += len(rest)
    if at < size:
        yield _ZERO * -(-(size - at) // _BLOCK)


def _whole(data: bytearray) -> Iterator[bytes]:
    view = memoryview(data)
    for start in range(0, len(data), _BLOCK):
        yield sha256(view[start : start + _BLOCK]).digest()
