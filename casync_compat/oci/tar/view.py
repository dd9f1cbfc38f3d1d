"""A tar at any offset, made of its recipe and catar as it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from casync_compat.oci.tar.recipe import Recipe
from casync_compat.oci.tar.recipeformat import COPY
from catar.archive import RandomAccess

__all__ = ["Extent", "TarView"]


class Extent(NamedTuple):
    """Where a part of a tar comes from.

    :ivar tar: its offset in the tar
    :ivar length: in bytes
    :ivar catar: its offset in the catar; None for what the recipe holds itself
    """

    tar: int
    length: int
    catar: int | None


class TarView:
    """A tar at any offset, made of its recipe and catar as it is asked for (a `catar.archive.RandomAccess`).

    :raises ImageError: from the methods too, when the recipe is corrupt or belongs to another catar
    """

    def __init__(self, recipe: Recipe, catar: RandomAccess) -> None:
        recipe.check_catar(catar)
        self.recipe = recipe
        self._catar = catar

    @property
    def size(self) -> int:
        """Size of the tar in bytes."""
        return self.recipe.tar_size

    def read_at(self, offset: int, size: int) -> bytes:
        """The bytes from `offset` on, `size` of them or as many as there are."""
        end = min(offset + size, self.size)
        made = self.recipe.made
        return b"".join(
            made(kind, source, length, self._catar)
            for kind, _, source, length in self.recipe.splices(offset, end)
        )

    def read_some(self, offset: int, least: int, most: int) -> bytes:
        """As `read_at` for `least` bytes, and more, up to `most`, as far as the recipe has them itself."""
        parts: list[bytes] = []
        have = 0
        for kind, _, source, length in self.recipe.splices(offset, min(offset + most, self.size)):
            if kind == COPY:
                length = min(length, least - have)
                if length <= 0:
                    break
            parts.append(self.recipe.made(kind, source, length, self._catar))
            have += length
            if kind == COPY and have >= least:
                break
        return b"".join(parts)

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """Where a range of the tar comes from, in order: what a reader of many files needs to fetch."""
        end = min(offset + length, self.size)
        for kind, at, source, size in self.recipe.splices(offset, end):
            yield Extent(at, size, source if kind == COPY else None)
