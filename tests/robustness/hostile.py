"""Archives, indexes and stores with one thing wrong, made by patching right ones."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from strategies import Item, directory, encode, file, symlink

from catar import schema
from catar.goodbye import hash_name

WHEN = 1_500_000_000_000_000_000
LETTERS = b"abcdefghijklmnopqrstuvwxyz"


def _owned(item: Item) -> Item:
    item.node.uid, item.node.gid, item.node.mtime = os.geteuid(), os.getegid(), WHEN
    for child in item.children:
        _owned(child)
    return item


def tree(*children: Item) -> bytes:
    """An archive of these children, owned by whoever runs the test."""
    return encode(_owned(directory(b"", *children))).data


def sample() -> bytes:
    """A small archive with a bit of everything."""
    return tree(
        file(b"first", b"one\n" * 100),
        directory(b"inner", file(b"deep", b"deep\n" * 50), symlink(b"link", b"deep")),
        file(b"second", LETTERS * 1000),
    )


def filename(name: bytes) -> bytes:
    """A FILENAME record."""
    return struct.pack("<QQ", 17 + len(name), schema.FILENAME.type) + name + b"\0"


def renamed(data: bytes, old: bytes, new: bytes) -> bytes:
    """Change the name in a FILENAME record, tables left as they were."""
    assert data.count(filename(old)) == 1
    return data.replace(filename(old), filename(new))


def records(data: bytes) -> list[tuple[int, int, int]]:
    """`(offset, size, type)` of every record."""
    found = []
    at = 0
    while at < len(data):
        size, type_ = struct.unpack_from("<QQ", data, at)
        found.append((at, size, type_))
        at += size
    return found


def patched(data: bytes, offset: int, layout: str, *values: int) -> bytes:
    """Overwrite numbers at an offset."""
    out = bytearray(data)
    struct.pack_into(layout, out, offset, *values)
    return bytes(out)


def flipped(data: bytes, offset: int, bit: int = 0) -> bytes:
    """Change one bit."""
    out = bytearray(data)
    out[offset] ^= 1 << bit
    return bytes(out)


def chunk_files(store: Path) -> list[Path]:
    """The chunk files of a store, largest first."""
    return sorted(store.rglob("*.cacnk"), key=lambda path: (-path.stat().st_size, path.name))


def reordered(names: list[bytes]) -> bytes:
    """An archive whose files come in this order, which no scanner would choose, with a lookup table that is right."""
    ordered = sorted(names)
    data = tree(*(file(name, b"contents of %b" % name) for name in ordered))
    assert len({len(name) for name in names}) == 1, "names of one length keep every offset in place"
    out = bytearray(data)
    starts = [at for at, _, type_ in records(data) if type_ == schema.FILENAME.type]
    places: dict[bytes, tuple[int, int]] = {}
    goodbye, size, _ = records(data)[-1]
    for start, end, old, new in zip(starts, [*starts[1:], goodbye], ordered, names, strict=True):
        whole = data[start:end].replace(filename(old), filename(new))
        out[start:end] = whole.replace(b"contents of " + old, b"contents of " + new)
        places[new] = (goodbye - start, end - start)
    hashes = {hash_name(name): place for name, place in places.items()}
    for item in range(goodbye + 16, goodbye + size - 24, 24):
        (hash_,) = struct.unpack_from("<Q", data, item + 16)
        struct.pack_into("<QQ", out, item, *hashes[hash_])
    return bytes(out)
