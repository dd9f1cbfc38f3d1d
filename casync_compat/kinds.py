"""What a file or stream is: archive, index or blob; told by suffix or by name.

The suffix counts in the last path component only, and only behind a non-empty stem (casync `src/casync-tool.c`).
"""

from __future__ import annotations

import enum

__all__ = ["Kind"]


class Kind(enum.Enum):
    """Kinds of input and output; the values are their names, as casync has them."""

    ARCHIVE = "archive"
    ARCHIVE_INDEX = "archive-index"
    BLOB = "blob"
    BLOB_INDEX = "blob-index"
    DIRECTORY = "directory"

    @property
    def is_index(self) -> bool:
        """Whether it is an index file, which needs a chunk store."""
        return self in (Kind.ARCHIVE_INDEX, Kind.BLOB_INDEX)

    @property
    def is_tree(self) -> bool:
        """Whether there are nodes in it."""
        return self in (Kind.ARCHIVE, Kind.ARCHIVE_INDEX, Kind.DIRECTORY)

    @classmethod
    def of_suffix(cls, path: bytes) -> Kind | None:
        """The kind that a path's suffix stands for, or None."""
        name = path.rstrip(b"/").rpartition(b"/")[2]
        for suffix, kind in _SUFFIXES.items():
            if name.endswith(suffix) and len(name) > len(suffix):
                return kind
        return None


_SUFFIXES = {b".catar": Kind.ARCHIVE, b".caidx": Kind.ARCHIVE_INDEX, b".caibx": Kind.BLOB_INDEX}
