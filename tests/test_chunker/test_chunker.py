from __future__ import annotations

import hashlib
import random
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casync_compat.chunker import Chunker, ChunkSizes
from casync_compat.chunker import kernel as _python
from casync_compat.errors import UsageError

try:
    from casync_compat.chunker import _kernel
except ImportError:
    _kernel = None  # type: ignore[assignment]

TWINS = pytest.mark.parametrize(
    "native",
    [
        False,
        pytest.param(True, marks=pytest.mark.skipif(_kernel is None, reason="the kernel is not compiled")),
    ],
    ids=lambda native: "native" if native else "python",
)
SCANS = pytest.mark.parametrize(
    "kernel",
    [
        _python,
        pytest.param(_kernel, marks=pytest.mark.skipif(_kernel is None, reason="the kernel is not compiled")),
    ],
    ids=["python", "native"],
)

# What casync 2 does to the blob below: --chunk-size=, number of chunks, the first ends, SHA-256 of all ends as LE64.
GOLDEN = [
    (
        "auto",
        11,
        [31199, 74101, 191274, 215635],
        "d6f499794f010d8b5d6392e1c25a562c66d974500b8ca77e690bfccfc6e5e658",
    ),
    (
        "1024",
        1005,
        [1068, 1609, 2119, 4369],
        "52d02510f085be8ee312908c6e38efcd2d34c28eae288761decacd5ea1f73d3b",
    ),
    (
        "64:256:1024",
        4096,
        [216, 1068, 1196],
        "e280262a58793191d8c3fb192f3924d60c97cd5a0aac60708a592b58084f2f16",
    ),
    ("16384", 63, [27795, 39834, 58393], "dc671ee5bdc4e3ffc4dc34a9399399affedc4979f84f44d9e4384e8cd6904e36"),
    (
        "1:1000:100000",
        1331,
        [532, 1062, 1402],
        "76b78c3830c6b86ece3ea63869a32ede1847bd30704d9bb9a4912f4bad099e33",
    ),
    (
        "40:50:60",
        18000,
        [58, 118, 178, 234, 284],
        "0ab0f7da7019ddc240dbd40bf971ded1b2add6695e7970743d302f259a1ef95e",
    ),
    (
        "1000:1000:1000",
        1049,
        [1000, 2000, 3000],
        "f8b612387e31873c82088386138f5e9944429a829f7b6a8a38ab3db7a67c7103",
    ),
    (
        "500:1000:1000",
        1220,
        [532, 1062, 2062],
        "380faff5631e273e3244aaf525500e32345dc92b649a8d76a65756a67a2a2f2f",
    ),
    (
        "1000:1000:2000",
        641,
        [1441, 3441, 5441],
        "ededba8c8d900332d8a6d55acc9e4916246c9789fd858816b956587473a9e385",
    ),
    (
        "256K",
        6,
        [206351, 351852, 707116, 866672],
        "8e0750dc976f2fb21aa5b40af10c3bcfa92dce39cae973dfc340afd3e1dc860e",
    ),
]


@pytest.fixture(scope="module")
def blob() -> bytes:
    """1 MiB of SHA-256 digests of counters."""
    data = b"".join(hashlib.sha256(struct.pack("<I", i)).digest() for i in range(32768))
    assert (
        hashlib.sha256(data).hexdigest() == "f443f5f87314e70000f7cc4715f041d19ba44748d0f705839735ed4cd7c1383c"
    )
    return data


@st.composite
def chunk_sizes(draw: st.DrawFn) -> ChunkSizes:
    """Sizes for short data that casync can keep: maxima from 48, or fixed ones."""
    if draw(st.booleans()):
        low, avg, high = sorted(draw(st.lists(st.integers(1, 400), min_size=3, max_size=3)))
        return ChunkSizes(low, avg, max(high, 48))
    size = draw(st.integers(1, 400))
    return ChunkSizes(size, size, size)


@st.composite
def blobs(draw: st.DrawFn) -> bytes:
    """Some kilobytes of noise, runs and repetitions; long enough for many chunks, cheap to shrink."""
    parts = draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1500), st.integers(0, 2**32)), max_size=6)
    )
    made = b""
    for kind, length, seed in parts:
        noise = random.Random(seed).randbytes(length)
        made += (noise, bytes([seed & 255]) * length, noise[:7] * (length // 7))[kind]
    return made


@TWINS
@pytest.mark.parametrize(("sizes", "count", "first", "sha256"), GOLDEN, ids=[row[0] for row in GOLDEN])
def test_cuts_where_casync_cuts(
    blob: bytes, native: bool, sizes: str, count: int, first: list[int], sha256: str
) -> None:
    """Every chunk end equals the one in the index that casync 2 wrote for the same bytes."""
    ends = [end for _, end in Chunker(ChunkSizes.parse(sizes), native=native).split(blob)]
    assert len(ends) == count
    assert ends[: len(first)] == first
    assert hashlib.sha256(struct.pack(f"<{count}Q", *ends)).hexdigest() == sha256


@TWINS
@given(sizes=chunk_sizes(), data=blobs(), cut=st.integers(1, 700))
def test_pieces_give_the_same_cuts_as_the_whole(
    native: bool, sizes: ChunkSizes, data: bytes, cut: int
) -> None:
    """A stream in pieces of any length, the unfinished chunk carried over, is cut like the stream at once."""
    chunker = Chunker(sizes, native=native)
    ends: list[int] = []
    carry, base = b"", 0
    for start in range(0, len(data), cut):
        buffer = carry + data[start : start + cut]
        found = chunker.cuts(buffer, 0, len(buffer), scanned=len(carry))
        ends += [base + end for end in found]
        used = found[-1] if found else 0
        carry, base = buffer[used:], base + used
    assert ends == chunker.cuts(data, 0, len(data))
    assert carry == data[base:]


@TWINS
@given(sizes=chunk_sizes(), data=blobs(), offset=st.integers(0, 3000))
def test_chunks_follow_from_their_start_alone(
    native: bool, sizes: ChunkSizes, data: bytes, offset: int
) -> None:
    """What lies in front of `begin` and behind `end` has no influence, and ends are offsets in the whole buffer."""
    chunker = Chunker(sizes, native=native)
    padded = b"\xa5" * offset + data + b"\x5a" * 100
    expected = [end + offset for end in chunker.cuts(data, 0, len(data))]
    assert chunker.cuts(memoryview(padded), offset, offset + len(data)) == expected


@TWINS
@given(sizes=chunk_sizes(), data=blobs())
def test_chunks_cover_the_data_within_the_sizes(native: bool, sizes: ChunkSizes, data: bytes) -> None:
    """Chunks follow each other without gap; all but the last have lengths from max(min, 48 unless fixed) to max."""
    chunks = Chunker(sizes, native=native).split(data)
    assert b"".join(data[start:end] for start, end in chunks) == data
    lengths = [end - start for start, end in chunks]
    shortest = sizes.min if sizes.fixed else max(sizes.min, 48)
    assert all(shortest <= length <= sizes.max for length in lengths[:-1])
    assert all(1 <= length <= sizes.max for length in lengths[-1:])


@pytest.mark.skipif(_kernel is None, reason="the kernel is not compiled")
@given(
    sizes=chunk_sizes(), data=blobs(), discriminator=st.integers(1, 2**32 - 1), scanned=st.integers(-9, 600)
)
def test_the_kernels_are_twins(sizes: ChunkSizes, data: bytes, discriminator: int, scanned: int) -> None:
    """Both kernels give the same list for the same arguments, sensible or not, or refuse with the same words."""
    for divisor in (sizes.discriminator, discriminator, discriminator % 9 + 1, 1 << discriminator % 32):
        args = (data, 0, scanned, len(data), sizes.min, sizes.max, divisor)
        assert _outcome(_kernel, args) == _outcome(_python, args)


def _outcome(kernel: Any, args: tuple[object, ...]) -> list[int] | str:
    try:
        return kernel.scan(*args)  # type: ignore[no-any-return]
    except ValueError as e:
        return str(e)


@TWINS
@pytest.mark.parametrize("sizes", ["auto", "1024", "1:48:48", "1000:1000:1000"])
def test_a_run_of_zeros_is_cut_at_the_maximum(native: bool, sizes: str) -> None:
    """A hash that never changes never says cut, so that holes become chunks of the maximum, all the same."""
    chunker = Chunker(ChunkSizes.parse(sizes), native=native)
    largest = chunker.sizes.max
    assert chunker.split(bytes(2 * largest + 1)) == [
        (0, largest),
        (largest, 2 * largest),
        (2 * largest, 2 * largest + 1),
    ]


@TWINS
def test_the_end_of_the_buffer_can_be_a_cut(blob: bytes, native: bool) -> None:
    """A chunk that ends with the last byte at hand is complete, and one byte less leaves it unfinished."""
    chunker = Chunker(native=native)
    assert chunker.cuts(blob, 0, 31199) == [31199]
    assert chunker.cuts(blob, 0, 31198) == []
    assert chunker.cuts(blob, 0, 31199, scanned=31198) == [31199]


@TWINS
def test_scanned_bytes_are_not_tested_again(blob: bytes, native: bool) -> None:
    """`scanned` is believed: an end that lies at or before it is passed over, for the first chunk only."""
    chunker = Chunker(native=native)
    with_skip = chunker.cuts(blob, 0, len(blob), scanned=31199)
    assert with_skip[0] > 31199
    assert with_skip == [with_skip[0], *chunker.cuts(blob, with_skip[0], len(blob))]


@TWINS
@pytest.mark.parametrize("data", [b"", b"x", bytes(47), bytes(48)], ids=len)
def test_short_data_is_one_chunk_or_none(native: bool, data: bytes) -> None:
    """No data, no chunk; less than the minimum is one chunk."""
    assert Chunker(native=native).split(data) == ([(0, len(data))] if data else [])


@TWINS
@pytest.mark.parametrize(("sizes", "most"), [("1:4:16", 16), ("4", 16), ("1:4:30", 30), ("1:10:47", 47)])
def test_a_maximum_below_the_window_is_refused_once_it_cannot_be_kept(
    native: bool, sizes: str, most: int
) -> None:
    """With a maximum under 48 casync 2 takes data up to the maximum as one chunk, and dies of any byte more."""
    chunker = Chunker(ChunkSizes.parse(sizes), native=native)
    assert chunker.split(bytes(most)) == [(0, most)]
    with pytest.raises(UsageError, match="48"):
        chunker.split(bytes(most + 1))


@TWINS
def test_fixed_sizes_below_the_window_work(native: bool) -> None:
    """Fixed chunks need no hash and may be of any length."""
    assert Chunker(ChunkSizes(4, 4, 4), native=native).split(bytes(10)) == [(0, 4), (4, 8), (8, 10)]


@TWINS
@pytest.mark.parametrize("sizes", ["auto", "4:4:4", "1:4:16"])
@pytest.mark.parametrize(("begin", "end"), [(-1, 5), (6, 5), (0, 101), (101, 101)])
def test_offsets_outside_the_buffer_are_refused(native: bool, sizes: str, begin: int, end: int) -> None:
    """No read out of bounds: offsets have to lie within the buffer, in order."""
    with pytest.raises(ValueError, match="within the buffer"):
        Chunker(ChunkSizes.parse(sizes), native=native).cuts(bytes(100), begin, end)


@SCANS
@pytest.mark.parametrize(
    ("scanned", "end", "low", "high", "divisor", "message"),
    [
        (101, 100, 64, 128, 9, "scanned"),
        (64, 100, 48, 64, 9, "scanned"),
        (0, 100, 0, 128, 9, "min"),
        (0, 100, 64, 63, 9, "min"),
        (0, 100, 1, 47, 9, "48"),
        (0, 100, 64, 128, 0, "discriminator"),
        (0, 100, 64, 128, -1, "discriminator"),
        (0, 100, 64, 128, 2**32, "discriminator"),
    ],
)
def test_the_kernels_check_their_arguments(
    kernel: Any, scanned: int, end: int, low: int, high: int, divisor: int, message: str
) -> None:
    """Numbers that would lead out of the buffer or into a division by zero are refused by the kernels themselves."""
    with pytest.raises(ValueError, match=message):
        kernel.scan(bytes(100), 0, scanned, end, low, high, divisor)


@SCANS
def test_the_kernels_take_any_contiguous_buffer(kernel: Any, blob: bytes) -> None:
    """bytes, bytearray and memoryviews of wider items are the same bytes."""
    args = (0, 0, 100_000, 16384, 262144, 49535)
    for buffer in (blob, bytearray(blob), memoryview(blob), memoryview(blob).cast("Q")):
        assert kernel.scan(buffer, *args) == [31199, 74101]


@SCANS
def test_the_kernels_take_extreme_numbers(kernel: Any) -> None:
    """The largest and smallest machine integers neither overflow nor crash."""
    largest = 2**63 - 1
    assert kernel.scan(bytes(100), 0, -largest - 1, 100, largest, largest, 2**32 - 1) == []
    assert kernel.scan(bytes(100), 0, 0, 100, 1, largest, 1) == [48, 96]
