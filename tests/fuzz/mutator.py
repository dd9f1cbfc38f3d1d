"""Changes bytes in the ways that parsers are afraid of, the same way for the same random numbers.

    >>> mutate(b"abcdef", random.Random(1), others=[b"xyz"], tokens=[b"\\0" * 8])

It knows nothing of a format but the tokens that it is given. What a change would break without need (a checksum, the
length of a compressed frame) a target puts right afterwards, see `targets.Target.repair`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

__all__ = ["INTERESTING", "mutate"]

INTERESTING = tuple(
    sorted(
        {0, 1, 2, 15, 16, 17, 255, 256, 4095, 4096, 4097, 65534, 65535, 65536}
        | {(1 << bits) + delta for bits in (7, 15, 31, 32, 47, 62, 63) for delta in (-1, 0, 1)}
        | {(1 << 64) - delta for delta in (1, 2, 16, 4096)}
    )
)
"""Numbers at which sizes, offsets and counts turn over."""

_Change = Callable[[bytearray, random.Random, Sequence[bytes], Sequence[bytes]], None]


def _somewhere(data: bytearray, chance: random.Random) -> int:
    """An offset, at a border of eight bytes as often as not: fields are there."""
    at = chance.randrange(len(data)) if data else 0
    return at & ~7 if chance.random() < 0.5 else at


def _flip(data: bytearray, chance: random.Random, others: Sequence[bytes], tokens: Sequence[bytes]) -> None:
    if data:
        data[_somewhere(data, chance)] ^= 1 << chance.randrange(8)


def _set(data: bytearray, chance: random.Random, others: Sequence[bytes], tokens: Sequence[bytes]) -> None:
    if data:
        data[chance.randrange(len(data))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))


def _number(data: bytearray, chance: random.Random, others: Sequence[bytes], tokens: Sequence[bytes]) -> None:
    width = chance.choice((1, 2, 4, 8, 8, 8))
    at = _somewhere(data, chance)
    value = chance.choice(INTERESTING) & ((1 << 8 * width) - 1)
    data[at : at + width] = value.to_bytes(width, chance.choice(("little", "little", "big")))


def _near(data: bytearray, chance: random.Random, others: Sequence[bytes], tokens: Sequence[bytes]) -> None:
    """A number that stands there, a little larger or smaller."""
    width = chance.choice((2, 4, 8, 8))
    at = _somewhere(data, chance)
    value = int.from_bytes(data[at : at + width], "little") + chance.choice((-64, -16, -8, -1, 1, 8, 16, 64))
    data[at : at + width] = (value & ((1 << 8 * width) - 1)).to_bytes(width, "little")


def _delete(data: bytearray, chance: random.Random, others: Sequence[bytes], tokens: Sequence[bytes]) -> None:
    at = _somewhere(data, chance)
    del data[at : at + chance.choice((1, 2, 8, 16, 40, 48, 64, 512))]


def _insert(data: bytearray, chance: random.Random, others: Sequence[bytes], tokens: Sequence[bytes]) -> None:
    at = _somewhere(data, chance)
    data[at:at] = chance.choice(
        (chance.randbytes(chance.randrange(1, 20)), bytes(8), bytes(512), b"\n", b"/")
    )


def _double(data: bytearray, chance: random.Random, others: Sequence[bytes], tokens: Sequence[bytes]) -> None:
    at = _somewhere(data, chance)
    piece = data[at : at + chance.choice((1, 8, 16, 40, 48, 64, 512))]
    to = _somewhere(data, chance)
    data[to:to] = piece


def _exchange(
    data: bytearray, chance: random.Random, others: Sequence[bytes], tokens: Sequence[bytes]
) -> None:
    size = chance.choice((1, 8, 16, 24, 40))
    first, second = sorted((_somewhere(data, chance), _somewhere(data, chance)))
    if first + size <= second and second + size <= len(data):
        data[first : first + size], data[second : second + size] = (
            data[second : second + size],
            data[first : first + size],
        )


def _token(data: bytearray, chance: random.Random, others: Sequence[bytes], tokens: Sequence[bytes]) -> None:
    if tokens:
        token = chance.choice(tokens)
        at = _somewhere(data, chance)
        data[at : at + chance.choice((0, len(token)))] = token


def _splice(data: bytearray, chance: random.Random, others: Sequence[bytes], tokens: Sequence[bytes]) -> None:
    """The front of this and the back of another."""
    if others:
        other = chance.choice(others)
        at = _somewhere(data, chance)
        start = chance.choice((at, chance.randrange(len(other) + 1)))
        data[at:] = other[start:]


def _cut(data: bytearray, chance: random.Random, others: Sequence[bytes], tokens: Sequence[bytes]) -> None:
    del data[_somewhere(data, chance) :]


_CHANGES: tuple[_Change, ...] = (
    *(_flip, _set, _set, _number, _number, _near, _near, _delete, _insert, _double, _exchange),
    *(_token, _token, _token, _splice, _cut),
)


def mutate(
    data: bytes,
    chance: random.Random,
    *,
    others: Sequence[bytes] = (),
    tokens: Sequence[bytes] = (),
    largest: int = 1 << 16,
) -> bytes:
    """Some changes of `data`, mostly one.

    :param others: inputs of the same kind, to take parts of
    :param tokens: byte strings that mean something to the parser
    :param largest: bytes that the result has at most
    """
    changed = bytearray(data)
    while True:
        chance.choice(_CHANGES)(changed, chance, others, tokens)
        if chance.random() < 0.5:
            return bytes(changed[:largest])
