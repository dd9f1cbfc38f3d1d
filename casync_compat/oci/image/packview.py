"""A pack that is written nowhere: its bytes at any offset, read out of where its chunks lie.

    >>> view = PackView(rows, frame, "a new pack")
    >>> descriptor = view.descriptor(media.PACK_ZSTD)
    >>> repository.borrow(descriptor, view)

A registry wants to know a pack's digest before its bytes, and some of the bytes twice when sending was interrupted. So
what goes there is read twice from the chunk spool, and not copied to a second temporary file in between.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, chain
from typing import TypeAlias

from casync_compat.closing import Closing
from casync_compat.oci.spec.blobs import MANIFEST_LIMIT, Check
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor
from casync_compat.oci.spec.errors import BlobMissing
from casync_compat.oci.spec.packindex import PackRow, pack_table

__all__ = ["Frame", "PackView"]

_PIECE = 1 << 20

Frame: TypeAlias = Callable[[PackRow], bytes]
"""Gives a chunk as it goes into a pack; it may be asked again for the same one, from several threads."""


class PackView:
    """A pack as a `catar.archive.RandomAccess`, and as a `BlobSource` of the one blob that it is.

    :param rows: its chunks, in their order
    :param frame: says where they lie
    :ivar size: in bytes, the table at its end among them
    """

    near = True

    def __init__(self, rows: Sequence[PackRow], frame: Frame, name: str) -> None:
        self.name = name
        self._rows = rows
        self._frame = frame
        self._table = pack_table(rows)
        self._ends = list(accumulate(chain((row.stored for row in rows), (len(self._table),))))
        self.size = self._ends[-1]
        self._known: BlobDigest | None = None

    def frames(self) -> Iterator[bytes]:
        """The whole pack in pieces."""
        for row in self._rows:
            yield self._frame(row)
        yield self._table

    def descriptor(self, media_type: str) -> Descriptor:
        """The pack's descriptor, for which all of it is read."""
        hasher = hashlib.sha256()
        for frame in self.frames():
            hasher.update(frame)
        self._known = BlobDigest("sha256", hasher.hexdigest())
        return Descriptor(media_type, self._known, self.size)

    def read_at(self, offset: int, size: int) -> bytes:
        """The bytes from `offset` on, `size` of them or as many as there are."""
        end = min(offset + size, self.size)
        parts = []
        number = bisect_right(self._ends, offset)
        while offset < end:
            frame = self._frame(self._rows[number]) if number < len(self._rows) else self._table
            begin = self._ends[number] - len(frame)
            parts.append(frame[offset - begin : end - begin])
            offset = self._ends[number]
            number += 1
        return b"".join(parts)

    # As a source of blobs

    def has(self, descriptor: Descriptor) -> bool:
        return descriptor.digest == self._known and descriptor.size == self.size

    def open(self, descriptor: Descriptor) -> _Stream:
        self._find(descriptor)
        return _Stream(self, descriptor)

    def read(self, descriptor: Descriptor, limit: int = MANIFEST_LIMIT) -> bytes:
        self._find(descriptor)
        return self.read_at(0, self.size)

    def read_range(self, descriptor: Descriptor, offset: int, size: int) -> bytes:
        self._find(descriptor)
        return self.read_at(offset, size)

    def _find(self, descriptor: Descriptor) -> None:
        if not self.has(descriptor):
            raise BlobMissing(str(descriptor.digest), self.name)


class _Stream(Closing):
    """A pack from its beginning to its end (a `BlobStream`)."""

    def __init__(self, view: PackView, descriptor: Descriptor) -> None:
        self._view = view
        self._check = Check(descriptor, view.name)

    def read(self, size: int, /) -> bytes:
        data = self._view.read_at(self._check.size, min(size, _PIECE))
        if data:
            self._check.update(data)
        else:
            self._check.finish()
        return data

    def close(self) -> None:
        """Nothing is held."""
