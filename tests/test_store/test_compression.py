"""Chunk files are written as casync writes them, and anything that is not exactly one good frame is an error."""

from __future__ import annotations

import argparse
import gzip
import lzma
import tarfile
import threading
import tracemalloc
import zlib
from pathlib import Path
from random import Random

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from casync_compat import _layouts, compression
from casync_compat.compression import Compression, CompressionError, compress, decompress, file_limit
from casync_compat.errors import FormatError, UsageError

from .contract import text

KINDS = [Compression.ZSTD, Compression.XZ, Compression.GZIP]
LIMIT = 1 << 20

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.value)


def zstd_frame(raw: bytes, **settings: object) -> bytes:
    """A frame with other settings than ours."""
    return zstandard.ZstdCompressor(**settings).compress(raw)  # type: ignore[arg-type]


def zstd_rle(blocks: int, window: bytes = b"\x58") -> bytes:
    """A frame of `blocks` run-length blocks of 128 KiB each: four bytes in, 131072 out."""
    body = b"".join(
        ((0x20000 << 3) | 2 | (n == blocks - 1)).to_bytes(3, "little") + b"A" for n in range(blocks)
    )
    return b"\x28\xb5\x2f\xfd\x00" + window + body


def outcome(frame: bytes | bytearray) -> bytes | CompressionError:
    """What comes of decompressing `frame` with a limit of 1000 bytes; any other exception passes."""
    try:
        return decompress(frame, 1000)
    except CompressionError as e:
        return e


def peak_of_refusing(frame: bytes) -> int:
    """The most memory in bytes that Python objects took at once while `frame` was refused."""
    tracemalloc.start()
    try:
        with pytest.raises(CompressionError):
            decompress(frame, LIMIT)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


class TestSettings:
    """Names, and the form of what is written."""

    def test_parse(self) -> None:
        """Every name is known, and default is zstd."""
        assert [Compression.parse(name) for name in ("zstd", "xz", "gzip", "none")] == list(Compression)
        assert Compression.parse("default") is Compression.ZSTD

    @pytest.mark.parametrize("name", ["", "ZSTD", "lz4", "zstd "])
    def test_parse_unknown(self, name: str) -> None:
        """An unknown name is a usage error that lists the known ones."""
        with pytest.raises(UsageError, match="zstd, xz, gzip"):
            Compression.parse(name)

    def test_none_is_not_a_format(self) -> None:
        """Only stores know what uncompressed means."""
        with pytest.raises(UsageError):
            compress(Compression.NONE, b"x")

    @pytest.mark.parametrize("size", [1, 1000, 65536, 300_000])
    def test_zstd_frame_header_is_casyncs(self, size: int) -> None:
        """No content size, no checksum, no dictionary, a 2 MiB window: observed with casync 2 for every chunk size."""
        frame = compress(Compression.ZSTD, text(size))
        assert frame[:6] == bytes.fromhex("28b52ffd0058")

    @pytest.mark.parametrize("size", [20_000, 65536, 250_000])
    def test_zstd_is_as_small_as_casyncs(self, size: int) -> None:
        """The tables for small chunks make frames less than one percent larger than level 3, which casync has."""
        raw = (Path(argparse.__file__).read_bytes() + Path(tarfile.__file__).read_bytes())[:size]
        if len(raw) < size:
            raw += text(size - len(raw))
        stream = zstandard.ZstdCompressor(level=3, write_content_size=False).compressobj()
        assert len(compress(Compression.ZSTD, raw)) <= 1.01 * len(stream.compress(raw) + stream.flush())

    def test_casyncs_bytes(self) -> None:
        """The smallest chunk, where no library version has a choice, has casync 2's bytes (vector V13)."""
        assert compress(Compression.ZSTD, b"hello\n").hex() == "28b52ffd005831000068656c6c6f0a"
        assert (
            compress(Compression.GZIP, b"hello\n").hex()
            == "1f8b0800000000000003cb48cdc9c9e7020020303a3606000000"
        )
        assert compress(Compression.XZ, b"hello\n")[:32].hex() == (
            "fd377a585a000004e6d6b4460200210116000000742fe5a301000568656c6c6f"
        )


class TestRoundTrip:
    """What is compressed can be read."""

    @every_kind
    @given(raw=st.binary(min_size=1, max_size=5000))
    def test_any_bytes(self, kind: Compression, raw: bytes) -> None:
        """Any chunk survives, with a limit of exactly its size."""
        assert decompress(compress(kind, raw), len(raw)) == raw

    @every_kind
    @pytest.mark.parametrize("size", [131071, 131072, 131073, 5_000_000])
    def test_sizes_around_zstd_blocks(self, kind: Compression, size: int) -> None:
        """Several blocks make one chunk."""
        assert decompress(compress(kind, text(size)), size) == text(size)

    def test_more_blocks_than_are_estimated(self) -> None:
        """A chunk of 20 MiB has more blocks than the size estimate looks at."""
        raw = text(20 << 20)
        assert decompress(compress(Compression.ZSTD, raw), 128 << 20) == raw

    @pytest.mark.parametrize(
        "frame",
        [
            zstd_frame(b"hello" * 50),
            zstd_frame(b"hello" * 50, write_checksum=True),
            zstd_frame(b"hello" * 50, level=19, write_content_size=False),
            zstd_rle(1)[:6] + ((250 << 3) | 3).to_bytes(3, "little") + b"A",
            lzma.compress(b"hello" * 50, check=lzma.CHECK_NONE),
            lzma.compress(b"hello" * 50, check=lzma.CHECK_SHA256, preset=0),
            gzip.compress(b"hello" * 50, 9, mtime=12345),
        ],
    )
    def test_other_writers(self, frame: bytes) -> None:
        """Other programs and settings than casync's are read: declared size, checksums, levels, names."""
        assert len(decompress(frame, 250)) == 250

    @every_kind
    def test_any_buffer(self, kind: Compression) -> None:
        """Both directions take slices of larger buffers."""
        frame = compress(kind, memoryview(b"--hello--")[2:-2])
        assert decompress(memoryview(b"--" + frame + b"--")[2:-2], 5) == b"hello"
        assert decompress(bytearray(frame), 5) == b"hello"

    @every_kind
    def test_threads(self, kind: Compression) -> None:
        """Eight threads compress and decompress at once, each with its own contexts."""
        good: list[bool] = []

        def work(seed: int) -> None:
            raws = [text(30_000 + n, seed) for n in range(10)]
            good.append(all(decompress(compress(kind, raw), LIMIT) == raw for raw in raws))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert good == [True] * 8


class TestRefusals:
    """What is not one good frame of acceptable size is a CompressionError, always."""

    @every_kind
    def test_truncated_anywhere(self, kind: Compression) -> None:
        """A frame cut short at any byte is an error, never partial data."""
        frame = compress(kind, text(3000))
        for length in range(len(frame)):
            with pytest.raises(CompressionError):
                decompress(frame[:length], LIMIT)

    @pytest.mark.parametrize("frame", [zstd_frame(text(3000)), zstd_frame(text(3000), write_checksum=True)])
    def test_truncated_with_declared_size(self, frame: bytes) -> None:
        """So is a frame that declares its size or ends in a checksum."""
        for length in range(len(frame)):
            with pytest.raises(CompressionError):
                decompress(frame[:length], LIMIT)

    @every_kind
    @pytest.mark.parametrize(
        "tail", [b"\0", b"\0\0\0\0", b"garbage", None], ids=["nul", "padding", "garbage", "again"]
    )
    def test_trailing_bytes(self, kind: Compression, tail: bytes | None) -> None:
        """Anything after the end is an error: a byte, xz's stream padding, a second frame."""
        frame = compress(kind, b"hello")
        with pytest.raises(CompressionError):
            decompress(frame + (frame if tail is None else tail), LIMIT)

    def test_trailing_bytes_after_declared_size(self) -> None:
        """A zstd frame with a declared size takes another way through the library, and is as strict."""
        frame = zstd_frame(b"hello")
        for tail in (b"\0", frame, bytes.fromhex("502a4d1800000000")):
            with pytest.raises(CompressionError):
                decompress(frame + tail, LIMIT)

    @pytest.mark.parametrize(
        "frame",
        [compress(kind, b"") for kind in KINDS] + [zstd_frame(b"")],
        ids=["zstd", "xz", "gzip", "zstd-declared"],
    )
    def test_nothing_inside(self, frame: bytes) -> None:
        """An empty chunk does not exist."""
        with pytest.raises(CompressionError):
            decompress(frame, LIMIT)

    @every_kind
    def test_one_byte_over_the_limit(self, kind: Compression) -> None:
        """The limit is exact."""
        for size in (1, 999, 131072, 131073):
            frame = compress(kind, text(size + 1))
            with pytest.raises(CompressionError):
                decompress(frame, size)

    @every_kind
    def test_bomb(self, kind: Compression) -> None:
        """A frame that expands a hundred times and more is refused without memory for what is inside."""
        bomb = compress(kind, bytes(64 << 20))
        window = (8 << 20) if kind is Compression.XZ else 0  # zstd's is not traced, gzip's is nothing
        assert peak_of_refusing(bomb) < window + 3 * LIMIT

    @pytest.mark.parametrize("declared", [1 << 40, (1 << 64) - 2, LIMIT + 1])
    def test_zstd_declares_too_much(self, declared: int) -> None:
        """A tiny frame that declares a terabyte allocates nothing of the kind."""
        frame = b"\x28\xb5\x2f\xfd\xe0" + declared.to_bytes(8, "little") + b"\x03\x00\x10A"
        assert peak_of_refusing(frame) < 100_000

    @pytest.mark.parametrize("declared", [4, 6])
    def test_zstd_declares_wrongly(self, declared: int) -> None:
        """A declared size that is not the real one is an error."""
        frame = bytearray(zstd_frame(b"hello"))
        assert frame[5] == 5
        frame[5] = declared
        with pytest.raises(CompressionError):
            decompress(frame, LIMIT)

    def test_zstd_run_length_bomb(self) -> None:
        """A hundred thousand four-byte blocks, 12 GiB inside, end at the limit."""
        with pytest.raises(CompressionError):
            decompress(zstd_rle(100_000), LIMIT)

    def test_zstd_huge_window(self) -> None:
        """The window is what the decoder allocates: 8 MiB or the limit, whatever is more."""
        assert decompress(zstd_rle(1, b"\x68"), LIMIT) == b"A" * 131072  # 8 MiB
        with pytest.raises(CompressionError, match="window"):
            decompress(zstd_rle(1, b"\x70"), LIMIT)  # 16 MiB
        assert decompress(zstd_rle(1, b"\x70"), 16 << 20) == b"A" * 131072
        with pytest.raises(CompressionError):
            decompress(zstd_rle(1, b"\xff"), 128 << 20)  # 3.75 TiB: the library itself says no

    def test_xz_huge_dictionary(self) -> None:
        """The same for xz: preset 6 needs 8 MiB, preset 9 wants 64."""
        frame = lzma.compress(b"hello", preset=9)
        with pytest.raises(CompressionError, match=r"(?i)memory"):
            decompress(frame, LIMIT)
        assert decompress(frame, 64 << 20) == b"hello"

    def test_zstd_dictionary(self) -> None:
        """Chunks are self-contained; a frame that names a dictionary says so in the error."""
        samples = [b"chunk %d of the dictionary sample, %d" % (n, n * n) for n in range(2000)]
        trained = zstandard.train_dictionary(4096, [*samples])
        with pytest.raises(CompressionError, match=f"dictionary {trained.dict_id()}"):
            decompress(zstd_frame(samples[7], dict_data=trained), LIMIT)

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"h",
            b"hello, world",
            bytes.fromhex("502a4d1805000000") + b"hello",  # zstd, skippable frame
            bytes.fromhex("502a4d1800000000") + compress(Compression.ZSTD, b"hello"),
            bytes.fromhex("27b52ffd"),  # zstd 0.7
            zlib.compress(b"hello"),
            lzma.compress(b"hello", format=lzma.FORMAT_ALONE),
            b"BZh9",
        ],
    )
    def test_unknown_format(self, data: bytes) -> None:
        """Only the three formats are recognised; skippable frames and relatives of the three are not."""
        with pytest.raises(CompressionError, match="not compressed with zstd, xz or gzip"):
            decompress(data, LIMIT)

    @every_kind
    @given(data=st.data())
    def test_damage(self, kind: Compression, data: st.DataObject) -> None:
        """Whatever is done to a frame: an error, or bytes within the limit; never another exception."""
        frame = bytearray(compress(kind, data.draw(st.binary(min_size=1, max_size=300))))
        for _ in range(data.draw(st.integers(1, 4))):
            frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
        result = outcome(frame)
        assert 1 <= len(result) <= 1000 if isinstance(result, bytes) else "\n" not in str(result)

    @given(
        head=st.sampled_from(["28b52ffd", "fd377a585a00", "1f8b08", "28b52ffd0058"]),
        tail=st.binary(max_size=200),
    )
    def test_garbage_after_the_magic(self, head: str, tail: bytes) -> None:
        """A magic number and noise: an error, or bytes within the limit."""
        result = outcome(bytes.fromhex(head) + tail)
        assert isinstance(result, CompressionError) or 1 <= len(result) <= 1000

    def test_is_a_format_error(self) -> None:
        """Callers that do not care for compression catch what they catch for every malformed file."""
        assert issubclass(CompressionError, FormatError)


@pytest.mark.parametrize("kind", [kind for kind in Compression if kind is not Compression.NONE])
@pytest.mark.parametrize("size", [1, 4096, 1 << 20])
def test_limit_of_files(kind: Compression, size: int) -> None:
    """The file of a chunk that cannot be compressed stays within what a store reads, in every format."""
    assert len(compress(kind, Random(1).randbytes(size))) <= file_limit(size)


@pytest.mark.parametrize("call", ["compress", "decompress"])
def test_no_memory_is_no_damage(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A good chunk that there is no memory for is not called damaged, and may be tried again."""
    frame = compress(Compression.ZSTD, b"x" * 1000)

    class Poor:
        def __getattr__(self, name: str) -> object:
            raise zstandard.ZstdError(f"zstd {call} error: Allocation error : not enough memory")

    with monkeypatch.context() as patch:
        patch.setattr(compression._codecs, "_small_compressor", Poor())
        patch.setattr(compression._codecs, "_decompressor", Poor())
        with pytest.raises(MemoryError):
            decompress(frame, 1000) if call == "decompress" else compress(Compression.ZSTD, b"x" * 1000)
    assert decompress(frame, 1000) == b"x" * 1000


def test_packs_take_what_stores_take() -> None:
    """A pack has room for the file of the largest chunk."""
    assert file_limit(_layouts.MAX_CHUNK_SIZE) == _layouts.MAX_STORED_SIZE
