"""Compression of chunk files: zstd, xz and gzip, written as casync writes them, read as strictly as it reads them.

A chunk file is exactly one zstd frame, xz stream or gzip member. Which one is not recorded anywhere: it is
recognised by its first bytes. Compressed bytes depend on the version of the library, so nothing may ever be
compared or addressed by them; only chunk ids are canonical.

What this module deliberately does not do: dictionaries, levels, several frames in a row, streams without end. Chunks
are small and bounded, so everything is one buffer in, one buffer out. All functions may be called from any thread; the
libraries release the GIL.

    >>> frame = compress(Compression.ZSTD, b"hello")
    >>> decompress(frame, limit=1024)
    b'hello'
"""

from __future__ import annotations

import enum
import threading
from typing import TYPE_CHECKING

from casync_compat.errors import FormatError, UsageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from zstandard import ZstdCompressor, ZstdDecompressor

# zstandard, lzma and zlib are imported inside functions: a run that touches no chunk does not pay for them.

__all__ = ["Compression", "CompressionError", "compress", "decompress", "file_limit"]

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_XZ_MAGIC = b"\xfd7zXZ\x00"
_GZIP_MAGIC = b"\x1f\x8b"

_WINDOW_FLOOR = 8 << 20
"""Window or dictionary size in bytes that is always allowed, however small the limit. RFC 8878 section 3.1.1.1.2 asks
decoders for 8 MiB; casync itself needs 2 MiB (zstd) and 8 MiB (xz preset 6)."""

_XZ_OVERHEAD = 2 << 20
"""What liblzma counts for a decoder besides its dictionary is well under this many bytes."""

_ZSTD_BLOCK_MAX = 128 << 10
"""RFC 8878 section 3.1.1.2.4: no block yields more bytes than this."""


_SMALL = 256 << 10
"""Chunks of up to this many bytes are compressed with small tables."""


class CompressionError(FormatError):
    """A chunk file is not one complete zstd frame, xz stream or gzip member of acceptable size."""


class Compression(enum.Enum):
    """How chunk files are written. The values are the names that casync's ``--compression`` takes, and ``none``."""

    ZSTD = "zstd"
    XZ = "xz"
    GZIP = "gzip"
    NONE = "none"
    """A store setting (desync's "uncompressed"): chunks are written as they are, under a name without suffix."""

    @classmethod
    def parse(cls, name: str) -> Compression:
        """The compression called `name`; ``default`` is zstd, as in casync.

        :raises UsageError: no compression has this name
        """
        if name == "default":
            return cls.ZSTD
        try:
            return cls(name)
        except ValueError:
            known = ", ".join(kind.value for kind in cls)
            raise UsageError(f"unknown compression {name!r}; known are {known} and default") from None


def compress(kind: Compression, data: ReadableBuffer) -> bytes:
    """Compress one chunk with the settings of casync 2.

    The settings were observed with casync 2 and liblzma, zlib and zstd 1.5.4, where the bytes are identical:

    * zstd: streaming interface, level 3, size neither pledged nor declared (so the window is 2 MiB), no checksum. The
      tables of small chunks are smaller than casync's: they stay in the processor's cache, and frames hardly grow;
    * xz: preset 6, CRC64;
    * gzip: level -1, window 2^15, memory level 8, no file name, no time.

    :raises UsageError: `kind` is NONE
    """
    if kind is Compression.ZSTD:
        return _compress_zstd(memoryview(data))
    if kind is Compression.XZ:
        import lzma

        return lzma.compress(data, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC64, preset=6)
    if kind is Compression.GZIP:
        import zlib

        member = zlib.compressobj(-1, zlib.DEFLATED, 16 + zlib.MAX_WBITS, 8)
        return member.compress(data) + member.flush()
    raise UsageError("compression 'none' stores chunks as they are; there is nothing to compress")


def file_limit(limit: int) -> int:
    """The most bytes that the compressed file of a chunk may have; larger ones are not even read.

    None of the formats makes anything larger by more than this.

    :param limit: the most bytes that the chunk may have
    """
    return limit + limit // 8 + (64 << 10)


def decompress(data: ReadableBuffer, limit: int) -> bytes:
    """The 1 to `limit` bytes in one zstd frame, xz stream or gzip member.

    Memory stays bounded whatever the headers declare: by `limit` for zstd, twice that for xz and gzip, and in all cases
    the decoder's own window, for which max(limit, 8 MiB) is accepted.

    :param data: the whole chunk file
    :param limit: the most bytes that the chunk may have
    :raises CompressionError: unknown format, damage, truncation, bytes after the end, nothing inside, more than `limit`
        bytes inside, a window too large, a zstd dictionary
    """
    view = memoryview(data)
    magic = bytes(view[:6])
    if magic.startswith(_ZSTD_MAGIC):
        raw = _decompress_zstd(view, limit)
    elif magic == _XZ_MAGIC:
        raw = _decompress_xz(view, limit)
    elif magic.startswith(_GZIP_MAGIC):
        raw = _decompress_gzip(view, limit)
    else:
        raise CompressionError(
            f"not compressed with zstd, xz or gzip (starts with {magic.hex() or 'nothing'})", offset=0
        )
    if not raw:
        raise CompressionError("the chunk inside is empty")
    return raw


class _Codecs(threading.local):
    """One zstd compressor and decompressor a thread: sharing a context between threads crashes the process, and making
    one for every chunk costs megabytes of fresh memory each time."""

    _compressor: ZstdCompressor | None = None
    _small_compressor: ZstdCompressor | None = None
    _decompressor: ZstdDecompressor | None = None

    def compressor(self, size: int) -> ZstdCompressor:
        if size <= _SMALL:
            return self._small_compressor or self._make_small()
        if self._compressor is None:
            import zstandard

            self._compressor = zstandard.ZstdCompressor(
                level=3, write_content_size=False, write_checksum=False
            )
        return self._compressor

    def _make_small(self) -> ZstdCompressor:
        import zstandard

        # Level 3 of zstd 1.5, but for the two tables (2^16 and 2^17 entries there). Measured over trees of documents,
        # sources and libraries in chunks of 64 KiB: 12 to 30 % faster, 0.1 to 0.5 % larger.
        params = zstandard.ZstdCompressionParameters(
            strategy=zstandard.STRATEGY_DFAST,
            window_log=21,
            chain_log=14,
            hash_log=15,
            search_log=1,
            min_match=5,
            write_content_size=False,
            write_checksum=False,
        )
        self._small_compressor = zstandard.ZstdCompressor(compression_params=params)
        return self._small_compressor

    def decompressor(self) -> ZstdDecompressor:
        if self._decompressor is None:
            import zstandard

            self._decompressor = zstandard.ZstdDecompressor()
        return self._decompressor


_codecs = _Codecs()


def no_memory_is_no_damage(error: Exception) -> None:
    """Tell lack of memory, for which libzstd has no error of its own in Python, from bad data.

    :param error: a `ZstdError`
    :raises MemoryError: it says that there was too little
    """
    if "not enough memory" in str(error):
        raise MemoryError(str(error)) from error


def _compress_zstd(view: memoryview) -> bytes:
    from zstandard import ZstdError

    try:
        # The one-call interface would know the size and choose another window: not the frames that casync writes.
        stream = _codecs.compressor(view.nbytes).compressobj()
        return stream.compress(view) + stream.flush()
    except ZstdError as error:
        no_memory_is_no_damage(error)
        raise


def _decompress_zstd(view: memoryview, limit: int) -> bytes:
    from zstandard import CONTENTSIZE_UNKNOWN, ZstdError, frame_header_size, get_frame_parameters

    end: int | None = len(view)
    try:
        header = get_frame_parameters(view)
        if header.dict_id:
            raise CompressionError(f"zstd frame needs dictionary {header.dict_id}; chunks are stored without")
        if header.content_size == CONTENTSIZE_UNKNOWN:
            # libzstd allocates the window only here: a frame with a declared size is decoded right into its output.
            if header.window_size > max(limit, _WINDOW_FLOOR):
                raise CompressionError(
                    f"zstd frame wants a window of {header.window_size} bytes, too much for a chunk"
                )
            # An output buffer far too large costs more than the decoding (huge pages are zeroed), hence the estimate.
            bound, end = _zstd_blocks(view, frame_header_size(view))
            if end is not None:
                end += 4 if header.has_checksum else 0
            room = min(limit, bound)
        else:
            # Checked before the library sees it: it allocates what the header declares, not `max_output_size`.
            if header.content_size > limit:
                raise CompressionError(
                    f"zstd frame declares {header.content_size} bytes, the limit is {limit}"
                )
            room = header.content_size
        if room == 0:
            return b""
        raw: bytes = _codecs.decompressor().decompress(view, max_output_size=room, allow_extra_data=False)
    except ZstdError as e:
        no_memory_is_no_damage(e)
        raise CompressionError(f"not one good zstd frame of at most {limit} bytes: {e}") from e
    if end != len(view):  # the library looks only where the frame declares its size
        raise CompressionError("bytes after the end of the zstd frame")
    return raw


def _zstd_blocks(view: memoryview, pos: int) -> tuple[int, int | None]:
    """An upper bound for the content of a frame, and where its last block ends, from its block headers (RFC 8878,
    section 3.1.1.2).

    Where the frame is cut short or strange the bound is only for allocating, and the end None: the decoder finds out
    and says so.

    :param pos: of the first block
    """
    bound = 0
    while pos < len(view):
        header = int.from_bytes(view[pos : pos + 3], "little")
        size, kind = header >> 3, header >> 1 & 3
        bound += _ZSTD_BLOCK_MAX if kind == 2 else size
        # Kind 1 is run-length encoded: `size` times the one byte that follows.
        pos += 4 if kind == 1 else 3 + size
        if header & 1:
            return bound, pos
    return _ZSTD_BLOCK_MAX * len(view), None


def _decompress_xz(view: memoryview, limit: int) -> bytes:
    import lzma

    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=max(limit, _WINDOW_FLOOR) + _XZ_OVERHEAD)
    try:
        raw = decoder.decompress(view, limit + 1)
    except lzma.LZMAError as e:
        raise CompressionError(f"bad xz stream: {e}") from e
    return _whole("xz stream", raw, limit, decoder.eof, decoder.unused_data)


def _decompress_gzip(view: memoryview, limit: int) -> bytes:
    import zlib

    decoder = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        raw = decoder.decompress(view, limit + 1)
    except zlib.error as e:
        raise CompressionError(f"bad gzip member: {e}") from e
    return _whole("gzip member", raw, limit, decoder.eof, decoder.unused_data)


def _whole(what: str, raw: bytes, limit: int, eof: bool, rest: bytes) -> bytes:
    if len(raw) > limit:
        raise CompressionError(f"{what} holds more than the limit of {limit} bytes")
    if not eof:
        raise CompressionError(f"{what} is cut short")
    if rest:
        raise CompressionError(f"bytes after the end of the {what}")
    return raw
