"""THE temporary file: bytes set aside during a run, appended or written in place, and read at any offset.

    >>> with Spool("chunks") as spool:
    ...     at = spool.append(b"some bytes")
    ...     spool.read_at(at, 4)
    b'some'

It has no name and goes with the process, whatever happens. It lies in the directory for temporary files (`TMPDIR`, else
/tmp), and whatever goes wrong there, a full disk above all, is one error: `SpoolError`. It keeps no index of what lies
where; whoever sets something aside remembers the offset.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
from typing import IO, TYPE_CHECKING

from casync_compat.closing import Closing
from casync_compat.errors import FileError
from casync_compat.fs.reflink import write_at

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["Appender", "Spool", "SpoolError"]

_BUFFER = 256 << 10


class SpoolError(FileError):
    """A temporary file cannot be made, written or read; `path` is the directory that it lies in."""


class Spool(Closing):
    """A temporary file without a name. May be written and read from several threads at once, but for `memory`.

    :param what: what is set aside, for messages ("chunks")
    :param memory: bytes up to which it is kept in memory; then only one thread may write. 0 makes a file at once
    :raises SpoolError: from any method, when the file cannot be made, written or read
    """

    def __init__(self, what: str, memory: int = 0) -> None:
        self._what = what
        self._memory = bytearray()
        self._memory_limit = memory
        self._lock = threading.Lock()
        self._size = 0
        self._file: IO[bytes] | None = None
        self._fd = -1
        if not memory:
            self._make()

    def close(self) -> None:
        """Drop it all."""
        self._fd = -1
        self._memory = bytearray()
        if self._file is not None:
            self._file.close()

    @property
    def size(self) -> int:
        """Bytes set aside: where the next ones are appended."""
        return self._size

    def reserve(self, size: int) -> int:
        """Room for `size` bytes at the end, to be filled by `write_at`. Returns the offset of the first."""
        with self._lock:
            offset = self._size
            self._size += size
        return offset

    def append(self, data: ReadableBuffer, /) -> int:
        """Set bytes aside behind all others. Returns the offset of the first."""
        view = memoryview(data).cast("B")
        offset = self.reserve(view.nbytes)
        if self._fd < 0 and self._size <= self._memory_limit:
            self._memory += view
        else:
            self.write_at(offset, view)
        return offset

    def write_at(self, offset: int, data: ReadableBuffer, /) -> None:
        """Write within what was reserved."""
        try:
            if self._fd < 0:
                self._make()
                write_at(self._fd, memoryview(self._memory), 0)
                self._memory = bytearray()
            write_at(self._fd, memoryview(data).cast("B"), offset)
        except OSError as error:
            raise self._failed("write", error) from error

    def read_at(self, offset: int, size: int) -> bytes:
        """The bytes from `offset` on, `size` of them or as many as there are."""
        size = min(size, self._size - offset)
        if size <= 0:
            return b""
        if self._fd < 0:
            return bytes(memoryview(self._memory)[offset : offset + size])
        try:
            data = os.pread(self._fd, size, offset)
            while len(data) < size and (more := os.pread(self._fd, size - len(data), offset + len(data))):
                data += more
        except OSError as error:
            raise self._failed("read", error) from error
        return data

    def read_into(self, offset: int, buffer: WriteableBuffer) -> int:
        """Fill a buffer, or its beginning, with the bytes from `offset` on. Returns how many; 0 at the end."""
        view = memoryview(buffer).cast("B")[: max(0, self._size - offset)]
        if self._fd < 0:
            view[:] = self._memory[offset : offset + len(view)]
            return len(view)
        try:
            return os.preadv(self._fd, [view], offset)
        except OSError as error:
            raise self._failed("read", error) from error

    def mapped(self) -> ReadableBuffer:
        """All of it as one buffer, for who wants it whole; the pages are those of the file."""
        if self._fd < 0:
            return memoryview(self._memory)
        try:
            return mmap.mmap(self._fd, self._size, access=mmap.ACCESS_READ) if self._size else b""
        except OSError as error:
            raise self._failed("read", error) from error

    def descriptor(self) -> int:
        """A descriptor of the file, which the caller closes; it goes on when the spool is closed."""
        try:
            if self._fd < 0:
                self._make()
                write_at(self._fd, memoryview(self._memory), 0)
                self._memory = bytearray()
            return os.dup(self._fd)
        except OSError as error:
            raise self._failed("open", error) from error

    def _make(self) -> None:
        try:
            self._file = tempfile.TemporaryFile(prefix="pycasync-", buffering=0)  # noqa: SIM115 (closed by close)
            self._fd = self._file.fileno()
        except OSError as error:
            raise self._failed("make", error) from error

    def _failed(self, op: str, error: OSError) -> SpoolError:
        op = f"{op} a temporary file for {self._what} (TMPDIR says where)"
        try:
            return SpoolError(tempfile.gettempdir(), op, error)
        except OSError as nowhere:  # it lists the directories that were tried
            return SpoolError("TMPDIR", op, nowhere.strerror or error)


class Appender:
    """Collects many small pieces, so that a spool gets few large ones. The only one to append, for one thread.

    :ivar size: bytes so far, those that were not handed on yet among them
    """

    def __init__(self, spool: Spool) -> None:
        self.size = spool.size
        self._spool = spool
        self._held = bytearray()

    def append(self, data: ReadableBuffer, /) -> None:
        """Set bytes aside behind all others; they can be read after `flush`."""
        self._held += data
        self.size += memoryview(data).nbytes
        if len(self._held) >= _BUFFER:
            self.flush()

    def flush(self) -> None:
        """Hand on what was collected. :raises SpoolError: it cannot be written"""
        held, self._held = self._held, bytearray()
        self._spool.append(held)
