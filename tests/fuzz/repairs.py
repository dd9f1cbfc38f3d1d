"""Puts right what a random change breaks without need, so that it gets past the first check of a parser."""

from __future__ import annotations

from random import Random

import zstandard
from fuzz.mutator import mutate

from casync_compat import _layouts
from casync_compat.oci.tar.recipeformat import HEAD
from catar.structs import Fields

__all__ = ["counts", "recipe_frames", "tar_checksums"]

_HEADER = Fields(*_layouts.PACK_INDEX_HEADER)
_PACK = Fields(*_layouts.PACK_INDEX_PACK)
_CHUNK = Fields(*_layouts.PACK_INDEX_CHUNK)


def tar_checksums(data: bytes, chance: Random) -> bytes:
    """Each block that looks like a header gets the checksum of what is in it."""
    blocks = bytearray(data)
    for at in range(0, len(blocks) - 511, 512):
        if blocks[at + 257 : at + 262] == b"ustar" or chance.random() < 0.02:
            blocks[at + 148 : at + 156] = b" " * 8
            blocks[at + 148 : at + 156] = b"%06o\0 " % sum(blocks[at : at + 512])
    return bytes(blocks)


def recipe_frames(data: bytes, chance: Random) -> bytes:
    """The list of splices is changed as it is before it is compressed, and compressed again."""
    if len(data) < HEAD.size:
        return data
    size = _number(data, HEAD.at("list_size"))
    try:
        body = data[HEAD.size : HEAD.size + size]
        plain = zstandard.ZstdDecompressor().stream_reader(body).read(1 << 16)
    except zstandard.ZstdError:
        return data
    if chance.random() < 0.8:
        plain = mutate(plain, chance)
    body = zstandard.ZstdCompressor().compress(plain)
    return _with(data[: HEAD.size], HEAD.at("list_size"), len(body)) + body + data[HEAD.size + size :]


def counts(data: bytes, chance: Random) -> bytes:
    """The header of a pack index says how many chunks follow it."""
    if len(data) < _HEADER.size or chance.random() < 0.1:
        return data
    first = _HEADER.size + _number(data, _HEADER.at("packs")) * _PACK.size
    chunks = max(len(data) - first, 0) // _CHUNK.size
    return _with(data[: first + chunks * _CHUNK.size], _HEADER.at("chunks"), chunks)


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _with(data: bytes, at: int, number: int) -> bytes:
    return data[:at] + number.to_bytes(4, "little") + data[at + 4 :]
