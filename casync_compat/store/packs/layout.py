"""How a store keeps chunks: a file each, or in packs; as a word that users give. No IO."""

from __future__ import annotations

import enum

from casync_compat.errors import UsageError

__all__ = ["StoreLayout"]


class StoreLayout(enum.Enum):
    """How new chunks are written; the value is the word."""

    OBJECTS = "objects"
    """A file or object each, as casync and desync have them."""
    PACKS = "packs"

    @classmethod
    def parse(cls, text: str) -> StoreLayout:
        """The layout of a name. :raises UsageError: there is none"""
        try:
            return cls(text)
        except ValueError:
            raise UsageError(f"unknown layout {text!r}; it is packs or objects") from None
