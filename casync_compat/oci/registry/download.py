"""Blobs read from a registry: as a stream that goes on where it broke off, or in ranges.

A server that ignores ranges gives the whole blob for each. That is kept, checked, in a temporary file, and
further ranges of it come from there: never the whole blob once for every chunk.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from casync_compat.closing import Closing
from casync_compat.errors import RemoteError
from casync_compat.net.exchange import ATTEMPTS
from casync_compat.net.http import CONTENT_RANGE, TransportError
from casync_compat.net.traffic import Answer
from casync_compat.oci.registry.endpoint import Access
from casync_compat.oci.spec.blobs import Check
from casync_compat.oci.spec.descriptor import Descriptor
from casync_compat.oci.spec.errors import BlobCorrupt, BlobMissing
from casync_compat.spool import Spool

__all__ = ["Downloads", "RegistryStream"]

_PIECE = 1 << 18
_WHOLE_BLOBS = 64
_WHOLE_BYTES = 4 << 30
"""Most blobs and most bytes kept in temporary files for a server without ranges."""

_NO_RANGE = (400, 405, 416, 501)


class Downloads:
    """Reads the blobs of one repository. May be used from several threads at once."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._no_ranges = False
        self._lock = threading.Lock()
        self._wholes: OrderedDict[str, _Whole] = OrderedDict()

    def close(self) -> None:
        """Drop the temporary files."""
        with self._lock:
            wholes, self._wholes = self._wholes, OrderedDict()
        for whole in wholes.values():
            whole.close()

    def open(self, descriptor: Descriptor) -> RegistryStream:
        """The blob as a stream. :raises BlobMissing: it is not there"""
        return RegistryStream(self, descriptor)

    def get(self, descriptor: Descriptor, offset: int, end: int) -> Answer:
        """The answer that has the bytes from `offset` up to `end`, or the whole blob: look at its status, 206 or 200.

        :raises BlobMissing: it is not there
        :raises BlobCorrupt: it ends before
        """
        op = f"read blob {descriptor.digest}"
        partial = offset > 0 or end < descriptor.size
        headers = {"Range": f"bytes={offset}-{end - 1}"} if partial else {}
        answer = self._access.call("GET", f"blobs/{descriptor.digest}", op=op, headers=headers)
        if answer.status == 404:
            answer.drain()
            raise BlobMissing(str(descriptor.digest), self._access.name)
        if partial and (answer.status in _NO_RANGE or (answer.status == 403 and not answer.at_home)):
            # The blob may be shorter, or something on the way knows no ranges: the whole blob tells.
            answer.drain()
            return self.get(descriptor, 0, descriptor.size)
        if answer.status == 206 and partial:
            match = CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range") or "")
            if match is not None and match[3] not in ("*", str(descriptor.size)):
                answer.close()
                raise BlobCorrupt(
                    str(descriptor.digest),
                    self._access.name,
                    f"it has {match[3]} bytes, not {descriptor.size}",
                )
            if match is None or int(match[1]) != offset or not offset < int(match[2]) + 1 <= end:
                answer.close()  # another range than was asked for; less of it is what some give at once
                return self.get(descriptor, 0, descriptor.size)
        elif answer.status == 200:
            length = answer.headers.number("Content-Length")
            if length is not None and length != descriptor.size:
                answer.close()
                raise BlobCorrupt(
                    str(descriptor.digest), self._access.name, f"it has {length} bytes, not {descriptor.size}"
                )
        else:
            raise self._access.failed(answer, op)
        return answer

    def read_range(self, descriptor: Descriptor, offset: int, size: int) -> bytes:
        """Exactly `size` bytes. :raises BlobCorrupt: it ends before"""
        end = offset + size
        if offset < 0 or size < 0 or end > descriptor.size:
            raise BlobCorrupt(
                str(descriptor.digest),
                self._access.name,
                f"bytes {offset} to {end} were asked for, and it has {descriptor.size}",
            )
        if size == 0:
            return b""
        if not self._no_ranges:
            found = self._partial(descriptor, offset, end)
            if found is not None:
                return found
        return self._whole(descriptor).read(offset, size)

    def _partial(self, descriptor: Descriptor, offset: int, end: int) -> bytes | None:
        """The range, asked for as such; None from a server that has none."""
        pieces: list[bytes] = []
        at, failures = offset, 0
        while at < end:
            answer = self.get(descriptor, at, end)
            if answer.status == 200 and (at, end) != (0, descriptor.size):
                self._no_ranges = True
                self._keep(descriptor, answer)
                return None
            try:
                with answer:
                    while at < end and (piece := answer.read(min(end - at, _PIECE))):
                        pieces.append(piece)
                        at += len(piece)
                        failures = 0
                    if at == end:
                        answer.read(1)  # the end itself, so that the connection is used again
                        break
                why = "it broke off"
            except TransportError as error:
                if at == end:
                    break
                why = error.why
            failures += 1
            if failures >= ATTEMPTS:
                raise RemoteError(self._access.name, f"read blob {descriptor.digest}", why)
            why = f"{self._access.name}: cannot read blob {descriptor.digest}: {why}"
            self._access.exchange.pause(failures - 1, why=why)
        return b"".join(pieces)

    def _whole(self, descriptor: Descriptor) -> _Whole:
        key = str(descriptor.digest)
        with self._lock:
            whole = self._wholes.get(key)
            if whole is None:
                whole = self._wholes[key] = _Whole()
            self._wholes.move_to_end(key)
            self._evict(key)
        with whole.lock:
            if not whole.filled:
                with self.open(descriptor) as stream:
                    whole.fill(stream)
        return whole

    def _keep(self, descriptor: Descriptor, answer: Answer) -> None:
        """Keep a blob that came whole although a part was asked for: it is on its way already."""
        key = str(descriptor.digest)
        with self._lock:
            whole = self._wholes.setdefault(key, _Whole())
            self._evict(key)
        with whole.lock:
            if whole.filled:
                answer.close()
                return
            with RegistryStream(self, descriptor, answer) as stream:
                whole.fill(stream)

    def _evict(self, keep: str) -> None:
        """Drop the blobs not used for longest. Call with the lock held."""
        while len(self._wholes) > 1 and (
            len(self._wholes) > _WHOLE_BLOBS or sum(w.size for w in self._wholes.values()) > _WHOLE_BYTES
        ):
            oldest = next(key for key in self._wholes if key != keep)
            # A thread that reads from it holds a reference: the file goes with the last one.
            del self._wholes[oldest]


class _Whole(Closing):
    """A blob in a temporary file; `filled` once it is there, checked."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.filled = False
        self._spool: Spool | None = None

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return self._spool.size if self._spool is not None else 0

    def fill(self, stream: RegistryStream) -> None:
        spool = Spool("a blob")
        try:
            while data := stream.read(_PIECE):
                spool.append(data)
        except BaseException:
            spool.close()
            raise
        self._spool, self.filled = spool, True

    def read(self, offset: int, size: int) -> bytes:
        assert self._spool is not None
        data = self._spool.read_at(offset, size)
        assert len(data) == size, "a checked file has become shorter"
        return data

    def close(self) -> None:
        if self._spool is not None:
            self._spool.close()


class RegistryStream(Closing):
    """A blob from its beginning to its end (a `BlobStream`). For one thread at a time.

    :param answer: the answer to read from first; None asks for one
    """

    def __init__(self, downloads: Downloads, descriptor: Descriptor, answer: Answer | None = None) -> None:
        self._downloads = downloads
        self._access = downloads._access
        self._descriptor = descriptor
        self._check = Check(descriptor, self._access.name)
        self._failures = 0
        self._done = False
        self._answer: Answer | None = answer or downloads.get(descriptor, 0, descriptor.size)

    def read(self, size: int, /) -> bytes:
        while not self._done:
            try:
                data = self._read(size)
            except TransportError as error:
                self._broken(error.why)
                continue
            if data:
                self._failures = 0
                self._check.update(data)
                if self._check.size == self._descriptor.size:
                    self._finish()  # before the last bytes are given out: not every caller asks for the end
                return data
            if self._check.size < self._descriptor.size and self._answer is not None:
                length = self._answer.headers.number("Content-Length")
                if length is not None:
                    self._broken("it broke off")
                    continue
                # It came in pieces of unknown number, and the registry said that this was the last one.
            self._finish()
        return b""

    def _finish(self) -> None:
        self._done = True
        try:
            if self._answer is not None:
                self._check.update(self._answer.read(1))
        except TransportError:
            pass  # every byte is here; that the connection broke after them changes nothing
        finally:
            self.close()
        self._check.finish()

    def _read(self, size: int) -> bytes:
        if self._answer is None:
            at = self._check.size
            answer = self._downloads.get(self._descriptor, at, self._descriptor.size)
            try:
                skip = at if answer.status == 200 else 0
                while skip:
                    skipped = answer.read(min(skip, _PIECE))
                    if not skipped:
                        raise TransportError("it broke off")
                    skip -= len(skipped)
            except BaseException:
                answer.close()
                raise
            self._answer = answer
        return self._answer.read(size)

    def _broken(self, why: str) -> None:
        self.close()
        self._failures += 1
        if self._failures >= ATTEMPTS:
            raise RemoteError(self._access.name, f"read blob {self._descriptor.digest}", why)
        why = f"{self._access.name}: cannot read blob {self._descriptor.digest}: {why}"
        self._access.exchange.pause(self._failures - 1, why=why)

    def close(self) -> None:
        if self._answer is not None:
            self._answer.close()
            self._answer = None
