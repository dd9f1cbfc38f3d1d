"""Objects asked for by URLs that are signed beforehand: the light path of `net.fetching`, for buckets that sign alone.

A signature costs some microseconds and no request, and then an object is a file on a web server: hundreds are under way
at once without a thread or a task for each. What does not come so - no credentials, a redirect, a certificate that only
the other library trusts - is left to whoever asked. URLs are never shown: they are credentials as long as they hold.

    >>> ahead = SignedUrls(s3_store, lambda url: exchange)
    >>> ahead([("some/key", 200_000, None)])()
    [(200, b"…")]
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError

from casync_compat.errors import CasyncError
from casync_compat.net.http import TransportError, Wanted

if TYPE_CHECKING:
    from obstore.store import S3Store

    from casync_compat.net.exchange import Exchange

__all__ = ["SignedUrls"]

_VALID = timedelta(hours=1)
"""What waits in line on the slowest network must still be valid in its turn."""


class SignedUrls:
    """An `Ahead` of `store.object`. May be used from several threads at once.

    :param store: the bucket
    :param reach: what makes requests to the server of an URL
    """

    def __init__(self, store: S3Store, reach: Callable[[str], Exchange]) -> None:
        self._store = store
        self._reach = reach
        self._exchange: Exchange | None = None
        self._lock = threading.Lock()

    def __call__(
        self, wanted: Sequence[tuple[str, int, int | None]]
    ) -> Callable[[], list[tuple[int, bytes]]]:
        """Ask for objects; what is returned waits for status and content of each, status 0 where none came."""
        try:
            urls = obstore.sign(self._store, "GET", [key for key, _, _ in wanted], _VALID)
            asked = [Wanted(url, size, offset) for url, (_, size, offset) in zip(urls, wanted, strict=True)]
            answers = self._at(urls[0]).begin(asked, None, frozenset())
        except (BaseError, OSError, ValueError, CasyncError, TransportError):
            return lambda: [(0, b"")] * len(wanted)
        return lambda: [(one.status, one.content) for one in answers()]

    def _at(self, url: str) -> Exchange:
        with self._lock:
            if self._exchange is None:
                self._exchange = self._reach(url)
            return self._exchange
