"""What is uploaded: bytes that can be sent from any offset, more than once, collected here or read where they are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from casync_compat.closing import Closing
from casync_compat.net.http import Body
from casync_compat.oci.spec.blobs import BlobSource, Check
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor
from casync_compat.spool import Spool

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["UploadContent", "UploadSpool", "content_of"]

_PIECE = 1 << 18
_SPOOL_MEMORY = 1 << 20


class UploadContent:
    """A blob's bytes, to be sent from any offset, more than once.

    :param read_at: gives exactly the bytes asked for
    :param trusted: whether the bytes are known to be the descriptor's; otherwise they are hashed as they first go out,
        and the last of them are held back when they are not
    """

    def __init__(
        self,
        descriptor: Descriptor,
        read_at: Callable[[int, int], ReadableBuffer],
        where: str,
        *,
        trusted: bool,
    ) -> None:
        self.descriptor = descriptor
        self._read_at = read_at
        self._check = None if trusted else Check(descriptor, where)

    def part(self, start: int, end: int) -> Body:
        """The bytes from `start` up to `end`."""
        return _Part(self, start, end)

    def pieces(self, start: int, end: int) -> Iterator[memoryview]:
        """The same in pieces.

        :raises BlobCorrupt: they are not the descriptor's
        """
        at = start
        while at < end:
            piece = memoryview(self._read_at(at, min(_PIECE, end - at))).cast("B")
            check = self._check
            if check is not None and check.size == at:
                check.update(piece)
                if check.size == self.descriptor.size:
                    check.finish()
                    self._check = None
            at += piece.nbytes
            yield piece


class _Part:
    def __init__(self, content: UploadContent, start: int, end: int) -> None:
        self._content = content
        self._start = start
        self._end = end
        self.size = end - start

    def pieces(self) -> Iterator[memoryview]:
        return self._content.pieces(self._start, self._end)


class UploadSpool(Closing):
    """Bytes collected until their digest is known: in memory, and from 1 MiB on in a temporary file.

    :param algorithm: of that digest
    """

    def __init__(self, algorithm: str = "sha256") -> None:
        self._algorithm = algorithm
        self._hash = hashlib.new(algorithm)
        self._spool = Spool("an upload", _SPOOL_MEMORY)

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._spool.size

    def write(self, data: ReadableBuffer, /) -> None:
        self._hash.update(data)
        self._spool.append(data)

    @property
    def digest(self) -> BlobDigest:
        """Digest of what was written."""
        return BlobDigest(self._algorithm, self._hash.hexdigest())

    def content(self, descriptor: Descriptor) -> UploadContent:
        """What was written, whose digest the caller has compared."""
        return UploadContent(descriptor, self._spool.read_at, "", trusted=True)

    def close(self) -> None:
        """Drop it all."""
        self._spool.close()


def content_of(source: BlobSource, descriptor: Descriptor) -> UploadContent:
    """A blob straight from another place, checked on the way."""
    return UploadContent(
        descriptor,
        lambda offset, size: source.read_range(descriptor, offset, size),
        source.name,
        trusted=False,
    )
