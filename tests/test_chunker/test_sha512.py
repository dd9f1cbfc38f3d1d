from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casync_compat import sha512

try:
    from casync_compat import _sha512
except ImportError:
    _sha512 = None  # type: ignore[assignment]


WIDTHS = [] if _sha512 is None else [lanes for lanes in (1, 4, 8) if lanes <= _sha512.LANES]
"""How many this processor can hash at the same time."""


def together(buffers: Sequence[bytes]) -> list[bytes]:
    """What every width says, which is the same."""
    said = [_sha512.sha512_256(buffers, lanes) for lanes in WIDTHS]
    assert all(one == said[0] for one in said)
    return said[0]


Many = Callable[[Sequence[bytes]], list[bytes]]
NATIVE = pytest.mark.skipif(_sha512 is None, reason="the kernel is not compiled")
TWINS = pytest.mark.parametrize("many", [sha512.sha512_256, pytest.param(together, marks=NATIVE)])

# NIST, "Examples with Intermediate Values", SHA512_256.pdf; the first is that of no data, from the same algorithm.
TWO_BLOCKS = (
    b"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmno"
    b"ijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu"
)
VECTORS = [
    (b"", "c672b8d1ef56ed28ab87c3622c5114069bdd3ad7b8f9737498d0c01ecef0967a"),
    (b"abc", "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23"),
    (TWO_BLOCKS, "3928e184fb8690f840da3988121d31be65cb9d3ef83ee6146feac861e19b563a"),
]
# Around what changes the padding: one block holds 111 bytes and the length, 128 are a block by themselves.
EDGES = [0, 1, 110, 111, 112, 113, 127, 128, 129, 238, 239, 240, 241, 255, 256, 257, 383, 384, 511, 512, 4096]


@TWINS
@pytest.mark.parametrize("count", range(1, 18))
def test_published_values(many: Many, count: int) -> None:
    """The published examples come out in every lane, beside others and alone."""
    for data, digest in VECTORS:
        assert many([data] * count) == [bytes.fromhex(digest)] * count
    assert [digest.hex() for digest in many([data for data, _ in VECTORS])] == [hex for _, hex in VECTORS]


@TWINS
@pytest.mark.parametrize("size", EDGES)
@pytest.mark.parametrize("other", [0, 1, 112, 128, 1000])
def test_padding(many: Many, size: int, other: int) -> None:
    """Every length around the edges of a block, whatever runs beside it."""
    data, beside = random.Random(size).randbytes(size), b"x" * other
    expected = hashlib.new("sha512_256", data).digest()
    for place in range(9):
        buffers = [beside] * place + [data] + [beside] * (8 - place)
        assert many(buffers)[place] == expected


@NATIVE
@given(st.lists(st.one_of(st.binary(max_size=300), st.sampled_from(EDGES).map(bytes)), max_size=20))
def test_the_same_as_hashlib(buffers: list[bytes]) -> None:
    """Any number of buffers of any lengths: what hashlib says, in the order given."""
    assert together(buffers) == sha512.sha512_256(buffers)


@NATIVE
@given(st.integers(0, 2**32), st.integers(0, 20))
def test_the_same_as_hashlib_for_chunks(seed: int, count: int) -> None:
    """Chunks of realistic lengths, so that lanes end at different times and take the next."""
    numbers = random.Random(seed)
    buffers = [numbers.randbytes(numbers.randrange(1 << numbers.randrange(18))) for _ in range(count)]
    assert together(buffers) == sha512.sha512_256(buffers)


@NATIVE
def test_any_contiguous_buffer_of_any_iterable() -> None:
    """Parts of a slab are hashed in place; what is no buffer is refused and nothing is kept."""
    slab = bytearray(range(256)) * 8
    view = memoryview(slab)
    parts = [view[0:3], view[1:2000], bytes(view[5:700]), slab]
    assert _sha512.sha512_256(part for part in parts) == sha512.sha512_256([bytes(part) for part in parts])
    with pytest.raises(TypeError):
        _sha512.sha512_256([slab, "text"])  # type: ignore[list-item]
    with pytest.raises((BufferError, ValueError)):
        _sha512.sha512_256([slab, view[::2]])
    view.release()
    del parts
    slab.append(0)  # a buffer that is still exported cannot grow


@NATIVE
@pytest.mark.parametrize("lanes", [-1, 0, 2, 16])
def test_other_widths_are_refused(lanes: int) -> None:
    """Only as many at the same time as there is code for, and a processor."""
    with pytest.raises(ValueError, match="lanes"):
        _sha512.sha512_256([b"abc"], lanes)
    assert _sha512.sha512_256([b"abc"]) == together([b"abc"])


@NATIVE
def test_threads() -> None:
    """Several threads hash at once without disturbing each other."""
    batches = [[bytes([n]) * (1000 * (i + 1)) for i in range(9)] for n in range(4)]
    found: dict[int, list[bytes]] = {}

    def work(n: int) -> None:
        for _ in range(20):
            found[n] = together(batches[n])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: sha512.sha512_256(batch) for n, batch in enumerate(batches)}
