"""The fields of tar headers: numbers, checksums, PAX records, sparse maps. Bytes to values, nothing else.

Where tar's many dialects leave room, fields are read as Go's `archive/tar` reads them, because docker, containerd and
their kin do: what they see in a layer is what a container gets.

    >>> number(b"0000644\\0"), number(b"\\x80\\0\\0\\0\\0\\0\\0\\x01")
    (420, 1)
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import TypeAlias
from zlib import adler32

__all__ = [
    "BLOCK",
    "SPECIAL_MAX",
    "FieldError",
    "SparseMap",
    "checked",
    "number",
    "pax_integer",
    "pax_records",
    "pax_sparse_map",
    "pax_time",
    "sparse_map_in_data",
    "sparse_map_in_header",
    "text",
]

BLOCK = 512
SPECIAL_MAX = 1 << 20
"""The most bytes of one extension header or sparse map; Go's and libarchive's limit."""

SparseMap: TypeAlias = "tuple[tuple[int, int], ...]"
"""`(offset, length)` of the parts of a file that are stored, in order; what is not named is a hole."""

_SPARSE_ENTRY = struct.Struct("12s12s")
_IN_HEADER = (386, 4)
_IN_EXTENSION = (0, 21)
_NO_NUL = (b"path", b"linkpath", b"uname", b"gname")


class FieldError(ValueError):
    """A field has a value that it cannot have. Whoever knows the offset makes an `ImageError` of it."""


def text(field: bytes) -> bytes:
    """What stands before the first NUL of a field, or all of it."""
    return field.partition(b"\0")[0]


def number(field: bytes) -> int:
    """A numeric field: octal digits between blanks and NULs, or base 256 when the first bit is set.

    :raises FieldError: it is neither, or beyond 64 bits
    """
    if field[0] & 0x80:
        return _base_256(field)
    return octal(field)


def octal(field: bytes) -> int:
    """:raises FieldError: the field holds no octal number of up to 64 bits"""
    digits = field.strip(b" \0")
    if not digits:
        return 0
    digits = text(digits)
    # isdigit() because int() would take signs, underscores and blanks as well.
    if digits.isdigit():
        try:
            value = int(digits, 8)
        except ValueError:
            value = 1 << 64
        if value < 1 << 63:
            return value
        if value < 1 << 64:
            return value - (1 << 64)
    raise FieldError(f"{field!r} is no octal number")


def _base_256(field: bytes) -> int:
    bits = 8 * len(field) - 1
    value = int.from_bytes(field, "big") & ((1 << bits) - 1)
    negative = field[0] & 0x40
    if negative:
        value ^= (1 << bits) - 1
    if value >> 63:
        raise FieldError(f"number {field.hex()} in base 256 is beyond 64 bits")
    return ~value if negative else value


def checked(block: bytes, field: bytes) -> bool:
    """Whether a header block has the checksum that its field says, bytes taken as unsigned, or else as signed."""
    try:
        wanted = octal(field)
    except FieldError:
        return False
    # Of ASCII the sum is below adler32's modulus, and its low half is that sum, twenty times as fast as sum().
    total = (adler32(block) & 0xFFFF) - 1 if block.isascii() else sum(block)
    if total - sum(field) + 8 * 0x20 == wanted:
        return True
    total = sum(block) - sum(field) + 8 * 0x20
    outside = block[:148] + block[156:]
    return total - 256 * sum(byte >> 7 for byte in outside) == wanted


# PAX records


def pax_integer(value: bytes) -> int:
    """A decimal number with an optional sign.

    :raises FieldError: it is none, or beyond 64 bits
    """
    digits = value[1:] if value[:1] in (b"-", b"+") else value
    if not digits.isdigit() or len(digits) > 64 or not -(1 << 63) <= (parsed := int(value)) < 1 << 63:
        raise FieldError(f"{value[:40]!r} is no decimal number of 64 bits")
    return parsed


def pax_time(value: bytes) -> int:
    """Seconds with a decimal fraction, as nanoseconds; digits beyond the ninth are dropped.

    :raises FieldError: it is no such number
    """
    seconds, _, fraction = value.partition(b".")
    nanoseconds = pax_integer(seconds) * 1_000_000_000
    if not fraction:
        return nanoseconds
    if not fraction.isdigit():
        raise FieldError(f"{value[:40]!r} is no time")
    part = int(fraction[:9].ljust(9, b"0"))
    return nanoseconds - part if value.startswith(b"-") else nanoseconds + part


def pax_records(data: bytes) -> dict[bytes, bytes]:
    """The records of an extended header; a key's last value counts.

    The pairs of sparse format 0.0, which repeat their keys, become the one `GNU.sparse.map` of format 0.1.

    :raises FieldError: a record is malformed
    """
    records: dict[bytes, bytes] = {}
    sparse: list[bytes] = []
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 24)
        length = pax_integer(data[at:space]) if space > 0 else 0
        end = at + length
        if length < 5 or end > len(data) or end <= space + 1 or data[end - 1] != 0x0A:
            raise FieldError("an extended header has a record of wrong length")
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not key or not equals or b"\0" in (value if key in _NO_NUL else key):
            raise FieldError(f"an extended header has the bad record {data[at : min(end, at + 40)]!r}")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            if (key == b"GNU.sparse.offset") == len(sparse) % 2 or b"," in value:
                raise FieldError("the sparse map in an extended header is out of order")
            sparse.append(value)
        else:
            records[key] = value
        at = end
    if sparse:
        records[b"GNU.sparse.map"] = b",".join(sparse)
    return records


# Sparse maps


def _valid(pairs: Iterable[tuple[int, int]], size: int) -> SparseMap:
    last = 0
    kept = []
    for offset, length in pairs:
        if length < 0 or offset < last or offset + length > size:
            raise FieldError("the sparse map overlaps itself or runs past the file's end")
        last = offset + length
        if length:
            kept.append((offset, length))
    return tuple(kept)


def sparse_map_in_header(block: bytes, size: int, more: Callable[[], bytes]) -> SparseMap:
    """The map of an old GNU sparse member.

    :param block: its header
    :param size: of the file
    :param more: gives the next extension block
    :raises FieldError: it is malformed or too long
    """
    pairs: list[tuple[int, int]] = []
    start, count = _IN_HEADER
    blocks = 0
    while True:
        end = start + count * _SPARSE_ENTRY.size
        for offset, length in _SPARSE_ENTRY.iter_unpack(block[start:end]):
            if not offset[0]:
                break
            pairs.append((number(offset), number(length)))
        if not block[end]:
            return _valid(pairs, size)
        blocks += 1
        if blocks * BLOCK >= SPECIAL_MAX:
            raise FieldError("the sparse map is too long")
        block = more()
        start, count = _IN_EXTENSION


def _pairs(numbers: list[bytes]) -> Iterable[tuple[int, int]]:
    values = [pax_integer(item) for item in numbers]
    return zip(values[::2], values[1::2], strict=True)


def pax_sparse_map(records: dict[bytes, bytes], size: int) -> SparseMap:
    """The map of PAX sparse format 0.0 or 0.1.

    :raises FieldError: it is malformed
    """
    count = pax_integer(records.get(b"GNU.sparse.numblocks", b""))
    found = records.get(b"GNU.sparse.map", b"")
    numbers = found.split(b",") if found else []
    if len(numbers) != 2 * count:
        raise FieldError("the sparse map has another length than it says")
    return _valid(_pairs(numbers), size)


def sparse_map_in_data(read: Callable[[int], bytes], stored: int, size: int) -> tuple[SparseMap, int]:
    """The map of PAX sparse format 1.0, and how many bytes it takes at the beginning of the stored data.

    :param read: gives at least one block of the stored data from an offset in it on; nothing where the tar ends
    :param stored: bytes of stored data
    :raises FieldError: it is malformed or too long
    """
    data = b""
    wanted = 1
    counted = False
    while True:
        parts = data.split(b"\n", wanted)
        if len(parts) > wanted:
            if counted:
                break
            count = pax_integer(parts[0])
            if not 0 <= count <= SPECIAL_MAX:
                raise FieldError("the sparse map has a bad number of entries")
            wanted += 2 * count
            counted = True
            continue
        if len(data) >= min(stored, SPECIAL_MAX):
            raise FieldError("the sparse map runs past its data or is too long")
        more = read(len(data))
        if not more:
            raise FieldError("the tar is cut short")
        data += more
    used = len(data) - len(parts[-1])
    used += -used % BLOCK
    if used > stored:
        raise FieldError("the sparse map runs past its data")
    return _valid(_pairs(parts[1:wanted]), size), used
