"""Where a stream of archive or blob bytes goes: into a file, or only through a digest; `chunking` has the third way.

All are filled the same way: `write` for small pieces, `room` and `advance` for bytes that are read in place. They hash
the stream on a thread of its own beside everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from casync_compat.closing import Closing
from casync_compat.ids import ChunkId, Digest
from casync_compat.streams.slabs import Slab, SlabWriter
from casync_compat.streams.transfer import Sequencer

__all__ = ["ZEROS", "DigestSink", "FileSink", "Sink", "SlabSink"]

ZEROS = memoryview(bytes(1 << 20))


class Sink(Protocol):
    """Takes a stream of bytes."""

    @property
    def written(self) -> int:
        """Bytes taken so far."""
        ...

    def write(self, data: bytes | memoryview) -> None: ...
    def room(self) -> memoryview: ...
    def advance(self, count: int) -> None: ...
    def write_zeros(self, count: int) -> None: ...


class SlabSink(Closing):
    """A sink over slabs that hashes the whole stream.

    :param digest: of the stream; None leaves it out
    """

    def __init__(self, digest: Digest | None, slab_size: int = 1 << 20, slabs: int = 8) -> None:
        self._hasher = digest.new() if digest is not None else None
        self._sequencer = Sequencer()
        self._slabs = SlabWriter(slab_size, slabs, self._consume)
        self.write = self._slabs.write
        self.room = self._slabs.room
        self.advance = self._slabs.advance

    @property
    def written(self) -> int:
        """Bytes taken so far."""
        return self._slabs.written

    def write_zeros(self, count: int) -> None:
        """Append `count` zero bytes."""
        while count > 0:
            part = min(count, len(ZEROS))
            self._slabs.write(ZEROS[:part])
            count -= part

    def _add_zeros(self, count: int) -> None:
        """Count and hash zeros that no slab holds."""
        self._slabs.written += count
        if self._hasher is not None:
            hasher = self._hasher
            for _ in range(count // len(ZEROS)):
                self._sequencer.submit(hasher.update, ZEROS)
            self._sequencer.submit(hasher.update, ZEROS[: count % len(ZEROS)])

    def _consume(self, slab: Slab, begin: int, seen: int, end: int, last: bool) -> int:
        if self._hasher is not None and end > seen:
            slab.users.append(self._sequencer.submit(self._hasher.update, slab.view[seen:end]))
        return end

    def close(self) -> None:
        """Stop the threads and let go of the buffers."""
        self._sequencer.close()
        self._slabs.close()

    def finish(self) -> None:
        """Take in what was written; after it, `digest` is that of the whole stream."""
        self._slabs.finish()
        self._sequencer.wait()

    @property
    def digest(self) -> ChunkId | None:
        """Digest of everything up to `finish`, None when none was asked for."""
        return ChunkId(self._hasher.digest()) if self._hasher is not None else None


class DigestSink(SlabSink):
    """Hashes a stream and drops it."""

    def __init__(self, digest: Digest) -> None:
        super().__init__(digest)


class FileSink(SlabSink):
    """Writes a stream to a file and hashes it.

    :param write_out: writes a buffer to the file; it is called from one other thread, in order
    :param skip: passes over as many zeros as it is told, on that thread; None where zeros are written like all else
    """

    def __init__(
        self,
        write_out: Callable[[memoryview], None],
        digest: Digest | None,
        skip: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__(digest)
        self._write_out = write_out
        self._skip = skip
        self._writer = Sequencer()

    def write_zeros(self, count: int) -> None:
        """Append `count` zero bytes. Those of a hole cost no room in the file, where it can have one."""
        if self._skip is None or count < len(ZEROS):
            super().write_zeros(count)
            return
        self._slabs.flush()
        self._writer.submit(self._skip, count)
        self._add_zeros(count)

    def _consume(self, slab: Slab, begin: int, seen: int, end: int, last: bool) -> int:
        slab.users.append(self._writer.submit(self._write_out, slab.view[begin:end]))
        return super()._consume(slab, begin, seen, end, last)

    def finish(self) -> None:
        """Write what is left. :raises FileError: when the file could not be written"""
        super().finish()
        self._writer.wait()

    def close(self) -> None:
        """Stop the threads."""
        self._writer.close()
        super().close()
