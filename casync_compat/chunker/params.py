"""Chunk size parameters: reading them, checking them, and the discriminator that follows from them.

Rules from casync's ``src/cachunker.c`` (``ca_chunker_set_size``), ``src/parse-util.c`` (``parse_size``) and
``src/casync-tool.c`` (``--chunk-size=``), each compared with the answers of casync 2.

    >>> ChunkSizes.parse("256K")
    ChunkSizes(min=65536, avg=262144, max=1048576)
    >>> ChunkSizes().discriminator
    49535
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from casync_compat._layouts import MAX_CHUNK_SIZE
from casync_compat.errors import UsageError

__all__ = ["MAX_CHUNK_SIZE", "ChunkSizes", "parse_size"]

_DEFAULT_AVERAGE = 64 * 1024
_UINT64_MAX = 2**64 - 1

# Largest first: a later part of a sum has to have a smaller suffix than the part before it. The part without a suffix
# counts as the smallest of all, so "1B2" is 3 but "1 2" is refused.
_SUFFIXES = "EPTGMKB"
_FACTORS = {"": 1} | {suffix: 1024 ** (6 - rank) for rank, suffix in enumerate(_SUFFIXES)}

# C's white space and one "+" before the number (strtoull), but only blanks and tabs behind it.
_PART = r"[ \t\n\v\f\r]*\+?([0-9]+)(?:\.([0-9]*))?[ \t]*([EPTGMKB]?)"


def parse_size(text: str) -> int:
    """Bytes written the way casync takes them: ``65536``, ``64K``, ``1.5M``, ``1K512``, ``1M 16K 3B``.

    Suffixes are powers of 1024 in upper case only. A fraction is scaled in IEEE doubles and truncated.

    :raises UsageError: not of that form, or 2**64 and more
    """
    total = 0
    position = 0
    allowed = _SUFFIXES
    while True:
        part = re.match(_PART, text[position:])
        if part is None or part[3] not in allowed:
            raise _not_a_size(text)
        total += _scale(text, part[1], part[2] or "", _FACTORS[part[3]])
        if total > _UINT64_MAX:
            raise _too_large(text)
        position += part.end()
        if position == len(text):
            return total
        if not part[3]:
            raise _not_a_size(text)
        allowed = allowed[allowed.index(part[3]) + 1 :]


def _scale(text: str, digits: str, decimals: str, factor: int) -> int:
    whole = _uint64(text, digits)
    # One division a digit, as upstream does it: dividing once by a power of ten rounds differently.
    fraction = float(_uint64(text, decimals))
    for _ in decimals:
        fraction /= 10
    if whole + (fraction > 0) > _UINT64_MAX // factor:
        raise _too_large(text)
    return whole * factor + int(fraction * factor)


def _uint64(text: str, digits: str) -> int:
    # Counted before it is converted: Python refuses numbers of some thousand digits with an error of its own.
    digits = digits.lstrip("0") or "0"
    if len(digits) > 20 or int(digits) > _UINT64_MAX:
        raise _too_large(text)
    return int(digits)


def _not_a_size(text: str) -> UsageError:
    return UsageError(
        f"cannot read {text!r} as a size; write a number and E, P, T, G, M, K or B, such as 64K"
    )


def _too_large(text: str) -> UsageError:
    return UsageError(f"size {text!r} does not fit in 64 bits")


@dataclass(frozen=True, slots=True)
class ChunkSizes:
    """Minimum, average and maximum chunk size in bytes; without arguments casync's default.

    :ivar min: no cut before this length, except at the end of the data
    :ivar avg: what the cuts aim at on random data
    :ivar max: a cut at this length at the latest
    :raises UsageError: unless 1 <= min <= avg <= max <= 128 MiB
    """

    min: int = _DEFAULT_AVERAGE // 4
    avg: int = _DEFAULT_AVERAGE
    max: int = _DEFAULT_AVERAGE * 4

    def __post_init__(self) -> None:
        if not 1 <= self.min <= self.avg <= self.max <= MAX_CHUNK_SIZE:
            raise UsageError(
                f"bad chunk sizes {self}: minimum, average and maximum must be at least 1, at most {MAX_CHUNK_SIZE}, "
                "and in that order"
            )

    def __str__(self) -> str:
        """As ``--chunk-size=`` takes it."""
        return f"{self.min}:{self.avg}:{self.max}"

    @classmethod
    def from_average(cls, avg: int) -> ChunkSizes:
        """The sizes casync derives from an average alone: a quarter of it, and four times it.

        :raises UsageError: `avg` is not within 1 .. 128 MiB
        """
        if not 1 <= avg <= MAX_CHUNK_SIZE:
            raise UsageError(
                f"bad average chunk size {avg}: it must be at least 1 and at most {MAX_CHUNK_SIZE}"
            )
        return cls(max(avg // 4, 1), avg, min(avg * 4, MAX_CHUNK_SIZE))

    @classmethod
    def parse(cls, text: str) -> ChunkSizes:
        """The value of ``--chunk-size=``: ``auto``, ``AVG`` or ``MIN:AVG:MAX``.

        :raises UsageError: not of one of these forms, or sizes out of range
        """
        if text == "auto":
            return cls()
        parts = text.split(":")
        if len(parts) == 1:
            return cls.from_average(parse_size(text))
        if len(parts) != 3:
            raise UsageError(f"cannot read chunk sizes {text!r}; write auto, AVG or MIN:AVG:MAX")
        smallest, average, largest = map(parse_size, parts)
        return cls(smallest, average, largest)

    @property
    def fixed(self) -> bool:
        """Whether all chunks have one length, so that no hash is computed."""
        return self.min == self.avg == self.max

    @property
    def discriminator(self) -> int:
        """The d of the cut rule ``hash % d == d - 1``, within min .. max.

        The line through `avg` makes up for the shortening that a hard maximum causes. It crosses zero near 9.3 MB;
        beyond, upstream casts a negative double to an unsigned integer, which leaves the maximum (observed with
        casync 2 for averages of 8 to 16 MiB).
        """
        slope = -1.42888852e-7 * self.avg + 1.33237515
        if slope <= 0:
            return self.max
        return min(max(int(self.avg / slope), self.min), self.max)
