"""The chunker: where to cut a buffer, for any chunk sizes, on whichever kernel there is.

It holds parameters and nothing else. The caller keeps the bytes of the unfinished chunk and hands them in again with
more behind them, so the same object serves any number of streams and threads:

    chunker, carry = Chunker(ChunkSizes()), b""
    for piece in pieces:
        buffer = carry + piece
        begin = 0
        for end in chunker.cuts(buffer, 0, len(buffer), scanned=len(carry)):
            emit(buffer[begin:end])
            begin = end
        carry = buffer[begin:]
    if carry:
        emit(carry)

The compiled kernel runs without the GIL. Deliberately not here: reading, hashing chunks to ids, threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from casync_compat.chunker import kernel as _python
from casync_compat.chunker.params import ChunkSizes
from casync_compat.chunker.table import WINDOW_SIZE
from casync_compat.errors import CasyncError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import ReadableBuffer

    Scan = Callable[[ReadableBuffer, int, int, int, int, int, int], list[int]]

_native_scan: Scan | None
try:
    from casync_compat.chunker import _kernel
except ImportError:  # built without a C compiler
    _native_scan = None
else:
    _native_scan = _kernel.scan

__all__ = ["Chunker"]


class Chunker:
    """Finds chunk ends by casync's rule (``src/cachunker.c``, ``ca_chunker_scan``).

    :param sizes: the chunk sizes
    :param native: True for the compiled kernel, False for the Python one, None for the faster that is there
    :raises CasyncError: `native` is True and the kernel was not built
    """

    __slots__ = ("_discriminator", "_scan", "native", "sizes")

    def __init__(self, sizes: ChunkSizes | None = None, *, native: bool | None = None) -> None:
        if native and _native_scan is None:
            raise CasyncError(
                "the compiled chunker is missing; reinstall pycasync where there is a C compiler"
            )
        self.sizes = sizes if sizes is not None else ChunkSizes()
        self.native = _native_scan is not None if native is None else native
        self._scan: Scan = _native_scan if self.native and _native_scan is not None else _python.scan
        self._discriminator = self.sizes.discriminator

    def __repr__(self) -> str:
        return f"Chunker({self.sizes!r}, native={self.native})"

    def cuts(self, buffer: ReadableBuffer, begin: int, end: int, scanned: int = 0) -> list[int]:
        """The ends of all chunks that are complete within ``buffer[begin:end]``, ascending; a chunk starts at `begin`.

        What lies behind the last end is an unfinished chunk: call again when there is more, or take it as the last
        chunk at the end of the data.

        :param buffer: contiguous bytes
        :param begin: offset in `buffer` at which a chunk starts
        :param end: offset in `buffer` behind the last byte to look at
        :param scanned: offset in `buffer` up to which an earlier call found no end for the chunk at `begin`; no byte
            is then scanned twice. Anything up to `begin` says nothing.
        :raises UsageError: with a maximum below 48, unless fixed, the data would need a chunk beyond the maximum:
            casync never cuts before 48 bytes, and dies there as well (EINVAL)
        :raises ValueError: the offsets do not lie within the buffer in order
        """
        sizes = self.sizes
        if sizes.fixed:
            _check_range(buffer, begin, end)
            return list(range(begin + sizes.avg, end + 1, sizes.avg))
        if sizes.max < WINDOW_SIZE:
            _check_range(buffer, begin, end)
            if end - begin > sizes.max:
                raise UsageError(
                    f"chunk sizes {sizes} cannot be kept: no chunk can end before {WINDOW_SIZE} bytes; "
                    f"choose a maximum of {WINDOW_SIZE} or more"
                )
            return []
        return self._scan(buffer, begin, scanned, end, sizes.min, sizes.max, self._discriminator)

    def split(self, data: ReadableBuffer) -> list[tuple[int, int]]:
        """``(start, end)`` of every chunk of a whole blob, with the last, partial one; empty for no data.

        :raises UsageError: as :meth:`cuts`
        """
        size = memoryview(data).nbytes
        ends = self.cuts(data, 0, size)
        if size and (not ends or ends[-1] != size):
            ends.append(size)
        return list(zip([0, *ends], ends, strict=False))


def _check_range(buffer: ReadableBuffer, begin: int, end: int) -> None:
    if not 0 <= begin <= end <= memoryview(buffer).nbytes:
        raise ValueError("begin and end must lie within the buffer, in that order")
