"""Layer blobs decompressed piece by piece: tar, tar+gzip of any number of members, tar+zstd of any number of frames.

    >>> for piece in decompressed(stream, "oci:dir, layer 0"): use(piece)

Which of them it is the first bytes tell, as podman and containerd do it: media types are often wrong about it. No
piece is larger than a mebibyte, whatever the compressed data declares, and a decoder's window is bounded too. That the
result is what it should be is not known before its digest was compared.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import IO, Any, Protocol, cast

from casync_compat.compression import no_memory_is_no_damage
from casync_compat.oci.spec.errors import ImageError

__all__ = ["Readable", "decompressed"]

_PIECE = 1 << 20
_INPUT = 256 << 10
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"  # after a first byte of 0x50 to 0x5f: RFC 8878 section 3.1.2
_MAX_WINDOW = 128 << 20
"""What `zstd --long` writes at most without an argument, and `zstd -d` reads without one."""


class Readable(Protocol):
    """What is read of a stream; `BlobStream` has it."""

    def read(self, size: int, /) -> bytes: ...


class _Peeked:
    """A stream whose first bytes were looked at."""

    def __init__(self, first: bytes, stream: Readable) -> None:
        self._first = first
        self._stream = stream

    def read(self, size: int = _INPUT, /) -> bytes:
        if self._first:
            first, self._first = self._first[:size], self._first[size:]
            return first
        return self._stream.read(size)


def decompressed(stream: Readable, where: str) -> Iterator[bytes]:
    """What is in a layer blob, in pieces of at most a mebibyte.

    The stream is read to its very end, so that it checks its digest.

    :param where: the layer, for messages
    :raises ImageError: the compressed data is damaged or cut short
    """
    first = stream.read(_INPUT)
    while len(first) < 4 and (more := stream.read(_INPUT)):
        first += more
    peeked = _Peeked(first, stream)
    if first.startswith(_GZIP_MAGIC):
        yield from _gunzip(peeked, where)
    elif first.startswith(_ZSTD_MAGIC) or (
        first[:1] >= b"\x50" and first[:1] <= b"\x5f" and first[1:4] == _SKIPPABLE
    ):
        yield from _unzstd(peeked, where)
    else:
        while data := peeked.read(_PIECE):
            yield data
    while stream.read(_INPUT):
        pass


def _inflater() -> tuple[Any, Any]:
    """A decoder of one gzip member, and what it raises; isal's where it is installed, which is 1.6 times as fast."""
    try:
        from isal import isal_zlib  # type: ignore[import-untyped, unused-ignore] # lazily: an extra
    except ImportError:
        return zlib.decompressobj(16 + zlib.MAX_WBITS), zlib.error
    return isal_zlib.decompressobj(16 + zlib.MAX_WBITS), isal_zlib.error


def _gunzip(stream: _Peeked, where: str) -> Iterator[bytes]:
    data = stream.read()
    while data:
        decoder, errors = _inflater()
        try:
            while not decoder.eof:
                piece = decoder.decompress(data, _PIECE)
                data = decoder.unconsumed_tail
                if piece:
                    yield piece
                if not data and not decoder.eof:
                    data = stream.read()
                    if not data and not piece:
                        raise ImageError(where, "the gzip data is cut short")
        except errors as error:
            raise ImageError(where, f"the gzip data is damaged: {error}") from error
        data = decoder.unused_data
        # gzip(1) and Go's gzip differ in what may follow the last member; zeros are padding to everybody.
        data = data.lstrip(b"\0")
        while not data and (data := stream.read()):
            data = data.lstrip(b"\0")
        if data and not data.startswith(_GZIP_MAGIC[: len(data)]):
            raise ImageError(where, "something that is not gzip follows the gzip data")


def _unzstd(stream: _Peeked, where: str) -> Iterator[bytes]:
    import zstandard  # lazily: a run without such layers does not need it

    decoder = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
    reader = decoder.stream_reader(cast("IO[bytes]", stream), read_size=_INPUT, read_across_frames=True)
    try:
        while piece := reader.read(_PIECE):
            yield piece
    except zstandard.ZstdError as error:
        no_memory_is_no_damage(error)
        raise ImageError(where, f"the zstd data is damaged: {error}") from error
