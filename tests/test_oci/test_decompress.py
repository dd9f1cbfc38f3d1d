"""Layer blobs decompressed: any number of gzip members and zstd frames, damage told, pieces never large."""

from __future__ import annotations

import gzip
import io
import sys

import pytest
import zstandard
from test_oci.images import noise

from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.tar.decompress import decompressed

DATA = noise(300_000) + bytes(5_000_000)


def gz(data: bytes, level: int = 9) -> bytes:
    """gzip without the time, so that tests have the same names in every process."""
    return gzip.compress(data, level, mtime=0)


ZSTD = zstandard.ZstdCompressor()
SKIPPABLE = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"


@pytest.fixture(autouse=True, params=["isal", "zlib"])
def both_inflaters(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """isal, where it is installed, and what stands in for it where it is not."""
    if request.param == "isal":
        pytest.importorskip("isal")
    else:
        monkeypatch.setitem(sys.modules, "isal", None)


def run(data: bytes) -> bytes:
    stream = io.BytesIO(data)
    out = b"".join(decompressed(stream, "layer 0"))
    assert stream.tell() == len(data), "the stream is read to its end, or its digest is not checked"
    return out


@pytest.mark.parametrize(
    "data",
    [
        DATA,
        gz(DATA, 1),
        gz(DATA[:1000]) + gz(DATA[1000:], 1),
        gz(DATA, 1) + bytes(100),
        gz(b"") + gz(DATA, 1),
        ZSTD.compress(DATA),
        ZSTD.compress(DATA[:1000]) + SKIPPABLE + ZSTD.compress(DATA[1000:]) + SKIPPABLE,
        SKIPPABLE + ZSTD.compress(DATA),
    ],
)
def test_forms(data: bytes) -> None:
    """Plain, gzip and zstd, in as many parts as there are; what tools append is passed over."""
    assert run(data) == DATA


@pytest.mark.parametrize("data", [b"", b"x", b"\x1f", gz(b"")])
def test_small(data: bytes) -> None:
    """Blobs too small to be anything are what they are."""
    assert run(data) == (data if len(data) < 2 else b"")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (gz(DATA, 1)[:-9], "gzip data is cut short"),
        (gz(DATA, 1)[:5], "gzip data is cut short"),
        (gz(DATA, 1) + b"x", "something that is not gzip"),
        (gz(DATA, 1)[:-8] + bytes(8), "gzip data is damaged"),
        (ZSTD.compress(DATA)[:-9] + b"123456789", "zstd data is damaged"),
        (b"\x28\xb5\x2f\xfd\x00\x90\x09\x00\x00x", "zstd data is damaged"),  # wants a window of 256 MiB
    ],
)
def test_damage(data: bytes, says: str) -> None:
    """Damage is one clear error."""
    with pytest.raises(ImageError, match=f"layer 0: .*{says}"):
        run(data)


@pytest.mark.parametrize("data", [gz(bytes(50 << 20)), ZSTD.compress(bytes(50 << 20))])
def test_bombs(data: bytes) -> None:
    """However much comes out, it comes out in pieces of a mebibyte at most, so that a limit can stop it."""
    pieces = decompressed(io.BytesIO(data), "x")
    assert all(len(next(pieces)) <= 1 << 20 for _ in range(20))
