from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casync_compat.chunker import MAX_CHUNK_SIZE, ChunkSizes, parse_size
from casync_compat.errors import UsageError

# Every row is casync 2's answer to --chunk-size=1:TEXT:128M, read from the index header.
SIZES = [
    ("5", 5),
    ("010", 10),
    ("+5", 5),
    (" 5", 5),
    ("\n5", 5),
    ("\v5", 5),
    ("5 ", 5),
    ("\t5\t", 5),
    ("5B", 5),
    ("5 B", 5),
    ("1K", 1024),
    ("1K512", 1536),
    ("1K 512B", 1536),
    ("1K512 ", 1536),
    ("1B2", 3),
    ("+1K+2", 1026),
    ("1K\t+2 B", 1026),
    ("1K\v2", 1026),
    ("5 K 3", 5123),
    ("0K1", 1),
    ("1M1K1B1", 1049602),
    ("1.5K", 1536),
    ("1.5K1", 1537),
    ("1.9", 1),
    ("2.7B1", 3),
    ("5.", 5),
    ("5.K", 5120),
    ("5. K", 5120),
    ("0.0001M", 104),
    ("0.1M", 104857),
    ("0.3M", 314572),
    ("127.999999999M", 134217727),
    ("0.0000001P", 112589990),
    ("1.18446744073709551615K", 1212),
    ("1.0000000000000000000000000000000000000000000000000001K", 1024),
    ("128M", 134217728),
]

NOT_SIZES = [
    *(
        "",
        " ",
        "+",
        "++1",
        "-5",
        "- 5",
        "-0",
        ".5K",
        "1k",
        "1KB",
        "1KB512",
        "64KB",
        "1e3",
        "0x400",
        "１",
        "5;",
    ),
    *("5\n", "5\r", "5B ", "1K ", "1 2", "1K1M", "1M1M", "1K0.5K", "5.5.5K", "1..5", "1. 5K", "1.+5K", "1K+"),
    *(
        "16E",
        "15.5E",
        "99999999999999999999",
        "18446744073709551615B1",
        "1.18446744073709551616K",
        "9" * 5000,
    ),
]


NOT_CHUNK_SIZES = [
    *(
        "",
        "AUTO",
        " auto",
        "default",
        "0",
        "129M",
        "1:2",
        "4:4",
        "64K:",
        "1:2:3:4",
        "::",
        "1::3",
        "1: :3",
        "1:2:",
    ),
    *("auto:auto:auto", "2:1:3", "1:3:2", "4:2:1", "0:1:1", "1:1:129M"),
]


@pytest.mark.parametrize(("text", "size"), SIZES)
def test_sizes_read_as_casync_reads_them(text: str, size: int) -> None:
    """A size that casync 2 takes has the same value here."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", NOT_SIZES, ids=lambda text: repr(text[:30]))
def test_what_casync_refuses_is_refused(text: str) -> None:
    """A size that casync 2 refuses is a usage error, however it is malformed."""
    with pytest.raises(UsageError):
        parse_size(text)


def test_sizes_up_to_64_bits() -> None:
    """Sizes are 64-bit numbers, not only those that a chunk may have."""
    assert parse_size("15E") == 15 * 2**60
    assert parse_size("18446744073709551615") == 2**64 - 1


@given(st.integers(0, 2**64 - 1))
def test_any_number_reads_back(size: int) -> None:
    """A number of bytes, plain or split over all suffixes, is read as itself."""
    assert parse_size(str(size)) == size
    parts, rest = "", size
    for rank, suffix in enumerate("EPTGMKB"):
        count, rest = divmod(rest, 1024 ** (6 - rank))
        parts += f"{count}{suffix}"
    assert parse_size(parts) == size


# casync 2's answers to --chunk-size=TEXT, read from the index header.
@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("auto", (16384, 65536, 262144)),
        ("1", (1, 1, 4)),
        ("3", (1, 3, 12)),
        ("7", (1, 7, 28)),
        ("256K", (65536, 262144, 1048576)),
        ("33554433", (8388608, 33554433, 134217728)),
        ("128M", (33554432, 134217728, 134217728)),
        ("64K:64K:64K", (65536, 65536, 65536)),
        (" 1 : 2 : 3 ", (1, 2, 3)),
    ],
)
def test_chunk_sizes_read_as_casync_reads_them(text: str, sizes: tuple[int, int, int]) -> None:
    """One average or three sizes give the sizes that casync 2 writes into an index."""
    assert ChunkSizes.parse(text) == ChunkSizes(*sizes)


@pytest.mark.parametrize("text", NOT_CHUNK_SIZES)
def test_bad_chunk_sizes_are_refused(text: str) -> None:
    """Forms and orders that casync 2 refuses are usage errors."""
    with pytest.raises(UsageError):
        ChunkSizes.parse(text)


def test_the_default_is_auto() -> None:
    """Sizes that nobody chose are casync's."""
    assert ChunkSizes() == ChunkSizes.parse("auto") == ChunkSizes.from_average(65536)


@given(st.lists(st.integers(1, MAX_CHUNK_SIZE), min_size=3, max_size=3).map(sorted))
def test_sizes_print_as_they_are_read(sizes: list[int]) -> None:
    """str() is a value for --chunk-size= that gives the same sizes."""
    assert ChunkSizes.parse(str(ChunkSizes(*sizes))) == ChunkSizes(*sizes)


@pytest.mark.parametrize("sizes", [(0, 1, 1), (-1, 1, 1), (2, 1, 2), (1, 3, 2), (1, 1, MAX_CHUNK_SIZE + 1)])
def test_sizes_out_of_order_or_range_cannot_be_made(sizes: tuple[int, int, int]) -> None:
    """There is no ChunkSizes value that an index could not hold."""
    with pytest.raises(UsageError):
        ChunkSizes(*sizes)


@pytest.mark.parametrize(
    ("text", "discriminator"),
    [
        ("64K", 49535),
        ("1024", 768),
        ("256", 192),
        ("16K", 12318),
        ("256K", 202440),
        ("1M", 886711),
        ("4M", 5721670),
        ("1:1000:100000", 750),
        ("40:50:60", 40),
        ("1000:1000:2000", 1000),
        ("8M", 4 * 8388608),  # the quotient lies above the maximum
        ("9M", 4 * 9437184),  # the denominator is negative
        ("128M", 128 * 1024 * 1024),
        ("1", 1),
    ],
)
def test_discriminator(text: str, discriminator: int) -> None:
    """The discriminator follows casync's formula, within minimum and maximum, beyond its pole too."""
    assert ChunkSizes.parse(text).discriminator == discriminator


@given(st.integers(1, MAX_CHUNK_SIZE))
def test_discriminator_stays_between_minimum_and_maximum(avg: int) -> None:
    """Whatever the average, the discriminator is a number that the cut rule can use."""
    sizes = ChunkSizes.from_average(avg)
    assert sizes.min <= sizes.discriminator <= sizes.max


def test_fixed_only_when_all_three_agree() -> None:
    """Only three equal sizes switch the hash off."""
    assert ChunkSizes(1000, 1000, 1000).fixed
    assert not ChunkSizes(999, 1000, 1000).fixed
    assert not ChunkSizes(1000, 1000, 1001).fixed
