"""Writes tar recipes; `casync_compat.oci.tar.recipe` reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from casync_compat.errors import UsageError
from casync_compat.oci.spec.descriptor import BlobDigest
from casync_compat.oci.tar.recipeformat import (
    COPY,
    FRAME,
    HEAD,
    LITERAL,
    SIZE,
    ZEROS,
    put_varint,
    zigzag,
)

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["RecipeBuilder"]

_pack_head = HEAD.writer("tar_size", "catar_size", "sha256", "literals", "splices", "list_size", "frames")
_LEVEL = 9
"""Of zstd. Level 19 makes headers a seventh smaller still, and takes twenty times as long."""


class RecipeBuilder:
    """Collects splices in the order of the tar. What can be joined is joined.

    :param catar_size: of the archive that ranges are copied from, in bytes
    """

    def __init__(self, catar_size: int) -> None:
        from zstandard import ZstdCompressor  # lazily, as everywhere

        self._compressor = ZstdCompressor(level=_LEVEL, write_content_size=True, write_checksum=False)
        self._catar_size = catar_size
        self._kind = self._length = self._from = 0
        self._expected = 0
        self._count = 0
        self._splices = bytearray()
        self._offsets = bytearray()
        self._literals = memoryview(bytearray(FRAME))
        self._filled = 0
        self._frames: list[bytes] = []
        self._literal_size = 0
        self.tar_size = 0
        """Bytes of the tar so far."""

    def literal(self, data: ReadableBuffer) -> None:
        """The next bytes are these."""
        view = memoryview(data).cast("B")
        self._splice(LITERAL, len(view))
        self._literal_size += len(view)
        while view:
            part = view[: FRAME - self._filled]
            end = self._filled + len(part)
            self._literals[self._filled : end] = part
            self._filled = end
            view = view[len(part) :]
            if end == FRAME:
                self._end_frame()

    def zeros(self, count: int) -> None:
        """The next `count` bytes are zeros."""
        self._splice(ZEROS, count)

    def copy(self, offset: int, length: int) -> None:
        """The next `length` bytes are those of the catar from `offset` on.

        :raises UsageError: the catar does not have them
        """
        if not length:
            return
        if offset < 0 or length < 0 or offset + length > self._catar_size:
            raise UsageError(f"bytes {offset} to {offset + length} are outside of the archive")
        if not (self._kind == COPY and self._length and self._from + self._length == offset):
            self._end_splice()
            self._from = offset
        self._splice(COPY, length)

    def build(self, diff_id: BlobDigest) -> bytes:
        """The whole recipe.

        :param diff_id: sha256 of the tar
        :raises UsageError: it is another kind of digest
        """
        if diff_id.algorithm != "sha256":
            raise UsageError(f"a recipe names its tar by sha256, not by {diff_id.algorithm}")
        self._end_splice()
        if self._filled:
            self._end_frame()
        sizes = b"".join(SIZE.pack(len(frame)) for frame in self._frames)
        body = self._compressor.compress(sizes + self._splices + self._offsets)
        head = _pack_head(
            *(self.tar_size, self._catar_size, bytes.fromhex(diff_id.hex)),
            *(self._literal_size, self._count, len(body), len(self._frames)),
        )
        return b"".join((head, body, *self._frames))

    def _splice(self, kind: int, length: int) -> None:
        if not length:
            return
        if kind != self._kind and self._length:
            self._end_splice()
        self._kind = kind
        self._length += length
        self.tar_size += length

    def _end_splice(self) -> None:
        if self._length:
            put_varint(self._splices, self._length << 2 | self._kind)
            if self._kind == COPY:
                put_varint(self._offsets, zigzag(self._from - self._expected))
                self._expected = self._from + self._length
            self._count += 1
        self._length = 0

    def _end_frame(self) -> None:
        frame = self._compressor.compress(self._literals[: self._filled])
        # A copy, because what zstandard gives keeps the buffer of a megabyte that it was compressed into.
        self._frames.append(bytes(memoryview(frame)))
        self._filled = 0
