"""How far a copy of an image has come: by bytes as they move to and from registries, not by blobs as they end."""

from __future__ import annotations

import threading
import time

from casync_compat.cli._progress import ProgressLine
from casync_compat.oci.spec.descriptor import BlobDigest, Descriptor
from casync_compat.progress import Progress, ProgressCallback, Reporter

__all__ = ["Moving", "Network"]

_BETWEEN = 0.1


class Network:
    """Shows what moves to and from registries below a line of progress. Threads may tell at once."""

    def __init__(self, line: ProgressLine) -> None:
        self._lock = threading.Lock()
        self._due = 0.0
        self._moved = 0
        self._line = line
        line.parts = self.parts

    def bytes(self, count: int) -> None:
        """Hear of bytes that moved."""
        now = time.monotonic()
        with self._lock:
            self._moved += count
            due = now >= self._due
            if due:
                self._due = now + _BETWEEN
        if due:
            self._line.again()

    def parts(self) -> list[tuple[str, Progress]]:
        """What has moved so far, in either direction."""
        with self._lock:
            return [("network", Progress(self._moved))] if self._moved else []


class Moving:
    """Adds up what is told from any thread, and reports it now and then.

    :param ends: how many of source and target are registries: each byte is told by both
    """

    def __init__(self, ends: int) -> None:
        self._ends = max(ends, 1)
        self._lock = threading.RLock()  # whoever is told of progress asks for parts
        self._reporter = Reporter(None)
        self._total = self._told = self._spared = self._ended = 0
        self._at: dict[int, Descriptor] = {}
        """What each thread moves."""
        self._parts: dict[BlobDigest, int] = {}
        """Bytes that were told of each blob that is under way."""

    def start(self, callback: ProgressCallback | None) -> None:
        """Say whom to report to; None for nobody."""
        self._reporter = Reporter(callback)

    def plan(self, size: int) -> None:
        """Hear how many bytes the blobs have together that may have to move."""
        with self._lock:
            self._total = size

    def begin(self, blob: Descriptor) -> None:
        """Hear of a blob that this thread is going to move."""
        with self._lock:
            self._at[threading.get_ident()] = blob
            self._parts[blob.digest] = 0

    def bytes(self, count: int) -> None:
        """Hear of bytes that moved."""
        with self._lock:
            self._told += count
            blob = self._at.get(threading.get_ident())
            if blob is not None and blob.digest in self._parts:
                self._parts[blob.digest] += count
        self._report()

    def blob(self, blob: Descriptor, moved: bool) -> None:
        """Hear of a blob that is there. :param moved: whether its bytes moved for that"""
        with self._lock:
            self._parts.pop(blob.digest, None)
            self._ended += blob.size
            self._spared += 0 if moved else blob.size
        self._report()

    @property
    def done(self) -> int:
        """Bytes that are there: what is under way included, and never more than there are."""
        return max(self._ended, min(self._told // self._ends + self._spared, self._total))

    def parts(self) -> list[tuple[str, Progress]]:
        """The blobs that are under way, and how far each has come."""
        with self._lock:
            sizes = {blob.digest: blob.size for blob in self._at.values()}
            return [
                (
                    f"{digest.algorithm}:{digest.hex[:12]}",
                    Progress(min(told // self._ends, sizes[digest]), sizes[digest]),
                )
                for digest, told in self._parts.items()
                if told and digest in sizes
            ]

    def _report(self) -> None:
        """Without the lock: who is told may wait for somebody who asks for the parts."""
        if self._reporter.due:
            with self._lock:
                self._reporter.state.done, self._reporter.state.total = self.done, self._total
            self._reporter.report()
