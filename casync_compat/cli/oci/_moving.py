"""How far a copy of an image has come: by bytes as they move to and from registries, not by blobs as they end."""

from __future__ import annotations

import threading

from casync_compat.oci.spec.descriptor import Descriptor
from casync_compat.progress import ProgressCallback, Reporter

__all__ = ["Moving"]


class Moving:
    """Adds up what is told from any thread, and reports it now and then.

    :param ends: how many of source and target are registries: each byte is told by both
    """

    def __init__(self, ends: int) -> None:
        self._ends = max(ends, 1)
        self._lock = threading.Lock()
        self._reporter = Reporter(None)
        self._total = self._told = self._spared = self._ended = 0

    def start(self, callback: ProgressCallback | None) -> None:
        """Say whom to report to; None for nobody."""
        self._reporter = Reporter(callback)

    def plan(self, size: int) -> None:
        """Hear how many bytes the blobs have together that may have to move."""
        with self._lock:
            self._total = size

    def bytes(self, count: int) -> None:
        """Hear of bytes that moved."""
        with self._lock:
            self._told += count
            self._report()

    def blob(self, blob: Descriptor, moved: bool) -> None:
        """Hear of a blob that is there. :param moved: whether its bytes moved for that"""
        with self._lock:
            self._ended += blob.size
            self._spared += 0 if moved else blob.size
            self._report()

    @property
    def done(self) -> int:
        """Bytes that are there: what is under way included, and never more than there are."""
        return max(self._ended, min(self._told // self._ends + self._spared, self._total))

    def _report(self) -> None:
        if self._reporter.due:
            self._reporter.state.done, self._reporter.state.total = self.done, self._total
            self._reporter.report()
