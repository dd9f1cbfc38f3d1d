"""Whether a chunk file is whole, as far as a few bytes of it tell: what says "it is there" and reads no chunk.

What a loss of power, a full disk or a broken copy leave behind - empty, cut, zeros, something else - is found out by
the size of a plain chunk, the block headers of a zstd frame (casync's frames do not say their size), the footer of an
xz stream, the trailer of a gzip member. Damage inside is not: only the chunk's id tells that, and only to whoever reads
it all.

    >>> looks_whole(frame[:HEAD], lambda offset, size: frame[offset : offset + size], len(frame), len(raw), packed=True)
    True
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

__all__ = ["HEAD", "ReadRange", "looks_whole"]

ReadRange: TypeAlias = Callable[[int, int], bytes | None]
"""Bytes of the file from an offset, at most so many; None when the file is gone."""

HEAD = 64
"""Bytes of a file's beginning that mostly are enough."""
_XZ_TAIL = 64
_ZSTD_BLOCK_MAX = 128 << 10
"""RFC 8878 section 3.1.1.2.4: no block is larger, before or after."""


def looks_whole(head: bytes, read: ReadRange, stored: int, size: int | None, *, packed: bool) -> bool | None:
    """Whether a file may be a whole chunk; None where that cannot be told without its size.

    :param head: its first `HEAD` bytes
    :param read: of the file
    :param stored: its size
    :param size: of the chunk, where it is known
    :param packed: whether it is the compressed form
    """
    if stored == 0:
        return False
    if not packed:
        return None if size is None else stored == size
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return _zstd(read, head, stored, size)
    if head.startswith(b"\xfd7zXZ\x00"):
        return _xz(read, head, stored, size)
    if head.startswith(b"\x1f\x8b\x08"):
        trailer = (read(stored - 8, 8) or b"") if stored >= 18 else b""
        if size is None and len(trailer) == 8:
            return None
        return int.from_bytes(trailer[4:], "little") == size
    return False


def _zstd(read: ReadRange, head: bytes, stored: int, size: int | None) -> bool:
    """RFC 8878, section 3.1.1: the blocks follow each other to the very end of the file."""
    frame = _zstd_header(head)
    if frame is None:
        return False
    pos, checksum, declared = frame
    if size is not None and declared is not None and declared != size:
        return False
    least = most = 0
    while True:
        header = head[pos : pos + 3] if pos + 3 <= len(head) else read(pos, 3) or b""
        if len(header) < 3:
            return False
        word = int.from_bytes(header, "little")
        kind, length = word >> 1 & 3, word >> 3
        if kind == 3 or length > _ZSTD_BLOCK_MAX:
            return False
        pos += 4 if kind == 1 else 3 + length
        most += _ZSTD_BLOCK_MAX if kind == 2 else length
        least += 0 if kind == 2 else length
        if pos + checksum > stored:
            return False
        if word & 1:
            return pos + checksum == stored and most > 0 and (size is None or least <= size <= most)


def _zstd_header(head: bytes) -> tuple[int, int, int | None] | None:
    """Where the first block is, bytes of the checksum, the size that the frame declares; None for a bad one.

    A frame that wants a dictionary is bad: chunks are stored without.
    """
    if len(head) < 5 or head[4] & 0b1011:
        return None
    descriptor = head[4]
    single = descriptor >> 5 & 1
    at = 5 + (1 - single)
    width = (single, 2, 4, 8)[descriptor >> 6]
    if len(head) < at + width:
        return None
    declared = int.from_bytes(head[at : at + width], "little") + (256 if width == 2 else 0)
    return at + width, descriptor & 4, declared if width else None


def _xz(read: ReadRange, head: bytes, stored: int, size: int | None) -> bool:
    """The .xz file format, sections 2.1.2 and 4: the footer leads to the index, which says what is in the stream."""
    from binascii import crc32

    if stored < 32 or stored % 4:
        return False
    tail = read(max(0, stored - _XZ_TAIL), _XZ_TAIL) or b""
    footer = tail[-12:]
    if footer[10:] != b"YZ" or footer[8:10] != head[6:8] or crc32(footer[4:10]) != _number(footer[:4]):
        return False
    length = 4 * (_number(footer[4:8]) + 1)
    index = tail[-12 - length : -12]
    if len(index) < length:
        return True  # of many blocks, which casync does not write
    if crc32(index[:-4]) != _number(index[-4:]):
        return False
    if index[:2] != b"\0\1":
        return index[1] != 0
    unpadded, at = _varied(index, 2)
    inside, at = _varied(index, at)
    return 12 + -(-unpadded // 4) * 4 + length + 12 == stored and (size is None or inside == size)


def _varied(data: bytes, at: int) -> tuple[int, int]:
    """A number of variable length, and where it ends (section 1.2)."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")
