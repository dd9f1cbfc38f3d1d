"""Extended attributes as an EROFS image has them: behind their inode, or once for all that share them.

    >>> shared = SharedAttributes(Counter(pairs of all inodes))
    >>> shared.size_of(node.xattrs), shared.area         # while places are given
    >>> shared.base = 512                                # where the area begins in its block
    >>> shared.body(node.xattrs)

Which names the format knows is in `casync_compat.oci.erofs.node`.
"""

from __future__ import annotations

from collections import Counter

from casync_compat import _layouts as layouts
from casync_compat.oci.erofs.node import split
from catar.structs import Fields

__all__ = ["SharedAttributes", "hash_name"]

Attributes = tuple[tuple[bytes, bytes], ...]

_BODY = Fields(*layouts.EROFS_XATTR_BODY)
_ENTRY = Fields(*layouts.EROFS_XATTR)
_write_body = _BODY.writer("filter", "shared", "zero")
_write_entry = _ENTRY.writer("name_size", "prefix", "value_size")
_WORD = 4
_MOST_SHARED = 128
"""In one inode; the format has 255, composefs gives 128."""
_ALL = 0xFFFFFFFF
# xxHash (https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md)
_P1, _P2, _P3, _P4, _P5 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F, 0x165667B1


def _turn(value: int, bits: int) -> int:
    value &= _ALL
    return value << bits & _ALL | value >> 32 - bits


def hash_name(name: bytes, seed: int) -> int:
    """XXH32 of a name, which is what the kernel's filter of names goes by."""
    at, size = 0, len(name)
    if size >= 16:
        lanes = [seed + _P1 + _P2, seed + _P2, seed, seed - _P1]
        while at + 16 <= size:
            for lane in range(4):
                word = int.from_bytes(name[at : at + 4], "little")
                lanes[lane] = _turn(lanes[lane] + word * _P2, 13) * _P1
                at += 4
        turns = zip(lanes, (1, 7, 12, 18), strict=True)
        value = sum(_turn(lane, bits) for lane, bits in turns)
    else:
        value = seed + _P5
    value += size
    while at + 4 <= size:
        value = _turn(value + int.from_bytes(name[at : at + 4], "little") * _P3, 17) * _P4
        at += 4
    for byte in name[at:]:
        value = _turn(value + byte * _P5, 11) * _P1
    value &= _ALL
    value = (value ^ value >> 15) * _P2 & _ALL
    value = (value ^ value >> 13) * _P3 & _ALL
    return value ^ value >> 16


class SharedAttributes:
    """The attributes of an image: which are shared, and where they are.

    :param counts: how often each name and value occurs

    :ivar area: those that are shared, as they are written
    :ivar size: of `area`, in bytes
    :ivar base: where the area begins in its block; to be set before `body` is asked
    """

    def __init__(self, counts: Counter[tuple[bytes, bytes]]) -> None:
        self.base = 0
        self._bits: dict[bytes, int] = {}
        self._bodies: dict[Attributes, bytes] = {}
        self._cuts: dict[Attributes, tuple[list[int], bytes]] = {}
        pairs = [pair for pair, count in counts.items() if count > 1]
        pairs.sort(key=lambda pair: (pair[0], len(pair[1]), pair[1]), reverse=True)
        self._at: dict[tuple[bytes, bytes], int] = {}
        entries = []
        at = 0
        for pair in pairs:
            self._at[pair] = at
            entries.append(_entry(*pair))
            at += len(entries[-1])
        self.area = b"".join(entries)
        self.size = at

    def _cut(self, xattrs: Attributes) -> tuple[list[int], bytes]:
        """Places of those that are shared, and the others as they are written."""
        known = self._cuts.get(xattrs)
        if known is None:
            places: list[int] = []
            alone = b""
            for pair in xattrs:
                at = self._at.get(pair)
                if at is None or len(places) == _MOST_SHARED:
                    alone += _entry(*pair)
                else:
                    places.append(at)
            known = self._cuts[xattrs] = places, alone
        return known

    def size_of(self, xattrs: Attributes) -> int:
        """Bytes that attributes take behind their inode."""
        if not xattrs:
            return 0
        places, alone = self._cut(xattrs)
        return _BODY.size + _WORD * len(places) + len(alone)

    def body(self, xattrs: Attributes) -> bytes:
        """What stands behind an inode with these attributes."""
        if not xattrs:
            return b""
        known = self._bodies.get(xattrs)
        if known is None:
            places, alone = self._cut(xattrs)
            numbers = b"".join(((self.base + at) // _WORD).to_bytes(_WORD, "little") for at in places)
            known = self._bodies[xattrs] = (
                _write_body(self._filter(xattrs), len(places), b"") + numbers + alone
            )
        return known

    def _filter(self, xattrs: Attributes) -> int:
        there = 0
        for name, _ in xattrs:
            bit = self._bits.get(name)
            if bit is None:
                prefix, rest = _split(name)
                bit = self._bits[name] = 1 << (hash_name(rest, layouts.EROFS_XATTR_SEED + prefix) & 31)
            there |= bit
        return _ALL & ~there


def _split(name: bytes) -> tuple[int, bytes]:
    found = split(name)
    if found is None:
        raise ValueError(f"EROFS has no extended attribute {name!r}")
    return found


def _entry(name: bytes, value: bytes) -> bytes:
    prefix, rest = _split(name)
    whole = _write_entry(len(rest), prefix, len(value)) + rest + value
    return whole + bytes(-len(whole) % _WORD)
