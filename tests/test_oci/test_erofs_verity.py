"""fs-verity digests are those that the kernel computes."""

from __future__ import annotations

import pytest

from casync_compat.oci.erofs.fsverity import verity_digest

_CASES = {
    0: "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95",
    1: "b803429503d95915829b29fdbc8bbad142f3abfd11b1cadf5526582e685c0551",
    4096: "87a706bdba32be89a173dc11d6a91c08165b4dcfcf743988c94595e82934a41a",
    4097: "28d9f5641be097d0e2c2ef6f7c4b29870fd3ce2436428a413f5b7d609ce48c70",
    524288: "148c3083938ec62c1272c785556951e0e5a779e87bff3f7693159fde26bdbef4",
    524289: "0add42e19701a122d657ded3d9e3853cde105bed1a46e1fdc88c2886618e394d",
}
"""By size, of bytes `7 * n & 255`; all but the first, which is fsverity's own, were computed by composefs-info."""


@pytest.mark.parametrize("size", _CASES)
@pytest.mark.parametrize("piece", [1 << 20, 5000, 4096])
def test_digests_of_contents(size: int, piece: int) -> None:
    """Whatever pieces they come in, around a block and around a hash block of blocks."""
    data = bytes(n * 7 & 255 for n in range(size))
    pieces = [(at, data[at : at + piece]) for at in range(0, size, piece)]

    assert verity_digest(pieces, size).hex() == _CASES[size]


def test_holes_are_zeros() -> None:
    """In front, between pieces and at the end."""
    data = bytes(5000) + b"x" + bytes(1 << 20) + b"y" * 5000 + bytes(9000)
    pieces = [(5000, b"x"), (5001 + (1 << 20), b"y" * 5000)]

    assert verity_digest(pieces, len(data)) == verity_digest([(0, data)], len(data))
