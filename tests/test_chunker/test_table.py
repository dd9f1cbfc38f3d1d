from __future__ import annotations

import hashlib
import re
import struct
from pathlib import Path

from casync_compat.chunker import kernel as _python
from casync_compat.chunker import table

HEADER = Path(table.__file__).with_name("_table.h")


def test_the_constants_are_casyncs() -> None:
    """As little-endian words the table has the SHA-256 of the bytes in casync's read-only data."""
    words = struct.pack("<256I", *table.BUZHASH_TABLE)
    assert (
        hashlib.sha256(words).hexdigest()
        == "5b52080d38287da9d2e278466e3e0db7ec98e5e8b226f50612a56fa012b1f660"
    )


def test_the_kernel_includes_the_same_constants() -> None:
    """_table.h holds the table's constants in order, and is what table.py writes, so neither is edited alone."""
    text = HEADER.read_text()
    assert (
        tuple(int(word, 16) for word in re.findall(r"BUZHASH\((0x[0-9a-f]{8})\)", text))
        == table.BUZHASH_TABLE
    )
    assert text == table.c_header()


def test_hash_of_a_window() -> None:
    """The rolling hash of casync for a counting window, the next one, and zeros (observed with casync 2)."""
    first = _python.buzhash(bytes(range(48)))
    assert first == 0x6B67DEC6
    assert _python.roll(first, 0x00, 0x30) == 0xA3FC25F1
    assert _python.buzhash(bytes(range(1, 49))) == 0xA3FC25F1
    assert _python.buzhash(bytes(48)) == 0x9E489E48
