"""A recipe makes a tar again from a catar, and a hostile one does no harm."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from test_oci.rawtar import BytesView

from casync_compat.errors import UsageError
from casync_compat.oci.spec.descriptor import BlobDigest
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.tar.recipe import Recipe, RecipeLimits, rebuild, rebuild_checked
from casync_compat.oci.tar.recipebuilder import RecipeBuilder
from casync_compat.oci.tar.recipeformat import FRAME, HEAD, put_varint, zigzag
from casync_compat.oci.tar.view import Extent, TarView

CATAR = bytes(range(256)) * 40
DIGEST = BlobDigest.of(b"")

splices = st.lists(
    st.one_of(
        st.tuples(st.just("literal"), st.binary(max_size=600)),
        st.tuples(st.just("zeros"), st.integers(0, 3000)),
        st.tuples(st.just("copy"), st.integers(0, len(CATAR)), st.integers(0, 2000)).map(
            lambda item: (item[0], item[1], min(item[2], len(CATAR) - item[1]))
        ),
    ),
    max_size=30,
)


def build(items: list[Any]) -> tuple[bytes, bytes]:
    """A recipe of these splices, and the tar that it makes."""
    builder = RecipeBuilder(len(CATAR))
    tar = b""
    for kind, *values in items:
        if kind == "literal":
            builder.literal(values[0])
            tar += values[0]
        elif kind == "zeros":
            builder.zeros(values[0])
            tar += bytes(values[0])
        else:
            offset, length = values
            builder.copy(offset, length)
            tar += CATAR[offset : offset + length]
    assert builder.tar_size == len(tar)
    return builder.build(BlobDigest.of(tar)), tar


@settings(max_examples=100, deadline=None)
@given(splices, st.data())
def test_round_trip(items: list[Any], data: st.DataObject) -> None:
    """What is built makes the tar, whole and at any offset; what is parsed is written the same."""
    blob, tar = build(items)
    recipe = Recipe.parse(blob)
    assert recipe.to_bytes() == blob
    assert (recipe.tar_size, recipe.catar_size, recipe.diff_id) == (len(tar), len(CATAR), BlobDigest.of(tar))
    assert b"".join(rebuild_checked(recipe, BytesView(CATAR))) == tar
    view = TarView(recipe, BytesView(CATAR))
    offset, size = data.draw(st.integers(0, len(tar) + 10)), data.draw(st.integers(0, len(tar) + 10))
    assert view.read_at(offset, size) == tar[offset : offset + size]
    least = data.draw(st.integers(0, 600))
    some = view.read_some(offset, least, least + 1000)
    assert some == tar[offset : offset + len(some)]
    assert min(least, max(0, len(tar) - offset)) <= len(some) <= least + 1000


def test_large_literals_and_holes() -> None:
    """Literals over several frames, and holes larger than any buffer, come in pieces of bounded size."""
    literal = b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(100_000))
    assert len(literal) > 3 * FRAME
    blob, tar = build([("literal", literal), ("zeros", 5_000_000), ("literal", b"end"), ("copy", 0, 10_000)])
    pieces = list(rebuild_checked(Recipe.parse(blob), BytesView(CATAR)))
    assert b"".join(pieces) == tar
    assert max(map(len, pieces)) <= 2 * FRAME
    view = TarView(Recipe.parse(blob), BytesView(CATAR))
    assert view.read_at(FRAME - 10, 2 * FRAME) == tar[FRAME - 10 : 3 * FRAME - 10]


def test_what_goes_together_is_joined() -> None:
    """Splices that continue each other are one."""
    blob, tar = build(
        [("literal", b"a"), ("literal", b"b"), ("copy", 5, 5), ("copy", 10, 5), ("zeros", 2), ("zeros", 3)]
    )
    view = TarView(Recipe.parse(blob), BytesView(CATAR))
    assert list(view.extents(0, len(tar))) == [Extent(0, 2, None), Extent(2, 10, 5), Extent(12, 5, None)]
    assert list(view.extents(4, 3)) == [Extent(4, 3, 7)]


def test_whole_blob_is_zstd() -> None:
    """Any zstd decoder takes the blob: list of splices and literals come out, one after the other."""
    blob, _ = build([("literal", b"some header"), ("copy", 1, 2)])
    out = b""
    rest = blob
    while rest:
        decoder = zstandard.ZstdDecompressor().decompressobj()
        out += decoder.decompress(rest)
        rest = decoder.unused_data
    assert out.endswith(b"some header")


def test_builder_refuses() -> None:
    """Ranges outside of the catar and digests other than sha256 are the caller's mistake."""
    builder = RecipeBuilder(100)
    for offset, length in ((-1, 5), (0, 101), (100, 1)):
        with pytest.raises(UsageError):
            builder.copy(offset, length)
    with pytest.raises(UsageError):
        builder.build(BlobDigest("sha512", "0" * 128))


# Hostile recipes


def forge(
    splices: list[tuple[int, int]],
    offsets: list[int],
    literals: bytes = b"",
    *,
    tar: int | None = None,
    catar: int = len(CATAR),
    count: int | None = None,
    frames: list[bytes] | None = None,
    body: bytes | None = None,
    extra: bytes = b"",
    literal_size: int | None = None,
    magic: bytes = b"tarcatar",
    version: int = 1,
) -> bytes:
    """A recipe with everything right except what is given."""
    compress = zstandard.ZstdCompressor(write_checksum=False).compress
    if frames is None:
        frames = [compress(literals[at : at + FRAME]) for at in range(0, len(literals), FRAME)]
    if body is None:
        plain = bytearray(b"".join(struct.pack("<I", len(frame)) for frame in frames))
        for kind, length in splices:
            put_varint(plain, length << 2 | kind)
        for delta in offsets:
            put_varint(plain, zigzag(delta))
        body = compress(bytes(plain) + extra)
    head = HEAD.pack(
        *(0x184D2A5C, HEAD.size - 8, magic, version, FRAME),
        *(sum(length for _, length in splices) if tar is None else tar, catar, bytes.fromhex(DIGEST.hex)),
        len(literals) if literal_size is None else literal_size,
        *(len(splices) if count is None else count, len(body), len(frames)),
    )
    return b"".join((head, body, *frames))


LITERAL, COPY, ZEROS = 0, 1, 2
BOMB = zstandard.ZstdCompressor().compress(bytes(600 << 20))
GOOD = forge([(LITERAL, 3), (COPY, 5)], [7], b"abc")

HOSTILE = {
    "empty": b"",
    "short head": GOOD[: HEAD.size - 1],
    "cut short": GOOD[:-1],
    "bytes at the end": GOOD + b"\0",
    "other magic": forge([(ZEROS, 1)], [], magic=b"tarcat\r\n"),
    "other version": forge([(ZEROS, 1)], [], version=2),
    "copy past the end": forge([(COPY, 5)], [len(CATAR) - 4]),
    "copy before the start": forge([(COPY, 5)], [-1]),
    "copy far away": forge([(COPY, 5)], [1 << 62]),
    "copy of too much": forge([(COPY, len(CATAR) + 1)], [0]),
    "wandering out": forge([(COPY, 5), (ZEROS, 1), (COPY, 5)], [0, -6]),
    "offset missing": forge([(COPY, 5)], []),
    "offset left over": forge([(ZEROS, 5)], [3]),
    "unknown kind": forge([(3, 5)], []),
    "empty splice": forge([(ZEROS, 5), (ZEROS, 0)], []),
    "tar too short": forge([(ZEROS, 5)], [], tar=4),
    "tar too long": forge([(ZEROS, 5)], [], tar=6),
    "tar enormous": forge([(ZEROS, 1 << 60)], []),
    "catar enormous": forge([(ZEROS, 1)], [], catar=1 << 63),
    "more splices than there are": forge([(ZEROS, 5)], [], count=1000),
    "billions of splices": forge([(ZEROS, 5)], [], count=1 << 62),
    "number without end": forge([], [], body=zstandard.compress(b"\xff" * 100), tar=1, count=1),
    "more literals than there are": forge([(LITERAL, 5)], [], b"abc"),
    "fewer literals used": forge([(LITERAL, 2)], [], b"abc"),
    "literals lie": forge([(LITERAL, 5)], [], b"abc", literal_size=5),
    "literals enormous": forge([(LITERAL, 1 << 40)], [], literal_size=1 << 40),
    "frames missing": forge([(LITERAL, 5)], [], literal_size=5, frames=[]),
    "frame too many": forge([(LITERAL, 3)], [], b"abc", frames=[zstandard.compress(b"abc")] * 2),
    "frame is a bomb": forge([(LITERAL, 3)], [], b"abc", frames=[BOMB]),
    "frame is none": forge([(LITERAL, 3)], [], b"abc", frames=[b"abc"]),
    "list is a bomb": forge([(ZEROS, 5)], [], body=BOMB),
    "list is none": forge([(ZEROS, 5)], [], body=b"list"),
    "list is empty": forge([(ZEROS, 5)], [], body=b""),
    "list for an empty tar is none": forge([], [], body=b"list"),
    "list for an empty tar is not empty": forge([], [], body=zstandard.compress(b"x")),
    "bytes after the list": forge([(ZEROS, 5)], [], extra=b"\0"),
}  # fmt: skip


def make(blob: bytes) -> bytes:
    return b"".join(rebuild(Recipe.parse(blob, "layer 1"), BytesView(CATAR)))


def test_forging_works() -> None:
    """The forged recipe with nothing wrong is a good one."""
    assert make(GOOD) == b"abc" + CATAR[7:12]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(name: str) -> None:
    """Everything that is wrong is one error that names the recipe."""
    with pytest.raises(ImageError, match=r"^layer 1: ") as caught:
        make(HOSTILE[name])
    assert "\n" not in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged(data: st.DataObject) -> None:
    """Any change of any byte is an error or makes another tar within the limits, never anything else."""
    blob = bytearray(
        build([("literal", b"header" * 100), ("copy", 100, 5000), ("zeros", 2000), ("copy", 7, 9)])[0]
    )
    at = data.draw(st.integers(0, len(blob) - 1))
    blob[at] = data.draw(st.integers(0, 255))
    try:
        recipe = Recipe.parse(
            bytes(blob), limits=RecipeLimits(tar=1 << 20, splices=1 << 20, literals=1 << 20)
        )
        if recipe.catar_size == len(CATAR):
            assert sum(map(len, rebuild(recipe, BytesView(CATAR)))) == recipe.tar_size
    except ImageError:
        pass


def test_limits() -> None:
    """Each limit is kept."""
    blob, _ = build([("literal", b"a" * 5000), ("copy", 0, 10), ("zeros", 1000)])
    Recipe.parse(blob, limits=RecipeLimits(tar=6010, literals=5000))
    for limits in (RecipeLimits(tar=6009), RecipeLimits(literals=4999), RecipeLimits(splices=5)):
        with pytest.raises(ImageError):
            Recipe.parse(blob, limits=limits)


class Short(BytesView):
    @property
    def size(self) -> int:
        return len(CATAR)


def test_wrong_catar() -> None:
    """A catar of another size is refused at once, one that ends early when that is noticed."""
    recipe = Recipe.parse(GOOD)
    with pytest.raises(ImageError, match="belongs to an archive"):
        list(rebuild(recipe, BytesView(CATAR[1:])))
    with pytest.raises(ImageError, match="belongs to an archive"):
        TarView(recipe, BytesView(CATAR[1:]))
    with pytest.raises(ImageError, match="ends at byte 9"):
        list(rebuild(recipe, Short(CATAR[:9])))
    with pytest.raises(ImageError, match="ends at byte 9"):
        TarView(recipe, Short(CATAR[:9])).read_at(0, 8)


def test_last_piece_is_held_back() -> None:
    """Nobody gets the end of a tar that is not the right one."""
    blob, tar = build([("literal", bytes(range(256)) * 12_000), ("copy", 0, 10)])
    other = CATAR[1:] + b"\0"
    given = b""
    with pytest.raises(ImageError, match="has the digest sha256:"):
        for piece in rebuild_checked(Recipe.parse(blob), BytesView(other)):
            given += piece
    assert given
    assert len(given) < len(tar) - 10
    assert tar.startswith(given)
