"""The recipe of a tar: how to make it again, to the byte, from the archive (catar) that holds its payload.

    >>> recipe = Recipe.parse(blob)
    >>> for piece in rebuild_checked(recipe, catar):
    ...     tar.write(piece)

A recipe is a list of splices: bytes of its own (tar headers, verbatim), ranges of the catar, runs of zeros. It is not
trusted: every range is checked against the catar's size and every length against limits before anything is made of it.
`casync_compat.oci.tar.recipebuilder` writes recipes, `casync_compat.oci.tar.view` reads a tar at any offset through
one.
"""

from __future__ import annotations

import hashlib
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator

from casync_compat import _layouts
from casync_compat.compression import CompressionError, decompress
from casync_compat.oci.spec.descriptor import BlobDigest
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.tar.recipeformat import (
    COPY,
    FRAME,
    HEAD,
    LITERAL,
    SIZE,
    ZEROS,
    RecipeLimits,
    Varints,
)
from catar.archive import RandomAccess

__all__ = ["Recipe", "RecipeLimits", "rebuild", "rebuild_checked"]

_read_head = HEAD.reader(
    "version", "tar_size", "catar_size", "sha256", "literals", "splices", "list_size", "frames"
)
_NOTHING = bytes.fromhex("28b52ffd2000010000")
"""A zstd frame with nothing in it: of size 0, one raw block that is the last."""
_PIECE = 1 << 20
_CACHED = 4
_ZERO_PIECE = bytes(_PIECE)


class Recipe:
    """A parsed recipe; make one with `parse`. Safe to use from several threads.

    :ivar tar_size: of the tar, in bytes
    :ivar catar_size: of the archive that it copies from
    :ivar diff_id: sha256 of the tar
    """

    def __init__(self, data: bytes, where: str, limits: RecipeLimits) -> None:
        self._data = data
        self._where = where
        try:
            self._parse(limits)
        except (ValueError, struct.error) as error:
            raise ImageError(where, f"this is no good tar recipe: {error}") from error
        self._cache: tuple[tuple[int, bytes], ...] = ()

    @classmethod
    def parse(cls, data: bytes, where: str = "recipe", limits: RecipeLimits | None = None) -> Recipe:
        """:raises ImageError: it is malformed, over a limit, or copies what is outside of its catar"""
        return cls(data, where, limits or RecipeLimits())

    def to_bytes(self) -> bytes:
        """What it was parsed from."""
        return self._data

    def _parse(self, limits: RecipeLimits) -> None:
        data = self._data
        version, tar_size, catar_size, digest, literals, count, body_size, frames = _read_head(data, 0)
        self.tar_size: int = tar_size
        self.catar_size: int = catar_size
        if not HEAD.has_constants(data, 0, "frame_magic", "frame_size", "magic"):
            raise ValueError("it does not begin like one")
        if not HEAD.has_constants(data, 0, "version"):
            raise ValueError(f"it has version {version}; a newer pycasync may know it")
        if not HEAD.has_constants(data, 0) or frames != -(-literals // FRAME):
            raise ValueError("its number of frames is wrong")
        if (
            self.tar_size > limits.tar
            or self.catar_size > _layouts.RECIPE_CATAR_MAX
            or literals > limits.literals
        ):
            raise ValueError("it is over the limit of sizes")
        self.diff_id = BlobDigest("sha256", digest.hex())
        self._literals = literals
        at = HEAD.size
        if not body_size:
            raise ValueError("it has no list of splices")
        body = b""
        if count:
            body = self._frame(at, body_size, limits.splices)
        elif data[at : at + body_size] != _NOTHING:
            raise ValueError("it has a list of splices for an empty tar")
        at += body_size
        if len(body) < SIZE.size * frames:
            raise ValueError("its list of splices is cut short")
        self._frame_ends = array("Q")
        self._frames_at = at
        for (size,) in SIZE.iter_unpack(body[: SIZE.size * frames]):
            at += size
            self._frame_ends.append(at)
        if at != len(data):
            raise ValueError("its length is not that of its frames")
        self._read_splices(body, SIZE.size * frames, count)

    def _read_splices(self, body: bytes, at: int, count: int) -> None:
        """Fill the columns: kind, offset in the tar, and offset in the literals or the catar of each splice."""
        self._kinds = bytearray()
        self._starts = array("Q")
        self._sources = array("Q")
        numbers = Varints(body, at)
        following = numbers.next
        position = literal = 0
        for _ in range(count):
            value = following()
            kind, length = value & 3, value >> 2
            if kind > ZEROS or not length:
                raise ValueError("it has a splice of unknown kind, or an empty one")
            self._kinds.append(kind)
            self._starts.append(position)
            self._sources.append(literal)
            position += length
            if kind == LITERAL:
                literal += length
            if position > self.tar_size:
                raise ValueError("its splices make more than its tar")
        if position != self.tar_size or literal != self._literals:
            raise ValueError("its splices do not make its tar")
        self._starts.append(position)
        expected = 0
        for i, kind in enumerate(self._kinds):
            if kind == COPY:
                value = following()
                expected += value >> 1 if not value & 1 else ~(value >> 1)
                length = self._starts[i + 1] - self._starts[i]
                if expected < 0 or expected + length > self.catar_size:
                    raise ValueError("it copies bytes from outside of its archive")
                self._sources[i] = expected
                expected += length
        if numbers.at != len(body):
            raise ValueError("something follows its list of splices")

    def _frame(self, at: int, size: int, limit: int) -> bytes:
        if at + size > len(self._data):
            raise ValueError("it is cut short")
        try:
            return decompress(memoryview(self._data)[at : at + size], limit)
        except CompressionError as error:
            raise ValueError(str(error)) from error

    def splices(self, offset: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """`(kind, offset in the tar, source, length)` of what makes the bytes `offset` to `end` of the tar."""
        starts, kinds, sources = self._starts, self._kinds, self._sources
        i = bisect_right(starts, offset) - 1
        while offset < end and i < len(kinds):
            skip = offset - starts[i]
            length = min(end, starts[i + 1]) - offset
            yield kinds[i], offset, sources[i] + skip, length
            offset += length
            i += 1

    def literal(self, offset: int, length: int) -> bytes:
        """Bytes of its own. :raises ImageError: they are corrupt"""
        index, skip = divmod(offset, FRAME)
        data = self._literal_frame(index)
        if skip + length <= len(data):
            return data[skip : skip + length]
        parts = [data[skip:]]
        length -= len(parts[0])
        while length > 0:
            index += 1
            data = self._literal_frame(index)
            parts.append(data[:length])
            length -= len(data)
        return b"".join(parts)

    def _literal_frame(self, index: int) -> bytes:
        for known, data in self._cache:
            if known == index:
                return data
        at = self._frame_ends[index - 1] if index else self._frames_at
        try:
            data = self._frame(at, self._frame_ends[index] - at, FRAME)
            if len(data) != min(FRAME, self._literals - index * FRAME):
                raise ValueError("a frame has another size than it should")
        except ValueError as error:
            raise ImageError(self._where, f"this is no good tar recipe: {error}") from error
        # One assignment of a new tuple: another thread sees the old cache or the new one, and both are right.
        self._cache = ((index, data), *self._cache[: _CACHED - 1])
        return data

    def made(self, kind: int, source: int, length: int, catar: RandomAccess) -> bytes:
        """The bytes of a splice.

        :raises ImageError: the recipe is corrupt, or the catar ends too early
        """
        if kind == LITERAL:
            return self.literal(source, length)
        if kind == ZEROS:
            return _ZERO_PIECE[:length] if length <= _PIECE else bytes(length)
        data = catar.read_at(source, length)
        if len(data) != length:
            raise ImageError(self._where, f"the archive it copies from ends at byte {source + len(data)}")
        return data

    def check_catar(self, catar: RandomAccess) -> None:
        """:raises ImageError: the catar has another size than the recipe's"""
        if catar.size != self.catar_size:
            raise ImageError(
                self._where,
                f"it belongs to an archive of {self.catar_size} bytes, but this one has {catar.size}",
            )


def rebuild(recipe: Recipe, catar: RandomAccess) -> Iterator[bytes]:
    """The tar, in pieces of about a megabyte. Nobody checks its digest here.

    :raises ImageError: the recipe is corrupt, or belongs to another catar
    """
    recipe.check_catar(catar)
    parts: list[bytes] = []
    size = 0
    for kind, _, source, length in recipe.splices(0, recipe.tar_size):
        while length:
            part = min(length, _PIECE)
            parts.append(recipe.made(kind, source, part, catar))
            source += part
            length -= part
            size += part
            if size >= _PIECE:
                yield b"".join(parts)
                parts = []
                size = 0
    if parts:
        yield b"".join(parts)


def rebuild_checked(recipe: Recipe, catar: RandomAccess, where: str = "layer") -> Iterator[bytes]:
    """As `rebuild`, but the last piece comes only when all of them have the digest of the tar.

    :raises ImageError: they have not
    """
    hasher = hashlib.sha256()
    last = b""
    for piece in rebuild(recipe, catar):
        if last:
            yield last
        hasher.update(piece)
        last = piece
    if hasher.hexdigest() != recipe.diff_id.hex:
        raise ImageError(
            where, f"the tar made again has the digest sha256:{hasher.hexdigest()}, not {recipe.diff_id}"
        )
    if last:
        yield last
