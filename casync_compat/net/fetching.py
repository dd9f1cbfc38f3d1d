"""Many small files at once: the light path beside `transport`, for chunks.

    >>> answers = fetcher.begin([Wanted("https://example.org/store/0000/00….cacnk", 200_000), …], {}, verify=True)
    >>> answers()  # when they are needed

Each answer is collected whole, on the loop's thread, and given back when all of a batch are there; nothing is tried
again and no redirect is followed, that is left to `exchange` for the few that need it. How many are under way to one
origin is found out: 64 at first (all that may be, once a connection showed that it is far), twice as many after
each round in which a tenth more arrived a second than before, and half after the server said that it is too much.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from casync_compat.logs import Log
from casync_compat.net.handles import Handles, transport_error
from casync_compat.net.http import Fetched, Origin, TransportError, Wanted, origin
from casync_compat.shown import shown

if TYPE_CHECKING:
    import pycurl

    from casync_compat.net.loop import Loop

__all__ = ["Fetcher"]

_LOG = Log(__name__)
_FIRST_WINDOW = 64
_LARGEST_WINDOW = 256
_GAIN = 1.1
_FAR = 0.05
"""Seconds of a round trip from which a line is not filled by less than the largest window, so that none is tried."""

_TOO_MUCH = (429, 503)
_HTTP_2 = 3
"""What `CURLINFO_HTTP_VERSION` gives for it (`CURL_HTTP_VERSION_2_0`)."""

_RETRY_AFTER = 0x600000 + 57
"""`CURLINFO_RETRY_AFTER` of curl.h, which pycurl's stubs have no name for."""

_KEPT_HANDLES = 256
_BUFFER = 256 << 10
"""Bytes to read from a connection at once; libcurl has one such buffer for all."""


class _Batch:
    """Files that are wanted together."""

    def __init__(self, wanted: Sequence[Wanted], headers: Mapping[str, str], verify: bool) -> None:
        self.wanted = wanted
        self.headers = [f"{name}: {value}".encode("latin-1", "replace") for name, value in headers.items()]
        self.verify = verify
        self.found = [Fetched(0, b"")] * len(wanted)
        self._left = len(wanted)
        self._all_there = threading.Event()

    def headers_of(self, number: int) -> list[bytes]:
        """The header fields of a request."""
        _, limit, offset = self.wanted[number]
        return (
            self.headers
            if offset is None
            else [*self.headers, b"Range: bytes=%d-%d" % (offset, offset + limit - 1)]
        )

    def done(self, number: int, found: Fetched) -> None:
        """On the loop's thread."""
        self.found[number] = found
        self._left -= 1
        if not self._left:
            self._all_there.set()

    def wait(self) -> list[Fetched]:
        self._all_there.wait()
        return self.found


class _Window:
    """How many requests to have under way, learnt from what they bring."""

    def __init__(self, largest: int, first: int) -> None:
        self._largest = largest
        self.size = min(first, largest)
        self._best = 0.0
        self._ended = 0
        self._bytes = 0
        self._begin = time.monotonic()

    def done(self, size: int, status: int, now: float) -> None:
        if status in _TOO_MUCH:
            self.size = max(1, self.size // 2)
            self._best = 0.0
            self._restart(now)
            return
        self._ended += 1
        self._bytes += size
        if self._ended < self.size or now <= self._begin:
            return
        rate = self._bytes / (now - self._begin)
        if rate > self._best * _GAIN:
            self._best = rate
            self.size = min(2 * self.size, self._largest)
        self._restart(now)

    def open(self) -> None:
        """Have as many under way as may be: the place is far."""
        self.size = self._largest

    def _restart(self, now: float) -> None:
        self._ended = self._bytes = 0
        self._begin = now


class _Fetch:
    """One file under way, and then another one: a `Transfer`, whose handle is set up once for many.

    :ivar verify: whether the server's certificate must be trusted
    """

    _batch: _Batch
    _number: int

    def __init__(self, lane: _Lane, handle: pycurl.Curl, verify: bool, shared: bool) -> None:
        self._lane = lane
        self.handle = handle
        self.verify = verify
        self.shared = shared
        self._headers: list[bytes] = []
        self._pieces: list[bytes] = []
        self._left = 0
        self._limiter = lane.limiter

    def aim(self, batch: _Batch, number: int) -> list[bytes] | None:
        """Turn to a file. :returns: the header fields of the request, if they are not those of the last one"""
        self._batch, self._number = batch, number
        self._left = batch.wanted[number].limit
        headers = batch.headers_of(number)
        if headers == self._headers:
            return None
        self._headers = headers
        return headers

    def take(self, data: bytes) -> int:
        self._left -= len(data)
        if self._left < 0:
            return 0  # libcurl ends the transfer
        self._pieces.append(data)
        if self._limiter is not None:
            self._limiter.spend(len(data))
        return len(data)

    def finished(self, code: int, text: str) -> None:
        batch, number = self._batch, self._number
        wanted = batch.wanted[number]
        pieces, self._pieces = self._pieces, []
        whole = (200,) if wanted.offset is None else (200, 206)
        if code or (status := self._lane.status(self.handle)) not in whole:
            found = self._failed(code, text)
        else:
            found = Fetched(status, b"".join(pieces))
        if _LOG.is_heard:
            what = found.status or (found.error.why if found.error is not None else "too long")
            _LOG.debug("GET %s: %s, %d bytes", shown(wanted.url), what, len(found.content))
        del self._batch  # with all that it found
        self._lane.ended(self, code, found.status, len(found.content))
        batch.done(number, found)

    def _failed(self, code: int, text: str) -> Fetched:
        if not code:
            return Fetched(self._lane.status(self.handle), b"", None, self._lane.wait(self.handle))
        error = None if self._left < 0 else transport_error(code, text, self._lane.errno(self.handle))
        return Fetched(0, b"", error)


class _Lane:
    """What is under way to one origin; all of it on the loop's thread."""

    def __init__(self, loop: Loop, handles: Handles, secure: bool, round_trip: float | None) -> None:
        import pycurl

        self._curl = pycurl
        self._loop = loop
        self._handles = handles
        self._waiting: deque[tuple[_Batch, int]] = deque()
        self._running = 0
        self.limiter = loop.limiter
        most = _LARGEST_WINDOW if self.limiter is None else self.limiter.requests
        self._window = _Window(min(handles.options.jobs or most, most), _FIRST_WINDOW)
        self._met = False
        if round_trip is not None:
            self.met(round_trip)
        # Whether connections are shared is known after the first answer; unencrypted ones never are.
        self._shared: bool | None = None if secure else False
        self._idle: list[_Fetch] = []

    def add(self, batch: _Batch) -> None:
        self._waiting.extend((batch, number) for number in range(len(batch.wanted)))
        self._fill()

    def _fill(self) -> None:
        while self._waiting and self._running < (1 if self._shared is None else self._window.size):
            batch, number = self._waiting.popleft()
            try:
                self._start(batch, number)
            except (TransportError, self._curl.error) as error:
                why = error if isinstance(error, TransportError) else TransportError(str(error), final=True)
                batch.done(number, Fetched(0, b"", why))

    def _start(self, batch: _Batch, number: int) -> None:
        fetch = self._fetch(batch.wanted[number].url, batch.verify, self._shared is not False)
        headers = fetch.aim(batch, number)
        if headers is not None:
            fetch.handle.setopt(self._curl.HTTPHEADER, headers)
        self._loop.run(fetch)
        self._running += 1

    def _fetch(self, url: str, verify: bool, shared: bool) -> _Fetch:
        while self._idle:
            fetch = self._idle.pop()
            if fetch.verify == verify and fetch.shared == shared:
                self._handles.aim(fetch.handle, url)
                return fetch
            fetch.handle.close()
        handle = self._handles.make(url, verify=verify, shared=shared)
        if self.limiter is None:
            handle.setopt(self._curl.BUFFERSIZE, _BUFFER)
        fetch = _Fetch(self, handle, verify, shared)
        handle.setopt(self._curl.WRITEFUNCTION, fetch.take)
        return fetch

    def status(self, handle: pycurl.Curl) -> int:
        """The status of an answer that has ended."""
        number: int = handle.getinfo(self._curl.RESPONSE_CODE)
        return number

    def wait(self, handle: pycurl.Curl) -> int:
        """Seconds that the server asks to wait (Retry-After in either form); 0 when it does not."""
        seconds: int = handle.getinfo(_RETRY_AFTER)
        return seconds

    def errno(self, handle: pycurl.Curl) -> int:
        """The system's error of a connection, 0 for none."""
        number: int = handle.getinfo(self._curl.OS_ERRNO)
        return number

    def met(self, round_trip: float) -> None:
        """Hear how long a connection took, in seconds."""
        self._met = True
        if round_trip >= _FAR:
            self._window.open()

    def ended(self, fetch: _Fetch, code: int, status: int, size: int) -> None:
        """Go on after a file. :param size: bytes that came"""
        self._running -= 1
        if not self._met and not code:  # the first one here; what fetched an index may have said so already
            self.met(fetch.handle.getinfo(self._curl.CONNECT_TIME))
        if self._shared is None and not code:
            self._shared = fetch.handle.getinfo(self._curl.INFO_HTTP_VERSION) == _HTTP_2
        self._window.done(size, status, time.monotonic())
        if code or len(self._idle) >= _KEPT_HANDLES:
            fetch.handle.close()
        else:
            self._idle.append(fetch)
        self._fill()


class Fetcher:
    """Fetches files. May be used from several threads at once."""

    def __init__(self, loop: Loop, handles: Handles) -> None:
        self._loop = loop
        self._handles = handles
        self._round_trips: dict[Origin, float] = {}
        self._lanes: dict[Origin, _Lane] = {}

    def begin(
        self, wanted: Sequence[Wanted], headers: Mapping[str, str], *, verify: bool
    ) -> Callable[[], list[Fetched]]:
        """Ask for files; the call that is returned waits for what a GET of each gives, in order.

        :param wanted: files of one origin
        :raises TransportError: the URL has no origin
        :raises UsageError: certificates cannot be read
        """
        if not wanted:
            return list
        try:
            home = origin(wanted[0].url)
        except ValueError as error:
            raise TransportError(str(error), final=True) from error
        self._handles.prepare(home[0] == "https", verify)
        batch = _Batch(wanted, headers, verify)
        self._loop.call(lambda: self._add(home, batch))
        return batch.wait

    def met(self, url: str, round_trip: float) -> None:
        """Hear how long a connection took that was made for something else; on the loop's thread.

        :param round_trip: in seconds; 0 for a connection that was there already
        """
        with contextlib.suppress(ValueError):
            home = origin(url)
            longest = self._round_trips[home] = max(round_trip, self._round_trips.get(home, 0.0))
            if home in self._lanes:
                self._lanes[home].met(longest)

    def _add(self, home: Origin, batch: _Batch) -> None:
        lane = self._lanes.get(home)
        if lane is None:
            round_trip = self._round_trips.get(home)
            lane = self._lanes[home] = _Lane(self._loop, self._handles, home[0] == "https", round_trip)
        lane.add(batch)
