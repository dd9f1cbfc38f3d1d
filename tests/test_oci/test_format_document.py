"""The format document says what the code does: types, keys, magic numbers and limits are the code's own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import casync_compat.oci
from casync_compat import _layouts
from casync_compat.oci.image import layertar, packsource, packwriter
from casync_compat.oci.image import wrapped as image
from casync_compat.oci.spec import media, packindex

README = (Path(casync_compat.oci.__file__).parent / "README.md").read_text()


OURS = [
    value for name in media.__all__ if isinstance(value := getattr(media, name), str) and "pycasync" in value
]


@pytest.mark.parametrize("name", OURS)
def test_names(name: str) -> None:
    """Each of our media types and annotations is in the document."""
    assert name in README


def test_no_other_names() -> None:
    """The document has no media type or annotation of ours that the code does not know."""
    known = {value for name in media.__all__ if isinstance(value := getattr(media, name), str)}
    for found in re.findall(r"application/vnd\.pycasync\.[a-z0-9.+-]+|dev\.pycasync\.[a-z.-]+", README):
        assert found.rstrip(".") in known, found


def test_numbers() -> None:
    """Magic numbers and limits are those of the code."""
    for _, constants in (_layouts.PACK_INDEX_HEADER, _layouts.PACK_TABLE_FOOTER):
        magic = constants["magic"]
        assert isinstance(magic, bytes)
        assert magic.hex(" ").upper() in README
    frame = _layouts.PACK_TABLE_FRAME[1]["frame_magic"]
    assert f"{frame:#X}".replace("X", "x") in README
    assert packindex._CHUNK.size == 47
    assert "47 bytes" in README
    assert packindex.MAX_PACKS == 1000
    assert packindex.MAX_CHUNKS == 1 << 23
    assert packindex.PACK_INDEX_LIMIT >> 20 == 376
    assert image.INDEX_LIMIT >> 20 == 320
    assert image.RECIPE_LIMIT >> 20 == 512
    assert layertar.LAYER_LIMIT >> 30 == 64
    assert (packwriter.PACK_SIZE >> 20, packwriter.MOST_NEW_PACKS, packwriter.MOST_PACKS) == (16, 64, 100)
    assert (packsource._GAP >> 10, packsource._LARGEST_RANGE >> 20, packsource._WHOLE_SHARE) == (64, 8, 0.6)
    assert "376 MiB: 2^23 chunks, 1000 packs" in README
